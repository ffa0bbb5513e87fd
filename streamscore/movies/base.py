"""A movie on disk, whatever file it came from: frames by number, and what is known about them.

Adding a format is adding one file here with a function ``read(path, dataset) -> (Frames, Fields)`` and one line
in :data:`READERS`. Packages that only one format needs are imported there, so that they stay optional.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from streamscore.errors import RecordingError
from streamscore.movies.fields import Fields
from streamscore.movies.frames import Frames, Pixels
from streamscore.movies.numbering import frame_numbers
from streamscore.types import IndexArray, TimeArray

#: File suffix → module of this folder.
READERS = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "matlab",
    ".nwb": "nwb",
}

#: Suffixes that files of signals have too.
SHARED_SUFFIXES = (".npy", ".npz")

#: Rates that differ by more than this share contradict each other.
_RATE_TOLERANCE = 0.03


@dataclass(frozen=True)
class Movie:
    """The frames of one camera.

    Parameters
    ----------
    name
        File name without suffix.
    frames
        Gives them by number.
    rate_hz
        Frames per second as stored, those of all lights together.
    stamps_s
        ``(n_frames,)`` float64, ascending. Gaps are steps larger than one frame: nothing is filled in.
    lights
        Lights in the order in which they flash; empty if the file does not tell.
    tags
        ``(n_frames,)`` light of each frame, an index into `lights`; ``None`` if the file does not tell.
    mask
        ``(height, width)``, True inside the brain; ``None`` if the file has none.
    labels, states, epoch_s, states_t0_s
        As in :class:`~streamscore.recordings.base.Recording`; empty without labels.
    """

    name: str
    frames: Frames
    rate_hz: float
    stamps_s: TimeArray
    lights: tuple[str, ...] = ()
    tags: IndexArray | None = None
    mask: npt.NDArray[np.bool_] | None = None
    labels: tuple[str, ...] = ()
    states: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    epoch_s: float = 0.0
    states_t0_s: float = 0.0

    @property
    def n_frames(self) -> int:
        """Number of frames, those of all lights together."""
        return self.frames.shape[0]

    @property
    def sfreq(self) -> float:
        """Samples per second: cycles of all lights."""
        return self.rate_hz / max(len(self.lights), 1)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.frames.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels as stored."""
        return self.frames.dtype

    @cached_property
    def numbers(self) -> IndexArray:
        """``(n_frames,)`` number of each frame as the camera would have counted; jumps where stamps show a loss.

        Number modulo lights is the light of the frame.
        """
        return frame_numbers(self.stamps_s, self.rate_hz, max(len(self.lights), 1), self.tags)

    @property
    def sample_delay_s(self) -> float:
        """Time from the first to the last frame of a cycle: samples are stamped so much later than they begin.

        Labels are on the clock of the frames; on that of the samples their first epoch starts at
        ``states_t0_s + sample_delay_s``.
        """
        last = max(len(self.lights), 1) - 1
        firsts = np.flatnonzero(self.numbers[: self.n_frames - last] % (last + 1) == 0)
        firsts = firsts[self.numbers[firsts + last] - self.numbers[firsts] == last]
        return float(np.median(self.stamps_s[firsts + last] - self.stamps_s[firsts])) if len(firsts) else 0.0

    @property
    def duration_s(self) -> float:
        """Time from the first frame to the end of the last one, gaps included."""
        return float(self.stamps_s[-1] - self.stamps_s[0] + 1.0 / self.rate_hz)

    def tag(self, at: int) -> str | None:
        """Name of the light of frame `at`; ``None`` if the file does not tell."""
        return None if self.tags is None else self.lights[self.tags[at]]

    def read(self, start: int, stop: int) -> Pixels:
        """Return frames ``[start, stop)`` as ``(n, height, width)`` in the type of the file; fewer at the end.

        Raises
        ------
        RecordingError
            If they cannot be read: the file is damaged there, or closed.
        """
        start, stop = (min(max(k, 0), self.n_frames) for k in (start, stop))
        if start >= stop:
            return np.zeros((0, *self.frame_shape), self.dtype)
        try:
            frames = self.frames.read(start, stop)
        except Exception as error:  # each library has its own ways to say that a file is damaged
            raise RecordingError(
                f"{self.name}: frames {start} to {stop - 1} cannot be read ({error}); copy the file again "
                "from its source"
            ) from error
        if frames.shape != (stop - start, *self.frame_shape):
            raise RecordingError(
                f"{self.name}: frames {start} to {stop - 1} came as {frames.shape}; the file is damaged"
            )
        return frames

    def close(self) -> None:
        """Release the file. May be called more than once."""
        self.frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_movie(
    path: Path | str,
    *,
    dataset: str | None = None,
    rate_hz: float | None = None,
    lights: Sequence[str] | None = None,
) -> Movie:
    """Open the movie at `path`; its frames stay on disk.

    Parameters
    ----------
    path
        One of :data:`READERS`.
    dataset
        Which movie of a file that holds several: path of a dataset, key of an array, number of a series.
    rate_hz
        Frames per second, all lights together; wins over a rate in the file, and must fit times in the file.
    lights
        Names of the lights in the order in which they flash; win over names in the file, which must be as many.

    Raises
    ------
    RecordingError
        If the file is absent, of an unknown kind, truncated, unsafe, holds no movie or says no rate.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    module_name = READERS.get(path.suffix.lower())
    if module_name is None:
        raise RecordingError(f"{path}: unknown kind of movie {path.suffix!r}; known are {', '.join(READERS)}")
    try:
        module = importlib.import_module(f"streamscore.movies.{module_name}")
    except ModuleNotFoundError as error:
        raise RecordingError(
            f"{path}: needs the package {error.name}; run: pip install 'streamscore[movies]'"
        ) from error
    try:
        frames, fields = module.read(path, dataset)
    except RecordingError:
        raise
    except Exception as error:  # as above
        raise RecordingError(
            f"{path}: damaged or truncated ({error}); copy the file again from its source"
        ) from error
    try:
        return _join(path, frames, fields, rate_hz, tuple(lights or ()))
    except RecordingError:
        frames.close()
        raise


def is_movie(path: Path | str, dataset: str | None = None) -> bool:
    """Whether the file at `path` holds a movie and not signals; told by its name, for arrays by looking."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READERS or not path.is_file():
        return False
    if suffix not in SHARED_SUFFIXES:
        return True
    try:
        stacks: list[str] = importlib.import_module(f"streamscore.movies.{READERS[suffix]}").stacks_of(path)
        return dataset in stacks if dataset else bool(stacks)
    except Exception:
        return False  # whoever reads signals tells what is wrong


