from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from offline import corrections_table as table
from streamscore.types import FloatArray


@pytest.fixture(scope="module")
def movie() -> table.Movie:
    return replace(table.simulated(duration_s=12.0), warm_up_s=1.0, taus_s=(2.0,))


def write_pairs(path: Path, n_pairs: int = 90) -> FloatArray:
    """Write what ``wfci_frames`` holds, small: bright lit frames and dim 405-nm ones in turn."""
    rng = np.random.default_rng(0)
    level = np.where(np.arange(2 * n_pairs) % 2 == 0, 9000.0, 1500.0)[:, None, None]
    x = level * (1.0 + 0.02 * rng.standard_normal((2 * n_pairs, 6, 7))) + 300.0
    x[:, 0, 0] = 300.0
    x[10, 5, 5] = 65535.0
    np.savez(path, cam_red=x.astype(np.uint16))
    return x.astype(np.float32)


def test_every_step_and_estimator_has_a_row(movie: table.Movie) -> None:
    rows = list(table.rows(movie))
    assert [row[:2] for row in rows] == [
        ("detrend, subtract", "running, tau_s 2"),
        ("detrend, ratio", "running, tau_s 2"),
        ("delta_f", "running, tau_s 2"),
        ("delta_f", "calibration, 1 s"),
        ("haemoglobin, ratiometric", "running, tau_s 2"),
        ("haemoglobin, ratiometric", "calibration, 1 s"),
        ("haemoglobin, regression", "running, tau_s 2"),
        ("haemoglobin, regression", "calibration, 1 s"),
        ("global_signal, regression", "running, tau_s 2"),
        ("detrend, haemoglobin, gaussian (ratiometric)", "running, tau_s 2"),
        ("detrend, haemoglobin, gaussian (regression)", "running, tau_s 2"),
        ("the same with global_signal (ratiometric)", "running, tau_s 2"),
        ("the same with global_signal (regression)", "running, tau_s 2"),
    ]
    for *_, found in rows:
        assert len(found) == len(movie.spans) == 2
        for median, high, correlation in found:
            assert 0.0 < median <= high < 10.0
            assert 0.0 < correlation <= 1.0


def test_with_the_means_of_the_past_it_is_the_closer_the_more_of_it_there_is(movie: table.Movie) -> None:
    longer = replace(movie, taus_s=(100.0,))
    found = {row[0]: row[2] for row in table.rows(longer) if row[1].startswith("running")}
    for name in ("delta_f", "haemoglobin, ratiometric", "haemoglobin, regression"):
        early, late = found[name]
        assert late[0] < early[0]


def test_equal_movies_differ_by_nothing(movie: table.Movie) -> None:
    y = movie.x[:, :1]
    for a, keeps_level in ((y, False), (2.0 * y, True)):
        for median, high, correlation in table.compared(movie, a, y, keeps_level):
            assert (median, high) == pytest.approx((0.0, 0.0), abs=1e-5)
            assert correlation == pytest.approx(1.0)
    assert table.compared(movie, 2.0 * y, y, False)[0][0] > 1.0


def test_agreement_with_the_truth_is_told_for_each_method(movie: table.Movie) -> None:
    found = list(table.truth(movie))
    assert [name for name, *_ in found] == ["none", "ratiometric", "regression"]
    assert all(-1.0 < r < 1.0 for _, *rs in found for r in rs)
    assert not list(table.truth(replace(movie, clean=None)))


def test_the_recording_is_read_without_dark_level_and_saturated_pixels(tmp_path: Path) -> None:
    x = write_pairs(tmp_path / "pairs.npz")
    movie = table.recorded(tmp_path / "pairs.npz")
    assert movie.x.shape == (90, 2, 6, 7)
    np.testing.assert_allclose(movie.x[:, 1, 1, 1], x[1::2, 1, 1] - 300.0, atol=1.0)
    assert not movie.brain[0, 0]
    assert not movie.brain[5, 5]
    assert movie.brain.sum() == 6 * 7 - 2


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.npz")
    app = table.typer.Typer()
    app.command()(table.main)
    result = CliRunner().invoke(app, ["--frames", str(tmp_path / "pairs.npz")])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "| step | known from | 15 to 75 s | r | 75 to 90 s | r |"
    assert len([line for line in lines if line.startswith("| haemoglobin, regression |")]) == 3
    assert "ratiometric" not in result.output  # its light is not among those of this rig
