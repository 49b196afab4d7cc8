"""Running sessions, on a clock that moves by hand: pacing, workers, lost connections, limits, shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from fakes import (
    LOUD_FRAME,
    SILENT_FRAME,
    FakePrompts,
    HeldCrew,
    InlineCrew,
    LoudnessEndpointer,
    RecordingOutlet,
    ScriptedHearing,
    WordVoice,
    spoken,
)
from phone import SILENT, SUPPORT, script_of

from voisnap_mock.agents.script import AgentScript, EndReason, Fidelity, Limits, Say
from voisnap_mock.audio.stt import EarProblem
from voisnap_mock.clock import ManualClock
from voisnap_mock.engine.events import (
    AgentMessage,
    AgentTranscript,
    AgentTyping,
    AudioArrived,
    AudioReady,
    CallerTranscript,
    HangupRequested,
    ReconnectionRequested,
    SessionEnded,
    SessionEvent,
    SessionFailed,
    SessionResumed,
    SessionStarted,
    Started,
    TextArrived,
    Transcript,
    UserMessage,
    Word,
)
from voisnap_mock.engine.runner import ClockMode, Session, SessionTable
from voisnap_mock.engine.runner.crew import Crew, ThreadCrew
from voisnap_mock.errors import ResumeRefused, SessionLimitReached
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal

Event = TypeVar("Event")


class Studio:
    """A session table with fakes all round."""

    def __init__(
        self,
        *,
        hearing: ScriptedHearing | None = None,
        crew: Crew | None = None,
        mode: ClockMode = "real",
        monotonic: float = 0.0,
        **limits: Any,
    ) -> None:
        self.clock = ManualClock(monotonic=monotonic)
        self.journal = Journal(self.clock)
        self.voice = WordVoice()
        self.hearing = hearing or ScriptedHearing()
        self.table = SessionTable(
            clock=self.clock,
            ids=IdSource(1),
            journal=self.journal,
            synthesizer=self.voice,
            prompts=FakePrompts(),
            hearing_for=lambda script: self.hearing,
            endpointer_for=lambda script: LoudnessEndpointer(end_of_turn=script.timing.end_of_turn),
            limits=Limits(**limits),
            mode=mode,
            crew=crew or InlineCrew(),
        )

    def call(self, script: AgentScript = SUPPORT, **more: Any) -> Line:
        outlet = TimedOutlet(self.clock)
        session = self.table.open_call(script, tenant_id="ten_dev", outlet=outlet, **more)
        return Line(self, session, outlet)

    def chat(self, script: AgentScript = SUPPORT, **more: Any) -> Line:
        outlet = TimedOutlet(self.clock)
        session = self.table.open_chat(script, tenant_id="ten_dev", outlet=outlet, **more)
        return Line(self, session, outlet)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.journal.entries()]

    def entry(self, kind: str) -> dict[str, Any]:
        (entry,) = [entry for entry in self.journal.entries() if entry.kind == kind]
        return dict(entry.details)


class TimedOutlet(RecordingOutlet):
    """Also keeps when each event came."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self.times: list[float] = []

    def deliver(self, event: SessionEvent) -> None:
        self.times.append(self._clock.monotonic())
        super().deliver(event)

    def audio_times(self) -> list[float]:
        return [at for at, event in zip(self.times, self.delivered, strict=True) if isinstance(event, AudioReady)]


@dataclass
class Line:
    """One connection to a session."""

    studio: Studio
    session: Session
    outlet: TimedOutlet

    async def start(self) -> None:
        self.session.receive(Started())
        await self.pass_time(0.0)

    async def pass_time(self, seconds: float) -> None:
        await self.studio.clock.advance(seconds)

    async def play(self, frame: bytes, seconds: float) -> None:
        """Caller audio at its natural pace."""
        for _ in range(round(seconds / 0.02)):
            await self.pass_time(0.02)
            self.session.receive(AudioArrived(frame))
        await self.pass_time(0.0)

    async def say(self, seconds: float = 0.5) -> None:
        await self.play(LOUD_FRAME, seconds)
        await self.play(SILENT_FRAME, 0.7)

    def all(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.outlet.delivered if isinstance(event, kind)]


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    studio = Studio()
    yield studio
    await studio.table.close()


