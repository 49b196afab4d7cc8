"""Remarks on what clients do that the service would take and not like; each through a real client."""

from __future__ import annotations

import base64

import httpx
import pytest
from hub_caller import HubCaller, ServerFactory, Wire, journaled, token_of
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from voisnap_mock.cloud.manners import HAMMERING, Attempts
from voisnap_mock.journal import JournalFilter
from voisnap_mock.lint import LintNote, lint_of
from voisnap_mock.server import Server
from voisnap_mock.signalr import SignalRError, Transport

FRAME = base64.b64encode(bytes(640)).decode()


def lint(server: Server) -> list[LintNote]:
    return list(lint_of(server.app.tenants.default.journal.entries(JournalFilter(kind="lint"))))


def rules(server: Server) -> list[str]:
    return [note.rule for note in lint(server)]


async def test_methods_after_the_end(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
        await caller.invoke("EndSessionAsync", "user_ended")
        assert rules(server) == [], "the documented sample hangs up because of SessionEnded"
        await caller.invoke("SendDtmfAsync", "1")
        await caller.invoke("SendDtmfAsync", "2")
    (note,) = lint(server)
    assert (note.rule, note.call_id, note.count) == ("after_end", call_id, 2)
    assert "SendDtmfAsync was called after SessionEnded" in note.message


async def test_audio_that_was_on_its_way_at_the_end_is_nobodys_fault(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
        for _ in range(3):
            await caller.invoke("SendAudioAsync", FRAME)
        assert rules(server) == []
        for _ in range(3):
            await caller.invoke("SendAudioAsync", FRAME)
    (note,) = lint(server)
    assert (note.rule, note.count) == ("after_end", 1)


@pytest.mark.parametrize("hub", ["voice", "chat"])
async def test_a_client_that_goes_without_ending_its_session(server: Server, hub: str) -> None:
    agent = {"voice": "agt_desk", "chat": "agt_clerk"}[hub]
    async with HubCaller(server, hub, agentId=agent) as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
    await journaled(server.app.tenants.default.journal, kind="connection.closed")
    (note,) = lint(server)
    assert (note.rule, note.call_id) == ("no_end_session", call_id)


async def test_a_connection_that_is_lost_is_not_the_clients_doing(server: Server) -> None:
    async with Wire(server) as wire, HubCaller(server, "voice", wire=wire, agentId="agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        await caller.lose_connection()
        await journaled(server.app.tenants.default.journal, kind="session.detached")
    assert rules(server) == []


async def test_coming_again_after_an_error_that_forbids_it(server: Server) -> None:
    for agent in ("agt_nobody", "agt_closed", "agt_nobody"):
        async with HubCaller(server, "voice", agentId=agent) as caller:
            await caller.wait_for("Error")
            await caller.closed()
    (note,) = lint(server)
    assert note.rule == "ignored_unrecoverable"
    assert "AGENT_NOT_FOUND, whose error said recoverable: false" in note.message


async def test_hammering_at_a_door_that_stays_shut(server: Server) -> None:
    for _ in range(HAMMERING + 1):
        with pytest.raises(SignalRError):
            async with HubCaller(server, "voice", token="eyJhbGciOi.not.good", agentId="agt_desk"):
                pass
    (note,) = lint(server)
    assert (note.rule, note.count) == ("hammering", 1)
    assert "refused a connection 5 times within" in note.message


async def test_resuming_again_and_again(server: Server) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as first:
        session = (await first.wait_for("SessionStarted"))["sessionId"]
        for _ in range(HAMMERING):
            async with HubCaller(server, "voice", sessionId=session) as again:
                await again.wait_for("Reconnected")
    assert "hammering" in rules(server)


async def test_voice_by_long_polling(server: Server) -> None:
    for hub, agent in (("chat", "agt_clerk"), ("voice", "agt_desk")):
        caller = HubCaller(server, hub, transports=(Transport.LONG_POLLING,), agentId=agent)
        async with caller:
            await caller.wait_for("SessionStarted")
            await (
                caller.invoke("EndSessionAsync") if hub == "chat" else caller.invoke("EndSessionAsync", "user_ended")
            )
            await caller.wait_for("SessionEnded")
    (note,) = lint(server)
    assert note.rule == "polling"


async def test_a_token_in_a_path(server: Server) -> None:
    token = token_of(server)
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        await http.get(f"/api/v1/agents/{token}", headers={"Authorization": f"Bearer {token}"})
        await http.post(f"/hubs/voice/{token}/negotiate")
    with pytest.raises(InvalidStatus):
        await connect(f"{server.base_url.replace('http', 'ws')}/hubs/voice/{token}")
    (note,) = lint(server)
    assert (note.rule, note.count) == ("token_in_path", 3)
    assert "[redacted]" in note.message
    assert token not in repr(server.app.tenants.default.journal.entries())


async def test_where_time_is_audio_a_remark_names_the_call_and_is_no_part_of_it(make_server: ServerFactory) -> None:
    server = await make_server(call_clock="virtual")
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        await caller.speak(bytes(6_400), silence=0.0)
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
    (note,) = lint(server)
    assert (note.rule, note.call_id) == ("chunk_size", call_id)
    entries = server.app.tenants.default.journal.entries(JournalFilter(call=call_id))
    assert "lint" not in [entry.kind for entry in entries]


def test_attempts_far_apart_are_no_hammering() -> None:
    attempts = Attempts()
    assert [attempts.hammering("x", at * 2.0, "it came") for at in range(20)] == [None] * 20


@pytest.mark.parametrize("apart", [0.1, 1.0, 1.2])
def test_a_burst_is_remarked_on_once_however_long_it_lasts(apart: float) -> None:
    attempts = Attempts()
    remarks = [attempts.hammering("x", at * apart, "it came") is not None for at in range(20)]
    assert remarks.index(True) == HAMMERING - 1
    assert remarks.count(True) == 1
    again = [attempts.hammering("x", 100 + at * apart, "it came") is not None for at in range(20)]
    assert again == remarks


def test_attempts_are_forgotten_when_there_are_too_many_of_them() -> None:
    attempts = Attempts()
    for number in range(5_000):
        attempts.ignored("AGENT_NOT_FOUND", f"key {number}", 0.0)
    assert attempts.ignored("AGENT_NOT_FOUND", "key 0", 1.0) is None
    assert attempts.ignored("AGENT_NOT_FOUND", "key 4999", 1.0) is not None
    assert attempts.ignored("AGENT_NOT_FOUND", "key 4999", 20.0) is None
