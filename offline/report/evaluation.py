"""The page of an evaluation: how well a bundle agrees with labels, and what follows for an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offline.evaluation_folder import read_evaluation
from offline.report import agreement
from offline.report.agreement import percent, told, value_of
from offline.report.calibration import calibration_figure
from offline.report.card import card_of
from offline.report.folds import fold_curves, fold_table
from offline.report.html import NOTHING, Html, duration, el, join, number, table
from offline.report.look_ahead import compute_figure, look_ahead_figures
from offline.report.nights import is_of, nights
from offline.report.page import Page, Section
from offline.report.provenance import is_simulated, limits, provenance
from offline.report.spectra import read_spectra, spectra_figure
from offline.report.structure import structure
from offline.report.triggers import onset_table, trigger_figures
from offline.scored import read_folder
from offline.spans import Span
from streamscore.errors import RecordingError

Figures = Mapping[str, Any]
#: Subjects that a warning names; more are counted.
N_NAMED = 4


def evaluation_page(folder: Path) -> Page:
    """Return the page of the evaluation in `folder`.

    Raises
    ------
    RecordingError
        If the folder is not one of a finished evaluation, or a file in it is damaged.
    """
    about = read_evaluation(folder)
    scored = read_folder(folder)
    ways: list[Figures] = [way for way in about.get("results", ()) if way.get("kind") != "baseline"]
    baseline: Figures | None = next((way for way in about["results"] if way.get("kind") == "baseline"), None)
    if not ways and baseline is None:
        raise RecordingError(f"{folder}: evaluation.json holds no results; evaluate again")
    main = ways[0] if ways else baseline
    assert main is not None
    labels = tuple(map(str, main["labels"]))
    pooled: Figures = main["pooled"]
    shown = [one for one in scored if is_of(one, main)]
    spectra = [read_spectra(path) for path in sorted((folder / "spectra").glob("*.npz"))]
    card = card_of(about.get("bundle") or {})
    simulated = is_simulated(about)
    subjects = {str(one["subject"]): one for one in main.get("subjects", ())}
    return Page(
        title=_title(about),
        lead=_lead(about, main, ways),
        warnings=_warnings(about, simulated=simulated, card_is_simulated=card.is_simulated),
        notes=_notes(about, main, ways),
        cards=_cards(main),
        sections=[
            Section("Recordings", "", nights(scored, main, labels)),
            Section(
                "Confusion",
                "How to read it: a row is a true state, and its cells say how many of its epochs were scored as "
                "what, and which share of the row that is. A perfect scorer has epochs in the outlined cells "
                "alone.",
                agreement.confusion(pooled["confusion"], labels) if pooled.get("confusion") else NOTHING,
            ),
            Section(
                "States",
                "Precision: of the epochs that were given this state, the share that is of it. Recall: of the "
                "epochs of this state, the share that was found. F1 joins both. AUC: the chance that an epoch "
                "of the state gets a higher probability for it than one of another state; 0.5 is chance.",
                agreement.per_class(pooled.get("classes") or {}, labels),
            ),
            Section("Two states alone", _PAIRS, _pairs(pooled.get("pairs") or ())),
            Section(
                "Subjects",
                "How to read it: a row for each subject, so that one whose recordings fit badly is seen. A dash "
                "stands for a state that the subject does not have and that was never scored.",
                join(
                    [
                        agreement.per_subject(subjects, labels, pooled),
                        agreement.unknown_reasons(pooled.get("coverage") or {}),
                        _left_out(about.get("left_out") or ()),
                    ]
                )
                if subjects
                else NOTHING,
            ),
            Section(
                "Look-ahead",
                "What waiting for the signal that follows an epoch buys, and what it costs.",
                join(
                    [look_ahead_figures(ways, baseline, about.get("look_ahead_curve") or ()), compute_figure(ways)]
                ),
            ),
            Section("Folds", _FOLDS, fold_table(about, main)),
            Section("Baseline", _BASELINE, _baseline(main, baseline)),
            Section(
                "Onsets", "How soon a change of state was told.", onset_table(pooled.get("onsets") or {}, labels)
            ),
            Section(
                "Triggers",
                "What the policy of the rig file would have done in these recordings.",
                trigger_figures(shown, pooled.get("triggers"), about.get("policy")),
            ),
            Section(
                "Calibration",
                "Whether probabilities mean what they say.",
                calibration_figure(pooled.get("calibration") or {}),
            ),
            Section(
                "Bouts and changes",
                "A scorer can agree on nine epochs of ten and yet tear every bout apart. Here, the structure of "
                "the scored recordings is compared with that of the true ones, on the epochs that both know.",
                structure(shown, pooled.get("structure") or {}, labels),
            ),
            Section("Spectra by state", "What the states look like in these recordings.", spectra_figure(spectra)),
            Section("Training", "How the networks of the folds were trained.", fold_curves(folder, about)),
            Section(
                "Model card", "What the network is, on what it was trained, and what it is not for.", card.body
            ),
            Section("Limits", "What these figures do not say.", limits(about, main, simulated=simulated)),
            Section(
                "Provenance", "What made these figures, and how to make them again.", provenance(about, folder)
            ),
        ],
    )


_PAIRS = (
    "Two states compared as if there were no others. AUC: the chance that an epoch of the second state looks "
    "more like it than an epoch of the first does; 0.5 is chance, 1 is perfect."
)
_FOLDS = (
    "Each fold is a training of its own, tested on subjects that it never saw. The figures above pool all epochs; "
    "the last row is the mean over trainings and how they scatter."
)
_BASELINE = (
    "A simple scorer beside the network, on the same epochs: what the network is better by is what it is worth."
)


def _title(about: Figures) -> str:
    if about.get("folds"):
        return f"Cross-validation: {about.get('recipe', 'a recipe')}"
    return f"Evaluation of {(about.get('bundle') or {}).get('name', 'a scorer')}"


def _lead(about: Figures, main: Figures, ways: Sequence[Figures]) -> str:
    pooled, dataset = main["pooled"], about.get("dataset") or {}
    n_recordings = int(main.get("recordings", 0))
    name = (about.get("bundle") or {}).get("name", "The scorer")
    who = _who([str(one["subject"]) for one in main.get("subjects", ())])
    hours = duration(3600.0 * float(pooled.get("hours") or 0.0))
    what = f"{n_recordings} recording{'s' if n_recordings != 1 else ''}, {hours} labelled"
    of = f" of {dataset['kind']}" if dataset.get("kind") else ""
    text = (
        f"{name} scored {who}{of} ({what}). It agrees with the labels at κ {told(pooled.get('kappa'))} and is "
        f"right about {percent(pooled.get('accuracy'))} of the epochs, {_when(main)}."
    )
    if about.get("folds"):
        text += f" Each subject was scored by a training that never saw it ({len(about['folds'])} trainings)."
    if len(ways) > 1:
        best = max(ways, key=lambda way: value_of(way["pooled"].get("kappa")))
        text += f" The best κ, {number(value_of(best['pooled'].get('kappa')))}, comes {_when(best)}."
    return text


def _who(subjects: Sequence[str]) -> str:
    """Count subjects; spans of hours are told as such, with the animals that they are of."""
    n_animals = len({Span.parse(subject).subject for subject in subjects})
    animals = f"{n_animals} subject{'s' if n_animals != 1 else ''}"
    if all(Span.parse(subject).is_whole for subject in subjects):
        return animals
    n = len(subjects)
    return f"{n} span{'s' if n != 1 else ''} of hours of {animals} ({', '.join(subjects[:N_NAMED])})"


def _when(way: Figures) -> str:
    lag_s = float(way["lag_s"])
    return f"with a look-ahead of {duration(lag_s)}" if lag_s else "without look-ahead"


def _warnings(about: Figures, *, simulated: bool, card_is_simulated: bool) -> list[str]:
    texts = []
    if simulated:
        texts.append(
            "SIMULATED: the recordings were made by a program. Nothing here was measured in an animal or a person."
        )
    elif card_is_simulated:
        texts.append(
            "The network was trained on SIMULATED data alone. Its figures on real recordings show what is missing."
        )
    in_sample = about.get("in_sample", False)
    if in_sample:
        names = [str(name) for name in about.get("in_sample_subjects") or ()]
        which = f"{len(names)} of the subjects" if len(names) > N_NAMED else ", ".join(names) or "subjects"
        texts.append(
            f"IN SAMPLE: the network was trained on {which} that are scored here. Such figures are too good, and "
            "say nothing about other subjects."
        )
    elif in_sample is None:
        texts.append(
            "PERHAPS IN SAMPLE: the bundle does not say on whom it was trained. If it was on these subjects, "
            "the figures are too good."
        )
    known = [str(name) for name in about.get("known_animals") or ()]
    if known and not in_sample:
        texts.append(
            f"SAME ANIMAL: {_named(known)} {'is' if len(known) == 1 else 'are'} of animals that the network was "
            "trained on, at other hours. The "
            "figures say how well it knows these animals and nothing about others."
        )
    return texts


def _named(names: Sequence[str]) -> str:
    """Name some, and count the rest."""
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return ", ".join(names[:N_NAMED]) + more


def _left_out(left_out: Sequence[Figures]) -> Html:
    """List the recordings that no figure knows of."""
    rows = [(str(one["subject"]), str(one["session"]), str(one["reason"])) for one in left_out]
    if not rows:
        return NOTHING
    return join([el("h3", "Left out"), table(("subject", "recording", "why"), rows, n_words=3)])


def _notes(about: Figures, main: Figures, ways: Sequence[Figures]) -> list[str]:
    texts = [_intervals(main)]
    left_out = [str(one["session"]) for one in about.get("left_out") or ()]
    if left_out:
        was = "recording was" if len(left_out) == 1 else "recordings were"
        texts.append(
            f"{len(left_out)} {was} left out, and no figure knows of them: {_named(left_out)}. Why stands "
            "under the subjects."
        )
    if len(ways) > 1:
        texts.append(f"Figures are those {_when(main)}, unless they name another one.")
    return texts


def _intervals(main: Figures) -> str:
    over, n = main.get("interval_over"), int(main.get("interval_units") or 0)
    if not over:
        return "There is too little of a single recording to say how sure figures are: they have no intervals."
    told_of = {
        "subjects": "how much a figure would change with other subjects of the same kind",
        "recordings": "how much a figure would change with other recordings of this one subject, not of others",
        "hours": "how much a figure changes from hour to hour of this one recording, not with others",
    }
    what, units = told_of.get(str(over), ""), str(over)
    if over == "subjects" and any("@" in str(one["subject"]) for one in main.get("subjects", ())):
        what = "how much a figure would change with other hours like these, not with other animals"
        units = "spans of hours"
    return f"Brackets hold 95 % intervals: {what} ({n} {units} redrawn at random)."


def _cards(main: Figures) -> list[tuple[str, str]]:
    pooled = main["pooled"]
    share = value_of((pooled.get("coverage") or {}).get("share"))
    cards = [
        (number(value_of(pooled.get("kappa"))), "κ, agreement beyond chance"),
        (f"{number(100 * value_of(pooled.get('accuracy')), 1)} %", "of epochs are right (accuracy)"),
        (number(value_of(pooled.get("macro_f1"))), "macro-F1, all states count alike"),
        (f"{number(100 * share, 1)} %", "of labelled epochs were scored"),
    ]
    for pair in (pooled.get("pairs") or ())[:1]:
        cards.append(
            (number(value_of(pair.get("auc")), 4), f"AUC, {pair['states'][0]} against {pair['states'][1]}")
        )
    onset = (pooled.get("onsets") or {}).get("all") or {}
    if np.isfinite(value_of(onset.get("median_s"))):
        never = number(100 * value_of(onset.get("missed_share")), 1)
        cards.append(
            (
                duration(value_of(onset.get("median_s"))),
                f"from a change of state to its being told, median of those told; {never} % never were",
            )
        )
    if pooled.get("triggers"):
        cards.append((number(value_of(pooled["triggers"].get("false_per_hour")), 2), "false triggers an hour"))
    return cards


def _pairs(pairs: Sequence[Figures]) -> Html:
    rows = [
        (
            f"{one['states'][0]} against {one['states'][1]}",
            " and ".join(f"{n:,}" for n in one.get("epochs", ())),
            told(one.get("auc"), 4),
            told(one.get("accuracy")),
        )
        for one in pairs
    ]
    return table(("states", "epochs", "AUC", "accuracy"), rows) if rows else NOTHING


def _baseline(main: Figures, baseline: Figures | None) -> Html:
    if baseline is None or baseline is main:
        return NOTHING
    named = ((f"network, {_when(main)}", main), (str(baseline.get("name") or "baseline"), baseline))
    keys = ("kappa", "accuracy", "macro_f1")
    rows = [(name, *(told(way["pooled"].get(key)) for key in keys)) for name, way in named]
    taught = ", ".join(map(str, baseline.get("trained_on") or ()))
    made = table(("scorer", "κ", "accuracy", "macro-F1"), rows)
    return join([made, el("p", f"The baseline learnt from {taught}.", class_="small")]) if taught else made
