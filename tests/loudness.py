"""Whether two recordings say the same, judged by how loud they are over time: that survives codecs, gain and delay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]
Loudness = npt.NDArray[np.float64]

# In the steps of an envelope, 20 ms.
_PIECE = 25
_SLACK = 10


def envelope(samples: Samples, rate: int) -> Loudness:
    """The mean loudness of each 20 ms."""
    size = rate // 50
    whole = samples[: len(samples) // size * size].astype(np.float64)
    loudness: Loudness = np.abs(whole).reshape(-1, size).mean(axis=1)
    return loudness


def likeness(said: Samples, said_rate: int, heard: Samples, heard_rate: int) -> float:
    """How well what was said is found in what was heard; 1.0 is the same, 0.0 another thing.

    It is found as a whole, then in pieces of half a second, each of which may lie 0.2 s from its place: receivers
    stretch and shorten speech to make up for packets that come late.
    """
    pattern, whole = envelope(said, said_rate), envelope(heard, heard_rate)
    at = max(range(len(whole) - len(pattern) + 1), key=lambda place: _alike(pattern, whole[place:]))
    found = []
    for begin in range(0, len(pattern) - _PIECE + 1, _PIECE):
        piece = pattern[begin : begin + _PIECE]
        places = range(max(0, at + begin - _SLACK), min(len(whole) - _PIECE, at + begin + _SLACK) + 1)
        found.append(max(_alike(piece, whole[place:]) for place in places))
    return float(np.mean(found))


def _alike(pattern: Loudness, heard: Loudness) -> float:
    """The correlation of a pattern with the beginning of what was heard."""
    stretch = heard[: len(pattern)]
    if stretch.std() == 0 or pattern.std() == 0:
        return 0.0
    return max(0.0, float(np.corrcoef(pattern, stretch)[0, 1]))
