"""Rules that are armed: their counters, what they missed, and which of them a crossing must be shown to."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from voisnap_mock.faults.rules import Crossing, FaultRule, Schedule

STILL = ("agent", "channel", "target", "turn")
"""What of a `when` is the same for a whole turn of a session."""

_MOVING = ("call_after", "audio_after", "text")
_MOST_READY = 16


class Miss(IntEnum):
    """How near a rule came to firing."""

    ELSEWHERE = 0  # plus the number of conditions of `STILL` that held
    CONDITION = 10  # plus the number of conditions of `_MOVING` that held
    SCHEDULE = 20
    BEHIND = 21
    SKIPPED = 22
    EVERY = 23
    RATE = 24


@dataclass(slots=True)
class Count:
    """A rule's bookkeeping in one session, or outside of all."""

    seed: int
    matches: int = 0
    fired: int = 0
    skipped: int = 0
    first_at: float = 0.0


class Armed:
    """A rule that is armed, and its counters.

    Attributes:
        base: how many sessions had been opened before; None for a rule of one session, whose number is always 0.
        is_spent: it has fired as often as the tenant may let it.
        schedules: those that name it; with none it is armed always.
        near, miss: how near it came, and at what; kept until it fires.
        outside: the bookkeeping of crossings that belong to no session.
    """

    __slots__ = (
        "base",
        "fired",
        "is_spent",
        "miss",
        "moving",
        "near",
        "outside",
        "patterns",
        "rule",
        "schedules",
        "seed",
        "skipped",
        "text",
    )

    def __init__(self, rule: FaultRule, seed: int, base: int | None) -> None:
        self.rule = rule
        self.seed = seed
        self.base = base
        self.fired = 0
        self.skipped = 0
        self.is_spent = False
        self.schedules: tuple[Schedule, ...] = ()
        self.near = -1
        self.miss: tuple[Crossing, str, tuple[object, ...]] | None = None
        self.outside: Count | None = None
        self.moving = any(getattr(rule.when, name) is not None for name in _MOVING)
        self.text = None if rule.when.text is None else rule.when.text.casefold()
        self.patterns = [_pattern(point) for point in rule.at if "*" in point]

    def crosses(self, point: str) -> bool:
        return point in self.rule.at or any(pattern.fullmatch(point) for pattern in self.patterns)

    def holds(self, crossing: Crossing) -> bool:
        """Whether the conditions hold that may change from crossing to crossing."""
        when = self.rule.when
        if when.call_after is not None and crossing.t < when.call_after:
            return self.missed(Miss.CONDITION, crossing, "when.call_after is {:g} s", when.call_after)
        if when.audio_after is not None and crossing.audio < when.audio_after:
            why = "{:g} s of audio had crossed, when.audio_after is {:g} s"
            return self.missed(Miss.CONDITION + 1, crossing, why, crossing.audio, when.audio_after)
        if self.text is not None and (crossing.text is None or self.text not in crossing.text.casefold()):
            heard = None if crossing.text is None else crossing.text[:80]
            return self.missed(Miss.CONDITION + 2, crossing, "when.text is {!r}, it was {!r}", when.text, heard)
        return True

    def missed(self, near: int, crossing: Crossing, why: str, *values: object) -> Literal[False]:
        """Remember the nearest miss, of equally near ones the latest; `why` is a format for `values`."""
        if not self.fired and near >= self.near:
            self.near, self.miss = near, (crossing, why, values)
        return False

    def near_miss(self) -> str | None:
        if self.fired:
            return None
        if self.miss is None:
            return f"nothing has crossed {' or '.join(self.rule.at)}"
        crossing, why, values = self.miss
        place = [crossing.point]
        if crossing.agent is not None:
            place.append(crossing.agent)
        if crossing.turn:
            place.append(f"turn {crossing.turn}")
        if crossing.session:
            place.append(f"{round(crossing.t, 3):g} s")
        return f"{', '.join(place)}: {why.format(*values)}"


class _Waiting:
    """Rules that nothing can be said of before a time, the earliest first.

    Args:
        name: the condition that says when.
    """

    __slots__ = ("armed", "since")

    def __init__(self, found: Iterable[Armed], name: str) -> None:
        timed = [(since, armed) for armed in found if (since := getattr(armed.rule.when, name)) is not None]
        timed.sort(key=lambda one: one[0])
        self.since = [since for since, _ in timed]
        self.armed = [armed for _, armed in timed]


class Candidates:
    """The rules that one kind of crossing can be about; those that wait for a time are not looked at before it."""

    __slots__ = ("_all", "_by_audio", "_by_call", "_last", "_places", "_ready")

    def __init__(self, found: list[Armed], places: Mapping[Armed, int]) -> None:
        self._places = places
        self._last: Crossing | None = None
        self._put(found)

    def _put(self, found: list[Armed]) -> None:
        self._all = found
        self._by_call = _Waiting(found, "call_after")
        self._by_audio = _Waiting((armed for armed in found if armed.rule.when.call_after is None), "audio_after")
        waiting = {*self._by_call.armed, *self._by_audio.armed}
        self._ready = {(0, 0): [armed for armed in found if armed not in waiting]}

    def at(self, crossing: Crossing) -> list[Armed]:
        """Those to look at, in order."""
        if not self._by_call.since and not self._by_audio.since:
            return self._all
        self._last = crossing
        due = bisect_right(self._by_call.since, crossing.t), bisect_right(self._by_audio.since, crossing.audio)
        ready = self._ready.get(due)
        if ready is None:
            first = self._ready[0, 0]
            if len(self._ready) >= _MOST_READY:
                self._ready = {(0, 0): first}
            ready = [*first, *self._by_call.armed[: due[0]], *self._by_audio.armed[: due[1]]]
            ready.sort(key=lambda armed: self._places[armed])
            self._ready[due] = ready
        return ready

    def drop_spent(self) -> None:
        self._put([armed for armed in self._all if not armed.is_spent])

    def note_misses(self) -> None:
        """What the rules that nobody looked at have missed the last time."""
        if self._last is not None:
            for armed in (*self._by_call.armed, *self._by_audio.armed):
                armed.holds(self._last)


class Scope:
    """Rules of one connection and its session only.

    Attributes:
        has_session: they count in a session, and are over when that is.
    """

    __slots__ = ("armed", "has_session")

    def __init__(self, armed: list[Armed]) -> None:
        self.armed = armed
        self.has_session = False


def _pattern(point: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, point.split("*"))))
