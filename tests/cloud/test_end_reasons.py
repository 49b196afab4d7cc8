"""Every way in which a session ends, as its client sees it: on both hubs, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hub_caller import HubCaller, ServerFactory, Wire, journaled

from voisnap_mock.server import Server

AGENTS = """
version: 1
fidelity: {resume_window: 100ms}
agents:
  agt_free:
    voice: {engine: tone, rate: 400}
    timing: {first_audio: 0ms, max_idle: 10s, max_duration: 1m}
    replies:
      - {dtmf: "1", say: Bye., end: agent_ended}
      - {hear: bye, say: Bye., end: agent_ended}
      - {dtmf: "2", say: One moment., transfer: {to: "+1", type: warm}}
      - {hear: person, say: One moment., transfer: {to: "+1", type: warm}}
      - {dtmf: "3", say: No., end: timeout}
      - {hear: never, say: No., end: timeout}
      - {silence: 3s, say: Still there?}
  agt_endless:
    voice: {engine: tone}
    timing: {max_idle: 1h, max_duration: 1m}
    replies: []
  agt_strict:
    voice: {engine: tone}
    script: [{hear: "yes please", say: Confirmed.}]
"""


async def advance(server: Server, time: str) -> None:
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        assert (await http.post("/__voisnap/clock", json={"advance": time})).status_code == 200


def speak(key: str, text: str) -> Callable[[Server, HubCaller], Awaitable[Any]]:
    async def act(server: Server, caller: HubCaller) -> None:
        if caller.hub == "voice":
            await caller.invoke("SendDtmfAsync", key)
        else:
            await caller.invoke("SendMessageAsync", {"content": text})

    return act


async def hang_up(server: Server, caller: HubCaller) -> None:
    await caller.invoke("EndSessionAsync", *(["user_ended"] if caller.hub == "voice" else []))


async def wait_too_long(server: Server, caller: HubCaller) -> None:
    await advance(server, "2m")


async def stop(server: Server, caller: HubCaller) -> None:
    await server.stop()


ENDS = [
    ("agt_free", hang_up, "user_ended"),
    ("agt_free", speak("1", "bye"), "agent_ended"),
    ("agt_free", speak("2", "a person please"), "transfer_complete"),
    ("agt_free", speak("3", "never"), "timeout"),
    ("agt_free", wait_too_long, "idle_timeout"),
    ("agt_endless", wait_too_long, "max_duration"),
    ("agt_strict", speak("5", "no"), "error"),
    ("agt_free", stop, "server_shutdown"),
]


@pytest.mark.parametrize("hub", ["voice", "chat"])
@pytest.mark.parametrize(("agent", "act", "reason"), ENDS, ids=[f"{agent}-{reason}" for agent, _, reason in ENDS])
async def test_the_client_is_told_why_it_ended(
    make_server: ServerFactory, hub: str, agent: str, act: Callable[[Server, HubCaller], Awaitable[None]], reason: str
) -> None:
    server = await make_server(AGENTS, call_clock="virtual")
    async with HubCaller(server, hub, agentId=agent) as caller:
        started = await caller.wait_for("SessionStarted")
        await asyncio.gather(act(server, caller), caller.wait_for("SessionEnded"))
        ended = await caller.wait_for("SessionEnded")
        await caller.closed()
    assert ended["reason"] == reason
    assert ended["conversationId"] == started["conversationId"]
    names = [target for target, _ in caller.shown()]
    assert names[-1] == "SessionEnded"
    assert ("ConversationEnded" in names) == (hub == "chat")
    if hub == "chat":
        assert names[-2] == "ConversationEnded"
    assert ("TransferInitiated" in names) == (reason == "transfer_complete")


@pytest.mark.parametrize("hub", ["voice", "chat"])
async def test_a_session_that_nobody_comes_back_to_is_disconnected(make_server: ServerFactory, hub: str) -> None:
    server = await make_server(AGENTS, call_clock="virtual")
    async with Wire(server) as wire, HubCaller(server, hub, wire=wire, agentId="agt_free") as lost:
        session_id = (await lost.wait_for("SessionStarted"))["sessionId"]
        await lost.lose_connection()
    ended = await journaled(server.app.tenants.default.journal, call=session_id, kind="session.ended")
    assert ended.details["reason"] == "disconnected"


async def test_a_wrong_turn_is_explained_in_the_journal_and_the_log(
    make_server: ServerFactory, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(AGENTS, call_clock="virtual")
    async with HubCaller(server, "chat", agentId="agt_strict") as caller:
        await caller.invoke("SendMessageAsync", {"content": "no"})
        await caller.wait_for("SessionEnded", reason="error")
    wrong = await journaled(server.app.tenants.default.journal, kind="script.wrong_turn")
    assert "heard 'no'" in wrong.details["reason"]
    assert "yes please" in wrong.details["reason"]
    assert wrong.details["reason"] in caplog.text
