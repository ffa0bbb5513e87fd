"""Train small networks on simulated wide-field movies, for demos, tests and soak runs.

    python -m offline.train_cortex --task mouse3 --out runs/cortex
    python -m offline.train_cortex --task runrest --out runs/cortex

They learn the simulator (:mod:`streamscore.simulate.cortex`), not mice. Animals with seeds from 10000 are
trained on, those from 20000 decide when to stop, and those from 0 are tested, so that any seed that a demo is
likely to use is one that the networks have not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any

import numpy as np
import torch
import typer

from offline import cortex_report
from offline.cortex_clips import Clip, clip
from offline.cortex_evaluation import baseline, figures, listen
from offline.cortex_training import Network, Recipe, features_of, teach_frames, teach_time
from offline.provenance import provenance
from streamscore import plugins
from streamscore.arrays import pack
from streamscore.bundle import Spec, load_bundle, save_bundle
from streamscore.simulate.cortex import FOUR_LIGHTS, ONE_LIGHT
from streamscore.simulate.cortex_camera import DARK_COUNTS
from streamscore.simulate.cortex_map import CortexMap

FIRST_TRAINING_SEED, FIRST_VALIDATION_SEED = 10_000, 20_000
#: The baselines of the pixels, and how long they take before anything is scored.
TAU_S, WARM_UP_S = 120.0, 20.0
#: What the networks count ΔF/F in. The simulator's is a true one, so that no spread has to be learnt first.
UNIT = 0.02


@dataclass(frozen=True)
class Net:
    """A network to be trained.

    Parameters
    ----------
    name
        Of the bundle.
    model_args
        Of its ``Config``.
    max_look_ahead_s
        The longest that it is trained for.
    """

    name: str
    model_args: dict[str, Any]
    max_look_ahead_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is trained and tested on the same animals, behind the same chain.

    Parameters
    ----------
    model, vocabulary, sfreq, lights
        Of the bundles.
    nets
        The first teaches its part for frames, the others take it over.
    cycles_s
        Lengths of a sleep cycle, in turn.
    clip_s, animals
        Seconds and number of training animals.
    baseline_s
        Time that the baseline looks back over.
    recipe
        How to train.
    frame_shape
        ``(height, width)``.
    """

    model: str
    vocabulary: str
    sfreq: float
    lights: tuple[str, ...]
    nets: tuple[Net, ...]
    cycles_s: tuple[float, ...]
    clip_s: float
    animals: int
    baseline_s: float
    recipe: Recipe
    frame_shape: tuple[int, int] = (128, 128)


#: Half the published window: a decision sooner after the start and after a change.
_SMALL = {"n_filters": 12, "n_hidden": 32, "attention_frames": 84, "epoch_frames": 84}
_AHEAD_S = 2.0


class Task(StrEnum):
    """What is trained."""

    MOUSE3 = "mouse3"
    RUNREST = "runrest"


PLANS: dict[Task, Plan] = {
    Task.MOUSE3: Plan(
        model="cnn_bilstm",
        vocabulary="MOUSE3",
        sfreq=16.8,
        lights=FOUR_LIGHTS,
        nets=(
            Net("cnn-bilstm-simulated-causal", {**_SMALL, "variant": "causal"}),
            Net(
                "cnn-bilstm-simulated-lookahead",
                {**_SMALL, "variant": "lookahead", "look_ahead_s": 1.0, "max_look_ahead_s": _AHEAD_S},
                _AHEAD_S,
            ),
        ),
        # Short cycles: REM ends a cycle, so that a clip holds more of it.
        cycles_s=(100.0, 100.0, 200.0),
        clip_s=150.0,
        animals=16,
        baseline_s=3.0,
        recipe=Recipe(steps=200),
    ),
    Task.RUNREST: Plan(
        model="efficientnet",
        vocabulary="RUNREST",
        sfreq=30.0,
        lights=ONE_LIGHT,
        nets=(
            Net(
                "cnn-gru-simulated",
                {
                    "rnn": "gru",
                    "variant": "causal",
                    "width": 0.25,
                    "depth": 0.3,
                    "n_hidden": 32,
                    "n_layers": 1,
                    "drop_connect": 0.0,
                },
            ),
        ),
        cycles_s=(600.0,),
        clip_s=100.0,
        animals=7,
        baseline_s=0.5,
        recipe=Recipe(),
    ),
}


