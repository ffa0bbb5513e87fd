"""The texts of docs/results-mouse-bands.md and of the card of ``mouse-bands``, from ``offline.mouse_bands``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offline.pages import wrapped

Row = Mapping[str, Any]


def interval(estimate: Mapping[str, float | None], digits: int = 3) -> str:
    """A figure and its interval as text."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "undefined"
    text = f"{value:.{digits}f}"
    return text if low is None or high is None else f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def table(rows: Sequence[Row], labels: Sequence[str], *, with_gain: bool = True) -> str:
    """The rows as a table of Markdown."""
    head = ["", "lag (s)", "κ"] + ["κ above the booster of the epoch alone"] * with_gain + ["accuracy"]
    head += [f"F1 {label}" for label in labels]
    head += ["onset delay (s)", *(f"– of {label}" for label in labels), "onsets missed"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        onsets = row["onsets"]
        cells = [row["name"], f"{row['lag_s']:g}", interval(row["kappa"])]
        cells += [interval(row["kappa_gain"])] * with_gain + [f"{row['accuracy']['value']:.3f}"]
        cells += [f"{row['classes'][label]['f1']['value']:.3f}" for label in labels]
        cells += [_delay(onsets[name]) for name in ("all", *labels)]
        lines.append("| " + " | ".join([*cells, f"{onsets['all']['missed']} of {onsets['all']['n']}"]) + " |")
    return "\n".join(lines)


def _delay(onset: Mapping[str, Any]) -> str:
    """Median and quartiles."""
    median = onset["median_s"]["value"]
    return "–" if median is None else f"{median:g} ({onset['q25_s']:g}–{onset['q75_s']:g})"


def _training(content: Mapping[str, Any]) -> str:
    about = content["training"]
    subjects = about["subjects"]
    return (
        f"`{about['command']}`, {about['date']}, commit `{about['git_commit'][:12]}` (the working tree held "
        f"uncommitted changes), {about['machine']}, {about['device']}, {about['seconds']:g} s on a machine that "
        f"was busy with other work; learnt from {', '.join(subjects['train'])}, watched on "
        f"{', '.join(subjects['validation'])}"
    )


def _counts(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} {label}" for label, n in content["counts"].items())


def _of(content: Mapping[str, Any], name: str, lags_s: Sequence[float] = ()) -> list[Row]:
    rows = [row for row in content["rows"] if row["name"] == name]
    return [row for row in rows if not lags_s or row["lag_s"] in lags_s]


def _curves(content: Mapping[str, Any]) -> str:
    """A section for each bundle that was evaluated at several look-aheads, but for the one that ships."""
    parts = []
    for name in dict.fromkeys(row["name"] for row in content["rows"]):
        rows = _of(content, name)
        if name != content["shipped"] and len(rows) > 1:
            parts.append(f"### {name}\n\n{table(rows, content['labels'])}")
    return "\n\n".join(parts)


def _single(content: Mapping[str, Any]) -> list[Row]:
    """What was evaluated at one look-ahead."""
    names = [row["name"] for row in content["rows"]]
    return [row for row in content["rows"] if names.count(row["name"]) == 1]


_WHAT = """Band powers (delta, theta, alpha, beta, gamma) of one EEG channel and the power of the EMG, of one mouse
for 24 h, one row for each epoch of 4 s, with the expert's Wake, NREM and REM (BSD-2-Clause; see
`../shared/DATA.md`)."""


def page(content: Mapping[str, Any]) -> str:
    """Return the page of results.

    Parameters
    ----------
    content
        As ``offline.mouse_bands`` writes it.
    """
    run, labels = content["run"], content["labels"]
    return wrapped(f"""\
# Results: a mouse's sleep from band powers, and what looking ahead is worth

REAL recording. {_WHAT} Learnt from the first 16 h, tested on the last 8 h ({_counts(content)} epochs).

**This is one mouse.** Intervals redraw the eight hours (1000 draws) and say nothing about another animal.
Everything but the boosters is scored by the engine on a virtual clock: what is reported is what a rig gets.

Network, training and passes were settled on the first 16 h alone, and so was how far offsets are altered. The
normaliser was not: a running one of 4 h came first, then one of 24 h, after the last 8 h had shown that 4 h
follows the animal's state and not only its electrodes; and then one of 24 h that begins with known constants,
after a cold start had shown that a day is needed without them. All three stand below, beside constants that never
move, which were settled beforehand.

## The bundle that ships: one set of weights, any look-ahead

`mouse-bands`: a GRU of 32 units whose state is carried, and a GRU of 32 units that runs backwards over the
look-ahead. Each batch of the training drew a look-ahead of 0 to 60 s. The normaliser begins with mean and spread
of the hours learnt from and follows the recording with a time constant of 24 h.

{table(_of(content, content["shipped"]), labels)}

The same from a cold start at hour 16: the tested hours as a recording of their own, which begins with an hour and
more of waking. Neither state nor normaliser knows anything of the hours before:

{table(content["cold"], labels, with_gain=False)}

*lag*: time from the end of an epoch until its state is told. *onset delay*: median (quartiles) of the time from
the true start of a bout to the first output that names it, lag included; an epoch has to end before it can be
scored, so that 4 s is the least.

## Other normalisers

The same network and training (*without known constants, 24 h*: offsets altered by 0.2 instead of 0.1). *Stored
constants*: mean and spread of the hours learnt from, which never move. *Without known constants, 24 h* learns them
as it goes and gives nothing for 40 min; from a cold start at hour 16 its κ was 0.633 (0.384 to 0.792) at 0 s,
because it took an hour of waking for all that the animal does.

{_curves(content)}

## Beside it

{table(_single(content), labels)}

The boosters are scikit-learn's (histogram, 200 trees a state, logarithms of the powers as they are, which is what
stored constants are for a network), learnt from `{content["trained_on"]}`; the networks learn from two and a half
hours less. *15 epochs on either side* is an offline scorer: it may know of the future what a network with 60 s of
look-ahead knows, and has no past beyond a minute.

## Commands

Training: {_training(content)}.

- `streamscore train mouse-bands --data ../shared/data/mouse_bands --split bands@0-13.5h/bands@13.5-16h
  --out runs/mouse-bands/known`
- `streamscore evaluate runs/mouse-bands/known/bundle.safetensors --data ../shared/data/mouse_bands
  --subjects bands@16-24h --look-ahead 0,4,8,16,32,60 --out runs/mouse-bands/eval-known`
- Stored constants: with `--set "bundle.preprocess.1={{kind: normalise, estimator: stored, statistic: zscore,
  clip: 8.0, constants: training}}"`
- Without known constants: with `--set "bundle.preprocess.1={{kind: normalise, estimator: running,
  statistic: zscore, clip: 8.0, tau_s: 86400, warm_up_s: 2400}}" --set stages.0.augment.offset=0.2`; 4 h: with
  `tau_s: 14400` and 0.1
- causal: also with `--set bundle.model_args.variant=causal --set bundle.model_args.direction=uni
  --set bundle.model_args.look_ahead_s=0 --set bundle.model_args.max_look_ahead_s=0.5
  --set "stages.0.look_aheads_s=[]"`

This page: `{run["command"]}`, {run["date"]}, commit `{run["git_commit"][:12]}`.
""")


def card(content: Mapping[str, Any]) -> str:
    """Return the card of the bundle."""
    labels = content["labels"]
    return wrapped(f"""\
# mouse-bands

Scores Wake, NREM and REM of a mouse from six band powers, one sample for each epoch of 4 s (0.25 Hz): delta,
theta, alpha, beta and gamma power of an EEG channel and the power of the EMG, in any unit. The look-ahead is
chosen at the rig, from 0 to 60 s (8 s by default), and the state is told provisionally without it. **It has
seen one mouse.**

## What it is

A GRU of 32 units whose state is carried, and another that runs backwards over the look-ahead (`roi_rnn`, variant
`lookahead`); no pass over the recording is needed. The chain takes logarithms and then subtracts the mean and
divides by the spread of each channel. Both begin with those of the hours learnt from and follow the recording with
a time constant of 24 h.

**With another mouse or amplifier they begin wrong, and need a day to become right; so are the states until then.**
Write the constants of an earlier recording of that mouse and amplifier into the rig file: mean and standard
deviation of the logarithms to the base 10, in the order of the channels.

- `calibration: {{normalise: {{stored_offset: [2.3, …], stored_scale: [0.29, …]}}}}`

A band is a mean power over 4 s. How the bands of the recording were computed is not known beyond their names: a
rig's own have to resemble them in what rises and falls, not in unit. Send a sample when its epoch has ended; write
`delay_s: 4` and `deadline_ms: 8000` in the rig file if it is stamped then, so that outputs name the interval that
they describe.

## Trained on

One mouse, the first 13.5 h of 24 h, watched on the next 2.5 h. {_WHAT}
{_training(content)}.

## Figures

The last 8 h of the same mouse ({_counts(content)} epochs), through the engine; intervals redraw its hours and say
nothing about other mice.

{table(_of(content, content["shipped"]), labels, with_gain=False)}

From a cold start at hour 16, with an hour and more of waking first:

{table(content["cold"], labels, with_gain=False)}

Boosters and other normalisers on the same hours: `docs/results-mouse-bands.md`.

## Not for

- **Any medical use.** Any experiment in which a wrong state does harm, before you have compared it with your own
  labels of your own mice (`streamscore evaluate mouse-bands --data FOLDER`).
- Other strains, recordings, band edges or epochs than 4 s: not tested. A few labelled minutes of a new animal can
  teach it: `streamscore train finetune --from mouse-bands`.
- Cataplexy, transitions and micro-arousals: three states are all it knows.
""")
