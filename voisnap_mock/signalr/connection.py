"""HubConnection: one SignalR connection without I/O, for either role.

Bytes go in with the time at which they came, messages come out; messages go in, bytes come out. It owns the handshake,
the cutting of records, the size limit, keep-alive, time-outs and what a Close message means. It refuses to know
transports, hub methods and clocks.

The two machines of one connection, coupled by the bytes between them:

    client                                     server
    HANDSHAKE --- handshake request ---------> HANDSHAKE
    OPEN <------- {} ------------------------- OPEN
    OPEN <------- hub messages --------------> OPEN
    CLOSED ------ Close ---------------------> CLOSED      (either side may be the one that sends it)

| state     | on                                   | next      | what happens                                         |
| --------- | ------------------------------------ | --------- | ---------------------------------------------------- |
| HANDSHAKE | server: a valid request              | OPEN      | `{}` queued; the request is returned                 |
| HANDSHAKE | server: a request it cannot serve    | CLOSED    | `{"error":...}` queued; `ConnectionFailed` returned  |
| HANDSHAKE | server: garbage, too long, 15 s gone | CLOSED    | the same, with ASP.NET Core's texts                  |
| HANDSHAKE | client: `{}`                         | OPEN      | the response is returned                             |
| HANDSHAKE | client: an error, garbage, 15 s gone | CLOSED    | `ConnectionFailed` returned                          |
| HANDSHAKE | `send`                               | HANDSHAKE | raises LocalProtocolError                            |
| OPEN      | a message                            | OPEN      | returned                                             |
| OPEN      | Close from the peer                  | CLOSED    | returned; what follows it is not read                |
| OPEN      | a malformed or too long message      | FAILED    | server: Close with an error and `allowReconnect`;    |
|           |                                      |           | `ConnectionFailed` returned after what came before   |
|           |                                      |           | a client is CLOSED at once                           |
| OPEN      | `send` of Close                      | CLOSED    | queued; nothing can be queued after it               |
| OPEN      | `send` of anything else              | OPEN      | queued                                               |
| OPEN      | nothing sent for `keep_alive`        | OPEN      | Ping queued                                          |
| OPEN      | server: silence after the first Ping | FAILED    | as for a malformed message                           |
| OPEN      | client: silence                      | CLOSED    | `ConnectionFailed` returned                          |
| OPEN      | `suspend`, if it can be resumed      | OPEN      | what is sent is kept, bytes are dropped, no deadline |
| OPEN      | `resume`                             | OPEN      | Sequence queued, then what was not acknowledged      |
| FAILED    | `send`                               | FAILED    | queued: answers to what came before the failure      |
| FAILED    | `bytes_to_send`                      | CLOSED    | all of it, then the Close                            |
| CLOSED    | bytes, also when FAILED              | CLOSED    | dropped                                              |
| CLOSED    | `send`                               | CLOSED    | raises LocalProtocolError                            |

With stateful reconnect (both sides agreed at negotiate, handshake version 2) messages are numbered, acknowledged and
repeated after a lost transport; the bookkeeping is in `resumption`.

Source: Documented, HubProtocol.md; the texts, limits and the rule of the first Ping Observed on ASP.NET Core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, TypeAlias

from voisnap_mock.signalr.errors import LocalProtocolError, RemoteProtocolError
from voisnap_mock.signalr.messages import (
    Ack,
    BindingFailure,
    CancelInvocation,
    Close,
    Completion,
    HandshakeRequest,
    HandshakeResponse,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)
from voisnap_mock.signalr.protocols import (
    MAX_VERSION,
    AnyTypes,
    HubProtocol,
    TransferFormat,
    Types,
    cut_at_separator,
    parse_handshake_request,
    parse_handshake_response,
    serialize_handshake_request,
    serialize_handshake_response,
)
from voisnap_mock.signalr.resumption import Resumption

CLOSED_WITH_ERROR: Final = "Connection closed with an error."
HANDSHAKE_CANCELED: Final = "Handshake was canceled."
HANDSHAKE_FAILED: Final = "An unexpected error occurred during connection handshake."


_TRACKED = (Invocation, StreamInvocation, StreamItem, Completion, CancelInvocation, BindingFailure)


class Role(Enum):
    """Which side of the connection this is."""

    CLIENT = auto()
    SERVER = auto()


class State(Enum):
    """Where the connection is; the table is in the module's docstring."""

    HANDSHAKE = auto()
    OPEN = auto()
    FAILED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The times and sizes of one connection; ASP.NET Core's defaults.

    Attributes:
        handshake_timeout: seconds until the handshake must be complete.
        keep_alive: seconds without a send until a Ping; None for a transport that needs none.
        timeout: seconds of silence that end the connection; None for never. A server starts to count at the
            client's first Ping.
        max_message_bytes: of one received message with its frame; None for no limit.
        detailed_errors: whether the peer is told what was wrong.
    """

    handshake_timeout: float = 15.0
    keep_alive: float | None = 15.0
    timeout: float | None = 30.0
    max_message_bytes: int | None = 32_768
    detailed_errors: bool = True


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """The connection is over because the peer broke the protocol, fell silent, or could not be served."""

    error: RemoteProtocolError


HubEvent: TypeAlias = HubMessage | HandshakeRequest | HandshakeResponse | ConnectionFailed


class HubConnection:
    """One side of a SignalR connection.

    The driver's duties: pass bytes to `receive_bytes`, write what `bytes_to_send` returns until it returns nothing,
    call `handle_deadline` when `next_deadline` has come, and close the transport once `state` is CLOSED and
    everything is written.

    Args:
        role: which side this is.
        protocols: a server's choice of protocols; a client's single one.
        now: the time on the driver's clock.
        types: what payloads decode into.
        transfer_formats: what the transport can carry.
        version: of the protocol, a client's only.
        stateful: both sides agreed at negotiate to resume the connection after a lost transport.

    Attributes:
        protocol: chosen by the handshake; a client's from the start.
        version: of the protocol, as the client asked.
        queued: bytes of hub messages that `bytes_to_send` has still to hand out.
    """

    __slots__ = (
        "_farewell",
        "_handshake_out",
        "_held",
        "_last_received",
        "_last_sent",
        "_limits",
        "_out",
        "_peer_pinged",
        "_protocols",
        "_rest",
        "_resumption",
        "_started",
        "_suspended",
        "_transfer_formats",
        "_types",
        "protocol",
        "queued",
        "role",
        "state",
        "version",
    )

    def __init__(
        self,
        role: Role,
        protocols: Iterable[HubProtocol],
        *,
        now: float,
        types: Types | None = None,
        limits: ConnectionLimits = ConnectionLimits(),
        transfer_formats: frozenset[TransferFormat] = frozenset(TransferFormat),
        version: int = 1,
        stateful: bool = False,
    ) -> None:
        self.role = role
        self.state = State.HANDSHAKE
        self.protocol: HubProtocol | None = None
        self.version = version
        self._protocols: Mapping[str, HubProtocol] = {protocol.name: protocol for protocol in protocols}
        self._types: Types = types or AnyTypes()
        self._limits = limits
        self._transfer_formats = transfer_formats
        self._rest = b""
        self._out: list[bytes] = []
        self.queued = 0
        self._handshake_out = b""
        # The Close of a failed connection: goes out after the answers to what came before the failure.
        self._farewell = b""
        self._started = self._last_sent = self._last_received = now
        self._peer_pinged = False
        self._held = False
        self._resumption = Resumption() if stateful else None
        self._suspended = False
        if role is Role.CLIENT:
            (self.protocol,) = self._protocols.values()
            self._handshake_out = serialize_handshake_request(HandshakeRequest(self.protocol.name, version))

    def __repr__(self) -> str:
        name = self.protocol.name if self.protocol else "no protocol yet"
        return f"<HubConnection {self.role.name} {self.state.name} {name}, {self.unsent_bytes} bytes to send>"

    # --- sending

    @property
    def unsent_bytes(self) -> int:
        """How much `bytes_to_send` has still to hand out."""
        waiting = self._resumption.waiting_bytes if self._resumption is not None else 0
        return self.queued + len(self._handshake_out) + waiting + len(self._farewell)

    @property
    def can_resume(self) -> bool:
        """Whether a lost transport may be replaced by another one."""
        return self._resumption is not None and self.state is State.OPEN

    def send(self, message: HubMessage, now: float, *, data: bytes | None = None) -> None:
        """Queue a message; Close is the last one.

        Args:
            data: the message as this connection's protocol writes it, when that is known already.

        Raises:
            LocalProtocolError: the connection is not open, or a payload cannot be written.
        """
        if self.state is not State.OPEN and self.state is not State.FAILED:
            raise LocalProtocolError(f"{type(message).__name__} cannot be sent while {self.state.name}")
        assert self.protocol is not None
        if data is None:
            data = self.protocol.serialize(message)
        if self._resumption is not None and isinstance(message, _TRACKED):
            if not self._resumption.send(data):
                return
            if self._suspended:
                self._last_sent = now
                return
        self._out.append(data)
        self.queued += len(data)
        self._last_sent = now
        if type(message) is Close:
            self.state = State.CLOSED
            self._resumption = None

    def bytes_to_send(self) -> bytes:
        """Take what is to be written next; empty when there is nothing.

        The handshake comes alone, because clients exist that lose a message glued to it. Everything queued after it
        comes as one piece.
        """
        if self._handshake_out:
            data, self._handshake_out = self._handshake_out, b""
            return data
        if self.state is State.FAILED:
            self._out.append(self._farewell)
            self.state = State.CLOSED
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.queued = 0
        self._farewell = b""
        return data

    def drop_unsent(self) -> int:
        """Forget everything that is queued; returns how many bytes it was."""
        dropped = self.queued + len(self._handshake_out)
        self._handshake_out = b""
        self._out.clear()
        self.queued = 0
        return dropped

    # --- receiving

    def receive_bytes(self, data: bytes, now: float) -> list[HubEvent]:
        """Take bytes of the peer; returns what they complete.

        Frame boundaries of the transport mean nothing: any split of the same bytes gives the same events.
        """
        events: list[HubEvent] = []
        if self.state is State.CLOSED or self.state is State.FAILED or self._suspended:
            return events
        self._last_received = now
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        try:
            if self.state is State.HANDSHAKE:
                position = self._receive_handshake(data, now, events)
                if position < 0:
                    self._rest = data
                    return events
            protocol, types, limit = self.protocol, self._types, self._limits.max_message_bytes
            assert protocol is not None
            size = len(data)
            while position < size and self.state is State.OPEN:
                frame = protocol.next_record(data, position, limit)
                if frame is None:
                    self._rest = data[position:] if position else data
                    break
                record, position = frame
                message = protocol.parse(record, types)
                if message is not None and (self._resumption is None or self._count(message, now)):
                    events.append(message)
                    kind = type(message)
                    if kind is Ping:
                        self._peer_pinged = True
                    elif kind is Close:
                        self.state = State.CLOSED
                        self._resumption = None
        except RemoteProtocolError as error:
            self._fail(error, now, events)
        return events

    def _count(self, message: HubMessage, now: float) -> bool:
        """Keep the books of stateful reconnect; False when the message was processed before."""
        resumption = self._resumption
        assert resumption is not None
        match message:
            case Ack(number):
                released = resumption.acknowledge(number)
                if not self._suspended:
                    self._out.extend(released)
                    self.queued += sum(map(len, released))
                return True
            case Sequence(number):
                resumption.sequence(number)
                return True
            case Ping() | Close():
                return True
            case _:
                return resumption.receive(now)

    def _receive_handshake(self, data: bytes, now: float, events: list[HubEvent]) -> int:
        """Returns where hub messages start, or -1 while the handshake is not complete."""
        limit = self._limits.max_message_bytes
        try:
            frame = cut_at_separator(data, 0, limit)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(error.detail, kind="HandshakeTooLong") from error
        if frame is None:
            return -1
        record, position = frame
        if self.role is Role.CLIENT:
            response = parse_handshake_response(record)
            if response.error is not None:
                raise RemoteProtocolError(response.error, kind="HandshakeRefused")
            self.state = State.OPEN
            events.append(response)
            return position
        request = parse_handshake_request(record)
        self.protocol = self._choose(request)
        self.version = request.version
        if request.version < 2:
            self._resumption = None
        self._handshake_out = serialize_handshake_response(HandshakeResponse())
        self._last_sent = now
        self.state = State.OPEN
        events.append(request)
        return position

    def _choose(self, request: HandshakeRequest) -> HubProtocol:
        protocol = self._protocols.get(request.protocol.lower())
        if protocol is None:
            raise _Refused(f"The protocol '{request.protocol}' is not supported.")
        if request.version > MAX_VERSION:
            raise _Refused(f"The server does not support version {request.version} of the '{protocol.name}' protocol.")
        if protocol.transfer_format not in self._transfer_formats:
            raise _Refused(
                f"Cannot use the '{protocol.name}' protocol on the current transport. "
                f"The transport does not support '{protocol.transfer_format}' transfer format."
            )
        return protocol

    # --- time

    def stop_pings(self) -> None:
        """Let this side fall silent when it has nothing to say."""
        self._limits = replace(self._limits, keep_alive=None)

    def hold_timeout(self) -> None:
        """Stop counting the peer's silence, because this side is not reading; `resume_timeout` goes on."""
        self._held = True

    def resume_timeout(self, now: float) -> None:
        if self._held:
            self._held = False
            self._last_received = now

    def next_deadline(self) -> float | None:
        """When `handle_deadline` has something to do; None for never.

        It moves earlier only by `resume` and, when the connection can be resumed, by received messages; else only
        later, so a driver may look again when the old one has come.
        """
        limits = self._limits
        match self.state:
            case State.CLOSED | State.FAILED:
                return None
            case State.HANDSHAKE:
                return self._started + limits.handshake_timeout
            case State.OPEN:
                if self._suspended:
                    return None
                ping = None if limits.keep_alive is None else self._last_sent + limits.keep_alive
                end = self._timeout_at()
                ack = None if self._resumption is None else self._resumption.ack_at
                return min((at for at in (ping, end, ack) if at is not None), default=None)

    def _timeout_at(self) -> float | None:
        if self._limits.timeout is None or self._held:
            return None
        if self.role is Role.SERVER and not self._peer_pinged:
            return None
        return self._last_received + self._limits.timeout

    def handle_deadline(self, now: float) -> list[HubEvent]:
        """Do what is due: ping, or end a connection whose peer fell silent."""
        events: list[HubEvent] = []
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return events
        if self.state is State.HANDSHAKE:
            self._fail(RemoteProtocolError(HANDSHAKE_CANCELED, kind="HandshakeTimeout"), now, events)
            return events
        end = self._timeout_at()
        if end is not None and now >= end:
            if self.role is Role.SERVER:
                error = RemoteProtocolError(
                    f"Client hasn't sent a message/ping within the configured ClientTimeoutInterval "
                    f"({self._limits.timeout:g} s).",
                    kind="OperationCanceledException",
                )
            else:
                error = RemoteProtocolError(
                    f"Server timeout ({self._limits.timeout:g} s) elapsed without receiving a message from the server.",
                    kind="TimeoutException",
                )
            self._fail(error, now, events)
        elif self._resumption is not None and self._resumption.ack_at is not None and now >= self._resumption.ack_at:
            self.send(Ack(self._resumption.take_ack()), now)
        else:
            self.send(Ping(), now)
        return events

    # --- another transport

    def suspend(self) -> None:
        """The transport is lost, but another one may come: keep what is sent from now on.

        Raises:
            LocalProtocolError: the connection cannot be resumed.
        """
        if not self.can_resume:
            raise LocalProtocolError("this connection cannot be resumed")
        self._suspended = True
        self._out.clear()
        self.queued = 0
        self._handshake_out = b""
        self._rest = b""

    def resume(self, now: float) -> None:
        """Another transport is there: say where this side goes on, and repeat what was not acknowledged."""
        if not self._suspended:
            self.suspend()
        assert self._resumption is not None
        self._suspended = False
        self._last_received = now
        number, messages = self._resumption.replay()
        self.send(Sequence(number), now)
        self._out.extend(messages)
        self.queued += sum(map(len, messages))

    # --- the end

    def lose_transport(self) -> None:
        """The transport is gone for good; nothing more can be sent or received."""
        if self.state is State.FAILED:
            self._out.append(self._farewell)
        self.state = State.CLOSED
        self._resumption = None

    def _fail(self, error: RemoteProtocolError, now: float, events: list[HubEvent]) -> None:
        events.append(ConnectionFailed(error))
        if self.role is Role.SERVER and self.state is State.HANDSHAKE:
            self._handshake_out = serialize_handshake_response(HandshakeResponse(self._handshake_error(error)))
            self.state = State.CLOSED
        elif self.role is Role.SERVER:
            assert self.protocol is not None
            detail = f" {error}" if self._limits.detailed_errors else ""
            self._farewell = self.protocol.serialize(Close(CLOSED_WITH_ERROR + detail, allow_reconnect=True))
            self.state = State.FAILED
        else:
            self.state = State.CLOSED
        self._resumption = None
        self._rest = b""

    def _handshake_error(self, error: RemoteProtocolError) -> str:
        if isinstance(error, _Refused):
            return error.detail
        if error.kind in ("HandshakeTooLong", "HandshakeTimeout"):
            return HANDSHAKE_CANCELED
        return f"{HANDSHAKE_FAILED} {error}" if self._limits.detailed_errors else HANDSHAKE_FAILED


class _Refused(RemoteProtocolError):
    """A well-formed handshake that this server cannot serve; its detail is shown as it is."""
