"""Run or rest from the traces of cortical parcels of one mouse: train ROI-GRUs, and test them through the engine.

    python -m offline.run_rest --data ../shared/data/wfci_roi_run_rest/parcels_10hz.npz --out runs/run_rest

Whatever is
scored is scored by the engine on a virtual clock, from a recording that it reads itself. The baseline is a
logistic regression on the mean of the last second.

Three questions are asked of the file: what the second half says of networks trained on the first, what blocks
say of networks trained on the rest (without `GUARD_S` on either side), and, of each further file given by
``--test``, what it says of the network trained on all of the first. Nothing is chosen by the last.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer

from offline.parcels import CodeArray, Parcels, read
from offline.provenance import provenance
from offline.roi_training import Recipe, fit
from offline.run_rest_report import report
from streamscore.bundle import Bundle, Spec, load_bundle, save_bundle
from streamscore.labels import RUNREST
from streamscore.metrics import auc, cohen_kappa, confusion_matrix
from streamscore.models.roi_rnn import Config
from streamscore.preprocess.base import Chain
from streamscore.preprocess.normalise import whole_recording
from streamscore.score import score_file
from streamscore.types import FloatArray, Layout

NAME = "roi-gru-run-rest"
#: Not trained on, on either side of a block that is tested: longer than the calcium of a bout takes to fade.
GUARD_S = 3.0
#: Time that the baseline takes the mean of.
TRAILING_S = 1.0
#: Intervals redraw blocks of this length.
REDRAWN_S = 10.0
N_REDRAWN = 1000
BASELINE = "logistic regression"


CELLS: tuple[Literal["gru", "lstm", "simple"], ...] = ("gru", "lstm", "simple")
DIRECTIONS: tuple[Literal["uni", "bi"], ...] = ("uni", "bi")


@dataclass(frozen=True)
class Kind:
    """A network and what stands before it.

    Parameters
    ----------
    config
        The network; the number of channels and the rate are the file's.
    recipe
        How it is trained.
    average_s
        Of the trailing moving average that is subtracted; 0 leaves the baseline as it is.
    """

    config: Config
    recipe: Recipe = field(default_factory=Recipe)
    average_s: float = 0.0

    def for_file(self, data: Parcels) -> Kind:
        """The same for the channels and the rate of `data`."""
        fit_to = {"n_channels": data.dff.shape[1], "sfreq": data.sfreq}
        return replace(self, config=self.config.model_copy(update=fit_to))


#: The first is trained on the whole file in the end; the last six are the networks of the paper.
KINDS: dict[str, Kind] = {
    "causal": Kind(Config(variant="causal")),
    "causal, sequences as they are": Kind(
        Config(variant="causal"), Recipe(noise=0.0, offset=0.0, left_out=0.0, weight_decay=0.0)
    ),
    "causal, moving average removed": Kind(Config(variant="causal"), average_s=100.0 / 3.0),
    **{
        f"published {'bi-' if direction == 'bi' else ''}{cell}": Kind(
            Config(variant="published", cell=cell, direction=direction, half_window_frames=5)
        )
        for direction in DIRECTIONS
        for cell in CELLS
    },
}


def train(parts: Sequence[Parcels], kind: Kind, seed: int) -> Bundle:
    """Train on parts of a recording and return what can be scored with; the bundle holds their normalisation."""
    data = parts[0]
    kind = kind.for_file(data)
    average = {"kind": "moving_average", "form": "trailing", "window_s": kind.average_s}
    chain: list[dict[str, Any]] = [average] if kind.average_s else []
    layout = Layout(data.sfreq, data.channels)
    before = np.concatenate([Chain(chain, layout).push(part.dff, 0) for part in parts])
    offset, scale = whole_recording(before, "zscore")
    stored = {"stored_offset": offset.tolist(), "stored_scale": scale.tolist()}
    chain.append({"kind": "normalise", "estimator": "stored", "statistic": "zscore", **stored})
    inputs = [(Chain(chain, layout).push(part.dff, 0), part.codes) for part in parts]
    model = fit(inputs, kind.config, kind.recipe, seed)
    spec = Spec(
        name=NAME,
        model="roi_rnn",
        model_args=kind.config.model_dump(mode="json"),
        preprocess=tuple(chain),
        vocabulary="RUNREST",
        sfreq=data.sfreq,
        channels=data.channels,
        unit="any",
        hop_s=1.0 / data.sfreq,
    )
    return Bundle(spec, model.requires_grad_(False), sha256="")


def scored(bundle: Bundle, data: Parcels) -> FloatArray:
    """Probability of running for each frame ``(n,)``, as the engine tells it; NaN where it tells none."""
    probs = np.full(len(data.codes), np.nan, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{data.name}.npz"
        data.write(path)
        for posterior in score_file(path, bundle, hop_s=1.0 / data.sfreq).posteriors:
            if posterior.valid and posterior.kind == "final":
                probs[posterior.start] = posterior.probs[RUNREST.index("run")]
    return probs


def trailing_mean(x: FloatArray, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean of the last `n` frames of ``(frames, channels)``, of as many as there are at the start."""
    total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x, axis=0, dtype=np.float64)])
    stop = np.arange(1, len(x) + 1)
    start = np.maximum(stop - n, 0)
    mean: np.ndarray[Any, np.dtype[np.float64]] = (total[stop] - total[start]) / (stop - start)[:, None]
    return mean


