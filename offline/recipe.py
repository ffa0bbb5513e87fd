"""A recipe: how a published system, or one of ours, is trained. One YAML file each in ``offline/recipes``.

A recipe names the bundle that comes out (network, chain, labels, rate) and the stages of its training in order. A
stage begins with the weights of the one before. What of a paper a recipe does not do stands in its `differs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamscore.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"


class Strict(BaseModel):
    """Base of all sections: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleSection(Strict):
    """What comes out, as in :class:`streamscore.bundle.Spec`.

    A normaliser of `preprocess` may ask for ``constants: training`` (:mod:`offline.chain_constants`).
    """

    name: str
    model: str
    model_args: dict[str, Any] = Field(default_factory=dict)
    preprocess: tuple[dict[str, Any], ...] = ()
    vocabulary: str
    sfreq: float = Field(gt=0)
    channels: tuple[str, ...] = Field(min_length=1)
    frame_shape: tuple[int, int] | None = None
    unit: Literal["uV", "V", "mV", "any"] = "any"
    hop_s: float | None = Field(None, gt=0)


class Examples(Strict):
    """Which parts of the recordings make a batch.

    Parameters
    ----------
    kind
        ``windows``: parts of `steps`, each from a fresh state, in any order. ``nights``: `batch` rows side by side
        are gone through from start to end, `steps` at a time, and the state is carried.
    steps
        Labelled steps in a part.
    stride
        Windows: steps from one to the next; 0 draws as many as fit at any place.
    batch
        Parts in a batch.
    balance
        Windows: ``oversample`` repeats the rare states until all are as frequent as the most frequent one,
        ``undersample`` draws as few of each as there are of the rarest, anew in each pass, ``draw`` draws the
        state first and then a window that holds it.
    per_pass
        Windows with ``draw`` or a stride of 0: how many in a pass; 0: as many as do not overlap.
    ragged
        Windows: parts are of any length up to `steps`, so that the beginning of a stream is learnt too; batches
        then hold `batch` × `steps` steps.
    joined
        Share of the recordings, drawn anew in each pass, whose gaps are ignored; for sets that lack most epochs of
        the rare states, so that runs hardly ever change state.
    context
        Steps before each window that the network sees and is not asked about.
    rows
        Nights: parts of equal length that each recording is cut into (DeepSleepNet: 10); 0 takes it whole.
    shift
        Nights: the whole recording is moved by up to this share of a step, anew in each pass.
    skip
        Nights: up to so many steps are left out at the start, anew in each pass.
    smote
        Rare states are filled up with synthetic steps (:mod:`offline.smote`) until they are this share of the most
        frequent one; 0: none. The synthetic ones of a state follow one another, as in SleepEEGNet.
    """

    kind: Literal["windows", "nights"] = "windows"
    steps: int = Field(1, ge=1)
    stride: int = Field(1, ge=0)
    batch: int = Field(32, ge=1)
    balance: Literal["none", "oversample", "undersample", "draw"] = "none"
    per_pass: int = Field(0, ge=0)
    ragged: bool = False
    joined: float = Field(0.0, ge=0, le=1)
    context: int = Field(0, ge=0)
    rows: int = Field(0, ge=0)
    shift: float = Field(0.0, ge=0, lt=1)
    skip: int = Field(0, ge=0)
    smote: float = Field(0.0, ge=0, le=1)


class Augment(Strict):
    """How examples are altered in training; 0 leaves them as they are.

    Parameters
    ----------
    gain, tilt
        Signals: standard deviation of the log gain, and of the log gain per octave.
    shift
        Signals: largest circular shift in steps.
    noise
        Standard deviation of added noise; that of each example is drawn from 0 to it.
    offset
        Standard deviation of what is added to all samples of a channel.
    left_out
        Share of the channels that are set to 0; the others are raised accordingly.
    erase
        Chance that a random stretch of up to a third of an example is set to 0 (U-Time's region erase).
    flip
        Movies: chance that left and right are exchanged.
    """

    gain: float = Field(0.0, ge=0)
    tilt: float = Field(0.0, ge=0)
    shift: float = Field(0.0, ge=0)
    noise: float = Field(0.0, ge=0)
    offset: float = Field(0.0, ge=0)
    left_out: float = Field(0.0, ge=0, lt=1)
    erase: float = Field(0.0, ge=0, le=1)
    flip: float = Field(0.0, ge=0, le=1)


class Loss(Strict):
    """What is made small.

    Parameters
    ----------
    kind
        ``cross_entropy``, ``focal`` (Lin et al. 2017), or ``per_class``: means over each class, summed (the MFE of
        SleepEEGNet).
    gamma
        Of the focal loss.
    weights
        One a class; empty: all 1.
    weight_power
        In place of `weights`: a class weighs ``count ** -weight_power``, 1 on average over the training epochs.
    smoothing
        Of the labels.
    reduction
        ``mean`` over the labelled steps, ``weighted`` mean (by the weights of their classes), or ``rows``: summed
        over the steps of a row, mean over rows (DeepSleepNet).
    l2
        Coefficient of ½‖w‖² of the kernels that the network names (``l2_kernels``).
    """

    kind: Literal["cross_entropy", "focal", "per_class"] = "cross_entropy"
    gamma: float = Field(2.0, ge=0)
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    weight_power: float = Field(0.0, ge=0)
    smoothing: float = Field(0.0, ge=0, lt=1)
    reduction: Literal["mean", "weighted", "rows"] = "mean"
    l2: float = Field(0.0, ge=0)


