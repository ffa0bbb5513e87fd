"""Where the real recordings are. They are not part of the project and may be absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def data_file() -> Callable[[str], Path]:
    """Path of a real recording; the test is skipped where it is absent."""

    def locate(name: str) -> Path:
        path = DATA / name
        if not path.is_file():
            pytest.skip(f"{path} is not here: recordings are kept outside the project")
        return path

    return locate