def baseline(parts: Sequence[Parcels], test: Parcels) -> FloatArray:
    """Log odds of running for each frame of `test` by the logistic regression, at the settings of scikit-learn."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n = round(TRAILING_S * test.sfreq)
    x = np.concatenate([trailing_mean(part.dff, n) for part in parts])
    codes = np.concatenate([part.codes for part in parts])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(x[codes >= 0], codes[codes >= 0])
    log_odds: FloatArray = model.decision_function(trailing_mean(test.dff, n)).astype(np.float32)
    return log_odds


def figures(codes: CodeArray, scores: FloatArray, sfreq: float, cut: float) -> dict[str, Any]:
    """AUC with its 95 % interval (blocks redrawn), and agreement where `scores` above `cut` are called running."""
    known = (codes >= 0) & np.isfinite(scores)
    n_block = round(REDRAWN_S * sfreq)
    blocks = [np.arange(a, min(a + n_block, len(codes))) for a in range(0, len(codes), n_block)]
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(N_REDRAWN):
        rows = np.concatenate([blocks[k] for k in rng.integers(0, len(blocks), len(blocks))])
        rows = rows[known[rows]]
        areas.append(auc(codes[rows] == 1, scores[rows]))
    defined = [area for area in areas if np.isfinite(area)]
    matrix = confusion_matrix(codes[known], (scores[known] > cut).astype(np.int8), len(RUNREST))
    return {
        "auc": auc(codes[known] == 1, scores[known]),
        "interval": np.percentile(defined, (2.5, 97.5)).tolist() if defined else [float("nan")] * 2,
        "kappa": cohen_kappa(matrix),
        "confusion": matrix.tolist(),
        "scored": float(known.sum() / max((codes >= 0).sum(), 1)),
    }


#: Trains on parts and tells how likely each frame of another recording is running, and above which value it is.
Method = tuple[Callable[[Sequence[Parcels], Parcels], FloatArray], float]


def method(kind: Kind, seed: int) -> Method:
    """A network as a method."""
    return lambda parts, test: scored(train(parts, kind, seed), test), 0.5


def compare(data: Parcels, how: Method, n_folds: int) -> dict[str, Any]:
    """Test a method on the second half, and on each of `n_folds` blocks of the whole."""
    learn_and_score, cut = how
    n, guard = len(data.codes), round(GUARD_S * data.sfreq)
    late = data.part(n // 2 + guard, n)
    result = {"half": figures(late.codes, learn_and_score([data.part(0, n // 2)], late), data.sfreq, cut)}
    scores = np.full(n, np.nan, np.float32)
    for block in np.array_split(np.arange(n), n_folds):
        first, last = int(block[0]), int(block[-1])
        around = [data.part(0, max(first - guard, 0)), data.part(last + 1 + guard, n)]
        parts = [part for part in around if len(part.codes)]
        scores[block] = learn_and_score(parts, data)[block]
    result["blocks"] = figures(data.codes, scores, data.sfreq, cut)
    return result


def main(
    data: Annotated[Path, typer.Option(help="File to train on.")],
    out: Annotated[Path, typer.Option(help="Folder for bundle, figures and report.")],
    test: Annotated[list[Path] | None, typer.Option(help="Further file to test; may be given again.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Blocks of the cross-validation.")] = 6,
    seed: Annotated[int, typer.Option(help="Of weights, order and alterations.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Test within the file, train on all of it, write the bundle, and test it on further files."""
    t0_s = perf_counter()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    recording = read(data)
    further = [read(path) for path in test or ()]
    chosen = next(iter(KINDS))
    results: dict[str, Any] = {"run": provenance("offline.run_rest"), "seed": seed}
    results.update(file=recording.describe(), folds=folds, recipe=asdict(KINDS[chosen].recipe))
    methods = {name: method(kind, seed) for name, kind in KINDS.items()}
    results["within"] = {BASELINE: compare(recording, (baseline, 0.0), folds)}
    for name, how in methods.items():
        results["within"][name] = compare(recording, how, folds)
        typer.echo(f"{name}: AUC {results['within'][name]['half']['auc']:.4f} on the second half")
    bundle = train([recording], KINDS[chosen], seed)
    path = out / f"{NAME}.safetensors"
    sha256 = save_bundle(path, bundle.spec.model_copy(update={"provenance": results}), bundle.model)
    results["further"] = []
    for other in further:
        row = {"file": other.describe()}
        for name, scores, cut in (
            (chosen, scored(load_bundle(path), other), 0.5),
            (BASELINE, baseline([recording], other), 0.0),
        ):
            row[name] = figures(other.codes, scores, other.sfreq, cut)
            typer.echo(f"{other.name}, {name}: AUC {row[name]['auc']:.4f}")
        results["further"].append(row)
    results["run"] |= {"wall_s": round(perf_counter() - t0_s), "cpu_s": round(process_time())}
    (out / f"{NAME}.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (out / f"{NAME}.md").write_text(report(results, BASELINE, chosen), encoding="utf-8")
    typer.echo(f"wrote {path}, sha256 {sha256[:12]}")


if __name__ == "__main__":
    typer.run(main)
