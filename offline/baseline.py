"""A simple scorer to stand beside: what one epoch tells by itself, without any memory.

A network has to be worth its weights. The baseline describes each epoch by a few numbers and learns from them by
gradient boosting or logistic regression:

* EEG and EMG: log power in bands by Welch's method, absolute and relative;
* streams of features (at most a sample a second): their means, or logarithms of these where all are positive;
* regions of a calcium movie: their means, z-scored over the recording;
* movies: means of 8 × 8 tiles, z-scored over the recording.

z-scores over a whole recording use what comes later, so that a baseline with them is not a live scorer. Band
powers have none: they made it worse where subjects differ in how much of each state they have (UCDDB). It is
scored on the epochs on which the bundle is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from offline.comparison import truth_on_grid, vocabulary_of
from offline.evaluate import entries_of, prepared
from offline.scored import Scored
from offline.scoring import inside
from offline.spans import SpanDataset
from offline.windows import whole_epochs
from streamscore.bundle import Bundle
from streamscore.errors import ConfigError, RecordingError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from streamscore.sources.base import select_channels
from streamscore.types import TimeArray

if TYPE_CHECKING:
    from offline.datasets.base import Dataset

LEARNERS = {"booster": "gradient boosting", "logistic": "logistic regression"}
Floats = npt.NDArray[np.float64]

EDGES_HZ = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 25.0, 30.0, 45.0, 60.0)
#: Welch's segments.
SEGMENT_S = 2.0
#: Signals slower than this hold no bands; regions are imaged at 10 to 30 Hz.
LEAST_BAND_SFREQ = 50.0
#: Faster streams are not taken for features that somebody computed.
MOST_FEATURE_SFREQ = 1.0
#: Tiles along each side of a frame.
TILES = 8
#: Frames read at a time.
_FRAMES = 256
_FLOOR = 1e-12
_NOT_WHOLE = "samples of the epoch are missing"
_NOT_BESIDE = "the bundle did not score it either"


class Baseline:
    """A learner and what describes an epoch to it.

    Parameters
    ----------
    bundle
        Beside which it stands: its channels and states are used.
    learner
        One of :data:`LEARNERS`; ``"auto"`` takes logistic regression for regions and movies, else the booster.
    channels
        Input of the bundle → channel of the recordings.
    merge
        As for the bundle.
    seed
        Of the booster.

    Attributes
    ----------
    name
        What it is, in words; once it has seen a recording.

    Raises
    ------
    ConfigError
        If there is no such learner.
    """

    def __init__(
        self,
        bundle: Bundle,
        learner: str = "auto",
        *,
        channels: Mapping[str, str] | None = None,
        merge: bool = False,
        seed: int = 0,
    ) -> None:
        self._bundle = bundle
        if learner not in ("auto", *LEARNERS):
            raise ConfigError(f"unknown baseline {learner!r}; choose auto, {', '.join(LEARNERS)}")
        self._learner = learner
        self._channels = channels
        self._merge = merge
        self._seed = seed
        self._takes_logs: bool | None = None
        self._model: Any = None
        self.name = ""

    def fit(self, dataset: Dataset | SpanDataset, subjects: Sequence[str], epoch_s: float) -> Baseline:
        """Learn from the labelled epochs of `subjects`, which may be spans.

        Raises
        ------
        ConfigError
            If there is no such subject, or scikit-learn is not installed.
        RecordingError
            If their epochs are of fewer than two states.
        """
        x: list[Floats] = []
        y: list[npt.NDArray[np.int8]] = []
        for entry, span in entries_of(dataset, subjects):
            recording = prepared(dataset.read(entry))
            delay_s = recording.sample_delay_s if isinstance(recording, Movie) else 0.0
            t0_s = recording.states_t0_s + delay_s
            states = vocabulary_of(self._bundle.spec.labels, recording.labels, entry.session, merge=self._merge)
            truth = states.truth(truth_on_grid(recording, t0_s, epoch_s, 0))
            truth = inside(truth, t0_s, epoch_s, span, float(recording.stamps_s[0]))
            values = self._describe(recording, t0_s, epoch_s, len(truth))
            use = (truth >= 0) & np.isfinite(values).all(axis=1)
            x.append(values[use])
            y.append(truth[use])
        codes: npt.NDArray[np.int8] = np.concatenate(y)
        n_states = len(np.unique(codes))
        if n_states < 2:
            raise RecordingError(
                f"the baseline's subjects {', '.join(subjects)} have {len(codes)} usable epochs of {n_states} "
                "state(s), where two states are needed; name others with --baseline-subjects"
            )
        self._model = self._new_model().fit(np.concatenate(x), codes)
        return self

    def score(self, recording: Recording | Movie, beside: Scored) -> Scored:
        """Score the epochs that `beside` has scored, so that both have the same; a movie is closed.

        Raises
        ------
        RecordingError
            If none of them is whole.
        """
        begun_s = time.perf_counter()
        values = self._describe(recording, beside.t0_s, beside.epoch_s, len(beside.truth))
        whole = np.isfinite(values).all(axis=1)
        reason = np.where(beside.codes < 0, 1, np.where(whole, -1, 0)).astype(np.int8)
        whole = reason < 0
        if not whole.any():
            raise RecordingError(f"{beside.session}: the baseline finds no whole epoch; leave the recording out")
        probs = np.full(beside.probs.shape, np.nan, np.float32)
        probs[whole] = 0.0
        probs[np.ix_(whole, self._model.classes_)] = self._model.predict_proba(values[whole])
        return beside.answered_by(
            probs,
            compute_s=time.perf_counter() - begun_s,
            reasons=(_NOT_WHOLE, _NOT_BESIDE),
            reason=reason,
        )

    def _describe(self, recording: Recording | Movie, t0_s: float, epoch_s: float, n: int) -> Floats:
        """Numbers of each epoch of a grid ``(n, n_features)``; NaN where samples are missing."""
        starts_s = np.asarray(t0_s + np.arange(n) * epoch_s, np.float64)
        if isinstance(recording, Movie):
            self._choose("logistic", f"means of {TILES} × {TILES} tiles")
            with recording:
                return _z_scored(_tiles(recording, t0_s - recording.sample_delay_s, epoch_s, n))
        _, columns = select_channels(
            recording.name, recording.channels, self._bundle.spec.channels, self._channels
        )
        if recording.sfreq >= LEAST_BAND_SFREQ and epoch_s >= SEGMENT_S:
            self._choose("booster", "band powers")
            return _bands(recording, columns, starts_s, epoch_s)
        means = _means(recording, columns, starts_s, epoch_s)
        if recording.sfreq <= MOST_FEATURE_SFREQ:
            self._choose("booster", "the values themselves")
            if self._takes_logs is None:  # what the first recording to learn from decides, holds for all
                self._takes_logs = bool((means[np.isfinite(means)] > 0).all())
            return np.log10(np.maximum(means, _FLOOR)) if self._takes_logs else means
        self._choose("logistic", "means")
        return _z_scored(means)

    def _choose(self, learner: str, features: str) -> None:
        self._learner = learner if self._learner == "auto" else self._learner
        self.name = f"{LEARNERS[self._learner]} on {features} of single epochs"

    def _new_model(self) -> Any:
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler
        except ModuleNotFoundError as error:
            raise ConfigError(
                'the baseline needs scikit-learn; run: pip install "streamscore[train]", or leave out --baseline'
            ) from error
        if self._learner == "booster":
            return HistGradientBoostingClassifier(random_state=self._seed, max_iter=150)
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))


def _bands(recording: Recording, columns: list[int], starts_s: TimeArray, epoch_s: float) -> Floats:
    """Log power of each band and channel, absolute, and relative to all bands together."""
    edges_hz = [edge for edge in EDGES_HZ if edge <= recording.sfreq / 2]
    n_features = len(columns) * (2 * (len(edges_hz) - 1) + 1)
    out = np.full((len(starts_s), n_features), np.nan)
    for rows, samples in whole_epochs(recording, starts_s, epoch_s, columns):
        f_hz, density = signal.welch(samples, recording.sfreq, nperseg=round(SEGMENT_S * recording.sfreq), axis=1)
        bands = [density[:, (f_hz >= low) & (f_hz < high)].mean(axis=1) for low, high in pairwise(edges_hz)]
        power = np.stack(bands, axis=1).astype(np.float64)
        total = power.sum(axis=1, keepdims=True)
        absolute, relative = np.log(power + _FLOOR), np.log((power + _FLOOR) / (total + _FLOOR))
        out[rows] = np.concatenate([absolute, relative, np.log(total + _FLOOR)], axis=1).reshape(len(rows), -1)
    return out


def _means(recording: Recording, columns: list[int], starts_s: TimeArray, epoch_s: float) -> Floats:
    out = np.full((len(starts_s), len(columns)), np.nan)
    for rows, samples in whole_epochs(recording, starts_s, epoch_s, columns):
        out[rows] = samples.mean(axis=1)
    return out


def _tiles(movie: Movie, t0_s: float, epoch_s: float, n: int) -> Floats:
    """Mean of each tile under each light over each epoch ``(n, n_lights * tiles)``."""
    height, width = movie.frame_shape
    n_lights = max(len(movie.lights), 1)
    rows = [part for part in np.array_split(np.arange(height), TILES) if len(part)]
    columns = [part for part in np.array_split(np.arange(width), TILES) if len(part)]
    n_tiles = len(rows) * len(columns)
    epoch = np.floor((movie.stamps_s - t0_s) / epoch_s + 1e-6).astype(int)
    light = movie.numbers % n_lights
    sums = np.zeros((n, n_lights, n_tiles))
    counts = np.zeros((n, n_lights))
    for begin in range(0, movie.n_frames, _FRAMES):
        frames = movie.read(begin, begin + _FRAMES).astype(np.float64)
        by_row = np.add.reduceat(frames, [part[0] for part in rows], axis=1)
        tiles = np.add.reduceat(by_row, [part[0] for part in columns], axis=2).reshape(len(frames), -1)
        at = slice(begin, begin + len(frames))
        use = (epoch[at] >= 0) & (epoch[at] < n) & np.isfinite(tiles).all(axis=1)
        np.add.at(sums, (epoch[at][use], light[at][use]), tiles[use])
        np.add.at(counts, (epoch[at][use], light[at][use]), 1.0)
    means = np.full(sums.shape, np.nan)
    np.divide(sums, counts[:, :, None], out=means, where=counts[:, :, None] > 0)
    return means.reshape(n, -1)


def _z_scored(values: Floats) -> Floats:
    """z-score of each column over the recording; a column that never changes is 0."""
    whole = np.isfinite(values).all(axis=1)
    if not whole.any():
        return values
    mean, std = values[whole].mean(axis=0), values[whole].std(axis=0)
    return np.asarray((values - mean) / np.where(std > 0, std, 1.0), np.float64)
