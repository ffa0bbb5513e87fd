"""Fit the SVM and the random forest on band features of the UCDDB recordings, and write a bundle.

    python -m offline.train_bands --data ../shared/data/human_ucddb --out runs/bands --kind svm

scikit-learn fits, and what it found becomes the tensors of ``models/band_svm.py`` and ``band_forest.py``: no
estimator is ever stored. Features are z-scored; SVC with a Gaussian kernel, C = 1 and gamma = "scale"; forest of
100 trees (MODELS.md 6.5; the papers publish no parameters).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from scipy import optimize, special
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import SVC

from offline.datasets.base import Dataset, open_dataset
from offline.evaluate import evaluate_bundle
from offline.evaluation_folder import without_nan
from offline.figures import figures
from offline.folds import make_folds
from offline.provenance import provenance
from offline.recipe import load_recipe
from offline.sequences import CodeArray, Sequences, sequences
from streamscore.bundle import Bundle, Spec, save_bundle
from streamscore.features.bands import BandArguments, BandFeatures
from streamscore.labels import AASM5
from streamscore.models import band_forest, band_svm
from streamscore.models.band_forest import BandForest
from streamscore.models.band_svm import BandSvm, pairs_of
from streamscore.models.base import ScoringModel
from streamscore.movies.base import Movie
from streamscore.types import FloatArray

DoubleArray = npt.NDArray[np.float64]
#: Whose chain, channel and states are taken.
RECIPE = "tinysleepnet-ucddb"
#: The chain of these recordings ends at 35 Hz, so that the last band of the default holds nothing.
ARGUMENTS = BandArguments(sfreq=128.0, epoch_s=30.0, edges_hz=(0.5, 4.0, 8.0, 12.0, 16.0, 30.0))
N_TREES = 100
#: Makes a decision of ± 1 certain, as far as libsvm's bound allows.
CERTAIN_SLOPE = -100.0
#: Epochs that are described at a time, which bounds memory.
BATCH = 256


def describe(features: BandFeatures, epochs: FloatArray) -> torch.Tensor:
    """Raw features ``(n, n_features)`` of epochs ``(n, n_channels, samples)``."""
    with torch.inference_mode():
        return torch.cat([features.raw(part) for part in torch.split(torch.from_numpy(epochs), BATCH)])


def _training_set(epochs: FloatArray, y: CodeArray, arguments: BandArguments, n_classes: int) -> BandFeatures:
    """Return the features with the z-score of a training set, after checking its labels.

    Raises
    ------
    ValueError
        If a label is none of the classes, or only one class has any epoch.
    """
    present = np.unique(y)
    if len(present) < 2 or present[0] < 0 or present[-1] >= n_classes:
        raise ValueError(f"labels {present.tolist()}: at least two of the codes 0 to {n_classes - 1} are needed")
    features = BandFeatures(arguments)
    features.standardise(describe(features, epochs))
    return features


def _z_scored(features: BandFeatures, epochs: FloatArray) -> FloatArray:
    z: FloatArray = ((describe(features, epochs) - features.mean) / features.std).numpy()
    return z


def fit_platt(decision: DoubleArray, is_first: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Fit Platt's sigmoid ``1 / (1 + exp(slope * decision + offset))`` to held-out decisions.

    Targets are shrunk as in Platt (1999), so that separable decisions keep a finite slope.
    """
    n_first, n_second = is_first.sum(), (~is_first).sum()
    target = np.where(is_first, (n_first + 1.0) / (n_first + 2.0), 1.0 / (n_second + 2.0))

    def loss(parameters: DoubleArray) -> tuple[float, DoubleArray]:
        z = parameters[0] * decision + parameters[1]
        slope = target - special.expit(-z)
        return float((target * z + np.logaddexp(0.0, -z)).sum()), np.array([slope @ decision, slope.sum()])

    start = np.array([0.0, np.log((n_second + 1.0) / (n_first + 1.0))])
    found = optimize.minimize(loss, start, jac=True, method="BFGS")
    return float(found.x[0]), float(found.x[1])


def pair_coefficients(svc: SVC) -> tuple[DoubleArray, DoubleArray]:
    """Coefficients ``(n_pairs, n_support)`` and intercepts of a fitted SVC, positive for a pair's first class."""
    n_fitted = len(svc.classes_)
    owner = np.repeat(np.arange(n_fitted), svc.n_support_)
    rows = []
    for first, second in pairs_of(n_fitted):
        # libsvm keeps a vector's coefficient against each other class, its own left out.
        row = np.where(owner == first, svc.dual_coef_[second - 1], 0.0)
        rows.append(np.where(owner == second, svc.dual_coef_[first], row))
    sign = -1.0 if n_fitted == 2 else 1.0  # with two classes alone, scikit-learn counts for the second
    return sign * np.stack(rows), sign * svc.intercept_


