"""Connections that a server loses on purpose, on real sockets from both ends: every way, transport and protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hubs import Desk
from serving import Address, RawSocket, serving, until

from voisnap_mock.signalr import (
    Crossing,
    Fragmented,
    JsonHubProtocol,
    MessagePackHubProtocol,
    RequestSevered,
    Rewritten,
    Seam,
    Severance,
)
from voisnap_mock.signalr.messages import Close, Completion, HubMessage, Invocation
from voisnap_mock.signalr.protocols import AnyTypes, HubProtocol
from voisnap_mock.signalr.transports import SseReader

QUIET = 0.03
"""Real seconds after which a silent socket counts as silent; all its neighbours are in this loop."""


class Raw:
    """A client of one transport that shows what happens to its sockets."""

    def __init__(self, address: Address, token: str, protocol: HubProtocol, *, is_fast: bool) -> None:
        self.is_fast = is_fast
        self.address = address
        self.target = f"/hub?id={token}"
        self.protocol = protocol

    async def start(self) -> None:
        await self.connect()
        await self.post(msgspec.json.encode({"protocol": self.protocol.name, "version": 1}) + b"\x1e")
        assert await self.next() == b"{}\x1e"

    async def call(self, target: str, *arguments: Any, id: str | None = None) -> None:
        await self.post(self.protocol.serialize(Invocation(target, arguments, id)))

    async def messages(self) -> list[HubMessage]:
        """The hub messages of the next frame."""
        data, found, position = await self.next(), [], 0
        while (cut := self.protocol.next_record(data, position, None)) is not None:
            record, position = cut
            message = self.protocol.parse(record, AnyTypes())
            assert message is not None
            found.append(message)
        assert position == len(data)
        return found

    async def connect(self) -> None:
        raise NotImplementedError

    async def post(self, data: bytes) -> None:
        raise NotImplementedError

    async def next(self) -> bytes:
        """The next frame; raises ConnectionResetError after a reset, EOFError after an end in order."""
        raise NotImplementedError

    async def is_quiet(self) -> bool:
        """The socket is open and silent."""
        try:
            async with asyncio.timeout(QUIET):
                await self.next()
        except TimeoutError:
            return True
        return False

    async def request(self, method: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        socket = await RawSocket.connect(self.address)
        accept = "text/event-stream" if isinstance(self, EventStream) else "*/*"
        head = (
            f"{method} {self.target} HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        socket.write(head.encode() + body)
        return socket.reader, socket.writer


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await whole(reader.readuntil(b"\r\n\r\n"))
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
    return int(head.split(b" ", 2)[1]), await whole(reader.readexactly(int(fields.get("content-length", 0))))


async def whole(reading: Any) -> bytes:
    try:
        data: bytes = await reading
    except asyncio.IncompleteReadError as error:
        raise EOFError from error
    return data


class WebSocket(Raw):
    async def connect(self) -> None:
        self.socket = await RawSocket.connect(self.address)
        assert await self.socket.upgrade(self.target) == (101, b"")

    async def post(self, data: bytes) -> None:
        self.socket.send(data, opcode=1 if self.protocol.name == "json" else 2)

    async def next(self) -> bytes:
        data, self.pieces, is_final = b"", 0, False
        while not is_final:
            try:
                opcode, is_final, payload = await self.socket.receive_fragment()
            except asyncio.IncompleteReadError as error:
                raise AssertionError("the WebSocket ended without a close frame") from error
            if opcode == 8:
                assert payload[:2] == (1000).to_bytes(2, "big")
                raise EOFError
            assert opcode == (0 if self.pieces else 1 if self.is_text else 2)
            data += payload
            self.pieces += 1
        return data

    @property
    def is_text(self) -> bool:
        """The answer to the handshake already comes in frames of the protocol's kind."""
        return self.protocol.name == "json"


class EventStream(Raw):
    async def connect(self) -> None:
        self.reader, _ = await self.request("GET")
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        self.events: list[bytes] = []
        self.sse = SseReader()
        self.chunks = 0

    async def post(self, data: bytes) -> None:
        await self.request("POST", data)

    async def next(self) -> bytes:
        while not self.events:
            size = int(await whole(self.reader.readuntil(b"\r\n")), 16)
            chunk = (await whole(self.reader.readexactly(size + 2)))[:-2]
            self.chunks += 1
            if not size:
                raise EOFError
            self.events += self.sse.feed(chunk)
        return self.events.pop(0)


