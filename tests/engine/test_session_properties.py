"""What holds for a running session on a virtual clock, whatever client and connection do, in voice and in chat."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal

import numpy as np
from fakes import (
    FakePrompts,
    InlineCrew,
    LoudnessEndpointer,
    RecordingOutlet,
    ScriptedHearing,
    WordVoice,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from phone import SUPPORT, script_of

from voisnap_mock.agents.script import (
    CallTool,
    Dtmf,
    EndReason,
    Hear,
    Otherwise,
    Pause,
    PushEvent,
    Rule,
    Say,
    Silence,
    Transfer,
)
from voisnap_mock.audio.endpointing import Activity
from voisnap_mock.clock import ManualClock
from voisnap_mock.engine.events import (
    AudioArrived,
    AudioReady,
    CancelRequested,
    DigitPressed,
    Failed,
    HangupRequested,
    ReconnectionRequested,
    SessionEnded,
    SessionEvent,
    SessionResumed,
    SessionStarted,
    Started,
    TextArrived,
    UserTyping,
)
from voisnap_mock.engine.runner import Session, SessionTable
from voisnap_mock.engine.runner.pace import Input
from voisnap_mock.errors import ResumeRefused
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal, JournalFilter

MAX_DURATION = 40.0
RESUME_WINDOW = 30.0
SCRIPT = script_of(
    SUPPORT,
    timing={"max_idle": 8.0, "max_duration": MAX_DURATION, "end_of_turn": 0.1},
    replies=(
        Rule((Hear(phrases=("person",)),), ((Say("one moment"),),), transfer=Transfer("+1")),
        Rule((Hear(phrases=("bye",)),), ((),), end=EndReason.AGENT_ENDED),
        Rule((Hear(phrases=("tool",)),), ((CallTool("t", took=0.3), Say("done"), Pause(0.2), PushEvent("E")),)),
        Rule((Dtmf("12"), Dtmf("1")), ((Say("a key"),),)),
        Rule((Silence(2.0),), ((Say("are you there"),),)),
        Rule((Otherwise(),), ((Say("sorry what"),),)),
    ),
)
TEXTS = ["hello", "a tool please", "a person please", "bye", "I want a refund"]


class Recorder(LoudnessEndpointer):
    """Notes which audio the call took, in order."""

    def __init__(self) -> None:
        super().__init__(end_of_turn=SCRIPT.timing.end_of_turn)
        self.taken = bytearray()

    def feed(self, frame: bytes) -> tuple[Activity, ...]:
        self.taken += frame
        return tuple(super().feed(frame))


def spoken_samples(pcm: bytes | bytearray) -> bytes:
    samples = np.frombuffer(bytes(pcm), "<i2")
    return samples[samples != 0].tobytes()


class Client(RuleBasedStateMachine):
    """A client that does anything at any time, with a session that may be lost and taken up again."""

    channel: Literal["voice", "chat"]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.journal = Journal(self.clock)
        self.endpointer = Recorder()
        self.table = SessionTable(
            clock=self.clock,
            ids=IdSource(1),
            journal=self.journal,
            synthesizer=WordVoice(),
            prompts=FakePrompts(),
            hearing_for=lambda script: ScriptedHearing(*TEXTS[1:2], *TEXTS[:1] * 50),
            endpointer_for=lambda script: self.endpointer,
            crew=InlineCrew(),
            mode="virtual",
        )
        self.outlets: list[RecordingOutlet] = []
        self.sent = bytearray()
        self.latest = 0.0

    def wait_for(self, work: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(asyncio.wait_for(work, 5.0))

    async def settle(self) -> None:
        """Let tasks of ear and voice finish; no time passes."""
        for _ in range(100):
            await asyncio.sleep(0)

    def give(self, given: Input) -> None:
        async def do() -> None:
            self.session.receive(given)
            await self.settle()

        self.wait_for(do())

    @property
    def is_connected(self) -> bool:
        return self.session.status == "live"

    @property
    def delivered(self) -> list[SessionEvent]:
        return [event for outlet in self.outlets for event in outlet.delivered]

    # --- What a client may do -----------------------------------------------------------------------------------

    @initialize()
    def begins(self) -> None:
        self.outlets.append(RecordingOutlet())
        opening = self.table.open_call if self.channel == "voice" else self.table.open_chat

        async def do() -> Session:
            session = opening(SCRIPT, tenant_id="ten_dev", outlet=self.outlets[0])
            session.receive(Started())
            await self.settle()
            return session

        self.session = self.loop.run_until_complete(do())

    @rule(seconds=st.floats(0, 12))
    def lets_time_pass(self, seconds: float) -> None:
        self.wait_for(self.session.advance(seconds))

    @rule(seconds=st.floats(0, 100))
    def lets_real_time_pass(self, seconds: float) -> None:
        self.wait_for(self.clock.advance(seconds))

    @rule()
    def waits_for_the_agent(self) -> None:
        async def do() -> None:
            self.session.hurry()
            await self.settle()

        self.wait_for(do())

    @precondition(lambda self: self.is_connected)
    @rule(given=st.sampled_from([ReconnectionRequested(), Started(), Failed("LLM_PROVIDER_ERROR", "busy", True)]))
    def asks(self, given: Input) -> None:
        self.give(given)

    @precondition(lambda self: self.is_connected)
    @rule()
    def loses_the_connection(self) -> None:
        async def do() -> None:
            self.session.detach(self.outlets[-1])
            await self.settle()

        # What is left of a frame goes with the connection.
        del self.sent[len(self.sent) // 640 * 640 :]
        self.wait_for(do())

    @rule()
    def comes_back_or_takes_over(self) -> None:
        outlet = RecordingOutlet()

        async def do() -> None:
            self.table.resume(self.session.id, tenant_id="ten_dev", channel=self.channel, outlet=outlet)
            await self.settle()

        try:
            self.wait_for(do())
        except ResumeRefused:
            assert self.session.is_over
        else:
            del self.sent[len(self.sent) // 640 * 640 :]
            assert isinstance(outlet.delivered[0], SessionResumed)
            self.outlets.append(outlet)

    @precondition(lambda self: self.is_connected)
    @rule(given=st.sampled_from([HangupRequested(EndReason.USER_ENDED), Failed("AUTH_FAILED", "expired")]))
    def gives_up(self, given: Input) -> None:
        self.give(given)
        assert self.session.is_over

    # --- What must hold -----------------------------------------------------------------------------------------

    @invariant()
    def time_never_goes_back_nor_beyond_the_limit(self) -> None:
        if self.outlets:
            assert self.latest <= self.session.t <= MAX_DURATION
            self.latest = self.session.t

    @invariant()
    def the_end_is_said_once_and_last(self) -> None:
        if not self.outlets:
            return
        ends = [event for event in self.delivered if isinstance(event, SessionEnded)]
        journaled = self.journal.entries(JournalFilter(kind="session.ended"))
        assert len(journaled) == self.session.is_over
        assert len(ends) <= 1
        if ends:
            assert self.session.is_over
            assert self.outlets[-1].delivered[-1] == ends[0]

    @invariant()
    def nothing_went_wrong(self) -> None:
        assert self.journal.entries(JournalFilter(kind="defect")) == ()
        if self.outlets:
            assert isinstance(self.outlets[0].delivered[0], SessionStarted)

    def teardown(self) -> None:
        """However the story went: the limits of the call, or the resume window, end it."""
        try:
            if self.outlets:
                self.wait_for(self.session.advance(MAX_DURATION))
                assert self.session.is_over
                self.nothing_went_wrong()
                self.the_end_is_said_once_and_last()
                assert self.table.live_count == 0
        finally:
            self.wait_for(self.table.close())
            self.loop.close()


class Caller(Client):
    channel = "voice"

    @precondition(lambda self: self.is_connected)
    @rule(is_loud=st.booleans(), samples=st.integers(1, 8_000))
    def sends_audio(self, is_loud: bool, samples: int) -> None:
        # Every spoken sample is another one, so that a lost or doubled one shows.
        first = len(self.sent) // 2
        numbers = np.arange(first, first + samples) % 30_000 + 1
        pcm = (numbers * is_loud).astype("<i2").tobytes()
        self.sent += pcm
        self.give(AudioArrived(pcm))

    @precondition(lambda self: self.is_connected)
    @rule(digit=st.sampled_from("0123456789*#"))
    def presses(self, digit: str) -> None:
        self.give(DigitPressed(digit))

    @invariant()
    def every_sample_is_accounted_for(self) -> None:
        """All whole frames were taken, each once and in order, and the time is at least theirs.

        Silence is left out: the call adds some of its own where a caller went away in mid-speech.
        """
        if self.outlets and not self.session.is_over:
            whole = self.sent[: len(self.sent) // 640 * 640]
            assert spoken_samples(self.endpointer.taken) == spoken_samples(whole)
            assert self.session.t >= len(whole) / 32_000 - 1e-6

    @invariant()
    def audio_leaves_in_whole_frames(self) -> None:
        assert all(len(event.pcm) == 960 for event in self.delivered if isinstance(event, AudioReady))


class User(Client):
    channel = "chat"

    @precondition(lambda self: self.is_connected)
    @rule(text=st.sampled_from(TEXTS))
    def writes(self, text: str) -> None:
        self.give(TextArrived(text, {}))

    @precondition(lambda self: self.is_connected)
    @rule(given=st.sampled_from([UserTyping(), CancelRequested()]))
    def types_or_cancels(self, given: Input) -> None:
        self.give(given)


TestCaller = Caller.TestCase
TestCaller.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestUser = User.TestCase
TestUser.settings = TestCaller.settings
