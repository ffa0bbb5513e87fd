"""Tables of the benchmark: distributions, comparisons with their targets, Markdown and JSON."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from streamscore.clock import utc_now_iso
from streamscore.record.run_folder import versions
from tools.bench_engine import Floats

#: Explains the tables to whoever finds ``bench.md`` alone.
METHOD = """\
Each sample is stamped with `local_clock()` immediately before `push_sample`, by a process of its own, and travels
over LSL on loopback. *Published* is the moment after the last sink (ZeroMQ, LSL) has taken the event, with the
record being written; *received* is that of a subscriber in another process. Without a network, blocks of the bare
pylsl loop and of the engine alternate: the pusher feeds one and then the other, and both live throughout. With a
network, the bare `model(x, state)` runs in the engine's own thread, half-way between two outputs. Percentiles are
interpolated linearly."""


@dataclass(frozen=True)
class Distribution:
    """Percentiles (interpolated linearly) in ms."""

    n: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, values_ms: Floats | Sequence[Floats]) -> Distribution:
        """Summarise one array, or several together."""
        values = np.concatenate(values_ms) if isinstance(values_ms, list) else np.asarray(values_ms)
        p50, p90, p99 = np.percentile(values, [50, 90, 99]).tolist()
        return cls(len(values), p50, p90, p99, float(values.max()))


@dataclass(frozen=True)
class Check:
    """One figure beside its target.

    Parameters
    ----------
    what, value, unit
        The figure.
    limit
        It must not be above.
    note
        How it was obtained.
    """

    what: str
    value: float
    unit: str
    limit: float
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.limit  # a NaN compares as false


@dataclass
class Report:
    """Everything that a run of the benchmark found.

    Parameters
    ----------
    is_quick
        The figures are rough.
    distributions
        Latencies by part and name.
    checks
        Figures with targets.
    facts
        Other figures, by name.
    name, method
        Of the files, and what explains the tables to whoever finds them alone.
    """

    is_quick: bool
    distributions: dict[str, dict[str, Distribution]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, str | float] = field(default_factory=dict)
    name: str = "bench"
    method: str = METHOD

    def as_json(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {
            "format": "streamscore-bench/1",
            "quick": self.is_quick,
            "host": host(),
            "distributions": {
                part: {name: asdict(found) for name, found in rows.items()}
                for part, rows in self.distributions.items()
            },
            "checks": [asdict(check) | {"met": check.is_met} for check in self.checks],
            "facts": self.facts,
        }

    def as_markdown(self) -> str:
        """Tables, for people."""
        found = host()
        lines = ["# streamscore bench", ""]
        lines.append(", ".join(f"{key} {value}" for key, value in found.items()) + ".")
        if self.is_quick:
            lines += ["", "Made with `--quick`: too short for tails; the figures are rough."]
        lines += ["", self.method, "", "| figure | measured | target | | how |", "|---|---:|---:|---|---|"]
        lines += [f"| {' | '.join((*_cells(check), check.note))} |" for check in self.checks]
        for part, rows in self.distributions.items():
            lines += ["", f"## {part}", "", "| ms | p50 | p90 | p99 | max | n |", "|---|---:|---:|---:|---:|---:|"]
            lines += [f"| {' | '.join((name, *_numbers(row)))} |" for name, row in rows.items()]
        lines += ["", "## Further figures", "", "| figure | |", "|---|---:|"]
        lines += [f"| {key} | {_plain(value)} |" for key, value in self.facts.items()]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write tables as Markdown and JSON; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        markdown, data = folder / f"{self.name}.md", folder / f"{self.name}.json"
        markdown.write_text(self.as_markdown(), encoding="utf-8")
        data.write_text(json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return [markdown, data]

    def show(self, console: Console) -> None:
        """Print the tables."""
        for part, rows in self.distributions.items():
            table = Table(title=part, title_justify="left")
            table.add_column("ms")
            for column in ("p50", "p90", "p99", "max", "n"):
                table.add_column(column, justify="right")
            for name, row in rows.items():
                table.add_row(name, *_numbers(row))
            console.print(table)
        table = Table(title="targets", title_justify="left")
        for column in ("figure", "measured", "target", ""):
            table.add_column(column, justify="left" if column == "figure" else "right")
        for check in self.checks:
            table.add_row(*_cells(check))
        console.print(table)
        if self.is_quick:
            console.print("quick: too short for tails; the figures are rough")


def _cells(check: Check) -> tuple[str, str, str, str]:
    measured, limit = f"{_plain(check.value)} {check.unit}", f"≤ {check.limit:g} {check.unit}"
    return check.what, measured.rstrip(), limit.rstrip(), "met" if check.is_met else "NOT MET"


def _numbers(row: Distribution) -> tuple[str, ...]:
    return (*(f"{value:.3f}" for value in (row.p50_ms, row.p90_ms, row.p99_ms, row.max_ms)), str(row.n))


def _plain(value: str | float) -> str:
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def host() -> dict[str, str]:
    """What the figures were measured on."""
    load = psutil.getloadavg()[0]
    return {
        "made": utc_now_iso(),
        "on": platform.platform(),
        "cores": str(psutil.cpu_count()),
        "load average": f"{load:.1f}",
        **{name: str(version) for name, version in versions().items() if version is not None},
    }
