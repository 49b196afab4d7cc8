"""All that crosses a hub's border is in the journal."""

from __future__ import annotations

import httpx
from hub_caller import HubCaller, ServerFactory, journaled, token_of
from websockets.asyncio.client import connect

from voisnap_mock.journal import JournalEntry, JournalFilter
from voisnap_mock.server import Server


def entries_of(server: Server, **wanted: object) -> list[JournalEntry]:
    return list(server.app.tenants.default.journal.entries(JournalFilter(**wanted)))  # type: ignore[arg-type]


async def test_a_connection_leaves_its_whole_way(make_server: ServerFactory) -> None:
    server = await make_server(call_clock="virtual")
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        await caller.speak(bytes(64_000), silence=0.0)
        await caller.invoke("SendDtmfAsync", "1")
        await caller.wait_for("TranscriptionOf", isFinal=True, text="One.")
        await caller.invoke("RequestReconnectionAsync")
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
    await journaled(server.app.tenants.default.journal, kind="connection.closed")
    kinds = {entry.kind for entry in entries_of(server)}
    assert {"connection.negotiated", "connection.opened", "session.opened", "connection.closed"} <= kinds
    targets = {entry.details.get("target") for entry in entries_of(server, call=call_id)}
    assert targets >= {
        "SendAudioAsync",
        "AudioReceived",
        "SendDtmfAsync",
        "EndSessionAsync",
        "RequestReconnectionAsync",
        "SessionStarted",
        "TranscriptionOf",
        "Reconnected",
        "SessionEnded",
        "Custom",
    }
    heard = entries_of(server, call=call_id, kind="audio.in")
    assert sum(entry.details["bytes"] for entry in heard) == 64_000
    assert [entry.details["frames"] for entry in heard][:2] == [50, 50]
    said = sum(entry.details["bytes"] for entry in entries_of(server, call=call_id, kind="audio.out"))
    assert said == sum(len(payload) for target, payload in caller.events if target == "AudioReceived")


async def test_every_chat_method_is_there(server: Server) -> None:
    async with HubCaller(server, "chat", agentId="agt_clerk") as user:
        await user.wait_for("MessageReceived", isFinal=True)
        await user.invoke("TypingAsync")
        await user.invoke("SendMessageAsync", {"content": "hello"})
        await user.invoke("CancelAsync")
        await user.invoke("RequestReconnectionAsync")
        await user.invoke("EndSessionAsync")
        await user.wait_for("SessionEnded")
    assert [entry.details["target"] for entry in entries_of(server, kind="method")] == [
        "TypingAsync",
        "SendMessageAsync",
        "CancelAsync",
        "RequestReconnectionAsync",
        "EndSessionAsync",
    ]


async def test_an_upgrade_without_negotiating_is_no_negotiation(server: Server) -> None:
    url = f"{server.base_url.replace('http', 'ws')}/hubs/chat?agentId=agt_clerk&access_token={token_of(server)}"
    async with connect(url) as socket:
        await socket.send('{"protocol":"json","version":1}\x1e')
        await socket.recv()
        await journaled(server.app.tenants.default.journal, kind="connection.opened")
    assert entries_of(server, kind="connection.negotiated") == []


async def test_a_handshake_that_fails_is_the_tenants_affair(server: Server) -> None:
    token = token_of(server, "other@example.test", "ten_other")
    url = f"{server.base_url.replace('http', 'ws')}/hubs/chat?agentId=agt_clerk&access_token={token}"
    async with connect(url) as socket:
        await socket.send('{"protocol":"pigeon","version":1}\x1e')
        await socket.recv()
    tenant = server.app.tenants.get("ten_other")
    assert tenant is not None
    assert "pigeon" in (await journaled(tenant.journal, kind="connection.handshake_failed")).details["message"]


async def test_refusals_are_there_and_no_token_is(server: Server) -> None:
    token = token_of(server)
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        await http.post(f"/hubs/voice/negotiate?access_token={token}&metadata=nonsense")
        await http.post("/hubs/voice/negotiate?access_token=eyJhbGciOi.not.good")
        await http.post(f"/hubs/voice/negotiate?access_token={token}")
    assert [entry.kind for entry in entries_of(server, kind="connection.*")] == [
        "connection.refused",
        "connection.refused",
        "connection.negotiated",
    ]
    assert token not in repr(entries_of(server))
