"""What the turn table of `engine.call` cannot hold; its rows are in `test_turn_table`."""

import math

import pytest
from fakes import LOUD_FRAME, SILENT_FRAME, LoudnessEndpointer, spoken
from phone import SILENT, SUPPORT, Phone, by_hand, heard, listening, script_of, speaking, thinking

from voisnap_mock.agents.dialogue import Dialogue
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
    Voice,
)
from voisnap_mock.engine.call import Call, CallState
from voisnap_mock.engine.events import (
    AbandonSynthesis,
    AgentTranscript,
    AudioArrived,
    AudioReady,
    CallerTranscript,
    Deadline,
    Detached,
    DigitPressed,
    Emit,
    EventPushed,
    Failed,
    FinishRecognition,
    HangupRequested,
    Note,
    PartlyHeard,
    RecognitionFailed,
    Recognize,
    ReconnectionRequested,
    Resumed,
    SessionEnded,
    SessionFailed,
    SessionResumed,
    SessionStarted,
    Started,
    SynthesisFailed,
    Synthesize,
    Synthesized,
    Transcript,
    TransferStarted,
    VoiceInput,
)

VOICE = Voice()
TIMEOUT = RecognitionFailed(1, "STT_PROVIDER_TIMEOUT", "too slow")


# --- NEW ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [AudioArrived(LOUD_FRAME), DigitPressed("1"), heard("hello"), Resumed()])
def test_new_ignores_what_comes_too_early(given: VoiceInput) -> None:
    phone = by_hand()
    assert phone.give(given) == []
    assert phone.call.state is CallState.NEW
    assert phone.call.next_deadline() is None


def test_new_hung_up_ends_without_a_word() -> None:
    phone = by_hand()
    assert phone.give(HangupRequested(EndReason.DISCONNECTED)) == []
    assert phone.call.state is CallState.ENDED


def test_new_failed_shows_the_error_and_no_end_of_a_session_that_never_began() -> None:
    phone = by_hand()
    assert phone.give(Failed("AGENT_INACTIVE", "off")) == [Emit(SessionFailed("AGENT_INACTIVE", "off", False))]
    assert phone.call.is_over


# --- LISTENING ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  ", "I want", "I was", "I"])
def test_listening_partial_that_has_not_grown_is_not_shown(text: str) -> None:
    phone = listening()
    phone.speak(0.4)
    phone.give(PartlyHeard(1, Transcript("I want")))
    assert phone.give(PartlyHeard(1, Transcript(text))) == []


def test_partial_of_another_utterance_is_dropped() -> None:
    phone = listening()
    phone.speak(0.4)
    assert phone.give(PartlyHeard(2, Transcript("I want"))) == []
    phone.hush(0.7)
    assert phone.give(PartlyHeard(1, Transcript("I want"))) == []


def test_partials_are_asked_for_every_partial_every_of_speech() -> None:
    phone = listening()
    phone.speak(1.0)
    phone.hush(0.6)
    asked = [t for t, effect in phone.log if isinstance(effect, Recognize) and effect.wants_partial]
    assert asked == [0.3, 0.6, 0.9]


@pytest.mark.parametrize(("partial_every", "asked"), [(0.02, 10), (0.05, 4), (0.2, 1), (1.0, 0)])
def test_partials_at_any_pace(partial_every: float, asked: int) -> None:
    phone = listening(script_of(SILENT, timing={"partial_every": partial_every}))
    phone.speak(0.2)
    phone.hush(0.7)
    assert sum(order.wants_partial for order in phone.all(Recognize)) == asked


