"""What the hubs share: how a connection gets its session, keeps it, and loses it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from voisnap_mock.clock import Clock, Timer
from voisnap_mock.cloud.door import Admission, Door, refusal
from voisnap_mock.cloud.manners import NO_END_SESSION, POLLING, after_end
from voisnap_mock.cloud.problems import CONTENT_TYPE, ProblemDetails
from voisnap_mock.cloud.rates import Policy
from voisnap_mock.cloud.tenants import Agent, Tenant, write_remark
from voisnap_mock.cloud.tokens import TokenRefused
from voisnap_mock.cloud.wire import (
    AGENT_INACTIVE,
    AGENT_NOT_FOUND,
    AUTH_FAILED,
    RECONNECT_FAILED,
    SESSION_LIMIT_REACHED,
    ArgumentError,
    connection_metadata,
    error_event,
    hub_events,
)
from voisnap_mock.engine.events import (
    AudioReady,
    ChatInput,
    Failed,
    SessionEnded,
    SessionEvent,
    Started,
    VoiceInput,
)
from voisnap_mock.engine.runner import Channel, Session
from voisnap_mock.errors import ResumeRefused, SessionLimitReached
from voisnap_mock.signalr import (
    ConnectionDenied,
    ConnectionRequest,
    Hub,
    HubContext,
    HubException,
    LocalProtocolError,
    Notice,
    NoticeKind,
    Severance,
    Transport,
)

_log = logging.getLogger("voisnap_mock.cloud")

_NOTICES: Mapping[NoticeKind, str] = {
    NoticeKind.HANDSHAKE_FAILED: "connection.handshake_failed",
    NoticeKind.PROTOCOL_ERROR: "connection.protocol_error",
    NoticeKind.SLOW_CLIENT: "connection.slow_client",
    NoticeKind.INVOCATION_REFUSED: "method.refused",
    NoticeKind.METHOD_FAILED: "defect",
    NoticeKind.CALLBACK_FAILED: "defect",
}
"""What of an endpoint's notices is journaled, and as what; the others are journaled by the hub itself."""

Given = TypeVar("Given")
Checked = TypeVar("Checked")

FAREWELL = 0.1
"""Seconds between `SessionEnded` and the Close message.

A client that hangs up because of `SessionEnded`, as the documented sample does, has its call answered in this time; a
Close message right behind the event would make the client's library reject that call.
"""


@dataclass(frozen=True, slots=True)
class Visit:
    """A connection that was let in, and what its query asks for.

    Attributes:
        admission: None when the credential failed and `fidelity.auth_failure` is `error_event`; `refused` says why.
        variables: what templates of the agent's script may use.
        extra: what somebody in front of the door has noted.
    """

    admission: Admission | None
    agent_id: str | None = None
    session_id: str | None = None
    variables: Mapping[str, object] = field(default_factory=dict)
    refused: str = ""
    extra: object = None


