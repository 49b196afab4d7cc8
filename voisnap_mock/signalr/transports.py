"""The rules of the transports, without doing anything: negotiate, status codes, headers, bodies.

Source: Documented, TransportProtocols.md of ASP.NET Core; bodies and header values Observed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from voisnap_mock.signalr.protocols import TransferFormat


class Transport(StrEnum):
    """The transports by their names on the wire, in the order in which clients try them."""

    WEB_SOCKETS = "WebSockets"
    SERVER_SENT_EVENTS = "ServerSentEvents"
    LONG_POLLING = "LongPolling"


class Severance(StrEnum):
    """How a server may lose a connection, or a request, on purpose.

    RESET: a TCP reset. CLOSE: the transport ends in order, without a Close message. CLOSE_NO_RECONNECT: a Close message
    that forbids to reconnect, then the end in order. STALL: nothing is read or written any more, not even pings; the
    server gives the connection up after the time that it grants silent clients, and lets the socket be. HALF_OPEN: for
    the server the connection is lost at once; the client's socket stays open, and what it sends is read and forgotten.
    """

    RESET = "reset"
    CLOSE = "close"
    CLOSE_NO_RECONNECT = "close_no_reconnect"
    STALL = "stall"
    HALF_OPEN = "half_open"


TRANSFER_FORMATS: Final[Mapping[Transport, frozenset[TransferFormat]]] = {
    Transport.WEB_SOCKETS: frozenset(TransferFormat),
    Transport.SERVER_SENT_EVENTS: frozenset({TransferFormat.TEXT}),
    Transport.LONG_POLLING: frozenset(TransferFormat),
}


class Parameters:
    """Names and values of a query or of headers; names are matched without regard to case, the first value counts."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._items = tuple(items)

    @classmethod
    def from_query(cls, query: bytes | str) -> Parameters:
        text = query if isinstance(query, str) else query.decode("latin-1")
        return cls(parse_qsl(text, keep_blank_values=True, max_num_fields=1000) if text.count("&") < 1000 else ())

    def get(self, name: str, default: str | None = None) -> str | None:
        wanted = name.lower()
        for key, value in self._items:
            if key.lower() == wanted:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for key, value in self._items if key.lower() == wanted]

    def items(self) -> tuple[tuple[str, str], ...]:
        return self._items

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __repr__(self) -> str:
        # Values may be tokens.
        return f"<Parameters {', '.join(key for key, _ in self._items)}>"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole HTTP response."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


ID_REQUIRED = HttpAnswer(400, b"Connection ID required")
NO_SUCH_CONNECTION = HttpAnswer(404, b"No Connection with that ID")
METHOD_NOT_ALLOWED = HttpAnswer(405)
POST_NOT_ALLOWED = HttpAnswer(405, b"POST requests are not allowed for WebSocket connections.")
CANNOT_DELETE = HttpAnswer(400, b"Cannot terminate this connection using the DELETE endpoint.")
OTHER_TRANSPORT = HttpAnswer(400, b"Cannot change transports mid-connection")
ALREADY_CONNECTED = HttpAnswer(409)
TAKEN = HttpAnswer(200)
DELETED = HttpAnswer(202)

POLL_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-cache, no-store",
    "Pragma": "no-cache",
    "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
}
SSE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
}
SSE_GREETING: Final = b":\r\n"
"""A comment, so that a browser's EventSource reports that it is open."""


def transport_off(transport: Transport) -> HttpAnswer:
    """The answer to a transport that is switched off."""
    return HttpAnswer(404, f"{transport} transport not supported by this end point type".encode())


# --- Which request may do what to which connection


class Life(StrEnum):
    """What a connection is when a request names it.

    NEGOTIATED: promised, no transport yet. LIVE: its transport is there, or between two polls. RESUMABLE: a WebSocket
    connection that a new WebSocket may take over. OVER: ended, not yet forgotten.
    """

    NEGOTIATED = "negotiated"
    LIVE = "live"
    RESUMABLE = "resumable"
    OVER = "over"


def place_get(asked: Transport, life: Life | None, current: Transport | None, *, has_id: bool) -> HttpAnswer | None:
    """Whether a GET may attach to a connection: None for yes, else the answer.

    | request | no id | unknown | negotiated | same transport | other transport | over |
    | ------- | ----- | ------- | ---------- | -------------- | --------------- | ---- |
    | WebSocket | new one | 404 | yes | 409, or take-over | 400 | 404 |
    | SSE | 400 | 404 | yes | 409 | 400 | 404 |
    | poll | 400 | 404 | yes | yes | 400 | yes: the last poll takes the Close, or 204 |

    Source: Observed.
    """
    if not has_id:
        return None if asked is Transport.WEB_SOCKETS else ID_REQUIRED
    match life:
        case None:
            return NO_SUCH_CONNECTION
        case Life.NEGOTIATED:
            return None
        case _ if current is not asked:
            return OTHER_TRANSPORT
        case Life.OVER:
            return None if asked is Transport.LONG_POLLING else NO_SUCH_CONNECTION
        case _ if asked is Transport.LONG_POLLING or life is Life.RESUMABLE:
            return None
        case _:
            return ALREADY_CONNECTED


