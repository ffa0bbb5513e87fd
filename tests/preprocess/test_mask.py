from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamscore.arrays import pack
from streamscore.errors import ConfigError
from streamscore.preprocess.mask import Config, Mask, build
from tests.contracts.step import StepContract
from tests.layouts import frames, signals

BRAIN = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]])


class TestMask(StepContract):
    layout = frames(50.0, 3, 4, "lit", "violet")

    def make(self) -> Mask:
        return build(Config(mask=pack(BRAIN)), self.layout)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float64"])
def test_outside_the_brain_all_is_0(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "brain.npy", BRAIN.astype(dtype))
    x = np.random.default_rng(0).standard_normal((5, 2, 3, 4)).astype(np.float32)
    step = build(Config(mask=str(tmp_path / "brain.npy")), frames(30.0, 3, 4, "lit", "violet"))
    np.testing.assert_array_equal(step.push(x, 0), x * BRAIN)


def test_what_is_no_number_outside_becomes_0_too() -> None:
    x = np.where(BRAIN, 1.0, np.nan).astype(np.float32)[None, None]
    np.testing.assert_array_equal(build(Config(mask=pack(BRAIN)), frames(30.0, 3, 4)).push(x, 0)[0, 0], BRAIN)


def test_a_mask_of_another_size_or_without_brain_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask has shape \(4, 3\) and the frames have \(3, 4\) pixels"):
        build(Config(mask=pack(BRAIN.T)), frames(30.0, 3, 4))
    with pytest.raises(ValueError, match="no pixel of brain"):
        build(Config(mask=pack(0 * BRAIN)), frames(30.0, 3, 4))
    with pytest.raises(ConfigError, match=r"mask of step mask: .*no such file"):
        build(Config(mask="absent.npy"), frames(30.0, 3, 4))
    with pytest.raises(ValueError, match="mask takes frames"):
        build(Config(mask=pack(BRAIN)), signals(30.0, 3))
