"""Marked speech as an ear. Importing this module does not load numpy; the first utterance does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voisnap_mock.audio.frames import CALLER_RATE
from voisnap_mock.engine.events import Transcript, Word

if TYPE_CHECKING:
    from voisnap_mock.audio.marks import HeardWord

MOST_TEXT = 10_000
"""Characters of one utterance; anybody can make marks, and these would be more than half an hour of speech."""


class MarksEar:
    """Hears the words that the audio carries in its marks, exactly; its confidence is the share that arrived.

    What a mark says is foreign text: it is cleaned and bounded, and nothing but the transcript goes by it. The agent's
    own marked voice, coming back as an echo, is no text of the caller.
    """

    name = "marks"

    def open(self) -> _MarksListener:
        return _MarksListener()


class _MarksListener:
    def __init__(self) -> None:
        from voisnap_mock.audio.marks import MarkDecoder

        self._decoder = MarkDecoder(CALLER_RATE)
        self._words: list[HeardWord] = []
        self._room = MOST_TEXT

    @property
    def is_sure(self) -> bool:
        """A word was heard; no other ear knows better."""
        return bool(self._words)

    def accept(self, pcm: bytes) -> None:
        self._take(self._decoder.push(pcm))

    def partial(self, expected: str | None = None) -> Transcript | None:
        return self._transcript()

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        """None when nothing is marked; without text when it was the agent's voice."""
        self._take(self._decoder.finish())
        transcript = self._transcript()
        if transcript is not None:
            return transcript
        echo = sum(span.end - span.begin for span in self._decoder.spans if span.speaker == "agent")
        return Transcript("", 0.0, MarksEar.name) if echo > speech_seconds / 2 else None

    def _take(self, words: tuple[HeardWord, ...]) -> None:
        for word in words:
            if word.speaker == "caller" and len(word.text) < self._room:
                self._room -= len(word.text) + 1
                self._words.append(word)

    def _transcript(self) -> Transcript | None:
        if not self._words:
            return None
        from voisnap_mock.audio.marks import gather

        parts = [utterance.transcript() for utterance in gather(self._words)]
        words: list[Word] = [word for part in parts for word in part.words]
        confidence = sum(part.confidence * len(part.words) for part in parts) / len(words)
        return Transcript(" ".join(part.text for part in parts), round(confidence, 4), MarksEar.name, tuple(words))
