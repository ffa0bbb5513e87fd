"""Networks written out in a rig file, look-ahead chosen at run time, and policies that fit neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamscore.assemble import Assembly, check_policy
from streamscore.bundle import Bundle, Spec, load_bundle, open_bundle, save_bundle
from streamscore.clock import VirtualClock
from streamscore.config import parse_rig
from streamscore.errors import BundleError, ConfigError
from streamscore.models import deepsleepnet
from streamscore.score import score_file
from streamscore.scorer import Scorer
from streamscore.types import Segment

ARGS: dict[str, Any] = {
    "variant": "lookahead",
    "sfreq": 32.0,
    "epoch_s": 2.0,
    "n_filters": 4,
    "n_hidden": 5,
    "look_ahead_s": 4.0,
    "max_look_ahead_s": 8.0,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A DeepSleepNet trained (it says) for a look-ahead of up to four epochs."""
    torch.manual_seed(3)
    model = deepsleepnet.build(deepsleepnet.Config(**ARGS))
    for part in model.parameters():
        torch.nn.init.normal_(part, std=0.3)
    spec = Spec(
        name="looks-ahead", model="deepsleepnet", model_args=ARGS, preprocess=(), vocabulary="AASM5", sfreq=32.0,
        channels=("EEG",), hop_s=2.0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bundle") / "looks-ahead.safetensors"
    save_bundle(path, spec, model)
    return load_bundle(path)


class TestLookAhead:
    """One set of weights serves every look-ahead up to the bound."""

    @pytest.mark.parametrize("look_ahead_s", [0.0, 2.0, 8.0])
    def test_any_value_up_to_the_bound(self, bundle: Bundle, look_ahead_s: float) -> None:
        other = bundle.at_look_ahead(look_ahead_s)
        assert other.model.timing.look_ahead_samples == look_ahead_s * 32
        assert other.sha256 == bundle.sha256
        for name, weight in bundle.model.state_dict().items():
            assert torch.equal(other.model.state_dict()[name], weight)
        assert not other.model.training
        assert bundle.model.timing.look_ahead_samples == 128  # the bundle itself is left as it was

    def test_the_provisional_word_does_not_depend_on_it(self, bundle: Bundle) -> None:
        x = torch.randn(1, 1, 6 * 64, generator=torch.Generator().manual_seed(0))
        rows = []
        for look_ahead_s in (2.0, 4.0, 8.0):
            model = bundle.at_look_ahead(look_ahead_s).model
            with torch.inference_mode():
                rows.append(model(x, model.initial_state(1))[0][:, :, 0].numpy())
        np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)
        np.testing.assert_allclose(rows[0], rows[2], atol=1e-5)

    def test_more_than_it_was_trained_for_is_refused(self, bundle: Bundle) -> None:
        with pytest.raises(BundleError, match=r"look_ahead_s.*10.*max_look_ahead_s.*8"):
            bundle.at_look_ahead(10.0)

    def test_half_an_epoch_is_refused(self, bundle: Bundle) -> None:
        with pytest.raises(BundleError, match="look_ahead_s"):
            bundle.at_look_ahead(1.0)

    def test_a_network_without_the_choice_says_so(self) -> None:
        with pytest.raises(BundleError, match="'tinysleepnet' has no look-ahead to choose"):
            open_bundle("default", 30.0)


