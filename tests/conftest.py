"""Settings that all tests share.

``HYPOTHESIS_PROFILE=thorough`` tries many more examples, at random; the default always tries the same ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from streamscore.bundle import Bundle, load_bundle
from tests.bundles import write_bundle

# A busy machine must not fail a test, and every plug-in runs the examples of the contract that it inherits.
_CHECKS_OFF = (HealthCheck.too_slow, HealthCheck.differing_executors)

settings.register_profile(
    "ci", max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=_CHECKS_OFF
)
settings.register_profile(
    "thorough", max_examples=1000, database=None, deadline=None, suppress_health_check=_CHECKS_OFF
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

torch.set_num_threads(1)

# LSL stays on this machine, whatever the user's own configuration says; liblsl reads it on first use.
os.environ["LSLAPICFG"] = str(Path(__file__).parents[1] / "lsl_api.cfg")


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a bundle with a small untrained network and no warm-up; see :mod:`tests.bundles`."""
    path = tmp_path_factory.mktemp("bundles") / "small.safetensors"
    write_bundle(path)
    return path


@pytest.fixture(scope="session")
def small(small_path: Path) -> Bundle:
    """The same, loaded."""
    return load_bundle(small_path)


@pytest.fixture(scope="session")
def warming(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle with a warm-up of 6 s and 2 s to settle after a gap."""
    path = tmp_path_factory.mktemp("bundles") / "warming.safetensors"
    write_bundle(path, preprocess=chain(warm_up_s=6.0, settle_s=2.0))
    return load_bundle(path)


def chain(warm_up_s: float, settle_s: float) -> tuple[dict[str, object], ...]:
    """Describe a chain of band-pass and normalisation."""
    return (
        {"kind": "bandpass", "low_hz": 0.5, "high_hz": 25.0, "settle_s": settle_s},
        {"kind": "normalise", "warm_up_s": warm_up_s, "tau_s": 30.0},
    )