class LongPolling(Raw):
    async def connect(self) -> None:
        reader, _ = await self.request("GET")
        assert await answer(reader) == (200, b"")
        self.poll, _ = await self.request("GET")

    async def post(self, data: bytes) -> None:
        await self.request("POST", data)

    async def next(self) -> bytes:
        status, body = await answer(self.poll)
        if status == 204:
            raise EOFError
        assert status == 200
        self.poll, _ = await self.request("GET")
        return body


WAYS: dict[str, tuple[type[Raw], bool, HubProtocol]] = {
    "fast socket, json": (WebSocket, True, JsonHubProtocol()),
    "fast socket, messagepack": (WebSocket, True, MessagePackHubProtocol()),
    "plain socket, json": (WebSocket, False, JsonHubProtocol()),
    "plain socket, messagepack": (WebSocket, False, MessagePackHubProtocol()),
    "events, json": (EventStream, False, JsonHubProtocol()),
    "polls, json": (LongPolling, False, JsonHubProtocol()),
    "polls, messagepack": (LongPolling, False, MessagePackHubProtocol()),
}


@asynccontextmanager
async def opened(desk: Desk, way: str) -> AsyncIterator[Raw]:
    kind, is_fast, protocol = WAYS[way]
    async with serving(desk.endpoint, direct=[desk.endpoint] if is_fast else []) as address:
        raw = kind(address, await desk.negotiate(), protocol, is_fast=is_fast)
        await raw.start()
        yield raw
        await desk.endpoint.close(grace=0.05)


@pytest.fixture(params=WAYS)
async def raw(request: pytest.FixtureRequest, desk: Desk) -> AsyncIterator[Raw]:
    async with opened(desk, request.param) as raw:
        yield raw


async def last_words(raw: Raw, how: Severance) -> None:
    await raw.call("Sever", how)
    (said, *_) = await raw.messages()
    assert said == Invocation("Said", (how,))
    if isinstance(raw, LongPolling) and how is Severance.STALL:
        # The next poll is on its way.
        assert await raw.is_quiet()


class TestEnds:
    async def test_a_reset_is_a_tcp_reset(self, desk: Desk, raw: Raw) -> None:
        if isinstance(raw, LongPolling):
            # Here the last words go down with the poll that was to carry them.
            await raw.call("Sever", Severance.RESET)
        else:
            await last_words(raw, Severance.RESET)
        with pytest.raises(ConnectionResetError):
            await raw.next()
        await until(lambda: desk.hub.gone)
        assert str(desk.hub.gone[0][1]) == "the server reset the transport"

    async def test_closed_is_an_end_in_order_without_a_close_message(self, desk: Desk, raw: Raw) -> None:
        await last_words(raw, Severance.CLOSE)
        with pytest.raises(EOFError):
            await raw.next()
        await until(lambda: desk.hub.gone)
        assert str(desk.hub.gone[0][1]) == "the server closed the transport"

    async def test_not_to_reconnect_is_said_in_a_close_message(self, desk: Desk, raw: Raw) -> None:
        await raw.call("Sever", Severance.CLOSE_NO_RECONNECT)
        assert await raw.messages() == [Invocation("Said", ("close_no_reconnect",)), Close()]
        with pytest.raises(EOFError):
            await raw.next()
        assert desk.hub.gone[0][1] is None

    async def test_a_connection_that_has_ended_cannot_be_severed(self, desk: Desk, raw: Raw) -> None:
        await last_words(raw, Severance.CLOSE)
        for how in Severance:
            desk.hub.contexts[0].sever(how)
        with pytest.raises(EOFError):
            await raw.next()
        assert len(desk.hub.gone) == 1


