"""Caller speech with a known truth: what is said, and where it begins and ends.

Everything is spoken by espeak in one fresh process per batch, so the same batch is the same samples every time. Tests
use `say` and `say_all`; `python tests/audio/speech_samples.py` is that process.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

RATE = 16_000
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
    "my internet has been down since tuesday morning",
    "where can i park my car near the station",
    "the coffee was good but the pizza was too late",
    "it is not working since monday and i am very angry",
    "does the shop close early on sunday",
    "yes my order is eight eight three zero five",
)
"""Sentences whose words the built-in model knows."""


@dataclass(frozen=True)
class Spoken:
    """An utterance.

    Attributes:
        pcm: 16 kHz mono.
        begin, end: seconds; the first and last 5 ms within 40 dB of the loudest 5 ms.
    """

    text: str
    pcm: Samples
    begin: float
    end: float

    @property
    def wire(self) -> bytes:
        """The samples as a client sends them."""
        return self.pcm.tobytes()


@dataclass(frozen=True)
class Say:
    text: str
    voice: str = "en-us"
    rate: int = 175
    pitch: int = 50


@lru_cache(maxsize=16)
def say_all(*orders: Say) -> tuple[Spoken, ...]:
    """Speak every order, in one process and therefore the same way every time."""
    import soxr

    request = json.dumps([[order.text, order.voice, order.rate, order.pitch] for order in orders])
    answer = subprocess.run(
        [sys.executable, __file__], input=request, capture_output=True, text=True, check=True, timeout=60
    )
    spoken = []
    for order, (rate, encoded) in zip(orders, json.loads(answer.stdout), strict=True):
        native = np.frombuffer(base64.b64decode(encoded), np.int16)
        pcm = np.asarray(soxr.resample(native, rate, RATE, quality="HQ"))
        spoken.append(Spoken(order.text, pcm, *speech_bounds(pcm)))
    return tuple(spoken)


def say(text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50) -> Spoken:
    return say_all(Say(text, voice, rate, pitch))[0]


def speech_bounds(pcm: Samples, *, within_db: float = 40.0) -> tuple[float, float]:
    """Where speech is: seconds, by the level of 5 ms pieces of a clean recording."""
    piece = RATE // 200
    pieces = pcm[: len(pcm) // piece * piece].astype(np.float64).reshape(-1, piece)
    power = ((pieces - pieces.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-within_db / 10))
    return loud[0] * piece / RATE, (loud[-1] + 1) * piece / RATE


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def noise(seconds: float, dbfs: float, *, seed: int = 1) -> Samples:
    """White noise of that RMS level."""
    hiss = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return quantize(hiss * 32768 * 10 ** (dbfs / 20))


def pink_noise(seconds: float, dbfs: float, *, seed: int = 1) -> Samples:
    """Noise that falls by 3 dB an octave, flat below 20 Hz."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20.0))
    hiss = np.fft.irfft(spectrum, count)
    return quantize(hiss / hiss.std() * 32768 * 10 ** (dbfs / 20))


def tone(seconds: float, hertz: float, dbfs: float) -> Samples:
    """A sine of that RMS level."""
    turns = np.arange(round(seconds * RATE)) * hertz / RATE
    return quantize(np.sin(2 * np.pi * turns) * np.sqrt(2) * 32768 * 10 ** (dbfs / 20))


def hum(seconds: float, dbfs: float, *, mains: float = 50.0) -> Samples:
    """Mains hum as a bad cable makes it: the fundamental and five harmonics."""
    parts = [tone(seconds, mains * k, 0).astype(np.float64) / k for k in range(1, 7)]
    mix = np.sum(parts, axis=0)
    return quantize(mix / mix.std() * 32768 * 10 ** (dbfs / 20))


def quantize(samples: npt.ArrayLike) -> Samples:
    """To 16 bits, clipped at full scale."""
    return np.clip(np.round(np.asarray(samples, np.float64)), -32768, 32767).astype(np.int16)


def mix(*layers: Samples) -> Samples:
    """Layers on top of each other; the longest one gives the length."""
    total = np.zeros(max(map(len, layers)))
    for layer in layers:
        total[: len(layer)] += layer
    return quantize(total)


def frames(pcm: Samples | bytes) -> list[bytes]:
    """The whole 20 ms frames of it."""
    data = pcm if isinstance(pcm, bytes) else pcm.tobytes()
    return [data[at : at + 640] for at in range(0, len(data) - 639, 640)]


def _serve() -> None:
    """Speak what standard input orders, as JSON on standard output."""
    if sys.platform == "linux":
        import espeakng_loader

        ctypes.CDLL(espeakng_loader.get_library_path())
        os.environ["ESPEAK_DATA_PATH"] = espeakng_loader.get_data_path()
    from pyttsx3.drivers import _espeak

    rate = _espeak.Initialize(2, 500)
    pieces: list[bytes] = []

    def collect(wav: object, count: int, _events: object) -> int:
        if count > 0:
            pieces.append(ctypes.string_at(wav, count * 2))  # type: ignore[arg-type]
        return 0

    _espeak.SetSynthCallback(collect)
    answers = []
    for text, voice, words_per_minute, pitch in json.load(sys.stdin):
        if _espeak.SetVoiceByName(voice.encode()) != 0:
            sys.exit(f"espeak has no voice {voice!r}")
        _espeak.SetParameter(_espeak.RATE, words_per_minute, 0)
        _espeak.SetParameter(_espeak.PITCH, pitch, 0)
        pieces.clear()
        _espeak.Synth(text.encode(), flags=_espeak.ENDPAUSE | _espeak.CHARS_UTF8)
        _espeak.Synchronize()
        answers.append((rate, base64.b64encode(b"".join(pieces)).decode()))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _serve()
