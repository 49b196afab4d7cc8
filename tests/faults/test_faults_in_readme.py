"""The README's section on faults: its tables are made from the reader's, its examples run."""

from __future__ import annotations

import re

from readme_tables import README, with_tables

from voisnap_mock.config import parse_agents
from voisnap_mock.faults.reading import faults_of

SECTION = re.search(r"^## Faults\n.*?(?=^## )", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
assert SECTION is not None


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION[0], re.DOTALL) if SECTION else ()
    return str(found)


def test_its_tables_are_those_of_the_code() -> None:
    """When this fails: `python tests/faults/readme_tables.py`."""
    text = README.read_text(encoding="utf-8")
    assert with_tables(text) == text


def test_the_faults_it_shows_are_read() -> None:
    faults = faults_of(parse_agents(block("yaml") + "agents: {agt_support: {}}", source="README.md"))
    assert len(faults.rules) == 6
    assert len(faults.schedules) == 1


def test_the_call_it_shows_goes_as_it_says() -> None:
    exec(compile(block("python"), "README.md", "exec", dont_inherit=True), {"__name__": "readme"})
