"""The process in which espeak-ng speaks: `python -m voisnap_mock.audio.espeak_worker`.

A process of its own, because the library has global state, is not safe to share between threads, and ends its host
when something displeases it. `audio.espeak` is the other side.

Messages go over standard input and output, each a JSON object and some bytes of audio, both with their lengths before
them (`send`, `receive`). The worker first says `{"engine": ...}` and then `{"ready": true}`, or `{"problem": ...}` and
ends. A request is `{"piece", "voice", "rate", "volume", "sample_rate"}`; its answers are any number of `{"words":
[[text, begin, end], ...], "is_last"}` with audio, or one `{"error"}`. Requests are answered in their order. The worker
ends when its input does.

The engine is reached through pyttsx3's espeak binding in synchronous mode. pyttsx3's own engine loses settings, returns
before the audio is there and can crash the process. The library is the one that espeakng-loader brings, on every
system, so that all of them have the same voices and need no system package.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import struct
import sys
import traceback
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from voisnap_mock.audio.frames import AGENT_RATE, FRAME_SECONDS, SAMPLE_BYTES
from voisnap_mock.audio.spoken_text import spread, tokens
from voisnap_mock.audio.voices import voice_data

if TYPE_CHECKING:
    from types import ModuleType

Message = dict[str, Any]
_LENGTHS = struct.Struct(">II")

# Seconds of audio in the first, second, and every later part of a piece: the first is quick, the later ones cheap.
_PART_SECONDS = (0.2, 1.0, 4.0)
# Espeak's pause after a sentence is 0.3 s at 175 words per minute and 0.6 s at 80, longer than people leave.
_LONGEST_PAUSE = 0.35
_BUFFER_MS = 100
# Forks kept ready: about as many as a reply has sentences. They take some 2 MB each.
_RESERVE = 4
_QUIET = 0.02
_DO_NOT_EXIT = 0x8000
_BREATH_SEED = 1


def send(stream: BinaryIO, message: Message, audio: bytes = b"") -> None:
    """Write a message and its audio."""
    stream.write(encode(message, audio))
    stream.flush()


def encode(message: Message, audio: bytes = b"") -> bytes:
    """A message as bytes."""
    header = json.dumps(message).encode()
    return _LENGTHS.pack(len(header), len(audio)) + header + audio


def receive(stream: BinaryIO) -> tuple[Message, bytes] | None:
    """Read a message and its audio; None when the stream has ended, also inside a message."""
    lengths = _read(stream, _LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    header_bytes, audio_bytes = _LENGTHS.unpack(lengths)
    header = _read(stream, header_bytes)
    audio = _read(stream, audio_bytes)
    if len(header) < header_bytes or len(audio) < audio_bytes:
        return None
    return json.loads(header), audio


def _read(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes, less at the end of the stream; an unbuffered stream gives them in pieces."""
    read = bytearray()
    while len(read) < size and (data := stream.read(size - len(read))):
        read += data
    return bytes(read)


