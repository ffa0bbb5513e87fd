from __future__ import annotations

import io
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from streamscore.labels import MOUSE3
from streamscore.panel.pictures import (
    COLD,
    INFERNO,
    VIRIDIS,
    Explanation,
    View,
    frame_picture,
    half_blocks,
    heat_picture,
    picture_column,
    picture_size,
    reduced,
)
from streamscore.panel.state import PanelState
from streamscore.panel.view import PanelView
from tests.test_panel import Run

SIDE = 128


def view(explained: bool = True) -> View:
    """Return a ramp from left to right inside the upper half; what it rests on is the left."""
    frame = np.tile(np.linspace(0.0, 1.0, SIDE, dtype=np.float32), (SIDE, 1))
    outside = np.zeros((SIDE, SIDE), np.bool_)
    outside[SIDE // 2 :] = True
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[:, : SIDE // 4] = 1.0
    return View(3, 12.0, frame, (0.0, 1.0), outside, time.monotonic(), Explanation(2, heat) if explained else None)


def run_state() -> PanelState:
    run, state = Run(MOUSE3), PanelState()
    run.start()
    run.score("REM", n=70)
    run.beat()
    for event in run.sent:
        state.update(event)
    return state


def drawn(width: int, height: int, **options: object) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="truecolor"
    )
    lines = console.render_lines(PanelView(run_state(), **options), console.options, pad=False)  # type: ignore[arg-type]
    return ["".join(segment.text for segment in line) for line in lines]


@pytest.mark.parametrize("table", [VIRIDIS, INFERNO])
def test_colours_become_lighter_step_by_step(table: np.ndarray) -> None:
    luminance = table @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()
    assert table.min() >= 0
    assert table.max() <= 255


def test_reducing_keeps_means_and_leaves_out_what_is_outside() -> None:
    frame = np.arange(16, dtype=np.float32).reshape(4, 4)
    outside = np.zeros((4, 4), np.bool_)
    outside[0, 1] = outside[2:, 2:] = True
    values, away = reduced(frame, outside, (2, 2))
    np.testing.assert_allclose(values[0], [(0 + 4 + 5) / 3, (2 + 3 + 6 + 7) / 4])
    np.testing.assert_array_equal(away, [[False, False], [False, True]])


def test_a_picture_goes_from_the_first_colour_to_the_last() -> None:
    image, outside = frame_picture(view(), (16, 16))
    assert np.abs(image[0, 0] - VIRIDIS[2]).max() < 12
    assert np.abs(image[0, -1] - VIRIDIS[-3]).max() < 12
    np.testing.assert_array_equal(outside, np.repeat([[False], [True]], 8, axis=0).repeat(16, axis=1))


def test_only_what_a_decision_rests_on_is_coloured() -> None:
    image, _ = heat_picture(view(), (16, 16))
    is_grey = (image == image[..., :1]).all(axis=2)
    assert not is_grey[:8, :4].any()
    assert is_grey[:8, 4:].all()
    plain, _ = heat_picture(view(explained=False), (16, 16))
    assert (plain == plain[..., :1]).all()
    assert COLD > 0


def test_two_rows_of_pixels_share_a_line() -> None:
    image = np.array([[[255, 0, 0], [1, 2, 3]], [[0, 0, 255], [4, 5, 6]]], np.uint8)
    (line,) = half_blocks(image, np.array([[False, True], [False, False]]))
    assert line.plain == "▀▄"
    first, second = (span.style for span in line.spans)
    assert (str(first), str(second)) == ("#ff0000 on #0000ff", "#040506")
    assert half_blocks(image, np.ones((2, 2), np.bool_))[0].plain == "  "


@pytest.mark.parametrize(("width", "height"), [(76, 22), (84, 28), (116, 38), (176, 54), (60, 60), (300, 100)])
@pytest.mark.parametrize("explains", [False, True])
def test_pictures_fit_beside_the_text(width: int, height: int, explains: bool) -> None:
    lines = picture_column(view(), MOUSE3, explains, 0.1, width, height)
    assert len(lines) <= height
    assert len({line.cell_len for line in lines}) <= 1
    if lines:
        assert lines[0].cell_len <= width - 72
        assert lines[0].plain.startswith("the frame scor")
    assert bool(lines) == (width >= 100)


def test_pixels_are_square_and_no_more_than_the_frame_has() -> None:
    rows, columns = picture_size((SIDE, SIDE), 1, 200, 60)
    assert columns == 2 * rows
    assert picture_size((20, 40), 1, 200, 60) == (10, 40)


def test_the_panel_tells_what_which_state_rests_on() -> None:
    text = "\n".join(drawn(120, 40, frame=view(), explains=True))
    assert "the frame scored" in text
    assert "what REM rests on" in text
    assert "▀" in text
    assert "latency" in text
    assert "what the decision rests on" in "\n".join(drawn(120, 40, frame=view(False), explains=True))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (200, 60)])
def test_the_panel_stays_within_its_terminal(width: int, height: int) -> None:
    lines = drawn(width, height, frame=view(), explains=True)
    assert len(lines) <= height
    assert {cell_len(line) for line in lines} == {width}


def test_a_small_panel_is_as_it_is_without_a_camera() -> None:
    assert drawn(80, 24, frame=view(), explains=True) == drawn(80, 24)


def test_an_old_frame_is_told_to_be_old() -> None:
    old = replace(view(), received_s=time.monotonic() - 5.0)
    assert "a frame of 5 s ago" in "\n".join(drawn(120, 40, frame=old))