class Optimizer(Strict):
    """How weights move.

    Parameters
    ----------
    kind, lr, betas, eps, weight_decay
        As in ``torch.optim``; `weight_decay` is AdamW's, and spares biases and normalisations. RMSProp forgets
        with ``betas[1]``.
    lr_of
        Prefix of parameter names → learning rate of their own; 0 leaves them as they are.
    schedule
        ``constant``; ``cosine``: a rise over the first twentieth, then half a cosine; ``one_cycle``: fastai's, a
        quarter of rise from lr / 25, fall to lr / 1e5, momentum 0.95 – 0.85 – 0.95.
    clip_norm
        Limit of the gradient's norm over all parameters; 0: none.
    average
        Each step moves averaged weights, which are the result, by ``1 - average``; 0: none.
    """

    kind: Literal["adam", "adamw", "rmsprop"] = "adam"
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    lr_of: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    clip_norm: float = Field(0.0, ge=0)
    average: float = Field(0.0, ge=0, lt=1)


class Stage(Strict):
    """One training.

    Parameters
    ----------
    name
        Folder of its checkpoints.
    lesson
        Which part of the network is asked, see :mod:`offline.lessons`.
    model_args
        Arguments of the network that differ in this stage.
    passes
        Times that the data are gone through, at most.
    keep
        ``best`` of the passes by `monitor` over the validation subjects, or the ``last``.
    monitor
        What `keep` and `patience` look at; ``val_loss`` should fall, the others rise.
    patience
        Passes without an improvement after which the stage ends; 0: none.
    look_aheads_s
        Look-aheads of which each batch draws one, so that one set of weights serves them all.
    norm_momentum
        Weight of a new batch in the running statistics of batch normalisations, in place of the network's; 0: the
        network's. Published ones forget over thousands of batches, more than a small data set has.
    """

    name: str = "train"
    lesson: str = "stream"
    model_args: dict[str, Any] = Field(default_factory=dict)
    examples: Examples = Examples()
    augment: Augment = Augment()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    passes: int = Field(10, ge=1)
    keep: Literal["best", "last"] = "best"
    monitor: Literal["val_loss", "val_accuracy", "val_kappa", "val_macro_f1"] = "val_loss"
    patience: int = Field(0, ge=0)
    look_aheads_s: tuple[Annotated[float, Field(ge=0)], ...] = ()
    norm_momentum: float = Field(0.0, ge=0, le=1)


class Recipe(Strict):
    """See the module.

    Parameters
    ----------
    title, source
        What it is, and where it was published.
    published
        Figures of the paper: theirs, not ours.
    differs
        What is not done as published, and why.
    dataset
        Kind of data set, and its options, unless the command names another.
    bundle
        What comes out; ``None`` takes that of the bundle that training starts from.
    folds
        Of the published evaluation, see :mod:`offline.folds`.
    precision
        Of Lightning: ``32-true``, ``16-mixed`` or ``bf16-mixed``.
    seed
        Decides initial weights, order, dropout and augmentation.
    """

    title: str
    source: str = ""
    published: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    dataset: dict[str, Any] = Field(default_factory=dict)
    bundle: BundleSection | None = None
    stages: tuple[Stage, ...] = Field(min_length=1)
    folds: str = "5"
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    seed: int = 0

    @model_validator(mode="after")
    def _stages_have_names_of_their_own(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages: each needs a name of its own; they are {', '.join(names)}")
        return self

    def write(self, path: Path) -> None:
        """Write it in full, defaults included."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        path.write_text(text, encoding="utf-8")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Return the recipe of this name, or of this file.

    Parameters
    ----------
    overrides
        Dotted field → value, such as ``{"stages.0.passes": 2}``; checked like the file.

    Raises
    ------
    ConfigError
        If there is none, or a field of it is wrong; the message names file, field and choices.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"no recipe {str(name)!r}; choose one of {', '.join(recipe_names())}, or give a .yaml"
            )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; check the file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of fields; see {RECIPES / 'tinysleepnet.yaml'}")
    for field, value in (overrides or {}).items():
        _set(content, field, value, path)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        told = [e for e in error.errors() if e["type"] != "too_short"] or error.errors()
        problems = [f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in told]
        where = f"{path} with --set {', '.join(overrides)}" if overrides else str(path)
        raise ConfigError(
            f"{where}: {'; '.join(problems)}; docs/training.md and offline/recipe.py list the fields"
        ) from error


def parse_override(text: str) -> tuple[str, Any]:
    """Turn ``FIELD=VALUE`` of the command line into a field and a value (YAML).

    Raises
    ------
    ConfigError
        If it has no ``=`` or the value is no YAML.
    """
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise ConfigError(f"--set {text!r}: write FIELD=VALUE, for example --set stages.0.passes=5")
    try:
        return field, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: {error}") from error


def _set(content: dict[str, Any], field: str, value: Any, path: Path) -> None:
    """Put `value` at a dotted place."""
    *parents, last = field.split(".")
    place: Any = content
    for key in parents:
        try:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        except (IndexError, ValueError, AttributeError) as error:
            raise ConfigError(f"{path}: there is no {field!r} to set (at {key!r})") from error
    try:
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    except (IndexError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: there is no {field!r} to set (at {last!r})") from error
