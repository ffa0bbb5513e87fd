"""Frames on a terminal: two pixels to a character, in colours whose steps look equal.

Colours are viridis and inferno of Matplotlib (S. van der Walt and N. Smith, CC0), between 17 of their points.
What lies outside the brain is left to the terminal's own background.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
from rich.style import Style
from rich.text import Text

from streamscore.camera.reduce import Reducer
from streamscore.panel.art import DIM, colour_of
from streamscore.types import FloatArray

ImageArray = npt.NDArray[np.uint8]
MaskArray = npt.NDArray[np.bool_]

_VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 "
    "d8e219 fde725"
)
_INFERNO = (
    "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d24644 e45a31 f1731d f98e09 fcac11 f9cb35 "
    "f2ea69 fcffa4"
)
#: Levels of each colour: few enough for neighbouring characters to be alike, and more than an eye tells apart.
N_LEVELS = 64
#: Darkest and brightest grey of a frame that lies under colours, in parts of white.
GREYS = (0.1, 0.6)
#: Least heat that is coloured, and the part of full strength that heat is at most drawn with.
COLD, STRENGTH = 0.15, 0.9


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one decision rests on.

    Parameters
    ----------
    state
        Code of the state that is explained: the most probable one.
    heat
        ``(height, width)`` float32 of the frame's size: 0 where nothing speaks for it, 1 where most does; all 0
        where nothing does anywhere.
    """

    state: int
    heat: FloatArray


@dataclass(frozen=True, eq=False)
class View:
    """What there is to draw.

    Parameters
    ----------
    number
        Rises with each frame.
    t_s
        Stream time of the frame.
    frame
        ``(height, width)`` float32.
    span
        Values that the first and the last colour stand for.
    background
        ``(height, width)`` bool: pixels that never changed, which are outside the brain.
    received_s
        ``time.monotonic()`` at its arrival.
    explanation
        The newest, of this frame or one shortly before; ``None`` without.
    """

    number: int
    t_s: float
    frame: FloatArray
    span: tuple[float, float]
    background: MaskArray
    received_s: float
    explanation: Explanation | None = None


def _table(points: str) -> FloatArray:
    corners = np.array([list(bytes.fromhex(point)) for point in points.split()], np.float32)
    at = np.linspace(0.0, len(corners) - 1.0, N_LEVELS)
    columns = [np.interp(at, np.arange(len(corners)), corners[:, k]) for k in range(3)]
    return np.stack(columns, axis=1).astype(np.float32)


VIRIDIS, INFERNO = _table(_VIRIDIS), _table(_INFERNO)


@lru_cache(maxsize=16)
def _reducer(shape: tuple[int, int], small: tuple[int, int]) -> Reducer:
    return Reducer(shape, np.float32, small, "area")


def reduced(frame: FloatArray, outside: MaskArray, shape: tuple[int, int]) -> tuple[FloatArray, MaskArray]:
    """Return means of the pixels inside over `shape` ``(height, width)``, and where fewer than half are inside."""
    inside = ~outside & np.isfinite(frame)
    sums, shares = np.empty(shape, np.float32), np.empty(shape, np.float32)
    reducer = _reducer((frame.shape[0], frame.shape[1]), shape)
    reducer(np.where(inside, frame, np.float32(0.0)), sums)
    reducer(inside.astype(np.float32), shares)
    np.divide(sums, np.maximum(shares, 1e-6), out=sums)
    return sums, shares < 0.5


def _levels(values: FloatArray, low: float, high: float) -> FloatArray:
    scaled: FloatArray = np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)
    return scaled


def _coloured(shares: FloatArray, table: FloatArray) -> FloatArray:
    colours: FloatArray = table[np.rint(shares * (N_LEVELS - 1)).astype(np.intp)]
    return colours


def frame_picture(view: View, shape: tuple[int, int]) -> tuple[ImageArray, MaskArray]:
    """Draw the frame; return ``(height, width, 3)`` and where nothing is to be drawn."""
    values, outside = reduced(view.frame, view.background, shape)
    return np.rint(_coloured(_levels(values, *view.span), VIRIDIS)).astype(np.uint8), outside


