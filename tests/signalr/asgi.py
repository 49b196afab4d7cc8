"""Drives an ASGI application with queues: requests whose answers stream, and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def _scope(kind: str, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    path, _, query = url.partition("?")
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 50_000),
        "server": ("testserver", 80),
        "scheme": "http",
    }


def _headers(raw: Any) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in raw}


class Request:
    """An HTTP request under way."""

    def __init__(
        self,
        app: App,
        method: str,
        url: str,
        *,
        body: bytes | list[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._to_app: asyncio.Queue[Any] = asyncio.Queue()
        pieces = [body] if isinstance(body, bytes) else body
        for number, piece in enumerate(pieces, start=1):
            self._to_app.put_nowait({"type": "http.request", "body": piece, "more_body": number < len(pieces)})
        scope = _scope("http", url, headers or {}) | {"method": method}
        self._task = asyncio.create_task(self._run(app, scope))
        self._ended = False

    async def _run(self, app: App, scope: Any) -> None:
        try:
            await app(scope, self._to_app.get, self._sent.put)
        finally:
            self._sent.put_nowait({"type": "end"})

    async def head(self) -> tuple[int, dict[str, str]]:
        message = await self._sent.get()
        assert message["type"] == "http.response.start", message
        return message["status"], _headers(message["headers"])

    async def chunk(self) -> bytes:
        """The next piece of the body; empty at its end."""
        if self._ended:
            return b""
        message = await self._sent.get()
        if message["type"] == "end":
            return b""
        self._ended = not message.get("more_body", False)
        return bytes(message["body"])

    async def answer(self) -> Answer:
        status, headers = await self.head()
        body = b""
        while not self._ended:
            body += await self.chunk()
        await self._task
        return Answer(status, headers, body)

    def disconnect(self) -> None:
        self._to_app.put_nowait({"type": "http.disconnect"})

    async def finished(self) -> None:
        await self._task

    @property
    def is_done(self) -> bool:
        return self._task.done()


async def fetch(
    app: App, method: str, url: str, *, body: bytes | list[bytes] = b"", headers: Mapping[str, str] | None = None
) -> Answer:
    return await Request(app, method, url, body=body, headers=headers).answer()


class Socket:
    """A WebSocket from the client's side."""

    def __init__(self, app: App, url: str, *, headers: Mapping[str, str] | None = None, can_deny: bool = True) -> None:
        self._from_app: asyncio.Queue[Any] = asyncio.Queue()
        self._to_app: asyncio.Queue[Any] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        scope = _scope("websocket", url, headers or {}) | {
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}} if can_deny else {},
        }
        self.writable = asyncio.Event()
        self.writable.set()
        self._task = asyncio.create_task(app(scope, self._to_app.get, self._put))  # type: ignore[arg-type]

    async def _put(self, message: Any) -> None:
        await self.writable.wait()
        self._from_app.put_nowait(message)

    async def next(self) -> Any:
        """The application's next ASGI message."""
        return await self._from_app.get()

    async def accepted(self) -> Socket:
        message = await self.next()
        assert message["type"] == "websocket.accept", message
        return self

    async def denied(self) -> Answer:
        message = await self.next()
        assert message["type"] == "websocket.http.response.start", message
        body = await self.next()
        await self._task
        return Answer(message["status"], _headers(message["headers"]), body["body"])

    def send(self, data: str | bytes) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})

    async def receive(self) -> str | bytes:
        message = await self.next()
        assert message["type"] == "websocket.send", message
        data: str | bytes = message["text"] if message.get("bytes") is None else message["bytes"]
        return data

    async def closed(self) -> tuple[int, str]:
        """The application's close; then its end."""
        message = await self.next()
        assert message["type"] == "websocket.close", message
        await self._task
        return message["code"], message.get("reason", "")

    def close(self, code: int = 1000) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code})

    def lose(self) -> None:
        """The socket is gone without a close frame."""
        self.close(1006)

    @property
    def has_message(self) -> bool:
        return not self._from_app.empty()

    async def finished(self) -> None:
        await asyncio.wait_for(self._task, 5)
