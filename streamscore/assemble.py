"""From a rig file to an engine: the one place where parts are chosen and joined."""

from __future__ import annotations

import secrets
import time
from typing import Any

import torch

from streamscore import config as rig_config
from streamscore import plugins
from streamscore.bundle import Bundle, load_bundle
from streamscore.clock import Clock, LslClock
from streamscore.config import RigConfig, plugin_config
from streamscore.engine import Engine, RecorderLike
from streamscore.errors import ConfigError
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
    """

    def __init__(self, config: RigConfig, mode: Mode = "monitor", clock: Clock | None = None) -> None:
        if mode == "live" and (config.policy is None or config.rig is None):
            raise ConfigError("mode live needs a 'policy' and a 'rig' section; use monitor or dry without them")
        torch.set_num_threads(config.threads)
        self._config = config
        self._clock = clock or LslClock()
        self.run_id = new_run_id()
        self.run_folder = config.record / self.run_id if config.record else None
        self.bundle: Bundle | None = load_bundle(config.bundle) if config.bundle else None
        if config.policy is not None and self.bundle is not None:
            build_policy(config.policy, self.bundle.spec.labels)  # a wrong state must not wait for the run
        source = build_source(config.source, self._clock)
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
        self.endpoint: str = next((getattr(sink, "endpoint", "") for sink in sinks), "")
        policy_section = config.policy
        self.engine = Engine(
            config,
            source,
            bundle=self.bundle,
            clock=self._clock,
            make_recorder=self._make_recorder,
            sinks=sinks,
            rig=self._rig,
            make_policy=(lambda labels: build_policy(policy_section, labels)) if policy_section else None,
            mode=mode,
            run_id=self.run_id,
        )

    def _make_recorder(self, info: StreamInfo) -> RecorderLike:
        if self.run_folder is None:
            return NullRecorder()
        return Recorder(
            self.run_folder,
            run_id=self.run_id,
            stream=info,
            clock=self._clock,
            config_text=rig_config.dump(self._config),
            bundle_hash=self.bundle.sha256 if self.bundle else "",
        )