class TestWrittenOut:
    """``bundle: {model: …}``."""

    def test_what_is_left_out_is_the_networks_own(self) -> None:
        made = open_bundle({"model": "tinysleepnet"})
        spec = made.spec
        assert (spec.name, spec.vocabulary, spec.sfreq, spec.channels) == (
            "untrained tinysleepnet", "AASM5", 100.0, ("EEG",),
        )  # fmt: skip
        assert not made.is_trained
        assert Scorer(made).hop_samples == 3000

    def test_the_seed_decides_the_weights_and_the_hash(self) -> None:
        section = {"model": "tinysleepnet", "model_args": {"n_filters": 4, "n_hidden": 4}}
        first, again, other = (open_bundle({**section, "seed": seed}) for seed in (1, 1, 2))
        assert first.sha256 == again.sha256 != other.sha256
        before = torch.random.get_rng_state()
        open_bundle(section)
        assert torch.equal(before, torch.random.get_rng_state())

    def test_it_scores(self) -> None:
        made = open_bundle({"model": "deepsleepnet", "model_args": ARGS, "sfreq": 32.0})
        scorer = Scorer(made)
        data = np.random.default_rng(0).standard_normal((20 * 64, 1)).astype(np.float32)
        told = scorer.push(Segment(0, data, np.arange(len(data)) / 32.0))
        assert [p.kind for p in told[-2:]] == ["final", "provisional"]
        assert all(p.valid for p in told[-2:])

    def test_its_rate_is_the_networks_too(self) -> None:
        made = open_bundle({"model": "tinysleepnet", "sfreq": 128, "model_args": {"n_filters": 4, "n_hidden": 4}})
        assert made.spec.sfreq == 128
        assert made.model.timing.step_samples == 30 * 128

    def test_labels_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(BundleError, match="network has 5 classes, but MOUSE3 has 3"):
            open_bundle({"model": "tinysleepnet", "vocabulary": "MOUSE3"})

    def test_the_name_of_a_network_is_no_bundle(self) -> None:
        with pytest.raises(BundleError, match=r"'deepsleepnet' is a network, not a bundle.*bundle: \{model"):
            open_bundle("deepsleepnet")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("bundle: {model: deepsleepnets}", r"rig.yaml:2: bundle: unknown models kind 'deepsleepnets'; choose"),
            ("bundle: {model: tinysleepnet, args: {}}", r"rig.yaml:2: unknown key 'bundle.args'.*model_args"),
            (
                "bundle:\n  model: tinysleepnet\n  model_args:\n    n_filter: 3",
                r"rig.yaml:5: unknown key 'bundle.model_args.n_filter' \(did you mean 'n_filters'\?\)",
            ),
            ("bundle: {preprocess: []}", r"'bundle.model' is missing"),
        ],
    )
    def test_errors_of_the_rig_file_name_the_line(self, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            parse_rig(f"source: {{kind: noise}}\n{text}", "rig.yaml")


class TestRigFileAsBundle:
    """``--bundle rig.yaml`` scores with what that rig scores with."""

    def test_its_network_and_look_ahead_are_meant(self, bundle: Bundle, tmp_path: Path) -> None:
        save_bundle(tmp_path / "b.safetensors", bundle.spec, bundle.model)
        rig = tmp_path / "rig.yaml"
        rig.write_text(f"source: {{kind: noise}}\nbundle: {tmp_path / 'b.safetensors'}\nlook_ahead_s: 8\n")
        assert open_bundle(str(rig)).model.timing.look_ahead_samples == 256
        assert open_bundle(str(rig), 2.0).model.timing.look_ahead_samples == 64

    def test_a_rig_that_only_records_has_none(self, tmp_path: Path) -> None:
        (tmp_path / "rig.yaml").write_text("source: {kind: noise}\nbundle: null\n")
        with pytest.raises(BundleError, match="its bundle is null"):
            open_bundle(str(tmp_path / "rig.yaml"))


class TestAssembly:
    """What must not be joined."""

    RIG = """
source: {kind: noise, sfreq: 32, duration_s: 20, speed: 0}
bundle: {model: deepsleepnet, sfreq: 32, model_args: {variant: lookahead, sfreq: 32.0, epoch_s: 2, n_filters: 4,
  n_hidden: 5, look_ahead_s: 4, max_look_ahead_s: 8}}
sinks: []
record: null
policy: {kind: dwell, states: [N3], max_age_s: 30}
"""

    @pytest.mark.parametrize("mode", ["dry", "live"])
    def test_random_weights_never_act(self, mode: Any) -> None:
        rig = parse_rig(self.RIG + "rig: {kind: zmq_dealer}", "rig.yaml")
        with pytest.raises(ConfigError, match=f"mode {mode} needs a trained network.*random weights"):
            Assembly(rig, mode, VirtualClock())

    def test_the_rig_file_chooses_the_look_ahead(self) -> None:
        assembly = Assembly(parse_rig(self.RIG + "look_ahead_s: 8", "rig.yaml"), clock=VirtualClock())
        assert assembly.bundle is not None
        assert assembly.bundle.model.timing.look_ahead_samples == 256

    def test_frames_cannot_be_recorded_yet(self) -> None:
        text = (
            "source: {kind: noise, sfreq: 16.8, frame_shape: [128, 128]}\nbundle: {model: cnn_bilstm}\nsinks: []"
        )
        with pytest.raises(ConfigError, match=r"main stream: frames.*record_raw: false.*record: null"):
            Assembly(parse_rig(text, "rig.yaml"), clock=VirtualClock())

    def test_a_policy_that_would_never_act_is_refused(self, bundle: Bundle) -> None:
        policy = {"kind": "dwell", "states": ["N3"], "max_age_s": 2.0}
        with pytest.raises(ConfigError, match=r"older than max_age_s 2, but.*4 s late.*uses: provisional"):
            check_policy(policy, bundle)
        check_policy({**policy, "uses": "provisional"}, bundle)
        check_policy({**policy, "max_age_s": 5.0}, bundle)
        check_policy(policy, bundle.at_look_ahead(0.0))

    def test_a_policy_cannot_use_what_the_network_does_not_give(self) -> None:
        policy = {"kind": "dwell", "states": ["N3"], "uses": "provisional"}
        with pytest.raises(
            ConfigError, match="uses provisional outputs, but network 'tinysleepnet' gives only final"
        ):
            check_policy(policy, load_bundle("default"))


def test_an_old_folder_of_bundles_still_loads() -> None:
    for path in (Path(__file__).parents[1] / "streamscore" / "bundles").glob("*.safetensors"):
        assert load_bundle(path).is_trained


SEQ = {"variant": "published"}


class TestWhatCannotWork:
    """Refused when it is put together, not during a run."""

    @pytest.mark.parametrize(
        ("section", "what"),
        [
            (
                {"model": "roi_rnn", "preprocess": [{"kind": "pixel_normalise"}]},
                "pixel_normalise takes frames of a camera",
            ),
            (
                {"model": "tinysleepnet", "preprocess": [{"kind": "pixel_normalise"}]},
                "pixel_normalise takes frames of a camera",
            ),
        ],
    )
    def test_a_chain_that_does_not_take_such_samples(self, section: dict[str, Any], what: str) -> None:
        with pytest.raises(BundleError, match=what):
            open_bundle(section)

    def test_a_signal_step_on_frames(self) -> None:
        section = {
            "model": "cnn_bilstm",
            "model_args": {"variant": "causal", "frame_shape": [16, 16], "n_filters": 2, "n_hidden": 2},
            "preprocess": [{"kind": "bandpass", "low_hz": 0.1, "high_hz": 5.0}],
        }
        with pytest.raises(BundleError, match=r"bandpass takes signals.*frames of \(16, 16\)"):
            open_bundle(section)

    def test_no_look_ahead_where_there_is_one_by_design(self) -> None:
        with pytest.raises(BundleError, match=r"0\.5 s late by design; leave look_ahead_s out"):
            open_bundle({"model": "roi_rnn"}, 0.0)

    @pytest.mark.parametrize(
        ("section", "remedy"),
        [
            ({"model": "seqsleepnet", "model_args": SEQ}, "take its variant: sliding"),
            ({"model": "deepsleepnet", "model_args": {"n_filters": 2, "n_hidden": 2}}, "write uses: provisional"),
        ],
    )
    def test_a_policy_on_final_outputs_that_come_in_bursts(self, section: dict[str, Any], remedy: str) -> None:
        policy = {"kind": "dwell", "states": ["N3"], "max_age_s": 1e4}
        with pytest.raises(ConfigError, match=f"in bursts.*{remedy}"):
            check_policy(policy, open_bundle(section))

    def test_a_hop_that_passes_over_the_close_of_a_chunk(self) -> None:
        section = {"model": "deepsleepnet", "model_args": {"n_filters": 2, "n_hidden": 2}}
        with pytest.raises(ConfigError, match="would pass over steps of 30 s that close a chunk"):
            Scorer(open_bundle(section), hop_s=60.0)

    @pytest.mark.parametrize("hop_s", [float("nan"), float("inf")])
    def test_a_hop_that_is_no_number(self, hop_s: float) -> None:
        with pytest.raises(ConfigError, match="choose a number of seconds"):
            Scorer(load_bundle("default"), hop_s=hop_s)


def test_a_file_is_scored_in_whole_windows_without_being_asked(tmp_path: Path) -> None:
    made = open_bundle({"model": "seqsleepnet", "model_args": SEQ})
    n_window = made.model.timing.step_samples // 3000
    x = np.random.default_rng(0).normal(0.0, 30.0, (2 * n_window * 3000 + 3000, 1)).astype(np.float32)
    np.savez(tmp_path / "night.npz", data=x, sfreq=100.0, channels=np.array(["EEG"]), units=np.array(["uV"]))
    result = score_file(tmp_path / "night.npz", made)
    assert len(result.hypnogram) == 2 * n_window
    assert all(posterior.kind == "final" and posterior.valid for posterior in result.posteriors)


def test_warming_up_a_heavy_network_does_not_run_a_batch_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Scorer(load_bundle("default")).runner
    clock = VirtualClock()
    rows: list[int] = []

    def step(x: torch.Tensor, _: object) -> None:
        rows.append(len(x))
        clock.wait_s(0.3)

    monkeypatch.setattr(runner, "_forward", step)
    monkeypatch.setattr("streamscore.runner.time.perf_counter", clock.now_s)
    runner.warm_up(30)
    assert rows == [1, 1, 1, 1]  # as many as fit into a second, and none of 30
    assert runner.step_s == pytest.approx(0.3)
