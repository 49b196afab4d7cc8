"""The caller's side of a call: caller audio in, orders to the ear and growing partial transcripts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voisnap_mock.audio.endpointing import SpeechBegan, SpeechEnded
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, FRAME_SECONDS
from voisnap_mock.engine.events import (
    CallerTranscript,
    FinishRecognition,
    Note,
    Recognize,
    SessionEffect,
    Transcript,
    Word,
)
from voisnap_mock.engine.patience import DIGITS
from voisnap_mock.engine.ports import Endpointer

_SILENT_FRAME = bytes(CALLER_FRAME_BYTES)
# The ear gets 100 ms at a time: a hand-over costs more than the listening to 20 ms, and partials come no faster.
_CHUNK_BYTES = 5 * CALLER_FRAME_BYTES
_MOST_PENDING = 8
_LAPSE = 1.0


@dataclass(slots=True)
class Utterance:
    """One stretch of caller speech.

    Attributes:
        audio_began: call time at which the audio begins that the ear hears.
        began, ended: call time; `ended` is where the speech stopped.
        decided_at: call time at which it was certain that the caller's turn is over.
        shown: the longest partial text that the client has seen.
    """

    number: int
    audio_began: float
    began: float
    ended: float = 0.0
    decided_at: float = 0.0
    shown: str = ""


class Utterances:
    """Cuts caller audio into utterances and keeps those that the ear has not answered yet.

    At most one utterance is *open*; ended ones are *pending* until `settle`. Audio reaches the ear in pieces of about
    100 ms, from 300 ms before the onset on. Every `partial_every` of speech the ear is asked for its view.

    Caller audio is dated by its arrival: a frame that comes at `now` ends at `now`.
    """

    def __init__(
        self, endpointer: Endpointer, *, partial_every: float, end_of_turn: float, expected: Callable[[], str | None]
    ) -> None:
        self._endpointer = endpointer
        self._partial_every = partial_every
        self._end_of_turn = end_of_turn
        self._expected = expected
        self._number = 0
        self._chunk = bytearray()
        self._next_partial = 0.0
        self._heard_at = 0.0
        self._heard_position = 0.0
        self._last_end = 0.0
        self.open: Utterance | None = None
        self.pending: dict[int, Utterance] = {}

    @property
    def speech_seconds(self) -> float:
        """From the onset of the open utterance to its latest speech."""
        return self._endpointer.speech_seconds if self.open is not None else 0.0

    @property
    def lapses_at(self) -> float | None:
        """When the open utterance is ended although no audio comes any more: the caller went away in mid-speech.

        Source: Assumed; without it such a call would never reach its silence limits.
        """
        return None if self.open is None else round(self._heard_at + self._end_of_turn + _LAPSE, DIGITS)

    def hear(self, frame: bytes, now: float) -> list[SessionEffect]:
        """Take 20 ms of caller audio. What it opened or ended shows in `open` and `pending`."""
        activities = self._endpointer.feed(frame)
        self._heard_at = now
        self._heard_position = self._endpointer.position
        if self.open is None and not activities:
            return []
        if self.open is not None:
            self._chunk += frame
        effects: list[SessionEffect] = []
        for activity in activities:
            match activity:
                case SpeechBegan():
                    self._open(activity)
                case SpeechEnded():
                    effects += self._close(activity, now)
        if self.open is not None:
            speech = self._endpointer.speech_seconds
            wants_partial = speech + 1e-9 >= self._next_partial
            if wants_partial:
                self._next_partial += self._partial_every * (1 + (speech - self._next_partial) // self._partial_every)
            if wants_partial or len(self._chunk) >= _CHUNK_BYTES:
                effects.append(self._hand_over(self.open, wants_partial=wants_partial))
        return effects

    def lapse(self, now: float) -> list[SessionEffect]:
        """End the open utterance as if the line had been silent since the last frame."""
        for _ in range(round((self._end_of_turn + _LAPSE) / FRAME_SECONDS)):
            for activity in self._endpointer.feed(_SILENT_FRAME):
                if isinstance(activity, SpeechEnded):
                    return self._close(activity, now)
        assert self.open is not None
        position = self._heard_position
        return self._close(SpeechEnded(position - self._endpointer.speech_seconds, position), now)

    def show(self, number: int, transcript: Transcript, now: float) -> CallerTranscript | None:
        """The partial transcript that the client shall see, if the ear's view of the open utterance has grown.

        Source: Assumed, "partial then final" is all the documentation says; a text that shrinks or repeats itself
        would tell a client nothing.
        """
        utterance = self.open
        text = transcript.text.strip()
        if utterance is None or utterance.number != number or len(text) <= len(utterance.shown):
            return None
        utterance.shown = text
        return CallerTranscript(text, False, transcript.confidence, transcript.ear, utterance.began, now)

    @staticmethod
    def final(utterance: Utterance, transcript: Transcript) -> CallerTranscript | None:
        """The transcript of an utterance that is over; None when there is nothing to show.

        A client that has seen a partial gets a final, even if the ear thought better of it.
        """
        text = transcript.text.strip() or utterance.shown
        if not text:
            return None
        origin = utterance.audio_began
        words = tuple(
            Word(word.text, round(max(origin + word.begin, 0.0), 3), round(max(origin + word.end, 0.0), 3))
            for word in transcript.words
        )
        return CallerTranscript(
            text=text,
            is_final=True,
            confidence=transcript.confidence,
            ear=transcript.ear,
            begin=utterance.began,
            end=utterance.ended,
            words=words,
            took=transcript.took,
        )

    def settle(self, number: int) -> Utterance | None:
        """Take an utterance off the pending ones, if it is still waited for."""
        return self.pending.pop(number, None)

    def give_up(self, number: int) -> Utterance | None:
        """Like `settle`, for an utterance that cannot be recognised; an open one is given up too."""
        if self.open is not None and self.open.number == number:
            utterance, self.open = self.open, None
            self._chunk.clear()
            return utterance
        return self.settle(number)

    def _open(self, activity: SpeechBegan) -> None:
        self._number += 1
        pre_roll = self._endpointer.pre_roll
        audio_began = self._heard_at - len(pre_roll) / CALLER_FRAME_BYTES * FRAME_SECONDS
        self.open = Utterance(self._number, audio_began, self._call_time(activity.began))
        self._chunk[:] = pre_roll
        self._next_partial = self._partial_every

    def _close(self, activity: SpeechEnded, now: float) -> list[SessionEffect]:
        utterance = self.open
        if utterance is None:
            return []
        self.open = None
        utterance.ended = self._last_end = max(utterance.began, self._call_time(activity.ended))
        utterance.decided_at = now
        effects: list[SessionEffect] = []
        if self._chunk:
            effects.append(self._hand_over(utterance, wants_partial=False))
        self.pending[utterance.number] = utterance
        seconds = round(activity.ended - activity.began, DIGITS)
        effects.append(FinishRecognition(utterance.number, seconds, self._expected()))
        if len(self.pending) > _MOST_PENDING:
            oldest = next(iter(self.pending))
            del self.pending[oldest]
            effects.append(Note("hearing.given_up", {"utterance": oldest, "pending": _MOST_PENDING}))
        return effects

    def _hand_over(self, utterance: Utterance, *, wants_partial: bool) -> Recognize:
        pcm = bytes(self._chunk)
        self._chunk.clear()
        return Recognize(utterance.number, pcm, wants_partial, self._expected())

    def _call_time(self, position: float) -> float:
        """When the caller's audio at `position` was heard; never before the utterance before it ended."""
        at = self._heard_at - max(0.0, self._heard_position - position)
        return round(max(at, self._last_end, 0.0), DIGITS)
