"""Reading a page as a browser would, and folders of runs made by hand."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.evaluation_folder import results_of, write_evaluation
from offline.scored import Scored
from offline.spectra import Spectra
from streamscore.labels import MOUSE3
from tests.offline.scores import night, scored, with_errors

_VOID = {"meta", "br", "hr"}
#: Attributes that make a browser load something.
_LOADS = {"src", "srcset", "data", "poster", "background", "xlink:href"}


class Parsed(HTMLParser):
    """Elements and texts of a page.

    Attributes
    ----------
    elements
        Name and attributes of each, in order.
    text
        All that can be read, tables with a bar behind each cell.
    sections
        Headings of the second level.
    loads
        Whatever would be loaded from elsewhere.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: list[str] = []
        self.loads: list[str] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def names(self) -> set[str]:
        return {name for name, _ in self.elements}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        self.loads += [f"{key}={value}" for key, value in attrs if key in _LOADS]
        if tag == "link":
            self.loads.append(str(found.get("href")))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"
        if tag in ("td", "th"):
            self._texts.append("|")
        if tag in ("tr", "p", "h1", "h2", "h3", "li", "dd", "summary"):
            self._texts.append("\n")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            assert "url(" not in data
            assert "@import" not in data
            return
        if self._open and self._open[-1] == "h2":
            self.sections.append(data)
        self._texts.append(data)


SUBJECT = "<script>alert(1)</script>"
CARD = """# level

Names **levels**. <img src=x onerror=alert(1)> ![a picture](http://a/b.png)

| a | b |
|---|---|
| 1 | 2 |
"""


def nights_of(lag_s: float, share: float, kind: Any = "final") -> list[Scored]:
    """Scores of two nights of each subject, a share of which is wrong; the first epochs are unknown."""
    found = []
    for k, subject in enumerate(("m1", SUBJECT)):
        for day in range(2):
            truth = night(10 * k + day)
            codes = with_errors(truth, share, seed=100 * k + day)
            codes[:5] = -1
            probs = _sure(codes)
            on_s = 4.0 * np.flatnonzero(codes == 2)[::9]
            changes: dict[str, Any] = {"target": ("REM",), "actions_s": np.stack([on_s, on_s + 2.0], axis=1)}
            if kind == "baseline":
                changes = {}
            found.append(
                scored(
                    truth,
                    codes,
                    probs,
                    subject=subject,
                    session=f"day{day}",
                    lag_s=lag_s,
                    kind=kind,
                    reasons=("warming up & settling",),
                    reason=np.where(codes < 0, 0, -1).astype(np.int8),
                    **changes,
                )
            )
    return found


def _sure(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    probs = np.full((len(codes), 3), 0.1, np.float32)
    probs[np.arange(len(codes)), codes] = 0.8
    probs[codes < 0] = np.nan
    return probs


def about(**changes: Any) -> dict[str, Any]:
    """What an evaluation tells of itself."""
    told: dict[str, Any] = {
        "run": {
            "command": "streamscore evaluate <b>level</b>",
            "date": "2026-11-21",
            "git_commit": "abc123",
            "machine": "2 × a CPU",
            "versions": {"torch": "2.0"},
        },
        "bundle": {
            "name": "level",
            "sha256": "f" * 64,
            "model": "tinysleepnet",
            "vocabulary": "MOUSE3",
            "channels": ["EEG"],
            "sfreq": 16.0,
            "card": CARD,
        },
        "dataset": {"kind": "plain", "folder": "/nowhere", "simulated": False},
        "subjects": ["m1", SUBJECT],
        "seed": 3,
        "in_sample": False,
        "policy": {"kind": "dwell", "states": ["REM"]},
    }
    return {**told, **changes}


def evaluation(folder: Path, **changes: Any) -> Path:
    """Write an evaluation with three look-aheads, a baseline, a policy, spectra and a fold."""
    ways = [nights_of(0.0, 0.2), nights_of(4.0, 0.1), nights_of(8.0, 0.05)]
    everything = [one for way in ways for one in way] + nights_of(0.0, 0.3, "baseline")
    results = results_of(everything, n_draws=20)
    for way in results:
        if way["kind"] == "baseline":
            way |= {"name": "booster", "trained_on": ["m9"]}
        else:
            way["compute"] = {"lag_s": way["lag_s"], "p50_ms": 2.0 + way["lag_s"], "p99_ms": 9.0, "hop_s": 4.0}
    f_hz = np.arange(0.0, 8.25, 0.25)
    psd = np.stack([[10.0 * (k + 1) / (1.0 + f_hz)] for k in range(3)]).astype(np.float32)
    spectra = Spectra(f_hz, psd, MOUSE3, ("EEG",), ("uV",), np.array([5, 5, 5]))
    found = {(one.subject, one.session): spectra for one in ways[0]}
    folds = [
        {"fold": 0, "train": ["a", "b"], "validation": ["c"], "test": ["m1"], "training": "folds/00"},
        {
            "fold": 1,
            "train": ["a"],
            "validation": ["c"],
            "test": [SUBJECT],
            "training": f"../{folder.name}-elsewhere",
        },
    ]
    results[0]["folds"] = [{"fold": 0, "kappa": 0.7071, "accuracy": 0.8}, {"fold": 1, "kappa": None}]
    results[0]["over_folds"] = {"kappa": {"mean": 0.7123, "sd": 0.0456, "n": 2}}
    told = about(**{"folds": folds, **changes})
    write_evaluation(folder, everything, told, spectra=found, results=results)
    training(folder / "folds" / "00")
    training(folder.parent / f"{folder.name}-elsewhere")
    return folder


def training(folder: Path, *, done: bool = True) -> Path:
    """Write the folder of a training of two stages, six passes each."""
    for k, stage in enumerate(("z-first", "a-second")):
        inner = folder / "checkpoints" / stage
        inner.mkdir(parents=True)
        rows = [
            {"pass": n + 1, "loss": 1.0 / (n + 1 + k), "val_loss": 1.2 / (n + 1), "val_kappa": 0.1 * n}
            for n in range(6)
        ]
        (inner / "passes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (inner / "figures.json").write_text(json.dumps({"pass": 4 + k, "passes": 6}))
    split = {"train": ["a", "b"], "validation": ["c"], "test": [SUBJECT], "final": False}
    (folder / "recipe.yaml").write_text("title: Tiny\nstages:\n- {name: z-first}\n- {name: a-second}\n")
    (folder / "split.json").write_text(json.dumps({"recipe": {"title": "Tiny"}, "split": split}))
    if done:
        told = {
            "command": "streamscore train tiny",
            "date": "2026-11-21",
            "git_commit": "abc123",
            "machine": "m",
            "device": "CPU, 1 threads",
            "seconds": 61.0,
            "dataset": {"kind": "plain", "folder": "/nowhere"},
            "validation": {"a-second": {"pass": 5, "passes": 6, "val_kappa": 0.512, "val_accuracy": 0.8}},
        }
        (folder / "training.json").write_text(json.dumps(told))
    return folder
