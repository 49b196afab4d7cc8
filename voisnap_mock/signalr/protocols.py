"""Bytes to hub messages and back: framing, the handshake, and the JSON protocol.

A protocol cuts a stream of bytes into records and turns each record into one message. It knows nothing of
connections, transports or time. MessagePack is in `messagepack`.

Source: Documented, HubProtocol.md of ASP.NET Core; texts of errors Observed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol, TypeAlias, assert_never

import msgspec

from voisnap_mock.signalr.binder import BINDING_FAILED, Signature
from voisnap_mock.signalr.errors import BindingError, LocalProtocolError, RemoteProtocolError
from voisnap_mock.signalr.messages import (
    VOID,
    Ack,
    BindingFailure,
    CancelInvocation,
    Close,
    Completion,
    HandshakeRequest,
    HandshakeResponse,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)
from voisnap_mock.signalr.payloads import arguments_to_wire, to_wire

RECORD_SEPARATOR: Final = b"\x1e"
MAX_VERSION: Final = 2
MAX_DEPTH: Final = 64
"""Nesting of a JSON message, as System.Text.Json limits it."""


class TransferFormat(StrEnum):
    """What a transport must be able to carry."""

    TEXT = "Text"
    BINARY = "Binary"


class Types(Protocol):
    """What the receiver expects, so that arguments are decoded into their types at once."""

    def signature(self, target: str) -> Signature | None:
        """The arguments of a method; None when there is no such method."""
        ...


class AnyTypes:
    """Expects nothing in particular: arguments are whatever the decoder makes of them."""

    def signature(self, target: str) -> Signature | None:
        return None


Frame: TypeAlias = tuple[bytes, int]


class HubProtocol(Protocol):
    """Bytes <-> hub messages.

    Attributes:
        name: on the wire.
        transfer_format: what the transport must carry.
    """

    name: str
    transfer_format: TransferFormat

    def next_record(self, buffer: bytes, start: int, limit: int | None) -> Frame | None:
        """Cut the record that begins at `start`.

        Returns: the record without its frame and where the next one starts; None when it is not complete.

        Raises:
            RemoteProtocolError: the frame is malformed, or the record is longer than `limit` bytes with its frame.
        """
        ...

    def parse(self, record: bytes, types: Types) -> HubMessage | None:
        """Turn one record into a message; None for a message of an unknown type, which is to be ignored.

        Raises:
            RemoteProtocolError: the record is no message of this protocol.
        """
        ...

    def serialize(self, message: HubMessage) -> bytes:
        """Turn a message into its bytes on the wire, frame included.

        Raises:
            LocalProtocolError: a payload cannot be written in this protocol.
        """
        ...


def too_long(limit: int) -> RemoteProtocolError:
    """The failure of a message above the size limit."""
    return RemoteProtocolError(
        f"The maximum message size of {limit}B was exceeded. The message size can be configured in AddHubOptions."
    )


def cut_at_separator(buffer: bytes, start: int, limit: int | None) -> Frame | None:
    """`next_record` of the JSON protocol and of both handshakes."""
    end = buffer.find(RECORD_SEPARATOR, start)
    if end < 0:
        if limit is not None and len(buffer) - start > limit:
            raise too_long(limit)
        return None
    if limit is not None and end + 1 - start > limit:
        raise too_long(limit)
    return buffer[start:end], end + 1


# --- Handshake: JSON whatever protocol follows -----------------------------------------------------------------------


def parse_handshake_request(record: bytes) -> HandshakeRequest:
    """Read the client's first record.

    Raises:
        RemoteProtocolError: not JSON, or without `protocol` or `version`.
    """
    members = _handshake_object(record)
    for name, kind, word in (("protocol", str, "String"), ("version", int, "Number")):
        if name not in members:
            raise RemoteProtocolError(f"Missing required property '{name}'.")
        if not isinstance(members[name], kind) or isinstance(members[name], bool):
            raise RemoteProtocolError(f"Expected '{name}' to be of type {word}.")
    return HandshakeRequest(protocol=str(members["protocol"]), version=int(str(members["version"])))


def parse_handshake_response(record: bytes) -> HandshakeResponse:
    """Read the server's first record.

    Raises:
        RemoteProtocolError: not a JSON object, or a hub message.
    """
    members = _handshake_object(record)
    if "type" in members:
        raise RemoteProtocolError("Expected a handshake response from the server, got a hub message.")
    error = members.get("error")
    if error is not None and not isinstance(error, str):
        raise RemoteProtocolError("Expected 'error' to be of type String.")
    return HandshakeResponse(error=error)


def serialize_handshake_request(request: HandshakeRequest) -> bytes:
    return msgspec.json.encode({"protocol": request.protocol, "version": request.version}) + RECORD_SEPARATOR


def serialize_handshake_response(response: HandshakeResponse) -> bytes:
    if response.error is None:
        return b"{}\x1e"
    return msgspec.json.encode({"error": response.error}) + RECORD_SEPARATOR


def _handshake_object(record: bytes) -> Mapping[str, object]:
    members = _decode_json(record)
    if not isinstance(members, dict):
        raise RemoteProtocolError(f"Unexpected JSON Token Type '{_token(members)}'. Expected a JSON Object.")
    return members


# --- JSON ------------------------------------------------------------------------------------------------------------

_ABSENT: Final = msgspec.Raw()


class _Head(msgspec.Struct, rename="camel", gc=False):
    """Every member any message has; payloads stay raw until their type is known."""

    type: int
    invocation_id: str | None = None
    target: str | None = None
    arguments: msgspec.Raw = _ABSENT
    stream_ids: tuple[str, ...] | None = None
    item: msgspec.Raw = _ABSENT
    result: msgspec.Raw = _ABSENT
    error: str | None = None
    allow_reconnect: bool | None = None
    sequence_id: int | None = None
    headers: msgspec.Raw = _ABSENT


_MEMBER_TYPES = {
    "type": (int, "Number"),
    "invocationId": (str, "String"),
    "target": (str, "String"),
    "arguments": (list, "Array"),
    "streamIds": (list, "Array"),
    "error": (str, "String"),
    "allowReconnect": (bool, "Boolean"),
    "sequenceId": (int, "Number"),
}
_NULL_ALLOWED = {"invocationId", "target", "error", "streamIds", "allowReconnect"}

_read_head = msgspec.json.Decoder(_Head).decode
_read_headers = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder().encode
_PING = b'{"type":6}\x1e'


class JsonHubProtocol:
    """JSON objects, each followed by the record separator 0x1E."""

    name = "json"
    transfer_format = TransferFormat.TEXT

    def __init__(self) -> None:
        self._prefixes: dict[str, bytes] = {}

    next_record = staticmethod(cut_at_separator)

    def parse(self, record: bytes, types: Types) -> HubMessage | None:
        if record.count(b"[") + record.count(b"{") > MAX_DEPTH and _is_too_deep(record):
            raise RemoteProtocolError("Error reading JSON.")
        try:
            head = _read_head(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(record) from error
        # The frequent one first.
        if head.type == 1 or head.type == 4:
            return self._invocation(head, types)
        return self._other(head)

    def _invocation(self, head: _Head, types: Types) -> HubMessage:
        if head.arguments is _ABSENT:
            raise RemoteProtocolError("Missing required property 'arguments'.")
        target = head.target or ""
        invocation_id = head.invocation_id or None
        streaming = head.type == 4
        if streaming and invocation_id is None:
            raise RemoteProtocolError("Missing required property 'invocationId'.")
        if head.target is None:
            detail = "InvalidDataException: Missing required property 'target'."
            return BindingFailure("", detail, invocation_id, streaming)
        signature = types.signature(target)
        try:
            arguments = _array(head.arguments) if signature is None else signature.read_json(head.arguments)
        except BindingError as error:
            if not bytes(head.arguments).lstrip().startswith(b"["):
                raise RemoteProtocolError("Expected 'arguments' to be of type Array.") from error
            return BindingFailure(target, error.detail, invocation_id, streaming)
        except msgspec.DecodeError as error:
            raise RemoteProtocolError("Error reading JSON.") from error
        if streaming:
            assert invocation_id is not None
            return StreamInvocation(target, arguments, invocation_id, head.stream_ids or (), _headers(head))
        if head.headers is _ABSENT and not head.stream_ids:
            return Invocation(target, arguments, invocation_id)
        return Invocation(target, arguments, invocation_id, head.stream_ids or (), _headers(head))

    def _other(self, head: _Head) -> HubMessage | None:
        match head.type:
            case 2:
                stream_id = _required_id(head)
                if head.item is _ABSENT:
                    raise RemoteProtocolError("Missing required property 'item'.")
                return StreamItem(stream_id, _payload(head.item), _headers(head))
            case 3:
                invocation_id = _required_id(head)
                if head.error is not None and head.result is not _ABSENT:
                    raise RemoteProtocolError("The 'error' and 'result' properties are mutually exclusive.")
                result = VOID if head.result is _ABSENT else _payload(head.result)
                return Completion(invocation_id, result, head.error, _headers(head))
            case 5:
                return CancelInvocation(_required_id(head), _headers(head))
            case 6:
                return Ping()
            case 7:
                return Close(head.error, bool(head.allow_reconnect))
            case 8 | 9:
                if head.sequence_id is None:
                    raise RemoteProtocolError("Missing required property 'sequenceId'.")
                return Ack(head.sequence_id) if head.type == 8 else Sequence(head.sequence_id)
            case _:
                if not -(2**31) <= head.type < 2**31:
                    raise RemoteProtocolError("Expected 'type' to be of type Number.")
                # Newer versions of ASP.NET Core ignore what later protocols may add.
                return None

    def serialize(self, message: HubMessage) -> bytes:
        try:
            if type(message) is Invocation and message.invocation_id is None and not message.stream_ids:
                # What a server sends most; the same few targets again and again.
                if not message.headers:
                    prefix = self._prefixes.get(message.target) or self._prefix(message.target)
                    return b"".join((prefix, _encode(arguments_to_wire(message.arguments)), b"}\x1e"))
            elif type(message) is Completion and message.result is None and not message.headers:
                # What it sends next to most.
                return b"".join((b'{"type":3,"invocationId":', _encode(message.invocation_id), b',"result":null}\x1e'))
            return self._serialize(message)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise LocalProtocolError(f"{type(message).__name__} cannot be written as JSON: {error}") from error

    def _serialize(self, message: HubMessage) -> bytes:
        match message:
            case Invocation():
                return _record(1, message.headers, message.invocation_id, _call_members(message))
            case Completion():
                if message.headers:
                    return _record(3, message.headers, message.invocation_id, _completion_members(message))
                if message.error is not None:
                    tail = b',"error":' + _encode(message.error)
                elif message.result is VOID:
                    tail = b""
                else:
                    tail = b',"result":' + _encode(to_wire(message.result))
                return b'{"type":3,"invocationId":' + _encode(message.invocation_id) + tail + b"}\x1e"
            case StreamItem():
                return _record(2, message.headers, message.invocation_id, {"item": to_wire(message.item)})
            case StreamInvocation():
                return _record(4, message.headers, message.invocation_id, _call_members(message))
            case CancelInvocation():
                return _record(5, message.headers, message.invocation_id, {})
            case Ping():
                return _PING
            case Close():
                members: dict[str, object] = {}
                if message.error is not None:
                    members["error"] = message.error
                if message.allow_reconnect:
                    members["allowReconnect"] = True
                return _record(7, {}, None, members)
            case Ack():
                return _record(8, {}, None, {"sequenceId": message.sequence_id})
            case Sequence():
                return _record(9, {}, None, {"sequenceId": message.sequence_id})
            case BindingFailure():
                raise ValueError("a binding failure is not a message of the wire")
            case _:
                assert_never(message)

    def _prefix(self, target: str) -> bytes:
        prefix = b'{"type":1,"target":' + _encode(target) + b',"arguments":'
        if len(self._prefixes) < 256:
            self._prefixes[target] = prefix
        return prefix


def _record(kind: int, headers: Mapping[str, str], invocation_id: str | None, members: dict[str, object]) -> bytes:
    whole: dict[str, object] = {"type": kind}
    if headers:
        whole["headers"] = headers
    if invocation_id is not None:
        whole["invocationId"] = invocation_id
    return _encode(whole | members) + RECORD_SEPARATOR


def _call_members(message: Invocation | StreamInvocation) -> dict[str, object]:
    members: dict[str, object] = {"target": message.target, "arguments": arguments_to_wire(message.arguments)}
    if message.stream_ids:
        members["streamIds"] = message.stream_ids
    return members


def _completion_members(message: Completion) -> dict[str, object]:
    if message.error is not None:
        return {"error": message.error}
    return {} if message.result is VOID else {"result": to_wire(message.result)}


def _required_id(head: _Head) -> str:
    if not head.invocation_id:
        raise RemoteProtocolError("Missing required property 'invocationId'.")
    return head.invocation_id


def _headers(head: _Head) -> Mapping[str, str]:
    """Headers that are not a map of strings are ignored, as ASP.NET Core's hubs ignore all of them."""
    if head.headers is _ABSENT:
        return {}
    try:
        return _read_headers(head.headers)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _array(raw: msgspec.Raw) -> tuple[object, ...]:
    try:
        values = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise BindingError(f"{BINDING_FAILED} The arguments are not valid UTF-8: {error.reason}.") from error
    except msgspec.DecodeError as error:
        if "out of range" not in str(error):
            raise
        raise BindingError(f"{BINDING_FAILED} {error}.") from error
    if not isinstance(values, list):
        raise RemoteProtocolError("Expected 'arguments' to be of type Array.")
    return tuple(values)


