"""How well live YASA agrees with YASA offline and with the expert, by lag, scaling and assumed amplitude.

    python -m offline.yasa_table ../shared/data/human_ucddb/ucddb018.npz

Epochs are measured once for each amplitude; then every scaling and lag is scored from them. ``--statistics``
prints the recording's median and spread instead, as arguments for ``scaling: stored``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from offline.provenance import provenance
from streamscore.features.yasa_features import EPOCH_S, EPOCH_SAMPLES, Filter, Floats, measure, package
from streamscore.labels import AASM5
from streamscore.metrics import accuracy, cohen_kappa, confusion_matrix
from streamscore.models import yasa as live
from streamscore.recordings.base import Recording, read_recording

Codes = npt.NDArray[np.int64]

#: Epochs that every scaling has scored: from the end of the longest calibration on.
FIRST_EPOCH = 120
LAGS = tuple(range(live.FULL_LAG_EPOCHS + 1))
#: AASM5 as YASA offline names it.
OFFLINE_STAGES = ("WAKE", "N1", "N2", "N3", "REM")


@dataclass(frozen=True)
class Night:
    """A recording, measured once.

    Parameters
    ----------
    config
        Rate and true duration.
    signal
        ``(1, samples)`` in µV.
    complete, provisional
        Features ``(n_epochs, n_features)``: with all that follows, and as each epoch ends.
    offline
        ``(n_epochs,)`` codes that YASA offline gives.
    expert
        ``(n_epochs,)`` codes of the expert, -1 where unscored.
    """

    config: live.Config
    signal: Floats
    complete: Floats
    provisional: Floats
    offline: Codes
    expert: Codes


def whole_epochs(recording: Recording, n_channels: int) -> tuple[Floats, int]:
    """Return the first channels as ``(n_channels, samples)`` in their own unit, whole epochs only, and the rate.

    Raises
    ------
    typer.BadParameter
        If it has gaps, no whole rate, or too few channels.
    """
    sfreq = round(recording.sfreq)
    n_samples = len(recording.data) // (sfreq * EPOCH_S) * sfreq * EPOCH_S
    has_gaps = round(recording.duration_s * recording.sfreq) != len(recording.data)
    if has_gaps or sfreq != recording.sfreq or len(recording.channels) < n_channels:
        raise typer.BadParameter(
            f"give a recording without gaps, at a whole rate, of at least {n_channels} channels"
        )
    return recording.data[:n_samples, :n_channels].T.astype(np.float64), sfreq


def expert_codes(recording: Recording, n_epochs: int) -> Codes:
    """Return the expert's codes.

    Raises
    ------
    typer.BadParameter
        If they are not AASM stages on YASA's grid, for a night longer than the first that is compared.
    """
    on_grid = recording.labels == AASM5 and recording.epoch_s == EPOCH_S and len(recording.states) >= n_epochs
    if not on_grid or n_epochs <= FIRST_EPOCH + live.FULL_LAG_EPOCHS:
        raise typer.BadParameter("give a night with AASM stages for epochs of 30 s from its first sample on")
    return recording.states[:n_epochs].astype(np.int64)


def yasa_offline(signal: Floats, sfreq: int) -> Floats:
    """Return YASA's probabilities of AASM5 ``(n_epochs, 5)`` for a file with this EEG in µV."""
    mne, yasa = package("mne"), package("yasa")
    raw = mne.io.RawArray(signal * 1e-6, mne.create_info(["EEG"], float(sfreq), "eeg"), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
        table = yasa.SleepStaging(raw, "EEG").predict().proba
    probs: Floats = table[list(OFFLINE_STAGES)].to_numpy(np.float64)
    return probs


def measure_night(signal: Floats, sfreq: int, expert: Codes) -> Night:
    """Measure each epoch as a stream would: once as it ends, once complete."""
    step, n_epochs, to_100_hz = sfreq * EPOCH_S, signal.shape[1] // (sfreq * EPOCH_S), Filter(sfreq)
    provisional = [
        measure(
            to_100_hz(signal[:, max(k + 1 - live.Yasa.WINDOW_EPOCHS, 0) * step : (k + 1) * step])[
                :, -EPOCH_SAMPLES:
            ],
            ("eeg",),
        )
        for k in range(n_epochs)
    ]
    return Night(
        config=live.Config(sfreq=sfreq, expected_duration_s=n_epochs * EPOCH_S),
        signal=signal,
        complete=measure(to_100_hz(signal), ("eeg",)),
        provisional=np.concatenate(provisional),
        offline=yasa_offline(signal, sfreq).argmax(axis=1),
        expert=expert,
    )


def score(night: Night, config: live.Config) -> Codes:
    """Return the code at each lag and epoch ``(n_lags, n_epochs)``, -1 where it comes after the end."""
    model = live.build(config)
    history, n_seen, statistics = (part[0].numpy() for part in model.initial_state(1)[1:])
    n_epochs = len(night.complete)
    inputs = []
    for k in range(n_epochs):
        measured = np.stack((*night.complete[k - 1 : k], night.provisional[k]))
        inputs.append(model.follow(measured, LAGS, history, n_seen, statistics))
    codes = model.log_probs(np.concatenate(inputs)).argmax(axis=1).reshape(n_epochs, len(LAGS))
    scored = np.full((len(LAGS), n_epochs), -1)
    for lag in LAGS:
        scored[lag, : n_epochs - lag] = codes[lag:, lag]
    return scored


def scalings(night: Night) -> Iterator[tuple[str, live.Config]]:
    """Yield what is compared, with a name."""
    center, scale = live.night_statistics(night.config, night.signal)
    stored = {"scaling": "stored", "stored_center": center, "stored_scale": scale}
    yield "whole night", night.config.model_copy(update=stored)
    yield "running", night.config
    yield "running, 8 h expected", night.config.model_copy(update={"expected_duration_s": 28_800.0})
    for minutes in (10, 30, 60):
        calibration = {"scaling": "calibration", "calibration_s": minutes * 60.0}
        yield f"first {minutes} min", night.config.model_copy(update=calibration)


def table(night: Night, scored: dict[str, Codes]) -> Iterator[str]:
    """Yield rows of Markdown: agreement with YASA offline in % / κ against the expert."""
    yield f"| lag | {' | '.join(scored)} |"
    yield "|---" * (len(scored) + 1) + "|"
    for lag in LAGS:
        yield f"| {lag} | {' | '.join(cell(night, codes[lag]) for codes in scored.values())} |"


def cell(night: Night, codes: Codes) -> str:
    """Return agreement with YASA offline in % and κ against the expert, where all scalings have scored."""
    rows = slice(FIRST_EPOCH, len(night.expert) - live.FULL_LAG_EPOCHS)
    offline, expert = (confusion_matrix(truth[rows], codes[rows], 5) for truth in (night.offline, night.expert))
    return f"{100 * accuracy(offline):.1f} / {cohen_kappa(expert):.3f}"


def first_hour(night: Night, scored: dict[str, Codes]) -> str:
    """Return how much of epochs 20 to 119 each scorer gives the expert's stage, at lags 0 and 7."""
    rows = slice(20, FIRST_EPOCH)

    def share(codes: Codes) -> str:
        return f"{100 * accuracy(confusion_matrix(night.expert[rows], codes[rows], 5)):.0f}"

    parts = [
        f"{name} {share(scored[name][0])} and {share(scored[name][7])}" for name in ("whole night", "running")
    ]
    return f"% of epochs 20 to 119 as the expert: YASA offline {share(night.offline)}, {', '.join(parts)}"


def main(
    recording: Annotated[Path, typer.Argument(help="A night with stages; its first channel is the EEG.")],
    std_uv: Annotated[
        list[float] | None,
        typer.Option(min=0.1, help="Assumed standard deviation in µV; may be repeated."),
    ] = None,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Print stored_center and stored_scale; the unit must be µV.")
    ] = False,
    eog: Annotated[bool, typer.Option("--eog", help="With --statistics: an EOG follows.")] = False,
    emg: Annotated[bool, typer.Option("--emg", help="With --statistics: an EMG follows.")] = False,
) -> None:
    """Print the table of agreement for each assumed amplitude, or the night's statistics."""
    night_file = read_recording(recording)
    signal, sfreq = whole_epochs(night_file, 1 + eog + emg)
    if statistics:
        center, scale = live.night_statistics(live.Config(sfreq=sfreq, eog=eog, emg=emg), signal)
        typer.echo(json.dumps({"stored_center": center, "stored_scale": scale}))
        return
    if eog or emg:
        raise typer.BadParameter("the table is about the EEG alone; leave out --eog and --emg")
    expert = expert_codes(night_file, signal.shape[1] // (sfreq * EPOCH_S))
    run = provenance("offline.yasa_table")
    typer.echo(f"`{run['command']}`, {run['date']}, {run['machine']}")
    for amplitude in std_uv or (15.0, 20.0, 25.0, 40.0, 60.0):
        scaled = (signal * (amplitude / signal.std())).astype(np.float32).astype(np.float64)
        night = measure_night(scaled, sfreq, expert)
        scored = {name: score(night, config) for name, config in scalings(night)}
        kappa = cohen_kappa(confusion_matrix(night.expert, night.offline, 5))
        typer.echo(
            f"\n{amplitude:g} µV. κ of YASA offline: {kappa:.3f} over all {len(night.expert)} epochs; ", nl=False
        )
        typer.echo(f"epochs {FIRST_EPOCH} to {len(night.expert) - live.FULL_LAG_EPOCHS - 1}: ", nl=False)
        typer.echo(f"{cell(night, night.offline)}\n{first_hour(night, scored)}\n")
        for line in table(night, scored):
            typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
