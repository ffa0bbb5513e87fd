"""docs/datasets.md tells all that there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from offline.datasets.base import KINDS, open_dataset
from offline.datasets.simulated import KINDS as SIMULATED
from streamscore.cli_data import SimulatedKind
from streamscore.labels import VOCABULARIES
from tests.offline.datasets.layouts import write_npz

PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*KINDS, *SIMULATED, *VOCABULARIES])
def test_the_page_has_every_kind_and_vocabulary(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_command_line_offers_what_can_be_simulated() -> None:
    assert {kind.value for kind in SimulatedKind} == set(SIMULATED)


def test_the_example_of_a_table_reads_as_the_page_says(tmp_path: Path) -> None:
    table = re.search(r"```\n(start_s,duration_s,state\n.*?)```", PAGE, re.DOTALL)
    assert table is not None
    write_npz(tmp_path / "m1.npz", 16)
    (tmp_path / "m1.labels.csv").write_text(table[1])
    dataset = open_dataset(tmp_path)
    recording = dataset.read(dataset.entries[0])
    assert (recording.epoch_s, recording.states.tolist()) == (4, [0, 1, 1, 1])


def test_the_example_of_options_opens(tmp_path: Path) -> None:
    options = re.search(r'^\{"kind": "plain", .*\}$', PAGE, re.MULTILINE)
    assert options is not None
    write_npz(tmp_path / "m1.npz", 16)
    (tmp_path / "dataset.json").write_text(options[0])
    assert dict(open_dataset(tmp_path).config.channels) == json.loads(options[0])["channels"]
