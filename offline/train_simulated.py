"""Train a small TinySleepNet on simulated sleepers, for demos and soak runs.

    python -m offline.train_simulated --out runs/simulated

It learns the simulator, not sleep. Sleepers with seeds from 10000 are trained on, those from 0 are tested, so that
any seed that a demo is likely to use is one that the network has not seen.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import torch
import typer

from offline.provenance import provenance
from offline.sequences import Sequences, pieces, sequences
from offline.training import Progress, Recipe, fit
from streamscore.bundle import Bundle, Spec, load_bundle, save_bundle
from streamscore.labels import AASM5, UNKNOWN_CODE, code_of
from streamscore.metrics import Agreement, compare
from streamscore.models.tinysleepnet import Config
from streamscore.recordings.base import Recording
from streamscore.scorer import Scorer
from streamscore.simulate import Simulator, simulate
from streamscore.types import Gap

NAME = "tinysleepnet-simulated"
SFREQ = 100.0
EPOCH_S = 30.0
CONFIG = Config(sfreq=SFREQ, n_channels=3, epoch_s=EPOCH_S, n_filters=32, n_hidden=32, norm="batch", dropout=0.3)
#: The simulator's channels are in µV, so fixed scales will do and the first epoch is scored at once.
CHAIN: tuple[dict[str, Any], ...] = (
    {"kind": "bandpass", "low_hz": 0.3, "high_hz": None, "order": 2},
    {"kind": "normalise", "estimator": "stored", "stored_scale": (25.0, 20.0, 10.0), "clip": 20.0},
)
FIRST_TRAINING_SEED = 10_000
#: Length of a cycle and of the recording; demos shorten the cycles, natural ones take 5400 s.
NIGHTS = ((300.0, 1800.0), (600.0, 3600.0), (1200.0, 3600.0), (5400.0, 7200.0))
#: No noise or slope is added: the simulator draws its own subjects.
RECIPE = Recipe(passes=8, lr=2e-3, gain=0.1, tilt=0.0, noise=0.0, joined=0.0, sequence_steps=16, smoothing=0.05)


def spec(provenance_: dict[str, Any], card_: str) -> Spec:
    """Return the description of the bundle."""
    return Spec(
        name=NAME,
        model="tinysleepnet",
        model_args=CONFIG.model_dump(),
        preprocess=CHAIN,
        vocabulary="AASM5",
        sfreq=SFREQ,
        channels=("EEG", "EOG", "EMG"),
        unit="uV",
        hop_s=1.0,
        provenance=provenance_,
        card=card_,
    )


def night(seed: int, cycle_s: float, duration_s: float) -> Sequences:
    """Simulate one sleeper, on a grid of epochs that begins anywhere: a demo asks every second.

    An epoch across a change of state is labelled by its middle.
    """
    stream = Simulator("human", SFREQ, seed, duration_s, cycle_s)
    data, codes = stream.read(round(duration_s * SFREQ))
    step_samples = round(EPOCH_S * SFREQ)
    begin = int(np.random.default_rng(seed).integers(0, step_samples))
    recording = Recording(
        name=f"simulated_human_{seed}",
        data=data[begin:],
        stamps_s=np.arange(len(data) - begin) / SFREQ,
        sfreq=SFREQ,
        channels=stream.channels,
        units=stream.units,
        labels=stream.labels,
        states=codes[begin + step_samples // 2 :: step_samples],
        epoch_s=EPOCH_S,
    )
    return sequences(recording, spec({}, ""), EPOCH_S)


def evaluate(bundle: Bundle, seeds: range, cycle_s: float, duration_s: float) -> Agreement:
    """Score unseen sleepers with a real scorer, epoch by epoch, and compare with the true states."""
    true: list[np.ndarray[tuple[int], np.dtype[np.int8]]] = []
    scored: list[np.ndarray[tuple[int], np.dtype[np.int8]]] = []
    for seed in seeds:
        recording = simulate("human", duration_s, SFREQ, seed, cycle_s)
        scorer = Scorer(bundle, hop_s=EPOCH_S)
        codes = np.full(len(recording.states), UNKNOWN_CODE, np.int8)
        for piece in pieces(recording):
            for posterior in scorer.gap(piece) if isinstance(piece, Gap) else scorer.push(piece):
                codes[posterior.start // round(EPOCH_S * SFREQ)] = code_of(posterior.state, bundle.spec.labels)
        true.append(recording.states)
        scored.append(codes)
    return compare(np.concatenate(true), np.concatenate(scored), AASM5)


def card(results: dict[str, Any]) -> str:
    """Return the model card."""
    rows = []
    for row in results["test"]:
        f1 = " | ".join(f"{row['f1'][stage]:.3f}" for stage in AASM5)
        rows.append(
            f"| {row['cycle_s']:g} | {row['sleepers']} | {row['epochs']} | {100 * row['coverage']:.1f} % | "
            f"{row['accuracy']:.3f} | {row['kappa']:.3f} | {f1} |"
        )
    run = results["run"]
    n_epochs, n_sleepers = results["training"]["epochs"], results["training"]["sleepers"]
    return f"""\
