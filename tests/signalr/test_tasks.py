"""Tasks with an owner, and the timetable on a clock that the test moves."""

import asyncio

import pytest

from voisnap_mock.clock import ManualClock
from voisnap_mock.signalr.tasks import LoopClock, Tasks, Timetable


class Subject:
    """Is called, and says when it wants to be called again."""

    def __init__(self, *again: float) -> None:
        self.called: list[float] = []
        self.again = list(again)

    def on_deadline(self, now: float) -> float | None:
        self.called.append(now)
        return self.again.pop(0) if self.again else None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tasks() -> Tasks:
    return Tasks(lambda error: None)


async def test_each_subject_is_called_at_its_time(clock: ManualClock, tasks: Tasks) -> None:
    timetable = Timetable(clock, tasks)
    late, early = Subject(), Subject(4.0, 7.0)
    timetable.call_at(5.0, late)
    timetable.call_at(2.0, early)
    await clock.advance(10.0)
    assert late.called == [5.0]
    assert early.called == [2.0, 4.0, 7.0]
    await timetable.close()


async def test_an_earlier_deadline_wakes_it_earlier(clock: ManualClock, tasks: Tasks) -> None:
    timetable = Timetable(clock, tasks)
    late, early = Subject(), Subject()
    timetable.call_at(50.0, late)
    await clock.advance(1.0)
    timetable.call_at(2.0, early)
    await clock.advance(2.0)
    assert early.called == [2.0]
    assert late.called == []
    await timetable.close()


async def test_a_cancelled_appointment_is_forgotten(clock: ManualClock, tasks: Tasks) -> None:
    timetable = Timetable(clock, tasks)
    subject = Subject()
    timetable.call_at(1.0, subject).cancel()
    await clock.advance(2.0)
    assert subject.called == []
    await timetable.close()


async def test_subjects_may_make_appointments_while_called(clock: ManualClock, tasks: Tasks) -> None:
    timetable = Timetable(clock, tasks)
    other = Subject()

    class Chains(Subject):
        def on_deadline(self, now: float) -> float | None:
            timetable.call_at(now + 1.0, other)
            return super().on_deadline(now)

    timetable.call_at(1.0, Chains())
    await clock.advance(5.0)
    assert other.called == [2.0]
    await timetable.close()


async def test_it_starts_again_after_it_was_empty(clock: ManualClock, tasks: Tasks) -> None:
    timetable = Timetable(clock, tasks)
    first, second = Subject(), Subject()
    timetable.call_at(1.0, first)
    await clock.advance(3.0)
    timetable.call_at(4.0, second)
    await clock.advance(3.0)
    assert second.called == [4.0]
    await timetable.close()
    assert not len(tasks)


async def test_tasks_report_what_fails() -> None:
    problems: list[BaseException] = []
    tasks = Tasks(problems.append)

    async def fails() -> None:
        raise ValueError("no")

    tasks.start(fails())
    await tasks.wait()
    await asyncio.sleep(0)
    assert [type(problem) for problem in problems] == [ValueError]


async def test_closing_ends_every_task() -> None:
    problems: list[BaseException] = []
    tasks = Tasks(problems.append)

    async def forever() -> None:
        await asyncio.Event().wait()

    for _ in range(3):
        tasks.start(forever())
    await tasks.close()
    assert len(tasks) == 0
    assert problems == []


async def test_the_loop_clock_sleeps() -> None:
    clock = LoopClock()
    began = clock.monotonic()
    await clock.sleep_until(began + 0.002)
    assert clock.monotonic() >= began + 0.001
