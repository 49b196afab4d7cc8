"""One connection of a HubClient: negotiate, a transport and the core, until the end or a loss that stays one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from voisnap_mock.signalr.client_transports import TRANSPORTS, ClientTransport, Headers
from voisnap_mock.signalr.connection import ConnectionFailed, ConnectionLimits, HubConnection, HubEvent, Role, State
from voisnap_mock.signalr.errors import ConnectionClosed, HandshakeError, NegotiationError, SignalRError
from voisnap_mock.signalr.http_client import request
from voisnap_mock.signalr.messages import Close, HandshakeResponse, HubMessage
from voisnap_mock.signalr.protocols import HubProtocol, TransferFormat, Types
from voisnap_mock.signalr.tasks import Clock
from voisnap_mock.signalr.transports import TRANSFER_FORMATS, Transport

_MAX_REDIRECTS: Final = 100
_RESUME_DELAYS: Final = (0.0, 0.5, 2.0)
"""Seconds before each try to resume a lost connection; a server keeps it for 15 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """How to connect.

    Attributes:
        headers: asked for each request, so that a token may be fresh.
        transports: wanted, in this order.
    """

    url: str
    headers: Headers
    protocol: HubProtocol
    transports: tuple[Transport, ...]
    skip_negotiation: bool
    stateful: bool
    limits: ConnectionLimits
    clock: Clock
    tls: ssl.SSLContext | None
    types: Types


