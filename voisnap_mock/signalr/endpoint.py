"""HubEndpoint: one hub as an ASGI application.

Give it to a router as the application of exactly two paths, `path` and `path/negotiate`, for HTTP and WebSocket alike,
or ask `handles(scope)` in front of another application. Do not mount it under a prefix: a prefix mount redirects the
bare path, which SignalR clients use.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from voisnap_mock.signalr.asgi_wires import AsgiEventStream, AsgiWebSocket, LongPoll, Receive, Send, sever_request
from voisnap_mock.signalr.clients import HubClients
from voisnap_mock.signalr.connection import ConnectionLimits
from voisnap_mock.signalr.errors import ConnectionDenied, RequestSevered
from voisnap_mock.signalr.hub import ConnectionRequest, Hub, HubContext, HubMethod, MethodTable
from voisnap_mock.signalr.interceptors import Fragmented, Interceptor, Seam, cross
from voisnap_mock.signalr.live import Host, LiveConnection
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.options import HubOptions, Notice, NoticeKind
from voisnap_mock.signalr.protocols import JsonHubProtocol
from voisnap_mock.signalr.tasks import Appointment, Clock, LoopClock, Tasks, Timetable
from voisnap_mock.signalr.transports import (
    DELETED,
    ID_REQUIRED,
    METHOD_NOT_ALLOWED,
    NO_SUCH_CONNECTION,
    POLL_HEADERS,
    SSE_HEADERS,
    TAKEN,
    HttpAnswer,
    Life,
    NegotiateRefused,
    NegotiateRequest,
    Severance,
    Transport,
    cors_headers,
    negotiate_answer,
    negotiate_error,
    place_delete,
    place_get,
    place_post,
    preflight_answer,
    read_negotiate,
    transport_off,
)
from voisnap_mock.signalr.wires import Wire

logger = logging.getLogger(__name__)

_DEFAULTS = HubOptions()

Authenticator = Callable[[ConnectionRequest], Awaitable[object] | object]
Admitted = LiveConnection | HttpAnswer | Severance
"""What becomes of an upgrade: its connection, the answer that denies it, or how it is lost without one."""


def anonymous(request: ConnectionRequest) -> None:
    """Let everybody in, as nobody."""


def new_id() -> str:
    """16 random bytes in base64url without padding, as ASP.NET Core makes ids and tokens."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


@dataclass(slots=True)
class Negotiated:
    """A connection that was promised by negotiate and has no transport yet.

    Attributes:
        expires: when the promise ends.
        user: what the authenticator returned.
        stateful: client and server agreed on stateful reconnect.
        early: data that was posted before there was a transport.
    """

    connection_id: str
    expires: float
    user: object = None
    stateful: bool = False
    early: bytes = b""


class _Expiry:
    """Forgets negotiated connections that nobody came for, oldest first."""

    def __init__(self, table: dict[str, Negotiated]) -> None:
        self._table = table

    def on_deadline(self, now: float) -> float | None:
        while self._table:
            token, oldest = next(iter(self._table.items()))
            if oldest.expires > now:
                return oldest.expires
            del self._table[token]
        return None


def _limits_of(options: HubOptions) -> dict[Transport, ConnectionLimits]:
    """By transport: between two polls nobody can ping, and nobody falls silent."""
    limits = dict.fromkeys(Transport, options.limits)
    limits[Transport.LONG_POLLING] = replace(options.limits, keep_alive=None, timeout=None)
    return limits


