from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from streamscore import plugins
from streamscore.errors import ConfigError

FOLDERS = ("models", "policies", "preprocess", "rigs", "sinks", "sources")
ALL = [(folder, kind) for folder in FOLDERS for kind in plugins.kinds(folder)]


@pytest.mark.parametrize(("folder", "kind"), ALL)
def test_each_plug_in_has_a_strict_config_and_a_build(folder: str, kind: str) -> None:
    module = plugins.load(folder, kind)
    assert issubclass(module.Config, BaseModel)
    assert module.Config.model_config["extra"] == "forbid"
    assert module.Config.model_config["frozen"]
    assert callable(module.build)
    if folder not in ("models", "preprocess"):  # these keep their kind outside of their arguments
        assert module.Config.model_fields["kind"].default == kind


def test_kinds_are_the_files_of_the_folder() -> None:
    for folder in FOLDERS:
        files = {path.stem for path in Path(plugins.__file__).with_name(folder).glob("*.py")}
        assert set(plugins.kinds(folder)) == files - plugins.SHARED_FILES - {"__init__"}


@pytest.mark.parametrize("kind", ["", "flie", "base", "layers", "../config", "file.py", "os"])
def test_an_unknown_kind_lists_the_choices(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown sources kind.*file, lsl, .*noise, synthetic"):
        plugins.load("sources", kind)


def test_a_driver_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    monkeypatch.delitem(sys.modules, "streamscore.sinks.zmq_pub", raising=False)
    with pytest.raises(ConfigError, match=r"sinks kind 'zmq_pub' needs the package 'zmq'.*pip install zmq"):
        plugins.load("sinks", "zmq_pub")
