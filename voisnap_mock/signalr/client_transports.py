"""What carries a HubClient's bytes."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Protocol

from voisnap_mock.signalr.errors import ConnectionClosed, NegotiationError


class ClientTransport(Protocol):
    """A transport from the client's side."""

    async def open(self) -> None:
        """Connect.

        Raises:
            NegotiationError: the server refused; OSError: there is no server.
        """
        ...

    async def send(self, data: bytes, *, binary: bool) -> None: ...

    async def receive(self) -> bytes:
        """The next piece; empty when the server has ended the transport in order.

        Raises:
            ConnectionClosed: it broke.
        """
        ...

    async def close(self) -> None: ...


class WebSocketTransport:
    """WebSockets, by the `websockets` library."""

    def __init__(self, url: str, *, headers: Mapping[str, str], tls: ssl.SSLContext | None = None) -> None:
        scheme, _, rest = url.partition("://")
        self._url = f"{ {'http': 'ws', 'https': 'wss'}.get(scheme, scheme) }://{rest}"
        self._headers = headers
        self._tls = tls
        self._socket: Any = None

    async def open(self) -> None:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidStatus

        tls: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        try:
            self._socket = await connect(
                self._url,
                additional_headers=dict(self._headers),
                compression=None,
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
        except InvalidHandshake as error:
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
            raise ConnectionClosed(f"the WebSocket broke: {error}") from error
        return data

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
