"""Faults on the wire of a hub connection: its handshake, the methods that are called, the events that are sent.

A connection is tapped when rules are armed that could concern it, and not before. Delays are in call time as soon as
there is a session, else in real time.

What `frames` does:

| framing            | handshake       | event     | method                                    |
| ------------------ | --------------- | --------- | ----------------------------------------- |
| duplicate, swallow | its answer      | the event | the call: carried out twice, or never     |
| reorder            | its answer      | the event | the call, carried out after the next one  |
| fragment, coalesce | its answer      | the event | the answer to the call                    |
| corrupt            | its answer      | the event | the answer to the call                    |
| missing_completion | -               | -         | carried out, and never answered           |
| late_ping          | from here on the server sends no pings      | the same                       |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from weakref import WeakSet

from voisnap_mock.agents.script import EndReason
from voisnap_mock.clock import Clock
from voisnap_mock.cloud.session_hub import HubOutlet, Visit, warn_unsent
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.cloud.wire import CandidateArgument, error_event
from voisnap_mock.engine.events import Failed, HangupRequested
from voisnap_mock.engine.runner import Session
from voisnap_mock.faults.armed import Scope
from voisnap_mock.faults.damage import damage
from voisnap_mock.faults.desk import FaultDesk
from voisnap_mock.faults.lines import Act, Lines
from voisnap_mock.faults.own import own_rules
from voisnap_mock.faults.rules import METHODS, Drop, Fail, Frames, Framing, Replace, Silence, Slow, Verdict
from voisnap_mock.signalr import (
    Crossing,
    Fragmented,
    HubContext,
    LocalProtocolError,
    Rewritten,
    Seam,
    Severance,
)
from voisnap_mock.signalr.interceptors import Forward
from voisnap_mock.signalr.messages import BindingFailure, Close, Completion, Invocation, StreamInvocation

ON_THE_WIRE: Final = ("handshake", "method.<Name>", "event.<Name>", "sdp", "ice")
"""The rows of the table of points that are crossed here."""

_SCOPE: Final = "faults.scope"
_LONGEST_HOLD: Final = 1.0
"""Real seconds for which a message waits for the next one, to share its frame or to come after it."""
_ALSO: Final = {"SdpAnswerReceived": "sdp", "IceCandidateReceived": "ice", "SendIceCandidateAsync": "ice"}
"""Points that are crossed by a message besides the one of its own name."""
_METHODS: Final = {name.lower(): name for name in METHODS}
_OF_THE_END: Final = ("ConversationEnded", "SessionEnded")
"""What may still come after an error that the session does not survive."""
_ON_ANSWERS: Final = frozenset({Framing.FRAGMENT, Framing.COALESCE, Framing.CORRUPT, Framing.MISSING_COMPLETION})


def visit_of(connection: HubContext) -> Visit | None:
    """What the door made of a connection; None when its credential was refused."""
    visit = connection.user
    return visit if isinstance(visit, Visit) and visit.admission is not None else None


def scope_of(connection: HubContext) -> Scope | None:
    """The rules that came with a connection."""
    scope = connection.items.get(_SCOPE)
    return scope if isinstance(scope, Scope) else None


class Wires:
    """Taps the connections of one hub for which there is something to do.

    Args:
        channel: of the hub.
    """

    def __init__(self, desk: FaultDesk, clock: Clock, channel: str) -> None:
        self._desk = desk
        self._clock = clock
        self._channel = channel
        self._untapped: WeakSet[HubContext] = WeakSet()
        desk.on_armed.append(self._look_again)

    def made(self, connection: HubContext) -> None:
        """See `HubEndpoint.on_made`. Arms what the client brought with it, when negotiate has not done so."""
        visit = visit_of(connection)
        if visit is None:
            return
        tenant_id = _tenant_of(connection).id
        # The rules of a session stay with it, however often its connection is made anew.
        scope = None if visit.session_id is None else self._desk.scope_of(tenant_id, visit.session_id)
        own = own_rules(connection.negotiated) or own_rules(visit)
        if scope is None and own is not None:
            scope = own.scope = own.scope or self._desk.scope(tenant_id, own.faults)
        connection.items[_SCOPE] = scope
        if not self._tap(connection):
            self._untapped.add(connection)

    def _look_again(self, tenant_id: str) -> None:
        for connection in list(self._untapped):
            if _tenant_of(connection).id == tenant_id and self._tap(connection):
                self._untapped.discard(connection)

    def _tap(self, connection: HubContext) -> bool:
        if not self._desk.touches(_tenant_of(connection).id, ON_THE_WIRE, scope=scope_of(connection)):
            return False
        connection.tap(WireTap(connection, desk=self._desk, clock=self._clock, channel=self._channel))
        return True


def _tenant_of(connection: HubContext) -> Tenant:
    visit = visit_of(connection)
    assert visit is not None
    assert visit.admission is not None
    return visit.admission.tenant


@dataclass(slots=True)
class _Way:
    """What the verdicts on one crossing come to."""

    delay: float = 0.0
    verdict: Verdict | None = None


class WireTap:
    """Stands between one client and its hub; see the table of this module."""

    def __init__(self, connection: HubContext, *, desk: FaultDesk, clock: Clock, channel: str) -> None:
        self._connection = connection
        self._desk = desk
        self._clock = clock
        self._channel = channel
        self._tenant = _tenant_of(connection)
        self._in = Lines(self.later)
        self._out = Lines(self.later)
        # Messages that wait for the next one of their direction: to go before it in one frame, or to come after it.
        self._glued: list[Act] = []
        self._overtaken: dict[Seam, list[Act]] = {Seam.MESSAGE_IN: [], Seam.MESSAGE_OUT: [], Seam.BYTES_OUT: []}
        self._answers: dict[str, Verdict] = {}
        self._handshake: Verdict | None = None
        self._glued_bytes = b""
        self._has_failed = False
        self._fragments_next = False

    def cross(self, crossing: Crossing, forward: Forward) -> None:
        value = crossing.value
        match crossing.seam:
            case Seam.MESSAGE_OUT if isinstance(value, Invocation):
                self._go_out(value, partial(_send, value.target, forward))
            case Seam.MESSAGE_OUT:
                self._go_out(value, forward)
            case Seam.BYTES_OUT:
                self._write(value, forward)
            case Seam.MESSAGE_IN if isinstance(value, Invocation | StreamInvocation | BindingFailure):
                self._call(value, forward)
            case Seam.HANDSHAKE:
                self._shake(value, forward)
            case _:
                forward(value)

    # --- Time and place -------------------------------------------------------------------------------------------

    @property
    def session(self) -> Session | None:
        outlet = self._connection.items.get("outlet")
        return outlet.session if isinstance(outlet, HubOutlet) else None

    def later(self, seconds: float, act: Act) -> None:
        session = self.session
        if session is not None and session.started_at is not None:
            session.later(seconds, act)
        else:
            self._later_by_the_clock(seconds, act)

    def _later_by_the_clock(self, seconds: float, act: Act) -> None:
        self._clock.call_at(self._clock.monotonic() + seconds, act)

    def _decide(self, point: str, *, target: str | None = None, text: str | None = None) -> _Way:
        verdicts = self._ask(point, target, text)
        if target in _ALSO and all(not verdict.rule.is_exclusive for verdict in verdicts):
            verdicts += self._ask(_ALSO[target], target, text)
        way = _Way()
        for verdict in verdicts:
            match verdict.rule.do:
                case Slow(seconds):
                    way.delay += seconds
                case Drop(how) if verdict.rule.after:
                    # The rest goes on until then.
                    self.later(verdict.rule.after, partial(self._connection.sever, Severance(how.value)))
                case _:
                    way.verdict = verdict
                    way.delay += verdict.rule.after
        return way

    def _ask(self, point: str, target: str | None, text: str | None) -> tuple[Verdict, ...]:
        visit = visit_of(self._connection)
        return self._desk.decide(
            self._tenant.id,
            point,
            session=self.session,
            agent=None if visit is None else visit.agent_id,
            channel=self._channel,
            target=target,
            text=text,
            scope=scope_of(self._connection),
        )

    # --- The handshake --------------------------------------------------------------------------------------------

    def _shake(self, value: Any, forward: Forward) -> None:
        way = self._decide("handshake")
        match None if way.verdict is None else way.verdict.rule.do:
            case Drop(how):
                self._connection.sever(Severance(how.value))
                return
            case Frames(Framing.LATE_PING):
                self._connection.stop_pings()
            case Frames():
                self._handshake = way.verdict
        self._in.put("handshake", partial(forward, value), delay=way.delay)

    def _write(self, data: bytes, forward: Forward) -> None:
        if self._fragments_next:
            self._fragments_next = False
            data = Fragmented(data)
        handshake, self._handshake = self._handshake, None
        if self._glued_bytes:
            data, self._glued_bytes = self._glued_bytes + data, b""
        if handshake is None:
            forward(data)
            self._let_overtaken_go(Seam.BYTES_OUT)
            return
        match handshake.rule.do:
            case Frames(Framing.FRAGMENT):
                forward(Fragmented(data))
            case Frames(Framing.DUPLICATE):
                forward(data)
                forward(data)
            case Frames(Framing.CORRUPT):
                forward(damage(data, handshake.draw, is_binary=False))
            case Frames(Framing.COALESCE):
                self._glued_bytes = data
                self._later_by_the_clock(_LONGEST_HOLD, lambda: self._forward_glued(forward))
            case Frames(Framing.REORDER):
                self._hold(self._overtaken[Seam.BYTES_OUT], partial(forward, data))

    def _forward_glued(self, forward: Forward) -> None:
        data, self._glued_bytes = self._glued_bytes, b""
        if data:
            forward(data)

    # --- Methods --------------------------------------------------------------------------------------------------

    def _call(self, call: Invocation | StreamInvocation | BindingFailure, forward: Forward) -> None:
        name = _METHODS.get(call.target.lower(), call.target)
        arguments = () if isinstance(call, BindingFailure) else call.arguments
        way = self._decide(f"method.{name}", target=name, text=_text_of(arguments))
        act: Act = partial(self._pass_in, call, forward)
        if way.verdict is not None:
            match way.verdict.rule.do:
                case Fail() as fail:
                    act = partial(self._fail_call, call, fail, way.verdict, forward)
                case Drop(how):
                    act = partial(self._connection.sever, Severance(how.value))
                case Replace(value) if isinstance(call, Invocation):
                    act = partial(self._pass_in, _replaced(call, value), forward)
                case Frames(how):
                    act = partial(self._mistreat_call, call, how, way.verdict, act)
        self._in.put(name, act, delay=way.delay)

    def _pass_in(self, call: Any, forward: Forward) -> None:
        forward(call)
        self._let_overtaken_go(Seam.MESSAGE_IN)

    def _fail_call(self, call: Any, fail: Fail, verdict: Verdict, forward: Forward) -> None:
        """The call is answered with an error, and the session fails as it does by itself."""
        detail = f"{fail.code}: {verdict.message}"
        is_stream = isinstance(call, StreamInvocation) or (isinstance(call, BindingFailure) and call.streaming)
        forward(BindingFailure(call.target, detail, call.invocation_id, is_stream))
        session = self.session
        if session is not None:
            session.receive(Failed(fail.code, verdict.message, recoverable=fail.is_recoverable))
        else:
            self._connection.send(*error_event(fail.code, verdict.message, recoverable=fail.is_recoverable))

    def _mistreat_call(self, call: Any, how: Framing, verdict: Verdict, act: Act) -> None:
        match how:
            case Framing.SWALLOW:
                pass
            case Framing.DUPLICATE:
                act()
                act()
            case Framing.REORDER:
                self._hold(self._overtaken[Seam.MESSAGE_IN], act)
            case Framing.LATE_PING:
                self._connection.stop_pings()
                act()
            case _:
                assert how in _ON_ANSWERS
                if call.invocation_id is None:
                    self._note_void(verdict, f"the client wants no answer to this call of {call.target}")
                else:
                    self._answers[call.invocation_id] = verdict
                act()

    # --- Events and answers ---------------------------------------------------------------------------------------

    def _go_out(self, message: Any, forward: Forward) -> None:
        if isinstance(message, Close):
            self._out.put_last(partial(self._close, message, forward))
            return
        act: Act = partial(self._pass_out, message, forward)
        if isinstance(message, Completion):
            verdict = self._answers.pop(message.invocation_id, None)
            if verdict is not None and isinstance(verdict.rule.do, Frames):
                act = partial(self._mistreat, message, verdict.rule.do.how, verdict, forward)
            self._out.put("", act)
            return
        if not isinstance(message, Invocation):
            self._out.put("", act)
            return
        name = message.target
        if self._has_failed and name not in _OF_THE_END:
            return
        way = self._decide(f"event.{name}", target=name, text=_text_of(message.arguments))
        if way.verdict is not None:
            match way.verdict.rule.do:
                case Fail() as fail:
                    act = partial(self._fail_event, name, fail, way.verdict, forward)
                case Drop(how):
                    act = partial(self._connection.sever, Severance(how.value))
                case Replace(value):
                    act = partial(self._pass_out, _replaced(message, value), forward)
                case Silence():
                    act = _nothing
                case Frames(how):
                    act = partial(self._mistreat, message, how, way.verdict, forward)
        if name == "SessionEnded":
            # Nothing comes after it.
            self._out.put_last(act, delay=way.delay)
        else:
            self._out.put(name, act, delay=way.delay)

    def _fail_event(self, name: str, fail: Fail, verdict: Verdict, forward: Forward) -> None:
        """`Error` comes in the event's place, and the session ends unless the error is recoverable."""
        target, *arguments = error_event(fail.code, verdict.message, recoverable=fail.is_recoverable)
        self._pass_out(Invocation(target, tuple(arguments)), forward)
        session = self.session
        if session is not None and not fail.is_recoverable:
            self._has_failed = True
            session.receive(HangupRequested(EndReason.ERROR))

    def _mistreat(self, message: Any, how: Framing, verdict: Verdict, forward: Forward) -> None:
        match how:
            case Framing.FRAGMENT:
                self._fragments_next = True
                self._pass_out(message, forward)
            case Framing.COALESCE:
                self._hold(self._glued, partial(forward, message))
            case Framing.CORRUPT:
                is_binary = self._connection.protocol == "messagepack"
                self._pass_out(Rewritten(message, partial(_damaged, verdict.draw, is_binary)), forward)
            case Framing.DUPLICATE:
                self._pass_out(message, forward)
                forward(message)
            case Framing.REORDER:
                self._hold(self._overtaken[Seam.MESSAGE_OUT], partial(forward, message))
            case Framing.LATE_PING:
                self._connection.stop_pings()
                self._pass_out(message, forward)
            case Framing.SWALLOW | Framing.MISSING_COMPLETION:
                pass

    def _pass_out(self, message: Any, forward: Forward) -> None:
        self._let_go(self._glued)
        forward(message)
        self._let_overtaken_go(Seam.MESSAGE_OUT)

    def _close(self, message: Close, forward: Forward) -> None:
        self._let_go(self._glued)
        self._let_overtaken_go(Seam.MESSAGE_OUT)
        forward(message)

    # --- Messages that wait for the next one ----------------------------------------------------------------------

    def _hold(self, held: list[Act], act: Act) -> None:
        held.append(act)
        self._later_by_the_clock(_LONGEST_HOLD, lambda: self._let_go(held))

    def _let_overtaken_go(self, seam: Seam) -> None:
        if self._overtaken[seam]:
            self._let_go(self._overtaken[seam])

    def _let_go(self, held: list[Act]) -> None:
        acts = held[:]
        held.clear()
        for act in acts:
            act()

    def _note_void(self, verdict: Verdict, why: str) -> None:
        session = self.session
        self._tenant.journal.append(
            "fault.void",
            tenant_id=self._tenant.id,
            call_id=None if session is None else session.id,
            t=None if session is None else round(session.t, 3),
            fault=verdict.rule.id,
            message=why,
        )


