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
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from voisnap_mock.signalr.binder import Signature, convert
from voisnap_mock.signalr.client_session import Session, SessionPlan, without_query
from voisnap_mock.signalr.connection import ConnectionLimits
from voisnap_mock.signalr.errors import BindingError, ConnectionClosed, HubError, SignalRError
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.messages import (
    VOID,
    BindingFailure,
    CancelInvocation,
    Completion,
    HubMessage,
    Invocation,
    StreamInvocation,
    StreamItem,
)
from voisnap_mock.signalr.protocols import HubProtocol, JsonHubProtocol
from voisnap_mock.signalr.tasks import Clock, LoopClock, Tasks
from voisnap_mock.signalr.transports import Transport

logger = logging.getLogger(__name__)

AccessToken: TypeAlias = str | Callable[[], str | Awaitable[str]]
Handler: TypeAlias = Callable[..., object]

RECONNECT_DELAYS: Final = (0.0, 2.0, 10.0, 30.0)
"""Seconds before each try of `automatic_reconnect`, as the JavaScript client has them."""

_CLIENT_LIMITS: Final = ConnectionLimits(max_message_bytes=None)
_PROTOCOLS: Final[dict[str, Callable[[], HubProtocol]]] = {
    "json": JsonHubProtocol,
    "messagepack": MessagePackHubProtocol,
}


