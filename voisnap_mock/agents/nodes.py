"""YAML text -> a tree of nodes that know where they stand. No Python object is ever built from what a file says.

The tree is put together from the parser's events, without recursion, so that neither depth nor aliases can hurt.
Refused here, whatever the keys mean: text that is not YAML, tabs as indentation, duplicate keys, tags, merge keys,
keys that are not text, aliases of unknown or unfinished anchors, a second document, too much of anything.
Plain scalars are read as YAML 1.2 does (so `no` and `on` are texts), everything else as the parser does.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import yaml

from voisnap_mock.errors import Problem

MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Most:
    """How much of a text is read.

    Attributes:
        values: counting what aliases repeat.
        wanted: what an empty one lacks.
    """

    bytes: int = 1024 * 1024
    values: int = 50_000
    wanted: str = 'it needs at least the key "agents"'


AGENTS_FILE = Most()

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Only the parser without libyaml lets them pass.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_WORDS = {"true": True, "True": True, "TRUE": True} | {
    "false": False,
    "False": False,
    "FALSE": False,
}
_NULLS = ("", "~", "null", "Null", "NULL")


class Refused(Exception):
    """The text, or a part of it, cannot be used; carries every problem found. Never leaves this folder."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


@dataclass(slots=True, eq=False, repr=False)
class ScalarNode:
    """A text, number, boolean or null; `is_plain` when it stands without quotes."""

    text: str
    is_plain: bool
    line: int
    column: int


@dataclass(slots=True, eq=False, repr=False)
class ListNode:
    """A list."""

    items: list[Node]
    line: int
    column: int


class Entry(NamedTuple):
    """A key and its value."""

    key: ScalarNode
    value: Node


@dataclass(slots=True, eq=False, repr=False)
class MapNode:
    """A mapping, its entries in the file's order; no key occurs twice."""

    entries: list[Entry]
    line: int
    column: int

    def get(self, key: str) -> Node | None:
        """The value of `key`, None when there is no such key."""
        return next((entry.value for entry in self.entries if entry.key.text == key), None)


Node = ScalarNode | ListNode | MapNode


def refuse(node: Node, message: str) -> Refused:
    """For one problem at the place of `node`."""
    return Refused([Problem(node.line, node.column, message)])


