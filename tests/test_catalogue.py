from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from streamscore import plugins
from streamscore.bundle import open_bundle
from streamscore.catalogue import Entry, choose, count_macs, describe, examples, seconds, table
from streamscore.cli import app
from streamscore.config import load_rig_file
from streamscore.errors import ConfigError
from streamscore.labels import vocabulary
from streamscore.models import roi_rnn, tinysleepnet
from streamscore.models.base import Example

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs" / "networks").glob("*.yaml"))
EXAMPLES = {name: (kind, example) for kind, name, _, example in examples()}


@pytest.mark.parametrize("kind", plugins.kinds("models"))
def test_each_network_has_a_page_a_rig_file_a_source_and_an_example(kind: str) -> None:
    about = plugins.load("models", kind).ABOUT
    assert about.title
    assert about.source
    assert about.examples
    page = "bands" if kind.startswith("band_") else kind
    assert (ROOT / "docs" / "networks" / f"{page}.md").is_file()
    assert (ROOT / "configs" / "networks" / f"{kind}.yaml").is_file()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_arguments_of_an_example_fit_its_network(name: str) -> None:
    kind, example = EXAMPLES[name]
    config = plugins.load("models", kind).Config(**example.args)
    assert getattr(config, "n_classes", len(vocabulary(example.vocabulary))) == len(vocabulary(example.vocabulary))
    assert getattr(config, "sfreq", example.sfreq) == example.sfreq


def test_the_page_of_networks_lists_them_all_with_their_parameters() -> None:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    listed = {row[0]: row[3] for row in rows if len(row) == 10}
    assert set(EXAMPLES) == set(listed) - {"network"}
    for name in ("tinysleepnet", "deepsleepnet-causal", "seqsleepnet"):
        kind, example = EXAMPLES[name]
        module = plugins.load("models", kind)
        assert listed[name] == f"{module.build(module.Config(**example.args)).n_trainable():,}"


def test_names_do_not_repeat() -> None:
    names = [name for _, name, _, _ in examples()]
    assert len(names) == len(set(names))


def test_a_description_holds_the_networks_own_figures() -> None:
    (chosen,) = choose("tinysleepnet")
    entry = describe(*chosen, measure=True)
    assert (entry.n_trainable, entry.step_s, entry.receptive_field_s) == (1_516_293, 30.0, None)
    assert entry.measured[0].p50_ms > 0
    assert entry.measured[0].max_ms >= entry.measured[0].p50_ms
    assert entry.step_macs == pytest.approx(29.1e6, rel=0.01)  # MODELS.md 7 says about 0.03 G


def test_multiply_accumulates_of_a_network_that_can_be_counted_by_hand() -> None:
    config = roi_rnn.Config(cell="simple", n_channels=7, n_hidden=5, half_window_frames=1)
    # The newest frame is projected once; the recurrence runs over three frames; one output unit.
    assert count_macs(lambda: roi_rnn.build(config)) == 7 * 5 + 3 * 5 * 5 + 5


def test_a_library_that_is_not_installed_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: tinysleepnet.Config) -> None:
        raise ConfigError("needs the package 'nothing'")

    monkeypatch.setattr(tinysleepnet, "build", build)
    (chosen,) = choose("tinysleepnet")
    entry = describe(*chosen, measure=True)
    assert (entry.problem, entry.measured) == ("needs the package 'nothing'", ())
    assert "not installed" in list(table([entry]).columns[-7].cells)


def test_choosing() -> None:
    assert {kind for kind, *_ in choose("deepsleepnet")} == {"deepsleepnet"}
    assert [name for _, name, *_ in choose("deepsleepnet-causal")] == ["deepsleepnet-causal"]
    assert len(choose(None)) == len(EXAMPLES)
    with pytest.raises(ConfigError, match=r"no network 'resnet'; the kinds are .*tinysleepnet"):
        choose("resnet")


@pytest.mark.parametrize(
    ("value_s", "text"), [(0.0, "0s"), (30.0, "30s"), (1 / 30, "33.3ms"), (31 / 30, "1.033s"), (750.0, "750s")]
)
def test_durations(value_s: float, text: str) -> None:
    assert seconds(value_s) == text


class TestCommand:
    """``streamscore models``."""

    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(app, ["models", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    def test_the_table_has_a_row_and_the_publication(self) -> None:
        shown = self.run("tinysleepnet", "--no-time")
        row = next(line for line in shown.splitlines() if line.startswith("tinysleepnet"))
        assert row.split() == [
            "tinysleepnet",
            "1",
            "ch",
            "100",
            "5",
            "1,516,293",
            "29.1M",
            "30s",
            "∞",
            "0s",
            "30s",
            "–",
        ]
        assert "EMBC 2020" in shown
        assert "published: Sleep-EDF-39" in shown

    def test_json_is_the_same_for_programs(self) -> None:
        (row,) = json.loads(self.run("tinysleepnet", "--json"))
        entry = Entry(**row)
        assert entry.n_trainable == 1_516_293
        assert entry.measured[0].device == "cpu"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_rig_files_of_networks_are_valid(path: Path) -> None:
    config = load_rig_file(path)
    assert isinstance(config.bundle, dict | str)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_a_rig_file_says_of_its_look_ahead_is_true(path: Path) -> None:
    config = load_rig_file(path)
    assert isinstance(config.bundle, dict)
    module = plugins.load("models", config.bundle["model"])
    if hasattr(module, "provenance"):
        return  # its classifiers are an extra
    with torch.device("meta"):
        timing = module.build(module.Config(**config.bundle.get("model_args", {}))).timing
    head = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    if any(words in head for words in ("without look-ahead", "no look-ahead", "causal")):
        assert timing.look_ahead_samples == 0
    if "lag 0" in head:
        assert timing.reads[0].lag_samples == 0


LIGHT = {"tinysleepnet", "deepsleepnet", "roi_rnn", "seqsleepnet", "mvg_cnn"}


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem in LIGHT], ids=lambda path: path.stem)
def test_the_rig_files_of_networks_describe_what_can_be_built(path: Path) -> None:
    config = load_rig_file(path)
    assert config.bundle is not None
    bundle = open_bundle(config.bundle, config.look_ahead_s)
    assert not bundle.is_trained
    assert bundle.spec.model == path.stem


def test_an_example_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Example({}, "AASM5", 100.0, ("EEG",)).sfreq = 1.0  # type: ignore[misc]
