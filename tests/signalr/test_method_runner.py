"""A runner does at once what does not wait, and carries on what does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from voisnap_mock.signalr.runner import Runner
from voisnap_mock.signalr.tasks import Tasks


class Recorder:
    """A runner whose endings are written down."""

    def __init__(self, tasks: Tasks) -> None:
        self.ended: list[tuple[str, object]] = []
        self.news = asyncio.Event()
        self.runner: Runner[str] = Runner(tasks, self._done)

    def _done(self, runner: Runner[str], tag: str, result: object, error: BaseException | None) -> None:
        self.ended.append((tag, result if error is None else error))
        self.news.set()

    async def next_end(self) -> tuple[str, object]:
        await self.news.wait()
        self.news.clear()
        return self.ended[-1]


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    problems: list[BaseException] = []
    tasks = Tasks(problems.append)
    yield Recorder(tasks)
    await tasks.close()
    assert not problems
    assert not len(tasks)


async def test_what_does_not_wait_is_done_at_once(recorder: Recorder) -> None:
    async def quick() -> int:
        return 5

    recorder.runner.start(quick(), "a")
    assert recorder.ended == [("a", 5)]


async def test_what_waits_ends_later(recorder: Recorder) -> None:
    go = asyncio.Event()

    async def slow() -> str:
        await go.wait()
        await asyncio.sleep(0)
        return "late"

    recorder.runner.start(slow(), "a")
    assert recorder.ended == []
    go.set()
    assert await recorder.next_end() == ("a", "late")


async def test_exceptions_are_reported(recorder: Recorder) -> None:
    async def fails(wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        raise ValueError("no")

    recorder.runner.start(fails(False), "now")
    assert isinstance(recorder.ended[0][1], ValueError)
    recorder.runner.start(fails(True), "later")
    recorder.news.clear()
    tag, error = await recorder.next_end()
    assert tag == "later"
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("wait", [True, False])
async def test_awaiting_what_was_cancelled_is_a_failure(recorder: Recorder, wait: bool) -> None:
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    async def awaits() -> None:
        if wait:
            await asyncio.sleep(0)
        await cancelled

    recorder.runner.start(awaits(), "a")
    _tag, error = await recorder.next_end()
    assert isinstance(error, asyncio.CancelledError)

    async def works() -> str:
        await asyncio.sleep(0)
        return "still"

    recorder.runner.start(works(), "b")
    assert await recorder.next_end() == ("b", "still")


async def test_it_serves_one_after_the_other(recorder: Recorder) -> None:
    async def sleeps(result: int) -> int:
        await asyncio.sleep(0)
        return result

    for number in range(50):
        recorder.runner.start(sleeps(number), "n")
        assert await recorder.next_end() == ("n", number)


async def test_the_current_task_is_the_same_before_and_after_waiting(recorder: Recorder) -> None:
    seen: list[Any] = []

    async def looks() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    me = asyncio.current_task()
    recorder.runner.start(looks(), "a")
    assert asyncio.current_task() is me
    await recorder.next_end()
    assert seen[0] is seen[1]
    assert seen[0] is not me


async def test_timeouts_work_from_the_first_step(recorder: Recorder) -> None:
    async def too_slow() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    recorder.runner.start(too_slow(), "a")
    assert await recorder.next_end() == ("a", "timed out")


async def test_task_groups_work_from_the_first_step(recorder: Recorder) -> None:
    async def both() -> int:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(asyncio.sleep(0, 1)), group.create_task(asyncio.sleep(0, 2))
        return one.result() + two.result()

    recorder.runner.start(both(), "a")
    assert await recorder.next_end() == ("a", 3)


async def test_it_can_be_started_from_within(recorder: Recorder) -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return "inner"

    def chain(runner: Runner[str], tag: str, result: object, error: BaseException | None) -> None:
        recorder.ended.append((tag, result))
        if tag == "outer":
            runner.start(inner(), "inner")
        recorder.news.set()

    tasks = Tasks(lambda error: None)
    runner: Runner[str] = Runner(tasks, chain)

    async def outer() -> None:
        await asyncio.sleep(0)

    runner.start(outer(), "outer")
    await recorder.next_end()
    assert await recorder.next_end() == ("inner", "inner")
    await tasks.close()


class TestCancelling:
    @pytest.fixture
    def cleaned(self) -> list[str]:
        return []

    async def waits(self, cleaned: list[str]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("cleaned")

    async def test_what_waits_is_cancelled_and_not_reported(self, recorder: Recorder, cleaned: list[str]) -> None:
        recorder.runner.start(self.waits(cleaned), "a")
        await asyncio.sleep(0)
        recorder.runner.cancel()
        await asyncio.sleep(0)
        assert cleaned == ["cleaned"]
        assert recorder.ended == []

    async def test_before_the_task_has_begun(self, cleaned: list[str]) -> None:
        tasks = Tasks(lambda error: None)
        recorder = Recorder(tasks)
        recorder.runner.start(self.waits(cleaned), "a")
        recorder.runner.cancel()
        assert cleaned == ["cleaned"]
        await tasks.close()

    async def test_from_within_before_waiting(self, recorder: Recorder, cleaned: list[str]) -> None:
        async def cancels() -> None:
            recorder.runner.cancel()
            await self.waits(cleaned)

        await asyncio.sleep(0)
        recorder.runner.start(cancels(), "a")
        assert cleaned == ["cleaned"]

    async def test_from_within_after_waiting_lets_it_end(self, recorder: Recorder) -> None:
        async def cancels() -> str:
            await asyncio.sleep(0)
            recorder.runner.cancel()
            return "ended"

        recorder.runner.start(cancels(), "a")
        assert await recorder.next_end() == ("a", "ended")

    async def test_from_within_without_waiting(self, recorder: Recorder) -> None:
        async def cancels() -> str:
            recorder.runner.cancel()
            return "ended"

        recorder.runner.start(cancels(), "a")
        assert recorder.ended == [("a", "ended")]

    async def test_nothing_starts_afterwards(self, recorder: Recorder, cleaned: list[str]) -> None:
        recorder.runner.cancel()
        recorder.runner.start(self.waits(cleaned), "a")
        assert cleaned == []
        assert recorder.ended == []
