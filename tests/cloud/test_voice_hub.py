"""VoiceHub end to end: a real server, a SignalR client, real audio."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any

import jwt
import pytest
from hub_caller import PATIENCE, HubCaller, ServerFactory, Wire, journaled, token_of
from websockets.asyncio.client import connect

from voisnap_mock.audio.tts import say
from voisnap_mock.clock import SystemClock
from voisnap_mock.journal import JournalEntry, JournalFilter
from voisnap_mock.server import Server
from voisnap_mock.signalr import ConnectionClosed, HubClient, HubError, NegotiationError

LOUD = b"".join(
    (round(12_000 * (1 if at // 40 % 2 else -1) * (0.3 + at % 4000 / 6000))).to_bytes(2, "little", signed=True)
    for at in range(16_000)
)
"""A second of a buzz that swells four times: speech to whoever listens only for activity."""


VOSK_AND_ESPEAK = """
version: 1
agents:
  agt_shop:
    name: Shop
    hears: vosk
    timing: {end_of_turn: 400ms, first_audio: 0ms}
    replies:
      - {hear: [refund], say: Which order?, end: agent_ended}
      - {else: What?}
"""


async def test_a_call_with_real_speech_is_understood_by_vosk_and_answered_in_speech(make_server: ServerFactory) -> None:
    """The whole way: a synthesised caller, real recognition, a scripted answer in synthesised speech."""
    caller_speech = await asyncio.to_thread(say, "I want a refund")
    server = await make_server(VOSK_AND_ESPEAK)
    async with HubCaller(server, "voice", agentId="agt_shop") as caller:
        started = await caller.wait_for("SessionStarted")
        assert started["agentName"] == "Shop"
        assert started["sessionId"] == started["conversationId"]
        assert re.fullmatch(r"conv_01HX\w+", started["conversationId"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", started["timestamp"])
        await caller.speak(caller_speech, piece=640, is_paced=True)
        ended = await caller.wait_for("SessionEnded")
        assert (ended["reason"], ended["conversationId"]) == ("agent_ended", started["conversationId"])
        await caller.closed()
    *partials, final = [payload for target, payload in caller.events if target == "Transcription"]
    assert final["isFinal"]
    assert final["text"] == "i want a refund"
    assert 0 < final["confidence"] <= 1
    assert partials
    assert not any(partial["isFinal"] for partial in partials)
    *partials, final = [payload for target, payload in caller.events if target == "TranscriptionOf"]
    assert final == {"text": "Which order?", "isFinal": True}
    assert all(final["text"].startswith(partial["text"]) for partial in partials)
    audio = [payload for target, payload in caller.events if target == "AudioReceived"]
    assert {len(frame) for frame in audio} == {960}
    assert any(any(frame) for frame in audio)
    assert caller.events[-1][0] == "SessionEnded", "nothing comes after the end"
    journal = server.app.tenants.default.journal.entries(JournalFilter(kind="caller.transcript"))
    assert {entry.details["ear"] for entry in journal} == {"vosk"}


async def test_a_strict_script_hears_what_it_expects_and_hangs_up(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_strict") as caller:
        await caller.wait_for("SessionStarted")
        await caller.speak(LOUD)
        assert (await caller.wait_for("Transcription", isFinal=True))["text"] == "yes please"
        assert (await caller.wait_for("TranscriptionOf", isFinal=True))["text"] == "Confirmed."
        assert (await caller.wait_for("SessionEnded"))["reason"] == "agent_ended"
        await caller.closed()


async def test_in_virtual_time_a_call_takes_as_long_as_its_work_and_is_always_the_same(
    make_server: ServerFactory,
) -> None:
    async def call() -> list[tuple[str, Any]]:
        server = await make_server(call_clock="virtual")
        async with HubCaller(server, "voice", agentId="agt_desk") as caller:
            await caller.speak(bytes(10 * 32_000) + LOUD, silence=5)
            await caller.wait_for("TranscriptionOf", isFinal=True, text="I heard you.")
            await caller.invoke("SendDtmfAsync", "9")
            assert (await caller.wait_for("SessionEnded"))["durationSeconds"] > 15
            await caller.closed()
        return [(target, payload) for target, payload in caller.events if target != "SessionStarted"]

    assert await call() == await call()


ENDURING = """
version: 1
limits: {max_utterance: 2s}
agents: {agt_patient: {hears: activity, timing: {end_of_turn: 200ms}}}
"""


async def test_the_longest_utterance_is_a_setting(make_server: ServerFactory) -> None:
    server = await make_server(ENDURING, call_clock="virtual")
    async with HubCaller(server, "voice", agentId="agt_patient") as caller:
        await caller.speak(LOUD * 3, silence=1)
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.closed()
    entries = server.app.tenants.default.journal.entries(JournalFilter(kind="caller.transcript"))
    lengths = [entry.details["end"] - entry.details["begin"] for entry in entries if entry.details["is_final"]]
    assert lengths == pytest.approx([2.0, 1.0], abs=0.1)


async def test_keys_drive_the_script_and_a_transfer_ends_the_call(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Hello.")
        await caller.invoke("SendDtmfAsync", "1")
        assert await caller.wait_for("Custom") == {"key": "one"}
        await caller.wait_for("TranscriptionOf", isFinal=True, text="One.")
        await caller.invoke("SendDtmfAsync", "0")
        assert await caller.wait_for("TransferInitiated") == {
            "transferTo": "+15550100",
            "transferType": "cold",
            "summary": "Wants a person",
        }
        ended = await caller.wait_for("SessionEnded")
        assert ended["reason"] == "transfer_complete"
        assert ended["durationSeconds"] == round(ended["durationSeconds"], 3)
        await caller.closed()
    assert caller.targets()[-2:] == ["TransferInitiated", "SessionEnded"]


@pytest.mark.parametrize("reason", ["user_ended", "timeout", "transfer_complete"])
async def test_the_client_ends_with_its_own_reason(server: Server, reason: str) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        assert await caller.invoke("EndSessionAsync", reason) is None
        assert (await caller.wait_for("SessionEnded"))["reason"] == reason
        await caller.closed()


async def test_calls_after_the_end_are_answered_and_ignored(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        caller.client.on("SessionEnded", lambda _: answers.append(asyncio.ensure_future(hang_up_again())))
        answers: list[asyncio.Future[Any]] = []

        async def hang_up_again() -> list[Any]:
            return [
                await caller.invoke("EndSessionAsync", "user_ended"),
                await caller.invoke("SendAudioAsync", base64.b64encode(bytes(640)).decode()),
                await caller.invoke("SendDtmfAsync", "1"),
            ]

        await caller.invoke("EndSessionAsync", "timeout")
        await caller.wait_for("SessionEnded")
        assert await asyncio.gather(*answers) == [[None, None, None]]
        await caller.closed()
    assert [target for target, _ in caller.shown()].count("SessionEnded") == 1


async def test_a_graceful_reconnection_is_answered_on_the_same_connection(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        session_id = (await caller.wait_for("SessionStarted"))["sessionId"]
        assert await caller.invoke("RequestReconnectionAsync") is None
        assert (await caller.wait_for("Reconnected"))["sessionId"] == session_id
        assert caller.client.is_open


WRONG_CALLS = [
    ("SendAudioAsync", (), "Invocation provides 0 argument(s) but target expects 1"),
    ("SendAudioAsync", ("AAA=", "AAA="), "Invocation provides 2 argument(s) but target expects 1"),
    ("SendAudioAsync", (5,), "Error binding arguments.*Argument 1 'audio'.*got the number 5"),
    ("SendAudioAsync", (None,), "Error binding arguments.*Argument 1 'audio'.*got null"),
    ("SendAudioAsync", ("not base64!",), "Error binding arguments.*Argument 1 'audio'.*invalid base64"),
    ("SendAudioAsync", ("AAA",), "Error binding arguments.*Argument 1 'audio'.*invalid base64"),
    ("SendAudioAsync", ("AA==",), "Argument 1 'audio': 1 bytes came, expected whole 16-bit samples"),
    ("SendAudioAsync", (base64.b64encode(bytes(641)).decode(),), "Argument 1 'audio': 641 bytes came"),
    ("SendDtmfAsync", ("12",), "Argument 1 'digit': \"12\" came, expected one of 0-9, \\* or #"),
    ("SendDtmfAsync", (1,), "Error binding arguments.*Argument 1 'digit'.*got the number 1"),
    ("SendDtmfAsync", ("",), "Argument 1 'digit'"),
    ("EndSessionAsync", (), "Invocation provides 0 argument"),
    ("EndSessionAsync", ("bored",), "Argument 1 'reason': \"bored\" came, expected one of user_ended, timeout"),
    ("EndSessionAsync", ({},), "Error binding arguments.*Argument 1 'reason'"),
    ("RequestReconnectionAsync", (1,), "Invocation provides 1 argument"),
    ("SendMessageAsync", ({"content": "hi"},), "Method does not exist"),
    ("OnConnectedAsync", (), "Method does not exist"),
    ("on_connected", (), "Method does not exist"),
]


async def test_a_wrong_call_is_an_error_of_that_call_and_nothing_else(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        for target, arguments, says in WRONG_CALLS:
            with pytest.raises(HubError) as refused:
                await caller.invoke(target, *arguments)
            assert re.search(says.replace("(s)", r"\(s\)"), str(refused.value)), (target, arguments, str(refused.value))
            assert f"'{target}'" in str(refused.value)
        await caller.invoke("SendDtmfAsync", "9")
        assert (await caller.wait_for("SessionEnded"))["reason"] == "agent_ended", "the call went on"
    refused = server.app.tenants.default.journal.entries(JournalFilter(kind="method.refused"))
    assert len(refused) == len(WRONG_CALLS)
    assert {entry.call_id for entry in refused} == {caller.events[0][1]["sessionId"]}


@pytest.mark.parametrize("size", [0, 2, 30, 640, 642, 24_000])
async def test_audio_of_any_number_of_whole_samples_is_taken(server: Server, size: int) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        assert await caller.invoke("SendAudioAsync", base64.b64encode(bytes(size)).decode()) is None


async def test_speech_in_odd_pieces_is_heard_as_one(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.wait_for("TranscriptionOf", isFinal=True)
        pcm = LOUD + bytes(32_000)
        for at in range(0, len(pcm), 1234):
            await caller.client.send("SendAudioAsync", base64.b64encode(pcm[at : at + 1234]).decode())
        assert re.fullmatch(r"\[speech \d\.\ds\]", (await caller.wait_for("Transcription", isFinal=True))["text"])
        await caller.wait_for("TranscriptionOf", isFinal=True, text="I heard you.")


async def test_a_wav_header_is_noted_and_not_refused(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        session_id = (await caller.wait_for("SessionStarted"))["sessionId"]
        header = b"RIFF\x24\x08\x00\x00WAVEfmt " + bytes(624)
        await caller.invoke("SendAudioAsync", base64.b64encode(header).decode())
        await caller.invoke("SendAudioAsync", base64.b64encode(header).decode())
    (note,) = _lint(server, "riff_header")
    assert (note.call_id, note.details["rule"]) == (session_id, "riff_header")


async def test_odd_sizes_and_haste_are_noted_once_each(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.speak(bytes(32_000), silence=2.5, piece=3200)
        await caller.invoke("EndSessionAsync", "user_ended")
    assert "3200 bytes" in _lint(server, "chunk_size")[0].details["message"]
    assert "more than 2 s ahead" in _lint(server, "pace")[0].details["message"]
    assert len(server.app.tenants.default.journal.entries(JournalFilter(kind="lint"))) == 2


async def test_on_a_virtual_clock_no_pace_is_wrong(make_server: ServerFactory) -> None:
    server = await make_server(call_clock="virtual")
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        session_id = (await caller.wait_for("SessionStarted"))["sessionId"]
        await caller.speak(bytes(32_000), silence=9, piece=3200)
        await caller.invoke("EndSessionAsync", "user_ended")
    (note,) = server.app.tenants.default.journal.entries(JournalFilter(kind="lint"))
    assert (note.details["rule"], note.details["callId"], note.call_id) == ("chunk_size", session_id, None)


async def test_a_well_behaved_caller_gives_no_cause_for_remarks(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.speak(bytes(6_400), silence=0, piece=640, is_paced=True)
        await caller.invoke("EndSessionAsync", "user_ended")
    assert not server.app.tenants.default.journal.entries(JournalFilter(kind="lint"))


def _lint(server: Server, rule: str) -> list[JournalEntry]:
    entries = server.app.tenants.default.journal.entries(JournalFilter(kind="lint"))
    return [entry for entry in entries if entry.details["rule"] == rule]


# --- getting in ------------------------------------------------------------------------------------------------------

TURNED_AWAY: list[tuple[dict[str, str], str, str]] = [
    ({"agentId": "agt_nobody"}, "AGENT_NOT_FOUND", "agt_nobody.*agt_desk"),
    ({}, "AGENT_NOT_FOUND", "agentId is expected"),
    ({"agentId": ""}, "AGENT_NOT_FOUND", "agentId is expected"),
    ({"agentId": "agt_closed"}, "AGENT_INACTIVE", "agt_closed"),
    ({"agentId": "agt_desk", "sessionId": "conv_unknown"}, "RECONNECT_FAILED", "conv_unknown.*not known"),
]


@pytest.mark.parametrize(("query", "code", "says"), TURNED_AWAY)
@pytest.mark.parametrize("hub", ["voice", "chat"])
async def test_who_cannot_be_served_gets_an_error_event_and_a_close_that_forbids_to_come_back(
    server: Server, hub: str, query: dict[str, str], code: str, says: str
) -> None:
    async with HubCaller(server, hub, **query) as caller:
        await caller.closed()
    ((target, error),) = caller.events
    assert (target, error["code"], error["recoverable"]) == ("Error", code, False)
    assert re.search(says, error["message"])


@pytest.mark.parametrize("hub", ["voice", "chat"])
@pytest.mark.parametrize("skip_negotiation", [True, False])
async def test_metadata_that_is_no_json_is_refused_at_the_door(
    server: Server, hub: str, skip_negotiation: bool
) -> None:
    url = f"{server.base_url}/hubs/{hub}?agentId=agt_desk&metadata=%7Bbroken"
    client = HubClient(url, access_token=token_of(server), skip_negotiation=skip_negotiation)
    with pytest.raises(NegotiationError) as refused:
        await asyncio.wait_for(client.start(), PATIENCE)
    assert refused.value.status == 400
    problem = json.loads(refused.value.body)
    assert problem["status"] == 400
    assert "query parameter 'metadata' is not JSON" in problem["detail"]


@pytest.mark.parametrize("skip_negotiation", [True, False])
@pytest.mark.parametrize(
    ("token", "check"),
    [
        ("", "missing"),
        ("nonsense", "malformed"),
        ("vsnp_sb_dev", "kind"),
        ("expired", "exp"),
        ("foreign", "tid"),
        ("audience", "aud"),
        ("unsigned", "algorithm"),
        ("another key's", "signature"),
    ],
)
async def test_a_bad_token_is_a_401_that_names_the_check(
    server: Server, skip_negotiation: bool, token: str, check: str
) -> None:
    made = {
        "expired": token_of(server, exp=1000),
        "foreign": token_of(server, tenant="ten_nowhere"),
        "audience": token_of(server, aud="else"),
        "unsigned": jwt.encode({"sub": "usr_1"}, None, algorithm="none"),
        "another key's": jwt.encode({"sub": "usr_1"}, "a secret that this server does not have", algorithm="HS256"),
    }.get(token, token)
    url = f"{server.base_url}/hubs/voice?agentId=agt_desk&access_token={made}"
    with pytest.raises(NegotiationError) as refused:
        await asyncio.wait_for(HubClient(url, skip_negotiation=skip_negotiation).start(), PATIENCE)
    assert refused.value.status == 401
    problem = json.loads(refused.value.body)
    assert f"(failed check: {check})" in problem["detail"]
    assert problem["type"] == "https://docs.voisnap.ai/errors/unauthorized"
    assert not made or made not in refused.value.body.decode()
    journal = server.app.tenants.default.journal.entries(JournalFilter(kind="connection.refused"))
    assert journal[-1].details["check"] == check
    assert not made or made not in str(journal)


async def test_the_token_in_the_query_opens_the_door(server: Server) -> None:
    async with HubCaller(server, "voice", token="", agentId="agt_desk", access_token=token_of(server)) as caller:
        await caller.wait_for("SessionStarted")
    assert token_of(server)[:20] not in str(server.app.tenants.default.journal.entries())


async def test_a_failed_login_can_be_an_event_instead(make_server: ServerFactory) -> None:
    text = "version: 1\nfidelity: {auth_failure: error_event}\nagents: {agt_a: {replies: [{else: x}]}}"
    server = await make_server(text)
    async with HubCaller(server, "voice", token="nonsense", agentId="agt_a") as caller:
        await caller.closed()
    ((target, error),) = caller.events
    assert (target, error["code"], error["recoverable"]) == ("Error", "AUTH_FAILED", False)
    assert "malformed" in error["message"]


class MovableClock(SystemClock):
    """The machine's clock, with hands that a test can move."""

    ahead = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead


