"""Runner: a task in which coroutines are started from outside, and which only they who wait ever enter.

A coroutine that never waits is done within the call that starts it: no task is made, woken or switched to. While it
runs, the runner's task is the current one, so that `asyncio.timeout` and the like work; one that waits goes on there.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import _enter_task, _leave_task, current_task  # documented in asyncio's "Extending"
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeAlias, TypeVar

from voisnap_mock.signalr.tasks import Tasks

Tag = TypeVar("Tag")
Done: TypeAlias = Callable[["Runner[Tag]", Tag, object, BaseException | None], None]


class Runner(Generic[Tag]):
    """Runs one coroutine at a time.

    Args:
        tasks: owner of the task.
        done: called with the runner, the coroutine's tag, and its result or exception; never after `cancel`.
    """

    __slots__ = ("_done", "_handoff", "_loop", "_suspended", "_task")

    def __init__(self, tasks: Tasks, done: Done[Tag]) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = done
        self._suspended: tuple[Coroutine[Any, Any, Any], Any, Tag] | None = None
        self._handoff: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = tasks.start(self._work())

    def start(self, coroutine: Coroutine[Any, Any, Any], tag: Tag) -> None:
        """Run `coroutine` as far as it goes without waiting; the rest follows by itself. The runner must be free."""
        task = self._task
        if task is None:
            coroutine.close()
            return
        loop = self._loop
        outer = current_task(loop)
        elsewhere = outer is not task
        if elsewhere:
            if outer is not None:
                _leave_task(loop, outer)
            _enter_task(loop, task)
        result: object = None
        failure: BaseException | None = None
        try:
            waits_for = coroutine.send(None)
        except StopIteration as stop:
            result = stop.value
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outermost frame of what runs here
            # A cancellation is a failure like others: what was awaited had been cancelled, not this task.
            failure = error
        else:
            self._suspended = (coroutine, waits_for, tag)
            if self._task is not task:
                # It cancelled this runner before it began to wait.
                self._discard()
            elif self._handoff is not None and not self._handoff.done():
                self._handoff.set_result(None)
            return
        finally:
            if elsewhere:
                _leave_task(loop, task)
                if outer is not None:
                    _enter_task(loop, outer)
        self._done(self, tag, result, failure)

    def cancel(self) -> None:
        """End the task and what waits in it; what asked for this from inside is let go on to its end."""
        task, self._task = self._task, None
        if task is None or (self._suspended is not None and current_task() is task):
            return
        task.cancel()
        if self._suspended is not None and self._handoff is None:
            # The task has not taken its first step, and now never will.
            self._discard()

    async def _work(self) -> None:
        task = asyncio.current_task()
        try:
            while self._task is task:
                self._handoff = self._loop.create_future()
                if self._suspended is None:
                    await self._handoff
                assert self._suspended is not None
                coroutine, waits_for, tag = self._suspended
                result: object = None
                failure: BaseException | None = None
                try:
                    result = await _go_on(coroutine, waits_for)
                except asyncio.CancelledError as error:
                    if self._task is not task:
                        raise
                    failure = error
                except Exception as error:  # noqa: BLE001 - the outermost frame of what runs here
                    failure = error
                self._suspended = None
                self._done(self, tag, result, failure)
        finally:
            self._discard()

    def _discard(self) -> None:
        """End a coroutine that waits for something it will never get."""
        if self._suspended is None:
            return
        coroutine, _, _ = self._suspended
        self._suspended = None
        try:
            coroutine.close()
        except RuntimeError as error:
            # It awaited while it was being closed.
            self._loop.call_exception_handler({"message": "a cancelled hub method did not end", "exception": error})


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine whose first step has been taken and which waits for `waits_for`."""
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 - handed on to the coroutine, as `yield from` does
            try:
                waits_for = coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            try:
                waits_for = coroutine.send(sent)
            except StopIteration as stop:
                return stop.value
