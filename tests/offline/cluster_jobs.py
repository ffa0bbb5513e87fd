"""Jobs for the tests of clusters; workers import them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from streamscore.errors import RecordingError


def descend(folder: Path, *, seed: int, end: str = "well", n_steps: int = 40) -> dict[str, Any]:
    """Fit a small network by steps that are kept, and go on from those that are there.

    `end`: ``well``; ``killed`` half-way; ``refused``; ``mistaken``.
    """
    sys.stdout.write(f"begins as {Path(sys.argv[0]).name}\n")
    if end == "refused":
        raise RecordingError("night3.edf: truncated; copy it again")
    if end == "mistaken":
        raise ZeroDivisionError("by nothing")
    torch.manual_seed(seed)
    x, y = torch.randn(64, 8), torch.randn(64, 1)
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    kept = folder / "kept.pt"
    first = 0
    if kept.exists():
        saved = torch.load(kept, weights_only=True)
        first = int(saved.pop("step"))
        network.load_state_dict(saved)
    for step in range(first, n_steps):
        if step == n_steps // 2 and end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        loss = (network(x) - y).square().mean()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for weights, gradient in zip(network.parameters(), gradients, strict=True):
                weights -= 0.05 * gradient
        with (folder / "steps.txt").open("a") as file:
            file.write(f"{step}\n")
        torch.save({"step": torch.tensor(step + 1), **network.state_dict()}, folder / "kept.part")
        (folder / "kept.part").replace(kept)
    return {"weights": torch.cat([p.flatten() for p in network.parameters()]).tolist()}


def train_killed_once(folder: Path, *, end: str = "well", **arguments: Any) -> dict[str, Any]:
    """Do a fold; if `end` is ``killed once``, the first time is killed at the start of the second pass."""
    # Not above: Lightning is slow to import, and only one worker needs it.
    from offline.fold_jobs import score_fold
    from offline.learner import Learner

    killed = folder / "killed"
    if end == "killed once" and not killed.exists():
        begin_pass = Learner.on_train_epoch_start

        def kill(learner: Learner) -> None:
            begin_pass(learner)
            if learner.current_epoch == 1:
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        Learner.on_train_epoch_start = kill  # type: ignore[method-assign]
    return score_fold(folder, **arguments)


def descend_or_train(folder: Path, *, job: str, **arguments: Any) -> dict[str, Any]:
    """Do either, so that one cluster can do both."""
    return {"descend": descend, "train": train_killed_once}[job](folder, **arguments)


def threads(_folder: Path) -> int:
    """Tell with how many threads it runs."""
    return torch.get_num_threads()


def fill_disk(_folder: Path) -> None:
    """Write until a full disk says so."""
    with Path("/dev/full").open("w") as file:
        file.write("x")


def unspeakable(_folder: Path) -> object:
    """Return what JSON does not hold."""
    return object()
