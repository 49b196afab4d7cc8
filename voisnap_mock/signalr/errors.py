"""What can go wrong in SignalR, as one tree.

SignalRError
├── ProtocolError
│   ├── LocalProtocolError     this side asked for what the protocol does not allow now: our bug
│   └── RemoteProtocolError    the peer broke the protocol; the connection is over
├── BindingError               arguments do not fit a hub method; only the invocation fails
├── HubException               raised by a hub method: its message is shown to the caller
├── ConnectionDenied           raised by an authenticator: the HTTP answer to give instead of a connection
├── RequestSevered             raised by an authenticator: the request is lost without an answer
├── HubError                   client: the server answered an invocation with an error
├── NegotiationError           client: negotiate was not answered with a connection
├── HandshakeError             client: the server refused the handshake
└── ConnectionClosed           client: the connection ended while something was waiting for it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voisnap_mock.signalr.transports import Severance


class SignalRError(Exception):
    """Root of every error that `voisnap_mock.signalr` raises on purpose."""


class ProtocolError(SignalRError):
    """The SignalR protocol was broken by one of the two sides."""


class LocalProtocolError(ProtocolError):
    """This side asked for something that the connection's state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what no peer may send, or fell silent; the connection cannot go on.

    Attributes:
        detail: what was wrong.
        kind: the name of the exception that ASP.NET Core would raise; shown when detailed errors are on.
    """

    def __init__(self, detail: str, *, kind: str = "InvalidDataException") -> None:
        self.detail = detail
        self.kind = kind
        super().__init__(detail)

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class BindingError(SignalRError):
    """Arguments do not fit the hub method: too many, too few, or of another type.

    Attributes:
        detail: ASP.NET Core's own text, then what came and what was expected.
    """

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class HubException(SignalRError):
    """Raise this in a hub method to show `message` to the caller, whether detailed errors are on or not."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class ConnectionDenied(SignalRError):
    """Raise this in an authenticator to answer negotiate, the upgrade or any other request with plain HTTP.

    Attributes:
        status: the HTTP status code.
        body: the whole answer; may be empty.
        content_type: of the body.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "text/plain",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers: Mapping[str, str] = dict(headers or {})
        super().__init__(f"denied with HTTP status {status}")


class RequestSevered(SignalRError):
    """Raise this in an authenticator to lose the request instead of answering it.

    A Close message needs a connection, so here `CLOSE_NO_RECONNECT` is `CLOSE`; and `HALF_OPEN` is `STALL`.
    """

    def __init__(self, how: Severance) -> None:
        self.how = how
        super().__init__(f"severed: {how}")


class HubError(SignalRError):
    """The server completed an invocation with an error; `str()` is the server's text."""


class NegotiationError(SignalRError):
    """Negotiate was not answered with a connection.

    Attributes:
        status: the HTTP status code; 0 when there was no answer at all.
        body: the answer's body.
    """

    def __init__(self, message: str, *, status: int = 0, body: bytes = b"") -> None:
        self.status = status
        self.body = body
        super().__init__(message)


class HandshakeError(SignalRError):
    """The server refused the SignalR handshake; `str()` is the server's text."""


class ConnectionClosed(SignalRError):
    """The connection is over, so what was asked of it cannot be done.

    Attributes:
        error: the text of the server's Close message, if it gave one.
        allow_reconnect: whether the server invited the client to connect again.
        lost: it ended without a Close message, so nobody forbade to connect again.
    """

    def __init__(
        self, message: str, *, error: str | None = None, allow_reconnect: bool = False, lost: bool = False
    ) -> None:
        self.error = error
        self.allow_reconnect = allow_reconnect
        self.lost = lost
        super().__init__(message)