def export_svm(
    svc: SVC,
    platt: Sequence[tuple[float, float]],
    features: BandFeatures,
    arguments: BandArguments,
    n_classes: int,
) -> BandSvm:
    """Return the network that decides as `svc` does.

    A class that `svc` was not shown loses to every class that it was.

    Parameters
    ----------
    svc
        Fitted with a number as its gamma: what ``"scale"`` came to is kept in a private attribute only.
    platt
        Slope and offset of each pair of the classes that it was shown.
    features, arguments
        What it was fitted to.
    n_classes
        All classes.
    """
    n_support = len(svc.support_vectors_)
    config = band_svm.Config(**arguments.model_dump(), n_classes=n_classes, n_support=n_support)
    model = band_svm.build(config)
    coef, intercept = pair_coefficients(svc)
    model.support.copy_(torch.from_numpy(svc.support_vectors_))
    model.gamma.fill_(svc.gamma)
    fitted = {
        (svc.classes_[first], svc.classes_[second]): k
        for k, (first, second) in enumerate(pairs_of(len(svc.classes_)))
    }
    for pair, (first, second) in enumerate(model.pairs):
        k = fitted.get((first, second))
        if k is None:
            model.pair_intercept[pair] = float(first in svc.classes_) - float(second in svc.classes_)
            model.platt_slope[pair] = CERTAIN_SLOPE
            continue
        model.pair_coef[pair] = torch.from_numpy(coef[k])
        model.pair_intercept[pair] = intercept[k]
        model.platt_slope[pair], model.platt_offset[pair] = platt[k]
    model.features.load_state_dict(features.state_dict())
    return model


def fit_svm(epochs: FloatArray, y: CodeArray, arguments: BandArguments, n_classes: int, seed: int = 0) -> BandSvm:
    """Fit an SVM to epochs ``(n, n_channels, samples)`` with codes `y`.

    Its probabilities are fitted, as libsvm does, to decisions about a fifth that the machine did not see.

    Raises
    ------
    ValueError
        If a class that occurs has a single epoch, which can be either learnt or tested.
    """
    rarest = int(np.unique(y, return_counts=True)[1].min())
    if rarest < 2:
        raise ValueError("a class has a single epoch; leave it out or add recordings")
    features = _training_set(epochs, y, arguments, n_classes)
    z = _z_scored(features, epochs).astype(np.float64)
    gamma = float(1.0 / (z.shape[1] * z.var()))  # gamma="scale"
    svc = SVC(C=1.0, kernel="rbf", gamma=gamma, decision_function_shape="ovo").fit(z, y)
    folds = StratifiedKFold(min(5, rarest), shuffle=True, random_state=seed)
    held = cross_val_predict(svc, z, y, cv=folds, method="decision_function")
    held = -held[:, None] if held.ndim == 1 else held
    platt = []
    for k, pair in enumerate(pairs_of(len(svc.classes_))):
        of_pair = np.isin(y, svc.classes_[list(pair)])
        platt.append(fit_platt(held[of_pair, k], y[of_pair] == svc.classes_[pair[0]]))
    return export_svm(svc, platt, features, arguments, n_classes)


