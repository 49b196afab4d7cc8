"""Every ear, from a client's microphone to the transcript: a real hub, a real client, also over a lossy line."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_caller import HubCaller, journaled
from lines import lossy, mu_law
from speech_samples import SENTENCES, Samples, Say, quantize, say_all, silence, tone

from voisnap_mock import decode_speech
from voisnap_mock.app import App
from voisnap_mock.audio.frames import resample, write_wav
from voisnap_mock.audio.marking import AgentMarker, caller_speech
from voisnap_mock.audio.marks import Speaker, mark
from voisnap_mock.audio.tones import speak_tones
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER
from voisnap_mock.clock import SystemClock
from voisnap_mock.config import Settings
from voisnap_mock.engine.events import Word
from voisnap_mock.journal import JournalEntry, JournalFilter
from voisnap_mock.recordings.utterances import Utterances
from voisnap_mock.server import Server

AGENT = """
version: 1
agents:
  agt_a:
    voice: {{engine: tone, rate: 400}}
    hears: {hears}
    timing: {{end_of_turn: 500ms, first_audio: 0ms}}
    replies: [{{else: "You said something."}}]
"""
TEXT = "I'd like a Müller-Thurgau — 42, please! 😀"
KNOWN = SENTENCES[4]
UNKNOWN = SENTENCES[0]


@cache
def marked(text: str = TEXT) -> Samples:
    return np.frombuffer(caller_speech(text), np.int16)


def plain(text: str) -> Samples:
    return dict(zip((KNOWN, UNKNOWN), say_all(Say(KNOWN), Say(UNKNOWN)), strict=True))[text].pcm


class Project:
    """A folder with an agents file and recordings, served in the test's own loop."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.reports: list[str] = []
        self._stack = stack

    def record(self, text: str, *, name: str = "known") -> None:
        folder = self.folder / "recordings" / "utterances"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        (folder / f"{name}.wav").write_bytes(write_wav(plain(text).tobytes(), 16_000))

    async def serve(self, hears: str = "auto", *, agents: str = AGENT, **settings: Any) -> Server:
        path = self.folder / "agents.yaml"
        path.write_text(agents.format(hears=hears), encoding="utf-8")
        app = App(Settings(**{"port": 0, "agents": path, "clock": "virtual", **settings}), report=self.reports.append)
        return await self._stack.enter_async_context(Server(app))


@pytest.fixture
async def project(tmp_path: Path) -> AsyncIterator[Project]:
    async with AsyncExitStack() as stack:
        yield Project(tmp_path, stack)


async def hear(server: Server, *parts: Samples) -> dict[str, Any]:
    """Call, say it, and return the final transcript."""
    async with HubCaller(server, "voice", agentId="agt_a") as caller:
        await caller.speak(np.concatenate([silence(0.4), *parts]).tobytes(), silence=1.0)
        final = await caller.wait_for("Transcription", isFinal=True)
        return {"partials": [e["text"] for name, e in caller.events if name == "Transcription"][:-1], **final}


def entry(server: Server) -> JournalEntry:
    """The journal's entry of the last utterance."""
    finals = [
        entry
        for entry in server.app.tenants.default.journal.entries(JournalFilter(kind="caller.transcript"))
        if entry.details["is_final"]
    ]
    return finals[-1]


# --- Each ear -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hears", ["auto", "marks"])
async def test_marked_speech_is_heard_to_the_letter(project: Project, hears: str) -> None:
    server = await project.serve(hears)
    heard = await hear(server, marked())
    assert (heard["text"], heard["confidence"]) == (TEXT, 1.0)
    assert heard["partials"]
    assert all(TEXT.startswith(partial) for partial in heard["partials"])
    details = entry(server).details
    assert details["ear"] == "marks"
    assert [word["text"] for word in details["words"]] == TEXT.split()
    assert details["begin"] - 0.05 <= details["words"][0]["begin"]
    assert details["words"][-1]["end"] <= details["end"] + 0.05


async def test_how_long_it_took_is_in_the_journal_where_time_is_real(project: Project) -> None:
    server = await project.serve(clock="4x")
    await hear(server, marked())
    assert 0 < entry(server).details["took"] < 1


async def test_marked_speech_is_heard_as_a_clients_audio_stack_leaves_it(project: Project) -> None:
    """Floats and back, odd pieces, and a DC offset of a few steps."""
    server = await project.serve()
    floats = marked().astype(np.float32) / np.float32(32768)
    again = quantize(np.trunc(floats * np.float32(32767)) + 3)
    async with HubCaller(server, "voice", agentId="agt_a") as caller:
        await caller.speak(np.concatenate([silence(0.301), again]).tobytes(), silence=1.0, piece=1022)
        assert (await caller.wait_for("Transcription", isFinal=True))["text"] == TEXT


