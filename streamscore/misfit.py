"""Why a recording cannot be scored by a bundle, said of the file: whoever scores files may have no rig file."""

from __future__ import annotations

from collections.abc import Mapping

from streamscore import plugins
from streamscore.bundle import Bundle
from streamscore.errors import BundleMismatchError, StreamFormatError
from streamscore.movies.base import Movie
from streamscore.recordings.base import Recording
from streamscore.units import normalise_unit


def refuse_misfit(recording: Recording | Movie, bundle: Bundle, channels: Mapping[str, str] | None = None) -> None:
    """Refuse a recording that `bundle` was not trained for.

    Parameters
    ----------
    recording
        Signals or a movie. Of a movie only that it is one is looked at: its rate and lights may be told elsewhere.
    bundle
        What would score it.
    channels
        Input name → channel label of the recording.

    Raises
    ------
    BundleMismatchError
        If it holds frames where signals are wanted or the other way round, or its rate or a unit differs.
    StreamFormatError
        If a channel is absent.
    """
    spec, shape, name = bundle.spec, bundle.layout.frame_shape, recording.name
    if isinstance(recording, Movie) != (shape is not None):
        wants = f"frames of {shape[0]} × {shape[1]} pixels" if shape else f"signals ({', '.join(spec.channels)})"
        holds = "a movie" if isinstance(recording, Movie) else f"signals ({', '.join(recording.channels[:4])} …)"
        raise BundleMismatchError(
            f"{name}: holds {holds}, but bundle {spec.name!r} takes {wants}; give it such recordings, or choose "
            "another bundle (streamscore models lists them)"
        )
    if isinstance(recording, Movie):
        return
    if abs(recording.sfreq - spec.sfreq) > 1e-6 * spec.sfreq:
        other = f"train one at {recording.sfreq:g} Hz"
        if hasattr(plugins.load("models", spec.model), "provenance"):  # it fits any rate that its arguments allow
            other = (
                f"give a rig file with bundle: {{model: {spec.model}, sfreq: {recording.sfreq:g}}} in its place"
            )
        raise BundleMismatchError(
            f"{name}: has {recording.sfreq:g} Hz, but bundle {spec.name!r} takes {spec.sfreq:g} Hz; resample the "
            f"file, or {other}"
        )
    for wanted in spec.channels:
        label = (channels or {}).get(wanted, wanted)
        if label not in recording.channels:
            raise StreamFormatError(
                f"{name}: has no channel {label!r}; its channels are {', '.join(recording.channels)}. Say which "
                f'is which with --channel {wanted}=LABEL, or in dataset.json: "channels": {{"{wanted}": "LABEL"}}'
            )
        unit = recording.units[recording.channels.index(label)]
        if spec.unit != "any" and normalise_unit(unit) != spec.unit:
            raise BundleMismatchError(
                f"{name}: channel {label} is in {unit or 'no stated unit'}, but bundle {spec.name!r} takes "
                f"{spec.unit}; write the file anew in {spec.unit}, with the unit in it"
            )
