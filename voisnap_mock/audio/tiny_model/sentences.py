"""What callers say to a service line: sentence patterns, word classes, and the words of the model.

The patterns teach the language model which words follow each other; training reads sentences of theirs, mixed with
single words, random words and ordinary prose, so that the acoustic model does not learn sentences instead of sounds.

They stand in `sentences.txt`. A pattern is words, `[this|or that|]` for a choice (an empty one is "nothing"), and names
of classes in capitals; a class is a name, `=` and choices. Words that no pattern holds follow at the end: they are
known one by one, with the least share of the language model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from random import Random

_FILE = Path(__file__).with_name("sentences.txt")
_TOKEN = re.compile(r"[\[\]|]|[^\[\]|\s]+")
_Piece = str | tuple["_Sequence", ...]
_Sequence = tuple[_Piece, ...]


class _Language(NamedTuple):
    """The file, taken apart.

    Attributes:
        classes: for each the choices.
    """

    classes: Mapping[str, tuple[_Sequence, ...]]
    patterns: tuple[_Sequence, ...]
    vocabulary: tuple[str, ...]


def sentence(rng: Random) -> str:
    """A sentence of a pattern; every pattern is equally likely."""
    language = _language()
    return " ".join(_expand(rng.choice(language.patterns), language.classes, rng))


def vocabulary() -> tuple[str, ...]:
    """The words of the model, sorted."""
    return _language().vocabulary


@cache
def _language() -> _Language:
    sections: dict[str, list[str]] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            section = sections.setdefault(line.removeprefix("# "), [])
        elif line:
            section.append(line)
    classes = {name: choices for name, _, choices in (line.partition(" = ") for line in sections["classes"])}
    texts = [*classes.values(), *sections["patterns"], *sections["words"]]
    words = {word for text in texts for word in re.sub(r"[\[\]|]", " ", text).split()}
    return _Language(
        {name: _choices(iter(_TOKEN.findall(choices))) for name, choices in classes.items()},
        tuple(_choices(iter(_TOKEN.findall(pattern)))[0] for pattern in sections["patterns"]),
        tuple(sorted(words - classes.keys())),
    )


def _choices(tokens: Iterator[str]) -> tuple[_Sequence, ...]:
    """What stands between brackets, up to the closing one or the end."""
    choices: list[list[_Piece]] = [[]]
    for token in tokens:
        if token == "]":
            break
        if token == "|":
            choices.append([])
        else:
            choices[-1].append(_choices(tokens) if token == "[" else token)
    return tuple(map(tuple, choices))


def _expand(sequence: _Sequence, classes: Mapping[str, tuple[_Sequence, ...]], rng: Random) -> Iterator[str]:
    for piece in sequence:
        if isinstance(piece, tuple):
            yield from _expand(rng.choice(piece), classes, rng)
        elif piece in classes:
            yield from _expand(rng.choice(classes[piece]), classes, rng)
        else:
            yield piece