class Session:
    """A connection that has shaken hands once.

    Attributes:
        connection_id: public; None without negotiate.
        transport: which it is.
    """

    def __init__(self, plan: SessionPlan, deliver: Callable[[HubMessage], None]) -> None:
        self._plan = plan
        self._deliver = deliver
        self._url = plan.url
        self._headers = plan.headers
        self._wake = asyncio.Event()
        self._ended: asyncio.Future[ConnectionClosed | None] = asyncio.get_running_loop().create_future()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._carrier: ClientTransport | None = None
        self._connection: HubConnection | None = None
        self._stateful = False
        self.connection_id: str | None = None
        self.transport = Transport.WEB_SOCKETS

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.state is State.OPEN and not self._ended.done()

    def send(self, message: HubMessage) -> None:
        """Queue a message.

        Raises:
            ConnectionClosed: the connection is not open.
            LocalProtocolError: it cannot be serialised.
        """
        if not self.is_open:
            raise ConnectionClosed("the connection is not open")
        assert self._connection is not None
        self._connection.send(message, self._plan.clock.monotonic())
        self._wake.set()

    async def open(self) -> None:
        """Negotiate and connect the transport; the handshake is `run`'s.

        Raises:
            NegotiationError: the server refused.
            OSError: there is no server.
        """
        plan = self._plan
        if plan.skip_negotiation:
            self._carrier = TRANSPORTS[Transport.WEB_SOCKETS](plan.url, headers=plan.headers, tls=plan.tls)
            await self._carrier.open()
        else:
            await self._open_negotiated()
        self._connection = HubConnection(
            Role.CLIENT,
            [plan.protocol],
            now=plan.clock.monotonic(),
            types=plan.types,
            # A poll may wait for longer than any time-out, and the server sends no pings then.
            limits=replace(plan.limits, timeout=None) if self.transport is Transport.LONG_POLLING else plan.limits,
            stateful=self._stateful,
            version=2 if self._stateful else 1,
        )

    async def _open_negotiated(self) -> None:
        plan = self._plan
        errors: list[NegotiationError] = []
        answer = await self._negotiate()
        offered = {offer.transport: offer.transfer_formats for offer in answer.available_transports}
        usable = [
            transport
            for transport in plan.transports
            if plan.protocol.transfer_format in offered.get(transport, ())
            and plan.protocol.transfer_format in TRANSFER_FORMATS[transport]
        ]
        for number, transport in enumerate(usable):
            if number:
                # The connection of a failed try is spent.
                answer = await self._negotiate()
            self._stateful = answer.use_stateful_reconnect and transport is Transport.WEB_SOCKETS
            token = answer.connection_token or answer.connection_id
            assert token is not None
            url = _with_parameter(self._url, "id", token)
            carrier = TRANSPORTS[transport](url, headers=self._headers, tls=plan.tls)
            try:
                await carrier.open()
            except NegotiationError as error:
                errors.append(error)
                continue
            self._carrier, self.transport, self._url = carrier, transport, url
            self.connection_id = answer.connection_id
            return
        if errors:
            raise errors[0]
        wanted = ", ".join(plan.transports)
        raise NegotiationError(
            f"none of the wanted transports ({wanted}) can carry {plan.protocol.name}; "
            f"the server offers {', '.join(offered) or 'none'}",
            status=200,
        )

    async def _negotiate(self) -> _Answer:
        """Follows redirects; leaves the address and the headers to use in this session."""
        plan = self._plan
        for _ in range(_MAX_REDIRECTS):
            address = _negotiate_address(self._url, stateful=plan.stateful)
            response = await request("POST", address, headers=await self._headers(), tls=plan.tls)
            where = f"negotiate at {without_query(self._url)}"
            if response.status != 200:
                raise NegotiationError(
                    f"{where} was answered with HTTP status {response.status}",
                    status=response.status,
                    body=response.body,
                )
            try:
                answer = msgspec.json.decode(response.body, type=_Answer)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise NegotiationError(f"{where} was not answered by a SignalR server: {error}", status=200) from error
            if answer.error:
                raise NegotiationError(answer.error, status=200, body=response.body)
            if answer.url:
                self._url = answer.url
                if answer.access_token:
                    self._headers = _with_token(plan.headers, answer.access_token)
                continue
            if not (answer.connection_token or answer.connection_id):
                raise NegotiationError(f"{where} was answered without a connection id", status=200)
            return answer
        raise NegotiationError(f"negotiate was redirected more than {_MAX_REDIRECTS} times")

    async def shaken(self) -> None:
        """Until the handshake is done; `run` must be running.

        Raises:
            HandshakeError: the server refused the protocol.
            ConnectionClosed: the connection ended before.
        """
        await self._opened

    async def run(self) -> ConnectionClosed | None:
        """Carry the connection until it is over; None for an end in order."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part()) for part in (self._read, self._write, self._keep_time)]
            try:
                return await asyncio.shield(self._ended)
            finally:
                for task in tasks:
                    task.cancel()

    async def close(self) -> None:
        """Say Close, as far as the transport still carries it, and disconnect."""
        connection, carrier = self._connection, self._carrier
        if connection is not None and carrier is not None and connection.state is State.OPEN and self.is_open:
            connection.send(Close(), self._plan.clock.monotonic())
            with suppress(SignalRError, OSError):
                while data := connection.bytes_to_send():
                    await carrier.send(data, binary=self._is_binary)
        self._end(None)
        await self.disconnect()

    async def disconnect(self) -> None:
        if self._carrier is not None:
            with suppress(SignalRError, OSError):
                await self._carrier.close()

    @property
    def _is_binary(self) -> bool:
        return self._plan.protocol.transfer_format is TransferFormat.BINARY

    async def _write(self) -> None:
        connection = self._connection
        assert connection is not None
        while True:
            await self._wake.wait()
            self._wake.clear()
            carrier = self._carrier
            assert carrier is not None
            # The reader learns of a loss too, and knows more.
            with suppress(SignalRError, OSError):
                while data := connection.bytes_to_send():
                    await carrier.send(data, binary=self._is_binary)

    async def _read(self) -> None:
        connection, clock = self._connection, self._plan.clock
        assert connection is not None
        self._wake.set()
        while not self._ended.done():
            carrier = self._carrier
            assert carrier is not None
            try:
                data = await carrier.receive()
            except (SignalRError, OSError) as error:
                if not await self._resume():
                    self._end(ConnectionClosed(str(error), lost=True))
                continue
            if not data:
                # To a client with automatic reconnect this is a loss like any other.
                self._end(ConnectionClosed("the server closed the transport without a Close message", lost=True))
                return
            for event in connection.receive_bytes(data, clock.monotonic()):
                self._take(event)
            if connection.unsent_bytes:
                self._wake.set()

    async def _resume(self) -> bool:
        """Try to carry a stateful connection on over a new transport."""
        connection, plan = self._connection, self._plan
        if connection is None or not connection.can_resume:
            return False
        connection.suspend()
        await self.disconnect()
        for delay in _RESUME_DELAYS:
            if delay:
                await plan.clock.sleep_until(plan.clock.monotonic() + delay)
            carrier = TRANSPORTS[self.transport](self._url, headers=self._headers, tls=plan.tls)
            try:
                await carrier.open()
            except NegotiationError:
                return False
            except OSError:
                continue
            self._carrier = carrier
            connection.resume(plan.clock.monotonic())
            self._wake.set()
            return True
        return False

    async def _keep_time(self) -> None:
        connection, clock = self._connection, self._plan.clock
        assert connection is not None
        while not self._ended.done():
            at = connection.next_deadline()
            # Acks may fall due earlier than what was known when the sleep began.
            soonest = clock.monotonic() + 1.0
            await clock.sleep_until(soonest if at is None else min(at, soonest))
            for event in connection.handle_deadline(clock.monotonic()):
                if self._carrier is not None and isinstance(event, ConnectionFailed):
                    self._carrier.abort()
                self._take(event)
            if connection.unsent_bytes:
                self._wake.set()

    def _take(self, event: HubEvent) -> None:
        match event:
            case HandshakeResponse():
                self._opened.set_result(None)
            case ConnectionFailed(error):
                if not self._opened.done():
                    self._opened.set_exception(HandshakeError(error.detail))
                self._end(ConnectionClosed(str(error), lost=True))
            case Close():
                if event.error or event.allow_reconnect:
                    text = (
                        f"Server returned an error on close: {event.error}" if event.error else "closed by the server"
                    )
                    self._end(ConnectionClosed(text, error=event.error, allow_reconnect=event.allow_reconnect))
                else:
                    self._end(None)
            case _:
                self._deliver(event)  # type: ignore[arg-type]  # a client receives no HandshakeRequest

    def _end(self, error: ConnectionClosed | None) -> None:
        if self._ended.done():
            return
        if self._connection is not None:
            self._connection.lose_transport()
        self._ended.set_result(error)
        if not self._opened.done():
            self._opened.set_exception(error or ConnectionClosed("the connection was closed"))
            # It may be that nobody waits for it any more.
            self._opened.exception()


class _Offer(msgspec.Struct, rename="camel"):
    transport: str
    transfer_formats: tuple[str, ...] = ()


class _Answer(msgspec.Struct, rename="camel"):
    """Every member that an answer to negotiate may have."""

    connection_id: str | None = None
    connection_token: str | None = None
    available_transports: tuple[_Offer, ...] = ()
    use_stateful_reconnect: bool = False
    url: str | None = None
    access_token: str | None = None
    error: str | None = None


def without_query(url: str) -> str:
    """For messages: a query may hold a token."""
    return url.partition("?")[0]


def _with_token(headers: Headers, token: str) -> Headers:
    async def redirected() -> dict[str, str]:
        return {**await headers(), "Authorization": f"Bearer {token}"}

    return redirected


def _negotiate_address(url: str, *, stateful: bool) -> str:
    parts = urlsplit(url)
    query = parts.query
    if "negotiateVersion=" not in query:
        query = f"{query}&negotiateVersion=1".lstrip("&")
    if stateful:
        query += "&useStatefulReconnect=true"
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/negotiate", query=query, fragment=""))


def _with_parameter(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = f"{parts.query}&{name}={quote(value, safe='')}".lstrip("&")
    return urlunsplit(parts._replace(query=query, fragment=""))
