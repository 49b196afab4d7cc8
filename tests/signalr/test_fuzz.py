"""Mutated bytes on every transport: the server keeps its memory, its other connections and its answers.

`VOISNAP_TEST_FUZZ` is the number of mutated frames per transport; the default run takes a taste.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import pytest
from asgi import Request
from hubs import HANDSHAKE, Desk, call, parsed
from serving import RawSocket, frame, serving
from vectors import JSON_MALFORMED, MSGPACK_MALFORMED, VECTORS

from voisnap_mock.signalr import NoticeKind
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.protocols import JsonHubProtocol

FRAMES = int(os.environ.get("VOISNAP_TEST_FUZZ", "10000"))
MSGPACK_HANDSHAKE = HANDSHAKE.replace("json", "messagepack").encode()

CORPUS = {
    "json": [JsonHubProtocol().serialize(vector.message) for vector in VECTORS]
    + [row.record + b"\x1e" for row in JSON_MALFORMED if len(row.record) < 2000]
    + [call("Say", "x").encode(), call("Sum", 1, streamIds=["s"]).encode(), call("Count", 3, type=4).encode()],
    "messagepack": [MessagePackHubProtocol().serialize(vector.message) for vector in VECTORS]
    + [bytes([len(row.record)]) + row.record for row in MSGPACK_MALFORMED if len(row.record) < 0x80],
}


class Mutator:
    """Frames that are nearly right, the same ones every run."""

    def __init__(self, seed: int, corpus: list[bytes]) -> None:
        self._random = random.Random(seed)
        self._corpus = corpus

    def frames(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            data = bytearray(self._random.choice(self._corpus))
            for _ in range(self._random.randrange(4)):
                data = self._mutate(data)
            yield bytes(data)

    def _mutate(self, data: bytearray) -> bytearray:
        pick = self._random
        start = pick.randrange(len(data) + 1)
        end = min(len(data), start + pick.randrange(1, 9))
        match pick.randrange(6):
            case 0 if start < len(data):
                data[start] ^= 1 << pick.randrange(8)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = pick.randbytes(pick.randrange(1, 5))
            case 3:
                data[start:start] = data[start:end] * pick.randrange(1, 20)
            case 4:
                data += pick.choice(self._corpus)
            case _:
                data = data[:start]
        return data


@pytest.fixture
def watched() -> Desk:
    return Desk()


async def finish(desk: Desk) -> None:
    """The server is as it was: a new connection works, nothing of the old ones is left, nothing of ours failed."""
    desk.hub.gate.set()
    await desk.clock.advance(120.0)
    await desk.settle()
    assert desk.endpoint.connection_count == 0
    assert NoticeKind.CALLBACK_FAILED not in desk.kinds()
    socket = await desk.open()
    socket.send(call("Say", "after all that"))
    assert parsed(await socket.receive())[1]["result"] == 14
    socket.close()
    await socket.finished()
    await desk.endpoint.close(grace=0.2)
    assert len(desk.endpoint._tasks) == 0


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_websockets_over_asgi(watched: Desk, protocol: str) -> None:
    bystander = await watched.open()
    for number, data in enumerate(Mutator(1, CORPUS[protocol]).frames(FRAMES)):
        if number % 10 == 0:
            socket = await watched.socket().accepted()
            socket.send(HANDSHAKE.encode() if protocol == "json" else MSGPACK_HANDSHAKE)
        socket.send(data)
        if number % 10 == 9:
            socket.lose()
            await socket.finished()
            watched.notices.clear()
            watched.hub.gone.clear()
            watched.hub.contexts.clear()
    socket.lose()
    await watched.settle()
    bystander.send(call("Say", "x"))
    assert parsed(await bystander.receive())[1]["result"] == 1
    bystander.close()
    await bystander.finished()
    await finish(watched)


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_long_polling(watched: Desk, protocol: str) -> None:
    for number, data in enumerate(Mutator(2, CORPUS[protocol]).frames(FRAMES)):
        if number % 10 == 0:
            url = f"/hub?id={await watched.negotiate()}"
            await watched.fetch("GET", url)
            await watched.fetch("POST", url, body=HANDSHAKE.encode() if protocol == "json" else MSGPACK_HANDSHAKE)
        watched.hub.gate.set()
        assert (await watched.fetch("POST", url, body=data)).status in (200, 404)
        if number % 10 == 9:
            assert (await watched.fetch("DELETE", url)).status in (202, 404)
    await finish(watched)


async def test_server_sent_events(watched: Desk) -> None:
    stream: Request | None = None
    for number, data in enumerate(Mutator(3, CORPUS["json"]).frames(FRAMES)):
        if number % 10 == 0:
            url = f"/hub?id={await watched.negotiate()}"
            stream = watched.request("GET", url, headers={"accept": "text/event-stream"})
            await stream.head()
            await watched.fetch("POST", url, body=HANDSHAKE.encode())
        watched.hub.gate.set()
        assert (await watched.fetch("POST", url, body=data)).status in (200, 404)
        if number % 10 == 9:
            assert stream is not None
            stream.disconnect()
            await stream.finished()
    await finish(watched)


async def test_requests(watched: Desk) -> None:
    """Paths and queries of negotiate and the transports."""
    corpus = [b"/hub?id=", b"/hub/negotiate?negotiateVersion=1", b"/hub?id=%00&id=x", b"/hub?%ff%fe=1&access_token=bad"]
    for number, target in enumerate(Mutator(4, corpus).frames(FRAMES)):
        url = target.decode("latin-1").encode("ascii", "replace").decode()
        method = ("GET", "POST", "DELETE", "OPTIONS", "PUT")[number % 5]
        answer = await watched.fetch(method, url, body=target)
        assert answer.status in (200, 202, 204, 400, 401, 404, 405)
    await finish(watched)


async def test_sockets_on_the_fast_road(watched: Desk) -> None:
    corpus = [frame(data) for data in CORPUS["json"]] + [
        frame(b"", opcode=9),
        frame(b"\x03\xe8", opcode=8),
        frame(b"part", fin=False),
        frame(b"part", opcode=0),
        frame(b"x" * 200),
        frame(b"x" * 70_000, length=70_000),
    ]
    async with serving(watched.endpoint, direct=[watched.endpoint]) as address:
        for number, data in enumerate(Mutator(5, corpus).frames(FRAMES)):
            if number % 10 == 0:
                socket = await RawSocket.connect(address)
                assert await socket.upgrade() == (101, b"")
                socket.send(HANDSHAKE.encode())
            socket.write(data)
            if number % 10 == 9:
                socket.reset()
                address.sockets.clear()
                watched.notices.clear()
                watched.hub.gone.clear()
                watched.hub.contexts.clear()
            if number % 100 == 0:
                await asyncio.sleep(0)
        for leftover in address.sockets:
            leftover.reset()
        async with asyncio.timeout(5):
            while address.state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await finish(watched)
