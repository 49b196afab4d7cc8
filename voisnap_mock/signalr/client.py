"""HubClient: the other role over the same core, for tests, tools and users.

async with HubClient("http://127.0.0.1:8000/hubs/echo") as client:
    client.on("Said", print)
    length = await client.invoke("Say", "hello")
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from voisnap_mock.signalr.binder import Signature
from voisnap_mock.signalr.client_transports import ClientTransport, WebSocketTransport
from voisnap_mock.signalr.connection import ConnectionFailed, ConnectionLimits, HubConnection, HubEvent, Role, State
from voisnap_mock.signalr.errors import ConnectionClosed, HandshakeError, HubError, NegotiationError, SignalRError
from voisnap_mock.signalr.http_client import request
from voisnap_mock.signalr.messages import (
    VOID,
    BindingFailure,
    Close,
    Completion,
    HandshakeResponse,
    HubMessage,
    Invocation,
)
from voisnap_mock.signalr.protocols import JsonHubProtocol
from voisnap_mock.signalr.tasks import Clock, LoopClock, Tasks

logger = logging.getLogger(__name__)

AccessToken = str | Callable[[], str | Awaitable[str]]
Handler = Callable[..., object]

_CLIENT_LIMITS = ConnectionLimits(max_message_bytes=None)
_MAX_REDIRECTS = 100


class HubClient:
    """A client of one hub.

    Args:
        url: of the hub, `http`, `https`, `ws` or `wss`; its query is kept.
        access_token: sent as a Bearer header with every request; a callable is asked for each connection.
        headers: sent with every request.
        skip_negotiation: open the WebSocket directly.
        clock: for keep-alive and time-outs; by default the event loop's.
        limits: keep-alive and time-outs.
        tls: how to trust an `https` server.
    """

    def __init__(
        self,
        url: str,
        *,
        access_token: AccessToken | None = None,
        headers: Mapping[str, str] | None = None,
        skip_negotiation: bool = False,
        clock: Clock | None = None,
        limits: ConnectionLimits = _CLIENT_LIMITS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        scheme, _, rest = url.partition("://")
        http_scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
        if http_scheme not in ("http", "https") or not rest:
            raise ValueError(f"{_without_query(url)!r} is no address of a hub: expected http://host:port/path")
        self._url = f"{http_scheme}://{rest}"
        self._access_token = access_token
        self._headers = dict(headers or {})
        self._skip_negotiation = skip_negotiation
        self._clock: Clock = clock or LoopClock()
        self._limits = limits
        self._tls = tls
        self._handlers: dict[str, list[Handler]] = {}
        self._signatures: dict[str, Signature] = {}
        self._calls: dict[str, tuple[asyncio.Future[Any], Any]] = {}
        self._last_id = 0
        self._connection: HubConnection | None = None
        self._transport: ClientTransport | None = None
        self._tasks = Tasks(self._task_failed)
        self._wake = asyncio.Event()
        self._opened: asyncio.Future[None] | None = None
        self._over = asyncio.Event()
        self._error: ConnectionClosed | None = None
        self.connection_id: str | None = None

    def __repr__(self) -> str:
        state = "not connected" if self._connection is None else self._connection.state.name
        return f"<HubClient {_without_query(self._url)} {state}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # --- public face

    def on(self, target: str, handler: Handler, *kinds: type) -> None:
        """Call `handler` when the server calls `target`; matched without regard to case.

        What the handler returns is the answer when the server wants one. A coroutine function runs in a task.

        Args:
            kinds: the types of the arguments, for example `bytes`; without them arguments are plain decoded values.
        """
        name = target.lower()
        self._handlers.setdefault(name, []).append(handler)
        if kinds:
            self._signatures[name] = Signature(tuple(f"argument{n}" for n in range(1, len(kinds) + 1)), kinds)

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.state is State.OPEN and not self._over.is_set()

    @property
    def closed(self) -> Awaitable[None]:
        """Await this to learn of the connection's end.

        Raises (when awaited):
            ConnectionClosed: it ended with an error, or was lost.
        """
        return _Closed(self)

    async def start(self) -> None:
        """Negotiate, connect and shake hands.

        Raises:
            NegotiationError: the server refused; `status` says how.
            HandshakeError: the server refused the protocol.
            ConnectionClosed: the connection broke on the way.
            OSError: there is no server.
        """
        if self._connection is not None:
            raise RuntimeError("a HubClient connects once; make a new one")
        headers = await self._request_headers()
        url = self._url
        if not self._skip_negotiation:
            url, headers = await self._negotiate(url, headers)
        transport = WebSocketTransport(url, headers=headers, tls=self._tls)
        await transport.open()
        self._transport = transport
        now = self._clock.monotonic()
        self._connection = HubConnection(
            Role.CLIENT, [JsonHubProtocol()], now=now, types=_ClientTypes(self), limits=self._limits
        )
        self._opened = asyncio.get_running_loop().create_future()
        self._wake.set()
        self._tasks.start(self._write())
        self._tasks.start(self._read())
        self._tasks.start(self._keep_time())
        try:
            await self._opened
        except BaseException:
            await self._shut()
            raise

    async def stop(self) -> None:
        """Say Close and disconnect; does nothing on a connection that is over."""
        connection, transport = self._connection, self._transport
        if connection is not None and transport is not None and connection.state is State.OPEN:
            connection.send(Close(), self._clock.monotonic())
            with suppress(SignalRError, OSError):
                while data := connection.bytes_to_send():
                    await transport.send(data, binary=self._is_binary)
        self._end(None)
        await self._shut()

    async def invoke(self, target: str, *arguments: object, expect: Any = object) -> Any:
        """Call a hub method and wait for its result.

        Args:
            expect: the result's type, for example `bytes` or a dataclass; by default a plain decoded value.

        Raises:
            HubError: the server answered with an error.
            ConnectionClosed: the connection ended before the answer.
        """
        self._last_id += 1
        invocation_id = str(self._last_id)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[invocation_id] = (answer, expect)
        try:
            self._send(Invocation(target, arguments, invocation_id))
            return await answer
        finally:
            self._calls.pop(invocation_id, None)

    async def send(self, target: str, *arguments: object) -> None:
        """Call a hub method without waiting for anything but the connection's readiness to take more.

        Raises:
            ConnectionClosed: the connection is over.
        """
        self._send(Invocation(target, arguments))
        await asyncio.sleep(0)

    # --- inside

    def _send(self, message: HubMessage) -> None:
        connection = self._connection
        if connection is None or connection.state is not State.OPEN or self._over.is_set():
            raise self._error or ConnectionClosed("the connection is not open")
        connection.send(message, self._clock.monotonic())
        self._wake.set()

    @property
    def _is_binary(self) -> bool:
        connection = self._connection
        assert connection is not None
        assert connection.protocol is not None
        # The handshake request is text whatever follows, but a server takes it in either kind of frame.
        return connection.protocol.transfer_format == "Binary"

    async def _request_headers(self) -> dict[str, str]:
        headers = dict(self._headers)
        token = self._access_token
        if callable(token):
            given = token()
            token = await given if inspect.isawaitable(given) else given
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _negotiate(self, url: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Follows redirects; returns where and with which headers to connect."""
        for _ in range(_MAX_REDIRECTS):
            response = await request("POST", _with_negotiate(url), headers=headers, tls=self._tls)
            if response.status != 200:
                raise NegotiationError(
                    f"negotiate at {_without_query(url)} was answered with HTTP status {response.status}",
                    status=response.status,
                    body=response.body,
                )
            try:
                answer = msgspec.json.decode(response.body, type=_NegotiateAnswer)
            except msgspec.DecodeError as error:
                raise NegotiationError(f"negotiate was answered with no JSON object: {error}", status=200) from error
            if answer.error:
                raise NegotiationError(answer.error, status=200, body=response.body)
            if answer.url:
                url = answer.url
                if answer.access_token:
                    headers = headers | {"Authorization": f"Bearer {answer.access_token}"}
                continue
            token = answer.connection_token or answer.connection_id
            if not token:
                raise NegotiationError("negotiate was answered without a connection id", status=200)
            self.connection_id = answer.connection_id
            return _with_parameter(url, "id", token), headers
        raise NegotiationError(f"negotiate was redirected more than {_MAX_REDIRECTS} times")

    async def _write(self) -> None:
        connection, transport = self._connection, self._transport
        assert connection is not None
        assert transport is not None
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while data := connection.bytes_to_send():
                    await transport.send(data, binary=self._is_binary)
        except (SignalRError, OSError):
            # The reader learns of it too, and knows more.
            return

    async def _read(self) -> None:
        connection, transport = self._connection, self._transport
        assert connection is not None
        assert transport is not None
        try:
            while not self._over.is_set():
                data = await transport.receive()
                if not data:
                    self._end(ConnectionClosed("the server closed the transport without a Close message"))
                    return
                for event in connection.receive_bytes(data, self._clock.monotonic()):
                    self._take(event)
                if connection.unsent_bytes:
                    self._wake.set()
        except (SignalRError, OSError) as error:
            closed = error if isinstance(error, ConnectionClosed) else ConnectionClosed(str(error))
            self._end(closed)

    async def _keep_time(self) -> None:
        connection = self._connection
        assert connection is not None
        while (at := connection.next_deadline()) is not None:
            await self._clock.sleep_until(at)
            for event in connection.handle_deadline(self._clock.monotonic()):
                self._take(event)
            if connection.unsent_bytes:
                self._wake.set()

    def _take(self, event: HubEvent) -> None:
        match event:
            case HandshakeResponse():
                assert self._opened is not None
                self._opened.set_result(None)
            case ConnectionFailed(error):
                if self._opened is not None and not self._opened.done():
                    self._opened.set_exception(HandshakeError(error.detail))
                self._end(ConnectionClosed(str(error)))
            case Close():
                if event.error or event.allow_reconnect:
                    text = (
                        f"Server returned an error on close: {event.error}" if event.error else "closed by the server"
                    )
                    self._end(ConnectionClosed(text, error=event.error, allow_reconnect=event.allow_reconnect))
                else:
                    self._end(None)
            case Completion():
                self._complete(event)
            case BindingFailure():
                if not event.target and event.invocation_id in self._calls:
                    self._calls[event.invocation_id][0].set_exception(HubError(event.detail))
                else:
                    logger.warning("arguments of %s do not fit: %s", event.target, event.detail)
                    if event.invocation_id is not None:
                        self._reply(Completion(event.invocation_id, error=event.detail))
            case Invocation():
                self._call_handlers(event)
            case _:
                pass

    def _complete(self, completion: Completion) -> None:
        answer, _ = self._calls.get(completion.invocation_id, (None, None))
        if answer is None or answer.done():
            return
        if completion.error is not None:
            answer.set_exception(HubError(completion.error))
        else:
            answer.set_result(None if completion.result is VOID else completion.result)

    def _call_handlers(self, invocation: Invocation) -> None:
        handlers = self._handlers.get(invocation.target.lower(), ())
        if not handlers:
            logger.debug("no handler for %s", invocation.target)
            if invocation.invocation_id is not None:
                self._reply(Completion(invocation.invocation_id, error="Client didn't provide a result."))
            return
        for handler in handlers:
            try:
                result = handler(*invocation.arguments)
            except Exception as error:  # noqa: BLE001 - the outermost frame of a user's handler
                self._handler_failed(invocation, error)
                continue
            if inspect.isawaitable(result):
                self._tasks.start(self._finish(invocation, result))
            elif invocation.invocation_id is not None:
                self._reply(Completion(invocation.invocation_id, result))

    async def _finish(self, invocation: Invocation, result: Awaitable[object]) -> None:
        try:
            value = await result
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame of a user's handler
            self._handler_failed(invocation, error)
        else:
            if invocation.invocation_id is not None:
                self._reply(Completion(invocation.invocation_id, value))

    def _handler_failed(self, invocation: Invocation, error: Exception) -> None:
        logger.error("the handler of %s failed", invocation.target, exc_info=error)
        if invocation.invocation_id is not None:
            self._reply(Completion(invocation.invocation_id, error=f"{type(error).__name__}: {error}"))

    def _reply(self, completion: Completion) -> None:
        with suppress(ConnectionClosed):
            self._send(completion)

    def _end(self, error: ConnectionClosed | None) -> None:
        if self._over.is_set():
            return
        self._error = error
        self._over.set()
        if self._connection is not None:
            self._connection.lose_transport()
        reason = error or ConnectionClosed("the connection was closed")
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(reason)
        for answer, _ in self._calls.values():
            if not answer.done():
                answer.set_exception(ConnectionClosed(str(reason), error=reason.error))
        if self._transport is not None:
            self._tasks.start(self._close_transport(self._transport))

    async def _close_transport(self, transport: ClientTransport) -> None:
        with suppress(SignalRError, OSError):
            await transport.close()

    async def _shut(self) -> None:
        if self._transport is not None:
            await self._close_transport(self._transport)
        await self._tasks.close()

    def _task_failed(self, error: BaseException) -> None:
        logger.error("a task of the hub client failed", exc_info=error)
        self._end(ConnectionClosed(f"the client failed: {type(error).__name__}: {error}"))


