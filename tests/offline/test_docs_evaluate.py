"""The example of docs/evaluate.md works as it stands there, on real recordings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")


@pytest.mark.skipif(
    not (ROOT.parent / "shared" / "data" / "human_ucddb").is_dir(), reason="needs ../shared/data/human_ucddb"
)
def test_the_example_prints_kappa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "docs/evaluate.md", "exec"), {})
    printed = capsys.readouterr().out
    kappa = float(re.search(r"'value': ([0-9.]+)", printed)[1])  # type: ignore[index]
    assert kappa > 0.9  # Wake against N3 of two nights that the bundle was trained on


def test_options_that_the_page_names_exist() -> None:
    import typer
    from click.testing import CliRunner

    from streamscore.cli_evaluate import evaluate

    app = typer.Typer()
    app.command()(evaluate)
    command = typer.main.get_command(app)
    known = {name for parameter in command.params for name in parameter.opts}
    assert set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", PAGE)) <= known
    assert CliRunner().invoke(command, ["--help"]).exit_code == 0