class HubEndpoint:
    """Serves one hub.

    Args:
        hub: one instance for all connections.
        path: where clients point, for example `/hubs/chat`.
        authenticate: returns the user of a request, or raises `ConnectionDenied` or `RequestSevered`. Called for every
            request; may be `async`. By default everybody is let in.
        clock: `monotonic()` and `sleep_until(at)`; by default the event loop's.
        new_connection_id: public ids; tokens always come from the `secrets` module.
        notify: told of what an owner may want to journal; by default it is logged.
        interceptors: stand at every seam of every connection.
        on_made: told of each new connection before its first byte: the time to `tap` it.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        path: str,
        authenticate: Authenticator = anonymous,
        clock: Clock | None = None,
        options: HubOptions = _DEFAULTS,
        new_connection_id: Callable[[], str] = new_id,
        notify: Callable[[Notice], None] | None = None,
        interceptors: Sequence[Interceptor] = (),
        on_made: Callable[[HubContext], None] | None = None,
    ) -> None:
        self.hub = hub
        self.path = path.rstrip("/") or "/"
        self.options = options
        self._authenticate = authenticate
        self._clock: Clock = clock or LoopClock()
        self._new_connection_id = new_connection_id
        self._notify = notify or _log
        self._on_made = on_made
        self._tasks = Tasks(self._task_failed)
        self._timetable = Timetable(self._clock, self._tasks)
        self._negotiated: dict[str, Negotiated] = {}
        self._live: dict[str, LiveConnection] = {}
        self._expiry = _Expiry(self._negotiated)
        self._expiry_at: Appointment | None = None
        self.clients = HubClients()
        self._closing = False
        self._emptied: asyncio.Event | None = None
        self._host = Host(
            hub=hub,
            methods=MethodTable(hub),
            clients=self.clients,
            protocols=(JsonHubProtocol(), MessagePackHubProtocol()),
            options=options,
            limits=_limits_of(options),
            clock=self._clock,
            tasks=self._tasks,
            timetable=self._timetable,
            notify=self._notify,
            forget=self._forget,
            interceptors=tuple(interceptors),
        )

    def __repr__(self) -> str:
        return f"<HubEndpoint {self.path}, {len(self._live)} connections, {len(self._negotiated)} negotiated>"

    def configure(self, options: HubOptions) -> None:
        """Go by other settings from now on; connections that are there keep those that they began with."""
        self.options = options
        self._host = replace(self._host, options=options, limits=_limits_of(options))

    @property
    def connection_count(self) -> int:
        """How many connections have a transport."""
        return len(self._live)

    def handles(self, scope: Mapping[str, Any]) -> bool:
        """Whether this is a request for the hub's path or its negotiate."""
        return scope["type"] in ("http", "websocket") and self._part(scope) is not None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        part = self._part(scope)
        match scope["type"]:
            case "websocket":
                await self._websocket(scope, receive, send, found=part == "")
            case "http":
                request = ConnectionRequest.from_scope(scope)
                answer = NO_SUCH_CONNECTION if part is None else await self._http(part, request, receive, send)
                if answer is not None:
                    await _answer(send, answer, request.headers.get("origin"))
            case _:
                raise ValueError(f"a hub serves http and websocket, not {scope['type']}")

    async def close(self, *, grace: float = 1.0) -> None:
        """Send every connection a Close that invites it to come back, and end the transports.

        Returns when the hub was told of every end. Transports that are not done after `grace` seconds are cut.
        """
        self._closing = True
        for live in list(self._live.values()):
            live.close(allow_reconnect=True)
        if self._live:
            self._emptied = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), grace)
        for live in list(self._live.values()):
            live.cut()
        await self._timetable.close()
        # Callbacks of the hub end by themselves; what has not by now is cut.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tasks.wait(), grace)
        await self._tasks.close()
        self._negotiated.clear()

    # --- requests

    def _part(self, scope: Mapping[str, Any]) -> str | None:
        """`""` for the hub's path, `negotiate`, or None."""
        path: str = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        if self.options.trailing_slash and len(path) > 1:
            path = path.rstrip("/")
        if path == self.path:
            return ""
        return "negotiate" if path == f"{self.path.rstrip('/')}/negotiate" else None

    async def _user(self, request: ConnectionRequest) -> object:
        user = self._authenticate(request)
        return await user if inspect.isawaitable(user) else user

    async def _http(self, part: str, request: ConnectionRequest, receive: Receive, send: Send) -> HttpAnswer | None:
        """The answer, or None when it has been given already."""
        if request.method == "OPTIONS":
            return preflight_answer(
                request.headers.get("origin"), request.headers.get("access-control-request-headers")
            )
        if self._closing and (part == "negotiate" or request.query.get("id") not in self._live):
            # Those who are there still get their Close, some only by their next poll.
            return NO_SUCH_CONNECTION
        try:
            user = await self._user(request)
        except ConnectionDenied as denied:
            return self._denied(denied, request)
        except RequestSevered as severed:
            await sever_request(severed.how, receive, send)
            return None
        if part == "negotiate":
            return (
                await self._passed(self._negotiate(request, user)) if request.method == "POST" else METHOD_NOT_ALLOWED
            )
        match request.method:
            case "GET" if "text/event-stream" in (request.headers.get("accept") or ""):
                return await self._event_stream(request, user, receive, send)
            case "GET":
                return await self._poll(request, user, receive, send)
            case "POST":
                return await self._post(request, receive)
            case "DELETE":
                return self._delete(request)
            case _:
                return METHOD_NOT_ALLOWED

    async def _event_stream(
        self, request: ConnectionRequest, user: object, receive: Receive, send: Send
    ) -> HttpAnswer | None:
        live = self._claim(request, user, Transport.SERVER_SENT_EVENTS)
        if isinstance(live, HttpAnswer):
            return live
        wire = AsgiEventStream(live, receive, send)
        self.attach(live, wire)
        headers = {**SSE_HEADERS, **cors_headers(request.headers.get("origin"))}
        await wire.run([(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()])
        return None

    async def _poll(self, request: ConnectionRequest, user: object, receive: Receive, send: Send) -> HttpAnswer | None:
        live = self._claim(request, user, Transport.LONG_POLLING)
        if isinstance(live, HttpAnswer):
            return replace(live, headers=POLL_HEADERS)
        if live.wire is None and not live.ended:
            self.attach(live, LongPoll(live, self.options.poll_timeout))
        if not isinstance(live.wire, LongPoll):
            return replace(NO_SUCH_CONNECTION, headers=POLL_HEADERS)
        return await live.wire.poll(receive, send)

    async def _post(self, request: ConnectionRequest, receive: Receive) -> HttpAnswer | None:
        """Source: Observed, a POST waits for the one before it and is answered when its whole body was taken."""
        token = request.query.get("id") or None
        life, current = self._look_up(token)
        refused = place_post(life, current, has_id=token is not None)
        if refused is not None:
            return refused
        assert token is not None
        if life is Life.NEGOTIATED:
            return await self._post_early(self._negotiated[token], receive)
        live = self._live[token]
        wire = live.wire
        if not isinstance(wire, LongPoll | AsgiEventStream):
            return NO_SUCH_CONNECTION
        async with wire.post_lock:
            async for chunk in _body(receive):
                if not live.ended:
                    live.receive(chunk)
                    await wire.readable()
        return TAKEN

    async def _post_early(self, negotiated: Negotiated, receive: Receive) -> HttpAnswer:
        """Data that came before its transport is kept for it, up to what may wait."""
        async for chunk in _body(receive):
            if len(negotiated.early) + len(chunk) > self.options.max_waiting_bytes:
                return HttpAnswer(413)
            negotiated.early += chunk
        return TAKEN

    def _delete(self, request: ConnectionRequest) -> HttpAnswer:
        token = request.query.get("id") or None
        life, current = self._look_up(token)
        refused = place_delete(life, current, has_id=token is not None)
        if refused is not None:
            return refused
        assert token is not None
        live = self._live[token]
        if isinstance(live.wire, LongPoll):
            live.wire.delete()
        return DELETED

    async def _passed(self, answer: HttpAnswer) -> HttpAnswer:
        if not self._host.interceptors:
            return answer
        passed: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()

        def deliver(value: HttpAnswer) -> None:
            if not passed.done():
                passed.set_result(value)

        cross(self._host.interceptors, Seam.NEGOTIATE, None, answer, deliver)
        return await passed

    def _negotiate(self, request: ConnectionRequest, user: object) -> HttpAnswer:
        asked = read_negotiate(request.query)
        match asked:
            case NegotiateRefused():
                return negotiate_error(asked)
            case NegotiateRequest():
                connection_id = self._new_connection_id()
                # Version 0 knows no token: there the id is the secret, so it must not be guessable.
                token = new_id()
                if asked.version == 0:
                    connection_id = token
                stateful = asked.stateful_reconnect and self.options.stateful_reconnect
                expires = self._clock.monotonic() + self.options.negotiation_timeout
                self._negotiated[token] = Negotiated(connection_id, expires, user, stateful)
                if self._expiry_at is None or self._expiry_at.subject is None:
                    self._expiry_at = self._timetable.call_at(expires, self._expiry)
                self._notify(Notice(NoticeKind.NEGOTIATED, connection_id, f"version {asked.version}"))
                return negotiate_answer(
                    asked,
                    connection_id=connection_id,
                    connection_token=token,
                    transports=self.options.transports,
                    stateful_reconnect=stateful,
                )

    async def _websocket(self, scope: Mapping[str, Any], receive: Receive, send: Send, *, found: bool) -> None:
        await receive()  # websocket.connect
        request = ConnectionRequest.from_scope(scope)
        live: Admitted = NO_SUCH_CONNECTION
        if found:
            admitted = self.admit(request)
            live = await admitted if inspect.isawaitable(admitted) else admitted
        if isinstance(live, HttpAnswer):
            await _deny(scope, send, live)
            return
        if isinstance(live, Severance):
            await sever_request(live, receive, send)
            return
        wire = AsgiWebSocket(live, receive, send)
        try:
            await send({"type": "websocket.accept"})
        except OSError:
            self.give_up(live)
            return
        self.attach(live, wire)
        await wire.run()

    # --- for drivers of WebSockets

    @property
    def methods(self) -> tuple[HubMethod, ...]:
        """What clients can call, by name."""
        return self._host.methods.all()

    def serves(self, path: str) -> bool:
        """Whether a WebSocket to this path is for the hub."""
        return path == self.path or (self.options.trailing_slash and path.rstrip("/") == self.path)

    def admit(self, request: ConnectionRequest) -> Admitted | Awaitable[Admitted]:
        """What becomes of an upgrade; awaitable if the authenticator is."""
        if self._closing:
            return NO_SUCH_CONNECTION
        try:
            user = self._authenticate(request)
        except ConnectionDenied as denied:
            return self._denied(denied, request)
        except RequestSevered as severed:
            return severed.how
        if inspect.isawaitable(user):
            return self._admit_later(request, user)
        return self._claim(request, user, Transport.WEB_SOCKETS)

    async def _admit_later(self, request: ConnectionRequest, user: Awaitable[object]) -> Admitted:
        try:
            known = await user
        except ConnectionDenied as denied:
            return self._denied(denied, request)
        except RequestSevered as severed:
            return severed.how
        return NO_SUCH_CONNECTION if self._closing else self._claim(request, known, Transport.WEB_SOCKETS)

    def attach(self, live: LiveConnection, wire: Wire) -> None:
        """The upgrade is done and `wire` carries the connection; it may take a resumable one over."""
        if live.can_resume:
            live.resume(wire)
        else:
            live.attach(wire)

    def give_up(self, live: LiveConnection) -> None:
        """The upgrade has failed; a connection that can be resumed waits for the next try."""
        if live.wire is None and not live.can_resume:
            live.cut()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something that ends with the endpoint."""
        self._tasks.start(coroutine)

    # --- the table of connections

    def _look_up(self, token: str | None) -> tuple[Life | None, Transport | None]:
        if token is None:
            return None, None
        if (live := self._live.get(token)) is not None:
            if live.ended:
                return Life.OVER, live.transport
            return (Life.RESUMABLE if live.can_resume else Life.LIVE), live.transport
        negotiated = self._negotiated.get(token)
        if negotiated is None or negotiated.expires <= self._clock.monotonic():
            return None, None
        return Life.NEGOTIATED, None

    def _claim(self, request: ConnectionRequest, user: object, transport: Transport) -> LiveConnection | HttpAnswer:
        """The connection that a transport's GET is for; it may be new.

        Source: Observed; without an id a WebSocket makes its connection on the spot.
        """
        token = request.query.get("id") or None
        life, current = self._look_up(token)
        refused = place_get(transport, life, current, has_id=token is not None)
        if transport not in self.options.transports and refused not in (ID_REQUIRED, NO_SUCH_CONNECTION):
            return transport_off(transport)
        if refused is not None:
            return refused
        if token is not None and life is not Life.NEGOTIATED:
            return self._live[token]
        negotiated = Negotiated(self._new_connection_id(), 0.0) if token is None else self._negotiated.pop(token)
        live = LiveConnection(
            self._host,
            connection_id=negotiated.connection_id,
            token=token or new_id(),
            user=user,
            request=request,
            transport=transport,
            stateful=negotiated.stateful and transport is Transport.WEB_SOCKETS,
        )
        self._live[live.token] = live
        live.context.negotiated = negotiated.user
        if self._on_made is not None:
            self._on_made(live.context)
        if negotiated.early:
            live.receive(bytes(negotiated.early))
        return live

    def _forget(self, live: LiveConnection) -> None:
        if self._live.get(live.token) is live:
            del self._live[live.token]
            if not self._live and self._emptied is not None:
                self._emptied.set()

    def _denied(self, denied: ConnectionDenied, request: ConnectionRequest) -> HttpAnswer:
        self._notify(Notice(NoticeKind.DENIED, "", f"{request.method} {request.path}: HTTP status {denied.status}"))
        return HttpAnswer(denied.status, denied.body, denied.content_type, denied.headers)

    def _task_failed(self, error: BaseException) -> None:
        self._notify(Notice(NoticeKind.CALLBACK_FAILED, "", "a task of the hub endpoint ended with an error", error))


def _log(notice: Notice) -> None:
    failures = (NoticeKind.METHOD_FAILED, NoticeKind.CALLBACK_FAILED)
    level = logging.ERROR if notice.kind in failures else logging.DEBUG
    logger.log(
        level,
        "%s %s",
        notice.kind,
        notice.detail,
        exc_info=notice.error if notice.kind in failures else None,
        extra={"connection_id": notice.connection_id},
    )


def _raw_headers(answer: HttpAnswer, extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    headers = {"Content-Length": str(len(answer.body)), **answer.headers, **extra}
    if answer.status != 204:
        headers["Content-Type"] = answer.content_type
    else:
        del headers["Content-Length"]
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    """A request's body as it comes; it ends early when the client goes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if chunk := message.get("body"):
            yield chunk
        if not message.get("more_body"):
            return


async def _answer(send: Send, answer: HttpAnswer, origin: str | None) -> None:
    headers = _raw_headers(answer, cors_headers(origin))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(answer.body, Fragmented):
        for piece in answer.body.pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": answer.body})


async def _deny(scope: Mapping[str, Any], send: Send, answer: HttpAnswer) -> None:
    """Refuse an upgrade; servers without the denial extension can only answer 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = _raw_headers(answer, {})
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
