"""What holds for a call whatever comes in: it ends within its limits, is then silent, and repeats itself exactly."""

from __future__ import annotations

import math
from dataclasses import replace

from fakes import LOUD_FRAME, SILENT_FRAME, LoudnessEndpointer, spoken
from hypothesis import given, settings
from hypothesis import strategies as st
from phone import SUPPORT, script_of

from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.script import (
    AgentScript,
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
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, Framer
from voisnap_mock.engine.call import Call, CallState
from voisnap_mock.engine.events import (
    AgentTranscript,
    AudioArrived,
    AudioReady,
    CallerTranscript,
    Detached,
    DigitPressed,
    Emit,
    Failed,
    FinishRecognition,
    HangupRequested,
    PartlyHeard,
    RecognitionFailed,
    Recognize,
    ReconnectionRequested,
    Resumed,
    SessionEffect,
    SessionEnded,
    SessionEvent,
    Started,
    SynthesisFailed,
    Synthesize,
    Synthesized,
    Transcribed,
    Transcript,
    VoiceInput,
)

BUSY = script_of(
    SUPPORT,
    timing={"max_idle": 6.0, "max_duration": 30.0, "end_of_turn": 0.1},
    replies=(
        Rule((Hear(phrases=("transfer",)),), ((Say("one moment"),),), transfer=Transfer("+1")),
        Rule((Hear(phrases=("bye",)),), ((),), end=EndReason.AGENT_ENDED),
        Rule((Hear(phrases=("tool",)),), ((CallTool("t", took=0.3), Say("done"), Pause(0.2), PushEvent("E")),)),
        Rule((Dtmf("12"), Dtmf("1")), ((Say("a key"),),)),
        Rule((Silence(2.0),), ((Say("are you there"),),)),
        Rule((Otherwise(),), ((Say("sorry what"),),)),
    ),
)

words = st.sampled_from(["", "hello", "a tool please", "transfer me", "bye", "I want a refund"])
numbers = st.integers(0, 6)
inputs = st.one_of(
    st.just(AudioArrived(LOUD_FRAME)),
    st.just(AudioArrived(SILENT_FRAME)),
    st.sampled_from("0123*#").map(DigitPressed),
    st.builds(PartlyHeard, numbers, st.builds(Transcript, words)),
    st.builds(Transcribed, numbers, st.builds(Transcript, words)),
    st.builds(RecognitionFailed, numbers, st.just("STT_PROVIDER_TIMEOUT"), st.just("slow")),
    st.builds(Synthesized, numbers, numbers, words.map(spoken), st.booleans()),
    st.builds(SynthesisFailed, numbers, numbers, st.just("LLM_PROVIDER_ERROR"), st.just("mute")),
    st.just(ReconnectionRequested()),
    st.just(Detached()),
    st.just(Resumed()),
    st.just(Started()),
    st.just(Failed("LLM_PROVIDER_ERROR", "busy", recoverable=True)),
)
final_inputs = st.one_of(st.just(HangupRequested(EndReason.USER_ENDED)), st.just(Failed("AUTH_FAILED", "expired")))
# A run of frames makes speech and pauses likely; single ones would hardly ever end an utterance.
bursts = st.one_of(
    st.tuples(inputs, st.integers(1, 1)),
    st.tuples(st.sampled_from([AudioArrived(LOUD_FRAME), AudioArrived(SILENT_FRAME)]), st.integers(1, 20)),
)
steps = st.tuples(bursts, st.floats(0, 1.5))
variants = st.sampled_from([BUSY, replace(BUSY, barge_in=None), replace(BUSY, greeting=())])


def make_call(script: AgentScript, *, catch_up: float = 0.06) -> Call:
    endpointer = LoudnessEndpointer(end_of_turn=script.timing.end_of_turn)
    return Call(script, dialogue=Dialogue(script), endpointer=endpointer, catch_up=catch_up)


def events_of(effects: list[SessionEffect]) -> list[SessionEvent]:
    return [effect.event for effect in effects if isinstance(effect, Emit)]


def run(
    script: AgentScript, story: list[tuple[tuple[VoiceInput, int], float]], *, is_helpful: bool
) -> tuple[Call, list[SessionEffect]]:
    """Tell a call a story: each input some times, 20 ms apart, after a wait.

    Args:
        is_helpful: ear and voice answer at once, besides what the story says.
    """
    call = make_call(script)
    log: list[SessionEffect] = []
    now = 0.0

    def give(given: VoiceInput) -> None:
        effects = call.receive(given, now)
        log.extend(effects)
        for effect in effects if is_helpful else ():
            match effect:
                case Synthesize():
                    give(Synthesized(effect.reply, effect.item, spoken(effect.text)))
                case FinishRecognition():
                    give(Transcribed(effect.utterance, Transcript("a tool")))
                case Recognize(wants_partial=True):
                    give(PartlyHeard(effect.utterance, Transcript("a")))
                case _:
                    pass

    give(Started())
    for (told, times), wait in story:
        now += wait
        for _ in range(times):
            give(told)
            now += 0.02
    return call, log


@settings(max_examples=150, deadline=None)
@given(variants, st.lists(steps, max_size=40), st.booleans())
def test_no_story_keeps_a_call_alive_beyond_its_limits(
    script: AgentScript, story: list[tuple[tuple[VoiceInput, int], float]], is_helpful: bool
) -> None:
    call, log = run(script, story, is_helpful=is_helpful)
    now = 0.0
    for _ in range(20_000):
        deadline = call.next_deadline()
        if deadline is None:
            break
        now = max(now, deadline.at)
        log += call.advance(now)
    assert call.state is CallState.ENDED
    ended = [event for event in events_of(log) if isinstance(event, SessionEnded)]
    assert len(ended) == 1
    assert ended[0].duration <= 30.0
    assert events_of(log)[-1] == ended[0]


@settings(max_examples=100, deadline=None)
@given(variants, st.lists(steps, max_size=25), final_inputs, st.lists(inputs, max_size=10))
def test_nothing_comes_after_the_end(
    script: AgentScript,
    story: list[tuple[tuple[VoiceInput, int], float]],
    last: VoiceInput,
    late: list[VoiceInput],
) -> None:
    call, log = run(script, story, is_helpful=True)
    log += call.receive(last, 1_000.0)
    assert isinstance(events_of(log)[-1], SessionEnded)
    for given_late in late:
        assert call.receive(given_late, 1_001.0) == []
    assert call.advance(1e9) == []


@settings(max_examples=75, deadline=None)
@given(variants, st.lists(steps, max_size=25))
def test_the_same_story_has_the_same_effects(
    script: AgentScript, story: list[tuple[tuple[VoiceInput, int], float]]
) -> None:
    assert run(script, story, is_helpful=True)[1] == run(script, story, is_helpful=True)[1]


@settings(max_examples=150, deadline=None)
@given(variants, st.lists(steps, max_size=40), st.booleans())
def test_transcripts_grow_and_close(
    script: AgentScript, story: list[tuple[tuple[VoiceInput, int], float]], is_helpful: bool
) -> None:
    call, log = run(script, story, is_helpful=is_helpful)
    log += call.receive(HangupRequested(EndReason.USER_ENDED), 1_000.0)
    for kind in (CallerTranscript, AgentTranscript):
        shown = ""
        for event in events_of(log):
            if not isinstance(event, kind):
                continue
            assert event.text
            assert event.begin <= event.end + 1e-9
            if event.is_final:
                if kind is AgentTranscript:
                    assert event.text.startswith(shown)
                shown = ""
            else:
                assert len(event.text) > len(shown)
                shown = event.text
        # An agent's partial never stays open; a caller's may, when the call ends in mid-utterance.
        assert shown == "" or kind is CallerTranscript


@settings(max_examples=100, deadline=None)
@given(variants, st.lists(steps, max_size=40))
def test_audio_leaves_in_whole_frames_and_only_while_the_agent_speaks(
    script: AgentScript, story: list[tuple[tuple[VoiceInput, int], float]]
) -> None:
    _, log = run(script, story, is_helpful=True)
    assert all(len(event.pcm) == 960 for event in events_of(log) if isinstance(event, AudioReady))


@settings(max_examples=100, deadline=None)
@given(variants, st.lists(steps, max_size=25), st.lists(st.floats(0.001, 0.5), min_size=1, max_size=10))
def test_how_often_a_driver_looks_changes_nothing(
    script: AgentScript, story: list[tuple[tuple[VoiceInput, int], float]], looks: list[float]
) -> None:
    """With a playout that is never late, deadlines are carried out at their own time."""
    ends = []
    for rhythm in (looks, [7.0]):
        call = make_call(script, catch_up=math.inf)
        log = call.receive(Started(), 0.0)
        for effect in list(log):
            if isinstance(effect, Synthesize):
                log += call.receive(Synthesized(effect.reply, effect.item, spoken(effect.text)), 0.0)
        now, at = 0.0, 0
        while now < 40.0:
            now = min(40.0, now + rhythm[at % len(rhythm)])
            at += 1
            log += call.advance(now)
        ends.append([effect for effect in log if not isinstance(effect, Synthesize)])
    assert ends[0] == ends[1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=60), st.lists(st.booleans(), min_size=1, max_size=40))
def test_chunking_of_the_caller_changes_nothing(sizes: list[int], pattern: list[bool]) -> None:
    """However the samples were chunked, the framer gives the call the same frames, so the same effects."""
    pcm = b"".join((LOUD_FRAME if is_loud else SILENT_FRAME) * 5 for is_loud in pattern)
    logs = []
    for chunk_sizes in ([640], [size * 2 for size in sizes]):
        call = make_call(BUSY, catch_up=math.inf)
        log = call.receive(Started(), 0.0)
        framer = Framer(CALLER_FRAME_BYTES)
        at = frames = number = 0
        while at < len(pcm):
            size = chunk_sizes[number % len(chunk_sizes)]
            for frame in framer.push(pcm[at : at + size]):
                frames += 1
                log += call.receive(AudioArrived(frame), round(frames * 0.02, 9))
            at += size
            number += 1
        logs.append(log)
    assert logs[0] == logs[1]
