"""`python3 tests`: what it does besides running the tools."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def command() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_command", HERE / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_work_that_succeeded_is_not_done_again_until_its_ingredients_change(
    command: ModuleType, tmp_path: Path
) -> None:
    done: list[str] = []
    file = tmp_path / "file"
    file.write_text("1")

    def once(ingredients: str) -> None:
        command.once(tmp_path / "stamp", [file], lambda: done.append(ingredients), ingredients=ingredients)

    once("a")
    once("a")
    assert done == ["a"]
    file.write_text("2")
    once("a")
    once("b")
    once("b")
    assert done == ["a", "a", "b"]


def test_work_that_failed_is_done_again(command: ModuleType, tmp_path: Path) -> None:
    attempts: list[int] = []

    def fail() -> None:
        attempts.append(1)
        raise command.SetupFailed("no")

    for _ in range(2):
        with pytest.raises(command.SetupFailed):
            command.once(tmp_path / "stamp", [], fail, ingredients="")
    assert len(attempts) == 2


def test_a_step_tells_how_its_command_ended(command: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.step("good", [sys.executable, "-c", "print('hello')"])
    assert not command.step("bad", [sys.executable, "-c", "raise SystemExit(3)"])

    printed = capfd.readouterr().out
    assert printed.index("== good") < printed.index("hello") < printed.index("ok, ")
    assert "exit code 3" in printed


def test_a_browser_can_be_named(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOISNAP_TEST_BROWSER", "/opt/my-browser")

    assert command.find_browser() == "/opt/my-browser"


def test_the_build_machine_runs_this_command_and_nothing_else() -> None:
    script = (HERE.parent / ".ci" / "run").read_text(encoding="utf-8")

    assert script.splitlines()[-1] == "exec python3 tests"
