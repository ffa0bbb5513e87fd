"""Smaller forms of the recipes that learn something from simulated recordings within a minute of one core.

A trial says what is changed: fewer filters, fewer passes, a higher learning rate. The procedure (lessons,
sampling, losses, stages) stays that of the recipe, so that a trial that learns shows that the recipe works, and no
more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offline.datasets.base import Dataset, open_dataset
from offline.datasets.plain import TABLE_SUFFIX
from offline.datasets.simulated import Plan, simulate
from offline.folds import Split


@dataclass(frozen=True)
class Trial:
    """What a recipe is tried with.

    Parameters
    ----------
    changes
        Dotted field of the recipe → value, as ``--set`` of ``streamscore train`` takes them.
    simulated
        What is simulated, one of :data:`offline.datasets.simulated.KINDS`.
    plan
        How much; the last two subjects validate.
    """

    changes: Mapping[str, Any]
    simulated: str = "human"
    plan: Plan = field(default_factory=lambda: Plan(6, 1.0, cycle_s=600.0))


_SLEEPERS_256 = Plan(6, 1.0, sfreq=256.0, cycle_s=600.0)
_SCALED = [{"kind": "normalise", "estimator": "stored", "stored_scale": [25.0]}]
_DEEP = {
    # The published statistics forget over thousands of batches, of which there are not as many here.
    "stages.0.norm_momentum": 0.1,
    "stages.1.norm_momentum": 0.1,
    "bundle.model_args.n_filters": 16,
    "bundle.model_args.n_hidden": 64,
    "stages.0.examples.batch": 32,
    "stages.0.optimizer.lr": 0.001,
    "stages.0.passes": 5,
    "stages.1.examples.rows": 2,
    "stages.1.optimizer.lr": 0.001,
    "stages.1.optimizer.lr_of.cnn": 0.0001,
    "stages.1.passes": 8,
}
_SALIENT = {
    "bundle.model_args.filters": [8, 8, 16, 16, 32],
    "bundle.model_args.scale_filters": [4, 4, 4, 4, 4],
    "bundle.model_args.u_filters": 4,
    "stages.0.optimizer.lr": 0.005,
    "stages.0.examples.batch": 2,
    "stages.0.passes": 10,
    "stages.0.norm_momentum": 0.1,
}
_VGG = {
    "bundle.vocabulary": "AASM5",
    "bundle.model_args.n_filters": 8,
    "bundle.model_args.image_size": 64,
    "bundle.model_args.dropout": 0.2,
    "stages.0.examples.batch": 16,
    "stages.0.optimizer.lr": 0.0005,
    "stages.0.passes": 15,
}
_HIDDEN = {"bundle.model_args.n_hidden": 128}
_CALCIUM = Plan(6, 0.15, cycle_s=180.0, side_px=16)
_BILSTM = {
    "bundle.model_args.frame_shape": [16, 16],
    "bundle.model_args.n_filters": 8,
    "bundle.model_args.n_blocks": 3,
    "bundle.model_args.n_hidden": 16,
    "stages.0.optimizer.lr": 0.005,
}
_STREAMING = {
    **_BILSTM,
    "bundle.model_args.attention_frames": 42,
    "stages.0.examples.context": 42,
    "stages.0.examples.batch": 4,
    "stages.0.examples.per_pass": 160,
    "stages.0.passes": 8,
}
_WHEEL = Plan(6, 0.05, side_px=16)
_EFFICIENT = {
    "bundle.model_args.frame_shape": [16, 16],
    "bundle.model_args.width": 0.25,
    "bundle.model_args.depth": 0.3,
    "stages.0.examples.stride": 4,
    "stages.0.examples.batch": 64,
    "stages.0.optimizer.lr": 0.003,
    "stages.0.norm_momentum": 0.1,
}
_RECURRENT = {
    **_EFFICIENT,
    "bundle.model_args.n_hidden": 16,
    "stages.1.examples.stride": 8,
    "stages.1.optimizer.lr": 0.003,
    "stages.1.norm_momentum": 0.1,
}
_ROI = Plan(6, 0.05)

#: Recipe → its trial.
TRIALS: dict[str, Trial] = {
    "tinysleepnet": Trial(
        {
            "bundle.model_args.n_filters": 32,
            "bundle.model_args.n_hidden": 32,
            "stages.0.examples.batch": 3,
            "bundle.preprocess": _SCALED,
            "stages.0.optimizer.lr": 0.002,
            "stages.0.passes": 20,
        }
    ),
    "deepsleepnet": Trial(_DEEP),
    "deepsleepnet-mass": Trial(_DEEP, plan=_SLEEPERS_256),
    "deepsleepnet-causal": Trial(_DEEP),
    "deepsleepnet-lookahead": Trial(_DEEP),
    "salientsleepnet": Trial(_SALIENT),
    "salientsleepnet-causal": Trial(_SALIENT),
    "seqsleepnet": Trial(
        {
            "bundle.model_args.n_filters": 16,
            "bundle.model_args.n_hidden": 16,
            "bundle.model_args.n_attention": 16,
            "stages.0.examples.stride": 4,
            "stages.0.examples.batch": 8,
            "stages.0.optimizer.lr": 0.005,
            "stages.0.passes": 8,
        }
    ),
    "sleepeegnet": Trial(
        {
            "bundle.model_args.n_filters": 16,
            "bundle.model_args.n_hidden": 32,
            "stages.0.examples.batch": 5,
            "stages.0.passes": 20,
        }
    ),
    "utime": Trial(
        {
            "bundle.model_args.n_filters": 8,
            "stages.0.examples.batch": 4,
            "stages.0.examples.per_pass": 24,
            "stages.0.optimizer.lr": 0.003,
            "stages.0.passes": 6,
            "stages.0.norm_momentum": 0.1,
        }
    ),
    "baek-vgg16": Trial({**_VGG, **_HIDDEN}),
    "baek-convlstm": Trial({**_VGG, "stages.0.optimizer.lr": 0.0001}),  # at 0.0005 its gates saturate
    "vilamala": Trial({**_VGG, **_HIDDEN}),
    "calcium-sleep": Trial(
        {**_BILSTM, "stages.0.optimizer.lr": 0.003, "stages.0.passes": 12}, "calcium", _CALCIUM
    ),
    "calcium-sleep-causal": Trial(_STREAMING, "calcium", _CALCIUM),
    "calcium-sleep-lookahead": Trial(
        {
            **_STREAMING,
            "bundle.model_args.look_ahead_s": 1.0,
            "bundle.model_args.max_look_ahead_s": 2.0,
            "stages.0.examples.context": 76,
            "stages.0.look_aheads_s": [0.0, 1.0, 2.0],
        },
        "calcium",
        _CALCIUM,
    ),
    "mvg-cnn": Trial(
        {
            "bundle.model_args.n_filters": [8, 16, 32],
            "stages.0.optimizer.lr": 0.005,
            "stages.0.passes": 6,
        },
        "parcels",
        Plan(6, 0.1, cycle_s=180.0),
    ),
    "run-rest-cnn": Trial(_EFFICIENT, "run_rest", _WHEEL),
    "run-rest-cnn-gru": Trial(_RECURRENT, "run_rest", _WHEEL),
    "run-rest-cnn-lstm": Trial(_RECURRENT, "run_rest", _WHEEL),
    "roi-rnn": Trial({"stages.0.optimizer.lr": 0.005, "stages.0.passes": 8}, "roi", _ROI),
    "roi-rnn-causal": Trial({"stages.0.passes": 6}, "roi", _ROI),
    "roi-rnn-lookahead": Trial({"stages.0.examples.per_pass": 240, "stages.0.passes": 6}, "roi", _ROI),
}


def folder_of(trial: Trial) -> str:
    """Name of the folder of what a trial learns from; trials with the same plan share it."""
    plan = trial.plan
    rate = f"-{plan.sfreq:g}hz" if plan.sfreq else ""
    return f"simulated-{trial.simulated}-{plan.n_subjects}x{plan.hours:g}h{rate}"


def open_trial(trial: Trial, folder: Path) -> tuple[Dataset, Split]:
    """Simulate what a trial learns from, unless it is there, and return it with its split."""
    if len(list(folder.glob(f"*{TABLE_SUFFIX}"))) < trial.plan.n_subjects:  # a table is the last of a recording
        for _ in simulate(trial.simulated, folder, trial.plan):
            pass
    dataset = open_dataset(folder)
    return dataset, Split(dataset.subjects[:-2], dataset.subjects[-2:], (), final=True)