def _payload(raw: msgspec.Raw) -> object:
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError("Error reading JSON.") from error
    return value


def _malformed(record: bytes) -> RemoteProtocolError:
    """Why a record is no message, in ASP.NET Core's words."""
    try:
        value = _decode_json(record)
    except RemoteProtocolError as error:
        return error
    if not isinstance(value, dict):
        return RemoteProtocolError(f"Unexpected JSON Token Type '{_token(value)}'. Expected a JSON Object.")
    for name, (kind, word) in _MEMBER_TYPES.items():
        member = value.get(name)
        if name not in value or (member is None and name in _NULL_ALLOWED):
            continue
        if not isinstance(member, kind) or (kind is int and isinstance(member, bool)):
            return RemoteProtocolError(f"Expected '{name}' to be of type {word}.")
        if isinstance(member, list) and name == "streamIds" and not all(isinstance(each, str) for each in member):
            return RemoteProtocolError("Expected 'streamIds' to be an array of String.")
    if "type" not in value:
        return RemoteProtocolError("Missing required property 'type'.")
    return RemoteProtocolError("Error reading JSON.")


def _decode_json(record: bytes) -> object:
    try:
        value: object = msgspec.json.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("Error reading JSON.") from error
    return value


def _token(value: object) -> str:
    match value:
        case list():
            return "Array"
        case str():
            return "String"
        case bool():
            return str(value)
        case None:
            return "Null"
        case _:
            return "Number"


_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _is_too_deep(record: bytes) -> bool:
    """Whether objects and arrays nest deeper than `MAX_DEPTH`, or do not match; brackets in strings do not count.

    Each round takes the innermost pairs away.
    """
    brackets = _STRING.sub(b"", record).translate(_TO_SQUARE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    return bool(brackets)
