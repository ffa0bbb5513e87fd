"""Rig files: strict, with errors that name file, line and choices.

A rig file is YAML. It describes the main stream at its top level, and others beside it under ``streams``. Sections
that choose a plug-in (``source``, ``policy``, ``rig``, each of ``sinks``) hold its
``kind`` and its arguments. An unknown key is an error, because a misspelt safety limit must not be ignored.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamscore import plugins
from streamscore.errors import ConfigError
from streamscore.frame_quality import Config as FrameQualityConfig
from streamscore.gates import Config as GateConfig
from streamscore.quality import Config as QualityConfig
from streamscore.timebase import Config as TimebaseConfig

Location = tuple[str | int, ...]


class NetworkSection(BaseModel):
    """A network written out in a rig file (``bundle: {model: …}``) instead of the name of a bundle.

    Its weights are random, for timing and for trying a rig out in monitor mode; only networks whose weights come
    with an installed package (YASA) are more than that.

    Parameters
    ----------
    model, model_args
        Kind of network (a file of ``streamscore/models``) and its arguments.
    preprocess, vocabulary, sfreq, channels, frame_shape, unit
        As in a bundle; what is left out is taken from the network's first example.
    seed
        Of the random weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    model_args: dict[str, Any] = Field(default_factory=dict)
    preprocess: tuple[dict[str, Any], ...] = ()
    vocabulary: str | None = None
    sfreq: float | None = Field(None, gt=0)
    channels: tuple[str, ...] | None = None
    frame_shape: tuple[int, int] | None = None
    unit: Literal["uV", "V", "mV", "any"] | None = None
    seed: int = 0


class StreamConfig(BaseModel):
    """One stream of a rig, and what scores it.

    Parameters
    ----------
    source
        Where samples come from: ``kind`` and arguments of a file of ``streamscore/sources``.
    bundle
        Path or name of a bundle; a :class:`NetworkSection`; or ``null``, which streams and records without
        scoring.
    hop_s
        Time between outputs; the bundle's own by default.
    look_ahead_s
        Look-ahead of the final outputs, for networks that offer the choice; the bundle's own by default.
    revise
        Tell what a network says about an epoch at lags between the first and the last too.
    device, precision
        Where and how the network computes; ``auto`` is a GPU where there is one.
    deadline_ms
        Latest time from the newest sample needed to the event; one hop by default.
    stall_s
        Silence after which the state is UNKNOWN, from when the next sample was due.
    delay_s
        Time from the event in the world to its stamp (exposure, amplifier), as measured by the user.
    calibration
        Kind of a step of the bundle's chain → arguments that belong to this rig or animal: its dark frame, its
        transform to the atlas.
    timebase, quality, frame_quality
        How stamps are judged, and which samples or frames are unusable.
    record_raw
        Whether its samples go into the record. Frames of a camera cannot yet; write ``false`` for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: dict[str, Any]
    bundle: str | dict[str, Any] | None = None
    hop_s: float | None = Field(None, gt=0)
    look_ahead_s: float | None = Field(None, ge=0)
    revise: bool = False
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    deadline_ms: float | None = Field(None, gt=0)
    stall_s: float = Field(2.0, gt=0)
    delay_s: float = Field(0.0, ge=0)
    calibration: dict[str, dict[str, Any]] = Field(default_factory=dict)
    timebase: TimebaseConfig = TimebaseConfig()
    quality: QualityConfig = QualityConfig()
    frame_quality: FrameQualityConfig = FrameQualityConfig()
    record_raw: bool = True

    @field_validator("calibration")
    @classmethod
    def _steps_keep_their_kind(cls, calibration: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for kind, arguments in calibration.items():
            if "kind" in arguments:
                raise ValueError(f"{kind}: a calibration gives arguments of a step, and cannot change its kind")
        return calibration


class RigConfig(StreamConfig):
    """A rig file: the main stream, and what belongs to the run.

    Parameters
    ----------
    streams
        Name → stream beside the main one, scored and recorded with it.
    gates
        What side streams must say for the policy to act.
    policy, rig, sinks
        When to act, on what, and who is told.
    ack_timeout_s, command_expiry_s
        How long a rig may take to acknowledge, and how old a command may be when it acts.
    record
        Folder in which each run gets a folder of its own; ``null`` records nothing.
    threads
        Threads of the network. One is steadiest for small networks.
    """

    bundle: str | dict[str, Any] | None = "default"
    streams: dict[str, StreamConfig] = Field(default_factory=dict)
    gates: tuple[GateConfig, ...] = ()
    policy: dict[str, Any] | None = None
    rig: dict[str, Any] | None = None
    sinks: tuple[dict[str, Any], ...] = ({"kind": "zmq_pub"},)
    ack_timeout_s: float = Field(0.5, gt=0)
    command_expiry_s: float = Field(1.0, gt=0)
    record: Path | None = Path("runs")
    threads: int = Field(1, ge=1)

    @field_validator("streams")
    @classmethod
    def _names_are_plain(cls, streams: dict[str, StreamConfig]) -> dict[str, StreamConfig]:
        for name in streams:
            if not name.isidentifier():
                raise ValueError(f"{name!r} cannot name a stream; use letters, digits and _")
        return streams


def plugin_config(folder: str, section: dict[str, Any]) -> BaseModel:
    """Check a section against the plug-in that it names; raises ``ValidationError`` or ``ConfigError``."""
    module = plugins.load(folder, str(section.get("kind", "")))
    config: BaseModel = module.Config(**section)
    return config


def load_rig_file(path: Path) -> RigConfig:
    """Read and check a rig file, plug-in sections included.

    Raises
    ------
    ConfigError
        Naming file, line, key and choices.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give the path of a rig file") from error
    return parse_rig(text, str(path))


