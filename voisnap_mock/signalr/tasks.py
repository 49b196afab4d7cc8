"""Tasks with an owner, and deadlines on a clock that can be exchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any, Protocol


class Clock(Protocol):
    """The time that an endpoint and a client need."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep_until(self, at: float) -> None:
        """Return once `monotonic()` has reached `at`."""
        ...


class Tasks:
    """Tasks that outlive the call that starts them; the owner ends all of them with `close`.

    Args:
        report: told of an exception that ends a task.
    """

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._report = report
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(error)

    async def wait(self) -> None:
        """Until no task is left."""
        while self._running:
            await asyncio.wait(set(self._running))

    async def close(self) -> None:
        """Cancel every task and wait for its end."""
        for task in self._running:
            task.cancel()
        await self.wait()


class Timed(Protocol):
    """Something with deadlines."""

    def on_deadline(self, now: float) -> float | None:
        """Do what is due; returns when to be called next."""
        ...


class Appointment:
    """A subject's place in a timetable; `cancel` forgets the subject at once."""

    __slots__ = ("at", "subject")

    def __init__(self, at: float, subject: Timed) -> None:
        self.at = at
        self.subject: Timed | None = subject

    def __lt__(self, other: Appointment) -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        self.subject = None


class Timetable:
    """Calls many subjects at their deadlines, from one task.

    Deadlines that move later cost nothing: the subject is asked again when the old one has come.
    """

    def __init__(self, clock: Clock, tasks: Tasks) -> None:
        self._clock = clock
        self._tasks = tasks
        self._heap: list[Appointment] = []
        self._sleeper: asyncio.Task[None] | None = None
        self._wakes_at = 0.0

    def call_at(self, at: float, subject: Timed) -> Appointment:
        appointment = Appointment(at, subject)
        heappush(self._heap, appointment)
        if self._sleeper is None or self._sleeper.done() or at < self._wakes_at:
            self._restart()
        return appointment

    def _restart(self) -> None:
        if self._sleeper is not None:
            self._sleeper.cancel()
        self._wakes_at = self._heap[0].at
        self._sleeper = self._tasks.start(self._run())

    async def _run(self) -> None:
        task = asyncio.current_task()
        while self._heap:
            self._wakes_at = self._heap[0].at
            await self._clock.sleep_until(self._wakes_at)
            # Deadlines set while subjects are called are seen below, without a restart.
            self._wakes_at = float("-inf")
            now = self._clock.monotonic()
            while self._heap and self._heap[0].at <= now:
                appointment = heappop(self._heap)
                subject = appointment.subject
                if subject is None:
                    continue
                again = subject.on_deadline(now)
                if again is None:
                    appointment.cancel()
                elif appointment.subject is not None:
                    appointment.at = max(again, now + 0.001)
                    heappush(self._heap, appointment)
        if self._sleeper is task:
            self._sleeper = None

    async def close(self) -> None:
        """Stop calling."""
        self._heap.clear()
        if self._sleeper is not None:
            self._sleeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sleeper
            self._sleeper = None


class LoopClock:
    """The running event loop's own clock."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.monotonic()))
