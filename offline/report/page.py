"""The page: what it is about, how good that was, sections with a sentence on how to read each, what is missing.

One file with all that it needs: no script, no font, no picture from elsewhere. It opens from a memory stick,
follows the dark mode of the browser, and prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import streamscore
from offline.atomic import replacing
from offline.report.html import Html, el, escaped, join


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Parameters
    ----------
    title
        Heading.
    read
        How to read what follows, in a sentence or two.
    body
        Figures and tables; empty where the run holds no such data: the section is then left out, and named at the
        end.
    """

    title: str
    read: str
    body: Html

    @property
    def anchor(self) -> str:
        """Name by which the list of sections points to it."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


@dataclass(frozen=True)
class Page:
    """What a report says.

    Parameters
    ----------
    title, lead
        Heading, and one sentence: what, on whom, how good.
    warnings
        What must not be overlooked, in red: simulated data, figures on data that were trained on.
    notes
        What a reader should know beside.
    cards
        The few figures that matter most: value, and what it is.
    sections
        In the order of the page.
    """

    title: str
    lead: str
    warnings: Sequence[str]
    notes: Sequence[str]
    cards: Sequence[tuple[str, str]]
    sections: Sequence[Section]

    def html(self) -> str:
        """Return the file."""
        shown = [section for section in self.sections if section.body]
        absent = [section.title.lower() for section in self.sections if not section.body]
        body = [
            el("h1", self.title),
            el("p", self.lead, class_="lead"),
            *(el("strong", text, class_="badge") for text in self.warnings),
            *(el("div", text, class_="badge note") for text in self.notes),
            _cards(self.cards),
            el("nav", join((el("a", s.title, href=f"#{s.anchor}") for s in shown), " ")),
            *(_section(section) for section in shown),
        ]
        if absent:
            body.append(el("p", f"Not in this run: {', '.join(absent)}.", class_="small"))
        body.append(el("p", f"Written by streamscore {streamscore.__version__}.", class_="small"))
        style = Html(resources.files("offline.report").joinpath("style.css").read_text(encoding="utf-8"))
        head = el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            # Nothing may be loaded, whatever got into the page.
            el(
                "meta",
                http_equiv="Content-Security-Policy",
                content="default-src 'none'; style-src 'unsafe-inline'",
            ),
            el("title", self.title),
            el("style", style),
        )
        return "<!DOCTYPE html>\n" + el("html", head, el("body", *body), lang="en") + "\n"


def figure(picture: Html, read: str, *beside: str) -> Html:
    """Return a picture with a sentence on how to read it, and what stands under it, such as a legend."""
    return el("figure", picture, *beside, el("figcaption", read))


def folded(title: str, body: Html) -> Html:
    """Return `body` behind a line that opens it."""
    return el("details", el("summary", title), body)


def write_page(page: Page, path: Path) -> None:
    """Write a page; a file of that name is replaced at once or not at all.

    Raises
    ------
    RecordError
        If it cannot be written.
    """
    with replacing(path) as beside:
        beside.write_text(page.html(), encoding="utf-8", newline="\n")


def _section(section: Section) -> Html:
    read = el("p", section.read, class_="read") if section.read else escaped("")
    return el("section", el("h2", section.title), read, section.body, id=section.anchor)


def _cards(cards: Sequence[tuple[str, str]]) -> Html:
    return el("div", *(el("div", el("b", value), el("span", words)) for value, words in cards), class_="cards")
