"""YASA beside a bundle: at an assumed amplitude, without the epochs that are missing, offline and live."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("yasa")

from offline import yasa_beside
from offline.scored import Scored
from offline.yasa_table import yasa_offline
from streamscore.errors import RecordingError
from streamscore.labels import AASM5
from streamscore.recordings.base import Recording

N_EPOCHS, SFREQ = 68, 100.0
MISSING = (20, 21)
EPOCH = round(30 * SFREQ)


def recording() -> Recording:
    """Noise of many loudnesses that lacks two epochs."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.uniform(5.0, 60.0, N_EPOCHS), EPOCH) * rng.standard_normal(N_EPOCHS * EPOCH)
    there = ~np.isin(np.arange(N_EPOCHS * EPOCH) // EPOCH, MISSING)
    return Recording(
        name="night",
        data=x[there, None].astype(np.float32),
        stamps_s=(np.arange(N_EPOCHS * EPOCH) / SFREQ)[there],
        sfreq=SFREQ,
        channels=("C3-A2",),
        units=("",),
        labels=AASM5,
        states=(np.arange(N_EPOCHS) % 5).astype(np.int8),
        epoch_s=30.0,
    )


def asked(night: Recording, epoch_s: float = 30.0) -> Scored:
    return Scored(
        subject="p1",
        session="p1",
        labels=AASM5,
        epoch_s=epoch_s,
        t0_s=0.0,
        lag_s=0.0,
        kind="final",
        truth=night.states,
        codes=np.full(N_EPOCHS, -1, np.int8),
        probs=np.full((N_EPOCHS, 5), np.nan, np.float32),
        stream_s=1.0,
        compute_s=0.0,
    )


def test_the_amplitude_is_the_one_assumed_and_the_unit_is_known() -> None:
    loud = yasa_beside.at_amplitude(recording(), 20.0)
    assert loud.data.std() == pytest.approx(20.0, rel=1e-5)
    assert loud.units == ("uV",)
    flat = recording()
    flat.data[:] = 3.0
    with pytest.raises(RecordingError, match="flat"):
        yasa_beside.at_amplitude(flat, 20.0)


def test_offline_it_scores_what_is_there_as_one_file() -> None:
    night = yasa_beside.at_amplitude(recording(), 20.0)
    one = yasa_beside.offline(night, asked(night))
    assert np.flatnonzero(one.codes < 0).tolist() == list(MISSING)
    probs = yasa_offline(night.data.T.astype(np.float64), 100)
    np.testing.assert_allclose(np.delete(one.probs, MISSING, axis=0), probs, atol=1e-6)
    assert one.codes[0] == probs[0].argmax()
    assert one.kind == "baseline"


def test_other_epochs_are_refused() -> None:
    night = yasa_beside.at_amplitude(recording(), 20.0)
    with pytest.raises(RecordingError, match="AASM stages of 30 s"):
        yasa_beside.offline(night, asked(night, epoch_s=20.0))


def test_live_it_is_scored_by_the_engine_and_waits_after_a_gap() -> None:
    night = yasa_beside.at_amplitude(recording(), 20.0)
    one = yasa_beside.live(night, "p1@0.5-h", "p1", lag_epochs=0)
    assert (one.truth[:60] < 0).all()
    assert (one.codes[62:] >= 0).all()
    assert (one.codes[list(MISSING)] < 0).all()
    assert one.lag_s == 0.0
