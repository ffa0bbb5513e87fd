"""YASA, the sleep stager that the field uses, live.

Source: Vallat & Walker, "An open-source, high-performance tool for automated sleep staging", eLife 2021,
doi:10.7554/eLife.70092. The classifiers are those of the installed package ``yasa`` and nothing else; everything
before them is measured here epoch by epoch, and equals YASA on a file (tests/models/test_yasa.py).

YASA offline looks ahead three times. Here each becomes a choice:

* Its band-pass has zero phase and reaches 4.1 s to the right (29.1 s with a change of rate). An epoch is measured
  twice: when it ends, continued by reflection as at the end of a file; and for good when the next has come.
* Its centred mean of 7.5 min takes seven epochs to the right. A read at lag ``n`` averages over those that came.
* It scales by median and quantiles of the whole night; see ``scaling``.

**A read at lag n is what YASA says about the epoch that ended n epochs ago when given the file up to now** (with
``scaling="running"`` exactly so, but for the expected duration). At lag 7 the mean is complete and lacks only the
last filter reach of its outermost epoch (weight 1/64); at lag 8 later samples change nothing but the scaling.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from streamscore.features.yasa_classifier import STAGES, classifier_provenance, load_classifier
from streamscore.features.yasa_features import (
    EPOCH_S,
    EPOCH_SAMPLES,
    REACH_EPOCHS,
    SFREQ,
    Filter,
    Floats,
    measure,
    names,
    robust_statistics,
    smooth,
    smoothed_names,
)
from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing

IntArray = npt.NDArray[np.int64]

#: Lag in epochs from which on only the scaling can change: the centred mean, and one for the band-pass.
FULL_LAG_EPOCHS = REACH_EPOCHS + 1

ABOUT = About(
    title="YASA",
    source="Vallat & Walker, eLife 2021",
    published=("585 held-out nights of the National Sleep Research Resource: median accuracy 0.875",),
    examples={
        "yasa": Example({"lag_epochs": FULL_LAG_EPOCHS}, "AASM5", 100.0, ("EEG",), "uV"),
        "yasa-now": Example({"lag_epochs": 0}, "AASM5", 100.0, ("EEG",), "uV"),
        "yasa-eog-emg": Example({"eog": True, "emg": True}, "AASM5", 100.0, ("EEG", "EOG", "EMG"), "uV"),
    },
)


class Config(BaseModel):
    """Arguments of :class:`Yasa`.

    Parameters
    ----------
    sfreq
        Rate of the input in Hz: a whole number above 80. All is brought to 100 Hz as YASA does.
    eog, emg
        Whether these channels follow the EEG, in this order.
    age, male
        Years, and sex; both or neither. They choose another classifier.
    lag_epochs
        Lag of the final read, 0 to 8; there is a provisional one at lag 0 besides. 8 is YASA offline.
    scaling
        Median and spread that features are scaled by: ``running``, of the newest `history_s` up to now;
        ``calibration``, of the first `calibration_s`, and never again; ``stored``, of another night of the same
        person and electrodes (:func:`night_statistics`).
    calibration_s
        The prefix of ``calibration``. With ``running``, the least past that must be there before a read is used.
    history_s
        What ``running`` remembers.
    stored_center, stored_scale
        Of ``stored``: one number for each of ``features.yasa_features.smoothed_names``.
    expected_duration_s
        Of the recording. YASA knows how far the night has gone; here this tells it. After its end the night stays
        at its last epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sfreq: int = Field(SFREQ, gt=80)
    eog: bool = False
    emg: bool = False
    age: int | None = Field(None, gt=0, lt=120)
    male: bool | None = None
    lag_epochs: int = Field(REACH_EPOCHS, ge=0, le=FULL_LAG_EPOCHS)
    scaling: Literal["running", "calibration", "stored"] = "running"
    calibration_s: float = Field(1800.0, ge=EPOCH_S, multiple_of=EPOCH_S)
    history_s: float = Field(43_200.0, ge=(2 * REACH_EPOCHS + 1) * EPOCH_S, multiple_of=EPOCH_S)
    stored_center: tuple[float, ...] = ()
    stored_scale: tuple[float, ...] = ()
    expected_duration_s: float = Field(28_800.0, ge=2 * EPOCH_S)

    @model_validator(mode="after")
    def _check(self) -> Config:
        if (self.age is None) != (self.male is None):
            raise ValueError("give age and male both or neither; YASA has a classifier for both only")
        n_given = (len(self.stored_center), len(self.stored_scale))
        n_needed = len(smoothed_names(self.kinds)) if self.scaling == "stored" else 0
        if n_given != (n_needed, n_needed):
            raise ValueError(
                f"scaling {self.scaling!r} needs {n_needed} numbers in stored_center and in stored_scale, got "
                f"{n_given[0]} and {n_given[1]}; `python -m offline.yasa_table --statistics` writes them"
            )
        if not all(value > 0 for value in self.stored_scale):
            raise ValueError("stored_scale must be above 0 throughout")
        if self.scaling == "running" and self.calibration_s > self.history_s:
            raise ValueError(
                f"calibration_s {self.calibration_s:g} is longer than history_s {self.history_s:g}; shorten it"
            )
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the channels, in their order."""
        return ("eeg", *(kind for kind, is_there in (("eog", self.eog), ("emg", self.emg)) if is_there))


def provenance(config: Config) -> dict[str, str]:
    """Return what decides about the scores beside `config`: versions, and the classifier with its SHA-256."""
    return classifier_provenance(config.kinds, config.age is not None)


class Yasa(ScoringModel):
    """YASA's classifier on a stream of epochs; it has no weights to train and runs on the CPU.

    Input is in µV, unfiltered; one step is one epoch. Logits are log-probabilities. A step whose
    newest three epochs hold NaN or infinity gives NaN.

    State: the last two epochs ``(batch, channels, samples)``; features of completed epochs, newest last,
    ``(batch, n_history, n_features)``; epochs of the night so far and those since the last gap ``(batch, 2)``;
    median and spread ``(batch, 2, n_columns)``. A gap leaves the night as it is: lost epochs, and the one before
    them, whose right neighbour never came, are unknown in the means and statistics.
    """

    #: Epochs that are filtered together: the newest, the one that it completes, and the left reach of that.
    WINDOW_EPOCHS = 3

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = len(config.kinds)
        self.n_classes = len(STAGES)
        step = EPOCH_S * config.sfreq
        n_calibration = round(config.calibration_s / EPOCH_S) if config.scaling != "stored" else 0
        self.timing = Timing(
            step_samples=step,
            reads=tuple(
                Read(
                    lag_samples=lag * step,
                    warm_up_samples=max(lag + 1, n_calibration) * step,
                    settle_samples=(lag + 1) * step,
                )
                for lag in sorted({0, config.lag_epochs})
            ),
            receptive_field_samples=None,
        )
        self.lags = tuple(read.lag_samples // step for read in self.timing.reads)
        self._n_calibration = n_calibration
        n_smoothed = FULL_LAG_EPOCHS + REACH_EPOCHS
        self._n_history = {
            "running": round(config.history_s / EPOCH_S),
            "calibration": max(n_smoothed, n_calibration),
            "stored": n_smoothed,
        }[config.scaling]
        self._filter = Filter(config.sfreq)
        self._classifier = load_classifier(config.kinds, config.age is not None)
        self._n_features = len(names(config.kinds))
        columns = (*names(config.kinds), *smoothed_names(config.kinds), "time_hour", "time_norm", "age", "male")
        self._order = [columns.index(name) for name in self._classifier.inputs]
        self._last_start_s = (config.expected_duration_s // EPOCH_S - 1) * EPOCH_S

    def initial_state(self, batch_size: int) -> State:
        statistics = torch.zeros(batch_size, 2, 2 * self._n_features, dtype=torch.float64)
        statistics[:, 1] = 1.0
        if self.config.scaling == "stored":
            stored = (self.config.stored_center, self.config.stored_scale)
            statistics[:] = torch.tensor(stored, dtype=torch.float64)
        return (
            torch.zeros(batch_size, self.n_channels, (self.WINDOW_EPOCHS - 1) * self.timing.step_samples),
            torch.zeros(batch_size, self._n_history, self._n_features, dtype=torch.float64),
            torch.zeros(batch_size, 2, dtype=torch.int64),
            statistics,
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        raw, history, n_seen, statistics = (part.cpu().numpy().copy() for part in state)
        signals = np.concatenate((raw, x.detach().float().cpu().numpy()), axis=2)
        logits = np.empty((len(signals), n_steps, len(self.lags), self.n_classes), np.float32)
        step = self.timing.step_samples
        for row, signal in enumerate(signals):
            for k in range(n_steps):
                stop = (k + self.WINDOW_EPOCHS) * step
                n_window = min(int(n_seen[row, 1]) + 1, self.WINDOW_EPOCHS)
                window = signal[:, stop - n_window * step : stop].astype(np.float64)
                inputs = self.advance(window, history[row], n_seen[row], statistics[row])
                logits[row, k] = self.log_probs(inputs) if np.isfinite(window).all() else np.nan
        raw = signals[:, :, n_steps * step :].copy()
        new_state = tuple(torch.from_numpy(part).to(x.device) for part in (raw, history, n_seen, statistics))
        return torch.from_numpy(logits).to(x.device), new_state

    def state_after_gap(self, state: State, n_missing_steps: int) -> State:
        raw, history, n_seen, statistics = (part.clone() for part in state)
        # Before the first epoch there is no neighbour whose measure is still open.
        n_unknown = n_missing_steps + int(n_seen[0, 0] > 0)
        kept = history[:, min(n_unknown, history.shape[1]) :]
        unknown = history.new_full((len(history), history.shape[1] - kept.shape[1], history.shape[2]), torch.nan)
        n_seen[:, 0] += n_missing_steps
        n_seen[:, 1] = 0
        return raw, torch.cat((kept, unknown), dim=1), n_seen, statistics

    def advance(self, window: Floats, history: Floats, n_seen: IntArray, statistics: Floats) -> Floats:
        """Take one epoch in; return the classifier's inputs ``(n_reads, n_inputs)``.

        Parameters
        ----------
        window
            ``(channels, samples)`` of the newest epoch and up to two before it.
        history, n_seen, statistics
            One row of the state each, which is brought up to date in place.
        """
        if np.isfinite(window).all():
            measured = measure(self._filter(window)[:, -2 * EPOCH_SAMPLES :], self.config.kinds)
        else:
            measured = np.full((min(int(n_seen[1]) + 1, 2), self._n_features), np.nan)
        return self.follow(measured, self.lags, history, n_seen, statistics)

    def follow(
        self, measured: Floats, lags: tuple[int, ...], history: Floats, n_seen: IntArray, statistics: Floats
    ) -> Floats:
        """Do what :meth:`advance` does, from features on.

        Parameters
        ----------
        measured
            ``(2, n_features)``: the epoch before the newest, complete, and the newest, provisional; or
            ``(1, n_features)`` when the newest is the first, or the first after a gap.
        lags
            In epochs.
        """
        if len(measured) == 2:
            history[:-1] = history[1:]
            history[-1] = measured[0]
        n_seen += 1
        n_before = min(int(n_seen[0]), len(history) + 1) - 1
        table = np.concatenate((history[len(history) - n_before :], measured[-1:]))
        smoothed = smooth(table)
        scaling = self.config.scaling
        if scaling == "running" or (scaling == "calibration" and n_seen[0] <= self._n_calibration):
            statistics[:] = robust_statistics(smoothed)
        lag = np.array(lags)
        rows = np.maximum(n_before - lag, 0)
        center, scale = statistics
        start_s = np.maximum(n_seen[0] - 1 - lag, 0) * float(EPOCH_S)
        person = np.broadcast_to((self.config.age or 0, self.config.male or 0), (len(lags), 2))
        columns = (
            table[rows],
            (smoothed[rows] - center) / scale,
            start_s[:, None] / 3600.0,
            np.minimum(start_s / self._last_start_s, 1.0)[:, None],
            person,
        )
        # YASA rounds its features to single precision.
        inputs = np.concatenate(columns, axis=1)[:, self._order].astype(np.float32)
        return inputs.astype(np.float64)

    def log_probs(self, inputs: Floats) -> Floats:
        """Classify ``(n, n_inputs)``; return log-probabilities ``(n, 5)``."""
        return self._classifier.log_probs(inputs)


def night_statistics(config: Config, x: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return `stored_center` and `stored_scale` of a whole night.

    Parameters
    ----------
    config
        Says which channels and rate; its scaling does not matter.
    x
        ``(channels, samples)`` in µV; what does not fill an epoch at the end is left out.

    Raises
    ------
    ValueError
        If the channels do not fit, or it holds less than one epoch, NaN or infinity.
    """
    step = EPOCH_S * config.sfreq
    whole = np.asarray(x, np.float64)
    n_epochs = whole.shape[-1] // step
    if whole.ndim != 2 or len(whole) != len(config.kinds) or n_epochs == 0 or not np.isfinite(whole).all():
        raise ValueError(
            f"a night is ({len(config.kinds)} channels, at least {step} samples), all finite; got {whole.shape}"
        )
    filtered = Filter(config.sfreq)(whole[:, : n_epochs * step])
    center, scale = robust_statistics(smooth(measure(filtered, config.kinds)))
    return tuple(center.tolist()), tuple(scale.tolist())


def build(config: Config) -> Yasa:
    """Return the scorer.

    Raises
    ------
    ConfigError
        See :func:`streamscore.features.yasa_classifier.load_classifier`.
    """
    return Yasa(config).eval()
