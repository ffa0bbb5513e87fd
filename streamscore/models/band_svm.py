"""Support vector machine with a Gaussian kernel on features of single epochs.

A baseline of our own: the papers that quote an SVM publish neither features nor C nor gamma (MODELS.md 6.5). It is
fitted by scikit-learn (``offline/train_bands.py``) and evaluated here from plain tensors, so that nothing is ever
unpickled. Decisions are those of scikit-learn's ``SVC`` with ``decision_function_shape="ovo"``; probabilities are
libsvm's: Platt's sigmoid for each pair of classes, then the pairwise coupling of Wu, Lin & Weng, "Probability
estimates for multi-class classification by pairwise coupling", JMLR 5 (2004), second method.
"""

from __future__ import annotations

from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor

from streamscore.features.bands import BandArguments, BandFeatures
from streamscore.models.base import About, Example, Read, ScoringModel, State, Timing

ABOUT = About(
    title="Gaussian-kernel SVM on band features",
    source="baseline of our own; quoted without parameters by Jia et al., IJCAI 2021 (SalientSleepNet)",
    published=(),
    examples={
        "band-svm": Example({}, "AASM5", 100.0, ("EEG",)),
        "band-svm-mouse": Example(
            {"sfreq": 200.0, "n_channels": 2, "n_classes": 3, "epoch_s": 4.0}, "MOUSE3", 200.0, ("EEG", "EMG")
        ),
    },
)


def pairs_of(n_classes: int) -> tuple[tuple[int, int], ...]:
    """Pairs of classes in libsvm's order."""
    return tuple(combinations(range(n_classes), 2))


class Config(BandArguments):
    """Arguments of :class:`BandSvm`: those of the features, and the size of what was fitted.

    Parameters
    ----------
    n_classes
        Classes; there is one machine for each pair of them.
    n_support
        Support vectors, shared by the machines.
    """

    n_classes: int = Field(5, ge=2)
    n_support: int = Field(1000, ge=1)


