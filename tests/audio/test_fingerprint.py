"""Known recordings: heard by their sound, whatever the line did to it, and nothing else is heard."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import LINES, OPUS_LINES, has_opus
from speech_samples import SENTENCES, Samples, Say, Spoken, at_level, hum, key_presses, noise, say_all, silence, tone

from voisnap_mock.audio.fingerprint import (
    KnownRecordings,
    LongPause,
    LookAlikes,
    Match,
    Recording,
    RecordingMatcher,
    TooLong,
    TooShort,
    fingerprint,
)

RATE = 16_000
VOICES = ("en-us", "en-us+f3", "en-us+m4")
KNOWN = tuple(Say(text, VOICES[number % 3]) for number, text in enumerate(SENTENCES[:10]))
PHRASES = (Say("thank you"), Say("opening hours"), Say("one moment please"))
UNKNOWN = tuple(Say(text, VOICES[number % 3]) for number, text in enumerate(SENTENCES[10:]))


@cache
def spoken() -> dict[str, Spoken]:
    return {each.text: each for each in say_all(*KNOWN, *PHRASES, *UNKNOWN)}


def voice(text: str) -> Samples:
    """Just the speech, without the silence around it."""
    each = spoken()[text]
    return each.pcm[round(each.begin * RATE) : round(each.end * RATE)]


def recording(text: str, *parts: Samples) -> Recording:
    return Recording(f"{text.replace(' ', '-')}.wav", text, np.concatenate(parts or (spoken()[text].pcm,)).tobytes())


@cache
def known() -> KnownRecordings:
    return KnownRecordings.of(recording(order.text) for order in KNOWN + PHRASES)


def utterance(*parts: Samples, lead: float = 0.3) -> Samples:
    """As an endpointer passes it on: a little before it, and the silence that ended it."""
    return np.concatenate((silence(lead), *parts, silence(0.7)))


def hear(pcm: Samples, index: KnownRecordings | None = None) -> tuple[Match, ...]:
    matcher = RecordingMatcher(known() if index is None else index)
    matcher.push(pcm.tobytes())
    return matcher.finish()


def texts(matches: tuple[Match, ...]) -> list[str]:
    return [match.text for match in matches]


# --- Through every line ----------------------------------------------------------------------------------------


def heard_through(line: Callable[[Samples], Samples]) -> tuple[int, dict[str, list[str]]]:
    """How many known texts are heard as nothing, and what is heard instead of the others."""
    heard = {order.text: texts(hear(line(utterance(voice(order.text))))) for order in KNOWN + PHRASES}
    wrong = {text: found for text, found in heard.items() if found not in ([text], [])}
    return sum(found == [] for found in heard.values()), wrong


@pytest.mark.parametrize("line", [name for name in LINES if "late" not in name])
def test_a_known_recording_is_heard_through(line: str) -> None:
    missed, wrong = heard_through(LINES[line])
    assert wrong == {}
    assert missed <= ("loss" in line)


@pytest.mark.skipif(not has_opus(), reason="the system has no libopus")
@pytest.mark.parametrize("line", OPUS_LINES)
def test_a_known_recording_is_heard_through_opus(line: str) -> None:
    missed, wrong = heard_through(OPUS_LINES[line])
    assert wrong == {}
    assert missed <= ("loss" in line)


@pytest.mark.parametrize("line", [name for name in LINES if "late" in name])
def test_a_sentence_is_heard_when_its_beginning_was_missed(line: str) -> None:
    for order in KNOWN:
        assert texts(hear(LINES[line](utterance(voice(order.text))))) == [order.text]


def test_a_match_tells_name_text_score_and_place() -> None:
    text = KNOWN[3].text
    (match,) = hear(utterance(voice(text), lead=0.5))
    assert (match.name, match.text) == (f"{text.replace(' ', '-')}.wav", text)
    assert match.score > 0.9
    assert match.begin == pytest.approx(0.5, abs=0.02)
    assert match.end == pytest.approx(0.5 + len(voice(text)) / RATE, abs=0.02)


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=20))
@settings(max_examples=10, deadline=None)
def test_chunks_of_any_size_give_the_same_matches(sizes: list[int]) -> None:
    data = utterance(voice(KNOWN[1].text)).tobytes()
    matcher = RecordingMatcher(known())
    at = 0
    while at < len(data):
        size = 2 * sizes[at % len(sizes)]
        matcher.push(data[at : at + size])
        at += size
    assert matcher.finish() == hear(utterance(voice(KNOWN[1].text)))


def test_what_is_known_shows_before_the_utterance_ends() -> None:
    text = KNOWN[2].text
    matcher = RecordingMatcher(known())
    matcher.push(silence(0.3).tobytes())
    matcher.push(voice(text)[: RATE // 2].tobytes())
    assert matcher.heard == ()
    matcher.push(voice(text)[RATE // 2 :].tobytes())
    matcher.push(silence(0.3).tobytes())
    assert texts(matcher.heard) == [text]


def test_utterances_of_a_stream_are_heard_one_by_one() -> None:
    matcher = RecordingMatcher(known())
    first, second = utterance(voice(KNOWN[0].text)), utterance(voice(KNOWN[4].text))
    matcher.push(first.tobytes())
    assert texts(matcher.finish()) == [KNOWN[0].text]
    matcher.push(second.tobytes())
    (match,) = matcher.finish()
    assert match.text == KNOWN[4].text
    assert match.begin == pytest.approx(len(first) / RATE + 0.3, abs=0.02)
    assert matcher.finish() == ()


def test_streams_that_share_an_index_do_not_disturb_each_other() -> None:
    orders = KNOWN[:4]
    sound = [utterance(voice(order.text)) for order in orders]
    matchers = [RecordingMatcher(known()) for _ in orders]
    for at in range(0, max(map(len, sound)), 320):
        for matcher, pcm in zip(matchers, sound, strict=True):
            matcher.push(pcm[at : at + 320].tobytes())
    assert [texts(matcher.finish()) for matcher in matchers] == [[order.text] for order in orders]


# --- What else is in the utterance ---------------------------------------------------------------------------------


def test_recordings_played_after_each_other_are_all_heard_in_order() -> None:
    order = (KNOWN[5].text, PHRASES[0].text, KNOWN[6].text)
    pause = silence(0.25)
    heard = hear(utterance(voice(order[0]), pause, voice(order[1]), pause, voice(order[2])))
    assert texts(heard) == list(order)
    assert heard[0].end <= heard[1].begin < heard[1].end <= heard[2].begin


def test_a_recording_that_contains_others_is_heard_as_itself() -> None:
    parts = (voice(KNOWN[7].text), silence(0.2), voice(KNOWN[8].text))
    both = recording("both at once", *parts)
    index = KnownRecordings.of([*(recording(order.text) for order in KNOWN), both])
    assert texts(hear(utterance(*parts), index)) == ["both at once"]
    assert texts(hear(utterance(parts[0]), index)) == [KNOWN[7].text]


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_known_phrase_in_a_longer_unknown_utterance_is_not_heard(place: str) -> None:
    phrase, rest = voice(PHRASES[1].text), voice(UNKNOWN[0].text)
    parts = (phrase, silence(0.1), rest) if place == "before" else (rest, silence(0.1), phrase)
    assert hear(utterance(*parts)) == ()


def test_the_end_of_a_recording_alone_is_not_the_recording() -> None:
    text = KNOWN[3].text
    assert hear(utterance(voice(text)[len(voice(text)) // 2 :])) == ()


# --- What is not known ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", UNKNOWN, ids=lambda order: order.text[:20])
def test_unknown_speech_is_not_heard(order: Say) -> None:
    assert hear(utterance(voice(order.text))) == ()


LONG = Say("please book a table for four people on friday evening and send me a message when the problem is fixed")
ONE_WORD_OTHER = tuple(
    Say(LONG.text.replace(word, other))
    for word, other in (("friday", "wednesday"), ("table", "guitar"), ("message", "letter"), ("problem", "kitchen"))
)


@pytest.mark.parametrize("order", ONE_WORD_OTHER, ids=lambda order: order.text[14:])
def test_a_long_sentence_with_one_other_word_is_not_the_known_one(order: Say) -> None:
    said = {each.text: each.pcm for each in say_all(LONG, *ONE_WORD_OTHER)}
    index = KnownRecordings.of([Recording("long.wav", LONG.text, said[LONG.text].tobytes())])
    assert texts(hear(utterance(said[LONG.text]), index)) == [LONG.text]
    assert hear(utterance(said[order.text]), index) == ()


def swelling_chord() -> Samples:
    turns = np.arange(10 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * turns) for hertz in (262, 330, 392, 523))
    return at_level(chord * np.sin(2 * np.pi * 0.7 * turns) ** 2, -20)


NOT_SPEECH = {
    "silence": silence(5),
    "faint noise": noise(10, -70),
    "loud noise": noise(10, -20),
    "hum": hum(5, -30),
    "tone": tone(5, 440, -20),
    "key presses": key_presses(12),
    "music": swelling_chord(),
    "clicks": np.where(np.arange(5 * RATE) % 4000 == 0, 20_000, 0).astype(np.int16),
    "a constant": np.full(5 * RATE, 3000, np.int16),
    "full scale": np.tile(np.repeat(np.array([-32768, 32767], np.int16), 40), 1000),
}


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_what_is_no_speech_is_not_heard(name: str) -> None:
    assert hear(utterance(NOT_SPEECH[name])) == ()


def test_an_empty_utterance_is_nothing() -> None:
    assert RecordingMatcher(known()).finish() == ()


def test_without_recordings_nothing_is_heard() -> None:
    index = KnownRecordings.of([])
    assert len(index) == 0
    assert index.problems == ()
    assert hear(utterance(voice(KNOWN[0].text)), index) == ()


# --- The owner's files ----------------------------------------------------------------------------------------------


def test_good_recordings_give_no_problems() -> None:
    assert len(known()) == len(KNOWN + PHRASES)
    assert known().problems == ()


@pytest.mark.parametrize("pcm", [b"", b"\0", bytes(32_000), noise(0.2, -20).tobytes()], ids=len)
def test_a_file_with_hardly_any_sound_is_left_out(pcm: bytes) -> None:
    index = KnownRecordings.of([Recording("short.wav", "yes", pcm)])
    (problem,) = index.problems
    assert isinstance(problem, TooShort)
    assert "short.wav" in str(problem)
    assert "0.3 s" in str(problem)
    assert len(index) == 0


def test_a_file_of_two_hours_is_left_out_unread() -> None:
    index = KnownRecordings.of([Recording("long.wav", "a lot", bytes(2 * RATE * 7200))])
    assert index.problems == (TooLong("long.wav", 7200.0),)
    assert "7200 s" in str(index.problems[0])
    assert len(index) == 0


def test_a_file_with_a_pause_that_ends_the_turn_is_pointed_out_and_kept() -> None:
    parts = (voice(KNOWN[0].text), silence(2.5), voice(KNOWN[1].text))
    index = KnownRecordings.of([recording("with a pause", *parts)])
    (problem,) = index.problems
    assert isinstance(problem, LongPause)
    assert problem.seconds == pytest.approx(2.5, abs=0.1)
    assert "end_of_turn" in str(problem)
    assert texts(hear(utterance(*parts), index)) == ["with a pause"]


def test_files_that_sound_alike_with_different_texts_are_pointed_out() -> None:
    text = KNOWN[0].text
    louder = (spoken()[text].pcm * 0.7).astype(np.int16)
    index = KnownRecordings.of(
        [
            recording(text),
            recording(KNOWN[1].text),
            Recording("copy.wav", text, louder.tobytes()),
            Recording("wrong.wav", "something else", np.concatenate((silence(0.113), louder)).tobytes()),
        ]
    )
    assert {(problem.name, problem.other) for problem in index.problems if isinstance(problem, LookAlikes)} == {
        (recording(text).name, "wrong.wav"),
        ("copy.wav", "wrong.wav"),
    }
    assert "sound alike" in str(index.problems[0])


def test_fingerprints_can_be_kept_when_a_file_changes() -> None:
    prints = [fingerprint(recording(order.text)) for order in KNOWN]
    smaller = KnownRecordings(prints[1:])
    assert hear(utterance(voice(KNOWN[0].text)), smaller) == ()
    assert texts(hear(utterance(voice(KNOWN[1].text)), smaller)) == [KNOWN[1].text]
