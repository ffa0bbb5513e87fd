from __future__ import annotations

from pathlib import Path

import pytest

from streamscore.config import RigConfig, dump, load_rig_file, parse_rig
from streamscore.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))

FULL = """\
source:
  kind: lsl
  name: amp
  channels:
    EEG: C3
bundle: default
hop_s: 2
timebase:
  stamps: exact
quality:
  flat_s: 4.0
policy:
  kind: dwell
  states: [REM]
rig:
  kind: zmq_dealer
sinks:
  - kind: zmq_pub
  - kind: lsl_out
    name: scores
"""


def refused(text: str) -> str:
    """Return the message with which a rig file is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_rig(text, "rig.yaml")
    return str(caught.value)


def changed(old: str, new: str) -> str:
    assert FULL.count(old) == 1
    return FULL.replace(old, new)


def test_a_full_rig_file_is_read() -> None:
    config = parse_rig(FULL, "rig.yaml")
    assert config.hop_s == 2.0
    assert config.timebase.stamps == "exact"
    assert config.quality.flat_s == 4.0
    assert config.source["channels"] == {"EEG": "C3"}
    assert [sink["kind"] for sink in config.sinks] == ["zmq_pub", "lsl_out"]


def test_only_the_source_is_needed_and_the_defaults_are_safe() -> None:
    config = parse_rig("source: {kind: synthetic}", "rig.yaml")
    assert (config.policy, config.rig) == (None, None)
    assert config.bundle == "default"
    assert config.record == Path("runs")
    assert (config.stall_s, config.ack_timeout_s, config.command_expiry_s) == (2.0, 0.5, 1.0)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_each_shipped_rig_file_is_valid(path: Path) -> None:
    load_rig_file(path)


def test_a_resolved_config_reads_back_the_same() -> None:
    config = parse_rig(FULL, "rig.yaml")
    assert parse_rig(dump(config), "config.yaml") == config


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "near"),
    [
        ("hop_s: 2", "hop: 2", 7, "hop", "hop_s"),
        ("  stamps: exact", "  stamp: exact", 9, "timebase.stamp", "stamps"),
        ("  flat_s: 4.0", "  flat: 4.0", 11, "quality.flat", "flat_s"),
        ("  name: amp", "  nmae: amp", 3, "source.nmae", "name"),
        ("  states: [REM]", "  states: [REM]\n  dwel_s: 5", 15, "policy.dwel_s", "dwell_s"),
        ("  kind: zmq_dealer", "  kind: zmq_dealer\n  end_point: x", 17, "rig.end_point", "endpoint"),
        ("    name: scores", "    names: scores", 20, "sinks.1.names", "name"),
    ],
)
def test_an_unknown_key_names_file_line_key_and_choices(
    old: str, new: str, line: int, key: str, near: str
) -> None:
    message = refused(changed(old, new))
    assert f"rig.yaml:{line}: unknown key {key!r} (did you mean {near!r}?); choose from " in message
    assert near in message.split("choose from ")[1]


def test_a_key_that_is_like_no_other_lists_the_choices_without_a_guess() -> None:
    message = refused("source: {kind: synthetic}\nxyzzy: 1\n")
    assert message.startswith("rig.yaml:2: unknown key 'xyzzy'; choose from source, bundle, hop_s, ")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("hop_s: 2", "hop_s: 0", "rig.yaml:7: hop_s: Input should be greater than 0, got 0"),
        ("hop_s: 2", "hop_s: soon", "rig.yaml:7: hop_s: Input should be a valid number"),
        (
            "  stamps: exact",
            "  stamps: precise",
            "rig.yaml:9: timebase.stamps: Input should be 'auto', 'exact' or 'arr",
        ),
        ("  states: [REM]", "  states: []", "rig.yaml:14: policy.states: "),
        ("  states: [REM]", "  dwell_s: 3", "rig.yaml:12: 'policy.states' is missing"),
        ("  name: amp\n", "", "rig.yaml:1: source: say which LSL stream: give name, type or source_id"),
    ],
)
def test_a_wrong_value_names_file_line_key_and_what_it_got(old: str, new: str, text: str) -> None:
    assert text in refused(changed(old, new))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "kind: lsl\n",
            "kind: lls\n",
            "rig.yaml:2: source: unknown sources kind 'lls'; choose one of file, lsl, lsl_frames, movie, noise, "
            "synthetic, synthetic_camera, zmq_frames",
        ),
        ("kind: dwell", "kind: dwel", "rig.yaml:13: policy: unknown policies kind 'dwel'; choose one of dwell"),
        (
            "kind: zmq_dealer",
            "kind: serial",
            "rig.yaml:16: rig: unknown rigs kind 'serial'; choose one of zmq_dealer",
        ),
        (
            "kind: lsl_out",
            "kind: osc",
            "rig.yaml:19: sinks.1: unknown sinks kind 'osc'; choose one of lsl_out, zmq_frames, zmq_pub",
        ),
        ("  kind: lsl\n", "", "rig.yaml:1: source: unknown sources kind ''"),
    ],
)
def test_a_wrong_kind_names_file_line_and_choices(old: str, new: str, text: str) -> None:
    assert text in refused(changed(old, new))


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("hop_s: 2", "hop_s: 2\nhop_s: 3", 8, "hop_s"),
        ("  states: [REM]", "  states: [REM]\n  states: [W]", 15, "states"),
        ("    EEG: C3", "    EEG: C3\n    EEG: C4", 6, "EEG"),
        ("    name: scores", "    name: scores\n    name: others", 21, "name"),
    ],
)
def test_a_key_that_stands_twice_is_refused(old: str, new: str, line: int, key: str) -> None:
    assert refused(changed(old, new)) == f"rig.yaml:{line}: key {key!r} stands twice"


def test_all_faults_are_told_at_once() -> None:
    message = refused("source: {kind: synthetic}\nhop: 1\nstall_s: -1\n")
    assert message.splitlines() == [
        "rig.yaml:3: stall_s: Input should be greater than 0, got -1",
        message.splitlines()[1],
    ]
    assert message.splitlines()[1].startswith("rig.yaml:2: unknown key 'hop'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a rig file is a mapping"),
        ("- source", "a rig file is a mapping"),
        ("source: [", "not valid YAML"),
        ("source: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("hop_s: 1", "'source' is missing"),
        ("source: synthetic", "source: "),
        ("source: {kind: synthetic, 1: 2}", "source"),
        ("1: 2\nsource: {kind: synthetic}", "unknown key '1'"),
        ("source: {kind: synthetic}\ntimebase:\n", "rig.yaml:2: timebase: "),
    ],
)
def test_what_is_no_rig_file_is_refused(text: str, message: str) -> None:
    assert message in refused(text)
    assert refused(text).startswith("rig.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read"):
        load_rig_file(tmp_path / "no.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: cannot be read"):
        load_rig_file(tmp_path / "binary.yaml")


def test_a_config_cannot_be_changed() -> None:
    config = parse_rig(FULL, "rig.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.stall_s = 100.0
    assert isinstance(config, RigConfig)


class TestStreams:
    """Streams beside the main one, and gates."""

    RIG = """source: {kind: noise}
