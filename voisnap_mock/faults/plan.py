"""Which rules fire at a crossing. Pure and seeded: crossings in, verdicts out.

At one crossing the rules are asked in the order in which they were armed. Delays and bad lines (`slow`, `impair`) add
up; of all others the first that fires is the only one, and those behind it have not been asked: they count no match.

A rule fires when the point and `when` match, after `skip` matches, at each `every`-th match of the session, with the
probability `rate`, at most `times` times, and in a session not later than `for` after its first firing there. What is
drawn follows from the seed, the rule's id, the number of the session (the first one since the rule was armed is 1) and
the number of the match in it. Nothing else goes in, so neither speed nor chunking of audio changes anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

from voisnap_mock.errors import FaultConflict, FaultUnknown
from voisnap_mock.faults.armed import STILL, Armed, Candidates, Count, Miss, Scope
from voisnap_mock.faults.draws import draw
from voisnap_mock.faults.rules import Crossing, FaultRule, Faults, Phase, Schedule, Verdict, family
from voisnap_mock.faults.token import text_to_token
from voisnap_mock.faults.writing import write_faults

# Of endless different crossings (paths, turns) only so many are remembered at a time.
_MOST_KNOWN = 4_096
# A client that hears the end is gone a moment later; many sessions may end in that moment.
_MOST_ENDED = 1_000

_NONE: tuple[Verdict, ...] = ()

_Key = tuple[str, str | None, str | None, str | None, int]


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What became of a rule.

    Attributes:
        armed: it may still fire.
        fired: how often it did.
        near_miss: for one that never did: the crossing that came nearest, and what was missing.
    """

    rule: FaultRule
    armed: bool
    fired: int
    near_miss: str | None = None


