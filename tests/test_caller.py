"""The reference caller's own decisions; on the line it is tested with a real server in tests/cli."""

from __future__ import annotations

import base64

import pytest

from voisnap_mock.caller import (
    Connected,
    Ended,
    Failed,
    Heard,
    Resumed,
    Said,
    Sounded,
    Transferred,
    TurnTaking,
    Typing,
    Wrote,
    parse_event,
)
from voisnap_mock.tracks import Recording

SECOND = Sounded(bytes(48_000))


@pytest.fixture
def turns() -> TurnTaking:
    return TurnTaking(patience=6.0, breath=0.3)


@pytest.mark.parametrize(
    ("target", "argument", "event"),
    [
        ("AudioReceived", base64.b64encode(b"\1\2").decode(), Sounded(b"\1\2")),
        ("Transcription", {"text": "hi", "isFinal": True, "confidence": 1}, Heard("hi", True, 1.0)),
        ("TranscriptionOf", {"text": "hi", "isFinal": False}, Said("hi", False)),
        (
            "MessageReceived",
            {"messageId": "m", "content": "hi", "isChunk": True, "isFinal": False, "timestamp": "t"},
            Wrote("m", "hi", False),
        ),
        ("TypingIndicator", {"isTyping": True}, Typing(True)),
        (
            "SessionStarted",
            {"conversationId": "c", "agentName": "A", "timestamp": "t", "sessionId": "s"},
            Connected("c", "s", "A"),
        ),
        ("SessionStarted", {"conversationId": "c", "agentName": "A", "timestamp": "t"}, Connected("c", "c", "A")),
        ("Reconnected", {"sessionId": "s", "message": "m"}, Resumed("s", "m")),
        (
            "TransferInitiated",
            {"transferTo": "+1", "transferType": "warm", "summary": "x"},
            Transferred("+1", "warm", "x"),
        ),
        ("Error", {"code": "C", "message": "m", "recoverable": False}, Failed("C", "m", False)),
        (
            "SessionEnded",
            {"conversationId": "c", "reason": "user_ended", "durationSeconds": 2},
            Ended("user_ended", 2.0),
        ),
        ("ConversationEnded", {"conversationId": "c", "reason": "user_ended"}, None),
    ],
)
def test_hub_events_are_read_as_the_documentation_shows_them(target: str, argument: object, event: object) -> None:
    assert parse_event(target, [argument]) == event


def test_the_greeting_is_heard_out_before_the_caller_speaks(turns: TurnTaking) -> None:
    turns.caller_spoke(0.0)
    assert turns.wait(1.0) == 5.0
    turns.learn(SECOND, 1.0)
    turns.learn(SECOND, 1.0)
    turns.learn(Said("Hello", False), 1.5)
    assert turns.wait(2.0) > 0
    turns.learn(Said("Hello there", True), 2.9)

    assert turns.wait(2.9) == pytest.approx(0.4), "its audio lasts until 3.0, then a breath"
    assert turns.wait(3.3) == pytest.approx(0.0)


def test_an_agent_that_never_answers_is_waited_for_with_patience_only(turns: TurnTaking) -> None:
    turns.caller_spoke(10.0)

    assert turns.wait(10.0) == 6.0
    assert turns.wait(16.0) == 0.0


def test_what_the_agent_understood_announces_an_answer(turns: TurnTaking) -> None:
    turns.caller_spoke(0.0)
    turns.learn(Said("Hello", True), 1.0)
    assert turns.wait(1.3) == pytest.approx(0.0)
    turns.learn(Heard("refund", True, 1.0), 2.0)

    assert turns.wait(2.0) == 6.0


def test_a_reply_that_got_stuck_is_given_up_after_patience(turns: TurnTaking) -> None:
    turns.learn(Said("Hel", False), 1.0)

    assert turns.wait(1.0) == 6.0
    assert turns.wait(7.0) == 0.0


def test_a_chat_waits_until_the_agent_stops_typing(turns: TurnTaking) -> None:
    turns.caller_spoke(0.0)
    turns.learn(Typing(True), 0.1)
    turns.learn(Wrote("m", "Yes", False), 0.2)
    assert turns.wait(0.3) > 1
    turns.learn(Wrote("m", "Yes.", True), 0.4)
    turns.learn(Typing(False), 0.4)

    assert turns.wait(0.7) == pytest.approx(0.0)


def test_a_recording_lays_agent_audio_at_its_time_or_behind_what_is_there() -> None:
    recording = Recording()
    recording.add_agent(b"\1\0" * 480, 0.02)
    recording.add_agent(b"\2\0" * 480, 0.021)
    recording.add_agent(b"\3\0" * 480, 0.1)

    samples = recording.agent[::2]
    assert samples == bytes(480) + b"\1" * 480 + b"\2" * 480 + bytes(2400 - 1440) + b"\3" * 480


def test_a_recording_has_the_caller_left_and_the_agent_right() -> None:
    recording = Recording()
    recording.add_caller((1000).to_bytes(2, "little") * 1600)
    recording.add_agent((2000).to_bytes(2, "little") * 4800, 0.0)

    stereo = memoryview(recording.stereo()).cast("h")

    assert len(stereo) == 2 * 4800
    assert abs(stereo[2 * 1200] - 1000) < 20, "the caller, resampled to 24 kHz"
    assert stereo[2 * 4000] == 0, "the caller has hung up"
    assert set(stereo[1::2]) == {2000}
