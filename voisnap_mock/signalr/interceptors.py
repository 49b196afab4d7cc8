"""The seam: everything that crosses a connection's border can be watched, changed, held back or dropped.

    class Tap:
        def cross(self, crossing: Crossing, forward: Forward) -> None:
            print(crossing.seam, crossing.value)
            forward(crossing.value)

An interceptor calls `forward` never, once, twice, later, or with another value. The first of several is the outermost
on the way in and the last on the way out is the one next to the wire: on every seam they are passed in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from voisnap_mock.signalr.messages import HubMessage

if TYPE_CHECKING:
    from voisnap_mock.signalr.hub import HubContext

Forward: TypeAlias = Callable[[Any], None]


class Seam(StrEnum):
    """Where something crosses, and what the value is.

    NEGOTIATE: the `HttpAnswer` to a negotiate, before it is sent; there is no connection yet.
    HANDSHAKE: the `HandshakeRequest`, before it is answered and the hub is told.
    BYTES_IN, BYTES_OUT: `bytes` of one transport frame; `Fragmented` ones are written in several.
    MESSAGE_IN, MESSAGE_OUT: one hub message; out may go a `Rewritten` one. The Close of an end in order crosses too,
        what keeps the connection alive (Ping, Ack, Sequence) does not.
    """

    NEGOTIATE = "hub.negotiate"
    HANDSHAKE = "hub.handshake"
    BYTES_IN = "hub.bytes.in"
    BYTES_OUT = "hub.bytes.out"
    MESSAGE_IN = "hub.message.in"
    MESSAGE_OUT = "hub.message.out"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A message whose bytes are changed on their way out."""

    message: HubMessage
    rewrite: Callable[[bytes], bytes]


class Fragmented(bytes):
    """A frame that is written in several: WebSocket fragments, or pieces of an HTTP body.

    Over plain ASGI a WebSocket message cannot be fragmented: there it goes as one frame.
    """

    __slots__ = ()

    def pieces(self) -> list[bytes]:
        """Three pieces of about the same length, fewer of less than three bytes."""
        step = max(1, -(-len(self) // 3))
        return [bytes(self[at : at + step]) for at in range(0, len(self), step)]


@dataclass(frozen=True, slots=True)
class Crossing:
    """One value on its way through a seam.

    Attributes:
        connection: None at negotiate.
    """

    seam: Seam
    connection: HubContext | None
    value: Any


class Interceptor(Protocol):
    """Stands at every seam of an endpoint, or of the one connection it was given to with `HubContext.tap`."""

    def cross(self, crossing: Crossing, forward: Forward) -> None:
        """Let `crossing.value` pass by calling `forward` with it; must not block."""
        ...


def cross(
    interceptors: Sequence[Interceptor], seam: Seam, connection: HubContext | None, value: Any, deliver: Forward
) -> None:
    """Pass a value through all interceptors to `deliver`."""
    if not interceptors:
        deliver(value)
        return
    first, rest = interceptors[0], interceptors[1:]
    first.cross(Crossing(seam, connection, value), lambda passed: cross(rest, seam, connection, passed, deliver))
