"""On a virtual clock the same caller audio is the same call, byte for byte, however it is sent."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import pytest
from hub_caller import HubCaller

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.app import App
from voisnap_mock.audio.marking import caller_speech
from voisnap_mock.clock import SystemClock
from voisnap_mock.config import Settings
from voisnap_mock.journal import JournalFilter
from voisnap_mock.server import Server

AGENTS = """
version: 1
seed: 7
limits: {{max_message_bytes: 4000000}}
agents:
  agt_shop:
    greeting: Good morning and welcome to the shop, what can I do for you?
    hears: {hears}
    timing: {{end_of_turn: 400ms, first_audio: 100ms, idle_grace: 10m}}
    replies:
      - {{hear: [refund], say: [Sure., {{tool: {{name: look_up, took: 200ms}}}}, Which order?]}}
      - {{dtmf: "12#", say: Thank you.}}
      - {{silence: 5s, say: Still there?}}
      - {{else: [What?, Pardon?]}}
"""


@pytest.fixture(scope="module")
def story() -> bytes:
    """A caller who interrupts the greeting, then speaks again: PCM at 16 kHz that ends in the middle of a frame."""
    first, second = (caller_speech(text) for text in ("I want a refund", "four one seven nine"))
    return bytes(32_000) + first + bytes(32_000) + second + bytes(32_000 + 222)


async def record(hears: str, story: bytes, *, piece: int, is_paced: bool = False) -> bytes:
    """The whole journal of the call: all but the places in the journal (`seq`) and the wall times (`at`)."""
    app = App(Settings(port=0, clock="virtual"), file=parse_agents(AGENTS.format(hears=hears), source="test agents"))
    clock = SystemClock()
    async with Server(app) as server:
        async with HubCaller(server, "voice", agentId="agt_shop") as caller:
            session_id = (await caller.wait_for("SessionStarted"))["sessionId"]
            began = clock.monotonic()
            for at in range(0, len(story), piece):
                if is_paced:
                    await clock.sleep_until(began + at / 32_000)
                await caller.client.send("SendAudioAsync", base64.b64encode(story[at : at + piece]).decode())
            for digit in "12#":
                await caller.invoke("SendDtmfAsync", digit)
            async with httpx.AsyncClient(base_url=server.base_url, trust_env=False, timeout=30) as http:
                await http.post("/__voisnap/clock", json={"advance": "60s", "call": session_id})
            await caller.wait_for("SessionEnded")
            await caller.closed()
        events = [(target, str(payload)) for target, payload in caller.events if target != "SessionStarted"]
        entries = app.tenants.default.journal.entries(JournalFilter(call=session_id))
    lines = [
        json.dumps([entry.kind, entry.tenant_id, entry.call_id, entry.t, dict(entry.details)])
        for entry in entries
        # The client's connection goes when the client goes.
        if entry.kind != "connection.closed"
    ]
    return "\n".join([*lines, json.dumps(events)]).encode()


@pytest.mark.parametrize("hears", ["vosk", "marks", "activity"])
async def test_at_once_in_blocks_of_256_samples_and_in_frames_are_the_same_call(hears: str, story: bytes) -> None:
    at_once = await record(hears, story, piece=len(story))
    assert at_once.count(b"caller.transcript") >= {"activity": 2}.get(hears, 5), "partials and finals"
    assert b"idle_timeout" in at_once
    assert await record(hears, story, piece=512) == at_once
    assert await record(hears, story, piece=640) == at_once


async def test_the_pace_of_speech_is_the_same_call_too(story: bytes) -> None:
    at_once, paced = await asyncio.gather(
        record("marks", story, piece=len(story)), record("marks", story, piece=640, is_paced=True)
    )
    assert paced == at_once
