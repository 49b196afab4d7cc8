"""Every row of the turn table of `engine.call`, each with all that comes of it.

A row is a generator: it brings a call into the row's state and yields the phone, then does what the row is about and
yields what must come of that, and in which state the call is then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fakes import LOUD_FRAME, SILENT_FRAME, spoken
from phone import SILENT, Phone, by_hand, heard, listening, script_of, speaking, thinking

from voisnap_mock.agents.script import Dtmf, EndReason, Hear, Otherwise, Rule, Say, Silence, Transfer, Voice
from voisnap_mock.engine import call
from voisnap_mock.engine.call import CallState
from voisnap_mock.engine.events import (
    AbandonSynthesis,
    AgentTranscript,
    AudioReady,
    CallerTranscript,
    Detached,
    DigitPressed,
    Emit,
    FinishRecognition,
    HangupRequested,
    LineOpened,
    Note,
    PartlyHeard,
    RecognitionFailed,
    Recognize,
    ReconnectionRequested,
    Resumed,
    SessionEffect,
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
)

VOICE = Voice()
Outcome = tuple[list[SessionEffect], CallState]
Story = Callable[[], Iterator[Phone | Outcome]]


@dataclass(frozen=True)
class Row:
    """One story of a row; `state` and `on` are its first two cells in the table."""

    state: str
    on: str
    tell: Story


ROWS: list[Row] = []


def row(state: str, on: str) -> Callable[[Story], Story]:
    def add(tell: Story) -> Story:
        ROWS.append(Row(state, on, tell))
        return tell

    return add


def table() -> list[tuple[str, str, str]]:
    """The first three cells of each row, as the module's docstring has them."""
    lines = [line for line in (call.__doc__ or "").splitlines() if line.startswith("|")]
    rows = [tuple(cell.strip().replace("`", "") for cell in line.strip("|").split("|")[:3]) for line in lines[2:]]
    return [(state, on, following) for state, on, following in rows]


def answered(matched: str, text: str | None = None) -> Note:
    return Note("turn.answered", {"matched": matched} if text is None else {"matched": matched, "heard": text})


def interrupted(heard_text: str, unheard: str, *, played: float, dropped: float) -> Note:
    details = {"reply": 1, "heard": heard_text, "unheard": unheard, "played": played, "dropped": dropped}
    return Note("reply.interrupted", details)


def frame(word: int) -> Emit:
    """20 ms of the word of this number."""
    return Emit(AudioReady(word.to_bytes(2, "little") * 480))


FAILED = Emit(SessionFailed("STT_PROVIDER_TIMEOUT", "too slow", True))
TIMEOUT = RecognitionFailed(1, "STT_PROVIDER_TIMEOUT", "too slow")
ANSWERING = script_of(greeting=())


# --- NEW ----------------------------------------------------------------------------------------------------------


@row("NEW", "Started")
def greets() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    yield phone
    phone.start()
    yield (
        [Emit(SessionStarted("Support")), answered("greeting"), Synthesize(1, 0, "Hi there.", VOICE)],
        CallState.SPEAKING,
    )


@row("NEW", "Started")
def listens_without_a_greeting() -> Iterator[Phone | Outcome]:
    phone = by_hand(SILENT)
    yield phone
    phone.start()
    yield [Emit(SessionStarted("Silent")), answered("greeting")], CallState.LISTENING


@row("NEW", "Started (waits for its line)")
def says_nothing_to_a_caller_who_cannot_hear_yet() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    yield phone
    phone.give(Started(waits_for_line=True))
    phone.wait(60.0)
    yield [Emit(SessionStarted("Support"))], CallState.LISTENING


# --- LISTENING ----------------------------------------------------------------------------------------------------


@row("LISTENING", "LineOpened, if it was waited for")
def greets_once_the_line_is_open() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    phone.give(Started(waits_for_line=True))
    phone.wait(60.0)
    yield phone
    phone.give(LineOpened())
    phone.give(LineOpened())
    yield [answered("greeting"), Synthesize(1, 0, "Hi there.", VOICE)], CallState.SPEAKING


