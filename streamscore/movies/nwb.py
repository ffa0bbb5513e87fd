"""Neurodata Without Borders: a ``OnePhotonSeries``, in acquisition or in any processing module.

The standard orders its axes ``(frame, x, y)``, so images come out turned to ``(frame, height, width)``. Times
are `timestamps`, or `starting_time` and `rate`. The light of each frame is `control`, an index into
`control_description`. `conversion` and `offset` are not applied: frames are what the camera gave.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBHDF5IO
from pynwb.ophys import OnePhotonSeries

from streamscore.errors import RecordingError
from streamscore.movies.fields import Fields, read_tags
from streamscore.movies.frames import ArrayFrames, check_stack, choose


def read(path: Path, dataset: str | None = None) -> tuple[ArrayFrames, Fields]:
    """Open one series of the file; see :func:`streamscore.movies.base.read_movie`."""
    io = NWBHDF5IO(path, "r")
    try:
        items = io.read().objects.values()
        found = {item.name: item for item in items if isinstance(item, OnePhotonSeries)}
        series = found[choose(str(path), dataset, sorted(found))]
        where = f"{path}: series {series.name!r}"
        if series.external_file is not None:
            files = ", ".join(str(name) for name in series.external_file)
            raise RecordingError(f"{where}: its frames are in files of their own ({files}); open these instead")
        check_stack(where, series.data.shape, series.data.dtype)
        if len(series.data.shape) == 4:
            raise RecordingError(f"{where}: is {series.data.shape}, a volume; only planes can be scored")
        return ArrayFrames(series.data, io.close, turned=True), _fields(where, series)
    except BaseException:
        io.close()
        raise


def _fields(where: str, series: OnePhotonSeries) -> Fields:
    if series.timestamps is not None:
        fields = Fields(stamps_s=np.asarray(series.timestamps[:], np.float64))
    else:
        starting_s = series.starting_time or 0.0
        stamps_s = starting_s + np.arange(series.data.shape[0]) / series.rate
        fields = Fields(rate_hz=float(series.rate), stamps_s=stamps_s)
    if series.control is None:
        return fields
    names: Any = series.control_description
    described = () if names is None else tuple(str(name) for name in names[:])
    lights, tags = read_tags(where, np.asarray(series.control[:]), described)
    return replace(fields, lights=lights, tags=tags)
