"""Shapes: small parts from which the table of an agents file is built.

A shape reads a node into a value and says what it accepts, as JSON Schema (2020-12). Here are shapes of single
values; `agents.combining` builds larger ones, `agents.table` and `agents.rules` the file. Whoever reads those learns
the file format, and reader, schema and reference cannot drift apart.

Reading never stops at the first problem: a shape that holds others reads them all and raises `Refused` with
everything found. What only a larger whole can judge (a `goto` knows no states) is noted down while reading and
checked by the shape of that whole.

Shapes are compared by nobody and printed by nobody: without those methods their classes are made three times faster,
which every start of the server feels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from voisnap_mock.agents.nodes import (
    ListNode,
    MapNode,
    Node,
    Refused,
    ScalarNode,
    cut,
    plain_value,
    quoted,
    refuse,
    scalar_value,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Schema = dict[str, Any]


class Note(NamedTuple):
    """Something read that a larger shape will look at: its kind, its text, where it stands."""

    kind: str
    text: str
    node: Node


class Shape(Protocol[T_co]):
    """What may stand at a place of the file."""

    @property
    def expected(self) -> str:
        """What it accepts, as it fits after "expected"."""

    def accepts(self, node: Node) -> bool:
        """Whether the node is of the kind that this shape reads, right or wrong: how `Either` chooses."""

    def read(self, node: Node, notes: list[Note]) -> T_co:
        """The value. Raises `Refused` with all that is wrong in the node."""

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """The shape as JSON Schema; named parts go into `definitions`."""


def found(node: Node) -> str:
    """What a node is, for messages: `the text "x"`, `the number 5`, `a list`, `nothing`."""
    match node:
        case ListNode():
            return "a list"
        case MapNode():
            return "a mapping"
        case ScalarNode():
            try:
                value = scalar_value(node)
            except Refused:
                value = 0
            if value is None:
                return "nothing"
            if isinstance(value, bool):
                return node.text
            return quoted(node.text) if isinstance(value, str) else f"the number {cut(node.text)}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`; did you mean "x"?` when something known is near, else a list of what is known."""
    # Only a wrong file pays for this import.
    from difflib import get_close_matches

    by_letters = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), by_letters, n=1)
    if near:
        return f'; did you mean "{by_letters[near[0]]}"?'
    return f"; known here: {', '.join(known)}" if known else ""


# --- Scalars --------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False, repr=False)
class Text:
    """A text that is not empty.

    Attributes:
        pattern: what it must match from end to end; keep to what Python and JSON Schema both understand.
        says: what `pattern` means, for people.
        is_secret: never show it in a message.
    """

    pattern: str | None = None
    says: str = ""
    is_secret: bool = False
    may_be_empty: bool = False

    @property
    def expected(self) -> str:
        return self.says or "text"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode)

    def read(self, node: Node, notes: list[Note]) -> str:
        if not isinstance(node, ScalarNode):
            raise refuse(node, f"expected {self.expected}, found {found(node)}")
        value = scalar_value(node) if node.is_plain else node.text
        if not isinstance(value, str):
            shown = "something else" if self.is_secret and value is not None else found(node)
            remedy = "" if value is None else ": put the text in quotes"
            raise refuse(node, f"expected {self.expected}, found {shown}{remedy}")
        if not (value.strip() or self.may_be_empty):
            raise refuse(node, f"expected {self.expected}, found an empty text")
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            raise refuse(node, f"expected {self.expected}" + ("" if self.is_secret else f", found {found(node)}"))
        return value

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        if self.pattern is not None:
            return {"type": "string", "pattern": self.pattern}
        return {"type": "string"} if self.may_be_empty else {"type": "string", "pattern": r"\S"}


@dataclass(slots=True, eq=False, repr=False)
class Flag:
    """true or false."""

    expected: str = "true or false"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode)

    def read(self, node: Node, notes: list[Note]) -> bool:
        value = scalar_value(node) if isinstance(node, ScalarNode) else None
        if not isinstance(value, bool):
            raise refuse(node, f"expected true or false, found {found(node)}")
        return value

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "boolean"}


