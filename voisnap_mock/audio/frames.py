"""PCM in bytes: slicing it into frames, reading and writing WAV files, changing its sample rate.

PCM is signed 16-bit little-endian, one channel, everywhere in the package; other formats end in `read_wav`. numpy
and soxr are imported by the functions that need them, since the server must be up before either is loaded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from voisnap_mock.errors import SpeechError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CALLER_RATE = 16_000
AGENT_RATE = 24_000
FRAME_SECONDS = 0.02
SAMPLE_BYTES = 2
CALLER_FRAME_BYTES = 640
AGENT_FRAME_BYTES = 960


def seconds(pcm: bytes, sample_rate: int) -> float:
    """How long `pcm` lasts."""
    return len(pcm) / SAMPLE_BYTES / sample_rate


class Framer:
    """Cuts a stream of PCM into frames of equal size, however it was chunked."""

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._rest = bytearray()

    @property
    def rest(self) -> bytes:
        """What has come in since the last whole frame."""
        return bytes(self._rest)

    def push(self, pcm: bytes) -> list[bytes]:
        """Take `pcm` and return the frames that are whole now, oldest first."""
        size = self._frame_bytes
        if len(pcm) == size and not self._rest:
            return [pcm]
        self._rest += pcm
        whole = len(self._rest) - len(self._rest) % size
        frames = [bytes(self._rest[at : at + size]) for at in range(0, whole, size)]
        del self._rest[:whole]
        return frames

    def flush(self) -> bytes | None:
        """The rest, filled up to a frame with silence; None when there is none."""
        if not self._rest:
            return None
        frame = bytes(self._rest).ljust(self._frame_bytes, b"\0")
        self._rest.clear()
        return frame


def resample(pcm: bytes, from_rate: int, to_rate: int) -> bytes:
    """`pcm` at another sample rate; the duration stays the same to within one sample.

    Resample a whole recording at once: pieces done apart click at their edges.
    """
    if from_rate == to_rate or not pcm:
        return pcm
    import numpy as np
    import soxr

    # soxr dithers 16-bit output, which turns digital silence into noise of one step; floats keep it zero.
    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    return _to_pcm(soxr.resample(samples, from_rate, to_rate, quality="HQ"))


def _to_pcm(samples: npt.NDArray[np.floating]) -> bytes:
    """Samples in units of the 16-bit scale as PCM, clipped."""
    import numpy as np

    clipped: npt.NDArray[np.floating] = np.clip(np.rint(samples), -32768, 32767)
    return clipped.astype("<i2").tobytes()


# --- WAV ------------------------------------------------------------------------------------------------------

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 0x0001, 0x0003, 0x0006, 0x0007, 0xFFFE
_NAMES = {0x0002: "MS ADPCM", 0x0011: "IMA ADPCM", 0x0031: "GSM 6.10", 0x0050: "MPEG", 0x0055: "MP3", 0x00FF: "AAC"}
_SAMPLE_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64), _ALAW: (8,), _MULAW: (8,)}
# The last 14 bytes of a sub-format GUID that only wraps a format number.
_WRAPPED_FORMAT = bytes.fromhex("000000001000800000aa00389b71")
# Programs that write to a pipe cannot know the size and put a huge one there.
_UNKNOWN_SIZE = 0x7FFF_0000
_MOST_CHUNKS = 1_000
_RATES = range(1_000, 768_001)
_WANTED = "expected PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, A-law or mu-law"


@dataclass(frozen=True, slots=True)
class _WavFormat:
    code: int
    channels: int
    sample_rate: int
    sample_bits: int


WAV_HEADER_BYTES = 44


def wav_header(data_bytes: int, sample_rate: int) -> bytes:
    """What stands before the PCM in a WAV file: 16 bits, one channel."""
    return (
        struct.pack("<4sI4s", b"RIFF", WAV_HEADER_BYTES - 8 + data_bytes, b"WAVE")
        + struct.pack(
            "<4sIHHIIHH", b"fmt ", 16, _PCM, 1, sample_rate, sample_rate * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES
        )
        + struct.pack("<4sI", b"data", data_bytes)
    )


def write_wav(pcm: bytes, sample_rate: int) -> bytes:
    """A WAV file: 16 bits, one channel."""
    return wav_header(len(pcm), sample_rate) + pcm


def read_wav_channels(data: bytes) -> tuple[tuple[bytes, ...], int]:
    """The PCM of each channel of a WAV file, and its sample rate. 16-bit samples stay as they are.

    Raises:
        SpeechError: as `read_wav`.
    """
    wav_format, samples = _whole_samples(data)
    decoded = _decode(samples, wav_format).reshape(-1, wav_format.channels)
    return tuple(_to_pcm(channel) for channel in decoded.T), wav_format.sample_rate


def read_wav(data: bytes) -> tuple[bytes, int]:
    """The PCM of a WAV file and its sample rate; several channels are mixed to one.

    Raises:
        SpeechError: if it is no WAV file, is cut off, holds no sample, or is in a format that is not read here. The
            text says which, without the file's name.
    """
    wav_format, samples = _whole_samples(data)
    if wav_format.code == _PCM and wav_format.sample_bits == 16 and wav_format.channels == 1:
        return samples, wav_format.sample_rate
    decoded = _decode(samples, wav_format)
    mixed = decoded.reshape(-1, wav_format.channels).mean(axis=1)
    return _to_pcm(mixed), wav_format.sample_rate


def _whole_samples(data: bytes) -> tuple[_WavFormat, bytes]:
    """Samples of all channels; what is left of a last one is dropped."""
    wav_format, samples = _chunks(data)
    frame_bytes = wav_format.channels * wav_format.sample_bits // 8
    if len(samples) < frame_bytes:
        raise SpeechError("the file has no samples: its data chunk is empty")
    return wav_format, samples[: len(samples) - len(samples) % frame_bytes]


def wav_seconds(file: IO[bytes], size: int) -> float:
    """How long a WAV file of `size` bytes lasts, from its headers alone, however long it is.

    Raises:
        SpeechError: if it is no WAV file, or in a format that is not read here.
    """
    _check_riff(file.read(12))
    wav_format: _WavFormat | None = None
    for _ in range(_MOST_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            break
        name, declared = struct.unpack("<4sI", header)
        at = file.tell()
        if name == b"fmt ":
            wav_format = _format(file.read(min(declared, 40)), declared)
        elif name == b"data" and wav_format is not None:
            frame_bytes = wav_format.channels * wav_format.sample_bits // 8
            length: float = max(0, min(declared, size - at)) / frame_bytes / wav_format.sample_rate
            return length
        file.seek(at + declared + declared % 2)
    raise _no_chunk(wav_format)


def _check_riff(head: bytes) -> None:
    if len(head) < 12:
        raise SpeechError(f"the file ends inside the RIFF header: it has {len(head)} bytes")
    if head[:4] in (b"RIFX", b"RF64", b"BW64"):
        raise SpeechError(f"the file is {head[:4].decode()}, expected RIFF: save it as an ordinary WAV file")
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise SpeechError(f"not a WAV file: it starts with {head[:12]!r}, expected b'RIFF....WAVE'")


def _no_chunk(wav_format: _WavFormat | None) -> SpeechError:
    missing = "fmt" if wav_format is None else "data"
    return SpeechError(f"the file has no {missing} chunk: it is cut off or not audio")


def _chunks(data: bytes) -> tuple[_WavFormat, bytes]:
    _check_riff(data[:12])
    wav_format: _WavFormat | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        left = len(data) - at
        if name == b"fmt ":
            wav_format = _format(data[at : at + size], size)
        elif name == b"data":
            if wav_format is None:
                raise SpeechError("the data chunk comes before the fmt chunk")
            if size > left and size < _UNKNOWN_SIZE:
                raise SpeechError(f"the file is cut off: its data chunk says {size} bytes, {left} follow")
            return wav_format, data[at : at + min(size, left)]
        # Chunks start at even offsets.
        at += size + size % 2
    raise _no_chunk(wav_format)


def _format(body: bytes, declared: int) -> _WavFormat:
    if len(body) < 16:
        raise SpeechError(f"the fmt chunk is cut off: {len(body)} bytes of at least 16 (it says {declared})")
    code, channels, sample_rate, _, _, sample_bits = struct.unpack_from("<HHIIHH", body)
    if code == _EXTENSIBLE:
        if len(body) < 40:
            raise SpeechError(f"the extensible fmt chunk is cut off: {len(body)} bytes of 40")
        if body[26:40] != _WRAPPED_FORMAT:
            raise SpeechError(f"the WAV sub-format {body[24:40].hex()} is not read here: {_WANTED}")
        code = int.from_bytes(body[24:26], "little")
    if code not in _SAMPLE_BITS:
        raise SpeechError(f"the WAV format {_NAMES.get(code, 'unknown')} ({code:#06x}) is not read here: {_WANTED}")
    if sample_bits not in _SAMPLE_BITS[code]:
        raise SpeechError(f"samples of {sample_bits} bits in WAV format {code:#06x} are not read here: {_WANTED}")
    if not 1 <= channels <= 64:
        raise SpeechError(f"the file says it has {channels} channels, expected 1 to 64")
    if sample_rate not in _RATES:
        raise SpeechError(f"the file says {sample_rate} samples per second, expected {_RATES[0]} to {_RATES[-1]}")
    return _WavFormat(code, channels, sample_rate, sample_bits)


def _decode(samples: bytes, wav_format: _WavFormat) -> npt.NDArray[np.float64]:
    """Interleaved samples in units of the 16-bit scale."""
    import numpy as np

    match wav_format.code, wav_format.sample_bits:
        case (code, 8) if code == _PCM:
            return (np.frombuffer(samples, np.uint8).astype(np.float64) - 128) * 256
        case (code, 16) if code == _PCM:
            return np.frombuffer(samples, "<i2").astype(np.float64)
        case (code, 24) if code == _PCM:
            # The three bytes become the upper ones of a 32-bit sample.
            wide = np.zeros((len(samples) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(samples, np.uint8).reshape(-1, 3)
            return wide.reshape(-1).view("<i4") / 65536
        case (code, 32) if code == _PCM:
            return np.frombuffer(samples, "<i4") / 65536
        case (code, bits) if code == _FLOAT:
            floats = np.frombuffer(samples, "<f4" if bits == 32 else "<f8").astype(np.float64)
            return np.nan_to_num(floats, nan=0.0, posinf=1.0, neginf=-1.0) * 32768
        case (code, _):
            table = np.array([_alaw(byte) if code == _ALAW else _mulaw(byte) for byte in range(256)], np.float64)
            return table[np.frombuffer(samples, np.uint8)]


def _mulaw(byte: int) -> int:
    """Source: Documented, ITU-T G.711 table 2, on the 16-bit scale."""
    byte ^= 0xFF
    magnitude = (((byte & 0x0F) << 3) + 0x84 << (byte >> 4 & 0x07)) - 0x84
    return -magnitude if byte & 0x80 else magnitude


def _alaw(byte: int) -> int:
    """Source: Documented, ITU-T G.711 table 1, on the 16-bit scale."""
    byte ^= 0x55
    segment = byte >> 4 & 0x07
    magnitude = ((byte & 0x0F) << 4) + 8
    if segment:
        magnitude = magnitude + 0x100 << segment - 1
    return magnitude if byte & 0x80 else -magnitude
