"""Where faults are armed, asked for and accounted for: one plan for each tenant, and its entries in the journal.

Everything is called on the server's loop. What fires at a seam is decided by the plan; what is then done is the seam's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.clock import Clock
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.engine.ports import Machine
from voisnap_mock.engine.runner import Session
from voisnap_mock.errors import FaultUnknown
from voisnap_mock.faults import magic
from voisnap_mock.faults.armed import Scope
from voisnap_mock.faults.machine import POINTS_INSIDE, FaultyMachine
from voisnap_mock.faults.plan import FaultPlan, RuleReport, phase_at, report_of
from voisnap_mock.faults.reading import faults_of, pushed_events, read_faults
from voisnap_mock.faults.rules import Crossing, FaultRule, Faults, Schedule, Verdict
from voisnap_mock.faults.writing import write_firing, write_rule


class _Tenant:
    """What the desk knows of a tenant."""

    __slots__ = ("dressed", "plan", "scopes", "tenant")

    def __init__(self, tenant: Tenant, seed: int) -> None:
        self.tenant = tenant
        self.plan = FaultPlan(seed, tenant=tenant.id)
        self.scopes: dict[str, Scope] = {}
        self.dressed: dict[str, FaultyMachine] = {}


class FaultDesk:
    """The faults of all tenants of one server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._tenants: dict[str, _Tenant] = {}
        self.on_armed: list[Callable[[str], None]] = []
        """Told of a tenant for which rules were armed."""

    # --- Tenants --------------------------------------------------------------------------------------------------

    def open(self, tenant: Tenant, seed: int) -> None:
        """Take a new tenant in, before it loads its first agents file; `seed` is of its draws."""
        self._tenants[tenant.id] = _Tenant(tenant, seed)
        tenant.on_load = lambda file: self._load(tenant.id, file)
        tenant.sessions.on_open = lambda session: self._session_opened(tenant.id, session)
        tenant.sessions.on_end = lambda session: self._session_ended(tenant.id, session)

    def close(self, tenant_id: str) -> None:
        """The tenant is no more."""
        self._tenants.pop(tenant_id, None)

    def _load(self, tenant_id: str, file: AgentsFile) -> None:
        known = self._known(tenant_id)
        has_magic = file.sections.get("magic", True)
        known.tenant.hide(magic.AGENTS if has_magic else {})
        known.plan.load(faults_of(file), standing=magic.rules_without(file.agents) if has_magic else ())
        self._rules_changed(tenant_id)

    # --- For those who arm ----------------------------------------------------------------------------------------

    def read(
        self, tenant_id: str, given: str | bytes | Mapping[str, Any] | Sequence[Any], *, source: str = "faults"
    ) -> Faults:
        """Read rules and schedules as `read_faults` does, knowing what the tenant's scripts and faults are called.

        Raises:
            FaultsError: with every problem.
        """
        known = self._known(tenant_id)
        ids = [report.rule.id for report in known.plan.report()]
        return read_faults(given, source=source, ids=ids, events=pushed_events(known.tenant.file.agents.values()))

    def arm(self, tenant_id: str, faults: Faults) -> tuple[FaultRule, ...]:
        """Arm more rules; those without an id get one. What a token holds is armed instead of all there is.

        Raises:
            FaultConflict: an id is taken; then nothing is armed.
        """
        rules = self._plan(tenant_id).arm(faults)
        self._note_armed(tenant_id, rules)
        self._rules_changed(tenant_id)
        return rules

    def replace(self, tenant_id: str, faults: Faults) -> tuple[FaultRule, ...]:
        """Arm these rules instead of all that are.

        Raises:
            FaultConflict: two have the same id; then nothing is changed.
        """
        rules = self._plan(tenant_id).replace(faults)
        self._note(tenant_id, "fault.cleared")
        self._note_armed(tenant_id, rules)
        self._rules_changed(tenant_id)
        return rules

    def disarm(self, tenant_id: str, rule_id: str) -> FaultRule:
        """Raises FaultUnknown when the tenant has no rule of this id."""
        rule = self._plan(tenant_id).disarm(rule_id)
        self._note(tenant_id, "fault.disarmed", fault=rule.id)
        return rule

    def reset(self, tenant_id: str) -> None:
        """Back to the rules of the agents file, with fresh counters; no schedule runs."""
        self._plan(tenant_id).reset()
        self._note(tenant_id, "fault.reset")
        self._rules_changed(tenant_id)

    def report(self, tenant_id: str) -> tuple[RuleReport, ...]:
        """What became of each rule."""
        return self._plan(tenant_id).report()

    def token(self, tenant_id: str) -> str:
        """One word that `read` takes, and that replays these faults at the same places."""
        return self._plan(tenant_id).token()

    def has_drawn(self, tenant_id: str) -> bool:
        """Whether chance has had a say, so that only the token brings the same run again."""
        return self._plan(tenant_id).has_drawn

    # --- Schedules ------------------------------------------------------------------------------------------------

    def schedules(self, tenant_id: str) -> tuple[Schedule, ...]:
        return self._plan(tenant_id).schedules

    def start_schedule(self, tenant_id: str, name: str) -> Schedule:
        """Begin it anew. Raises FaultUnknown when there is none of this name."""
        schedule = self._plan(tenant_id).start_schedule(name, self.now)
        self._note(tenant_id, "schedule.started", name=name)
        return schedule

    def stop_schedule(self, tenant_id: str, name: str) -> Schedule:
        """Raises FaultUnknown when there is none of this name."""
        schedule = self._plan(tenant_id).stop_schedule(name)
        self._note(tenant_id, "schedule.stopped", name=name)
        return schedule

    def is_running(self, tenant_id: str, name: str) -> bool:
        """Whether a schedule was started and, by the wall clock, is not over."""
        plan = self._plan(tenant_id)
        started = plan.started(name)
        schedule = next((one for one in plan.schedules if one.name == name), None)
        return started is not None and schedule is not None and phase_at(schedule, self.now - started) is not None

    # --- For seams ------------------------------------------------------------------------------------------------
    # Somebody may wait at a seam while the tenant is dropped: for one that is no more there are no faults.

    @property
    def now(self) -> float:
        """Time of crossings outside of sessions: real seconds since the server began."""
        return self._clock.monotonic() - self._began

    def watches(self, tenant_id: str, point: str, *, agent: str | None = None, scope: Scope | None = None) -> bool:
        """Whether a rule is armed that could fire there: whether a seam is needed at all."""
        known = self._tenants.get(tenant_id)
        return known is not None and known.plan.watches(point, agent=agent, scope=scope)

    def touches(self, tenant_id: str | None, points: Collection[str], *, scope: Scope | None = None) -> bool:
        """Whether a rule is armed for one of these rows of the table of points; without a tenant: for any tenant."""
        if tenant_id is None:
            return any(known.plan.touches(points, scope=scope) for known in self._tenants.values())
        known = self._tenants.get(tenant_id)
        return known is not None and known.plan.touches(points, scope=scope)

    def scope(self, tenant_id: str, faults: Faults) -> Scope:
        """Rules that are for one connection and its session alone; `attach` gives them to the session."""
        scope = self._plan(tenant_id).scope(faults.rules)
        self._note_armed(tenant_id, [report.rule for report in report_of(scope)])
        return scope

    def scope_of(self, tenant_id: str, session_id: str) -> Scope | None:
        """The rules of one session."""
        known = self._tenants.get(tenant_id)
        return None if known is None else known.scopes.get(session_id)

    def close_scope(self, tenant_id: str, scope: Scope) -> None:
        """The request or connection that brought the rules is over: unless a session has them, note what they did."""
        if scope.has_session or tenant_id not in self._tenants:
            return
        for report in report_of(scope):
            self._note(tenant_id, "fault.report", fault=report.rule.id, fired=report.fired, nearMiss=report.near_miss)

    def attach(self, session: Session, scope: Scope) -> None:
        """Let these rules count in this session too; before it starts."""
        known = self._known(session.tenant_id)
        known.scopes[session.id] = scope
        scope.has_session = True
        self._dress(known, session)
        if session.id in known.dressed:
            known.dressed[session.id].scope = scope

    def decide(
        self,
        tenant_id: str,
        point: str,
        *,
        session: Session | None = None,
        agent: str | None = None,
        channel: str | None = None,
        target: str | None = None,
        text: str | None = None,
        scope: Scope | None = None,
    ) -> tuple[Verdict, ...]:
        """The rules that fire at a crossing, each noted in the journal; carry them out in this order.

        Delays may come with others; of all other actions there is at most one, the last.

        Args:
            session: gives agent, channel, turn, call time and its own rules.
            scope: the rules of a connection that has no session.
        """
        known = self._tenants.get(tenant_id)
        if known is None:
            return ()
        if session is None:
            crossing = Crossing(point, self.now, agent=agent, channel=channel, target=target, text=text)
        else:
            scope = known.scopes.get(session.id)
            crossing = Crossing(
                point, session.t, session.id, session.script.id, session.channel, session.turns, target, text
            )
        verdicts = known.plan.decide(crossing, scope)
        for verdict in verdicts:
            self._note_fired(known, verdict, crossing)
        return verdicts

    # --- Sessions -------------------------------------------------------------------------------------------------

    def _session_opened(self, tenant_id: str, session: Session) -> None:
        known = self._known(tenant_id)
        known.plan.session_opened(session.id)
        self._dress(known, session)

    def _dress_all(self, tenant_id: str) -> None:
        known = self._known(tenant_id)
        for session in known.tenant.sessions.sessions:
            self._dress(known, session)

    def _dress(self, known: _Tenant, session: Session) -> None:
        """Put the faults round a session's machine once a rule is armed that could fire in it, also in mid-call."""
        scope, script = known.scopes.get(session.id), session.script
        if session.id in known.dressed or session.is_over:
            return
        if not any(known.plan.watches(point, agent=script.id, scope=scope) for point in POINTS_INSIDE):
            return

        def wrap(machine: Machine) -> Machine:
            known.dressed[session.id] = faulty = FaultyMachine(
                machine,
                plan=known.plan,
                session=session.id,
                agent=script.id,
                channel=session.channel,
                first_audio=script.timing.first_audio,
                said=session.said,
                heard=session.heard,
                is_detached=session.status == "waiting",
            )
            faulty.scope = scope
            return faulty

        session.decorate(wrap)

    def _session_ended(self, tenant_id: str, session: Session) -> None:
        known = self._tenants.get(tenant_id)
        if known is None:
            return
        known.plan.session_ended(session.id)
        known.dressed.pop(session.id, None)
        scope = known.scopes.pop(session.id, None)
        for report in report_of(scope) if scope is not None else ():
            session.note("fault.report", fault=report.rule.id, fired=report.fired, nearMiss=report.near_miss)

    # --- Parts ----------------------------------------------------------------------------------------------------

    def _known(self, tenant_id: str) -> _Tenant:
        known = self._tenants.get(tenant_id)
        if known is None:
            raise FaultUnknown(f"there is no tenant {tenant_id[:80]!r}")
        return known

    def _plan(self, tenant_id: str) -> FaultPlan:
        return self._known(tenant_id).plan

    def _rules_changed(self, tenant_id: str) -> None:
        self._dress_all(tenant_id)
        for follower in self.on_armed:
            follower(tenant_id)

    def _note(self, tenant_id: str, kind: str, **details: Any) -> None:
        self._known(tenant_id).tenant.journal.append(kind, tenant_id=tenant_id, **details)

    def _note_armed(self, tenant_id: str, rules: Sequence[FaultRule]) -> None:
        for rule in rules:
            self._note(tenant_id, "fault.armed", fault=rule.id, rule=write_rule(rule))

    def _note_fired(self, known: _Tenant, verdict: Verdict, crossing: Crossing) -> None:
        known.tenant.journal.append(
            "fault.fired",
            tenant_id=known.tenant.id,
            call_id=crossing.session or None,
            t=round(crossing.t, 3) if crossing.session else None,
            **write_firing(verdict.rule, crossing.point),
        )
