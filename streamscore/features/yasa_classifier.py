"""YASA's published classifiers, loaded from the installed package and from nowhere else.

Source: Vallat & Walker, eLife 2021, doi:10.7554/eLife.70092; package yasa 0.8.1.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from streamscore.errors import ConfigError
from streamscore.features.yasa_features import EPOCH_SAMPLES, SFREQ, Filter, Floats, measure, names, package

#: SHA-256 of the published classifiers. They are pickles; no other file is ever opened.
CLASSIFIERS = {
    "clf_eeg_lgb_0.5.0.joblib": "330c1afdc86396e0b6d9f1294d4c4796beb5f7e7cd38be424c10feae98867e31",
    "clf_eeg+demo_lgb_0.5.0.joblib": "686fd99ad834d657833d7d7c2b3256f9689c023cf13aee16381b2b2cd6f0e86b",
    "clf_eeg+emg_lgb_0.5.0.joblib": "9771995bcf7d1c90456986fbf9f991a5b5e8fe68cf0a8c410ec38ad3615a3c78",
    "clf_eeg+emg+demo_lgb_0.5.0.joblib": "035191c5ffbb84ef9f4b09864bf54f01bd302a94188c34a9d6535460e74f4b49",
    "clf_eeg+eog_lgb_0.5.0.joblib": "86d726a3e6aa6195197ffbc9765f5e194c74358295ef331998c21f8badcebcc3",
    "clf_eeg+eog+demo_lgb_0.5.0.joblib": "e4762d95dddce707ee8da922dbc505dea4be6a5a5070cbc9a06e0a88f2fc2b43",
    "clf_eeg+eog+emg_lgb_0.5.0.joblib": "3d27d440c94c61d8013c81c91693ad88810af2ddae85b62f4bc797f6e2464beb",
    "clf_eeg+eog+emg+demo_lgb_0.5.0.joblib": "d915de033ecbce0833600151d73a5b271b8f305d63bbc774400ee64bdb9df8ff",
}
#: AASM5 in the classifiers' words.
STAGES = ("W", "N1", "N2", "N3", "R")


@dataclass(frozen=True)
class Classifier:
    """One of YASA's classifiers.

    Parameters
    ----------
    booster
        LightGBM's own object, without the scikit-learn estimator around it.
    inputs
        Names of its inputs in order.
    columns
        Its output columns in the order of :data:`STAGES`.
    """

    booster: Any
    inputs: tuple[str, ...]
    columns: tuple[int, ...]

    def log_probs(self, inputs: Floats) -> Floats:
        """Map ``(n, n_inputs)`` to log-probabilities ``(n, 5)`` in the order of AASM5."""
        probs: Floats = self.booster.predict(inputs, num_threads=1)[:, self.columns]
        logs: Floats = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
        return logs


def classifier_path(kinds: tuple[str, ...], has_person: bool) -> Path:
    """Return the file of the installed package for these channels, with or without age and sex.

    Raises
    ------
    ConfigError
        If the package is not installed, or the file is absent or not the published one.
    """
    folder = Path(package("yasa").__file__).parent / "classifiers"
    inputs = "+".join((*kinds, "demo") if has_person else kinds)
    path = folder / f"clf_{inputs}_lgb_0.5.0.joblib"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
    if sha256 != CLASSIFIERS[path.name]:
        raise ConfigError(
            f"{path}: not the published classifier (SHA-256: {sha256}); "
            "run: pip install --force-reinstall 'yasa==0.8.1'"
        )
    return path


def classifier_provenance(kinds: tuple[str, ...], has_person: bool) -> dict[str, str]:
    """Return the versions that decide about the scores, and the classifier's file name and SHA-256."""
    path = classifier_path(kinds, has_person)
    versions = {name: str(package(name).__version__) for name in ("yasa", "lightgbm", "antropy", "mne")}
    return {**versions, "classifier": path.name, "sha256": CLASSIFIERS[path.name]}


@cache
def load_classifier(kinds: tuple[str, ...], has_person: bool) -> Classifier:
    """Load a classifier, and make sure that the YASA installed measures what is measured here.

    Raises
    ------
    ConfigError
        If YASA is not installed, the file is not the published one, or YASA measures something else.
    """
    path = classifier_path(kinds, has_person)
    mne, yasa = package("mne"), package("yasa")
    n_epochs = 10  # YASA warns about fewer
    x = np.random.default_rng(0).normal(0.0, 30.0, (len(kinds), n_epochs * EPOCH_SAMPLES))
    info = mne.create_info(list(kinds), float(SFREQ), list(kinds))
    staging = yasa.SleepStaging(
        mne.io.RawArray(x * 1e-6, info, verbose=False),
        "eeg",
        eog_name="eog" if "eog" in kinds else None,
        emg_name="emg" if "emg" in kinds else None,
        metadata={"age": 30, "male": True} if has_person else None,
    )
    theirs, ours = staging.get_features(), measure(Filter(SFREQ)(x), kinds)
    inside = slice(1, -1)  # the very ends of a file come out as 0, whose sign and so whose crossings are chance
    differing = [
        name
        for k, name in enumerate(names(kinds))
        if name not in theirs or not np.allclose(theirs[name][inside], ours[inside, k], rtol=1e-4)
    ]
    if differing:
        raise ConfigError(
            f"yasa {yasa.__version__} measures {', '.join(differing)} differently from yasa 0.8.1, which this was "
            "checked with; run: pip install 'yasa==0.8.1'"
        )
    with warnings.catch_warnings():
        # It was saved by an old scikit-learn, of which only the names of the classes are used.
        warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
        estimator = staging._load_model(str(path))
    classes = list(estimator.classes_)
    return Classifier(
        booster=estimator.booster_,
        inputs=tuple(estimator.feature_name_),
        columns=tuple(classes.index(stage) for stage in STAGES),
    )
