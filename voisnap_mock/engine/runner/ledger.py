"""What the journal keeps of a call's audio: one entry for each second of call time and each direction."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

Write = Callable[[str, float, dict[str, Any]], None]


class AudioLedger:
    """Adds frames up by second of call time, so that the same audio is the same entries however it was cut.

    An entry is of kind `audio.in` or `audio.out`: `{target?, frames, bytes, crc32, begin, end}`; `crc32` is of the PCM,
    `begin` and `end` are the call times of its first and last frame.

    Args:
        write: gets kind, call time and details.
        in_target, out_target: what clients call it, if anything.
    """

    __slots__ = ("_in", "_out")

    def __init__(self, write: Write, *, in_target: str | None = None, out_target: str | None = None) -> None:
        self._in = _Side("audio.in", write, in_target)
        self._out = _Side("audio.out", write, out_target)

    def heard(self, pcm: bytes, t: float) -> None:
        """20 ms of the caller, which end at `t`."""
        self._in.add(pcm, t)

    def said(self, pcm: bytes, t: float) -> None:
        """20 ms of the agent that its client was sent, to be played from `t` on."""
        self._out.add(pcm, t)

    def flush(self, t: float) -> None:
        """Write what has not been written yet."""
        self._in.flush(t)
        self._out.flush(t)


class _Side:
    __slots__ = ("_begin", "_bytes", "_crc", "_end", "_frames", "_kind", "_target", "_until", "_write")

    def __init__(self, kind: str, write: Write, target: str | None) -> None:
        self._kind = kind
        self._write = write
        self._target = {} if target is None else {"target": target}
        self._frames = self._bytes = self._crc = 0
        self._begin = self._end = self._until = 0.0

    def add(self, pcm: bytes, t: float) -> None:
        if t > self._until or not self._frames:
            self.flush(t)
            self._begin = t
            self._until = max(1.0, math.ceil(t))
        self._frames += 1
        self._bytes += len(pcm)
        self._crc = zlib.crc32(pcm, self._crc)
        self._end = t

    def flush(self, t: float) -> None:
        if not self._frames:
            return
        details = {
            **self._target,
            "frames": self._frames,
            "bytes": self._bytes,
            "crc32": f"{self._crc:08x}",
            "begin": round(self._begin, 3),
            "end": round(self._end, 3),
        }
        self._frames = self._bytes = self._crc = 0
        self._write(self._kind, t, details)
