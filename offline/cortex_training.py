"""How the small networks for simulated movies are trained, in two stages that two cores can afford.

First the part that sees single frames: from its features a linear layer must name the state, and another one
tell the mean of each area, so that what the first does not need yet (the phase of a wave) is not lost. Then it
stays as it is, its features are computed once, and what runs over time is trained on sequences of them. Ajioka
et al. train their CNN-RNN in such stages too (MODELS.md 4.2), and then further as a whole; we do not.

Loss: focal, γ = 2, as for the CNN-BiLSTM (MODELS.md 1.4). States are drawn equally often, whatever their share.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offline.cortex_clips import Clip, CodeArray
from streamscore.models.cnn_bilstm import LEAK, CnnBilstm, FrameCnn, Streaming
from streamscore.models.efficientnet import N_FRAMES, EfficientNetDecoder

Network = Streaming | EfficientNetDecoder
#: Features ``(n_frames, n_features)`` and codes ``(n_frames,)`` of a clip.
Features = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    frame_steps, frame_batch, frame_lr
        Of the first stage: steps of Adam, frames in each, highest learning rate.
    steps, batch, lr
        Of the second: sequences in each step.
    sequence_frames
        Frames of a sequence that are asked about; before them come those that the network looks back on.
    gamma
        Of the focal loss.
    checks
        Times that the validation animals are looked at; the weights with the lowest loss are kept.
    """

    frame_steps: int = 240
    frame_batch: int = 33
    frame_lr: float = 5e-3
    steps: int = 240
    batch: int = 8
    lr: float = 4e-3
    sequence_frames: int = 84
    gamma: float = 2.0
    checks: int = 10


def focal_loss(logits: Tensor, codes: Tensor, gamma: float) -> Tensor:
    """Mean of ``-(1 - p)^γ log p`` over ``(n, n_classes)`` logits."""
    log_p = F.log_softmax(logits, dim=-1).gather(-1, codes[:, None])[:, 0]
    return (-((1.0 - log_p.exp()) ** gamma) * log_p).mean()


def drawn(codes: CodeArray, n: int, rng: np.random.Generator) -> CodeArray:
    """Indices of `n` entries, each class as often as any other."""
    classes = np.unique(codes)
    of_class = [np.flatnonzero(codes == code) for code in classes]
    return np.array([rng.choice(of_class[k % len(classes)]) for k in range(n)], np.int64)


def falling(step: int, n_steps: int) -> float:
    """Factor of the learning rate: a rise over the first twentieth, then half a cosine."""
    return min(1.0, 20.0 * (step + 1) / n_steps) * 0.5 * (1.0 + float(np.cos(np.pi * step / n_steps)))


def encode(model: Network, images: Tensor) -> Tensor:
    """Features ``(n, n_features)`` of images ``(n, 3, height, width)``: a frame and the two before it."""
    if isinstance(model, EfficientNetDecoder):
        return model.cnn.features(images)
    features: Tensor = model.cnn(images[:, -1])
    return features


def images_at(clip: Clip, frames: CodeArray) -> Tensor:
    """Images ``(n, 3, height, width)`` that end at `frames`; before the start the first frame stands."""
    rows = np.maximum(frames[:, None] + np.arange(1 - N_FRAMES, 1), 0)
    return torch.from_numpy(clip.x[rows].astype(np.float32))


