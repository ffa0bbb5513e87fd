"""Commands for data sets; :mod:`streamscore.cli` adds them to the command line as ``streamscore data …``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamscore.errors import ConfigError, LoopError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offline.datasets.base import Dataset
    from offline.datasets.check import Finding
    from offline.datasets.fitting import Problem

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class SimulatedKind(StrEnum):
    """What can be simulated."""

    human = "human"
    mouse = "mouse"
    calcium = "calcium"
    parcels = "parcels"
    run_rest = "run_rest"
    roi = "roi"


def list_(
    kind: Annotated[str | None, typer.Argument(help="Tell all of this kind. [a table of all]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """List the kinds of data sets: what they are, where they come from, how files are to lie.

    Example: streamscore data list sleep_edf
    """
    from offline.datasets.base import KINDS, load

    names = [kind] if kind else sorted(KINDS)
    abouts = {name: load(name).ABOUT for name in names}
    if as_json:
        out.print_json(json.dumps({name: vars(about) for name, about in abouts.items()}))
        return
    if kind:
        for field, text in vars(abouts[kind]).items():
            out.print(f"{field:11} {text}", markup=False, soft_wrap=True)
        out.print("\noptions, in dataset.json or on the command line:")
        for option, info in load(kind).Config.model_fields.items():
            default = "" if info.default is None else f" [{info.default}]"
            out.print(f"  {option:16} {info.description or ''}{default}", markup=False, soft_wrap=True)
        return
    table = Table("kind", "what", "states", "licence", "how to get it")
    for name, about in abouts.items():
        table.add_row(name, about.title, about.vocabulary, about.licence, about.get)
    out.print(table)
    out.print("streamscore data list KIND tells the layout and the options of one.")


def check(
    folder: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    dataset: Annotated[str | None, typer.Option(help="Kind of data set. [recognised]")] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="NAME=LABEL: channel of the files ('A|B', 'A - B'). [the kind's]")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="WORD=STATE, or WORD=UNKNOWN, of the label files.")
    ] = None,
    vocabulary: Annotated[str | None, typer.Option(help="AASM5, RK6, MOUSE3 or RUNREST. [recognised]")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: any other option of the kind (data list KIND).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Read every recording of a folder as training will, and tell what it holds and what is wrong with it.

    Ends with code 6 if anything keeps a recording, or the whole set, from being used.

    Example: streamscore data check recordings --dataset sleep_edf
    """
    from offline.datasets.base import open_dataset
    from offline.datasets.check import across
    from offline.datasets.check import check as findings_of

    opened = open_dataset(folder, dataset, **options_of(channel, label, vocabulary, option))
    with _progress() as progress:
        task = progress.add_task("reading", total=len(opened.entries))
        findings = []
        for finding in findings_of(opened):
            findings.append(finding)
            progress.advance(task)
    problems = across(opened, findings)
    if as_json:
        out.print_json(json.dumps(_as_json(opened, findings, problems)))
    else:
        _show(opened, findings, problems)
    n_wrong = sum(not finding.is_usable for finding in findings) + sum(problem.is_error for problem in problems)
    if n_wrong:
        raise LoopError(f"{folder}: {n_wrong} errors, see above; correct them, or move those recordings away")


