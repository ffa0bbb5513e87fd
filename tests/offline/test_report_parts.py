"""Escaping, Markdown, scales, charts and hypnograms."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from offline.report.card import markdown
from offline.report.chart import INK, Chart, Scale, linear_ticks, log_ticks, time_ticks
from offline.report.html import Html, duration, duration_between, el, join, number, table, with_interval
from offline.report.hypnograms import HAIR, LEFT, RIGHT, WIDTH, Track, hypnograms
from streamscore.labels import MOUSE3
from streamscore.panel.art import COLOURS
from tests.offline.report_pages import Parsed

HOSTILE = "<script>alert('a & b')</script>"


def test_what_comes_from_a_file_cannot_become_markup() -> None:
    made = el("td", HOSTILE, title=f'"{HOSTILE}', class_="x")
    page = Parsed(made)
    assert page.names() == {"td"}
    assert page.text == HOSTILE + "|"
    assert page.elements[0][1] == {"title": f'"{HOSTILE}', "class": "x"}
    assert Parsed(table(("a", HOSTILE), [(HOSTILE, HOSTILE)])).text.count(HOSTILE) == 3
    assert join([HOSTILE, el("b", "x")]).endswith("<b>x</b>")
    assert "<script" not in join([HOSTILE], HOSTILE)


def test_markup_that_was_made_here_stays() -> None:
    assert el("p", el("b", "x"), Html("<i>y</i>")) == "<p><b>x</b><i>y</i></p>"
    assert el("path", stroke_width=2.0, viewBox="0 0 1 1", fill=None, open=True) == (
        '<path stroke-width="2" viewBox="0 0 1 1" open></path>'
    )


def test_markdown_lets_no_markup_and_no_pictures_through() -> None:
    page = Parsed(
        markdown(
            "# T\n\n**b** `c` <script>x</script> <img src=y>\n\n![p](http://a/b.png) [bad](javascript:alert(1)) "
            "[good](https://example.org)\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        )
    )
    assert {"h1", "strong", "code", "table"} <= page.names()
    assert not page.names() & {"script", "img"}
    assert [attributes["href"] for name, attributes in page.elements if name == "a"] == ["https://example.org"]
    assert page.loads == []
    assert "\np [bad]" in page.text


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (number(0.12345), "0.123"),
        (number(float("nan")), "–"),
        (number(-1.0, 1), "−1.0"),
        (with_interval(0.5, (0.25, 0.75), 2), "0.50 (0.25–0.75)"),
        (with_interval(0.5, (None, None), 2), "0.50"),
        (duration(4.0), "4 s"),
        (duration(300.0), "5 min"),
        (duration(36000.0), "10 h"),
        (duration(None), "–"),
        (duration_between(144.0, 120.0, 186.0), "2.4 min (2–3.1)"),
        (duration_between(30.0, None, None), "30 s"),
    ],
)
def test_numbers_as_a_person_writes_them(said: str, want: str) -> None:
    assert said == want


def test_ticks_are_round_and_on_the_axis() -> None:
    assert linear_ticks(0.0, 1.0) == [(pytest.approx(k / 5), f"{k / 5:.1f}") for k in range(6)]
    assert [value for value, _ in linear_ticks(0.0, 2.2, whole=True)] == [0, 1, 2]
    assert [word for _, word in log_ticks(1e-5, 10.0)] == ["10⁻⁵", "10⁻⁴", "10⁻³", "0.01", "0.1", "1", "10"]
    assert [value for value, _ in log_ticks(1.0, 10.0)] == [1, 2, 5, 10]
    assert time_ticks(100.0, 100.0 + 3600.0)[:2] == [(100.0, "00:00"), (400.0, "05:00")]


def test_a_point_is_drawn_where_its_value_is() -> None:
    chart = Chart(Scale(0.0, 10.0), Scale(1.0, 100.0, log=True), 100, 100, left=0, top=0, right=0, bottom=0)
    assert chart.across([0, 5, 10, 20]).tolist() == [0, 50, 100, 100]  # what lies outside is at the edge
    assert chart.down([1, 10, 100]).tolist() == [100, 50, 0]
    chart.line([0, 5, 10], [1, np.nan, 100], INK)
    chart.line([0, 1, 5, 6, 7], [1, 1, np.nan, 1, 1], INK)
    lines = re.findall(r'd="([^"]*)"', "".join(chart.parts))
    assert [line.count("M") for line in lines] == [0, 2]


def _track(codes: list[int] | np.ndarray, epoch_s: float = 4.0) -> Track:
    starts_s = np.arange(len(codes)) * epoch_s
    return Track("scored", starts_s, starts_s + epoch_s, np.asarray(codes, np.int8))


def _bars(svg: str, state: str) -> list[tuple[float, float]]:
    """Begin and end of what is drawn in the colour of a state."""
    found = re.search(rf'd="([^"]*)" style="stroke:{COLOURS[state]};', svg)
    if found is None:
        return []
    return [(float(a), float(b)) for a, b in re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", found[1])]


def test_bouts_stand_at_their_time() -> None:
    svg = hypnograms("t", MOUSE3, [_track([0] * 25 + [1] * 50 + [-1] * 15 + [2] * 10)])
    width = WIDTH - LEFT - RIGHT
    for state, begin, end in (("Wake", 0.0, 0.25), ("NREM", 0.25, 0.75), ("REM", 0.9, 1.0)):
        assert _bars(svg, state) == [
            (pytest.approx(LEFT + begin * width, abs=0.5), pytest.approx(LEFT + end * width, abs=0.5))
        ]
    grey = re.search(r'd="M([\d.]+) [^"]*H([\d.]+)V[^"]*" style="fill:var\(--unknown\)', svg)
    assert grey is not None
    assert float(grey[1]) == pytest.approx(LEFT + 0.75 * width, abs=0.5)
    assert float(grey[2]) == pytest.approx(LEFT + 0.9 * width, abs=0.5)


def test_one_epoch_in_a_day_is_seen() -> None:
    codes = np.ones(21_600, np.int8)
    codes[10_000] = 2
    ((begin, end),) = _bars(hypnograms("t", MOUSE3, [_track(codes)]), "REM")
    assert end - begin == pytest.approx(HAIR)


def test_a_day_of_noise_is_no_larger_than_the_picture() -> None:
    rng = np.random.default_rng(0)
    small, large = (
        hypnograms("t", MOUSE3, [_track(rng.integers(0, 3, n))], rng.dirichlet(np.ones(3), n))
        for n in (21_600, 86_400)
    )
    assert len(large) < 1.5 * len(small) < 1_000_000


def test_probabilities_fill_the_height_and_what_is_unknown_is_left_empty() -> None:
    probs = np.repeat([[0.5, 0.5, 0.0]], 100, axis=0)
    probs[40:60] = np.nan
    svg = hypnograms("t", MOUSE3, [_track([0] * 40 + [-1] * 20 + [0] * 40)], probs)
    (areas,) = re.findall(rf'd="([^"]*)" style="fill:{COLOURS["Wake"]}"', svg)  # on top, so it reaches to 1
    assert areas.count("M") == areas.count("Z") == 2
    floor, top = (float(value) for value in re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", areas).groups())  # type: ignore[union-attr]
    (nrem,) = re.findall(rf'd="([^"]*)" style="fill:{COLOURS["NREM"]}"', svg)
    middle = float(re.match(r"M[\d.]+ [\d.]+V([\d.]+)", nrem)[1])  # type: ignore[index]
    assert (floor - middle) / (floor - top) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("hours", [1, 6.85, 12, 23.9, 24, 48])
def test_times_below_a_hypnogram_do_not_overlap(hours: float) -> None:
    stop_s = np.array([3600.0 * hours])
    drawn = hypnograms("a day", ("Wake",), [Track("true", np.zeros(1), stop_s, np.zeros(1, np.int8))])
    words = re.findall(r'<text x="([0-9.]+)" y="[0-9.]+" text-anchor="(\w+)">([0-9:]+)<', drawn)
    assert len(words) > 2
    width = {"start": (0.0, 1.0), "middle": (0.5, 0.5), "end": (1.0, 0.0)}
    places = [(float(x), 7.0 * len(word), *width[anchor]) for x, anchor, word in words]
    for (x, size, _, right), (next_x, next_size, left, _) in pairwise(places):
        assert x + right * size < next_x - left * next_size
