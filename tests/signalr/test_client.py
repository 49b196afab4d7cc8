"""HubClient against a real server: every transport, both protocols, both roads of WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hubs import Desk
from serving import Address, serving, until

from voisnap_mock.signalr import (
    ConnectionClosed,
    ConnectionLimits,
    HandshakeError,
    HubClient,
    HubError,
    HubOptions,
    NegotiationError,
    Transport,
)
from voisnap_mock.signalr.tasks import LoopClock

WS, SSE, LP = Transport.WEB_SOCKETS, Transport.SERVER_SENT_EVENTS, Transport.LONG_POLLING
WAYS = [
    pytest.param((transport, protocol, direct), id=f"{transport}-{protocol}-{'direct' if direct else 'asgi'}")
    for transport, protocol, direct in [
        (WS, "json", True),
        (WS, "json", False),
        (WS, "messagepack", True),
        (WS, "messagepack", False),
        (SSE, "json", False),
        (LP, "json", False),
        (LP, "messagepack", False),
    ]
]


@dataclass
class Office:
    """A served hub, and clients of it."""

    desk: Desk
    address: Address
    defaults: dict[str, Any] = field(default_factory=dict)
    clients: list[HubClient] = field(default_factory=list)

    def client(self, path: str = "/hub", **more: Any) -> HubClient:
        client = HubClient(self.address.url(path), **(self.defaults | more))
        self.clients.append(client)
        return client

    async def open(self, path: str = "/hub", **more: Any) -> HubClient:
        client = self.client(path, **more)
        await client.start()
        return client


async def offices(desk: Desk, *, direct: bool, **defaults: Any) -> AsyncIterator[Office]:
    async with serving(desk.endpoint, direct=[desk.endpoint] if direct else []) as address:
        office = Office(desk, address, defaults)
        yield office
        for client in office.clients:
            await client.stop()
        await desk.endpoint.close(grace=0.2)


@pytest.fixture(params=WAYS)
async def office(request: pytest.FixtureRequest) -> AsyncIterator[Office]:
    """Clients of every kind."""
    transport, protocol, direct = request.param
    async for office in offices(Desk(), direct=direct, transports=(transport,), protocol=protocol):
        yield office


@pytest.fixture
async def direct() -> AsyncIterator[Office]:
    """Clients with JSON over WebSockets on the fast road, the clock being real."""
    desk = Desk(clock=LoopClock())  # type: ignore[arg-type]
    async for office in offices(desk, direct=True):
        yield office


class TestCalls:
    async def test_a_result_and_an_event(self, office: Office) -> None:
        said: list[str] = []
        client = office.client()
        client.on("said", said.append)
        await client.start()
        assert client.transport is office.defaults["transports"][0]
        assert client.is_open
        assert await client.invoke("Say", "héllo") == 5
        assert said == ["héllo"]

    async def test_bytes_both_ways(self, office: Office) -> None:
        heard: list[bytes] = []
        client = office.client()
        client.on("AudioReceived", heard.append, bytes)
        await client.start()
        assert await client.invoke("Audio", b"\x00\xff" * 400) is None
        assert heard == [b"\x00\xff" * 400]

    @pytest.mark.parametrize(
        ("call", "text"),
        [
            (("Nope",), "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist."),
            (("Refuse",), "An unexpected error occurred invoking 'Refuse' on the server. HubException: not today"),
            (("Count", 1), "The client attempted to invoke the streaming 'Count' method"),
        ],
    )
    async def test_errors(self, office: Office, call: tuple[Any, ...], text: str) -> None:
        client = await office.open()
        with pytest.raises(HubError) as caught:
            await client.invoke(*call)
        assert str(caught.value).startswith(text)
        assert await client.invoke("Two", "x", 2) == "xx"

    async def test_without_an_answer(self, office: Office) -> None:
        client = await office.open()
        await client.send("Say", "one")
        await client.invoke("Say", "two")
        assert office.desk.hub.log == ["say one", "say two"]

    async def test_streams(self, office: Office) -> None:
        client = await office.open()
        assert [item async for item in client.stream("Count", 5, expect=int)] == [0, 1, 2, 3, 4]
        with pytest.raises(HubError, match="non-streaming 'Say' method"):
            await anext(client.stream("Say", "x"))

    async def test_leaving_a_stream_cancels_it(self, office: Office) -> None:
        client = await office.open()
        stream = client.stream("Endless")
        assert await anext(stream) == 1
        await stream.aclose()  # type: ignore[attr-defined]
        await until(lambda: "endless ended" in office.desk.hub.log)

    async def test_uploads(self, office: Office) -> None:
        async def numbers() -> AsyncIterator[int]:
            for number in range(25):
                yield number

        client = await office.open()
        assert await client.invoke("Sum", 100, numbers()) == 400

    async def test_an_upload_that_fails(self, office: Office) -> None:
        async def numbers() -> AsyncIterator[int]:
            yield 1
            raise ValueError("no more")

        client = await office.open()
        with pytest.raises(HubError, match="ValueError: no more"):
            await client.invoke("Sum", 100, numbers())

    async def test_client_results(self, office: Office) -> None:
        client = office.client()
        client.on("Question", lambda question: f"{question}?")
        await client.start()
        assert await client.invoke("Ask", "why") == "client said why?"

    async def test_the_server_says_goodbye(self, office: Office) -> None:
        client = await office.open()
        assert await client.invoke("Bye") == "done"
        await asyncio.wait_for(client.closed, 5)
        assert not client.is_open
        with pytest.raises(ConnectionClosed):
            await client.invoke("Say", "x")

    async def test_the_server_says_goodbye_with_an_error(self, office: Office) -> None:
        client = await office.open()
        await client.invoke("Later")
        with pytest.raises(ConnectionClosed, match="restarting") as caught:
            await asyncio.wait_for(client.closed, 5)
        assert caught.value.error == "restarting"
        assert caught.value.allow_reconnect

    async def test_stopping_tells_the_hub(self, office: Office) -> None:
        client = await office.open()
        await client.stop()
        await client.stop()
        await until(lambda: office.desk.hub.gone)
        assert office.desk.hub.gone[0][1] is None
        await client.closed

    async def test_a_pending_call_fails_when_the_connection_ends(self, office: Office) -> None:
        client = await office.open()
        call = asyncio.create_task(client.invoke("Wait", "x"))
        await until(lambda: office.desk.hub.log)
        office.desk.hub.contexts[0].abort()
        with pytest.raises(ConnectionClosed):
            await call

    async def test_stateful_reconnect_is_transparent(self, office: Office) -> None:
        client = await office.open(stateful_reconnect=True)
        assert await client.invoke("Say", "x") == 1


class TestHandlers:
    async def test_async_handlers(self, direct: Office) -> None:
        said: asyncio.Queue[str] = asyncio.Queue()
        client = direct.client()
        client.on("Said", said.put)
        await client.start()
        await client.invoke("Say", "x")
        assert await said.get() == "x"

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_a_handler_that_fails_hurts_nobody(self, direct: Office, is_async: bool) -> None:
        def fails(question: str) -> str:
            raise ValueError("no idea")

        async def fails_later(question: str) -> str:
            raise ValueError("no idea")

        client = direct.client()
        client.on("Question", fails_later if is_async else fails)
        await client.start()
        with pytest.raises(HubError, match="HubError: ValueError: no idea"):
            await client.invoke("Ask", "why")
        assert client.is_open

    async def test_an_async_client_result(self, direct: Office) -> None:
        async def answer(question: str) -> str:
            await asyncio.sleep(0)
            return "because"

        client = direct.client()
        client.on("Question", answer)
        await client.start()
        assert await client.invoke("Ask", "why") == "client said because"

    async def test_nobody_answers_a_question(self, direct: Office) -> None:
        client = await direct.open()
        with pytest.raises(HubError, match="Client didn't provide a result"):
            await client.invoke("Ask", "why")

    async def test_arguments_that_do_not_fit_the_handler(self, direct: Office) -> None:
        client = direct.client()
        client.on("Question", lambda question: "x", int)
        await client.start()
        with pytest.raises(HubError, match="expected a whole number"):
            await client.invoke("Ask", "why")

    async def test_a_result_of_another_type(self, direct: Office) -> None:
        client = await direct.open()
        with pytest.raises(HubError, match="The result of 'Say': expected a string, got the number 1"):
            await client.invoke("Say", "x", expect=str)


class TestStarting:
    @pytest.mark.parametrize("skip", [True, False])
    async def test_a_bad_token(self, direct: Office, skip: bool) -> None:
        with pytest.raises(NegotiationError) as caught:
            await direct.open(access_token="bad", skip_negotiation=skip)
        assert caught.value.status == 401
        assert b"bad token" in caught.value.body
        assert "bad?" not in str(caught.value)

    @pytest.mark.parametrize("make", [lambda: "ada", lambda: asyncio.sleep(0, "ada")])
    async def test_a_token_may_be_made_when_needed(self, direct: Office, make: Callable[[], Any]) -> None:
        await direct.open(access_token=make)
        assert direct.desk.hub.contexts[0].user == "ada"

    async def test_skipping_negotiate(self, direct: Office) -> None:
        client = await direct.open(skip_negotiation=True)
        assert client.connection_id is None
        assert await client.invoke("Say", "x") == 1

    async def test_the_public_id_is_known(self, direct: Office) -> None:
        client = await direct.open()
        assert client.connection_id == direct.desk.hub.contexts[0].connection_id

    async def test_the_query_is_kept(self, direct: Office) -> None:
        await direct.open("/hub?agentId=a")
        assert direct.desk.hub.contexts[0].request.query.get("agentId") == "a"

    async def test_nobody_listens(self) -> None:
        client = HubClient("http://127.0.0.1:1/hub")
        with pytest.raises(OSError):  # noqa: PT011
            await client.start()
        with pytest.raises(ConnectionClosed):
            await client.invoke("Say", "x")

    async def test_no_hub_at_that_path(self, direct: Office) -> None:
        with pytest.raises(NegotiationError) as caught:
            await direct.open("/nothing")
        assert caught.value.status == 404

    async def test_the_next_transport_is_tried(self) -> None:
        desk = Desk(options=HubOptions(transports=(LP,)))
        async for office in offices(desk, direct=False):
            client = await office.open()
            assert client.transport is LP

    async def test_no_transport_can_carry_it(self) -> None:
        desk = Desk(options=HubOptions(transports=(SSE,)))
        async for office in offices(desk, direct=False):
            with pytest.raises(NegotiationError, match="can carry messagepack; the server offers ServerSentEvents"):
                await office.open(protocol="messagepack")

    @pytest.mark.parametrize("url", ["hub", "ftp://x/hub", "http://", ""])
    def test_addresses_that_are_none(self, url: str) -> None:
        with pytest.raises(ValueError, match="expected http://host:port/path"):
            HubClient(url)

    def test_protocols_that_are_none(self) -> None:
        with pytest.raises(ValueError, match="expected json or messagepack"):
            HubClient("http://x/hub", protocol="xml")

    async def test_a_client_starts_once(self, direct: Office) -> None:
        client = await direct.open()
        with pytest.raises(RuntimeError):
            await client.start()

    async def test_a_repr_shows_no_token(self) -> None:
        assert "secret" not in repr(HubClient("http://x/hub?access_token=secret", access_token="secret"))


async def answering(body: bytes, status: int = 200) -> Any:
    """An application whose negotiate answers with `body`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


