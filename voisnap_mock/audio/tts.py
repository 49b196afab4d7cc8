"""Speaking: text in, agent audio out, a sentence at a time.

`Synthesizer` is the port. `LocalSynthesizer` is the real one: espeak in a worker process, kept in a cache, and tones
where espeak cannot be had, so that a reply is always heard. `say` is for callers: commands and tests.
"""

from __future__ import annotations

import logging
import math
import subprocess
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from typing import Protocol

from voisnap_mock.agents.script import Voice
from voisnap_mock.audio.espeak import (
    CLOSED,
    EspeakService,
    SpeechKey,
    SpeechRequest,
    worker_command,
    worker_environment,
)
from voisnap_mock.audio.espeak_worker import encode, receive
from voisnap_mock.audio.frames import AGENT_RATE, CALLER_RATE, SAMPLE_BYTES
from voisnap_mock.audio.spoken_text import pieces, tokens
from voisnap_mock.audio.tones import speak_tones
from voisnap_mock.audio.voices import espeak_voice, languages, variants
from voisnap_mock.engine.events import Speech, Word
from voisnap_mock.errors import ConfigError, NoVoice, SpeechError

logger = logging.getLogger(__name__)

_DEFAULT_VOICE = "en-us"
_RATES = (80, 450)
_SAY_WITHIN = 60.0


class Synthesizer(Protocol):
    """Makes speech of text."""

    def speak(self, text: str, voice: Voice) -> AsyncIterator[Speech]:
        """The speech of `text` in order, each part as soon as it is ready.

        Parts are whole words and, but for a port that says otherwise, whole 20 ms frames at 24 kHz; the words of a
        part are timed from its own start. There is at least one part, without audio when there is nothing to say.

        Raises:
            SpeechError: if the text cannot be spoken.
        """
        ...


