"""Make things ahead of time on another thread, for a player that must not wait for their making."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], n_items: int) -> Iterator[T]:
    """Yield `items`, of which up to `n_items` are made before they are asked for.

    An error in their making is raised where the item that it prevented was asked for.
    """
    made: queue.Queue[T | _End] = queue.Queue(n_items)
    closed = threading.Event()

    def make() -> None:
        end = _End(None)
        try:
            for item in items:
                made.put(item)
                if closed.is_set():
                    return
        except Exception as error:
            end = _End(error)
        made.put(end)

    threading.Thread(target=make, name="ahead", daemon=True).start()
    try:
        while not isinstance(item := made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        closed.set()
        while not made.empty():  # make room for what is being made, so that its thread ends
            made.get()


class _End:
    """There is no more, because of `error` or because all is made."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