class TestNegotiate:
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b'{"error":"no more"}', "no more"),
            (b"<html>", "not answered by a SignalR server"),
            (b"{}", "without a connection id"),
            (b'{"url":"', "not answered by a SignalR server"),
        ],
    )
    async def test_answers_that_are_no_connection(self, body: bytes, text: str) -> None:
        async with serving(await answering(body)) as address:
            with pytest.raises(NegotiationError, match=text):
                await HubClient(address.url()).start()

    async def test_a_redirect_is_followed_with_its_token(self, direct: Office) -> None:
        body = f'{{"url":"{direct.address.url()}?agentId=b","accessToken":"redirected"}}'.encode()
        async with serving(await answering(body)) as address:
            client = HubClient(address.url(), access_token="first")
            await client.start()
            assert await client.invoke("Say", "x") == 1
            (context,) = direct.desk.hub.contexts
            assert context.user == "redirected"
            assert context.request.query.get("agentId") == "b"
            await client.stop()

    async def test_redirects_without_end(self) -> None:
        holder: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": f'{{"url":"{holder[0]}"}}'.encode()})

        async with serving(app) as address:
            holder.append(address.url())
            with pytest.raises(NegotiationError, match="more than 100 times"):
                await HubClient(address.url()).start()

    async def test_a_handshake_that_is_refused(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            await send({"type": "websocket.send", "text": '{"error":"unknown protocol"}\x1e'})
            await receive()

        async with serving(app) as address:
            client = HubClient(address.url(), skip_negotiation=True)
            with pytest.raises(HandshakeError, match="unknown protocol"):
                await client.start()

    async def test_a_server_that_hangs_up_instead_of_shaking_hands(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})

        async with serving(app) as address:
            with pytest.raises(ConnectionClosed, match="without a Close message"):
                await HubClient(address.url(), skip_negotiation=True).start()

    async def test_a_silent_server(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            await receive()

        async with serving(app) as address:
            client = HubClient(address.url(), skip_negotiation=True, limits=ConnectionLimits(handshake_timeout=0.02))
            with pytest.raises(HandshakeError, match=r"Handshake was canceled."):
                await client.start()


class TestReconnecting:
    def watch(self, client: HubClient) -> list[Any]:
        events: list[Any] = []
        client.on_reconnecting(lambda error: events.append(("reconnecting", str(error))))
        client.on_reconnected(lambda connection_id: events.append(("reconnected", connection_id)))
        return events

    async def test_after_a_close_that_invites(self, direct: Office) -> None:
        client = await direct.open(automatic_reconnect=(0.0,))
        first, events = client.connection_id, self.watch(client)
        await client.invoke("Later")
        await until(lambda: len(events) == 2)
        assert [kind for kind, _ in events] == ["reconnecting", "reconnected"]
        assert client.connection_id != first
        assert await client.invoke("Say", "x") == 1

    async def test_after_a_lost_socket(self, direct: Office) -> None:
        client = await direct.open(automatic_reconnect=(0.0, 0.01))
        events = self.watch(client)
        for connection in list(direct.address.state.connections):
            connection._transport.abort()  # type: ignore[union-attr]
        await until(lambda: len(events) == 2)
        assert await client.invoke("Say", "x") == 1
        assert len(direct.desk.hub.gone) == 1

    async def test_not_after_a_close_that_forbids(self, direct: Office) -> None:
        client = await direct.open(automatic_reconnect=(0.0,))
        events = self.watch(client)
        await client.invoke("Bye")
        await asyncio.wait_for(client.closed, 5)
        assert events == []

    async def test_not_for_ever(self, direct: Office) -> None:
        client = await direct.open(automatic_reconnect=(0.0, 0.001, 0.001))
        events = self.watch(client)
        await direct.desk.endpoint.close(grace=0.2)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(client.closed, 5)
        assert [kind for kind, _ in events] == ["reconnecting"]

    async def test_stopping_while_it_tries(self, direct: Office) -> None:
        client = await direct.open(automatic_reconnect=(30.0,))
        events = self.watch(client)
        await client.invoke("Later")
        await until(lambda: events)
        await client.stop()
        assert not client.is_open

    async def test_calls_that_were_pending_fail(self, direct: Office) -> None:
        client = await direct.open(automatic_reconnect=(0.0,))
        call = asyncio.create_task(client.invoke("Wait", "x"))
        await until(lambda: direct.desk.hub.log)
        for connection in list(direct.address.state.connections):
            connection._transport.abort()  # type: ignore[union-attr]
        with pytest.raises(ConnectionClosed):
            await call

    async def test_a_stateful_connection_survives_resets(self, direct: Office) -> None:
        said: list[int] = []
        client = direct.client(stateful_reconnect=True)
        client.on("Said", lambda text: said.append(int(text)))
        await client.start()
        events = self.watch(client)
        calls = []
        for number in range(60):
            calls.append(asyncio.create_task(client.invoke("Say", str(number))))
            await asyncio.sleep(0)
            if number % 20 == 10:
                for connection in list(direct.address.state.connections):
                    connection._transport.abort()  # type: ignore[union-attr]
        assert await asyncio.gather(*calls) == [1] * 10 + [2] * 50
        assert said == list(range(60))
        assert len(direct.desk.hub.contexts) == 1
        assert direct.desk.hub.gone == []
        assert events == []

    async def test_pings_and_timeouts(self, direct: Office) -> None:
        client = await direct.open(limits=ConnectionLimits(max_message_bytes=None, keep_alive=0.01, timeout=0.05))
        with pytest.raises(ConnectionClosed, match="Server timeout"):
            await asyncio.wait_for(client.closed, 5)
