from __future__ import annotations

from pathlib import Path

from streamscore.preflight import preflight


def test_every_stream_is_compared_and_named(tmp_path: Path) -> None:
    rig = tmp_path / "rig.yaml"
    rig.write_text(
        "source: {kind: noise, sfreq: 16.8, frame_shape: [16, 16]}\n"
        "bundle:\n"
        "  model: cnn_bilstm\n"
        "  model_args: {variant: causal, frame_shape: [16, 16], n_filters: 2, n_hidden: 2, n_blocks: 2}\n"
        "streams:\n"
        "  wheel: {source: {kind: noise, sfreq: 100}}\n"
        "  eeg: {source: {kind: noise, sfreq: 100}, bundle: {model: deepsleepnet}, hop_s: 0.7}\n"
        "record: null\n"
    )
    rows = preflight(rig, 0.0)
    by_name = {row.what: row for row in rows}
    assert by_name["frames"].found == "16 × 16"
    assert by_name["wheel: noise stream"].fits
    assert not by_name["eeg: hop (s)"].fits
    assert [row.what for row in rows if not row.fits] == ["eeg: hop (s)"]


def test_what_only_the_rig_can_tell_is_asked_for(tmp_path: Path) -> None:
    rig = tmp_path / "rig.yaml"
    rig.write_text(
        "source: {kind: noise, sfreq: 16.8, frame_shape: [16, 16]}\n"
        "bundle:\n"
        "  model: cnn_bilstm\n"
        "  model_args: {variant: causal, frame_shape: [16, 16], n_filters: 2, n_hidden: 2, n_blocks: 2}\n"
        "  preprocess: [{kind: dark_frame}]\n"
        "record: null\n"
    )
    (row,) = [row for row in preflight(rig, 0.0) if not row.fits]
    assert row.what == "bundle"
    assert "calibration" in row.found
    rig.write_text(rig.read_text() + "calibration: {dark_frame: {dark: 100}}\n")
    assert all(row.fits for row in preflight(rig, 0.0))
    rig.write_text(rig.read_text() + "policy: {kind: dwell, states: [REM]}\n")
    rig.write_text(rig.read_text().replace("dark_frame: {dark", "affine: {dark"))
    (row,) = [row for row in preflight(rig, 0.0) if not row.fits]
    assert "calibration names affine, but the steps of its chain are dark_frame" in row.found
