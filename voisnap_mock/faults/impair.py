"""A bad line: what becomes of audio frames of 20 ms on it. Pure, and the same for the same seed.

What happens to a frame depends on its number on the line and on the seed only: not on when it comes, nor on what else
is sent. In this order: the line's clock drifts, the level is wrong, samples are cut, frames are lost (in bursts, and in
gaps), doubled, late, out of order.

Source: Assumed throughout; losses follow the two states of Gilbert's model, as is usual for packet networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from voisnap_mock.audio.frames import FRAME_SECONDS, SAMPLE_BYTES
from voisnap_mock.faults.draws import draw, mix
from voisnap_mock.faults.rules import Impair

# After the next frame, which comes 20 ms later, and before the one behind that.
_BEHIND_THE_NEXT = 1.5 * FRAME_SECONDS
_LOSS, _DUPLICATE, _JITTER, _REORDER = range(4)


@dataclass(frozen=True, slots=True)
class Passed:
    """A frame that left the line.

    Attributes:
        pcm: None when it was lost.
        late: seconds after it should have come; later frames wait for it.
        overtaken: seconds more in which later frames pass it.
    """

    pcm: bytes | None
    late: float = 0.0
    overtaken: float = 0.0


class BadLine:
    """One direction of one call.

    Args:
        frame_bytes: of 20 ms at this line's rate.
    """

    def __init__(self, impair: Impair, seed: int, frame_bytes: int) -> None:
        self._impair = impair
        self._seeds = tuple(mix(seed, purpose) for purpose in (_LOSS, _DUPLICATE, _JITTER, _REORDER))
        self._frame_bytes = frame_bytes
        self._samples = frame_bytes // SAMPLE_BYTES
        self._gain = 10 ** (impair.gain_db / 20)
        self._in = 0
        self._out = 0
        self._rest = b""
        self._is_losing = False
        # A loss of 90 % cannot come in single frames: then bursts are as long as they must be.
        self._burst = impair.burst if impair.loss >= 1 else max(impair.burst, impair.loss / (1 - impair.loss))

    def cross(self, pcm: bytes) -> list[Passed]:
        """Put the next frame on the line; what leaves it is none, one or several frames."""
        if self._gain != 1.0 or self._impair.clip < 1.0:
            pcm = self._distorted(pcm)
        if not self._impair.drift_ppm:
            return self._pass_on(pcm)
        self._rest += self._drifted(pcm)
        passed: list[Passed] = []
        while len(self._rest) >= self._frame_bytes:
            frame, self._rest = self._rest[: self._frame_bytes], self._rest[self._frame_bytes :]
            passed += self._pass_on(frame)
        return passed

    def _pass_on(self, pcm: bytes) -> list[Passed]:
        impair, number = self._impair, self._out
        self._out += 1
        if self._loses(number) | self._is_in_gap(number):
            return [Passed(None)]
        _, duplicate, jitter, reorder = self._seeds
        late = draw(jitter, number) * impair.jitter if impair.jitter else 0.0
        is_overtaken = impair.reorder > 0 and draw(reorder, number) < impair.reorder
        passed = [Passed(pcm, late, _BEHIND_THE_NEXT if is_overtaken else 0.0)]
        return passed * 2 if impair.duplicate and draw(duplicate, number) < impair.duplicate else passed

    def _loses(self, number: int) -> bool:
        loss = self._impair.loss
        if not loss or loss >= 1:
            return loss >= 1
        drawn = draw(self._seeds[_LOSS], number)
        # The share of time in a state is what its two ways of changing make it: begin / (begin + end).
        end = 1 / self._burst
        begin = end * loss / (1 - loss)
        self._is_losing = drawn >= end if self._is_losing else drawn < begin
        return self._is_losing

    def _is_in_gap(self, number: int) -> bool:
        gap = self._impair.gap
        at = number * FRAME_SECONDS + 1e-9
        return gap is not None and at >= gap.every and at % gap.every < gap.length

    def _drifted(self, pcm: bytes) -> bytes:
        """Samples left out or doubled at the frame's end, as the line's clock gains or loses them."""
        speed = 1 + self._impair.drift_ppm / 1e6
        number, self._in = self._in, self._in + 1
        count = int((number + 1) * self._samples * speed) - int(number * self._samples * speed)
        return pcm[: count * SAMPLE_BYTES] + pcm[-SAMPLE_BYTES:] * (count - self._samples)

    def _distorted(self, pcm: bytes) -> bytes:
        import numpy as np

        most = 32767 * self._impair.clip
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) * self._gain
        return bytes(np.clip(np.rint(samples), -most, most).astype("<i2").tobytes())
