"""The text of docs/results-run-rest.md, from the figures of ``offline.run_rest``."""

from __future__ import annotations

from typing import Any

from offline.pages import wrapped


def _row(name: str, figures: dict[str, Any]) -> str:
    low, high = figures["interval"]
    (rest_right, rest_wrong), (run_wrong, run_right) = figures["confusion"]
    rest, run = rest_right + rest_wrong, run_wrong + run_right
    return (
        f"| {name} | {figures['auc']:.4f} | {low:.3f}–{high:.3f} | {figures['kappa']:.3f} | "
        f"{rest_right / max(rest, 1):.3f} | {run_right / max(run, 1):.3f} | {100 * figures['scored']:.1f} % |"
    )


def _table(rows: dict[str, dict[str, Any]]) -> str:
    head = "| | AUC | 95 % interval | κ | recall of rest | recall of run | scored |\n|---|---|---|---|---|---|---|"
    return "\n".join([head, *(_row(name, figures) for name, figures in rows.items())])


def _described(file: dict[str, Any]) -> str:
    return (
        f"`{file['name']}`, {file['frames']} frames of {file['parcels']} parcels at {file['sfreq']:g} Hz, of "
        f"which {file['run']} in {file['bouts']} bouts of running and {file['rest']} of rest"
    )


def report(results: dict[str, Any], baseline: str, chosen: str) -> str:
    """Return the page.

    Parameters
    ----------
    results
        As ``offline.run_rest`` writes them.
    baseline, chosen
        Names of the baseline and of the network that is trained on the whole file.
    """
    block_s = results["file"]["frames"] / results["file"]["sfreq"] / results["folds"]
    run, within = results["run"], results["within"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    further = "\n\n".join(
        f"{_described(row['file'])}:\n\n{_table({name: row[name] for name in (chosen, baseline)})}"
        for row in results["further"]
    )
    return wrapped(f"""\
# Results: run or rest from 48 cortical parcels

Command: `{run["command"]}`, {run["date"]}, commit `{run["git_commit"][:12]}` (the working tree held uncommitted
changes), {run["machine"]}, CPU; {versions}; {run["wall_s"]} s, of which {run["cpu_s"]} s of
computing.

One mouse, one file: {_described(results["file"])}. Labels come from the wheel: |wheel −
median|, averaged over the second around a frame, above 0.5 is running, below 0.15 rest; frames between are
unlabelled. The file's licence is not stated: what is trained on it is evaluated here and not shipped.

All networks are scored by the engine on a virtual clock, frame by frame, from a file that holds the traces alone
(`offline/run_rest.py`). *causal*: GRU of 32 units, carried state, no look-ahead; each parcel scaled by mean and
standard deviation of the frames trained on. *published*: the six networks of the paper, in its window of ±0.5
s, so that they answer 0.5 s late. *moving average removed*: the mean of the last 33.3 s (1,000 frames at the
paper's 30 Hz), which is growing at the start, is subtracted first. Baseline: logistic regression on the mean of
the last second, at the settings of scikit-learn; it is not run by the engine. Intervals redraw blocks of 10 s.

## Trained on the first half, tested on the second

The second half, without its first 3 s, is a recording of its own: state and averages start afresh.

{_table({name: row["half"] for name, row in within.items()})}

## Blocks

Each block of {block_s:g} s is scored by a network trained on the rest without 3 s on either side; scores of all
blocks are pooled.

{_table({name: row["blocks"] for name, row in within.items()})}

## Further files

Scored by the *{chosen}* network trained on the whole file. Nothing was chosen by them.

{further or "None was given: later recordings of this mouse are kept aside. `--test FILE` scores them."}

## How it was chosen

Size, length of the sequences and alterations (`offline/roi_training.py`) were settled by these blocks and
halves, before any other file was seen; so these figures are a little kind to the networks. *Sequences as they
are* shows what the alterations (noise, offsets, parcels left out, decay of weights) are worth. The number of
independent bouts is small; intervals say what redrawing blocks says, and no more.

The paper's moving average is not removed in the network that is trained in the end: it costs where a bout fills
much of the window, and here the traces are ΔF/F already and the scale comes from the same mouse and session.
Across sessions and mice, where it helped in the paper (AUC 0.974 instead of 0.911), put it in.""")
