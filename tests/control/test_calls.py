"""Calls over HTTP, on a real server with real hub connections."""

from __future__ import annotations

import io
import wave
import zipfile

import pytest
from controlled import Control
from hub_caller import HubCaller

from voisnap_mock.audio.marking import caller_speech
from voisnap_mock.server import Server


async def test_a_call_is_shown_while_it_lives_and_after_its_end(server: Server, control: Control) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        await caller.wait_for("TranscriptionOf", isFinal=True)
        (live,) = (await control.get("calls")).json()["data"]
        assert live == (await control.get(f"calls/{call_id}")).json()
        assert live | {"startedAt": None} == {
            "id": call_id,
            "agentId": "agt_desk",
            "tenantId": "ten_dev",
            "channel": "voice",
            "status": "live",
            "clock": "virtual",
            "startedAt": None,
            "durationSeconds": None,
            "reason": None,
        }
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
    ended = (await control.get(f"calls/{call_id}")).json()
    assert (ended["status"], ended["reason"], ended["startedAt"]) == ("ended", "user_ended", live["startedAt"])
    assert ended["durationSeconds"] >= 0


async def test_what_was_said_and_heard_can_be_fetched(server: Server, control: Control) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        await caller.wait_for("TranscriptionOf", isFinal=True)
        await caller.speak(caller_speech("I want a refund"), silence=3.0)
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Which order?")
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
    said = (await control.get(f"calls/{call_id}/transcript")).json()["data"]
    assert [(each["who"], each["text"]) for each in said] == [
        ("agent", "Hello."),
        ("caller", "I want a refund"),
        ("agent", "Which order?"),
    ]
    assert said[1]["ear"] == "marks"
    assert all(each["begin"] < each["end"] for each in said)

    events = (await control.get(f"calls/{call_id}/events")).json()["data"]
    assert {event["callId"] for event in events} == {call_id}
    assert "session.ended" in [event["kind"] for event in events]

    for side, rate in (("in", 16_000), ("out", 24_000)):
        answer = await control.get(f"calls/{call_id}/audio/{side}.wav")
        assert answer.headers["content-type"] == "audio/wav"
        with wave.open(io.BytesIO(answer.content)) as audio:
            assert (audio.getframerate(), audio.getnchannels()) == (rate, 1)
            assert any(audio.readframes(audio.getnframes()))
    answer = await control.get(f"calls/{call_id}/file")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert f"{call_id}/transcript.vtt" in packed.namelist()


async def test_a_pushed_event_reaches_the_client_in_its_place(server: Server, control: Control) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        pushed = await control.post(
            f"calls/{call_id}/push",
            json={"target": "Transcription", "arguments": [{"text": "by hand"}]},
        )
        assert (pushed.status_code, pushed.content) == (204, b"")
        assert await caller.wait_for("Transcription", text="by hand")
        entries = (await control.get("journal", params={"call": call_id, "kind": "event.pushed"})).json()["data"]
        assert [entry["target"] for entry in entries] == ["Transcription"]
        assert (await control.get(f"calls/{call_id}")).json()["status"] == "live"


@pytest.mark.parametrize("arguments", [[], ["one", 2, None, {"three": [3]}]])
async def test_an_event_may_have_any_arguments(server: Server, control: Control, arguments: list[object]) -> None:
    async with HubCaller(server, "chat", agentId="agt_desk") as user:
        call_id = (await user.wait_for("SessionStarted"))["conversationId"]
        heard: list[object] = []
        user.client.on("Odd", lambda *given: heard.extend(given))
        await control.post(f"calls/{call_id}/push", json={"target": "Odd", "arguments": arguments})
        await control.post(f"calls/{call_id}/push", json={"target": "Custom", "arguments": [{"is": "last"}]})
        await user.wait_for("Custom")
        assert heard == arguments


@pytest.mark.parametrize(("body", "reason"), [(None, "agent_ended"), ({"reason": "max_duration"}, "max_duration")])
async def test_a_call_can_be_hung_up(
    server: Server, control: Control, body: dict[str, str] | None, reason: str
) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        assert (await control.post(f"calls/{call_id}/hangup", json=body)).status_code == 204
        assert (await caller.wait_for("SessionEnded"))["reason"] == reason
        await caller.closed()
    again = await control.post(f"calls/{call_id}/hangup")
    assert again.status_code == 409
    assert f"is over: it ended with {reason}" in again.json()["detail"]
    assert (await control.post(f"calls/{call_id}/push", json={"target": "X"})).status_code == 409


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/transcript"),
        ("GET", "/events"),
        ("GET", "/audio/in.wav"),
        ("GET", "/file"),
        ("POST", "/hangup"),
        ("POST", "/push"),
    ],
)
async def test_a_call_that_is_not_known_is_404(control: Control, method: str, path: str) -> None:
    answer = await control.request(
        method, f"calls/conv_nobody{path}", json={"target": "X"} if path == "/push" else None
    )
    assert answer.status_code == 404
    assert "conv_nobody" in answer.json()["detail"]


async def test_a_chat_has_no_audio_and_its_messages_are_its_transcript(server: Server, control: Control) -> None:
    async with HubCaller(server, "chat", agentId="agt_desk") as user:
        call_id = (await user.wait_for("SessionStarted"))["conversationId"]
        await user.wait_for("MessageReceived", isFinal=True)
        await user.invoke("SendMessageAsync", {"content": "bye"})
        await user.wait_for("SessionEnded")
    said = (await control.get(f"calls/{call_id}/transcript")).json()["data"]
    assert [(each["who"], each["text"]) for each in said] == [
        ("agent", "Hello."),
        ("caller", "bye"),
        ("agent", "Goodbye."),
    ]
    assert (await control.get(f"calls/{call_id}/audio/in.wav")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "member"),
    [
        ("push", {}, "target"),
        ("push", {"target": ""}, "target"),
        ("push", {"target": "X", "arguments": {}}, "arguments"),
        ("push", {"target": "X", "payload": 1}, "payload"),
        ("hangup", {"reason": "bored"}, "reason"),
    ],
)
async def test_nonsense_is_refused_by_name(
    server: Server, control: Control, path: str, body: dict[str, object], member: str
) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        answer = await control.post(f"calls/{call_id}/{path}", json=body)
        assert answer.status_code == 422
        assert member in answer.json()["errors"]
