"""The projects of `tests/examples/` run as their owners would run them, by the words of the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import clean_environment

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "tests" / "examples"
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = ("pytest_sync/test_refund.py", "pytest_async/test_bot.py", "node_exec/client.test.mjs", "shell_exec/check.sh")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy that knows nothing of this project, with the client for JavaScript installed."""
    copy = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    (copy / "node_exec" / "node_modules").symlink_to(ROOT / "tests" / "interop" / "node" / "node_modules")
    return copy


def run(command: list[str], folder: Path) -> str:
    bin_folder = str(Path(sys.executable).parent)
    environment = clean_environment(PATH=f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SHOWN)
def test_the_readme_shows_the_file_as_it_is(name: str) -> None:
    assert (EXAMPLES / name).read_text(encoding="utf-8").strip() in README


@pytest.mark.parametrize("name", ["pytest_sync", "pytest_async"])
def test_a_suite_for_pytest_passes(name: str, examples: Path) -> None:
    output = run([sys.executable, "-m", "pytest", "-p", "no:asyncio", name], examples)
    assert "2 passed" in output


@pytest.mark.interop
def test_the_suite_of_a_node_project_passes(examples: Path) -> None:
    output = run(command_of("npm test"), examples / "node_exec")
    assert re.search(r"pass 2\b", output)


def test_a_shell_script_passes(examples: Path) -> None:
    output = run(command_of("./check.sh"), examples / "shell_exec")
    assert "Sure. What is the order number?" in output


def command_of(what: str) -> list[str]:
    """The line of the README that runs it."""
    (line,) = re.findall(rf"^(voisnap-mock exec .*-- {re.escape(what)})", README, re.MULTILINE)
    return str(line).split()
