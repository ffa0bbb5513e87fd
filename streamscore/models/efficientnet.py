"""EfficientNet-B0 over images of three frames, alone or under a GRU or LSTM: run or rest from calcium imaging.

Source: Ajioka et al., "End-to-end deep learning approach to mouse behavior classification from cortex-wide
calcium imaging", PLoS Comput. Biol. 20(3): e1011074, 2024; layers and constants from MODELS.md 4.2. An image
holds three neighbouring frames as its red, green and blue. Each image passes the convolutional network once;
what recurs is only its feature vector.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing
from streamscore.models.layers import fold_norms, same_padding, slide

#: Frames of an image.
N_FRAMES = 3
#: Images that pass the network at a time in evaluation: more are no quicker, but each needs 4 MB.
PIECE_IMAGES = 32
STEM_FILTERS, HEAD_FILTERS = 32, 1280
#: Blocks, kernel, stride, expansion and filters of each stage of B0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _example(args: dict[str, object]) -> Example:
    return Example(args, "RUNREST", 30.0, ("calcium",))


ABOUT = About(
    title="EfficientNet-B0 and CNN-RNN run/rest decoders",
    source="Ajioka et al., PLoS Comput. Biol. 20(3), 2024",
    published=(
        "64 sessions of 5 mice, tested on the mouse left out (20 models): CNN AUC 0.896 ± 0.071",
        "the same: CNN-LSTM AUC 0.952 ± 0.041, CNN-GRU AUC 0.955 ± 0.034",
    ),
    examples={
        "efficientnet": _example({}),
        "efficientnet-gru": _example({"rnn": "gru", "dead_head": True}),
        "efficientnet-lstm": _example({"rnn": "lstm", "dead_head": True}),
        "efficientnet-causal": _example({"variant": "causal"}),
        "efficientnet-gru-causal": _example({"rnn": "gru", "variant": "causal"}),
        "efficientnet-lstm-causal": _example({"rnn": "lstm", "variant": "causal"}),
    },
)


class Config(BaseModel):
    """Arguments of :class:`EfficientNetDecoder`.

    Parameters
    ----------
    rnn
        What joins the features of neighbouring images: nothing, or a recurrent network.
    variant
        ``"published"``: images centred on the frame described, and windows of `half_window_frames` on either
        side of it. ``"causal"``: images that end with it, and a recurrent state that is carried.
    frame_shape
        Height and width of a frame in pixels.
    n_hidden, n_layers, half_window_frames
        Units and layers of the recurrent network, and how far its windows reach.
    width, depth
        Factors of the filters and of the blocks in each stage; B0 is 1 and 1.
    dropout
        Before the last layer, or between the recurrent layers.
    drop_connect
        Chance that the last block is left out for an image in training; it rises linearly over the blocks.
    dead_head
        Keep the output layer of the network without recurrence, which a recurrent one never uses but whose
        weights the published files hold.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rnn: Literal["none", "gru", "lstm"] = "none"
    variant: Literal["published", "causal"] = "published"
    frame_shape: tuple[PositiveInt, PositiveInt] = (128, 128)
    n_hidden: int = Field(128, ge=1)
    n_layers: int = Field(2, ge=1)
    half_window_frames: int = Field(5, ge=1)
    width: float = Field(1.0, gt=0)
    depth: float = Field(1.0, gt=0)
    dropout: float = Field(0.2, ge=0.0, lt=1.0)
    drop_connect: float = Field(0.2, ge=0.0, lt=1.0)
    dead_head: bool = False

    @model_validator(mode="after")
    def _refuse_what_would_be_ignored(self) -> Self:
        fields, unused = type(self).model_fields, set()
        if self.rnn == "none":
            unused |= {"n_hidden", "n_layers", "half_window_frames", "dead_head"}
        if self.variant == "causal":
            unused.add("half_window_frames")
        given = sorted(name for name in unused if getattr(self, name) != fields[name].default)
        if given:
            raise ValueError(
                f"{', '.join(given)} would be ignored with rnn {self.rnn!r} and variant {self.variant!r}; "
                "leave it out, or choose rnn 'gru' or 'lstm' (a window: with variant 'published')"
            )
        return self


@dataclass(frozen=True, slots=True)
class BlockShape:
    """One block of EfficientNet: where it stands, and its sizes."""

    stage: int
    position: int
    kernel: int
    stride: int
    expansion: int
    n_in: int
    n_out: int