@row("LISTENING", "LineOpened, if it was waited for")
def has_opened_the_line_already() -> Iterator[Phone | Outcome]:
    phone = listening()
    yield phone
    phone.give(LineOpened())
    yield [], CallState.LISTENING


@row("LISTENING", "speech begins")
def collects_audio_from_before_the_onset() -> Iterator[Phone | Outcome]:
    phone = listening()
    phone.hush(0.2)
    yield phone
    phone.speak(0.06)
    yield [Recognize(1, SILENT_FRAME * 2 + LOUD_FRAME * 3)], CallState.LISTENING


@row("LISTENING", "utterance ends")
def has_the_utterance_recognised() -> Iterator[Phone | Outcome]:
    phone = listening(script_of(SILENT, timing={"end_of_turn": 0.04}))
    phone.speak(0.06)
    yield phone
    phone.hush(0.04)
    yield [Recognize(1, LOUD_FRAME * 3 + SILENT_FRAME * 2), FinishRecognition(1, 0.06)], CallState.THINKING


@row("LISTENING", "PartlyHeard")
def shows_a_text_that_has_grown() -> Iterator[Phone | Outcome]:
    phone = listening()
    phone.hush(0.1)
    phone.speak(0.4)
    yield phone
    phone.give(PartlyHeard(1, Transcript("I want", 0.4, "fake")))
    phone.give(PartlyHeard(1, Transcript("I was", 0.4, "fake")))
    yield [Emit(CallerTranscript("I want", False, 0.4, "fake", 0.1, 0.5))], CallState.LISTENING


@row("LISTENING", "silence rule is due")
def speaks_into_the_silence() -> Iterator[Phone | Outcome]:
    phone = listening(script_of(SILENT, replies=(Rule((Silence(8.0),), ((Say("Still there?"),),)),)))
    yield phone
    phone.wait(8.0)
    yield [answered("replies[0]"), Synthesize(1, 0, "Still there?", VOICE)], CallState.SPEAKING


@row("LISTENING", "max_idle is due")
def gives_an_idle_caller_up() -> Iterator[Phone | Outcome]:
    phone = listening()
    yield phone
    phone.wait(15.0)
    yield [Emit(SessionEnded(EndReason.IDLE_TIMEOUT, 15.0))], CallState.ENDED


@row("LISTENING", "Transcribed")
def holds_the_text_while_the_caller_goes_on() -> Iterator[Phone | Outcome]:
    phone = thinking()
    phone.speak(0.1)
    yield phone
    phone.give(heard("hello"))
    yield [Emit(CallerTranscript("hello", True, 0.9, "fake", 0.0, 0.2))], CallState.LISTENING


# --- THINKING -----------------------------------------------------------------------------------------------------


@row("THINKING", "Transcribed")
def answers() -> Iterator[Phone | Outcome]:
    phone = thinking(ANSWERING)
    yield phone
    phone.give(heard("a refund please"))
    yield (
        [
            Emit(CallerTranscript("a refund please", True, 0.9, "fake", 0.0, 0.2)),
            answered("replies[0]", "a refund please"),
            Synthesize(1, 0, "Sure. What is the number?", VOICE),
        ],
        CallState.SPEAKING,
    )


@row("THINKING", "Transcribed")
def stays_silent_without_an_answer() -> Iterator[Phone | Outcome]:
    phone = thinking()
    yield phone
    phone.give(heard("hello"))
    yield (
        [
            Emit(CallerTranscript("hello", True, 0.9, "fake", 0.0, 0.2)),
            answered("nothing", "hello"),
        ],
        CallState.LISTENING,
    )


@row("THINKING", "speech begins")
def listens_again_and_still_waits_for_the_ear() -> Iterator[Phone | Outcome]:
    phone = thinking()
    yield phone
    phone.speak(0.06)
    yield [Recognize(2, SILENT_FRAME * 2 + LOUD_FRAME * 3)], CallState.LISTENING


# --- SPEAKING -----------------------------------------------------------------------------------------------------


@row("SPEAKING", "Synthesized")
def plays() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    phone.start()
    yield phone
    phone.give(Synthesized(1, 0, spoken("Hi there.")))
    phone.wait(0.18)
    yield [*[frame(1)] * 10, Emit(AgentTranscript("Hi", False, 0.0, 0.2))], CallState.SPEAKING


