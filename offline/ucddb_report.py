"""Model card and results page of the UCDDB bundle, written from ``results.json`` and nothing else."""

from __future__ import annotations

from typing import Any

from offline import ucddb
from streamscore.labels import AASM5

ATTRIBUTION = """\
St. Vincent's University Hospital / University College Dublin Sleep Apnea Database, PhysioNet
(<https://physionet.org/content/ucddb/>), listed there as open with attribution. PhysioNet asks to cite: Goldberger
A, Amaral L, Glass L, Hausdorff J, Ivanov PC, Mark R, Mietus JE, Moody GB, Peng CK, Stanley HE. PhysioBank,
PhysioToolkit, and PhysioNet: Components of a new research resource for complex physiologic signals. Circulation
2000;101(23):e215–e220."""

NETWORK = """\
Supratak A, Guo Y. TinySleepNet: an efficient deep learning model for sleep stage scoring based on raw
single-channel EEG. EMBC 2020. The code here is this project's own."""


def table(results: dict[str, Any]) -> str:
    """Return the figures of the cross-validation as a Markdown table."""
    network, plain = (results["cross_validation"][key] for key in ("network", "baseline"))
    low, high = network["auc_interval"]
    plain_low, plain_high = plain["auc_interval"]
    rows = [
        ("AUC, all held-out epochs pooled", f"**{network['auc_pooled']:.4f}**", f"{plain['auc_pooled']:.4f}"),
        ("– 95 % interval (subjects redrawn)", f"{low:.4f}–{high:.4f}", f"{plain_low:.4f}–{plain_high:.4f}"),
        ("– only the five subjects never scored by a network before", *_both(results, "auc_pooled_not_tuned_on")),
        ("– state fresh at each epoch", f"{network['auc_pooled_fresh_each_epoch']:.4f}", "it has none"),
        ("– state carried across gaps", f"{network['auc_pooled_gaps_ignored']:.4f}", "it has none"),
        ("AUC, mean over subjects", *_both(results, "auc_mean")),
        ("AUC, lowest of any subject", *_both(results, "auc_worst")),
        ("W and N3 epochs given their stage (of five)", *_both(results, "argmax_accuracy")),
    ]
    lines = [
        "| Wake against N3, held-out subjects | TinySleepNet | band powers |",
        "|---|---|---|",
        *(f"| {name} | {ours} | {theirs} |" for name, ours, theirs in rows),
    ]
    return "\n".join(lines)


def _both(results: dict[str, Any], key: str) -> tuple[str, str]:
    values = [results["cross_validation"][scorer][key] for scorer in ("network", "baseline")]
    first, second = (f"{value:.4f}" if value is not None else "–" for value in values)
    return first, second


def _swallowed(results: dict[str, Any]) -> str:
    """Where the held-out W and N3 epochs went."""
    lines = [f"| expert | {' | '.join(AASM5)} |", "|---" * (len(AASM5) + 1) + "|"]
    for stage, counts in results["cross_validation"]["network"]["confusion_w_n3"].items():
        lines.append(f"| {stage} | {' | '.join(str(n) for n in counts)} |")
    return "\n".join(lines)


def _night_table(results: dict[str, Any]) -> str:
    network, plain = (results["within_018"][key] for key in ("network", "baseline"))
    lines = ["| second half of 018 | epochs | TinySleepNet | band powers |", "|---|---|---|---|"]
    for name, key in (("accuracy", "accuracy"), ("Cohen's κ", "kappa"), ("macro F1", "macro_f1")):
        lines.append(f"| {name} | {network['epochs']} | {network[key]:.3f} | {plain[key]:.3f} |")
    for stage in AASM5:
        count = network["support"][stage]
        lines.append(f"| F1 of {stage} | {count} | {network['f1'][stage]:.3f} | {plain['f1'][stage]:.3f} |")
    return "\n".join(lines)


