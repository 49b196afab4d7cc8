"""The fast road of WebSockets under uvicorn: from the socket to the hub without an ASGI message or a task in between.

    uvicorn.Config(app, ws=websocket_class([endpoint]), ...)

Upgrades of a hub's path are driven here, all others by uvicorn's own class. A whole, unfragmented data frame is
unmasked and handed to the hub at once; every other frame goes through the `ServerProtocol` of `websockets`, which is
made for a connection when it is first needed and also does the closing handshake. Data frames to the client are an
unmasked header and the payload. There is no permessage-deflate: it costs two to three times the CPU and gains nothing
on a loopback.

ASGI middleware sees nothing of these connections.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import hashlib
import inspect
import logging
import struct
from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from voisnap_mock.signalr.asgi_wires import reset
from voisnap_mock.signalr.endpoint import Admitted, HubEndpoint
from voisnap_mock.signalr.hub import ConnectionRequest
from voisnap_mock.signalr.interceptors import Fragmented
from voisnap_mock.signalr.live import LiveConnection
from voisnap_mock.signalr.transports import HttpAnswer, Severance
from voisnap_mock.signalr.wires import TransportLost

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

# At "debug", `websockets` logs the request line and headers of every opening, tokens included.
_quiet = logging.getLogger(f"{__name__}.frames")
_quiet.setLevel(logging.WARNING)

_STREAMED: Final = 65_536
"""Frames longer than this are handed on in pieces as they come, so that nobody can make the server hold them."""
_MAX_FRAGMENT: Final = 1_048_576
_MIDDLE_HEAD: Final = struct.Struct("!BBH").pack
_LONG_HEAD: Final = struct.Struct("!BBQ").pack
_Utf8: Final = codecs.getincrementaldecoder("utf-8")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KNOWN_STATUSES: Final = frozenset(HTTPStatus)
_NO_UPGRADE: Final = HttpAnswer(
    400, b"This is no WebSocket upgrade of version 13.", headers={"Sec-WebSocket-Version": "13"}
)
_FINAL_TEXT: Final = 0x81
_FINAL_BINARY: Final = 0x82
_FINAL_CONTINUATION: Final = 0x80


class Flusher:
    """Lets every socket that was woken in one round of the loop write once, at the end of that round."""

    __slots__ = ("_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._woken: list[HubSocket] = []

    def add(self, socket: HubSocket) -> None:
        self._woken.append(socket)
        if len(self._woken) == 1:
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        woken, self._woken = self._woken, []
        for socket in woken:
            socket.flush()


class HubSocket(asyncio.Protocol):
    """One upgraded connection; `websocket_class` binds it to endpoints."""

    endpoints: ClassVar[tuple[HubEndpoint, ...]] = ()
    flushers: ClassVar[dict[asyncio.AbstractEventLoop, Flusher]] = {}

    __slots__ = (
        "_close_sent",
        "_delegate",
        "_flusher",
        "_fragmented",
        "_is_opening",
        "_live",
        "_lost",
        "_make_delegate",
        "_mask",
        "_opcode",
        "_paused",
        "_protocol",
        "_remaining",
        "_rest",
        "_root_path",
        "_state",
        "_text",
        "_transport",
        "_woken",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        loop = _loop or asyncio.get_running_loop()
        self._make_delegate: Any = lambda: WebSocketsSansIOProtocol(config, server_state, app_state, loop)
        self._delegate: asyncio.Protocol | None = None
        self._root_path = config.root_path
        self._state = server_state
        flusher = self.flushers.get(loop)
        if flusher is None:
            flusher = self.flushers[loop] = Flusher(loop)
        self._flusher = flusher
        self._transport: Any = None
        self._protocol: ServerProtocol | None = None
        self._is_opening = False
        self._live: LiveConnection | None = None
        self._rest = b""
        # Of a long frame that is handed on in pieces: bytes still to come, and the mask as it stands.
        self._remaining = 0
        self._mask = b""
        self._fragmented = False
        self._woken = False
        self._paused = False
        self._opcode = 0
        # Of a text message that comes in several pieces: what checks that it is text.
        self._text: codecs.IncrementalDecoder | None = None
        self._close_sent = False
        self._lost = False

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._delegate is not None:
            self._delegate.connection_lost(exc)
            return
        self._state.connections.discard(self)
        if self._live is not None:
            self._live.transport_lost(self, TransportLost(f"the socket was lost: {exc or 'end of stream'}"))

    def eof_received(self) -> bool | None:
        return None if self._delegate is None else self._delegate.eof_received()

    def pause_writing(self) -> None:
        if self._delegate is not None:
            self._delegate.pause_writing()
            return
        self._paused = True
        if self._live is not None:
            self._live.write_began()

    def resume_writing(self) -> None:
        if self._delegate is not None:
            self._delegate.resume_writing()
            return
        self._paused = False
        if self._live is not None:
            self._live.write_ended()
            self.flush()

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        if self._live is not None:
            self._live.close(allow_reconnect=True)
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._delegate is not None:
            self._delegate.data_received(data)
        elif self._live is None:
            if not self._is_opening:
                self._begin(data)
            else:
                # The authenticator is still at work, and a client must not send yet.
                self._rest += data
        else:
            self._frames(data, self._live)

    # --- frames in

    @property
    def _conn(self) -> ServerProtocol:
        if self._protocol is None:
            self._protocol = ServerProtocol(state=OPEN, max_size=None, logger=_quiet)
        return self._protocol

    def _frames(self, data: bytes, live: LiveConnection) -> None:
        if self._remaining:
            data = self._go_on(data, live)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        size = len(data)
        while size - position >= 2:
            first = data[position]
            second = data[position + 1]
            length = second & 0x7F
            mask_at = position + 2
            if length == 126:
                mask_at += 2
                if mask_at > size:
                    break
                length = data[mask_at - 2] << 8 | data[mask_at - 1]
            elif length == 127:
                mask_at += 8
                if mask_at > size:
                    break
                length = int.from_bytes(data[mask_at - 8 : mask_at], "big")
                if length >= 1 << 63:
                    self._fail(CloseCode.PROTOCOL_ERROR)
                    return
            begin = mask_at + 4
            end = begin + length
            plain = first in (_FINAL_TEXT, _FINAL_BINARY) and second >= 0x80 and not self._fragmented
            if end > size:
                if plain and length > _STREAMED and begin <= size:
                    self._remaining = length
                    self._mask = data[mask_at:begin]
                    self._text = _Utf8() if first == _FINAL_TEXT else None
                    self._go_on(data[begin:], live)
                    return
                if second < 0x80:
                    # Not masked: not to be waited for.
                    self._other_frame(data[position:], first, live)
                    return
                if length > _MAX_FRAGMENT:
                    self._fail(CloseCode.MESSAGE_TOO_BIG)
                    return
                break
            if plain:
                payload = apply_mask(data[begin:end], data[mask_at:begin])
                if first == _FINAL_TEXT and not payload.isascii() and not _is_text(payload):
                    self._fail(CloseCode.INVALID_DATA)
                    return
                live.receive(payload)
            else:
                self._other_frame(data[position:end], first, live)
            position = end
            if self._lost:
                return
        if position < size:
            self._rest = data[position:]

    def _go_on(self, data: bytes, live: LiveConnection) -> bytes:
        """Hand on a piece of a long frame; returns what follows the frame."""
        piece, rest = data[: self._remaining], data[self._remaining :]
        self._remaining -= len(piece)
        payload = apply_mask(piece, self._mask)
        if not self._goes_on_as_text(payload, final=not self._remaining):
            return b""
        live.receive(payload)
        turn = len(piece) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        return rest

    def _goes_on_as_text(self, payload: bytes, *, final: bool) -> bool:
        """Check a piece of a message that comes in several; ends the connection when it is no text and should be."""
        if self._text is None:
            return True
        try:
            self._text.decode(payload, final)
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA)
            return False
        if final:
            self._text = None
        return True

    def _other_frame(self, frame: bytes, first: int, live: LiveConnection) -> None:
        """A fragment, a control frame, or one that breaks the rules."""
        conn = self._conn
        if first & 0x0F < 3:
            self._fragmented = first < 0x80
        conn.receive_data(frame)
        for event in conn.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if event.opcode is Opcode.TEXT:
                    self._text = _Utf8()
                payload = bytes(event.data)
                if not self._goes_on_as_text(payload, final=event.fin):
                    return
                live.receive(payload)
            elif event.opcode is Opcode.CLOSE:
                self._closed_by_peer(conn, live)
        self._write_protocol()
        if conn.parser_exc is not None:
            self._lost = True
            live.transport_lost(self, TransportLost(f"the client broke the WebSocket: {conn.parser_exc}"), final=True)
            self._transport.close()

    def _closed_by_peer(self, conn: ServerProtocol, live: LiveConnection) -> None:
        received = conn.close_rcvd
        code = 1005 if received is None else received.code
        in_order = self._close_sent or code in (1000, 1001, 1005)
        error = None if in_order else TransportLost(f"the client closed the WebSocket with code {code}")
        self._lost = True
        live.transport_lost(self, error, final=True)

    def _fail(self, code: int) -> None:
        live = self._live
        assert live is not None
        self._conn.fail(code)
        self._write_protocol()
        self._lost = True
        live.transport_lost(self, TransportLost(f"the WebSocket was closed with code {int(code)}"), final=True)
        self._transport.close()

    def _write_protocol(self) -> None:
        """Write what `websockets` has to say; an empty piece is its word for the end."""
        pieces = self._conn.data_to_send()
        if pieces and not self._transport.is_closing():
            if whole := b"".join(pieces):
                self._transport.write(whole)
            if pieces[-1] == b"":
                self._transport.close()

    # --- the live connection's side

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._flusher.add(self)

    def flush(self) -> None:
        """Write everything that is queued, with one system call."""
        self._woken = False
        live = self._live
        if live is None or self._paused or self._close_sent or self._lost:
            return
        out = b""
        while data := live.take():
            if not self._opcode:
                # The first is the answer to the handshake, which comes alone.
                self._opcode = _FINAL_BINARY if live.is_binary else _FINAL_TEXT
                out = _in_pieces(self._opcode, data)
                continue
            if live.is_tapped:
                out += _in_pieces(self._opcode, data)
                continue
            out = out + _framed(self._opcode, data) if out else _framed(self._opcode, data)
            break
        if live.ended:
            conn = self._conn
            self._close_sent = True
            conn.send_close(CloseCode.NORMAL_CLOSURE)
            out = b"".join((out, *conn.data_to_send()))
        if out:
            self._transport.write(out)

    def abort(self) -> None:
        self._lost = True
        self._transport.abort()

    def reset(self) -> None:
        self.flush()
        self._lost = True
        reset(self._transport)

    def stall(self) -> None:
        self.flush()
        self._lost = True
        self._transport.pause_reading()

    def abandon(self) -> None:
        self.flush()
        self._lost = True
        self._state.connections.discard(self)
        self._transport.set_protocol(_Forgetful(self._transport, self._state))
        self._transport.resume_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    # --- the opening

    def _begin(self, head: bytes) -> None:
        """Take the request that uvicorn has parsed and put together again."""
        request_line, *lines = head.decode("latin-1").split("\r\n")
        target = request_line.split(" ", 2)[1]
        raw_path, _, query = target.partition("?")
        path = unquote(raw_path)
        endpoint = next((each for each in self.endpoints if each.serves(path)), None)
        if endpoint is None:
            self._delegate = self._make_delegate()
            self._delegate.connection_made(self._transport)
            self._delegate.data_received(head)
            return
        self._make_delegate = None
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn calls only `shutdown` of it
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines) if name]
        key = _key(headers)
        if key is None:
            self._refuse(_NO_UPGRADE)
            return
        client = self._transport.get_extra_info("peername")
        address = (client[0], client[1]) if isinstance(client, tuple) else None
        admitted = endpoint.admit(ConnectionRequest(path, query, headers, address))
        self._is_opening = True
        if inspect.isawaitable(admitted):
            endpoint.start(self._wait(endpoint, admitted, key))
        else:
            self._open(endpoint, admitted, key)

    async def _wait(self, endpoint: HubEndpoint, admitted: Awaitable[Admitted], key: bytes) -> None:
        self._open(endpoint, await admitted, key)

    def _open(self, endpoint: HubEndpoint, admitted: Admitted, key: bytes) -> None:
        if isinstance(admitted, HttpAnswer):
            self._refuse(admitted)
            return
        if isinstance(admitted, Severance):
            self._sever_upgrade(admitted)
            return
        if self._lost:
            endpoint.give_up(admitted)
            return
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._live = admitted
        endpoint.attach(admitted, self)
        if self._rest:
            early, self._rest = self._rest, b""
            self.data_received(early)

    def _sever_upgrade(self, how: Severance) -> None:
        match how:
            case Severance.RESET:
                reset(self._transport)
            case Severance.CLOSE | Severance.CLOSE_NO_RECONNECT:
                self._transport.close()
            case Severance.STALL | Severance.HALF_OPEN:
                self.abandon()

    def _refuse(self, answer: HttpAnswer) -> None:
        headers: dict[str, str] = {
            **{name.decode("latin-1"): value.decode("latin-1") for name, value in self._state.default_headers},
            "Connection": "close",
            "Content-Length": str(len(answer.body)),
            "Content-Type": answer.content_type,
            **answer.headers,
        }
        phrase = HTTPStatus(answer.status).phrase if answer.status in _KNOWN_STATUSES else ""
        lines = [f"HTTP/1.1 {answer.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body)
        self._transport.close()


class _Forgetful(asyncio.Protocol):
    """What serves a socket that means nothing to the server any more: reads and forgets until the client goes."""

    def __init__(self, transport: Any, state: ServerState) -> None:
        self.transport = transport
        self._state = state
        state.connections.add(self)  # type: ignore[arg-type]  # as for HubSocket

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        self.transport.abort()


def _in_pieces(opcode: int, payload: bytes) -> bytes:
    """A server's data frame, or the fragments of one."""
    if not isinstance(payload, Fragmented):
        return _framed(opcode, payload)
    pieces = payload.pieces()
    frames = [_framed(opcode & 0x7F if number == 0 else 0, piece) for number, piece in enumerate(pieces[:-1])]
    return b"".join((*frames, _framed(_FINAL_CONTINUATION if frames else opcode, pieces[-1])))