class HubDoor:
    """Authenticates the requests of hub connections: negotiate and upgrade alike.

    Source: Documented for 401 at the handshake (real-time overview). Assumed: negotiate checks the same way, and
    `metadata` that is no JSON object is 400.
    """

    def __init__(
        self, door: Door, new_trace_id: Callable[[], str], clock: Clock, *, policies: Mapping[str, Policy] = {}
    ) -> None:
        self._door = door
        self._new_trace_id = new_trace_id
        self._clock = clock
        self._policies = policies

    def authenticate(self, request: ConnectionRequest) -> Visit:
        """Raises ConnectionDenied: 401 that names the failed check, 400 for metadata that cannot be read, or 429."""
        try:
            visit = self.admit(request)
            if visit.admission is not None:
                self._welcome(request, visit.admission.tenant)
            return visit
        except TokenRefused as error:
            tenant = self._door.tenants.default
            self._note_refusal(tenant, request, str(error), check=error.check, client=request.client)
            if tenant.file.fidelity.auth_failure == "error_event":
                return Visit(None, refused=str(error))
            raise self._denied(refusal(error, is_hub=True)) from error

    def admit(self, request: ConnectionRequest) -> Visit:
        """Check what the request brings, credentials first.

        Raises:
            TokenRefused: by the first check that fails.
            ConnectionDenied: 400 for metadata that cannot be read.
        """
        admission = self.check_access(request)
        query = request.query
        text = query.get("metadata")
        try:
            metadata = connection_metadata(text) if text else {}
        except ArgumentError as error:
            self._note_refusal(admission.tenant, request, str(error))
            raise self._denied(ProblemDetails(400, str(error))) from error
        variables: dict[str, object] = {"metadata": metadata}
        for name in ("userName", "language"):
            if (value := query.get(name)) is not None:
                variables[name] = value
        return Visit(admission, query.get("agentId") or None, query.get("sessionId") or None, variables)

    def _welcome(self, request: ConnectionRequest, tenant: Tenant) -> None:
        """Count and journal a client that asks for a connection, once for each.

        Source: Documented, rate-limits page: VoiceHub connections per minute and tenant. Assumed: negotiating counts,
        and an upgrade only if it comes without.
        """
        hub = request.path.rstrip("/").removesuffix("/negotiate")
        negotiates = hub != request.path.rstrip("/")
        if not negotiates and request.query.get("id"):
            return
        policy, plan = self._policies.get(hub), tenant.file.limits.rate_limits
        rate = None if policy is None else tenant.rates.take(plan, policy, tenant.id, self._clock.wall())
        if rate is not None and rate.is_exceeded:
            problem = rate.problem(plan)
            self._note_refusal(tenant, request, problem.detail, policy=rate.policy)
            raise self._denied(problem)
        if negotiates:
            tenant.journal.append("connection.negotiated", tenant_id=tenant.id, hub=hub, client=request.client)

    def _note_refusal(self, tenant: Tenant, request: ConnectionRequest, message: str, **details: Any) -> None:
        tenant.journal.append("connection.refused", tenant_id=tenant.id, hub=request.path, message=message, **details)
        client = request.client[0] if request.client else ""
        hammers = tenant.attempts.hammering(
            f"{request.path} {client}", self._clock.monotonic(), f"{request.path} refused a connection"
        )
        if hammers is not None:
            write_remark(tenant, hammers)

    def check_access(self, request: ConnectionRequest) -> Admission:
        """Raises TokenRefused: the access token is missing or fails a check."""
        return self._door.admit(
            request.headers.get("Authorization"), query_token=request.query.get("access_token"), is_hub=True
        )

    def _denied(self, problem: ProblemDetails) -> ConnectionDenied:
        return ConnectionDenied(problem.status, problem.body(self._new_trace_id()), CONTENT_TYPE, problem.all_headers())


def warn_unsent(target: str, error: LocalProtocolError) -> None:
    """Say that an event cannot be written; only one that is pushed by hand can hold such a thing."""
    _log.warning("event %s cannot be sent: %s", target, error)


