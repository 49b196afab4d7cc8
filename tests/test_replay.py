"""A recorded caller calls again: what is sent when, and how what comes of it is compared."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.audio.frames import write_wav
from voisnap_mock.caller import ChatUser
from voisnap_mock.cli.service import Login, access_token
from voisnap_mock.clock import SystemClock
from voisnap_mock.config import CallClock, Settings
from voisnap_mock.errors import ConfigError
from voisnap_mock.recordings.reading import RecordedCall, read_record
from voisnap_mock.replay import Act, Replayed, Seen, compare, plan_of, play, seen_in, timed
from voisnap_mock.server import MockServer

AGENTS = """
version: 1
seed: 3
agents:
  agt_shop:
    name: Shop
    greeting: Good morning, what can I do for you?
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms, first_audio: 100ms, max_idle: 6s}
    replies:
      - {hear: [refund], say: "Which order, {{ metadata.name }}?"}
      - {hear: [badge], event: {name: Badge, payload: {b: 1, a: [2]}}, say: Look.}
      - {dtmf: "12#", say: One two.}
      - {silence: 3s, say: Still there?}
      - {else: What?}
"""


def serving(clock: CallClock = "virtual", *, agents: str = AGENTS, record: Path | None = None) -> MockServer:
    # However busy the machine is, the agent waits for the next piece of sound.
    settings = Settings(port=0, clock=clock, record=record, idle_grace=5.0)
    return MockServer(parse_agents(agents, source="test agents"), settings=settings)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RecordedCall:
    """A call in which the caller interrupts, presses keys, falls silent and goes on until the agent has enough."""
    folder = tmp_path_factory.mktemp("calls")
    with serving(record=folder) as server, server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        caller.interrupt("I want a refund", at=1.0)
        caller.heard()
        assert caller.heard() == "Which order, Ada?"
        caller.press("12#")
        assert caller.heard() == "One two."
        caller.say("show me the badge")
        assert [caller.heard(), caller.heard()] == ["Look.", "Still there?"]
        caller.hears_end()
    return read_record(folder / caller.conversation_id)


def replay(record: RecordedCall, server: MockServer, *, speed: float | None = None) -> Replayed:
    async def run() -> Replayed:
        async def advance(call_id: str, until: float) -> None:
            session = server.app.tenants.default.sessions.get(call_id)
            if session is not None:
                await asyncio.to_thread(server.wait_for, session.advance(max(0.0, until - session.t)))

        token = await asyncio.to_thread(access_token, server.base_url, Login())
        return await play(
            plan_of(record),
            server.base_url,
            access_token=token,
            clock=SystemClock(),
            speed=speed,
            advance=advance,
        )

    return asyncio.run(run())


# --- playing ----------------------------------------------------------------------------------------------------


def test_the_same_call_comes_of_it_on_a_virtual_clock_to_the_millisecond(record: RecordedCall) -> None:
    with serving() as server:
        replayed = replay(record, server)
        journal = [entry.as_object() for entry in server.app.tenants.default.calls.entries(replayed.call_id)]
    recorded = seen_in(record)
    assert [event.text for event in recorded if event.target == "SessionEnded"] == ["idle_timeout"]
    assert '[{"a":[2],"b":1}]' in [event.text for event in recorded if event.target == "Badge"]
    assert all(event.t is None for event in replayed.seen)
    assert timed(replayed.seen, journal) == recorded


def test_in_real_time_the_same_events_come_at_their_times(tmp_path: Path) -> None:
    # Nobody comes near to interrupting: what is said does not hang on a moment.
    breath = tmp_path / "breath.wav"
    breath.write_bytes(write_wav(bytes(80_000), 16_000))
    with serving(record=tmp_path / "calls") as server, server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        caller.heard()
        caller.play(breath)
        caller.say("I want a refund")
        caller.heard()
        caller.play(breath)
        caller.press("12#")
        caller.heard()
        caller.play(breath)
    record = read_record(tmp_path / "calls" / caller.conversation_id)
    with serving("4x") as server:
        replayed = replay(record, server, speed=4.0)
    rows = compare(seen_in(record), replayed.seen, tolerance=4.0)
    assert [row for row in rows if not row.is_same] == []
    assert all(event.t is not None for event in replayed.seen)


def test_another_answer_is_found(record: RecordedCall) -> None:
    with serving(agents=AGENTS.replace("Which order", "What number")) as server:
        replayed = replay(record, server)
    different = [row for row in compare(seen_in(record), replayed.seen) if not row.is_same]
    assert [(row.recorded and row.recorded.text, row.replayed and row.replayed.text) for row in different] == [
        ("Which order, Ada?", None),
        (None, "What number, Ada?"),
    ]


async def _chat(url: str) -> None:
    token = await asyncio.to_thread(access_token, url, Login())
    async with ChatUser(
        url, "agt_shop", access_token=token, clock=SystemClock(), metadata={"name": "Ada"}, language="es"
    ) as user:
        await user.floor()
        await user.write("refund please", metadata={"order": 7})
        await user.floor()
        await user.write("hm")
        await user.floor()
        await user.hang_up()


def test_a_chat_is_played_again_too(tmp_path: Path) -> None:
    with serving(record=tmp_path) as server:
        asyncio.run(_chat(server.base_url))
    (folder,) = tmp_path.iterdir()
    recorded = read_record(folder)
    plan = plan_of(recorded)
    assert plan.given == {"metadata": {"name": "Ada"}, "language": "es"}
    assert [(act.method, act.arguments) for act in plan.acts] == [
        ("SendMessageAsync", ({"content": "refund please", "metadata": {"order": 7}},)),
        ("SendMessageAsync", ({"content": "hm", "metadata": {}},)),
        ("EndSessionAsync", ()),
    ]
    with serving() as server:
        replayed = replay(recorded, server)
    assert [row for row in compare(seen_in(recorded), replayed.seen) if not row.is_same] == []
    assert [event.text for event in replayed.seen if event.target == "MessageReceived"] == [
        "Good morning, what can I do for you?",
        "Which order, Ada?",
        "What?",
    ]


# --- what a record says -----------------------------------------------------------------------------------------


def record_of(*events: Mapping[str, Any], channel: str = "voice", duration: float | None = 9.0) -> RecordedCall:
    facts = {"id": "conv_1", "agentId": "agt_a", "channel": channel, "durationSeconds": duration}
    return RecordedCall("call", facts, events, {})


DETACHED = {"kind": "session.detached", "t": 4.0}
RESUMED = {"kind": "session.resumed", "t": 5.0, "message": ""}
DIGIT = {"kind": "method", "t": 3.0, "target": "SendDtmfAsync", "digit": "5"}
HANG_UP = {"kind": "method", "t": 8.0, "target": "EndSessionAsync", "reason": "timeout"}


def said(text: str, t: float) -> dict[str, Any]:
    return {"kind": "agent.transcript", "t": t, "text": text, "is_final": True, "begin": 0.0, "end": t}


def ended(reason: str, t: float = 9.0) -> dict[str, Any]:
    return {"kind": "session.ended", "t": t, "reason": reason, "duration": t}


def test_the_caller_does_what_the_journal_says_at_its_time() -> None:
    plan = plan_of(record_of(DIGIT, HANG_UP, ended("timeout")))
    assert plan.acts == (Act(3.0, "SendDtmfAsync", ("5",)), Act(8.0, "EndSessionAsync", ("timeout",)))
    assert (plan.until, plan.leaves) == (9.0, False)


def test_a_caller_who_was_lost_for_good_leaves_at_that_time_and_sees_nothing_more() -> None:
    record = record_of(said("One.", 3.5), DETACHED, said("Two.", 6.0), ended("disconnected", 34.0))
    plan = plan_of(record)
    assert (plan.until, plan.leaves) == (4.0, True)
    assert seen_in(record) == (Seen("TranscriptionOf", "One.", 3.5),)


def test_a_caller_who_came_back_stays() -> None:
    record = record_of(DETACHED, said("Two.", 4.5), RESUMED, HANG_UP, ended("timeout"))
    plan = plan_of(record)
    assert (plan.until, plan.leaves, len(plan.acts)) == (9.0, False, 1)
    assert [event.text for event in seen_in(record)] == ["Two.", "timeout"]


def test_a_server_that_was_stopped_is_no_event_of_the_call() -> None:
    assert seen_in(record_of(ended("server_shutdown"))) == ()


def test_a_record_without_an_end_is_played_as_far_as_it_goes() -> None:
    assert plan_of(record_of(DIGIT, said("x", 7.5), duration=None)).until == 7.5


def test_a_call_over_webrtc_cannot_be_played_again() -> None:
    with pytest.raises(ConfigError, match="is a webrtc call; only voice calls and chats"):
        plan_of(record_of(channel="webrtc"))


# --- comparing --------------------------------------------------------------------------------------------------


def events(*texts: str, t: float | None = None) -> list[Seen]:
    return [Seen("TranscriptionOf", text, t) for text in texts]


def test_the_same_events_are_those_of_one_target_and_text_in_order() -> None:
    rows = compare(events("a", "b", "c", "d"), [*events("a", "c"), Seen("Transcription", "d")])
    assert [(row.recorded and row.recorded.text, row.replayed and row.replayed.text, row.is_same) for row in rows] == [
        ("a", "a", True),
        ("b", None, False),
        ("c", "c", True),
        ("d", None, False),
        (None, "d", False),
    ]
    assert compare([], []) == ()


@pytest.mark.parametrize(("t", "is_late"), [(1.2, False), (0.8, False), (1.21, True), (0.79, True), (None, False)])
def test_with_a_tolerance_the_same_event_must_come_at_its_time(t: float | None, is_late: bool) -> None:
    (row,) = compare(events("a", t=1.0), events("a", t=t), tolerance=0.2)
    assert (row.is_late, row.is_same) == (is_late, not is_late)


def test_times_of_a_journal_count_only_when_it_has_the_events_that_the_client_saw() -> None:
    assert timed(events("a"), [said("a", 1.5)]) == tuple(events("a", t=1.5))
    assert timed(events("b"), [said("a", 1.5)]) == tuple(events("b"))
    assert timed(events("b"), ()) == tuple(events("b"))
