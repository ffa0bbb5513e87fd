"""What the tests over real LSL share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamscore.bundle import Bundle, Spec, load_bundle, save_bundle
from streamscore.models.tinysleepnet import Config, build
from tests.online.loop import Loop

#: Rate, epoch and hop of the bundle that these tests use: small, so that a minute of signal scores in no time.
SFREQ, EPOCH_S, HOP_S = 64.0, 4.0, 1.0


def write_tiny_bundle(path: Path, unit: str = "uV") -> Path:
    """Write a bundle with an untrained TinySleepNet of 8 filters."""
    import torch

    torch.manual_seed(3)
    args = {"sfreq": SFREQ, "epoch_s": EPOCH_S, "n_filters": 8, "n_hidden": 8}
    spec = Spec(
        name="tiny",
        model="tinysleepnet",
        model_args=args,
        preprocess=({"kind": "bandpass", "high_hz": 25.0}, {"kind": "normalise", "warm_up_s": 4.0}),
        vocabulary="AASM5",
        sfreq=SFREQ,
        channels=("EEG",),
        unit=unit,
        hop_s=HOP_S,
    )
    save_bundle(path, spec, build(Config(**args)))
    return path


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.safetensors")


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Bundle:
    """The tiny bundle, loaded."""
    return load_bundle(tiny_path)


@pytest.fixture
def loop(tiny: Bundle) -> Iterator[Callable[..., Loop]]:
    """Return a maker of loops, each of which is taken down at the end."""
    made: list[Loop] = []

    def make(**options: object) -> Loop:
        made.append(Loop(tiny, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for item in made:
        item.close()
