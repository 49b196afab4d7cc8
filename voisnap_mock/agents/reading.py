"""Reading an agents file, and the JSON Schema of one; both by `agents.table`."""

from __future__ import annotations

from dataclasses import replace

from voisnap_mock.agents.nodes import Refused, compose
from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.agents.shape import Schema
from voisnap_mock.agents.table import NO_SECTIONS, Sections, file_with
from voisnap_mock.errors import AgentsFileError, Problem

_MOST_PROBLEMS = 100


def parse_agents(text: str | bytes, *, source: str, sections: Sections = NO_SECTIONS) -> AgentsFile:
    """Read an agents file; `source` is its name for messages, `sections` are keys that it may have besides.

    Only the form of `wav` paths is checked: `AgentsFile.prompts` lists them for whoever knows the folder.

    Raises:
        AgentsFileError: with every problem that was found, each with line and column.
    """
    try:
        return replace(file_with(sections).read(compose(text), []), source=source)
    except Refused as refused:
        raise AgentsFileError(source, worth_telling(refused.problems)) from None


def worth_telling(problems: list[Problem]) -> list[Problem]:
    """In the order of the file, each once, and no more than people read."""
    # What an alias repeats is wrong once.
    problems = sorted(set(problems))
    if len(problems) <= _MOST_PROBLEMS:
        return problems
    line, column = problems[_MOST_PROBLEMS].line, problems[_MOST_PROBLEMS].column
    more = f"{len(problems) - _MOST_PROBLEMS} more problems from here on"
    return [*problems[:_MOST_PROBLEMS], Problem(line, column, more)]


def agents_schema(sections: Sections = NO_SECTIONS) -> Schema:
    """JSON Schema (2020-12) of an agents file.

    It refuses nothing that `parse_agents` takes. What a schema cannot say (limits of durations, patterns that do not
    compile, names that nothing sets) only the reader refuses.
    """
    definitions: dict[str, Schema] = {}
    root = file_with(sections).schema(definitions)["$ref"].removeprefix("#/$defs/")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "voisnap-mock agents file",
        **definitions.pop(root),
        "$defs": definitions,
    }
