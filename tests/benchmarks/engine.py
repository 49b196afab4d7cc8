"""`python tests/benchmarks/engine.py`: what the engine costs, without sockets, recogniser or voice.

microseconds of CPU per 20 ms frame    listening, with and without the endpointer; the caller speaking; the agent
                                       speaking (one frame in, one frame out)
the shared ticker                      200 calls that all play, in per cent of a core
virtual time                           seconds of CPU for a scripted call of five minutes
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, process_time

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))
from fakes import LOUD_FRAME, SILENT_FRAME, FakePrompts, InlineCrew, RecordingOutlet, ScriptedHearing, WordVoice
from phone import SILENT, SUPPORT, script_of

from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.script import AgentScript, Say
from voisnap_mock.audio.endpointing import Activity, Endpointer, SpeechBegan
from voisnap_mock.clock import SystemClock
from voisnap_mock.engine.call import Call
from voisnap_mock.engine.events import AudioArrived, AudioReady, Speech, Started, Synthesized
from voisnap_mock.engine.ports import Endpointer as AnyEndpointer
from voisnap_mock.engine.runner import ClockMode, SessionTable
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal

ENDLESS = {"max_idle": 1e6, "max_duration": 1e6}


class NoEndpointer:
    """Costs nothing; with `is_speech` all is one utterance."""

    def __init__(self, *, is_speech: bool = False) -> None:
        self.position = self.speech_seconds = 0.0
        self.pre_roll = b""
        self._is_speech = is_speech

    def feed(self, frame: bytes) -> Sequence[Activity]:
        self.position += 0.02
        if not self._is_speech:
            return ()
        self.speech_seconds += 0.02
        return (SpeechBegan(0.0),) if self.speech_seconds < 0.03 else ()


def per_frame(script: AgentScript, endpointer: AnyEndpointer, frame: bytes, *, speech: bytes = b"") -> float:
    """Microseconds per frame of caller audio, best of five."""
    call = Call(script, dialogue=Dialogue(script), endpointer=endpointer)
    call.receive(Started(), 0.0)
    call.receive(Synthesized(1, 0, Speech(speech)), 0.0)
    given, now, costs = AudioArrived(frame), 0.0, []
    for _ in range(5):
        began = process_time()
        for _ in range(10_000):
            now += 0.02
            call.receive(given, now)
            call.next_deadline()
        costs.append(process_time() - began)
    return min(costs) / 10_000 * 1e6


def table_of(mode: ClockMode) -> SessionTable:
    clock = SystemClock()
    return SessionTable(
        clock=clock,
        ids=IdSource(1),
        journal=Journal(clock),
        synthesizer=WordVoice(),
        prompts=FakePrompts(),
        hearing_for=lambda script: ScriptedHearing(*["tell me more about it"] * 1_000),
        endpointer_for=lambda script: Endpointer(end_of_turn=0.7, max_utterance=30.0),
        mode=mode,
        crew=InlineCrew(),
    )


class NoOutlet:
    def deliver(self, event: object) -> None:
        pass

    def sever(self, how: str) -> None:
        pass


async def playing(calls: int, seconds: float) -> float:
    """Share of a core that so many calls take whose agents all speak and whose callers send nothing."""
    table = table_of("real")
    script = script_of(greeting=(Say(" ".join(["word"] * 100)),))
    for _ in range(calls):
        session = table.open_call(script, tenant_id="ten_dev", outlet=NoOutlet())
        session.receive(Started())
        await asyncio.sleep(0.0013)
    await asyncio.sleep(0.5)
    cpu, wall = process_time(), monotonic()
    await asyncio.sleep(seconds)
    share = (process_time() - cpu) / (monotonic() - wall)
    await table.close()
    return share


def speech_of_a_second() -> bytes:
    """A second that endpointing believes to be speech: its level moves."""
    loud, soft = ((high * 20 + low * 20) * 8 for high, low in ((b"\x00\x20", b"\x00\xe0"), (b"\x00\x02", b"\x00\xfe")))
    return (loud * 3 + soft * 2) * 10


async def virtual_call() -> tuple[float, int]:
    """Seconds of CPU for five minutes in which the caller speaks 50 times, and how many turns there were."""
    burst = speech_of_a_second()
    table = table_of("virtual")
    outlet = RecordingOutlet()
    session = table.open_call(script_of(timing=ENDLESS), tenant_id="ten_dev", outlet=outlet)
    session.receive(Started())
    await asyncio.sleep(0.01)
    began = process_time()
    session.receive(AudioArrived((burst + SILENT_FRAME * 250) * 50))
    await session.advance(0.0)
    cost = process_time() - began
    assert session.t == 300.0
    finals = sum(getattr(event, "is_final", False) for event in outlet.events)
    await table.close()
    return cost, finals


async def crowd(calls: int, seconds: int) -> tuple[float, int]:
    """Seconds of CPU for so many virtual calls side by side, and how many final transcripts there were.

    Each caller speaks a second of every six. A second of everybody's audio is sent before the next one.
    """
    story = (speech_of_a_second() + SILENT_FRAME * 250) * (seconds // 6)
    table = table_of("virtual")
    outlets = [RecordingOutlet() for _ in range(calls)]
    sessions = [table.open_call(script_of(timing=ENDLESS), tenant_id="ten_dev", outlet=outlet) for outlet in outlets]
    began = process_time()
    for session in sessions:
        # Real time goes by between two pieces: it must not look like a caller who is idle.
        session.hold()
        session.receive(Started())
    for second in range(seconds):
        piece = AudioArrived(story[second * 32_000 : (second + 1) * 32_000])
        for session in sessions:
            session.receive(piece)
        await asyncio.gather(*(session.advance(0.0) for session in sessions))
    cost = process_time() - began
    assert all(session.t == seconds for session in sessions)
    finals = sum(getattr(event, "is_final", False) for outlet in outlets for event in outlet.events)
    await table.close()
    return cost, finals


class TimingOutlet:
    """Notes when each frame of agent audio came."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def deliver(self, event: object) -> None:
        if type(event) is AudioReady:
            self.at.append(monotonic())

    def sever(self, how: str) -> None:
        pass


