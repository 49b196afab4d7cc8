"""Server-Sent Events and long polling, request by request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgi import Answer, Request
from hubs import HANDSHAKE, Desk, call, parsed, records

from voisnap_mock.signalr import HubOptions, NoticeKind, Transport
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.messages import Close, Invocation
from voisnap_mock.signalr.transports import SseReader

SSE = {"accept": "text/event-stream"}


class EventStream:
    """A connection over Server-Sent Events, from the client's side."""

    def __init__(self, desk: Desk, token: str) -> None:
        self.url = f"/hub?id={token}"
        self.desk = desk
        self.stream = desk.request("GET", self.url, headers=SSE)
        self._reader = SseReader()
        self._events: list[bytes] = []

    async def opened(self) -> EventStream:
        status, headers = await self.stream.head()
        assert status == 200
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache"
        assert headers["content-encoding"] == "identity"
        assert await self.stream.chunk() == b":\r\n"
        return self

    async def shaken(self) -> EventStream:
        await self.opened()
        assert (await self.post(HANDSHAKE)).status == 200
        assert await self.event() == "{}\x1e"
        return self

    async def event(self) -> str:
        while not self._events:
            chunk = await self.stream.chunk()
            assert chunk, "the stream has ended"
            assert chunk.startswith(b"data: ")
            assert chunk.endswith(b"\r\n\r\n")
            self._events += self._reader.feed(chunk)
        return self._events.pop(0).decode()

    async def post(self, data: str | bytes) -> Answer:
        return await self.desk.fetch("POST", self.url, body=data.encode() if isinstance(data, str) else data)


