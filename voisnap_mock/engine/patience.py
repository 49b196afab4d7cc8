"""How long a session waits for its caller: silence rules, idleness, length."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

DIGITS = 9
"""Call times are rounded to so many digits, so that the same moment reached in two ways compares equal."""


class Limit(Enum):
    """What the caller's silence brings."""

    SILENCE_RULE = auto()
    IDLE = auto()
    DURATION = auto()


@dataclass(slots=True)
class Patience:
    """Counts silence from the end of the caller's last speech or of the agent's last reply, whichever is later.

    The answer of a silence rule puts off the next silence rule, but not `max_idle`.

    Attributes:
        max_idle, max_duration: seconds; None is no limit.
        started_at, quiet_since, idle_since: call time.
        ends_at: when `max_duration` is reached.
        is_suspended: the connection is lost: nobody can break the silence, so it does not count.

    Source: Assumed, the documentation has no silence rules; its reasons `timeout` and the like are a client's.
    """

    max_idle: float | None
    max_duration: float | None
    started_at: float = 0.0
    quiet_since: float = 0.0
    idle_since: float = 0.0
    ends_at: float | None = None
    is_suspended: bool = False

    def start(self, at: float) -> None:
        """The session begins."""
        self.started_at = self.quiet_since = self.idle_since = at
        self.ends_at = None if self.max_duration is None else round(at + self.max_duration, DIGITS)

    def heard_until(self, at: float, *, is_no_input: bool = False) -> None:
        """Somebody was heard until `at`; with `is_no_input` it was the agent, answering the silence."""
        self.quiet_since = max(self.quiet_since, at)
        if not is_no_input:
            self.idle_since = max(self.idle_since, at)

    def next_limit(self, *, is_quiet: bool, next_silence: float | None) -> tuple[float, Limit] | None:
        """The limit that comes first, and when; it may lie in the past when the silence had not counted till now."""
        found: tuple[float, Limit] | None = None
        if is_quiet and not self.is_suspended:
            if next_silence is not None:
                found = (round(self.quiet_since + next_silence, DIGITS), Limit.SILENCE_RULE)
            if self.max_idle is not None:
                idle = round(self.idle_since + self.max_idle, DIGITS)
                if found is None or idle < found[0]:
                    found = (idle, Limit.IDLE)
        if self.ends_at is not None and (found is None or self.ends_at < found[0]):
            found = (self.ends_at, Limit.DURATION)
        return found