class HubOutlet:
    """A session's way to its client: one hub connection.

    Attributes:
        session: None before the session is open, and after another connection took it over.
    """

    __slots__ = (
        "_channel",
        "_clock",
        "_connection",
        "_expiry",
        "_farewell",
        "_has_ended",
        "_session_id",
        "session",
    )

    def __init__(self, connection: HubContext, clock: Clock, channel: Channel) -> None:
        self.session: Session | None = None
        self._connection = connection
        self._clock = clock
        self._channel = channel
        self._session_id = ""
        self._has_ended = False
        self._farewell: Timer | None = None
        self._expiry: Timer | None = None

    def attach(self, session: Session) -> None:
        self.session = session
        self._session_id = session.id

    def deliver(self, event: SessionEvent) -> None:
        connection = self._connection
        if type(event) is AudioReady:
            connection.send("AudioReceived", event.pcm)
            return
        events = hub_events(event, session_id=self._session_id, wall=self._clock.wall(), channel=self._channel)
        for target, *arguments in events:
            try:
                connection.send(target, *arguments)
            except LocalProtocolError as error:
                warn_unsent(target, error)
        if isinstance(event, SessionEnded):
            self._has_ended = True
            self._farewell = self._clock.call_at(self._clock.monotonic() + FAREWELL, self.finish)

    def sever(self, how: str) -> None:
        self._connection.sever(Severance(how))

    def receive(self, given: VoiceInput | ChatInput) -> None:
        """Hand the session what its client did; without a session, or after its end, nothing happens."""
        if self.session is not None:
            self.session.receive(given)

    def expire_at(self, expires_at: float) -> None:
        """End the session when its token expires, at `expires_at` seconds since 1970.

        Source: Assumed, both that nothing happens unless asked for and that this would; no page says.
        """
        life = expires_at - self._clock.wall()
        self._expiry = self._clock.call_at(self._clock.monotonic() + life, self._expire)

    def finish(self) -> None:
        """The session is over and the client has had its time: close, without asking it to come back."""
        if self._has_ended:
            self._connection.close()

    def displace(self) -> None:
        """Another connection has taken the session over."""
        self.session = None
        self._stop_timers()
        self._connection.close(error="This session was resumed by another connection.")

    def lose(self) -> None:
        """The connection is gone."""
        session, self.session = self.session, None
        self._stop_timers()
        if session is not None:
            session.detach(self)

    def _expire(self) -> None:
        self.receive(Failed(AUTH_FAILED, "the access token expired during the session"))

    def _stop_timers(self) -> None:
        for timer in (self._farewell, self._expiry):
            if timer is not None:
                timer.cancel()


class Gate(Protocol):
    """What may stand between the connections of a hub and their sessions."""

    def admit(self, hub: SessionHub, connection: HubContext) -> Awaitable[bool] | None:
        """Whether a connection gets, or gets back, its session; None is yes at once. Who says no tells the client."""
        ...

    def opened(self, connection: HubContext, session: Session) -> None:
        """The session is there and has not begun."""
        ...

    def closed(self, connection: HubContext) -> None:
        """The connection is gone, whether it had a session or not."""
        ...


