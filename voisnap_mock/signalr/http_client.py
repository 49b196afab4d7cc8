"""A small HTTP/1.1 client over asyncio streams, for negotiate and the two transports that are plain HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from voisnap_mock.signalr.transports import Parameters


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer."""

    status: int
    headers: Parameters
    body: bytes


class HttpStream:
    """An answer whose body is still coming: `async for chunk in stream.chunks()`."""

    def __init__(self, status: int, headers: Parameters, connection: Any, reader: asyncio.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._reader = reader

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of the body as they come.

        Raises:
            ConnectionError: the connection broke before the body's end.
        """
        import h11

        while True:
            event = await _next_event(self._connection, self._reader)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return


async def _next_event(connection: Any, reader: asyncio.StreamReader) -> Any:
    import h11

    while True:
        try:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65_536))
                continue
        except h11.RemoteProtocolError as error:
            raise ConnectionError(f"the server's HTTP answer cannot be read: {error}") from error
        return event


@asynccontextmanager
async def open_request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpStream]:
    """Send a request and yield once the head of its answer is there.

    Raises:
        OSError: no connection, or it broke.
    """
    import h11

    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    secure = parts.scheme in ("https", "wss")
    port = parts.port or (443 if secure else 80)
    context = (tls or ssl.create_default_context()) if secure else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        connection = h11.Connection(h11.CLIENT)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = [("Host", parts.netloc.rpartition("@")[2]), ("Connection", "close"), *(headers or {}).items()]
        head.append(("Content-Length", str(len(body))))
        writer.write(connection.send(h11.Request(method=method, target=target, headers=head)) or b"")
        if body:
            writer.write(connection.send(h11.Data(data=body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        event = await _next_event(connection, reader)
        while isinstance(event, h11.InformationalResponse):
            event = await _next_event(connection, reader)
        if not isinstance(event, h11.Response):
            raise ConnectionError("the server closed the connection without an answer")
        answered = Parameters((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
        yield HttpStream(event.status_code, answered, connection, reader)
    finally:
        writer.close()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> HttpResponse:
    """Send a request and read the whole answer.

    Raises:
        OSError: no connection, or it broke.
    """
    async with open_request(method, url, headers=headers, body=body, tls=tls) as stream:
        whole = b"".join([chunk async for chunk in stream.chunks()])
    return HttpResponse(stream.status, stream.headers, whole)