def heat_picture(view: View, shape: tuple[int, int]) -> tuple[ImageArray, MaskArray]:
    """Draw what the decision rests on, over the frame in grey."""
    values, outside = reduced(view.frame, view.background, shape)
    n_greys = N_LEVELS // 4
    shares = np.rint(_levels(values, *view.span) * n_greys) / n_greys
    grey = 255 * (GREYS[0] + (GREYS[1] - GREYS[0]) * shares)
    image = np.repeat(grey[..., None], 3, axis=2)
    if view.explanation is not None:
        heat, _ = reduced(view.explanation.heat, view.background, shape)
        strength = STRENGTH * _levels(heat, COLD, 1.0)[..., None]
        image = (1 - strength) * image + strength * _coloured(_levels(heat, 0.0, 1.0), INFERNO)
    return np.rint(image).astype(np.uint8), outside


def half_blocks(image: ImageArray, outside: MaskArray) -> list[Text]:
    """Return an image ``(height, width, 3)`` of an even height as lines, two rows of pixels each."""
    lines = []
    for y in range(0, len(image), 2):
        line = Text()
        cells = [_cell(*pair) for pair in zip(image[y], image[y + 1], outside[y], outside[y + 1], strict=True)]
        for (char, style), run in groupby(cells):
            line.append(char * len(list(run)), style)
        lines.append(line)
    return lines


def _cell(upper: ImageArray, lower: ImageArray, no_upper: bool, no_lower: bool) -> tuple[str, Style | None]:
    """Character and colours of two pixels, one above the other."""
    if no_upper and no_lower:
        return " ", None
    if no_upper:
        return "▄", _style(_code(lower), None)
    return "▀", _style(_code(upper), None if no_lower else _code(lower))


def _code(pixel: ImageArray) -> int:
    red, green, blue = pixel.tolist()
    return int(red << 16 | green << 8 | blue)


@lru_cache(maxsize=8192)
def _style(ink: int, paper: int | None) -> Style:
    return Style(color=f"#{ink:06x}", bgcolor=None if paper is None else f"#{paper:06x}")


#: Width of the text beside pictures, below which they are left out, and the least width of one worth drawing.
TEXT_COLUMNS, LEAST_COLUMNS = 72, 16
#: Age of a frame that a person must be told of.
OLD_S = 2.0


def picture_size(shape: tuple[int, int], n_pictures: int, width: int, height: int) -> tuple[int, int]:
    """Return ``(rows, columns)`` of characters that each of `n_pictures`, one above the other, may fill.

    Both are 0 where too little room is left beside the text.
    """
    rows = (height + 1) // n_pictures - 2  # a caption above each, and a free line between them
    columns = min(width - TEXT_COLUMNS, 2 * rows * shape[1] // shape[0], shape[1])
    if columns < LEAST_COLUMNS:
        return 0, 0
    return min(max(columns * shape[0] // shape[1] // 2, 1), shape[0] // 2), columns


def picture_column(
    view: View, labels: tuple[str, ...], explains: bool, age_s: float, width: int, height: int
) -> list[Text]:
    """Draw what there is to see of the newest frame, to stand right of the text of a panel.

    Parameters
    ----------
    view
        The newest frame.
    labels
        Names of the states.
    explains
        Whether a second picture shows what the decision rests on.
    age_s
        Time since it came; an old one is told to be old.
    width, height
        Of the panel inside its border.

    Returns
    -------
    list of Text
        Lines of equal width; none where the panel is too small.
    """
    shape = (view.frame.shape[0], view.frame.shape[1])
    rows, columns = picture_size(shape, 2 if explains else 1, width, height)
    if not columns:
        return []
    size = (2 * rows, columns)
    lines = [Text("the frame scored", DIM) if age_s < OLD_S else Text(f"a frame of {age_s:.0f} s ago", "yellow")]
    lines += half_blocks(*frame_picture(view, size))
    if explains:
        lines += [Text(), _what(view, labels), *half_blocks(*heat_picture(view, size))]
    for line in lines:
        line.truncate(columns, overflow="ellipsis", pad=True)
    return lines


def _what(view: View, labels: tuple[str, ...]) -> Text:
    explanation = view.explanation
    if explanation is None or explanation.state >= len(labels):
        return Text("what the decision rests on", DIM)
    label = labels[explanation.state]
    return Text.assemble(("what ", DIM), (label, f"bold {colour_of(label, labels)}"), (" rests on", DIM))


def side_by_side(lines: list[Text], pictures: list[Text], text_columns: int) -> list[Text]:
    """Join lines of text, `text_columns` wide, with pictures on their right."""
    joined = []
    for k in range(max(len(lines), len(pictures))):
        line = lines[k] if k < len(lines) else Text()
        if k < len(pictures):
            line.truncate(text_columns, overflow="ellipsis", pad=True)
            line = Text.assemble(line, "  ", pictures[k])
        joined.append(line)
    return joined
