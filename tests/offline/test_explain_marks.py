"""Pictures of simulated recordings, and of those that were learnt from, say so."""

from __future__ import annotations

import json
from pathlib import Path

from offline.explain.marks import marks_of
from tests.offline.scores import level_bundle
from tests.offline.toys import write_toy


def test_simulated_recordings_and_those_learnt_from_are_marked(tmp_path: Path) -> None:
    data = write_toy(tmp_path / "toy", 2, n_epochs=20)
    taught = level_bundle(provenance={"subjects": {"train": ["m0@0-1h"], "validation": []}})
    assert marks_of(taught, data / "m0.npz") == ("the network learnt from m0",)
    assert marks_of(taught, data / "m1.npz") == marks_of(level_bundle(), data / "m0.npz") == ()
    (data / "dataset.json").write_text(json.dumps({"kind": "plain", "vocabulary": "MOUSE3", "simulated": True}))
    assert marks_of(taught, data / "m0.npz") == ("SIMULATED recording", "the network learnt from m0")
    assert marks_of(taught, data / "m1.npz") == ("SIMULATED recording",)


def test_a_recording_outside_a_data_set_has_no_marks(tmp_path: Path) -> None:
    assert marks_of(level_bundle(), tmp_path / "a" / "night.edf") == ()
