"""Speech without a speech engine: one tone per word.

Pure, and cheap enough for the event loop: every pitch has a whole number of samples per period, so a tone is a period
repeated, and no array library is loaded for it.
"""

from __future__ import annotations

import math
import sys
from array import array
from functools import lru_cache

from voisnap_mock.audio.frames import AGENT_FRAME_BYTES, AGENT_RATE, SAMPLE_BYTES
from voisnap_mock.engine.events import Speech, Word

# Samples per period: 300, 320, 375, 400, 480, 500 and 600 Hz. All are within a telephone's band.
_PERIODS = (80, 75, 64, 60, 50, 48, 40)
_LOUDNESS = 8000
_FADE_SAMPLES = AGENT_RATE // 100
_PAUSES = {".": 0.3, "!": 0.3, "?": 0.3, "…": 0.3, "。": 0.3, ",": 0.15, ";": 0.15, ":": 0.15}


def speak_tones(words: list[str], *, rate: int, volume: float) -> Speech:
    """`words` as tones: as long as speech at `rate` words per minute would be, whole 20 ms frames.

    The pitch of a word follows from its letters, so that the same word always sounds the same.
    """
    pcm = bytearray()
    timed: list[Word] = []
    for word in words:
        begin = len(pcm) / SAMPLE_BYTES / AGENT_RATE
        # 175 words per minute is about 343 ms a word; a longer word takes longer.
        length = 60 / rate * min(2.0, 0.5 + len(word) / 10)
        pcm += _tone(_PERIODS[sum(word.encode()) % len(_PERIODS)], round(length * 0.85 * 1000), round(volume * 100))
        timed.append(Word(word, begin, len(pcm) / SAMPLE_BYTES / AGENT_RATE))
        pcm += bytes(SAMPLE_BYTES * round(AGENT_RATE * (length * 0.15 + _PAUSES.get(word[-1:], 0.0))))
    pcm += bytes(-len(pcm) % AGENT_FRAME_BYTES)
    return Speech(bytes(pcm), tuple(timed))


@lru_cache(maxsize=512)
def _tone(period: int, length_ms: int, volume_percent: int) -> bytes:
    peak = _LOUDNESS * volume_percent / 100
    wave = array("h", (round(peak * math.sin(2 * math.pi * at / period)) for at in range(period)))
    count = max(2 * _FADE_SAMPLES, AGENT_RATE * length_ms // 1000)
    samples = wave * (count // period + 1)
    del samples[count:]
    for at in range(_FADE_SAMPLES):
        samples[at] = samples[at] * at // _FADE_SAMPLES
        samples[-1 - at] = samples[-1 - at] * at // _FADE_SAMPLES
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