class _NegotiateAnswer(msgspec.Struct, rename="camel"):
    connection_id: str | None = None
    connection_token: str | None = None
    url: str | None = None
    access_token: str | None = None
    error: str | None = None


class _ClientTypes:
    def __init__(self, client: HubClient) -> None:
        self._client = client

    def signature(self, target: str) -> Signature | None:
        return self._client._signatures.get(target.lower())

    def item_type(self, stream_id: str) -> Any:
        return object

    def result_type(self, invocation_id: str) -> Any:
        _, kind = self._client._calls.get(invocation_id, (None, object))
        return kind


class _Closed:
    def __init__(self, client: HubClient) -> None:
        self._client = client

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._client._over.wait().__await__()
        if self._client._error is not None:
            error = self._client._error
            raise ConnectionClosed(str(error), error=error.error, allow_reconnect=error.allow_reconnect)


def _with_negotiate(url: str) -> str:
    parts = urlsplit(url)
    query = parts.query if "negotiateVersion=" in parts.query else f"{parts.query}&negotiateVersion=1".lstrip("&")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/negotiate", query=query, fragment=""))


def _with_parameter(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = f"{parts.query}&{name}={quote(value, safe='')}".lstrip("&")
    return urlunsplit(parts._replace(query=query, fragment=""))


def _without_query(url: str) -> str:
    """For messages: a query may hold a token."""
    return url.partition("?")[0]
