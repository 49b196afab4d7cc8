"""Faults in real sessions of a running server: over a hub, with ear and voice, on a virtual clock."""

from __future__ import annotations

import pytest

from voisnap_mock.config import parse_agents
from voisnap_mock.engine.call import Call
from voisnap_mock.journal import JournalEntry
from voisnap_mock.server import MockServer
from voisnap_mock.testing.handset import NothingHeard

AGENTS = """
seed: 3
agents:
  agt_shop:
    greeting: Good morning.
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms, first_audio: 100ms, max_idle: 20s}
    replies: [{hear: refund, say: "Which order?"}, {else: What?}]
"""


def serve(faults: str = "") -> MockServer:
    return MockServer(parse_agents(AGENTS + faults, source="test agents"), clock="virtual")


def entries(server: MockServer, kind: str) -> list[JournalEntry]:
    return [entry for entry in server.app.tenants.default.journal.entries() if entry.kind == kind]


async def arm(server: MockServer, rule: str) -> None:
    desk = server.app.faults
    desk.arm("ten_dev", desk.read("ten_dev", rule))


def test_the_ear_fails_in_the_second_turn_of_a_call() -> None:
    rule = "{id: deaf, at: stt, when: {turn: 2}, do: {error: STT_PROVIDER_TIMEOUT, after: 3s}, times: 1}"
    with serve(f"faults: [{rule}]") as server, server.caller("agt_shop") as caller:
        caller.heard()
        caller.say("I want a refund")
        assert caller.heard() == "Which order?"
        caller.say("number five")
        asked = caller.t
        assert caller.heard() == "What?"
        assert caller.t > asked + 3
        caller.say("a refund")
        assert caller.heard() == "Which order?"
    (fired,), (failed,) = entries(server, "fault.fired"), entries(server, "session.failed")
    assert (failed.details["code"], failed.details["recoverable"]) == ("STT_PROVIDER_TIMEOUT", True)
    assert (fired.details["fault"], fired.details["point"], fired.call_id) == ("deaf", "stt", failed.call_id)
    assert fired.t is not None
    assert failed.t == pytest.approx(fired.t + 3)


def test_a_rule_that_is_armed_in_mid_call_counts_the_turns_before() -> None:
    with serve() as server, server.caller("agt_shop") as caller:
        caller.heard()
        caller.say("hello")
        assert caller.heard() == "What?"
        server.wait_for(arm(server, "{id: late, at: llm, when: {turn: 2}, do: {replace: Never mind.}}"))
        caller.say("I want a refund")
        assert caller.heard() == "Never mind."
    assert [entry.details["fault"] for entry in entries(server, "fault.fired")] == ["late"]


def test_the_model_of_a_chat_fails() -> None:
    rule = "{id: flaky, at: llm, when: {channel: chat}, do: {error: LLM_PROVIDER_ERROR}, times: 1}"
    with serve(f"faults: [{rule}]") as server, server.chat("agt_shop") as user:
        user.heard()
        user.write("refund")
        assert user.heard() == "What?"
        user.write("refund")
        assert user.heard() == "Which order?"
    assert [entry.details["code"] for entry in entries(server, "session.failed")] == ["LLM_PROVIDER_ERROR"]


def test_a_session_that_no_rule_can_concern_has_nothing_in_its_way() -> None:
    rules = "faults: [{at: negotiate, do: {http: 500}, skip: 9}, {at: stt, when: {agent: agt_x}, do: {slow: 1s}}]"
    with serve(rules) as server, server.caller("agt_shop") as caller:
        caller.heard()
        (session,) = server.app.tenants.default.sessions.sessions
        assert isinstance(session._machine, Call)


def test_a_connection_lost_in_mid_speech_leaves_a_session_that_can_be_resumed() -> None:
    rule = "{id: tunnel, at: audio.out, when: {audio_after: 300ms}, do: {drop: reset}, times: 1}"
    with serve(f"faults: [{rule}]") as server, server.caller("agt_shop") as caller:
        with pytest.raises(NothingHeard):
            caller.heard()
        caller.resume()
        assert caller.heard() == "Good morning."
        caller.say("I want a refund")
        assert caller.heard() == "Which order?"
    assert [entry.details["how"] for entry in entries(server, "connection.severed")] == ["reset"]
    assert entries(server, "session.resumed")


def test_a_connection_that_is_gone_already_is_not_noted_as_lost_by_a_fault() -> None:
    with serve("faults: [{at: start, do: {drop: reset, after: 3s}}]") as server, server.caller("agt_shop") as caller:
        caller.drop()
        (session,) = server.app.tenants.default.sessions.sessions
        server.wait_for(session.advance(4.0))
        assert len(entries(server, "fault.fired")) == 1
        assert entries(server, "connection.severed") == []


def test_a_rule_that_is_armed_while_the_connection_is_lost_waits_for_the_next_one() -> None:
    with serve("faults: []") as server, server.caller("agt_shop") as caller:
        caller.drop()
        tenant = server.app.tenants.default
        (session,) = tenant.sessions.sessions
        server.wait_for(arm(server, "{id: tunnel, at: audio.out, do: {drop: reset}, times: 1}"))
        server.wait_for(session.advance(1.0))
        assert entries(server, "fault.fired") == []
        assert entries(server, "connection.severed") == []
