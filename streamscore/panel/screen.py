"""The screen of a run: another process than the engine, which only listens.

A terminal gets a live panel, anything else plain lines. Whatever happens here, the engine does not notice.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import zmq
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live

from streamscore.errors import ConfigError
from streamscore.events import AnyEvent, StopEvent, parse
from streamscore.panel.lines import PlainLines
from streamscore.panel.state import PanelState
from streamscore.panel.view import PanelView

if TYPE_CHECKING:  # they need numpy and torch, which a screen without a camera does without
    from streamscore.panel.frames import Frames
    from streamscore.panel.pictures import View

#: Messages kept for this process while it is slow; beyond, they are lost and counted as missed.
HIGH_WATER_MARK = 100_000
#: Time between two attempts to connect.
RECONNECT_MS = 20
#: Longest wait for a message, and for what is polled.
POLL_S = 0.1
#: Least and greatest time between two pictures.
FRAME_S, IDLE_FRAME_S = 0.125, 1.0
#: The least where frames of a camera are drawn, which takes some 20 ms.
MOVIE_FRAME_S = 0.2
#: After Ctrl-C, which a run on the same terminal gets too: how long its end is waited for.
GRACE_S = 3.0


class Screen(Protocol):
    """Where a run is shown."""

    def event(self, state: PanelState, event: AnyEvent) -> None:
        """Show one event that `state` has taken in."""
        ...

    def idle(self, state: PanelState, silent_s: float, hint: str) -> None:
        """Show what time alone changes; called some ten times a second."""
        ...


class LinesScreen:
    """Plain lines, each flushed."""

    def __init__(self, console: Console, endpoint: str) -> None:
        self._console = console
        self._lines = PlainLines(endpoint)

    def event(self, state: PanelState, event: AnyEvent) -> None:
        self._say(self._lines.event(state, event))

    def idle(self, state: PanelState, silent_s: float, hint: str) -> None:
        self._say(self._lines.idle(state, silent_s, hint))

    def _say(self, lines: list[str]) -> None:
        encoding = self._console.encoding
        for line in lines:
            # Straight to the file: a line must not be wrapped, and what cannot be encoded must not end the watch.
            self._console.file.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            self._console.file.flush()


class LiveScreen:
    """The panel, redrawn when something changed, and once a second."""

    def __init__(self, live: Live, endpoint: str, title: str, frames: Frames | None = None) -> None:
        self._live = live
        self._frames = frames
        self._endpoint = endpoint
        self._title = title
        self._changed = True
        self._shown: tuple[int, str, View | None] = (-1, "", None)
        self._drawn_s = float("-inf")

    def event(self, state: PanelState, event: AnyEvent) -> None:
        self._changed = True

    def idle(self, state: PanelState, silent_s: float, hint: str) -> None:
        now_s = time.monotonic()
        frame = self._frames.newest if self._frames is not None else None
        shown = (state.n_unreadable, hint, frame)
        due = self._changed or shown != self._shown or now_s - self._drawn_s >= IDLE_FRAME_S
        if not due or now_s - self._drawn_s < (FRAME_S if frame is None else MOVIE_FRAME_S):
            return
        self._changed, self._shown, self._drawn_s = False, shown, now_s
        explains = self._frames is not None and self._frames.explains
        view = PanelView(state, silent_s, self._endpoint, self._title, hint, frame, explains)
        self._live.update(view, refresh=True)


class Interrupt:
    """What SIGINT and SIGTERM ask for.

    SIGTERM ends at once. The first Ctrl-C ends after :data:`GRACE_S`, so that the end of a run on the same
    terminal is still shown; the second ends at once.
    """

    def __init__(self) -> None:
        self._due_s = float("inf")
        self.hint = ""

    def is_due(self) -> bool:
        """Whether to end now."""
        return time.monotonic() >= self._due_s

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if number != signal.SIGTERM and not self.hint:
            self._due_s = time.monotonic() + GRACE_S
            self.hint = "waiting for the end of the run; Ctrl-C again leaves at once"
        else:
            self._due_s = float("-inf")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle signals inside the block, if this is the thread that may."""
        names = ("SIGINT", "SIGTERM", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        before: dict[int, Any] = {number: signal.signal(number, self.handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def watch(
    endpoint: str,
    console: Console,
    *,
    plain: bool,
    title: str = "streamscore",
    on_event: Callable[[AnyEvent], None] | None = None,
    until: Callable[[], bool] | None = None,
    frames: Frames | None = None,
) -> None:
    """Show the run that publishes at `endpoint`, until it stops.

    The engine need not be there yet. When it falls silent that is told, and waited for.

    Parameters
    ----------
    endpoint
        Address of a ``zmq_pub`` sink.
    console
        Where to show it.
    plain
        Lines instead of the panel; also used where the terminal cannot draw one.
    title
        Heading of the panel.
    on_event
        Called with each event after it was taken in.
    until
        Polled some ten times a second; ends the watch when it returns true. Signals are then the caller's.
    frames
        Where frames come from, for the panel; already listening.

    Raises
    ------
    ConfigError
        If `endpoint` is not an address that can be connected to.
    """
    interrupt = Interrupt()
    with ExitStack() as stack:
        socket = stack.enter_context(_subscribed(endpoint))
        if until is None:
            stack.enter_context(interrupt.installed())
            until = interrupt.is_due
        screen: Screen
        if plain or console.is_dumb_terminal or not console.encoding.lower().startswith("utf"):
            screen = LinesScreen(console, endpoint)
        else:
            live = Live(console=console, screen=True, auto_refresh=False)
            screen = LiveScreen(stack.enter_context(live), endpoint, title, frames)
        try:
            state = _follow(socket, screen, on_event, until, interrupt)
        except BrokenPipeError:
            # Whoever read the lines went away; the interpreter must not complain about that at its end either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), console.file.fileno())
            return
    if isinstance(screen, LiveScreen) and state.run:
        # The terminal's other page, on which the panel was, is gone; its last picture stays in the scrollback.
        last = frames.newest if frames is not None else None
        explains = frames is not None and frames.explains
        console.print(PanelView(state, title=title, frame=last, explains=explains))


@contextmanager
def _subscribed(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        # A screen that waits for a run must be there before its first event.
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise ConfigError(
                f"cannot connect to {endpoint!r} ({error.strerror}); write it as tcp://HOST:PORT, as the run does"
            ) from error
        yield socket
    finally:
        socket.close(0)


def _follow(
    socket: zmq.Socket[bytes],
    screen: Screen,
    on_event: Callable[[AnyEvent], None] | None,
    until: Callable[[], bool],
    interrupt: Interrupt,
) -> PanelState:
    """Take events in and show them until the run stops or `until` says so."""
    state = PanelState()
    heard_s = time.monotonic()
    while True:
        ending = until()  # asked first, so that what was sent before is still shown
        for message in _arrived(socket):
            try:
                event = parse(message)
            except ValidationError:
                state.n_unreadable += 1
                continue
            heard_s = time.monotonic()
            state.update(event)
            screen.event(state, event)
            if on_event is not None:
                on_event(event)
            ending |= isinstance(event, StopEvent)
        screen.idle(state, time.monotonic() - heard_s, interrupt.hint)
        if ending:
            return state


def _arrived(socket: zmq.Socket[bytes]) -> Iterator[bytes]:
    """Wait for a message, then give what is there, but for no longer than until the next picture."""
    if not socket.poll(round(1e3 * POLL_S)):
        return
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < FRAME_S:
        try:
            yield socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