@row("SPEAKING", "Synthesized")
def leaves_out_speech_of_another_reply() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    phone.start()
    yield phone
    phone.give(Synthesized(2, 0, spoken("stale")))
    phone.wait(1.0)
    yield [], CallState.SPEAKING


@row("SPEAKING", "SynthesisFailed")
def falls_back() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    phone.start()
    yield phone
    phone.give(SynthesisFailed(1, 0, "LLM_PROVIDER_ERROR", "no voice"))
    yield (
        [
            AbandonSynthesis(1),
            interrupted("", "Hi there.", played=0.0, dropped=0.0),
            Emit(SessionFailed("LLM_PROVIDER_ERROR", "no voice", True)),
            answered("replies[1]"),
            Synthesize(2, 0, "Sorry?", VOICE),
        ],
        CallState.SPEAKING,
    )


@row("SPEAKING", "SynthesisFailed")
def ends_when_its_voice_is_gone_for_good() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    phone.start()
    yield phone
    phone.give(SynthesisFailed(1, 0, "LLM_PROVIDER_ERROR", "no voice", recoverable=False))
    yield (
        [
            AbandonSynthesis(1),
            interrupted("", "Hi there.", played=0.0, dropped=0.0),
            Emit(SessionFailed("LLM_PROVIDER_ERROR", "no voice", False)),
            Emit(SessionEnded(EndReason.ERROR, 0.0)),
        ],
        CallState.ENDED,
    )


@row("SPEAKING", "barge_in of speech")
def yields_the_floor() -> Iterator[Phone | Outcome]:
    phone = speaking(script_of(greeting=(Say("one two three"),)), played=0.24)
    phone.speak(0.18)
    yield phone
    phone.speak(0.02)
    yield (
        [
            frame(3),
            Recognize(1, LOUD_FRAME * 5),
            Emit(AgentTranscript("one two", True, 0.0, 0.44, interrupted=True)),
            interrupted("one two", "three", played=0.46, dropped=0.14),
        ],
        CallState.LISTENING,
    )


@row("SPEAKING", "barge_in of speech")
def abandons_what_is_still_being_made() -> Iterator[Phone | Outcome]:
    phone = by_hand()
    phone.start()
    phone.speak(0.18)
    yield phone
    phone.speak(0.02)
    yield (
        [
            Recognize(1, LOUD_FRAME * 5),
            AbandonSynthesis(1),
            interrupted("", "Hi there.", played=0.0, dropped=0.0),
        ],
        CallState.LISTENING,
    )


@row("SPEAKING", "Transcribed")
def keeps_the_text_as_the_next_turn() -> Iterator[Phone | Outcome]:
    phone = speaking(script_of(barge_in=None, greeting=(Say("one two three four five"),)))
    phone.say(0.2)
    yield phone
    phone.give(heard("a refund"))
    yield [Emit(CallerTranscript("a refund", True, 0.9, "fake", 0.0, 0.2))], CallState.SPEAKING


@row("SPEAKING", "reply played to its end")
def waits_for_the_caller() -> Iterator[Phone | Outcome]:
    phone = speaking(played=0.36)
    yield phone
    phone.wait(0.04)
    yield (
        [
            frame(2),
            Emit(AgentTranscript("Hi there.", False, 0.0, 0.4)),
            Emit(AgentTranscript("Hi there.", True, 0.0, 0.4)),
        ],
        CallState.LISTENING,
    )


@row("SPEAKING", "reply played to its end")
def transfers() -> Iterator[Phone | Outcome]:
    rule = Rule((Hear(phrases=("person",)),), ((Say("Wait."),),), transfer=Transfer("+1555", "warm", "asked"))
    phone = thinking(script_of(SILENT, replies=(rule,)))
    phone.give(heard("a person"))
    phone.give(Synthesized(1, 0, spoken("Wait.")))
    phone.wait(0.35 + 0.18)
    yield phone
    phone.wait(0.02)
    yield (
        [
            Emit(AgentTranscript("Wait.", True, 1.25, 1.45)),
            Emit(TransferStarted("+1555", "warm", "asked")),
            Emit(SessionEnded(EndReason.TRANSFER_COMPLETE, 1.45)),
        ],
        CallState.ENDED,
    )


