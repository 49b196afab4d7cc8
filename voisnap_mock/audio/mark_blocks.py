"""The block of a mark: 40 bytes in the parity of 320 samples. What the blocks say is put together in `audio.marks`.

**Carrier.** A sample's bit is the parity of the nearest multiple of 16. Writing moves the sample to the nearest
multiple with the wanted parity, by 16 at most (a noise of -71 dBFS); reading tolerates any error up to 7, as rounding
and scaling by 32767 or 32768 make. Louder samples are first clipped to +-32600, so that every multiple is within int16.

**Block**, big-endian, the most significant bit first:

    bytes 0-1    sync B5 C4, the only two not whitened
    bytes 2-13   the header of `_HEADER`
    bytes 14-35  a fragment of text, padded with zeros
    bytes 36-39  CRC-32 of bytes 2-35 before whitening

Bytes 2-39 are XORed with the first 304 bits of PRBS-15 (x^15 + x^14 + 1, all ones at the start), lest padding put
runs of equal bits into the sound. By chance alone a block is found once in some hundred years of audio.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_SAMPLES = 320
TEXT_BYTES = 22
MAX_FRAGMENTS = 16
MAX_BLOCKS = (1 << 10) - 1
MAX_UTTERANCE = (1 << 24) - 1
MAX_WORDS = (1 << 16) - 1

_VERSION = 1
_SPACING = 16
_HOST_LIMIT = 32_600
_STEP, _HALF_STEP = np.int16(_SPACING), np.int16(_SPACING // 2)
_SYNC = 0xB5C4
_SYNC_BITS = 16
_BODY_BYTES = 38
_CHECKED_BYTES = 34
_HEADER_BYTES = 12
_BODY_MASK = (1 << _BODY_BYTES * 8) - 1

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Block:
    """What one block says.

    Attributes:
        index: place of the unit's first word in the utterance.
        total: words of the utterance.
        number, count: place of this block in its unit, and how many blocks the unit has.
        fragment, fragments: which part of the unit's text this block carries.
        text: that part, at most 22 bytes.
    """

    is_agent: bool
    utterance: int
    index: int
    total: int
    number: int
    count: int
    fragment: int
    fragments: int
    text: bytes


# Field and width in bits, the first one most significant: 96 bits.
_HEADER = (
    ("version", 4),
    ("is_agent", 1),
    ("reserved", 2),
    ("text_bytes", 5),
    ("utterance", 24),
    ("index", 16),
    ("total", 16),
    ("number", 10),
    ("count", 10),
    ("fragment", 4),
    ("last_fragment", 4),
)


def _prbs15(bits: int) -> int:
    register, sequence = 0x7FFF, 0
    for _ in range(bits):
        bit = (register >> 14 ^ register >> 13) & 1
        register = (register << 1 | bit) & 0x7FFF
        sequence = sequence << 1 | bit
    return sequence


_WHITENING = _prbs15(_BODY_BYTES * 8)


def serialize_block(block: Block) -> bytes:
    """Its 40 bytes; every value must fit its field."""
    values = {
        "version": _VERSION,
        "is_agent": int(block.is_agent),
        "reserved": 0,
        "text_bytes": len(block.text),
        "utterance": block.utterance,
        "index": block.index,
        "total": block.total,
        "number": block.number,
        "count": block.count,
        "fragment": block.fragment,
        "last_fragment": block.fragments - 1,
    }
    header = 0
    for name, width in _HEADER:
        assert values[name] >> width == 0, f"{name} is {values[name]}, too much for {width} bits"
        header = header << width | values[name]
    body = header.to_bytes(_HEADER_BYTES, "big") + block.text.ljust(TEXT_BYTES, b"\0")
    body += zlib.crc32(body).to_bytes(4, "big")
    return _SYNC.to_bytes(2, "big") + (int.from_bytes(body, "big") ^ _WHITENING).to_bytes(_BODY_BYTES, "big")


def parse_block(bits: int) -> Block | None:
    """The block in the 320 lowest bits, if they are one and its numbers agree."""
    body = (bits & _BODY_MASK ^ _WHITENING).to_bytes(_BODY_BYTES, "big")
    if zlib.crc32(body[:_CHECKED_BYTES]) != int.from_bytes(body[_CHECKED_BYTES:], "big"):
        return None
    header = int.from_bytes(body[:_HEADER_BYTES], "big")
    values = {}
    for name, width in reversed(_HEADER):
        values[name] = header & ((1 << width) - 1)
        header >>= width
    fragments = values["last_fragment"] + 1
    if (
        values["version"] != _VERSION
        or values["number"] >= values["count"]
        or values["fragment"] != values["number"] % fragments
        or values["index"] >= values["total"]
        or values["text_bytes"] > TEXT_BYTES
    ):
        return None
    return Block(
        is_agent=bool(values["is_agent"]),
        utterance=values["utterance"],
        index=values["index"],
        total=values["total"],
        number=values["number"],
        count=values["count"],
        fragment=values["fragment"],
        fragments=fragments,
        text=body[_HEADER_BYTES : _HEADER_BYTES + values["text_bytes"]],
    )


def embed(samples: Samples, blocks: bytes) -> None:
    """Write blocks into the first samples, in place: eight samples a byte."""
    bits = np.unpackbits(np.frombuffer(blocks, np.uint8)).astype(np.int32) * _SPACING
    host = np.clip(samples[: len(bits)], -_HOST_LIMIT, _HOST_LIMIT).astype(np.int32)
    # The nearest of ..., bit - 2, bit, bit + 2, ... times the spacing.
    samples[: len(bits)] = (host - bits + _SPACING) // (2 * _SPACING) * (2 * _SPACING) + bits


def carried_bits(samples: Samples) -> int:
    """The bits of the samples as one number, the last sample least significant."""
    # Beyond 32759 the sum wraps, by an even number of steps: the parity stays right.
    parity = np.packbits((samples + _HALF_STEP) & _STEP)
    return int.from_bytes(parity.tobytes(), "big") >> (-len(samples) % 8)


def sync_positions(bits: int, count: int) -> int:
    """Of `count` bits: a number with a one wherever the sync begins.

    On numbers of some hundred bits whole-number arithmetic is six times as quick as arrays.
    """
    others = bits ^ ((1 << count) - 1)
    found = -1
    for place in range(_SYNC_BITS):
        found &= (bits if _SYNC >> (_SYNC_BITS - 1 - place) & 1 else others) << place
        if not found:
            # Silence ends here at once, and noise half-way.
            return 0
    return found & ((1 << count) - 1)
