"""Drawing a run on a terminal: rows of text that fit the width; when height is short, the least important go."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.text import Text

from streamscore import events
from streamscore.labels import UNKNOWN
from streamscore.panel.art import DIM, big_letters, clock, colour_of, hypnogram, margin_of, number, share_bar
from streamscore.panel.state import PanelState

if TYPE_CHECKING:  # pictures need numpy, which a screen without a camera does without
    from streamscore.panel.pictures import View

#: Silence of the engine that a person must be told of; heartbeats come every second.
SILENT_S = 3.0
#: Time without samples that is worth a colour.
STALLED_S = 1.0

MODES = {
    "monitor": ("MONITOR", "nothing leaves", "white on #31556e"),
    "dry": ("DRY", "commands are only noted", "bold black on #e3c14a"),
    "live": ("LIVE", "commands go to the rig", "bold white on #c81e2b"),
}
GOOD, WARN, BAD = "green", "yellow", "bold red"
#: Losses that are told first: the record has a hole, or the network failed.
SEVERE = ("dropped", "nonfinite_outputs")
LEVELS = {"info": "default", "warning": WARN, "error": BAD}


def row(key: str, *parts: tuple[str, str] | str) -> Text:
    """Return a line that begins with its name."""
    return Text.assemble((f"{key:<9}", DIM), *parts)


def printable(text: Text) -> Text:
    """Blank out control characters: names and reasons come from elsewhere and must not drive the terminal."""
    text.plain = "".join(char if char.isprintable() else " " for char in text.plain)
    return text


@dataclass(frozen=True)
class PanelView:
    """A picture of `state`.

    Parameters
    ----------
    state
        What is known.
    silent_s
        Wall time since the last message.
    endpoint
        Where the run publishes, told while nothing has been heard.
    title, hint
        Text of the upper edge, left and right.
    frame
        The newest frame, drawn on the right where there is room; ``None`` without a camera.
    explains
        Whether what the decision rests on is drawn too.
    """

    state: PanelState
    silent_s: float = 0.0
    endpoint: str = ""
    title: str = "streamscore"
    hint: str = ""
    frame: View | None = None
    explains: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        rows = self._beside_pictures(width - 4, (options.height or options.size.height) - 2)
        title = Text.assemble((self.title, "bold default"), (f" · {self.hint}", WARN) if self.hint else "")
        yield Panel(
            Text("\n").join(rows),
            title=title,
            title_align="left",
            subtitle=self._footer(),
            subtitle_align="right",
            border_style="#c81e2b" if self.state.mode == "live" and not self.state.stop else DIM,
            width=width,
        )

    def _beside_pictures(self, width: int, height: int) -> list[Text]:
        """The text, and right of it the pictures if there are any."""
        if self.frame is None or not self.state.run:
            return self.rows(width, height)
        from streamscore.panel.pictures import picture_column, side_by_side

        state = self.state
        age_s = 0.0 if state.stop else time.monotonic() - self.frame.received_s
        pictures = picture_column(self.frame, state.labels, self.explains, age_s, width, height)
        if not pictures:
            return self.rows(width, height)
        text_columns = width - pictures[0].cell_len - 2
        return side_by_side(self.rows(text_columns, height), pictures, text_columns)

    def rows(self, width: int, height: int) -> list[Text]:
        """Return at most `height` lines, none wider than `width`."""
        spacious = height >= 30
        if not self.state.run:
            return self._fit([self._header(width)], width, height)
        ranked = [
            (0, self._header(width)),
            (6, Text()),
            *((0, line) for line in self._present(width)),
            (9, Text()),
            *((3, line) for line in self._hypnogram(width, 2 if spacious else 1)),
            (8, Text()),
            (0, self._latency(width)),
            (5, self._stages(width)),
            (1, self._signal()),
            (1, self._losses()),
            *([(10, Text())] if spacious else []),
            (0, self._command()),
            *self._notices(),
        ]
        while len(ranked) > height and (worst := max(rank for rank, _ in ranked)) > 0:
            ranked = [item for item in ranked if item[0] != worst]
        return self._fit([line for _, line in ranked], width, height)

    @staticmethod
    def _fit(lines: list[Text], width: int, height: int) -> list[Text]:
        """Cut `lines` to size."""
        for line in map(printable, lines):
            line.no_wrap = True
            line.truncate(width, overflow="ellipsis")
        return lines[: max(height, 1)]

    @property
    def _is_silent(self) -> bool:
        return self.silent_s > SILENT_S and self.state.stop is None

    @property
    def _now_s(self) -> float:
        """Present time of the engine's clock; it stands still once the run has ended."""
        return self.state.wall_s + (0.0 if self.state.stop else self.silent_s)

    def _header(self, width: int) -> Text:
        state = self.state
        name, meaning, style = MODES.get(state.mode, (state.mode.upper(), "", "reverse"))
        right = f"{state.stream}  {clock(state.elapsed_s)} "
        left = f" {name} · {meaning}"
        if not state.run:
            left, right, style = f" waiting for a run at {self.endpoint}", f"{self.silent_s:.0f} s ", "reverse"
        elif state.stop is not None:
            left, style = f" ENDED · {state.stop.reason}", "black on #b8b8b8"
        elif self._is_silent:
            left = f" {name} · NO HEARTBEAT for {self.silent_s:.0f} s"
        elif state.is_on(self._now_s):
            left, style = f" {name} · STIMULATION ON", "bold #c81e2b on white"
        if cell_len(left) + cell_len(right) + 1 > width:
            right = right.split("  ")[-1]  # the name of the stream is what can be missed
        text = Text(left, style)
        text.truncate(max(width - cell_len(right) - 1, 0), overflow="ellipsis", pad=True)
        return text.append(f" {right}")

    def _present(self, width: int) -> Iterator[Text]:
        """The state in large letters, what is to be known of it, and beside it a bar for each label."""
        state = self.state
        stale = self._is_silent or not state.run
        colour = DIM if stale else colour_of(state.state if state.valid else UNKNOWN, state.labels)
        left = [Text(line, f"bold {colour}") for line in big_letters(state.state)]
        since = "before joining" if state.since_s is None else clock(state.since_s)
        lasted = "" if state.since_s is None else f" ({clock(state.elapsed_s - state.since_s)})"
        p = f"p {state.probability:.2f}" if state.probs else ""
        left.append(Text.assemble((p, f"bold {colour}"), " · " if p else "", f"since {since}{lasted}"))
        if stale:
            left.append(Text("not known: nothing is heard", WARN))
        elif state.valid:
            left.append(Text.assemble(("valid", GOOD), f" · lag {state.lag_s:g} s · age {state.age_s:.2f} s"))
        else:
            left.append(Text(state.reason or "not valid", WARN))
        left_width = 38 if width >= 70 else 34
        bars = [self._bar(k, width - left_width, stale) for k in range(len(state.labels))]
        for k in range(max(len(left), len(bars))):
            line = left[k] if k < len(left) else Text()
            if k < len(bars):
                line.truncate(left_width - 1, overflow="ellipsis", pad=True)
                line = Text.assemble(line, " ", bars[k])
            yield line

    def _bar(self, index: int, width: int, stale: bool) -> Text:
        state = self.state
        label = state.labels[index]
        name_width = max(map(len, state.labels)) + 1
        known = len(state.probs) == len(state.labels)
        probability = state.probs[index] if known else 0.0
        colour = DIM if stale else colour_of(label, state.labels)
        weight = "bold " if label == state.state and known else ""
        bar_width = max(width - name_width - 5, 1)
        return Text.assemble(
            (f"{label:<{name_width}}", weight + colour),
            (share_bar(probability, bar_width), colour),
            (f" {probability:.2f}" if known else "    –", weight or DIM),
        )

    def _hypnogram(self, width: int, rows_per_state: int) -> list[Text]:
        state = self.state
        if not state.labels:
            return []
        n_columns = width - margin_of(state.labels)
        return hypnogram(state.strip.columns(n_columns, state.hop_s), state.labels, n_columns, rows_per_state)

    def _latency(self, width: int) -> Text:
        state = self.state
        if state.heartbeat is None:
            return row("latency", ("not measured yet", DIM))
        misses = state.heartbeat.misses
        apart = "  ·  " if width >= 70 else " "
        parts: list[tuple[str, str] | str] = [(f"{misses} missed", BAD if misses else GOOD)]
        for key in ("p50", "p99", "max"):
            value = state.heartbeat.latency.get(f"{key}_ms", math.nan)
            parts += [apart, (f"{key} {number(value)}", self._grade(value))]
        return row("latency", *parts, f" of {number(state.deadline_ms)} ms")

    def _grade(self, value_ms: float) -> str:
        deadline_ms = self.state.deadline_ms
        return GOOD if value_ms <= 0.8 * deadline_ms else WARN if value_ms <= deadline_ms else BAD

    def _stages(self, width: int) -> Text:
        heartbeat = self.state.heartbeat
        parts: list[tuple[str, str] | str] = []
        for name, summary in (heartbeat.stages if heartbeat else {}).items():
            p50, p99 = (number(summary.get(key, math.nan)) for key in ("p50_ms", "p99_ms"))
            parts += [(f"{name} ", DIM), f"{p50}/{p99}  " if width >= 70 else f"{p99} "]
        return row("stages", *parts, ("ms p50/p99" if width >= 70 else "ms p99", DIM) if parts else "")

    def _signal(self) -> Text:
        state = self.state
        heartbeat, gap = state.heartbeat, state.gap
        parts: list[tuple[str, str] | str] = []
        stalled_s = heartbeat.stalled_s if heartbeat else 0.0
        if stalled_s >= STALLED_S:
            parts += [(f"NO SAMPLES for {stalled_s:.0f} s", BAD), " · "]
        if gap is not None and gap.open:
            parts += [(f"GAP since {clock(self._time_of(gap.start))}: {gap.reason}", BAD), " · "]
        n_gaps = heartbeat.counters.get("gaps", 0) if heartbeat else 0
        if gap is not None and not gap.open:
            lost_s, end_s = self._time_of(gap.n_samples), self._time_of(gap.start + gap.n_samples)
            parts += [
                (f"{max(n_gaps, 1)} gap{'s' if n_gaps > 1 else ''}", WARN),
                f", last at {clock(end_s)} ({lost_s:.1f} s, {gap.reason}) · ",
            ]
        elif gap is None:
            parts += [("no gaps", GOOD) if not n_gaps else (f"{n_gaps} gaps", WARN), " · "]
        if heartbeat is not None:
            parts.append(f"{heartbeat.measured_sfreq:.2f} Hz, {heartbeat.stamps} stamps")
        return row("signal", *parts)

    def _time_of(self, n_samples: int) -> float:
        return n_samples / self.state.sfreq if self.state.sfreq else 0.0

    def _losses(self) -> Text:
        losses = self.state.losses
        if not losses:
            return row("losses", ("none", GOOD))
        parts: list[tuple[str, str] | str] = []
        for name, n in sorted(losses.items(), key=lambda item: not item[0].startswith(SEVERE)):
            what = name.removesuffix("_samples").replace("_", " ")
            parts += [" · "] if parts else []
            parts.append((f"{what} {n}", BAD if name.startswith(SEVERE) else WARN))
        return row("losses", *parts)

    def _command(self) -> Text:
        state = self.state
        command = state.command
        if command is None:
            told = state.heartbeat.last_command if state.heartbeat else ""
            return row("command", told or ("none yet", DIM))
        age_s = max(self._now_s - command.wall_s, 0.0)
        if state.is_on(self._now_s):
            badge = (f" ON {age_s:.0f}/{command.duration_s:g} s ", "bold white on #c81e2b")
        else:
            badge = (f"#{command.command_id} {command.action}", "bold")
        return row("command", badge, "  ", self._answer(command), f"  {clock(age_s)} ago  ", (command.reason, DIM))

    def _answer(self, command: events.CommandEvent) -> tuple[str, str]:
        ack = self.state.ack
        if not command.sent:
            return ("not sent", DIM)
        if ack is None:
            return ("waiting for the rig", WARN)
        if ack.accepted:
            return (f"done in {number(ack.round_trip_ms)} ms", GOOD)
        return (f"REFUSED: {ack.detail}", BAD)

    def _notices(self) -> Iterator[tuple[int, Text]]:
        """Newest first, and the oldest is the first to go when height is short."""
        for k, (elapsed_s, notice) in enumerate(reversed(self.state.notices)):
            told = (notice.text, LEVELS[notice.level])
            yield (2, 4, 7)[k], row("" if k else "notices", f"{clock(elapsed_s)} ", told)

    def _footer(self) -> Text:
        state = self.state
        troubles = [
            (f"messages missed: {state.n_missed}", WARN) if state.n_missed else None,
            (f"messages not understood: {state.n_unreadable}", WARN) if state.n_unreadable else None,
            (f"commands refused: {state.n_refused}", BAD) if state.n_refused else None,
        ]
        bundle = f"{state.bundle} {state.bundle_sha256[:8]}".strip() or "no bundle"
        about = (f"{bundle} · {state.run}" if state.run else "no run yet", DIM)
        return printable(Text(" · ").join(Text(*part) for part in (*troubles, about) if part))
