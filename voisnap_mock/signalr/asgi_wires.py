"""The transports of a live connection over plain ASGI: WebSockets, Server-Sent Events and long polling."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from voisnap_mock.signalr.interceptors import Fragmented
from voisnap_mock.signalr.live import LiveConnection
from voisnap_mock.signalr.transports import POLL_HEADERS, SSE_GREETING, HttpAnswer, Severance, sse_event
from voisnap_mock.signalr.wires import TransportLost

_LAST_WORD: Final = 0.05
"""Seconds between the last event of a stream and its end: clients exist that lose an event which comes with the end.

Source: Assumed; ASP.NET Core tells the hub in between, which takes some time too.
"""

# Linger for no time: what makes closing a socket a TCP reset. Windows has short integers here.
_NO_LINGER: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


def reset(transport: Any) -> None:
    """End an asyncio transport with a TCP reset, once what it was given in this round of the loop is written."""
    bare = transport.get_extra_info("socket")
    if bare is not None:
        with suppress(OSError):
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    # uvloop writes at the end of the round.
    asyncio.get_running_loop().call_soon(transport.abort)


def transport_of(send: Send) -> Any:
    """The asyncio transport behind an ASGI `send`, as the objects of uvicorn's protocols show it; None elsewhere."""
    return getattr(getattr(send, "__self__", None), "transport", None)


async def sever_request(how: Severance, receive: Receive, send: Send) -> None:
    """Lose an HTTP request that has not been answered; returns when the client has gone.

    A server that does not show its transport can only fall silent.
    """
    transport = transport_of(send)
    if transport is not None and how is Severance.RESET:
        reset(transport)
    elif transport is not None and how in (Severance.CLOSE, Severance.CLOSE_NO_RECONNECT):
        transport.close()
    await _until_gone(receive)


class _Wire:
    """Whether more may be taken from the client, and what is to be given to it.

    Attributes:
        is_silent: nothing is given any more, and what was taken is forgotten.
    """

    def __init__(self, live: LiveConnection) -> None:
        self._live = live
        self._readable = asyncio.Event()
        self._readable.set()
        self._last_words: deque[bytes] = deque()
        self.is_silent = False

    def stall(self) -> None:
        self._fall_silent()
        self.pause_reading()

    def abandon(self) -> None:
        self._fall_silent()
        self.resume_reading()

    def _fall_silent(self) -> None:
        while data := self._take():
            self._last_words.append(data)
        self.is_silent = True

    def _take(self) -> bytes:
        """The next bytes to write."""
        if self.is_silent:
            return self._last_words.popleft() if self._last_words else b""
        return self._live.take()

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    async def readable(self) -> None:
        if not self._readable.is_set():
            await self._readable.wait()


class _Streaming(_Wire):
    """A wire with one ASGI request for all of its life: a task reads, another writes.

    Attributes:
        is_to_reset: the transport ends with a reset when all is written.
    """

    def __init__(self, live: LiveConnection, receive: Receive, send: Send) -> None:
        super().__init__(live)
        self._receive = receive
        self._send = send
        self._wake = asyncio.Event()
        self._tasks: tuple[asyncio.Task[Exception | None], ...] = ()
        self.is_to_reset = False

    def wake(self) -> None:
        self._wake.set()

    def abort(self) -> None:
        for task in self._tasks:
            task.cancel()

    def reset(self) -> None:
        self.is_to_reset = True
        self._wake.set()

    def _reset(self) -> None:
        transport = transport_of(self._send)
        if transport is not None:
            self.is_silent = True
            reset(transport)
        else:
            self.abort()


async def _first_ends(
    reader: asyncio.Task[Exception | None], writer: asyncio.Task[Exception | None]
) -> Exception | None:
    """Wait for one of the two; returns the error of the one that ended, None for an end in order."""
    await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
    for task in (writer, reader):
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
    return TransportLost("the server stopped serving this connection")


class AsgiWebSocket(_Streaming):
    """WebSocket frames by ASGI messages, one write per wake-up.

    Source: Observed, text frames for json and binary ones for messagepack, close code 1000 at a normal end.
    """

    def __init__(self, live: LiveConnection, receive: Receive, send: Send) -> None:
        super().__init__(live, receive, send)
        self._closed = False

    async def run(self) -> None:
        """Carry the connection until it is over; the upgrade has been accepted and the connection knows this wire."""
        error: Exception | None = TransportLost("the server stopped serving this WebSocket")
        try:
            async with asyncio.TaskGroup() as group:
                reader, writer = group.create_task(self._read()), group.create_task(self._write())
                self._tasks = (reader, writer)
                try:
                    error = await _first_ends(reader, writer)
                finally:
                    reader.cancel()
                    writer.cancel()
        finally:
            self._live.transport_lost(self, error, final=self._closed)

    async def _read(self) -> Exception | None:
        live = self._live
        while True:
            await self.readable()
            message = await self._receive()
            match message["type"]:
                case "websocket.receive":
                    data = message.get("bytes")
                    if not self.is_silent:
                        live.receive(message["text"].encode() if data is None else data)
                case "websocket.disconnect":
                    code = message.get("code", 1005)
                    # A close frame without a code is a clean close too. uvicorn gives it a reason, if an empty one,
                    # and the same 1005 without a reason to a socket that was lost.
                    if code in (1000, 1001) or (code == 1005 and "reason" in message):
                        return None
                    # Servers say 1005 or 1006 when there was no close frame.
                    self._closed = code not in (1005, 1006)
                    return TransportLost(f"the WebSocket ended with code {code}")
                case _:
                    pass

    async def _write(self) -> Exception | None:
        live = self._live
        try:
            while True:
                self._wake.clear()
                while data := self._take():
                    live.write_began()
                    if live.is_binary:
                        await self._send({"type": "websocket.send", "bytes": data})
                    else:
                        await self._send({"type": "websocket.send", "text": data.decode()})
                    live.write_ended()
                if self.is_to_reset:
                    self._reset()
                elif live.ended and not self.is_silent:
                    await self._send({"type": "websocket.close", "code": 1000, "reason": ""})
                    return None
                await self._wake.wait()
        except (OSError, RuntimeError) as error:
            # uvicorn raises RuntimeError for a send on a socket that was lost before it was accepted.
            return TransportLost(f"the client has gone: {error}")


