"""Checkpoints that are whole, and that hold numbers and no code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from offline.atomic import replacing
from streamscore.errors import RecordError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is run.

    Raises
    ------
    RecordError
        If it is damaged, or holds anything but numbers, texts and containers of these.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch tells damage by many kinds of exceptions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(
            f"{path}: checkpoint cannot be read ({reason}); remove {path.parent} to train its stage anew"
        ) from error
    return content


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside and renames, so that who is killed or out of room leaves the last good checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        held = io.BytesIO()  # torch's own writing tells of a full disk in riddles
        torch.save(checkpoint, held)
        with replacing(Path(path)) as beside:
            beside.write_bytes(held.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))
