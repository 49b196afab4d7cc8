"""A model as its files: reading, writing, checksum, and the same model with further words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from voisnap_mock.audio.tiny_model.graph import graph_files
from voisnap_mock.audio.tiny_model.lexicon import (
    Bigrams,
    Lexicon,
    count_bigrams,
    parse_bigrams,
    parse_lexicon,
    serialize_bigrams,
    serialize_lexicon,
)
from voisnap_mock.audio.tiny_model.phones import Phones
from voisnap_mock.errors import ModelError

Files = Mapping[str, bytes]
"""For each path below the model's folder, with slashes, the content."""

LEXICON = "lexicon.txt"
BIGRAMS = "bigrams.txt"

# How often an agent's phrase counts beside the 30,000 sentences that the language model knows.
_PHRASE_COUNT = 100


def language_files(lexicon: Lexicon, bigrams: Bigrams, phones: Phones) -> dict[str, bytes]:
    """All that depends on words: the graphs, and what they are made of, which Vosk does not look at."""
    return {
        LEXICON: serialize_lexicon(lexicon).encode(),
        BIGRAMS: serialize_bigrams(bigrams).encode(),
        **{f"graph/{name}": content for name, content in graph_files(lexicon, bigrams, phones).items()},
    }


def with_words(files: Files, words: Lexicon, phrases: Iterable[str]) -> dict[str, bytes]:
    """The model with these words too, and with `phrases` as something that is often said.

    Raises:
        ModelError: it is not a model of this tool's, or damaged.
    """
    try:
        lexicon = {**parse_lexicon(files[LEXICON].decode()), **words}
        bigrams = parse_bigrams(files[BIGRAMS].decode()) + count_bigrams(phrases, times=_PHRASE_COUNT)
    except KeyError as error:
        raise ModelError(f"words can only be added to models that this tool has made: there is no {error}") from error
    except ValueError as error:
        raise ModelError(f"{LEXICON} or {BIGRAMS} is damaged: {error}") from error
    return {**files, **language_files(lexicon, bigrams, Phones())}


def words_of(files: Files) -> frozenset[str]:
    """The words that a model knows."""
    return frozenset(parse_lexicon(files[LEXICON].decode()))


def read_files(folder: Path) -> dict[str, bytes]:
    """A model.

    Raises:
        OSError: it cannot be read.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Files) -> None:
    """Write a model into `folder`, which is made if need be.

    Raises:
        OSError: it cannot be written.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def checksum(files: Files) -> str:
    """SHA-256 over all files with their names, the same on every system."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return total.hexdigest()
