"""Vosk with the built-in model, which knows the words of the agents too."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from voisnap_mock.audio.tiny_model.extension import Vocabulary
from voisnap_mock.audio.vosk_ear import VoskEar, VoskListener
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, VoskModel
from voisnap_mock.errors import ModelError

_log = logging.getLogger("voisnap_mock.audio")


class BuiltInEar:
    """Hears words with the built-in model, extended as `vocabulary` says at the time.

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
        folder = self._vocabulary.extended().folder
        if self._current_ear is None or self._current_ear[0] != folder:
            self._current_ear = folder, self._loaded(folder)
        return self._current_ear[1]

    def _loaded(self, folder: Path) -> VoskEar:
        ear = VoskEar(VoskModel(folder), grammar=self._grammar)
        if folder == BUILT_IN_FOLDER:
            return ear
        try:
            ear.warm_up()
        except ModelError as error:
            # Not tried again before there are other words.
            _log.warning("heard without the words of the agents: %s", error)
            return VoskEar(VoskModel(BUILT_IN_FOLDER), grammar=self._grammar)
        return ear
