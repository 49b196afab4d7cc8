"""Stand-ins for the neighbours of the engine, typed against its ports: all exact, none with a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from voisnap_mock.agents.script import Voice
from voisnap_mock.audio.endpointing import Activity, SpeechBegan, SpeechEnded
from voisnap_mock.clock import Clock
from voisnap_mock.engine.events import AudioReady, SessionEvent, Speech, Transcript, Word
from voisnap_mock.errors import SpeechError
from voisnap_mock.webrtc.peer import Listener
from voisnap_mock.webrtc.sdp import Answer, IceCandidate, Offer

Result = TypeVar("Result")

SILENT_FRAME = bytes(640)
LOUD_FRAME = b"\x00\x20" * 320
WORD_SECONDS = 0.2


def spoken(text: str) -> Speech:
    """Speech in which every word lasts 0.2 s, ten frames; the samples of word n all have the value n."""
    words = text.split()
    pcm = b"".join(number.to_bytes(2, "little") * 4_800 for number in range(1, len(words) + 1))
    times = [(round(at * WORD_SECONDS, 3), round((at + 1) * WORD_SECONDS, 3)) for at in range(len(words))]
    return Speech(pcm, tuple(Word(word, *time) for word, time in zip(words, times, strict=True)))


class LoudnessEndpointer:
    """Every frame with a sample other than zero is speech; reports at once, without a doubt.

    Args:
        pre_roll_frames: how many frames before the onset belong to the pre-roll.
    """

    def __init__(self, *, end_of_turn: float = 0.7, pre_roll_frames: int = 2) -> None:
        self._end_frames = round(end_of_turn / 0.02)
        self._pre_roll_frames = pre_roll_frames
        self._recent: list[bytes] = []
        self._frames = 0
        self._began: int | None = None
        self._last_loud = 0
        self.pre_roll = b""

    @property
    def position(self) -> float:
        return round(self._frames * 0.02, 9)

    @property
    def speech_seconds(self) -> float:
        return 0.0 if self._began is None else round((self._last_loud - self._began) * 0.02, 9)

    def feed(self, frame: bytes) -> Sequence[Activity]:
        assert len(frame) == 640
        self._frames += 1
        self._recent = [*self._recent[-self._pre_roll_frames :], frame] if self._pre_roll_frames else [frame]
        if any(frame):
            self._last_loud = self._frames
            if self._began is None:
                self._began = self._frames - 1
                self.pre_roll = b"".join(self._recent)
                return (SpeechBegan(self._began * 0.02),)
        elif self._began is not None and self._frames - self._last_loud >= self._end_frames:
            ended = SpeechEnded(self._began * 0.02, self._last_loud * 0.02)
            self._began = None
            return (ended,)
        return ()


class ScriptedHearing:
    """An ear that understands the utterances of a session as it was told, whatever their audio.

    An utterance given as an exception is raised instead. Beyond the last one it understands nothing. Partials show a
    word more each time.
    """

    def __init__(self, *utterances: str | Exception) -> None:
        self._utterances = list(utterances)
        self.heard_bytes: list[int] = []

    def open(self) -> ScriptedListener:
        self.heard_bytes.append(0)
        return ScriptedListener(self, self._utterances.pop(0) if self._utterances else "")


class ScriptedListener:
    problems = ()

    def __init__(self, hearing: ScriptedHearing, text: str | Exception) -> None:
        self._hearing = hearing
        self._text = text
        self._partials = 0

    def accept(self, pcm: bytes) -> None:
        self._hearing.heard_bytes[-1] += len(pcm)

    def partial(self, expected: str | None = None) -> Transcript | None:
        if isinstance(self._text, Exception):
            return None
        self._partials += 1
        words = self._text.split()[: self._partials]
        return Transcript(" ".join(words), 0.5, "fake") if words else None

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        if isinstance(self._text, Exception):
            raise self._text
        return Transcript(self._text, 0.9, "fake") if self._text else None


class WordVoice:
    """Speaks as `spoken` does, sentence by sentence, at once; "unspeakable" fails and "endless" never answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.abandoned = 0

    async def speak(self, text: str, voice: Voice) -> AsyncIterator[Speech]:
        self.asked.append(text)
        if text == "unspeakable":
            raise SpeechError("the tongue is twisted")
        if text == "endless":
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.abandoned += 1
                raise
        for sentence in text.replace(". ", ".\n").splitlines():
            yield spoken(sentence)


