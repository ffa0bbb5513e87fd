"""Model cards of the networks trained on simulated movies, and the page of all their figures.

python -m offline.cortex_report cortex-mouse3.json cortex-runrest.json --out docs/results-cortex-simulated.md
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from offline.cortex_evaluation import Said
from offline.pages import wrapped
from streamscore.bundle import Spec
from streamscore.models.base import ScoringModel

#: What to know of a network before its figures.
_WHAT = {
    "cnn_bilstm": (
        "An attention CNN-BiLSTM (`cnn_bilstm`) of {filters} filters and {hidden} LSTM units, variant "
        "`{variant}`: each frame passes the CNN once, and attention looks back over {back_s:.3g} s."
    ),
    "efficientnet": (
        "A CNN-GRU (`efficientnet`) a quarter as wide and a third as deep as EfficientNet-B0, {hidden} GRU units, "
        "variant `{variant}`: images of the newest three frames, and a state that is carried."
    ),
}


def joined(parts: Sequence[Said]) -> Said:
    """What was said of several animals, one after the other."""
    return Said(np.concatenate([part.probs for part in parts]), parts[0].lag_s)


def summary(row: dict[str, Any]) -> str:
    """One line."""
    recall = ", ".join(f"{label} {value:.2f}" for label, value in row["recall"].items() if value is not None)
    return f"accuracy {row['accuracy']:.3f}, kappa {row['kappa']:.3f}, recall {recall}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def table(test: dict[str, dict[str, Any]]) -> str:
    """All figures, a row for each kind of output."""
    labels = list(next(iter(test.values()))["recall"])
    head = ["", "lag (s)", "accuracy", "κ", *(f"recall {label}" for label in labels)]
    head += [f"AUC {label}" for label in labels[1:]] + [f"onset {label} (s)" for label in labels]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, row in test.items():
        cells = [name, f"{row['lag_s']:.2g}", _number(row["accuracy"], 3), _number(row["kappa"], 3)]
        cells += [_number(row["recall"][label]) for label in labels]
        cells += [_number(row["auc"][label], 3) for label in labels[1:]]
        for label in labels:
            onset = row["onsets"][label]
            cells.append(f"{_number(onset['median_s'])} ({onset['found']} of {onset['bouts']})")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _described(spec: Spec) -> str:
    args = spec.model_args
    text = _WHAT[spec.model].format(
        filters=args.get("n_filters"),
        hidden=args["n_hidden"],
        variant=args["variant"],
        back_s=args.get("attention_frames", 0) / spec.sfreq,
    )
    if args.get("max_look_ahead_s"):
        text += (
            f" Trained with a look-ahead drawn anew for each batch, so that one set of weights serves 0 to "
            f"{args['max_look_ahead_s']:g} s; `look_ahead_s` chooses, {args['look_ahead_s']:g} s by default."
        )
    return text


def _figures_of(results: dict[str, Any]) -> str:
    """What a table shows."""
    testing = results["testing"]
    return f"""\
{testing["animals"]} unseen animals (seeds from 0) of {testing["duration_s"]:g} s, through the engine's own
scorer, at each frame, against the state that the simulator was in at the last frame of the interval described.
Onset: median time from the start of a bout (2 s or longer) to the first output that names it, lag included, and
how many were found. The logistic regression sees mean and spread of each area over the last seconds, behind the
same chain; it knows where the areas are."""


def _made_by(run: dict[str, Any]) -> str:
    return (
        f"Command: `{run['command']}`, {run['date']}, commit `{run['git_commit'][:12]}`, {run['machine']}, "
        f"{run['wall_s']} s, of which {run['cpu_s']} s of computing."
    )


def card(spec: Spec, model: ScoringModel, results: dict[str, Any]) -> str:
    """Return the model card of one network, with the figures of all that were tested beside it."""
    run, training = results["run"], results["training"]
    steps = " → ".join(f"`{step['kind']}`" for step in spec.preprocess)
    height, width = spec.frame_shape or (0, 0)
    cycles = f"Sleep cycles of {', '.join(f'{cycle:g}' for cycle in training['cycles_s'])} s."
    if results["task"] == "runrest":
        cycles = "All are awake all the time; what it says of a sleeping one is untested."
    return wrapped(f"""\
# {spec.name}

**Trained on SIMULATED movies only.** It scores the mice of `streamscore.simulate.cortex` (frames of {height} ×
{width} at {spec.sfreq:g} Hz a light, lights {", ".join(f"`{light}`" for light in spec.channels)}), so that the
demo, soak runs and a first rig work without a recording. On a real mouse its output means nothing.

## What it is

{_described(spec)} {model.n_trainable():,} trained parameters; states {", ".join(spec.labels)}.

Chain: {steps}. Baselines are running means (120 s), so that the first output comes after about
{model.timing.warm_up_samples / spec.sfreq + 20:.0f} s; ΔF/F is then divided by 0.02 on the simulator's brain and 0
beside it. The dark level is the simulated camera's.

## Trained on

{training["frames"]} frames of {training["animals"]} simulated animals (seeds from {training["first_seed"]}),
each another anatomy, illumination, vessels, amplitudes and recording; the drawing of the areas is the same for
all, and so is the place of the head. {cycles} Two further animals decided when to stop. First
the part that sees frames was trained, then, with that as it was, the part that runs over time
(`offline/cortex_training.py`). {_made_by(run)}

## Figures

{_figures_of(results)}

{table(results["test"])}

The simulator's states differ more clearly than those of a mouse. These figures say that the program works, and
nothing about sleep or locomotion.

## Not for

Any movie that was not simulated. Any medical use. Any experiment.""")


def page(all_results: Sequence[dict[str, Any]]) -> str:
    """Return the page of figures, a part for each task."""
    parts: list[str] = []
    for results in all_results:
        training, testing = results["training"], results["testing"]
        frames = next(iter(results["test"].values()))["frames"]
        made_by, counts = _made_by(results["run"]), ", ".join(f"{n} {label}" for label, n in frames.items())
        parts.append(
            f"## {_TITLE[results['task']]}\n\n{made_by} {training['animals']} animals of {training['clip_s']:g} s "
            f"to learn from, {testing['animals']} of {testing['duration_s']:g} s to be tested; frames scored by "
            f"the first row: {counts}.\n\n{table(results['test'])}"
        )
    return wrapped(f"""\
# Results: networks on simulated wide-field movies

**Everything here is SIMULATED** ([simulated movies](simulated-movies.md)): these figures say that chain,
training and engine fit together, and nothing about mice.

{_figures_of(all_results[0])}

A row *at 2 s* is the same bundle with another look-ahead, chosen when it is loaded; *provisional* is what a
look-ahead network says at once.

{chr(10).join(f"{part}{chr(10)}" for part in parts)}""")


_TITLE = {
    "mouse3": "Wake, NREM, REM: CNN-BiLSTM at 16.8 Hz, four lights",
    "runrest": "Run, rest: CNN-GRU at 30 Hz, one light",
}


def main(
    results: Annotated[list[Path], typer.Argument(help="Figures that offline.train_cortex wrote.")],
    out: Annotated[Path, typer.Option(help="The page.")],
) -> None:
    """Write the page."""
    out.write_text(page([json.loads(path.read_text(encoding="utf-8")) for path in results]), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
