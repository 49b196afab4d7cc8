"""The hub of the endpoint tests, and an endpoint on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from asgi import Answer, Request, Socket, fetch

from voisnap_mock.clock import ManualClock
from voisnap_mock.signalr import (
    ConnectionDenied,
    ConnectionRequest,
    Hub,
    HubContext,
    HubEndpoint,
    HubException,
    HubOptions,
    Notice,
    NoticeKind,
    Severance,
    hub_method,
)

HANDSHAKE = '{"protocol":"json","version":1}\x1e'


class Office(Hub):
    """Has a method for everything a client may ask; `gate` lets go those that wait."""

    def __init__(self) -> None:
        self.contexts: list[HubContext] = []
        self.gone: list[tuple[HubContext, Exception | None]] = []
        self.log: list[str] = []
        self.gate = asyncio.Event()
        self.greet = False
        self.connect_error: Exception | None = None
        self.connect_waits = False
        self.turn_away = False

    async def on_connected(self, connection: HubContext) -> None:
        self.contexts.append(connection)
        if self.connect_waits:
            await self.gate.wait()
        if self.connect_error is not None:
            raise self.connect_error
        if self.turn_away:
            connection.send("Error", {"code": "AGENT_NOT_FOUND"})
            connection.close()
        if self.greet:
            connection.send("Welcome", connection.connection_id)

    async def on_disconnected(self, connection: HubContext, error: Exception | None) -> None:
        self.gone.append((connection, error))

    @hub_method(name="Say")
    async def say(self, connection: HubContext, text: str) -> int:
        self.log.append(f"say {text}")
        connection.send("Said", text)
        return len(text)

    @hub_method(name="Wait")
    async def wait(self, connection: HubContext, text: str) -> str:
        self.log.append(f"wait {text}")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.log.append(f"cancelled {text}")
            raise
        self.log.append(f"waited {text}")
        return text

    @hub_method(name="Audio")
    def audio(self, connection: HubContext, audio: bytes) -> None:
        connection.send("AudioReceived", audio)

    @hub_method(name="Two")
    async def two(self, connection: HubContext, first: str, second: int) -> str:
        return first * second

    @hub_method(name="Fail")
    async def fail(self, connection: HubContext) -> None:
        raise ValueError("broken")

    @hub_method(name="Refuse")
    async def refuse(self, connection: HubContext) -> None:
        raise HubException("not today")

    @hub_method(name="Strange")
    async def strange(self, connection: HubContext) -> object:
        return object()

    @hub_method(name="Bye")
    async def bye(self, connection: HubContext) -> str:
        connection.send("Farewell")
        connection.close()
        connection.send("Too late")
        return "done"

    @hub_method(name="Later")
    async def later(self, connection: HubContext) -> None:
        connection.close(allow_reconnect=True, error="restarting")

    @hub_method(name="Cut")
    async def cut(self, connection: HubContext) -> None:
        connection.abort()

    @hub_method(name="Sever")
    async def sever(self, connection: HubContext, how: str) -> None:
        connection.send("Said", how)
        connection.sever(Severance(how))

    @hub_method(name="Count")
    async def count(self, connection: HubContext, up_to: int) -> AsyncIterator[int]:
        try:
            for number in range(up_to):
                yield number
            await asyncio.sleep(0)
        finally:
            self.log.append("count ended")

    @hub_method(name="Endless")
    async def endless(self, connection: HubContext) -> AsyncIterator[int]:
        try:
            yield 1
            await self.gate.wait()
            raise ValueError("broken stream")
        finally:
            self.log.append("endless ended")

    @hub_method(name="Sum")
    async def sum(self, connection: HubContext, start: int, numbers: AsyncIterator[int]) -> int:
        async for number in numbers:
            self.log.append(f"got {number}")
            start += number
        return start

    @hub_method(name="Ask")
    async def ask(self, connection: HubContext, question: str) -> str:
        answer: str = await connection.invoke("Question", question, expect=str)
        return f"client said {answer}"

    @hub_method(name="Flood")
    async def flood(self, connection: HubContext, messages: int, size: int) -> None:
        for _ in range(messages):
            connection.send("Data", "x" * size)


def records(*messages: Any) -> str:
    return "".join(msgspec.json.encode(message).decode() + "\x1e" for message in messages)


def parsed(data: str | bytes) -> list[Any]:
    assert isinstance(data, str), data
    assert data.endswith("\x1e"), data
    return [msgspec.json.decode(record) for record in data.split("\x1e")[:-1]]


def call(target: str, *arguments: Any, id: str | None = "1", **more: Any) -> str:
    message: dict[str, Any] = {"type": 1, "target": target, "arguments": arguments} | more
    return records(message if id is None else message | {"invocationId": id})


@dataclass
class Desk:
    """An endpoint under test, its clock, and what it told its owner."""

    hub: Office = field(default_factory=Office)
    options: HubOptions = field(default_factory=HubOptions)
    interceptors: tuple[Any, ...] = ()
    clock: ManualClock = field(default_factory=ManualClock)
    notices: list[Notice] = field(default_factory=list)
    is_async: bool = False
    on_made: Callable[[HubContext], None] | None = None

    def __post_init__(self) -> None:
        self.endpoint = HubEndpoint(
            self.hub,
            path="/hub",
            authenticate=self.authenticate_later if self.is_async else self.authenticate,
            clock=self.clock,
            options=self.options,
            notify=self.notices.append,
            interceptors=self.interceptors,
            on_made=self.on_made,
        )

    def authenticate(self, request: ConnectionRequest) -> str:
        token = request.query.get("access_token") or (request.headers.get("authorization") or "Bearer ada")[7:]
        if token == "bad":
            raise ConnectionDenied(401, b'{"title":"bad token"}', "application/problem+json", {"WWW-Authenticate": "x"})
        return token

    async def authenticate_later(self, request: ConnectionRequest) -> str:
        await asyncio.sleep(0)
        return self.authenticate(request)

    def kinds(self) -> list[NoticeKind]:
        return [notice.kind for notice in self.notices]

    async def fetch(self, method: str, url: str, **more: Any) -> Answer:
        return await fetch(self.endpoint, method, url, **more)

    def request(self, method: str, url: str, **more: Any) -> Request:
        return Request(self.endpoint, method, url, **more)

    async def negotiate(self, query: str = "negotiateVersion=1") -> str:
        answer = (await self.fetch("POST", f"/hub/negotiate?{query}")).json()
        return str(answer.get("connectionToken") or answer["connectionId"])

    def socket(self, url: str = "/hub", **more: Any) -> Socket:
        return Socket(self.endpoint, url, **more)

    async def open(self, url: str = "/hub") -> Socket:
        """A WebSocket after its handshake."""
        socket = await self.socket(url).accepted()
        socket.send(HANDSHAKE)
        assert await socket.receive() == "{}\x1e"
        return socket

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)
