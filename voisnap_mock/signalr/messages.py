"""The nine hub messages, and the two messages of the handshake.

One value per message, the same for sending and receiving and for both protocols. They are frozen msgspec Structs
rather than dataclasses because one is made for every message on the wire: making a Struct costs a tenth.

Source: Documented, HubProtocol.md of ASP.NET Core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from msgspec import UNSET, Struct

VOID: Final = UNSET
"""The result of a completion that has none; `None` is a result, the null."""

_NO_HEADERS: Final[Mapping[str, str]] = {}


class HandshakeRequest(Struct, frozen=True):
    """The client's first message: which hub protocol it will speak.

    Attributes:
        protocol: `json` or `messagepack`, as the client wrote it.
        version: 0, 1 or 2.
    """

    protocol: str
    version: int


class HandshakeResponse(Struct, frozen=True):
    """The server's answer to the handshake; without `error` the connection is open."""

    error: str | None = None


class Invocation(Struct, frozen=True):
    """Call a method of the other side.

    Attributes:
        target: the method's name.
        arguments: decoded; on a server already of the types that the hub method declares.
        invocation_id: None when the caller wants no answer.
        stream_ids: of streams that the caller will upload.
    """

    target: str
    arguments: tuple[object, ...] = ()
    invocation_id: str | None = None
    stream_ids: tuple[str, ...] = ()
    headers: Mapping[str, str] = _NO_HEADERS


class StreamInvocation(Struct, frozen=True):
    """Call a streaming method; answered by stream items and one completion."""

    target: str
    arguments: tuple[object, ...] = ()
    invocation_id: str = ""
    stream_ids: tuple[str, ...] = ()
    headers: Mapping[str, str] = _NO_HEADERS


class StreamItem(Struct, frozen=True):
    """One item of a stream; `invocation_id` is the stream's id when a client uploads."""

    invocation_id: str
    item: object = None
    headers: Mapping[str, str] = _NO_HEADERS


class Completion(Struct, frozen=True):
    """The end of an invocation or stream: a result, an error, or neither.

    Attributes:
        result: `VOID` when there is none.
        error: None unless the invocation failed.
    """

    invocation_id: str
    result: object = VOID
    error: str | None = None
    headers: Mapping[str, str] = _NO_HEADERS


class CancelInvocation(Struct, frozen=True):
    """The client wants no more items of a stream."""

    invocation_id: str
    headers: Mapping[str, str] = _NO_HEADERS


class Ping(Struct, frozen=True):
    """Nothing but a sign of life."""


class Close(Struct, frozen=True):
    """The end of the connection.

    Attributes:
        error: shown to the other side's user.
        allow_reconnect: whether a client with automatic reconnect should connect again.
    """

    error: str | None = None
    allow_reconnect: bool = False


class Ack(Struct, frozen=True):
    """Stateful reconnect: everything up to this message was processed."""

    sequence_id: int


class Sequence(Struct, frozen=True):
    """Stateful reconnect: the number of the first message that follows."""

    sequence_id: int


class BindingFailure(Struct, frozen=True):
    """An invocation whose arguments do not fit; never on the wire. It fails, not the connection.

    Attributes:
        detail: why, as `BindingError` says it.
        streaming: whether it was a stream invocation.
    """

    target: str
    detail: str
    invocation_id: str | None = None
    streaming: bool = False


HubMessage: TypeAlias = (
    Invocation
    | StreamInvocation
    | StreamItem
    | Completion
    | CancelInvocation
    | Ping
    | Close
    | Ack
    | Sequence
    | BindingFailure
)
