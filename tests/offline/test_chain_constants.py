"""Constants of a chain from the recordings that are learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offline.chain_constants import fitted
from offline.datasets.base import open_dataset
from streamscore.errors import ConfigError
from tests.offline.toys import SFREQ, write_toy

STEP = {"kind": "normalise", "statistic": "zscore", "estimator": "stored"}


def test_they_come_from_the_subjects_that_are_learnt_from_behind_the_steps_before(tmp_path: Path) -> None:
    dataset = open_dataset(write_toy(tmp_path, n_subjects=3))
    chain = ({"kind": "log"}, {**STEP, "constants": "training"})
    (first, second) = fitted(chain, ("EEG",), SFREQ, dataset, ("m0", "m2"))
    raw = [dataset.read(entry).data for entry in dataset.of(("m0", "m2"))]  # type: ignore[union-attr]
    logs = np.log10(np.maximum(np.concatenate(raw), 1e-12))
    assert first == {"kind": "log"}
    assert "constants" not in second
    np.testing.assert_allclose(second["stored_offset"], logs.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(second["stored_scale"], logs.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("step", [{**STEP, "constants": "test"}, {"kind": "log", "constants": "training"}])
def test_what_cannot_be_found_is_told(tmp_path: Path, step: dict[str, str]) -> None:
    dataset = open_dataset(write_toy(tmp_path, n_subjects=1))
    with pytest.raises(ConfigError, match="only normalise takes them"):
        fitted((step,), ("EEG",), SFREQ, dataset, ("m0",))
