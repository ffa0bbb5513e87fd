"""Pages that commands write: reports and model cards in Markdown."""

from __future__ import annotations

import textwrap

WIDTH = 115


def wrapped(page: str) -> str:
    """Wrap the paragraphs of a page; headings, tables and lists stay as they are."""
    blocks = page.strip().split("\n\n")
    lines = [
        block if block.startswith(("|", "#", "- ")) else textwrap.fill(block, WIDTH, break_on_hyphens=False)
        for block in blocks
    ]
    return "\n\n".join(lines) + "\n"
