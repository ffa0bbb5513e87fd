"""Draw the panel of a recorded run: ``python -m tools.render_panel RUN_FOLDER [--at-s S] [-o panel.svg]``.

Frames are not recorded. Those of ``streamscore demo --modality wfci`` are simulated again for ``--camera BUNDLE``.

The picture is self-contained: text in whatever monospaced font the reader has, blocks and lines as shapes, so that
there are no seams whatever the font.
"""

from __future__ import annotations

import argparse
import io
import math
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME

from streamscore.bundle import load_bundle
from streamscore.events import parse
from streamscore.panel.frames import Frames
from streamscore.panel.importance import Importance
from streamscore.panel.pictures import View
from streamscore.panel.state import PanelState
from streamscore.panel.view import PanelView
from streamscore.record.run_folder import EVENTS_FILE
from streamscore.simulate.cortex import Cortex
from tools.demo_camera import Plan

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 8.4, 17.0, 14.0, 12.0
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
#: How long a screen would have watched before its picture.
SEEN_S = 20.0
#: Thickness of a line in parts of the width and of the height of a cell.
THIN_X, THIN_Y = 1.2 / CELL_WIDTH, 1.2 / CELL_HEIGHT
_UP, _DOWN = (0.5 - THIN_X / 2, 0.0, THIN_X, 0.5), (0.5 - THIN_X / 2, 0.5, THIN_X, 0.5)
_LEFT, _RIGHT = (
    (0.0, 0.5 - THIN_Y / 2, 0.5, THIN_Y),
    (0.5 - THIN_X / 2, 0.5 - THIN_Y / 2, 0.5 + THIN_X / 2, THIN_Y),
)
#: Characters that are drawn as rectangles: (left, top, width, height) in parts of a cell.
SHAPES = {
    "█": ((0.0, 0.0, 1.0, 1.0),),
    "░": ((0.0, 0.0, 1.0, 1.0),),
    "▀": ((0.0, 0.0, 1.0, 0.5),),
    **{char: ((0.0, 1 - k / 8, 1.0, k / 8),) for k, char in enumerate("▁▂▃▄▅▆▇", 1)},
    "│": ((0.5 - THIN_X / 2, 0.0, THIN_X, 1.0),),
    "─": ((0.0, 0.5 - THIN_Y / 2, 1.0, THIN_Y),),
    "┴": (_UP, _LEFT, _RIGHT),
    "└": (_UP, _RIGHT),
    "╭": (_DOWN, _RIGHT),
    "╮": (_DOWN, _LEFT),
    "╰": (_UP, _RIGHT),
    "╯": (_UP, _LEFT),
}


def main() -> None:
    """Read the events of a run and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("panel.svg"))
    parser.add_argument(
        "--at-s", type=float, default=math.inf, help="elapsed stream time to show; the end without"
    )
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--height", type=int, default=26)
    parser.add_argument("--title", default="streamscore")
    parser.add_argument("--camera", metavar="BUNDLE", help="draw frames of the demo, and what BUNDLE sees in them")
    options = parser.parse_args()
    state = state_at(options.run_folder / EVENTS_FILE, options.at_s)
    frame = demo_frame(options.camera, state) if options.camera else None
    view = PanelView(state, title=options.title, frame=frame, explains=frame is not None)
    options.output.write_text(svg(view, options.width, options.height), encoding="utf-8")


def state_at(path: Path, at_s: float) -> PanelState:
    """Feed the events of `path` until `at_s` of stream time has passed."""
    state = PanelState()
    with path.open("rb") as lines:
        for line in lines:
            try:
                state.update(parse(line))
            except ValidationError:  # the last line of a run that was killed
                state.n_unreadable += 1
            if state.elapsed_s >= at_s:
                break
    return state


def demo_frame(bundle_name: str, state: PanelState) -> View | None:
    """Simulate the demo's mouse up to where `state` is; return its newest frame behind the chain."""
    bundle, plan = load_bundle(bundle_name), Plan()
    cortex = Cortex(seed=plan.seed, cycle_s=plan.cycle_s)
    chain, frames = bundle.chain(), Frames("", Importance(bundle.model))
    n_before = state.start.flushed_samples if state.start else 0  # shown before the engine was ready
    n = n_before + round(state.elapsed_s * cortex.sfreq)
    cortex.read(n_before)
    for k in range(n_before, n):
        corrected = chain.push(cortex.read(1).frames.astype(np.float32), k - n_before)
        if k > n - SEEN_S * cortex.sfreq:
            frames.take(k / cortex.sfreq, corrected[0, 0])
    return frames.newest


