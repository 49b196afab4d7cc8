"""The MessagePack protocol: arrays, each after its length.

Source: Documented, HubProtocol.md of ASP.NET Core, "MessagePack (MsgPack) Encoding".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from voisnap_mock.signalr.binder import BINDING_FAILED
from voisnap_mock.signalr.errors import BindingError, LocalProtocolError, RemoteProtocolError
from voisnap_mock.signalr.messages import (
    VOID,
    Ack,
    BindingFailure,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)
from voisnap_mock.signalr.payloads import arguments_to_wire, describe, to_wire
from voisnap_mock.signalr.protocols import Frame, TransferFormat, Types, too_long

_ABSENT: Final = msgspec.Raw()
_ERROR, _NOTHING, _RESULT = 1, 2, 3


class _Invocation(msgspec.Struct, array_like=True, tag=1, gc=False):
    headers: dict[str, str]
    invocation_id: str | None
    target: str
    arguments: msgspec.Raw
    stream_ids: tuple[str, ...] | None = None


class _StreamItem(msgspec.Struct, array_like=True, tag=2, gc=False):
    headers: dict[str, str]
    invocation_id: str
    item: msgspec.Raw


class _Completion(msgspec.Struct, array_like=True, tag=3, gc=False):
    headers: dict[str, str]
    invocation_id: str
    kind: int
    value: msgspec.Raw = _ABSENT


class _StreamInvocation(msgspec.Struct, array_like=True, tag=4, gc=False):
    headers: dict[str, str]
    invocation_id: str
    target: str
    arguments: msgspec.Raw
    stream_ids: tuple[str, ...] | None = None


class _CancelInvocation(msgspec.Struct, array_like=True, tag=5, gc=False):
    headers: dict[str, str]
    invocation_id: str


class _Ping(msgspec.Struct, array_like=True, tag=6, gc=False):
    pass


class _Close(msgspec.Struct, array_like=True, tag=7, gc=False):
    error: str | None
    allow_reconnect: bool = False


class _Ack(msgspec.Struct, array_like=True, tag=8, gc=False):
    sequence_id: int


class _Sequence(msgspec.Struct, array_like=True, tag=9, gc=False):
    sequence_id: int


_Array = (
    _Invocation | _StreamItem | _Completion | _StreamInvocation | _CancelInvocation | _Ping | _Close | _Ack | _Sequence
)

_read = msgspec.msgpack.Decoder(_Array).decode
_read_items = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.msgpack.Encoder().encode
_PING = b"\x02\x91\x06"


class MessagePackHubProtocol:
    """MessagePack arrays, each after a VarInt with its length."""

    name = "messagepack"
    transfer_format = TransferFormat.BINARY

    def __init__(self) -> None:
        self._prefixes: dict[str, bytes] = {}

    def next_record(self, buffer: bytes, start: int, limit: int | None) -> Frame | None:
        length = 0
        size = len(buffer)
        for index in range(5):
            at = start + index
            if at >= size:
                return None
            byte = buffer[at]
            if index == 4 and byte > 7:
                raise RemoteProtocolError("Messages over 2GB in size are not supported.", kind="FormatException")
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                break
        begin = at + 1
        end = begin + length
        # Said before the bytes are there: waiting for them would only fill memory.
        if limit is not None and end - start > limit:
            raise too_long(limit)
        return (buffer[begin:end], end) if end <= size else None

    def parse(self, record: bytes, types: Types) -> HubMessage | None:
        try:
            array = _read(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _check_unreadable(record, error)
            return None
        match array:
            case _Invocation() | _StreamInvocation():
                return _invocation(array, types)
            case _StreamItem():
                return StreamItem(array.invocation_id, _payload(array.item), array.headers)
            case _Completion():
                return _completion(array)
            case _CancelInvocation():
                return CancelInvocation(array.invocation_id, array.headers)
            case _Ping():
                return Ping()
            case _Close():
                return Close(array.error, array.allow_reconnect)
            case _Ack():
                return Ack(array.sequence_id)
            case _Sequence():
                return Sequence(array.sequence_id)
            case _:
                assert_never(array)

    def serialize(self, message: HubMessage) -> bytes:
        try:
            return self._serialize(message)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
            raise LocalProtocolError(f"{type(message).__name__} cannot be written as MessagePack: {error}") from error

    def _serialize(self, message: HubMessage) -> bytes:
        match message:
            case Invocation():
                arguments = arguments_to_wire(message.arguments)
                if message.invocation_id is None and not message.stream_ids and not message.headers:
                    # What a server sends most; the same few targets again and again.
                    prefix = self._prefixes.get(message.target) or self._prefix(message.target)
                    return _framed(b"".join((prefix, _encode(arguments), b"\x90")))
                return _array(
                    [1, message.headers, message.invocation_id, message.target, arguments, message.stream_ids]
                )
            case StreamInvocation():
                arguments = arguments_to_wire(message.arguments)
                return _array(
                    [4, message.headers, message.invocation_id, message.target, arguments, message.stream_ids]
                )
            case Completion():
                head = [3, message.headers, message.invocation_id]
                if message.error is not None:
                    return _array([*head, _ERROR, message.error])
                if message.result is VOID:
                    return _array([*head, _NOTHING])
                return _array([*head, _RESULT, to_wire(message.result)])
            case StreamItem():
                return _array([2, message.headers, message.invocation_id, to_wire(message.item)])
            case CancelInvocation():
                return _array([5, message.headers, message.invocation_id])
            case Ping():
                return _PING
            case Close():
                return _array([7, message.error, message.allow_reconnect])
            case Ack():
                return _array([8, message.sequence_id])
            case Sequence():
                return _array([9, message.sequence_id])
            case BindingFailure():
                raise ValueError("a binding failure is not a message of the wire")
            case _:
                assert_never(message)

    def _prefix(self, target: str) -> bytes:
        prefix = b"\x96\x01\x80\xc0" + _encode(target)
        if len(self._prefixes) < 256:
            self._prefixes[target] = prefix
        return prefix


def _array(items: list[object]) -> bytes:
    return _framed(_encode(items))


def _framed(body: bytes) -> bytes:
    length = len(body)
    if length < 0x80:
        return bytes((length,)) + body
    prefix = bytearray()
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + body


def _invocation(array: _Invocation | _StreamInvocation, types: Types) -> HubMessage:
    streaming = isinstance(array, _StreamInvocation)
    invocation_id = array.invocation_id or None
    signature = types.signature(array.target)
    try:
        if signature is not None:
            arguments = signature.read_msgpack(array.arguments)
        else:
            values = msgspec.msgpack.decode(array.arguments)
            if not isinstance(values, list):
                raise BindingError(f"{BINDING_FAILED} Expected an array of arguments, got {describe(values)}.")
            arguments = tuple(values)
    except BindingError as error:
        return BindingFailure(array.target, error.detail, invocation_id, streaming)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BindingFailure(array.target, f"{BINDING_FAILED} {error}.", invocation_id, streaming)
    stream_ids = array.stream_ids or ()
    if streaming:
        if invocation_id is None:
            raise RemoteProtocolError("Missing required property 'invocationId'.")
        return StreamInvocation(array.target, arguments, invocation_id, stream_ids, array.headers)
    return Invocation(array.target, arguments, invocation_id, stream_ids, array.headers)


def _completion(array: _Completion) -> HubMessage:
    headers: Mapping[str, str] = array.headers
    if array.kind == _NOTHING:
        return Completion(array.invocation_id, VOID, None, headers)
    if array.kind not in (_ERROR, _RESULT):
        raise RemoteProtocolError("Invalid invocation result kind.")
    if array.value is _ABSENT:
        raise RemoteProtocolError("The completion has neither result nor error.")
    if array.kind == _ERROR:
        try:
            error_text = msgspec.msgpack.decode(array.value, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RemoteProtocolError("Reading 'error' as String failed.") from error
        return Completion(array.invocation_id, VOID, error_text, headers)
    return Completion(array.invocation_id, _payload(array.value), None, headers)


def _payload(raw: msgspec.Raw) -> object:
    try:
        value: object = msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"Error reading MessagePack: {error}.") from error
    return value


def _check_unreadable(record: bytes, error: Exception) -> None:
    """Ignore a message of a later protocol; anything else is fatal.

    Raises:
        RemoteProtocolError: the record is no array, has no number as its type, or members of wrong types.
    """
    try:
        items = _read_items(record)
        kind = msgspec.msgpack.decode(items[0], type=int) if items else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as inner:
        raise RemoteProtocolError(f"Error reading MessagePack: {inner}.") from inner
    if kind is None:
        raise RemoteProtocolError("Reading 'messageType' as Int32 failed.")
    if 1 <= kind <= 9:
        raise RemoteProtocolError(f"Error reading MessagePack: {error}.") from error
