"""Faults inside a session: each point and action round a pure call or chat, in exact call time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))
from phone import SILENT, SUPPORT, Phone, script_of

from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.script import AgentScript, Dtmf, EndReason, Otherwise, Rule, Say
from voisnap_mock.engine.call import Call
from voisnap_mock.engine.chat import Chat
from voisnap_mock.engine.events import (
    AgentMessage,
    AgentTranscript,
    AudioArrived,
    AudioReady,
    CallerTranscript,
    Detached,
    DigitPressed,
    Emit,
    HangupRequested,
    Note,
    ReconnectionRequested,
    Resumed,
    SessionEffect,
    SessionEnded,
    SessionEvent,
    SessionFailed,
    SessionResumed,
    SessionStarted,
    Sever,
    Started,
    TextArrived,
)
from voisnap_mock.engine.ports import Machine
from voisnap_mock.faults.machine import FaultyMachine
from voisnap_mock.faults.plan import FaultPlan
from voisnap_mock.faults.reading import read_faults

BYE = script_of(
    SILENT,
    greeting=(Say("Hello there you."),),
    replies=(Rule((Otherwise(),), ((Say("Good bye."),),), end=EndReason.AGENT_ENDED),),
)


def plan_of(faults: str, seed: int = 1) -> FaultPlan:
    plan = FaultPlan(seed, tenant="ten_dev")
    plan.load(read_faults(faults, source="faults"))
    plan.session_opened("conv_1")
    return plan


def phone(faults: str, script: AgentScript = SUPPORT, *, plan: FaultPlan | None = None, **more: Any) -> Phone:
    found = plan or plan_of(faults)

    def decorate(call: Call) -> Machine:
        return FaultyMachine(
            call,
            plan=found,
            session="conv_1",
            agent=script.id,
            channel="voice",
            first_audio=script.timing.first_audio,
        )

    return Phone(script, decorate=decorate, **more)


def severed(line: Phone) -> list[tuple[float, str]]:
    return [(t, effect.how) for t, effect in line.log if isinstance(effect, Sever)]


def said(line: Phone) -> list[str]:
    return [event.text for event in line.all(AgentTranscript) if event.is_final]


def fired(line: Phone) -> list[tuple[float, str, str]]:
    return [
        (t, effect.details["fault"], effect.details["point"])
        for t, effect in line.log
        if isinstance(effect, Note) and effect.kind == "fault.fired"
    ]


# --- stt --------------------------------------------------------------------------------------------------------


def test_an_ear_that_fails_does_so_in_the_turn_and_so_much_later() -> None:
    line = phone(
        "{id: slow, at: stt, when: {turn: 2}, do: {error: STT_PROVIDER_TIMEOUT, after: 3s}}",
        understood=["refund", "twelve"],
    )
    line.start()
    line.wait(2)
    line.say()
    line.wait(4)
    line.say()
    spoken_until = line.t
    line.wait(5)
    (failed,) = line.all(SessionFailed)
    assert (failed.code, failed.recoverable) == ("STT_PROVIDER_TIMEOUT", True)
    assert failed.message == "the fault 'slow' of the mock"
    assert line.times(SessionFailed) == [round(spoken_until + 3, 9)]
    assert [event.text for event in line.all(CallerTranscript) if event.is_final] == ["refund"]
    assert said(line)[-1] == "Sorry?"
    assert fired(line) == [(spoken_until, "slow", "stt")]


def test_a_failure_that_is_not_recoverable_ends_the_call() -> None:
    line = phone("{at: stt, do: {error: STT_PROVIDER_TIMEOUT, recoverable: false, message: Ouch}}", understood=["yes"])
    line.start()
    line.wait(1)
    line.say()
    assert [event for event in line.events if isinstance(event, SessionFailed | SessionEnded)] == [
        SessionFailed("STT_PROVIDER_TIMEOUT", "Ouch", recoverable=False),
        SessionEnded(EndReason.ERROR, line.t),
    ]
    assert line.machine.is_over


def test_a_slow_ear_holds_back_what_comes_after_it() -> None:
    line = phone("{at: stt, do: {slow: 3s}, times: 1}", SILENT, understood=["one", "two"])
    line.start()
    line.say(0.4)
    first = line.t
    line.say(0.4)
    line.wait(5)
    finals = [
        (t, event.text)
        for t, event in zip(line.times(CallerTranscript), line.all(CallerTranscript), strict=True)
        if event.is_final
    ]
    assert finals == [(round(first + 3, 9), "one"), (round(first + 3, 9), "two")]


def test_what_is_held_back_shows_in_the_deadline() -> None:
    line = phone("{at: stt, do: {slow: 3s}}", SILENT, understood=["one"])
    line.start()
    line.say(0.4)
    deadline = line.machine.next_deadline()
    assert deadline is not None
    assert (deadline.at, deadline.waits_for_caller) == (round(line.t + 3, 9), False)


@pytest.mark.parametrize(("do", "texts"), [("silence: true", []), ("replace: I want a refund", ["I want a refund"])])
def test_an_ear_may_understand_nothing_or_something_else(do: str, texts: list[str]) -> None:
    line = phone(f"{{at: stt, do: {{{do}}}}}", understood=["hello"])
    line.start()
    line.wait(2)
    line.say()
    line.wait(3)
    assert [event.text for event in line.all(CallerTranscript) if event.is_final] == texts
    assert said(line) == (["Hi there.", "Sure. What is the number?"] if texts else ["Hi there."])


def test_the_text_is_a_condition_and_turns_are_counted_before_the_rule_came() -> None:
    plan = plan_of("[]")
    line = phone("", SILENT, plan=plan, understood=["one", "two", "three"])
    line.start()
    line.say(0.4)
    plan.arm(read_faults("[{id: a, at: stt, when: {turn: 2, text: TWO}, do: {replace: four}}]", source="x"))
    line.say(0.4)
    line.say(0.4)
    assert [event.text for event in line.all(CallerTranscript) if event.is_final] == ["one", "four", "three"]


# --- llm --------------------------------------------------------------------------------------------------------


def test_a_failing_model_is_told_and_the_agent_falls_back() -> None:
    line = phone("{at: llm, do: {error: LLM_PROVIDER_ERROR, after: 2s}, times: 1}", understood=["refund", "refund"])
    line.start()
    line.wait(2)
    line.say()
    asked = line.t
    line.wait(6)
    line.say()
    line.wait(4)
    assert line.times(SessionFailed)[0] == pytest.approx(asked + 2)
    assert said(line) == ["Hi there.", "Sorry?", "Sure. What is the number?"]


def test_a_model_that_fails_for_good_ends_the_call() -> None:
    line = phone("{at: llm, do: {error: AUTH_FAILED}}", understood=["refund"])
    line.start()
    line.wait(2)
    line.say()
    assert [type(event) for event in line.events[-2:]] == [SessionFailed, SessionEnded]
    assert line.all(SessionEnded)[0].reason is EndReason.ERROR


def test_a_slow_model_answers_so_much_later() -> None:
    def first_audio_of_the_answer(faults: str) -> float:
        line = phone(faults, script_of(greeting=()), understood=["refund"])
        line.start()
        line.say()
        line.wait(9)
        return line.times(AudioReady)[0]

    usual = first_audio_of_the_answer("[]")
    assert first_audio_of_the_answer("{at: llm, do: {slow: 3s}}") == pytest.approx(usual + 3)


@pytest.mark.parametrize(
    ("do", "texts"), [("silence: true", ["Hi there."]), ("replace: No way.", ["Hi there.", "No way."])]
)
def test_a_model_may_say_nothing_or_something_else(do: str, texts: list[str]) -> None:
    line = phone(f"{{at: llm, when: {{text: refund}}, do: {{{do}}}}}", understood=["refund please"])
    line.start()
    line.wait(2)
    line.say()
    line.wait(4)
    assert said(line) == texts


def test_keys_are_answered_by_the_model_too() -> None:
    script = script_of(SILENT, replies=(Rule((Dtmf("5"),), ((Say("Five."),),)),))
    line = phone("{at: llm, do: {replace: Six.}}", script)
    line.start()
    line.give(DigitPressed("5"))
    line.wait(2)
    assert said(line) == ["Six."]


# --- tts --------------------------------------------------------------------------------------------------------


def test_a_failing_voice_is_told_and_the_agent_falls_back() -> None:
    line = phone("{at: tts, when: {text: number}, do: {error: LLM_PROVIDER_ERROR, after: 1s}}", understood=["refund"])
    line.start()
    line.wait(2)
    line.say()
    asked = line.t
    line.wait(5)
    assert line.times(SessionFailed) == [pytest.approx(asked + 1)]
    assert said(line) == ["Hi there.", "Sorry?"]


@pytest.mark.parametrize("point", ["stt", "llm", "tts"])
def test_a_delay_adds_to_that_of_a_failure(point: str) -> None:
    rules = f"[{{at: {point}, when: {{turn: 1}}, do: {{slow: 2s}}}}, {{at: {point}, when: {{turn: 1}}, do: "
    line = phone(rules + "{error: LLM_PROVIDER_ERROR, after: 1s}, times: 1}]", understood=["refund"])
    line.start()
    line.wait(2)
    line.say()
    asked = line.t
    line.wait(5)
    assert line.times(SessionFailed) == [pytest.approx(asked + 3)]


def test_a_slow_voice_delays_its_audio() -> None:
    line = phone("{at: tts, do: {slow: 2s}}")
    line.start()
    line.wait(4)
    assert line.times(AudioReady)[0] == 2.0
    assert said(line) == ["Hi there."]


def test_a_silent_voice_is_silent_for_as_long_as_it_would_have_spoken() -> None:
    line, usual = phone("{at: tts, do: {silence: true}}"), phone("[]")
    for one in (line, usual):
        one.start()
        one.wait(3)
    assert {event.pcm for event in line.all(AudioReady)} == {bytes(960)}
    assert line.times(AudioReady) == usual.times(AudioReady)
    assert said(line) == said(usual) == ["Hi there."]


def test_a_voice_may_say_something_else_than_the_transcript() -> None:
    line = phone("{at: tts, do: {replace: Some other four words here}}")
    line.start()
    line.wait(3)
    assert len(line.all(AudioReady)) == 50
    assert said(line) == ["Hi there."]


def test_a_voice_that_waits_for_an_interrupted_reply_is_not_asked_any_more() -> None:
    line = phone("{at: tts, when: {turn: 1}, do: {slow: 5s}}", understood=["refund", "refund"])
    line.start()
    line.wait(2)
    line.say()
    line.speak(1)
    line.hush(0.7)
    line.wait(9)
    assert [text for text in said(line) if text.startswith("Sure")] == ["Sure. What is the number?"]


# --- audio ------------------------------------------------------------------------------------------------------


def test_agent_audio_may_come_later_all_of_it() -> None:
    line, usual = phone("{at: audio.out, do: {slow: 500ms}}"), phone("[]")
    for one in (line, usual):
        one.start()
        one.wait(3)
    assert line.times(AudioReady) == pytest.approx([t + 0.5 for t in usual.times(AudioReady)])
    assert [e.pcm for e in line.all(AudioReady)] == [e.pcm for e in usual.all(AudioReady)]
    assert len(fired(line)) == 1


@pytest.mark.parametrize("late", [20, 30, 40, 100])
def test_what_comes_in_time_again_does_not_overtake_what_is_due_at_that_moment(late: int) -> None:
    """Frames of one word are alike: some of these delays end between two words."""
    usual = phone("[]", BYE)
    usual.start()
    usual.wait(3)
    for skip in range(20):
        line = phone(f"{{at: audio.out, do: {{slow: {late}ms}}, skip: {skip}, times: 5}}", BYE)
        line.start()
        line.wait(3)
        assert [e.pcm for e in line.all(AudioReady)] == [e.pcm for e in usual.all(AudioReady)], skip


def test_audio_may_be_silent_from_a_position_on_and_for_a_while() -> None:
    line = phone("{id: hole, at: audio.out, when: {audio_after: 100ms}, do: {silence: true}, for: 99ms}")
    line.start()
    line.wait(3)
    silent = [number for number, event in enumerate(line.all(AudioReady)) if event.pcm == bytes(960)]
    assert silent == [5, 6, 7, 8, 9]


def test_caller_audio_may_be_silent_so_that_nobody_is_heard() -> None:
    line = phone("{at: audio.in, do: {silence: true}}", SILENT, understood=["hello"])
    line.start()
    line.say()
    assert not line.all(CallerTranscript)


def test_caller_audio_that_comes_later_is_heard_later() -> None:
    line = phone("{at: audio.in, do: {slow: 400ms}}", SILENT, understood=["hello"])
    line.start()
    line.say(0.4)
    spoken_until = line.t
    line.wait(1)
    assert line.times(CallerTranscript)[-1] == pytest.approx(spoken_until + 0.4)


def test_a_session_may_fail_at_a_place_of_its_audio() -> None:
    line = phone("{at: audio.in, when: {audio_after: 1s}, do: {error: STT_PROVIDER_TIMEOUT}, times: 1}", SILENT)
    line.start()
    line.hush(3)
    assert line.times(SessionFailed) == [1.02]


@pytest.mark.parametrize("how", ["reset", "close", "close_no_reconnect", "stall", "half_open"])
def test_the_connection_is_lost_at_a_place_of_the_audio(how: str) -> None:
    line = phone(f"{{at: audio.out, when: {{audio_after: 200ms}}, do: {{drop: {how}}}}}")
    line.start()
    line.wait(3)
    assert severed(line) == [(0.2, how)]


def test_a_connection_that_came_back_is_lost_again_unless_the_rule_is_spent() -> None:
    for times, count in (("", 2), (", times: 1", 1)):
        line = phone(f"{{at: audio.out, when: {{audio_after: 100ms}}, do: {{drop: reset}}{times}}}")
        line.start()
        line.wait(0.2)
        line.give(Detached())
        line.wait(0.1)
        line.give(Resumed())
        line.wait(1)
        assert len(severed(line)) == count


def test_a_bad_line_loses_agent_frames_and_silences_the_callers() -> None:
    line = phone("{at: [audio.in, audio.out], do: {impair: {loss: 1}}}", SUPPORT, understood=["hello"])
    line.start()
    line.wait(2)
    line.say()
    assert not line.all(AudioReady)
    assert not line.all(CallerTranscript)
    assert said(line) == ["Hi there."]


def test_a_line_that_jitters_keeps_the_order_and_one_that_reorders_does_not() -> None:
    def frames(impair: str) -> list[bytes]:
        line = phone(f"{{at: audio.out, do: {{impair: {{{impair}}}}}}}", script_of(greeting=(Say("a b c d e f g h"),)))
        line.start()
        line.wait(6)
        return [event.pcm for event in line.all(AudioReady)]

    usual = frames("gain_db: 0")
    assert frames("jitter: 60ms") == usual
    mixed = frames("reorder: 0.3")
    assert mixed != usual
    assert sorted(mixed) == sorted(usual)


# --- start, reconnect, end ----------------------------------------------------------------------------------------


def test_a_session_that_begins_late_takes_what_came_meanwhile_then() -> None:
    line = phone("{at: start, do: {slow: 2s}}")
    line.start()
    line.wait(1.9)
    assert not line.events
    line.give(HangupRequested(EndReason.USER_ENDED))
    line.wait(1)
    assert [type(event) for event in line.events] == [SessionStarted, SessionEnded]
    assert line.times(SessionStarted) == [2.0]


def test_nobody_waits_for_the_beginning_at_the_end_of_the_server() -> None:
    line = phone("{at: start, do: {slow: 2s}}")
    line.start()
    line.give(HangupRequested(EndReason.SERVER_SHUTDOWN))
    assert line.machine.is_over


def test_a_session_that_fails_at_its_start_had_started() -> None:
    line = phone("{at: start, do: {error: AGENT_INACTIVE}}")
    line.start()
    assert [type(event) for event in line.events] == [SessionStarted, SessionFailed, SessionEnded]


def test_a_connection_is_lost_so_long_after_the_start() -> None:
    line = phone("{at: start, do: {drop: close, after: 3s}}")
    line.start()
    line.wait(5)
    assert severed(line) == [(3.0, "close")]


def test_a_reconnection_that_was_asked_for_may_fail_or_take_long() -> None:
    line = phone("{at: reconnect, do: {slow: 2s}, times: 1}")
    line.start()
    line.give(ReconnectionRequested())
    line.wait(3)
    assert line.times(SessionResumed) == [2.0]
    line = phone("{at: reconnect, do: {error: RECONNECT_FAILED}}")
    line.start()
    line.give(ReconnectionRequested())
    assert not line.all(SessionResumed)
    assert [type(event) for event in line.events[-2:]] == [SessionFailed, SessionEnded]


def test_an_end_may_come_later_and_nothing_else_happens_till_then() -> None:
    line = phone("{at: end, do: {slow: 2s}}")
    line.start()
    line.wait(0.1)
    line.give(HangupRequested(EndReason.USER_ENDED))
    assert not line.machine.is_over
    line.hush(1)
    line.wait(2)
    assert line.times(SessionEnded) == [2.1]
    assert line.all(SessionEnded)[0].duration == 0.1
    assert line.machine.is_over


def test_an_end_that_is_held_back_comes_at_once_when_the_server_stops() -> None:
    line = phone("{at: end, do: {slow: 1h}}")
    line.start()
    line.give(HangupRequested(EndReason.USER_ENDED))
    line.give(HangupRequested(EndReason.SERVER_SHUTDOWN))
    assert line.machine.is_over


def test_the_end_of_the_server_is_not_held_back() -> None:
    line = phone("{at: end, do: {slow: 1h}}")
    line.start()
    line.give(HangupRequested(EndReason.SERVER_SHUTDOWN))
    assert line.machine.is_over
    assert line.times(SessionEnded) == [0.0]


def test_an_end_may_be_kept_from_the_client() -> None:
    line = phone("{at: end, do: {silence: true}}")
    line.start()
    line.give(HangupRequested(EndReason.USER_ENDED))
    (end,) = [effect for _, effect in line.log if isinstance(effect, Emit) and isinstance(effect.event, SessionEnded)]
    assert not end.is_shown
    assert line.machine.is_over


def test_a_connection_lost_at_the_end_gets_no_end() -> None:
    line = phone("{at: end, do: {drop: reset}}")
    line.start()
    line.give(HangupRequested(EndReason.USER_ENDED))
    assert [type(effect.event) if isinstance(effect, Emit) else type(effect) for _, effect in line.log[-2:]] == [
        Sever,
        SessionEnded,
    ]


@pytest.mark.parametrize("late", ["20ms", "40ms", "1s"])
def test_delayed_audio_is_played_before_the_agent_ends_the_call(late: str) -> None:
    line = phone(f"{{at: audio.out, do: {{slow: {late}}}}}", BYE, understood=["bye"])
    line.start()
    line.wait(3)
    line.say()
    line.wait(5)
    assert len(line.all(AudioReady)) == 50
    assert line.times(SessionEnded)[0] >= line.times(AudioReady)[-1]


def test_a_session_may_end_by_itself_in_the_moment_in_which_something_held_back_is_due() -> None:
    def call(max_duration: float | None) -> Phone:
        script = script_of(timing={"max_duration": max_duration})
        line = phone("{at: stt, do: {slow: 3s}}", script, understood=["refund"])
        line.start()
        line.say()
        line.wait(5)
        return line

    (due,) = [
        t
        for t, event in zip(call(None).times(CallerTranscript), call(None).all(CallerTranscript), strict=True)
        if event.is_final
    ]
    assert [event.reason for event in call(due).all(SessionEnded)] == [EndReason.MAX_DURATION]


@pytest.mark.parametrize("point", ["start", "stt", "llm", "tts", "audio.in", "audio.out", "reconnect", "end"])
def test_the_connection_may_be_lost_everywhere(point: str) -> None:
    line = phone(f"{{at: {point}, do: {{drop: reset}}, times: 1}}", understood=["refund"])
    line.start()
    line.wait(2)
    line.give(ReconnectionRequested())
    line.say()
    line.wait(3)
    line.give(HangupRequested(EndReason.USER_ENDED))
    assert [how for _, how in severed(line)] == ["reset"]
    assert line.machine.is_over


# --- Chat -------------------------------------------------------------------------------------------------------


class Keyboard:
    """A user of a pure chat behind faults."""

    def __init__(self, faults: str, script: AgentScript = SUPPORT) -> None:
        chat = Chat(script, dialogue=Dialogue(script), new_message_id=lambda: "msg_1", chunks="off")
        self.machine = FaultyMachine(
            chat,
            plan=plan_of(faults),
            session="conv_1",
            agent=script.id,
            channel="chat",
            first_audio=script.timing.first_audio,
        )
        self.t = 0.0
        self.log: list[tuple[float, SessionEffect]] = []
        self.give(Started())
        self.wait(1)

    def give(self, given: Any) -> None:
        self.log += [(self.t, effect) for effect in self.machine.receive(given, self.t)]

    def write(self, text: str) -> None:
        self.give(TextArrived(text, {}))
        self.wait(1)

    def wait(self, seconds: float) -> None:
        until = round(self.t + seconds, 9)
        while (deadline := self.machine.next_deadline()) is not None and deadline.at <= until:
            self.t = max(self.t, deadline.at)
            self.log += [(self.t, effect) for effect in self.machine.advance(self.t)]
        self.t = until

    def shown(self) -> list[str]:
        return [e.event.text for _, e in self.log if isinstance(e, Emit) and isinstance(e.event, AgentMessage)]

    def all(self, kind: type[SessionEvent]) -> list[tuple[float, SessionEvent]]:
        return [(t, e.event) for t, e in self.log if isinstance(e, Emit) and isinstance(e.event, kind)]


def test_the_model_of_a_chat_fails_at_the_message() -> None:
    chat = Keyboard("{at: llm, when: {turn: 2}, do: {error: LLM_PROVIDER_ERROR, after: 500ms}}")
    chat.write("refund")
    chat.write("refund")
    chat.write("refund")
    assert chat.shown() == ["Hi there.", "Sure. What is the number?", "Sorry?", "Sure. What is the number?"]
    assert [(t, type(event)) for t, event in chat.all(SessionFailed)] == [(2.5, SessionFailed)]


@pytest.mark.parametrize(
    ("do", "shown"),
    [("silence: true", []), ("replace: No.", ["No."]), ("slow: 2s", []), ("error: AUTH_FAILED", [])],
)
def test_the_model_of_a_chat_is_silent_says_something_else_is_slow_or_ends_it(do: str, shown: list[str]) -> None:
    chat = Keyboard(f"{{at: llm, do: {{{do}}}}}")
    chat.write("refund")
    assert chat.shown()[1:] == shown
    chat.wait(2)
    assert chat.shown()[1:] == (["Sure. What is the number?"] if do.startswith("slow") else shown)
    assert chat.machine.is_over == ("AUTH_FAILED" in do)


def test_start_reconnect_and_end_are_points_of_a_chat_too() -> None:
    chat = Keyboard("[{at: start, do: {slow: 500ms}}, {at: reconnect, do: {slow: 1s}}, {at: end, do: {slow: 1s}}]")
    chat.give(ReconnectionRequested())
    chat.wait(2)
    chat.give(HangupRequested(EndReason.USER_ENDED))
    chat.wait(2)
    times = [chat.all(kind)[0][0] for kind in (SessionStarted, SessionResumed, SessionEnded)]
    assert times == [0.5, 2.0, 4.0]


# --- The same again ---------------------------------------------------------------------------------------------

CHAOS = (
    "[{id: line, at: [audio.in, audio.out], do: {impair: {loss: 0.1, burst: 2, jitter: 40ms, reorder: 0.05,"
    " duplicate: 0.05, drift_ppm: 900}}}, {id: ear, at: stt, do: {error: STT_PROVIDER_TIMEOUT, after: 1s}, rate: 0.3},"
    " {id: model, at: llm, do: {slow: 2s}, rate: 0.4}, {id: voice, at: tts, do: {silence: true}, every: 3}]"
)


def run(seed: int, steps: list[float]) -> list[tuple[float, str]]:
    line = phone("", plan=plan_of(CHAOS, seed), understood=["refund", "no", "refund", "yes"])
    line.start()
    for seconds in steps:
        line.wait(seconds)
    for _ in range(4):
        line.say(0.6)
        line.wait(3)
    return [(round(t, 6), repr(effect)) for t, effect in line.log]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_the_same_seed_gives_the_same_call_however_its_time_is_cut(cuts: list[int], seed: int) -> None:
    pieces = [cut / 100 for cut in cuts]
    whole = round(sum(pieces), 9)
    assert run(seed, pieces) == run(seed, [whole])


def test_another_seed_gives_another_call() -> None:
    assert run(1, [1.0]) != run(2, [1.0])


@given(
    st.lists(st.sampled_from(["say", "hush", "wait", "key", "detach", "resume", "reconnect"]), max_size=12),
    st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_no_faults_leave_a_call_stuck(acts: list[str], seed: int) -> None:
    line = phone("", script_of(timing={"max_duration": 60.0}), plan=plan_of(CHAOS, seed), understood=["refund"] * 12)
    line.start()
    for act in acts:
        match act:
            case "say":
                line.say(0.4)
            case "hush":
                line.give(AudioArrived(bytes(640)))
            case "wait":
                line.wait(1.3)
            case "key":
                line.give(DigitPressed("5"))
            case "detach":
                line.give(Detached())
            case "resume":
                line.give(Resumed())
            case _:
                line.give(ReconnectionRequested())
    line.wait(70)
    assert line.machine.is_over
    assert isinstance(line.events[-1], SessionEnded)