def svg(view: PanelView, width: int, height: int) -> str:
    """Return the picture of `view` on a terminal of `width` columns and `height` lines."""
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    lines = console.render_lines(view, console.options, pad=False)
    shapes = [shape for y, line in enumerate(lines) for shape in _line(line, y)]
    image_width = round(width * CELL_WIDTH + 2 * MARGIN)
    image_height = round(len(lines) * CELL_HEIGHT + 2 * MARGIN)
    background = SVG_EXPORT_THEME.background_color.hex
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {image_width} {image_height}" '
            f'width="{image_width}" height="{image_height}">',
            f"<title>{escape(view.title)}</title>",
            f'<rect width="100%" height="100%" rx="8" fill="{background}"/>',
            f'<g transform="translate({MARGIN:g} {MARGIN:g})" font-family="{FONTS}" font-size="{FONT_SIZE:g}" '
            'style="white-space: pre" xml:space="preserve">',
            *shapes,
            "</g>",
            "</svg>\n",
        ]
    )


def _line(segments: list[Segment], y: int) -> list[str]:
    shapes = []
    column = 0
    for text, style, _ in segments:
        ink, paper, bold = _colours(style or Style())
        if paper:
            shapes.append(_rect(column, y, (0.0, 0.0, float(len(text)), 1.0), paper))
        shapes += _rectangles(text, column, y, ink)
        letters = "".join(" " if char in SHAPES else char for char in text)
        if letters.strip():
            start = len(letters) - len(letters.lstrip())
            letters = letters.strip()
            shapes.append(
                f'<text x="{(column + start) * CELL_WIDTH:.1f}" y="{(y + 0.76) * CELL_HEIGHT:.1f}" fill="{ink}" '
                f'textLength="{len(letters) * CELL_WIDTH:.1f}"{bold}>{escape(letters)}</text>'
            )
        column += len(text)
    return shapes


def _rectangles(text: str, column: int, y: int, ink: str) -> list[str]:
    """Shapes of the block and line characters in `text`; equal neighbours that touch become one."""
    shapes = []
    k = 0
    for char, run in groupby(text):
        n = len(list(run))
        extra = ' opacity="0.25"' if char == "░" else ""
        for left, top, width, height in SHAPES.get(char, ()):
            if width == 1.0:
                shapes.append(_rect(column + k, y, (left, top, float(n), height), ink, extra))
            else:
                shapes += [_rect(column + k + i, y, (left, top, width, height), ink) for i in range(n)]
        k += n
    return shapes


def _rect(column: int, y: int, part: tuple[float, float, float, float], fill: str, extra: str = "") -> str:
    left, top, width, height = part
    return (
        f'<rect x="{(column + left) * CELL_WIDTH:.2f}" y="{(y + top) * CELL_HEIGHT:.2f}" '
        f'width="{width * CELL_WIDTH:.2f}" height="{height * CELL_HEIGHT:.2f}" fill="{fill}"{extra} '
        'shape-rendering="crispEdges"/>'
    )


def _colours(style: Style) -> tuple[str, str, str]:
    """Ink, paper (empty without one) and the attribute for bold."""
    theme = SVG_EXPORT_THEME
    ink = style.color.get_truecolor(theme).hex if style.color else theme.foreground_color.hex
    paper = style.bgcolor.get_truecolor(theme, foreground=False).hex if style.bgcolor else ""
    if style.reverse:
        ink, paper = paper or theme.background_color.hex, ink
    return ink, paper, ' font-weight="bold"' if style.bold else ""


if __name__ == "__main__":
    main()
