"""What a session does for others at a later call time, whatever moves that."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakes import SILENT_FRAME, FakePrompts, InlineCrew, LoudnessEndpointer, RecordingOutlet, ScriptedHearing, WordVoice
from phone import SILENT

from voisnap_mock.agents.script import EndReason
from voisnap_mock.clock import ManualClock
from voisnap_mock.engine.events import AudioArrived, HangupRequested, Started
from voisnap_mock.engine.runner import ClockMode, Session, SessionTable
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal


class Bench:
    """One session, and the call times at which its errands were done."""

    def __init__(self, mode: ClockMode) -> None:
        self.clock = ManualClock()
        self.table = SessionTable(
            clock=self.clock,
            ids=IdSource(1),
            journal=Journal(self.clock),
            synthesizer=WordVoice(),
            prompts=FakePrompts(),
            hearing_for=lambda script: ScriptedHearing(),
            endpointer_for=lambda script: LoudnessEndpointer(end_of_turn=0.7),
            mode=mode,
            crew=InlineCrew(),
        )
        self.session: Session = self.table.open_call(SILENT, tenant_id="ten_dev", outlet=RecordingOutlet())
        self.done: list[tuple[str, float, float]] = []

    def later(self, seconds: float, name: str) -> None:
        self.session.later(
            seconds,
            lambda: self.done.append((name, round(self.session.t, 3), round(self.clock.monotonic(), 3))),
        )


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    bench = Bench(request.param)
    yield bench
    await bench.table.close()


@pytest.mark.parametrize(("bench", "speed"), [("real", 1), ("4x", 4)], indirect=["bench"])
async def test_errands_are_done_at_their_call_times_in_the_order_of_their_asking(bench: Bench, speed: int) -> None:
    bench.session.receive(Started())
    bench.later(2.0, "second")
    bench.later(1.0, "first")
    bench.later(2.0, "third")
    await bench.clock.advance(2.0)
    assert [name for name, _, _ in bench.done] == ["first", "second", "third"]
    assert [t for _, t, _ in bench.done] == [1.0, 2.0, 2.0]
    assert [at for _, _, at in bench.done] == pytest.approx([1 / speed, 2 / speed, 2 / speed])


@pytest.mark.parametrize("bench", ["virtual"], indirect=True)
async def test_on_a_virtual_clock_they_wait_for_the_callers_audio(bench: Bench) -> None:
    bench.session.receive(Started())
    bench.session.hold()
    bench.later(0.5, "errand")
    await bench.clock.advance(100)
    assert bench.done == []
    bench.session.receive(AudioArrived(SILENT_FRAME * 24))
    assert bench.done == []
    bench.session.receive(AudioArrived(SILENT_FRAME))
    assert bench.done == [("errand", 0.5, 100.0)]


@pytest.mark.parametrize("bench", ["virtual"], indirect=True)
async def test_on_a_virtual_clock_they_run_out_when_the_caller_is_idle(bench: Bench) -> None:
    bench.session.receive(Started())
    bench.later(3.0, "errand")
    await bench.clock.advance(0.05)
    assert bench.done == [("errand", 3.0, 0.05)]


@pytest.mark.parametrize(
    ("bench", "at"), [("real", 7.0), ("4x", 1.75), ("virtual", 0.0)], indirect=["bench"], ids=["real", "4x", "virtual"]
)
async def test_what_is_left_at_the_end_takes_the_real_time_that_it_would_have_taken(bench: Bench, at: float) -> None:
    bench.session.receive(Started())
    bench.later(7.0, "before the end")
    bench.session.receive(HangupRequested(EndReason.USER_ENDED))
    bench.later(7.0, "after the end")
    await bench.clock.advance(10)
    assert [(name, real) for name, _, real in bench.done] == [("before the end", at), ("after the end", at)]


@pytest.mark.parametrize("bench", ["real"], indirect=True)
async def test_what_is_asked_before_the_start_counts_from_it(bench: Bench) -> None:
    bench.later(0.02, "errand")
    await bench.clock.advance(5)
    bench.session.receive(Started())
    await bench.clock.advance(0.03)
    assert [(name, t) for name, t, _ in bench.done] == [("errand", 0.02)]


@pytest.mark.parametrize("bench", ["real"], indirect=True)
async def test_an_errand_may_end_the_session(bench: Bench) -> None:
    bench.session.receive(Started())
    bench.session.later(1.0, lambda: bench.session.receive(HangupRequested(EndReason.USER_ENDED)))
    await bench.clock.advance(2)
    assert bench.session.duration == pytest.approx(1.0)
