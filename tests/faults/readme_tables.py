"""The tables of the README's section on faults, made from what the reader goes by.

`python tests/faults/readme_tables.py` writes them into the README.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from voisnap_mock.agents.combining import Key
from voisnap_mock.faults.magic import AGENTS, rules_without
from voisnap_mock.faults.reading import DO, IMPAIR, KEYS, RULE, WHEN
from voisnap_mock.faults.rules import POINTS
from voisnap_mock.faults.writing import write_rule

README = Path(__file__).parent.parent.parent / "README.md"


def _table(*rows: Iterable[str]) -> str:
    first, *others = ["| " + " | ".join(row) + " |" for row in rows]
    columns = first.count(" | ") + 1
    return "\n".join([first, "| " + " | ".join(["---"] * columns) + " |", *others])


def _keys(what: str, keys: Iterable[Key]) -> str:
    return _table((what, ""), *((f"`{key.name}`", key.help) for key in keys))


def _flow(value: object) -> str:
    """Decoded JSON as people write YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _magic() -> Iterator[tuple[str, str]]:
    rules = list(rules_without(()))
    for agent in AGENTS:
        its = [write_rule(rule) for rule in rules if rule.when.agent == agent]
        for rule in its:
            del rule["id"], rule["when"]["agent"]
        shown = [{key: value for key, value in rule.items() if value} for rule in its]
        yield f"`{agent}`", ", ".join(f"`{_flow(rule)}`" for rule in shown)


TABLES = {
    "points": _table(
        ("`at`", "what crosses there", "what `do` may be"),
        *(
            (f"`{point.name}`", point.summary, ", ".join(f"`{KEYS[action]}`" for action in point.actions))
            for point in POINTS
        ),
    ),
    "rules": _keys("a fault has", RULE.keys),
    "when": _keys("`when`", WHEN.keys),
    "do": _keys("`do`", DO.keys),
    "impair": _keys("`impair`", IMPAIR.keys),
    "magic": _table(("agent", "its fault"), *_magic()),
}


def with_tables(text: str) -> str:
    """The text with each table in its place, between `<!-- faults: points -->` and the next empty line."""
    for name, table in TABLES.items():
        mark = f"<!-- faults: {name} -->\n"
        fresh = (mark + table + "\n").replace("\\", r"\\")
        text, count = re.subn(rf"{re.escape(mark)}(?:\|.*\n)*", fresh, text)
        assert count == 1, f"the README has {count} places for the table {name}"
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
