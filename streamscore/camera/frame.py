"""One frame as a camera sent it, before anybody knows under which light it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame and what was sent with it.

    Parameters
    ----------
    data
        ``(height, width)`` of any integer or float type and byte order; may be a read-only view of the message.
    device_s
        Device time of the exposure in seconds; NaN where the camera sends none.
    counter
        Frame counter as sent, which may wrap; ``None`` where there is none.
    tag
        What was sent to tell the light; ``None`` where there is nothing.
    received_s
        Wall time (``local_clock``) at which it was taken.
    fresh
        Whether that was its arrival: the engine waited for it, and nothing newer was there.
    """

    data: npt.NDArray[np.generic[Any]]
    device_s: float
    counter: int | None
    tag: str | int | None
    received_s: float
    fresh: bool = True
