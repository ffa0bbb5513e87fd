"""The pictures that a VGG16 draws of a recording, drawn once and kept on the disk.

The network's own image stream draws them, step after step, so that a picture is the one that the engine would show
it; from run to run it keeps what it keeps over a gap. A picture takes 150 kB, a night 150 MB.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from offline.atomic import replacing
from offline.sequences import Sequences
from streamscore.models.base import State
from streamscore.models.vgg16 import Vgg16

#: Fields of the network's configuration that change the head alone.
_HEAD = {"head", "n_classes", "n_filters", "n_hidden", "dropout"}
#: Steps that are drawn at a time, which bounds memory.
_STEPS = 64


def draw(model: Vgg16, recording: Sequences, folder: Path) -> Sequences:
    """Return the whole pictures of `recording` with the states of the epochs that they describe.

    Parameters
    ----------
    model
        Whose image stream draws.
    recording
        Signals ``(n_steps, 1, step_samples)``.
    folder
        Where they are kept, under a name made of all that they depend on; what is there is not drawn again.

    Returns
    -------
    Sequences
        `x` is ``(n_pictures, 3, image_size, image_size)`` uint8 on the disk: a step is the three colours of one
        picture. Pictures of which a part lies in a gap or before the start are left out.

    Raises
    ------
    RecordError
        If the folder cannot be written.
    """
    timing = model.timing
    lag = timing.look_ahead_samples // timing.step_samples
    first = -(-timing.warm_up_samples // timing.step_samples) - 1
    # Rows of the signals at whose end a whole picture is drawn, run by run.
    drawn = [np.arange(begin + first, end) for begin, end in recording.runs]
    rows = np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
    ends = np.cumsum([len(part) for part in drawn])
    size = model.config.image_size
    shape = (len(rows), 3, size, size)
    path = folder / f"{recording.name}-{_key(model, recording)}.u8"
    if len(rows) and not path.is_file():
        _write(model, recording, first, path)
    return replace(
        recording,
        x=np.memmap(path, np.uint8, "r", shape=shape) if len(rows) else np.zeros(shape, np.uint8),
        y=recording.y[rows - lag],
        step=recording.step[rows - lag],
        runs=tuple((int(end) - len(part), int(end)) for part, end in zip(drawn, ends, strict=True) if len(part)),
    )


def _key(model: Vgg16, recording: Sequences) -> str:
    """Digest of the signals, the runs, the equalisation and how pictures are drawn."""
    told = {"config": model.config.model_dump(mode="json", exclude=_HEAD), "runs": recording.runs}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(model.images.table.numpy().tobytes())
    digest.update(np.ascontiguousarray(recording.x).tobytes())
    return digest.hexdigest()[:16]


def _write(model: Vgg16, recording: Sequences, first: int, path: Path) -> None:
    state: State | None = None
    stop = 0
    with replacing(path) as beside, beside.open("wb") as file, torch.inference_mode():
        for begin, end in recording.runs:
            n_missing = int(recording.step[begin] - recording.step[stop - 1]) - 1 if stop else 0
            state = model.initial_state(1) if state is None else model.state_after_gap(state, n_missing)
            for at in range(begin, end, _STEPS):
                stop = min(at + _STEPS, end)
                x = torch.from_numpy(np.asarray(recording.x[at:stop, 0], np.float32).reshape(1, -1))
                pictures, state = model.images.push(x, state)
                for row, picture in enumerate(pictures, at):
                    if row >= begin + first:
                        file.write(picture.to(torch.uint8).numpy().tobytes())
