"""The built-in model with further words: those that agents listen for, as the local synthesiser pronounces them.

The graphs are built anew and kept in the user's cache, under a name made of everything that went into them. A cache
that cannot be written, or holds something else than was written there, costs time and nothing more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voisnap_mock.audio.tiny_model.folders import Files, checksum, read_files, with_words, write_files
from voisnap_mock.audio.tiny_model.jobs import JobFailed
from voisnap_mock.audio.tiny_model.lexicon import Lexicon
from voisnap_mock.audio.tiny_model.pronouncing import pronounce
from voisnap_mock.audio.voices import voice_data
from voisnap_mock.cache import VOCABULARY, cache_folder
from voisnap_mock.errors import ModelError

_log = logging.getLogger("voisnap_mock.audio")

MOST_WORDS = 3_000
"""More are not learnt: recognition would get slow, and words be mistaken for each other."""

# Raised when the same words would give other files.
_FORMAT = 1
_NOTE = "extension.json"
_KEPT = 20
# What decides how espeak pronounces English.
_ESPEAK_FILES = ("en_dict", "phontab", "phonindex", "phondata")


@dataclass(frozen=True, slots=True)
class Extended:
    """A model with further words.

    Attributes:
        folder: the model; the one without them when none could be added.
        added: words that it knows now.
        skipped: words that it does not know, because they cannot be pronounced or were too many.
        problem: why there are no new words at all; empty when there is no such reason.
        is_temporary: the folder is not in the cache, and of no more use once the model is loaded.
    """

    folder: Path
    added: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    problem: str = ""
    is_temporary: bool = False


def extend(
    base: Path, words: Sequence[str], phrases: Sequence[str], *, cache: Path | None = None, most: int = MOST_WORDS
) -> Extended:
    """The model `base`, made by this tool, with further words. Blocks some 0.3 s, or 0.02 s when the cache knows it.

    Nothing is raised: what goes wrong is logged, and the answer is then the model without the words. A folder that is
    not in the cache is the caller's to remove, see `Extended.is_temporary`.

    Args:
        phrases: that hold some of the words; they count as often said.
        cache: where extended models are kept; None is a folder of the user's cache.
        most: how many words are learnt; further ones are skipped.
    """
    if not words:
        return Extended(base)
    words, too_many = tuple(words[:most]), tuple(words[most:])
    try:
        files = read_files(base)
        store = Store(cache or cache_folder() / VOCABULARY)
        key = _key(files, words, phrases)
        folder = store.find(key)
        is_temporary = False
        if folder is None:
            lexicon, _ = pronounce(words, sentences=phrases)
            extended = extension_files(files, lexicon, phrases)
            folder = store.keep(key, extended)
            if folder is None:
                is_temporary = True
                folder = Path(tempfile.mkdtemp(prefix="voisnap-mock-"))
                write_files(folder, extended)
        added = tuple(json.loads((folder / _NOTE).read_bytes())["added"])
    except (JobFailed, ModelError, OSError) as error:
        _log.warning("words of the agents will not be understood (%s): %s", error, ", ".join(words))
        return Extended(base, skipped=(*words, *too_many), problem=str(error))
    skipped = (*(word for word in words if word not in added), *too_many)
    if skipped:
        _log.warning(
            "these words of the agents will not be understood, English has no sounds for them or they are more than "
            "%d: %s",
            most,
            ", ".join(skipped),
        )
    return Extended(folder, added, skipped, is_temporary=is_temporary)


def extension_files(files: Files, lexicon: Lexicon, phrases: Iterable[str]) -> dict[str, bytes]:
    """A model with the words of `lexicon`, and the note by which the cache knows it again.

    Raises:
        ModelError: `files` is not a model of this tool's.
    """
    model = with_words(files, lexicon, phrases)
    note = {"added": sorted(lexicon), "checksum": checksum(model)}
    return {**model, _NOTE: json.dumps(note).encode()}


class Store:
    """A folder of models, each under its key and complete from the moment it is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Path | None:
        """The model of this key; None when there is none, or not as it was written."""
        folder = self._folder / key
        try:
            files = read_files(folder)
            note = json.loads(files.pop(_NOTE))
            if note["checksum"] != checksum(files) or not isinstance(note["added"], list):
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # How lately it was used decides what is thrown away first.
        with suppress(OSError):
            os.utime(folder)
        return folder

    def keep(self, key: str, files: Files) -> Path | None:
        """Keep a model and say where; None when it cannot be written here."""
        staging: Path | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".", dir=self._folder))
            write_files(staging, files)
            folder = self._put(staging, key)
            self._tidy()
        except OSError as error:
            _log.info("%s: words are not kept for the next start (%s)", self._folder, error)
            folder = None
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        return folder

    def _put(self, staging: Path, key: str) -> Path:
        folder = self._folder / key
        try:
            staging.rename(folder)
        except OSError:
            # Somebody else was quicker, or something is there that is of no use.
            if self.find(key) is None:
                shutil.rmtree(folder, ignore_errors=True) if folder.is_dir() else folder.unlink(missing_ok=True)
                staging.rename(folder)
        return folder

    def _tidy(self) -> None:
        used = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                used.append((path.stat().st_mtime, path))
        for _, path in sorted(used, reverse=True)[_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)


def _key(files: Files, words: Iterable[str], phrases: Iterable[str]) -> str:
    parts = [_FORMAT, checksum(files), _espeak_version(), list(words), list(phrases)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _espeak_version() -> str:
    """What changes when espeak would pronounce words differently: the library itself is not loaded in this process."""
    data = voice_data()
    if data is None:
        return "the system's"
    total = hashlib.sha256()
    for name in _ESPEAK_FILES:
        with suppress(OSError):
            total.update((data / name).read_bytes())
    return total.hexdigest()
