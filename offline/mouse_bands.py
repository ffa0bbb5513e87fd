"""What a booster makes of the band powers of a mouse, with and without the epochs around: beside ``mouse-bands``.

    python -m offline.mouse_bands --data ../shared/data/mouse_bands --train bands@0-16h --test bands@16-24h \\
        --evaluation "GRU=runs/mouse-bands/eval" --bundle runs/mouse-bands/running/bundle.safetensors \\
        --out runs/mouse-bands/report

Gradient boosting (scikit-learn's histogram booster) on the logarithms of the powers: of each epoch by itself, with
epochs before it (what a live scorer without a lag could know), and with epochs on both sides (an offline bound).
All are compared on the same epochs; hours are redrawn together, so that differences have an interval of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from offline.atomic import replacing
from offline.datasets.base import Dataset, open_dataset
from offline.evaluate import entries_of, evaluate_bundle
from offline.evaluation_folder import without_nan
from offline.figures import figures
from offline.measures.epochs import kappa_gain
from offline.measures.resampling import units_of
from offline.mouse_bands_report import card, page
from offline.provenance import provenance
from offline.scored import Codes, Scored, read_folder
from offline.scoring import inside
from offline.spans import with_spans
from streamscore.bundle import Bundle, load_bundle, save_bundle
from streamscore.errors import ConfigError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording

Floats = npt.NDArray[np.float64]
#: What it is called to score the tested hours without those before.
COLD = "the same, from a cold start at the first tested hour"
#: Powers of the file are far above it.
_FLOOR = 1e-12
SEED = 0


@dataclass(frozen=True)
class Context:
    """Epochs that are known beside the one to score."""

    name: str
    n_past: int
    n_ahead: int


CONTEXTS = (
    Context("booster, the epoch alone", 0, 0),
    Context("booster, and 16 epochs before", 16, 0),
    Context("booster, and 15 epochs on either side (offline)", 15, 15),
)


def features(recording: Recording, context: Context) -> Floats:
    """Log powers of each epoch and of those around it, ``(n_epochs, n_features)``; NaN beyond the ends.

    Raises
    ------
    ConfigError
        If the recording is no stream of one sample an epoch without gaps.
    """
    steps = np.diff(recording.stamps_s) * recording.sfreq
    if recording.epoch_s * recording.sfreq != 1.0 or np.abs(steps - 1.0).max(initial=0.0) > 1e-6:
        raise ConfigError(f"{recording.name}: is no stream of one sample an epoch without gaps")
    logs = np.log10(np.maximum(recording.data.astype(np.float64), _FLOOR))
    n = len(logs)
    beyond = np.full((n + context.n_past + context.n_ahead, logs.shape[1]), np.nan)
    beyond[context.n_past : context.n_past + n] = logs
    return np.hstack([beyond[k : k + n] for k in range(context.n_past + context.n_ahead + 1)])


def boosted(recording: Recording, learnt: Codes, beside: Scored, context: Context, n_trees: int = 200) -> Scored:
    """Learn from the epochs with a code in `learnt`; return what is said of all, with the truth of `beside`.

    What is learnt from is cut out first, so that no epoch that is tested is among its features; what is tested may
    look back at it, as a scorer that has run all the time does.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    booster = HistGradientBoostingClassifier(
        max_iter=n_trees, learning_rate=0.06, max_leaf_nodes=15, random_state=SEED
    )
    use = np.flatnonzero(learnt >= 0)
    first, last = int(use[0]), int(use[-1]) + 1
    part = replace(
        recording,
        data=recording.data[first:last],
        stamps_s=recording.stamps_s[first:last],
        states=recording.states[first:last],
    )
    booster.fit(features(part, context)[use - first], learnt[use])
    probs = np.zeros(beside.probs.shape, np.float32)
    probs[:, booster.classes_] = booster.predict_proba(features(recording, context))
    return beside.answered_by(probs, lag_s=context.n_ahead * beside.epoch_s)


def row_of(name: str, one: Scored, against: Scored, n_draws: int) -> dict[str, Any]:
    """Figures of one way of scoring, and how much its κ is above that of `against`."""
    gain = kappa_gain(units_of([one], n_draws), units_of([against], n_draws))
    return {"name": name, "lag_s": one.lag_s, "kappa_gain": gain, **figures([one], n_draws=n_draws)["pooled"]}


