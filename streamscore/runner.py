"""A network with the states of all its streams: batches in, probabilities out.

The one place that knows devices, precision and CUDA graphs. Whatever is chosen here, the network's ``forward`` is
the only forward.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from streamscore.errors import ConfigError
from streamscore.models.base import ScoringModel, State
from streamscore.types import FloatArray

Device = Literal["cpu", "cuda", "auto"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Agreement:
    """How a reduced precision compares with float32 on the same input.

    Parameters
    ----------
    largest_difference
        Of any probability.
    same_state
        Share of outputs with the same most probable state.
    """

    largest_difference: float
    same_state: float


def choose_device(device: Device) -> torch.device:
    """Return the device to run on; ``auto`` is a GPU where there is one.

    Raises
    ------
    ConfigError
        If a GPU is asked for and there is none.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "device: cuda was asked for, but torch sees no GPU here; install the CUDA build of torch and a "
            "driver, or write device: cpu (or auto)"
        )
    return torch.device("cuda")


class Runner:
    """Run a network for several streams that share its weights.

    Parameters
    ----------
    model
        In evaluation mode. It is moved to the device.
    n_streams
        Streams, each with its own state.
    device, precision
        ``bfloat16`` is torch's autocast; states stay as the network declares them.

    Attributes
    ----------
    notes
        What a person should know, such as why no CUDA graph is used; for the log.
    step_s
        Time that a step of one stream took last in :meth:`warm_up`.
    """

    #: Time after which a warm-up of a heavy network goes without its repetitions.
    WARM_UP_S = 1.0

    def __init__(
        self, model: ScoringModel, n_streams: int = 1, *, device: Device = "cpu", precision: Precision = "float32"
    ) -> None:
        self.device = choose_device(device)
        self.precision: Precision = precision
        self.notes: list[str] = []
        self.step_s = 0.0
        self._model = model.for_inference().to(self.device)
        if precision != "float32":
            _keep_recurrence_in_float32(self._model)
        self._fresh = self._on_device(model.initial_state(1))
        self._state = self._on_device(model.initial_state(n_streams))
        self._graph: _Graph | None = None

    def _on_device(self, state: State) -> State:
        return tuple(part.to(self.device) for part in state)

    def after_gap(self, stream: int, n_missing_steps: int) -> None:
        """Leave of a stream's state what outlasts a gap of so many steps."""
        where = slice(stream, stream + 1)
        with torch.inference_mode():
            left = self._model.state_after_gap(tuple(part[where] for part in self._state), n_missing_steps)
            self._store(where, left)

    def warm_up(self, n_rows: int = 1) -> None:
        """Run on zeros, alone and as `n_rows`, so that the first output is not the slowest; no state changes."""
        shape = self._model.input_shape(1, self._model.timing.step_samples)
        one = torch.zeros(shape, device=self.device)
        with torch.inference_mode():
            if self.device.type == "cuda" and self._graph is None:
                self._capture(one)
            end_s = time.perf_counter() + self.WARM_UP_S
            for n in (1, n_rows, 1):
                x, state = one.expand(n, *shape[1:]).contiguous(), self._on_device(self._model.initial_state(n))
                for k in range(3):
                    begin_s = time.perf_counter()
                    # A batch of a heavy network would take many times as long as one step of it.
                    if (k or n > 1) and begin_s + (n * self.step_s if n > 1 else 0.0) > end_s:
                        break
                    self._forward(x, state)
                    if n == 1:
                        self.step_s = time.perf_counter() - begin_s

    def step(self, x: Tensor, streams: list[int]) -> FloatArray:
        """Advance streams by the steps in `x`.

        Parameters
        ----------
        x
            One row a stream, as the network takes it, on the CPU. Several steps at once are for one stream.
        streams
            Which streams the rows belong to, each at most once.

        Returns
        -------
        ndarray
            Probabilities ``(n_rows, n_steps, n_reads, n_classes)``. Rows of NaN are steps at which the network
            produced NaN or infinity; the stream begins afresh after each.
        """
        # A rig's outputs come one at a time, and a slice costs a third of what indices cost.
        where = (
            slice(streams[0], streams[0] + 1) if len(streams) == 1 else torch.tensor(streams, device=self.device)
        )
        with torch.inference_mode():
            state = tuple(part[where] for part in self._state)
            logits, new_state = self._forward(x, state)
            probs = torch.softmax(logits.float(), dim=-1).cpu().numpy()
            finite = np.isfinite(probs).all(axis=(1, 2, 3))
            if finite.all():
                self._store(where, new_state)
                return probs
            n_steps = probs.shape[1]
            if n_steps > 1:  # one by one, so that only what is broken is lost, as in a stream
                pieces = torch.split(x, x.shape[self._model.time_axis] // n_steps, self._model.time_axis)
                return np.concatenate([self.step(piece, streams) for piece in pieces], axis=1)
            broken = torch.from_numpy(~finite).to(self.device)
            self._store(
                where,
                tuple(
                    torch.where(broken.view(-1, *[1] * (new.ndim - 1)), fresh.expand_as(new), new)
                    for new, fresh in zip(new_state, self._fresh, strict=True)
                ),
            )
            probs[~finite] = np.nan
            return probs

    def _store(self, where: slice | Tensor, new_state: State) -> None:
        for part, new in zip(self._state, new_state, strict=True):
            part[where] = new

    def _forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self._graph is not None and self._graph.fits(x):
            return self._graph.replay(x, state)
        with self._precision():
            return self._model.forward(x.to(self.device), state)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _capture(self, x: Tensor) -> None:
        """Record one step as a CUDA graph; without one the network runs eagerly, and a note says why."""
        try:
            graph = _Graph(self, x, self._on_device(self._model.initial_state(1)))
            self._graph = graph
        except (RuntimeError, NotImplementedError) as error:
            self.notes.append(f"no CUDA graph, the network runs eagerly: {str(error).splitlines()[0]}")

    def agreement(self, n_steps: int = 4, seed: int = 0) -> Agreement:
        """Compare this precision with float32 on seeded noise, from a fresh state."""
        shape = self._model.input_shape(1, n_steps * self._model.timing.step_samples)
        noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        x = torch.from_numpy(noise).to(self.device)
        state = self._on_device(self._model.initial_state(1))
        with torch.inference_mode():
            exact = torch.softmax(self._model(x, state)[0].float(), dim=-1)
            with self._precision():
                reduced = torch.softmax(self._model(x, state)[0].float(), dim=-1)
        same = (exact.argmax(-1) == reduced.argmax(-1)).float().mean()
        return Agreement(float((exact - reduced).abs().max()), float(same))


def _keep_recurrence_in_float32(model: nn.Module) -> None:
    """Leave torch's recurrent layers out of autocast.

    They cost little beside what they are fed with, lose most by rounding, and many CPUs have no kernel for them.
    """

    def in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Tensor, state: Any = None) -> Any:
            with torch.autocast(x.device.type, enabled=False):
                return forward(x.float(), state)

        return run

    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.forward = in_float32(type(module).forward.__get__(module))


class _Graph:
    """One step of one stream, captured once with static buffers and replayed."""

    def __init__(self, runner: Runner, x: Tensor, state: State) -> None:
        self._x = x.clone()
        self._staging = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        self._state = tuple(part.clone() for part in state)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # lazily built kernels and workspaces must exist before the capture
            for _ in range(3):
                expected, _ = self._run(runner)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits, self._new_state = self._run(runner)
        self._graph.replay()
        difference = float(
            (torch.softmax(self._logits.float(), -1) - torch.softmax(expected.float(), -1)).abs().max()
        )
        if not difference <= 1e-5:
            raise RuntimeError(f"its answers differ from the eager ones by {difference:.1e}")

    def _run(self, runner: Runner) -> tuple[Tensor, State]:
        with runner._precision():
            logits, state = runner._model.forward(self._x, self._state)
        return logits, state

    def fits(self, x: Tensor) -> bool:
        return x.shape == self._x.shape

    def replay(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if x.device.type == "cpu":
            self._staging.copy_(x)
            self._x.copy_(self._staging, non_blocking=True)
        else:
            self._x.copy_(x)
        for static, part in zip(self._state, state, strict=True):
            static.copy_(part)
        self._graph.replay()
        return self._logits, self._new_state
