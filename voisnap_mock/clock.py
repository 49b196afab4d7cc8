"""Time, read in one place.

Nothing else in the package asks the system for the time: deciding code gets `now` as an argument, acting code gets
a `Clock`. `monotonic` orders and measures; `wall` only dates what people read.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

SPEEDS: Mapping[str, float] = {"real": 1.0, "4x": 4.0}
"""How fast call time passes, for each `--clock` that goes by real time."""


class Timer(Protocol):
    """What `call_at` gave; `cancel` takes the call back, as often as one likes."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    """Where acting code gets time from."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; its zero means nothing."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 in UTC."""
        ...

    async def sleep_until(self, at: float) -> None:
        """Return once `monotonic()` has reached `at`."""
        ...

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the running loop once `monotonic()` has reached `at`; it may be a millisecond off."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        # Event loops count in milliseconds, and from the beginning of their round: one that is asked for less calls at
        # once, and whoever then asks again for the rest keeps the processor busy until it is time.
        milliseconds = math.ceil(max(0.0, at - time.monotonic()) * 1000)
        return asyncio.get_running_loop().call_later(milliseconds / 1000, callback)


class ManualClock:
    """A clock that moves only when told to; for tests.

    Sleepers wake in the order of their times, and everything they make ready runs before the next one wakes.

    Attributes:
        wakes: how many sleepers and callbacks have been woken so far.
    """

    def __init__(self, *, monotonic: float = 0.0, wall: float = 1_750_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall_offset = wall - monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._serial = 0
        self.wakes = 0

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._monotonic + self._wall_offset

    async def sleep_until(self, at: float) -> None:
        if at <= self._monotonic:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._wake_at(at, woken)
        await woken

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        woken = asyncio.get_running_loop().create_future()
        woken.add_done_callback(lambda _: None if woken.cancelled() else callback())
        self._wake_at(at, woken)
        return woken

    def _wake_at(self, at: float, woken: asyncio.Future[None]) -> None:
        self._serial += 1
        self._sleepers.append((at, self._serial, woken))

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, waking each sleeper at its own time.

        Raises:
            ValueError: if `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: {seconds} s")
        target = self._monotonic + seconds
        await self._settle()
        while True:
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= target and not sleeper[2].done()]
            if not due:
                break
            at, _, woken = min(due, key=lambda sleeper: sleeper[:2])
            self._monotonic = max(self._monotonic, at)
            self._sleepers = [
                sleeper for sleeper in self._sleepers if not sleeper[2].done() and sleeper[2] is not woken
            ]
            self.wakes += 1
            woken.set_result(None)
            await self._settle()
        self._monotonic = target

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def iso_timestamp(wall: float) -> str:
    """`2025-06-16T14:22:00Z`.

    Source: Documented, the form of every timestamp on the API pages.
    """
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