class MessageReader:
    """The same for bytes that come in pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def push(self, data: bytes) -> list[tuple[Message, bytes]]:
        """Take `data` and return the messages that are whole now."""
        self._buffer += data
        messages = []
        at = 0
        while len(self._buffer) - at >= _LENGTHS.size:
            header_bytes, audio_bytes = _LENGTHS.unpack_from(self._buffer, at)
            header_at = at + _LENGTHS.size
            audio_at = header_at + header_bytes
            if len(self._buffer) < audio_at + audio_bytes:
                break
            at = audio_at + audio_bytes
            messages.append((json.loads(self._buffer[header_at:audio_at]), bytes(self._buffer[audio_at:at])))
        del self._buffer[:at]
        return messages


# --- The engine -----------------------------------------------------------------------------------------------


class EngineMissing(Exception):
    """Espeak cannot be used here; the text says why."""


class _PartOfPiece(Protocol):
    def __call__(self, words: list[list[object]], pcm: bytes, /, *, is_last: bool) -> None: ...


class Espeak:
    """The library, initialised. There can be one in a process.

    Raises:
        EngineMissing: if there is no library, or it does not start.
    """

    def __init__(self) -> None:
        self._binding, data = load_binding()
        self._sample_rate: int = self._binding.Initialize(
            self._binding.AUDIO_OUTPUT_SYNCHRONOUS, _BUFFER_MS, data, _DO_NOT_EXIT
        )
        if self._sample_rate <= 0:
            raise EngineMissing(f"espeak-ng did not start (its answer is {self._sample_rate}); its data may be missing")
        # Otherwise the breath of some voices, such as en-us+f3, comes from the time of day. New in espeak-ng 1.52.
        self._set_seed = getattr(self._binding.dll, "espeak_ng_SetRandSeed", lambda seed: None)
        self._take: Callable[[bytes, list[tuple[int, int]]], None] = _ignore
        self._failure: Exception | None = None
        self._binding.SetSynthCallback(self._called_back)

    @property
    def name(self) -> str:
        """What speaks, for people."""
        return f"espeak-ng {self._binding.Info().decode()} via pyttsx3"

    def speak(
        self, piece: str, *, voice: str, rate: int, volume: float, sample_rate: int, on_part: _PartOfPiece
    ) -> str | None:
        """Speak `piece` and hand its audio to `on_part` as it gets ready; returns what is wrong, or None.

        Voice, rate and volume are set each time: the engine keeps them, and the next piece is another caller's.
        """
        if self._binding.SetVoiceByName(voice.encode()) != self._binding.EE_OK:
            return f"espeak-ng has no voice {voice!r}"
        self._binding.SetParameter(self._binding.RATE, rate)
        self._binding.SetParameter(self._binding.VOLUME, round(volume * 100))
        self._set_seed(_BREATH_SEED)
        parts = _Parts(piece, self._sample_rate, sample_rate, on_part)
        self._take = parts.take
        text = piece.encode()
        # The binding's own Synth gives ten times the length of the text as its size.
        code = self._binding.cSynth(
            text,
            len(text) + 1,
            0,
            self._binding.POS_CHARACTER,
            0,
            self._binding.CHARS_UTF8 | self._binding.ENDPAUSE,
            None,
            None,
        )
        self._take = _ignore
        if self._failure is not None:
            raise self._failure
        if code != self._binding.EE_OK:
            return f"espeak-ng answered {code} to {piece[:40]!r}"
        parts.finish()
        return None

    def _called_back(self, samples: object, count: int, events: Any) -> int:
        from ctypes import string_at

        # An exception would be printed and forgotten between here and `speak`.
        try:
            words = []
            at = 0
            while (event := events[at]).type != self._binding.EVENT_LIST_TERMINATED:
                if event.type == self._binding.EVENT_WORD:
                    words.append((event.text_position - 1, event.sample))
                at += 1
            pcm = string_at(samples, count * SAMPLE_BYTES) if count > 0 else b""  # type: ignore[arg-type]
            self._take(pcm, words)
        except Exception as failure:  # noqa: BLE001 - the outermost Python frame, the caller is C
            self._failure = failure
            return 1
        return 0


def _ignore(_pcm: bytes, _words: list[tuple[int, int]]) -> None:
    """Takes what nobody asked for."""


def load_binding() -> tuple[ModuleType, bytes | None]:
    """pyttsx3's binding on the library of espeakng-loader or else of the system, and where its data is."""
    data = voice_data()
    if data is None:
        return _import_binding("neither espeakng-loader nor a system espeak-ng is installed"), None
    # Here and not above: the server imports this module for its messages.
    import ctypes

    import espeakng_loader

    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        return _import_binding(f"the library of espeakng-loader cannot be loaded ({error})"), None
    # The binding takes the first of a fixed list of library names that loads: let that be ours.
    ctypes.cdll.LoadLibrary = lambda name: library  # type: ignore[method-assign]
    try:
        binding = _import_binding("pyttsx3 cannot be imported")
    finally:
        del ctypes.cdll.LoadLibrary
    # The library takes paths of at most 159 bytes, and virtual environments lie deeper than that: go there instead.
    os.chdir(data.parent)
    return binding, b"."


def _import_binding(problem: str) -> ModuleType:
    try:
        from pyttsx3.drivers import _espeak
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise EngineMissing(
            f"{problem} ({error}); try: pip install --force-reinstall pyttsx3 espeakng-loader"
        ) from error
    return _espeak  # type: ignore[no-any-return]


