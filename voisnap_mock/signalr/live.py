"""LiveConnection: a server's connection, from its handshake to its last byte.

It joins the sans-IO `HubConnection`, the dispatcher, and whatever transport carries the bytes just now. It decides when
the connection ends and sees to it that the hub is told once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from voisnap_mock.signalr.clients import HubClients
from voisnap_mock.signalr.connection import (
    CLOSED_WITH_ERROR,
    ConnectionFailed,
    ConnectionLimits,
    HubConnection,
    HubEvent,
    Role,
    State,
)
from voisnap_mock.signalr.dispatcher import Dispatcher
from voisnap_mock.signalr.errors import (
    ConnectionClosed,
    HubException,
    LocalProtocolError,
    RemoteProtocolError,
)
from voisnap_mock.signalr.hub import ConnectionRequest, Hub, HubContext, MethodTable
from voisnap_mock.signalr.interceptors import Interceptor, Rewritten, Seam, cross
from voisnap_mock.signalr.messages import (
    Ack,
    Close,
    HandshakeRequest,
    HandshakeResponse,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
)
from voisnap_mock.signalr.options import HubOptions, Notice, NoticeKind
from voisnap_mock.signalr.protocols import HubProtocol, TransferFormat
from voisnap_mock.signalr.tasks import Appointment, Clock, Tasks, Timetable
from voisnap_mock.signalr.transports import TRANSFER_FORMATS, Severance, Transport
from voisnap_mock.signalr.wires import SlowClient, TransportLost, Wire

_STALL: Final = 30.0
"""Seconds after which a stalled connection is given up where silent clients are never timed out."""
_DRAINED: Final = 65_536
"""Unsent bytes below which a stream goes on; the size of ASP.NET Core's transport buffer."""


@dataclass(frozen=True, slots=True)
class Host:
    """What all connections of one endpoint share.

    Attributes:
        limits: by transport.
        forget: called when a connection's token is to mean nothing any more.
    """

    hub: Hub
    methods: MethodTable
    clients: HubClients
    protocols: tuple[HubProtocol, ...]
    options: HubOptions
    limits: dict[Transport, ConnectionLimits]
    clock: Clock
    tasks: Tasks
    timetable: Timetable
    notify: Callable[[Notice], None]
    forget: Callable[[LiveConnection], None]
    interceptors: tuple[Interceptor, ...] = ()


