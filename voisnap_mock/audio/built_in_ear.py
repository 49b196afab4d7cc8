"""Vosk with the built-in model, which learns the words that the agents listen for.

Importing this module is cheap; what it takes to learn words is imported when there are any.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voisnap_mock.agents.script import AgentScript
from voisnap_mock.audio.vosk_ear import VoskEar, VoskListener
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, VoskModel
from voisnap_mock.errors import ModelError

if TYPE_CHECKING:
    from voisnap_mock.audio.tiny_model.extension import Extended

_log = logging.getLogger("voisnap_mock.audio")

_Wanted = tuple[tuple[str, ...], tuple[str, ...]]


class Vocabulary:
    """The words of the built-in model and of the agents that are served with it. Safe to use from several threads.

    Words are learnt when somebody asks for the model, not before.

    Args:
        on_learnt: told what was learnt, in the thread that did it.
        cache: where models with further words are kept; None is a folder of the user's cache.
    """

    def __init__(self, *, on_learnt: Callable[[Extended], None] | None = None, cache: Path | None = None) -> None:
        self._on_learnt = on_learnt
        self._cache = cache
        self._known: frozenset[str] = frozenset()
        self._scripts: tuple[AgentScript, ...] = ()
        self._looked_up: tuple[AgentScript, ...] = self._scripts
        self._wanted: _Wanted = ((), ())
        self._learnt: tuple[_Wanted, Path] = (self._wanted, BUILT_IN_FOLDER)
        self._learning = threading.Lock()

    def want(self, scripts: Iterable[AgentScript]) -> None:
        """These agents are served from now on. Cheap: their words are looked up when somebody asks for them."""
        self._scripts = tuple(scripts)

    def _look_up(self) -> _Wanted:
        """The words that the agents want and the model lacks, and the phrases that they stand in."""
        scripts = self._scripts
        if self._looked_up is scripts:
            return self._wanted
        from voisnap_mock.audio.tiny_model.wanted import wanted_by

        if not self._known:
            try:
                lines = (BUILT_IN_FOLDER / "graph" / "words.txt").read_text(encoding="utf-8").splitlines()
            except OSError:
                # Without its files the model cannot be loaded either, which is said then.
                return self._wanted
            self._known = frozenset(_spelled(line.split()[0]) for line in lines)
        wanted = wanted_by(scripts)
        lacking = {word: None for word in wanted.words if _spelled(word) not in self._known}
        phrases = (phrase for phrase in wanted.phrases if not lacking.keys().isdisjoint(phrase.split()))
        self._wanted = found = tuple(lacking), tuple(phrases)
        self._looked_up = scripts
        return found

    @property
    def lacking(self) -> tuple[str, ...]:
        """The words of the agents that the model lacks, sorted."""
        return self._look_up()[0]

    def model(self) -> Path:
        """The model with the words that are wanted now.

        Blocks until it is there, some 0.3 s when there are words to learn; who comes meanwhile waits too. Where they
        cannot be learnt it is the model without them.
        """
        with self._learning:
            wanted, folder = self._look_up(), self._learnt[1]
            if self._learnt[0] != wanted:
                folder = self._learn(*wanted)
                self._learnt = wanted, folder
            return folder

    def _learn(self, words: tuple[str, ...], phrases: tuple[str, ...]) -> Path:
        if not words:
            return BUILT_IN_FOLDER
        import shutil

        from voisnap_mock.audio.tiny_model.extension import extend

        extended = extend(BUILT_IN_FOLDER, words, phrases, cache=self._cache)
        if extended.is_temporary:
            weakref.finalize(self, shutil.rmtree, extended.folder, ignore_errors=True)
        if self._on_learnt is not None:
            self._on_learnt(extended)
        return extended.folder


def _spelled(word: str) -> str:
    """Words that differ in apostrophes are the same to a dialogue."""
    return word.replace("'", "")


class BuiltInEar:
    """Hears words with the built-in model and those of `vocabulary`.

    An utterance that begins while words are being learnt waits for them, so that the same agents always hear the same;
    one that has begun goes on with the words it began with.

    Args:
        grammar: as for `VoskEar`.
    """

    name = VoskEar.name

    def __init__(self, vocabulary: Vocabulary, *, grammar: Sequence[str] | None = None) -> None:
        self._vocabulary = vocabulary
        self._grammar = grammar
        # The ear, and the folder for which it is the right one.
        self._current_ear: tuple[Path, VoskEar] | None = None

    def warm_up(self) -> None:
        """Learn the words and load the model now.

        Raises:
            ModelError: Vosk or the model cannot be loaded.
        """
        self._current().warm_up()

    def open(self) -> VoskListener:
        """Begin an utterance.

        Raises:
            ModelError: Vosk or the model cannot be loaded.
        """
        return self._current().open()

    def _current(self) -> VoskEar:
        folder = self._vocabulary.model()
        current = self._current_ear
        if current is None or current[0] != folder:
            self._current_ear = current = folder, self._loaded(folder)
        return current[1]

    def _loaded(self, folder: Path) -> VoskEar:
        ear = VoskEar(VoskModel(folder), grammar=self._grammar)
        if folder == BUILT_IN_FOLDER:
            return ear
        try:
            ear.warm_up()
        except ModelError as error:
            # Not tried again before there are other words.
            _log.warning("the words of the agents will not be understood: %s", error)
            return VoskEar(VoskModel(BUILT_IN_FOLDER), grammar=self._grammar)
        return ear