class TestSilence:
    async def test_a_stall_stops_everything_and_tells_nobody(self, desk: Desk, raw: Raw) -> None:
        await last_words(raw, Severance.STALL)
        desk.hub.contexts[0].send("Said", "unheard")
        await raw.call("Say", "unread")
        await desk.clock.advance(16)  # a ping would be due
        assert await raw.is_quiet()
        assert desk.hub.log == []
        assert desk.hub.gone == []

    async def test_a_stalled_connection_is_given_up_in_silence(self, desk: Desk, raw: Raw) -> None:
        await last_words(raw, Severance.STALL)
        await desk.settle()
        await desk.clock.advance(30)
        await until(lambda: desk.hub.gone)
        assert str(desk.hub.gone[0][1]) == "the connection has stalled"
        assert desk.endpoint.connection_count == 0
        await raw.call("Say", "unread")
        assert await raw.is_quiet()
        assert desk.hub.log == []

    async def test_a_stalled_connection_that_is_closed_says_nothing(self, desk: Desk, raw: Raw) -> None:
        await last_words(raw, Severance.STALL)
        desk.hub.contexts[0].close(error="taken over")
        await until(lambda: desk.hub.gone)
        assert await raw.is_quiet()

    async def test_what_is_sent_into_a_stall_is_not_kept(self, desk: Desk, raw: Raw) -> None:
        await last_words(raw, Severance.STALL)
        for _ in range(30):
            desk.hub.contexts[0].send("Said", "x" * 100_000)
        assert desk.hub.gone == []
        assert await raw.is_quiet()

    async def test_half_open_is_lost_here_and_silent_there(self, desk: Desk, raw: Raw) -> None:
        assert await raw.is_quiet()
        desk.hub.contexts[0].sever(Severance.HALF_OPEN)
        await until(lambda: desk.hub.gone)
        assert str(desk.hub.gone[0][1]) == "the server has lost the transport"
        assert desk.endpoint.connection_count == 0
        assert await raw.is_quiet()

    async def test_a_stop_of_the_server_waits_for_none_of_them(self, raw: Raw, desk: Desk) -> None:
        await last_words(raw, Severance.STALL)
        await desk.endpoint.close(grace=0.05)
        assert desk.endpoint.connection_count == 0


@pytest.mark.parametrize("how", Severance)
async def test_a_socket_that_means_nothing_any_more_is_forgotten_when_its_client_goes(
    desk: Desk, how: Severance
) -> None:
    async with opened(desk, "fast socket, json") as raw:
        await last_words(raw, how)
        await until(lambda: desk.hub.gone or how is Severance.STALL)
        raw.address.sockets[-1].reset()
        if how is not Severance.STALL:  # whose socket nobody reads
            await until(lambda: not raw.address.state.connections)


@pytest.mark.parametrize("how", [Severance.RESET, Severance.HALF_OPEN, Severance.STALL])
@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_resumable_connection_may_come_back(desk: Desk, how: Severance, is_fast: bool) -> None:
    async with serving(desk.endpoint, direct=[desk.endpoint] if is_fast else []) as address:
        token = await desk.negotiate("negotiateVersion=1&useStatefulReconnect=true")
        first, second = await RawSocket.connect(address), await RawSocket.connect(address)
        await first.upgrade(f"/hub?id={token}")
        first.send(b'{"protocol":"json","version":2}\x1e')
        assert await first.text() == "{}\x1e"
        desk.hub.contexts[0].sever(how)
        desk.hub.contexts[0].send("Said", "meanwhile")
        assert await second.upgrade(f"/hub?id={token}") == (101, b"")
        assert '"Said","arguments":["meanwhile"]' in await second.text()
        assert desk.hub.gone == []
        await desk.endpoint.close(grace=0.05)


async def test_a_plain_server_that_shows_no_socket_ends_it_in_its_own_way(desk: Desk) -> None:
    socket = await desk.open()
    desk.hub.contexts[0].sever(Severance.RESET)
    await socket.finished()
    await desk.settle()
    assert str(desk.hub.gone[0][1]) == "the server reset the transport"