def export_forest(
    forest: RandomForestClassifier, features: BandFeatures, arguments: BandArguments, n_classes: int
) -> BandForest:
    """Return the network whose probabilities are those of `forest`; a class that it was not shown has none."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    config = band_forest.Config(
        **arguments.model_dump(),
        n_classes=n_classes,
        n_trees=len(trees),
        n_nodes=max(tree.node_count for tree in trees),
        depth=max(tree.max_depth for tree in trees),
    )
    model = band_forest.build(config)
    for k, tree in enumerate(trees):
        inner = np.flatnonzero(tree.children_left >= 0)
        # A float32 is at most a threshold if it is at most the largest float32 that is at most the threshold.
        threshold = tree.threshold[inner].astype(np.float32)
        threshold = np.where(
            threshold > tree.threshold[inner], np.nextafter(threshold, np.float32(-np.inf)), threshold
        )
        children = np.stack((tree.children_left[inner], tree.children_right[inner]), axis=1)
        shares = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)
        model.feature[k, inner] = torch.from_numpy(tree.feature[inner].astype(np.int64))
        model.threshold[k, inner] = torch.from_numpy(threshold)
        model.child[k, inner] = torch.from_numpy(children.astype(np.int64))
        model.shares[k, : tree.node_count] = 0.0
        model.shares[k, : tree.node_count, forest.classes_] = torch.from_numpy(shares.astype(np.float32))
    model.features.load_state_dict(features.state_dict())
    return model


def fit_forest(
    epochs: FloatArray, y: CodeArray, arguments: BandArguments, n_classes: int, seed: int = 0
) -> BandForest:
    """Fit a forest of 100 trees to epochs ``(n, n_channels, samples)`` with codes `y`."""
    features = _training_set(epochs, y, arguments, n_classes)
    forest = RandomForestClassifier(N_TREES, random_state=seed).fit(_z_scored(features, epochs), y)
    return export_forest(forest, features, arguments, n_classes)


def score(model: ScoringModel, epochs: FloatArray) -> FloatArray:
    """Log probabilities ``(n, n_classes)`` of epochs ``(n, n_channels, samples)``."""
    with torch.inference_mode():
        parts = [
            model(part, model.initial_state(len(part)))[0] for part in torch.split(torch.from_numpy(epochs), BATCH)
        ]
    logs: FloatArray = torch.cat(parts)[:, 0, 0].numpy()
    return logs


class Kind(StrEnum):
    """What is fitted."""

    SVM = "svm"
    FOREST = "forest"


FIT: dict[Kind, Callable[..., ScoringModel]] = {Kind.SVM: fit_svm, Kind.FOREST: fit_forest}


def describe_bundle(kind: Kind) -> Spec:
    """Return the description of the bundle, without what the fit decides."""
    section = load_recipe(RECIPE).bundle
    assert section is not None
    fields = {**section.model_dump(), "name": f"band-{kind}-ucddb", "model": f"band_{kind}", "model_args": {}}
    return Spec(**fields)


def fit_to(kind: Kind, recordings: Sequence[Sequences], seed: int) -> Any:
    """Fit to the labelled epochs of several recordings."""
    x = np.concatenate([recording.x for recording in recordings])
    y = np.concatenate([recording.y for recording in recordings])
    return FIT[kind](x[y >= 0], y[y >= 0], ARGUMENTS, len(AASM5), seed)


def read_all(dataset: Dataset, spec: Spec) -> list[Sequences]:
    """Return the epochs of all recordings behind the chain."""
    found = []
    for entry in dataset.entries:
        recording = dataset.read(entry)
        assert not isinstance(recording, Movie)
        found.append(sequences(recording, spec, ARGUMENTS.epoch_s, subject=entry.subject))
    return found


def main(
    data: Annotated[Path, typer.Option(help="Folder of the UCDDB recordings.")],
    out: Annotated[Path, typer.Option(help="Folder for results and bundle.")],
    kind: Annotated[Kind, typer.Option(help="What to fit.")],
    folds: Annotated[
        str, typer.Option(help="Folds of the cross-validation, as streamscore evaluate has them.")
    ] = "6",
    seed: Annotated[int, typer.Option(help="Of trees, folds, and the folds that fit probabilities.")] = 0,
) -> None:
    """Cross-validate over subjects, then fit to all of them and write results and bundle."""
    dataset, spec = open_dataset(data, "ucddb"), describe_bundle(kind)
    subjects = read_all(dataset, spec)
    held = []
    for number, split in enumerate(make_folds(dataset.subjects, folds, seed=seed)):
        # Nothing is chosen by validation subjects here, so that they are learnt from.
        model = fit_to(kind, [s for s in subjects if s.subject not in split.test], seed)
        fitted = spec.model_copy(update={"model_args": model.config.model_dump(mode="json")})
        held += evaluate_bundle(Bundle(fitted, model, sha256=""), dataset, split.test)
        typer.echo(f"fold {number + 1}: tested on {', '.join(split.test)}")
    told = figures(held, pairs=[("W", "N3")], seed=seed)
    pair = told["pooled"]["pairs"][0]
    results = without_nan(
        {
            **provenance("offline.train_bands"),
            "seed": seed,
            "folds": folds,
            "subjects": {"train": list(dataset.subjects), "validation": []},
            "held_out": {
                "wake_n3": pair,
                "confusion": told["pooled"]["confusion"],
                "subjects": [
                    {"subject": row["subject"], "auc": row["pairs"][0]["auc"]["value"]} for row in told["subjects"]
                ],
            },
        }
    )
    model = fit_to(kind, subjects, seed)
    args = model.config.model_dump(mode="json")
    spec = spec.model_copy(update={"model_args": args, "provenance": results})
    out.mkdir(parents=True, exist_ok=True)
    sha256 = save_bundle(out / f"{spec.name}.safetensors", spec, model)
    (out / f"{spec.name}.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    area = pair["auc"]
    told_area = f"{area['value']:.4f} ({area['low']:.4f}–{area['high']:.4f})"
    typer.echo(
        f"wrote {out / spec.name}.safetensors, sha256 {sha256[:12]}; held-out AUC of W against N3 {told_area}"
    )


if __name__ == "__main__":
    typer.run(main)
