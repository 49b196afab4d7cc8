"""Caller speech with a known truth: what is said, where it begins and ends, and sounds that are no speech.

Each batch of `say_all` is spoken by one fresh worker of the project's own, so the same batch is the same samples every
time.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import numpy.typing as npt

from voisnap_mock.audio.espeak import worker_command, worker_environment
from voisnap_mock.audio.espeak_worker import encode, receive
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, CALLER_RATE
from voisnap_mock.audio.voices import espeak_voice
from voisnap_mock.engine.events import Word

Samples = npt.NDArray[np.int16]

SENTENCES = (
    "i want to cancel my subscription and get a refund",
    "no thank you that is all goodbye",
    "where is my refund i paid two hundred dollars",
    "please book a table for four people on friday evening",
    "what are your opening hours on saturday",
    "is the manager there i need to speak with her",
    "send me a message when the problem is fixed",
    "i forgot my password can you reset it for me",
    "turn off the music and switch on the light",
    "do you have a small room for two weeks in july",
    "my account number is seven two nine four one",
    "hello i would like to check the status of my order please",
    "could you tell me when my new card will be ready",
    "please wait a minute i have to find my card",
    "my flight to berlin was cancelled and i want another ticket",
    "where can i park my car near the station",
    "the coffee was good but the pizza was too late",
    "it is not working since monday and i am very angry",
    "can i pay the balance with another card next month",
    "yes my order is eight eight three zero five",
)
"""Sentences whose words the built-in model knows."""


@dataclass(frozen=True)
class Say:
    text: str
    voice: str = "en-us"
    rate: int = 175


@dataclass(frozen=True)
class Spoken:
    """An utterance.

    Attributes:
        pcm: 16 kHz mono.
        words: where the synthesiser put them.
        begin, end: seconds; the first and last 5 ms within 40 dB of the loudest 5 ms.
    """

    text: str
    pcm: Samples
    words: tuple[Word, ...]
    begin: float
    end: float


@lru_cache(maxsize=16)
def say_all(*orders: Say) -> tuple[Spoken, ...]:
    """Speak every order, in one process and therefore the same way every time."""
    requests = [
        {
            "piece": order.text,
            "voice": espeak_voice(order.voice),
            "rate": order.rate,
            "volume": 1.0,
            "sample_rate": CALLER_RATE,
        }
        for order in orders
    ]
    worker = subprocess.run(
        worker_command(),
        input=b"".join(encode(request) for request in requests),
        capture_output=True,
        env=worker_environment(),
        check=True,
        timeout=60,
    )
    answers = BytesIO(worker.stdout)
    return tuple(_spoken(order, answers) for order in orders)


def say(text: str, voice: str = "en-us", rate: int = 175) -> Spoken:
    return say_all(Say(text, voice, rate))[0]


def _spoken(order: Say, answers: BytesIO) -> Spoken:
    pcm = b""
    words: list[Word] = []
    is_last = False
    while not is_last:
        answer = receive(answers)
        assert answer is not None, f"the worker ended before {order.text!r} was spoken"
        message, audio = answer
        assert not message.keys() & {"error", "problem"}, message
        begin = len(pcm) / 2 / CALLER_RATE
        words += [Word(text, begin + first, begin + last) for text, first, last in message.get("words", ())]
        pcm += audio
        is_last = message.get("is_last", False)
    samples = np.frombuffer(pcm, np.int16)
    return Spoken(order.text, samples, tuple(words), *speech_bounds(samples))


def speech_bounds(pcm: Samples, *, within_db: float = 40.0) -> tuple[float, float]:
    """Where speech is, in seconds, by the level of 5 ms pieces of a clean recording."""
    piece = CALLER_RATE // 200
    pieces = pcm[: len(pcm) // piece * piece].astype(np.float64).reshape(-1, piece)
    power = ((pieces - pieces.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-within_db / 10))
    return loud[0] * piece / CALLER_RATE, (loud[-1] + 1) * piece / CALLER_RATE


# --- What is no speech, and what spoils it. Levels are RMS in dBFS: 0 is a full-scale square wave. ------------------


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * CALLER_RATE), np.int16)


def noise(seconds: float, dbfs: float, *, seed: int = 1) -> Samples:
    """White noise."""
    return at_level(np.random.default_rng(seed).standard_normal(round(seconds * CALLER_RATE)), dbfs)


def pink_noise(seconds: float, dbfs: float, *, seed: int = 1) -> Samples:
    """Noise that falls by 3 dB an octave, flat below 20 Hz."""
    count = round(seconds * CALLER_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / CALLER_RATE), 20.0))
    return at_level(np.fft.irfft(spectrum, count), dbfs)


def tone(seconds: float, hertz: float, dbfs: float) -> Samples:
    turns = np.arange(round(seconds * CALLER_RATE)) * hertz / CALLER_RATE
    return at_level(np.sin(2 * np.pi * turns), dbfs)


def hum(seconds: float, dbfs: float, *, mains: float = 50.0) -> Samples:
    """Mains hum as a bad cable makes it: the fundamental and five harmonics."""
    turns = np.arange(round(seconds * CALLER_RATE)) * mains / CALLER_RATE
    return at_level(np.sum([np.sin(2 * np.pi * k * turns) / k for k in range(1, 7)], axis=0), dbfs)


def key_presses(keys: int, dbfs: float = -16.0) -> Samples:
    """DTMF as a telephone sends it in the voice: 100 ms of two tones, 100 ms of silence."""
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    bursts = (mix(tone(0.1, rows[k % 4], dbfs), tone(0.1, columns[k % 3], dbfs)) for k in range(keys))
    return np.concatenate([part for burst in bursts for part in (burst, silence(0.1))])


def at_level(samples: npt.NDArray[np.floating], dbfs: float) -> Samples:
    return quantize(samples / np.sqrt((samples**2).mean()) * 32768 * 10 ** (dbfs / 20))


def quantize(samples: npt.ArrayLike) -> Samples:
    """To 16 bits, clipped at full scale."""
    return np.clip(np.round(np.asarray(samples, np.float64)), -32768, 32767).astype(np.int16)


def mix(*layers: Samples) -> Samples:
    """Layers on top of each other; the longest one gives the length."""
    total = np.zeros(max(map(len, layers)))
    for layer in layers:
        total[: len(layer)] += layer
    return quantize(total)


def frames(pcm: Samples) -> list[bytes]:
    """The whole 20 ms frames of it."""
    data = pcm.tobytes()
    return [
        data[at : at + CALLER_FRAME_BYTES] for at in range(0, len(data) - CALLER_FRAME_BYTES + 1, CALLER_FRAME_BYTES)
    ]