class TestServerSentEvents:
    @pytest.fixture
    async def events(self, desk: Desk) -> EventStream:
        return await EventStream(desk, await desk.negotiate()).shaken()

    async def test_a_call_and_its_answer(self, events: EventStream) -> None:
        answer = await events.post(call("Say", "é"))
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/plain")
        assert parsed(await events.event()) == [
            {"type": 1, "target": "Said", "arguments": ["é"]},
            {"type": 3, "invocationId": "1", "result": 1},
        ]

    async def test_the_hub_sees_the_transport(self, desk: Desk, events: EventStream) -> None:
        assert "ServerSentEvents" in desk.notices[-1].detail

    async def test_messages_split_over_posts(self, events: EventStream) -> None:
        data = call("Two", "é", 2).encode()
        for start in range(0, len(data), 7):
            assert (await events.post(data[start : start + 7])).status == 200
        assert parsed(await events.event())[0]["result"] == "éé"

    async def test_posts_wait_for_each_other(self, desk: Desk, events: EventStream) -> None:
        first = desk.request("POST", events.url, body=[call("Say", "one", id=None).encode(), b"", b"\n" * 0])
        second = desk.request("POST", events.url, body=call("Say", "two", id=None).encode())
        assert (await first.answer()).status == (await second.answer()).status == 200
        assert desk.hub.log == ["say one", "say two"]

    async def test_pings(self, desk: Desk, events: EventStream) -> None:
        await desk.clock.advance(15.0)
        assert await events.event() == '{"type":6}\x1e'

    async def test_binary_is_refused_in_the_handshake(self, desk: Desk) -> None:
        events = await EventStream(desk, await desk.negotiate()).opened()
        await events.post('{"protocol":"messagepack","version":1}\x1e')
        assert parsed(await events.event())[0]["error"].startswith("Cannot use the 'messagepack' protocol")
        assert await events.stream.chunk() == b""
        await events.stream.finished()

    @pytest.mark.parametrize(
        ("url", "status", "body"),
        [("/hub", 400, b"Connection ID required"), ("/hub?id=x", 404, b"No Connection with that ID")],
    )
    async def test_refusals(self, desk: Desk, url: str, status: int, body: bytes) -> None:
        answer = await desk.fetch("GET", url, headers=SSE)
        assert (answer.status, answer.body) == (status, body)

    async def test_a_second_stream(self, desk: Desk, events: EventStream) -> None:
        assert (await desk.fetch("GET", events.url, headers=SSE)).status == 409

    async def test_another_transport(self, desk: Desk, events: EventStream) -> None:
        assert (await desk.fetch("GET", events.url)).status == 400
        assert (await desk.fetch("DELETE", events.url)).status == 400

    async def test_every_request_is_authenticated(self, desk: Desk, events: EventStream) -> None:
        assert (await desk.fetch("POST", f"{events.url}&access_token=bad", body=b"x")).status == 401
        assert (await desk.fetch("GET", f"{events.url}&access_token=bad", headers=SSE)).status == 401

    async def test_the_client_drops_the_stream(self, desk: Desk, events: EventStream) -> None:
        events.stream.disconnect()
        await events.stream.finished()
        await desk.settle()
        assert len(desk.hub.gone) == 1
        assert (await events.post(call("Say", "x"))).status == 404

    async def test_a_post_while_the_close_is_on_its_way_is_taken(self, desk: Desk, events: EventStream) -> None:
        desk.hub.contexts[0].close()
        assert (await events.post(records({"type": 6}))).status == 200
        assert parsed(await events.event()) == [{"type": 7}]

    async def test_a_post_that_waits_is_let_go_when_the_connection_ends(self, desk: Desk, events: EventStream) -> None:
        await events.post(call("Wait", "x", id=None))
        slow = desk.request("POST", events.url, body=(call("Say", "y" * 20_000, id=None) * 4).encode())
        await desk.settle()
        assert not slow.is_done
        desk.hub.contexts[0].abort()
        assert (await slow.answer()).status == 200

    async def test_the_server_ends_the_stream(self, desk: Desk, events: EventStream) -> None:
        await events.post(call("Bye"))
        assert [message["type"] for message in parsed(await events.event())] == [1, 3, 7]
        assert await events.stream.chunk() == b""
        await events.stream.finished()
        assert (await events.post(call("Say", "x"))).status == 404

    async def test_garbage_ends_the_stream(self, desk: Desk, events: EventStream) -> None:
        await events.post("garbage\x1e")
        assert parsed(await events.event())[0]["allowReconnect"] is True
        await events.stream.finished()

    async def test_shutdown(self, desk: Desk, events: EventStream) -> None:
        await desk.endpoint.close()
        assert parsed(await events.event()) == [{"type": 7, "allowReconnect": True}]
        await events.stream.finished()

    async def test_an_origin_is_echoed_on_the_stream(self, desk: Desk) -> None:
        stream = desk.request("GET", f"/hub?id={await desk.negotiate()}", headers=SSE | {"origin": "http://page.test"})
        _, headers = await stream.head()
        assert headers["access-control-allow-origin"] == "http://page.test"
        stream.disconnect()
        await stream.finished()

    async def test_a_post_before_the_stream_is_kept_for_it(self, desk: Desk) -> None:
        token = await desk.negotiate()
        assert (await desk.fetch("POST", f"/hub?id={token}", body=HANDSHAKE.encode())).status == 200
        events = await EventStream(desk, token).opened()
        assert await events.event() == "{}\x1e"

    async def test_but_not_without_end(self, desk: Desk) -> None:
        token = await desk.negotiate()
        for _ in range(2):
            answer = await desk.fetch("POST", f"/hub?id={token}", body=b"x" * 40_000)
        assert answer.status == 413

    async def test_posts_are_answered_when_methods_have_caught_up(self, desk: Desk, events: EventStream) -> None:
        await events.post(call("Wait", "x", id=None))
        slow = desk.request("POST", events.url, body=(call("Say", "y" * 20_000, id=None) * 4).encode())
        await desk.settle()
        assert not slow.is_done
        desk.hub.gate.set()
        assert (await slow.answer()).status == 200


class Poller:
    """A connection over long polling, from the client's side."""

    def __init__(self, desk: Desk, token: str) -> None:
        self.url = f"/hub?id={token}"
        self.desk = desk

    def start_poll(self) -> Request:
        return self.desk.request("GET", self.url)

    async def poll(self) -> Answer:
        return await self.start_poll().answer()

    async def post(self, data: str | bytes) -> Answer:
        return await self.desk.fetch("POST", self.url, body=data.encode() if isinstance(data, str) else data)

    async def shaken(self, protocol: str = "json") -> Poller:
        assert (await self.poll()).body == b""
        assert (await self.post(HANDSHAKE.replace("json", protocol))).status == 200
        assert (await self.poll()).body == b"{}\x1e"
        return self