def chain(lights: tuple[str, ...], frame_shape: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    """Describe the chain: ΔF/F, corrected for blood where there is a light that sees it, smoothed and masked."""
    mask = CortexMap(frame_shape).mask
    learns = {"estimator": "running", "tau_s": TAU_S, "warm_up_s": WARM_UP_S}
    with_blood = {"kind": "haemoglobin", "method": "ratiometric", **learns}
    return (
        {"kind": "dark_frame", "dark": DARK_COUNTS},
        with_blood if "reflectance_523" in lights else {"kind": "delta_f", **learns},
        {"kind": "gaussian", "sigma_px": 1.0},
        {
            "kind": "pixel_normalise",
            "estimator": "stored",
            "stored_mean": pack(np.zeros(frame_shape, np.float32)),
            "stored_scale": pack((UNIT * mask).astype(np.float32)),  # a scale of 0 masks
        },
    )


def spec(plan: Plan, net: Net) -> Spec:
    """Describe a bundle, without provenance and card; it is asked at each frame."""
    return Spec(
        name=net.name,
        model=plan.model,
        model_args={**net.model_args, "frame_shape": plan.frame_shape},
        preprocess=chain(plan.lights, plan.frame_shape),
        vocabulary=plan.vocabulary,
        sfreq=plan.sfreq,
        channels=plan.lights,
        frame_shape=plan.frame_shape,
        hop_s=None,
    )


def clips(plan: Plan, folder: Path, first_seed: int, n: int, duration_s: float) -> list[Clip]:
    """Return the movies of `n` animals behind the chain."""
    described = spec(plan, plan.nets[0])
    seeds = range(first_seed, first_seed + n)
    return [
        clip(folder, described, seed, plan.cycles_s[k % len(plan.cycles_s)], duration_s)
        for k, seed in enumerate(seeds)
    ]


def build(plan: Plan, net: Net, seed: int) -> Network:
    """Return the untrained network."""
    torch.manual_seed(seed)
    module = plugins.load("models", plan.model)
    model: Network = module.build(module.Config(**spec(plan, net).model_args))
    return model


def train(
    plan: Plan, taught: list[Clip], held: list[Clip], seed: int, say: Callable[[str], None]
) -> dict[str, Network]:
    """Train all networks of a plan."""
    first = build(plan, plan.nets[0], seed)
    teach_frames(first, taught, plan.recipe, seed, say)
    features, held_features = ([features_of(first, one) for one in part] for part in (taught, held))
    trained: dict[str, Network] = {}
    for net in plan.nets:
        model = build(plan, net, seed)
        model.cnn.load_state_dict(first.cnn.state_dict())
        ahead_frames = int(net.max_look_ahead_s * plan.sfreq + 0.01)
        taught_model = teach_time(model, features, held_features, plan.recipe, seed, say, ahead_frames)
        # With the look-ahead that the bundle names, which the training has changed.
        model = build(plan, net, seed)
        model.load_state_dict(taught_model.state_dict())
        trained[net.name] = model
    return trained


def evaluate(plan: Plan, folder: Path, taught: list[Clip], n_animals: int, duration_s: float) -> dict[str, Any]:
    """Test the written bundles and the baseline on animals from seed 0 on."""
    bundles = {net.name: load_bundle(folder / f"{net.name}.safetensors") for net in plan.nets}
    for net in plan.nets:
        if net.max_look_ahead_s:
            longest = bundles[net.name].at_look_ahead(net.max_look_ahead_s)
            bundles[f"{net.name} at {net.max_look_ahead_s:g} s"] = longest
    heard = [
        listen(bundles, seed, plan.cycles_s[seed % len(plan.cycles_s)], duration_s) for seed in range(n_animals)
    ]
    codes, labels = [truth for truth, _, _ in heard], next(iter(bundles.values())).spec.labels
    rows = {
        name: figures(codes, cortex_report.joined([said[name] for _, _, said in heard]), labels, plan.sfreq)
        for name in heard[0][2]
    }
    n, warm_up = round(plan.baseline_s * plan.sfreq), round(WARM_UP_S * plan.sfreq)
    line = baseline(taught, [areas for _, areas, _ in heard], n, warm_up, len(labels))
    return {**rows, "logistic regression on areas": figures(codes, line, labels, plan.sfreq)}


def main(
    task: Annotated[Task, typer.Option(help="What to train.")],
    out: Annotated[Path, typer.Option(help="Folder for bundles, cards and figures.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for simulated frames; by default in `out`.")] = None,
    test_animals: Annotated[int, typer.Option(min=1, help="Animals to test.")] = 2,
    test_s: Annotated[float, typer.Option(min=60.0, help="Seconds of each.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Simulate, train, write the bundles, and test what was written on unseen animals."""
    t0_s = perf_counter()
    torch.set_num_threads(threads)
    plan, folder = PLANS[task], cache or out / "frames"

    def say(text: str) -> None:
        typer.echo(f"{perf_counter() - t0_s:5.0f} s  {text}")

    # Every task has animals of its own.
    apart = 100 * list(Task).index(task)
    taught = clips(plan, folder, FIRST_TRAINING_SEED + apart, plan.animals, plan.clip_s)
    held = clips(plan, folder, FIRST_VALIDATION_SEED + apart, 2, 0.8 * plan.clip_s)
    say(f"{plan.animals} animals of {plan.clip_s:g} s simulated")
    trained = train(plan, taught, held, seed, say)
    out.mkdir(parents=True, exist_ok=True)
    for net in plan.nets:
        save_bundle(out / f"{net.name}.safetensors", spec(plan, net), trained[net.name])
    results: dict[str, Any] = {
        "run": provenance("offline.train_cortex"),
        "task": task.value,
        "data": "simulated (streamscore.simulate.cortex)",
        "training": {
            "animals": plan.animals,
            "first_seed": FIRST_TRAINING_SEED + apart,
            "clip_s": plan.clip_s,
            "cycles_s": plan.cycles_s,
            "frames": sum(len(one.codes) for one in taught),
        },
        "testing": {"animals": test_animals, "duration_s": test_s},
        "recipe": asdict(plan.recipe),
        "seed": seed,
        "test": evaluate(plan, out, taught, test_animals, test_s),
    }
    results["run"] |= {"wall_s": round(perf_counter() - t0_s), "cpu_s": round(process_time())}
    for net in plan.nets:
        described = spec(plan, net)
        text = cortex_report.card(described, trained[net.name], results)
        described = described.model_copy(update={"provenance": results, "card": text})
        sha256 = save_bundle(out / f"{net.name}.safetensors", described, trained[net.name])
        (out / f"{net.name}.md").write_text(text, encoding="utf-8")
        say(f"wrote {net.name}, sha256 {sha256[:12]}: {cortex_report.summary(results['test'][net.name])}")
    (out / f"cortex-{task.value}.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