def _join(path: Path, frames: Frames, fields: Fields, rate_hz: float | None, lights: tuple[str, ...]) -> Movie:
    """Compare what the file says with its frames and with what the user says."""
    n_frames = frames.shape[0]
    if lights and fields.lights and len(lights) != len(fields.lights):
        raise RecordingError(
            f"{path}: has {len(fields.lights)} lights ({', '.join(fields.lights)}), but {len(lights)} are named: "
            f"{', '.join(lights)}"
        )
    if fields.tags is not None and len(fields.tags) != n_frames:
        raise RecordingError(f"{path}: has {n_frames} frames but {len(fields.tags)} tags; give one a frame")
    if fields.mask is not None and fields.mask.shape != frames.shape[1:]:
        raise RecordingError(f"{path}: frames are {frames.shape[1:]} but the mask is {fields.mask.shape}")
    lights = lights or fields.lights
    rate_hz, stamps_s = _times(path, frames, fields, rate_hz, max(len(lights), 1))
    return Movie(
        name=path.stem,
        frames=frames,
        rate_hz=rate_hz,
        stamps_s=stamps_s,
        lights=lights,
        tags=fields.tags,
        mask=fields.mask,
        labels=fields.labels,
        states=fields.states,
        epoch_s=fields.epoch_s,
        states_t0_s=fields.states_t0_s,
    )


def _times(
    path: Path, frames: Frames, fields: Fields, rate_hz: float | None, n_lights: int
) -> tuple[float, TimeArray]:
    """Return rate and stamps of all frames."""
    n_frames = frames.shape[0]
    stamps_s = fields.stamps_s
    rate_hz = rate_hz or fields.rate_hz
    if stamps_s is None:
        if rate_hz is None:
            raise RecordingError(f"{path}: does not say how many frames a second it has; set `rate_hz`")
        return rate_hz, np.arange(n_frames) / rate_hz
    if len(stamps_s) != n_frames:
        raise RecordingError(f"{path}: has {n_frames} frames but {len(stamps_s)} times; give one a frame")
    wrong = np.flatnonzero(~np.isfinite(stamps_s) | ~(np.diff(stamps_s, prepend=-np.inf) > 0))
    if len(wrong):
        where = int(wrong[0])
        raise RecordingError(
            f"{path}: times must be finite and ascending, but that of frame {where} is {stamps_s[where]}; "
            "repair them"
        )
    if n_frames > n_lights:
        told_hz = _told_rate_hz(stamps_s, n_lights, fields.tags)
        if rate_hz is not None and abs(told_hz / rate_hz - 1) > _RATE_TOLERANCE:
            raise RecordingError(
                f"{path}: its times, taken for seconds, tell {told_hz:.5g} frames a second, but the rate is "
                f"{rate_hz:g} Hz; correct one of them"
            )
        rate_hz = rate_hz or told_hz
    if rate_hz is None:
        raise RecordingError(f"{path}: a single frame does not tell a rate; set `rate_hz`")
    return rate_hz, stamps_s


def _told_rate_hz(stamps_s: TimeArray, n_lights: int, tags: IndexArray | None) -> float:
    """Rate between the first and the last frame of one light, losses counted; a nominal one has few digits."""
    near_hz = n_lights / float(np.median(stamps_s[n_lights:] - stamps_s[:-n_lights]))
    numbers = frame_numbers(stamps_s, near_hz, n_lights, tags)
    last = np.flatnonzero((numbers - numbers[0]) % n_lights == 0)[-1]
    if last == 0:
        return near_hz
    rate_hz = float((numbers[last] - numbers[0]) / (stamps_s[last] - stamps_s[0]))
    return float(f"{rate_hz:.4g}")
