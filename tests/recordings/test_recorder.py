"""`--record`: what is on the disk, when, and what becomes of a call when the disk does not play along."""

from __future__ import annotations

import asyncio
import filecmp
import json
import os
import resource
import shutil
import signal
import subprocess
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import ServerProgram, run

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.app import App
from voisnap_mock.audio.marking import caller_speech
from voisnap_mock.caller import ChatUser, VoiceCaller
from voisnap_mock.cli.service import Login, access_token
from voisnap_mock.clock import SystemClock
from voisnap_mock.config import CallClock, Settings
from voisnap_mock.errors import ConfigError
from voisnap_mock.journal import JournalFilter
from voisnap_mock.server import MockServer
from voisnap_mock.testing.handset import Handset

AGENTS = """
version: 1
seed: 3
agents:
  agt_shop:
    greeting: Good morning, what can I do for you?
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms, first_audio: 100ms}
    replies:
      - {hear: [refund], say: "Which order, {{ metadata.name }}?"}
      - {dtmf: "0", say: Goodbye., end: agent_ended}
"""
FILES = {"call.json", "events.jsonl", "in.wav", "out.wav", "transcript.vtt"}


def recording(folder: Path, *, clock: CallClock = "virtual", report: Callable[[str], None] | None = None) -> MockServer:
    settings = Settings(port=0, clock=clock, record=folder)
    return MockServer(parse_agents(AGENTS, source="test agents"), settings=settings, report=report)


def converse(caller: Handset) -> None:
    caller.heard()
    caller.say("I want a refund")
    assert caller.heard() == "Which order, Ada?"
    caller.press("0")
    assert caller.heard() == "Goodbye."
    caller.hears_end()


