"""The two directions of a telephone line over RTP: what comes is put in order and made gapless, what goes is timed.

Pure: times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from voisnap_mock.audio.frames import AGENT_FRAME_BYTES, CALLER_RATE, FRAME_SECONDS, SAMPLE_BYTES

Packet = TypeVar("Packet")

_KEYS = "0123456789*#"


class PacketOrder(Generic[Packet]):
    """Puts the packets of a stream back into order.

    A missing packet is waited for until the third later one is there, or `PATIENCE` has passed; then it counts as
    lost. So a loss delays what follows it for a moment and not for the rest of the call.

    Attributes:
        lost, late: packets that never came in time, and those that came after that, or twice.
    """

    MOST_WAITING = 3
    PATIENCE = 0.06
    _JUMP = 100

    def __init__(self) -> None:
        self._next: int | None = None
        self._waiting: dict[int, Packet] = {}
        self._since = 0.0
        self.lost = 0
        self.late = 0

    @property
    def deadline(self) -> float | None:
        """When to `flush`; None while nothing waits."""
        return self._since + self.PATIENCE if self._waiting else None

    def push(self, number: int, packet: Packet, now: float) -> list[Packet]:
        """Take packet `number` (16 bits, wrapping round); the packets whose turn has come, in order."""
        if self._next is None:
            self._next = number
        ahead = (number - self._next) & 0xFFFF
        behind = 0x10000 - ahead
        if ahead >= self._JUMP and behind >= self._JUMP:
            # Another stream, or a pause in which the numbers ran on: nothing in between will come.
            ready = self._release(number)
            return [*ready, *self._accept(number, packet, now)]
        if ahead >= self._JUMP:
            self.late += 1
            return []
        return self._accept(number, packet, now)

    def flush(self, now: float) -> list[Packet]:
        """The packets that have waited long enough for what is missing before them."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return []
        return self._give_up(now)

    def _accept(self, number: int, packet: Packet, now: float) -> list[Packet]:
        if number in self._waiting:
            self.late += 1
            return []
        if not self._waiting:
            self._since = now
        self._waiting[number] = packet
        ready = self._in_turn(now)
        return ready if ready or len(self._waiting) < self.MOST_WAITING else self._give_up(now)

    def _in_turn(self, now: float) -> list[Packet]:
        ready = []
        while self._next is not None and self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next = (self._next + 1) & 0xFFFF
        if ready:
            self._since = now
        return ready

    def _give_up(self, now: float) -> list[Packet]:
        assert self._next is not None
        while self._next not in self._waiting:
            self.lost += 1
            self._next = (self._next + 1) & 0xFFFF
        return self._in_turn(now)

    def _release(self, number: int) -> list[Packet]:
        start = self._next or 0
        ready = [self._waiting[key] for key in sorted(self._waiting, key=lambda key: (key - start) & 0xFFFF)]
        self._waiting.clear()
        self._next = number
        return ready


class CallerLine:
    """Caller audio as one stream without gaps: silence stands where packets were lost or nothing was sent.

    An ear needs the silence: it ends an utterance by the caller's silence, and a muted caller may send nothing at all.

    Args:
        now: when the line opened.
    """

    PATIENCE = 0.3
    """Seconds without audio after which the caller counts as silent; less is jitter."""
    _LONGEST_GAP = 1.0
    _SHORTEST_GAP = 0.01

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._filled = 0.0
        self._is_quiet = False
        self._ends: float | None = None

    def heard(self, begin: float, length: float, now: float) -> bytes:
        """Audio came that lasts from `begin` on the sender's own clock; the silence that belongs before it."""
        gap = 0.0 if self._ends is None else begin - self._ends - self._filled
        self._ends = begin + length
        self._heard_at, self._filled, self._is_quiet = now, 0.0, False
        # A longer gap is no loss: the sender's clock was set anew, or ran on while silence was filled in here.
        return _silence(gap) if self._SHORTEST_GAP <= gap <= self._LONGEST_GAP else b""

    def silence_due(self, now: float) -> bytes:
        """The silence that stands for what has not come until now."""
        missing = now - self._heard_at - self._filled
        if missing + 1e-6 < (FRAME_SECONDS if self._is_quiet else self.PATIENCE):
            return b""
        self._is_quiet = True
        frames = int(missing / FRAME_SECONDS + 1e-6)
        self._filled += frames * FRAME_SECONDS
        return _silence(frames * FRAME_SECONDS)


