"""A hub on a real socket, served by uvicorn's protocols without its slow start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from voisnap_mock.signalr import HubEndpoint
from voisnap_mock.signalr.uvicorn_ws import websocket_class


@dataclass(frozen=True, slots=True)
class Address:
    """Where a hub is served.

    Attributes:
        state: uvicorn's table of connections.
        sockets: raw ones, cut when the serving ends.
    """

    port: int
    state: ServerState
    sockets: list[RawSocket] = field(default_factory=list)

    def url(self, path: str = "/hub") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def serving(app: Any, *, direct: Sequence[HubEndpoint] = ()) -> AsyncIterator[Address]:
    """Serve an application; the WebSockets of the endpoints in `direct` take the fast road."""
    ws: Any = websocket_class(direct) if direct else "websockets-sansio"
    config = Config(app, lifespan="off", ws=ws, log_config=None, access_log=False, ws_per_message_deflate=False)
    config.load()
    state = ServerState()
    http: Any = config.http_protocol_class
    server = await asyncio.get_running_loop().create_server(
        lambda: http(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        address = Address(server.sockets[0].getsockname()[1], state)
        yield address
    finally:
        server.close()
        for socket in address.sockets:
            socket.reset()
        for connection in list(state.connections):
            connection.shutdown()
        while state.tasks:
            await asyncio.wait(set(state.tasks))
        for _ in range(3):
            await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens beyond a real socket, where there is no event to await."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class RawSocket:
    """A TCP connection that speaks WebSocket by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: Address) -> RawSocket:
        socket = cls(*await asyncio.open_connection("127.0.0.1", address.port))
        address.sockets.append(socket)
        return socket

    async def upgrade(self, target: str = "/hub", headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Send an upgrade; returns the status and, unless it is 101, the body."""
        wanted = {
            "Host": "test",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        } | dict(headers or {})
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in wanted.items() if value), "", ""]
        self.writer.write("\r\n".join(lines).encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        return status, b"" if status == 101 else await self.reader.read()

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, payload: bytes, *, opcode: int = 1, fin: bool = True, masked: bool = True) -> None:
        self.write(frame(payload, opcode=opcode, fin=fin, masked=masked))

    async def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the server's next frame."""
        opcode, _, payload = await self.receive_fragment()
        return opcode, payload

    async def receive_fragment(self) -> tuple[int, bool, bytes]:
        """The same, and in between whether it is the last one of its message."""
        first, second = await self.reader.readexactly(2)
        assert second < 0x80, "a server does not mask"
        assert first & 0x70 == 0
        length = second
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x0F, first >= 0x80, await self.reader.readexactly(length)

    async def text(self) -> str:
        opcode, payload = await self.receive()
        assert opcode == 1, (opcode, payload)
        return payload.decode()

    async def closed(self) -> int:
        """The code of the server's close frame."""
        opcode, payload = await self.receive()
        assert opcode == 8, (opcode, payload)
        return int.from_bytes(payload[:2], "big")

    async def at_end(self) -> bool:
        return await self.reader.read(1) == b""

    def reset(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()


def frame(
    payload: bytes, *, opcode: int = 1, fin: bool = True, masked: bool = True, length: int | None = None
) -> bytes:
    """A client's frame; `length` is what its head says."""
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | opcode
    flag = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, flag | size))
    elif size < 65_536:
        head = bytes((first, flag | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, flag | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
