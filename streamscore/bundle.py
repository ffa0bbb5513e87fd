"""A bundle: one ``.safetensors`` file that holds everything inference needs.

Weights, network arguments, preprocessing chain, labels, rate, channels, golden vectors and provenance. The
header carries a SHA-256 over all of it, and the golden vectors are scored again when a bundle is loaded, so a
truncated, altered or differently computing bundle is refused before it scores anything. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from streamscore import plugins
from streamscore.config import NetworkSection, load_rig_file
from streamscore.errors import BundleCorruptError, BundleError, BundleMismatchError, ConfigError
from streamscore.labels import vocabulary
from streamscore.models.base import ScoringModel
from streamscore.preprocess.base import CPU, Chain
from streamscore.types import Layout, StreamInfo
from streamscore.units import normalise_unit

FORMAT = "streamscore-bundle"
FORMAT_VERSION = 2
#: Version 1 holds its golden input, and probabilities without the axis of reads.
READABLE_VERSIONS = (1, 2)
#: Largest difference of a golden probability that a different CPU or library may produce.
GOLDEN_TOLERANCE = 1e-4
#: Values of the golden input beyond which one step has to do.
GOLDEN_VALUES = 2**20
#: Name of the bundle that is used when none is given.
DEFAULT_BUNDLE = "tinysleepnet-ucddb"


class Spec(BaseModel):
    """What a bundle says about itself.

    Parameters
    ----------
    model, model_args
        Network kind (a file of ``streamscore/models``) and its arguments.
    preprocess
        Description of the chain, see :class:`streamscore.preprocess.base.Chain`.
    vocabulary
        Name of the label vocabulary; the order of the classes is its order.
    sfreq
        Sampling rate in Hz that a rig must deliver.
    channels
        Input names in order, such as ``("EEG",)``; of a camera the lights.
    frame_shape
        ``(height, width)`` of the frames that the chain takes, where it turns them into regions; otherwise those
        of the network.
    calibrate
        Kinds of steps of the chain whose constants belong to a rig or an animal, such as ``"affine"``: the rig
        file must give them (``calibration``).
    unit
        Unit that a rig must deliver, or ``"any"`` when the chain removes the scale.
    hop_s
        Default time between outputs; ``None`` is one step of the network.
    provenance, card
        Who trained it, on what, with which figures; the model card is Markdown text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    model: str
    model_args: dict[str, Any]
    preprocess: tuple[dict[str, Any], ...]
    vocabulary: str
    sfreq: float = Field(gt=0)
    channels: tuple[str, ...] = Field(min_length=1)
    frame_shape: tuple[int, int] | None = None
    calibrate: tuple[str, ...] = ()
    unit: Literal["uV", "V", "mV", "any"] = "any"
    hop_s: float | None = Field(1.0, gt=0)
    provenance: dict[str, Any] = Field(default_factory=dict)
    card: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return vocabulary(self.vocabulary)


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Parameters
    ----------
    spec
        What it says about itself.
    model
        The network with its weights, in evaluation mode.
    sha256
        Hash of the content, quoted in every event.
    is_trained
        False for a network with random weights, which must never act on a rig.
    calibration
        Kind of a step → arguments that the rig adds to those of the chain.
    """

    spec: Spec
    model: ScoringModel
    sha256: str
    is_trained: bool = True
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """What the samples of a rig must be made of."""
        spec = self.spec
        return Layout(spec.sfreq, spec.channels, spec.frame_shape or self.model.frame_shape)

    def at_look_ahead(self, look_ahead_s: float) -> Bundle:
        """Return the same weights with another look-ahead.

        Raises
        ------
        BundleError
            If the network has no such choice, or was not trained for so much.
        """
        spec = self.spec
        fields = plugins.load("models", spec.model).Config.model_fields
        if "look_ahead_s" not in fields:
            raise BundleError(
                f"bundle {spec.name!r}: network {spec.model!r} has no look-ahead to choose; leave look_ahead_s out"
            )
        spec = spec.model_copy(update={"model_args": {**spec.model_args, "look_ahead_s": look_ahead_s}})
        model = _build_model(spec)
        if look_ahead_s == 0 and model.timing.look_ahead_samples:
            raise BundleError(
                f"bundle {self.spec.name!r}: its final outputs come "
                f"{model.timing.look_ahead_samples / spec.sfreq:g} s late by design; leave look_ahead_s out"
            )
        model.load_state_dict(self.model.state_dict(), assign=True)
        return replace(self, spec=spec, model=model.eval().requires_grad_(False))

    def chain(self, device: torch.device = CPU) -> Chain:
        """Return a fresh preprocessing chain; raises ``BundleError`` if its description makes no sense."""
        spec = self.spec
        self._check_calibration()
        try:
            return Chain(spec.preprocess, self.layout, self.calibration, device)
        except (ConfigError, ValueError, TypeError) as error:
            raise BundleError(f"bundle {spec.name!r}: preprocessing cannot be built: {error}") from error

    def _check_calibration(self) -> None:
        """Refuse constants of a rig that are missing, or for a step that the chain does not have."""
        spec = self.spec
        kinds = [str(step.get("kind")) for step in spec.preprocess]
        if missing := [kind for kind in spec.calibrate if kind not in self.calibration]:
            raise BundleError(
                f"bundle {spec.name!r}: its chain needs what only this rig can tell: {', '.join(missing)}. Write "
                f"calibration: {{{missing[0]}: …}} in the rig file; a transform comes from streamscore register"
            )
        if unknown := sorted(set(self.calibration) - set(kinds)):
            raise BundleError(
                f"bundle {spec.name!r}: calibration names {', '.join(unknown)}, but the steps of its chain are "
                f"{', '.join(kinds) or 'none'}"
            )

    def try_chain(self) -> None:
        """Refuse a chain that cannot be built or does not give what the network takes, before a run finds out.

        Raises
        ------
        BundleError
            Saying why.
        """
        name, layout = self.spec.name, self.layout
        chain = self.chain()
        sample = np.zeros((1, *layout.sample_shape), np.float32)
        try:
            got = chain.push(sample, 0).shape[1:]
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            raise BundleError(
                f"bundle {name!r}: its preprocessing does not take samples of shape {layout.sample_shape}: {error}"
            ) from error
        if got != chain.layout.sample_shape:
            raise BundleError(
                f"bundle {name!r}: its preprocessing makes {got} of samples of shape {layout.sample_shape}, and "
                f"says {chain.layout.sample_shape}"
            )
        model = self.model
        wanted = (model.n_channels, *(model.frame_shape or ()))
        if got != wanted:
            raise BundleError(
                f"bundle {name!r}: network {self.spec.model!r} takes {_made_of(wanted)}, but its preprocessing "
                f"gives {_made_of(got)}"
            )

    def differences(self, info: StreamInfo) -> list[tuple[str, str, str, bool]]:
        """Compare a stream with what the network was trained for.

        Returns
        -------
        list of (property, expected, got, fits)
        """
        spec = self.spec
        rows = [
            (
                "rate (Hz)",
                f"{spec.sfreq:g}",
                f"{info.sfreq:g}",
                abs(info.sfreq - spec.sfreq) <= 1e-6 * spec.sfreq,
            ),
            ("channels", " ".join(spec.channels), " ".join(info.channels), info.channels == spec.channels),
        ]
        if self.layout.frame_shape or info.frame_shape:
            want, got = _frames(self.layout.frame_shape), _frames(info.frame_shape)
            rows.append(("frames", want, got, want == got))
        for channel, unit in zip(info.channels, info.units, strict=True):
            fits = spec.unit == "any" or normalise_unit(unit) == spec.unit
            rows.append((f"unit of {channel}", spec.unit, unit or "not stated", fits))
        return rows

    def check(self, info: StreamInfo) -> None:
        """Refuse a stream that differs.

        Raises
        ------
        BundleMismatchError
            Naming each property that differs.
        """
        wrong = [
            f"{name}: expected {want}, got {got}" for name, want, got, fits in self.differences(info) if not fits
        ]
        if wrong:
            other = "use a bundle trained for this rig"
            if hasattr(plugins.load("models", self.spec.model), "provenance"):
                # Its weights fit any rate that its arguments allow.
                other = f"write bundle: {{model: {self.spec.model}, sfreq: {info.sfreq:g}}} in the rig file"
            raise BundleMismatchError(
                f"bundle {self.spec.name!r} does not fit stream {info.name!r}: {'; '.join(wrong)}. "
                f"Select the right stream or map its channels in the rig file (source.channels), or {other}"
            )


def _frames(shape: tuple[int, int] | None) -> str:
    return "none" if shape is None else f"{shape[0]} × {shape[1]}"


def _made_of(sample_shape: tuple[int, ...]) -> str:
    channels = f"{sample_shape[0]} channel{'s' if sample_shape[0] != 1 else ''}"
    return f"{channels} of {_frames((sample_shape[1], sample_shape[2]))} pixels" if sample_shape[1:] else channels


def _content_hash(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _build_model(spec: Spec) -> ScoringModel:
    try:
        labels = spec.labels
        module = plugins.load("models", spec.model)
        model: ScoringModel = module.build(module.Config(**spec.model_args))
    except ValidationError as error:
        what = "; ".join(
            f"{'.'.join(map(str, item['loc']))} {item['msg'].removeprefix('Value error, ')}".strip()
            for item in error.errors()
        )
        raise BundleError(f"bundle {spec.name!r}: network {spec.model!r} cannot be built: {what}") from error
    except (ConfigError, TypeError) as error:
        raise BundleError(f"bundle {spec.name!r}: network {spec.model!r} cannot be built: {error}") from error
    if model.n_classes != len(labels):
        raise BundleError(
            f"bundle {spec.name!r}: network has {model.n_classes} classes, but {spec.vocabulary} has {len(labels)}"
        )
    return model.eval()


def _golden_input(model: ScoringModel) -> Tensor:
    """Two steps of a fixed pattern of numbers, or one where steps are large; the same on every machine."""
    step = model.timing.step_samples
    n_steps = 2 if math.prod(model.input_shape(1, 2 * step)) <= GOLDEN_VALUES else 1
    shape = model.input_shape(1, n_steps * step)
    ramp = torch.arange(math.prod(shape), dtype=torch.int64)
    return ((ramp * 7919 + ramp * ramp % 613) % 1009).to(torch.float32).div(252.0).sub(2.0).reshape(shape)


def _golden_probs(model: ScoringModel, x: Tensor) -> Tensor:
    with torch.inference_mode():
        logits, _ = model(x, model.initial_state(x.shape[0]))
    return torch.softmax(logits, dim=-1)


def save_bundle(path: Path, spec: Spec, model: ScoringModel) -> str:
    """Write a bundle and return its hash.

    The probabilities that the network gives for a fixed input are stored as golden vectors.

    Raises
    ------
    BundleError
        If they are no numbers: such weights can never score. If the file cannot be written.
    """
    model = model.eval()
    tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    tensors["golden.probs"] = _golden_probs(model, _golden_input(model))
    if not tensors["golden.probs"].isfinite().all():
        raise BundleError(f"bundle {spec.name!r}: the network answers with NaN or infinity; look at its weights")
    header = {"format": FORMAT, "version": FORMAT_VERSION, "spec": spec.model_dump(mode="json")}
    sha256 = _content_hash(header, tensors)
    metadata = {"streamscore": json.dumps({**header, "sha256": sha256})}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")  # a bundle is whole or absent
    try:
        beside.write_bytes(save_tensors(tensors, metadata))
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BundleError(f"{path}: cannot be written: {error}; make room or choose another folder") from error
    return sha256


def find_bundle(name: str | Path) -> Path:
    """Return the path of a bundle file, or of a bundle that ships with the package.

    Raises
    ------
    BundleError
        If there is neither; lists the bundles that ship.
    """
    if str(name) == "default":
        name = DEFAULT_BUNDLE
    path = Path(name)
    if path.is_file():
        return path
    folder = Path(str(resources.files("streamscore"))) / "bundles"
    packaged = folder / f"{name}.safetensors"
    if packaged.is_file():
        return packaged
    shipped = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors")))
    raise BundleError(f"no bundle {str(name)!r}: neither a file nor one of those that ship ({shipped})")


def _read_header(path: Path, content: bytes) -> dict[str, Any]:
    """Parse the metadata of a safetensors file: 8 bytes of header length, then JSON padded with blanks."""
    try:
        size = int.from_bytes(content[:8], "little")
        text = content[8 : 8 + size].decode().rstrip(" ")
        outer = json.loads(text)
        metadata = outer["__metadata__"]["streamscore"]
        header = json.loads(metadata)
        # The hash covers what JSON means; this, that not a byte is written otherwise (1e5 as 1E5).
        as_written = json.dumps(outer, separators=(",", ":"), ensure_ascii=False) == text
        as_written &= json.dumps(header) == metadata and isinstance(header, dict)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleCorruptError(
            f"{path}: not a streamscore bundle, or truncated ({len(content)} bytes); copy it again"
        ) from error
    if not as_written:
        raise BundleCorruptError(f"{path}: its header was altered; copy it again")
    known: dict[str, Any] = header
    if known.get("format") != FORMAT or known.get("version") not in READABLE_VERSIONS:
        raise BundleCorruptError(
            f"{path}: format {known.get('format')!r} version {known.get('version')!r}; this streamscore reads "
            f"{FORMAT!r} versions 1 and 2. Install the streamscore that wrote it, or export it again"
        )
    return known


def load_bundle(
    name: str | Path = "default", calibration: Mapping[str, Mapping[str, Any]] | None = None
) -> Bundle:
    """Load a bundle by path or by the name of one that ships.

    Parameters
    ----------
    calibration
        What the rig adds to its chain. ``None`` loads one that needs some all the same, to look at it.

    Raises
    ------
    BundleCorruptError
        If it is truncated, altered, of another version, or does not reproduce its golden vectors here.
    BundleError
        If it is absent or its network cannot be built.
    """
    path = find_bundle(name)
    content = path.read_bytes()
    header = _read_header(path, content)
    try:
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise BundleCorruptError(f"{path}: damaged ({error}); copy it again") from error
    sha256 = header.pop("sha256", "")
    if _content_hash(header, tensors) != sha256:
        raise BundleCorruptError(f"{path}: content does not match its SHA-256; it was altered. Copy it again")
    try:
        spec = Spec(**header["spec"])
    except ValidationError as error:
        raise BundleCorruptError(f"{path}: description does not fit this version: {error}") from error
    model = _build_model(spec)
    weights = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise BundleError(f"{path}: weights do not fit network {spec.model!r}: {error}") from error
    model.requires_grad_(False)
    golden_x = tensors["golden.x"] if "golden.x" in tensors else _golden_input(model)
    probs = _golden_probs(model, golden_x)
    difference = float((probs - tensors["golden.probs"].reshape(probs.shape)).abs().max())
    if not difference <= GOLDEN_TOLERANCE:
        raise BundleCorruptError(
            f"{path}: golden vectors differ by {difference:.1e} (tolerance {GOLDEN_TOLERANCE:.0e}); "
            "this machine's torch computes something else. Do not use it"
        )
    bundle = Bundle(spec, model, sha256, calibration=calibration or {})
    if calibration is not None or not spec.calibrate:
        bundle.try_chain()
    return bundle


def open_bundle(
    choice: str | dict[str, Any],
    look_ahead_s: float | None = None,
    calibration: Mapping[str, Mapping[str, Any]] | None = None,
) -> Bundle:
    """Return the bundle that a rig file names or describes, at the look-ahead that it asks for.

    `choice` may also be a rig file itself (``.yaml``), whose bundle is then meant.

    Raises
    ------
    BundleError, BundleCorruptError
        If it cannot be loaded or built, or has no such look-ahead.
    """
    if isinstance(choice, str) and Path(choice).suffix in (".yaml", ".yml"):
        rig = load_rig_file(Path(choice))
        if rig.bundle is None:
            raise BundleError(f"{choice}: its bundle is null, so that there is nothing to score with")
        ahead_s = rig.look_ahead_s if look_ahead_s is None else look_ahead_s
        return open_bundle(rig.bundle, ahead_s, calibration or rig.calibration)
    if isinstance(choice, str) and choice in plugins.kinds("models"):
        if not hasattr(plugins.load("models", choice), "provenance"):
            raise BundleError(
                f"{choice!r} is a network, not a bundle: give a .safetensors file with its weights, or write "
                f"bundle: {{model: {choice}}} in a rig file to try it with random ones"
            )
        choice = {"model": choice}
    calibration = calibration or {}
    if isinstance(choice, str):
        bundle = load_bundle(choice, calibration)
    else:
        bundle = _describe(NetworkSection(**choice), calibration)
    return bundle if look_ahead_s is None else bundle.at_look_ahead(look_ahead_s)


def _describe(inline: NetworkSection, calibration: Mapping[str, Mapping[str, Any]]) -> Bundle:
    """Build the network that a rig file writes out."""
    module = plugins.load("models", inline.model)
    example = next(iter(module.ABOUT.examples.values()))
    has_weights = hasattr(module, "provenance")
    args = dict(inline.model_args)
    if inline.sfreq and "sfreq" in module.Config.model_fields:
        args.setdefault("sfreq", inline.sfreq)
    spec = Spec(
        name=inline.model if has_weights else f"untrained {inline.model}",
        model=inline.model,
        model_args=args,
        preprocess=inline.preprocess,
        vocabulary=inline.vocabulary or example.vocabulary,
        sfreq=inline.sfreq or example.sfreq,
        channels=inline.channels or example.channels,
        frame_shape=inline.frame_shape,
        unit=inline.unit or example.unit,
        hop_s=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inline.seed)
        model = _build_model(spec).requires_grad_(False)
    provenance = module.provenance(module.Config(**args)) if has_weights else {"seed": inline.seed}
    spec = spec.model_copy(update={"provenance": provenance})
    header = {"format": FORMAT, "version": FORMAT_VERSION, "spec": spec.model_dump(mode="json")}
    bundle = Bundle(
        spec, model, _content_hash(header, model.state_dict()), is_trained=has_weights, calibration=calibration
    )
    bundle.try_chain()
    return bundle


def shipped_bundles() -> Sequence[str]:
    """Names of the bundles that ship with the package."""
    folder = Path(str(resources.files("streamscore"))) / "bundles"
    return sorted(p.stem for p in folder.glob("*.safetensors"))