def _silence(seconds: float) -> bytes:
    return bytes(round(seconds * CALLER_RATE) * SAMPLE_BYTES)


class AgentLine:
    """Agent audio on its way out, 20 ms at a time.

    A reply begins one frame late, so that frames which come a little off their time leave no holes in it. Beyond a
    second the oldest audio is dropped.
    """

    _MOST_FRAMES = 50
    _SILENCE = bytes(AGENT_FRAME_BYTES)

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque(maxlen=self._MOST_FRAMES)
        self._is_talking = False

    def put(self, frame: bytes) -> None:
        """Queue the next 20 ms."""
        self._frames.append(frame)

    def clear(self) -> None:
        """The caller interrupts: what is queued is not said."""
        self._frames.clear()
        self._is_talking = False

    def take(self) -> bytes:
        """What goes out in these 20 ms: queued audio, else silence."""
        if not self._frames:
            self._is_talking = False
            return self._SILENCE
        if not self._is_talking:
            self._is_talking = True
            if len(self._frames) == 1:
                return self._SILENCE
        return self._frames.popleft()


class Schedule:
    """When frames go out: every 20 ms on an absolute schedule, so that no lateness adds up.

    Attributes:
        number: of the frame that comes next.
        late_ms: how many frames went out so many milliseconds late, the last place counting all that were later.
    """

    _STALL = 0.2

    def __init__(self) -> None:
        self._start: float | None = None
        self.number = 0
        self.late_ms = [0] * 201

    def due(self, now: float) -> float:
        """When the next frame is to go out. After a stall the schedule begins anew: frames never burst."""
        if self._start is None:
            self._start = now
        at = self._start + self.number * FRAME_SECONDS
        if now - at > self._STALL:
            self._start += now - at
            at = now
        return at

    def sent(self, now: float) -> None:
        """The frame that was due has gone out."""
        assert self._start is not None
        late = now - self._start - self.number * FRAME_SECONDS
        self.late_ms[min(len(self.late_ms) - 1, max(0, int(late * 1000)))] += 1
        self.number += 1

    def lateness_ms(self, share: float) -> int:
        """The whole milliseconds that this share of the frames stayed below, 0.99 for the worst of a hundred."""
        wanted = share * sum(self.late_ms)
        count = 0
        for milliseconds, frames in enumerate(self.late_ms):
            count += frames
            if count >= wanted:
                return milliseconds + 1
        return len(self.late_ms)


class KeyReader:
    """Reads pressed keys from telephone events (RFC 4733).

    An event comes in many packets with one timestamp, its end three times; each key counts once, when its end comes or,
    should all three be lost, when the next key begins.
    """

    def __init__(self) -> None:
        self._open: tuple[int, str] | None = None
        self._done: int | None = None

    def read(self, payload: bytes, timestamp: int) -> str:
        """Take a packet; the keys that are certain now, mostly none."""
        if len(payload) < 4 or payload[0] >= len(_KEYS):
            return ""
        keys = ""
        if self._open is not None and self._open[0] != timestamp:
            keys, self._done, self._open = self._open[1], self._open[0], None
        if timestamp == self._done:
            return keys
        if payload[1] & 0x80:
            self._done, self._open = timestamp, None
            return keys + _KEYS[payload[0]]
        self._open = (timestamp, _KEYS[payload[0]])
        return keys
