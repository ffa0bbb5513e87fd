"""Imports run one way; see ARCHITECTURE.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "streamscore"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}

#: Layers from the bottom; what stands in none is on the level of the plug-ins and files formats, `PARTS`.
VALUES = {"types", "errors", "labels", "clock", "units"}
SCORING = {"bundle", "scorer", "outbox", "stimulation"}
LOOP = {"engine", "lane"}
USES = {"assemble", "misfit", "preflight", "score"}
COMMANDS = {"__main__", *(name for name in MODULES if name.split("_")[0] == "cli")}
LAYERS = (VALUES, None, SCORING, LOOP, USES, COMMANDS)
PARTS = 1

PLUGIN_FOLDERS = ("models", "policies", "preprocess", "rigs", "sinks", "sources", "recordings")
SHARED = {"base", "layers"}


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of all that a file imports, inside functions too; names for type checkers alone are left out."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def own(path: Path) -> set[str]:
    """Modules of the package that a file imports, as keys of `MODULES`."""
    found = set()
    for name in imported(path):
        parts = name.removeprefix("streamscore.").split(".")
        if name.startswith("streamscore."):
            found |= {".".join(parts[:n]) for n in (1, 2) if ".".join(parts[:n]) in MODULES}
    return found


def layer(module: str) -> int:
    return next((k for k, layer in enumerate(LAYERS) if layer and module in layer), PARTS)


def test_every_named_module_exists() -> None:
    named = set().union(*(layer for layer in LAYERS if layer))
    assert named <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_own_layer_or_below(module: str) -> None:
    wrong = {other for other in own(MODULES[module]) if layer(other) > layer(module)}
    assert not wrong, f"{module} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("module", sorted(VALUES))
def test_the_lowest_layer_needs_nothing_but_numpy(module: str) -> None:
    outside = (
        {name.split(".")[0] for name in imported(MODULES[module])} - sys.stdlib_module_names - {"streamscore"}
    )
    assert outside <= {"numpy", "pylsl"}  # pylsl inside LslClock alone


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in PLUGIN_FOLDERS])
def test_a_plug_in_knows_no_other_plug_in(module: str) -> None:
    folder, name = module.split(".")
    for other in own(MODULES[module]):
        other_folder, _, other_name = other.rpartition(".")
        if other_folder == folder:
            assert other_name in SHARED, f"{module} imports its sibling {other}"
        elif other_folder in PLUGIN_FOLDERS:
            assert other == "recordings.base", f"{module} imports {other} of another folder"
        assert name != "base" or other_folder != folder, f"{module} imports {other}"


def test_no_module_imports_itself_in_a_circle() -> None:
    waiting = {module: own(path) for module, path in MODULES.items()}
    while waiting:
        free = {module for module, needs in waiting.items() if not needs & set(waiting)}
        assert free, f"a circle among {', '.join(sorted(waiting))}"
        waiting = {module: needs for module, needs in waiting.items() if module not in free}


@pytest.mark.parametrize("module", MODULES)
def test_the_package_never_imports_training_or_tools(module: str) -> None:
    others = {name.split(".")[0] for name in imported(MODULES[module])} & {"offline", "tools", "tests"}
    # Commands import training inside their functions; the test of the command line below sees that they do.
    assert others <= ({"offline"} if module in COMMANDS else set())


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled(module: str) -> None:
    names = set(imported(MODULES[module]))
    assert not {name.split(".")[0] for name in names} & {"pickle", "shelve", "joblib", "cloudpickle", "dill"}
    text = MODULES[module].read_text(encoding="utf-8")
    assert "torch.load" not in text
    assert "allow_pickle=True" not in text


def test_threads_are_pinned_before_torch_looks() -> None:
    code = (
        "import os, sys; from typer.testing import CliRunner; from streamscore.cli import app; "
        "r = CliRunner().invoke(app, ['run', '--pin-threads']); "
        "print(os.environ.get('OMP_PROC_BIND'), 'torch' in sys.modules, type(r.exception).__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["true", "False", "ConfigError"]


def test_the_command_line_answers_without_torch() -> None:
    heavy = {"torch", "scipy", "pylsl", "zmq", "offline"}
    code = f"import sys, streamscore.cli; print(*sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