@pytest.mark.parametrize("way", ["frames are silenced", "frames never come"])
async def test_marked_speech_over_a_lossy_line_loses_only_what_was_lost(project: Project, way: str) -> None:
    server = await project.serve()
    text = SENTENCES[11]
    pcm = marked(text)[: len(marked(text)) // 320 * 320].reshape(-1, 320)
    arrives = np.random.default_rng(5).random(len(pcm)) >= 0.05
    assert 3 <= (~arrives).sum() <= 12
    sent = pcm[arrives] if way == "frames never come" else pcm * arrives[:, None]
    heard = await hear(server, sent.reshape(-1).astype(np.int16))
    words = heard["text"].split()
    places = [text.split().index(word) for word in words]
    assert places == sorted(places)
    assert len(words) >= len(text.split()) - 2
    assert 0.7 < heard["confidence"] < 1.0
    assert entry(server).details["ear"] == "marks"


async def test_marked_tones_are_heard_where_no_voice_can_be_had(project: Project) -> None:
    server = await project.serve()
    tones = speak_tones(TEXT.split(), rate=175, volume=1.0)
    pcm = resample(tones.pcm, 24_000, 16_000)
    audio = mark(pcm, tones.words, sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
    assert (await hear(server, np.frombuffer(audio, np.int16)))["text"] == TEXT


@pytest.mark.parametrize("hears", ["auto", "recordings"])
@pytest.mark.parametrize("line", [mu_law, lossy, lambda pcm: quantize(pcm * 0.4)], ids=["G.711", "loss", "gain"])
async def test_a_known_recording_is_heard_through_the_line(
    project: Project, hears: str, line: Callable[[Samples], Samples]
) -> None:
    project.record(KNOWN)
    server = await project.serve(hears)
    heard = await hear(server, line(plain(KNOWN)))
    assert heard["text"] == KNOWN
    details = entry(server).details
    assert details["ear"] == "recordings"
    assert 0.75 <= details["confidence"] <= 1.0
    assert [word["text"] for word in details["words"]] == KNOWN.split()


async def test_what_say_has_spoken_is_known_by_its_sound_at_once(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `say` leaves it in the user's cache, while the server runs; then a codec takes the marks away."""
    monkeypatch.setenv("VOISNAP_MOCK_CACHE", str(tmp_path / "cache"))
    server = await project.serve("recordings")
    Utterances(tmp_path / "cache" / "utterances").keep(TEXT, marked().tobytes())
    assert (await hear(server, mu_law(marked())))["text"] == TEXT


@pytest.mark.parametrize("hears", ["auto", "vosk"])
async def test_vosk_hears_what_is_neither_marked_nor_known(project: Project, hears: str) -> None:
    project.record(KNOWN)
    server = await project.serve(hears)
    heard = await hear(server, plain(UNKNOWN))
    assert heard["text"] == UNKNOWN
    assert heard["confidence"] > 0.9
    details = entry(server).details
    assert details["ear"] == "vosk"
    assert [word["text"] for word in details["words"]] == UNKNOWN.split()
    begins = [word["begin"] for word in details["words"]]
    assert begins == sorted(begins)
    assert details["begin"] - 0.1 <= begins[0]
    assert details["words"][-1]["end"] <= details["end"] + 0.2


async def test_vosk_hears_most_over_a_lossy_line(project: Project) -> None:
    server = await project.serve("vosk")
    heard = await hear(server, lossy(plain(UNKNOWN)))
    assert len(set(heard["text"].split()) & set(UNKNOWN.split())) >= 6


async def test_vosk_with_the_scripts_grammar_hears_nothing_else(project: Project) -> None:
    agents = AGENT.replace("hears: {hears}", "hears: vosk\n    grammar: script").replace(
        '[{{else: "You said something."}}]', '[{{hear: [get a refund, "cancel"], say: x}}, {{else: y}}]'
    )
    server = await project.serve(agents=agents)
    heard = await hear(server, plain(UNKNOWN))
    words = set(heard["text"].split())
    assert {"cancel", "refund"} <= words <= {"cancel", "get", "a", "refund", "[unk]"}


async def test_voice_activity_is_heard_when_nothing_else_is(project: Project) -> None:
    server = await project.serve("activity")
    heard = await hear(server, plain(UNKNOWN))
    assert heard["text"].startswith("[speech ")
    assert entry(server).details["ear"] == "activity"


async def test_the_script_ear_hears_the_script(project: Project) -> None:
    agents = AGENT.replace('replies: [{{else: "You said something."}}]', 'script: [{{hear: "yes please", say: "Ok."}}]')
    server = await project.serve("script", agents=agents)
    assert (await hear(server, plain(UNKNOWN)))["text"] == "yes please"


@pytest.mark.parametrize("hears", ["marks", "recordings"])
async def test_a_pinned_ear_that_understands_nothing_says_so_in_the_journal(project: Project, hears: str) -> None:
    server = await project.serve(hears)
    async with HubCaller(server, "voice", agentId="agt_a") as caller:
        await caller.speak(np.concatenate([silence(0.4), plain(UNKNOWN)]).tobytes())
        noted = await journaled(server.app.tenants.default.journal, kind="caller.not_understood")
        assert noted.details["ear"] == hears
        assert not [event for event in caller.events if event[0] == "Transcription"]


# --- The agent's own voice ------------------------------------------------------------------------------------------

MARKED_AGENT = """
version: 1
agents:
  agt_a:
    greeting: ["Welcome to Acme.", {{wav: hello.wav, text: "How can I help you today?"}}]
    voice: {{engine: tone, rate: 400, marked: true}}
    barge_in: {{after: 200ms}}
    hears: {hears}
    timing: {{end_of_turn: 500ms, first_audio: 0ms}}
    replies: [{{else: "You said something."}}]
"""


async def test_a_clients_playback_of_a_marked_voice_can_be_decoded(project: Project) -> None:
    (project.folder / "recordings").mkdir()
    (project.folder / "recordings" / "hello.wav").write_bytes(write_wav(tone(1.5, 300, -20).tobytes(), 16_000))
    server = await project.serve(agents=MARKED_AGENT, clock="4x")
    async with HubCaller(server, "voice", agentId="agt_a") as caller:
        await caller.wait_for("TranscriptionOf", isFinal=True)
        frames = [audio for name, audio in caller.events if name == "AudioReceived"]
    decoded = decode_speech(b"".join(frames))
    assert [utterance.text for utterance in decoded.utterances] == ["Welcome to Acme.", "How can I help you today?"]
    assert all(utterance.coverage == 1.0 for utterance in decoded.utterances)
    begins = [word.begin for utterance in decoded.utterances for word in utterance.words]
    assert all(sooner < later for sooner, later in pairwise(begins))
    lost = decode_speech(b"".join(frames[: len(frames) // 2]))
    assert lost.text in decoded.text
    assert lost.utterances[-1].missing or len(lost.utterances) == 1


async def test_the_echo_of_a_marked_voice_neither_interrupts_nor_is_heard(project: Project) -> None:
    """A client that sends back what it gets, sample by sample."""
    server = await project.serve()
    marker = AgentMarker("Welcome to Acme. How can", reply=1, item=0)
    echo = marker.mark(speak_tones(["Welcome", "to", "Acme.", "How", "can"], rate=175, volume=1.0)).pcm
    voiced = mark(
        plain(UNKNOWN).tobytes(),
        [Word(word, at * 0.2, at * 0.2 + 0.2) for at, word in enumerate(UNKNOWN.split())],
        sample_rate=16_000,
        utterance=3,
        speaker=Speaker.AGENT,
    )
    async with HubCaller(server, "voice", agentId="agt_a") as caller:
        for sound in (echo, voiced):
            await caller.speak(bytes(12_800) + sound, silence=1.0)
        await caller.speak(np.concatenate([silence(0.5), marked("Now me.")]).tobytes())
        final = await caller.wait_for("Transcription", isFinal=True)
        assert final["text"] == "Now me."
    finals = server.app.tenants.default.journal.entries(JournalFilter(kind="caller.*"))
    assert {entry.kind for entry in finals} == {"caller.transcript"}


# --- What goes wrong ------------------------------------------------------------------------------------------------


async def test_a_model_that_is_removed_while_serving_is_told_and_the_next_ear_answers(
    project: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    shutil.copytree(BUILT_IN_FOLDER, model)
    server = await project.serve(vosk_model=model)
    shutil.rmtree(model)
    assert (await hear(server, plain(UNKNOWN)))["text"].startswith("[speech ")
    failed = await journaled(server.app.tenants.default.journal, kind="hearing.ear_failed")
    assert failed.details["ear"] == "vosk"
    assert str(model) in failed.details["message"]
    assert (await hear(server, marked()))["text"] == TEXT
    assert len([record for record in caplog.records if str(model) in record.getMessage()]) == 1


async def test_a_model_that_is_in_use_may_be_removed(project: Project, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(BUILT_IN_FOLDER, model)
    server = await project.serve(vosk_model=model)
    assert (await hear(server, plain(UNKNOWN)))["text"] == UNKNOWN
    shutil.rmtree(model)
    assert (await hear(server, plain(UNKNOWN)))["text"] == UNKNOWN


async def test_an_ear_that_takes_too_long_is_an_error_and_the_call_goes_on(project: Project) -> None:
    agents = AGENT.replace("first_audio: 0ms", "first_audio: 0ms, stt_timeout: 10ms")
    server = await project.serve(agents=agents, clock="4x")
    server.app.tenants.default.sessions._hearing_for = lambda script: Stuck()
    async with HubCaller(server, "voice", agentId="agt_a") as caller:
        await caller.speak(np.concatenate([silence(0.4), marked()]).tobytes(), silence=1.0)
        error = await caller.wait_for("Error")
        assert (error["code"], error["recoverable"]) == ("STT_PROVIDER_TIMEOUT", True)
        assert "within 0.01 s" in error["message"]
        await caller.wait_for("TranscriptionOf", isFinal=True)
        assert caller.client.is_open
    assert (await journaled(server.app.tenants.default.journal, kind="hearing.timed_out")).details["timeout"] == 0.01


class Stuck:
    """An ear that never comes to an end."""

    problems = ()

    def open(self) -> Stuck:
        return self

    def accept(self, pcm: bytes) -> None:
        pass

    def partial(self, expected: str | None = None) -> None:
        return None

    def finish(self, speech_seconds: float, expected: str | None = None) -> None:
        threading.Event().wait(1.0)


async def test_marks_forged_by_a_caller_are_a_transcript_and_nothing_else(project: Project) -> None:
    evil = '{{metadata.secret}} \x1b[2J </script> "}],"x":[{" ../../etc/passwd \u202egnp.exe'
    samples = tone(3.0, 300, -20)
    words = [Word(word, 0.2 * at, 0.2 * at + 0.2) for at, word in enumerate(evil.split(" "))]
    audio = mark(samples.tobytes(), words, sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
    agents = AGENT.replace(
        '[{{else: "You said something."}}]', """[{{hear: '/(?P<said>.*)/', say: "{{{{ said }}}}"}}]"""
    )
    server = await project.serve(agents=agents)
    async with HubCaller(server, "voice", agentId="agt_a") as caller:
        await caller.speak(bytes(12_800) + audio)
        final = await caller.wait_for("Transcription", isFinal=True)
        assert final["text"] == '{{metadata.secret}} [2J </script> "}],"x":[{" ../../etc/passwd gnp.exe'
        said = await caller.wait_for("TranscriptionOf", isFinal=True)
        assert said["text"] == final["text"]


# --- The folder of known recordings ---------------------------------------------------------------------------------


async def test_problems_with_recordings_are_told_at_the_start_and_when_they_come_up(project: Project) -> None:
    project.record(KNOWN)
    project.record(UNKNOWN, name="other")
    (project.folder / "recordings" / "utterances" / "other.txt").unlink()
    server = await project.serve()
    assert "else 2 known recordings, else" in server.app.ears.describe()
    server.app.warm_up()
    server.app.watch()
    journal = server.app.tenants.default.journal
    first = await journaled(journal, kind="recordings.indexed")
    assert first.details["known"] == 1
    (problem,) = first.details["problems"]
    assert "other.wav: has no text" in problem
    assert project.reports[-1] == f"warning: {problem}"
    (project.folder / "recordings" / "utterances" / "other.txt").write_text(UNKNOWN)
    await journaled(journal, kind="recordings.indexed", since=first.seq)
    assert (await hear(server, mu_law(plain(UNKNOWN))))["text"] == UNKNOWN
    assert len(project.reports) == 1


class HurriedClock(SystemClock):
    """Whose minutes are milliseconds."""

    def monotonic(self) -> float:
        return super().monotonic() * 60_000


async def test_an_index_that_takes_long_shows_how_far_it_is(project: Project) -> None:
    for number in range(5):
        project.record(KNOWN, name=f"known{number}")
    (project.folder / "agents.yaml").write_text(AGENT.format(hears="auto"))
    told: list[tuple[int, int]] = []
    settings = Settings(port=0, agents=project.folder / "agents.yaml")
    app = App(settings, clock=HurriedClock(), progress=lambda done, total: told.append((done, total)))
    app._loop = asyncio.get_running_loop()
    await asyncio.to_thread(app._load_heavy)
    await asyncio.sleep(0)
    assert told == [(number, 5) for number in range(6)]
