"""Deep SHAP of the ROI-RNNs: what each region at each frame of a window adds to the probability of running.

Sources: Lundberg & Lee, NeurIPS 2017 (Deep SHAP: DeepLIFT averaged over a background); Shrikumar et al., ICML 2017
(DeepLIFT); Ajioka et al. 2024 (MODELS.md 4.4), where the peak lies near +0.1 s and the foremost regions are 6, 8,
31 and 33. The sum of all values is the prediction minus the mean prediction of the background; every run checks
it.

Captum's DeepLIFT takes a network apart at modules with one input, and our cells have none: they multiply gates
with states. So the cells are written out, with a module for each non-linearity of each frame, and with two
identities:

``clip(y, 0, 1) = relu(y) - relu(y - 1)``, both of the same ``y``, which gives the hard sigmoid's rescale rule;

``a b = ((a + b)² - (a - b)²) / 4``, whose rescale rule gives Δ(a b) = mean(b) Δa + mean(a) Δb, with means over
input and background. This is exact and treats both factors alike (it is their Shapley value); DeepLIFT's paper
leaves products open.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from offline.explain.given import Given
from offline.explain.result import Explained, new_picture
from streamscore.errors import ConfigError, LoopError, RecordingError
from streamscore.models.base import ScoringModel
from streamscore.models.roi_rnn import (
    GruCell,
    KerasCell,
    LookAheadRoiRnn,
    LstmCell,
    RoiRnn,
    WindowedRoiRnn,
    hard_sigmoid,
)
from streamscore.types import FloatArray

#: Largest difference that the sum of all values may have from what it should be.
TOLERANCE = 1e-4
#: Pairs of a window and a background that are taken apart at a time; each needs a few hundred kB.
PAIRS = 1000


class Square(nn.Module):
    """``x²`` as a module, which captum gives the rescale rule."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Unrolled(nn.Module):
    """A ROI-RNN on one window from a zero state, with a module for each non-linearity, in double precision.

    Parameters
    ----------
    model
        Whose weights and cells it has.
    n_frames, described
        Length of a window, and the place in it of the frame that is scored.
    """

    def __init__(self, model: RoiRnn, n_frames: int, described: int) -> None:
        super().__init__()
        self.n_frames, self.described = n_frames, described
        self._forward_cell = model.forward_cell
        self._backward_cell: KerasCell | None = getattr(model, "backward_cell", None)
        # A published window runs either way over all of it; else each direction up to the frame described.
        self._is_window = isinstance(model, WindowedRoiRnn)
        self._head = model.head
        self.rules = nn.ModuleList()
        self._next = 0
        self._is_built = False
        with torch.no_grad():
            self(torch.zeros(1, n_frames, model.n_channels, dtype=torch.float64))
        self._is_built = True

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows ``(n, n_frames, n_channels)`` to the probability of running ``(n,)``."""
        self._next = 0
        ahead = windows if self._is_window else windows[:, : self.described + 1]
        hidden = [self._run(self._forward_cell, ahead)]
        if self._backward_cell is not None:
            back = windows if self._is_window else windows[:, self.described :]
            hidden.append(self._run(self._backward_cell, back.flip(1)))
        log_odds = torch.cat(hidden, dim=1) @ self._head.weight.T.double() + self._head.bias.double()
        return self._rule(nn.Sigmoid, log_odds)[:, 0]

    def _run(self, cell: KerasCell, frames: Tensor) -> Tensor:
        """Output of a cell after the last frame."""
        weight_h = cell.weight_h.double()
        hidden = frames.new_zeros(len(frames), cell.n_hidden)
        memory = hidden
        for projected in (frames @ cell.weight_x.double() + cell.bias.double()).unbind(1):
            if isinstance(cell, GruCell):
                inner = 2 * cell.n_hidden
                gates = self._gate(cell, projected[:, :inner] + hidden @ weight_h[:, :inner])
                update, reset = gates.chunk(2, dim=1)
                inside = projected[:, inner:] + self._times(reset, hidden) @ weight_h[:, inner:]
                candidate = self._rule(nn.Tanh, inside)
                hidden = candidate + self._times(update, hidden - candidate)
            elif isinstance(cell, LstmCell):
                i, f, j, o = (projected + hidden @ weight_h).chunk(4, dim=1)
                i, f, o = self._gate(cell, torch.cat((i, f, o), dim=1)).chunk(3, dim=1)
                memory = self._times(f, memory) + self._times(i, self._rule(nn.Tanh, j))
                hidden = self._times(o, self._rule(nn.Tanh, memory))
            else:
                hidden = self._rule(nn.Tanh, projected + hidden @ weight_h)
        return hidden

    def _gate(self, cell: KerasCell, x: Tensor) -> Tensor:
        if cell.gate is not hard_sigmoid:
            return self._rule(nn.Sigmoid, x)
        y = 0.2 * x + 0.5
        return self._rule(nn.ReLU, y) - self._rule(nn.ReLU, y - 1.0)

    def _times(self, a: Tensor, b: Tensor) -> Tensor:
        return (self._rule(Square, a + b) - self._rule(Square, a - b)) / 4.0

    def _rule(self, kind: type[nn.Module], x: Tensor) -> Tensor:
        """Apply the next module; captum wants each to be used once in a call."""
        if not self._is_built:
            self.rules.append(kind())
        module = self.rules[self._next]
        self._next += 1
        # Captum replaces the gradient of a module's input as a whole, so that nothing else may take this tensor.
        y: Tensor = module(x.clone())
        return y


def unrolled(model: RoiRnn, window_frames: int) -> Unrolled:
    """Write out a network; `window_frames` is the past of a network that carries its state."""
    if isinstance(model, WindowedRoiRnn):
        half = model.config.half_window_frames
        return Unrolled(model, 2 * half + 1, half)
    after = model.config.look_ahead_frames if isinstance(model, LookAheadRoiRnn) else 0
    return Unrolled(model, window_frames + after, window_frames - 1)


def deep_shap(network: Unrolled, windows: Tensor, background: Tensor) -> tuple[FloatArray, float]:
    """Deep SHAP values, and how far their sum is from what it should be.

    Parameters
    ----------
    network
        Written out.
    windows, background
        ``(n, n_frames, n_channels)``.

    Returns
    -------
    values
        As `windows`, in units of probability, float64.
    error
        Largest |Σ values + mean background prediction - prediction| of a window.

    Raises
    ------
    ConfigError
        If captum is not installed.
    """
    try:
        from captum.attr import DeepLiftShap
        from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, nonlinear
    except ModuleNotFoundError as missing:
        raise ConfigError('Deep SHAP needs captum; run: pip install "streamscore[train]"') from missing
    # There is no public way to tell captum of a further module.
    SUPPORTED_NON_LINEAR.setdefault(Square, nonlinear)
    windows, background = windows.double(), background.double()
    with torch.no_grad():
        wanted = network(windows) - network(background).mean()
    method = DeepLiftShap(network)
    parts = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks and attributes")
        for block in torch.split(windows, max(PAIRS // len(background), 1)):
            parts.append(method.attribute(block, background).detach())
    values = torch.cat(parts)
    error = float((values.sum(dim=(1, 2)) - wanted).abs().max())
    found: FloatArray = values.numpy()
    return found, error


def shap(
    model: ScoringModel,
    given: Given,
    channels: tuple[str, ...],
    *,
    n_windows: int = 200,
    n_background: int = 100,
    window_s: float = 3.0,
    seed: int = 0,
) -> Explained:
    """Explain random windows of a recording against random windows of it.

    Parameters
    ----------
    model
        A ROI-RNN. One that carries its state is run from zero over `window_s`; ``state_error`` among the figures
        is the largest difference in probability that this makes.
    given
        What it is given.
    channels
        Names of the regions.
    n_windows, n_background
        How many; the paper explains all windows against 10,000.
    window_s
        Past of a network that carries its state.
    seed
        Of the draw.

    Returns
    -------
    Explained
        ``values`` (n_windows, n_frames, n_regions); ``importance`` (n_frames, n_regions), the mean of their size;
        ``lag_s`` (n_frames,) of each frame from the one that is scored; ``prediction`` (n_windows,);
        ``background_prediction`` (); ``truth`` and ``t_s`` (n_windows,) of the frames scored.

    Raises
    ------
    ConfigError
        If the network is another, or captum is missing.
    RecordingError
        If fewer than two windows are free of gaps.
    LoopError
        If the values do not add up.
    """
    if not isinstance(model, RoiRnn):
        raise ConfigError(f"{type(model).__name__} is no ROI-RNN; give a bundle of roi_rnn")
    network = unrolled(model, max(round(window_s * given.sfreq), 1))
    n_frames = network.n_frames
    places = [(k, at) for k, run in enumerate(given.runs) for at in range(run.x.shape[2] - n_frames + 1)]
    if len(places) < 2:
        raise RecordingError(
            f"{given.name}: has fewer than two windows of {n_frames} frames without a gap; give a longer recording"
        )
    rng = np.random.default_rng(seed)

    def draw(n: int) -> list[tuple[int, int]]:
        return [places[i] for i in np.sort(rng.choice(len(places), min(n, len(places)), replace=False))]

    def cut(chosen: list[tuple[int, int]]) -> Tensor:
        return torch.stack([given.runs[k].x[0, :, at : at + n_frames].T for k, at in chosen])

    chosen = draw(n_windows)
    windows, background = cut(chosen), cut(draw(n_background))
    values, error = deep_shap(network, windows, background)
    if not error <= TOLERANCE:
        raise LoopError(
            f"the values of Deep SHAP are off by {error:.1e} from the prediction, more than {TOLERANCE:g}: do not "
            "use them; compare the versions of captum and torch with those of the project"
        )
    with torch.no_grad():
        prediction = network(windows.double()).numpy()
        background_prediction = float(network(background.double()).mean())
    state_error = float(np.abs(prediction - _as_scored(model, given, chosen, network)).max())
    importance = np.abs(values).mean(axis=0)
    lag_s = (np.arange(n_frames) - network.described) / given.sfreq
    by_region, by_lag = importance.mean(axis=0), importance.mean(axis=1)
    t_s = np.array([given.runs[k].t0_s + (at + network.described) / given.sfreq for k, at in chosen])
    order = np.argsort(-by_region)
    return Explained(
        method="shap",
        title=f"Deep SHAP of {len(windows)} windows of {given.name} against {len(background)}, off by {error:.0e}",
        arrays={
            "values": values.astype(np.float32),
            "importance": importance,
            "lag_s": lag_s,
            "prediction": prediction,
            "background_prediction": np.array(background_prediction),
            "truth": given.truth(t_s, 1.0 / given.sfreq),
            "t_s": t_s,
            "channels": np.array(channels),
        },
        figures={
            "additivity_error": error,
            "state_error": state_error,
            "background_prediction": background_prediction,
            "peak_lag_s": float(lag_s[by_lag.argmax()]),
            "foremost": {channels[k]: float(by_region[k]) for k in order[:10]},
        },
        columns=("region", "mean |SHAP| (thousandths)", "peak lag (s)"),
        rows=tuple(
            (channels[k], f"{1000 * by_region[k]:.3f}", f"{lag_s[importance[:, k].argmax()]:+.2f}")
            for k in order[:8]
        ),
        picture=_draw(importance, lag_s, channels, given),
    )


def _as_scored(model: RoiRnn, given: Given, chosen: list[tuple[int, int]], network: Unrolled) -> FloatArray:
    """Probability of running that the network itself tells of the frames scored in `chosen` windows."""
    lag = model.timing.look_ahead_samples
    with torch.no_grad():
        told = [
            torch.softmax(model(run.x, model.initial_state(1))[0][0, :, -1], dim=-1)[:, 1] for run in given.runs
        ]
    found: FloatArray = np.array([float(told[k][at + network.described + lag]) for k, at in chosen])
    return found


def _draw(importance: FloatArray, lag_s: Any, channels: tuple[str, ...], given: Given) -> Any:
    """Frames × regions, with the mean over frames on the right and that over regions above."""
    picture = new_picture(8.6, 2.2 + 0.13 * len(channels))
    grid = picture.add_gridspec(2, 2, width_ratios=(3.0, 1.0), height_ratios=(1.0, 0.1 * len(channels) + 0.5))
    middle = picture.add_subplot(grid[1, 0])
    above, right = picture.add_subplot(grid[0, 0], sharex=middle), picture.add_subplot(grid[1, 1], sharey=middle)
    half = 0.5 / given.sfreq
    scaled = 1000.0 * importance
    image = middle.imshow(
        scaled.T,
        aspect="auto",
        cmap="cividis",
        vmin=0.0,
        extent=(lag_s[0] - half, lag_s[-1] + half, len(channels) - 0.5, -0.5),
        interpolation="nearest",
    )
    middle.set(xlabel="time from the frame scored (s)", yticks=range(len(channels)))
    middle.set_yticklabels(channels, fontsize=6)
    above.plot(lag_s, scaled.mean(axis=1), color="black")
    above.axvline(0.0, color="#999999", linestyle=":")
    above.set(ylabel="mean\nover regions", ylim=(0.0, None))
    above.tick_params(labelbottom=False)
    right.barh(range(len(channels)), scaled.mean(axis=0), color="#0072B2")
    right.set_xlabel("mean over frames")
    right.tick_params(labelleft=False)
    picture.colorbar(image, ax=right, label="mean |SHAP| (thousandths of probability)")
    picture.suptitle(f"What moves the probability of running, {given.name}", fontsize=11)
    return picture