class LocalSynthesizer:
    """Speaks with espeak, or with tones where there is none; never silent, and never fails.

    Lives in one event loop, which may run in any thread. Sentences of several callers are spoken in turn, and a caller
    is at most one sentence ahead of what it has taken. Pauses are espeak's own: 0.3 s after a sentence at 175 words per
    minute, at most 0.35 s.

    Args:
        cache_bytes: how much speech is kept, by sentence and voice; the least recently used goes first.
        answer_within: seconds without progress after which the worker counts as frozen.
        start_within: the same for its start.
        command: what to run as worker instead of `audio.espeak_worker`.
    """

    def __init__(
        self,
        *,
        cache_bytes: int = 32 * 1024 * 1024,
        answer_within: float = 1.0,
        start_within: float = 15.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self._espeak = EspeakService(answer_within=answer_within, start_within=start_within, command=command)
        self._cache_bytes = cache_bytes
        self._requests: OrderedDict[SpeechKey, SpeechRequest] = OrderedDict()
        self._cached = 0
        self._warned: set[str] = set()

    async def start(self) -> None:
        """Begin to start the worker, and return at once; whoever speaks before it is up waits for it."""
        self._espeak.start()

    async def settled(self) -> None:
        """Return when it is certain how replies will be spoken; `status` then says so."""
        self._espeak.start()
        await self._espeak.settled()

    async def close(self) -> None:
        """End the worker; replies that are being made end in tones."""
        await self._espeak.close()

    def status(self) -> str:
        """How replies are spoken, for people: `espeak-ng 1.52.0 via pyttsx3`, or `tones, because ...`."""
        if self._espeak.problem is not None:
            return f"tones, because {self._espeak.problem}"
        return self._espeak.engine or "espeak-ng via pyttsx3 (starting)"

    def voices(self) -> tuple[str, ...]:
        """The names a voice can have, without variants; empty when they cannot be listed."""
        return tuple(sorted(languages()))

    def variants(self) -> tuple[str, ...]:
        """What may follow a `+` in the name of a voice."""
        return tuple(variants().values())

    @property
    def cached_bytes(self) -> int:
        """How much speech is kept."""
        return self._cached

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, when there is one."""
        return self._espeak.worker_pid

    async def speak(self, text: str, voice: Voice) -> AsyncIterator[Speech]:
        """The speech of `text`; see `Synthesizer.speak`."""
        rate, volume = _bounded(voice)
        sentences = pieces(text)
        if not sentences:
            yield Speech(b"")
            return
        if voice.engine in ("tone", "recording"):
            if voice.engine == "recording":
                self._warn(f"{text[:60]!r} has no recording and is spoken in tones: the voice's engine is 'recording'")
            for sentence in sentences:
                yield speak_tones(_words(sentence), rate=rate, volume=volume)
            return
        name = self._voice_name(voice.name)
        keys = [SpeechKey(sentence, name, rate, volume, AGENT_RATE) for sentence in sentences]
        ahead = self._request(keys[0])
        for at in range(len(keys)):
            request = ahead
            if at + 1 < len(keys):
                ahead = self._request(keys[at + 1])
            taken = 0
            while taken < len(request.parts) or not request.done:
                if taken == len(request.parts):
                    await request.progress()
                    continue
                yield request.parts[taken]
                taken += 1
            if request.failed is not None:
                if request.failed != CLOSED:
                    self._warn(f"{request.key.piece[:60]!r} is spoken in tones: {request.failed}")
                spoken = sum(len(part.words) for part in request.parts)
                yield speak_tones(_words(request.key.piece)[spoken:], rate=rate, volume=volume)

    async def say_words(self, text: str, voice: Voice) -> Speech:
        """What a caller says, at 16 kHz: as the function `say_words`, but by the worker that is there already.

        Raises:
            NoVoice: if there is no espeak here.
            SpeechError: if the text is empty, or the voice is unknown.
        """
        name, sentences = _sayable(text, voice)
        rate, volume = _bounded(voice)
        requests = [self._request(SpeechKey(sentence, name, rate, volume, CALLER_RATE)) for sentence in sentences]
        pcm = bytearray()
        words: list[Word] = []
        for request in requests:
            while not request.done:
                await request.progress()
            if request.failed is not None:
                raise NoVoice(f"{text[:60]!r} cannot be spoken: {request.failed}")
            for part in request.parts:
                begin = len(pcm) / SAMPLE_BYTES / CALLER_RATE
                words += [Word(word.text, begin + word.begin, begin + word.end) for word in part.words]
                pcm += part.pcm
        return Speech(bytes(pcm), tuple(words))

    def _request(self, key: SpeechKey) -> SpeechRequest:
        """The speech of `key`: had before, on its way for another caller, or asked for now."""
        request = self._requests.get(key)
        if request is None:
            request = self._espeak.ask(key, self._done)
            if request.failed is not None:
                return request
            self._requests[key] = request
        self._requests.move_to_end(key)
        return request

    def _done(self, request: SpeechRequest) -> None:
        if request.failed is not None:
            self._requests.pop(request.key, None)
            return
        self._cached += _size(request)
        if self._cached > self._cache_bytes:
            for oldest in [kept for kept in self._requests.values() if kept.done]:
                if self._cached <= self._cache_bytes:
                    break
                del self._requests[oldest.key]
                self._cached -= _size(oldest)

    def _voice_name(self, name: str) -> str:
        try:
            return espeak_voice(name)
        except ConfigError as error:
            # Files are checked when they are read; a call that has begun goes on.
            self._warn(f"{error}; speaking as {_DEFAULT_VOICE!r} instead")
            return _DEFAULT_VOICE

    def _warn(self, message: str) -> None:
        if message not in self._warned and len(self._warned) < 100:
            self._warned.add(message)
            logger.warning("%s", message)


def say(text: str, voice: str | Voice = _DEFAULT_VOICE, *, rate: int = CALLER_RATE) -> bytes:
    """The speech of `text` as PCM at `rate` samples per second, for use as a caller's audio; see `say_words`."""
    return say_words(text, voice, rate=rate).pcm


def say_words(text: str, voice: str | Voice = _DEFAULT_VOICE, *, rate: int = CALLER_RATE) -> Speech:
    """The speech of `text` at `rate` samples per second, and where its words lie in it.

    Blocks for some 0.3 s; needs no event loop, and starts a worker of its own.

    Raises:
        NoVoice: if there is no espeak here. A tone would be no use to who wants to be understood by its sound.
        SpeechError: if the text is empty, or the voice is unknown.
    """
    spoken_by = voice if isinstance(voice, Voice) else Voice(name=voice)
    name, sentences = _sayable(text, spoken_by)
    words_per_minute, volume = _bounded(spoken_by)
    requests = [
        encode(
            {
                "piece": sentence,
                "voice": name,
                "rate": words_per_minute,
                "volume": volume,
                "sample_rate": rate,
            }
        )
        for sentence in sentences
    ]
    try:
        done = subprocess.run(
            worker_command(),
            input=b"".join(requests),
            capture_output=True,
            env=worker_environment(),
            timeout=_SAY_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpeechError(f"the speech worker did not do its work: {error}") from error
    answers = BytesIO(done.stdout)
    pcm = bytearray()
    words: list[Word] = []
    finished = 0
    while (answer := receive(answers)) is not None:
        message, audio = answer
        if problem := message.get("problem"):
            raise NoVoice(f"{text[:60]!r} cannot be spoken: {problem}")
        if problem := message.get("error"):
            raise SpeechError(f"{text[:60]!r} cannot be spoken: {problem}")
        begin = len(pcm) / SAMPLE_BYTES / rate
        words += [Word(word, begin + first, begin + last) for word, first, last in message.get("words", ())]
        pcm += audio
        finished += bool(message.get("is_last"))
    if finished < len(sentences):
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise SpeechError(f"the speech worker ended too early: exit status {done.returncode} {' '.join(said)}".rstrip())
    return Speech(bytes(pcm), tuple(words))


def _sayable(text: str, voice: Voice) -> tuple[str, list[str]]:
    """Espeak's name for the voice, and the sentences. Raises SpeechError."""
    try:
        name = espeak_voice(voice.name)
    except ConfigError as error:
        raise SpeechError(str(error)) from error
    sentences = pieces(text)
    if not sentences:
        raise SpeechError(f"there is nothing to say in {text[:60]!r}")
    return name, list(sentences)


def _bounded(voice: Voice) -> tuple[int, float]:
    """Words per minute and volume, as espeak can do them."""
    rate = min(max(voice.rate, _RATES[0]), _RATES[1])
    return rate, min(max(voice.volume, 0.0), 1.0) if math.isfinite(voice.volume) else 1.0


def _words(piece: str) -> list[str]:
    return [piece[begin:end] for begin, end in tokens(piece)]


def _size(request: SpeechRequest) -> int:
    return sum(len(part.pcm) for part in request.parts)
