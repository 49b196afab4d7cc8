"""Calls on a virtual clock: the caller's audio is the time, so the same call is the same every time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes import (
    LOUD_FRAME,
    SILENT_FRAME,
    FakePrompts,
    HeldCrew,
    InlineCrew,
    LoudnessEndpointer,
    RecordingOutlet,
    ScriptedHearing,
    WordVoice,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from phone import SILENT, SUPPORT, script_of

from voisnap_mock.agents.script import AgentScript, EndReason, Otherwise, Pause, Rule, Say, Silence
from voisnap_mock.clock import ManualClock
from voisnap_mock.engine.events import (
    AgentMessage,
    AgentTranscript,
    AudioArrived,
    AudioReady,
    CallerTranscript,
    CancelRequested,
    DigitPressed,
    HangupRequested,
    SessionEnded,
    SessionFailed,
    SessionStarted,
    Started,
    TextArrived,
)
from voisnap_mock.engine.runner import Session, SessionTable
from voisnap_mock.engine.runner.crew import Crew
from voisnap_mock.errors import ClockError
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal, JournalEntry

CALL = script_of(
    SUPPORT,
    replies=(
        Rule((Silence(3.0),), ((Say("Still there?"),),)),
        Rule((Otherwise(),), ((Pause(0.3), Say("Right. Go on please")), (Say("Fine."),))),
    ),
)
STORY = SILENT_FRAME * 50 + LOUD_FRAME * 60 + SILENT_FRAME * 220 + LOUD_FRAME * 7 + SILENT_FRAME * 80 + LOUD_FRAME * 30


class Laboratory:
    """A session table with a virtual clock; real time stands still unless a test moves it."""

    def __init__(self, *, crew: Crew | None = None, hearing: ScriptedHearing | None = None) -> None:
        self.clock = ManualClock()
        self.journal = Journal(self.clock)
        self.table = SessionTable(
            clock=self.clock,
            ids=IdSource(1),
            journal=self.journal,
            synthesizer=WordVoice(),
            prompts=FakePrompts(),
            hearing_for=lambda script: hearing or ScriptedHearing("I want a refund please", "uh", "hello there"),
            endpointer_for=lambda script: LoudnessEndpointer(end_of_turn=script.timing.end_of_turn),
            crew=crew or InlineCrew(),
            mode="virtual",
        )
        self.outlet = RecordingOutlet()

    async def call(self, script: AgentScript = CALL) -> Session:
        session = self.table.open_call(script, tenant_id="ten_dev", outlet=self.outlet)
        session.receive(Started())
        await self.settle()
        return session

    async def chat(self, script: AgentScript = CALL) -> Session:
        session = self.table.open_chat(script, tenant_id="ten_dev", outlet=self.outlet)
        session.receive(Started())
        return session

    async def settle(self) -> None:
        """Let workers and tasks finish; no time passes."""
        for _ in range(200):
            await asyncio.sleep(0)

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.outlet.delivered if isinstance(event, kind)]

    def record(self) -> list[JournalEntry]:
        return list(self.journal.entries())


@pytest.fixture
async def laboratory() -> AsyncIterator[Laboratory]:
    laboratory = Laboratory()
    yield laboratory
    await laboratory.table.close()


async def test_call_time_is_caller_audio(laboratory: Laboratory) -> None:
    session = await laboratory.call()
    assert session.t == 0.0
    session.receive(AudioArrived(SILENT_FRAME * 10))
    await laboratory.settle()
    assert session.t == pytest.approx(0.2)
    assert laboratory.outlet.events[:2] == [SessionStarted("Support"), AgentTranscript("Hi", False, 0.0, 0.2)]


async def test_real_time_that_passes_is_no_call_time(laboratory: Laboratory) -> None:
    session = await laboratory.call(SILENT)
    await laboratory.clock.advance(10_000)
    assert session.t == 0.0
    assert session.status == "live"


async def test_what_the_agent_is_doing_runs_out_when_the_caller_is_idle(laboratory: Laboratory) -> None:
    session = await laboratory.call()
    await laboratory.clock.advance(0.049)
    assert len(laboratory.all(AudioReady)) == 1
    await laboratory.clock.advance(0.002)
    assert laboratory.all(AgentTranscript)[-1] == AgentTranscript("Hi there.", True, 0.0, 0.4)
    assert session.t == 0.4
    await laboratory.clock.advance(1_000)
    assert session.t == 0.4
    assert laboratory.all(SessionEnded) == []


async def test_audio_at_wall_pace_keeps_the_agent_at_the_caller_s_pace(laboratory: Laboratory) -> None:
    session = await laboratory.call()
    for frames in range(1, 15):
        await laboratory.clock.advance(0.02)
        session.receive(AudioArrived(SILENT_FRAME))
        await laboratory.settle()
        assert len(laboratory.all(AudioReady)) == frames + 1


async def test_advance_moves_time_through_silence_rules_and_limits(laboratory: Laboratory) -> None:
    session = await laboratory.call()
    await asyncio.wait_for(session.advance(3.4), 1)
    assert session.t == 3.4
    assert laboratory.all(AgentTranscript)[-1].text == "Hi there."
    await asyncio.wait_for(session.advance(0.4), 1)
    assert laboratory.all(AgentTranscript)[-1] == AgentTranscript("Still there?", True, 3.4, 3.8)
    await asyncio.wait_for(session.advance(100), 1)
    assert laboratory.all(SessionEnded) == [SessionEnded(EndReason.IDLE_TIMEOUT, 15.4)]
    await asyncio.wait_for(session.advance(1), 1)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
async def test_advance_by_nonsense_is_refused(laboratory: Laboratory, seconds: float) -> None:
    session = await laboratory.call()
    with pytest.raises(ClockError, match="a number of seconds from 0 on is expected"):
        await session.advance(seconds)


async def test_a_real_clock_cannot_be_advanced() -> None:
    clock = ManualClock()
    table = SessionTable(
        clock=clock,
        ids=IdSource(1),
        journal=Journal(clock),
        synthesizer=WordVoice(),
        prompts=FakePrompts(),
        hearing_for=lambda script: ScriptedHearing(),
        endpointer_for=lambda script: LoudnessEndpointer(),
        mode="4x",
    )
    session = table.open_call(SILENT, tenant_id="ten_dev", outlet=RecordingOutlet())
    session.hurry()
    with pytest.raises(ClockError, match="goes by the 4x clock"):
        await session.advance(1.0)
    await table.close()


async def test_a_test_that_waits_need_not_wait_for_the_grace(laboratory: Laboratory) -> None:
    session = await laboratory.call()
    session.hurry()
    await laboratory.settle()
    assert laboratory.all(AgentTranscript)[-1].is_final


async def test_the_agent_goes_on_without_a_second_grace_in_the_same_idle_period(laboratory: Laboratory) -> None:
    session = await laboratory.call()
    session.receive(AudioArrived(STORY[: 640 * 200]))
    await laboratory.settle()
    session.hurry()
    await laboratory.settle()
    assert laboratory.all(AgentTranscript)[-1].text == "Right. Go on please"
    assert laboratory.all(AgentTranscript)[-1].is_final


def journal_of(entries: list[JournalEntry]) -> list[tuple[str, float | None, dict[str, Any]]]:
    return [(entry.kind, entry.t, dict(entry.details)) for entry in entries]


def run_story(sizes: list[int], *, crew: Crew | None = None) -> list[tuple[str, float | None, dict[str, Any]]]:
    """The journal of a call whose caller sends the story in pieces of these sizes, in samples, over and over."""

    async def story() -> list[tuple[str, float | None, dict[str, Any]]]:
        laboratory = Laboratory(crew=crew)
        session = await laboratory.call()
        at = number = 0
        while at < len(STORY):
            size = sizes[number % len(sizes)] * 2
            session.receive(AudioArrived(STORY[at : at + size]))
            if number % 50 == 0:
                await laboratory.settle()
            at += size
            number += 1
        await asyncio.wait_for(session.advance(30.0), 5)
        await laboratory.table.close()
        return [*journal_of(laboratory.record()), ("audio", float(len(laboratory.all(AudioReady))), {})]

    return asyncio.run(story())


WHOLE = [len(STORY) // 2]


def test_a_call_tells_the_whole_story() -> None:
    record = run_story(WHOLE)
    heard = [details["text"] for kind, _, details in record if kind == "caller.transcript" and details["is_final"]]
    assert heard == ["I want a refund please", "uh", "hello there"]
    assert ("session.ended", 26.79, {"reason": "idle_timeout", "duration": 26.79}) in record


@pytest.mark.parametrize("size", [320, 256, 1, 100_000])
def test_chunking_changes_nothing(size: int) -> None:
    if size == 1:
        size = 7
    assert run_story([size]) == run_story(WHOLE)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(20, 4_000), min_size=1, max_size=12))
def test_no_chunking_at_all_changes_anything(sizes: list[int]) -> None:
    assert run_story(sizes) == run_story(WHOLE)


async def test_a_slow_ear_changes_nothing() -> None:
    crew = HeldCrew()
    slow = Laboratory(crew=crew)
    session = await slow.call()
    session.receive(AudioArrived(STORY))
    advanced = asyncio.ensure_future(session.advance(30.0))
    while not advanced.done():
        await slow.clock.advance(0.2)
        crew.work()
    record = [*journal_of(slow.record()), ("audio", float(len(slow.all(AudioReady))), {})]
    await slow.table.close()
    assert record == await asyncio.to_thread(run_story, WHOLE)


async def test_an_ear_that_hangs_is_given_up_and_the_call_goes_on() -> None:
    crew = HeldCrew()
    laboratory = Laboratory(crew=crew)
    session = await laboratory.call()
    session.receive(AudioArrived(LOUD_FRAME * 10 + SILENT_FRAME * 60))
    await laboratory.settle()
    stuck_at = session.t
    await laboratory.clock.advance(10.1)
    assert laboratory.all(SessionFailed)
    assert session.t > stuck_at
    await laboratory.table.close()


async def test_keys_keep_their_place_among_the_audio(laboratory: Laboratory) -> None:
    session = await laboratory.call(script_of(SILENT))
    session.receive(AudioArrived(SILENT_FRAME * 10))
    session.receive(DigitPressed("1"))
    session.receive(AudioArrived(SILENT_FRAME * 10))
    session.receive(HangupRequested(EndReason.USER_ENDED))
    await laboratory.settle()
    assert laboratory.all(SessionEnded) == [SessionEnded(EndReason.USER_ENDED, pytest.approx(0.4))]
    (pressed,) = [entry for entry in laboratory.record() if entry.kind == "caller.digit"]
    assert pressed.t == pytest.approx(0.2)


async def test_a_chat_goes_on_by_its_replies(laboratory: Laboratory) -> None:
    session = await laboratory.chat()
    await laboratory.clock.advance(0.06)
    session.receive(TextArrived("hello", {}))
    await laboratory.clock.advance(0.06)
    assert [event.text for event in laboratory.all(AgentMessage) if event.is_final] == [
        "Hi there.",
        "Right. Go on please",
    ]
    assert session.t == pytest.approx(0.45)
    await laboratory.clock.advance(1_000)
    assert session.t == pytest.approx(0.45)


async def test_a_chat_reply_can_be_cancelled_at_an_exact_time(laboratory: Laboratory) -> None:
    session = await laboratory.chat()
    session.hurry()
    session.receive(TextArrived("hello", {}))
    await session.advance(0.36)
    session.receive(CancelRequested())
    assert laboratory.all(AgentMessage)[-1].text == "Right. Go on"


async def test_shutdown_ends_a_call_that_waits_for_its_ear() -> None:
    crew = HeldCrew()
    laboratory = Laboratory(crew=crew)
    session = await laboratory.call()
    session.receive(AudioArrived(STORY))
    await laboratory.settle()
    await laboratory.table.close()
    assert laboratory.all(SessionEnded)[-1].reason is EndReason.SERVER_SHUTDOWN


async def test_a_new_connection_hears_first_that_it_resumed() -> None:
    crew = HeldCrew()
    laboratory = Laboratory(crew=crew)
    session = await laboratory.call()
    session.receive(AudioArrived(STORY))
    await laboratory.settle()
    fresh = RecordingOutlet()
    laboratory.table.resume(session.id, tenant_id="ten_dev", channel="voice", outlet=fresh)
    for _ in range(50):
        await laboratory.settle()
        crew.work()
    assert type(fresh.delivered[0]).__name__ == "SessionResumed"
    assert [event.text for event in fresh.delivered if isinstance(event, CallerTranscript) and event.is_final] == [
        "I want a refund please",
        "uh",
    ]
    await laboratory.table.close()


async def test_audio_that_nobody_can_take_is_bounded(laboratory: Laboratory) -> None:
    session = await laboratory.call(script_of(greeting=(Say("endless"),)))
    session.receive(AudioArrived(SILENT_FRAME * 60_010))
    dropped = [entry for entry in laboratory.record() if entry.kind == "caller.audio_dropped"]
    assert len(dropped) == 10
