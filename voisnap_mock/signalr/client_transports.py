"""What carries a HubClient's bytes: WebSockets, Server-Sent Events with POST, long polling with POST."""

from __future__ import annotations

import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, Protocol, TypeAlias

from voisnap_mock.signalr.errors import ConnectionClosed, NegotiationError
from voisnap_mock.signalr.http_client import open_request, request
from voisnap_mock.signalr.transports import SseReader, Transport

Headers: TypeAlias = Callable[[], Awaitable[dict[str, str]]]

# At "debug", `websockets` logs the request line and headers of every opening, tokens included.
_quiet = logging.getLogger(f"{__name__}.frames")
_quiet.setLevel(logging.WARNING)


class ClientTransport(Protocol):
    """A transport from the client's side."""

    async def open(self) -> None:
        """Connect.

        Raises:
            NegotiationError: the server refused.
            OSError: there is no server.
        """
        ...

    async def send(self, data: bytes, *, binary: bool) -> None:
        """Raises:
        ConnectionClosed: the connection is over.
        """
        ...

    async def receive(self) -> bytes:
        """The next piece; empty when the server has ended the transport in order.

        Raises:
            ConnectionClosed: it broke.
        """
        ...

    async def close(self) -> None: ...

    def abort(self) -> None:
        """The server has fallen silent: `close` need not wait for it."""
        ...


class WebSocketTransport:
    """WebSockets, by the `websockets` library."""

    def __init__(self, url: str, *, headers: Headers, tls: ssl.SSLContext | None = None) -> None:
        scheme, _, rest = url.partition("://")
        self._url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}"
        self._headers = headers
        self._tls = tls
        self._socket: Any = None

    async def open(self) -> None:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

        tls: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        try:
            self._socket = await connect(
                self._url,
                additional_headers=await self._headers(),
                compression=None,
                logger=_quiet,
                max_size=None,
                ping_interval=None,
                close_timeout=5,
                proxy=None,
                **tls,
            )
        except InvalidStatus as error:
            response = error.response
            raise NegotiationError(
                f"the WebSocket was refused with HTTP status {response.status_code}",
                status=response.status_code,
                body=bytes(response.body or b""),
            ) from error
        except (InvalidHandshake, InvalidMessage) as error:
            raise NegotiationError(f"the WebSocket could not be opened: {error}") from error

    async def send(self, data: bytes, *, binary: bool) -> None:
        from websockets.exceptions import ConnectionClosed as Gone

        try:
            await self._socket.send(data, text=not binary)
        except Gone as error:
            raise ConnectionClosed(f"the WebSocket is closed: {error}") from error

    async def receive(self) -> bytes:
        from websockets.exceptions import ConnectionClosed as Gone
        from websockets.exceptions import ConnectionClosedOK

        try:
            data: bytes = await self._socket.recv(decode=False)
        except ConnectionClosedOK:
            return b""
        except Gone as error:
            raise ConnectionClosed(f"the WebSocket broke: {error.__cause__ or error}") from error
        return data

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()


async def _post(url: str, data: bytes, headers: Headers, tls: ssl.SSLContext | None) -> None:
    try:
        answer = await request("POST", url, headers=await headers(), body=data, tls=tls)
    except OSError as error:
        raise ConnectionClosed(f"the server cannot be reached: {error}") from error
    if answer.status != 200:
        raise ConnectionClosed(f"the server took no data: HTTP status {answer.status} {answer.body[:200]!r}")


class EventStreamTransport:
    """Server-Sent Events from the server, POST requests to it."""

    def __init__(self, url: str, *, headers: Headers, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._headers = headers
        self._tls = tls
        self._exit = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] | None = None
        self._reader = SseReader()
        self._events: deque[bytes] = deque()

    async def open(self) -> None:
        headers = {**await self._headers(), "Accept": "text/event-stream"}
        stream = await self._exit.enter_async_context(open_request("GET", self._url, headers=headers, tls=self._tls))
        if stream.status != 200:
            await self.close()
            raise NegotiationError(
                f"the event stream was refused with HTTP status {stream.status}", status=stream.status
            )
        self._chunks = stream.chunks()

    async def send(self, data: bytes, *, binary: bool) -> None:
        await _post(self._url, data, self._headers, self._tls)

    async def receive(self) -> bytes:
        assert self._chunks is not None
        try:
            while not self._events:
                self._events.extend(self._reader.feed(await anext(self._chunks)))
        except StopAsyncIteration:
            return b""
        except OSError as error:
            raise ConnectionClosed(f"the event stream broke: {error}") from error
        return self._events.popleft()

    async def close(self) -> None:
        with suppress(OSError):
            await self._exit.aclose()

    def abort(self) -> None:
        """There is nothing to wait for."""


class LongPollingTransport:
    """One GET after the other from the server, POST requests to it."""

    def __init__(self, url: str, *, headers: Headers, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._headers = headers
        self._tls = tls
        self._over = False

    async def open(self) -> None:
        answer = await request("GET", self._url, headers=await self._headers(), tls=self._tls)
        if answer.status != 200:
            raise NegotiationError(
                f"the first poll was refused with HTTP status {answer.status}",
                status=answer.status,
                body=answer.body,
            )

    async def send(self, data: bytes, *, binary: bool) -> None:
        await _post(self._url, data, self._headers, self._tls)

    async def receive(self) -> bytes:
        while True:
            try:
                answer = await request("GET", self._url, headers=await self._headers(), tls=self._tls)
            except OSError as error:
                raise ConnectionClosed(f"the poll broke: {error}") from error
            if answer.status == 204:
                self._over = True
                return b""
            if answer.status != 200:
                self._over = True
                raise ConnectionClosed(f"the poll was answered with HTTP status {answer.status}")
            if answer.body:
                return answer.body

    async def close(self) -> None:
        if not self._over:
            self._over = True
            with suppress(OSError):
                await request("DELETE", self._url, headers=await self._headers(), tls=self._tls)

    def abort(self) -> None:
        self._over = True


TRANSPORTS: Final[dict[Transport, type[WebSocketTransport | EventStreamTransport | LongPollingTransport]]] = {
    Transport.WEB_SOCKETS: WebSocketTransport,
    Transport.SERVER_SENT_EVENTS: EventStreamTransport,
    Transport.LONG_POLLING: LongPollingTransport,
}
