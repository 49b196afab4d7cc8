"""Faults between a connection and its session: the points `connect` and, when a session is resumed, `reconnect`.

A connection waits in real time here, also for a session that it resumes: that has lost its caller, and its call time
may stand still until it has one again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial

from voisnap_mock.clock import Clock
from voisnap_mock.cloud.session_hub import SessionHub
from voisnap_mock.cloud.wire import error_event
from voisnap_mock.engine.runner import Session
from voisnap_mock.faults.desk import FaultDesk
from voisnap_mock.faults.rules import Drop, Fail, Slow, Verdict
from voisnap_mock.faults.wire import scope_of, visit_of
from voisnap_mock.signalr import HubContext, Severance


class FaultGate:
    """See `cloud.session_hub.Gate`."""

    def __init__(self, desk: FaultDesk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    def admit(self, hub: SessionHub, connection: HubContext) -> Awaitable[bool] | None:
        visit = visit_of(connection)
        assert visit is not None
        assert visit.admission is not None
        tenant = visit.admission.tenant
        resumed = None if visit.session_id is None else tenant.sessions.get(visit.session_id)
        if resumed is not None and self._desk.scope_of(tenant.id, resumed.id) is None:
            self.opened(connection, resumed)
        verdicts = self._desk.decide(
            tenant.id,
            "connect" if visit.session_id is None else "reconnect",
            session=resumed,
            agent=visit.agent_id,
            channel=hub.channel,
            scope=scope_of(connection),
        )
        return self._pass(hub, connection, resumed, verdicts) if verdicts else None

    async def _pass(
        self, hub: SessionHub, connection: HubContext, resumed: Session | None, verdicts: Sequence[Verdict]
    ) -> bool:
        for verdict in verdicts:
            rule = verdict.rule
            match rule.do:
                case Slow(seconds):
                    await self._wait(seconds)
                case Fail() as fail:
                    await self._wait(rule.after)
                    if not fail.is_recoverable:
                        hub.turn_away(connection, fail.code, verdict.message)
                        return False
                    connection.send(*error_event(fail.code, verdict.message, recoverable=True))
                case Drop(how) if rule.after:
                    # The session begins or goes on, and loses its connection later.
                    act = partial(connection.sever, Severance(how.value))
                    if resumed is not None:
                        resumed.later(rule.after, act)
                    else:
                        self._clock.call_at(self._clock.monotonic() + rule.after, act)
                case Drop(how):
                    connection.sever(Severance(how.value))
                    return False
        return not connection.is_over

    async def _wait(self, seconds: float) -> None:
        if seconds:
            await self._clock.sleep_until(self._clock.monotonic() + seconds)

    def closed(self, connection: HubContext) -> None:
        visit, scope = visit_of(connection), scope_of(connection)
        if scope is not None and visit is not None and visit.admission is not None:
            self._desk.close_scope(visit.admission.tenant.id, scope)

    def opened(self, connection: HubContext, session: Session) -> None:
        scope = scope_of(connection)
        if scope is not None:
            self._desk.attach(session, scope)