# --- A call, a chat -----------------------------------------------------------------------------------------------


async def test_a_call_from_greeting_to_answer(studio: Studio) -> None:
    studio.hearing = ScriptedHearing("a refund")
    line = studio.call()
    await line.start()
    await line.pass_time(1.0)
    await line.say()
    await line.pass_time(5.0)
    assert line.outlet.events == [
        SessionStarted("Support"),
        AgentTranscript("Hi", False, 0.0, 0.2),
        AgentTranscript("Hi there.", False, 0.0, 0.4),
        AgentTranscript("Hi there.", True, 0.0, 0.4),
        CallerTranscript("a", False, 0.5, "fake", 1.0, 1.3),
        CallerTranscript("a refund", True, 0.9, "fake", 1.0, 1.5),
        *(
            AgentTranscript(text, False, pytest.approx(2.55), pytest.approx(2.75 + at * 0.2))
            for at, text in enumerate(["Sure.", "Sure. What", "Sure. What is", "Sure. What is the"])
        ),
        AgentTranscript("Sure. What is the number?", False, pytest.approx(2.55), pytest.approx(3.55)),
        AgentTranscript("Sure. What is the number?", True, pytest.approx(2.55), pytest.approx(3.55)),
    ]
    assert line.outlet.audio == spoken("Hi there.").pcm + spoken("Sure.").pcm + spoken("What is the number?").pcm


async def test_nothing_is_delivered_before_the_start(studio: Studio) -> None:
    line = studio.call()
    line.session.receive(AudioArrived(LOUD_FRAME))
    await line.pass_time(100)
    assert line.outlet.delivered == []
    assert line.session.t == 0.0


async def test_audio_keeps_its_pace(studio: Studio) -> None:
    line = studio.call(script_of(greeting=(Say(" ".join(["word"] * 100)),)))
    await line.pass_time(0.0013)
    await line.start()
    await line.pass_time(30)
    times = line.outlet.audio_times()
    assert len(times) == 1_000
    assert (times[-1] - times[0]) / 999 == pytest.approx(0.02, abs=3e-6)
    late = [at - 0.0013 - number * 0.02 for number, at in enumerate(times)]
    assert min(late) > -1e-6
    assert max(late) < 0.0021


async def test_pace_survives_a_clock_that_has_run_for_years() -> None:
    studio = Studio(monotonic=3e8)
    line = studio.call()
    await line.start()
    await line.pass_time(1.0)
    assert line.all(AgentTranscript)[-1] == AgentTranscript("Hi there.", True, 0.0, pytest.approx(0.4))
    assert len(line.outlet.audio_times()) == 20
    await studio.table.close()


async def test_at_four_times_the_speed_call_time_is_the_same(studio: Studio) -> None:
    studio = Studio(mode="4x")
    line = studio.call()
    await line.start()
    await line.pass_time(0.2)
    assert line.all(AgentTranscript)[-1] == AgentTranscript("Hi there.", True, 0.0, 0.4)
    assert line.session.t == pytest.approx(0.8)
    await studio.table.close()


@pytest.mark.parametrize("size", [2, 100, 640, 642, 30_000])
async def test_audio_comes_in_pieces_of_any_size(studio: Studio, size: int) -> None:
    studio.hearing = ScriptedHearing("hello")
    line = studio.call(SILENT)
    await line.start()
    pcm = LOUD_FRAME * 20 + SILENT_FRAME * 40
    for at in range(0, len(pcm), size):
        line.session.receive(AudioArrived(pcm[at : at + size]))
    await line.pass_time(0.1)
    assert [event.text for event in line.all(CallerTranscript) if event.is_final] == ["hello"]
    assert studio.hearing.heard_bytes == [(20 + 35) * 640]


async def test_a_prompt_recording_is_played(studio: Studio) -> None:
    line = studio.call(script_of(greeting=(Say("Hello you", wav="hello.wav"),)))
    await line.start()
    await line.pass_time(1.0)
    assert line.outlet.audio == b"\x07\x00" * 12_000
    assert line.all(AgentTranscript)[-1] == AgentTranscript("Hello you", True, 0.0, 0.5)