streams:
  wheel:
    source: {kind: noise, sfreq: 100}
    delay_s: 0.01
gates:
  - {stream: wheel, below: 0.5}
"""

    def test_each_has_the_keys_of_a_stream_and_no_bundle_unless_named(self) -> None:
        config = parse_rig(self.RIG, "rig.yaml")
        assert config.bundle == "default"
        wheel = config.streams["wheel"]
        assert (wheel.bundle, wheel.delay_s, wheel.record_raw) == (None, 0.01, True)
        assert config.gates[0].measure == "rms"
        assert parse_rig(dump(config), "again") == config

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("delay_s: 0.01", "dealy_s: 0.01", r"rig.yaml:5: unknown key 'streams.wheel.dealy_s' .*'delay_s'"),
            ("delay_s: 0.01", "policy: {}", r"rig.yaml:5: unknown key 'streams.wheel.policy'"),
            ("sfreq: 100", "sfreq: -1", r"rig.yaml:4: streams.wheel.source.sfreq: .*greater than 0"),
            ("{kind: noise, sfreq: 100}", "{kind: nose}", r"rig.yaml:4: streams.wheel.source: unknown .*'nose'"),
            ("delay_s: 0.01", "bundle: {model: nope}", r"rig.yaml:5: streams.wheel.bundle: .*'nope'"),
            ("stream: wheel", "stream: whel", r"rig.yaml:7: gates.0.stream: 'whel' is none of .*\(wheel\)"),
            ("below: 0.5", "belw: 0.5", r"rig.yaml:7: unknown key 'gates.0.belw' .*'below'"),
            (", below: 0.5", "", r"rig.yaml:7: gates.0: a gate needs 'below', 'above' or both"),
            ("  wheel:", "  my wheel:", "'my wheel' cannot name a stream"),
        ],
    )
    def test_errors_name_line_and_choices(self, old: str, new: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            parse_rig(self.RIG.replace(old, new), "rig.yaml")
