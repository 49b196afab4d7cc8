"""Everything a fresh machine needs, then every check of the project: `python3 tests`.

Takes Python 3.11 and Node 20 for granted and brings the rest: a virtual environment in `.venv` with the project and
its development tools, the Node clients of the interop tests, Chromium. Each step is skipped when nothing has changed
since it last succeeded. Arguments are handed to pytest: `python3 tests -k voice`.

Exit code 0 only if every check passed. pytest runs last, so that its closing line is the last line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
NODE_PROJECT = ROOT / "tests" / "interop" / "node"
BENCHMARKS = ROOT / "tests" / "benchmarks"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
BROWSER_FILES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)


class SetupFailed(Exception):
    """The machine lacks something that cannot be brought along; the text says what and how to get it."""


def main(arguments: Sequence[str]) -> int:
    try:
        set_up_python()
        set_up_node()
        browser = set_up_browser()
    except SetupFailed as problem:
        print(f"\n{problem}", file=sys.stderr, flush=True)
        return 1
    # Frames that are sent to each transport of a live hub; a run of pytest by hand sends a tenth.
    environment = {"VOISNAP_TEST_FUZZ_LIVE": "200000"} | os.environ | {"VOISNAP_TEST_BROWSER": browser or ""}
    failed = [name for name, command in checks() if not step(name, command, environment)]
    if failed:
        # Said before pytest's lines, which come last whatever happens.
        print(f"\nFAILED before pytest: {', '.join(failed)}", flush=True)
    # Calls in real time leave the machine idle most of the time, so two at once; not when somebody looks for something.
    passed = step("pytest", [PYTHON, "-m", "pytest", *(arguments or ("-n2", "--dist=worksteal"))], environment)
    return 0 if passed and not failed else 1


def checks() -> list[tuple[str, list[str | Path]]]:
    """What runs before pytest, as (name, command)."""
    found: list[tuple[str, list[str | Path]]] = [
        ("ruff check", [PYTHON, "-m", "ruff", "check", "."]),
        ("ruff format", [PYTHON, "-m", "ruff", "format", "--check", "."]),
        ("mypy", [PYTHON, "-m", "mypy"]),
    ]
    if (BENCHMARKS / "__main__.py").exists():
        found.append(("benchmarks, short", [PYTHON, BENCHMARKS, "--quick"]))
    return found


def set_up_python() -> None:
    """A virtual environment with the project, editable, and its development tools."""
    if sys.version_info < (3, 11):  # noqa: UP036  whoever runs this file may well have an older one
        raise SetupFailed(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]} ({sys.executable}).")
    if not PYTHON.exists():
        command = [sys.executable, "-m", "venv", VENV]
        if not step("virtual environment", command):
            raise SetupFailed(
                f"{sys.executable} could not make {VENV}.\nOn Debian and Ubuntu: apt-get install python3-venv"
            )

    def install() -> None:
        pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        # `--group` came with pip 25.1.
        if not step("pip", [*pip, "--upgrade", "pip>=25.1"]) or not step(
            "Python packages", [*pip, "--editable", ROOT, "--group", f"{ROOT / 'pyproject.toml'}:dev"]
        ):
            raise SetupFailed("The Python packages could not be installed: see above.")

    once(VENV / ".installed", [ROOT / "pyproject.toml"], install, ingredients=sys.version)


def set_up_node() -> None:
    """The SignalR client for JavaScript and the browser driver, from the lock file."""
    npm = shutil.which("npm")
    node = shutil.which("node")
    if npm is None or node is None:
        raise SetupFailed(
            "Node.js 20 or newer with npm is needed for the clients that the tests run; it is not on PATH."
        )
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        raise SetupFailed(
            f"Node.js 20 or newer is needed for the clients that the tests run, this is {version} ({node})."
        )

    def install() -> None:
        if not step(
            "Node packages", [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], directory=NODE_PROJECT
        ):
            raise SetupFailed("The Node packages could not be installed: see above.")

    lock = NODE_PROJECT / "package-lock.json"
    once(NODE_PROJECT / "node_modules" / ".installed", [lock], install, ingredients=version)


def set_up_browser() -> str | None:
    """Path of a Chromium or Chrome; None when there is none, and then the browser test fails and says so."""
    found = find_browser()
    if found is None and sys.platform == "linux" and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", "chromium"]
        step("apt-get update", ["apt-get", "update", "--quiet=2"], quiet)
        step("Chromium", install, quiet)
        found = find_browser()
    if found is None:
        print(
            "No Chromium or Chrome found: the browser test will fail. Install one (Debian: apt-get install chromium)\n"
            "or name it in VOISNAP_TEST_BROWSER.",
            flush=True,
        )
    return found


def find_browser() -> str | None:
    named = os.environ.get("VOISNAP_TEST_BROWSER")
    on_path = (shutil.which(name) for name in BROWSERS)
    in_place = (path for path in BROWSER_FILES if Path(path).exists())
    return named or next(filter(None, on_path), None) or next(in_place, None)


def once(stamp: Path, files: Sequence[Path], work: Callable[[], None], *, ingredients: str) -> None:
    """Do `work` unless it succeeded before with the same content of `files` and the same `ingredients`."""
    digest = hashlib.sha256(ingredients.encode())
    for path in files:
        digest.update(path.read_bytes())
    if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == digest.hexdigest():
        return
    work()
    stamp.write_text(json.dumps(digest.hexdigest()), encoding="utf-8")


def step(
    name: str,
    command: Sequence[str | Path],
    environment: dict[str, str] | None = None,
    *,
    directory: Path = ROOT,
) -> bool:
    """Run one command, with a heading before it and its time after it; True when it succeeded."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    code = subprocess.run([str(part) for part in command], cwd=directory, env=environment, check=False).returncode
    if name != "pytest":
        print(f"   {'ok' if code == 0 else f'exit code {code}'}, {time.monotonic() - began:.1f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