class FaultPlan:
    """The rules of one tenant.

    Attributes:
        version: another one whenever other rules are armed.

    Args:
        seed: of the draws.
        tenant: its id, for rules that ask for it.
    """

    def __init__(self, seed: int, *, tenant: str = "") -> None:
        self.version = 0
        self._seed = seed
        self._tenant = tenant
        self._loaded = Faults()
        self._standing: list[Armed] = []
        self._armed: list[Armed] = []
        self._by_point: dict[str, list[Armed]] = {}
        self._patterns: list[Armed] = []
        self._rows: frozenset[str] = frozenset()
        self._places: dict[Armed, int] = {}
        self._schedules: dict[str, Schedule] = {}
        self._started: dict[str, float] = {}
        self._candidates: dict[_Key, Candidates] = {}
        self._counts: dict[str, dict[Armed, Count]] = {}
        self._sessions: dict[str, int] = {}
        self._opened = 0
        self._ended: deque[str] = deque()

    # --- Arming ---------------------------------------------------------------------------------------------------

    def load(self, faults: Faults, *, standing: Iterable[FaultRule] = ()) -> None:
        """Let the file's rules be these; those that have not changed keep their counters, added ones stay.

        Args:
            standing: rules that are always there and in no report.
        """
        before = {armed.rule.id: armed for armed in self._armed}
        of_file = {rule.id for rule in self._loaded.rules}
        self._loaded = replace(faults, rules=tuple(_named(faults.rules, ())))
        named = {rule.id for rule in self._loaded.rules}
        self._armed = [
            *(self._kept(before.get(rule.id), rule, faults.seed) for rule in self._loaded.rules),
            *(armed for rule_id, armed in before.items() if rule_id not in of_file | named),
        ]
        known = {armed.rule.id: armed for armed in self._standing}
        self._standing = [self._kept(known.get(rule.id), rule, None) for rule in standing]
        self._schedules = {schedule.name: schedule for schedule in faults.schedules}
        self._started = {name: at for name, at in self._started.items() if name in self._schedules}
        self._changed()

    def _kept(self, armed: Armed | None, rule: FaultRule, seed: int | None) -> Armed:
        return armed if armed is not None and armed.rule == rule else self._arm(rule, seed)

    def arm(self, faults: Faults) -> tuple[FaultRule, ...]:
        """Arm more, behind what is armed; the result has the ids that were given to rules without one.

        A token's faults are those of a whole run: they take the place of all there is.

        Raises:
            FaultConflict: one of the ids, or of the names of schedules, is taken; then nothing is armed.
        """
        if faults.seed is not None:
            return self.replace(faults)
        named = _named(faults.rules, (armed.rule.id for armed in self._armed))
        taken = next((schedule.name for schedule in faults.schedules if schedule.name in self._schedules), None)
        if taken is not None:
            raise FaultConflict(f"there is already a schedule {taken!r}")
        self._armed += [self._arm(rule, faults.seed) for rule in named]
        self._schedules |= {schedule.name: schedule for schedule in faults.schedules}
        self._changed()
        return tuple(named)

    def replace(self, faults: Faults) -> tuple[FaultRule, ...]:
        """Arm these rules instead of all that are, and have these schedules besides those that there are.

        Raises:
            FaultConflict: two of the rules have the same id; then nothing is changed.
        """
        named = _named(faults.rules, ())
        self._armed = [self._arm(rule, faults.seed) for rule in named]
        self._schedules |= {schedule.name: schedule for schedule in faults.schedules}
        self._changed()
        return tuple(named)

    def disarm(self, rule_id: str) -> FaultRule:
        """Raises FaultUnknown when there is none of this id."""
        found = next((armed for armed in self._armed if armed.rule.id == rule_id), None)
        if found is None:
            known = ", ".join(armed.rule.id for armed in self._armed[:20]) or "none"
            raise FaultUnknown(f"there is no fault {rule_id[:80]!r}; there are {known}")
        self._armed.remove(found)
        self._changed()
        return found.rule

    def reset(self) -> None:
        """Back to the loaded file: its rules with fresh counters, nothing else, no schedule started."""
        self._armed = [self._arm(rule, self._loaded.seed) for rule in self._loaded.rules]
        self._standing = [self._arm(armed.rule, None) for armed in self._standing]
        self._schedules = {schedule.name: schedule for schedule in self._loaded.schedules}
        self._started.clear()
        self._changed()

    def scope(self, rules: Iterable[FaultRule]) -> Scope:
        """Rules for one connection and its session: hand it to `decide` there."""
        return Scope([Armed(rule, self._seed, None) for rule in _named(rules, ())])

    # --- Schedules ------------------------------------------------------------------------------------------------

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return tuple(self._schedules.values())

    def start_schedule(self, name: str, now: float) -> Schedule:
        """Begin a schedule anew; `now` is real time, as of crossings outside of sessions.

        Raises:
            FaultUnknown: there is none of this name.
        """
        schedule = self._schedule(name)
        self._started[name] = now
        return schedule

    def stop_schedule(self, name: str) -> Schedule:
        """Raises FaultUnknown when there is none of this name; one that is not started may be stopped."""
        schedule = self._schedule(name)
        self._started.pop(name, None)
        return schedule

    def started(self, name: str) -> float | None:
        """When a schedule was started; None when it is not."""
        return self._started.get(name)

    def _schedule(self, name: str) -> Schedule:
        if name not in self._schedules:
            known = ", ".join(self._schedules) or "none"
            raise FaultUnknown(f"there is no schedule {name[:80]!r}; there are {known}")
        return self._schedules[name]

    # --- Deciding -------------------------------------------------------------------------------------------------

    def session_opened(self, session: str) -> None:
        """Sessions are numbered in the order of these calls."""
        self._opened += 1
        self._sessions[session] = self._opened

    def session_ended(self, session: str) -> None:
        """A session is over: its number and its counters are kept for what its client still does, for a while."""
        self._ended.append(session)
        while len(self._ended) > _MOST_ENDED:
            forgotten = self._ended.popleft()
            self._counts.pop(forgotten, None)
            self._sessions.pop(forgotten, None)

    def watches(self, point: str, *, agent: str | None = None, scope: Scope | None = None) -> bool:
        """Whether a rule is armed that could fire there, with this agent or, without one, with any."""
        armed = self._by_point.get(point, ())
        rules = (*armed, *self._patterns, *(() if scope is None else scope.armed))
        return any(
            one.crosses(point) and not one.is_spent and (agent is None or one.rule.when.agent in (None, agent))
            for one in rules
        )

    def touches(self, points: Collection[str], *, scope: Scope | None = None) -> bool:
        """Whether a rule is armed for one of these rows of the table of points, by their names there."""
        own = () if scope is None else scope.armed
        return not self._rows.isdisjoint(points) or any(row in points for armed in own for row in _rows(armed.rule))

    def decide(self, crossing: Crossing, scope: Scope | None = None) -> tuple[Verdict, ...]:
        """The rules that fire at this crossing, in the order in which they are to be carried out."""
        key = (crossing.point, crossing.agent, crossing.channel, crossing.target, crossing.turn)
        found = self._candidates.get(key)
        if found is None:
            found = self._find(key, crossing)
        candidates = found.at(crossing)
        if scope is not None:
            candidates = [*(armed for armed in scope.armed if self._fits(armed, crossing)), *candidates]
        elif not candidates:
            return _NONE
        verdicts: list[Verdict] = []
        has_spent = False
        for place, armed in enumerate(candidates):
            if armed.is_spent:
                has_spent = has_spent or armed.base is not None
            elif (verdict := self._try(armed, crossing)) is not None:
                verdicts.append(verdict)
                if verdict.rule.is_exclusive:
                    for behind in candidates[place + 1 :]:
                        if behind.rule.is_exclusive and not behind.fired:
                            behind.missed(Miss.BEHIND, crossing, "the fault {!r} fired before it", verdict.rule.id)
                    break
        if has_spent:
            found.drop_spent()
        return tuple(verdicts)

    def _try(self, armed: Armed, crossing: Crossing) -> Verdict | None:
        rule = armed.rule
        if armed.moving and not armed.holds(crossing):
            return None
        if armed.schedules and not self._is_on(armed, crossing):
            armed.missed(Miss.SCHEDULE, crossing, "no schedule that was started used it then")
            return None
        count = self._count_of(armed, crossing.session)
        if rule.lasts is not None and count.fired and crossing.t > count.first_at + rule.lasts:
            return None
        is_own = rule.per == "session"
        if rule.skip and (count.skipped if is_own else armed.skipped) < rule.skip:
            count.skipped += 1
            armed.skipped += 1
            armed.missed(Miss.SKIPPED, crossing, "it matched, and the first {} matches are skipped", rule.skip)
            return None
        if is_own and rule.times is not None and count.fired >= rule.times:
            return None
        count.matches += 1
        if rule.every > 1 and count.matches % rule.every:
            why = "it was match {} of its session, every is {}"
            armed.missed(Miss.EVERY, crossing, why, count.matches, rule.every)
            return None
        if rule.rate < 1.0 and draw(count.seed, count.matches) >= rule.rate:
            armed.missed(Miss.RATE, crossing, "it matched, and was not drawn (rate is {:g})", rule.rate)
            return None
        if not count.fired:
            count.first_at = crossing.t
        count.fired += 1
        armed.fired += 1
        armed.is_spent = not is_own and rule.times is not None and armed.fired >= rule.times
        return Verdict(rule, count.seed, count.matches)

    def _count_of(self, armed: Armed, session: str) -> Count:
        if not session:
            if armed.outside is None:
                armed.outside = self._count(armed, session)
            return armed.outside
        counts = self._counts.get(session)
        if counts is None:
            counts = self._counts[session] = {}
        count = counts.get(armed)
        if count is None:
            count = counts[armed] = self._count(armed, session)
        return count

    def _count(self, armed: Armed, session: str) -> Count:
        number = 0 if armed.base is None else self._sessions.get(session, armed.base) - armed.base
        name = f"{armed.seed}\0{armed.rule.id}\0{number}".encode()
        return Count(int.from_bytes(blake2b(name, digest_size=8).digest(), "little"))

    def _find(self, key: _Key, crossing: Crossing) -> Candidates:
        """Those of the armed rules that this kind of crossing can be about."""
        armed = (*self._by_point.get(crossing.point, ()), *self._patterns)
        found = [one for one in armed if not one.is_spent and self._fits(one, crossing)]
        if self._patterns:
            found.sort(key=lambda one: self._places[one])
        if len(self._candidates) >= _MOST_KNOWN:
            self._forget_candidates()
        candidates = self._candidates[key] = Candidates(found, self._places)
        return candidates

    def _forget_candidates(self) -> None:
        for candidates in self._candidates.values():
            candidates.note_misses()
        self._candidates.clear()

    def _fits(self, armed: Armed, crossing: Crossing) -> bool:
        if not armed.crosses(crossing.point):
            return False
        when = armed.rule.when
        if when.tenant is not None and when.tenant != self._tenant:
            return armed.missed(Miss.ELSEWHERE, crossing, "when.tenant is {}, this is {}", when.tenant, self._tenant)
        for held, name in enumerate(STILL):
            wanted = getattr(when, name)
            if wanted is not None and wanted != getattr(crossing, name):
                return armed.missed(Miss.ELSEWHERE + held, crossing, "when.{} is {}", name, wanted)
        return True

    def _is_on(self, armed: Armed, crossing: Crossing) -> bool:
        for schedule in armed.schedules:
            started = self._started.get(schedule.name)
            if started is None:
                continue
            # In a session its phases are at the same call times in every run, whenever somebody started it.
            phase = phase_at(schedule, crossing.t if crossing.session else crossing.t - started)
            if phase is not None and armed.rule.id in phase.use:
                return True
        return False

    # --- What became of it ----------------------------------------------------------------------------------------

    def report(self) -> tuple[RuleReport, ...]:
        """Every rule that is armed or has been until it was spent, in order."""
        for candidates in self._candidates.values():
            candidates.note_misses()
        return tuple(_report(armed) for armed in self._armed)

    def token(self) -> str:
        """What replays these faults at the same places: seed, rules, schedules; `read_faults` reads it."""
        rules = tuple(armed.rule for armed in self._armed)
        seed = self._armed[0].seed if self._armed else self._seed
        return text_to_token(write_faults(Faults(rules, self.schedules)), seed)

    @property
    def has_drawn(self) -> bool:
        """Whether chance has had a say, so that only the token brings the same again."""
        return any(armed.rule.draws and (armed.fired or armed.near >= Miss.RATE) for armed in self._armed)

    # --- Parts ----------------------------------------------------------------------------------------------------

    def _arm(self, rule: FaultRule, seed: int | None) -> Armed:
        return Armed(rule, self._seed if seed is None else seed, self._opened)

    def _changed(self) -> None:
        """What was found for crossings is no longer true."""
        self.version += 1
        self._forget_candidates()
        used: dict[str, list[Schedule]] = {}
        for schedule in self._schedules.values():
            for rule_id in dict.fromkeys(rule_id for phase in schedule.phases for rule_id in phase.use):
                used.setdefault(rule_id, []).append(schedule)
        self._by_point = {}
        self._patterns = []
        self._places = {}
        for place, armed in enumerate((*self._standing, *self._armed)):
            armed.schedules = tuple(used.get(armed.rule.id, ()))
            self._places[armed] = place
            if armed.patterns:
                self._patterns.append(armed)
            else:
                for point in armed.rule.at:
                    self._by_point.setdefault(point, []).append(armed)
        self._rows = frozenset(row for armed in (*self._standing, *self._armed) for row in _rows(armed.rule))
        for counts in self._counts.values():
            for gone in [armed for armed in counts if armed.base is not None and armed not in self._places]:
                del counts[gone]