async def test_a_token_that_expires_in_mid_session_changes_nothing(make_server: ServerFactory) -> None:
    clock = MovableClock()
    server = await make_server(clock=clock)
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.wait_for("TranscriptionOf", isFinal=True)
        clock.ahead = 7200.0
        await caller.invoke("SendDtmfAsync", "1")
        await caller.wait_for("TranscriptionOf", isFinal=True, text="One.")


async def test_a_token_that_expires_in_mid_session_can_end_it(make_server: ServerFactory) -> None:
    text = "version: 1\nfidelity: {on_token_expiry: error}\nagents: {agt_a: {replies: [{else: x}]}}"
    server = await make_server(text)
    token = token_of(server, exp=server.app.clock.wall() + 0.3)
    async with HubCaller(server, "voice", token=token, agentId="agt_a") as caller:
        assert (await caller.wait_for("Error"))["code"] == "AUTH_FAILED"
        assert (await caller.wait_for("SessionEnded"))["reason"] == "error"
        await caller.closed()


async def test_the_session_after_the_last_allowed_one_is_refused(make_server: ServerFactory) -> None:
    text = "version: 1\nlimits: {max_sessions: 2}\nagents: {agt_a: {replies: [{else: x}]}}"
    server = await make_server(text)
    async with HubCaller(server, "voice", agentId="agt_a") as first, HubCaller(server, "chat", agentId="agt_a"):
        await first.wait_for("SessionStarted")
        async with HubCaller(server, "voice", agentId="agt_a") as third:
            assert (await third.wait_for("Error"))["code"] == "SESSION_LIMIT_REACHED"
            await third.closed()
        await first.invoke("EndSessionAsync", "user_ended")
        await first.wait_for("SessionEnded")
        async with HubCaller(server, "voice", agentId="agt_a") as fourth:
            await fourth.wait_for("SessionStarted")


