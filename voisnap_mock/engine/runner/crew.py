"""Threads for work that blocks."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Crew(Protocol):
    """Runs blocking jobs somewhere else."""

    def submit(self, job: Callable[[], Result], done: Callable[[Result | BaseException], None]) -> None:
        """Run `job`; call `done` on the loop with what it returned or raised."""
        ...

    def close(self) -> None:
        """Take no more jobs; answers that are still out are lost."""
        ...


class ThreadCrew:
    """A few daemon threads, started when there is work.

    Not a `ThreadPoolExecutor`: the interpreter waits for its threads at exit, so a recogniser that hangs would keep a
    stopped server alive.
    """

    def __init__(self, size: int, *, name: str) -> None:
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._is_closed = False

    def submit(self, job: Callable[[], Result], done: Callable[[Result | BaseException], None]) -> None:
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()

        def finish(outcome: Result | BaseException) -> None:
            self._idle += 1
            if not self._is_closed:
                done(outcome)

        def run() -> None:
            outcome: Result | BaseException
            try:
                outcome = job()
            except BaseException as error:  # noqa: BLE001 - the outermost frame of a thread; `done` journals it
                outcome = error
            try:
                loop.call_soon_threadsafe(finish, outcome)
            except RuntimeError:
                # The loop was closed while the job ran: nobody is left to tell.
                return

        if self._idle == 0 and len(self._threads) < self._size:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        else:
            self._idle -= 1
        self._jobs.put(run)

    def close(self) -> None:
        self._is_closed = True
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
