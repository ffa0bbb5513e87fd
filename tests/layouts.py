"""Short names for what samples are made of."""

from __future__ import annotations

from streamscore.types import Layout


def signals(sfreq: float, n_channels: int) -> Layout:
    """Channels ch1, ch2 …"""
    return Layout(sfreq, tuple(f"ch{k + 1}" for k in range(n_channels)))


def frames(sfreq: float, height: int, width: int, *channels: str) -> Layout:
    """Frames of a camera under one light, or under each of `channels`."""
    return Layout(sfreq, channels or ("frames",), (height, width))
