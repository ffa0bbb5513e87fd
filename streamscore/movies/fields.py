"""What stands beside the frames: rate, times, lights, mask and labels, under the names that labs give them.

NumPy archives and HDF5 files share this; each key may have any of the names in :data:`NAMES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamscore.errors import ConfigError, RecordingError
from streamscore.labels import UNKNOWN_CODE, VOCABULARIES, code_of
from streamscore.types import IndexArray, TimeArray

#: What it is → the names under which it is looked for, in this order; case does not matter.
NAMES = {
    "rate": ("rate_hz", "frame_rate", "framerate", "fps", "sfreq", "sampling_rate", "fs", "rate"),
    "stamps": ("stamps_s", "timestamps", "time", "times", "time_s", "frame_t", "t"),
    "lights": ("lights", "channels", "channel_names"),
    "tags": ("tags", "light", "channel"),
    "mask": ("mask", "brain_mask", "xform_mask"),
}

#: Larger arrays stand for no rate, mask or list of times, and are not loaded.
MAX_FIELD_BYTES = 2**28


@dataclass(frozen=True)
class Fields:
    """What a file says about its frames.

    Parameters
    ----------
    rate_hz
        Items per second along the first axis as stored: frames, or cycles where an axis of lights follows.
    stamps_s
        ``(n_frames,)`` or ``(n_cycles,)`` times in seconds.
    lights
        Names in the order in which they flash.
    tags
        ``(n_frames,)`` light of each frame, an index into `lights`.
    mask
        ``(height, width)``, True inside the brain.
    labels, states, epoch_s, states_t0_s
        As in :class:`~streamscore.recordings.base.Recording`.
    """

    rate_hz: float | None = None
    stamps_s: TimeArray | None = None
    lights: tuple[str, ...] = ()
    tags: IndexArray | None = None
    mask: npt.NDArray[np.bool_] | None = None
    labels: tuple[str, ...] = ()
    states: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    epoch_s: float = 0.0
    states_t0_s: float = 0.0


def read_fields(where: str, values: Mapping[str, Any]) -> Fields:
    """Find the fields among the arrays and attributes of a file.

    Parameters
    ----------
    where
        File and place, for messages.
    values
        Name → array, number or text. Only what is looked for is loaded.

    Raises
    ------
    RecordingError
        Naming the key that cannot be used.
    """
    by_name = {name.lower(): name for name in values}
    found = {
        what: np.asarray(values[by_name[name]])
        for what, names in NAMES.items()
        for name in [next((name for name in names if name in by_name), "")]
        if name
    }
    lights = _texts(where, "lights", found["lights"]) if "lights" in found else ()
    tags = None
    if "tags" in found:
        lights, tags = read_tags(where, found["tags"].ravel(), lights)
    labels, states = _states(where, values)
    return Fields(
        rate_hz=_number(where, "rate", found["rate"], positive=True) if "rate" in found else None,
        stamps_s=_times(where, found["stamps"]) if "stamps" in found else None,
        lights=lights,
        tags=tags,
        mask=found["mask"] != 0 if "mask" in found else None,
        labels=labels,
        states=states,
        epoch_s=_number(where, "epoch_s", values.get("epoch_s"), positive=True) if labels else 0.0,
        states_t0_s=_number(where, "states_t0_s", values.get("states_t0_s", 0.0)) if labels else 0.0,
    )


def per_frame(fields: Fields, shape: tuple[int, ...]) -> Fields:
    """Spread what is said of each cycle over its frames, for a stack with an axis of lights.

    Parameters
    ----------
    fields
        As they stand in the file.
    shape
        Of the stack; with three axes nothing changes. The frames of a cycle are taken to be evenly spaced.
    """
    if len(shape) == 3:
        return fields
    n_cycles, n_lights = shape[:2]
    rate_hz, stamps_s = fields.rate_hz, fields.stamps_s
    if stamps_s is not None and len(stamps_s) == n_cycles > 1:
        cycle_s = 1.0 / rate_hz if rate_hz else float(np.median(np.diff(stamps_s)))
        stamps_s = (stamps_s[:, None] + np.arange(n_lights) * cycle_s / n_lights).ravel()
    return replace(
        fields,
        rate_hz=rate_hz * n_lights if rate_hz else None,
        stamps_s=stamps_s,
        lights=fields.lights or tuple(f"light_{k}" for k in range(n_lights)),
        tags=np.tile(np.arange(n_lights), n_cycles) if n_lights > 1 else None,
    )


def read_tags(where: str, tags: npt.NDArray[Any], lights: tuple[str, ...]) -> tuple[tuple[str, ...], IndexArray]:
    """Return lights and indices of tags that are names or indices; without `lights`, in order of appearance."""
    if tags.dtype.kind in "iu":
        n_lights = len(lights) or int(tags.max(initial=0)) + 1
        if tags.min(initial=0) < 0 or tags.max(initial=0) >= n_lights:
            raise RecordingError(f"{where}: tags must be indices of the {n_lights} lights, counted from 0")
        return lights or tuple(f"light_{k}" for k in range(n_lights)), tags.astype(np.int64)
    names = _texts(where, "tags", tags)
    lights = lights or tuple(dict.fromkeys(names))
    unknown = sorted(set(names) - set(lights))
    if unknown:
        raise RecordingError(f"{where}: tag {unknown[0]!r} is none of its lights, {', '.join(lights)}")
    index = {name: k for k, name in enumerate(lights)}
    return lights, np.array([index[name] for name in names], np.int64)


def _states(where: str, values: Mapping[str, Any]) -> tuple[tuple[str, ...], npt.NDArray[np.int8]]:
    if "states" not in values:
        return (), np.zeros(0, np.int8)
    missing = [key for key in ("labels", "epoch_s") if key not in values]
    if missing:
        raise RecordingError(
            f"{where}: states without {missing[0]}; add labels (names in the order of the codes, or one of "
            f"{', '.join(VOCABULARIES)}) and epoch_s"
        )
    names = _texts(where, "labels", np.asarray(values["labels"]))
    labels = VOCABULARIES.get(names[0], names) if len(names) == 1 else names
    states = np.asarray(values["states"]).ravel()
    if states.dtype.kind in "iu":
        if len(states) and int(states.max()) >= len(labels):
            raise RecordingError(f"{where}: states must be below {len(labels)}, -1 where unscored")
        return labels, np.maximum(states.astype(np.int64), UNKNOWN_CODE).astype(np.int8)
    try:
        return labels, np.array([code_of(name, labels) for name in _texts(where, "states", states)], np.int8)
    except ConfigError as error:
        raise RecordingError(f"{where}: states: {error}, or UNKNOWN") from error


def _times(where: str, array: npt.NDArray[Any]) -> TimeArray:
    if array.dtype.kind not in "iuf":
        raise RecordingError(f"{where}: times are of type {array.dtype}; save numbers of seconds")
    return array.astype(np.float64).ravel()


def _number(where: str, key: str, value: Any, *, positive: bool = False) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise RecordingError(f"{where}: {key} must be one number, but is {array.dtype} of shape {array.shape}")
    number = float(array.ravel()[0])
    if not np.isfinite(number) or (positive and number <= 0):
        raise RecordingError(f"{where}: {key} is {number}; it must be {'above 0' if positive else 'finite'}")
    return number


def _texts(where: str, key: str, array: npt.NDArray[Any]) -> tuple[str, ...]:
    """Texts of an array of text or bytes; HDF5 gives its variable-length texts as objects."""
    items = np.atleast_1d(array).ravel().tolist()
    texts = tuple(item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in items)
    if not all(isinstance(text, str) for text in texts):
        raise RecordingError(f"{where}: {key} must be text, but is of type {array.dtype}")
    return texts
