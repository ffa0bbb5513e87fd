"""What a network's decision rests on: Grad-CAM of the newest frame, computed beside the run and never in it.

Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV
2017, in the form of Zhang et al. 2024 (MODELS.md 1.4): the maps of the last convolution, each weighted with the
mean over space of the gradient of the logit of the present state; what speaks for it is kept, scaled to 0 … 1 and
enlarged to the frame.

The network is a copy that is fed with every frame that the screen receives, so that it carries the same kind of
state as the one that decides. It need not agree with that one in every digit: it has not seen what came before the
screen was opened, nor the frames that the screen missed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel
from streamscore.panel.pictures import Explanation
from streamscore.types import FloatArray


class LastMaps:
    """The maps of a network's last convolution, where the graph of its gradients begins.

    Parameters
    ----------
    model
        Network that takes frames. It computes the same as before.

    Raises
    ------
    ConfigError
        If it has no convolution.
    """

    def __init__(self, model: nn.Module) -> None:
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        if not convolutions:
            raise ConfigError(
                f"what decisions of {type(model).__name__} rest on cannot be drawn: it has no convolution"
            )
        self._kept: list[Tensor] | None = None
        convolutions[-1].register_forward_hook(self._keep)

    @contextlib.contextmanager
    def kept(self) -> Iterator[list[Tensor]]:
        """Yield the list of maps ``(n, n_filters, height, width)`` that calls made meanwhile leave, in order."""
        kept: list[Tensor] = []
        self._kept = kept
        try:
            with torch.enable_grad():
                yield kept
        finally:
            self._kept = None

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor | None:
        """Begin the graph at the last convolution, so that nothing before it is kept for a gradient.

        What follows may overwrite its input, and is given a copy.
        """
        if self._kept is None:
            return None
        self._kept.append(maps.detach().requires_grad_())
        return self._kept[-1].clone()


def heat_of(maps: Tensor, gradient: Tensor, frame_shape: tuple[int, int]) -> Tensor:
    """Grad-CAM of frames.

    Parameters
    ----------
    maps
        Of the last convolution, ``(n, n_filters, height, width)``.
    gradient
        Of a logit, with respect to `maps`.
    frame_shape
        Size to enlarge to.

    Returns
    -------
    Tensor
        ``(n, *frame_shape)``, each frame from 0 to 1; all 0 where nothing speaks for the logit.
    """
    heat = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True)).detach()
    low, high = heat.amin(dim=(2, 3), keepdim=True), heat.amax(dim=(2, 3), keepdim=True)
    heat = torch.where(high > low, (heat - low) / (high - low), 0.0)
    return F.interpolate(heat, frame_shape, mode="bilinear", align_corners=False)[:, 0]


class Importance:
    """Follow a stream of frames with a copy of its network; explain when asked.

    Parameters
    ----------
    model
        Trained network that takes frames one by one. It is used here alone from now on.

    Raises
    ------
    ConfigError
        If it takes signals, or several frames a step, or has no convolution.
    """

    def __init__(self, model: ScoringModel) -> None:
        kind = type(model).__name__
        if model.frame_shape is None or model.timing.step_samples != 1:
            raise ConfigError(
                f"what decisions of {kind} rest on cannot be drawn: it does not take frames one by one; "
                "leave the bundle away to see frames alone"
            )
        self.frame_shape = model.frame_shape
        self._model = model
        self._last_maps = LastMaps(model)
        self.reset()

    def reset(self) -> None:
        """Forget the frames so far: what follows does not follow on."""
        self._state = self._model.initial_state(1)

    def push(self, frame: FloatArray) -> None:
        """Take in the next frame ``(height, width)``."""
        with torch.no_grad():
            _, self._state = self._model(torch.from_numpy(frame)[None, None], self._state)

    def explain(self, frame: FloatArray) -> Explanation:
        """Take in the next frame and return what the decision at it rests on."""
        with self._last_maps.kept() as kept:
            logits, state = self._model(torch.from_numpy(frame)[None, None], self._state)
        self._state = tuple(part.detach() for part in state)
        present = logits[0, -1, 0]  # the read with the least lag
        code = int(present.argmax())
        (gradient,) = torch.autograd.grad(present[code], kept)
        return Explanation(code, heat_of(kept[0], gradient, self.frame_shape)[0].numpy())