def samples(path: Path) -> tuple[int, int]:
    """Rate and samples, as Python's own reader sees them."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert len(file.readframes(file.getnframes())) == 2 * file.getnframes()
        return file.getframerate(), file.getnframes()


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


# --- what is written --------------------------------------------------------------------------------------------


def test_a_call_leaves_a_folder_that_ordinary_tools_can_read(tmp_path: Path) -> None:
    with recording(tmp_path) as server, server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        converse(caller)
        kept = server.app.tenants.default.calls.folder_files(caller.conversation_id)
    folder = tmp_path / caller.conversation_id

    assert {path.name for path in folder.iterdir()} == FILES
    facts = json.loads((folder / "call.json").read_text())
    assert (facts["id"], facts["status"], facts["reason"]) == (caller.conversation_id, "ended", "agent_ended")
    assert samples(folder / "in.wav") == (16_000, round(facts["durationSeconds"] * 16_000))
    assert samples(folder / "out.wav") == (24_000, round(facts["durationSeconds"] * 24_000))
    kinds = [line["kind"] for line in lines_of(folder)]
    assert (kinds[0], kinds[-1]) == ("session.opened", "session.ended")
    assert "<v caller>I want a refund\n" in (folder / "transcript.vtt").read_text()
    # What the control API gives is what the disk has.
    assert {name: (folder / name).read_bytes() for name in FILES} == kept


def test_the_same_virtual_call_gives_the_same_folder_to_the_byte(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with recording(tmp_path / name) as server, server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
            converse(caller)

    same, different, odd = filecmp.cmpfiles(
        tmp_path / "first" / caller.conversation_id, tmp_path / "second" / caller.conversation_id, FILES, shallow=False
    )
    assert (set(same), different, odd) == (FILES, [], [])


def test_in_real_time_the_sides_are_as_long_as_the_call_and_events_are_dated(tmp_path: Path) -> None:
    with recording(tmp_path, clock="4x") as server, server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
        converse(caller)
    folder = tmp_path / caller.conversation_id
    facts = json.loads((folder / "call.json").read_text())
    assert facts["startedAt"].endswith("Z")
    assert samples(folder / "in.wav")[1] >= round(facts["durationSeconds"] * 16_000)
    assert all(isinstance(line["at"], float) for line in lines_of(folder))


async def _chat(url: str) -> None:
    token = await asyncio.to_thread(access_token, url, Login())
    async with ChatUser(url, "agt_shop", access_token=token, clock=SystemClock()) as user:
        await user.write("refund please")
        await user.floor()
        await user.hang_up()


def test_a_chat_leaves_no_wav_files(tmp_path: Path) -> None:
    with recording(tmp_path) as server:
        asyncio.run(_chat(server.base_url))
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == FILES - {"in.wav", "out.wav"}
    assert "<v caller>refund please\n" in (folder / "transcript.vtt").read_text()


def test_no_credential_is_in_a_record(tmp_path: Path) -> None:
    with (
        recording(tmp_path) as server,
        server.caller("agt_shop", metadata={"name": "eyJhbGciOiJIUzI1.eyJzdWIiOi.c2ln", "apiKey": "s3cret"}) as caller,
    ):
        caller.heard()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".json", ".jsonl", ".vtt"))
    assert b"[redacted]" in written
    assert b"eyJhbGciOi" not in written
    assert b"s3cret" not in written


def test_a_call_that_the_server_ends_when_it_stops_is_recorded_to_its_end(tmp_path: Path) -> None:
    with recording(tmp_path) as server:
        caller = server.caller("agt_shop").__enter__()
        caller.heard()
    folder = tmp_path / caller.conversation_id
    facts = json.loads((folder / "call.json").read_text())
    assert (facts["status"], facts["reason"]) == ("ended", "server_shutdown")
    assert lines_of(folder)[-1]["kind"] == "session.ended"
    assert samples(folder / "in.wav")[1] == round(facts["durationSeconds"] * 16_000)


def test_a_record_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    for _ in range(2):
        with recording(tmp_path) as server, server.caller("agt_shop") as caller:
            caller.heard()
    assert {path.name for path in tmp_path.iterdir()} == {caller.conversation_id, f"{caller.conversation_id}-2"}


# --- when the disk does not play along --------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a file", "a forbidden place"])
def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "file" if where == "a file" else Path("/proc/calls")
    if where == "a file":
        folder.write_text("")
    with pytest.raises(ConfigError, match=rf"--record: calls cannot be recorded in {folder}: .*name a folder that can"):
        App(Settings(record=folder, origins={"record": "--record"}))
    result = run("serve", "--port", "0", "--record", folder, timeout=20)
    assert result.returncode == 3
    assert result.stderr.startswith("error: --record: calls cannot be recorded in")


def test_a_record_that_breaks_off_is_told_once_and_the_call_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    with recording(tmp_path / "calls", report=told.append) as server:
        for _ in range(2):
            with server.caller("agt_shop", metadata={"name": "Ada"}) as caller:
                caller.heard()
                shutil.rmtree(tmp_path / "calls", ignore_errors=True)
                caller.say("I want a refund")
                assert caller.heard() == "Which order, Ada?"
                caller.press("0")
                caller.hears_end()
        journal = server.app.tenants.default.journal
    failed = journal.entries(JournalFilter(kind="recording.failed"))
    assert [entry.call_id for entry in failed].count(caller.conversation_id) == 1
    assert len(failed) == 2
    assert len(told) == 1
    assert "is not recorded any more in" in told[0]
    assert "No such file or directory; the call itself goes on" in told[0]
    assert "name another folder with --record" in told[0]


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of 256 kB at `folder`; False when this user may not have one."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", folder], check=True)


async def _place_call(url: str, seconds: float) -> str | None:
    """A caller who speaks all the time, and hangs up in the end; says with which reason the call ended."""
    token = await asyncio.to_thread(access_token, url, Login())
    noise = os.urandom(640)
    async with VoiceCaller(url, "agt_shop", access_token=token, clock=SystemClock(), speed=None) as caller:
        for _ in range(round(seconds * 10)):
            await caller.transmit(noise * 5)
        ended = await caller.hang_up()
    return None if ended is None else ended.reason


async def test_on_a_full_disk_calls_go_on_and_what_was_written_stays_readable(tmp_path: Path) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text(AGENTS)
    with (
        small_disk(tmp_path / "calls") as is_small,
        ServerProgram(agents, "--clock", "virtual", "--record", tmp_path / "calls") as server,
    ):
        if not is_small:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        for _ in range(2):
            assert await _place_call(server.url, 12.0) == "user_ended"
        warning = await asyncio.to_thread(server.read_until, lambda line: "is not recorded any more" in line)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert [line for line in server.lines if "is not recorded any more" in line] == [warning]
        assert ("No space left on device" if is_small else "File too large") in warning
        first, *_ = sorted((tmp_path / "calls").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        assert samples(first / "in.wav")[1] > 16_000
        assert all(lines_of(first))
        assert json.loads((first / "call.json").read_text())["status"] == "live"


async def test_a_killed_server_leaves_files_that_can_be_read(tmp_path: Path) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text(AGENTS)
    speech = bytes(64_000) + caller_speech("I want a refund", "en-us") + bytes(64_000)
    with ServerProgram(agents, "--clock", "virtual", "--record", tmp_path / "calls") as server:
        token = await asyncio.to_thread(access_token, server.url, Login())
        async with VoiceCaller(server.url, "agt_shop", access_token=token, clock=SystemClock(), speed=None) as caller:
            for at in range(0, len(speech), 3_200):
                await caller.transmit(speech[at : at + 3_200])
            folder = tmp_path / "calls" / caller.session.session_id
            while not (folder / "in.wav").exists() or "refund" not in (folder / "transcript.vtt").read_text():
                await caller.transmit(bytes(3_200))
            server.send_signal(signal.SIGKILL)
            await caller.wait_for_end(within=5.0)

    assert {path.name for path in folder.iterdir()} == FILES
    assert samples(folder / "in.wav")[1] >= 16_000
    assert samples(folder / "out.wav")[1] >= 24_000
    assert lines_of(folder)[0]["kind"] == "session.opened"
    assert json.loads((folder / "call.json").read_text())["status"] == "live"
