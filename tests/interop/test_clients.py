"""Independent, unmodified SignalR clients against a real server process. Each test runs with each client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from clients import Client
from processes import ServerProgram, run
from proxy import Proxy

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]

Events = list[tuple[str, Any]]


def names(events: Events) -> list[str]:
    return [event for event, _ in events]


def finals(events: Events, target: str) -> list[str]:
    return [data["text"] for event, data in events if event == target and data["isFinal"]]


def messages(events: Events) -> list[str]:
    return [data["content"] for event, data in events if event == "MessageReceived" and data["isFinal"]]


def only(events: Events, name: str) -> Any:
    (data,) = [data for event, data in events if event == name]
    return data


# --- calls and chats --------------------------------------------------------------------------------------------


def test_a_voice_call_is_understood_and_answered(client: Client, spoken: Callable[[str], str]) -> None:
    wavs = [spoken("I want a refund"), spoken("It was on monday")]

    events = client("voice", agent="agt_desk", wavs=wavs, dtmf="5").run()

    login = only(events, "login")
    assert login["status"] == 200
    assert {"accessToken", "refreshToken", "tokenType", "expiresIn", "user"} <= set(login["body"])
    started = only(events, "SessionStarted")
    assert started["agentName"] == "Front desk"
    assert started["sessionId"] == started["conversationId"]
    heard = finals(events, "Transcription")
    assert "refund" in heard[0]
    assert "monday" in heard[1]
    said = finals(events, "TranscriptionOf")
    assert said[:3] == ["Hello.", "Which day was it?", "Refunded."]
    ended = only(events, "SessionEnded")
    assert ended["conversationId"] == started["conversationId"]
    assert ended["reason"] == "user_ended"
    assert ended["durationSeconds"] > 3
    audio = only(events, "audio")
    assert audio["chunks"] == {"960": audio["bytes"] // 960}
    assert audio["bytes"] > 2 * 24000 * 2, "less than two seconds of agent audio"


def test_partial_transcripts_grow_until_the_final_one(client: Client, spoken: Callable[[str], str]) -> None:
    events = client("voice", agent="agt_desk", wavs=[spoken("I want to cancel my order and get a refund")]).run()

    heard = [data for event, data in events if event == "Transcription"]
    assert [data["isFinal"] for data in heard] == [False] * (len(heard) - 1) + [True]
    assert len(heard) >= 4
    assert len(heard[0]["text"]) < len(heard[-1]["text"])
    assert all(0 <= data["confidence"] <= 1 for data in heard)


def test_a_call_is_transferred(client: Client, spoken: Callable[[str], str]) -> None:
    program = client("voice", agent="agt_desk", wavs=[spoken("I want to speak to a person")], agentEnds=True)

    # The agent says nothing before it hands over, so the client's wait for a reply ends with the call.
    events: Events = []
    for event, data in program.events():
        events.append((event, data))
        if event == "closed":
            break

    assert only(events, "TransferInitiated") == {
        "transferTo": "+15550100",
        "transferType": "warm",
        "summary": "Asked for a person",
    }
    assert only(events, "SessionEnded")["reason"] == "transfer_complete"


@pytest.mark.parametrize("way", [{}, {"skipNegotiation": True}, {"tokenInUrl": True}], ids=["", "direct", "in-url"])
def test_a_chat_is_answered(client: Client, way: dict[str, bool]) -> None:
    events = client("chat", agent="agt_desk", messages=["A refund, please!", "On Monday."], **way).run()

    assert messages(events) == ["Hello.", "Which day was it?", "Refunded."]
    reply = [data for event, data in events if event == "MessageReceived" and data["content"].startswith("Which")]
    assert len({data["messageId"] for data in reply}) == 1
    assert [data["content"] for data in reply[-2:]] == ["Which day was it?"] * 2 or len(reply) > 1
    assert names(events)[-4:] == ["ConversationEnded", "SessionEnded", "closed", "done"]
    assert only(events, "SessionEnded")["reason"] == "user_ended"


# --- refusals ---------------------------------------------------------------------------------------------------


def minted(*arguments: str) -> str:
    result = run("token", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_wrong_password_gets_no_token(client: Client) -> None:
    events = client("probe", agent="agt_desk", password="wrong").run()

    assert only(events, "login")["status"] == 401
    assert "401" in only(events, "refused") or "UnAuthorized" in only(events, "refused")


@pytest.mark.parametrize("way", [{}, {"tokenInUrl": True}, {"skipNegotiation": True}], ids=["header", "url", "direct"])
@pytest.mark.parametrize("kind", ["garbage", "expired", "api-key"])
def test_a_bad_token_is_refused(client: Client, kind: str, way: dict[str, bool]) -> None:
    token = {"garbage": lambda: "abc", "expired": lambda: minted("--expired"), "api-key": lambda: "vsnp_sb_dev"}[kind]()

    events = client("probe", agent="agt_desk", token=token, **way).run()

    refusal = only(events, "refused")
    # Without a negotiation the JavaScript client learns only that there is no socket.
    assert "401" in refusal or "UnAuthorized" in refusal or "WebSocket failed to connect" in refusal
    assert "connected" not in names(events)


@pytest.mark.parametrize("hub", ["voice", "chat"])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"agentId": "agt_nobody"}, "AGENT_NOT_FOUND"),
        ({"agentId": "agt_closed"}, "AGENT_INACTIVE"),
        ({}, "AGENT_NOT_FOUND"),
        ({"agentId": "agt_desk", "sessionId": "conv_unknown"}, "RECONNECT_FAILED"),
    ],
    ids=["unknown agent", "inactive agent", "no agent", "unknown session"],
)
def test_a_session_that_cannot_be_is_explained_and_closed(
    client: Client, hub: str, query: dict[str, str], code: str
) -> None:
    events = client("probe", hub=hub, query=query, reconnect=True).run()

    error = only(events, "Error")
    assert error["code"] == code
    assert error["recoverable"] is False
    assert error["message"]
    assert "SessionStarted" not in names(events)
    # The server forbids the reconnection that these clients have switched on.
    assert not {"reconnecting", "reconnected"} & set(names(events))
    # When all of it comes in one piece, the JavaScript client is still in its `start` and rejects that.
    assert names(events)[-2] in ("closed", "refused")
    assert names(events)[-1] == "done"


def test_metadata_that_is_no_json_is_a_bad_request(client: Client) -> None:
    events = client("probe", query={"agentId": "agt_desk", "metadata": "{oops"}).run()

    assert "400" in only(events, "refused") or "metadata" in only(events, "refused")


# --- wrong calls ------------------------------------------------------------------------------------------------


def test_a_wrong_call_is_answered_with_an_error_and_the_session_goes_on(client: Client) -> None:
    wrong: list[list[Any]] = [
        ["SendAudioAsync", "not base64!"],
        ["SendAudioAsync", "AAAA"],  # three bytes are one and a half samples
        ["SendAudioAsync", 5],
        ["SendAudioAsync"],
        ["SendAudioAsync", "AAA=", "AAA="],
        ["SendDtmfAsync", "55"],
        ["EndSessionAsync", "bored"],
        ["HangUpAsync"],
    ]
    right = [["SendAudioAsync", "AAA="], ["SendDtmfAsync", "5"], ["RequestReconnectionAsync"]]

    events = client("invoke", agent="agt_desk", calls=[*wrong, *right]).run()

    answers = [data for event, data in events if event == "answer"]
    assert [data["method"] for data in answers] == [call[0] for call in [*wrong, *right]]
    assert [bool(data.get("error")) for data in answers] == [True] * len(wrong) + [False] * len(right), answers
    assert "HangUpAsync" in answers[7]["error"]
    assert only(events, "SessionEnded")["reason"] == "user_ended"


def test_a_wrong_call_on_a_chat_is_answered_with_an_error(client: Client) -> None:
    calls: list[list[Any]] = [
        ["SendMessageAsync", "just text"],
        ["SendMessageAsync", {"content": 5}],
        ["SendMessageAsync"],
        ["EndSessionAsync", "user_ended"],
        ["SendAudioAsync", "AAA="],
        ["TypingAsync"],
        ["CancelAsync"],
    ]

    events = client("invoke", hub="chat", agent="agt_desk", calls=calls).run()

    answers = [data for event, data in events if event == "answer"]
    assert [bool(data.get("error")) for data in answers] == [True] * 5 + [False] * 2, answers


# --- connections that end or break ------------------------------------------------------------------------------


def test_a_client_does_not_come_back_after_it_has_ended_the_call(client: Client) -> None:
    events = client("voice", agent="agt_desk", reconnect=True).run()

    assert names(events)[-4:] == ["SessionEnded", "closed", "audio", "done"]
    assert not {"reconnecting", "reconnected"} & set(names(events))


def resumed(client: Client, server: ServerProgram, **plan: Any) -> Events:
    """Run a plan whose connection is cut once, at the place the plan names."""
    events: Events = []
    with Proxy(server.port) as proxy:
        program = client(url=f"http://127.0.0.1:{proxy.port}", reconnect=True, **plan)
        for event, data in program.events():
            events.append((event, data))
            if event == "cut me off":
                # signalrcore takes a reset for the end of all things, and comes back only after an orderly end.
                assert proxy.cut(with_reset="node" in json.dumps(program.command)) > 0
        assert program.wait() == 0, program.report()
    return events


def test_a_call_goes_on_where_it_was_after_its_socket_was_killed(
    client: Client, server: ServerProgram, spoken: Callable[[str], str]
) -> None:
    refund, monday = spoken("I want a refund"), spoken("It was on monday")

    events = resumed(client, server, do="voice", agent="agt_desk", wavs=[refund, monday], loseSocketAfter=refund)

    started = only(events, "SessionStarted")
    assert only(events, "Reconnected")["sessionId"] == started["sessionId"]
    assert finals(events, "TranscriptionOf") == ["Hello.", "Which day was it?", "Refunded."]
    assert only(events, "SessionEnded")["conversationId"] == started["conversationId"]


def test_a_chat_goes_on_where_it_was_after_its_socket_was_killed(client: Client, server: ServerProgram) -> None:
    events = resumed(
        client,
        server,
        do="chat",
        agent="agt_desk",
        messages=["A refund!", "On Sunday."],
        loseSocketAfter="A refund!",
    )

    started = only(events, "SessionStarted")
    assert only(events, "Reconnected")["sessionId"] == started["sessionId"]
    assert messages(events) == ["Hello.", "Which day was it?", "Refunded."]
