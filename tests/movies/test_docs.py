"""The examples of docs/movies.md work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from streamscore.movies.base import READERS
from streamscore.movies.fields import NAMES
from streamscore.sources.movie import Config

PAGE = (Path(__file__).parents[2] / "docs" / "movies.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_section_of_a_rig_file_is_valid() -> None:
    (text,) = blocks("yaml")
    section = yaml.safe_load(text)["source"]
    assert Config(**section).dataset == "cam/frames"


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "docs/movies.md", "exec"), names)
    assert capsys.readouterr().out == "33.6 ('fluorescence_470', 'reference_405') (64, 64) 400\n"
    assert names["first_second"].shape == (34, 64, 64)  # type: ignore[attr-defined]


def test_every_suffix_and_every_name_of_a_field_is_told() -> None:
    told = set(re.findall(r"`([^`]+)`", PAGE))
    assert set(READERS) <= told
    assert {name for names in NAMES.values() for name in names} <= told