def teach_frames(
    model: Network, clips: Sequence[Clip], recipe: Recipe, seed: int, say: Callable[[str], None]
) -> None:
    """Train the part that sees frames, in place."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([clip.codes for clip in clips])
    clip_of = np.repeat(np.arange(len(clips)), [len(clip.codes) for clip in clips])
    frame_of = np.concatenate([np.arange(len(clip.codes)) for clip in clips])
    areas = np.concatenate([clip.areas for clip in clips])
    areas = (areas - areas.mean(axis=0)) / areas.std(axis=0)

    def batch(n: int) -> tuple[Tensor, CodeArray]:
        picked = drawn(codes, n, rng)
        images = [images_at(clips[clip_of[k]], frame_of[k : k + 1]) for k in picked]
        return torch.cat(images), picked

    if isinstance(model, CnnBilstm):
        start_at_unit_scale(model.cnn, batch(2 * recipe.frame_batch)[0][:, -1])
    n_features = encode(model.eval(), batch(1)[0]).shape[1]
    state_head, area_head = nn.Linear(n_features, int(codes.max()) + 1), nn.Linear(n_features, areas.shape[1])
    taught = [*model.cnn.parameters(), *state_head.parameters(), *area_head.parameters()]
    optimizer = torch.optim.Adam(taught, lr=recipe.frame_lr)
    model.train()
    for step in range(recipe.frame_steps):
        optimizer.param_groups[0]["lr"] = recipe.frame_lr * falling(step, recipe.frame_steps)
        images, picked = batch(recipe.frame_batch)
        features = encode(model, images)
        state_loss = focal_loss(state_head(features), torch.from_numpy(codes[picked]), recipe.gamma)
        area_loss = F.mse_loss(area_head(features), torch.from_numpy(areas[picked]))
        optimizer.zero_grad()
        (state_loss + area_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(taught, 1.0)
        optimizer.step()
        if (step + 1) % 40 == 0:
            say(f"frames, step {step + 1}: state {state_loss.item():.3f}, areas {area_loss.item():.3f}")
    settle_norms(model, [batch(recipe.frame_batch)[0] for _ in range(10)])
    model.eval()


def start_at_unit_scale(cnn: FrameCnn, frames: Tensor) -> None:
    """Scale the start weights so that each convolution's outputs spread by 1 on `frames` (Mishkin & Matas 2016).

    As Keras starts them, features of these frames would hardly differ, and learning would begin very slowly.
    """
    with torch.no_grad():
        x = frames[:, None]
        for k, conv in enumerate(cnn.convs):
            assert isinstance(conv, nn.Conv2d)
            conv.weight.div_(conv(x).std())
            x = F.leaky_relu(conv(x), LEAK)
            if k % 2:
                x = F.max_pool2d(x, 2)


def settle_norms(model: nn.Module, batches: Sequence[Tensor]) -> None:
    """Give batch normalisations the plain means over some batches: their own average lags behind the training."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms or not isinstance(model, EfficientNetDecoder):
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for images in batches:
            model.cnn.features(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def features_of(model: Network, clip: Clip) -> Features:
    """Features of all frames and their codes."""
    frames = np.arange(len(clip.codes))
    with torch.inference_mode():
        parts = [encode(model, images_at(clip, part)) for part in np.array_split(frames, len(frames) // 32 + 1)]
    return torch.cat(parts).clone(), torch.from_numpy(clip.codes)


def unroll(model: Network, features: Tensor, first: int = 0) -> tuple[Tensor, int]:
    """Run what comes after the frames from a zero state over ``(batch, n, n_features)``.

    Parameters
    ----------
    first
        What is said before this frame is not wanted; a CNN-BiLSTM does not learn through the frames before it.

    Returns
    -------
    logits
        ``(batch, n - first, reads, n_classes)``.
    int
        Frames that the last read lags behind.
    """
    if isinstance(model, EfficientNetDecoder):
        assert model.rnn is not None
        log_odds = model.head(model.rnn(features)[0])[:, first:]
        return torch.cat((-log_odds / 2, log_odds / 2), dim=-1)[:, :, None], 0
    features = features * model.feature_mask(len(features))
    state = model.initial_state(len(features))
    if first:
        with torch.no_grad():
            _, state = model.advance(features[:, :first], state)
    logits, _ = model.advance(features[:, first:], state)
    return logits, model.config.look_ahead_frames


def with_look_ahead(model: Network, n_frames: int) -> None:
    """Let a network with look-ahead have another one; its weights know none."""
    if isinstance(model, CnnBilstm):
        ahead_s = n_frames / model.config.sfreq
        model.config = model.config.model_copy(update={"look_ahead_s": ahead_s})


def loss_of(model: Network, features: Tensor, codes: Tensor, first: int, gamma: float) -> Tensor:
    """Loss of what is said from frame `first` on: every read about the frame that it describes, equally."""
    logits, lag = unroll(model, features, first)
    losses = []
    for read in range(logits.shape[2]):
        behind = lag if read else 0
        about = codes[:, first - behind : codes.shape[1] - behind]
        losses.append(focal_loss(logits[:, :, read].flatten(0, 1), about.flatten(), gamma))
    return torch.stack(losses).mean()


def teach_time(
    model: Network,
    taught: Sequence[Features],
    held: Sequence[Features],
    recipe: Recipe,
    seed: int,
    say: Callable[[str], None],
    max_look_ahead_frames: int = 0,
) -> Network:
    """Train what runs over time on features of frames; return the best of it by those of `held`.

    With a look-ahead each step draws its own, from none to the longest, so that one set of weights serves all.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    parameters = [p for name, p in model.named_parameters() if not name.startswith("cnn.") and p.requires_grad]
    with torch.no_grad():  # as if features came with unit spread
        spread = torch.cat([features for features, _ in taught]).std(dim=0).clamp(min=1e-6)
        for name, parameter in model.named_parameters():
            if name.endswith("weight_ih_l0"):
                parameter.div_(spread)
    look_back = model.config.attention_frames if isinstance(model, CnnBilstm) else recipe.sequence_frames
    optimizer = torch.optim.Adam(parameters, lr=recipe.lr)
    best, lowest = copy.deepcopy(model), float("inf")
    for step in range(recipe.steps):
        n_ahead = int(rng.integers(0, max_look_ahead_frames + 1))
        with_look_ahead(model, n_ahead)
        first = look_back + n_ahead
        n_frames = first + recipe.sequence_frames
        x, y = _sequences(taught, n_frames, recipe.batch, first, rng)
        optimizer.param_groups[0]["lr"] = recipe.lr * falling(step, recipe.steps)
        loss = loss_of(model.train(), x, y, first, recipe.gamma)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % max(recipe.steps // recipe.checks, 1) == 0:
            with_look_ahead(model, max_look_ahead_frames)
            first = look_back + max_look_ahead_frames
            with torch.inference_mode():
                losses = [loss_of(model.eval(), x[None], y[None], first, recipe.gamma).item() for x, y in held]
            mean = float(np.mean(losses))
            say(f"time, step {step + 1}: loss {loss.item():.3f}, validation {mean:.3f}")
            if mean < lowest:
                best, lowest = copy.deepcopy(model), mean
    return best.eval()


def _sequences(
    taught: Sequence[Features], n_frames: int, n: int, first: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw sequences; a frame of the class drawn is among those that are asked about."""
    codes = np.concatenate([y.numpy() for _, y in taught])
    clip_of = np.repeat(np.arange(len(taught)), [len(y) for _, y in taught])
    frame_of = np.concatenate([np.arange(len(y)) for _, y in taught])
    rows = []
    for k in drawn(codes, n, rng):
        x, y = taught[clip_of[k]]
        begin = int(np.clip(frame_of[k] - rng.integers(first, n_frames), 0, len(y) - n_frames))
        rows.append((x[begin : begin + n_frames], y[begin : begin + n_frames]))
    return torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows])
