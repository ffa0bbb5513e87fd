"""The model card of a trained bundle: what a person must know before an animal's experiment depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offline.recipe import Recipe
from streamscore.bundle import Spec


def card(recipe: Recipe, spec: Spec, about: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    about
        What :func:`offline.train.train` notes of a training.
    """
    subjects = about["subjects"]
    rows = [
        f"# {spec.name}",
        "",
        *(
            ["**Trained on simulated recordings only.** It says nothing about a real brain.", ""]
            if about["simulated"]
            else []
        ),
        f"{recipe.title}. Scores {', '.join(spec.labels)} from {', '.join(spec.channels[:8])}"
        f"{' …' if len(spec.channels) > 8 else ''} at {spec.sfreq:g} Hz ({spec.unit}).",
        "",
        f"- Network: `{spec.model}`{f'; {recipe.source}' if recipe.source else ''}",
        f"- Learnt from {len(subjects['train'])} subjects ({_some(subjects['train'])}), chosen by "
        f"{len(subjects['validation'])} ({_some(subjects['validation'])}) of `{about['dataset']['kind']}`",
        f"- Made by `{about['command']}` on {about['date']}, commit `{about['git_commit'][:12]}`, "
        f"{about['device']}, {about['seconds']:.0f} s",
    ]
    for name, figures in about["validation"].items():
        rows.append(
            f"- Stage *{name}*: pass {figures['pass']} of {figures['passes']}; validation accuracy "
            f"{figures.get('val_accuracy', float('nan')):.3f}, κ {figures.get('val_kappa', float('nan')):.3f}, "
            f"macro-F1 {figures.get('val_macro_f1', float('nan')):.3f}"
        )
    rows += [
        "",
        "Validation figures chose the weights and are therefore kind. How it scores subjects that it never saw is "
        "told by `streamscore evaluate`.",
    ]
    if recipe.differs:
        rows += ["", "Not as published:", "", *(f"- {text}" for text in recipe.differs)]
    if recipe.published:
        rows += ["", "Figures of the paper, not of this bundle:", "", *(f"- {text}" for text in recipe.published)]
    return "\n".join(rows) + "\n"


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])}, …"
