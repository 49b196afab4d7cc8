"""Long and endless callers: minutes of silence, of noise and of speech, and the same five minutes again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from fakes import SILENT_FRAME, FakePrompts, InlineCrew, RecordingOutlet, ScriptedHearing, WordVoice
from phone import SUPPORT, script_of

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import AgentScript, EndReason, Rule, Say, Silence
from voisnap_mock.audio.endpointing import Endpointer
from voisnap_mock.clock import ManualClock
from voisnap_mock.engine.events import (
    AudioArrived,
    AudioReady,
    CallerTranscript,
    EventPushed,
    SessionEnded,
    Started,
)
from voisnap_mock.engine.runner import Session, SessionTable
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal

Result = TypeVar("Result")

PATIENT = {"max_idle": 3600.0, "max_duration": 3600.0}
SECOND_OF_SPEECH = (
    (np.sin(np.arange(16_000) * 0.16) * 12_000 * (1.2 + np.sin(np.arange(16_000) * 0.0016)) / 2.2)
    .astype("<i2")
    .tobytes()
)
SILENT_SECOND = SILENT_FRAME * 50


class Exchange:
    """One virtual call with the real endpointer; real time stands still."""

    def __init__(self, script: AgentScript, *, understood: tuple[str, ...] = ()) -> None:
        self.clock = ManualClock()
        self.journal = Journal(self.clock)
        self.outlet = RecordingOutlet()
        self.table = SessionTable(
            clock=self.clock,
            ids=IdSource(1),
            journal=self.journal,
            synthesizer=WordVoice(),
            prompts=FakePrompts(),
            hearing_for=lambda script: ScriptedHearing(*understood),
            endpointer_for=lambda script: Endpointer(end_of_turn=script.timing.end_of_turn, max_utterance=30.0),
            crew=InlineCrew(),
            mode="virtual",
        )
        self.session: Session = self.table.open_call(script, tenant_id="ten_dev", outlet=self.outlet)

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.outlet.delivered if isinstance(event, kind)]


def after(script: AgentScript, audio: bytes, *, understood: tuple[str, ...] = ()) -> Exchange:
    """The call after this caller audio, sent at once."""

    async def call() -> Exchange:
        exchange = Exchange(script, understood=understood)
        exchange.session.receive(Started())
        exchange.session.receive(AudioArrived(audio))
        await exchange.session.advance(0.0)
        await exchange.table.close()
        return exchange

    return asyncio.run(call())


def noise(seconds: int, level: float = 300.0) -> bytes:
    return np.random.default_rng(5).normal(0.0, level, seconds * 16_000).astype("<i2").tobytes()


def test_ten_minutes_of_silence_end_a_call_at_its_limit_and_not_sooner() -> None:
    exchange = after(script_of(), SILENT_SECOND * 600)
    assert exchange.all(SessionEnded) == [SessionEnded(EndReason.IDLE_TIMEOUT, 15.4)]


def test_ten_minutes_of_silence_are_one_silence() -> None:
    script = script_of(replies=(Rule((Silence(8.0),), ((Say("Still there?"),),)),), timing=PATIENT)
    exchange = after(script, SILENT_SECOND * 600)
    assert exchange.session.t == 600.0
    assert [
        details.details["matched"] for details in exchange.journal.entries() if details.kind == "turn.answered"
    ] == [
        "greeting",
        "replies[0]",
    ]
    assert exchange.all(CallerTranscript) == []


def test_ten_minutes_of_noise_do_not_keep_an_agent_talking() -> None:
    exchange = after(script_of(timing=PATIENT), noise(600), understood=("",) * 50)
    assert exchange.session.t == 600.0
    assert len(exchange.all(CallerTranscript)) <= 1
    assert len([entry for entry in exchange.journal.entries() if not entry.kind.startswith("audio.")]) < 30


def test_speech_that_never_ends_is_cut_into_utterances_of_thirty_seconds() -> None:
    texts = tuple(f"part {number}" for number in range(1, 9))
    exchange = after(script_of(SUPPORT, timing=PATIENT), SECOND_OF_SPEECH * 130 + SILENT_SECOND * 2, understood=texts)
    finals = [event for event in exchange.all(CallerTranscript) if event.is_final]
    assert [event.text for event in finals] == list(texts[:5])
    assert all(event.end - event.begin <= 30.0 + 1e-6 for event in finals)
    assert finals[-1].end == pytest.approx(130.0, abs=0.1)


LOOP = """
version: 1
agents:
  agt_loop:
    timing: {max_idle: 1m}
    replies: [{silence: 1s, goto: a}]
    states:
      a: [{silence: 1s, event: {name: A}, goto: b}, {silence: 2s, event: {name: A2}, goto: b}]
      b: [{silence: 1s, event: {name: B}, goto: a}, {silence: 3s, event: {name: B3}, goto: a}]
"""


@pytest.mark.parametrize("channel", ["voice", "chat"])
def test_rules_that_lead_to_each_other_wait_for_their_time(channel: str) -> None:
    script = parse_agents(LOOP, source="loop.yaml").agents["agt_loop"]

    async def idle() -> Exchange:
        exchange = Exchange(script)
        if channel == "chat":
            exchange.session = exchange.table.open_chat(script, tenant_id="ten_dev", outlet=exchange.outlet)
        exchange.session.receive(Started())
        await exchange.session.advance(61.0)
        await exchange.table.close()
        return exchange

    exchange = asyncio.run(idle())
    assert 1 <= len(exchange.all(EventPushed)) <= 4
    assert exchange.all(SessionEnded) == [SessionEnded(EndReason.IDLE_TIMEOUT, 60.0)]


def test_five_minutes_with_fifty_turns_are_the_same_in_every_call() -> None:
    """A benchmark, `tests/benchmarks thousand`, does it a thousand times."""
    story = (SECOND_OF_SPEECH + SILENT_SECOND * 5) * 50

    def record() -> tuple[object, ...]:
        exchange = after(script_of(timing=PATIENT), story, understood=("I want a refund", "hello") * 25)
        assert exchange.session.t == 300.0
        entries = [(entry.kind, entry.t, repr(entry.details)) for entry in exchange.journal.entries()]
        return entries, exchange.outlet.audio, len(exchange.all(AudioReady))

    first = record()
    entries = first[0]
    assert isinstance(entries, list)
    assert len([kind for kind, _, _ in entries if kind == "turn.answered"]) == 51
    assert all(record() == first for _ in range(2))


def test_a_hundred_calls_side_by_side_are_the_same_as_one() -> None:
    async def crowd(calls: int) -> list[tuple[list[object], bytes]]:
        exchanges = [Exchange(script_of(timing=PATIENT), understood=("I want a refund",)) for _ in range(calls)]
        for exchange in exchanges:
            exchange.session.receive(Started())
        for piece in (SILENT_SECOND, SECOND_OF_SPEECH, SILENT_SECOND * 3):
            for exchange in exchanges:
                exchange.session.receive(AudioArrived(piece))
        await everybody(exchanges, lambda exchange: exchange.session.advance(5.0))
        return [(exchange.outlet.events, exchange.outlet.audio) for exchange in exchanges]

    (alone,) = asyncio.run(crowd(1))
    assert all(other == alone for other in asyncio.run(crowd(100)))


async def everybody(exchanges: list[Exchange], do: Callable[[Exchange], Awaitable[Result]]) -> list[Result]:
    results = await asyncio.gather(*(do(exchange) for exchange in exchanges))
    for exchange in exchanges:
        await exchange.table.close()
    return results