def test_every_sample_of_an_utterance_reaches_the_ear_once() -> None:
    phone = listening()
    phone.hush(0.1)
    phone.speak(0.77 // 0.02 * 0.02)
    phone.hush(0.7)
    pcm = b"".join(order.pcm for order in phone.all(Recognize))
    assert pcm == SILENT_FRAME * 2 + LOUD_FRAME * 38 + SILENT_FRAME * 35


# --- THINKING -------------------------------------------------------------------------------------------------


def test_thinking_nothing_understood_is_no_turn() -> None:
    phone = thinking(script_of(greeting=()))
    assert phone.give(heard("")) == [Note("caller.not_understood", {"begin": 0.0, "end": 0.2, "ear": "fake"})]
    assert phone.call.state is CallState.LISTENING


def test_a_partial_is_always_followed_by_a_final() -> None:
    phone = listening(script_of(greeting=()))
    phone.speak(0.4)
    phone.give(PartlyHeard(1, Transcript("refund")))
    phone.hush(0.7)
    effects = phone.give(heard(""))
    assert effects[0] == Emit(CallerTranscript("refund", True, 0.9, "fake", 0.0, 0.4))


def test_two_utterances_are_joined_to_one_turn() -> None:
    phone = thinking(script_of(greeting=()))
    phone.speak(0.2)
    phone.give(heard("I want"))
    phone.hush(0.7)
    effects = phone.give(heard("a refund", 2))
    assert effects[:2] == [
        Emit(CallerTranscript("a refund", True, 0.9, "fake", 0.9, 1.1)),
        Note("turn.answered", {"matched": "replies[0]", "heard": "I want a refund"}),
    ]


def test_two_utterances_before_any_answer_are_joined_too() -> None:
    phone = thinking(script_of(greeting=()))
    phone.say(0.2)
    phone.give(heard("I want"))
    assert phone.call.state is CallState.THINKING
    assert Note("turn.answered", {"matched": "replies[0]", "heard": "I want a refund"}) in phone.give(
        heard("a refund", 2)
    )


def test_a_text_that_was_held_is_answered_when_the_next_utterance_is_nothing() -> None:
    phone = thinking(script_of(greeting=()))
    phone.speak(0.1)
    phone.give(heard("refund"))
    phone.hush(0.7)
    assert Note("turn.answered", {"matched": "replies[0]", "heard": "refund"}) in phone.give(heard("", 2))


def test_an_answer_that_comes_twice_counts_once() -> None:
    phone = thinking()
    phone.give(heard("hello"))
    assert phone.give(heard("hello")) == []


def test_recognition_failed_without_a_fallback_listens() -> None:
    phone = thinking()
    assert phone.give(TIMEOUT) == [Emit(SessionFailed("STT_PROVIDER_TIMEOUT", "too slow", True))]
    assert phone.call.state is CallState.LISTENING


def test_recognition_failed_in_mid_utterance_gives_that_utterance_up() -> None:
    phone = listening(script_of(greeting=()))
    phone.speak(0.2)
    assert phone.give(TIMEOUT)[0] == Emit(SessionFailed("STT_PROVIDER_TIMEOUT", "too slow", True))
    phone.speak(0.2)
    phone.hush(0.7)
    assert phone.all(FinishRecognition) == []
    assert phone.give(TIMEOUT) == []


# --- SPEAKING -------------------------------------------------------------------------------------------------


def test_speaking_synthesized_plays_twenty_milliseconds_at_a_time() -> None:
    phone = by_hand()
    phone.start()
    speech = spoken("Hi there.")
    assert phone.give(Synthesized(1, 0, speech)) == [Emit(AudioReady(speech.pcm[:960]))]
    assert phone.call.next_deadline() == Deadline(0.02, waits_for_caller=False)
    phone.wait(0.38)
    assert phone.times(AudioReady) == pytest.approx([at * 0.02 for at in range(20)])
    assert b"".join(frame.pcm for frame in phone.all(AudioReady)) == speech.pcm


def test_speaking_shows_words_as_they_are_played_and_the_whole_at_the_end() -> None:
    phone = speaking()
    phone.wait(0.4)
    assert list(zip(phone.times(AgentTranscript), phone.all(AgentTranscript), strict=True)) == [
        (0.18, AgentTranscript("Hi", False, 0.0, 0.2)),
        (0.38, AgentTranscript("Hi there.", False, 0.0, 0.4)),
        (0.4, AgentTranscript("Hi there.", True, 0.0, 0.4)),
    ]
    assert phone.call.state is CallState.LISTENING


def test_speech_in_pieces_plays_without_a_gap() -> None:
    phone = by_hand()
    phone.start()
    phone.give(Synthesized(1, 0, spoken("Hi"), is_last=False))
    phone.wait(0.1)
    phone.give(Synthesized(1, 0, spoken("there."), is_last=False))
    phone.wait(0.1)
    phone.give(Synthesized(1, 0, spoken(""), is_last=True))
    phone.wait(0.2)
    assert phone.times(AudioReady) == pytest.approx([at * 0.02 for at in range(20)])
    assert [event.text for event in phone.all(AgentTranscript)] == ["Hi", "Hi there.", "Hi there."]


def test_speech_that_comes_late_leaves_a_gap() -> None:
    phone = by_hand()
    phone.start()
    phone.give(Synthesized(1, 0, spoken("Hi"), is_last=False))
    phone.wait(1.0)
    phone.give(Synthesized(1, 0, spoken("there."), is_last=True))
    phone.wait(1.0)
    assert phone.times(AudioReady)[9:11] == pytest.approx([0.18, 1.0])
    assert phone.all(AgentTranscript)[-1] == AgentTranscript("Hi there.", True, 0.0, 1.2)


def test_a_recording_without_word_times_shows_words_in_proportion() -> None:
    phone = by_hand(script_of(greeting=(Say("one two", wav="p.wav"),)))
    assert Synthesize(1, 0, "one two", VOICE, "p.wav") in phone.start()
    phone.give(Synthesized(1, 0, type(spoken(""))(bytes(2 * 24_000))))
    phone.wait(1.0)
    partials = [(event.text, event.end) for event in phone.all(AgentTranscript) if not event.is_final]
    assert partials == [("one", pytest.approx(0.44)), ("one two", pytest.approx(1.0))]


@pytest.mark.parametrize("item", [0, 7])
def test_speech_for_another_reply_or_item_is_dropped(item: int) -> None:
    phone = by_hand()
    phone.start()
    assert phone.give(Synthesized(2 if item == 0 else 1, item, spoken("stale"))) == []
    assert phone.call.next_deadline() == Deadline(600.0, waits_for_caller=True)


def test_a_fallback_that_cannot_be_spoken_either_is_left_out() -> None:
    phone = by_hand()
    phone.start()
    phone.give(SynthesisFailed(1, 0, "LLM_PROVIDER_ERROR", "no voice"))
    phone.give(SynthesisFailed(2, 0, "LLM_PROVIDER_ERROR", "no voice"))
    assert phone.call.state is CallState.LISTENING


def test_barge_in_stops_playout_and_reports_played_text() -> None:
    phone = speaking(script_of(greeting=(Say("one two three four"),)), played=0.25)
    phone.speak(0.2)
    assert phone.call.state is CallState.LISTENING
    stopped = [(t, effect) for t, effect in phone.log if t >= 0.44 and not isinstance(effect, Emit)]
    assert stopped[-1] == (
        0.45,
        Note(
            "reply.interrupted",
            {"reply": 1, "heard": "one two", "unheard": "three four", "played": 0.46, "dropped": 0.34},
        ),
    )
    assert phone.all(AgentTranscript)[-1] == AgentTranscript("one two", True, 0.0, 0.45, interrupted=True)
    frames = len(phone.all(AudioReady))
    phone.hush(0.5)
    assert len(phone.all(AudioReady)) == frames


@pytest.mark.parametrize("after", [5, 10, 20], ids=lambda frames: f"after {frames * 20} ms")
@pytest.mark.parametrize("frames", range(42))
def test_barge_in_at_every_frame_of_a_reply(frames: int, after: int) -> None:
    words = ["one", "two", "three", "four"]
    phone = Phone(script_of(greeting=(Say(" ".join(words)),), barge_in=after * 0.02))
    phone.start()
    phone.hush(frames * 0.02)
    began = phone.t
    phone.speak(0.5)
    played = len(phone.all(AudioReady))
    if frames + after < 40:
        # The frame that falls due together with the deciding one is still sent.
        assert phone.times(AudioReady)[-1] <= began + after * 0.02 + 1e-9
        assert played == frames + after + 1
        whole = played // 10
        texts = [event.text for event in phone.all(AgentTranscript) if event.is_final]
        assert texts == [" ".join(words[:whole])] * bool(whole)
        assert all(event.interrupted for event in phone.all(AgentTranscript) if event.is_final)
    else:
        assert played == 40
        assert not phone.all(AgentTranscript)[-1].interrupted


def test_barge_in_before_the_first_word_reports_nothing_as_said() -> None:
    phone = by_hand()
    phone.start()
    phone.speak(0.2)
    assert [type(effect) for _, effect in phone.log[-3:]] == [Recognize, AbandonSynthesis, Note]
    assert phone.all(AgentTranscript) == []
    assert phone.call.state is CallState.LISTENING


def test_speech_shorter_than_barge_in_does_not_interrupt() -> None:
    phone = speaking()
    phone.speak(0.18)
    phone.hush(0.7)
    assert [event.interrupted for event in phone.all(AgentTranscript)] == [False, False, False]


def test_speech_from_before_the_reply_does_not_interrupt_it() -> None:
    script = script_of(SILENT, replies=(Rule((Dtmf("1"),), ((Say("one two three"),),)),))
    phone = Phone(script)
    phone.start()
    phone.speak(0.5)
    phone.give(DigitPressed("1"))
    phone.speak(0.18)
    assert phone.call.state is CallState.SPEAKING
    phone.speak(0.02)
    assert phone.call.state is CallState.LISTENING


def test_without_barge_in_the_utterance_waits_as_the_next_turn() -> None:
    phone = Phone(script_of(barge_in=None, greeting=(Say(" ".join(["word"] * 20)),)), understood=["refund"])
    phone.start()
    phone.hush(0.5)
    phone.say(0.5)
    assert phone.call.state is CallState.SPEAKING
    assert phone.all(CallerTranscript)[-1].text == "refund"
    assert len(phone.all(Synthesize)) == 1
    phone.hush(4.0 - 1.7)
    assert phone.all(Synthesize)[-1] == Synthesize(2, 0, "Sure. What is the number?", VOICE)
    assert phone.times(Synthesize)[-1] == pytest.approx(4.0)


def test_turns_that_wait_are_answered_one_by_one() -> None:
    phone = Phone(script_of(barge_in=None, greeting=(Say(" ".join(["word"] * 20)),)), understood=["refund", "what"])
    phone.start()
    phone.say(0.5)
    phone.say(0.5)
    phone.hush(10)
    assert [order.text for order in phone.all(Synthesize)][1:] == ["Sure. What is the number?", "Sorry?"]


def test_more_turns_than_can_wait_lose_the_oldest() -> None:
    phone = Phone(
        script_of(barge_in=None, greeting=(Say(" ".join(["word"] * 150)),)), understood=[f"t{n}" for n in range(20)]
    )
    phone.start()
    for _ in range(18):
        phone.say(0.5)
    assert phone.call.state is CallState.SPEAKING
    assert phone.notes("turn.dropped") == [{"waiting": 16}] * 2


def test_texts_that_wait_join_what_interrupts() -> None:
    phone = Phone(script_of(greeting=(Say(" ".join(["word"] * 20)),)), understood=["uh", "a refund"])
    phone.start()
    phone.say(0.1)
    assert phone.call.state is CallState.SPEAKING
    phone.say(0.5)
    assert phone.notes("turn.answered")[-1] == {"matched": "replies[0]", "heard": "uh a refund"}


def test_speaking_played_to_its_end_with_an_answer_owed_thinks() -> None:
    phone = speaking(script_of(barge_in=None, greeting=(Say("a b c d e f g h"),)))
    phone.say(0.5)
    phone.hush(0.4)
    assert phone.call.state is CallState.THINKING


# --- First audio, several actions -------------------------------------------------------------------------------


def test_first_audio_comes_its_delay_after_the_end_of_the_turn() -> None:
    phone = Phone(script_of(greeting=()), understood=["refund"])
    phone.start()
    phone.say(0.5)
    phone.hush(1)
    assert phone.t == pytest.approx(2.2)
    assert phone.times(AudioReady)[0] == pytest.approx(0.5 + 0.7 + 0.35)


def test_making_speech_takes_nothing_from_the_delay() -> None:
    phone = thinking(script_of(greeting=()))
    phone.give(heard("refund"))
    phone.wait(0.3)
    phone.give(Synthesized(1, 0, spoken("Sure.")))
    phone.wait(1)
    assert phone.times(AudioReady)[0] == pytest.approx(0.9 + 0.35)


def test_an_ear_that_is_slower_than_the_delay_is_answered_at_once() -> None:
    phone = thinking(script_of(greeting=()))
    phone.wait(2.0)
    phone.give(heard("refund"))
    phone.give(Synthesized(1, 0, spoken("Sure.")))
    assert phone.times(AudioReady)[0] == pytest.approx(2.9)


def test_a_reply_is_its_actions_in_order() -> None:
    greeting = (
        PushEvent("Banner", {"text": "hi"}),
        Pause(1.0),
        Say("one two"),
        CallTool("look_up", {"found": 1}, took=0.5),
        Say("three"),
        PushEvent("Done"),
    )
    phone = Phone(script_of(greeting=greeting))
    phone.start()
    phone.wait(10)
    seen = [
        (t, effect.kind if isinstance(effect, Note) else effect.event)
        for t, effect in phone.log
        if isinstance(effect, Note) or (isinstance(effect, Emit) and not isinstance(effect.event, AudioReady))
    ]
    assert seen == [
        (0.0, SessionStarted("Support")),
        (0.0, "turn.answered"),
        (0.0, EventPushed("Banner", ({"text": "hi"},))),
        (1.18, AgentTranscript("one", False, 1.0, 1.2)),
        (1.38, AgentTranscript("one two", False, 1.0, 1.4)),
        (1.4, "tool.called"),
        (2.08, AgentTranscript("one two three", False, 1.0, 2.1)),
        (2.1, EventPushed("Done")),
        (2.1, AgentTranscript("one two three", True, 1.0, 2.1)),
    ]
    assert phone.times(AudioReady)[20] == pytest.approx(1.9)


def test_sayings_follow_each_other_without_a_gap_and_are_made_one_ahead() -> None:
    phone = Phone(script_of(greeting=(Say("one"), Say("two"), Say("three"))))
    phone.start()
    phone.wait(1.0)
    assert phone.times(AudioReady) == pytest.approx([at * 0.02 for at in range(30)])
    assert phone.times(Synthesize) == pytest.approx([0.0, 0.0, 0.2])
    assert phone.all(AgentTranscript)[-1] == AgentTranscript("one two three", True, 0.0, pytest.approx(0.6))


def test_a_reply_without_words_has_no_transcript() -> None:
    phone = Phone(script_of(greeting=(Pause(0.5), PushEvent("Hello"))))
    phone.start()
    phone.wait(1.0)
    assert phone.all(AgentTranscript) == []
    assert phone.times(EventPushed) == [0.5]
    assert phone.call.state is CallState.LISTENING


# --- Ends -------------------------------------------------------------------------------------------------------


def test_a_transfer_follows_the_reply() -> None:
    rule = Rule((Hear(phrases=("person",)),), ((Say("One moment."),),), transfer=Transfer("+1555", "warm", "asked"))
    phone = Phone(script_of(SILENT, replies=(rule,)), understood=["a person"])
    phone.start()
    phone.say(0.5)
    phone.wait(5)
    assert phone.events[-3:] == [
        AgentTranscript("One moment.", True, pytest.approx(1.55), pytest.approx(1.95)),
        TransferStarted("+1555", "warm", "asked"),
        SessionEnded(EndReason.TRANSFER_COMPLETE, pytest.approx(1.95)),
    ]


def test_an_end_follows_the_reply() -> None:
    rule = Rule((Hear(phrases=("bye",)),), ((Say("Bye."),),), end=EndReason.AGENT_ENDED)
    phone = Phone(script_of(SILENT, replies=(rule,)), understood=["bye"])
    phone.start()
    phone.say(0.5)
    phone.wait(5)
    assert phone.events[-1] == SessionEnded(EndReason.AGENT_ENDED, pytest.approx(1.75))


def test_an_ending_reply_that_is_interrupted_still_ends() -> None:
    rule = Rule((Hear(phrases=("bye",)),), ((Say("Bye bye bye bye bye."),),), end=EndReason.AGENT_ENDED)
    phone = Phone(script_of(SILENT, replies=(rule,)), understood=["bye"])
    phone.start()
    phone.say(0.5)
    phone.wait(0.8)
    phone.speak(0.2)
    assert phone.events[-2:] == [
        AgentTranscript("Bye bye bye", True, pytest.approx(1.55), 2.2, interrupted=True),
        SessionEnded(EndReason.AGENT_ENDED, 2.2),
    ]


def test_a_wrong_turn_of_a_strict_script_ends_with_the_reason_in_the_journal() -> None:
    script = script_of(SILENT, script=(Rule((Hear(phrases=("yes",)),), ((Say("Good."),),), line=7),))
    phone = Phone(script, understood=["no"])
    phone.start()
    phone.say(0.5)
    assert phone.events[-1] == SessionEnded(EndReason.ERROR, 1.2)
    (note,) = phone.notes("script.wrong_turn")
    assert "'no'" in note["reason"]
    assert "line 7" in note["reason"]


def test_steps_of_a_strict_script_that_were_not_reached_are_named_at_the_end() -> None:
    script = script_of(SILENT, script=(Rule((Hear(phrases=("yes",)),), ((Say("Good."),),), line=7),))
    phone = Phone(script)
    phone.start()
    phone.give(HangupRequested(EndReason.USER_ENDED))
    (note,) = phone.notes("script.unused_turns")
    assert "line 7" in note["turns"][0]


def test_the_ear_is_told_what_a_strict_script_expects() -> None:
    script = script_of(SILENT, script=(Rule((Hear(phrases=("yes please",)),), ((Say("Good."),),)),))
    phone = Phone(script, understood=["yes please"])
    phone.start()
    phone.say(0.5)
    assert phone.all(FinishRecognition) == [FinishRecognition(1, 0.5, "yes please")]
    assert {order.expected for order in phone.all(Recognize)} == {"yes please"}


def test_max_duration_ends_whatever_goes_on() -> None:
    phone = Phone(script_of(timing={"max_duration": 2.0}, greeting=(Say(" ".join(["word"] * 50)),)))
    phone.start()
    phone.wait(10)
    assert phone.events[-1] == SessionEnded(EndReason.MAX_DURATION, 2.0)
    assert phone.events[-2] == AgentTranscript(" ".join(["word"] * 10), True, 0.0, 2.0, interrupted=True)


@pytest.mark.parametrize(
    "given",
    [
        Started(),
        AudioArrived(LOUD_FRAME),
        DigitPressed("1"),
        heard("x"),
        Synthesized(1, 0, spoken("x")),
        SynthesisFailed(1, 0, "X", "x"),
        TIMEOUT,
        PartlyHeard(1, Transcript("x")),
        HangupRequested(EndReason.USER_ENDED),
        ReconnectionRequested(),
        Detached(),
        Resumed(),
        Failed("X", "x"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_ended_ignores_everything(given: VoiceInput) -> None:
    phone = speaking()
    phone.give(HangupRequested(EndReason.USER_ENDED))
    assert phone.give(given) == []
    assert phone.call.advance(1e6) == []
    assert phone.call.next_deadline() is None
    assert phone.call.state is CallState.ENDED


# --- Silence ----------------------------------------------------------------------------------------------------

NO_INPUT = Rule((Silence(3.0),), ((Say("Still there?"),),))


def test_silence_counts_from_the_end_of_the_reply() -> None:
    phone = Phone(script_of(replies=(NO_INPUT,)))
    phone.start()
    phone.wait(0.4)
    assert phone.call.next_deadline() == Deadline(3.4, waits_for_caller=True)


def test_silence_counts_from_the_end_of_the_speech() -> None:
    phone = Phone(script_of(SILENT, replies=(NO_INPUT,)), understood=["hm"])
    phone.start()
    phone.say(0.5)
    assert phone.call.next_deadline() == Deadline(3.5, waits_for_caller=True)


def test_a_silence_rule_speaks_once_per_silence_and_does_not_put_off_max_idle() -> None:
    phone = Phone(script_of(SILENT, replies=(NO_INPUT,), timing={"max_idle": 10.0}))
    phone.start()
    phone.wait(20)
    assert [order.text for order in phone.all(Synthesize)] == ["Still there?"]
    assert phone.events[-1] == SessionEnded(EndReason.IDLE_TIMEOUT, 10.0)


def test_speech_makes_it_a_new_silence() -> None:
    phone = Phone(script_of(SILENT, replies=(NO_INPUT,)), understood=["hm"])
    phone.start()
    phone.wait(5)
    phone.say(0.5)
    phone.wait(5)
    assert len(phone.all(Synthesize)) == 2


def test_max_idle_that_passes_during_a_reply_ends_after_it() -> None:
    rule = Rule((Silence(3.0),), ((Say(" ".join(["word"] * 20)),),))
    phone = Phone(script_of(SILENT, replies=(rule,), timing={"max_idle": 5.0}))
    phone.start()
    phone.wait(20)
    assert phone.events[-1] == SessionEnded(EndReason.IDLE_TIMEOUT, 7.0)


def test_no_limit_of_silence_while_the_caller_speaks() -> None:
    phone = Phone(script_of(SILENT, replies=(NO_INPUT,), timing={"max_idle": 4.0}), understood=["hm"])
    phone.start()
    phone.speak(10)
    assert phone.call.state is CallState.LISTENING
    assert phone.all(Synthesize) == []


def test_a_caller_who_goes_away_in_mid_speech_is_understood_all_the_same() -> None:
    phone = Phone(script_of(greeting=()), understood=["refund"])
    phone.start()
    phone.speak(0.5)
    assert phone.call.next_deadline() == Deadline(2.2, waits_for_caller=True)
    phone.wait(1.7)
    assert phone.all(CallerTranscript) == [
        CallerTranscript("refund", False, 0.5, "fake", 0.0, 0.3),
        CallerTranscript("refund", True, 0.9, "fake", 0.0, 0.5),
    ]
    assert phone.times(FinishRecognition) == [2.2]
    phone.say(0.5)
    assert phone.all(FinishRecognition)[-1].utterance == 2


# --- Keys -------------------------------------------------------------------------------------------------------

KEYS = script_of(
    SILENT,
    replies=(
        Rule((Dtmf("1"),), ((Say("one"),),)),
        Rule((Dtmf("12#"),), ((Say("sequence"),),)),
        Rule((Dtmf("0"),), ((),), transfer=Transfer("+1555")),
    ),
)


def test_a_key_is_answered_after_the_first_audio_delay() -> None:
    phone = Phone(script_of(SILENT, replies=(Rule((Dtmf("5"),), ((Say("five"),),)),)))
    phone.start()
    phone.wait(1)
    assert phone.give(DigitPressed("5")) == [
        Note("caller.digit", {"digit": "5"}),
        Note("turn.answered", {"matched": "replies[0]"}),
        Synthesize(1, 0, "five", VOICE),
    ]
    phone.wait(1)
    assert phone.times(AudioReady)[0] == 1.35


def test_keys_of_a_sequence_wait_for_each_other() -> None:
    phone = Phone(KEYS)
    phone.start()
    for key in "12#":
        phone.wait(1.0)
        phone.give(DigitPressed(key))
    assert [order.text for order in phone.all(Synthesize)] == ["sequence"]


def test_a_sequence_that_is_not_finished_times_out() -> None:
    phone = Phone(KEYS)
    phone.start()
    phone.give(DigitPressed("1"))
    assert phone.call.next_deadline() == Deadline(2.0, waits_for_caller=True)
    phone.wait(2.0)
    assert [order.text for order in phone.all(Synthesize)] == ["one"]


def test_a_key_interrupts_the_reply() -> None:
    phone = Phone(script_of(KEYS, greeting=(Say("one two three"),)))
    phone.start()
    phone.wait(0.25)
    assert phone.give(DigitPressed("0"))[-2:] == [
        Emit(TransferStarted("+1555", "warm", "")),
        Emit(SessionEnded(EndReason.TRANSFER_COMPLETE, 0.25)),
    ]
    assert phone.all(AgentTranscript)[-1].text == "one"


def test_without_barge_in_a_key_waits_for_the_end_of_the_reply() -> None:
    phone = Phone(script_of(KEYS, barge_in=None, greeting=(Say("one two three"),)))
    phone.start()
    phone.wait(0.25)
    assert phone.give(DigitPressed("0")) == [Note("caller.digit", {"digit": "0"})]
    phone.wait(1)
    assert phone.events[-1] == SessionEnded(EndReason.TRANSFER_COMPLETE, 0.6)


# --- Connections --------------------------------------------------------------------------------------------------


def test_a_reconnection_that_was_asked_for_is_confirmed() -> None:
    phone = listening()
    assert phone.give(ReconnectionRequested()) == [Emit(SessionResumed("The session goes on over this connection."))]


def test_a_lost_connection_suspends_the_limits_of_silence() -> None:
    phone = listening()
    phone.give(Detached())
    assert phone.call.next_deadline() == Deadline(600.0, waits_for_caller=True)
    phone.wait(20)
    assert phone.give(Resumed()) == [Emit(SessionResumed("The session goes on over a new connection."))]
    assert phone.call.next_deadline() == Deadline(35.0, waits_for_caller=True)


def test_a_failure_that_passes_leaves_the_session_alone() -> None:
    phone = listening()
    assert phone.give(Failed("LLM_PROVIDER_ERROR", "busy", recoverable=True)) == [
        Emit(SessionFailed("LLM_PROVIDER_ERROR", "busy", True))
    ]
    assert phone.call.state is CallState.LISTENING


def test_a_failure_for_good_ends_the_session() -> None:
    phone = listening()
    assert phone.give(Failed("AUTH_FAILED", "expired")) == [
        Emit(SessionFailed("AUTH_FAILED", "expired", False)),
        Emit(SessionEnded(EndReason.ERROR, 0.0)),
    ]


def test_started_twice_is_started_once() -> None:
    phone = listening()
    assert phone.give(Started()) == []


# --- Time ---------------------------------------------------------------------------------------------------------


def test_a_driver_that_comes_late_sends_the_frames_it_missed() -> None:
    call = Call(SUPPORT, dialogue=Dialogue(SUPPORT), endpointer=LoudnessEndpointer())
    call.receive(Started(), 0.0)
    call.receive(Synthesized(1, 0, spoken("Hi there.")), 0.0)
    assert len(call.advance(0.06)) == 3


def test_a_driver_that_stalls_sends_no_burst() -> None:
    call = Call(SUPPORT, dialogue=Dialogue(SUPPORT), endpointer=LoudnessEndpointer())
    call.receive(Started(), 0.0)
    call.receive(Synthesized(1, 0, spoken("Hi there.")), 0.0)
    assert len(call.advance(0.3)) == 1
    assert call.next_deadline() == Deadline(0.32, waits_for_caller=False)


def test_deadlines_are_carried_out_at_their_own_time_however_late_the_driver_is() -> None:
    script = script_of(greeting=(Pause(1.0), PushEvent("A"), Pause(1.0), PushEvent("B")), timing={"max_idle": 3.0})
    call = Call(script, dialogue=Dialogue(script), endpointer=LoudnessEndpointer(), catch_up=math.inf)
    call.receive(Started(), 0.0)
    assert call.advance(100.0) == [
        Emit(EventPushed("A")),
        Emit(EventPushed("B")),
        Emit(SessionEnded(EndReason.IDLE_TIMEOUT, 5.0)),
    ]


def test_time_never_goes_back() -> None:
    phone = listening()
    phone.call.advance(5.0)
    assert phone.call.receive(HangupRequested(EndReason.USER_ENDED), 1.0) == [
        Emit(SessionEnded(EndReason.USER_ENDED, 5.0))
    ]


def test_audio_faster_than_time_is_dated_within_the_call() -> None:
    call = Call(SILENT, dialogue=Dialogue(SILENT), endpointer=LoudnessEndpointer())
    call.receive(Started(), 0.0)
    effects = []
    for frame in [LOUD_FRAME] * 25 + [SILENT_FRAME] * 35:
        effects += call.receive(AudioArrived(frame), 0.1)
    assert effects[-1] == FinishRecognition(1, 0.5)
    (final, _) = call.receive(heard("hello"), 0.1)
    assert final == Emit(CallerTranscript("hello", True, 0.9, "fake", 0.08, 0.08))


def test_an_ear_that_never_answers_is_given_up_when_too_much_is_owed() -> None:
    phone = by_hand(SILENT)
    phone.start()
    for _ in range(9):
        phone.say(0.2)
    assert phone.notes("hearing.given_up") == [{"utterance": 1, "pending": 8}]
    assert phone.give(heard("late", 1)) == []


def test_else_answers_speech_alone() -> None:
    phone = Phone(script_of(SILENT, replies=(Rule((Otherwise(),), ((Say("What?"),),)),)))
    phone.start()
    phone.give(DigitPressed("1"))
    phone.wait(5)
    assert phone.all(Synthesize) == []


def test_a_text_that_was_held_when_a_key_was_answered_joins_the_next_turn() -> None:
    script = script_of(KEYS, replies=(*KEYS.replies, Rule((Otherwise(),), ((Say("What?"),),))), barge_in=None)
    phone = by_hand(script)
    phone.start()
    phone.say(0.2)
    phone.speak(0.1)
    phone.give(heard("I want"))
    phone.give(DigitPressed("1"))
    phone.wait(2.0)
    phone.give(Synthesized(1, 0, spoken("one")))
    phone.hush(0.7)
    assert phone.call.state is CallState.THINKING
    assert Note("turn.answered", {"matched": "replies[3]", "heard": "I want this"}) in phone.give(heard("this", 2))
