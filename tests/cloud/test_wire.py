"""The service's words: every event and argument as the documentation shows it."""

from __future__ import annotations

import re

import pytest

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import EndReason
from voisnap_mock.cloud.wire import (
    ArgumentError,
    ChatMessage,
    agent_object,
    client_end_reason,
    connection_metadata,
    hub_events,
    one_digit,
    said_in,
    whole_samples,
)
from voisnap_mock.engine.events import (
    AgentMessage,
    AgentTranscript,
    AgentTyping,
    AudioReady,
    CallerTranscript,
    EventPushed,
    SessionEnded,
    SessionEvent,
    SessionFailed,
    SessionResumed,
    SessionStarted,
    TransferStarted,
    UserMessage,
)

WALL = 1_750_083_720.0
TIMESTAMP = "2025-06-16T14:22:00Z"


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (
            SessionStarted("Support"),
            (
                "SessionStarted",
                {"conversationId": "conv_1", "agentName": "Support", "timestamp": TIMESTAMP, "sessionId": "conv_1"},
            ),
        ),
        (SessionResumed("welcome back"), ("Reconnected", {"sessionId": "conv_1", "message": "welcome back"})),
        (
            CallerTranscript("I want", is_final=False, confidence=0.81234, ear="vosk", begin=1.0, end=1.5),
            ("Transcription", {"text": "I want", "isFinal": False, "confidence": 0.812}),
        ),
        (
            AgentTranscript("Hi there", is_final=True, begin=0.0, end=1.0, interrupted=True),
            ("TranscriptionOf", {"text": "Hi there", "isFinal": True}),
        ),
        (AudioReady(b"\1\2" * 480), ("AudioReceived", b"\1\2" * 480)),
        (AgentTyping(is_typing=True), ("TypingIndicator", {"isTyping": True})),
        (
            AgentMessage("msg_1", "Hello", is_chunk=True, is_final=False),
            (
                "MessageReceived",
                {
                    "messageId": "msg_1",
                    "content": "Hello",
                    "isChunk": True,
                    "isFinal": False,
                    "timestamp": TIMESTAMP,
                },
            ),
        ),
        (
            TransferStarted("+15550100", "warm", "Asked for a person"),
            (
                "TransferInitiated",
                {"transferTo": "+15550100", "transferType": "warm", "summary": "Asked for a person"},
            ),
        ),
        (EventPushed("Whatever", ({"a": [1]},)), ("Whatever", {"a": [1]})),
        (EventPushed("Whatever", ()), ("Whatever",)),
        (EventPushed("Whatever", (1, "two")), ("Whatever", 1, "two")),
        (
            SessionFailed("LLM_PROVIDER_ERROR", "it broke", recoverable=True),
            ("Error", {"code": "LLM_PROVIDER_ERROR", "message": "it broke", "recoverable": True}),
        ),
        (
            SessionEnded(EndReason.USER_ENDED, 12.34567),
            ("SessionEnded", {"conversationId": "conv_1", "reason": "user_ended", "durationSeconds": 12.346}),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_client_is_told(event: SessionEvent, shown: tuple[str, object]) -> None:
    assert hub_events(event, session_id="conv_1", wall=WALL, channel="voice") == (shown,)


def test_a_chat_ends_with_both_documented_events() -> None:
    events = hub_events(SessionEnded(EndReason.AGENT_ENDED, 2.0), session_id="conv_1", wall=WALL, channel="chat")
    assert events == (
        ("ConversationEnded", {"conversationId": "conv_1", "reason": "agent_ended"}),
        ("SessionEnded", {"conversationId": "conv_1", "reason": "agent_ended", "durationSeconds": 2.0}),
    )


def test_what_the_user_wrote_is_not_sent_back() -> None:
    assert hub_events(UserMessage("hi"), session_id="conv_1", wall=WALL, channel="chat") == ()


@pytest.mark.parametrize("digit", list("0123456789*#"))
def test_every_key_of_a_telephone_is_a_digit(digit: str) -> None:
    assert one_digit(digit) == digit


@pytest.mark.parametrize("text", ["", "12", "a", "٣", "++", " 1"])
def test_anything_else_is_no_digit(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"Argument 1 'digit': .* came, expected one of 0-9"):
        one_digit(text)


@pytest.mark.parametrize("size", [0, 2, 640, 30_000])
def test_audio_of_whole_samples_is_taken(size: int) -> None:
    assert whole_samples(bytes(size)) == bytes(size)


def test_half_a_sample_is_refused_with_the_count() -> None:
    with pytest.raises(ArgumentError, match=r"Argument 1 'audio': 641 bytes came, expected whole 16-bit samples"):
        whole_samples(bytes(641))


@pytest.mark.parametrize("reason", ["user_ended", "timeout", "transfer_complete"])
def test_a_client_may_end_with_the_documented_reasons(reason: str) -> None:
    assert client_end_reason(reason).value == reason


@pytest.mark.parametrize("reason", ["agent_ended", "", "USER_ENDED", "server_shutdown"])
def test_a_client_may_not_end_with_another_reason(reason: str) -> None:
    with pytest.raises(ArgumentError, match="expected one of user_ended, timeout, transfer_complete"):
        client_end_reason(reason)


@pytest.mark.parametrize("content", ["", "  \n"])
def test_a_message_without_words_is_refused(content: str) -> None:
    with pytest.raises(ArgumentError, match="expected a text to answer"):
        said_in(ChatMessage(content))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[1]", r"is \[1\]; expected a JSON object"),
        ('"x"', "expected a JSON object"),
        ("{} x", "is not JSON"),
        ('{"a": NaN}', "is not JSON"),
        ("\ud800", "is not JSON"),
        ("[" * 100_000, "nested too deep|is not JSON"),
    ],
)
def test_metadata_that_is_no_json_object_is_refused(text: str, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as refused:
        connection_metadata(text)
    assert len(str(refused.value)) < 400


def test_metadata_may_hold_anything() -> None:
    assert connection_metadata('{"userId": "ü", "n": [1, null, {"x": 2.5}]}') == {
        "userId": "ü",
        "n": [1, None, {"x": 2.5}],
    }


AGENT = """
version: 1
agents:
  agt_x:
    name: Fancy
    active: false
    greeting: Hello there
    voice: {name: de, rate: 350}
    timing: {end_of_turn: 500ms, max_idle: 20s, max_duration: 90s}
    barge_in: false
    replies:
      - {dtmf: "1", say: One.}
      - {silence: 7500ms, say: "Still there?"}
      - {else: What?}
"""


def test_an_agent_is_shown_in_the_documented_shape() -> None:
    script = parse_agents(AGENT, source="test").agents["agt_x"]
    shown = agent_object(script, version=3, created_at=WALL, updated_at=WALL + 60)
    assert {
        name: shown[name]
        for name in (
            "id",
            "name",
            "status",
            "version",
            "firstMessage",
            "firstMessageMode",
            "maxDurationSeconds",
            "maxIdleTimeSeconds",
            "dtmfEnabled",
            "silenceDetection",
            "interruption",
            "createdAt",
            "updatedAt",
        )
    } == {
        "id": "agt_x",
        "name": "Fancy",
        "status": "inactive",
        "version": 3,
        "firstMessage": "Hello there",
        "firstMessageMode": "assistant_speaks_first",
        "maxDurationSeconds": 90,
        "maxIdleTimeSeconds": 20,
        "dtmfEnabled": True,
        "silenceDetection": {"enabled": True, "timeoutSeconds": 7.5, "message": "Still there?"},
        "interruption": {"enabled": False, "sensitivity": "medium"},
        "createdAt": TIMESTAMP,
        "updatedAt": "2025-06-16T14:23:00Z",
    }
    assert shown["endpointing"]["silenceDurationMs"] == 500
    assert shown["voice"]["voiceId"] == "de"
    assert shown["voice"]["speed"] == 2.0
    assert all(re.fullmatch(r"[a-z][A-Za-z]*", name) for name in shown)
