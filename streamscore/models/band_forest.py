"""Random forest on features of single epochs.

A baseline of our own: the papers that quote a random forest publish neither features nor its size (MODELS.md 6.5).
It is fitted by scikit-learn (``offline/train_bands.py``) and evaluated here from plain tensors, so that nothing is
ever unpickled. Probabilities are those of scikit-learn's ``RandomForestClassifier.predict_proba``: the mean over
trees of the class shares of the leaf that an epoch falls into.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from streamscore.features.bands import BandArguments, BandFeatures
from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing

ABOUT = About(
    title="random forest on band features",
    source="baseline of our own; quoted without features or size by Jia et al., IJCAI 2021 (SalientSleepNet)",
    published=(),
    examples={
        "band-forest": Example({}, "AASM5", 100.0, ("EEG",)),
        "band-forest-mouse": Example(
            {"sfreq": 200.0, "n_channels": 2, "n_classes": 3, "epoch_s": 4.0}, "MOUSE3", 200.0, ("EEG", "EMG")
        ),
    },
)


class Config(BandArguments):
    """Arguments of :class:`BandForest`: those of the features, and the size of what was fitted.

    Parameters
    ----------
    n_classes
        Classes.
    n_trees
        Trees.
    n_nodes
        Nodes of the largest tree, leaves included; smaller trees are padded.
    depth
        Comparisons from the root to the deepest leaf.
    """

    n_classes: int = Field(5, ge=2)
    n_trees: int = Field(100, ge=1)
    n_nodes: int = Field(1001, ge=1)
    depth: int = Field(30, ge=0)


class BandForest(ScoringModel):
    """All trees walked at once; each epoch is scored by itself, so that streaming is exact.

    Attributes
    ----------
    feature, threshold
        ``(n_trees, n_nodes)``: an epoch goes to the first child if this feature is not above this threshold.
    child
        ``(n_trees, n_nodes, 2)``; a leaf is its own child, so that all walks may take as many steps.
    shares
        ``(n_trees, n_nodes, n_classes)``: share of each class among the training epochs of a leaf.
    """

    #: Keeps the logarithm of a class that no tree names finite.
    PROBABILITY_FLOOR = 1e-9

    feature: Tensor
    threshold: Tensor
    child: Tensor
    shares: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.n_channels = config.n_channels
        self.n_classes = config.n_classes
        epoch_samples = config.epoch_samples
        self.timing = Timing(
            step_samples=epoch_samples,
            reads=(Read(lag_samples=0, warm_up_samples=epoch_samples),),
            receptive_field_samples=epoch_samples,
        )
        self.features = BandFeatures(config)
        nodes = (config.n_trees, config.n_nodes)
        themselves = torch.arange(config.n_nodes).expand(nodes)
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(nodes))
        self.register_buffer("child", torch.stack((themselves, themselves), dim=-1))
        self.register_buffer("shares", torch.full((*nodes, config.n_classes), 1.0 / config.n_classes))

    def initial_state(self, batch_size: int) -> State:
        """Return one zero a stream: epochs are scored by themselves and nothing is carried."""
        return (self.threshold.new_zeros(batch_size, 1),)

    def probabilities(self, features: Tensor) -> Tensor:
        """Map z-scored features ``(n, n_features)`` to probabilities ``(n, n_classes)``."""
        tree = torch.arange(self.config.n_trees, device=features.device)
        row = torch.arange(len(features), device=features.device)[:, None]
        node = torch.zeros(len(features), self.config.n_trees, dtype=torch.int64, device=features.device)
        for _ in range(self.config.depth):
            above = features[row, self.feature[tree, node]] > self.threshold[tree, node]
            node = self.child[tree, node, above.long()]
        probs = self.shares[tree, node].mean(dim=1)
        # A comparison with NaN is merely false: without this, bad input would get a confident answer.
        return torch.where(features.isfinite().all(dim=1, keepdim=True), probs, torch.nan)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        batch_size = x.shape[0]
        epochs = x.reshape(batch_size, self.n_channels, n_steps, -1).transpose(1, 2).flatten(0, 1)
        probs = self.probabilities(self.features(epochs))
        logits = probs.clamp(min=self.PROBABILITY_FLOOR).log()
        return logits.reshape(batch_size, n_steps, 1, self.n_classes), (state[0].clone(),)


def build(config: Config) -> BandForest:
    """Return a forest that was fitted to nothing, in evaluation mode: all classes are as likely."""
    return BandForest(config).eval()