@dataclass(slots=True, eq=False, repr=False)
class Integer:
    """A whole number from `least` to `most`; of the node's kind is only a whole number, so it goes before `Text`."""

    least: int = 0
    most: int = 2**53

    @property
    def expected(self) -> str:
        upper = f" to {self.most}" if self.most < 2**53 else " or more"
        return f"a whole number, {self.least}{upper}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode) and type(_quietly(node)) is int

    def read(self, node: Node, notes: list[Note]) -> int:
        value = scalar_value(node) if isinstance(node, ScalarNode) else None
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise refuse(node, f"expected {self.expected}, found {found(node)}")
        return value

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(slots=True, eq=False, repr=False)
class Number:
    """A number from `least` to `most`."""

    least: float
    most: float

    @property
    def expected(self) -> str:
        return f"a number, {self.least:g} to {self.most:g}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode)

    def read(self, node: Node, notes: list[Note]) -> float:
        value = scalar_value(node) if isinstance(node, ScalarNode) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise refuse(node, f"expected {self.expected}, found {found(node)}")
        return float(value)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "number", "minimum": self.least, "maximum": self.most}


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)$"


@dataclass(slots=True, eq=False, repr=False)
class Duration:
    """A time with its unit, read as seconds; `least` and `most` are written the same way."""

    least: str = "0s"
    most: str = "30d"

    @property
    def expected(self) -> str:
        return f'a time with its unit, such as "300ms", "8s", "10m", "1h" or "14d", {self.least} to {self.most}'

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode)

    def read(self, node: Node, notes: list[Note]) -> float:
        if not isinstance(node, ScalarNode) or re.fullmatch(_DURATION, node.text) is None:
            raise refuse(node, f"expected {self.expected}; found {found(node)}")
        value = seconds(node.text)
        if not seconds(self.least) <= value <= seconds(self.most):
            raise refuse(node, f"expected {self.least} to {self.most}, found {found(node)}")
        return value

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "string", "pattern": _DURATION}


def duration(text: str) -> float:
    """A time with its unit as seconds: `300ms` -> 0.3.

    Raises:
        ValueError: if it is none; the text says what is expected.
    """
    if re.fullmatch(_DURATION, text) is None:
        raise ValueError('expected a time with its unit, such as "300ms", "8s", "10m" or "1h"')
    return seconds(text)


def seconds(text: str) -> float:
    """`300ms` -> 0.3."""
    number = text.rstrip("mshd")
    # Rounded so that 300ms is 0.3 and not 0.30000000000000004: deadlines are compared.
    return round(float(number) * _UNITS[text[len(number) :]], 9)


@dataclass(slots=True, eq=False, repr=False)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self.words)

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode)

    def read(self, node: Node, notes: list[Note]) -> str:
        if isinstance(node, ScalarNode) and node.text in self.words:
            return node.text
        hint = did_you_mean(node.text, self.words) if isinstance(node, ScalarNode) else ""
        hint = hint if "did you mean" in hint else ""
        raise refuse(node, f"expected {self.expected}; found {found(node)}{hint}")

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"enum": list(self.words)}


@dataclass(slots=True, eq=False, repr=False)
class Only(Generic[T]):
    """Exactly one value: a word, a number, a boolean or null; read as `meaning`."""

    value: str | int | bool | None
    meaning: T

    @property
    def expected(self) -> str:
        if self.value is None:
            return "nothing"
        return str(self.value).lower() if isinstance(self.value, bool) else f"{self.value}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode) and _same(_quietly(node), self.value)

    def read(self, node: Node, notes: list[Note]) -> T:
        if not self.accepts(node):
            raise refuse(node, f"expected {self.expected}, found {found(node)}")
        return self.meaning

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"const": self.value}


def _quietly(node: ScalarNode) -> object:
    try:
        return scalar_value(node)
    except Refused:
        return Refused


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


@dataclass(slots=True, eq=False, repr=False)
class AnyScalar:
    """A text, number, boolean or null as JSON has them."""

    expected: str = "text, a number, true, false or null"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ScalarNode)

    def read(self, node: Node, notes: list[Note]) -> str | int | float | bool | None:
        if not isinstance(node, ScalarNode):
            raise refuse(node, f"expected {self.expected}; found {found(node)}")
        return scalar_value(node)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": ["string", "number", "boolean", "null"]}


@dataclass(slots=True, eq=False, repr=False)
class AnyJson:
    """Any value that JSON can hold. `look` sees every text in it."""

    look: Callable[[ScalarNode, list[Note]], None] | None = None
    expected: str = "any value"

    def accepts(self, node: Node) -> bool:
        return True

    def read(self, node: Node, notes: list[Note]) -> Any:
        if self.look is not None:
            for text in _texts(node):
                self.look(text, notes)
        return plain_value(node)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {}


def _texts(node: Node) -> Iterator[ScalarNode]:
    match node:
        case ScalarNode():
            yield node
        case ListNode():
            for item in node.items:
                yield from _texts(item)
        case MapNode():
            for entry in node.entries:
                yield from _texts(entry.value)
