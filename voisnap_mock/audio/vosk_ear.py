"""Vosk as an ear: one model per folder for the whole process, one recogniser per utterance.

Everything here blocks and is made for worker threads; a listener is used by one thread at a time. Vosk is imported
when the first listener opens: it costs some 0.1 s.

A recogniser per utterance costs 0.5 ms more than one per call. It buys word times that count from the utterance (a
recogniser counts from its birth), freed memory between turns, and no state that could leak from one turn into the next.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from voisnap_mock.audio.frames import CALLER_RATE, SAMPLE_BYTES
from voisnap_mock.audio.vosk_model import VoskModel
from voisnap_mock.engine.events import Transcript, Word
from voisnap_mock.errors import ModelError

UNKNOWN = "[unk]"

_SILENT = -3
_ERRORS_ONLY = -2

_loading = threading.Lock()
_loaded: WeakValueDictionary[Path, Any] = WeakValueDictionary()


def vosk_problem() -> str | None:
    """Why Vosk cannot be used on this machine; None when it looks fine. Imports nothing."""
    # None in `sys.modules` is how Python notes that a module must not be imported.
    known = "vosk" in sys.modules
    if sys.modules["vosk"] is not None if known else importlib.util.find_spec("vosk") is not None:
        return None
    return "the package vosk is not installed (it has no wheel for musl or Windows on ARM)"


class VoskEar:
    """Hears words with a Vosk model.

    Args:
        model: checked beforehand with `check_model`, unless it is the built-in one.
        grammar: if given, only these phrases are understood; all else is `[unk]`. A model with a static graph
            ignores it.

    Raises:
        ModelError: if `grammar` is empty or holds something that is no phrase.
    """

    name = "vosk"

    def __init__(self, model: VoskModel, *, grammar: Sequence[str] | None = None) -> None:
        self._model = model
        self._grammar = None if grammar is None else grammar_json(grammar)
        self._handle: Any = None

    @property
    def model(self) -> VoskModel:
        return self._model

    def warm_up(self) -> None:
        """Load the model now rather than when the first utterance begins.

        Raises:
            ModelError: Vosk or the model cannot be loaded.
        """
        if self._handle is None:
            self._handle = _load(self._model)

    def open(self) -> VoskListener:
        """Begin an utterance.

        Raises:
            ModelError: Vosk or the model cannot be loaded.
        """
        self.warm_up()
        return VoskListener(_recognizer(self._handle, self._model, self._grammar), self._model)


class VoskListener:
    """One utterance. Audio is PCM s16le mono at 16 kHz, in pieces of any size."""

    is_sure = False

    def __init__(self, recognizer: Any, model: VoskModel) -> None:
        self._recognizer = recognizer
        self._model = model
        self._text: list[str] = []
        self._words: list[Word] = []
        self._confidences: list[float] = []

    def accept(self, pcm: bytes) -> None:
        """Hear the next piece; about 0.6 ms per 0.1 s of audio with the built-in model.

        Raises:
            ModelError: the model cannot process audio.
        """
        try:
            # True when Vosk sees an end by its own rules, as in a long pause: this part of the text is settled.
            is_settled = self._recognizer.AcceptWaveform(bytes(pcm))
        except Exception as error:
            raise ModelError(f"{self._model.folder}: the model cannot process 16 kHz audio ({error})") from error
        if is_settled:
            self._settle(self._recognizer.Result())

    def partial(self, expected: str | None = None) -> Transcript | None:
        """What has been understood so far, without confidence; None before the first word."""
        rest = json.loads(self._recognizer.PartialResult()).get("partial", "")
        text = " ".join(filter(None, [*self._text, rest]))
        return Transcript(text, ear=VoskEar.name) if _has_words(text) else None

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        """The whole utterance; None when no word was understood. The listener is then of no more use.

        Its confidence is the mean of its words'.
        """
        self._settle(self._recognizer.FinalResult())
        text = " ".join(self._text)
        if not _has_words(text):
            return None
        confidences = self._confidences
        confidence = sum(confidences) / len(confidences) if confidences else 0.0
        return Transcript(text, confidence, VoskEar.name, tuple(self._words))

    def _settle(self, result: str) -> None:
        heard = json.loads(result)
        if not heard.get("text"):
            return
        self._text.append(heard["text"])
        for word in heard.get("result", ()):
            self._words.append(Word(word["word"], word["start"], word["end"]))
            self._confidences.append(min(max(word["conf"], 0.0), 1.0))


def grammar_json(phrases: Sequence[str]) -> str:
    """The grammar for these phrases and `[unk]`, as Vosk takes it; anything but a list of texts would crash it.

    Raises:
        ModelError: there is no phrase, or one of them has no words or is no text.
    """
    if not phrases:
        raise ModelError("a grammar needs at least one phrase")
    for phrase in phrases:
        if not phrase.strip():
            raise ModelError(f"a grammar cannot hold the phrase {phrase!r}: it has no words")
        if "\0" in phrase or any("\ud800" <= letter <= "\udfff" for letter in phrase):
            raise ModelError(f"a grammar cannot hold the phrase {phrase!r}: it is not text")
    known = dict.fromkeys(" ".join(phrase.lower().split()) for phrase in phrases)
    return json.dumps([*known, UNKNOWN], ensure_ascii=False)


def trial(folder: str) -> None:
    """Load, make a recogniser, hear 1 s of silence; exit code 1 when the library refuses. Runs in a child process."""
    try:
        import vosk
    except (ImportError, OSError) as error:
        sys.exit(f"trial: vosk cannot be imported ({error})")
    vosk.SetLogLevel(_ERRORS_ONLY)
    try:
        recognizer = vosk.KaldiRecognizer(vosk.Model(folder), CALLER_RATE)
        recognizer.AcceptWaveform(bytes(SAMPLE_BYTES * CALLER_RATE))
        recognizer.FinalResult()
    except Exception as error:  # noqa: BLE001  Vosk raises nothing more special
        sys.exit(f"trial: {error}")


def _has_words(text: str) -> bool:
    return any(word != UNKNOWN for word in text.split())


def _load(model: VoskModel) -> Any:
    """The process's one model for this folder; freed when no ear uses it."""
    folder = model.folder.absolute()
    with _loading:
        handle = _loaded.get(folder)
        if handle is not None:
            return handle
        try:
            import vosk
        except (ImportError, OSError) as error:
            raise ModelError(f"vosk cannot be imported ({error}): reinstall it, or use `hears: activity`") from error
        vosk.SetLogLevel(_SILENT)
        try:
            handle = vosk.Model(str(folder))
        except Exception as error:
            raise ModelError(
                f"{folder} ({model.origin or 'built-in'}): Vosk cannot load this model ({error})"
            ) from error
        _loaded[folder] = handle
        return handle


def _recognizer(handle: Any, model: VoskModel, grammar: str | None) -> Any:
    import vosk

    try:
        arguments = (handle, CALLER_RATE) if grammar is None else (handle, CALLER_RATE, grammar)
        recognizer = vosk.KaldiRecognizer(*arguments)
    except Exception as error:
        raise ModelError(f"{model.folder}: Vosk cannot make a recogniser of this model ({error})") from error
    recognizer.SetWords(True)
    return recognizer
