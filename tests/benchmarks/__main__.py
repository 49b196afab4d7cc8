"""`python tests/benchmarks [--quick] [CASE ...]`: how fast the mock is, each figure beside a floor of the same run.

Servers run on the first core and callers on the second, where the machine lets them. The machine may be shared, so
believe the ratios and the medians. Exit code 1 when a goal is missed; `--quick` only shows that every case runs.
"""

import argparse
import asyncio
import http.client
import json
import math
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import engine
import fixture
import numpy as np

from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import AgentScript, Voice
from voisnap_mock.audio.endpointing import Endpointer
from voisnap_mock.audio.tts import LocalSynthesizer, say
from voisnap_mock.clock import SystemClock
from voisnap_mock.engine.call import Call
from voisnap_mock.engine.events import AudioArrived, Started
from voisnap_mock.faults.plan import FaultPlan
from voisnap_mock.faults.reading import read_faults
from voisnap_mock.faults.rules import Crossing
from voisnap_mock.journal import Journal
from voisnap_mock.recordings.archive import CallArchive
from voisnap_mock.recordings.recorder import Recorder
from voisnap_mock.signalr import HubClient

HERE = Path(__file__).parent
PYTHON = sys.executable
MOCK = [PYTHON, "-m", "voisnap_mock"]
SERVER_CORE, CALLER_CORE = 0, 1

TALKER = """
version: 1
agents:
  agt_talker:
    greeting: "{text}"
    barge_in: false
    hears: activity
    timing: {{max_idle: 1h, max_duration: 1h}}
  agt_quiet:
    hears: activity
    timing: {{max_idle: 1h, max_duration: 1h}}
  agt_answers:
    timing: {{end_of_turn: 700ms, first_audio: 350ms, max_idle: 1h}}
    replies:
      - else: "Yes, this is an answer."
"""
SENTENCE = "This agent goes on talking so that there is something to carry. "


