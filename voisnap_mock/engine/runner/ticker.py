"""One timer for all sessions."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush

from voisnap_mock.clock import Clock, Timer

SLOT = 0.002
"""Wake-ups fall on a grid of 2 ms, 10 slots to a frame: sessions that are due close together share one."""


class Alarm:
    """One sleeper's place on the ticker. `Ticker.alarm` makes it."""

    __slots__ = ("_at", "_ticker", "wake")

    def __init__(self, ticker: Ticker, wake: Callable[[], None]) -> None:
        self._ticker = ticker
        self._at = math.inf
        self.wake: Callable[[], None] | None = wake

    def set(self, at: float | None) -> None:
        """Ask for a wake-up at `at`, instead of any later one; None or a later time may still wake once in vain."""
        if at is not None and at < self._at and self.wake is not None:
            self._at = at
            self._ticker.push(at, self)

    def cancel(self) -> None:
        """Never wake again."""
        self._at = math.inf
        self.wake = None

    def ring(self, at: float) -> None:
        """The ticker has come to `at`."""
        if at == self._at and self.wake is not None:
            self._at = math.inf
            self.wake()


class Ticker:
    """Wakes sleepers at absolute times; whoever sleeps long costs nothing meanwhile.

    Each wake-up serves everybody who is overdue before it sleeps again, so that a late one cannot pile up work. A task
    or a timer per session would cost five to ten times as much at 500 sessions.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Alarm]] = []
        self._serial = 0
        self._timer: Timer | None = None
        self._armed_for = math.inf
        self._is_serving = False

    def alarm(self, wake: Callable[[], None]) -> Alarm:
        """Make a sleeper; `wake` is called at most once per `set`."""
        return Alarm(self, wake)

    def push(self, at: float, alarm: Alarm) -> None:
        self._serial += 1
        heappush(self._heap, (at, self._serial, alarm))
        if not self._is_serving:
            self._arm()

    def close(self) -> None:
        """Wake nobody any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed_for = None, math.inf

    def _arm(self) -> None:
        if not self._heap:
            return
        at = math.ceil(self._heap[0][0] / SLOT - 1e-6) * SLOT
        if at >= self._armed_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = at
        self._timer = self._clock.call_at(at, self._serve)

    def _serve(self) -> None:
        self._timer, self._armed_for = None, math.inf
        # The grid may round a time down by less than a nanosecond; that is no reason to wake twice.
        now = self._clock.monotonic() + 1e-9
        self._is_serving = True
        try:
            while self._heap and self._heap[0][0] <= now:
                at, _, alarm = heappop(self._heap)
                alarm.ring(at)
        finally:
            self._is_serving = False
            self._arm()