@row("SPEAKING", "reply played to its end")
def answers_the_turn_that_waits() -> Iterator[Phone | Outcome]:
    phone = speaking(script_of(barge_in=None, greeting=(Say("one two three four five"),)))
    phone.say(0.2)
    phone.give(heard("a refund"))
    phone.wait(0.08)
    yield phone
    phone.wait(0.02)
    yield (
        [
            Emit(AgentTranscript("one two three four five", True, 0.0, 1.0)),
            answered("replies[0]", "a refund"),
            Synthesize(2, 0, "Sure. What is the number?", VOICE),
        ],
        CallState.SPEAKING,
    )


# --- Any live state -----------------------------------------------------------------------------------------------


@row("any live", "RecognitionFailed")
def falls_back_when_the_ear_failed() -> Iterator[Phone | Outcome]:
    phone = thinking(ANSWERING)
    yield phone
    phone.give(TIMEOUT)
    yield [FAILED, answered("replies[1]"), Synthesize(1, 0, "Sorry?", VOICE)], CallState.SPEAKING


@row("any live", "RecognitionFailed")
def falls_back_while_the_caller_still_speaks() -> Iterator[Phone | Outcome]:
    phone = listening(ANSWERING)
    phone.speak(0.2)
    yield phone
    phone.give(TIMEOUT)
    yield [FAILED, answered("replies[1]"), Synthesize(1, 0, "Sorry?", VOICE)], CallState.SPEAKING


@row("any live", "RecognitionFailed")
def lets_the_fallback_wait_for_the_end_of_a_reply() -> Iterator[Phone | Outcome]:
    phone = speaking(script_of(barge_in=None, greeting=(Say("one two three four five"),)))
    phone.say(0.2)
    yield phone
    phone.give(TIMEOUT)
    yield [FAILED], CallState.SPEAKING


@row("any live", "RecognitionFailed")
def ends_when_its_ear_is_gone_for_good() -> Iterator[Phone | Outcome]:
    phone = thinking()
    yield phone
    phone.give(RecognitionFailed(1, "AUTH_FAILED", "expired", recoverable=False))
    yield (
        [Emit(SessionFailed("AUTH_FAILED", "expired", False)), Emit(SessionEnded(EndReason.ERROR, 0.9))],
        CallState.ENDED,
    )


KEYS = script_of(
    greeting=(Say("one two three"),),
    replies=(
        Rule((Dtmf("5"),), ((Say("five"),),)),
        Rule((Dtmf("12#"),), ((Say("sequence"),),)),
        Rule((Otherwise(),), ((Say("Sorry?"),),)),
    ),
)


@row("any live", "key that completes a sequence")
def answers_a_key() -> Iterator[Phone | Outcome]:
    phone = listening(script_of(KEYS, greeting=()))
    yield phone
    phone.give(DigitPressed("5"))
    yield (
        [Note("caller.digit", {"digit": "5"}), answered("replies[0]"), Synthesize(1, 0, "five", VOICE)],
        CallState.SPEAKING,
    )


@row("any live", "key that completes a sequence")
def breaks_off_for_a_key() -> Iterator[Phone | Outcome]:
    phone = speaking(KEYS, played=0.25)
    yield phone
    phone.give(DigitPressed("5"))
    yield (
        [
            Note("caller.digit", {"digit": "5"}),
            Emit(AgentTranscript("one", True, 0.0, 0.25, interrupted=True)),
            interrupted("one", "two three", played=0.26, dropped=0.34),
            answered("replies[0]"),
            Synthesize(2, 0, "five", VOICE),
        ],
        CallState.SPEAKING,
    )


@row("any live", "key that completes a sequence")
def lets_a_key_wait_when_nothing_may_interrupt() -> Iterator[Phone | Outcome]:
    phone = speaking(script_of(KEYS, barge_in=None), played=0.25)
    yield phone
    phone.give(DigitPressed("5"))
    yield [Note("caller.digit", {"digit": "5"})], CallState.SPEAKING


