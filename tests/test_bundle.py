from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from streamscore import bundle as bundle_module
from streamscore.bundle import Bundle, find_bundle, load_bundle, save_bundle, shipped_bundles
from streamscore.errors import BundleCorruptError, BundleError, BundleMismatchError
from streamscore.types import StreamInfo
from tests.bundles import EPOCH, MODEL_ARGS, small_spec, untrained, write_bundle


def rewritten(path: Path, out: Path, change: Any) -> Path:
    """Write a bundle anew, hash included, after ``change(header, tensors)``: damage that a hash cannot see."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["streamscore"])
    tensors = load(content)
    header.pop("sha256")
    change(header, tensors)
    sha256 = bundle_module._content_hash(header, tensors)
    out.write_bytes(save(tensors, {"streamscore": json.dumps({**header, "sha256": sha256})}))
    return out


class TestRoundTrip:
    """What is loaded is what was saved."""

    def test_the_network_answers_as_before_to_the_last_bit(self, small: Bundle) -> None:
        model = untrained()
        x = torch.randn(2, 1, 3 * EPOCH, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            wanted, got = (m(x, m.initial_state(2))[0] for m in (model, small.model))
        assert torch.equal(got, wanted)

    def test_the_description_comes_back_whole(self, small: Bundle) -> None:
        assert small.spec == small_spec()
        assert small.spec.labels == ("Wake", "NREM", "REM")

    def test_the_network_is_ready_to_score_and_cannot_be_trained_by_accident(self, small: Bundle) -> None:
        assert not small.model.training
        assert not any(p.requires_grad for p in small.model.parameters())

    def test_the_hash_is_returned_and_found_again(self, tmp_path: Path) -> None:
        sha256 = write_bundle(tmp_path / "a.safetensors")
        assert load_bundle(tmp_path / "a.safetensors").sha256 == sha256
        assert len(sha256) == 64

    def test_equal_content_has_an_equal_hash_and_other_content_another(self, tmp_path: Path) -> None:
        hashes = [write_bundle(tmp_path / f"{k}.safetensors", card=card) for k, card in enumerate("aab")]
        assert hashes[0] == hashes[1] != hashes[2]

    def test_saving_makes_the_folder_and_returns_the_network_as_it_was(self, tmp_path: Path) -> None:
        model = untrained().train()
        save_bundle(tmp_path / "new" / "folder" / "b.safetensors", small_spec(), model)
        assert load_bundle(tmp_path / "new" / "folder" / "b.safetensors").spec.name == "small"

    def test_the_chain_is_fresh_each_time(self, small: Bundle) -> None:
        x = np.random.default_rng(0).standard_normal((300, 1)).astype(np.float32)
        np.testing.assert_array_equal(small.chain().push(x, 0), small.chain().push(x, 0))


class TestDamage:
    """Whatever happened to the file, it is refused before it scores anything."""

    def test_truncation_at_any_place_is_refused(self, small_path: Path, tmp_path: Path) -> None:
        content = small_path.read_bytes()
        path = tmp_path / "cut.safetensors"
        places = {0, 1, 7, 8, 9, len(content) - 1, *range(10, len(content), max(len(content) // 150, 1))}
        for n in sorted(places):
            path.write_bytes(content[:n])
            with pytest.raises(BundleCorruptError, match=r"cut\.safetensors"):
                load_bundle(path)

    def test_a_flipped_bit_anywhere_is_refused(self, small_path: Path, tmp_path: Path) -> None:
        content = small_path.read_bytes()
        header_end = 8 + int.from_bytes(content[:8], "little")
        rng = np.random.default_rng(0)
        places = {
            *range(0, header_end, 5),
            *rng.integers(header_end, len(content), 100).tolist(),
            len(content) - 1,
        }
        path = tmp_path / "flipped.safetensors"
        accepted = []
        for at in sorted(places):
            damaged = bytearray(content)
            damaged[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            try:
                load_bundle(path)
            except BundleCorruptError:
                continue
            accepted.append(at)
        assert accepted == []

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"e-05", b"E-05"),
            (b"0.30000000000000004", b"0.30000000000000005"),
            (b"\\\\u00b5", b"\\\\u00B5"),
            (b" " * 1, b"\t"),
        ],
    )
    def test_a_header_that_means_the_same_but_reads_otherwise_is_refused(
        self, tmp_path: Path, old: bytes, new: bytes
    ) -> None:
        path = tmp_path / "other.safetensors"
        write_bundle(path)
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + size]
        if old == b" ":  # padding behind the header
            grown = header.rstrip(b" ") + b"\t" + b" " * 7
            content = len(grown).to_bytes(8, "little") + grown + content[8 + size :]
        else:
            assert header.count(old) == 1
            content = content[:8] + header.replace(old, new) + content[8 + size :]
        path.write_bytes(content)
        with pytest.raises(BundleCorruptError, match="header was altered"):
            load_bundle(path)

    def test_appended_bytes_are_refused(self, small_path: Path, tmp_path: Path) -> None:
        path = tmp_path / "longer.safetensors"
        path.write_bytes(small_path.read_bytes() + b"\0")
        with pytest.raises(BundleCorruptError):
            load_bundle(path)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not a bundle at all",
            b"\x80\x04\x95pickle",
            (2).to_bytes(8, "little") + b"{}",
            (2).to_bytes(8, "little") + b"[]",
            (38).to_bytes(8, "little") + b'{"__metadata__":{"streamscore":"[1]"}}',
        ],
    )
    def test_other_files_are_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "other.safetensors"
        path.write_bytes(content)
        with pytest.raises(BundleCorruptError, match=r"other\.safetensors"):
            load_bundle(path)

    def test_a_pytorch_checkpoint_is_refused(self, tmp_path: Path) -> None:
        torch.save(untrained().state_dict(), tmp_path / "weights.pt")
        with pytest.raises(BundleCorruptError, match="not a streamscore bundle"):
            load_bundle(tmp_path / "weights.pt")

    @pytest.mark.parametrize(("key", "value"), [("version", 3), ("version", 0), ("format", "another")])
    def test_another_version_says_which_and_what_to_do(
        self, small_path: Path, tmp_path: Path, key: str, value: object
    ) -> None:
        path = rewritten(small_path, tmp_path / "v.safetensors", lambda header, _: header.update({key: value}))
        with pytest.raises(BundleCorruptError, match=f"{value!r}.*this streamscore reads.*versions 1 and 2"):
            load_bundle(path)


class TestGoldenVectors:
    """A bundle is scored again when it is loaded."""

    def test_a_machine_that_computes_something_else_is_refused(self, small_path: Path, tmp_path: Path) -> None:
        def shift(_: Any, tensors: dict[str, torch.Tensor]) -> None:
            tensors["golden.probs"] += torch.tensor([1e-3, -1e-3, 0.0])

        with pytest.raises(BundleCorruptError, match=r"golden vectors differ by 1\.0e-03 \(tolerance 1e-04\)"):
            load_bundle(rewritten(small_path, tmp_path / "g.safetensors", shift))

    def test_other_weights_are_refused(self, small_path: Path, tmp_path: Path) -> None:
        def negate(_: Any, tensors: dict[str, torch.Tensor]) -> None:
            tensors["model.head.weight"].neg_()

        with pytest.raises(BundleCorruptError, match="golden vectors differ"):
            load_bundle(rewritten(small_path, tmp_path / "g.safetensors", negate))

    def test_weights_that_are_no_numbers_are_refused(self, tmp_path: Path) -> None:
        model = untrained()
        with torch.no_grad():
            model.head.bias[0] = torch.nan
        with pytest.raises(BundleError, match="bundle 'small': the network answers with NaN"):
            save_bundle(tmp_path / "nan.safetensors", small_spec(), model)
        assert not (tmp_path / "nan.safetensors").exists()

    def test_they_cover_two_steps_so_that_the_carried_state_is_checked(self, small_path: Path) -> None:
        tensors = load(small_path.read_bytes())
        assert tensors["golden.probs"].shape == (1, 2, 1, 3)

    def test_a_bundle_of_the_first_version_brings_its_own_input(self, small_path: Path, tmp_path: Path) -> None:
        def as_first_version(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
            header["version"] = 1
            x = torch.randn(1, 1, 2 * EPOCH, generator=torch.Generator().manual_seed(1))
            model = untrained()
            with torch.inference_mode():
                logits, _ = model(x, model.initial_state(1))
            tensors["golden.x"] = x
            tensors["golden.probs"] = torch.softmax(logits[:, :, 0], dim=-1).clone()

        old = rewritten(small_path, tmp_path / "old.safetensors", as_first_version)
        assert load_bundle(old).spec == load_bundle(small_path).spec


class TestDescription:
    """A description that cannot be carried out is refused when the bundle is loaded, not during a run."""

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"model": "tinysleepnets"}, "network 'tinysleepnets' cannot be built.*choose one of .*tinysleepnet"),
            (
                {"model_args": {**MODEL_ARGS, "n_layers": 3}},
                "(?s)network 'tinysleepnet' cannot be built.*n_layers",
            ),
            ({"model_args": {**MODEL_ARGS, "n_hidden": 9}}, "weights do not fit network 'tinysleepnet'"),
            ({"model_args": {**MODEL_ARGS, "n_classes": 5}}, "network has 5 classes, but MOUSE3 has 3"),
            ({"channels": ["EEG", "EMG"]}, "network .* takes 1 channel, but its preprocessing gives 2 channels"),
            ({"vocabulary": "MOUSE"}, "unknown label vocabulary 'MOUSE'"),
            (
                {"preprocess": [{"kind": "notch"}]},
                "preprocessing cannot be built: unknown preprocess kind 'notch'",
            ),
            ({"preprocess": [{"kind": "bandpass", "low": 1}]}, "preprocessing cannot be built"),
            ({"preprocess": [{"kind": "bandpass", "high_hz": 40.0}]}, "high_hz 40.0 must lie below"),
            ({"unit": "pT"}, "description does not fit this version"),
            ({"colour": "red"}, "description does not fit this version"),
            ({"hop_s": 0}, "description does not fit this version"),
        ],
    )
    def test_it_names_what_is_wrong(
        self, small_path: Path, tmp_path: Path, changes: dict[str, Any], text: str
    ) -> None:
        path = rewritten(small_path, tmp_path / "d.safetensors", lambda header, _: header["spec"].update(changes))
        with pytest.raises(BundleError, match=text):
            load_bundle(path)


class TestMatch:
    """A bundle and a stream."""

    def info(self, **changes: Any) -> StreamInfo:
        fields = {"name": "amp", "sfreq": 64.0, "channels": ("EEG",), "units": ("uV",)}
        return StreamInfo(**{**fields, **changes})

    @pytest.mark.parametrize("unit", ["uV", "µV", "μV", "microvolts", " UV "])
    def test_a_stream_that_fits_is_taken_however_its_unit_is_spelt(self, small: Bundle, unit: str) -> None:
        small.check(self.info(units=(unit,)))
        assert all(fits for *_, fits in small.differences(self.info(units=(unit,))))

    def test_every_difference_is_listed_with_the_remedy(self, small: Bundle) -> None:
        with pytest.raises(BundleMismatchError) as caught:
            small.check(self.info(sfreq=128.0, channels=("EMG",), units=("mV",)))
        message = str(caught.value)
        assert "bundle 'small' does not fit stream 'amp'" in message
        assert "rate (Hz): expected 64, got 128" in message
        assert "channels: expected EEG, got EMG" in message
        assert "unit of EMG: expected uV, got mV" in message
        assert "source.channels" in message

    def test_a_unit_that_is_not_stated_does_not_fit_one_that_is(self, small: Bundle) -> None:
        with pytest.raises(BundleMismatchError, match="unit of EEG: expected uV, got not stated"):
            small.check(self.info(units=("",)))

    def test_a_chain_that_removes_the_scale_takes_any_unit(self, tmp_path: Path) -> None:
        write_bundle(tmp_path / "any.safetensors", unit="any")
        load_bundle(tmp_path / "any.safetensors").check(self.info(units=("furlong",)))

    @pytest.mark.parametrize("sfreq", [63.99, 64.01])
    def test_a_rate_that_is_nearly_right_is_wrong(self, small: Bundle, sfreq: float) -> None:
        with pytest.raises(BundleMismatchError, match="rate"):
            small.check(self.info(sfreq=sfreq))


class TestFinding:
    """By path, or by the name of one that ships."""

    def test_a_path_is_itself(self, small_path: Path) -> None:
        assert find_bundle(str(small_path)) == small_path

    def test_an_unknown_name_lists_those_that_ship(self) -> None:
        with pytest.raises(BundleError, match=r"no bundle 'nothing'.*one of those that ship") as caught:
            find_bundle("nothing")
        assert all(name in str(caught.value) for name in shipped_bundles())

    def test_each_that_ships_loads(self) -> None:
        assert all(load_bundle(name).spec.labels for name in shipped_bundles())
