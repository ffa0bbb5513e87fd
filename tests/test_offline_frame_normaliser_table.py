from __future__ import annotations

import pytest

from offline import frame_normaliser_table as table


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds instead of minutes."""
    monkeypatch.setattr(table, "SPANS_S", {"early": (0.0, 4.0), "late": (4.0, float("inf"))})
    monkeypatch.setattr(table, "WINDOW_SAMPLES", 60)
    monkeypatch.setattr(table, "FRAME_SHAPE", (24, 24))


def percents(row: str) -> list[float]:
    """Medians of the spans in a row of the table."""
    return [float(cell.split("%")[0]) for cell in row.strip("| ").split(" | ")[2:]]


def test_each_estimator_and_scale_has_a_row_with_its_difference() -> None:
    rows = table.pixel_rows(0.15, seed=1)
    assert len(rows) == 2 * len(table.ESTIMATORS)
    early, late = zip(*map(percents, rows), strict=True)
    assert min(late) > 0.0
    assert late[0] < early[0]  # what runs comes closer with time


def test_centred_averages_are_the_published_ones_and_trailing_ones_are_not() -> None:
    trailing, centred = table.average_rows(0.2, seed=1)
    assert percents(centred) == [0.0, 0.0]
    assert min(percents(trailing)) > 0.5
    assert "| 0.0 s |" in trailing
    assert "| 1.0 s |" in centred