class LiveConnection:
    """One connection of a client to a hub.

    Attributes:
        token: the secret by which its requests name it.
        transport: which it chose; it cannot change.
        wire: what carries it now; None while a long-lived connection has no transport.
        is_tapped: interceptors stand between, so there may be more to take than one piece.
        ended: the hub has been told that it is over; the wire writes what is left and closes.
    """

    __slots__ = (
        "_appointment",
        "_away_until",
        "_blocked_since",
        "_close_by",
        "_close_crosses",
        "_closing",
        "_connection",
        "_dispatcher",
        "_drain_waiters",
        "_early",
        "_force_at",
        "_frames",
        "_holds",
        "_host",
        "_now",
        "_opened",
        "_stalled_until",
        "_taps",
        "_waiting_bytes",
        "context",
        "ended",
        "is_tapped",
        "token",
        "transport",
        "wire",
    )

    def __init__(
        self,
        host: Host,
        *,
        connection_id: str,
        token: str,
        user: object,
        request: ConnectionRequest,
        transport: Transport,
        stateful: bool = False,
    ) -> None:
        now = host.clock.monotonic()
        limits = host.limits[transport]
        self._host = host
        self.token = token
        self.transport = transport
        self.context = HubContext(connection_id, user, request, self)
        self.wire: Wire | None = None
        self.ended = False
        self.is_tapped = False
        self._connection = HubConnection(
            Role.SERVER,
            host.protocols,
            now=now,
            types=host.methods,
            limits=limits,
            transfer_formats=TRANSFER_FORMATS[transport],
            stateful=stateful,
        )
        self._dispatcher: Dispatcher | None = None
        self._opened = False
        self._taps: tuple[Interceptor, ...] = ()
        # Only used with interceptors: what came while a handshake is held back, and frames that passed.
        self._early: list[HubMessage] | None = None
        self._frames: deque[bytes] | None = None
        self._closing: Close | None = None
        self._close_by: float | None = None
        self._close_crosses = False
        self._force_at: float | None = None
        self._away_until: float | None = None
        self._blocked_since: float | None = None
        self._stalled_until: float | None = None
        self._holds = 0
        self._now: float | None = None
        self._waiting_bytes = 0
        self._drain_waiters: list[asyncio.Future[None]] | None = None
        self._appointment: Appointment = host.timetable.call_at(now + limits.handshake_timeout, self)
        for interceptor in host.interceptors:
            self.tap(interceptor)

    def __repr__(self) -> str:
        return f"<LiveConnection {self.context.connection_id} {self.transport} {self._connection!r}>"

    @property
    def connection_id(self) -> str:
        return self.context.connection_id

    @property
    def is_binary(self) -> bool:
        """Whether frames of this connection are binary."""
        protocol = self._connection.protocol
        return protocol is not None and protocol.transfer_format is TransferFormat.BINARY

    @property
    def protocol_name(self) -> str:
        protocol = self._connection.protocol
        return "" if protocol is None else protocol.name

    @property
    def is_over(self) -> bool:
        return self.ended or self._closing is not None

    @property
    def can_resume(self) -> bool:
        """Whether a new WebSocket may take this connection over."""
        return not self.is_over and self._connection.can_resume

    @property
    def clients(self) -> HubClients:
        return self._host.clients

    # --- the wire's side

    def attach(self, wire: Wire) -> None:
        """The first transport is there."""
        self.wire = wire
        if self.ended or self._connection.unsent_bytes:
            wire.wake()

    def resume(self, wire: Wire) -> None:
        """A new transport takes over from a lost one, or from one that only looks alive."""
        old, self.wire = self.wire, wire
        if old is not None:
            old.abort()
        self._away_until = None
        self._blocked_since = None
        self._stalled_until = None
        if self._holds:
            wire.pause_reading()
        self._connection.resume(self._host.clock.monotonic())
        wire.wake()

    def receive(self, data: bytes) -> None:
        """Take bytes of the client; runs the methods they call as far as these do not wait."""
        if self._frames is not None:
            cross(self._taps, Seam.BYTES_IN, self.context, data, self.receive_passed)
        else:
            self.receive_passed(data)

    def receive_passed(self, data: bytes) -> None:
        """The same behind the interceptors."""
        connection = self._connection
        # One look at the clock serves everything that is sent in answer.
        now = self._now = self._host.clock.monotonic()
        for event in connection.receive_bytes(data, now):
            if type(event) is Invocation and self._frames is None and self._dispatcher is not None and not self.ended:
                # The frequent one, and no interceptors.
                self._dispatcher.receive(event)
            else:
                self._take_event(event)
        self._now = None
        dispatcher = self._dispatcher
        if dispatcher is not None and dispatcher.running and not self.ended:
            before = self._waiting_bytes
            self._waiting_bytes = after = before + len(data)
            limit = self._host.options.max_waiting_bytes
            connection.hold_timeout()
            if before <= limit < after:
                self.hold_reading(True)
        if connection.can_resume:
            self._call_by(connection.next_deadline())

    def take(self) -> bytes:
        """The next bytes to write as one frame; empty when there are none.

        After the last ones of an `ended` connection the wire closes itself in order.
        """
        if self._frames is not None:
            return self._take_frame(self._frames)
        data = self._connection.bytes_to_send()
        if self._drain_waiters is not None:
            self._release_drained()
        return data

    def _take_frame(self, frames: deque[bytes]) -> bytes:
        while self._early is None and not frames and (data := self._connection.bytes_to_send()):
            cross(self._taps, Seam.BYTES_OUT, self.context, data, self._pass_frame)
        self._release_drained()
        return frames.popleft() if frames else b""

    def _pass_frame(self, data: bytes) -> None:
        assert self._frames is not None
        self._frames.append(data)
        self._wake()

    def write_began(self) -> None:
        """The wire cannot take more until `write_ended`."""
        self._blocked_since = self._host.clock.monotonic()
        self._call_by(self._blocked_since + self._host.options.send_timeout)

    def write_ended(self) -> None:
        self._blocked_since = None

    def went_away(self) -> None:
        """The client has no request here, which is normal between polls; it has some time to come back."""
        self._away_until = self._host.clock.monotonic() + self._host.options.disconnect_timeout
        self._call_by(self._away_until)

    def came_back(self) -> None:
        self._away_until = None

    def transport_lost(self, wire: Wire, error: Exception | None = None, *, final: bool = False) -> None:
        """The wire is gone.

        Args:
            error: None when the client closed it in order.
            final: the client said that it closes; else a connection that can be resumed waits for another wire.
        """
        if self.wire is not wire:
            return
        self.wire = None
        if error is not None and not final and self.can_resume:
            self._connection.suspend()
            self._blocked_since = None
            self._stalled_until = None
            self.went_away()
            return
        if not self.ended:
            self._connection.lose_transport()
            self._end(error)
        self._appointment.cancel()
        self._host.forget(self)

    # --- events of the protocol

    def _take_event(self, event: HubEvent) -> None:
        if self.ended:
            return
        match event:
            case Ack():
                # What waited for room in the buffer of stateful reconnect may go now.
                self._wake()
            case Ping() | Sequence():
                pass
            case HandshakeRequest():
                if self._taps:
                    self._early = []
                    cross(self._taps, Seam.HANDSHAKE, self.context, event, self._open_held)
                else:
                    self._open(event)
                    self._wake()
            case Close():
                self._end(RemoteProtocolError(event.error, kind="ClientClose") if event.error else None)
            case ConnectionFailed():
                kind = NoticeKind.PROTOCOL_ERROR if self._opened else NoticeKind.HANDSHAKE_FAILED
                self._note(kind, str(event.error), event.error)
                self._end(event.error)
            case HandshakeResponse():
                raise AssertionError("a server receives no handshake response")
            case _:
                if self._taps:
                    cross(self._taps, Seam.MESSAGE_IN, self.context, event, self._dispatch)
                else:
                    self._dispatch(event)

    def _dispatch(self, message: HubMessage) -> None:
        if self._early is not None:
            self._early.append(message)
        elif self._dispatcher is not None and not self.ended:
            self._dispatcher.receive(message)

    def _open_held(self, request: HandshakeRequest) -> None:
        early, self._early = self._early, None
        if self.ended or self._opened:
            return
        self._open(request)
        for message in early or ():
            self._dispatch(message)
        self._wake()

    def _open(self, request: HandshakeRequest) -> None:
        self._opened = True
        self._note(NoticeKind.CONNECTED, f"{self.transport}, {request.protocol} version {request.version}")
        host = self._host
        host.clients.add(self)
        self._dispatcher = Dispatcher(
            self,
            host.methods,
            tasks=host.tasks,
            notify=host.notify,
            detailed=host.options.limits.detailed_errors,
            parallel=host.options.max_parallel_invocations,
        )
        self._dispatcher.open(host.hub.on_connected)

    # --- the dispatcher's and the hub's side

    def send_event(self, target: str, arguments: tuple[object, ...]) -> None:
        if self._closing is None and not self.ended:
            self.send_message(Invocation(target, arguments))

    def send_to_many(self, invocation: Invocation, written: dict[str, bytes]) -> None:
        """See `clients.Member`."""
        connection = self._connection
        if self._taps:
            self.send_event(invocation.target, invocation.arguments)
        elif self._closing is None and connection.state is State.OPEN and connection.protocol is not None:
            name = connection.protocol.name
            if name not in written:
                written[name] = connection.protocol.serialize(invocation)
            self._send_passed(invocation, written[name])

    def send_message(self, message: HubMessage) -> None:
        """Queue a message; dropped when the connection is over.

        Raises:
            LocalProtocolError: it cannot be serialised.
        """
        if self._frames is not None:
            cross(self._taps, Seam.MESSAGE_OUT, self.context, message, self._send_crossed)
        else:
            self._send_passed(message)

    def _send_crossed(self, passed: HubMessage | Rewritten) -> None:
        protocol = self._connection.protocol
        if isinstance(passed, Rewritten) and protocol is not None:
            self._send_passed(passed.message, passed.rewrite(protocol.serialize(passed.message)))
        elif not isinstance(passed, Rewritten):
            self._send_passed(passed)

    def _send_passed(self, message: HubMessage, data: bytes | None = None) -> None:
        connection = self._connection
        if connection.state is State.OPEN or connection.state is State.FAILED:
            now = self._now
            connection.send(message, self._host.clock.monotonic() if now is None else now, data=data)
            if connection.unsent_bytes <= self._host.options.max_unsent_bytes:
                if self.wire is not None:
                    self.wire.wake()
            elif self._stalled_until is not None:
                connection.drop_unsent()
            else:
                self._give_up_slow(f"{connection.unsent_bytes} bytes wait to be read by the client")

    async def ask(self, target: str, arguments: tuple[object, ...], kind: Any) -> Any:
        """See `HubContext.invoke`."""
        if self._dispatcher is None or self.is_over:
            raise ConnectionClosed("the connection has ended")
        return await self._dispatcher.ask(target, arguments, kind)

    async def drained(self) -> None:
        """See `dispatcher.Peer`."""
        while not self.ended and self._connection.unsent_bytes > _DRAINED:
            waiter = asyncio.get_running_loop().create_future()
            if self._drain_waiters is None:
                self._drain_waiters = []
            self._drain_waiters.append(waiter)
            await waiter
        await asyncio.sleep(0)

    def _release_drained(self) -> None:
        if self._drain_waiters and (self.ended or self._connection.unsent_bytes <= _DRAINED):
            waiters, self._drain_waiters = self._drain_waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def hold_reading(self, held: bool) -> None:
        """See `dispatcher.Peer`; there may be several reasons at once."""
        self._holds += 1 if held else -1
        if held and self._holds == 1:
            self._connection.hold_timeout()
            if self.wire is not None:
                self.wire.pause_reading()
        elif not held and self._holds == 0:
            self._connection.resume_timeout(self._host.clock.monotonic())
            if self.wire is not None and self._stalled_until is None:
                self.wire.resume_reading()

    def went_idle(self) -> None:
        """See `dispatcher.Peer`."""
        if self._waiting_bytes:
            was_held = self._waiting_bytes > self._host.options.max_waiting_bytes
            self._waiting_bytes = 0
            if was_held:
                self.hold_reading(False)
            elif self._holds == 0:
                self._connection.resume_timeout(self._host.clock.monotonic())
            self._call_by(self._connection.next_deadline())
        if self._closing is not None and not self.ended:
            self._finish_close(self._closing)

    def connected_failed(self, error: BaseException) -> None:
        """Source: Observed, a Close with an error and without `allowReconnect`."""
        if self.ended:
            return
        detail = ""
        if isinstance(error, HubException):
            detail = f" HubException: {error.message}"
        elif self._host.options.limits.detailed_errors:
            detail = f" {type(error).__name__}: {error}"
        self._say_close(Close(CLOSED_WITH_ERROR + detail))
        self._end(error if isinstance(error, Exception) else None)

    def close(self, *, error: str | None = None, allow_reconnect: bool = False) -> None:
        """See `HubContext.close`."""
        if self.is_over:
            return
        if self._dispatcher is None:
            # Nobody is there yet to be told.
            self._connection.lose_transport()
            self._end(None)
            return
        self._closing = Close(error, allow_reconnect)
        self._dispatcher.stop_accepting()
        if not self._dispatcher.running:
            self._finish_close(self._closing)
        else:
            self._close_by = self._host.clock.monotonic() + self._host.options.close_timeout
            self._call_by(self._close_by)

    def abort(self) -> None:
        """See `HubContext.abort`."""
        if not self.ended:
            self._say_close(Close())
            self._end(None)

    def sever(self, how: Severance) -> None:
        """See `HubContext.sever`."""
        wire = self.wire
        if self.ended:
            return
        match how:
            case Severance.CLOSE_NO_RECONNECT:
                self.abort()
            case Severance.CLOSE:
                if not self._opened:
                    self._connection.drop_unsent()
                self._end(TransportLost("the server closed the transport"))
            case _ if wire is None:
                self.cut()
            case Severance.RESET:
                wire.reset()
                self.transport_lost(wire, TransportLost("the server reset the transport"))
            case Severance.HALF_OPEN:
                wire.abandon()
                self.transport_lost(wire, TransportLost("the server has lost the transport"))
            case Severance.STALL:
                self._blocked_since = None
                self._stalled_until = self._host.clock.monotonic() + (self._host.options.limits.timeout or _STALL)
                self._call_by(self._stalled_until)
                wire.stall()

    def tap(self, interceptor: Interceptor) -> None:
        """See `HubContext.tap`."""
        self._taps = (*self._taps, interceptor)
        self.is_tapped = True
        if self._frames is None:
            self._frames = deque()

    def stop_pings(self) -> None:
        """See `HubContext.stop_pings`."""
        self._connection.stop_pings()

    def cut(self) -> None:
        """End the transport at once, with nothing said to the client."""
        wire, self.wire = self.wire, None
        if not self.ended:
            self._connection.lose_transport()
            self._end(None)
        if wire is not None:
            wire.abort()
        self._appointment.cancel()
        self._host.forget(self)

    # --- time

    def on_deadline(self, now: float) -> float | None:
        """See `tasks.Timed`."""
        options = self._host.options
        if self.ended:
            if self._force_at is None or now >= self._force_at:
                self.cut()
        elif self._away_until is not None and now >= self._away_until:
            self._connection.lose_transport()
            self._end(TransportLost(f"the client has not come back within {options.disconnect_timeout:g} s"))
            self.cut()
        elif self._blocked_since is not None and now >= self._blocked_since + options.send_timeout:
            self._give_up_slow(f"a write has been blocked for {options.send_timeout:g} s")
        elif self._stalled_until is not None and now >= self._stalled_until:
            self._end(TransportLost("the connection has stalled"))
        elif self._close_by is not None and now >= self._close_by:
            assert self._closing is not None
            self._close_passed(self._closing)
        else:
            for event in self._connection.handle_deadline(now):
                self._take_event(event)
            if self._connection.unsent_bytes:
                self._wake()
        return self._next_deadline()

    def _next_deadline(self) -> float | None:
        if self.ended:
            return self._force_at
        times = (
            self._connection.next_deadline(),
            self._close_by,
            self._away_until,
            self._stalled_until,
            None if self._blocked_since is None else self._blocked_since + self._host.options.send_timeout,
        )
        return min((time for time in times if time is not None), default=None)

    def _call_by(self, at: float | None) -> None:
        if at is not None and (self._appointment.subject is None or at < self._appointment.at):
            self._appointment.cancel()
            self._appointment = self._host.timetable.call_at(at, self)

    # --- the end

    def _give_up_slow(self, why: str) -> None:
        dropped = self._connection.drop_unsent()
        self._note(NoticeKind.SLOW_CLIENT, f"{why}; {dropped} bytes were dropped and the connection is closed")
        self._say_close(Close(f"{CLOSED_WITH_ERROR} The client reads too slowly: {why}.", allow_reconnect=True))
        self._end(SlowClient(why))

    def _finish_close(self, close: Close) -> None:
        if not self._taps:
            self._close_passed(close)
        elif not self._close_crosses:
            self._close_crosses = True
            self._close_by = None
            cross(self._taps, Seam.MESSAGE_OUT, self.context, close, self._close_passed)

    def _close_passed(self, passed: Close | Rewritten) -> None:
        if self.ended:
            return
        if isinstance(passed, Rewritten):
            self._send_crossed(passed)
        else:
            self._say_close(passed)
        self._end(None)

    def _say_close(self, close: Close) -> None:
        if self._connection.state is State.OPEN:
            try:
                self._connection.send(close, self._host.clock.monotonic())
            except LocalProtocolError:
                # The error text cannot be written; that it is over still can.
                self._connection.send(Close(allow_reconnect=close.allow_reconnect), self._host.clock.monotonic())

    def _end(self, error: Exception | None) -> None:
        """The hub part is over: tell the hub, let the wire write what is left."""
        self.ended = True
        self._early = None
        host = self._host
        if self._dispatcher is not None:
            host.clients.remove(self.connection_id)
            self._dispatcher.cancel()
            host.tasks.start(self._tell_hub(error))
            self._note(NoticeKind.DISCONNECTED, str(error) if error else "", error)
        self._connection.lose_transport()
        self._release_drained()
        if self._stalled_until is not None and self.wire is not None:
            self.wire.abandon()
            self.wire = None
        if self.wire is not None:
            if self._holds:
                # Nothing waits its turn any more, and the client's last words may tell of its end.
                self.wire.resume_reading()
            self._force_at = host.clock.monotonic() + host.options.close_timeout
            self._call_by(self._force_at)
            self.wire.wake()
        else:
            self._appointment.cancel()
            host.forget(self)

    async def _tell_hub(self, error: Exception | None) -> None:
        try:
            await self._host.hub.on_disconnected(self.context, error)
        except asyncio.CancelledError:
            raise
        except Exception as failure:  # noqa: BLE001 - the outermost frame of the hub's callback
            self._note(NoticeKind.CALLBACK_FAILED, "on_disconnected", failure)

    def _wake(self) -> None:
        if self.wire is not None:
            self.wire.wake()

    def _note(self, kind: NoticeKind, detail: str, error: BaseException | None = None) -> None:
        self._host.notify(Notice(kind, self.context.connection_id, detail, error, self.context.user))
