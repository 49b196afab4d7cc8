"""Where speech begins and ends: held against the synthesiser's truth, and against sounds that are no speech."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speech_samples import (
    SENTENCES,
    Samples,
    Say,
    frames,
    hum,
    key_presses,
    mix,
    noise,
    pink_noise,
    quantize,
    say,
    say_all,
    silence,
    tone,
)

from voisnap_mock.audio.endpointing import Activity, Endpointer, SpeechBegan, SpeechEnded
from voisnap_mock.audio.marks import Speaker, mark
from voisnap_mock.engine.events import Word

END_OF_TURN = 0.5
VOICES = ("en-us", "en", "en-us+f3", "en-us+m5", "en-us+f4", "de")
WORDS = ("yes", "no", "stop", "help", "seven", "six", "agent", "operator", "refund")


def endpointer(*, end_of_turn: float = END_OF_TURN, max_utterance: float = 30.0) -> Endpointer:
    return Endpointer(end_of_turn=end_of_turn, max_utterance=max_utterance)


def listen(pcm: Samples, to: Endpointer | None = None) -> list[Activity]:
    to = endpointer() if to is None else to
    return [activity for frame in frames(pcm) for activity in to.feed(frame)]


def utterances(pcm: Samples) -> list[SpeechEnded]:
    return [activity for activity in listen(pcm) if isinstance(activity, SpeechEnded)]


@dataclass(frozen=True)
class Scene:
    """Many utterances with pauses, and where each one really is."""

    pcm: Samples
    truth: Sequence[tuple[float, float]]

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 16_000


@cache
def scene() -> Scene:
    draw = random.Random(1)
    orders = [
        Say(text, VOICES[at % len(VOICES)], draw.choice((120, 150, 175, 210, 240)))
        for at, text in enumerate(SENTENCES + WORDS + WORDS)
    ]
    parts = [silence(1.5)]
    truth = []
    for spoken in say_all(*orders):
        at = sum(map(len, parts)) / 16_000
        truth.append((at + spoken.begin, at + spoken.end))
        parts += [spoken.pcm, silence(draw.uniform(1.0, 1.5))]
    return Scene(np.concatenate(parts), truth)


@dataclass(frozen=True)
class Figures:
    """How well a scene was heard; errors in milliseconds, 95th percentile of the absolute value."""

    missed: int
    invented: int
    onset: float
    offset: float


def figures(pcm: Samples) -> Figures:
    heard = utterances(pcm)
    truth = scene().truth
    pairs = [
        (found[0].began - begin, found[-1].ended - end)
        for begin, end in truth
        if (found := [one for one in heard if one.began < end and one.ended > begin])
    ]
    onset, offset = np.percentile(np.abs(pairs), 95, axis=0) * 1000
    return Figures(len(truth) - len(pairs), len(heard) - len(pairs), float(onset), float(offset))


# --- Figures --------------------------------------------------------------------------------------------------------


def test_finds_clean_speech_where_it_is() -> None:
    found = figures(scene().pcm)
    assert (found.missed, found.invented) == (0, 0)
    assert found.onset <= 30, found
    assert found.offset <= 60, found


@pytest.mark.parametrize(
    ("spoil", "onset", "offset"),
    [
        pytest.param(lambda pcm, _: quantize(pcm.astype(float) + 1000), 30, 60, id="DC offset"),
        pytest.param(lambda pcm, seconds: mix(pcm, hum(seconds, -45)), 30, 60, id="hum"),
        pytest.param(lambda pcm, seconds: mix(pcm, noise(seconds, -52)), 30, 60, id="white noise, 30 dB"),
        pytest.param(lambda pcm, seconds: mix(pcm, pink_noise(seconds, -52)), 30, 60, id="pink noise, 30 dB"),
        pytest.param(lambda pcm, seconds: mix(pcm, noise(seconds, -42)), 60, 150, id="white noise, 20 dB"),
        pytest.param(lambda pcm, _: quantize(pcm * 0.2), 30, 60, id="14 dB quieter"),
        pytest.param(lambda pcm, _: quantize(pcm.astype(float) * 8), 30, 120, id="clipped"),
    ],
)
def test_finds_speech_on_a_bad_line(spoil, onset: float, offset: float) -> None:  # type: ignore[no-untyped-def]
    found = figures(spoil(scene().pcm, scene().seconds))
    assert (found.missed, found.invented) == (0, 0)
    assert found.onset <= onset, found
    assert found.offset <= offset, found


def test_finds_almost_all_speech_in_loud_noise() -> None:
    found = figures(mix(scene().pcm, noise(scene().seconds, -32)))
    assert found.missed <= 3
    assert found.invented == 0


# --- What is no speech ----------------------------------------------------------------------------------------------


def switched_on(sound: Samples) -> Samples:
    return np.concatenate([silence(1.5), sound, silence(1.5), sound])


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(silence(10), id="digital silence"),
        pytest.param(quantize(np.full(160_000, 3000)), id="DC"),
        pytest.param(switched_on(quantize(np.full(80_000, 32767))), id="DC at full scale, switched on"),
        pytest.param(noise(10, -70), id="faint noise"),
        pytest.param(noise(10, -30), id="noise from the first sample"),
        pytest.param(switched_on(noise(6, -40)), id="noise, switched on"),
        pytest.param(switched_on(pink_noise(6, -25)), id="pink noise, switched on"),
        pytest.param(np.concatenate([noise(5, level) for level in (-60, -50, -40, -30)]), id="noise rising in steps"),
        pytest.param(switched_on(tone(6, 440, -40)), id="tone at -40 dBFS, switched on"),
        pytest.param(switched_on(tone(6, 210, -20)), id="low tone"),
        pytest.param(switched_on(tone(6, 3000, -10)), id="high tone"),
        pytest.param(switched_on(hum(6, -40)), id="50 Hz hum"),
        pytest.param(switched_on(hum(6, -20, mains=60)), id="loud 60 Hz hum"),
        pytest.param(quantize(np.tile([32767, -32768], 80_000)), id="full scale at half the sample rate"),
        pytest.param(quantize(np.where(np.arange(160_000) % 7777, 0, 30_000)), id="clicks"),
        pytest.param(key_presses(30), id="keys"),
    ],
)
def test_is_not_fooled_by(sound: Samples) -> None:
    assert listen(sound) == []


def test_noise_that_swells_is_left_alone_once_it_is_steady() -> None:
    swell = np.minimum(np.arange(320_000) / 32_000, 1.0)
    heard = listen(quantize(noise(20, -30) * swell))
    assert len(heard) <= 2
    assert all(one.ended < 3.0 for one in heard if isinstance(one, SpeechEnded))


def test_the_floor_follows_steady_noise_within_half_a_second() -> None:
    at_work = endpointer()
    listen(np.concatenate([silence(2), noise(0.5, -30)]), at_work)
    assert at_work.floor_dbfs == pytest.approx(at_work.level_dbfs, abs=3)


def test_speech_on_top_of_noise_just_switched_on_is_found() -> None:
    spoken = say(SENTENCES[0])
    line = np.concatenate([silence(1), mix(noise(5, -45), np.concatenate([silence(1), spoken.pcm]))])
    heard = utterances(np.concatenate([line, silence(1)]))
    assert [round(one.began, 1) for one in heard] == [2.0]


# --- Turns ----------------------------------------------------------------------------------------------------------


def in_silence(*parts: Samples) -> Samples:
    return np.concatenate([silence(1), *parts, silence(2)])


@pytest.mark.parametrize("end_of_turn", [0.2, 0.5, 0.7])
def test_the_end_is_certain_after_end_of_turn_and_reported_where_it_was(end_of_turn: float) -> None:
    at_work = endpointer(end_of_turn=end_of_turn)
    spoken = say("seven")
    for frame in frames(in_silence(spoken.pcm)):
        for activity in at_work.feed(frame):
            if isinstance(activity, SpeechEnded):
                assert at_work.position - activity.ended == pytest.approx(end_of_turn)
                assert activity.ended == pytest.approx(1 + spoken.end, abs=0.06)
                return
    pytest.fail("the utterance never ended")


@pytest.mark.parametrize(("pause", "expected"), [(0.3, 1), (0.9, 2)])
def test_only_a_pause_of_end_of_turn_parts_utterances(pause: float, expected: int) -> None:
    spoken = say("agent")
    word = spoken.pcm[: round(spoken.end * 16_000)]
    assert len(utterances(in_silence(word, silence(pause), word))) == expected


def test_speech_from_the_first_sample_of_a_call_is_found() -> None:
    spoken = say(SENTENCES[0])
    first = listen(np.concatenate([spoken.pcm, silence(1)]))[0]
    assert isinstance(first, SpeechBegan)
    assert first.began == pytest.approx(spoken.begin, abs=0.02)


def test_an_endless_utterance_is_cut_at_max_utterance_and_goes_on_as_the_next() -> None:
    pcm = np.concatenate([say_all(*map(Say, SENTENCES[:4]))[at].pcm[4000:-8000] for at in range(4)])
    heard = listen(np.concatenate([silence(1), pcm, silence(1)]), endpointer(max_utterance=3.0))
    ended = [one for one in heard if isinstance(one, SpeechEnded)]
    assert len(ended) >= 3
    assert ended[0].ended - ended[0].began == pytest.approx(3.0)
    assert ended[1].began - ended[0].ended < 0.3


def test_how_long_the_caller_speaks_is_known_in_time_for_barge_in() -> None:
    at_work = endpointer()
    spoken = say("stop talking please")
    for frame in frames(in_silence(spoken.pcm)):
        at_work.feed(frame)
        if at_work.speech_seconds >= 0.2:
            assert at_work.position - (1 + spoken.begin) <= 0.26
            return
    pytest.fail("never 200 ms of speech")


def test_silence_does_not_count_as_speaking() -> None:
    at_work = endpointer()
    assert not at_work.is_speaking
    assert at_work.speech_seconds == 0.0
    spoken = say("yes")
    listen(np.concatenate([silence(1), spoken.pcm[: round(spoken.end * 16_000)], silence(0.3)]), at_work)
    assert at_work.is_speaking
    assert at_work.speech_seconds == pytest.approx(spoken.end - spoken.begin, abs=0.06)
    listen(silence(0.5), at_work)
    assert not at_work.is_speaking
    assert at_work.speech_seconds == 0.0


def test_the_pre_roll_is_the_audio_from_before_the_onset_up_to_now() -> None:
    at_work = endpointer()
    pcm = in_silence(say("operator").pcm)
    wire = pcm.tobytes()
    for frame in frames(pcm):
        for activity in at_work.feed(frame):
            if isinstance(activity, SpeechBegan):
                fed = round(at_work.position * 32_000)
                start = round((activity.began - 0.3) * 32_000)
                assert at_work.pre_roll == wire[start:fed]
                return
    pytest.fail("no speech was found")


def test_the_pre_roll_of_an_utterance_leaves_out_the_one_before() -> None:
    at_work = endpointer(end_of_turn=0.2)
    word = say("seven").pcm
    word = word[: round(say("seven").end * 16_000)]
    closed_at = 0
    rolls = []
    for frame in frames(in_silence(word, silence(0.25), word)):
        for activity in at_work.feed(frame):
            if isinstance(activity, SpeechBegan):
                rolls.append(round(at_work.position * 32_000) - len(at_work.pre_roll) - closed_at)
            else:
                closed_at = round(at_work.position * 32_000)
    assert len(rolls) == 2
    assert rolls[1] >= 0


@pytest.mark.parametrize(("end_of_turn", "max_utterance"), [(0.0, 30.0), (0.7, 0.01), (-1.0, 1.0)])
def test_impossible_settings_are_refused(end_of_turn: float, max_utterance: float) -> None:
    with pytest.raises(ValueError, match="end_of_turn"):
        endpointer(end_of_turn=end_of_turn, max_utterance=max_utterance)


@pytest.mark.parametrize("size", [0, 638, 641, 1280])
def test_a_frame_of_another_size_is_refused_and_changes_nothing(size: int) -> None:
    at_work = endpointer()
    with pytest.raises(ValueError, match=f"640 bytes, not {size}"):
        at_work.feed(bytes(size))
    assert at_work.position == 0.0


# --- Marked speech ----------------------------------------------------------------------------------------------------


def marked(pcm: Samples, *, speaker: Speaker = Speaker.CALLER, words: int = 4) -> Samples:
    """It says `words` words, whatever it sounds like."""
    step = len(pcm) / 16_000 / words
    times = [Word(f"word{at}", at * step, (at + 1) * step) for at in range(words)]
    data = mark(pcm.tobytes(), times, sample_rate=16_000, utterance=5, speaker=speaker)
    return np.frombuffer(data, np.int16)


@pytest.mark.parametrize("lead", [0.5, 0.507, 0.5133])
@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(tone(0.8, 440, -20), id="a tone"),
        pytest.param(tone(0.8, 440, -50), id="a faint tone"),
        pytest.param(hum(0.8, -30), id="hum"),
    ],
)
def test_a_sound_that_is_marked_is_speech_where_its_marks_are(sound: Samples, lead: float) -> None:
    (found,) = utterances(np.concatenate([silence(lead), marked(sound), silence(1.5)]))
    assert found.began == pytest.approx(lead, abs=0.021)
    assert found.ended == pytest.approx(lead + 0.8, abs=0.041)


def test_marked_silence_is_speech() -> None:
    quiet = marked(silence(0), words=3)
    (found,) = utterances(np.concatenate([silence(0.5), quiet, silence(1.5)]))
    assert found.began == pytest.approx(0.5)
    assert found.ended - found.began == pytest.approx(len(quiet) / 16_000, abs=0.021)


def test_the_pre_roll_holds_all_that_is_marked_so_far() -> None:
    at_work = endpointer()
    pcm = np.concatenate([silence(0.5), marked(tone(0.8, 440, -20)), silence(1)])
    for frame in frames(pcm):
        if at_work.feed(frame):
            assert at_work.position - 0.5 <= 0.16
            assert at_work.pre_roll == pcm.tobytes()[round(0.2 * 32_000) : round(at_work.position * 32_000)]
            return
    pytest.fail("no speech was found")


@pytest.mark.parametrize("text", ["operator", SENTENCES[0]])
def test_the_agents_own_marked_voice_is_not_the_caller(text: str) -> None:
    echo = marked(say(text).pcm, speaker=Speaker.AGENT, words=len(text.split()))
    assert listen(in_silence(echo)) == []


def test_a_caller_is_heard_right_after_an_echo() -> None:
    echo = marked(say("operator").pcm, speaker=Speaker.AGENT, words=1)
    caller = say("refund")
    (found,) = utterances(in_silence(echo, silence(0.2), caller.pcm))
    before = 1 + len(echo) / 16_000 + 0.2
    assert found.began == pytest.approx(before + caller.begin, abs=0.06)
    assert found.ended == pytest.approx(before + caller.end, abs=0.12)


def test_an_echo_does_not_keep_an_utterance_open() -> None:
    caller, echo = say("refund"), marked(say(SENTENCES[0]).pcm, speaker=Speaker.AGENT, words=8)
    word = caller.pcm[: round(caller.end * 16_000)]
    (found,) = utterances(np.concatenate([silence(0.5), word, echo, silence(1)]))
    assert found.ended == pytest.approx(0.5 + caller.end, abs=0.25)


# --- Whatever comes -------------------------------------------------------------------------------------------------


def sounds() -> dict[str, Samples]:
    spoken = say(SENTENCES[0]).pcm
    return {
        "speech": spoken,
        "loud speech": quantize(spoken.astype(float) * 8),
        "faint speech": quantize(spoken * 0.02),
        "silence": silence(2),
        "noise": noise(2, -35),
        "tone": tone(2, 700, -20),
        "full scale": quantize(np.tile([32767, -32768], 16_000)),
        "DC": quantize(np.full(32_000, -32768)),
        "marked": marked(tone(1.5, 300, -30)),
        "echo": marked(spoken, speaker=Speaker.AGENT, words=9),
    }


SOUNDS = ("speech", "loud speech", "faint speech", "silence", "noise", "tone", "full scale", "DC", "marked", "echo")
MEDLEYS = st.lists(st.tuples(st.sampled_from(SOUNDS), st.integers(0, 60), st.integers(1, 60)), max_size=8)


def medley(pieces: list[tuple[str, int, int]]) -> list[bytes]:
    known = sounds()
    return [frame for name, start, count in pieces for frame in frames(known[name])[start : start + count]]


@given(
    pieces=MEDLEYS,
    end_of_turn=st.sampled_from([0.02, 0.1, 0.7]),
    max_utterance=st.sampled_from([0.02, 0.71, 0.8, 30.0]),
)
def test_begin_and_end_alternate_and_their_times_never_go_back(
    pieces: list[tuple[str, int, int]], end_of_turn: float, max_utterance: float
) -> None:
    at_work = endpointer(end_of_turn=end_of_turn, max_utterance=max_utterance)
    latest = 0.0
    for frame in medley(pieces):
        was_speaking = at_work.is_speaking
        for activity in at_work.feed(frame):
            match activity:
                case SpeechBegan(began):
                    assert not was_speaking
                    assert latest <= began < at_work.position
                case SpeechEnded(began, ended):
                    assert was_speaking
                    assert latest <= began < ended <= at_work.position
                    # What is shorter than an onset takes to be certain cannot be cut shorter.
                    assert ended - began <= max(max_utterance, 0.2) + 1e-9
                    latest = ended
            was_speaking = at_work.is_speaking
        assert 0.0 <= at_work.speech_seconds <= at_work.position


@given(pieces=MEDLEYS)
def test_the_same_audio_gives_the_same_activity(pieces: list[tuple[str, int, int]]) -> None:
    one, other = endpointer(), endpointer()
    for frame in medley(pieces):
        assert one.feed(frame) == other.feed(frame)
        assert one.level_dbfs == other.level_dbfs
