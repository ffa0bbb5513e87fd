"""Preflight: is the rig what the bundle and the rig file say it is?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamscore.assemble import build_source, check_policy
from streamscore.bundle import Bundle, open_bundle
from streamscore.clock import LslClock
from streamscore.config import StreamConfig, load_rig_file
from streamscore.errors import StreamscoreError
from streamscore.outputs import hop_in_samples
from streamscore.runner import choose_device
from streamscore.sources.base import Source
from streamscore.timebase import Timebase
from streamscore.types import Chunk, Segment, StreamInfo


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    expected: str
    found: str
    fits: bool


def preflight(path: Path, listen_s: float) -> list[Row]:
    """Compare a rig file with the world.

    Parameters
    ----------
    path
        Rig file.
    listen_s
        How long to listen to the stream; 0 leaves out what only samples can tell.

    Raises
    ------
    ConfigError
        If the rig file itself is wrong.
    """
    config = load_rig_file(path)
    rows = [Row("rig file", "valid", "valid", True)]
    for name, stream in {"": config, **config.streams}.items():
        prefix = f"{name}: " if name else ""
        policy = None if name else config.policy
        rows += [replace(row, what=prefix + row.what) for row in _check_stream(stream, policy, listen_s)]
    return rows


def _check_stream(config: StreamConfig, policy: dict[str, Any] | None, listen_s: float) -> list[Row]:
    """Compare one stream with the world."""
    rows: list[Row] = []
    bundle = None
    if config.bundle:
        wanted = config.bundle if isinstance(config.bundle, str) else f"network {config.bundle['model']}"
        try:
            bundle = open_bundle(config.bundle, config.look_ahead_s, config.calibration)
        except StreamscoreError as error:
            return [Row("bundle", wanted, str(error), False)]
        rows.append(Row("bundle", wanted, f"{bundle.spec.name} {bundle.sha256[:12]}", True))
        rows += _fits_bundle(config, policy, bundle)
        try:
            rows.append(Row("device", config.device, str(choose_device(config.device)), True))
        except StreamscoreError as error:
            rows.append(Row("device", config.device, str(error), False))
    source = build_source(config.source, LslClock())
    kind = str(config.source["kind"])
    try:
        info = source.open(bundle.spec.channels if bundle else None)
        rows.append(Row(f"{kind} stream", _selection(config), info.name, True))
        if bundle:
            rows += [Row(*difference) for difference in bundle.differences(info)]
        if listen_s > 0:
            rows += _listen(source, info, config, listen_s)
    except StreamscoreError as error:
        rows.append(Row(f"{kind} stream", _selection(config), str(error), False))
    finally:
        source.close()
    return rows


def _fits_bundle(config: StreamConfig, policy: dict[str, Any] | None, bundle: Bundle) -> list[Row]:
    """Compare what the rig file asks of the bundle with what it can do."""
    spec = bundle.spec
    timing = bundle.model.timing
    hop_s = config.hop_s or spec.hop_s or timing.step_samples / spec.sfreq
    try:
        hop_in_samples(hop_s, spec.sfreq, timing)
        rows = [Row("hop (s)", "divides the network's step", f"{hop_s:g}", True)]
    except StreamscoreError as error:
        rows = [Row("hop (s)", "divides the network's step", str(error), False)]
    if policy is None:
        return rows
    labels = "/".join(spec.labels)
    try:
        check_policy(policy, bundle)
        return [*rows, Row("states of the policy", labels, " ".join(policy.get("states", ())), True)]
    except StreamscoreError as error:
        return [*rows, Row("states of the policy", labels, str(error), False)]


def _selection(config: StreamConfig) -> str:
    """What the rig file asks for, in words."""
    return ", ".join(f"{key}={value}" for key, value in config.source.items() if key != "kind")


def _listen(source: Source, info: StreamInfo, config: StreamConfig, listen_s: float) -> list[Row]:
    """Take samples in for a while and tell what they are like."""
    clock = LslClock()
    timebase = Timebase(config.timebase, info.sfreq)
    source.begin()
    chunks: list[Chunk] = []
    gaps = 0
    end_s = clock.now_s() + listen_s
    while clock.now_s() < end_s and not source.ended:
        chunk = source.read(0.1)
        if chunk is not None:
            chunks.append(chunk)
            gaps += sum(not isinstance(piece, Segment) for piece in timebase.push(chunk))
    n = sum(len(chunk.stamps_s) for chunk in chunks)
    if n < 2:
        found = f"{n} samples in {listen_s:g} s"
        if listen_s < 2.5 / info.sfreq:
            found += f", too short for this rate: listen for {math.ceil(5.0 / info.sfreq)} s (--listen-s)"
        return [Row("samples", f"{info.sfreq:g} Hz", found, False)]
    stamps_s = np.concatenate([chunk.stamps_s for chunk in chunks])
    data = np.concatenate([chunk.data for chunk in chunks])
    sfreq = (n - 1) / max(float(stamps_s[-1] - stamps_s[0]), 1e-9)
    jitter_s = np.abs(np.diff(stamps_s) - 1.0 / info.sfreq).max()
    rows = [
        Row(
            "measured rate (Hz)",
            f"{info.sfreq:g} ± {100 * config.timebase.rate_tolerance:g} %",
            f"{sfreq:.{2 if info.sfreq >= 1.0 else 4}f}",
            abs(sfreq / info.sfreq - 1) <= config.timebase.rate_tolerance,
        ),
        Row(
            "stamps",
            f"jitter below {1e3 * timebase.jitter_tolerance_s:g} ms",
            f"{timebase.stamps}, jitter at most {1e3 * jitter_s:.2f} ms",
            bool(jitter_s <= timebase.jitter_tolerance_s),
        ),
        Row("losses", "none", f"{gaps} gaps, {timebase.counters.missing_samples} samples", gaps == 0),
    ]
    for column, channel in enumerate(info.channels):
        values = data[:, column]
        finite = bool(np.isfinite(values).all())
        spread = float(np.std(values)) if finite else float("nan")
        unit = info.units[column]
        found = f"standard deviation {spread:.4g} {unit}".rstrip() if finite else "NaN or infinite"
        rows.append(Row(f"signal of {channel}", "finite, not flat", found, finite and spread > 0))
    return rows
