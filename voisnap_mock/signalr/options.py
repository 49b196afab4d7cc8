"""Settings of a hub endpoint, and what it tells its owner."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from voisnap_mock.signalr.connection import ConnectionLimits
from voisnap_mock.signalr.transports import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """Times in seconds, sizes in bytes; the defaults are ASP.NET Core's unless said.

    Attributes:
        limits: of each connection: handshake, keep-alive, client time-out, message size, detailed errors (ours: on).
        transports: offered by negotiate, in this order.
        stateful_reconnect: whether clients that ask for it may resume a connection after a lost WebSocket.
        max_parallel_invocations: of one connection; streams do not count.
        negotiation_timeout: how long a negotiated connection may wait for its transport.
        max_unsent_bytes: queued for one client; above it the client is too slow and is closed. Ours.
        send_timeout: how long one write may block until the client is too slow.
        max_waiting_bytes: of received messages that wait for their turn; above it nothing more is read.
        poll_timeout: after which a long poll is answered with nothing.
        disconnect_timeout: how long a long-polling client may be away, and a resumable connection without a transport.
        close_timeout: between Close and the end of the transport by force, and for a running method to finish.
        trailing_slash: whether `path/` is served like `path`.
    """

    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    transports: tuple[Transport, ...] = tuple(Transport)
    stateful_reconnect: bool = True
    max_parallel_invocations: int = 1
    negotiation_timeout: float = 15.0
    max_unsent_bytes: int = 1_048_576
    send_timeout: float = 10.0
    max_waiting_bytes: int = 65_536
    poll_timeout: float = 90.0
    disconnect_timeout: float = 15.0
    close_timeout: float = 5.0
    trailing_slash: bool = True


class NoticeKind(StrEnum):
    """What an endpoint tells its owner about."""

    NEGOTIATED = "negotiated"
    DENIED = "denied"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    HANDSHAKE_FAILED = "handshake_failed"
    PROTOCOL_ERROR = "protocol_error"
    INVOCATION_REFUSED = "invocation_refused"
    METHOD_FAILED = "method_failed"
    CALLBACK_FAILED = "callback_failed"
    SLOW_CLIENT = "slow_client"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an owner may want to journal.

    Attributes:
        connection_id: empty when there is no connection yet.
        detail: for people; holds neither tokens nor payloads.
        error: the exception behind it, if there is one.
        user: whatever the authenticator returned for the connection.
    """

    kind: NoticeKind
    connection_id: str = ""
    detail: str = ""
    error: BaseException | None = None
    user: object = None
