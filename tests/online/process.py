"""The command line as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


def streamscore(*arguments: str | Path, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streamscore", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _mind_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """A command that runs while the test goes on; its JSON lines are collected."""

    def __init__(self, *arguments: str | Path, env: dict[str, str] | None = None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamscore", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            # A shell that runs the tests in the background lets them, and what they start, ignore Ctrl-C.
            preexec_fn=None if sys.platform == "win32" else _mind_ctrl_c,
        )
        self._threads = [
            threading.Thread(target=self._collect, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, stream: Any) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self.text.append(line)
                    if line.startswith("{"):
                        self.lines.append(json.loads(line))
                    self._changed.notify_all()

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the first JSON line with this ``event``."""

        def hits() -> list[dict[str, Any]]:
            return [line for line in self.lines if line.get("event") == event]

        with self._changed:
            held = self._changed.wait_for(lambda: hits() or self.process.poll() is not None, PATIENCE_S)
        assert held, f"never said {event!r}: {self.text}"
        assert hits(), f"ended without {event!r}: {self.text}"
        return hits()[0]

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(timeout_s)
        for thread in self._threads:
            thread.join(timeout_s)
        return code

    def close(self) -> None:
        """Kill what still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.end()


def wait_until(condition: Any, what: str, patience_s: float = PATIENCE_S) -> None:
    """Look every 20 ms whether `condition` holds; for things that cannot notify (files of a process)."""
    waiter = threading.Event()
    for _ in range(int(patience_s / 0.02)):
        if condition():
            return
        waiter.wait(0.02)
    raise AssertionError(f"never happened: {what}")