def _nothing() -> None:
    pass


def _send(target: str, forward: Forward, event: Any) -> None:
    """Whoever sent the event may no longer be there to be told that it cannot be written."""
    try:
        forward(event)
    except LocalProtocolError as error:
        warn_unsent(target, error)


def _replaced(message: Invocation, value: object) -> Invocation:
    """With another argument; a text in the place of an SDP or a candidate leaves what stands beside it."""
    first = message.arguments[0] if message.arguments else None
    kept = {"SdpAnswerReceived": "sdp", "IceCandidateReceived": "candidate"}.get(message.target)
    if isinstance(value, str) and kept is not None and isinstance(first, dict):
        value = {**first, kept: value}
    elif isinstance(value, str) and isinstance(first, CandidateArgument):
        value = replace(first, candidate=value)
    return Invocation(message.target, (value,), message.invocation_id, message.stream_ids, message.headers)


def _damaged(seed: int, is_binary: bool, data: bytes) -> bytes:
    return damage(data, seed, is_binary=is_binary)


def _text_of(arguments: tuple[object, ...]) -> str | None:
    """What a message of the service says, if it says something."""
    first = arguments[0] if arguments else None
    found = first.get("text", first.get("content")) if isinstance(first, Mapping) else getattr(first, "content", None)
    return found if isinstance(found, str) else None