async def test_a_chat_from_greeting_to_answer(studio: Studio) -> None:
    line = studio.chat(variables={"userName": "Ann"})
    await line.start()
    await line.pass_time(1.0)
    line.session.receive(TextArrived("refund", {}))
    await line.pass_time(1.0)
    finals = [event for event in line.all(AgentMessage) if event.is_final]
    assert [event.text for event in finals] == ["Hi there.", "Sure. What is the number?"]
    assert len({event.message_id for event in finals}) == 2
    assert all(event.message_id.startswith("msg_") for event in finals)


async def test_the_journal_has_everything_and_audio_by_the_second(studio: Studio) -> None:
    studio.hearing = ScriptedHearing("a refund")
    line = studio.call()
    await line.start()
    await line.pass_time(1.0)
    await line.say()
    line.session.receive(HangupRequested(EndReason.USER_ENDED))
    assert studio.kinds() == [
        "session.opened",
        "session.started",
        "turn.answered",
        *["agent.transcript"] * 3,
        "caller.transcript",
        "audio.in",
        "caller.transcript",
        "turn.answered",
        "reply.interrupted",
        "audio.in",
        "audio.out",
        "session.ended",
    ]
    (ended,) = [entry for entry in studio.journal.entries() if entry.kind == "session.ended"]
    assert (ended.call_id, ended.tenant_id, ended.t) == (line.session.id, "ten_dev", 2.2)
    assert ended.details == {"reason": "user_ended", "duration": 2.2}


async def test_a_session_tells_how_it_stands(studio: Studio) -> None:
    line = studio.call()
    assert (line.session.status, line.session.reason, line.session.started_at) == ("live", None, None)
    assert line.session.id.startswith("conv_")
    await line.start()
    await line.pass_time(2.0)
    assert line.session.t == pytest.approx(2.0)
    line.session.receive(HangupRequested(EndReason.TIMEOUT))
    await line.pass_time(5.0)
    assert (line.session.status, line.session.reason) == ("ended", EndReason.TIMEOUT)
    assert line.session.t == line.session.duration == pytest.approx(2.0)
    assert studio.table.get(line.session.id) is None


async def test_an_outlet_may_answer_at_once(studio: Studio) -> None:
    line = studio.call()

    class Impatient(RecordingOutlet):
        def deliver(self, event: SessionEvent) -> None:
            super().deliver(event)
            if isinstance(event, SessionStarted):
                line.session.receive(HangupRequested(EndReason.USER_ENDED))

    outlet = Impatient()
    line.session = studio.table.open_call(SUPPORT, tenant_id="ten_dev", outlet=outlet)
    await line.start()
    assert [type(event) for event in outlet.events] == [SessionStarted, SessionEnded]


async def test_a_defect_ends_its_session_and_no_other(studio: Studio) -> None:
    class Broken(TimedOutlet):
        def deliver(self, event: SessionEvent) -> None:
            if isinstance(event, AudioReady) and len(self.audio_times()) == 5:
                raise ZeroDivisionError("a defect")
            super().deliver(event)

    outlet = Broken(studio.clock)
    session = studio.table.open_call(SUPPORT, tenant_id="ten_dev", outlet=outlet)
    other = studio.call()
    session.receive(Started())
    await other.start()
    await other.pass_time(2.0)
    assert outlet.events[-1] == SessionEnded(EndReason.ERROR, pytest.approx(0.1))
    assert (session.status, session.reason) == ("ended", EndReason.ERROR)
    assert studio.entry("defect") == {"message": "ZeroDivisionError: a defect"}
    assert other.all(AgentTranscript)[-1].is_final
    assert studio.table.sessions == (other.session,)


# --- Many calls -----------------------------------------------------------------------------------------------------


async def test_many_calls_share_the_ticker_and_all_keep_their_pace(studio: Studio) -> None:
    lines = []
    for number in range(40):
        await studio.clock.advance(0.0007)
        line = studio.call(script_of(greeting=(Say("one two three four five"),)))
        line.session.receive(Started())
        lines.append((studio.clock.monotonic(), line))
        assert studio.table.live_count == number + 1
    await studio.clock.advance(2.0)
    for began, line in lines:
        times = line.outlet.audio_times()
        assert len(times) == 50
        assert all(-1e-6 < at - began - frame * 0.02 < 0.03 for frame, at in enumerate(times))
        assert all(after > before for before, after in pairwise(times))