def cold(bundle: Bundle, dataset: Dataset, test: str, look_aheads_s: Sequence[float]) -> list[Scored]:
    """Score the tested hours as a recording of their own: state and normaliser know nothing of what was before."""
    return evaluate_bundle(bundle, with_spans(dataset, (test,)), (test,), look_aheads_s)


def parse_evaluation(text: str) -> tuple[str, Path]:
    """Turn ``NAME=FOLDER`` into both; raises ``ConfigError``."""
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise ConfigError(f"--evaluation {text!r}: write NAME=FOLDER, for example GRU=runs/mouse-bands/eval")
    return name, Path(folder)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the band powers.")],
    train: Annotated[str, typer.Option(help="Hours that boosters learn from, such as bands@0-16h.")],
    test: Annotated[str, typer.Option(help="Hours that were evaluated, such as bands@16-24h.")],
    evaluation: Annotated[
        list[str],
        typer.Option(help="NAME=FOLDER of streamscore evaluate on the tested hours; the first is shipped."),
    ],
    bundle: Annotated[Path, typer.Option(help="What the first evaluation is of; also tested from a cold start.")],
    out: Annotated[
        Path, typer.Option(help="Folder for figures.json, page.md, card.md and the bundle with its card.")
    ],
    trees: Annotated[int, typer.Option(min=1, help="Of a booster, for each state.")] = 200,
    draws: Annotated[int, typer.Option(min=0, help="Of the bootstrap behind the intervals.")] = 1000,
) -> None:
    """Train the boosters, put them beside what was evaluated, and write page, card and bundle."""
    dataset, network = open_dataset(data), load_bundle(bundle)
    named = [parse_evaluation(text) for text in evaluation]
    scored = [
        (name, one) for name, folder in named for one in read_folder(folder / "scored") if one.kind != "baseline"
    ]
    order = [name for name, _ in named]
    scored.sort(key=lambda pair: (order.index(pair[0]), pair[1].lag_s))
    beside = scored[0][1]
    ((entry, span),) = entries_of(dataset, [train])
    recording = dataset.read(entry)
    assert not isinstance(recording, Movie)
    first_s = float(recording.stamps_s[0])
    learnt = inside(recording.states, recording.states_t0_s, recording.epoch_s, span, first_s)
    if ((learnt >= 0) & (beside.truth[: len(learnt)] >= 0)).any():
        raise ConfigError(f"{train} holds epochs of {test}, which is tested; learn from other hours")
    boosters = [(context.name, boosted(recording, learnt, beside, context, trees)) for context in CONTEXTS]
    against = boosters[0][1]
    rows = [row_of(name, one, against, draws) for name, one in [*scored, *boosters]]
    started_cold = [row_of(COLD, one, one, draws) for one in cold(network, dataset, test, (0.0, 8.0, 60.0))]
    content = {
        "run": provenance("offline.mouse_bands"),
        "labels": list(beside.labels),
        "trained_on": train,
        "tested_on": test,
        "shipped": named[0][0],
        "training": dict(network.spec.provenance),
        "counts": {label: int((beside.truth == code).sum()) for code, label in enumerate(beside.labels)},
        "rows": rows,
        "cold": started_cold,
    }
    content = without_nan(content)
    with replacing(out / "figures.json") as path:
        path.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    for name, text in (("page.md", page(content)), ("card.md", card(content))):
        with replacing(out / name) as path:
            path.write_text(text, encoding="utf-8")
    held_out = {
        "hours": test,
        "kappa": {f"{row['lag_s']:g}": row["kappa"] for row in rows if row["name"] == named[0][0]},
    }
    about = {**network.spec.provenance, "held_out": held_out}
    spec = network.spec.model_copy(update={"card": card(content), "provenance": about})
    with replacing(out / f"{spec.name}.safetensors") as path:
        sha256 = save_bundle(path, spec, network.model)
    typer.echo(f"wrote {out}/page.md, card.md and {spec.name}.safetensors ({sha256[:12]})")


if __name__ == "__main__":
    typer.run(main)
