"""The transports of a live connection over plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from voisnap_mock.signalr.live import LiveConnection

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class AbnormalClosure(ConnectionError):
    """The WebSocket ended without a close frame, or with an error code."""


class AsgiWebSocket:
    """WebSocket frames by ASGI messages, one write per wake-up.

    Source: Observed, text frames for json and binary ones for messagepack, close code 1000 at a normal end.
    """

    def __init__(self, live: LiveConnection, receive: Receive, send: Send) -> None:
        self._live = live
        self._receive = receive
        self._send = send
        self._wake = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._reader: asyncio.Task[Exception | None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._aborted = False

    def wake(self) -> None:
        self._wake.set()

    def abort(self) -> None:
        self._aborted = True
        for task in (self._reader, self._writer):
            if task is not None:
                task.cancel()

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    async def run(self) -> None:
        """Carry the connection until it is over; the upgrade has been accepted."""
        live = self._live
        live.attach(self)
        error: Exception | None = AbnormalClosure("the server stopped serving this WebSocket")
        async with asyncio.TaskGroup() as group:
            self._reader = reader = group.create_task(self._read())
            self._writer = writer = group.create_task(self._write())
            try:
                done, _ = await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
                if reader in done and not reader.cancelled() and reader.exception() is None:
                    error = reader.result()
            finally:
                reader.cancel()
                writer.cancel()
                live.transport_lost(error)

    async def _read(self) -> Exception | None:
        live = self._live
        while True:
            if not self._readable.is_set():
                await self._readable.wait()
            message = await self._receive()
            match message["type"]:
                case "websocket.receive":
                    data = message.get("bytes")
                    live.receive(message["text"].encode() if data is None else data)
                case "websocket.disconnect":
                    code = message.get("code", 1005)
                    if code in (1000, 1001):
                        return None
                    return AbnormalClosure(f"the client's WebSocket ended with code {code}")
                case _:
                    pass

    async def _write(self) -> None:
        live = self._live
        try:
            while True:
                self._wake.clear()
                while data := live.take():
                    live.write_began()
                    if live.is_binary:
                        await self._send({"type": "websocket.send", "bytes": data})
                    else:
                        await self._send({"type": "websocket.send", "text": data.decode()})
                    live.write_ended()
                if live.ended:
                    await self._send({"type": "websocket.close", "code": 1000, "reason": ""})
                    return
                await self._wake.wait()
        except OSError:
            # The client has gone; the reader is told so too.
            await asyncio.Event().wait()