def scaled_filters(n_filters: int, width: float) -> int:
    """Scale to a multiple of 8, at least 8, that loses no more than a tenth."""
    scaled = n_filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def block_shapes(config: Config) -> Iterator[BlockShape]:
    """Blocks in their order; the first of each stage strides and changes the number of filters."""
    n_in = scaled_filters(STEM_FILTERS, config.width)
    for stage, (n_blocks, kernel, stride, expansion, n_filters) in enumerate(STAGES):
        n_out = scaled_filters(n_filters, config.width)
        for position in range(ceil(n_blocks * config.depth)):
            yield BlockShape(stage, position, kernel, 1 if position else stride, expansion, n_in, n_out)
            n_in = n_out


class SameConv2d(nn.Conv2d):
    """``Conv2d`` with TensorFlow "SAME" padding, computed from the real size."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
    ) -> None:
        super().__init__(n_in, n_out, kernel, stride, groups=groups, bias=bias)
        nn.init.normal_(self.weight, std=(2.0 * groups / (kernel**2 * n_out)) ** 0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        top, bottom = same_padding(x.shape[-2], kernel, stride)
        left, right = same_padding(x.shape[-1], kernel, stride)
        if (top, left) == (bottom, right):
            # The convolution pads by itself, without a copy of its input.
            return F.conv2d(x, self.weight, self.bias, stride, (top, left), groups=self.groups)
        return super().forward(F.pad(x, (left, right, top, bottom)))


def batch_norm(n_features: int) -> nn.BatchNorm2d:
    """Keras' momentum 0.99 is PyTorch's 0.01 (MODELS.md 0.2)."""
    return nn.BatchNorm2d(n_features, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Expansion → depthwise convolution → squeeze and excitation → projection, past which the input is added.

    The attributes of this class and the next are named as in published weights (lukemelas/EfficientNet-PyTorch),
    so that these load as they are.
    """

    def __init__(self, shape: BlockShape, drop_connect: float) -> None:
        super().__init__()
        self.expands = shape.expansion != 1
        self.adds_input = shape.stride == 1 and shape.n_in == shape.n_out
        self.drop_connect = drop_connect
        n_inner = shape.n_in * shape.expansion
        if self.expands:
            self._expand_conv = SameConv2d(shape.n_in, n_inner, 1)
            self._bn0 = batch_norm(n_inner)
        self._depthwise_conv = SameConv2d(n_inner, n_inner, shape.kernel, shape.stride, groups=n_inner)
        self._bn1 = batch_norm(n_inner)
        n_squeezed = max(1, shape.n_in // 4)
        self._se_reduce = SameConv2d(n_inner, n_squeezed, 1, bias=True)
        self._se_expand = SameConv2d(n_squeezed, n_inner, 1, bias=True)
        self._project_conv = SameConv2d(n_inner, shape.n_out, 1)
        self._bn2 = batch_norm(shape.n_out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.silu(self._bn1(self._depthwise_conv(y)), inplace=True)
        squeezed = F.silu(self._se_reduce(y.mean(dim=(2, 3), keepdim=True)))
        y = y * torch.sigmoid(self._se_expand(squeezed))
        y = self._bn2(self._project_conv(y))
        return x + self._drop(y) if self.adds_input else y

    def _drop(self, y: Tensor) -> Tensor:
        if not self.training or self.drop_connect == 0.0:
            return y
        keep = 1.0 - self.drop_connect
        return y * (torch.rand(y.shape[0], 1, 1, 1, device=y.device) < keep) / keep


class EfficientNet(nn.Module):
    """The convolutional network, with one output or with none."""

    def __init__(self, config: Config, has_output: bool) -> None:
        super().__init__()
        shapes = list(block_shapes(config))
        n_stem, n_last = shapes[0].n_in, shapes[-1].n_out
        self.n_features = scaled_filters(HEAD_FILTERS, config.width)
        self.dropout = config.dropout
        self._conv_stem = SameConv2d(N_FRAMES, n_stem, 3, stride=2)
        self._bn0 = batch_norm(n_stem)
        self._blocks = nn.ModuleList(
            Block(shape, config.drop_connect * index / len(shapes)) for index, shape in enumerate(shapes)
        )
        self._conv_head = SameConv2d(n_last, self.n_features, 1)
        self._bn1 = batch_norm(self.n_features)
        if has_output:
            self._fc = nn.Linear(self.n_features, 1)

    def feature_map(self, images: Tensor) -> Tensor:
        """Map images ``(n, 3, height, width)`` to ``(n, n_features, height / 32, width / 32)``."""
        # With channels last the 1x1 convolutions, most of the work, are plain matrix products.
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.silu(self._bn0(self._conv_stem(x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        return F.silu(self._bn1(self._conv_head(x)), inplace=True)

    def features(self, images: Tensor) -> Tensor:
        """Map images to the means of their feature maps, ``(n, n_features)``."""
        # In training, batch normalisation has to see all of them.
        pieces = torch.split(images, len(images) if self.training else PIECE_IMAGES)
        return torch.cat([self.feature_map(piece).mean(dim=(2, 3)) for piece in pieces])

    def forward(self, images: Tensor) -> Tensor:
        """Map images to log-odds of run, ``(n, 1)``."""
        output: Tensor = self._fc(F.dropout(self.features(images), self.dropout, self.training))
        return output


class EfficientNetDecoder(ScoringModel):
    """The published networks: 4,008,829 parameters, with a GRU 4,649,470, with an LSTM 4,862,974.

    The last two include the 1,281 of an output layer that they do not use, see ``Config.dead_head``. The input
    is normalised by the preprocessing: the mean of each pixel subtracted, divided by one standard deviation.
    Before a stream begins its frames count as 0, which is the mean image.
    """

    n_channels = 1
    n_classes = 2

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.frame_shape = config.frame_shape
        self.is_windowed = config.rnn != "none" and config.variant == "published"
        self.n_past_features = 2 * config.half_window_frames if self.is_windowed else 0
        lag = 0
        if config.variant == "published":
            lag = 1 + self.n_past_features // 2
        field = N_FRAMES + self.n_past_features
        is_carried = config.rnn != "none" and not self.is_windowed
        self.timing = Timing(
            step_samples=1,
            reads=(Read(lag_samples=lag, warm_up_samples=field),),
            receptive_field_samples=None if is_carried else field,
        )
        self.cnn = EfficientNet(config, has_output=config.rnn == "none" or config.dead_head)
        self.rnn: nn.GRU | nn.LSTM | None = None
        if config.rnn != "none":
            self.rnn = (nn.GRU if config.rnn == "gru" else nn.LSTM)(
                self.cnn.n_features,
                config.n_hidden,
                config.n_layers,
                batch_first=True,
                # PyTorch drops out between layers, and warns where there is no between.
                dropout=config.dropout if config.n_layers > 1 else 0.0,
            )
            self.head = nn.Linear(config.n_hidden, 1)

    def for_inference(self) -> EfficientNetDecoder:
        """A copy whose 49 batch normalisations are folded into the convolutions before them."""
        folded = copy.deepcopy(self)
        fold_norms(folded)
        return folded

    def initial_state(self, batch_size: int) -> State:
        """Frames of the images to come, then either features of the windows to come or the recurrent state."""
        zeros = next(self.parameters()).new_zeros
        frames = zeros(batch_size, N_FRAMES - 1, *self.config.frame_shape)
        if self.rnn is None:
            return (frames,)
        if self.is_windowed:
            return frames, zeros(batch_size, self.n_past_features, self.cnn.n_features)
        n_parts = 2 if self.config.rnn == "lstm" else 1
        shape = batch_size, self.config.n_layers, self.config.n_hidden
        return frames, *(zeros(shape) for _ in range(n_parts))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.check_input(x)
        batch_shape = x.shape[:2]
        frames, *carried = state
        images, frames = slide(frames, x)
        if self.rnn is None:
            log_odds = self.cnn(images.flatten(0, 1)).reshape(batch_shape)
        else:
            features = self.cnn.features(images.flatten(0, 1)).reshape(*batch_shape, -1)
            if self.is_windowed:
                windows, past = slide(carried[0], features)
                hidden = self.rnn(windows.flatten(0, 1))[0][:, -1].reshape(*batch_shape, -1)
                carried = [past]
            else:
                hidden, carried = self._carry_on(self.rnn, features, carried)
            log_odds = self.head(hidden)[..., 0]
        # One log-odds z of run as two logits, whose softmax is the logistic of z.
        logits = torch.stack((-log_odds / 2, log_odds / 2), dim=-1)
        return logits[:, :, None], (frames, *carried)

    @staticmethod
    def _carry_on(rnn: nn.GRU | nn.LSTM, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run on from `state`, whose batch axis PyTorch's cells expect second."""
        parts = [part.transpose(0, 1).contiguous() for part in state]
        hidden, new = rnn(features, tuple(parts) if len(parts) == 2 else parts[0])
        new_parts = new if isinstance(new, tuple) else (new,)
        return hidden, [part.transpose(0, 1).contiguous() for part in new_parts]


def build(config: Config) -> EfficientNetDecoder:
    """Return an untrained network in evaluation mode."""
    return EfficientNetDecoder(config).eval()
