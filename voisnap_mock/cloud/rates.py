"""Rate limits: how many requests a caller may make, and what the service says of it. Pure: the time is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from voisnap_mock.cloud.problems import ProblemDetails

Policy = Literal["auth-strict", "api-standard", "api-read-heavy", "api-write", "voice-hub"]
Plan = Literal["off", "starter", "professional", "business"]

WINDOW = 60.0
HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Policy")

_EVERY_PLAN: Mapping[Policy, int] = {"auth-strict": 5, "api-read-heavy": 300}
LIMITS: Mapping[Plan, Mapping[Policy, int]] = {
    "starter": {**_EVERY_PLAN, "api-standard": 60, "api-write": 20, "voice-hub": 5},
    "professional": {**_EVERY_PLAN, "api-standard": 120, "api-write": 60, "voice-hub": 10},
    "business": {**_EVERY_PLAN, "api-standard": 300, "api-write": 120, "voice-hub": 25},
}
"""How many in a window, by plan and policy.

Source: Documented, rate-limits page: `api-standard`, `api-write` and `voice-hub` by plan, the others in one table that
equals Professional. Assumed: those others are the same in every plan.
"""

_MOST_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """What a caller has left of a policy.

    Attributes:
        remaining: after this request.
        resets_at: when the window ends, in seconds since 1970.
        wait: seconds until then.
    """

    policy: Policy
    limit: int
    remaining: int
    resets_at: float
    wait: float
    is_exceeded: bool

    def headers(self) -> dict[str, str]:
        """Source: Documented, rate-limits page: these four on every response."""
        values = (str(self.limit), str(self.remaining), str(int(self.resets_at)), self.policy)
        return dict(zip(HEADERS, values, strict=True))

    def problem(self, plan: Plan) -> ProblemDetails:
        """The 429. Source: Documented, rate-limits page; Assumed: `Retry-After`, which it does not show."""
        seconds = max(1, -int(-self.wait // 1))
        return ProblemDetails(
            429,
            f"Rate limit of policy {self.policy} exceeded: {self.limit} in {WINDOW:g} s; the next window begins in "
            f"{seconds} s",
            reason=f"limits.rate_limits: {plan}",
            headers={**self.headers(), "Retry-After": str(seconds)},
        )


class RateCounter:
    """Counts the requests of one tenant.

    Source: Assumed: a window begins with the first request and ends 60 s later; the page says "1 min" and no more.
    """

    def __init__(self) -> None:
        self._windows: dict[tuple[Policy, str], tuple[float, int]] = {}

    def take(self, plan: Plan, policy: Policy, key: str, now: float) -> Rate | None:
        """Count one request of `key`, `now` in seconds since 1970; None when nothing is limited."""
        if plan == "off":
            return None
        limit = LIMITS[plan][policy]
        ends, count = self._windows.get((policy, key), (now + WINDOW, 0))
        if now >= ends:
            ends, count = now + WINDOW, 0
        if len(self._windows) >= _MOST_KEYS:
            self._windows = {name: window for name, window in self._windows.items() if window[0] > now}
        is_exceeded = count >= limit
        if not is_exceeded:
            count += 1
        self._windows[policy, key] = ends, count
        return Rate(policy, limit, limit - count, ends, ends - now, is_exceeded)

    def clear(self) -> None:
        """Begin anew."""
        self._windows.clear()
