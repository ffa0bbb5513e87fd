"""Ending cleanly: signals that ask a process to stop set a flag, which its loop looks at."""

from __future__ import annotations

import signal
import threading


def stop_on_signals() -> threading.Event:
    """Return a flag that SIGINT and SIGTERM (and Ctrl-Break on Windows) set."""
    stop = threading.Event()
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
        signal.signal(number, lambda *_: stop.set())
    return stop
