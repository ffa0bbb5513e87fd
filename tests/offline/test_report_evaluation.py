"""The page of an evaluation, read as a browser would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offline.evaluation_folder import read_evaluation, results_of, write_evaluation
from offline.report.command import report_command
from offline.report.evaluation import evaluation_page
from offline.scored import read_folder
from streamscore.errors import RecordingError
from streamscore.labels import AASM5
from streamscore.metrics import cohen_kappa
from tests.offline.report_pages import SUBJECT, Parsed, about, evaluation, nights_of
from tests.offline.scores import night, scored

EVERYTHING = [
    *("Recordings", "Confusion", "States", "Subjects", "Look-ahead", "Folds", "Baseline", "Onsets", "Triggers"),
    *("Calibration", "Bouts and changes", "Spectra by state", "Training", "Model card", "Limits", "Provenance"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluation(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Parsed:
    return Parsed(report_command(folder).read_text(encoding="utf-8"))


def test_it_has_all_sections_and_names_the_one_that_it_lacks(page: Parsed) -> None:
    assert page.sections == EVERYTHING
    assert "Not in this run: two states alone." in page.text


def test_nothing_is_loaded_and_nothing_runs(page: Parsed) -> None:
    assert page.loads == []
    assert not page.names() & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    policy = next(a["content"] for name, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    hrefs = [str(attributes["href"]) for name, attributes in page.elements if name == "a"]
    assert all(href.startswith("#") for href in hrefs)
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {href[1:] for href in hrefs} <= ids


def test_names_of_files_are_shown_as_they_are(page: Parsed) -> None:
    assert f"{SUBJECT}|" in page.text
    assert f"{SUBJECT}, day1" in page.text
    assert "streamscore evaluate <b>level</b>" in page.text
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "warming up & settling" in page.text


def test_figures_are_those_of_the_scores(folder: Path, page: Parsed) -> None:
    scores = [one for one in read_folder(folder) if one.kind == "final" and one.lag_s == 0]
    counts = np.zeros((3, 3), int)
    for one in scores:
        known = one.codes >= 0
        np.add.at(counts, (one.truth[known], one.codes[known]), 1)
    assert f"κ {cohen_kappa(counts):.3f} (" in page.text
    row = "".join(f"{counts[2, k]:,}{100 * counts[2, k] / counts[2].sum():.0f} %|" for k in (0, 2, 1))
    assert f"REM|{row}" in page.text  # Wake, REM, NREM: as hypnograms have them
    assert f"all, pooled|{sum(one.n_labelled for one in scores):,}|" in page.text


def test_the_look_ahead_is_told_at_each_lag(folder: Path, page: Parsed) -> None:
    results = read_evaluation(folder)["results"]
    for way in results[:3]:
        assert f"{way['pooled']['kappa']['value']:.3f} (" in page.text
    best = max(results[:3], key=lambda way: way["pooled"]["kappa"]["value"])
    assert f"The best κ, {best['pooled']['kappa']['value']:.3f}, comes with a look-ahead of 8 s." in page.text
    assert "booster|" in page.text
    assert "The baseline learnt from m9." in page.text
    labels = [attributes.get("aria-label") for name, attributes in page.elements if name == "svg"]
    assert {"Agreement (κ) against look-ahead", "Agreement against time of computing"} <= set(labels)


def test_folds_are_told_and_nothing_outside_the_folder_is_read(page: Parsed) -> None:
    assert "0|m1||2 + 1|0.707|0.800|–|" in page.text
    assert f"1|{SUBJECT}||1 + 1|–|–|–|" in page.text
    assert "mean ± SD||||0.712 ± 0.046|||" in page.text
    assert "Stage z-first" in page.text
    assert "Fold 1" not in page.text  # its training is said to be elsewhere


def test_every_picture_says_what_it_shows_and_how_to_read_it(page: Parsed) -> None:
    pictures = [attributes for name, attributes in page.elements if name == "svg"]
    assert len(pictures) > 12
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in pictures)
    figures = sum(name == "figure" for name, _ in page.elements)
    assert figures == sum(name == "figcaption" for name, _ in page.elements)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": {"kind": "plain", "simulated": True}}, "SIMULATED: the recordings"),
        ({"in_sample": True, "in_sample_subjects": ["m1"]}, "IN SAMPLE: the network was trained on m1 that"),
        ({"in_sample": None}, "PERHAPS IN SAMPLE"),
        ({"known_animals": ["m1@16-24h"]}, "SAME ANIMAL: m1@16-24h is of animals that the network was trained on"),
        ({"bundle": {"name": "x", "card": "**Trained on SIMULATED movies only.**"}}, "SIMULATED data alone"),
    ],
)
def test_what_must_not_be_overlooked_is_a_badge(
    tmp_path: Path, page: Parsed, changes: dict[str, object], words: str
) -> None:
    assert words not in page.text
    scores = nights_of(0.0, 0.1)
    write_evaluation(tmp_path, scores, about(**changes), results=results_of(scores, n_draws=0))
    assert any(words in warning for warning in evaluation_page(tmp_path).warnings)


def test_recordings_that_were_left_out_are_listed_with_their_reason(tmp_path: Path) -> None:
    scores = nights_of(0.0, 0.1)
    left_out = [{"subject": "m9", "session": "m9_day", "reason": "m9_day.npz: truncated; copy it again"}]
    write_evaluation(tmp_path, scores, about(left_out=left_out), results=results_of(scores, n_draws=0))
    text = Parsed(evaluation_page(tmp_path).html()).text
    assert "1 recording was left out, and no figure knows of them: m9_day." in text
    assert "m9|m9_day|m9_day.npz: truncated; copy it again|" in text


def test_spans_are_not_told_as_subjects(tmp_path: Path) -> None:
    scores = [scored(night(k), subject=f"m1@{k}-{k + 1}h", session=f"m1_day@{k}-{k + 1}h") for k in range(2)]
    write_evaluation(tmp_path, scores, about(), results=results_of(scores, n_draws=5))
    page = evaluation_page(tmp_path)
    lead = page.lead
    assert any("not with other animals (2 spans of hours redrawn" in note for note in page.notes)
    assert "scored 2 spans of hours of 1 subject (m1@0-1h, m1@1-2h) of" in lead


def test_the_delay_in_the_headline_says_how_many_changes_were_never_told(tmp_path: Path) -> None:
    truth = np.repeat([0, 1, 0, 2], 10)
    scores = [scored(truth, np.where(truth == 2, 0, truth))]  # REM is never told: one change of three
    write_evaluation(tmp_path, scores, about(), results=results_of(scores, n_draws=0))
    assert any("33.3 % never were" in words for _, words in evaluation_page(tmp_path).cards)


def test_a_data_set_tells_that_it_was_simulated(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text('{"kind": "plain", "simulated": true}')
    scores = nights_of(0.0, 0.1)
    told = about(dataset={"kind": "plain", "folder": str(tmp_path / "data")})
    write_evaluation(tmp_path / "run", scores, told, results=results_of(scores, n_draws=0))
    assert any("SIMULATED" in warning for warning in evaluation_page(tmp_path / "run").warnings)


def test_what_a_run_does_not_hold_is_left_out_and_named(tmp_path: Path) -> None:
    one = scored([0, 0, 0, 1, 1, 0] * 8)
    results = results_of([one], n_draws=0)
    for key in ("calibration", "structure", "onsets", "coverage"):
        del results[0]["pooled"][key]
    write_evaluation(tmp_path, [one], {}, results=results)
    page = Parsed(report_command(tmp_path).read_text(encoding="utf-8"))
    shown = ["Recordings", "Confusion", "States", "Two states alone", "Subjects", "Limits", "Provenance"]
    assert page.sections == shown
    absent = page.text.partition("Not in this run: ")[2]
    assert absent.startswith(
        "look-ahead, folds, baseline, onsets, triggers, calibration, bouts and changes, spectra by state, "
        "training, model card."
    )
    assert "Not in these recordings at all: REM." in page.text
    assert "intervals" in page.text


def test_a_set_of_nights_is_a_file_that_can_be_sent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = []
    for k in range(17):
        truth, codes = night(k, 1000), rng.integers(0, 5, 1000).astype(np.int8)  # changes as often as can be
        probs = rng.dirichlet(np.ones(5), 1000)
        scores.append(scored(truth, codes, probs, AASM5, subject=f"s{k}", session=f"s{k}", epoch_s=30.0))
    write_evaluation(tmp_path, scores, about(), results=results_of(scores[:1], n_draws=0))
    path = report_command(tmp_path, tmp_path / "out" / "night.html")
    assert path.stat().st_size < 6_000_000
    page = Parsed(path.read_text(encoding="utf-8"))
    assert "More recordings: 14" in page.text
    assert sum("true and scored states" in str(a.get("aria-label")) for name, a in page.elements) == 17


def test_a_damaged_folder_is_refused_by_name(tmp_path: Path) -> None:
    scores = nights_of(0.0, 0.1)
    write_evaluation(tmp_path, scores, about(), results=results_of(scores, n_draws=0))
    (tmp_path / "spectra").mkdir()
    (tmp_path / "spectra" / "m1.npz").write_bytes(b"not a file of arrays")
    with pytest.raises(RecordingError, match=r"m1\.npz: holds no spectra"):
        report_command(tmp_path)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    (tmp_path / "evaluation.json").write_text(json.dumps({**content, "results": []}))
    with pytest.raises(RecordingError, match="holds no results"):
        report_command(tmp_path)
    assert not (tmp_path / "report.html").exists()