def _rows(rule: FaultRule) -> tuple[str, ...]:
    return tuple(row.name for point in rule.at if (row := family(point)) is not None)


def report_of(scope: Scope) -> tuple[RuleReport, ...]:
    """What became of the rules of one session."""
    return tuple(_report(armed) for armed in scope.armed)


def phase_at(schedule: Schedule, t: float) -> Phase | None:
    """The phase of a schedule `t` seconds after its begin; None before and after it."""
    if t < 0:
        return None
    if schedule.loop:
        t %= sum(phase.seconds for phase in schedule.phases)
    for phase in schedule.phases:
        if t < phase.seconds:
            return phase
        t -= phase.seconds
    return None


def _report(armed: Armed) -> RuleReport:
    return RuleReport(armed.rule, not armed.is_spent, armed.fired, armed.near_miss())


def _named(rules: Iterable[FaultRule], taken: Iterable[str]) -> list[FaultRule]:
    """Give an id to those without: their point and a number.

    Raises:
        FaultConflict: two have the same id, or one of `taken`.
    """
    rules, ids = list(rules), set(taken)
    for rule in rules:
        if rule.id in ids:
            raise FaultConflict(f"there is already a fault {rule.id!r}: disarm it first, or replace all")
        if rule.id:
            ids.add(rule.id)
    named: list[FaultRule] = []
    numbers: dict[str, int] = {}
    for rule in rules:
        name, point = rule.id, rule.at[0]
        while not name or (not rule.id and name in ids):
            numbers[point] = numbers.get(point, 0) + 1
            name = f"{point}-{numbers[point]}"
        ids.add(name)
        named.append(rule if rule.id else replace(rule, id=name))
    return named