class FakePrompts:
    """Knows `hello.wav`: half a second without word times."""

    def prompt(self, wav: str) -> Speech:
        if wav != "hello.wav":
            raise SpeechError(f"there is no prompt {wav!r}")
        return Speech(b"\x07\x00" * 12_000)


class InlineCrew:
    """Does every job at once, and says so on the loop's next round."""

    def __init__(self) -> None:
        self.is_closed = False

    def submit(self, job: Callable[[], Result], done: Callable[[Result | BaseException], None]) -> None:
        outcome: Result | BaseException
        try:
            outcome = job()
        except Exception as error:  # noqa: BLE001 - what a worker's outermost frame does
            outcome = error
        asyncio.get_running_loop().call_soon(done, outcome)

    def close(self) -> None:
        self.is_closed = True


class HeldCrew:
    """Does a job only when told to, so that a test decides how slow the worker is."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], Result], done: Callable[[Result | BaseException], None]) -> None:
        def run() -> None:
            outcome: Result | BaseException
            try:
                outcome = job()
            except Exception as error:  # noqa: BLE001 - what a worker's outermost frame does
                outcome = error
            done(outcome)

        self.jobs.append(run)

    def work(self) -> int:
        """Do everything that is waiting, and what that leads to; says how many jobs there were."""
        count = 0
        while self.jobs:
            self.jobs.pop(0)()
            count += 1
        return count

    def close(self) -> None:
        self.jobs.clear()


class RecordingOutlet:
    """Keeps what a session delivers."""

    def __init__(self) -> None:
        self.delivered: list[SessionEvent] = []
        self.severed: list[str] = []

    def deliver(self, event: SessionEvent) -> None:
        self.delivered.append(event)

    def sever(self, how: str) -> None:
        self.severed.append(how)

    @property
    def events(self) -> list[SessionEvent]:
        """All but audio."""
        return [event for event in self.delivered if not isinstance(event, AudioReady)]

    @property
    def audio(self) -> bytes:
        return b"".join(event.pcm for event in self.delivered if isinstance(event, AudioReady))


class FakePeer:
    """A peer without a network: keeps what it is given; a test plays the far end by `listener`."""

    def __init__(self, listener: Listener, *, answers: bool = True) -> None:
        self.listener = listener
        self._answers = answers
        self.offers: list[Offer] = []
        self.candidates: list[IceCandidate] = []
        self.played: list[bytes] = []
        self.hushes = 0
        self.closed = asyncio.Event()

    async def answer(self, offer: Offer) -> Answer:
        self.offers.append(offer)
        if not self._answers:
            await asyncio.get_running_loop().create_future()
        return Answer("v=0\r\n", (), offer.codecs[0])

    async def add_candidate(self, candidate: IceCandidate) -> None:
        self.candidates.append(candidate)

    def play(self, pcm: bytes) -> None:
        self.played.append(pcm)

    def hush(self) -> None:
        self.hushes += 1

    async def close(self) -> None:
        self.closed.set()


class FakePeers:
    """Makes them, and keeps them in `made`; with `answers` off they ponder over an offer for ever."""

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers
        self.made: list[FakePeer] = []

    def __call__(
        self, listener: Listener, clock: Clock, *, hosts: Sequence[str] = (), announced: Sequence[str] = ()
    ) -> FakePeer:
        self.made.append(FakePeer(listener, answers=self._answers))
        return self.made[-1]
