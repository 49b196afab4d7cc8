"""A server process with hubs that do everything a hub can do: `python hub_server.py product|asgi`.

`product` is how this project serves its own hubs: WebSockets past ASGI, uvloop. `asgi` is plain uvicorn as it comes,
as for anybody who mounts a `HubEndpoint` in an application. Prints its port as the first line.

The hubs differ in their options, see `endpoints`. `/control/...` is the tests' own way in: what lives, what ended,
how much memory there is, and a bell for methods that wait.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from voisnap_mock.signalr import (
    ConnectionDenied,
    ConnectionLimits,
    ConnectionRequest,
    Hub,
    HubContext,
    HubEndpoint,
    HubException,
    HubOptions,
    Notice,
    NoticeKind,
    Transport,
    hub_method,
)
from voisnap_mock.signalr.uvicorn_ws import websocket_class

TOKEN = "let-me-in"


@dataclass(frozen=True, slots=True)
class Point:
    x_axis: int
    label: str = "here"


class EverythingHub(Hub):
    """One method for everything that a client can do to a hub, and the other way round."""

    def __init__(self) -> None:
        self.ends: dict[str, str] = {}
        self.ended = asyncio.Condition()
        self.gates: dict[str, asyncio.Event] = {}
        self.waiting = 0
        self.cancelled_streams = 0
        self.connected = 0

    async def on_connected(self, connection: HubContext) -> None:
        self.connected += 1
        connection.items["noted"] = []

    async def on_disconnected(self, connection: HubContext, error: Exception | None) -> None:
        self.ends[connection.connection_id] = "" if error is None else f"{type(error).__name__}: {error}"
        if len(self.ends) > 1000:
            del self.ends[next(iter(self.ends))]
        async with self.ended:
            self.ended.notify_all()

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    # --- calls

    @hub_method(name="Echo")
    def echo(self, connection: HubContext, value: object) -> object:
        return value

    @hub_method(name="EchoBytes")
    async def echo_bytes(self, connection: HubContext, data: bytes) -> bytes:
        return data

    @hub_method(name="Length")
    def length(self, connection: HubContext, data: bytes) -> int:
        return len(data)

    @hub_method(name="Add")
    async def add(self, connection: HubContext, left: int, right: int) -> int:
        return left + right

    @hub_method(name="Move")
    def move(self, connection: HubContext, point: Point, by: int = 1) -> Point:
        return Point(point.x_axis + by, point.label)

    @hub_method(name="Nothing")
    async def nothing(self, connection: HubContext) -> None:
        return None

    @hub_method(name="WhoAmI")
    def who_am_i(self, connection: HubContext) -> str:
        return connection.connection_id

    @hub_method(name="User")
    def user(self, connection: HubContext) -> object:
        return connection.user

    @hub_method(name="QueryOf")
    def query_of(self, connection: HubContext, name: str) -> str | None:
        return connection.request.query.get(name)

    @hub_method(name="Fail")
    async def fail(self, connection: HubContext) -> None:
        raise ValueError("the disk is full")

    @hub_method(name="Refuse")
    async def refuse(self, connection: HubContext, why: str) -> None:
        raise HubException(why)

    @hub_method(name="Wait")
    async def wait(self, connection: HubContext, gate: str) -> str:
        self.waiting += 1
        try:
            await self.gate(gate).wait()
        finally:
            self.waiting -= 1
        return gate

    # --- events

    @hub_method(name="Announce")
    def announce(self, connection: HubContext, value: object) -> None:
        connection.send("Announced", value, b"\x00\x01\xfe\xff", None)

    @hub_method(name="Note")
    def note(self, connection: HubContext, number: int) -> int:
        noted = connection.items["noted"]
        assert isinstance(noted, list)
        noted.append(number)
        connection.send("Noted", number)
        return number

    @hub_method(name="AllNotes")
    def all_notes(self, connection: HubContext) -> object:
        return connection.items["noted"]

    @hub_method(name="Flood")
    def flood(self, connection: HubContext, count: int, size: int) -> int:
        for number in range(count):
            connection.send("Flooded", number, "x" * size)
        return count

    @hub_method(name="Join")
    def join(self, connection: HubContext, group: str) -> None:
        connection.join(group)

    @hub_method(name="Leave")
    def leave(self, connection: HubContext, group: str) -> None:
        connection.leave(group)

    @hub_method(name="Tell")
    def tell(self, connection: HubContext, group: str, text: str) -> None:
        connection.clients.group(group, exclude=[connection.connection_id]).send("Told", group, text)

    @hub_method(name="AskBack")
    async def ask_back(self, connection: HubContext, question: str) -> str:
        return "you said " + await connection.invoke("Answer", question, expect=str)

    # --- streams

    @hub_method(name="Count")
    async def count(self, connection: HubContext, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @hub_method(name="CountThenFail")
    async def count_then_fail(self, connection: HubContext, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
        raise ValueError("no more numbers")

    @hub_method(name="Gated")
    async def gated(self, connection: HubContext, gate: str, to: int, fail: bool) -> AsyncIterator[int]:
        await self.gate(gate).wait()
        for number in range(to):
            yield number
        if fail:
            raise HubException("no more numbers")

    @hub_method(name="Endless")
    async def endless(self, connection: HubContext) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.cancelled_streams += 1
            async with self.ended:
                self.ended.notify_all()

    @hub_method(name="Sum")
    async def sum(self, connection: HubContext, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @hub_method(name="SumAndTell")
    async def sum_and_tell(self, connection: HubContext, numbers: AsyncIterator[int]) -> None:
        connection.send("Summed", await self.sum(connection, numbers))

    @hub_method(name="Doubled")
    async def doubled(self, connection: HubContext, numbers: AsyncIterator[int], plus: int) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number + plus

    # --- ends

    @hub_method(name="Bye")
    def bye(self, connection: HubContext, error: str | None, allow_reconnect: bool) -> str:
        connection.close(error=error, allow_reconnect=allow_reconnect)
        return "bye"

    @hub_method(name="Abort")
    def abort(self, connection: HubContext) -> None:
        connection.abort()


class FickleHub(EverythingHub):
    """Nobody can stay here."""

    async def on_connected(self, connection: HubContext) -> None:
        # Clients exist whose start() never ends when the Close comes right behind the handshake's answer.
        await self.gate(connection.request.query.get("gate") or "").wait()
        raise HubException("closed today")


def authenticate(request: ConnectionRequest) -> str:
    """The token in the header or in the query, as ASP.NET Core applications read it."""
    header = request.headers.get("authorization") or ""
    token = header.removeprefix("Bearer ") if header else request.query.get("access_token")
    if token != TOKEN:
        raise ConnectionDenied(401, headers={"WWW-Authenticate": "Bearer"})
    return "ada"


def complain(notice: Notice) -> None:
    """Print what no test provokes: whatever is on standard error fails the tests."""
    if notice.kind is NoticeKind.CALLBACK_FAILED and not isinstance(notice.error, HubException):
        traceback.print_exception(notice.error)


def endpoints() -> dict[str, HubEndpoint]:
    """`plain` has ASP.NET Core's own defaults; `quick` does in a moment what takes others many seconds."""
    terse = ConnectionLimits(detailed_errors=False)
    quick = HubOptions(
        limits=ConnectionLimits(handshake_timeout=0.3, keep_alive=0.1, timeout=0.4),
        negotiation_timeout=0.3,
        poll_timeout=0.2,
        disconnect_timeout=0.4,
        close_timeout=0.2,
        send_timeout=0.4,
    )
    made: dict[str, dict[str, Any]] = {
        "plain": {"options": HubOptions(limits=terse)},
        "detailed": {},
        "quick": {"options": quick},
        "guarded": {"authenticate": authenticate},
        "sockets": {"options": HubOptions(transports=(Transport.WEB_SOCKETS,))},
        "polls": {"options": HubOptions(transports=(Transport.LONG_POLLING,), stateful_reconnect=False)},
        "parallel": {"options": HubOptions(max_parallel_invocations=2)},
        "fickle": {"hub": FickleHub()},
    }
    return {
        f"/{name}": HubEndpoint(more.pop("hub", None) or EverythingHub(), path=f"/{name}", notify=complain, **more)
        for name, more in made.items()
    }