@row("any live", "another key")
def waits_for_the_rest_of_a_sequence() -> Iterator[Phone | Outcome]:
    phone = listening(script_of(KEYS, greeting=()))
    yield phone
    phone.give(DigitPressed("1"))
    phone.wait(2.0)
    yield [Note("caller.digit", {"digit": "1"})], CallState.LISTENING


@row("any live", "another key")
def goes_on_after_a_key_that_nobody_knows() -> Iterator[Phone | Outcome]:
    phone = speaking(KEYS, played=0.25)
    yield phone
    phone.give(DigitPressed("9"))
    yield [Note("caller.digit", {"digit": "9"})], CallState.SPEAKING


@row("any live", "max_duration, HangupRequested")
def reaches_its_length() -> Iterator[Phone | Outcome]:
    phone = speaking(script_of(timing={"max_duration": 0.25}), played=0.24)
    yield phone
    phone.wait(0.01)
    yield (
        [
            Emit(AgentTranscript("Hi", True, 0.0, 0.25, interrupted=True)),
            interrupted("Hi", "there.", played=0.26, dropped=0.14),
            Emit(SessionEnded(EndReason.MAX_DURATION, 0.25)),
        ],
        CallState.ENDED,
    )


@row("any live", "max_duration, HangupRequested")
def is_hung_up_in_mid_reply() -> Iterator[Phone | Outcome]:
    phone = speaking(played=0.25)
    yield phone
    phone.give(HangupRequested(EndReason.USER_ENDED))
    yield (
        [
            Emit(AgentTranscript("Hi", True, 0.0, 0.25, interrupted=True)),
            interrupted("Hi", "there.", played=0.26, dropped=0.14),
            Emit(SessionEnded(EndReason.USER_ENDED, 0.25)),
        ],
        CallState.ENDED,
    )


@row("any live", "max_duration, HangupRequested")
def is_hung_up_while_the_ear_is_at_work() -> Iterator[Phone | Outcome]:
    phone = thinking()
    yield phone
    phone.give(HangupRequested(EndReason.SERVER_SHUTDOWN))
    yield [Emit(SessionEnded(EndReason.SERVER_SHUTDOWN, 0.9))], CallState.ENDED


@row("any live", "Detached")
def does_not_count_the_silence_of_a_lost_connection() -> Iterator[Phone | Outcome]:
    phone = listening(script_of(SILENT, replies=(Rule((Silence(8.0),), ((Say("Still there?"),),)),)))
    yield phone
    phone.give(Detached())
    phone.wait(60.0)
    yield [], CallState.LISTENING


@row("any live", "Resumed")
def counts_the_silence_anew() -> Iterator[Phone | Outcome]:
    phone = listening()
    phone.give(Detached())
    phone.wait(60.0)
    yield phone
    phone.give(Resumed())
    phone.wait(14.98)
    yield [Emit(SessionResumed("The session goes on over a new connection."))], CallState.LISTENING


@row("ENDED", "anything")
def has_nothing_more_to_say() -> Iterator[Phone | Outcome]:
    phone = speaking()
    phone.give(HangupRequested(EndReason.USER_ENDED))
    yield phone
    phone.speak(1.0)
    for given in (DigitPressed("5"), heard("x"), Synthesized(1, 0, spoken("x")), TIMEOUT, Resumed(), Detached()):
        phone.give(given)
    phone.give(ReconnectionRequested())
    phone.wait(1e6)
    yield [], CallState.ENDED


# --- The tests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tested", ROWS, ids=lambda tested: f"{tested.state}: {tested.tell.__name__}")
def test_a_row_has_exactly_these_effects(tested: Row) -> None:
    story = tested.tell()
    phone = next(story)
    assert isinstance(phone, Phone)
    before = phone.call.state
    assert before.name == tested.state or (tested.state == "any live" and before.name not in ("NEW", "ENDED"))
    phone.log.clear()
    outcome = next(story)
    assert not isinstance(outcome, Phone)
    effects, state = outcome
    assert [effect for _, effect in phone.log] == effects
    assert phone.call.state is state


def test_every_row_of_the_table_is_told_and_no_other() -> None:
    assert {(tested.state, tested.on) for tested in ROWS} == {(state, on) for state, on, _ in table()}