def fetch(
    kind: Annotated[str, typer.Argument(help="sleep_edf, ucddb or calcium_sleep.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for the files.")],
    subjects: Annotated[str | None, typer.Option(help="Only these, as 00,01,02. [all]")] = None,
    base_url: Annotated[str | None, typer.Option(help="A mirror. [the archive itself]")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Tries more, where a file fails.")] = 3,
) -> None:
    """Fetch an open data set; every file is compared with its published checksum.

    What is there already is kept, so the same command goes on where it stopped. Heed the licence of the set.

    Example: streamscore data fetch sleep_edf --to sleep-edf --subjects 00,01
    """
    from offline.datasets.base import load
    from offline.datasets.fetch import fetch as fetched
    from offline.datasets.fetch import plan

    wanted = [name.strip() for name in subjects.split(",") if name.strip()] if subjects else []
    files = plan(kind, to, base_url=base_url, subjects=wanted, retries=retries)
    about = load(kind).ABOUT
    out.print(f"{about.title}\n{about.source}\nlicence: {about.licence}", markup=False, soft_wrap=True)
    out.print(f"{len(files)} files of {len({file.subject for file in files})} subjects")
    with _progress() as progress:
        task = progress.add_task("fetching", total=len(files))
        for file in fetched(kind, to, files, base_url=base_url, retries=retries):
            progress.update(task, advance=1, description=file.path)
    out.print(f"done; next: streamscore data check {to}", markup=False, soft_wrap=True)


def simulate(
    kind: Annotated[SimulatedKind, typer.Argument(help="What to simulate.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for the files, absent or empty.")],
    subjects: Annotated[int, typer.Option(min=1, help="How many; subject k comes from seed + k.")] = 4,
    hours: Annotated[float, typer.Option(help="Length of each recording.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first subject.")] = 0,
    sfreq: Annotated[
        float | None,
        typer.Option(
            help="Samples or frames a second. [human 100, mouse 200, calcium and parcels 16.8, others 30]"
        ),
    ] = None,
    cycle_s: Annotated[
        float | None, typer.Option(help="Length of a sleep cycle; a short one shows all states soon. [natural]")
    ] = None,
    side: Annotated[int, typer.Option(min=16, help="Side of a movie's frames in pixels.")] = 128,
) -> None:
    """Write simulated recordings with their true states in the plain layout, to try a recipe out.

    Accuracies on them say that the software works, nothing more.

    Example: streamscore data simulate human --to sim --subjects 6 --hours 2 --cycle-s 1800
    """
    from offline.datasets.simulated import Plan
    from offline.datasets.simulated import simulate as simulated

    plan = Plan(subjects, hours, seed, sfreq, cycle_s, side)
    with _progress() as progress:
        task = progress.add_task("simulating", total=subjects)
        for _ in simulated(kind.value, to, plan):
            progress.advance(task)
    out.print(f"{subjects} SIMULATED recordings in {to}", markup=False, soft_wrap=True)


def options_of(
    channel: Sequence[str] | None,
    label: Sequence[str] | None,
    vocabulary: str | None,
    option: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Options of a data set as they stand on a command line.

    Raises
    ------
    ConfigError
        If one of them is not ``NAME=VALUE``.
    """
    options: dict[str, Any] = dict(_pair("--option", text) for text in option or ())
    if channel:
        options["channels"] = dict(_pair("--channel", text) for text in channel)
    if label:
        options["states"] = dict(_pair("--label", text) for text in label)
    if vocabulary:
        options["vocabulary"] = vocabulary
    return options


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{option} {text!r}: write NAME=VALUE")
    return name.strip(), value.strip()


def _progress() -> Progress:
    """Progress with the time that remains, on stderr, gone when done; nothing where that is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _as_json(dataset: Dataset, findings: Sequence[Finding], problems: Sequence[Problem]) -> dict[str, Any]:
    return {
        "kind": dataset.kind,
        "folder": str(dataset.folder),
        "simulated": dataset.is_simulated,
        "subjects": dataset.subjects,
        "recordings": [finding.as_json() for finding in findings],
        "problems": [vars(problem) for problem in problems],
    }


def _show(dataset: Dataset, findings: Sequence[Finding], problems: Sequence[Problem]) -> None:
    mark = " SIMULATED" if dataset.is_simulated else ""
    rows = []
    for finding in findings:
        states = " ".join(f"{state} {count}" for state, count in finding.states)
        cells = {
            "subject": finding.subject,
            "session": finding.session if finding.session != finding.subject else "",
            "channels": _shortly(finding.channels),
            "rate": f"{finding.sfreq:g} Hz" if finding.sfreq else "",
            "hours": f"{finding.hours:.2f}" if finding.hours else "",
            "epochs": f"{states} ({finding.epoch_s:.3g} s)" if states else "[red]unusable[/red]",
            "no label": str(finding.unlabelled or ""),
            "gaps": f"{finding.gaps} ({finding.gap_s:.0f} s)" if finding.gaps else "",
            "in gaps": str(finding.in_gaps or ""),
        }
        rows.append(cells)
    # What is empty in all rows takes no room: a terminal of 80 columns is to show the rest.
    names = [name for name in (rows[0] if rows else {}) if any(cells[name] for cells in rows)]
    table = Table(title=f"{dataset.folder}: {dataset.kind}{mark}")
    for name in names:
        table.add_column(name, no_wrap=name in ("subject", "rate", "hours"))
    for cells in rows:
        table.add_row(*(cells[name] for name in names))
    out.print(table)
    hours = sum(finding.hours for finding in findings)
    out.print(f"{len(dataset.subjects)} subjects, {len(findings)} recordings, {hours:.1f} h")
    told = [(finding.session, problem) for finding in findings for problem in finding.problems]
    for name, problem in [*told, *(("", problem) for problem in problems)]:
        out.print("[red]error[/red]" if problem.is_error else "[yellow]note[/yellow] ", end=" ")
        out.print(f"{name}: {problem.text}" if name else problem.text, markup=False, soft_wrap=True)


def _shortly(channels: Sequence[str]) -> str:
    more = f" … {len(channels)} in all" if len(channels) > 4 else ""
    return ", ".join(channels[:4]) + more