# tinysleepnet-simulated

**Trained on simulated signals only.** It scores the sleepers of `streamscore.simulate` (EEG, EOG and EMG at 100 Hz
in µV; W, N1, N2, N3, REM; epochs of 30 s, no look-ahead), so that the demo, soak runs and a first rig work without
a recording. On a real person its output means nothing.

## What it is

A TinySleepNet with 32 filters and 32 LSTM units. The chain before it: causal Butterworth high-pass 0.3 Hz, then
division by fixed scales (25, 20 and 10 µV). The first output comes after 30 s.

## Trained on

{n_epochs} epochs of {n_sleepers} simulated sleepers (seeds from {FIRST_TRAINING_SEED}), with natural sleep cycles
of 5400 s and with cycles shortened to 1200, 600 and 300 s, as the demo uses them. Command: `{run["command"]}` at
commit `{run["git_commit"][:12]}` on {run["date"]}, torch {run["versions"]["torch"]}.

## Figures

Unseen sleepers (seeds from 0), through the engine's own scorer, against the states that the simulator was in:

| cycle (s) | sleepers | epochs | scored | accuracy | κ | F1 W | N1 | N2 | N3 | REM |
|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

The simulator's states differ more clearly than sleep stages do. These figures say that the program works, and
nothing about sleep.

## Not for

Any signal that was not simulated. Any medical use. Any experiment.
"""


def main(
    out: Annotated[Path, typer.Option(help="Folder for bundle, card and results.")],
    sleepers: Annotated[int, typer.Option(min=1, help="Training sleepers for each length of cycle.")] = 16,
    test_sleepers: Annotated[int, typer.Option(min=1, help="Test sleepers for each length of cycle.")] = 10,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
) -> None:
    """Simulate, train, write the bundle, and test the written bundle on unseen sleepers."""
    t0_s = perf_counter()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    nights = [
        night(FIRST_TRAINING_SEED + k * len(NIGHTS) + kind, cycle_s, duration_s)
        for k in range(sleepers)
        for kind, (cycle_s, duration_s) in enumerate(NIGHTS)
    ]
    total = sum(len(data.y) for data in nights)
    typer.echo(f"{len(nights)} sleepers, {total} epochs, {perf_counter() - t0_s:.0f} s to simulate")
    progress = Progress(RECIPE.passes * total)
    model = fit(nights, CONFIG, RECIPE, seed, lambda loss: progress.say("training", total, loss))
    path = out / f"{NAME}.safetensors"
    results: dict[str, Any] = {
        "run": provenance("offline.train_simulated"),
        "training": {"sleepers": len(nights), "epochs": total, "first_seed": FIRST_TRAINING_SEED},
        "seed": seed,
        "recipe": asdict(RECIPE),
        "data": "simulated (streamscore.simulate)",
        "test": [],
    }
    save_bundle(path, spec({}, ""), model)
    for cycle_s, duration_s in NIGHTS:
        result = evaluate(load_bundle(path), range(test_sleepers), cycle_s, duration_s)
        results["test"].append(
            {
                "cycle_s": cycle_s,
                "sleepers": test_sleepers,
                "epochs": int(result.confusion.sum()),
                "coverage": result.coverage,
                "accuracy": result.accuracy,
                "kappa": result.kappa,
                "f1": dict(zip(AASM5, result.f1.tolist(), strict=True)),
            }
        )
        typer.echo(f"cycles of {cycle_s:g} s: accuracy {result.accuracy:.3f}, kappa {result.kappa:.3f}")
    results["run"]["wall_s"] = round(perf_counter() - t0_s)
    sha256 = save_bundle(path, spec(results, card(results)), model)
    (out / f"{NAME}.md").write_text(card(results), encoding="utf-8")
    (out / "simulated.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    typer.echo(f"wrote {path}, sha256 {sha256[:12]}")


if __name__ == "__main__":
    typer.run(main)
