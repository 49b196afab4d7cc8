"""What both sides of a call said, as two tracks of PCM on one time line."""

from __future__ import annotations

from voisnap_mock.audio.frames import AGENT_RATE, CALLER_RATE, resample


class Recording:
    """Both sides of a call on one time line."""

    def __init__(self) -> None:
        self._caller = bytearray()
        self._agent = bytearray()

    @property
    def caller(self) -> bytes:
        """What the caller sent: PCM s16le mono at 16 kHz."""
        return bytes(self._caller)

    @property
    def agent(self) -> bytes:
        """What the agent sent, with the silences between: PCM s16le mono at 24 kHz."""
        return bytes(self._agent)

    def add_caller(self, pcm: bytes) -> None:
        """Append what the caller sent."""
        self._caller += pcm

    def drop_caller(self, size: int) -> None:
        """The last `size` bytes of the caller were not sent after all."""
        del self._caller[len(self._caller) - size :]

    def pad_caller(self, until: float) -> None:
        """The line was lost: nothing of the caller was heard until `until` seconds."""
        self._caller += bytes(max(0, int(until * CALLER_RATE) * 2 - len(self._caller)))

    def add_agent(self, pcm: bytes, at: float) -> None:
        """Lay agent audio at `at` seconds, or behind what is already there: it arrives a little ahead of its time."""
        gap = int(at * AGENT_RATE) * 2 - len(self._agent)
        if gap > 0:
            self._agent += bytes(gap)
        self._agent += pcm

    def stereo(self) -> bytes:
        """Interleaved PCM s16le at 24 kHz: caller left, agent right; loads the resampler."""
        import numpy

        left = numpy.frombuffer(resample(bytes(self._caller), CALLER_RATE, AGENT_RATE), "<i2")
        right = numpy.frombuffer(bytes(self._agent), "<i2")
        both = numpy.zeros((max(len(left), len(right)), 2), "<i2")
        both[: len(left), 0] = left
        both[: len(right), 1] = right
        return both.tobytes()
