"""The reference caller of a MockServer: what it does to a call, and what it tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import User
from voisnap_mock.audio.frames import write_wav
from voisnap_mock.audio.marking import caller_speech
from voisnap_mock.caller import CallRefused, VoiceCaller
from voisnap_mock.config import CallClock
from voisnap_mock.errors import SpeechError
from voisnap_mock.journal import JournalFilter
from voisnap_mock.server import MockServer
from voisnap_mock.testing.handset import AsyncHandset, Handset, NothingHeard

AGENTS = """
version: 1
seed: 3
agents:
  agt_shop:
    greeting: Good morning, what can I do for you?
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms, first_audio: 100ms, max_idle: 20s}
    replies:
      - {hear: [refund], say: "Which order, {{ metadata.name }}?"}
      - {dtmf: "12#", say: One two.}
      - {dtmf: "0", say: Goodbye., end: agent_ended}
      - {silence: 8s, say: Still there?}
      - {else: What?}
  agt_mute: {voice: {engine: tone}, hears: marks}
"""


def make(clock: CallClock = "virtual") -> MockServer:
    return MockServer(parse_agents(AGENTS, source="test agents"), clock=clock)


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with make() as server:
        yield server


def converse(caller: Handset) -> None:
    assert caller.heard() == "Good morning, what can I do for you?"
    caller.say("I want a refund")
    assert caller.heard() == "Which order, Ada?"
    caller.press("12#")
    assert caller.heard() == "One two."
    caller.press("0")
    assert caller.heard() == "Goodbye."
    assert caller.hears_end().reason == "agent_ended"


CONVERSATION = [
    ("agent", "Good morning, what can I do for you?"),
    ("caller", "I want a refund"),
    ("agent", "Which order, Ada?"),
    ("agent", "One two."),
    ("agent", "Goodbye."),
]


def test_a_conversation_by_voice_and_keys(server: MockServer) -> None:
    with server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        converse(caller)
        assert caller.transcript == CONVERSATION
        with pytest.raises(CallRefused, match="the call is over"):
            caller.say("Are you there?")


@pytest.mark.parametrize("clock", ["real", "4x"])
def test_the_same_program_on_a_clock_that_goes_by_itself(clock: CallClock) -> None:
    with make(clock) as server, server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        converse(caller)
        assert caller.transcript == CONVERSATION


def test_the_same_program_is_the_same_call_to_the_frame() -> None:
    def call() -> tuple[object, ...]:
        with make() as server, server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
            converse(caller)
            entries = server.app.tenants.default.journal.entries(JournalFilter(call=caller.conversation_id))
            told = [(entry.kind, entry.t, repr(entry.details)) for entry in entries if "connection" not in entry.kind]
            return told, caller.timed_transcript, caller.audio.caller, caller.audio.agent

    assert call() == call()


def test_the_caller_interrupts_at_an_exact_call_time(server: MockServer) -> None:
    with server.caller("agt_shop") as caller:
        caller.interrupt("Stop it.", at=1.0)
        heard = caller.heard()
        assert heard
        assert "Good morning, what can I do for you?".startswith(heard)
        assert heard != "Good morning, what can I do for you?"
        assert caller.heard() == "What?"
        broken_off, stop, _ = caller.timed_transcript
        assert (broken_off.who, broken_off.interrupted, broken_off.text) == ("agent", True, heard)
        # The voice begins a little into its recording; 200 ms of speech, then at most 100 ms.
        assert 1.2 <= broken_off.end <= 1.4
        assert (stop.who, stop.text) == ("caller", "Stop it.")
        assert 1.0 <= stop.begin <= 1.1
        with pytest.raises(ValueError, match=r"at=1 lies in the past: call time is \d"):
            caller.interrupt(at=1.0)


def test_both_sides_are_recorded_on_the_time_line_of_the_call(server: MockServer) -> None:
    with server.caller("agt_shop") as caller:
        caller.heard()
        began = caller.t
        caller.say("I want a refund")
        caller.heard()
        caller.press("0")
        caller.hears_end()
        answer = caller.timed_transcript[2]
        assert abs(len(caller.audio.caller) / 32_000 - caller.t) < 0.021
        assert not any(caller.audio.caller[: int(began * 16_000) * 2])
        assert any(caller.audio.caller[int(began * 16_000) * 2 :])
        between = caller.audio.agent[int((began + 0.1) * 24_000) * 2 : int((answer.begin - 0.02) * 24_000) * 2]
        assert not any(between)
        assert any(caller.audio.agent[int(answer.begin * 24_000) * 2 : int(answer.end * 24_000) * 2])


def test_a_dropped_call_is_resumed_where_it_was(server: MockServer) -> None:
    with server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        caller.heard()
        caller.drop()
        with pytest.raises(CallRefused, match=r"the connection was dropped: resume\(\) first"):
            caller.say("Hello?")
        before = caller.t
        caller.resume()
        assert caller.t == before
        caller.say("I want a refund")
        assert caller.heard() == "Which order, Ada?"
        with pytest.raises(CallRefused, match="nothing to resume"):
            caller.resume()


def test_what_was_being_said_goes_on_over_the_next_connection() -> None:
    async def call(server: MockServer) -> tuple[float, int]:
        token = server.app.tokens.mint(User("caller@example.test", ""), server.app.clock.wall())
        async with VoiceCaller(server.base_url, "agt_mute", access_token=token, clock=server.app.clock) as caller:
            caller.speak(bytes(16_000))
            await caller.wait_until(0.1)
            await caller.lose_connection(0.1)
            assert await caller.spoken()
            return caller.now(), len(caller.recording.caller)

    with make("real") as server:
        now, sent = server.wait_for(call(server))
    assert now >= 0.5
    assert sent >= 16_000 + 0.08 * 32_000, "what was lost is silence on the record"


def test_a_caller_who_leaves_a_dropped_call_leaves_it_waiting(server: MockServer) -> None:
    with server.caller("agt_shop") as caller:
        caller.heard()
        caller.drop()
    (session,) = [
        session for session in server.app.tenants.default.sessions.sessions if session.id == caller.conversation_id
    ]
    assert session.status == "waiting"


def test_silence_is_heard_out_in_call_time(server: MockServer) -> None:
    with server.caller("agt_shop") as caller:
        caller.heard()
        greeted = caller.t
        assert caller.heard() == "Still there?"
        assert caller.timed_transcript[-1].begin == pytest.approx(greeted + 8.0, abs=0.021)


def test_an_agent_that_says_nothing_is_an_error_with_the_conversation(server: MockServer) -> None:
    with server.caller("agt_mute") as caller:
        with pytest.raises(NothingHeard, match="said nothing within 2 s of call time; nothing was said so far"):
            caller.heard(timeout=2.0)
        caller.say("Hello")
        with pytest.raises(NothingHeard, match=r"within 3 s of call time; the conversation so far: caller: 'Hello'"):
            caller.heard(timeout=3.0)
        with pytest.raises(NothingHeard, match="did not end within 1 s"):
            caller.hears_end(timeout=1.0)
        with pytest.raises(NothingHeard, match=r"the call ended \(idle_timeout\)"):
            caller.heard(timeout=60.0)


def test_a_recording_is_played(server: MockServer, tmp_path: Path) -> None:
    wav = tmp_path / "refund.wav"
    wav.write_bytes(write_wav(caller_speech("I want a refund"), 16_000))
    with server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        caller.play(wav)
        assert caller.transcript[-1][0] == "agent", "it interrupted the greeting, or waits for its end"
        assert [text for who, text in _until_both_spoke(caller) if who == "caller"] == ["I want a refund"]
        wav.write_bytes(b"no sound")
        with pytest.raises(SpeechError):
            caller.play(wav)


def _until_both_spoke(caller: Handset) -> list[tuple[str, str]]:
    while "caller" not in {who for who, _ in caller.transcript}:
        caller.heard()
    return caller.transcript


@pytest.mark.parametrize("keys", ["A", "12x"])
def test_keys_that_no_telephone_has_are_refused(server: MockServer, keys: str) -> None:
    with server.caller("agt_shop") as caller, pytest.raises(CallRefused, match="SendDtmfAsync"):
        caller.press(keys)


def test_an_agent_that_does_not_exist_refuses_the_call(server: MockServer) -> None:
    with pytest.raises(CallRefused, match="AGENT_NOT_FOUND"), server.caller("agt_nobody"):
        raise AssertionError("the call was taken")
    with pytest.raises(CallRefused, match="tenant 'ten_nobody' is not known; there are ten_dev"):
        server.caller("agt_shop", tenant="ten_nobody").__enter__()


def test_a_caller_at_the_pace_of_the_clock_gives_no_cause_for_remarks() -> None:
    with make("4x") as server:
        with server.caller("agt_mute") as caller, pytest.raises(NothingHeard):
            caller.heard(timeout=4.0)
        assert server.app.tenants.default.journal.entries(JournalFilter(kind="lint")) == ()


def test_what_is_sent_at_once_changes_nothing() -> None:
    """Interruptions, a pause within a reply, a drop: each frame is heard, and each reply sounds, at its own time."""

    async def call(server: MockServer, ahead: int) -> object:
        ada = {"name": "Ada"}
        async with AsyncHandset(server.app, server.base_url, "agt_shop", metadata=ada, ahead=ahead) as caller:
            await caller.interrupt("I want a refund", at=0.5)
            await caller.heard()
            await caller.heard()
            await caller.drop()
            await caller.resume()
            await caller.say("Something else")
            await caller.heard()
            with pytest.raises(NothingHeard):
                await caller.heard(timeout=3.31)
            t = caller.t
        journal = server.app.tenants.default.journal.entries(JournalFilter(call=caller.conversation_id))
        entries = [(entry.kind, entry.t, entry.details) for entry in journal if "connection" not in entry.kind]
        return t, entries, caller.audio.caller, caller.audio.agent

    results = []
    for ahead in (1, 7, 32):
        with make("virtual") as server:
            results.append(server.wait_for(call(server, ahead)))
    assert results[0] == results[1] == results[2]
