"""The fast road, frame by frame on a real socket; the plain one is held to the same where uvicorn allows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hubs import HANDSHAKE, Desk, Office, call, parsed, records
from serving import Address, RawSocket, frame, serving, until

from voisnap_mock.signalr import ConnectionRequest, Crossing, HubEndpoint, HubOptions, NoticeKind, Seam

SHAKE = HANDSHAKE.encode()


@pytest.fixture
async def address(desk: Desk) -> AsyncIterator[Address]:
    async with serving(desk.endpoint, direct=[desk.endpoint]) as address:
        yield address


async def open_raw(address: Address, target: str = "/hub") -> RawSocket:
    socket = await RawSocket.connect(address)
    assert await socket.upgrade(target) == (101, b"")
    socket.send(SHAKE)
    assert await socket.text() == "{}\x1e"
    return socket


async def answers(socket: RawSocket, name: str = "still here") -> None:
    """The connection works."""
    socket.send(call("Two", name, 1).encode())
    assert parsed(await socket.text())[0]["result"] == name


class TestOpening:
    async def test_a_call_and_its_answer_in_one_frame(self, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(call("Say", "é").encode())
        assert [message["type"] for message in parsed(await socket.text())] == [1, 3]
        await socket.close()

    @pytest.mark.parametrize(
        ("target", "status", "body"),
        [
            ("/hub?id=unknown", 404, b"No Connection with that ID"),
            ("/hub?access_token=bad", 401, b'{"title":"bad token"}'),
        ],
    )
    async def test_denials(self, address: Address, target: str, status: int, body: bytes) -> None:
        socket = await RawSocket.connect(address)
        assert await socket.upgrade(target) == (status, body)

    async def test_the_request_is_read(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address, "/hub/?agentId=a%20b&access_token=t")
        (context,) = desk.hub.contexts
        assert context.user == "t"
        assert context.request.query.get("AGENTID") == "a b"
        assert context.request.headers.get("sec-websocket-version") == "13"
        assert context.request.client is not None
        assert context.request.client[0] == "127.0.0.1"
        await socket.close()

    async def test_a_second_socket_for_one_id(self, desk: Desk, address: Address) -> None:
        token = await desk.negotiate()
        await open_raw(address, f"/hub?id={token}")
        assert (await (await RawSocket.connect(address)).upgrade(f"/hub?id={token}"))[0] == 409

    async def test_an_upgrade_that_is_none(self, address: Address) -> None:
        socket = await RawSocket.connect(address)
        assert (await socket.upgrade(headers={"Sec-WebSocket-Key": "short"}))[0] == 400
        socket = await RawSocket.connect(address)
        assert (await socket.upgrade(headers={"Sec-WebSocket-Version": "8"}))[0] == 400

    async def test_other_paths_are_uvicorns(self, desk: Desk, address: Address) -> None:
        socket = await RawSocket.connect(address)
        assert (await socket.upgrade("/other"))[0] == 404
        async with serving(_echo, direct=[desk.endpoint]) as other:
            socket = await RawSocket.connect(other)
            assert await socket.upgrade("/other") == (101, b"")
            socket.send(b"hello")
            assert await socket.text() == "hello"
            socket.reset()

    async def test_an_async_authenticator(self) -> None:
        desk = Desk(is_async=True)
        async with serving(desk.endpoint, direct=[desk.endpoint]) as address:
            await answers(await open_raw(address))
            socket = await RawSocket.connect(address)
            assert (await socket.upgrade("/hub?access_token=bad"))[0] == 401
            await desk.endpoint.close(grace=0.05)

    async def test_a_client_that_does_not_wait_for_the_upgrade_loses_nothing(self) -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def authenticate(request: ConnectionRequest) -> None:
            asked.set()
            await go.wait()

        endpoint = HubEndpoint(Office(), path="/hub", authenticate=authenticate)
        async with serving(endpoint, direct=[endpoint]) as address:
            socket = await RawSocket.connect(address)
            upgrade = asyncio.create_task(socket.upgrade())
            await asked.wait()
            socket.send(SHAKE)
            await asyncio.sleep(0.01)
            go.set()
            assert await upgrade == (101, b"")
            assert await socket.text() == "{}\x1e"
            await endpoint.close(grace=0.05)

    async def test_a_client_that_leaves_during_the_upgrade(self) -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def authenticate(request: ConnectionRequest) -> None:
            asked.set()
            await go.wait()

        endpoint = HubEndpoint(Office(), path="/hub", authenticate=authenticate)
        async with serving(endpoint, direct=[endpoint]) as address:
            socket = await RawSocket.connect(address)
            upgrade = asyncio.create_task(socket.upgrade())
            await asked.wait()
            socket.reset()
            await until(lambda: not address.state.connections)
            go.set()
            await endpoint.close(grace=0.05)
            assert endpoint.connection_count == 0
            with pytest.raises(asyncio.IncompleteReadError):
                await upgrade

    async def test_no_compression_is_agreed(self, address: Address) -> None:
        socket = await RawSocket.connect(address)
        socket.write(
            b"GET /hub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = await socket.reader.readuntil(b"\r\n\r\n")
        assert b"deflate" not in head
        socket.reset()


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text") or message["bytes"].decode()})


class TestFrames:
    async def test_byte_by_byte(self, address: Address) -> None:
        socket = await open_raw(address)
        for byte in frame(call("Two", "x" * 200, 1).encode()):
            socket.write(bytes([byte]))
            await asyncio.sleep(0)
        assert parsed(await socket.text())[0]["result"] == "x" * 200

    async def test_many_frames_at_once(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        socket.write(frame(call("Say", "x", id=None).encode()) * 50 + frame(call("Two", "x", 1).encode()))
        received: list[Any] = []
        while len(received) < 51:
            received += parsed(await socket.text())
        assert len(desk.hub.log) == 50

    @pytest.mark.parametrize("opcode", [1, 2])
    async def test_fragments_with_a_ping_in_between(self, address: Address, opcode: int) -> None:
        socket = await open_raw(address)
        data = call("Two", "é", 2).encode()
        socket.send(data[:-8], opcode=opcode, fin=False)
        socket.send(b"are you there", opcode=9)
        socket.send(data[-8:-3], opcode=0, fin=False)
        socket.send(data[-3:], opcode=0)
        assert await socket.receive() == (10, b"are you there")
        assert parsed(await socket.text())[0]["result"] == "éé"
        await answers(socket)

    async def test_bytes_that_are_no_text_in_a_binary_frame(self, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(b'{"type":1,"invocationId":"1","target":"Say","arguments":["\xff"]}\x1e', opcode=2)
        assert "not valid UTF-8" in parsed(await socket.text())[0]["error"]
        await answers(socket)

    async def test_a_long_text_split_within_a_character(self, address: Address) -> None:
        socket = await open_raw(address)
        whole = frame(call("Two", "é" * 5000, 1, id=None).encode() * 8 + call("Two", "end", 1).encode())
        for start in range(0, len(whole), 1001):
            socket.write(whole[start : start + 1001])
            await asyncio.sleep(0)
        assert parsed(await socket.text())[0]["result"] == "end"

    async def test_pongs_are_ignored(self, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(b"", opcode=10)
        await answers(socket)

    async def test_empty_frames(self, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(b"")
        socket.send(b"", opcode=1, fin=False)
        socket.send(b"", opcode=0)
        await answers(socket)

    @pytest.mark.parametrize("size", [100, 125, 126, 127, 20_000])
    async def test_sizes(self, address: Address, size: int) -> None:
        socket = await open_raw(address)
        await answers(socket, "x" * size)

    async def test_a_big_answer(self, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(call("Two", "x" * 1000, 100).encode())
        assert len(parsed(await socket.text())[0]["result"]) == 100_000

    async def test_a_long_frame_of_many_messages_is_handed_on_as_it_comes(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        whole = frame(call("Audio", "aGk=", id=None).encode() * 5000 + call("Two", "end", 1).encode())
        assert len(whole) > 200_000
        count = 0
        for start in range(0, len(whole), 30_001):
            socket.write(whole[start : start + 30_001])
            await socket.writer.drain()
        while True:
            messages = parsed(await socket.text())
            count += len(messages)
            if messages[-1]["type"] == 3:
                break
        assert count == 5001
        await answers(socket)

    async def test_two_megabytes_without_a_separator(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        socket.write(frame(b"x" * 100_000, length=2_000_000))
        (close,) = parsed(await socket.text())
        assert "maximum message size" in close["error"]
        assert close["allowReconnect"] is True
        assert await socket.closed() == 1000
        other = await open_raw(address)
        await answers(other)

    async def test_messagepack_in_binary_frames(self, address: Address) -> None:
        socket = await RawSocket.connect(address)
        await socket.upgrade()
        socket.send(b'{"protocol":"messagepack","version":1}\x1e')
        assert await socket.receive() == (2, b"{}\x1e")

    async def test_interceptors_may_make_several_frames_of_one(self) -> None:
        class Twice:
            def cross(self, crossing: Crossing, forward: Callable[[Any], None]) -> None:
                forward(crossing.value)
                if crossing.seam is Seam.BYTES_OUT:
                    forward(crossing.value)

        desk = Desk(interceptors=(Twice(),))
        async with serving(desk.endpoint, direct=[desk.endpoint]) as address:
            socket = await RawSocket.connect(address)
            await socket.upgrade()
            socket.send(SHAKE)
            assert [await socket.text() for _ in range(2)] == ["{}\x1e"] * 2
            socket.send(call("Two", "x", 1).encode())
            first, second = [parsed(await socket.text()) for _ in range(2)]
            assert first == second
            await desk.endpoint.close(grace=0.05)


class TestBrokenFrames:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(b"x", masked=False), 1002),
            (b"\x81\x00", 1002),
            (b"\xc1" + frame(b"x")[1:], 1002),
            (frame(b"x", opcode=3), 1002),
            (frame(b"x", opcode=11), 1002),
            (frame(b"x" * 126, opcode=9), 1002),
            (frame(b"x", opcode=9, fin=False), 1002),
            (frame(b"x", opcode=0), 1002),
            (frame(b"x", fin=False) + frame(b"y"), 1002),
            (frame(b"x", opcode=8), 1002),
            (frame(b"\xff"), 1007),
            (frame(b"", fin=False, length=2_000_000), 1009),
            (b"\x81\xff\xff" + bytes(7) + bytes(4), 1002),
            (frame(b'{"type":6,"x":"\xff"}\x1e'), 1007),
            (frame(b"\xc3"), 1007),
            (frame(b"\xc3", fin=False) + frame(b"x", opcode=0), 1007),
            (frame(b"\xc3", fin=False) + frame(b"", opcode=0), 1007),
            (frame(b"\xff" * 10, length=100_000), 1007),
        ],
        ids=[
            "unmasked",
            "unmasked and empty",
            "reserved bit",
            "reserved opcode",
            "reserved control opcode",
            "long ping",
            "fragmented ping",
            "continuation of nothing",
            "a new message within a message",
            "a close of one byte",
            "text that is none",
            "a huge fragment",
            "a negative length",
            "a text that is none",
            "half a character",
            "half a character and another",
            "half a character at the end",
            "a long text that is none",
        ],
    )
    async def test_it_ends_with_a_code(self, desk: Desk, address: Address, data: bytes, code: int) -> None:
        socket = await open_raw(address)
        socket.write(data)
        opcode, payload = await socket.receive()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (8, code)
        assert await socket.at_end()
        await desk.settle()
        assert desk.hub.gone[0][1] is not None
        await answers(await open_raw(address))


class TestEnds:
    async def test_close_then_1000_then_the_clients_echo(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(call("Bye").encode())
        assert [message["type"] for message in parsed(await socket.text())] == [1, 3, 7]
        assert await socket.receive() == (8, b"\x03\xe8")
        assert desk.endpoint.connection_count == 1
        socket.send(b"\x03\xe8", opcode=8)
        assert await socket.at_end()
        assert desk.endpoint.connection_count == 0
        assert not address.state.connections

    async def test_a_client_that_does_not_echo_is_cut_after_five_seconds(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(call("Bye").encode())
        await socket.text()
        assert await socket.closed() == 1000
        await desk.clock.advance(5.0)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await socket.reader.readexactly(1)
        assert desk.endpoint.connection_count == 0

    async def test_data_after_the_servers_close_is_ignored(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(call("Bye").encode())
        await socket.text()
        await socket.closed()
        socket.send(call("Say", "late").encode())
        socket.send(b"\x03\xe8", opcode=8)
        assert await socket.at_end()
        assert desk.hub.log == []

    @pytest.mark.parametrize(
        ("payload", "in_order"), [(b"", True), (b"\x03\xe8", True), (b"\x03\xe9", True), (b"\x03\xf3", False)]
    )
    async def test_the_client_closes(self, desk: Desk, address: Address, payload: bytes, in_order: bool) -> None:
        socket = await open_raw(address)
        socket.send(payload, opcode=8)
        assert await socket.receive() == (8, payload)
        assert await socket.at_end()
        await desk.settle()
        assert (desk.hub.gone[0][1] is None) == in_order

    async def test_the_client_vanishes(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        socket.reset()
        await until(lambda: desk.hub.gone)
        assert desk.hub.gone[0][1] is not None
        assert desk.endpoint.connection_count == 0
        assert not address.state.connections

    async def test_the_client_vanishes_before_the_handshake(self, desk: Desk, address: Address) -> None:
        socket = await RawSocket.connect(address)
        await socket.upgrade()
        socket.reset()
        await until(lambda: not desk.endpoint.connection_count)
        assert desk.hub.gone == []

    async def test_abort(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        desk.hub.contexts[0].abort()
        assert parsed(await socket.text()) == [{"type": 7}]
        assert await socket.closed() == 1000

    async def test_uvicorn_stops(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        (connection,) = address.state.connections
        connection.shutdown()
        assert parsed(await socket.text()) == [{"type": 7, "allowReconnect": True}]
        assert await socket.closed() == 1000

    async def test_uvicorn_stops_during_an_upgrade(self) -> None:
        desk = Desk(is_async=True)
        async with serving(desk.endpoint, direct=[desk.endpoint]) as address:
            socket = await RawSocket.connect(address)
            socket.write(b"GET /hub HTTP/1.1\r\nHost: x\r\n")
            await asyncio.sleep(0.01)
            for connection in list(address.state.connections):
                connection.shutdown()
            assert await socket.at_end()
        await desk.endpoint.close(grace=0.05)


class TestSlowClients:
    async def test_a_client_that_never_reads(self) -> None:
        desk = Desk(options=HubOptions(max_unsent_bytes=1_000_000))
        async with serving(desk.endpoint, direct=[desk.endpoint]) as address:
            slow, other = await open_raw(address), await open_raw(address)
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(200):
                slow.send(call("Flood", 50, 1000, id=None).encode())
                await slow.writer.drain()
                await answers(other)
                if NoticeKind.SLOW_CLIENT in desk.kinds():
                    break
            assert NoticeKind.SLOW_CLIENT in desk.kinds()
            await desk.clock.advance(5.0)
            assert desk.endpoint.connection_count == 1
            await answers(other)
            slow.reset()
            await desk.endpoint.close(grace=0.05)

    async def test_a_client_that_calls_faster_than_methods_run(self, desk: Desk, address: Address) -> None:
        socket = await open_raw(address)
        socket.send(call("Wait", "x", id=None).encode())
        for _ in range(100):
            socket.send(call("Say", "y" * 10_000, id=None).encode())
        await desk.settle()
        desk.hub.gate.set()
        received = 0
        while received < 100:
            received += len(parsed(await socket.text()))
        assert len(desk.hub.log) == 102


class TestStatefulReconnect:
    async def test_a_reset_socket_is_replaced(self, desk: Desk, address: Address) -> None:
        token = await desk.negotiate("negotiateVersion=1&useStatefulReconnect=true")
        socket = await RawSocket.connect(address)
        await socket.upgrade(f"/hub?id={token}")
        socket.send(b'{"protocol":"json","version":2}\x1e')
        await socket.text()
        socket.reset()
        await until(lambda: not address.state.connections)
        desk.hub.contexts[0].send("Meanwhile")
        again = await RawSocket.connect(address)
        await again.upgrade(f"/hub?id={token}")
        assert [message["type"] for message in parsed(await again.text())] == [9, 1]
        again.send(records({"type": 9, "sequenceId": 1}).encode())
        await answers(again)
        assert desk.hub.gone == []

    async def test_a_half_open_socket_is_taken_over(self, desk: Desk, address: Address) -> None:
        token = await desk.negotiate("negotiateVersion=1&useStatefulReconnect=true")
        socket = await RawSocket.connect(address)
        await socket.upgrade(f"/hub?id={token}")
        socket.send(b'{"protocol":"messagepack","version":2}\x1e')
        await socket.receive()
        again = await RawSocket.connect(address)
        await again.upgrade(f"/hub?id={token}")
        opcode, payload = await again.receive()
        assert (opcode, payload) == (2, bytes.fromhex("03 920901"))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await socket.reader.readexactly(1)
        assert desk.hub.gone == []
