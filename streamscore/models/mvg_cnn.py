"""MVG-CNN: a small CNN on the visibility graphs of 36 cortical parcels.

Source: Zhang et al., "Automated sleep state classification of wide-field calcium imaging data via multiplex
visibility graphs and deep learning", J. Neurosci. Methods 2022, and its code (comp-imaging-sci/MVG-CNN, MIT);
MODELS.md 1.5. Each parcel's trace of 10 s becomes the adjacency of its natural visibility graph, and the stack
of adjacencies is the image that the CNN sees.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from streamscore.features.visibility import extend_graph, visibility_graph
from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import keras_start

#: Parcels of the published atlas that the network reads; 1, 20, 21 and 40 are left out.
PARCELS = tuple(f"parcel-{label}" for label in (*range(2, 20), *range(22, 40)))
#: Slope of Keras' ``LeakyReLU`` (MODELS.md 0.4).
LEAK = 0.3

ABOUT = About(
    title="MVG-CNN",
    source="Zhang et al., J. Neurosci. Methods 2022",
    published=("Mouse wide-field calcium imaging, random 80/10/10 split of epochs pooled over mice: kappa 0.64",),
    examples={
        "mvg-cnn": Example({}, "MOUSE3", 16.8, PARCELS),
        "mvg-cnn-sliding": Example({"stride_frames": 21}, "MOUSE3", 16.8, PARCELS),
    },
)


class Config(BaseModel):
    """Arguments of :class:`MvgCnn`.

    Parameters
    ----------
    n_channels
        Parcels.
    window_frames
        Frames of the window that becomes a graph; 168 are 10 s at 16.8 Hz.
    stride_frames
        Frames between outputs; it divides `window_frames`. By default windows do not overlap, as published.
    n_filters
        Of the three convolutions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_channels: int = Field(36, ge=1)
    n_classes: int = Field(3, ge=2)
    window_frames: int = Field(168, ge=4)
    stride_frames: int | None = Field(None, ge=1)
    n_filters: tuple[int, int, int] = (32, 64, 128)

    @property
    def step_frames(self) -> int:
        """Frames between outputs."""
        return self.stride_frames or self.window_frames

    @model_validator(mode="after")
    def _windows_are_whole_steps(self) -> Config:
        if self.window_frames % self.step_frames:
            raise ValueError(
                f"stride_frames {self.stride_frames} does not divide window_frames {self.window_frames}; "
                "choose a divisor, so that windows are whole steps"
            )
        if min(self.n_filters) < 1:
            raise ValueError(f"n_filters {self.n_filters} must be at least 1 each")
        return self


class MvgCnn(ScoringModel):
    """The published network; 103,139 parameters. Exact at any stride, without another training."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = config.n_channels
        self.n_classes = config.n_classes
        self.timing = Timing(
            step_samples=config.step_frames,
            reads=(Read(lag_samples=0, warm_up_samples=config.window_frames),),
            receptive_field_samples=config.window_frames,
            epoch_samples=config.window_frames,
        )
        first, second, third = config.n_filters
        self.conv1 = keras_start(nn.Conv2d(config.n_channels, first, 3, padding=1))
        self.conv2 = keras_start(nn.Conv2d(first, second, 3, padding=1))
        self.conv3 = keras_start(nn.Conv2d(second, third, 3, padding=1))
        self.head = keras_start(nn.Linear(third, config.n_classes))

    def initial_state(self, batch_size: int) -> State:
        """Return the samples of the window, zeros, and their graph.

        They are ``(batch, n_channels, window)`` and ``(batch, n_channels, window, window)`` of bool.
        """
        samples = self.head.weight.new_zeros(batch_size, self.n_channels, self.config.window_frames)
        graph = visibility_graph(samples[:1, :1])  # that of zeros is the same everywhere
        return samples, graph.expand(batch_size, self.n_channels, -1, -1).clone()

    def classify(self, images: Tensor) -> Tensor:
        """Map adjacencies ``(n, n_channels, window, window)`` of 0 and 1 to logits ``(n, n_classes)``."""
        # Pooling before the rectifier, which is monotone: the same values, from a quarter of them.
        x = F.leaky_relu(F.max_pool2d(self.conv1(images), 2), LEAK)
        x = F.leaky_relu(F.max_pool2d(self.conv2(x), 2), LEAK)
        x = F.leaky_relu(self.conv3(x), LEAK)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        samples, graph = state
        step = self.config.step_frames
        rows = []
        for new in torch.split(x, step, dim=2):
            samples = torch.cat((samples[:, :, step:], new), dim=2)
            graph = extend_graph(graph[:, :, step:, step:], samples)
            rows.append(self.classify(graph.to(x.dtype)))
        return torch.stack(rows, dim=1)[:, :, None], (samples, graph)


def build(config: Config) -> MvgCnn:
    """Return an untrained network in evaluation mode."""
    return MvgCnn(config).eval()