class BandSvm(ScoringModel):
    """One-against-one SVM; each epoch is scored by itself, so that streaming is exact and needs no warm-up.

    Attributes
    ----------
    support
        Support vectors ``(n_support, n_features)``, z-scored.
    pair_coef, pair_intercept
        ``(n_pairs, n_support)`` and ``(n_pairs,)``; pairs in the order (0, 1), (0, 2) … (1, 2) ….
    platt_slope, platt_offset
        ``(n_pairs,)``: the first class of a pair has probability ``1 / (1 + exp(slope * decision + offset))``.
    gamma
        Of the kernel ``exp(-gamma * |x - support|²)``.
    """

    #: libsvm's bounds: of a pair's probability, of the steps of the coupling, and of its error times n_classes.
    PAIR_FLOOR = 1e-7
    MAX_COUPLING_STEPS = 100
    COUPLING_TOLERANCE = 0.005
    #: Keeps the logarithm of a probability finite.
    PROBABILITY_FLOOR = 1e-12

    support: Tensor
    pair_coef: Tensor
    pair_intercept: Tensor
    platt_slope: Tensor
    platt_offset: Tensor
    gamma: Tensor

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
        self.pairs = pairs_of(config.n_classes)
        n_pairs = len(self.pairs)
        # float64, as libsvm computes: the sums run over thousands of terms that nearly cancel.
        self.register_buffer("support", torch.zeros(config.n_support, self.features.n_features))
        self.register_buffer("pair_coef", torch.zeros(n_pairs, config.n_support, dtype=torch.float64))
        self.register_buffer("pair_intercept", torch.zeros(n_pairs, dtype=torch.float64))
        self.register_buffer("platt_slope", torch.full((n_pairs,), -1.0, dtype=torch.float64))
        self.register_buffer("platt_offset", torch.zeros(n_pairs, dtype=torch.float64))
        self.register_buffer("gamma", torch.tensor(1.0 / self.features.n_features, dtype=torch.float64))

    def initial_state(self, batch_size: int) -> State:
        """Return one zero a stream: epochs are scored by themselves and nothing is carried."""
        return (self.support.new_zeros(batch_size, 1),)

    def decisions(self, features: Tensor) -> Tensor:
        """Map z-scored features ``(n, n_features)`` to ``(n, n_pairs)``; positive speaks for a pair's first."""
        x, support = features.double(), self.support.double()
        squared = x.square().sum(1, keepdim=True) - 2.0 * x @ support.T + support.square().sum(1)
        kernel = torch.exp(-self.gamma * squared.clamp(min=0.0))
        return kernel @ self.pair_coef.T + self.pair_intercept

    def votes(self, decisions: Tensor) -> Tensor:
        """Pairs won by each class ``(n, n_classes)``; the first class with most is scikit-learn's ``predict``.

        It is not always the class of the highest probability.
        """
        won = decisions.new_zeros(len(decisions), self.n_classes)
        for k, (first, second) in enumerate(self.pairs):
            won[:, first] += decisions[:, k] > 0
            won[:, second] += decisions[:, k] <= 0
        return won

    def probabilities(self, decisions: Tensor) -> Tensor:
        """Probabilities ``(n, n_classes)`` of decisions ``(n, n_pairs)``."""
        first_wins = torch.sigmoid(-(decisions * self.platt_slope + self.platt_offset))
        first_wins = first_wins.clamp(self.PAIR_FLOOR, 1.0 - self.PAIR_FLOOR)
        pairwise = first_wins.new_zeros(len(decisions), self.n_classes, self.n_classes)
        for k, (first, second) in enumerate(self.pairs):
            pairwise[:, first, second] = first_wins[:, k]
            pairwise[:, second, first] = 1.0 - first_wins[:, k]
        # The coupling would rest at once where it meets NaN, and call all classes as likely.
        return torch.where(decisions.isfinite().all(dim=1, keepdim=True), self._couple(pairwise), torch.nan)

    def _couple(self, pairwise: Tensor) -> Tensor:
        """Find p that minimises ½ pᵀQp, Σp = 1, with libsvm's iteration; a row rests once it has converged.

        The iteration stops early by design, so that solving for the minimum would not give libsvm's numbers.
        """
        n_classes = self.n_classes
        q = -pairwise * pairwise.transpose(1, 2)
        q = q + torch.diag_embed(pairwise.square().sum(dim=1))
        p = torch.full_like(pairwise[:, 0], 1.0 / n_classes)
        for _ in range(self.MAX_COUPLING_STEPS):
            qp = (q @ p[..., None])[..., 0]
            pqp = (p * qp).sum(dim=1)
            error = (qp - pqp[:, None]).abs().amax(dim=1)
            moving = error >= self.COUPLING_TOLERANCE / n_classes
            if not moving.any():
                break
            new = p
            for t in range(n_classes):
                q_tt, qp_t = q[:, t, t], qp[:, t]
                change = (pqp - qp_t) / q_tt
                scale = 1.0 + change
                pqp = (pqp + change * (change * q_tt + 2.0 * qp_t)) / scale.square()
                qp = (qp + change[:, None] * q[:, t]) / scale[:, None]
                new = new.clone()
                new[:, t] += change
                new = new / scale[:, None]
            p = torch.where(moving[:, None], new, p)
        return p

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        batch_size = x.shape[0]
        epochs = x.reshape(batch_size, self.n_channels, n_steps, -1).transpose(1, 2).flatten(0, 1)
        probs = self.probabilities(self.decisions(self.features(epochs)))
        logits = probs.clamp(min=self.PROBABILITY_FLOOR).log().float()
        return logits.reshape(batch_size, n_steps, 1, self.n_classes), (state[0].clone(),)


def build(config: Config) -> BandSvm:
    """Return a machine that was fitted to nothing, in evaluation mode: all classes are as likely."""
    return BandSvm(config).eval()