def place_post(life: Life | None, current: Transport | None, *, has_id: bool) -> HttpAnswer | None:
    """Whether a POST may bring data; None for yes.

    While the Close is still on its way down an event stream, posts are taken (and dropped): a client that was about to
    ping must learn of the end by the Close, not by a 404.
    """
    if not has_id:
        return ID_REQUIRED
    if life is None or (life is Life.OVER and current is not Transport.SERVER_SENT_EVENTS):
        return NO_SUCH_CONNECTION
    return POST_NOT_ALLOWED if current is Transport.WEB_SOCKETS else None


def place_delete(life: Life | None, current: Transport | None, *, has_id: bool) -> HttpAnswer | None:
    """Whether a DELETE may end the connection; None for yes."""
    if not has_id:
        return ID_REQUIRED
    if life is None:
        return NO_SUCH_CONNECTION
    return None if current is Transport.LONG_POLLING else CANNOT_DELETE


# --- Server-Sent Events


def sse_event(payload: bytes) -> bytes:
    """One event; a line break in the payload would need a line of its own."""
    if b"\n" in payload or b"\r" in payload:
        lines = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return b"".join(b"data: " + line + b"\r\n" for line in lines) + b"\r\n"
    return b"data: " + payload + b"\r\n\r\n"


class SseReader:
    """Bytes of an event stream in, payloads of whole events out; comments and other fields are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        events = []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for whole in lines:
            line = whole.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        return events


# --- Negotiate


@dataclass(frozen=True, slots=True)
class NegotiateRequest:
    """A negotiate that can be answered with a connection.

    Attributes:
        version: 0 or 1.
        stateful_reconnect: whether the client asked for it.
    """

    version: int
    stateful_reconnect: bool = False


@dataclass(frozen=True, slots=True)
class NegotiateRefused:
    """A negotiate that is answered with an error text (and status 200)."""

    error: str


_INTEGER: Final = re.compile(r"\s*[+-]?[0-9]{1,40}\s*", re.ASCII)


def read_negotiate(query: Parameters) -> NegotiateRequest | NegotiateRefused:
    """Decide what a negotiate's query asks for.

    Source: Observed; without `negotiateVersion` it is 0, versions above 1 are answered as 1. What counts as an integer
    is what .NET's `int.TryParse` takes, 32 bits and no empty text.
    """
    asked = query.get("negotiateVersion")
    version = 0
    if asked is not None:
        if not _INTEGER.fullmatch(asked) or not -(2**31) <= int(asked) < 2**31:
            return NegotiateRefused("The client requested a non-integer protocol version.")
        version = int(asked)
        if version < 0:
            return NegotiateRefused(
                f"The client requested version '{version}', but the server does not support this version."
            )
    stateful = (query.get("useStatefulReconnect") or "").lower() == "true"
    return NegotiateRequest(min(version, 1), stateful)


def negotiate_answer(
    request: NegotiateRequest,
    *,
    connection_id: str,
    connection_token: str,
    transports: Iterable[Transport],
    stateful_reconnect: bool = False,
) -> HttpAnswer:
    """The answer that makes a connection; version 0 gets no token, its id is the token."""
    members: dict[str, object] = {"negotiateVersion": request.version, "connectionId": connection_id}
    if request.version > 0:
        members["connectionToken"] = connection_token
    if stateful_reconnect:
        members["useStatefulReconnect"] = True
    members["availableTransports"] = [
        {"transport": transport, "transferFormats": [f for f in TransferFormat if f in TRANSFER_FORMATS[transport]]}
        for transport in transports
    ]
    return HttpAnswer(200, msgspec.json.encode(members), "application/json")


def negotiate_error(refused: NegotiateRefused) -> HttpAnswer:
    return HttpAnswer(200, msgspec.json.encode({"error": refused.error}), "application/json")


# --- CORS

ALLOWED_HEADERS: Final = "authorization, content-type, x-requested-with, x-signalr-user-agent"


def cors_headers(origin: str | None) -> dict[str, str]:
    """What a browser needs to read an answer to a request with credentials: its own origin, never `*`."""
    if not origin:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}


def preflight_answer(origin: str | None, requested_headers: str | None) -> HttpAnswer:
    """The answer to a preflight; it needs no token."""
    headers = cors_headers(origin)
    if headers:
        headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
        headers["Access-Control-Allow-Headers"] = requested_headers or ALLOWED_HEADERS
        headers["Access-Control-Max-Age"] = "600"
    return HttpAnswer(204, headers=headers)
