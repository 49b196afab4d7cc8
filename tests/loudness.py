"""Whether two recordings say the same, judged by how loud they are over time: that survives codecs, gain and delay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]


def envelope(samples: Samples, rate: int) -> npt.NDArray[np.float64]:
    """The mean loudness of each 20 ms."""
    size = rate // 50
    whole = samples[: len(samples) // size * size].astype(np.float64)
    loudness: npt.NDArray[np.float64] = np.abs(whole).reshape(-1, size).mean(axis=1)
    return loudness


def likeness(said: Samples, said_rate: int, heard: Samples, heard_rate: int) -> float:
    """The best correlation of what was said with any stretch of what was heard; 1.0 is the same."""
    pattern, whole = envelope(said, said_rate), envelope(heard, heard_rate)
    best = 0.0
    for at in range(len(whole) - len(pattern) + 1):
        stretch = whole[at : at + len(pattern)]
        if stretch.std() > 0:
            best = max(best, float(np.corrcoef(pattern, stretch)[0, 1]))
    return best