def start_on(core: int, command: list[str], **pipes: int) -> subprocess.Popen[str]:
    """Start a process on one core, where the machine lets us choose."""
    process = subprocess.Popen(command, text=True, **pipes)
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) >= 2:
        os.sched_setaffinity(process.pid, {core})
    return process


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@contextmanager
def serving(agents: str = TALKER.format(text=SENTENCE * 5)) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """A mock in a process of its own: (process, base URL, seconds from its start to the READY line)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agents.yaml"
        path.write_text(agents)
        began = perf_counter()
        process = start_on(SERVER_CORE, [*MOCK, "serve", str(path), "--port", "0"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith("READY ")), None)
        took = perf_counter() - began
        try:
            assert ready, f"the server ended with {process.wait()} before it was ready"
            yield process, ready.split()[1], took
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


@contextmanager
def script(name: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of this folder that prints its port."""
    process = start_on(SERVER_CORE, [PYTHON, str(HERE / name), "0", *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def load(url: str, calls: int, seconds: float, server: int) -> dict[str, float]:
    """Place calls from another process; adds `cpu_us_per_unit`, the server's CPU time per completion."""
    caller = start_on(
        CALLER_CORE,
        [PYTHON, str(HERE / "load.py"), url, str(calls), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert caller.stderr is not None
    used: dict[str, float] = {}
    for line in caller.stderr:
        used[line.strip()] = cpu_seconds(server)
    stdout, _ = caller.communicate()
    result: dict[str, float] = json.loads(stdout)
    spent = used["measured"] - used["measuring"]
    result["cpu_us_per_unit"] = round(spent * 1e6 / max(1, result["completions"]), 1)
    return result


def token() -> str:
    return subprocess.run([*MOCK, "token"], capture_output=True, text=True, check=True).stdout.strip()


# --- Cases ----------------------------------------------------------------------------------------------------


def start(quick: bool) -> dict[str, object]:
    """Cold process to READY, beside a process that only imports the web framework."""
    rounds = 2 if quick else 9
    ours, bare = [], []
    for _ in range(rounds):
        with serving() as (_, _, took):
            ours.append(took)
        began = perf_counter()
        start_on(SERVER_CORE, [PYTHON, "-c", "import fastapi, uvicorn"]).wait()
        bare.append(perf_counter() - began)
    return {
        "ready_ms": round(median(ours) * 1000),
        "import_fastapi_uvicorn_ms": round(median(bare) * 1000),
        "ratio": round(median(ours) / median(bare), 2),
    }


def calls(quick: bool, most: int = 200) -> dict[str, object]:
    """200 paced calls on one core, or as many as --calls says, all spoken to all the time, beside the floor."""
    number, seconds, rounds = (50, 2.0, 1) if quick else (most, 5.0, 3)
    access = token()
    ours, bare = [], []
    with serving() as (process, base, _), script("floor.py") as (floor_process, floor_base):
        url = f"{base}/hubs/voice?agentId=agt_talker&access_token={access}"
        for _ in range(rounds):
            bare.append(load(f"{floor_base}/hubs/voice?x=1", number, seconds, floor_process.pid))
            ours.append(load(url, number, seconds, process.pid))

    return {"calls": number, **compared(ours, bare)}


def echo(quick: bool, most: int = 200) -> dict[str, object]:
    """The SignalR server alone: an echo hub on the direct road, beside a floor that echoes too."""
    number, seconds, rounds = (50, 2.0, 1) if quick else (most, 5.0, 3)
    ours, bare = [], []
    with script("echo.py") as (process, base), script("floor.py", "echo") as (floor_process, floor_base):
        for _ in range(rounds):
            bare.append(load(f"{floor_base}/hubs/voice?x=1", number, seconds, floor_process.pid))
            ours.append(load(f"{base}/hubs/voice?x=1", number, seconds, process.pid))
    return {"calls": number, **compared(ours, bare)}


def compared(ours: list[dict[str, float]], bare: list[dict[str, float]]) -> dict[str, object]:
    """The medians of the rounds of a server and of its floor."""

    def middle(results: list[dict[str, float]], key: str) -> float:
        return median(result[key] or 0.0 for result in results)

    keys = ("held", "round_trip_ms_p50", "round_trip_ms_p99", "audio_late_ms_p99", "own_lag_ms_p99", "cpu_us_per_unit")
    return {
        **{key: middle(ours, key) for key in keys},
        **{f"floor_{key}": middle(bare, key) for key in keys[1:]},
        "cpu_ratio": round(middle(ours, "cpu_us_per_unit") / middle(bare, "cpu_us_per_unit"), 2),
    }


def virtual(quick: bool) -> dict[str, object]:
    """Five minutes of a scripted call in virtual time: runner, endpointing, dialogue and journal, 50 caller turns.

    Ear and voice are stand-ins that answer at once.
    """
    runs = [asyncio.run(engine.virtual_call()) for _ in range(1 if quick else 5)]
    return {
        "cpu_s_p50": round(median(cost for cost, _ in runs), 3),
        "cpu_s_best": round(min(cost for cost, _ in runs), 3),
        "final_transcripts": runs[0][1],
    }


def crowd(quick: bool) -> dict[str, object]:
    """Virtual calls of a minute, all at the same time on one core: what `virtual` counts, for each."""
    calls = 20 if quick else 1000
    spent, finals = asyncio.run(engine.crowd(calls, 60))
    return {"calls": calls, "cpu_s": round(spent, 1), "final_transcripts": finals}


def thousand(quick: bool) -> dict[str, object]:
    """Virtual calls of five minutes, a hundred at a time. Takes minutes."""
    rounds, calls = (1, 5) if quick else (10, 100)
    runs = [asyncio.run(engine.crowd(calls, 300)) for _ in range(rounds)]
    per_call = [spent / calls for spent, _ in runs]
    return {
        "calls": rounds * calls,
        "cpu_s": round(sum(spent for spent, _ in runs), 1),
        "cpu_s_per_call": round(median(per_call), 3),
        "transcripts_per_call": runs[0][1] / calls,
        "all_alike": len({finals for _, finals in runs}) == 1,
    }


def playout(quick: bool) -> dict[str, object]:
    """Agent audio of one call in real time, as it leaves the runner: the period over a minute, and each lateness."""
    seconds = 2.0 if quick else 60.0
    at = np.array(asyncio.run(engine.playing_out(seconds)))
    period = (at[-1] - at[0]) / (len(at) - 1)
    late = at - at[0] - np.arange(len(at)) * 0.02
    late -= late.min()
    return {
        "frames": len(at),
        "mean_period_ms": round(period * 1000, 4),
        "off_20_ms_by_ms": round(abs(period * 1000 - 20), 4),
        "late_ms_p99": round(float(np.percentile(late, 99)) * 1000, 2),
        "late_ms_max": round(float(late.max()) * 1000, 2),
    }


def turn(quick: bool) -> dict[str, object]:
    """The last sample of caller speech to the first audio of the answer, heard by Vosk, in real time."""
    access = token()
    with serving() as (_, base, _):
        gaps = asyncio.run(answer_gaps(f"{base}/hubs/voice?agentId=agt_answers", access, 2 if quick else 10))
    promised = 0.7 + 0.35
    return {
        "turns": len(gaps),
        "end_of_speech_to_audio_ms_p50": round(median(gaps) * 1000),
        "end_of_speech_to_audio_ms_max": round(max(gaps) * 1000),
        "over_the_agents_own_timing_ms_p50": round((median(gaps) - promised) * 1000),
    }


async def answer_gaps(url: str, access: str, turns: int) -> list[float]:
    speech = np.frombuffer(say("i want a refund"), dtype=np.int16)
    loud = np.flatnonzero(np.abs(speech) > 60)
    speech = speech[: loud[-1] + 1]
    last_frame = (len(speech) - 1) // 320
    caller_turn = speech.tobytes().ljust((last_frame + 1) * 640, b"\0")
    gaps: list[float] = []
    async with HubClient(url, access_token=access) as client:
        first_audio: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        is_quiet = asyncio.Event()

        def on_audio(audio: bytes) -> None:
            if not first_audio.done():
                first_audio.set_result(perf_counter())

        client.on("AudioReceived", on_audio, bytes)
        client.on("TranscriptionOf", lambda said: is_quiet.set() if said["isFinal"] else None)
        silence, number, began = bytes(640), 0, perf_counter()

        async def send(frame: bytes) -> float:
            nonlocal number
            await asyncio.sleep(began + number * 0.02 - perf_counter())
            number += 1
            await client.send("SendAudioAsync", frame)
            return perf_counter()

        for _ in range(turns):
            for _ in range(50):
                await send(silence)
            first_audio = asyncio.get_running_loop().create_future()
            is_quiet.clear()
            for at in range(0, len(caller_turn), 640):
                sent = await send(caller_turn[at : at + 640])
            while not is_quiet.is_set():
                await send(silence)
            # The last frame is sent when it begins: what is in it is heard up to 20 ms later.
            gaps.append(first_audio.result() - sent)
    return gaps


def speech(quick: bool) -> dict[str, object]:
    """A warm speech worker: from asking for a sentence that it never spoke to its first audio."""

    async def first_pieces() -> list[float]:
        synthesizer = LocalSynthesizer()
        await synthesizer.start()
        times = []
        async for _ in synthesizer.speak("Warm up.", Voice()):
            pass
        for number in range(3 if quick else 30):
            began = perf_counter()
            text = f"Thank you for calling, this is sentence number {number}. How can I help you today?"
            first: float | None = None
            async for _ in synthesizer.speak(text, Voice()):
                first = first or perf_counter() - began
            times.append(first or 0.0)
            # Replies of a call do not come back to back either.
            await asyncio.sleep(0.05)
        await synthesizer.close()
        return times

    times = asyncio.run(first_pieces())
    return {
        "first_audio_ms_p50": round(median(times) * 1000, 2),
        "first_audio_ms_max": round(max(times) * 1000, 2),
    }


def idle(quick: bool) -> dict[str, object]:
    """Calls that are open while nobody speaks or sends: what they cost."""
    number, seconds = (20, 1.0) if quick else (200, 10.0)
    access = token()

    async def hold(url: str, server: int, number: int) -> tuple[float, int]:
        before = resident_kb(server)
        clients = [HubClient(url, access_token=access) for _ in range(number)]
        for client in clients:
            await client.start()
        grown = resident_kb(server) - before
        await asyncio.sleep(1.0)
        spent = cpu_seconds(server)
        await asyncio.sleep(seconds)
        spent = cpu_seconds(server) - spent
        for client in clients:
            await client.stop()
        return spent, grown

    with serving() as (process, base, _):
        url = f"{base}/hubs/voice?agentId=agt_quiet"
        # What a first call loads is not a cost of each.
        asyncio.run(hold(url, process.pid, 5))
        spent, grown = asyncio.run(hold(url, process.pid, number))
    return {
        "calls": number,
        "cpu_percent_of_a_core": round(spent / seconds * 100, 2),
        "kb_per_call": round(grown / number, 1),
    }


def frame(quick: bool) -> dict[str, object]:
    """20 ms of caller audio through endpointing and the call machine; what the ear does with it is not counted."""
    seconds = 2 if quick else 60
    speech = say("i want a refund please. " * 3)
    audio = (speech + bytes(32_000)) * 20
    frames = [audio[at : at + 640] for at in range(0, seconds * 32_000, 640)]
    script = parse_agents(TALKER.format(text="Hi."), source="benchmark").agents["agt_quiet"]
    best = math.inf
    for _ in range(3):
        endpointer = Endpointer(end_of_turn=0.7, max_utterance=30.0)
        call = Call(script, dialogue=Dialogue(script), endpointer=endpointer)
        call.receive(Started(), 0.0)
        began = process_time()
        for number, pcm in enumerate(frames):
            call.receive(AudioArrived(pcm), number * 0.02)
        best = min(best, (process_time() - began) / len(frames))
    return {"us_per_frame": round(best * 1e6, 1)}


def journal(quick: bool) -> dict[str, object]:
    """Entries as a call writes them: transcripts, methods, a connection with its query; each redacted."""
    number = 5_000 if quick else 50_000
    entries: tuple[dict[str, object], ...] = (
        {"kind": "caller.transcript", "text": "I want a refund", "is_final": False, "begin": 1.0, "end": 1.2},
        {"kind": "method", "target": "SendDtmfAsync", "digit": "1"},
        {"kind": "audio.in", "target": "SendAudioAsync", "frames": 50, "bytes": 32_000, "crc32": "0a0b0c0d"},
        {"kind": "connection.opened", "query": {"agentId": "agt_support", "access_token": "eyJhbGciOi.abc.def"}},
    )
    details = [{name: value for name, value in entry.items() if name != "kind"} for entry in entries]
    kinds = [str(entry["kind"]) for entry in entries]
    best = math.inf
    for _ in range(5):
        book = Journal(SystemClock())
        began = perf_counter()
        for at in range(number):
            book.append(kinds[at & 3], tenant_id="ten_dev", call_id="conv_1", t=1.25, **details[at & 3])  # type: ignore[arg-type]
        best = min(best, (perf_counter() - began) / number)
    return {"us_per_entry": round(best * 1e6, 2)}


def record(quick: bool) -> dict[str, object]:
    """A frame of 20 ms, of either side, into what is kept of a call: in memory, and with `--record` too."""
    seconds = 20 if quick else 240
    script = parse_agents(TALKER.format(text="Hi."), source="benchmark").agents["agt_quiet"]
    sound = os.urandom(960)
    costs = {}
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder), origin="benchmark", on_loop=lambda call: call(), report=print)
        for name, writer in (("us_per_frame", None), ("us_per_frame_recorded", recorder)):
            best = math.inf
            for turn in range(3):
                archive = CallArchive(Journal(SystemClock()), recorder=writer)
                tap = archive.open(_Quiet(f"conv_{turn}", script), "real")
                began = perf_counter()
                for number in range(seconds * 50):
                    tap.heard(sound[:640], number * 0.02)
                    tap.said(sound, number * 0.02)
                best = min(best, (perf_counter() - began) / (seconds * 100))
                tap.close()
            costs[name] = round(best * 1e6, 2)
        recorder.close()
    return costs


@dataclass
class _Quiet:
    """A session that nobody plays."""

    id: str
    script: AgentScript
    tenant_id: str = "ten_dev"
    channel: str = "voice"
    status: str = "live"
    started_at: float | None = None
    duration: float | None = None
    reason: str | None = None


def faults(quick: bool) -> dict[str, object]:
    """What a frame of agent audio costs with 50 faults armed, its crossing made and decided.

    One kind waits for other places and turns, one for later times at this place, one fires at every frame. Without
    faults nothing is in the way of a frame: `frame` measures that.
    """
    number = 5_000 if quick else 100_000
    places = ("stt", "llm", "tts", "audio.out", "event.Transcription")
    elsewhere = [
        {"at": places[turn % 5], "when": {"agent": f"agt_{turn % 7}", "turn": turn}, "do": {"slow": "1s"}}
        for turn in range(1, 51)
    ]
    later = [{"at": "audio.out", "when": {"call_after": f"{9_000 + at}s"}, "do": {"slow": "1s"}} for at in range(50)]
    fires = [{"at": "audio.out", "do": {"impair": {"loss": 0.1}}}, *elsewhere[1:]]

    def cost(rules: list[dict[str, object]]) -> float:
        plan = FaultPlan(1)
        plan.load(read_faults({"faults": rules}, source="benchmark"))
        plan.session_opened("conv_1")
        best = math.inf
        for _ in range(5):
            began = perf_counter()
            for at in range(number):
                plan.decide(Crossing("audio.out", at * 0.02, "conv_1", "agt_3", "voice", at // 5_000))
            best = min(best, (perf_counter() - began) / number)
        return round(best * 1e6, 2)

    waiting = max(cost(elsewhere), cost(later))
    return {"us_per_crossing": waiting, "us_per_firing": cost(fires)}


def webrtc_load(url: str, access: str, calls: int, seconds: float, rounds: int, server: int) -> dict[str, float]:
    """Place calls over WebRTC from another process; adds the server's CPU time while they talk."""
    caller = start_on(
        CALLER_CORE,
        [PYTHON, str(HERE / "webrtc_load.py"), url, access, str(calls), str(seconds), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert caller.stderr is not None
    used: dict[str, float] = {}
    for line in caller.stderr:
        used[line.strip()] = cpu_seconds(server)
    stdout, _ = caller.communicate()
    result: dict[str, float] = json.loads(stdout)
    return {**result, "cpu_percent_per_call": round((used["measured"] - used["measuring"]) / seconds / calls * 100, 2)}


def journaled(base: str, kind: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{base}/__voisnap/journal?kind={kind}") as response:
        entries: list[dict[str, Any]] = json.load(response)["data"]
    return entries


def webrtc(quick: bool) -> dict[str, object]:
    """25 calls over WebRTC on one core, all spoken to and all speaking: set-up, and how punctual audio goes out.

    `sent_late_ms_p99` is the worst call's, by the server's own clock; `audio_late_ms_p99` is seen by the callers, whose
    process shares the machine. One call is placed before, so that nobody waits for the media library.
    """
    number, seconds = (3, 1.0) if quick else (25, 8.0)
    access = token()
    with serving() as (process, base, _):
        webrtc_load(base, access, 1, 0.2, 1, process.pid)
        result = webrtc_load(base, access, number, seconds, 1, process.pid)
        heard = [entry["after"] for entry in journaled(base, "webrtc.media") if entry["direction"] == "in"][1:]
        sent = [entry["latenessMs"]["p99"] for entry in journaled(base, "webrtc.closed")][1:]
    return {
        "calls": number,
        **result,
        "offer_to_caller_heard_ms_p50": round(median(heard) * 1000, 1),
        "sent_late_ms_p99": max(sent),
    }


def redial(quick: bool) -> dict[str, object]:
    """Two hundred calls over WebRTC that come and go: what is left of them, their journal and audio included."""
    rounds = 5 if quick else 200
    access = token()

    def left(server: int) -> tuple[int, int, int]:
        tasks, files = Path(f"/proc/{server}/task"), Path(f"/proc/{server}/fd")
        return resident_kb(server), len(list(tasks.iterdir())), len(list(files.iterdir()))

    with serving() as (process, base, _):
        # What the first calls load and fill, pools and caches, is not a growth.
        webrtc_load(base, access, 1, 0.05, max(5, rounds // 4), process.pid)
        before = left(process.pid)
        webrtc_load(base, access, 1, 0.05, rounds, process.pid)
        after = left(process.pid)
    grown = [end - start for start, end in zip(before, after, strict=True)]
    return {
        "calls": rounds,
        "kb_grown_per_call": round(grown[0] / rounds, 1),
        "threads_grown": grown[1],
        "files_grown": grown[2],
    }


def fixture_(quick: bool) -> dict[str, object]:
    """What a test-suite pays: the first server and further ones, a test with a call of half a minute, 200 of these."""
    return fixture.figures(quick=quick)


def tenants(quick: bool) -> dict[str, object]:
    """Making a tenant with agents of its own and ending it, over HTTP on one connection."""
    number = 20 if quick else 300
    body = json.dumps({"agents": {"agents": {"agt_desk": {"greeting": "Hello."}}}, "seed": 1})
    headers = {"Content-Type": "application/json"}
    times = []
    with serving() as (_, base, _):
        connection = http.client.HTTPConnection(base.removeprefix("http://"))
        for _ in range(number + 5):
            began = perf_counter()
            connection.request("POST", "/__voisnap/tenants", body, headers)
            made = json.loads(connection.getresponse().read())
            connection.request("DELETE", f"/__voisnap/tenants/{made['tenantId']}")
            assert not connection.getresponse().read()
            times.append(perf_counter() - began)
        connection.close()
    # The first ones load what the later ones have.
    times = sorted(times[5:])
    return {
        "made_and_ended_ms_p50": round(median(times) * 1000, 2),
        "made_and_ended_ms_p99": round(times[int(len(times) * 0.99)] * 1000, 2),
    }


CASES = {
    "start": start,
    "calls": calls,
    "echo": echo,
    "turn": turn,
    "speech": speech,
    "idle": idle,
    "frame": frame,
    "record": record,
    "virtual": virtual,
    "crowd": crowd,
    "playout": playout,
    "journal": journal,
    "tenants": tenants,
    "faults": faults,
    "webrtc": webrtc,
    "redial": redial,
    "fixture": fixture_,
    "thousand": thousand,
}
GOALS = {
    "start": {"ready_ms": 500.0},
    "calls": {"round_trip_ms_p99": 20.0, "audio_late_ms_p99": 20.0},
    "echo": {"cpu_ratio": 1.6},
    "turn": {"over_the_agents_own_timing_ms_p50": 40.0},
    "speech": {"first_audio_ms_p50": 3.0},
    "idle": {"cpu_percent_of_a_core": 1.0},
    "frame": {"us_per_frame": 15.0},
    "record": {"us_per_frame": 1.0, "us_per_frame_recorded": 2.0},
    "virtual": {"cpu_s_p50": 0.3},
    "crowd": {"cpu_s": 60.0},
    "playout": {"off_20_ms_by_ms": 0.01, "late_ms_p99": 20.0},
    "journal": {"us_per_entry": 3.0},
    "tenants": {"made_and_ended_ms_p50": 5.0},
    "faults": {"us_per_crossing": 2.0},
    "webrtc": {
        "offer_to_answer_ms_p50": 30.0,
        "offer_to_agent_heard_ms_p50": 300.0,
        "offer_to_caller_heard_ms_p50": 300.0,
        "sent_late_ms_p99": 20.0,
    },
    "redial": {"kb_grown_per_call": 50.0, "threads_grown": 2.0, "files_grown": 2.0},
    "fixture": {
        "first_server_ms": 400.0,
        "server_ms": 8.0,
        "stop_ms": 20.0,
        "test_ms": 50.0,
        "tests_s": 15.0,
        "unused_plugin_ms": 15.0,
    },
    "thousand": {"cpu_s_per_call": 0.3},
}
"""By case: the most that a figure may be."""
ON_REQUEST = {"thousand"}
"""Cases that take minutes and only run when they are named."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of {', '.join(CASES)}; all without")
    parser.add_argument("--calls", type=int, default=200, metavar="NUMBER", help="how many `calls` places (200)")
    parser.add_argument("--quick", action="store_true", help="short runs: the figures mean nothing, nor do goals")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = parser.parse_args()
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"no case {', '.join(unknown)}: there are {', '.join(CASES)}")
    results = {}
    missed: list[str] = []
    for name in options.cases or [case for case in CASES if case not in ON_REQUEST]:
        case = partial(CASES[name], most=options.calls) if name in ("calls", "echo") else CASES[name]
        result = results[name] = case(options.quick)
        above = [key for key, most in GOALS[name].items() if not float(str(result[key])) <= most]
        missed += [f"{name}: {key} is {result[key]}, the goal is {GOALS[name][key]:g}" for key in above]
        if not options.json:
            print(f"\n{name}: {(CASES[name].__doc__ or '').strip()}")
            for key, value in result.items():
                goal = f"(at most {GOALS[name][key]:g})" if key in GOALS[name] else ""
                print(f"  {key:34} {value!s:10} {goal}".rstrip())
    if options.json:
        print(json.dumps(results))
    if options.quick:
        return 0
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