class TestLongPolling:
    @pytest.fixture
    async def poller(self, desk: Desk) -> Poller:
        return await Poller(desk, await desk.negotiate()).shaken()

    async def test_the_first_poll_is_answered_at_once(self, desk: Desk) -> None:
        answer = await Poller(desk, await desk.negotiate()).poll()
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-length"] == "0"

    async def test_a_poll_waits_for_data_and_gets_all_of_it(self, desk: Desk, poller: Poller) -> None:
        poll = poller.start_poll()
        await desk.settle()
        assert not poll.is_done
        await poller.post(call("Say", "x"))
        answer = await poll.answer()
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == "no-cache, no-store"
        assert answer.headers["pragma"] == "no-cache"
        assert answer.headers["expires"] == "Thu, 01 Jan 1970 00:00:00 GMT"
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert [message["type"] for message in parsed(answer.body.decode())] == [1, 3]

    async def test_messages_between_polls_are_kept(self, desk: Desk, poller: Poller) -> None:
        for number in range(3):
            desk.hub.contexts[0].send("Msg", number)
        received = parsed((await poller.poll()).body.decode())
        assert [message["arguments"] for message in received] == [[0], [1], [2]]

    async def test_messagepack(self, desk: Desk) -> None:
        poller = await Poller(desk, await desk.negotiate()).shaken("messagepack")
        protocol = MessagePackHubProtocol()
        await poller.post(protocol.serialize(Invocation("Audio", (b"hi",))))
        assert (await poller.poll()).body == protocol.serialize(Invocation("AudioReceived", (b"hi",)))

    async def test_the_poll_timeout(self) -> None:
        desk = Desk(options=HubOptions(poll_timeout=0.01))
        poller = await Poller(desk, await desk.negotiate()).shaken()
        answer = await poller.poll()
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/plain")
        desk.hub.contexts[0].send("Msg")
        assert (await poller.poll()).body
        await desk.endpoint.close()

    async def test_a_newer_poll_ends_the_older_one(self, desk: Desk, poller: Poller) -> None:
        older = poller.start_poll()
        await desk.settle()
        newer = poller.start_poll()
        assert (await older.answer()).status == 204
        desk.hub.contexts[0].send("Msg")
        assert parsed((await newer.answer()).body.decode())[0]["target"] == "Msg"

    async def test_delete(self, desk: Desk, poller: Poller) -> None:
        poll = poller.start_poll()
        await desk.settle()
        answer = await desk.fetch("DELETE", poller.url)
        assert (answer.status, answer.body) == (202, b"")
        last = await poll.answer()
        assert (last.status, last.body) in ((204, b""), (200, b'{"type":7}\x1e'))
        await desk.settle()
        assert (await poller.poll()).status == 404
        assert (await poller.post("x")).status == 404
        assert (await desk.fetch("DELETE", poller.url)).status == 404
        assert len(desk.hub.gone) == 1
        assert desk.endpoint.connection_count == 0

    async def test_the_server_ends_it(self, desk: Desk, poller: Poller) -> None:
        poll = poller.start_poll()
        await poller.post(call("Bye"))
        assert [message["type"] for message in parsed((await poll.answer()).body.decode())] == [1, 3, 7]
        assert (await poller.post("x")).status == 404
        last = await poller.poll()
        assert (last.status, last.body) == (204, b"")
        assert (await poller.poll()).status == 404

    async def test_a_close_that_nobody_fetches_is_forgotten(self, desk: Desk, poller: Poller) -> None:
        await poller.post(call("Bye"))
        await desk.clock.advance(5.0)
        assert (await poller.poll()).status == 404

    async def test_a_client_that_stays_away_for_15_seconds(self, desk: Desk, poller: Poller) -> None:
        await desk.clock.advance(14.0)
        assert desk.hub.gone == []
        await desk.clock.advance(1.0)
        await desk.settle()
        assert "has not come back" in str(desk.hub.gone[0][1])
        assert (await poller.poll()).status == 404

    async def test_a_waiting_poll_keeps_it_alive_without_pings(self, desk: Desk, poller: Poller) -> None:
        await poller.post(records({"type": 6}))
        poll = poller.start_poll()
        await desk.settle()
        await desk.clock.advance(80.0)
        assert not poll.is_done
        assert desk.hub.gone == []
        poll.disconnect()
        await poll.finished()

    async def test_a_poll_that_the_client_drops_loses_nothing(self, desk: Desk, poller: Poller) -> None:
        poll = poller.start_poll()
        await desk.settle()
        poll.disconnect()
        await poll.finished()
        desk.hub.contexts[0].send("Msg")
        assert parsed((await poller.poll()).body.decode())[0]["target"] == "Msg"

    async def test_shutdown(self, desk: Desk, poller: Poller) -> None:
        poll = poller.start_poll()
        await desk.settle()
        closing = asyncio.create_task(desk.endpoint.close())
        assert parsed((await poll.answer()).body.decode()) == [{"type": 7, "allowReconnect": True}]
        await closing
        assert len(desk.hub.gone) == 1

    async def test_shutdown_between_two_polls(self, desk: Desk, poller: Poller) -> None:
        closing = asyncio.create_task(desk.endpoint.close())
        await desk.settle()
        assert (await desk.fetch("POST", "/hub/negotiate")).status == 404
        assert parsed((await poller.poll()).body.decode()) == [{"type": 7, "allowReconnect": True}]
        assert (await poller.poll()).status == 204
        await closing

    async def test_a_client_that_never_polls_is_too_slow_in_the_end(self) -> None:
        desk = Desk(options=HubOptions(max_unsent_bytes=10_000))
        poller = await Poller(desk, await desk.negotiate()).shaken()
        await poller.post(call("Flood", 20, 1000))
        assert NoticeKind.SLOW_CLIENT in desk.kinds()
        assert "reads too slowly" in parsed((await poller.poll()).body.decode())[0]["error"]
        assert (await poller.poll()).status == 204
        await desk.endpoint.close()

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD"])
    async def test_other_methods(self, desk: Desk, poller: Poller, method: str) -> None:
        assert (await desk.fetch(method, poller.url)).status == 405

    async def test_a_body_of_many_messages(self, desk: Desk, poller: Poller) -> None:
        await poller.post(call("Say", "x", id=None) * 100)
        assert len(desk.hub.log) == 100

    async def test_garbage(self, desk: Desk, poller: Poller) -> None:
        assert (await poller.post("garbage\x1e")).status == 200
        assert parsed((await poller.poll()).body.decode())[0]["allowReconnect"] is True
        assert (await poller.poll()).status == 204