def cut(text: str) -> str:
    """A text from a file as a message shows it: not too long, and nothing in it that a terminal would obey."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def quoted(text: str) -> str:
    """`cut`, in quotes."""
    return f'"{cut(text)}"'


def scalar_value(node: ScalarNode) -> str | int | float | bool | None:
    """What a scalar means by the core schema of YAML 1.2.

    Raises:
        Refused: for numbers that no JSON can hold.
    """
    text = node.text
    if not node.is_plain:
        return text
    if text in _NULLS:
        return None
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    if _INTEGER.fullmatch(text):
        # Longer ones are slow to convert, and no client could read them.
        number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) <= 24 else 2**64
        if abs(number) >= 2**63:
            raise refuse(node, f"the number {cut(text)} is too large: whole numbers have at most 64 bits")
        return number
    if _FLOAT.fullmatch(text):
        value = math.nan if "n" in text.lower() else float(text)
        if not math.isfinite(value):
            raise refuse(node, f"the number {cut(text)} is not a finite one")
        return value
    return text


def plain_value(node: Node) -> Any:
    """The tree as decoded JSON: dict, list, str, int, float, bool, None.

    Raises:
        Refused: for numbers that no JSON can hold.
    """
    # Not deeper than MAX_DEPTH: `compose` saw to that.
    match node:
        case ScalarNode():
            return scalar_value(node)
        case ListNode():
            return [plain_value(item) for item in node.items]
        case MapNode():
            return {entry.key.text: plain_value(entry.value) for entry in node.entries}


def compose(text: str | bytes, most: Most = AGENTS_FILE) -> Node:
    """Read one YAML document.

    Raises:
        Refused: with every problem that could be found before reading had to stop.
    """
    readable = _decode(text, most)
    tree = _Tree(most)
    events = yaml.parse(readable, Loader=_Loader)
    try:
        for event in events:
            tree.take(event)
    except yaml.MarkedYAMLError as error:
        tree.problems.append(_syntax_problem(error, readable))
    except yaml.YAMLError as error:
        tree.problems.append(Problem(1, 1, f"not valid YAML: {getattr(error, 'reason', error)}"))
    if tree.problems:
        raise Refused(tree.problems)
    assert tree.root is not None, "a stream without a document is refused before"
    return tree.root


def _decode(text: str | bytes, most: Most) -> str:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > most.bytes:
        raise Refused([Problem(1, 1, f"the file has {size:,} bytes; {most.bytes:,} are read at most")])
    if not isinstance(text, str):
        if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise Refused([Problem(1, 1, "the file is UTF-16: save it as UTF-8")])
        raw = text
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode("utf-8")
            found = f"the byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
            raise Refused([_problem_at(before, len(before), found)]) from error
    text = text.removeprefix("\ufeff")
    odd = _NOT_PRINTABLE.search(text)
    if odd is not None:
        found = (
            f"the character U+{ord(odd[0]):04X} is not allowed in YAML: remove it, or write it as an escape in quotes"
        )
        raise Refused([_problem_at(text, odd.start(), found)])
    if not text.strip():
        raise Refused([Problem(1, 1, f"the file is empty: {most.wanted}")])
    return text


def _problem_at(text: str, index: int, message: str) -> Problem:
    return Problem(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index), message)


_NESTED_TOO_DEEP = f"lists and mappings are nested more than {MAX_DEPTH} deep"
_SYNTAX_HINTS = {
    "found character that cannot start any token": "this character cannot begin a text: put the text in quotes",
    "did not find expected alphabetic or numeric character": '"*" and "&" cannot begin a text: put the text in quotes',
    "mapping values are not allowed in this context": 'a text with ": " in it needs quotes, or the indentation is off',
}


# Newer parsers have a limit of their own, and run into it while they look ahead.
_TOO_DEEP = "increasing flow level"


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.split("\n", line)
    # The parser blames the first token after a tab, or the tab itself; people need to be told about the tab.
    if line <= len(lines):
        indentation = lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
        if "\t" in indentation:
            return Problem(line, indentation.index("\t") + 1, "a tab indents this line: YAML wants spaces")
    if _TOO_DEEP in f"{error.problem} {error.context}":
        return Problem(line, column, _NESTED_TOO_DEEP)
    found = _SYNTAX_HINTS.get(str(error.problem)) or str(error.problem)
    begun = f" {error.context}" if error.context and found == error.problem else ""
    if begun and error.context_mark and error.context_mark.line + 1 < line:
        begun += f" that begins in line {error.context_mark.line + 1}"
    return Problem(line, column, f"not valid YAML: {found}{begun}")


class _Open:
    """A list or mapping whose end has not come."""

    __slots__ = ("anchor", "key", "keys", "node", "size")

    def __init__(self, node: ListNode | MapNode, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.size = _Size(1, 1)
        self.keys: dict[str, int] = {}
        self.key: ScalarNode | _Unusable | None = None


class _Size(NamedTuple):
    values: int
    depth: int


class _Unusable:
    """Stands for a key that was refused: its value is read, and dropped."""


_UNUSABLE = _Unusable()
_SCALAR = _Size(1, 0)


class _Tree:
    """Puts the parser's events together; what is wrong but can be skipped goes to `problems`."""

    def __init__(self, most: Most) -> None:
        self._most = most
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, _Size] | None] = {}
        self._values = 0

    def take(self, event: yaml.Event) -> None:
        """Raises Refused when it makes no sense to go on."""
        match event:
            case yaml.ScalarEvent():
                self._refuse_tag(event)
                if _HALF_CHARACTER.search(event.value):
                    self._stop(event, "an escape stands for half a character: write the character itself")
                node = ScalarNode(event.value, not event.style, *_place(event))
                if event.anchor is not None:
                    self._anchors[event.anchor] = (node, _SCALAR)
                self._count(event, 1)
                self._add(node, _SCALAR)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._refuse_tag(event)
                self._count(event, 1)
                self._check_depth(event, 1)
                place = _place(event)
                opened = ListNode([], *place) if isinstance(event, yaml.SequenceStartEvent) else MapNode([], *place)
                if event.anchor is not None:
                    self._anchors[event.anchor] = None
                self._open.append(_Open(opened, event.anchor))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                ended = self._open.pop()
                if ended.anchor is not None:
                    self._anchors[ended.anchor] = (ended.node, ended.size)
                self._add(ended.node, ended.size)
            case yaml.AliasEvent():
                self._repeat(event)
            case yaml.DocumentStartEvent() if self.root is not None:
                self._stop(event, "a second document begins here: a file has one")
            case yaml.StreamEndEvent() if self.root is None:
                self._stop(event, f"the file has no content: {self._most.wanted}")
            case _:
                pass

    def _repeat(self, event: yaml.AliasEvent) -> None:
        name = event.anchor
        if name not in self._anchors:
            self._stop(event, f"*{name} repeats an anchor that is not there: write &{name} before it, or use quotes")
        target = self._anchors[name]
        if target is None:
            self._stop(event, f"*{name} stands inside &{name}: it would contain itself")
        node, size = target
        self._count(event, size.values)
        self._check_depth(event, size.depth)
        if isinstance(node, ScalarNode):
            node = ScalarNode(node.text, node.is_plain, *_place(event))
        self._add(node, size)

    def _add(self, node: Node, size: _Size) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        parent.size = _Size(parent.size.values + size.values, max(parent.size.depth, size.depth + 1))
        if isinstance(parent.node, ListNode):
            parent.node.items.append(node)
        elif parent.key is None:
            parent.key = self._key(parent, node)
        else:
            if isinstance(parent.key, ScalarNode):
                parent.node.entries.append(Entry(parent.key, node))
            parent.key = None

    def _key(self, parent: _Open, node: Node) -> ScalarNode | _Unusable:
        if not isinstance(node, ScalarNode):
            return self._skip(node, "a list or mapping cannot be a key")
        if node.is_plain and node.text == "<<":
            return self._skip(node, 'merge keys ("<<") are not supported: write the keys out, or repeat a whole value')
        try:
            value = scalar_value(node)
        except Refused:
            value = 0
        if not isinstance(value, str):
            return self._skip(node, f"keys are texts: write {quoted(node.text)} in quotes")
        if node.text in parent.keys:
            return self._skip(node, f"the key {quoted(node.text)} is already there, in line {parent.keys[node.text]}")
        parent.keys[node.text] = node.line
        return node

    def _skip(self, node: Node, message: str) -> _Unusable:
        self.problems.append(Problem(node.line, node.column, message))
        return _UNUSABLE

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        if event.tag is not None:
            found = cut(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self.problems.append(Problem(*_place(event), f"the tag {found} is not supported: leave it out"))

    def _count(self, event: yaml.Event, values: int) -> None:
        self._values += values
        if self._values > self._most.values:
            self._stop(event, f"more than {self._most.values:,} values, counting what aliases repeat: too much to read")

    def _check_depth(self, event: yaml.Event, depth: int) -> None:
        if len(self._open) + depth > MAX_DEPTH:
            self._stop(event, _NESTED_TOO_DEEP)

    def _stop(self, event: yaml.Event, message: str) -> NoReturn:
        raise Refused([*self.problems, Problem(*_place(event), message)])


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None, "every event of a text has its mark"
    return mark.line + 1, mark.column + 1
