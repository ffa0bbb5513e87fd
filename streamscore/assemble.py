"""From a rig file to an engine: the one place where parts are chosen and joined."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from typing import Any

import torch

from streamscore import config as rig_config
from streamscore import plugins
from streamscore.bundle import Bundle, open_bundle
from streamscore.clock import Clock, LslClock
from streamscore.config import RigConfig, StreamConfig, plugin_config
from streamscore.engine import Engine, RecorderLike, Side
from streamscore.errors import ConfigError
from streamscore.outputs import ReadPlan
from streamscore.policies.base import Policy
from streamscore.record import NullRecorder, Recorder
from streamscore.sinks.base import Sink
from streamscore.sources.base import Source
from streamscore.stimulation import Mode
from streamscore.types import StreamInfo


def new_run_id() -> str:
    """Return an identifier that sorts by time and does not repeat."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def build_source(section: dict[str, Any], clock: Clock) -> Source:
    """Build the source that a rig file's ``source`` section describes."""
    module = plugins.load("sources", str(section.get("kind", "")))
    source: Source = module.build(plugin_config("sources", section), clock)
    return source


def build_policy(section: dict[str, Any], labels: tuple[str, ...]) -> Policy:
    """Build the policy that a rig file's ``policy`` section describes, for `labels`."""
    module = plugins.load("policies", str(section.get("kind", "")))
    policy: Policy = module.build(plugin_config("policies", section), labels)
    return policy


def check_policy(section: dict[str, Any], bundle: Bundle) -> None:
    """Refuse a policy that could never act on what `bundle` gives.

    Raises
    ------
    ConfigError
        If it names a state that is not scored, a kind of output that the network does not give, or refuses
        outputs as old as the network's lag makes them.
    """
    policy = build_policy(section, bundle.spec.labels)
    timing = bundle.model.timing
    kinds = ReadPlan(timing, revise=False).kinds
    if policy.uses not in kinds:
        raise ConfigError(
            f"the policy uses {policy.uses} outputs, but network {bundle.spec.model!r} gives only "
            f"{' and '.join(kinds)} ones"
        )
    if policy.uses == "final" and (timing.chunk_steps or timing.step_samples > timing.epoch_samples):
        remedy = "write uses: provisional" if timing.chunk_steps else "take its variant: sliding"
        raise ConfigError(
            f"network {bundle.spec.model!r} as configured gives its final outputs in bursts, many epochs at once, "
            f"which no policy can act on in time; {remedy}"
        )
    lag_samples = bundle.chain().lag_samples + (timing.look_ahead_samples if policy.uses == "final" else 0)
    lag_s = lag_samples / bundle.spec.sfreq
    max_age_s = section.get("max_age_s", getattr(plugin_config("policies", section), "max_age_s", math.inf))
    if lag_s >= max_age_s:
        raise ConfigError(
            f"the policy refuses outputs older than max_age_s {max_age_s:g}, but its {policy.uses} outputs come "
            f"{lag_s:g} s late by design; raise max_age_s, lower look_ahead_s, or write uses: provisional"
        )


class Assembly:
    """An engine and what a command needs to know about it.

    Parameters
    ----------
    config
        Rig file.
    mode
        ``live`` needs a policy and a rig.
    clock
        LSL's by default.

    Attributes
    ----------
    engine, bundle, run_id
        As they will run.
    run_folder
        Where the record will be; ``None`` without one.
    endpoint
        Address of the first ``zmq_pub`` sink, if there is one.
    frames_endpoint
        Address of the first ``zmq_frames`` sink, if there is one.
    """

    def __init__(self, config: RigConfig, mode: Mode = "monitor", clock: Clock | None = None) -> None:
        if mode == "live" and (config.policy is None or config.rig is None):
            raise ConfigError("mode live needs a 'policy' and a 'rig' section; use monitor or dry without them")
        torch.set_num_threads(config.threads)
        self._config = config
        self._clock = clock or LslClock()
        self.run_id = new_run_id()
        self.run_folder = config.record / self.run_id if config.record else None
        streams = {"": config, **config.streams}
        bundles = {name: _open(name, stream, mode) for name, stream in streams.items()}
        self.bundle = bundles[""]
        for name, opened in bundles.items():
            if opened is not None and opened.layout.frame_shape:
                self._refuse_to_record(name)  # and of a camera that nothing scores once it is open
        if config.policy is not None and self.bundle is not None:
            check_policy(config.policy, self.bundle)  # a wrong state must not wait for the run
        source = build_source(config.source, self._clock)
        sides = {
            name: Side(stream, build_source(stream.source, self._clock), bundles[name])
            for name, stream in config.streams.items()
        }
        sinks: list[Sink] = []
        self._rig = None
        try:
            for section in config.sinks:
                module = plugins.load("sinks", str(section.get("kind", "")))
                sinks.append(module.build(plugin_config("sinks", section)))
            if config.rig is not None and mode == "live":
                module = plugins.load("rigs", str(config.rig.get("kind", "")))
                self._rig = module.build(plugin_config("rigs", config.rig))
        except BaseException:
            for sink in sinks:
                sink.close()
            raise
        self.endpoint: str = next(filter(None, (getattr(sink, "endpoint", "") for sink in sinks)), "")
        self.frames_endpoint: str = next(
            filter(None, (getattr(sink, "frames_endpoint", "") for sink in sinks)), ""
        )
        policy_section = config.policy
        self.engine = Engine(
            config,
            source,
            bundle=self.bundle,
            sides=sides,
            clock=self._clock,
            make_recorder=self._make_recorder,
            sinks=sinks,
            rig=self._rig,
            make_policy=(lambda labels: build_policy(policy_section, labels)) if policy_section else None,
            mode=mode,
            run_id=self.run_id,
        )

    def _refuse_to_record(self, name: str) -> None:
        """Frames are not recorded in silence, nor left out in silence."""
        stream = self._config.streams[name] if name else self._config
        if self.run_folder is not None and stream.record_raw:
            which = f"stream {name!r}" if name else "main stream"
            raise ConfigError(
                f"{which}: frames of a camera cannot be recorded yet; write record_raw: "
                "false (events and other streams are recorded), or record: null (--no-record)"
            )

    def _make_recorder(self, streams: Mapping[str, StreamInfo]) -> RecorderLike:
        if self.run_folder is None:
            return NullRecorder()
        wanted = {"": self._config, **self._config.streams}
        for name, info in streams.items():
            if info.frame_shape is not None:
                self._refuse_to_record(name)
        return Recorder(
            self.run_folder,
            run_id=self.run_id,
            streams={name: info for name, info in streams.items() if wanted[name].record_raw},
            clock=self._clock,
            config_text=rig_config.dump(self._config),
            bundle_hash=self.bundle.sha256 if self.bundle else "",
        )


def _open(name: str, stream: StreamConfig, mode: Mode) -> Bundle | None:
    """Open the bundle of a stream."""
    if not stream.bundle:
        if stream.calibration:
            raise ConfigError(f"{name or 'main stream'}: calibration is given, but there is no bundle to use it")
        return None
    bundle = open_bundle(stream.bundle, stream.look_ahead_s, stream.calibration)
    if not bundle.is_trained and mode != "monitor" and not name:  # a policy acts on the main stream alone
        raise ConfigError(
            f"mode {mode} needs a trained network; {bundle.spec.name!r} has random weights. Give a "
            "bundle, or use mode monitor"
        )
    return bundle