class SessionHub(Hub):
    """A hub on which each connection has one session with an agent.

    Subclasses add the methods that clients call, and say which kind of session it is.

    Attributes:
        gate: asked before a connection gets its session.
    """

    channel: ClassVar[Channel]
    started: ClassVar[Started] = Started()
    """How sessions begin here."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.gate: Gate | None = None
        self._connections: dict[str, HubContext] = {}

    def open_session(self, tenant: Tenant, agent: Agent, visit: Visit, outlet: HubOutlet) -> Session:
        """Make the session that a new connection asks for."""
        raise NotImplementedError

    def make_outlet(self, connection: HubContext) -> HubOutlet:
        """Make the way to the client of a new connection."""
        return HubOutlet(connection, self.clock, self.channel)

    async def on_connected(self, connection: HubContext) -> None:
        """Open or resume the session that the query asks for, or say why not and close.

        Source: Documented for the `Error` event and its codes (real-time overview). Assumed: the connection is
        accepted first, no `SessionStarted` comes, and the Close message forbids reconnecting.
        """
        visit = visit_of(connection)
        outlet = self.make_outlet(connection)
        connection.items["outlet"] = outlet
        self._connections[connection.connection_id] = connection
        if visit.admission is None:
            self.turn_away(connection, AUTH_FAILED, visit.refused)
            return
        tenant = visit.admission.tenant
        tenant.journal.append(
            "connection.opened",
            tenant_id=tenant.id,
            call_id=visit.session_id,
            hub=connection.request.path,
            connectionId=connection.connection_id,
            transport=connection.transport.value,
            protocol=connection.protocol,
            # `id` is the connection token, a secret too.
            query={name: value for name, value in connection.request.query.items() if name != "id"},
        )
        if self.channel == "voice" and connection.transport is Transport.LONG_POLLING:
            self.note_lint(connection, *POLLING)
        if self.gate is not None and (admitted := self.gate.admit(self, connection)) is not None and not await admitted:
            return
        if tenant.sessions.is_closed:
            self.turn_away(connection, AUTH_FAILED, f"the tenant {tenant.id} is no more")
            return
        if visit.session_id is not None:
            self._resume(connection, tenant, visit, visit.session_id, outlet)
        else:
            self._open(connection, tenant, visit, outlet)
        if outlet.session is None:
            return
        expires_at = visit.admission.identity.expires_at
        if expires_at is not None and tenant.file.fidelity.on_token_expiry == "error":
            outlet.expire_at(expires_at)

    async def on_disconnected(self, connection: HubContext, error: Exception | None) -> None:
        self._connections.pop(connection.connection_id, None)
        visit, outlet = visit_of(connection), outlet_of(connection)
        session = outlet.session
        if error is None and session is not None and not session.is_over and session.started_at is not None:
            self.note_lint(connection, *NO_END_SESSION)
        if visit.admission is not None:
            visit.admission.tenant.journal.append(
                "connection.closed",
                tenant_id=visit.admission.tenant.id,
                call_id=session.id if session is not None else None,
                hub=connection.request.path,
                connectionId=connection.connection_id,
                message=str(error) if error is not None else "closed in order",
            )
        outlet.lose()
        if self.gate is not None:
            self.gate.closed(connection)

    def finish(self) -> None:
        """Close at once every connection whose session has ended."""
        for connection in tuple(self._connections.values()):
            outlet_of(connection).finish()

    def notify(self, notice: Notice) -> None:
        """Write what the hub's endpoint has noticed into the journal of the connection's tenant."""
        kind = _NOTICES.get(notice.kind)
        connection = self._connections.get(notice.connection_id)
        visit = notice.user
        if kind is None:
            return
        message = notice.detail
        if notice.error is not None:
            message = f"{message}: {type(notice.error).__name__}: {notice.error}"
        if kind == "defect":
            _log.error("hub: %s", message, exc_info=notice.error)
        if connection is not None:
            self._note(connection, kind, message=message)
        elif isinstance(visit, Visit) and visit.admission is not None:
            # It came no further than the handshake.
            tenant = visit.admission.tenant
            tenant.journal.append(kind, tenant_id=tenant.id, connectionId=notice.connection_id, message=message)

    def check(self, connection: HubContext, check: Callable[[Given], Checked], given: Given) -> Checked:
        """`check(given)`; what is wrong with the argument goes to the client and into the journal.

        Raises:
            HubException: with the text of the ArgumentError, as the error of this invocation.
        """
        try:
            return check(given)
        except ArgumentError as error:
            raise self.refusal(connection, error) from error

    def refusal(self, connection: HubContext, error: ArgumentError) -> HubException:
        """The error of this invocation for a wrong argument, journaled."""
        self._note(connection, "method.refused", message=str(error))
        return HubException(str(error))

    def note_method(self, connection: HubContext, target: str, **details: Any) -> None:
        """Write a call of the client into the journal, at its place among the audio."""
        session = outlet_of(connection).session
        if session is None:
            self._note(connection, "method", target=target, **details)
            return
        # Whoever hangs up because of `SessionEnded`, as the documented sample does, is too late without fault.
        if session.is_over and target != "EndSessionAsync":
            self.note_lint(connection, *after_end(target))
        session.note_in_turn("method", target=target, **details)

    def note_lint(self, connection: HubContext, rule: str, message: str) -> None:
        """Write a remark on the client's manners into the journal: nothing that the service would refuse.

        On a virtual clock it names the call but is no entry of it: the same audio is the same call there, in whatever
        pieces it comes.
        """
        admission, session = visit_of(connection).admission, outlet_of(connection).session
        if admission is None or session is None or not session.is_repeatable:
            self._note(connection, "lint", rule=rule, message=message)
            return
        tenant = admission.tenant
        tenant.journal.append("lint", tenant_id=tenant.id, rule=rule, message=message, callId=session.id)

    def _note(self, connection: HubContext, kind: str, **details: Any) -> None:
        admission, session = visit_of(connection).admission, outlet_of(connection).session
        if admission is None:
            return
        admission.tenant.journal.append(
            kind,
            tenant_id=admission.tenant.id,
            call_id=session.id if session is not None else None,
            t=round(session.t, 3) if session is not None else None,
            **details,
        )

    # --- getting a session --------------------------------------------------------------------------------------

    def _open(self, connection: HubContext, tenant: Tenant, visit: Visit, outlet: HubOutlet) -> None:
        known = ", ".join(tenant.agents) or "none"
        if visit.agent_id is None:
            self.turn_away(
                connection, AGENT_NOT_FOUND, f"the query names no agent: agentId is expected, one of {known}"
            )
            return
        agent = tenant.find(visit.agent_id)
        if agent is None:
            self.turn_away(
                connection, AGENT_NOT_FOUND, f"Agent {visit.agent_id[:80]!r} does not exist; this server has {known}"
            )
            return
        if not agent.script.active:
            self.turn_away(connection, AGENT_INACTIVE, f"Agent {visit.agent_id!r} is not active")
            return
        try:
            session = self.open_session(tenant, agent, visit, outlet)
        except SessionLimitReached as error:
            self.turn_away(connection, SESSION_LIMIT_REACHED, str(error))
            return
        outlet.attach(session)
        if self.gate is not None:
            self.gate.opened(connection, session)
        session.receive(self.started)

    def _resume(self, connection: HubContext, tenant: Tenant, visit: Visit, session_id: str, outlet: HubOutlet) -> None:
        hammers = tenant.attempts.hammering(f"resume {session_id}", self.clock.monotonic(), "the session was resumed")
        if hammers is not None:
            self.note_lint(connection, *hammers)
        live = tenant.sessions.get(session_id)
        if live is not None and visit.agent_id not in (None, live.script.id):
            self.turn_away(
                connection,
                RECONNECT_FAILED,
                f"session {session_id[:80]!r} is with agent {live.script.id!r}, "
                f"the query names {str(visit.agent_id)[:80]!r}",
            )
            return
        if live is not None:
            # The events of a resumption come while it happens, and name the session.
            outlet.attach(live)
        try:
            resumption = tenant.sessions.resume(session_id, tenant_id=tenant.id, channel=self.channel, outlet=outlet)
        except ResumeRefused as error:
            outlet.session = None
            self.turn_away(connection, RECONNECT_FAILED, str(error))
            return
        if isinstance(resumption.displaced, HubOutlet):
            resumption.displaced.displace()

    def turn_away(self, connection: HubContext, code: str, message: str) -> None:
        """Refuse a connection its session: `Error`, then a Close that forbids to come back."""
        visit = visit_of(connection)
        if visit.admission is not None:
            visit.admission.tenant.journal.append(
                "connection.turned_away",
                tenant_id=visit.admission.tenant.id,
                hub=connection.request.path,
                connectionId=connection.connection_id,
                code=code,
                message=message,
            )
            tenant, wanted = visit.admission.tenant, visit.session_id or visit.agent_id
            again = tenant.attempts.ignored(code, f"{connection.request.path} {code} {wanted}", self.clock.monotonic())
            if again is not None:
                self.note_lint(connection, *again)
        connection.send(*error_event(code, message, recoverable=False))
        connection.close()


def visit_of(connection: HubContext) -> Visit:
    """What the authenticator made of the connection's request."""
    assert isinstance(connection.user, Visit)
    return connection.user


def outlet_of(connection: HubContext) -> HubOutlet:
    """The outlet of a connection; it has no session when the connection was turned away."""
    outlet = connection.items["outlet"]
    assert isinstance(outlet, HubOutlet)
    return outlet
