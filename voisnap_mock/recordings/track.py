"""One side of a call on the line of call time, in samples. Pure: audio and its place come in, pieces come out."""

from __future__ import annotations

from collections.abc import Callable

from voisnap_mock.audio.frames import FRAME_SECONDS, SAMPLE_BYTES

PIECE_SECONDS = 1.0
"""A piece is kept when it has become so long: what may be missing after the process was killed."""


class Track:
    """Places frames of 20 ms by call time and puts them together to pieces; silence is no piece.

    Frames that follow each other are laid end to end, by their samples; `slack` is how late a frame may come and still
    follow. Later ones are laid at their own time, so a side that paused is where it was. Nothing is ever laid over what
    is there already: what comes in a burst is laid behind it.

    Args:
        sample_rate: of PCM s16le mono.
        slack: seconds; 0 where time has no jitter.
        keep: gets each piece: its place, in samples from the begin of the call, and its PCM.

    Attributes:
        length: samples from the begin of the call to the end of what was laid.
    """

    __slots__ = ("_began", "_keep", "_open", "_piece_bytes", "_rate", "_silence", "_slack", "length")

    def __init__(self, sample_rate: int, *, slack: float, keep: Callable[[int, bytes], None]) -> None:
        self.length = 0
        self._rate = sample_rate
        self._slack = round(slack * sample_rate)
        self._keep = keep
        self._silence = bytes(round(FRAME_SECONDS * sample_rate) * SAMPLE_BYTES)
        self._piece_bytes = round(PIECE_SECONDS * sample_rate) * SAMPLE_BYTES
        self._began = 0
        self._open = bytearray()

    def lay(self, pcm: bytes, at: float) -> None:
        """Take a frame that begins at `at` seconds of call time."""
        place = round(at * self._rate)
        if place > self.length + self._slack:
            self.flush()
            self.length = place
        if pcm == self._silence:
            if self._open:
                self.flush()
            self.length += len(pcm) // SAMPLE_BYTES
            return
        if not self._open:
            self._began = self.length
        self._open += pcm
        self.length += len(pcm) // SAMPLE_BYTES
        if len(self._open) >= self._piece_bytes:
            self.flush()

    def flush(self) -> None:
        """Keep what has been put together so far."""
        if self._open:
            piece = bytes(self._open)
            self._open.clear()
            self._keep(self._began, piece)