@pytest.fixture(params=list(Transport))
async def carried(request: pytest.FixtureRequest, desk: Desk) -> AsyncIterator[Any]:
    """(send, receive) of a connection that has shaken hands, over each transport."""
    token = await desk.negotiate()
    match request.param:
        case Transport.WEB_SOCKETS:
            socket = await desk.open(f"/hub?id={token}")

            async def send(data: str) -> None:
                socket.send(data)

            async def receive() -> str:
                return str(await socket.receive())

            yield send, receive
        case Transport.SERVER_SENT_EVENTS:
            events = await EventStream(desk, token).shaken()

            async def post(data: str) -> None:
                await events.post(data)

            yield post, events.event
        case Transport.LONG_POLLING:
            poller = await Poller(desk, token).shaken()

            async def post_(data: str) -> None:
                await poller.post(data)

            async def poll() -> str:
                return (await poller.poll()).body.decode()

            yield post_, poll


async def test_a_connection_is_the_same_on_every_transport(carried: Any, desk: Desk) -> None:
    send, receive = carried
    await send(call("Say", "x") + call("Nope", id="2") + call("Count", 2, type=4, id="3"))
    received: list[Any] = []
    while not any(message.get("invocationId") == "3" and message["type"] == 3 for message in received):
        received += parsed(await receive())
    assert [(message["type"], message.get("invocationId")) for message in received] == [
        (1, None),
        (3, "1"),
        (3, "2"),
        (2, "3"),
        (2, "3"),
        (3, "3"),
    ]
    await send(records({"type": 7}))
    await desk.settle()
    assert [error for _, error in desk.hub.gone] == [None]


async def test_a_close_with_an_error_from_the_client(carried: Any, desk: Desk) -> None:
    send, _ = carried
    await send(records({"type": 7, "error": "client broke"}))
    await desk.settle()
    assert "client broke" in str(desk.hub.gone[0][1])


def test_close_on_the_wire() -> None:
    assert MessagePackHubProtocol().serialize(Close()) == bytes.fromhex("04 9307c0c2")
