"""The texts of docs/results-ucddb.md and of the card of ``tinysleepnet-ucddb``, from ``offline.ucddb_results``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offline.pages import wrapped

Row = Mapping[str, Any]

ATTRIBUTION = """St. Vincent's University Hospital / University College Dublin Sleep Apnea Database, PhysioNet
(<https://physionet.org/content/ucddb/>), listed there as open with attribution. PhysioNet asks to cite: Goldberger
A, Amaral L, Glass L, Hausdorff J, Ivanov PC, Mark R, Mietus JE, Moody GB, Peng CK, Stanley HE. PhysioBank,
PhysioToolkit, and PhysioNet: Components of a new research resource for complex physiologic signals. Circulation
2000;101(23):e215–e220."""

NETWORK = """Supratak A, Guo Y. TinySleepNet: an efficient deep learning model for sleep stage scoring based on raw
single-channel EEG. EMBC 2020. The code here is this project's own."""


def shown(estimate: Mapping[str, float | None], digits: int = 3) -> str:
    """A figure and its interval as text."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text if low is None or high is None else f"{text} ({low:.{digits}f}–{high:.{digits}f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def pair_table(folds: Mapping[str, Any]) -> str:
    """Wake against N3 over the folds, one column for each way of scoring."""
    rows = folds["rows"]
    areas = [[s["auc"] for s in row["subjects"] if s["auc"] is not None] for row in rows]
    return _table(
        ["Wake against N3, held-out subjects", *(row["name"] for row in rows)],
        [
            ["AUC, all held-out epochs pooled", *(shown(row["pair"]["auc"], 4) for row in rows)],
            [
                "– only the five subjects never scored by a network before",
                *(shown(folds["untuned"][row["name"]], 4) for row in rows),
            ],
            ["AUC, mean over subjects", *(f"{sum(a) / len(a):.4f}" for a in areas)],
            ["AUC, lowest of any subject", *(f"{min(a):.4f}" for a in areas)],
            ["accuracy, the more probable of W and N3", *(shown(row["pair"]["accuracy"]) for row in rows)],
        ],
    )


def subject_table(folds: Mapping[str, Any], tuned_on: Sequence[str]) -> str:
    """Each subject with its fold."""
    rows = folds["rows"]
    fold_of = {name: k + 1 for k, fold in enumerate(folds["folds"]) for name in fold["test"]}
    by_name = [{s["subject"]: s for s in row["subjects"]} for row in rows]
    lines = []
    for name in sorted(fold_of):
        w, n3 = by_name[0][name]["epochs"]
        areas = ["–" if of[name]["auc"] is None else f"{of[name]['auc']:.4f}" for of in by_name]
        mark = " ·" if name in tuned_on else ""
        lines.append([f"{name}{mark}", str(fold_of[name]), str(w), str(n3), *areas])
    return _table(["subject", "fold", "W", "N3", *(f"AUC, {row['name']}" for row in rows)], lines)


def five_table(rows: Sequence[Row], labels: Sequence[str], coverage: Mapping[str, Any] | None = None) -> str:
    """Five stages, one line for each way of scoring."""
    head = ["", "κ", "accuracy", "macro-F1", *(f"F1 {label}" for label in labels)]
    lines = []
    for row in rows:
        f1 = [shown({**row["classes"][label]["f1"], "low": None}) for label in labels]
        line = [row["name"], shown(row["kappa"]), shown(row["accuracy"]), shown({**row["macro_f1"], "low": None})]
        if coverage is not None:
            line.append(f"{100 * coverage[row['name']]['share']['value']:.0f} %")
        lines.append([*line, *f1])
    if coverage is not None:
        head.insert(4, "epochs scored at all")
    return _table(head, lines)


def confusion_table(row: Row, labels: Sequence[str], of: Sequence[str] | None = None) -> str:
    """Where the epochs of each stage went."""
    wanted = labels if of is None else of
    lines = [[label, *map(str, row["confusion"][labels.index(label)])] for label in wanted]
    return _table(["expert", *labels], lines)


def _counts(row: Row, labels: Sequence[str]) -> str:
    return ", ".join(f"{row['classes'][label]['epochs']} {label}" for label in labels)


def _run(about: Mapping[str, Any], seconds: float | None = None) -> str:
    spent = "" if seconds is None else f"; trainings took {seconds / 60:.0f} min in all"
    return (
        f"`{about['command']}`, {about['date']}, commit `{about['git_commit'][:12]}` (the working tree held "
        f"uncommitted changes), {about['machine']}, torch {about['versions']['torch']}{spent}"
    )


def _never(content: Mapping[str, Any]) -> str:
    """What the shipped network makes of the stages of 018, although it was trained on them."""
    labels, confusion = content["labels"], content["in_sample_complete"]["confusion"]
    lines = []
    for stage in ("N1", "N2", "REM"):
        own = dict(zip(labels, confusion[labels.index(stage)], strict=True))
        told = ", ".join(f"{n} {label}" for label, n in own.items() if n)
        lines.append(f"- {stage} ({sum(own.values())} epochs): {told}; {own[stage]} as {stage}")
    return "\n".join(lines)


def _validation(training: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name}: loss {figures['val_loss']:.3f}, κ {figures['val_kappa']:.3f}"
        for name, figures in training["validation"].items()
    )


def _night_words(content: Mapping[str, Any]) -> str:
    """How the trainings of the split night came out, the shipped recipe first."""
    rows = {row["name"]: row["kappa"]["value"] for row in content["night"]["rows"]}
    return ", ".join(f"{name} κ {value:.3f}" for name, value in rows.items())


def card(content: Mapping[str, Any]) -> str:
    """Return the model card.

    Parameters
    ----------
    content
        As ``offline.ucddb_results`` writes it.
    """
    labels, folds, training = content["labels"], content["folds"], content["training"]
    network = folds["rows"][0]
    subjects = training["subjects"]
    seen = content["in_sample"]
    return wrapped(f"""\
# tinysleepnet-ucddb

Scores human sleep from one EEG derivation at 128 Hz, one epoch of 30 s, no look-ahead. It has outputs for W, N1,
N2, N3 and REM, but **it only tells Wake from N3**. It is for research and for trying out streamscore.

What it calls the other stages of subject 018, on whom it was trained:

{_never(content)}

## What it is

TinySleepNet [1] with batch normalisation and half the published filters and LSTM units (64 each), at 128 Hz. The
chain before it: causal Butterworth band-pass 0.3–35 Hz (order 2); a first-order high-pass at 3 Hz, which flattens
the spectrum so that slow drifts do not outweigh the rest; then division by a running estimate of the amplitude
(geometric mean of the standard deviations of single seconds, time constant 1 h), limited to ±20. So the unit of
the stream is of no account, but the first 90 s give no output.

## Trained on

The W and N3 epochs (most of them) of {len(subjects["train"])} adults examined for suspected sleep apnoea, and the
whole night of one of them, subject 018; {len(subjects["validation"])} others
({", ".join(subjects["validation"])}) were watched and decided nothing. One derivation, C3-A2 or C4-A1; the files
do not say which. N1, N2 and REM come from **subject 018 alone** (58, 280 and 19 epochs). Stages S3 and S4 of
Rechtschaffen and Kales count as N3.

{ATTRIBUTION}

## How

Recipe `tinysleepnet-ucddb` (`streamscore recipes`). {_run(training)}; {training["seconds"]:.0f} s on a machine
that was busy with other work.

## Figures

Cross-validation in {len(folds["folds"])} folds, every subject held out once, scored by the engine. AUC is that of
p(N3)/p(W), one threshold for all subjects. In brackets: 95 % intervals, subjects redrawn.

{pair_table(folds)}

The baselines are z-scored over whole recordings, which no live scorer can know; pooled, the logistic regression is
as good as the network.

The pooled AUC of **{shown(network["pair"]["auc"], 4)}** is that of networks trained like this one without the
subject in question. **The network in this file has seen all 17 subjects, 018 included**: whatever it scores on
these recordings is in-sample and shows nothing (AUC {seen["pair"]["auc"]["value"]:.4f}). Held-out figures of
twelve subjects had been seen when chain, size and recipe were settled, so the row on the other five is the
fairest. Since the files lack most N1, N2 and REM epochs, most of the epochs that are hard to tell from W and N3
are missing from this figure.

Five stages were tested within one night only, one person's: trained on the first half of 018 and on others, tested
on its second half ({_counts(content["night"]["rows"][0], labels)}). **That failed**; YASA, live, is the scorer to
take for five stages:

{five_table(content["night"]["rows"], labels)}

## Not for

- **Any medical use**, diagnosis included, and not for stimulating people: nobody has validated it for that.
- **N1, N2 and REM, and whatever depends on telling N3 from N2.** These stages came from one night of one person
  and were too few to be learnt. A policy that waits for N3 also acts in N2.
- Other derivations, children, people without suspected apnoea, animals, rates other than 128 Hz: not tested.
- Agreement with a second expert is unknown, as each recording was scored by one.

[1] {NETWORK}
""")


def page(content: Mapping[str, Any]) -> str:
    """Return the page of results."""
    labels, folds, night = content["labels"], content["folds"], content["night"]
    network = folds["rows"][0]
    numbered = "\n".join(
        f"- {k + 1}: tested on {', '.join(fold['test'])}; watched on {', '.join(fold['validation'])}"
        for k, fold in enumerate(folds["folds"])
    )
    trainings = "\n".join(
        f"- *{one['name']}*: {_run(one['run'])}. Validation subjects: {_validation(one)}"
        for one in night["trainings"]
    )
    return wrapped(f"""\
# Results: human sleep from one EEG derivation (UCDDB)

REAL recordings: 17 adults with suspected apnoea, 128 Hz, epochs of 30 s scored by one expert (see
`../shared/DATA.md`). Every figure is of what the engine says on a virtual clock; learners that stand beside it are
compared on the same epochs. Not scored are the first epochs of a recording, in which the amplitude estimate warms
up, and epochs that hold a flat line. Written by `{content["run"]["command"]}`, {content["run"]["date"]}.

## Wake against N3, subjects held out

{pair_table(folds)}

In brackets: 95 % intervals, subjects redrawn 1000 times. The network has no look-ahead. The baselines know band
powers of single epochs, z-scored over the whole recording, which no live scorer can; they learn from the same
subjects of the same folds. {_run(folds["run"], folds["seconds"])}; a busy machine, so that times say little.

**Pooled, a logistic regression on band powers is as good** where nothing but W and N3 is to be told apart; within
single subjects the network orders epochs better, and it needs nothing that comes later.

Where the held-out epochs went (TinySleepNet, argmax of five stages; N1, N2 and REM are those of 018, whose network
had never seen any):

{confusion_table(network, labels)}

{subject_table(folds, content["tuned_on"])}

A dot marks the twelve subjects whose held-out figures were seen before chain, size and recipe were settled.
Subject 014 has no N3.

Folds, drawn with seed 0:

{numbered}

## Five stages: all epochs that there are

Every subject held out, all stages; nearly all N1, N2 and REM epochs are those of subject 018. YASA wants µV, and
the unit of these files is not stated: {content["std_uv"]:g} µV are assumed for the standard deviation of each
recording. YASA offline sees the whole file and takes what lies on either side of a gap for neighbours. On the
epochs that all of them scored ({_counts(folds["five"][0], labels)}):

{five_table(folds["five"], labels, folds["five_coverage"])}

YASA was made for whole nights, and these are not: what it smooths over and scales by lacks most of N1, N2 and REM.
Live it is not in the table: it waits at the start and after each gap, and these files are little else.

## Five stages within one night

Trained on the first half of 018 and on 14 others, tested on its second half, which the engine reaches after the
first as in a night at the rig ({_counts(night["rows"][0], labels)}). **One person, one night**: this does not tell
how N1, N2 and REM are scored in anyone else. Intervals redraw hours of that night.

{five_table(night["rows"], labels)}

The network of the shipped recipe, stage by stage:

{confusion_table(night["rows"][0], labels)}

**The default bundle is no five-stage scorer.** What was tried for it, once: heavier weights of rare stages and
more passes, named in advance. Validation subjects could not choose between them with regard to N1, N2 and REM,
since they have none; the tested half chose nothing:

{trainings}

## In-sample

The shipped network on the 17 subjects, of which it was trained on {len(content["training"]["subjects"]["train"])}
and watched on the others: pooled AUC {content["in_sample"]["pair"]["auc"]["value"]:.4f}, and
{content["in_sample"]["pair"]["accuracy"]["value"]:.3f} of the W and N3 epochs on the right side. It only shows
that the training worked. {_run(content["training"])}.

## What was tried before

Gain, slope, label and smoothing settings were compared on every second subject (three folds among these nine),
with 128 filters and without the second filter. A cross-validation with the best of them was stopped after two of
six folds: AUC 1.0000, 0.9970 and 0.9972 (002, 009, 015), then 0.9998, 0.9814 and **0.8395** (003, 010, 017). In
017 waves below 0.5 Hz seem to outweigh the rest of N3. Random gains above 8–16 Hz in training made it worse
(0.8065); the second filter together with 64 filters gave 0.9991, 0.9972 and 0.9986 in the same fold, and was
kept. So the pooled figure above is not free of choice. The row on the other five subjects is freer; of them only
a baseline had been seen, on all 17 subjects, when the chain was first drawn up.

The trainer of commit `e391759e60a4`, before there were recipes, gave a pooled AUC of 0.9953 (0.9933–0.9975) on
other folds, which held nobody back for validation; with the state made fresh at each epoch 0.9919, carried across
gaps 0.9901.

## What these figures do not say

- The files hold most W and N3 epochs and, but for 018, nothing else. In a whole night N1 and N2 lie between the
  two, and N3 is harder to tell from N2 than from W.
- Runs between gaps seldom change state, so that a carried state helps more here than it may in a whole night.

{ATTRIBUTION}
""")
