"""Mel-frequency cepstra as Vosk computes them from the model's `mfcc.conf`, so that training sees what it will hear.

Source: Documented by the sources of Kaldi (`feat/feature-mfcc`, `feat/mel-computations`); tests show
that words come out of Vosk.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from voisnap_mock.audio.frames import CALLER_RATE

Floats = npt.NDArray[np.float32]

WIDTH = 40
"""Numbers in a frame."""
STEP = CALLER_RATE // 100
"""Samples from frame to frame."""
WINDOW = CALLER_RATE // 40
"""Samples in a frame."""

_LOWEST, _HIGHEST = 20.0, CALLER_RATE / 2 - 400.0
_LIFTER = 22.0
_PRE_EMPHASIS = 0.97
_FFT = 512

MFCC_CONF = f"""\
--use-energy=false
--sample-frequency={CALLER_RATE}
--num-mel-bins={WIDTH}
--num-ceps={WIDTH}
--low-freq={_LOWEST:g}
--high-freq={_HIGHEST - CALLER_RATE / 2:g}
--dither=0
--allow-upsample=true
"""
"""The content of `conf/mfcc.conf`. Without dither the same audio always gives the same words."""


def cepstra(samples: npt.NDArray[np.generic]) -> Floats:
    """The frames of 16 kHz audio in units of 16-bit samples: (frames, WIDTH); none when it is shorter than a window."""
    if len(samples) < WINDOW:
        return np.zeros((0, WIDTH), np.float32)
    audio = np.asarray(samples, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::STEP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window, filters, cosines = _tables()
    spectrum = np.fft.rfft((frames - _PRE_EMPHASIS * before) * window, _FFT)[:, : _FFT // 2]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    # The floor is Kaldi's; digital silence sits on it.
    energies = np.maximum(power @ filters, np.finfo(np.float32).eps)
    cepstra: Floats = np.log(energies) @ cosines
    return cepstra


@cache
def _tables() -> tuple[Floats, Floats, Floats]:
    """Window, mel filters (bins to bands), and the cosine transform with its liftering (bands to cepstra)."""
    turns = 2 * np.pi * np.arange(WINDOW) / (WINDOW - 1)
    window = (0.5 - 0.5 * np.cos(turns)) ** 0.85  # Kaldi's own shape, called povey.

    edges = np.linspace(_mel(_LOWEST), _mel(_HIGHEST), WIDTH + 2)
    bins = _mel(np.arange(_FFT // 2) * CALLER_RATE / _FFT)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    filters = np.clip(np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)), 0.0, None)

    order = np.arange(WIDTH)
    cosines = np.sqrt(2 / WIDTH) * np.cos(np.pi / WIDTH * (order[:, None] + 0.5) * order)
    cosines[:, 0] = np.sqrt(1 / WIDTH)
    lifted = cosines * (1 + 0.5 * _LIFTER * np.sin(np.pi * order / _LIFTER))
    return window.astype(np.float32), filters.astype(np.float32), lifted.astype(np.float32)


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    mel: npt.NDArray[np.float64] = 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)
    return mel
