"""What the screen shows of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

#: Narrower terminals fold lines instead of cells.
TABLE_WIDTH = 120


def show(content: Mapping[str, Any], out: Console) -> None:
    """Print the tables of an evaluation.

    Parameters
    ----------
    content
        Of ``evaluation.json``.
    out
        Where to.
    """
    ways = content["results"]
    marks = ["[red]SIMULATED[/red]"] if content["dataset"]["simulated"] else []
    if content["in_sample"]:
        marks.append(f"[red]IN SAMPLE[/red] (trained on {', '.join(content['in_sample_subjects'])})")
    elif content["in_sample"] is None:
        marks.append("the bundle does not say whom it was trained on")
    if content.get("known_animals") and not content["in_sample"]:
        marks.append(
            f"[red]OF ANIMALS IT LEARNT FROM[/red], at other hours ({', '.join(content['known_animals'])})"
        )
    over = ways[0]["interval_over"]
    interval = (
        f"95 % intervals over {over} ({ways[0]['interval_units']})" if over else "one recording: no intervals"
    )
    scorer = content.get("recipe") or content["bundle"]["name"]
    title = f"{scorer} on {', '.join(content['subjects'])} of {content['dataset']['folder']}"
    out.print(" · ".join([title, interval, *marks]), soft_wrap=True)
    out = Console(file=out.file, highlight=False, width=max(out.width, TABLE_WIDTH))
    table = Table()
    named = _areas(ways[0])
    table.add_column("scorer", no_wrap=True)
    for column in ("κ", "accuracy", "macro-F1", *named, "ECE", "scored", "onset delay", "ms an output"):
        table.add_column(column, overflow="fold")
    for way in ways:
        pooled = way["pooled"]
        areas = _areas(way)
        cost = way.get("compute")
        table.add_row(
            _scorer(way),
            *(_told(pooled[name], 3) for name in ("kappa", "accuracy", "macro_f1")),
            *(_told(areas[name], 4) for name in named),
            _told(pooled["calibration"]["ece"], 3, interval=False),
            _percent(pooled["coverage"]["share"]["value"]),
            _seconds(pooled["onsets"]["all"]["median_s"]["value"]),
            f"{cost['p50_ms']:.3g}" if cost else "–",
        )
    out.print(table)
    for way in ways:
        if way["kind"] == "baseline":
            out.print(f"baseline: {way['name']}, learnt from {', '.join(way['trained_on'])}", soft_wrap=True)
    _show_classes(ways[0], out)
    if len(ways[0]["subjects"]) > 1:
        _show_subjects(ways[0], out)
    for way in ways:
        if "triggers" in way["pooled"]:
            _show_triggers(way, out)
    left_out = content.get("left_out") or ()
    if left_out:
        out.print(f"[red]recordings left out: {len(left_out)}[/red]; no figure knows of them:")
    for one in left_out:
        out.print(f"  {one['session']}: {one['reason']}", markup=False, soft_wrap=True)


def _show_classes(way: Mapping[str, Any], out: Console) -> None:
    table = Table(title=f"states, {_scorer(way)}", title_justify="left")
    for column in ("state", "epochs", "precision", "recall", "F1", "AUC", "bout: true", "scored", "onset delay"):
        table.add_column(column, overflow="fold")
    structure = way["pooled"]["structure"]
    for label, found in way["pooled"]["classes"].items():
        table.add_row(
            label,
            str(found["epochs"]),
            *(_told(found[name], 3, interval=False) for name in ("precision", "recall")),
            *(_told(found[name], 3) for name in ("f1", "auc")),
            *(_seconds(structure[side]["bouts"][label]["mean_s"]["value"]) for side in ("truth", "scored")),
            _seconds(way["pooled"]["onsets"][label]["median_s"]["value"]),
        )
    out.print(table)


def _show_subjects(way: Mapping[str, Any], out: Console) -> None:
    table = Table(title=f"subjects, {_scorer(way)}", title_justify="left")
    for column in ("subject", "hours", "κ", "accuracy", "macro-F1", "scored"):
        table.add_column(column)
    for found in way["subjects"]:
        table.add_row(
            found["subject"],
            f"{found['hours']:.1f}",
            *(_told(found[name], 3) for name in ("kappa", "accuracy", "macro_f1")),
            _percent(found["coverage"]["share"]["value"]),
        )
    out.print(table)


def _show_triggers(way: Mapping[str, Any], out: Console) -> None:
    found = way["pooled"]["triggers"]
    onset = found["onset"]
    table = Table(title=f"policy on {'/'.join(found['states'])}, {_scorer(way)}", show_header=False,
                  title_justify="left")  # fmt: skip
    quartiles = f"{_seconds(onset['q25_s'])} to {_seconds(onset['q75_s'])}"
    table.add_row("onset delay", f"{_seconds(onset['median_s']['value'])} (quartiles {quartiles})")
    table.add_row("missed bouts", f"{onset['missed']} of {onset['n']}")
    table.add_row("triggers", f"{found['true']} true, {found['false']} false, {found['uncounted']} at no label")
    table.add_row("false triggers an hour", _told(found["false_per_hour"], 2))
    table.add_row("on-time in the target", _percent(found["time_on_target"]["value"]))
    table.add_row("target's time that was on", _percent(found["time_covered"]["value"]))
    out.print(table)


def _areas(way: Mapping[str, Any]) -> dict[str, Mapping[str, float | None]]:
    """AUCs that have a column of their own: of a pair of states, or of the only two."""
    pooled = way["pooled"]
    areas = {f"AUC {'/'.join(found['states'])}": found["auc"] for found in pooled.get("pairs", ())}
    return areas | ({"AUC": pooled["auc"]} if "auc" in pooled else {})


def _scorer(way: Mapping[str, Any]) -> str:
    return "baseline" if way["kind"] == "baseline" else f"look-ahead {way['lag_s']:g} s"


def _told(estimate: Mapping[str, float | None], digits: int, interval: bool = True) -> str:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    told = f"{value:.{digits}f}"
    return told if low is None or not interval else f"{told} ({low:.{digits}f}–{high:.{digits}f})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g} s" if value < 1000 else f"{value / 60:.0f} min"
