from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tools.ahead import ahead

PATIENCE_S = 10.0


def test_everything_comes_in_order() -> None:
    assert list(ahead(range(1000), 3)) == list(range(1000))
    assert list(ahead((), 3)) == []


def test_so_many_are_made_before_they_are_asked_for() -> None:
    made, enough = [], threading.Event()

    def items() -> Iterator[int]:
        for k in range(100):
            made.append(k)
            if k == 6:
                enough.set()
            yield k

    coming = ahead(items(), 5)
    assert next(coming) == 0
    assert enough.wait(PATIENCE_S)  # five that wait, one in hand
    assert len(made) <= 7
    coming.close()


def test_an_error_comes_where_its_item_was_due() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more light")

    coming = ahead(items(), 5)
    assert next(coming) == 1
    with pytest.raises(OSError, match="no more light"):
        next(coming)


def test_closing_ends_the_making() -> None:
    coming = ahead(iter(int, 1), 2)
    assert next(coming) == 0
    coming.close()
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