async def test_an_idle_call_sets_no_timer_of_its_own(studio: Studio) -> None:
    line = studio.call(SILENT)
    await line.start()
    before = studio.clock.wakes
    await line.pass_time(14.0)
    assert studio.clock.wakes == before


# --- The ear ----------------------------------------------------------------------------------------------------


async def test_a_slow_ear_does_not_hold_up_the_call() -> None:
    crew = HeldCrew()
    studio = Studio(hearing=ScriptedHearing("a refund"), crew=crew)
    line = studio.call(script_of(greeting=()))
    await line.start()
    await line.say()
    assert line.outlet.events == [SessionStarted("Support")]
    await line.pass_time(3.0)
    crew.work()
    await line.pass_time(0.1)
    assert line.all(CallerTranscript)[-1] == CallerTranscript("a refund", True, 0.9, "fake", 0.0, 0.5)
    assert line.outlet.audio_times()[0] == pytest.approx(4.2)
    await studio.table.close()


@pytest.mark.parametrize("patience", [10.0, 0.5])
async def test_an_ear_that_gives_no_answer_in_time_has_failed(patience: float) -> None:
    crew = HeldCrew()
    studio = Studio(hearing=ScriptedHearing("too late"), crew=crew)
    line = studio.call(script_of(greeting=(), timing={"stt_timeout": patience}))
    await line.start()
    await line.say()
    await line.pass_time(patience - 0.1)
    assert line.all(SessionFailed) == []
    await line.pass_time(0.2)
    (failed,) = line.all(SessionFailed)
    assert failed == SessionFailed(
        "STT_PROVIDER_TIMEOUT", f"Speech recognition gave no answer within {patience:g} s.", recoverable=True
    )
    assert studio.voice.asked == ["Sorry?"]
    crew.work()
    await line.pass_time(0.1)
    assert line.all(CallerTranscript) == []
    assert studio.entry("hearing.timed_out") == {"utterance": 1, "timeout": patience}
    await studio.table.close()