def _subject_table(results: dict[str, Any]) -> str:
    network, plain = (results["cross_validation"][key]["subjects"] for key in ("network", "baseline"))
    plain_auc = {row["subject"]: row["auc"] for row in plain}
    lines = [
        "| subject | fold | labelled | scored | W | N3 | AUC | own stage of five | AUC, band powers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(network, key=lambda row: str(row["subject"])):
        ours, theirs = (f"{a:.4f}" if a is not None else "–" for a in (row["auc"], plain_auc[row["subject"]]))
        mark = " ·" if row["subject"] in ucddb.TUNED_ON else ""
        lines.append(
            f"| {row['subject']}{mark} | {row['fold'] + 1} | {row['labelled']} | {row['scored']} | {row['w']} | "
            f"{row['n3']} | {ours} | {row['argmax_accuracy']:.3f} | {theirs} |"
        )
    return "\n".join(lines)


def card(results: dict[str, Any]) -> str:
    """Return the model card."""
    validation, night = results["cross_validation"]["network"], results["within_018"]["network"]
    plain = results["within_018"]["baseline"]
    low, high = validation["auc_interval"]
    run = results["runs"]["final"]
    recipe = results["recipe"]
    return f"""\
# tinysleepnet-ucddb

Scores human sleep from one EEG derivation at 128 Hz, one epoch of 30 s, no look-ahead. It has outputs for W, N1,
N2, N3 and REM, but **it only tells Wake from N3**. It is for research and for trying out streamscore.

{_never(results)}

## What it is

TinySleepNet [1] with batch normalisation and half the published filters and LSTM units (64 each), at 128 Hz. The
chain before it: causal Butterworth band-pass 0.3–35 Hz (order 2); a first-order high-pass at 3 Hz, which flattens
the spectrum so that slow drifts do not outweigh the rest; then division by a running estimate of the amplitude
(geometric mean of the standard deviations of single seconds, time constant 1 h), limited to ±20. So the unit of
the stream is of no account, but the first {_warm_up_s():g} s give no output.

## Trained on

The W and N3 epochs (most of them) of 17 adults examined for suspected sleep apnoea, and the whole night of one
of them, subject 018: {_n_epochs(results)} epochs of one derivation, C3-A2 or C4-A1; the files do not say which.
N1, N2 and REM come from **subject 018 alone** (58, 280 and 19 epochs). Stages S3 and S4 of Rechtschaffen and
Kales count as N3.

{ATTRIBUTION}

## How

{recipe["passes"]} passes with Adam (peak rate {recipe["lr"]:g}), sequences of up to {recipe["sequence_steps"]}
epochs, augmentation of gain, spectral slope and alignment, labels softened by {recipe["smoothing"]:g}, averaged
weights. Command: `{run["command"]}` at commit `{run["git_commit"][:12]}` on {run["date"]}, torch
{run["versions"]["torch"]}.

## Figures

Cross-validation in {len(results["folds"])} folds, every subject held out once. The score is log p(N3)/p(W), one
threshold for all subjects.

{table(results)}

The pooled AUC of **{validation["auc_pooled"]:.4f}** ({low:.4f}–{high:.4f}) is that of networks trained like this
one without the subject in question. **The network in this file has seen all 17 subjects, 018 included**: whatever
it scores on these recordings is in-sample and shows nothing. Held-out figures of twelve subjects had been seen
when chain, size and recipe were settled, so the row on the other five is the fairest. Since the files lack most
N1, N2 and REM epochs, most of the epochs that are hard to tell from W and N3 are missing from this figure.

Five stages were tested within one night only: trained on the first half of 018 and on all others, tested on its
second half ({night["epochs"]} epochs, none of them N3): accuracy {night["accuracy"]:.3f}, κ {night["kappa"]:.3f}.
**That failed**: N2 was called N3. The band powers did better there (κ {plain["kappa"]:.3f}).

{_night_table(results)}

## Not for

- **Any medical use**, diagnosis included, and not for stimulating people: nobody has validated it for that.
- **N1, N2 and REM, and whatever depends on telling N3 from N2.** These stages came from one night of one person
  and were too few to be learnt. A policy that waits for N3 also acts in N2.
- Other derivations, children, people without suspected apnoea, animals, rates other than 128 Hz: not tested.
- Agreement with a second expert is unknown, as each recording was scored by one.

[1] {NETWORK}
"""


def results_page(results: dict[str, Any]) -> str:
    """Return the results as a page of the documentation."""
    runs = results["runs"]
    lines = [
        f"- {name.replace('_', '-')}: `{run['command']}`, {run['date']}, commit `{run['git_commit'][:12]}`, "
        f"{run['machine']}; Python {run['versions']['python']}, torch {run['versions']['torch']}, "
        f"numpy {run['versions']['numpy']}; {run['wall_s'] / 60:.0f} min"
        for name, run in runs.items()
    ]
    folds = "\n".join(f"{k + 1}. {', '.join(names)}" for k, names in enumerate(results["folds"]))
    last = results.get("final_in_sample")
    in_sample = (
        f"The shipped network on the 17 subjects that it was trained on: pooled AUC {last['auc_pooled']:.4f}, "
        f"{last['argmax_accuracy']:.3f} of the W and N3 epochs given their stage. It only shows that the training "
        "worked."
        if last
        else "There is no final network in this run."
    )
    return f"""\
# Results: TinySleepNet on UCDDB

Written by `offline/ucddb_report.py` from the results of (the commit is the last one before; the working tree held
uncommitted changes):

{chr(10).join(lines)}

Recordings pass the engine's own timebase, quality check, chain and scorer (`offline/sequences.py`); the state is
carried along each uninterrupted run and fresh after each gap. Not scored are the first epochs of a recording, in
which the amplitude estimate warms up, and epochs that hold a flat line.

## Wake against N3, subjects held out

{table(results)}

Baseline: logistic regression on band powers of single epochs behind the same chain (`offline/bandpower.py`), same
folds. The interval redraws subjects 1000 times.

Where the held-out W and N3 epochs went (TinySleepNet, five classes):

{_swallowed(results)}

{_subject_table(results)}

A dot marks the twelve subjects whose held-out figures were seen before chain, size and recipe were settled.
Subject 014 has no N3. When 018 was held out, the network had never seen N1, N2 or REM.

Folds:

{folds}

## Five stages within one night

Trained on the first half of 018 and on all other subjects, tested on the second half with a fresh state. **One
person, one night**: this does not tell how N1, N2 and REM are scored in anyone else. The second half holds no N3;
the network called most N2 epochs N3 and never gave N1, N2 or REM.

{_night_table(results)}

Confusion (rows: expert, columns: network; {", ".join(AASM5)}): `{results["within_018"]["network"]["confusion"]}`

## What was tried before

Gain, slope, label and smoothing settings were compared on every second subject (three folds among these nine),
with 128 filters and without the second filter. A cross-validation with the best of them was stopped after two of
six folds: AUC 1.0000, 0.9970 and 0.9972 (002, 009, 015), then 0.9998, 0.9814 and **0.8395** (003, 010, 017). In
017 waves below 0.5 Hz seem to outweigh the rest of N3. Random gains above 8–16 Hz in training made it worse
(0.8065); the second filter together with 64 filters gave 0.9991, 0.9972 and 0.9986 in the same fold, and was
kept. So the pooled figure above is not free of choice. The row on the other five subjects is freer; of them only
the baseline had been seen, on all 17 subjects, when the chain was first drawn up.

## In-sample

{in_sample}

## What these figures do not say

- The files hold most W and N3 epochs and, but for 018, nothing else. In a whole night N1 and N2 lie between the
  two, and N3 is harder to tell from N2 than from W.
- Runs between gaps seldom change state, so that a carried state helps more here than it may in a whole night. The
  rows with other treatments of the state bound this effect.

{ATTRIBUTION}
"""


def _never(results: dict[str, Any]) -> str:
    """Say what the shipped network makes of the stages of 018, although it was trained on them."""
    confusion = results["final_018_in_sample"]["confusion"]
    counts = {stage: dict(zip(AASM5, row, strict=True)) for stage, row in zip(AASM5, confusion, strict=True)}
    lines = ["What it calls the other stages of subject 018, on whom it was trained:", ""]
    for stage in ("N1", "N2", "REM"):
        own = counts[stage]
        lines.append(f"- {stage} ({sum(own.values())} epochs): {own['W']} W, {own['N3']} N3, {own[stage]} {stage}")
    return "\n".join(lines)


def _warm_up_s() -> float:
    """Seconds without output at the start: the chain's warm-up and the first whole step after it."""
    warm_up_s = max(float(step.get("warm_up_s", 0.0)) for step in ucddb.CHAIN)
    return warm_up_s + ucddb.EPOCH_S


def _n_epochs(results: dict[str, Any]) -> int:
    return sum(int(row["scored"]) for row in results["cross_validation"]["network"]["subjects"])
