"""Faults in running sessions on a virtual clock: the same whatever the chunking; schedules; what tokens replay."""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import Any

from fakes import (
    LOUD_FRAME,
    SILENT_FRAME,
    FakePrompts,
    InlineCrew,
    LoudnessEndpointer,
    RecordingOutlet,
    ScriptedHearing,
    WordVoice,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from voisnap_mock.agents.script import AgentScript, Hear, Otherwise, Rule, Say
from voisnap_mock.clock import ManualClock
from voisnap_mock.coverage import EVENTS_OF
from voisnap_mock.coverage import METHODS as METHODS_OF
from voisnap_mock.engine.events import AudioArrived, Started
from voisnap_mock.engine.runner import Session, SessionTable
from voisnap_mock.faults.machine import FaultyMachine
from voisnap_mock.faults.plan import FaultPlan
from voisnap_mock.faults.reading import read_faults
from voisnap_mock.faults.rules import EVENTS, METHODS
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal

SCRIPT = AgentScript(
    "agt_a",
    "A",
    greeting=(Say("Hi there."),),
    replies=(
        Rule((Hear(("refund",)),), ((Say("Sure. What is the number?"),),)),
        Rule((Otherwise(),), ((Say("What?"),),)),
    ),
)
CHAOS = (
    "[{id: line, at: [audio.in, audio.out], do: {impair: {loss: 0.1, burst: 2, jitter: 40ms, reorder: 0.05,"
    " drift_ppm: 900}}}, {id: ear, at: stt, do: {error: STT_PROVIDER_TIMEOUT, after: 1s}, rate: 0.4},"
    " {id: model, at: llm, do: {slow: 2s}, rate: 0.5}, {id: voice, at: tts, do: {silence: true}, every: 3}]"
)
STORY = b"".join(
    frame * count for frame, count in ((SILENT_FRAME, 60), (LOUD_FRAME, 30), (SILENT_FRAME, 200)) * 4
) + bytes(222)


class Room:
    """A session table on a virtual clock with one plan of faults."""

    def __init__(self, plan: FaultPlan) -> None:
        self.clock = ManualClock()
        self.journal = Journal(self.clock)
        self.plan = plan
        self.table = SessionTable(
            clock=self.clock,
            ids=IdSource(1),
            journal=self.journal,
            synthesizer=WordVoice(),
            prompts=FakePrompts(),
            hearing_for=lambda script: ScriptedHearing("refund", "no", "refund", "yes"),
            endpointer_for=lambda script: LoudnessEndpointer(end_of_turn=script.timing.end_of_turn),
            mode="virtual",
            crew=InlineCrew(),
        )
        self.table.on_open = self._dress

    def _dress(self, session: Session) -> None:
        self.plan.session_opened(session.id)
        session.decorate(
            lambda machine: FaultyMachine(
                machine, plan=self.plan, session=session.id, agent="agt_a", channel="voice", first_audio=0.35
            )
        )

    async def call(self, pieces: list[int]) -> tuple[list[Any], bytes]:
        """The story in pieces of these sizes, again and again: the journal and the audio that came back."""
        outlet = RecordingOutlet()
        session = self.table.open_call(SCRIPT, tenant_id="ten_dev", outlet=outlet)
        session.receive(Started())
        at, sizes = 0, cycle(pieces)
        while at < len(STORY):
            size = 2 * next(sizes)
            session.receive(AudioArrived(STORY[at : at + size]))
            at += size
            await asyncio.sleep(0)
        await session.advance(30)
        entries = [(e.kind, e.t, dict(e.details)) for e in self.journal.entries() if e.call_id == session.id]
        return entries, outlet.audio


def plan_of(text: str, seed: int = 5) -> FaultPlan:
    plan = FaultPlan(seed)
    plan.load(read_faults(text, source="x"))
    return plan


def fired(entries: list[Any]) -> list[tuple[str, float]]:
    return [(details["fault"], t) for kind, t, details in entries if kind == "fault.fired"]


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=5))
@settings(max_examples=10, deadline=None)
def test_the_same_faults_fire_at_the_same_times_however_the_audio_is_cut(pieces: list[int]) -> None:
    async def both() -> None:
        whole = await Room(plan_of(CHAOS)).call([320])
        assert await Room(plan_of(CHAOS)).call(pieces) == whole
        assert len(fired(whole[0])) >= 4

    asyncio.run(both())


async def test_calls_at_the_same_time_get_what_they_get_alone() -> None:
    alone = Room(plan_of(CHAOS))
    first, second = await alone.call([320]), await alone.call([320])
    together = Room(plan_of(CHAOS))
    assert await asyncio.gather(together.call([320]), together.call([777])) == [first, second]
    assert fired(first[0]) != fired(second[0])


async def test_a_token_brings_the_same_faults_at_the_same_call_times() -> None:
    plan = plan_of(CHAOS)
    entries, audio = await Room(plan).call([320])
    again = FaultPlan(99)
    again.load(read_faults(plan.token(), source="token"))
    assert await Room(again).call([640]) == (entries, audio)


async def test_another_seed_is_another_call() -> None:
    assert await Room(plan_of(CHAOS, 5)).call([320]) != await Room(plan_of(CHAOS, 6)).call([320])


async def test_a_phase_of_a_schedule_is_a_part_of_the_call() -> None:
    plan = plan_of(
        "faults: [{id: deaf, at: stt, do: {error: STT_PROVIDER_TIMEOUT}}]\n"
        "schedules: {morning: [{for: 4s, use: []}, {for: 12s, use: [deaf]}]}"
    )
    plan.start_schedule("morning", now=0.0)
    entries, _ = await Room(plan).call([320])
    turns = [
        (kind, t)
        for kind, t, details in entries
        if kind in ("caller.transcript", "session.failed") and details.get("is_final", True)
    ]
    assert [kind for kind, _ in turns] == ["caller.transcript", "session.failed", "session.failed", "caller.transcript"]
    assert all(4 <= t < 16 for _, t in fired(entries))


async def test_a_fault_expires_in_mid_call() -> None:
    plan = plan_of("{id: hole, at: audio.out, when: {call_after: 3s}, do: {impair: {loss: 1}}, for: 5s}")
    _, audio = await Room(plan).call([320])
    _, whole = await Room(plan_of("[]")).call([320])
    lost = (len(whole) - len(audio)) // 960
    assert 0 < lost <= 250
    assert audio[-960:] == whole[-960:]


# --- Names --------------------------------------------------------------------------------------------------------


def test_the_names_of_methods_and_events_are_those_of_the_hubs() -> None:
    assert set(METHODS) == {name for names in METHODS_OF.values() for name in names}
    assert set(EVENTS) >= {name for names in EVENTS_OF.values() for name in names}