class SlowHearing:
    """Hears "two words", which takes it 0.3 s; one ear of its chain is out of order."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.problems = (EarProblem("vosk", "the model is gone"),)

    def open(self) -> SlowHearing:
        return self

    def accept(self, pcm: bytes) -> None:
        pass

    def partial(self, expected: str | None = None) -> Transcript | None:
        return None

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        self._clock._monotonic += 0.3
        return Transcript("two words", 0.75, "fake", (Word("two", 0.1, 0.2), Word("words", 0.3, 0.38)))


async def test_the_journal_says_all_about_an_utterance() -> None:
    studio = Studio()
    studio.table._hearing_for = lambda script: SlowHearing(studio.clock)
    line = studio.call(SILENT)
    await line.start()
    await line.pass_time(2.0)
    await line.say()
    await line.pass_time(1.0)
    heard = studio.entry("caller.transcript")
    assert heard == {
        "text": "two words",
        "is_final": True,
        "confidence": 0.75,
        "ear": "fake",
        "begin": 2.0,
        "end": 2.5,
        "words": [{"text": "two", "begin": 2.1, "end": 2.2}, {"text": "words", "begin": 2.3, "end": 2.38}],
        "took": 0.3,
    }
    assert studio.entry("hearing.ear_failed") == {"utterance": 1, "ear": "vosk", "message": "the model is gone"}
    await studio.table.close()


async def test_a_partial_is_journaled_without_words() -> None:
    studio = Studio(hearing=ScriptedHearing("a refund"))
    line = studio.call(SILENT)
    await line.start()
    await line.say()
    await line.pass_time(1.0)
    partial = next(entry for entry in studio.journal.entries() if entry.kind == "caller.transcript")
    assert partial.details["is_final"] is False
    assert not {"words", "took"} & partial.details.keys()


async def test_an_ear_that_raises_has_failed_and_hears_the_next_utterance(studio: Studio) -> None:
    studio.hearing = ScriptedHearing(OSError("model gone"), "a refund")
    line = studio.call(script_of(greeting=()))
    await line.start()
    await line.say()
    await line.pass_time(2.0)
    (failed,) = line.all(SessionFailed)
    assert failed == SessionFailed("STT_PROVIDER_TIMEOUT", "Speech recognition failed: OSError: model gone", True)
    assert studio.entry("hearing.failed")["message"] == "OSError: model gone"
    await line.say()
    assert line.all(CallerTranscript)[-1].text == "a refund"
    assert line.session.status == "live"


async def test_ears_that_cannot_be_made_have_failed(studio: Studio) -> None:
    def broken(script: AgentScript) -> ScriptedHearing:
        raise RuntimeError("no ears")

    studio.table._hearing_for = broken
    line = studio.call(SILENT)
    await line.start()
    await line.say()
    await line.pass_time(0.1)
    assert [event.message for event in line.all(SessionFailed)] == ["Speech recognition failed: RuntimeError: no ears"]
    assert line.session.status == "live"


async def test_audio_that_the_ear_cannot_keep_up_with_is_dropped_oldest_first() -> None:
    crew = HeldCrew()
    studio = Studio(hearing=ScriptedHearing("much"), crew=crew)
    line = studio.call(script_of(SILENT, timing={"max_duration": 100.0}))
    await line.start()
    for _ in range(12 * 50):
        line.session.receive(AudioArrived(LOUD_FRAME))
    for _ in range(35):
        line.session.receive(AudioArrived(SILENT_FRAME))
    dropped = [entry.details["bytes"] for entry in studio.journal.entries() if entry.kind == "hearing.audio_dropped"]
    assert len(dropped) > 10
    crew.work()
    assert line.all(CallerTranscript)[-1].text == "much"
    assert sum(studio.hearing.heard_bytes) + sum(dropped) == 635 * 640
    await studio.table.close()


async def test_a_worker_thread_hears_while_the_loop_goes_on() -> None:
    crew = ThreadCrew(2, name="test-ear")
    answered: asyncio.Queue[object] = asyncio.Queue()
    for number in range(5):
        crew.submit(lambda number=number: number * 2, answered.put_nowait)
    crew.submit(lambda: 1 // 0, answered.put_nowait)
    results = [await answered.get() for _ in range(6)]
    assert sorted(result for result in results if isinstance(result, int)) == [0, 2, 4, 6, 8]
    assert [type(result) for result in results if not isinstance(result, int)] == [ZeroDivisionError]
    crew.close()
    crew.submit(lambda: 1, answered.put_nowait)
    assert answered.empty()


# --- The voice ----------------------------------------------------------------------------------------------------


async def test_speech_that_cannot_be_made_is_an_error_and_a_fallback(studio: Studio) -> None:
    line = studio.call(script_of(greeting=(Say("unspeakable"),)))
    await line.start()
    await line.pass_time(2.0)
    assert line.all(SessionFailed) == [SessionFailed("LLM_PROVIDER_ERROR", "the tongue is twisted", True)]
    assert line.all(AgentTranscript)[-1].text == "Sorry?"
    assert studio.entry("speech.failed")["message"] == "the tongue is twisted"


async def test_a_missing_prompt_is_an_error(studio: Studio) -> None:
    line = studio.call(script_of(greeting=(Say("Hello", wav="nowhere.wav"),)))
    await line.start()
    assert line.all(SessionFailed) == [SessionFailed("LLM_PROVIDER_ERROR", "there is no prompt 'nowhere.wav'", True)]


async def test_a_voice_that_never_answers_is_given_up(studio: Studio) -> None:
    line = studio.call(script_of(greeting=(Say("endless"),), timing={"max_duration": 100.0}))
    await line.start()
    await line.pass_time(20.1)
    assert line.all(SessionFailed) == [SessionFailed("LLM_PROVIDER_ERROR", "The voice gave nothing for 20 s.", True)]
    assert studio.voice.abandoned == 1


async def test_speech_for_an_interrupted_reply_is_abandoned(studio: Studio) -> None:
    line = studio.call(script_of(greeting=(Say("endless"),)))
    await line.start()
    await line.play(LOUD_FRAME, 0.3)
    assert studio.voice.abandoned == 1
    await line.pass_time(30)
    assert line.all(SessionFailed) == []


# --- Connections --------------------------------------------------------------------------------------------------


async def test_a_lost_connection_is_waited_for(studio: Studio) -> None:
    line = studio.call()
    await line.start()
    line.session.detach(line.outlet)
    assert line.session.status == "waiting"
    await line.pass_time(29.0)
    assert line.session.status == "waiting"
    await line.pass_time(1.1)
    assert line.session.status == "ended"
    assert line.session.reason is EndReason.DISCONNECTED
    assert line.all(SessionEnded) == []


async def test_a_resumed_session_replays_what_was_missed_but_no_audio(studio: Studio) -> None:
    line = studio.call(script_of(greeting=(Say("one two three four"),)))
    await line.start()
    await line.pass_time(0.3)
    line.session.detach(line.outlet)
    await line.pass_time(0.3)
    fresh = TimedOutlet(studio.clock)
    resumption = studio.table.resume(line.session.id, tenant_id="ten_dev", channel="voice", outlet=fresh)
    assert (resumption.session, resumption.displaced) == (line.session, None)
    assert line.session.status == "live"
    assert fresh.delivered == [
        SessionResumed("The session goes on over a new connection."),
        AgentTranscript("one two", False, 0.0, 0.4),
        AgentTranscript("one two three", False, 0.0, 0.6),
    ]
    await line.pass_time(0.3)
    assert fresh.events[-1] == AgentTranscript("one two three four", True, 0.0, 0.8)
    assert len(fresh.audio) == 9 * 960 or len(fresh.audio) == 10 * 960
    await line.pass_time(60)
    assert fresh.events[-1].reason is EndReason.IDLE_TIMEOUT


async def test_a_resumed_chat_replays_the_messages_that_were_missed(studio: Studio) -> None:
    line = studio.chat()
    await line.start()
    await line.pass_time(1)
    line.session.receive(TextArrived("refund", {}))
    line.session.detach(line.outlet)
    await line.pass_time(1)
    fresh = TimedOutlet(studio.clock)
    studio.table.resume(line.session.id, tenant_id="ten_dev", channel="chat", outlet=fresh)
    assert isinstance(fresh.events[0], SessionResumed)
    assert [event.text for event in fresh.events if isinstance(event, AgentMessage) and event.is_final] == [
        "Sure. What is the number?"
    ]
    assert fresh.events[-1] == AgentTyping(False)


async def test_a_second_connection_takes_over(studio: Studio) -> None:
    line = studio.call(SILENT)
    await line.start()
    fresh = TimedOutlet(studio.clock)
    resumption = studio.table.resume(line.session.id, tenant_id="ten_dev", channel="voice", outlet=fresh)
    assert resumption.displaced is line.outlet
    line.session.detach(line.outlet)
    assert line.session.status == "live"
    line.session.receive(ReconnectionRequested())
    assert line.outlet.events == [SessionStarted("Silent")]
    assert [type(event) for event in fresh.events] == [SessionResumed, SessionResumed]


async def test_half_a_frame_of_the_lost_connection_is_forgotten(studio: Studio) -> None:
    studio.hearing = ScriptedHearing("hello")
    line = studio.call(SILENT)
    await line.start()
    line.session.receive(AudioArrived(LOUD_FRAME[:301]))
    line.session.detach(line.outlet)
    studio.table.resume(line.session.id, tenant_id="ten_dev", channel="voice", outlet=line.outlet)
    await line.say(0.1)
    assert studio.hearing.heard_bytes == [40 * 640]


@pytest.mark.parametrize(
    ("session_id", "tenant", "channel", "why"),
    [
        ("conv_unknown", "ten_dev", "voice", "session 'conv_unknown' is not known here"),
        ("live", "ten_other", "voice", "belongs to another tenant than 'ten_other'"),
        ("live", "ten_dev", "chat", "is a voice session, it cannot be resumed as chat"),
        ("ended", "ten_dev", "voice", "is over (user_ended)"),
        ("new", "ten_dev", "voice", "has not begun yet"),
    ],
)
async def test_a_resume_that_is_refused_says_why(
    studio: Studio, session_id: str, tenant: str, channel: Any, why: str
) -> None:
    line = studio.call(SILENT)
    if session_id != "new":
        await line.start()
    if session_id == "ended":
        line.session.receive(HangupRequested(EndReason.USER_ENDED))
    wanted = session_id if session_id.startswith("conv_") else line.session.id
    with pytest.raises(ResumeRefused, match=r"session .conv_") as refused:
        studio.table.resume(wanted, tenant_id=tenant, channel=channel, outlet=RecordingOutlet())
    assert why in str(refused.value)


async def test_what_is_kept_for_a_lost_connection_is_bounded(studio: Studio) -> None:
    line = studio.chat(script_of(SILENT))
    await line.start()
    line.session.detach(line.outlet)
    for number in range(1_002):
        line.session.receive(TextArrived(str(number), {}))
    fresh = TimedOutlet(studio.clock)
    studio.table.resume(line.session.id, tenant_id="ten_dev", channel="chat", outlet=fresh)
    assert fresh.events[1:] == [UserMessage(str(number)) for number in range(2, 1_002)]
    assert studio.kinds().count("session.missed_event_dropped") == 2


async def test_a_webrtc_session_ends_with_its_connection(studio: Studio) -> None:
    line = studio.call(channel="webrtc")
    await line.start()
    line.session.detach(line.outlet)
    assert (line.session.status, line.session.reason) == ("ended", EndReason.DISCONNECTED)


async def test_a_session_that_never_began_ends_with_its_connection(studio: Studio) -> None:
    line = studio.call()
    line.session.detach(line.outlet)
    assert line.session.status == "ended"
    assert studio.table.live_count == 0


# --- Limits and the end ---------------------------------------------------------------------------------------------


async def test_no_more_sessions_than_allowed() -> None:
    studio = Studio(max_sessions=2)
    first = studio.call()
    studio.chat()
    with pytest.raises(SessionLimitReached, match="2 sessions are live"):
        studio.call()
    first.session.receive(HangupRequested(EndReason.USER_ENDED))
    studio.call()
    studio.table.configure(limits=Limits(), fidelity=Fidelity())
    studio.call()
    await studio.table.close()


async def test_new_settings_count_for_new_sessions(studio: Studio) -> None:
    studio.table.configure(limits=Limits(), fidelity=Fidelity(chat_chunks="off", resume_window=5.0))
    line = studio.chat()
    await line.start()
    await line.pass_time(1.0)
    assert [event.is_final for event in line.all(AgentMessage)] == [True]
    line.session.detach(line.outlet)
    await line.pass_time(5.1)
    assert line.session.status == "ended"


async def test_shutdown_ends_every_session(studio: Studio) -> None:
    lines = [studio.call(), studio.chat(), studio.call(script_of(greeting=(Say("endless"),)))]
    for line in lines:
        await line.start()
    waiting = studio.call()
    await waiting.start()
    waiting.session.detach(waiting.outlet)
    await studio.table.close()
    assert all(line.outlet.events[-1].reason is EndReason.SERVER_SHUTDOWN for line in lines)
    assert waiting.session.reason is EndReason.SERVER_SHUTDOWN
    assert studio.table.live_count == 0
    assert studio.voice.abandoned == 1


async def test_shutdown_does_not_wait_for_an_ear_that_hangs() -> None:
    crew = HeldCrew()
    studio = Studio(hearing=ScriptedHearing("x"), crew=crew)
    line = studio.call(SILENT)
    await line.start()
    await line.say()
    await studio.table.close()
    assert line.session.status == "ended"


async def test_what_comes_after_the_end_is_ignored(studio: Studio) -> None:
    line = studio.call(SILENT)
    await line.start()
    line.session.receive(HangupRequested(EndReason.USER_ENDED))
    for given in (AudioArrived(LOUD_FRAME), Started(), HangupRequested(EndReason.TIMEOUT)):
        line.session.receive(given)
    line.session.detach(line.outlet)
    await line.pass_time(60)
    assert line.outlet.events[-1] == SessionEnded(EndReason.USER_ENDED, 0.0)
    assert studio.kinds().count("session.ended") == 1