class TestRequests:
    """Negotiates and upgrades that are lost instead of answered."""

    @pytest.fixture(params=["fast", "plain"])
    async def address(self, request: pytest.FixtureRequest) -> AsyncIterator[Address]:
        desk = Desk(is_async=False)

        def authenticate(request: Any) -> None:
            raise RequestSevered(Severance(request.query.get("how")))

        async def authenticate_later(request: Any) -> None:
            authenticate(request)

        desk.endpoint._authenticate = authenticate_later if request.param == "fast" else authenticate
        async with serving(desk.endpoint, direct=[desk.endpoint] if request.param == "fast" else []) as address:
            yield address
            await desk.endpoint.close(grace=0.05)

    @pytest.mark.parametrize("method", ["POST /hub/negotiate?negotiateVersion=1&", "GET /hub?"])
    @pytest.mark.parametrize("how", Severance)
    async def test_they_are_lost_in_every_way(self, address: Address, method: str, how: Severance) -> None:
        socket = await RawSocket.connect(address)
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        more = upgrade + key if method.startswith("GET") else ""
        socket.write(f"{method}how={how} HTTP/1.1\r\nHost: test\r\n{more}\r\n".encode())
        match how:
            case Severance.RESET:
                with pytest.raises(ConnectionResetError):
                    await socket.reader.read(1)
            case Severance.CLOSE | Severance.CLOSE_NO_RECONNECT:
                assert await socket.at_end()
            case Severance.STALL | Severance.HALF_OPEN:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(QUIET):
                        await socket.reader.read(1)


class Tap:
    """Changes what goes out by `rule`, a function of the crossing that returns what goes on."""

    def __init__(self, seam: Seam, rule: Callable[[Any], list[Any]]) -> None:
        self.seam = seam
        self.rule = rule

    def cross(self, crossing: Crossing, forward: Callable[[Any], None]) -> None:
        for value in self.rule(crossing.value) if crossing.seam is self.seam else [crossing.value]:
            forward(value)


class TestTaps:
    async def test_a_connection_is_tapped_in_its_midst(self, desk: Desk, raw: Raw) -> None:
        await raw.call("Say", "before")
        assert len(await raw.messages()) == 1
        desk.hub.contexts[0].tap(Tap(Seam.MESSAGE_OUT, lambda message: [message, message]))
        await raw.call("Say", "after")
        assert await raw.messages() == [Invocation("Said", ("after",))] * 2

    async def test_a_fragmented_frame_is_the_same_message(self, desk: Desk, raw: Raw) -> None:
        desk.hub.contexts[0].tap(Tap(Seam.BYTES_OUT, lambda data: [Fragmented(data)]))
        await raw.call("Two", "né", 20, id="7")
        assert await raw.messages() == [Completion("7", "né" * 20)]
        if isinstance(raw, WebSocket):
            assert raw.pieces in (1, 3), "one over plain ASGI"
            assert (raw.pieces == 3) is raw.is_fast
        elif isinstance(raw, EventStream):
            assert raw.chunks == 1 + 1 + 3, "the greeting, the handshake, and three pieces"

    async def test_the_bytes_of_a_message_are_rewritten(self, desk: Desk, raw: Raw) -> None:
        desk.hub.contexts[0].tap(
            Tap(Seam.MESSAGE_OUT, lambda message: [Rewritten(message, lambda data: data.replace(b"x", b"y"))])
        )
        await raw.call("Say", "xx")
        assert await raw.messages() == [Invocation("Said", ("yy",))]

    async def test_the_close_of_an_end_in_order_waits_for_what_a_tap_holds_back(self, desk: Desk, raw: Raw) -> None:
        held: list[Callable[[], None]] = []

        class Later:
            def cross(self, crossing: Crossing, forward: Callable[[Any], None]) -> None:
                if crossing.seam is Seam.MESSAGE_OUT:
                    held.append(lambda: forward(crossing.value))
                else:
                    forward(crossing.value)

        desk.hub.contexts[0].tap(Later())
        await raw.call("Bye")
        await until(lambda: len(held) == 2)
        assert await raw.is_quiet()
        for release in held:
            release()
        assert await raw.messages() == [Invocation("Farewell"), Close()]

    async def test_a_new_connection_is_tapped_before_its_first_byte(self) -> None:
        seen: list[Seam] = []

        class Watch:
            def cross(self, crossing: Crossing, forward: Callable[[Any], None]) -> None:
                seen.append(crossing.seam)
                forward(crossing.value)

        desk = Desk(on_made=lambda context: context.tap(Watch()))
        await desk.open()
        assert seen == [Seam.BYTES_IN, Seam.HANDSHAKE, Seam.BYTES_OUT]
        await desk.endpoint.close(grace=0.05)

    async def test_pings_can_be_stopped(self, desk: Desk) -> None:
        socket = await desk.open()
        await desk.clock.advance(15)
        assert await socket.receive() == '{"type":6}\x1e'
        desk.hub.contexts[0].stop_pings()
        await desk.clock.advance(30)
        await desk.settle()
        assert not socket.has_message
