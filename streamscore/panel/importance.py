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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel
from streamscore.panel.pictures import Explanation
from streamscore.types import FloatArray


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
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        if not convolutions:
            raise ConfigError(f"what decisions of {kind} rest on cannot be drawn: it has no convolution")
        self.frame_shape = model.frame_shape
        self._model = model
        self._maps: Tensor | None = None
        self._wants_maps = False
        convolutions[-1].register_forward_hook(self._keep_maps)
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
        self._wants_maps = True
        try:
            with torch.enable_grad():
                logits, state = self._model(torch.from_numpy(frame)[None, None], self._state)
        finally:
            self._wants_maps = False
        self._state = tuple(part.detach() for part in state)
        present = logits[0, -1, 0]  # the read with the least lag
        code = int(present.argmax())
        assert self._maps is not None
        maps, self._maps = self._maps, None
        (gradient,) = torch.autograd.grad(present[code], maps)
        heat = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True)).detach()
        low, high = heat.min(), heat.max()
        heat = (heat - low) / (high - low) if high > low else torch.zeros_like(heat)
        enlarged = F.interpolate(heat, self.frame_shape, mode="bilinear", align_corners=False)
        return Explanation(code, enlarged[0, 0].numpy())

    def _keep_maps(self, module: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor | None:
        """Begin the graph at the last convolution, so that nothing before it is kept for a gradient.

        What follows may overwrite its input, and is given a copy.
        """
        if not self._wants_maps:
            return None
        self._maps = maps.detach().requires_grad_()
        return self._maps.clone()