def parse_rig(text: str, where: str) -> RigConfig:
    """Check the text of a rig file; `where` names it in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: a rig file is a mapping with at least a 'source' section")
    _refuse_duplicate_keys(node, where)
    try:
        config = RigConfig(**{str(key): value for key, value in content.items()})
    except ValidationError as error:
        raise _explain(error, RigConfig, (), node, where) from error
    sections: list[tuple[str, Location, dict[str, Any] | None]] = [
        ("sources", ("source",), config.source),
        ("policies", ("policy",), config.policy),
        ("rigs", ("rig",), config.rig),
    ]
    streams: dict[Location, StreamConfig] = {(): config}
    streams |= {("streams", name): stream for name, stream in config.streams.items()}
    for location, stream in streams.items():
        if location:
            sections.append(("sources", (*location, "source"), stream.source))
        if isinstance(stream.bundle, dict):
            _check_network(stream.bundle, (*location, "bundle"), node, where)
    for i, gate in enumerate(config.gates):
        if gate.stream not in config.streams:
            raise ConfigError(
                f"{where}:{_line(node, ('gates', i, 'stream'))}: gates.{i}.stream: {gate.stream!r} is none of the "
                f"streams beside the main one ({', '.join(config.streams) or 'there are none'})"
            )
    sections += [("sinks", ("sinks", i), sink) for i, sink in enumerate(config.sinks)]
    for folder, location, section in sections:
        if section is None:
            continue
        try:
            plugin_config(folder, section)
        except ConfigError as error:
            raise ConfigError(
                f"{where}:{_line(node, (*location, 'kind'))}: {_dotted(location)}: {error}"
            ) from error
        except ValidationError as error:
            module = plugins.load(folder, str(section["kind"]))
            raise _explain(error, module.Config, location, node, where) from error
    return config


def _check_network(section: dict[str, Any], location: Location, node: Any, where: str) -> None:
    """Check a network that is written out, and its arguments."""
    try:
        network = NetworkSection(**section)
    except ValidationError as error:
        raise _explain(error, NetworkSection, location, node, where) from error
    try:
        module = plugins.load("models", network.model)
    except ConfigError as error:
        raise ConfigError(f"{where}:{_line(node, (*location, 'model'))}: {_dotted(location)}: {error}") from error
    try:
        module.Config(**network.model_args)
    except ValidationError as error:
        raise _explain(error, module.Config, (*location, "model_args"), node, where) from error


def _explain(
    error: ValidationError, model: type[BaseModel], prefix: Location, node: Any, where: str
) -> ConfigError:
    lines = []
    for item in error.errors():
        location = tuple(item["loc"])
        line = _line(node, (*prefix, *location))
        name = _dotted((*prefix, *location)) or "rig file"
        if item["type"] == "extra_forbidden":
            choices = _fields(model, location[:-1])
            near = difflib.get_close_matches(str(location[-1]), choices, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            lines.append(f"{where}:{line}: unknown key {name!r}{hint}; choose from {', '.join(choices)}")
        elif item["type"] == "missing":
            lines.append(f"{where}:{line}: {name!r} is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{where}:{line}: {name}: {message}, got {item['input']!r}")
    return ConfigError("\n".join(lines))


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    for part in location:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        for kind in (inner, *get_args(inner)):  # itself, or what a list or mapping holds
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return list(model.model_fields)


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def _line(node: Any, location: Location) -> int:
    """Line of the key at `location`, or of the nearest section around it."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            hits = [(key, value) for key, value in node.value if key.value == str(part)]
            if not hits:
                return int(line)
            key, node = hits[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return int(line)
    return int(line)


def _refuse_duplicate_keys(node: Any, where: str) -> None:
    """YAML keeps the last of two equal keys in silence; a rig file must not."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError(f"{where}:{key.start_mark.line + 1}: key {key.value!r} stands twice")
            seen.add(key.value)
            _refuse_duplicate_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicate_keys(item, where)


def dump(config: RigConfig) -> str:
    """Resolved configuration as YAML, for the record."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
