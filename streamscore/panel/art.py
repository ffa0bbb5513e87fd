"""The pieces of the panel's picture: colours, large letters, bars and the hypnogram."""

from __future__ import annotations

from itertools import groupby

from rich.text import Text

from streamscore.labels import UNKNOWN
from streamscore.panel.state import Columns

#: Not bright black, which some colour schemes make invisible.
DIM = "grey54"
COLOURS = {
    "W": "#f2a93b",
    "Wake": "#f2a93b",
    "N1": "#5fc9c4",
    "S1": "#5fc9c4",
    "N2": "#4a97e8",
    "S2": "#4a97e8",
    "NREM": "#4a97e8",
    "N3": "#7b78f0",
    "S3": "#7b78f0",
    "S4": "#a06be0",
    "REM": "#ec5f9e",
    "rest": "#4a97e8",
    "run": "#f2a93b",
}
OTHER_COLOURS = ("#f2a93b", "#4a97e8", "#ec5f9e", "#5fc9c4", "#7b78f0", "#8ab84a")
#: Distances between the labelled ticks of the time axis in seconds, and in columns.
TICKS_S = (10, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
TICK_COLUMNS = (10, 12, 15, 20)

#: Pixels of the letters that occur in the vocabularies; five rows, drawn two to a line of text.
GLYPHS = {
    "A": ".#. #.# ### #.# #.#",
    "E": "### #.. ##. #.. ###",
    "K": "#.# #.# ##. #.# #.#",
    "M": "#...# ##.## #.#.# #...# #...#",
    "N": "#..# ##.# #.## #..# #..#",
    "O": "### #.# #.# #.# ###",
    "R": "##. #.# ##. #.# #.#",
    "S": "### #.. ### ..# ###",
    "T": "### .#. .#. .#. .#.",
    "U": "#.# #.# #.# #.# ###",
    "W": "#...# #...# #.#.# ##.## #...#",
    "1": "##. .#. .#. .#. ###",
    "2": "### ..# ### #.. ###",
    "3": "### ..# .## ..# ###",
    "4": "#.# #.# ### ..# ..#",
}


def clock(seconds: float) -> str:
    """Return ``mm:ss``, or ``h:mm:ss`` from an hour on."""
    whole = max(int(seconds), 0)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes


def number(value: float) -> str:
    """Return milliseconds with as many digits as a person needs."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 or value == 0 else f"{value:.2f}"


def colour_of(state: str, labels: tuple[str, ...]) -> str:
    """Return the colour of `state`, the same everywhere and in every run."""
    if state in COLOURS:
        return COLOURS[state]
    return OTHER_COLOURS[labels.index(state) % len(OTHER_COLOURS)] if state in labels else DIM


def hypnogram_order(labels: tuple[str, ...]) -> list[str]:
    """Return `labels` from top to bottom as hypnograms have them: REM under wakefulness, then ever deeper."""
    order = list(labels)
    if "REM" in order and len(order) > 2:
        order.remove("REM")
        order.insert(1, "REM")
    return order


def big_letters(word: str) -> list[str]:
    """Return `word` as three lines of large letters, or as itself where a letter has no drawing."""
    if not all(letter in GLYPHS for letter in word.upper()):
        return ["", word, ""]
    glyphs = [GLYPHS[letter].split() for letter in word.upper()]
    rows = [".".join(glyph[y] for glyph in glyphs) for y in range(5)]
    rows.append("." * len(rows[0]))
    halves = {"..": " ", "#.": "▀", ".#": "▄", "##": "█"}
    return ["".join(halves[a + b] for a, b in zip(rows[y], rows[y + 1], strict=True)) for y in (0, 2, 4)]


def share_bar(share: float, width: int) -> str:
    """Return a bar of `width` columns, of which `share` is filled."""
    return ("▆" * round(min(max(share, 0.0), 1.0) * width)).ljust(width)


def margin_of(labels: tuple[str, ...]) -> int:
    """Return the width of what stands to the left of a hypnogram."""
    return max(map(len, labels)) + 2


def hypnogram(columns: Columns, labels: tuple[str, ...], n_columns: int, rows_per_state: int) -> list[Text]:
    """Draw one band per state over a time axis of `n_columns`.

    The height of a cell is the part of its column that the state had, so that a short bout is seen however long
    the night. Hatched is a column of which more than half is unknown.
    """
    margin = margin_of(labels)
    steps = 8 * rows_per_state - 1  # the last eighth stays free, so that bands do not touch
    rows = []
    for label in hypnogram_order(labels):
        colour = colour_of(label, labels)
        for below in reversed(range(rows_per_state)):
            line = Text.assemble((f"{'' if below else label:<{margin - 1}}", colour), ("│", DIM))
            cells = []
            for shares in columns.shares:
                filled = min(max(round(shares.get(label, 0.0) * steps) - 8 * below, 0), 8)
                hatched = not filled and shares.get(UNKNOWN, 0.0) > 0.5
                cells.append("░" if hatched else " ▁▂▃▄▅▆▇█"[filled])
            for hatched, run in groupby(cells, lambda cell: cell == "░"):
                line.append("".join(run), DIM if hatched else colour)
            rows.append(line)
    axis = time_axis(n_columns, columns.start_s, columns.width_s)
    return [*rows, Text(" " * (margin - 1) + axis, DIM)]


def time_axis(n_columns: int, start_s: float, column_s: float) -> str:
    """Return the axis under `n_columns`: a corner, and ticks with their times as far as they fit."""
    every = next((k for k in TICK_COLUMNS if k * column_s in TICKS_S), TICK_COLUMNS[0])
    axis = "└" + "".join("┴" if k % every == 0 and k else "─" for k in range(n_columns))
    for k in range(0, n_columns, every):
        label = clock(start_s + k * column_s)
        if k + 2 + len(label) <= n_columns:
            axis = axis[: k + 2] + label + axis[k + 2 + len(label) :]
    return axis