class _Parts:
    """Cuts the audio of a piece before words, so that its beginning can be heard while the rest is being made.

    Every part is whole 20 ms frames, the last one filled up with silence.
    """

    def __init__(self, piece: str, from_rate: int, to_rate: int, on_part: _PartOfPiece) -> None:
        import soxr

        self._spans = tokens(piece)
        self._words = [piece[begin:end] for begin, end in self._spans]
        self._from_rate = from_rate
        self._rate = to_rate
        self._on_part = on_part
        self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
        self._pcm = bytearray()  # Audio not handed on yet.
        self._passed = 0  # Samples handed on.
        self._begins: dict[int, int] = {}  # Where words begin, in samples of the piece.
        self._latest = -1
        self._first_word = 0  # Of the part that is being gathered.
        self._cuts: list[tuple[int, int]] = []  # (sample, word): here a part ends, before this word.
        self._part = 0

    def take(self, pcm: bytes, words: list[tuple[int, int]]) -> None:
        """Take the next audio and the words that begin: their character offsets and sample positions."""
        for offset, sample in words:
            word = bisect_right(self._spans, (offset, sys.maxsize)) - 1
            # Espeak reports several words for "$12.50", and one of blank for an emoji.
            if word <= self._latest:
                continue
            self._latest = word
            begin = self._begins[word] = round(sample * self._rate / self._from_rate)
            cut = begin - begin % self._frame
            since = self._cuts[-1][0] if self._cuts else self._passed
            if cut - since >= _PART_SECONDS[min(self._part, len(_PART_SECONDS) - 1)] * self._rate:
                self._part += 1
                self._cuts.append((cut, word))
        self._resample(pcm, is_last=False)
        while self._cuts and self._passed + len(self._pcm) // SAMPLE_BYTES >= self._cuts[0][0]:
            cut, word = self._cuts.pop(0)
            self._hand_on(cut, word, is_last=False)

    def finish(self) -> None:
        """The piece is over: hand on what is left."""
        self._resample(b"", is_last=True)
        for cut, word in self._cuts:
            self._hand_on(cut, word, is_last=False)
        sounding = len(self._pcm.rstrip(b"\0")) // SAMPLE_BYTES + 1
        longest = sounding + round(_LONGEST_PAUSE * self._rate)
        del self._pcm[longest * SAMPLE_BYTES :]
        self._pcm += bytes(-len(self._pcm) % (self._frame * SAMPLE_BYTES))
        self._begins[len(self._words)] = self._passed + sounding
        self._hand_on(self._passed + len(self._pcm) // SAMPLE_BYTES, len(self._words), is_last=True)

    @property
    def _frame(self) -> int:
        return round(self._rate * FRAME_SECONDS)

    def _resample(self, pcm: bytes, *, is_last: bool) -> None:
        import numpy as np

        samples = np.frombuffer(pcm, np.int16).astype(np.float32)
        # soxr's own 16-bit output is dithered, which would turn the pauses into noise.
        resampled = np.rint(self._stream.resample_chunk(samples, last=is_last))
        self._pcm += np.clip(resampled, -32768, 32767).astype("<i2").tobytes()

    def _hand_on(self, cut: int, next_word: int, *, is_last: bool) -> None:
        size = (cut - self._passed) * SAMPLE_BYTES
        words: list[list[object]] = [
            [self._words[word], max(0, begin - self._passed) / self._rate, min(end, cut) / self._rate - self._at]
            for word, begin, end in self._timed(self._first_word, next_word)
        ]
        self._on_part(words, bytes(self._pcm[:size]), is_last=is_last)
        del self._pcm[:size]
        self._passed = cut
        self._first_word = next_word

    @property
    def _at(self) -> float:
        return self._passed / self._rate

    def _timed(self, first: int, last: int) -> list[tuple[int, float, float]]:
        """Words `first` to before `last` and where they begin and end; those espeak did not report share a stretch."""
        anchors = sorted({first, last, *(word for word in self._begins if first <= word <= last)})
        timed: list[tuple[int, float, float]] = []
        for anchor, following in pairwise(anchors):
            begin = self._begins.get(anchor, self._passed)
            end = max(begin, self._begins[following])
            shares = spread(self._words[anchor:following], begin, end)
            timed += [(anchor + at, *share) for at, share in enumerate(shares)]
        return timed


# --- The process ----------------------------------------------------------------------------------------------


def _answer(engine: Espeak, request: Message, answers: BinaryIO) -> None:
    def on_part(words: list[list[object]], pcm: bytes, *, is_last: bool) -> None:
        send(answers, {"words": words, "is_last": is_last}, pcm)

    problem = engine.speak(
        request["piece"],
        voice=request["voice"],
        rate=request["rate"],
        volume=request["volume"],
        sample_rate=request["sample_rate"],
        on_part=on_part,
    )
    if problem is not None:
        send(answers, {"error": problem})


def _warm_up(engine: Espeak) -> None:
    """Load the dictionary and the resampler; nobody should wait for that."""

    def on_part(_words: list[list[object]], _pcm: bytes, *, is_last: bool) -> None:
        pass

    engine.speak("Hello.", voice="en-us", rate=175, volume=1.0, sample_rate=AGENT_RATE, on_part=on_part)


class _Fork:
    """A fork of this process that waits for one request, answers it, and ends.

    What espeak makes of a text depends a little on what it spoke before (the phase of the voice's flutter is never
    reset). Every request is therefore answered from the same state, so that a text always gives the same samples.
    It is forked ahead of its request and speaks a word to itself, since the first touch of each page of memory costs
    as much as speaking a few words.
    """

    def __init__(self, engine: Espeak, answers: BinaryIO, elders: Iterable[_Fork]) -> None:
        readable, writable = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                os.close(writable)
                for elder in elders:
                    elder.forget()
                _warm_up(engine)
                with os.fdopen(readable, "rb") as stream:
                    request = receive(stream)
                if request is not None:
                    _answer(engine, request[0], answers)
                status = 0
            except BrokenPipeError:
                pass  # The server is gone.
            except Exception:  # noqa: BLE001 - the outermost frame of a process
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(readable)
        self._input = os.fdopen(writable, "wb")

    def hand_over(self, request: Message) -> None:
        """Let it answer this request."""
        with suppress(BrokenPipeError), self._input:
            send(self._input, request)

    def forget(self) -> None:
        """In a younger fork: let go of its input, which must end when the worker does."""
        self._input.close()

    def wait(self) -> bool:
        """Wait for its end, which comes at once without a request; False when it died of the request."""
        self._input.close()
        return os.waitpid(self._pid, 0)[1] == 0


def _serve(requests: BinaryIO, answers: BinaryIO) -> int:
    try:
        engine = Espeak()
    except EngineMissing as error:
        send(answers, {"problem": str(error)})
        return 1
    send(answers, {"engine": engine.name})
    _warm_up(engine)
    send(answers, {"ready": True})
    # Forks of macOS processes may not use its frameworks, which numpy does; Windows has no forks.
    if sys.platform != "linux":
        while (request := receive(requests)) is not None:
            _answer(engine, request[0], answers)
        return 0
    gc.freeze()
    reserve = deque([_Fork(engine, answers, ())])

    def request_waits(seconds: float) -> bool:
        return bool(select.select([requests], [], [], seconds)[0])

    while True:
        # Nobody should wait for a fork: they are made in quiet moments, while there is one left for who comes.
        while len(reserve) < _RESERVE and not request_waits(_QUIET):
            reserve.append(_Fork(engine, answers, reserve))
        request = receive(requests)
        if request is None:
            break
        answering = reserve.popleft()
        answering.hand_over(request[0])
        if not reserve:
            reserve.append(_Fork(engine, answers, ()))
        if not answering.wait():
            return 1  # Part of an answer may be out: only the other side can tell how to go on.
    while reserve:
        reserve.popleft().wait()
    return 0


def main() -> int:
    """Serve standard input and output until the input ends."""
    # Ctrl-C is for the server, which then closes the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unbuffered, so that it can be seen whether a request waits.
    requests = cast(BinaryIO, os.fdopen(os.dup(0), "rb", buffering=0))
    answers = os.fdopen(os.dup(1), "wb")
    # Libraries print where they like; only messages may go to the server.
    os.dup2(2, 1)
    try:
        return _serve(requests, answers)
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