def _framed(opcode: int, payload: bytes) -> bytes:
    """A server's data frame."""
    length = len(payload)
    if length < 126:
        return bytes((opcode, length)) + payload
    if length < 65_536:
        return _MIDDLE_HEAD(opcode, 126, length) + payload
    return _LONG_HEAD(opcode, 127, length) + payload


def _key(headers: list[tuple[str, str]]) -> bytes | None:
    """The key of a valid upgrade; None for anything else.

    Source: Documented, RFC 6455, 4.2.1. Method, HTTP version and the two upgrade headers were checked by uvicorn.
    """
    versions = [value for name, value in headers if name == "sec-websocket-version"]
    keys = [value for name, value in headers if name == "sec-websocket-key"]
    if versions != ["13"] or len(keys) != 1:
        return None
    try:
        nonce = base64.b64decode(keys[0], validate=True)
    except ValueError:
        return None
    return keys[0].encode("latin-1") if len(nonce) == 16 else None


def _is_text(payload: bytes) -> bool:
    """Whether these bytes are UTF-8, as those of a text frame must be.

    Source: Documented, RFC 6455 section 8.1; .NET's WebSockets refuse it too.
    """
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def websocket_class(endpoints: Sequence[HubEndpoint]) -> type[HubSocket]:
    """The class to give to uvicorn as `ws=`, serving these hubs."""

    class BoundHubSocket(HubSocket):
        __slots__ = ()

    BoundHubSocket.endpoints = tuple(endpoints)
    BoundHubSocket.flushers = {}
    return BoundHubSocket
