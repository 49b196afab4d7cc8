"""What happens to speech on its way to an ear: rooms, telephones, tilted microphones, levels, noise, pauses around it.

Seeded and repeatable. All filters are one multiplication of the spectrum.
"""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt

from voisnap_mock.audio.frames import CALLER_RATE

Floats = npt.NDArray[np.float64]

_FULL_SCALE = 32_000.0
# Filters may sound this many samples before their cause.
_DELAY = CALLER_RATE // 100
# A room's echo has fallen by 60 dB at its end.
_DECAY = np.log(1000)


def degraded(speech: npt.NDArray[np.generic], rng: Random) -> tuple[Floats, float]:
    """16 kHz speech as some line may carry it, in units of 16-bit samples, and the seconds of silence put before it."""
    noise = np.random.default_rng(rng.getrandbits(64))
    before = rng.uniform(0.05, 0.6)
    after = rng.uniform(0.1, 0.6)
    audio = np.concatenate(
        [np.zeros(round(before * CALLER_RATE)), np.asarray(speech, np.float64), np.zeros(round(after * CALLER_RATE))]
    )
    audio = _filtered(np.pad(audio, (0, _DELAY)), _line(rng, noise))[_DELAY:]
    audio *= _FULL_SCALE * _amplitude(rng.uniform(-30, 0)) / max(np.abs(audio).max(), 1e-9)
    if rng.random() < 0.5:
        hiss = _filtered(noise.standard_normal(len(audio)), _coloured(rng.uniform(-0.95, 0.3)))
        audio += hiss * _amplitude(-rng.uniform(5, 45)) * np.sqrt((audio**2).mean() / (hiss**2).mean())
    # Rounding matters: silence becomes digital silence again.
    return np.clip(np.rint(audio), -32768, 32767), before


def _line(rng: Random, noise: np.random.Generator) -> Floats:
    """The response to an impulse of a room, a telephone or a microphone, or just the impulse, after `_DELAY`."""
    response = np.zeros(CALLER_RATE // 2)
    response[_DELAY] = 1.0
    if rng.random() < 0.25:
        length = round(CALLER_RATE * rng.uniform(0.05, 0.35))
        echo = noise.standard_normal(length) * np.exp(-_DECAY * np.arange(length) / length)
        echo[0] = 0.0
        response[_DELAY : _DELAY + length] += echo * rng.uniform(0.1, 0.5) / np.sqrt((echo**2).sum())
    if rng.random() < 0.2:
        return _around(response, _telephone(rng.uniform(150, 350), rng.uniform(3200, 3700)))
    if rng.random() < 0.3:
        tilt = np.zeros_like(response)
        tilt[:2] = 1.0, rng.uniform(-0.5, 0.5)
        return _filtered(response, tilt)
    return response


def _telephone(lowest: float, highest: float) -> Floats:
    """A band of frequencies with soft edges. Sounds keep their place: it rings before them as much as after."""
    size = CALLER_RATE // 2
    hertz = np.maximum(np.fft.rfftfreq(size, 1 / CALLER_RATE), 1e-6)
    gain = 1 / np.sqrt((1 + (lowest / hertz) ** 6) * (1 + (hertz / highest) ** 6))
    response: Floats = np.fft.irfft(gain, size)
    return response


def _around(response: Floats, ringing: Floats) -> Floats:
    """`response` with each of its impulses ringing, where the times before an impulse are at the end of `ringing`."""
    spectrum = np.fft.rfft(response) * np.fft.rfft(ringing)
    around: Floats = np.fft.irfft(spectrum, len(response))
    return around


def _coloured(pole: float) -> Floats:
    """What turns white noise dull (below 0) or sharp (above)."""
    response: Floats = (-pole) ** np.arange(CALLER_RATE // 20, dtype=np.float64)
    return response


def _filtered(audio: Floats, response: Floats) -> Floats:
    """The convolution of both, as long as `audio`."""
    size = 1 << (len(audio) + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(audio, size) * np.fft.rfft(response, size)
    filtered: Floats = np.fft.irfft(spectrum, size)[: len(audio)]
    return filtered


def _amplitude(decibels: float) -> float:
    return float(10 ** (decibels / 20))