class Application:
    """The hubs, and the tests' own way in."""

    def __init__(self, hubs: dict[str, HubEndpoint]) -> None:
        self.hubs = hubs
        self.stop: Callable[[], None] = lambda: None

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        for endpoint in self.hubs.values():
            if endpoint.handles(scope):
                await endpoint(scope, receive, send)
                return
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": message["type"] + ".complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
            return
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        body = json.dumps(await self._control(scope["path"].removeprefix("/control/"), query)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _control(self, order: str, query: dict[str, str]) -> object:
        endpoint = self.hubs["/" + query.get("hub", "plain")]
        hub = endpoint.hub
        assert isinstance(hub, EverythingHub)
        match order:
            case "state":
                gc.collect()
                return {
                    "live": endpoint.connection_count,
                    "connected": hub.connected,
                    "waiting": hub.waiting,
                    "cancelled_streams": hub.cancelled_streams,
                    "tasks": len(asyncio.all_tasks()),
                    "memory": resident_bytes(),
                    "text": repr(endpoint),
                }
            case "ended":
                # Answered once the hub has been told of this connection's end.
                async with hub.ended:
                    await hub.ended.wait_for(lambda: query["id"] in hub.ends)
                return hub.ends[query["id"]]
            case "stream_cancelled":
                async with hub.ended:
                    await hub.ended.wait_for(lambda: hub.cancelled_streams > 0)
                return hub.cancelled_streams
            case "forgotten":
                # Answered once nothing is promised to anybody any more.
                while "0 negotiated" not in repr(endpoint):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                return None
            case "empty":
                # Answered once nobody is connected any more.
                while endpoint.connection_count:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                return None
            case "open":
                hub.gate(query["gate"]).set()
                return None
            case "shutdown":
                await asyncio.gather(*(each.close() for each in self.hubs.values()))
                self.stop()
                return None
        return f"unknown order {order!r}"


def resident_bytes() -> int:
    """Memory of this process; where there is no /proc, the most it ever had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def serve(kind: str) -> None:
    hubs = endpoints()
    application = Application(hubs)
    # The protocol is named, not 0: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    quiet: dict[str, Any] = {"log_level": "critical", "timeout_graceful_shutdown": 1}
    if kind == "product":
        quiet |= {"http": "h11", "ws": websocket_class(list(hubs.values())), "ws_ping_interval": None}
    server = uvicorn.Server(uvicorn.Config(application, **quiet))

    def stop() -> None:
        server.should_exit = True

    application.stop = stop
    print(listener.getsockname()[1], flush=True)
    await server.serve(sockets=[listener])


def main(kind: str) -> None:
    factory = None
    if kind == "product":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(kind))


if __name__ == "__main__":
    main(sys.argv[1])