class AsgiEventStream(_Streaming):
    """Server-Sent Events: this stream out, POST requests in."""

    def __init__(self, live: LiveConnection, receive: Receive, send: Send) -> None:
        super().__init__(live, receive, send)
        self.post_lock = asyncio.Lock()

    async def run(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Answer the GET and carry the connection until it is over."""
        error: Exception | None = TransportLost("the server stopped serving this event stream")
        try:
            async with asyncio.TaskGroup() as group:
                reader, writer = group.create_task(self._read()), group.create_task(self._write(headers))
                self._tasks = (reader, writer)
                try:
                    error = await _first_ends(reader, writer)
                finally:
                    reader.cancel()
                    writer.cancel()
        finally:
            self._live.transport_lost(self, error)

    async def _read(self) -> Exception | None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        # A client that drops the stream has stopped, whether it meant to or not: nothing says which.
        return None

    async def _write(self, headers: list[tuple[bytes, bytes]]) -> Exception | None:
        live = self._live
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": SSE_GREETING, "more_body": True})
            while True:
                self._wake.clear()
                while data := self._take():
                    live.write_began()
                    event = sse_event(data)
                    for piece in Fragmented(event).pieces() if isinstance(data, Fragmented) else (event,):
                        await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                    live.write_ended()
                if self.is_to_reset:
                    self._reset()
                elif live.ended and not self.is_silent:
                    # Most clients hang up by themselves when they have read the Close.
                    await asyncio.wait(self._tasks[:1], timeout=_LAST_WORD)
                    await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                    return None
                await self._wake.wait()
        except (OSError, RuntimeError) as error:
            # uvicorn raises RuntimeError for a send on a socket that was lost before it was accepted.
            return TransportLost(f"the client has gone: {error}")


class LongPoll(_Wire):
    """Long polling: one GET after the other out, POST requests in.

    Source: Documented, TransportProtocols.md; the order of answers Observed.
    """

    def __init__(self, live: LiveConnection, poll_timeout: float) -> None:
        super().__init__(live)
        self._timeout = poll_timeout
        self._wake = asyncio.Event()
        self._current: object = None
        self._fresh = True
        self._aborted = False
        self._transport: Any = None
        self.post_lock = asyncio.Lock()

    def wake(self) -> None:
        self._wake.set()

    def abort(self) -> None:
        self._aborted = True
        self.resume_reading()
        self._wake.set()

    def reset(self) -> None:
        """Without a poll there is nothing to reset; what the client asks next is answered with 404."""
        if self._current is not None and self._transport is not None:
            reset(self._transport)
        self.abort()

    def delete(self) -> None:
        """The client ends the connection; a poll that waits is answered with what there is."""
        live = self._live
        live.close()
        self._wake.set()
        live.transport_lost(self)

    async def poll(self, receive: Receive, send: Send) -> HttpAnswer | None:
        """One GET; None when the client has dropped it.

        The first one is answered at once and with nothing. A newer one ends an older one with 204.
        """
        me = self._current = object()
        self._transport = transport_of(send)
        live = self._live
        live.came_back()
        if self._fresh:
            self._fresh = False
            live.went_away()
            return _polled(b"", "application/octet-stream")
        self._wake.set()
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(_until_gone(receive))
            waiter = group.create_task(self._wait(me))
            await asyncio.wait((gone, waiter), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            waiter.cancel()
        if self._current is me:
            self._current = None
            live.went_away()
        if waiter.cancelled():
            return None
        data = waiter.result()
        if data is None:
            return HttpAnswer(204, headers=POLL_HEADERS)
        if data:
            return _polled(data, "application/octet-stream")
        return _polled(b"", "text/plain")

    async def _wait(self, me: object) -> bytes | None:
        """What the poll is answered with: bytes, nothing after the time-out, or None for the end."""
        live = self._live
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    self._wake.clear()
                    if self._current is not me:
                        # Pass the news on to the poll that replaced this one.
                        self._wake.set()
                        return None
                    if self._aborted:
                        return None
                    if data := self._take():
                        return data
                    if live.ended and not self.is_silent:
                        live.transport_lost(self)
                        return None
                    await self._wake.wait()
        except TimeoutError:
            if self.is_silent:
                # Until the client goes.
                await asyncio.Event().wait()
            return b""


def _polled(body: bytes, content_type: str) -> HttpAnswer:
    return HttpAnswer(200, body, content_type, POLL_HEADERS)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass
