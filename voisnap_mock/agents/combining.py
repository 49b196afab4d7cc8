"""Shapes made of shapes: lists, mappings, records with known keys, alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from voisnap_mock.agents.nodes import ListNode, MapNode, Node, Refused, quoted, refuse
from voisnap_mock.agents.shape import Note, Schema, Shape, Text, did_you_mean, found
from voisnap_mock.errors import Problem

T = TypeVar("T")
U = TypeVar("U")


@dataclass(slots=True, eq=False, repr=False)
class Reading(Generic[T, U]):
    """`inner`, then `change` of its value.

    Attributes:
        change: gets value, node and notes; raises `Refused` when the value is not good enough.
        narrows: what `change` refuses, as far as JSON Schema can say it.
    """

    inner: Shape[T]
    change: Callable[[T, Node, list[Note]], U]
    narrows: Schema = field(default_factory=dict)

    @property
    def expected(self) -> str:
        return self.inner.expected

    def accepts(self, node: Node) -> bool:
        return self.inner.accepts(node)

    def read(self, node: Node, notes: list[Note]) -> U:
        return self.change(self.inner.read(node, notes), node, notes)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return self.inner.schema(definitions) | self.narrows


@dataclass(slots=True, eq=False, repr=False)
class Either(Generic[T]):
    """The first of `shapes` that is of the node's kind."""

    shapes: tuple[Shape[T], ...]

    @property
    def expected(self) -> str:
        return " or ".join(shape.expected for shape in self.shapes)

    def accepts(self, node: Node) -> bool:
        return any(shape.accepts(node) for shape in self.shapes)

    def read(self, node: Node, notes: list[Note]) -> T:
        for shape in self.shapes:
            if shape.accepts(node):
                return shape.read(node, notes)
        raise refuse(node, f"expected {self.expected}; found {found(node)}")

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"anyOf": [shape.schema(definitions) for shape in self.shapes]}


@dataclass(slots=True, eq=False, repr=False)
class ListOf(Generic[T]):
    """A list of `least` or more of the same shape."""

    item: Shape[T]
    least: int = 0
    of: str = ""

    @property
    def expected(self) -> str:
        return f"a list of {self.of}" if self.of else "a list"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, ListNode)

    def read(self, node: Node, notes: list[Note]) -> tuple[T, ...]:
        if not isinstance(node, ListNode):
            raise refuse(node, f"expected {self.expected}, found {found(node)}")
        if len(node.items) < self.least:
            raise refuse(node, f"expected {self.expected}, found an empty one")
        problems: list[Problem] = []
        values: list[T] = []
        for item in node.items:
            try:
                values.append(self.item.read(item, notes))
            except Refused as refused:
                problems += refused.problems
        if problems:
            raise Refused(problems)
        return tuple(values)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.item.schema(definitions), **least}


def one_or_more(item: Shape[T], *, of: str) -> Shape[tuple[T, ...]]:
    """One value, or a list of such."""
    alone: Reading[T, tuple[T, ...]] = Reading(item, lambda value, node, notes: (value,))
    return Either((alone, ListOf(item, least=1, of=of)))


@dataclass(slots=True, eq=False, repr=False)
class MappingOf(Generic[T]):
    """Any number of keys of the user's choice, all with values of one shape."""

    key: Text
    value: Shape[T]
    least: int = 0
    of: str = "names and values"

    @property
    def expected(self) -> str:
        return f"a mapping of {self.of}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, MapNode)

    def read(self, node: Node, notes: list[Note]) -> dict[str, T]:
        if not isinstance(node, MapNode):
            raise refuse(node, f"expected {self.expected}, found {found(node)}")
        if len(node.entries) < self.least:
            raise refuse(node, f"expected {self.expected}, found an empty one")
        problems: list[Problem] = []
        values: dict[str, T] = {}
        for key, value in node.entries:
            try:
                name = self.key.read(key, notes)
            except Refused as refused:
                problems += refused.problems
                name = key.text
            try:
                values[name] = self.value.read(value, notes)
            except Refused as refused:
                problems += refused.problems
        if problems:
            raise Refused(problems)
        return values

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        least = {"minProperties": self.least} if self.least else {}
        values = self.value.schema(definitions)
        return {
            "type": "object",
            "propertyNames": self.key.schema(definitions),
            "additionalProperties": values,
            **least,
        }


