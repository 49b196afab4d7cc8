"""The reference chat user of a MockServer, and that one script drives voice and chat alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.caller import CallRefused
from voisnap_mock.config import CallClock
from voisnap_mock.journal import JournalFilter
from voisnap_mock.server import MockServer
from voisnap_mock.testing.handset import Handset, NothingHeard
from voisnap_mock.testing.keyboard import Keyboard

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
      - {hear: refund, when: {metadata: {plan: gold}}, say: "At once, {{ metadata.name }}. Which order?", goto: order}
      - {hear: refund, say: Which order?, goto: order}
      - {hear: [person], say: One moment., transfer: {to: "+1555", type: cold, summary: "of {{ metadata.name }}"}}
      - {hear: [goodbye], say: Goodbye., end: agent_ended}
      - {hear: [story], say: "Once upon a time there was a mock, and it went on and on until it was told to stop."}
      - {silence: 8s, say: Still there?}
      - {else: [What?, Pardon?]}
    states:
      order:
        - hear: '/order (?P<order>\\w+)/'
          event: {name: OrderFound, payload: {order: "{{ order }}"}}
          tool: {name: refund, result: {done: true}, took: 300ms}
          say: ["Order {{ order }}", {pause: 200ms}, is refunded.]
        - else: I need the number.
  agt_strict:
    voice: {engine: tone}
    hears: marks
    script:
      - {hear: yes please, say: Confirmed.}
      - {hear: thank you, say: Bye., end: agent_ended}
"""


def make(clock: CallClock = "virtual") -> MockServer:
    return MockServer(parse_agents(AGENTS, source="test agents"), clock=clock)


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with make() as server:
        yield server


def journal(server: MockServer, party: Handset | Keyboard, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    entries = server.app.tenants.default.journal.entries(JournalFilter(call=party.conversation_id))
    return [(entry.kind, dict(entry.details)) for entry in entries if entry.kind in kinds]


def converse(user: Keyboard) -> None:
    assert user.heard() == "Good morning, what can I do for you?"
    user.write("I want a refund")
    assert user.heard() == "Which order?"
    user.write("goodbye")
    assert user.heard() == "Goodbye."
    assert user.hears_end().reason == "agent_ended"


@pytest.mark.parametrize("clock", ["virtual", "4x", "real"])
def test_a_chat_from_greeting_to_end(clock: CallClock) -> None:
    with make(clock) as server, server.chat("agt_shop") as user:
        converse(user)
        assert user.transcript == [
            ("agent", "Good morning, what can I do for you?"),
            ("caller", "I want a refund"),
            ("agent", "Which order?"),
            ("caller", "goodbye"),
            ("agent", "Goodbye."),
        ]
        assert [(line.who, line.text) for line in user.timed_transcript] == user.transcript
        with pytest.raises(CallRefused, match="the call is over"):
            user.write("Are you there?")


def test_the_same_program_is_the_same_chat() -> None:
    def chat() -> tuple[object, ...]:
        with make() as server, server.chat("agt_shop") as user:
            converse(user)
            entries = server.app.tenants.default.journal.entries(JournalFilter(call=user.conversation_id))
            told = [(entry.kind, entry.t, repr(entry.details)) for entry in entries if "connection" not in entry.kind]
            return told, user.timed_transcript

    assert chat() == chat()


def test_a_reply_is_cancelled_at_an_exact_time(server: MockServer) -> None:
    with server.chat("agt_shop") as user:
        user.heard()
        user.write("Tell me a story")
        began = user.t
        user.cancel(at=began + 0.12)
        assert user.heard() == "Once upon a time there was"
        assert user.timed_transcript[-1].begin == pytest.approx(began + 0.12)
        with pytest.raises(ValueError, match="lies in the past"):
            user.cancel(at=began)


def test_silence_is_waited_out_in_call_time_and_typing_breaks_it(server: MockServer) -> None:
    with server.chat("agt_shop") as user:
        user.heard()
        greeted = user.t
        with pytest.raises(NothingHeard, match="nothing within 5 s of call time"):
            user.heard(timeout=5.0)
        user.typing()
        assert user.heard() == "Still there?"
        assert user.timed_transcript[-1].begin == pytest.approx(greeted + 5.0 + 8.05, abs=0.001)
        assert user.hears_end().reason == "idle_timeout"


def test_a_dropped_chat_is_resumed_where_it_was(server: MockServer) -> None:
    with server.chat("agt_shop") as user:
        user.heard()
        user.write("refund")
        user.drop()
        with pytest.raises(CallRefused, match=r"the connection was dropped: resume\(\) first"):
            user.write("Hello?")
        user.resume()
        assert user.heard() == "Which order?"


def test_an_agent_that_does_not_exist_refuses_the_chat(server: MockServer) -> None:
    with pytest.raises(CallRefused, match="AGENT_NOT_FOUND"), server.chat("agt_nobody"):
        raise AssertionError("the chat was taken")


# --- Voice and chat alike -----------------------------------------------------------------------------------------

STORY = ["I want a refund", "well", "it is order B7", "nonsense", "give me a person"]
DECISIONS = ("turn.answered", "tool.called", "event.pushed", "transfer.started", "script.wrong_turn")


def tell(server: MockServer, party: Handset | Keyboard, agent_has_greeting: bool, texts: list[str]) -> list[Any]:
    """Say or write each text when the agent has finished; what the dialogue decided, and what the agent said."""
    if agent_has_greeting:
        party.heard()
    for text in texts:
        if isinstance(party, Handset):
            party.say(text)
        else:
            party.write(text)
        if party.ended is None:
            try:
                party.heard()
            except NothingHeard:
                break
    ended = party.hears_end()
    said = [text for who, text in party.transcript if who == "agent"]
    return [journal(server, party, *DECISIONS), said, ended.reason]


@pytest.mark.parametrize("metadata", [{"name": "Ada"}, {"name": "Ada", "plan": "gold"}], ids=["plain", "gold"])
def test_one_script_drives_voice_and_chat_alike(server: MockServer, metadata: dict[str, object]) -> None:
    with server.caller("agt_shop", metadata=metadata) as caller:
        spoken = tell(server, caller, True, STORY)
    with server.chat("agt_shop", metadata=metadata) as user:
        written = tell(server, user, True, STORY)
    assert written == spoken
    decided, said, reason = written
    assert reason == "transfer_complete"
    assert said == [
        "Good morning, what can I do for you?",
        "At once, Ada. Which order?" if "plan" in metadata else "Which order?",
        "I need the number.",
        "Order B7 is refunded.",
        "I need the number.",
        "One moment.",
    ]
    assert ("event.pushed", {"target": "OrderFound", "arguments": [{"order": "B7"}]}) in decided
    assert ("tool.called", {"name": "refund", "result": {"done": True}, "took": 0.3}) in decided
    assert decided[-1][0] == "transfer.started"
    assert {"to": "+1555", "type": "cold", "summary": "of Ada"}.items() <= decided[-1][1].items()


@pytest.mark.parametrize("texts", [["yes please", "thank you"], ["yes please", "not at all"]], ids=["right", "wrong"])
def test_a_strict_script_judges_voice_and_chat_alike(server: MockServer, texts: list[str]) -> None:
    with server.caller("agt_strict") as caller:
        spoken = tell(server, caller, False, texts)
    with server.chat("agt_strict") as user:
        written = tell(server, user, False, texts)
    assert written == spoken
    assert written[2] == ("agent_ended" if texts[-1] == "thank you" else "error")
