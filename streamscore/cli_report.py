"""The command that writes reports; :mod:`streamscore.cli` adds it to the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of an evaluation, of a training, or of a run on a rig.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. [report.html in the folder]")
    ] = None,
) -> None:
    """Write a run as one HTML page that needs no network: hypnograms, agreement, latency, model card.

    Example: streamscore report runs/evaluate-mouse-bands-20261121T193000 --output mouse-bands.html
    """
    from offline.report.command import report_command

    path = report_command(run, output)
    typer.echo(f"wrote {path}")