@dataclass(slots=True, eq=False, repr=False)
class Key:
    """A key of a record: its shape, one line of help, and where its value goes (default: under its own name)."""

    name: str
    shape: Shape[object]
    help: str
    is_required: bool = False
    into: str = ""


@dataclass(slots=True, eq=False, repr=False)
class Whole:
    """What a check of a record gets to see.

    Attributes:
        values: those that could be read, by the name they go to.
        notes: everything noted inside this record.
    """

    node: MapNode
    values: Mapping[str, Any]
    notes: Sequence[Note]

    def place(self, key: str) -> Node:
        """Where the key stands, else where the record begins."""
        return next((entry.key for entry in self.node.entries if entry.key.text == key), self.node)

    def problem(self, key: str, message: str) -> Problem:
        """A problem at that key."""
        place = self.place(key)
        return Problem(place.line, place.column, message)


@dataclass(slots=True, eq=False, repr=False)
class Record(Generic[T]):
    """A mapping with known keys.

    Attributes:
        name: what it is, for messages and as the name in the schema.
        make: gets the values as keyword arguments; absent keys are left to its defaults.
        check: looks at the whole, also when a part was refused.
        narrows: what `check` refuses, as far as JSON Schema can say it.
        place: arguments that get the line and the column of the record.
    """

    name: str
    keys: tuple[Key, ...]
    make: Callable[..., T]
    check: Callable[[Whole], Iterator[Problem]] | None = None
    narrows: Schema = field(default_factory=dict)
    place: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        return f"a mapping ({self.name})"

    def accepts(self, node: Node) -> bool:
        return isinstance(node, MapNode)

    def read(self, node: Node, notes: list[Note]) -> T:
        if not isinstance(node, MapNode):
            names = ", ".join(key.name for key in self.keys[:4]) + (", ..." if len(self.keys) > 4 else "")
            raise refuse(node, f"expected a mapping ({self.name}: {names}), found {found(node)}")
        start = len(notes)
        known = {key.name: key for key in self.keys}
        values: dict[str, object] = {}
        problems: list[Problem] = []
        for name, value in node.entries:
            key = known.get(name.text)
            if key is None:
                hint = did_you_mean(name.text, list(known))
                problems.append(Problem(name.line, name.column, f"unknown key {quoted(name.text)}{hint}"))
                continue
            try:
                values[key.into or key.name] = key.shape.read(value, notes)
            except Refused as refused:
                problems += refused.problems
        present = {entry.key.text for entry in node.entries}
        problems += [
            Problem(node.line, node.column, f'the key "{key.name}" is missing: {key.help}')
            for key in self.keys
            if key.is_required and key.name not in present
        ]
        if self.check is not None:
            problems += self.check(Whole(node, values, notes[start:]))
        if problems:
            raise Refused(problems)
        values |= dict(zip(self.place, (node.line, node.column), strict=False))
        return self.make(**values)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        name = self.name.replace(" ", "-")
        if name not in definitions:
            required = [key.name for key in self.keys if key.is_required]
            definitions[name] = {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    key.name: {"description": key.help} | key.shape.schema(definitions) for key in self.keys
                },
                **({"required": required} if required else {}),
                **self.narrows,
            }
        return {"$ref": f"#/$defs/{name}"}


@dataclass(slots=True, eq=False, repr=False)
class Tagged(Generic[T]):
    """A mapping that is one of several records: the first whose tag is among its keys."""

    records: Mapping[str, Record[T]]

    @property
    def expected(self) -> str:
        return "a mapping with " + ", ".join(self.records)

    def accepts(self, node: Node) -> bool:
        return isinstance(node, MapNode)

    def read(self, node: Node, notes: list[Note]) -> T:
        if isinstance(node, MapNode):
            for tag, record in self.records.items():
                if node.get(tag) is not None:
                    return record.read(node, notes)
            if node.entries:
                name = node.entries[0].key
                raise refuse(name, f"unknown key {quoted(name.text)}{did_you_mean(name.text, list(self.records))}")
        raise refuse(node, f"expected {self.expected}; found {found(node)}")

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        records = dict.fromkeys(record.name for record in self.records.values())
        by_name = {record.name: record for record in self.records.values()}
        return {"anyOf": [by_name[name].schema(definitions) for name in records]}
