"""`validate`, `init` and `schema`: agents files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.cli.console import Span, open_console, print_json
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.errors import ConfigError, Problem, TextError

DEFAULT_FILE = Path("agents.yaml")
RECORDINGS = "recordings"
STANDARD_INPUT = Path("-")


def read_agents(path: Path) -> AgentsFile:
    """The agents file at `path`; `-` is standard input. Whether the prompts it names exist is not looked at.

    Raises:
        AgentsFileError: with every problem of the content.
        ConfigError: if it cannot be read at all.
    """
    from voisnap_mock.config import parse_agents

    if path == STANDARD_INPUT:
        return parse_agents(sys.stdin.buffer.read(), source="<stdin>")
    try:
        return parse_agents(path.read_bytes(), source=str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _check(path: Path) -> str:
    """What is in a file of agents, or of faults alone; the prompts of agents must be there too.

    Raises:
        TextError: with every problem of the content.
        ConfigError: if it cannot be read at all.
    """
    from voisnap_mock.config import AgentsSource
    from voisnap_mock.faults.reading import is_about_faults, read_faults

    if path != STANDARD_INPUT and path.is_file() and is_about_faults(text := path.read_bytes()):
        return _counted(len(read_faults(text, source=str(path), ids=None, events=None).rules), "fault")
    file = read_agents(path) if path == STANDARD_INPUT else AgentsSource(path).load()
    return _counted(len(file.agents), "agent")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def validate(files: Sequence[Path], *, as_json: bool) -> None:
    """Print each problem of each file.

    Raises:
        ConfigError: if there is nothing to check.
        SystemExit: with 3 if there is a problem.
    """
    if not files:
        if not DEFAULT_FILE.exists():
            raise ConfigError("there is no agents.yaml here; name the files to check, or write one with init")
        files = [DEFAULT_FILE]
    problems: list[tuple[str, Problem]] = []
    console = open_console()
    for path in files:
        try:
            content = _check(path)
        except TextError as error:
            problems += [(error.source, problem) for problem in error.problems]
        except ConfigError as error:
            problems.append((str(path), Problem(0, 0, str(error))))
        else:
            if not as_json:
                console.line(Span("✓ ", "green"), f"{path}: {content}, no problems")
    if as_json:
        print_json(
            [
                {"file": name, "line": problem.line, "column": problem.column, "message": problem.message}
                for name, problem in problems
            ]
        )
    else:
        for name, problem in problems:
            place = f"{name}:{problem.line}:{problem.column}:" if problem.line else f"{name}:"
            console.line(Span(place, "bold"), f" {problem.message}")
    if problems:
        sys.exit(3)


def init(directory: Path) -> None:
    """Write the starter files that are not there yet.

    Raises:
        CheckFailed: if a file cannot be written.
    """
    console = open_console()
    starter = resources.files("voisnap_mock.cli") / "starter"
    files = {
        "agents.yaml": starter / "agents.yaml",
        "recordings/README.md": starter / "recordings.md",
        "tests/test_voisnap.py": starter / "test_voisnap.py.txt",
    }
    for name, source in files.items():
        target = directory / name
        if target.exists():
            console.line(Span("  kept   ", "dim"), str(target))
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as error:
            raise CheckFailed(f"{target}: cannot be written: {error.strerror}") from error
        console.line(Span("  wrote  ", "green"), str(target))
    for folder in ("prompts", "utterances"):
        (directory / RECORDINGS / folder).mkdir(parents=True, exist_ok=True)
    console.line()
    console.line("Next:")
    there = "" if directory == Path() else f"cd {directory} && "
    console.table(
        [
            (Span(f"{there}voisnap-mock serve", "bold"), "serve agents.yaml; edit it and hear the difference"),
            (Span("voisnap-mock call agt_support --say 'I want a refund'", "bold"), "in another terminal"),
            (Span("pytest tests/test_voisnap.py", "bold"), "the same as a test; needs pytest"),
        ]
    )


def schema() -> None:
    """Print the JSON Schema of agents files."""
    from voisnap_mock.config import agents_schema

    print_json(agents_schema())
