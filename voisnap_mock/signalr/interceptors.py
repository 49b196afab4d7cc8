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
from typing import Any, Protocol, TypeAlias

from voisnap_mock.signalr.hub import HubContext

Forward: TypeAlias = Callable[[Any], None]


class Seam(StrEnum):
    """Where something crosses, and what the value is.

    NEGOTIATE: the `HttpAnswer` to a negotiate, before it is sent; there is no connection yet.
    HANDSHAKE: the `HandshakeRequest`, before it is answered and the hub is told.
    BYTES_IN, BYTES_OUT: `bytes` of one transport frame.
    MESSAGE_IN, MESSAGE_OUT: one hub message.
    """

    NEGOTIATE = "hub.negotiate"
    HANDSHAKE = "hub.handshake"
    BYTES_IN = "hub.bytes.in"
    BYTES_OUT = "hub.bytes.out"
    MESSAGE_IN = "hub.message.in"
    MESSAGE_OUT = "hub.message.out"


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
    """Stands at every seam of an endpoint."""

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
