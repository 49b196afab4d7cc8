"""What stateful reconnect must remember: numbers of messages, and what the peer has not acknowledged.

Each side numbers the messages it sends from 1. Only calls, items, completions and cancellations count; handshake, ping,
close, ack and sequence do not. After a lost transport each side says with a Sequence which number its next message has,
repeats what was not acknowledged, and drops what it has seen before.

Source: Documented, HubProtocol.md; that a Sequence names the first message that follows is Observed in both sources.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from voisnap_mock.signalr.errors import RemoteProtocolError

BUFFER_LIMIT: Final = 100_000
"""Bytes kept for the peer's acknowledgement; above it what is sent has to wait."""
ACK_AFTER: Final = 1.0
"""Seconds from the first message that is not acknowledged to its Ack."""


class Resumption:
    """Both directions of one connection that can be resumed.

    Attributes:
        ack_at: when an Ack is due; None when everything is acknowledged.
    """

    __slots__ = ("_buffer", "_buffered", "_last_sent", "_next_received", "_processed", "_waiting", "ack_at")

    def __init__(self) -> None:
        self._buffer: deque[bytes] = deque()
        self._buffered = 0
        self._last_sent = 0
        self._waiting: deque[bytes] = deque()
        self._next_received = 1
        self._processed = 0
        self.ack_at: float | None = None

    def __repr__(self) -> str:
        return f"<Resumption sent {self._last_sent}, {len(self._buffer)} not acknowledged, processed {self._processed}>"

    @property
    def waiting_bytes(self) -> int:
        """Of messages that wait for room in the buffer."""
        return sum(map(len, self._waiting))

    # --- sending

    def send(self, data: bytes) -> bool:
        """Number and keep a message; False when the buffer is full and the message has to wait."""
        if self._waiting or self._buffered >= BUFFER_LIMIT:
            self._waiting.append(data)
            return False
        self._keep(data)
        return True

    def acknowledge(self, number: int) -> list[bytes]:
        """The peer has processed everything up to `number`; returns what can be sent now."""
        first = self._last_sent - len(self._buffer) + 1
        for _ in range(first, min(number, self._last_sent) + 1):
            self._buffered -= len(self._buffer.popleft())
        released = []
        while self._waiting and self._buffered < BUFFER_LIMIT:
            data = self._waiting.popleft()
            self._keep(data)
            released.append(data)
        return released

    def replay(self) -> tuple[int, list[bytes]]:
        """The number for the Sequence, and what is to be sent after it."""
        return self._last_sent - len(self._buffer) + 1, list(self._buffer)

    def _keep(self, data: bytes) -> None:
        self._last_sent += 1
        self._buffer.append(data)
        self._buffered += len(data)

    # --- receiving

    def receive(self, now: float) -> bool:
        """Count a message; False when it was processed before and must be dropped."""
        number = self._next_received
        self._next_received += 1
        if number <= self._processed:
            return False
        self._processed = number
        if self.ack_at is None:
            self.ack_at = now + ACK_AFTER
        return True

    def sequence(self, number: int) -> None:
        """The peer's next message has this number.

        Raises:
            RemoteProtocolError: messages are missing in between, or there is no such number.
        """
        if number > self._processed + 1:
            raise RemoteProtocolError(
                f"Sequence ID {number} is greater than the amount of messages received ({self._processed}).",
                kind="InvalidOperationException",
            )
        if number < 1:
            raise RemoteProtocolError(f"Sequence ID {number} is not positive.", kind="InvalidOperationException")
        self._next_received = number

    def take_ack(self) -> int:
        """The number to acknowledge now."""
        self.ack_at = None
        return self._processed
