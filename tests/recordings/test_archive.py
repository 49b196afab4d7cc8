"""Calls that can still be listened to, as their sessions were tapped."""

from __future__ import annotations

import io
import json
import wave
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import AgentScript
from voisnap_mock.audio.marking import caller_speech, decode_speech
from voisnap_mock.clock import ManualClock
from voisnap_mock.journal import Journal, JournalFilter
from voisnap_mock.recordings.archive import CallArchive, NoAudio, NoSuchCall, TappedCall, zip_of
from voisnap_mock.server import MockServer

AGENTS = """
version: 1
seed: 3
agents:
  agt_shop:
    greeting: Good morning, what can I do for you?
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms, first_audio: 100ms}
    replies: [{hear: [refund], say: "Which order?"}]
"""
LOUD = b"\x01\x00" * 320
SCRIPT = AgentScript("agt_a", "A")


@dataclass
class Spoken:
    """A session as the archive sees it."""

    id: str
    channel: str = "voice"
    tenant_id: str = "ten_dev"
    script: AgentScript = SCRIPT
    status: str = "live"
    started_at: float | None = 1_750_000_000.0
    duration: float | None = None
    reason: str | None = None


class Shelf:
    """An archive with sessions that a test plays."""

    def __init__(self, most_bytes: int = 1_000_000) -> None:
        self.journal = Journal(ManualClock())
        self.archive = CallArchive(self.journal, most_bytes=most_bytes)

    def call(self, call_id: str, seconds: float, *, is_over: bool = True) -> tuple[Spoken, TappedCall]:
        session = Spoken(call_id)
        tap = self.archive.open(session, "virtual")
        for number in range(round(seconds * 50)):
            tap.heard(LOUD, (number + 1) * 0.02)
        if is_over:
            session.status, session.duration, session.reason = "ended", seconds, "user_ended"
            tap.close()
        return session, tap


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(parse_agents(AGENTS, source="test agents"), clock="virtual") as server:
        yield server


def wav_of(data: bytes) -> tuple[int, int, bytes]:
    """Rate, samples, PCM, as Python's own reader sees them."""
    with wave.open(io.BytesIO(data)) as file:
        return file.getframerate(), file.getnframes(), file.readframes(file.getnframes())


def sounding(pcm: bytes) -> bytes:
    """Its samples without the silent ones: what sounded, wherever it lies."""
    samples = np.frombuffer(pcm, "<i2")
    return samples[samples != 0].tobytes()


def test_both_sides_of_a_call_can_be_heard_as_they_were_sent_and_where_they_were(server: MockServer) -> None:
    with server.caller("agt_shop") as caller:
        caller.heard()
        caller.say("I want a refund")
        said_at = caller.t
        caller.heard()
        during = server.app.tenants.default.calls.wav(caller.conversation_id, "in")
        sent, heard = caller.audio.caller, caller.audio.agent
    calls = server.app.tenants.default.calls
    duration = calls.facts(caller.conversation_id)["durationSeconds"]

    in_rate, in_samples, in_pcm = wav_of(calls.wav(caller.conversation_id, "in"))
    out_rate, out_samples, out_pcm = wav_of(calls.wav(caller.conversation_id, "out"))

    assert (in_rate, out_rate) == (16_000, 24_000)
    assert in_samples == round(duration * 16_000)
    assert out_samples == round(duration * 24_000)
    assert in_pcm[: len(sent)] == sent
    assert wav_of(during)[2] == sent
    assert out_pcm[: len(heard)] == heard
    spoken = decode_speech(in_pcm, 16_000)
    assert spoken.text == "I want a refund"
    assert said_at - 0.5 < spoken.utterances[0].words[-1].end <= said_at


def test_on_a_bad_line_both_sides_are_as_the_client_sent_and_got_them(tmp_path: Path) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text(AGENTS + "faults: [{at: [audio.in, audio.out], do: {impair: {loss: 0.3, burst: 2}}}]")
    with (
        MockServer(agents, clock="virtual") as server,
        server.caller("agt_shop") as caller,
    ):
        caller.heard()
        caller.say("I want a refund")
        sent, got = caller.audio.caller, caller.audio.agent
        calls = server.app.tenants.default.calls
        in_pcm, out_pcm = (wav_of(calls.wav(caller.conversation_id, side))[2] for side in ("in", "out"))
    assert decode_speech(in_pcm, 16_000).text == "I want a refund"
    assert in_pcm == sent
    assert sounding(out_pcm) == sounding(got)
    lost = [at for at in range(0, 48_000, 960) if not any(out_pcm[at : at + 960])]
    assert len(lost) > 5