async def playing_out(seconds: float) -> list[float]:
    """When the frames of an agent came that speaks for so long, in real time."""
    table, outlet = table_of("real"), TimingOutlet()
    script = script_of(greeting=(Say(" ".join(["word"] * round(seconds * 5))),), timing=ENDLESS)
    session = table.open_call(script, tenant_id="ten_dev", outlet=outlet)
    session.receive(Started())
    await asyncio.sleep(seconds + 0.5)
    await table.close()
    return outlet.at


def main() -> None:
    silent, support = script_of(SILENT, timing=ENDLESS), replace(script_of(SUPPORT, timing=ENDLESS), barge_in=None)
    print("us of CPU per 20 ms frame")
    print(f"  listening, no endpointer   {per_frame(silent, NoEndpointer(), SILENT_FRAME):6.2f}")
    real = Endpointer(end_of_turn=0.7, max_utterance=30.0)
    print(f"  listening, endpointer      {per_frame(silent, real, SILENT_FRAME):6.2f}")
    print(f"  the caller speaks          {per_frame(silent, NoEndpointer(is_speech=True), LOUD_FRAME):6.2f}")
    speech = bytes(960 * 60_000)
    print(f"  the agent speaks           {per_frame(support, NoEndpointer(), SILENT_FRAME, speech=speech):6.2f}")
    print(f"200 calls that play: {asyncio.run(playing(200, 4.0)):.1%} of a core")
    cost, finals = asyncio.run(virtual_call())
    print(f"five minutes of virtual time: {cost:.3f} s of CPU, {finals} final transcripts")


if __name__ == "__main__":
    main()
