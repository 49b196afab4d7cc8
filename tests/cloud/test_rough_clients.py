"""Clients that vanish, never read or speak no SignalR: what becomes of their calls, and that nobody else notices."""

from __future__ import annotations

import asyncio
import base64

import pytest
from hub_caller import PATIENCE, HubCaller, ServerFactory, Wire, journaled, token_of
from websockets.asyncio.client import connect

from voisnap_mock.audio.tts import say
from voisnap_mock.server import Server

VOSK = """
version: 1
agents:
  agt_shop:
    hears: vosk
    voice: {engine: tone, rate: 400}
    timing: {end_of_turn: 300ms, first_audio: 0ms}
    replies:
      - {hear: [refund], say: Which order?, end: agent_ended}
      - {else: What?}
"""


async def test_a_caller_who_vanishes_in_mid_speech_finishes_the_sentence_on_another_connection(
    make_server: ServerFactory,
) -> None:
    speech = await asyncio.to_thread(say, "I want a refund")
    half = len(speech) // 2 // 640 * 640
    server = await make_server(VOSK)
    async with Wire(server) as wire, HubCaller(server, "voice", wire=wire, agentId="agt_shop") as lost:
        session_id = (await lost.wait_for("SessionStarted"))["sessionId"]
        await lost.speak(speech[:half], silence=0)
        await lost.invoke("SendDtmfAsync", "1")  # answered when the audio before it has been taken
        await lost.lose_connection()
    async with HubCaller(server, "voice", agentId="agt_shop", sessionId=session_id) as back:
        await back.wait_for("Reconnected")
        await back.speak(speech[half:])
        assert (await back.wait_for("Transcription", isFinal=True))["text"] == "i want a refund"
        assert (await back.wait_for("SessionEnded"))["reason"] == "agent_ended"
        await back.closed()


TALKER = f"""
version: 1
agents:
  agt_talker:
    voice: {{engine: tone}}
    greeting: "{"All work and no play makes the clerk a dull clerk. " * 100}"
  agt_desk:
    voice: {{engine: tone, rate: 400}}
    replies: [{{dtmf: "1", say: One., end: agent_ended}}, {{else: x}}]
"""


async def test_a_client_that_never_reads_holds_nobody_up(make_server: ServerFactory) -> None:
    server = await make_server(TALKER, call_clock="4x")
    journal = server.app.tenants.default.journal
    url = f"ws://127.0.0.1:{server.port}/hubs/voice?agentId=agt_talker&access_token={token_of(server)}"
    async with connect(url, proxy=None, max_queue=1, close_timeout=0.1) as deaf:
        await deaf.send('{"protocol":"json","version":1}\x1e')
        session = await journaled(journal, kind="session.started")
        deaf.transport.pause_reading()
        for _ in range(3):
            async with HubCaller(server, "voice", agentId="agt_desk") as other:
                await other.invoke("SendDtmfAsync", "1")
                assert (await other.wait_for("SessionEnded"))["reason"] == "agent_ended"
        assert [session.call_id] == [call.id for call in server.app.tenants.default.sessions.sessions]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"\r\n" * 40_000,
        b"GET /hubs/voice HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"",
    ],
    ids=["a TLS hello", "a wrong header", "empty lines", "half an upgrade", "nothing"],
)
async def test_bytes_that_are_no_request_end_their_own_connection(server: Server, garbage: bytes) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as other:
        await other.wait_for("SessionStarted")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(garbage)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        assert not answer or answer.startswith(b"HTTP/1.1 4")
        assert await other.invoke("SendAudioAsync", base64.b64encode(bytes(640)).decode()) is None