def test_a_call_can_be_read_while_it_goes_on_and_ends_with_its_last_entry(server: MockServer) -> None:
    calls = server.app.tenants.default.calls
    with server.caller("agt_shop") as caller:
        caller.heard()
        call_id = caller.conversation_id
        assert calls.facts(call_id)["status"] == "live"
        assert [said.text for said in calls.transcript(call_id)] == ["Good morning, what can I do for you?"]
    assert calls.facts(call_id) | {"startedAt": "", "durationSeconds": 0} == {
        "id": call_id,
        "agentId": "agt_shop",
        "tenantId": "ten_dev",
        "channel": "voice",
        "status": "ended",
        "clock": "virtual",
        "startedAt": "",
        "durationSeconds": 0,
        "reason": "user_ended",
    }
    assert calls.entries(call_id)[0].kind == "session.opened"
    assert calls.entries(call_id)[-1].kind == "session.ended"
    assert call_id in [facts["id"] for facts in calls.calls]


def test_the_files_of_a_call_make_a_zip_that_is_always_the_same(server: MockServer) -> None:
    with server.caller("agt_shop", metadata={"name": "Ada", "password": "hunter2"}) as caller:
        caller.heard()
    call_id = caller.conversation_id
    files = server.app.tenants.default.calls.folder_files(call_id)

    packed = zip_of(files, call_id)

    assert packed == zip_of(files, call_id)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert sorted(archive.namelist()) == sorted(
            f"{call_id}/{name}" for name in ("in.wav", "out.wav", "events.jsonl", "transcript.vtt", "call.json")
        )
        lines = archive.read(f"{call_id}/events.jsonl").decode().splitlines()
        facts = json.loads(archive.read(f"{call_id}/call.json"))
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert json.loads(lines[0])["metadata"] == {"name": "Ada", "password": "[redacted]"}
    assert "hunter2" not in "".join(lines)
    # Of a virtual call nothing is kept of real time.
    assert facts["startedAt"] is None
    assert {json.loads(line)["at"] for line in lines} == {None}


def test_beyond_the_bound_the_audio_of_the_oldest_call_that_is_over_goes_and_that_is_told() -> None:
    shelf = Shelf(most_bytes=200_000)
    live, _ = shelf.call("conv_live", 2.0, is_over=False)
    shelf.call("conv_1", 2.0)
    shelf.call("conv_2", 2.0)
    assert shelf.journal.entries(JournalFilter(kind="audio.dropped")) == ()
    shelf.call("conv_3", 2.0)

    (dropped,) = shelf.journal.entries(JournalFilter(kind="audio.dropped"))
    assert (dropped.details["callId"], dropped.call_id) == ("conv_1", None)
    with pytest.raises(NoAudio, match=r"'conv_1' is not kept any more: .*serve with --record DIR"):
        shelf.archive.wav("conv_1", "in")
    assert "in.wav" not in shelf.archive.folder_files("conv_1")
    for kept in (live.id, "conv_2", "conv_3"):
        assert wav_of(shelf.archive.wav(kept, "in"))[1] == 32_000


def test_a_call_that_outgrows_the_bound_alone_costs_no_more_memory() -> None:
    shelf = Shelf(most_bytes=100_000)
    shelf.call("conv_long", 20.0)
    shelf.call("conv_next", 1.0)
    assert len(shelf.journal.entries(JournalFilter(kind="audio.dropped"))) == 1
    assert wav_of(shelf.archive.wav("conv_next", "in"))[1] == 16_000


def test_the_last_thousand_calls_are_known_and_a_live_one_is_never_forgotten() -> None:
    shelf = Shelf()
    shelf.call("conv_live", 0.02, is_over=False)
    for number in range(1_001):
        shelf.call(f"conv_{number}", 0.02)
    known = [facts["id"] for facts in shelf.archive.calls]
    assert len(known) == 1_000
    assert known[:2] == ["conv_live", "conv_2"]
    with pytest.raises(NoSuchCall, match=r"call 'conv_0' is not known; the last 1,000 calls"):
        shelf.archive.facts("conv_0")


def test_a_chat_has_no_audio() -> None:
    shelf = Shelf()
    tap = shelf.archive.open(Spoken("conv_chat", channel="chat"), "virtual")
    tap.close()
    with pytest.raises(NoAudio, match="'conv_chat' is a chat"):
        shelf.archive.wav("conv_chat", "out")
    assert set(shelf.archive.folder_files("conv_chat")) == {"call.json", "events.jsonl", "transcript.vtt"}


def test_what_a_caller_sends_is_in_its_place_also_when_the_line_was_lost(server: MockServer) -> None:
    with server.caller("agt_shop") as caller:
        caller.heard()
        caller.drop()
        tenant = server.app.tenants.default
        session = tenant.sessions.get(caller.conversation_id)
        assert session is not None
        server.wait_for(session.advance(3.0))
        caller.resume()
        begin = caller.t
        caller.say("refund")
    pcm = wav_of(tenant.calls.wav(caller.conversation_id, "in"))[2]
    at = round(begin * 16_000) * 2
    speech = caller_speech("refund", "en-us")
    assert pcm[at : at + 3_200] == speech[:3_200]
    assert not any(pcm[at - 2 * 16_000 * 2 : at])