# --- losing the connection -------------------------------------------------------------------------------------------


async def test_a_session_is_resumed_after_its_socket_was_killed(server: Server) -> None:
    async with Wire(server) as wire, HubCaller(server, "voice", wire=wire, agentId="agt_desk") as lost:
        session_id = (await lost.wait_for("SessionStarted"))["sessionId"]
        await lost.wait_for("TranscriptionOf", isFinal=True)
        await lost.lose_connection()
    async with HubCaller(server, "voice", agentId="agt_desk", sessionId=session_id) as back:
        assert (await back.wait_for("Reconnected"))["sessionId"] == session_id
        await back.invoke("SendDtmfAsync", "9")
        assert (await back.wait_for("SessionEnded"))["conversationId"] == session_id
        await back.closed()
    assert "SessionStarted" not in back.targets()


async def test_the_newest_connection_gets_the_session_and_the_older_one_is_closed(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as older:
        session_id = (await older.wait_for("SessionStarted"))["sessionId"]
        async with HubCaller(server, "voice", agentId="agt_desk", sessionId=session_id) as newer:
            await newer.wait_for("Reconnected")
            with pytest.raises(ConnectionClosed, match="resumed by another connection"):
                await older.closed()
            await newer.invoke("SendDtmfAsync", "1")
            await newer.wait_for("TranscriptionOf", isFinal=True, text="One.")


@pytest.mark.parametrize(
    ("hub", "tenant", "agent", "says"),
    [
        ("voice", "ten_other", "agt_desk", "not known"),
        ("chat", "ten_dev", "agt_desk", "voice session"),
        ("voice", "ten_dev", "agt_clerk", "agt_clerk"),
    ],
)
async def test_a_session_is_resumed_only_by_its_tenant_on_its_hub_with_its_agent(
    server: Server, hub: str, tenant: str, agent: str, says: str
) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as mine:
        session_id = (await mine.wait_for("SessionStarted"))["sessionId"]
        token = token_of(server, tenant=tenant)
        async with HubCaller(server, hub, token=token, agentId=agent, sessionId=session_id) as other:
            error = await other.wait_for("Error")
            assert error["code"] == "RECONNECT_FAILED"
            assert says in error["message"]
            await other.closed()
        assert mine.client.is_open


async def test_a_session_that_nobody_resumes_ends_when_its_window_closes(make_server: ServerFactory) -> None:
    text = "version: 1\nfidelity: {resume_window: 100ms}\nagents: {agt_a: {replies: [{else: x}]}}"
    server = await make_server(text)
    journal = server.app.tenants.default.journal
    async with Wire(server) as wire, HubCaller(server, "voice", wire=wire, agentId="agt_a") as lost:
        session_id = (await lost.wait_for("SessionStarted"))["sessionId"]
        await lost.lose_connection()
    ended = await journaled(journal, call=session_id, kind="session.ended")
    assert ended.details["reason"] == "disconnected"
    async with HubCaller(server, "voice", agentId="agt_a", sessionId=session_id) as late:
        error = await late.wait_for("Error")
        assert (error["code"], error["recoverable"]) == ("RECONNECT_FAILED", False)
        assert "disconnected" in error["message"]


# --- what goes wrong on the wire -------------------------------------------------------------------------------------


TOO_LARGE = '{"type":1,"target":"SendAudioAsync","arguments":["' + "A" * 40_000 + '"]}\x1e'


@pytest.mark.parametrize(("frame", "says"), [("{broken\x1e", ""), (TOO_LARGE, "32768")], ids=["broken", "too large"])
async def test_garbage_ends_the_connection_and_the_session_waits_for_another(
    server: Server, frame: str, says: str
) -> None:
    journal = server.app.tenants.default.journal
    url = f"ws://127.0.0.1:{server.port}/hubs/voice?agentId=agt_desk&access_token={token_of(server)}"
    async with connect(url, proxy=None) as socket:
        await socket.send('{"protocol":"json","version":1}\x1e')
        await journaled(journal, kind="session.started")
        await socket.send(frame)
        noticed = await journaled(journal, kind="connection.protocol_error")
        assert says in noticed.details["message"]
        await journaled(journal, kind="session.detached", call=noticed.call_id)
    assert len(server.app.tenants.default.sessions.sessions) == 1


# --- tenants ---------------------------------------------------------------------------------------------------------


async def test_tenants_share_nothing(server: Server) -> None:
    async with (
        HubCaller(server, "voice", agentId="agt_desk") as mine,
        HubCaller(server, "voice", token=token_of(server, tenant="ten_other"), agentId="agt_desk") as theirs,
    ):
        one, two = await mine.wait_for("SessionStarted"), await theirs.wait_for("SessionStarted")
        assert one["sessionId"] != two["sessionId"]
        other = server.app.tenants.get("ten_other")
        assert other is not None
        assert [session.id for session in other.sessions.sessions] == [two["sessionId"]]
        assert not other.journal.entries(JournalFilter(call=one["sessionId"]))
        assert not server.app.tenants.default.journal.entries(JournalFilter(call=two["sessionId"]))


async def test_the_same_seed_gives_the_same_ids(make_server: ServerFactory) -> None:
    text = "version: 1\nseed: {}\nagents: {{agt_a: {{replies: [{{else: x}}]}}}}"

    async def first_id(seed: int) -> str:
        server = await make_server(text.format(seed))
        async with HubCaller(server, "voice", agentId="agt_a") as caller:
            return str((await caller.wait_for("SessionStarted"))["sessionId"])

    assert await first_id(7) == await first_id(7) != await first_id(8)
