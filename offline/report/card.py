"""The model card of the bundle that scored, as its file holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from offline.evaluation_folder import about_bundle
from offline.report.html import NONE, NOTHING, Html, duration, el, escaped, facts, join, short
from streamscore.bundle import find_bundle, load_bundle
from streamscore.errors import StreamscoreError
from streamscore.labels import VOCABULARIES


@dataclass(frozen=True)
class Card:
    """What is known of a bundle.

    Parameters
    ----------
    body
        What the page shows; empty where the bundle is not to be had.
    is_simulated
        Whether it was trained on simulated data alone, as far as it says so.
    """

    body: Html = NOTHING
    is_simulated: bool = False


def find_card(names: Sequence[str | Path], sha256: str) -> Card:
    """Read the card of the bundle with `sha256`, which is one of `names` (paths, or bundles that ship).

    A bundle that is not to be had, or is another one by now, gives no card: a card of something else misleads.
    """
    for name in names:
        try:
            bundle = load_bundle(find_bundle(name))
        except (StreamscoreError, OSError):
            continue
        if not sha256 or bundle.sha256 == sha256:
            told = about_bundle(bundle)
            epoch_s = bundle.model.timing.epoch_samples / bundle.spec.sfreq
            n_weights = sum(weight.numel() for weight in bundle.model.parameters())
            return card_of(told, [("epoch", duration(epoch_s)), ("weights", f"{n_weights:,}")])
    return Card()


def card_of(told: Mapping[str, Any], more: Sequence[tuple[str, str]] = ()) -> Card:
    """Return the card of what :func:`offline.evaluation_folder.about_bundle` tells of a bundle."""
    if not told:
        return Card()
    text = str(told.get("card") or "")
    rows = [
        ("bundle", str(told.get("name", NONE))),
        ("network", str(told.get("model", NONE))),
        *more,
        ("takes", f"{', '.join(map(str, told.get('channels', ())))} at {short(told.get('sfreq'))} Hz"),
        ("tells", ", ".join(VOCABULARIES.get(str(told.get("vocabulary")), ())) or NONE),
        ("SHA-256", str(told.get("sha256") or "one for each fold")),
    ]
    shown = el("div", markdown(text), class_="card") if text else el("p", "There is no card.")
    return Card(join([facts(rows), shown]), "trained on simulated" in text.lower())


def markdown(text: str) -> Html:
    """Turn Markdown into HTML; markup in it is shown as text, and pictures are left out."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("image", _in_words)
    made = reader.render(text)
    return Html(made.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>"))


def _in_words(_renderer: object, tokens: Sequence[Token], index: int, *_settings: object) -> str:
    """Stand in for a picture, which would have to be loaded: what it shows, in words."""
    return escaped(tokens[index].content)