class HubClient:
    """A client of one hub.

    Args:
        url: of the hub, `http`, `https`, `ws` or `wss`; its query is kept.
        access_token: sent as a Bearer header with every request; a callable is asked for each.
        headers: sent with every request.
        skip_negotiation: open a WebSocket directly.
        transports: wanted, in this order.
        protocol: `json` or `messagepack`.
        automatic_reconnect: seconds before each try to connect again after a loss, for example `RECONNECT_DELAYS`;
            empty for never. A Close message without `allowReconnect` is obeyed.
        stateful_reconnect: ask the server to carry a connection on over a new WebSocket after a loss.
        clock: for keep-alive, time-outs and delays; by default the event loop's.
        limits: keep-alive and time-outs.
        tls: how to trust an `https` server.

    Attributes:
        connection_id: as the server knows it, changed by automatic reconnect; None without negotiate.
    """

    def __init__(
        self,
        url: str,
        *,
        access_token: AccessToken | None = None,
        headers: Mapping[str, str] | None = None,
        skip_negotiation: bool = False,
        transports: Sequence[Transport] = tuple(Transport),
        protocol: str = "json",
        automatic_reconnect: Sequence[float] = (),
        stateful_reconnect: bool = False,
        clock: Clock | None = None,
        limits: ConnectionLimits = _CLIENT_LIMITS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        scheme, _, rest = url.partition("://")
        http_scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
        if http_scheme not in ("http", "https") or not rest:
            raise ValueError(f"{without_query(url)!r} is no address of a hub: expected http://host:port/path")
        if protocol not in _PROTOCOLS:
            raise ValueError(f"protocol {protocol!r} is unknown: expected {' or '.join(_PROTOCOLS)}")
        self._url = f"{http_scheme}://{rest}"
        self._access_token = access_token
        self._own_headers = dict(headers or {})
        self._delays = tuple(automatic_reconnect)
        self._clock: Clock = clock or LoopClock()
        self._plan = SessionPlan(
            url=self._url,
            headers=self._headers,
            protocol=_PROTOCOLS[protocol](),
            transports=tuple(transports),
            skip_negotiation=skip_negotiation,
            stateful=stateful_reconnect,
            limits=limits,
            clock=self._clock,
            tls=tls,
            types=self,
        )
        self._handlers: dict[str, list[Handler]] = {}
        self._signatures: dict[str, Signature] = {}
        self._on_reconnecting: list[Handler] = []
        self._on_reconnected: list[Handler] = []
        self._calls: dict[str, asyncio.Future[object]] = {}
        self._streams: dict[str, asyncio.Queue[object]] = {}
        self._last_id = 0
        self._session: Session | None = None
        self._tasks = Tasks(self._task_failed)
        self._over = asyncio.Event()
        self._error: ConnectionClosed | None = None
        self.connection_id: str | None = None

    def __repr__(self) -> str:
        return f"<HubClient {without_query(self._url)} {'open' if self.is_open else 'not open'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what the server may call

    def on(self, target: str, handler: Handler, *kinds: Any) -> None:
        """Call `handler` when the server calls `target`; matched without regard to case.

        What the handler returns is the answer when the server wants one. A coroutine function runs in a task.

        Args:
            kinds: the types of the arguments, for example `bytes`; without them arguments are plain decoded values.
        """
        name = target.lower()
        self._handlers.setdefault(name, []).append(handler)
        if kinds:
            self._signatures[name] = Signature(tuple(f"argument{n}" for n in range(1, len(kinds) + 1)), kinds)

    def on_reconnecting(self, handler: Handler) -> None:
        """Call `handler(error)` when the connection is lost and will be tried again."""
        self._on_reconnecting.append(handler)

    def on_reconnected(self, handler: Handler) -> None:
        """Call `handler(connection_id)` when a lost connection has been replaced by a new one."""
        self._on_reconnected.append(handler)

    def signature(self, target: str) -> Signature | None:
        """See `protocols.Types`."""
        return self._signatures.get(target.lower())

    # --- the connection

    @property
    def is_open(self) -> bool:
        return self._session is not None and self._session.is_open and not self._over.is_set()

    @property
    def transport(self) -> Transport | None:
        """Which one carries the connection."""
        return None if self._session is None else self._session.transport

    @property
    def closed(self) -> Awaitable[None]:
        """Await this to learn of the connection's end.

        Raises (when awaited):
            ConnectionClosed: it ended with an error, or was lost.
        """
        return _Closed(self._over, lambda: self._error)

    async def start(self) -> None:
        """Negotiate, connect and shake hands.

        Raises:
            NegotiationError: the server refused; `status` says how.
            HandshakeError: the server refused the protocol.
            ConnectionClosed: the connection broke on the way.
            OSError: there is no server.
        """
        if self._session is not None:
            raise RuntimeError("a HubClient is started once; make a new one")
        try:
            carried = await self._connect()
        except BaseException:
            self._over.set()
            await self._tasks.close()
            raise
        self._tasks.start(self._stay(carried))

    async def stop(self) -> None:
        """Say Close and disconnect; does nothing on a connection that is over."""
        self._finish(None)
        if self._session is not None:
            await self._session.close()
        await self._tasks.close()

    async def _connect(self) -> asyncio.Task[ConnectionClosed | None]:
        """Open a session; returns the task that carries it."""
        session = Session(self._plan, self._take)
        self._session = session
        await session.open()
        carried = asyncio.get_running_loop().create_task(session.run())
        try:
            await session.shaken()
        except BaseException:
            carried.cancel()
            with suppress(asyncio.CancelledError):
                await carried
            await session.disconnect()
            raise
        self.connection_id = session.connection_id
        return carried

    async def _stay(self, carried: asyncio.Task[ConnectionClosed | None]) -> None:
        """Until the connection is over for good, connect again as often as may be."""
        try:
            while True:
                error = await carried
                assert self._session is not None
                await self._session.disconnect()
                again = error is not None and (error.lost or error.allow_reconnect)
                if not again or not self._delays or self._over.is_set():
                    self._finish(error)
                    return
                assert error is not None
                self._fail_calls(error)
                self._tell(self._on_reconnecting, error)
                replaced = await self._reconnect()
                if replaced is None:
                    self._finish(error)
                    return
                carried = replaced
                self._tell(self._on_reconnected, self.connection_id)
        finally:
            carried.cancel()

    async def _reconnect(self) -> asyncio.Task[ConnectionClosed | None] | None:
        for delay in self._delays:
            await self._clock.sleep_until(self._clock.monotonic() + delay)
            if self._over.is_set():
                return None
            try:
                return await self._connect()
            except (SignalRError, OSError) as error:
                logger.debug("could not connect again: %s", error)
        return None

    async def _headers(self) -> dict[str, str]:
        headers = dict(self._own_headers)
        token = self._access_token
        if callable(token):
            given = token()
            token = await given if inspect.isawaitable(given) else given
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _finish(self, error: ConnectionClosed | None) -> None:
        if not self._over.is_set():
            self._error = error
            self._over.set()
            self._fail_calls(error or ConnectionClosed("the connection was closed"))

    def _fail_calls(self, reason: ConnectionClosed) -> None:
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(ConnectionClosed(str(reason), error=reason.error))
        for stream in self._streams.values():
            stream.put_nowait(ConnectionClosed(str(reason), error=reason.error))

    def _task_failed(self, error: BaseException) -> None:
        logger.error("a task of the hub client failed", exc_info=error)
        self._finish(ConnectionClosed(f"the client failed: {type(error).__name__}: {error}"))

    # --- calling the server

    async def invoke(self, target: str, *arguments: object, expect: Any = object) -> Any:
        """Call a hub method and wait for its result.

        Args:
            arguments: an async iterable among them is uploaded as a stream.
            expect: the result's type, for example `bytes` or a dataclass; by default a plain decoded value.

        Raises:
            HubError: the server answered with an error, or with another type.
            ConnectionClosed: the connection ended before the answer.
        """
        invocation_id = self._new_id()
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        plain, uploads = self._split(arguments)
        self._calls[invocation_id] = answer
        try:
            self._send(Invocation(target, plain, invocation_id, tuple(uploads)))
            self._upload(uploads)
            value = await answer
        finally:
            self._calls.pop(invocation_id, None)
        return _expected(value, expect, f"The result of '{target}'")

    async def send(self, target: str, *arguments: object) -> None:
        """Call a hub method without an answer.

        Raises:
            ConnectionClosed: the connection is over.
        """
        plain, uploads = self._split(arguments)
        self._send(Invocation(target, plain, None, tuple(uploads)))
        self._upload(uploads)
        await asyncio.sleep(0)

    async def stream(self, target: str, *arguments: object, expect: Any = object) -> AsyncIterator[Any]:
        """Call a streaming hub method; leaving the loop early cancels the stream at the server.

        Items that are not read yet are kept, however many.

        Raises:
            HubError: the server ended the stream with an error.
            ConnectionClosed: the connection ended before.
        """
        invocation_id = self._new_id()
        items: asyncio.Queue[object] = asyncio.Queue()
        plain, uploads = self._split(arguments)
        self._streams[invocation_id] = items
        ended = False
        try:
            self._send(StreamInvocation(target, plain, invocation_id, tuple(uploads)))
            self._upload(uploads)
            while True:
                item = await items.get()
                if isinstance(item, SignalRError):
                    ended = True
                    raise item
                if item is VOID:
                    ended = True
                    return
                yield _expected(item, expect, f"An item of '{target}'")
        finally:
            self._streams.pop(invocation_id, None)
            if not ended and self.is_open:
                self._send(CancelInvocation(invocation_id))

    def _new_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)

    def _send(self, message: HubMessage) -> None:
        if self._session is None or self._over.is_set():
            raise self._error or ConnectionClosed("the connection is not open")
        self._session.send(message)

    def _split(self, arguments: tuple[object, ...]) -> tuple[tuple[object, ...], dict[str, AsyncIterable[object]]]:
        """Plain arguments, and streams to upload by new ids."""
        plain = tuple(argument for argument in arguments if not isinstance(argument, AsyncIterable))
        uploads = {self._new_id(): argument for argument in arguments if isinstance(argument, AsyncIterable)}
        return plain, uploads

    def _upload(self, uploads: dict[str, AsyncIterable[object]]) -> None:
        for stream_id, items in uploads.items():
            self._tasks.start(self._upload_one(stream_id, items))

    async def _upload_one(self, stream_id: str, items: AsyncIterable[object]) -> None:
        error: str | None = None
        try:
            async for item in items:
                self._send(StreamItem(stream_id, item))
                await asyncio.sleep(0)
        except (asyncio.CancelledError, ConnectionClosed):
            return
        except Exception as failure:  # noqa: BLE001 - the outermost frame of a user's iterator
            error = f"{type(failure).__name__}: {failure}"
        self._reply(Completion(stream_id, error=error))

    # --- what comes

    def _take(self, message: HubMessage) -> None:
        match message:
            case Invocation():
                self._call_handlers(message)
            case Completion():
                self._complete(message)
            case StreamItem():
                if (stream := self._streams.get(message.invocation_id)) is not None:
                    stream.put_nowait(message.item)
            case BindingFailure():
                logger.warning("arguments of %s do not fit: %s", message.target, message.detail)
                if message.invocation_id is not None:
                    self._reply(Completion(message.invocation_id, error=message.detail))
            case _:
                pass

    def _complete(self, completion: Completion) -> None:
        error = None if completion.error is None else HubError(completion.error)
        if (stream := self._streams.get(completion.invocation_id)) is not None:
            stream.put_nowait(error or VOID)
            return
        answer = self._calls.get(completion.invocation_id)
        if answer is None or answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(None if completion.result is VOID else completion.result)

    def _call_handlers(self, invocation: Invocation) -> None:
        handlers = self._handlers.get(invocation.target.lower(), ())
        if not handlers:
            logger.debug("no handler for %s", invocation.target)
            if invocation.invocation_id is not None:
                self._reply(Completion(invocation.invocation_id, error="Client didn't provide a result."))
        for handler in handlers:
            try:
                result = handler(*invocation.arguments)
            except Exception as error:  # noqa: BLE001 - the outermost frame of a user's handler
                self._handler_failed(invocation, error)
                continue
            if result is not None and inspect.isawaitable(result):
                self._tasks.start(self._await_handler(invocation, result))
            elif invocation.invocation_id is not None:
                self._reply(Completion(invocation.invocation_id, result))

    async def _await_handler(self, invocation: Invocation, result: Awaitable[object]) -> None:
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

    def _tell(self, handlers: list[Handler], news: object) -> None:
        for handler in handlers:
            try:
                result = handler(news)
            except Exception as error:
                logger.error("a handler of reconnecting failed", exc_info=error)
                continue
            if inspect.isawaitable(result):
                self._tasks.start(_until_done(result))


async def _until_done(result: Awaitable[object]) -> None:
    await result


def _expected(value: object, kind: Any, what: str) -> Any:
    if kind is object:
        return value
    try:
        return convert(value, kind, what)
    except BindingError as error:
        raise HubError(error.detail) from error


class _Closed:
    def __init__(self, over: asyncio.Event, error: Callable[[], ConnectionClosed | None]) -> None:
        self._over = over
        self._error = error

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._over.wait().__await__()
        if (error := self._error()) is not None:
            raise ConnectionClosed(
                str(error), error=error.error, allow_reconnect=error.allow_reconnect, lost=error.lost
            )
