"""What happens to a caller's audio on its way: 16 kHz in, 16 kHz out. The same input gives the same output."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import soxr
from speech_samples import Samples, quantize


def resampled(pcm: Samples, *rates: int) -> Samples:
    """Through these rates and back."""
    samples = pcm.astype(np.float32)
    for source, target in pairwise((16_000, *rates, 16_000)):
        samples = soxr.resample(samples, source, target)
    return quantize(samples)


def mu_law(pcm: Samples) -> Samples:
    """G.711 as in North America: 8 kHz, 8 bits."""
    x = soxr.resample(pcm.astype(np.float32), 16_000, 8_000) / 32768
    codes = np.round(np.sign(x) * np.log1p(255 * np.minimum(np.abs(x), 1)) / np.log(256) * 127) / 127
    y = np.sign(codes) * (256 ** np.abs(codes) - 1) / 255 * 32767
    return quantize(soxr.resample(y.astype(np.float32), 8_000, 16_000))


def a_law(pcm: Samples) -> Samples:
    """G.711 as in Europe."""
    x = np.clip(soxr.resample(pcm.astype(np.float32), 16_000, 8_000) / 32768, -1, 1)
    knee = 1 + np.log(87.6)
    size = np.abs(x)
    curve = np.where(size < 1 / 87.6, 87.6 * size, 1 + np.log(np.maximum(87.6 * size, 1e-9))) / knee
    codes = np.round(curve * 127) / 127
    y = np.where(codes < 1 / knee, codes * knee / 87.6, np.exp(codes * knee - 1) / 87.6)
    return quantize(soxr.resample((np.sign(x) * y * 32767).astype(np.float32), 8_000, 16_000))


def noisy(pcm: Samples, snr_db: float = 20.0) -> Samples:
    """White noise under the speech."""
    loud = pcm[np.abs(pcm) > 50].astype(np.float64)
    level = np.sqrt((loud**2).mean()) * 10 ** (-snr_db / 20)
    return quantize(pcm + np.random.default_rng(len(pcm)).standard_normal(len(pcm)) * level)


def lossy(pcm: Samples, share: float = 0.05) -> Samples:
    """Frames of 20 ms that never come."""
    whole = pcm[: len(pcm) // 320 * 320].reshape(-1, 320)
    return whole[np.random.default_rng(len(pcm) + 1).random(len(whole)) >= share].reshape(-1)


def late(pcm: Samples, seconds: float) -> Samples:
    """Somebody began to listen in the middle of the first word."""
    begin = int(np.flatnonzero(pcm)[0])
    return np.concatenate((pcm[:begin], pcm[begin + round(seconds * 16_000) :]))


def has_opus() -> bool:
    return ctypes.util.find_library("opus") is not None


def opus(pcm: Samples, bit_rate: int = 24_000) -> Samples:
    """Opus at 16 kHz in frames of 20 ms, voice mode; needs the system's libopus."""
    library = ctypes.CDLL(ctypes.util.find_library("opus"))
    for name in ("opus_encoder_create", "opus_decoder_create"):
        getattr(library, name).restype = ctypes.c_void_p
    error = ctypes.c_int()
    voice, set_bit_rate = 2048, 4002
    encoder = ctypes.c_void_p(library.opus_encoder_create(16_000, 1, voice, ctypes.byref(error)))
    decoder = ctypes.c_void_p(library.opus_decoder_create(16_000, 1, ctypes.byref(error)))
    library.opus_encoder_ctl(encoder, set_bit_rate, ctypes.c_int(bit_rate))
    packet = ctypes.create_string_buffer(4000)
    out = np.zeros(320, np.int16)
    pieces = []
    for at in range(0, len(pcm) - 319, 320):
        frame = np.ascontiguousarray(pcm[at : at + 320])
        size = library.opus_encode(encoder, frame.ctypes.data_as(ctypes.c_void_p), 320, packet, 4000)
        library.opus_decode(decoder, packet, size, out.ctypes.data_as(ctypes.c_void_p), 320, 0)
        pieces.append(out.copy())
    library.opus_encoder_destroy(encoder)
    library.opus_decoder_destroy(decoder)
    return np.concatenate(pieces)


LINES: dict[str, Callable[[Samples], Samples]] = {
    "clean": lambda pcm: pcm,
    "gain 0.5": lambda pcm: quantize(pcm * 0.5),
    "gain 1.5": lambda pcm: quantize(pcm * 1.5),
    "44.1 kHz": lambda pcm: resampled(pcm, 44_100),
    "8 kHz and 48 kHz": lambda pcm: resampled(pcm, 8_000, 48_000),
    "mu-law": mu_law,
    "A-law": a_law,
    "noise 20 dB": noisy,
    "5 % loss": lossy,
    "100 ms late": lambda pcm: late(pcm, 0.1),
    "200 ms late": lambda pcm: late(pcm, 0.2),
    "300 ms late": lambda pcm: late(pcm, 0.3),
}
OPUS_LINES: dict[str, Callable[[Samples], Samples]] = {
    "Opus 24k": opus,
    "Opus 16k": lambda pcm: opus(pcm, 16_000),
    "Opus, noise, loss and gain": lambda pcm: lossy(noisy(opus(quantize(pcm * 0.6)))),
}
"""Only where `has_opus`."""
