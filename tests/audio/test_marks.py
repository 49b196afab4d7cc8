"""Marked speech: what is marked is heard, whatever a client's audio stack does short of changing the sound."""

import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_samples import Say, Spoken, noise, quantize, say_all, silence, tone

from voisnap_mock.audio.marks import (
    MAX_UTTERANCE,
    Decoded,
    HeardWord,
    MarkDecoder,
    Speaker,
    decode,
    gather,
    mark,
)
from voisnap_mock.engine.events import Word

BLOCK = 320
TEXT = "hello i would like to check the status of my order please"


@cache
def speech() -> Spoken:
    return say_all(Say(TEXT))[0]


def words_over(text: str, begin: float, end: float) -> list[Word]:
    """The words of a text, evenly over a stretch of time."""
    tokens = text.split()
    step = (end - begin) / max(len(tokens), 1)
    return [Word(token, begin + place * step, begin + (place + 1) * step) for place, token in enumerate(tokens)]


def marked(text: str = TEXT, *, rate: int = 16_000, utterance: int = 7, speaker: Speaker = Speaker.CALLER) -> bytes:
    """Speech with that text in it, whatever is really said."""
    words = words_over(text, speech().begin * 16_000 / rate, speech().end * 16_000 / rate)
    return mark(speech().pcm.tobytes(), words, sample_rate=rate, utterance=utterance, speaker=speaker)


def frames(audio: bytes) -> list[bytes]:
    """20 ms each, the last one may be short."""
    return [audio[at : at + 640] for at in range(0, len(audio), 640)]


def text_of(decoded: Decoded) -> list[str]:
    return [utterance.text for utterance in decoded.utterances]


def heard_in(decoded: Decoded) -> list[HeardWord]:
    return [word for utterance in decoded.utterances for word in utterance.words]


# --- Any text -------------------------------------------------------------------------------------------------

TEXTS = {
    "a sentence": TEXT,
    "one word": "yes",
    "one letter": "I",
    "letters": "a b c I o e u y",
    "only punctuation": "...",
    "a dash between": "hello — world",
    "emoji": "😀" * 40,
    "joined emoji": "👨‍👩‍👧‍👦" * 30 + " ok",
    "Cyrillic": "Привет, как дела? Сегодня хорошая погода",
    "Chinese": "你好，今天天气很好。我们去公园吧！",
    "Japanese": "「今日は」と言いました。",
    "Thai": "สวัสดีครับ วันนี้อากาศดีมาก",
    "Korean": "안녕하세요 오늘 날씨가 좋네요",
    "Arabic": "مرحبا كيف حالك اليوم",
    "Persian with a joiner": "می‌خواهم بروم",
    "combining": "e\u0301cole nai\u0308ve",
    "a web address": "https://example.test/" + "segment/" * 30,
    "300 characters without a space": "x" * 300,
    "5,000 characters": " ".join(f"word{number:04d}" for number in range(556))[:5000],
    "5,000 characters without a space": "y" * 5000,
}


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_arrives_as_it_was_given(text: str, rate: int) -> None:
    (utterance,) = decode(marked(text, rate=rate), rate).utterances
    assert utterance.text == text
    assert utterance.missing == ()
    assert utterance.coverage == 1.0
    assert [word.text for word in utterance.transcript().words] == text.split()


def test_a_text_that_fits_makes_the_audio_no_longer() -> None:
    assert len(marked()) == len(speech().pcm.tobytes())


def test_text_without_audio_gets_the_silence_it_needs() -> None:
    audio = mark(b"", [Word("hello", 0, 0)], sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
    assert text_of(decode(audio, 16_000)) == ["hello"]
    assert len(audio) == 2 * 2 * BLOCK


def test_audio_without_words_stays_as_it_is() -> None:
    for words in ([], [Word("", 0, 1)], [Word(" \x07 ", 0, 1)]):
        audio = mark(speech().pcm.tobytes(), words, sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
        assert audio == speech().pcm.tobytes()


@given(st.text(max_size=60), st.sampled_from([16_000, 24_000]))
@settings(max_examples=60, deadline=None)
def test_every_text_without_control_characters_arrives(text: str, rate: int) -> None:
    audio = mark(bytes(3200), words_over(text, 0.02, 0.09), sample_rate=rate, utterance=1, speaker=Speaker.AGENT)
    heard = " ".join(text_of(decode(audio, rate)))
    again = mark(bytes(3200), words_over(heard, 0.02, 0.09), sample_rate=rate, utterance=1, speaker=Speaker.AGENT)
    assert text_of(decode(again, rate)) == ([heard] if heard else [])
    if text.isprintable():
        assert heard == " ".join(text.split())


SPOKEN = (
    Say(TEXT),
    Say("It costs 1,234.56 dollars, i.e. a lot, isn't it?", "en-us+f3", 320),
    Say("A b c, I owe you.", "en-us", 450),
    Say("Привет, как у вас дела сегодня?", "ru"),
    Say("Guten Tag, wie kann ich helfen?", "de", 120),
    Say("你好，今天天气很好。", "cmn"),
    Say("مرحبا كيف حالك", "ar"),
    Say("Yes 😀 no — maybe ...", "en-us"),
)


@pytest.mark.parametrize("order", SPOKEN, ids=lambda order: order.text[:12])
def test_spoken_words_are_heard_where_the_voice_put_them(order: Say) -> None:
    spoken = say_all(*SPOKEN)[SPOKEN.index(order)]
    audio = mark(spoken.pcm.tobytes(), spoken.words, sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
    (utterance,) = decode(audio, 16_000).utterances
    heard = utterance.transcript().words
    assert [word.text for word in heard] == [text for word in spoken.words for text in word.text.split()]
    assert len(audio) <= spoken.pcm.nbytes + 2 * 2 * BLOCK
    at_their_place = sum(abs(a.begin - b.begin) < 0.001 for a, b in zip(heard, spoken.words, strict=False))
    # Only where words are too short for a mark of their own do they share one.
    assert at_their_place >= len(heard) * (0.3 if order.rate == 450 else 0.6)


def test_words_lie_where_they_were_put() -> None:
    words = words_over(TEXT, speech().begin, speech().end)
    (utterance,) = decode(marked(), 16_000).utterances
    for given_word, heard in zip(words, utterance.words, strict=True):
        assert heard.begin == pytest.approx(given_word.begin, abs=1e-4)
        assert given_word.end - 0.06 < heard.end <= given_word.end + 0.01


def test_times_out_of_order_or_out_of_the_audio_do_no_harm() -> None:
    words = [Word("one", 0.5, 0.6), Word("two", 0.1, 0.2), Word("three", 99.0, 99.5), Word("four", -1.0, 0.0)]
    audio = mark(bytes(32_000), words, sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
    assert text_of(decode(audio, 16_000)) == ["one two three four"]


def test_the_mark_is_a_noise_below_70_dbfs() -> None:
    host = speech().pcm.astype(np.int32)
    moved = np.frombuffer(marked(), "<i2").astype(np.int32) - host
    assert np.abs(moved).max() <= 16
    assert 20 * np.log10(np.sqrt((moved[moved != 0] ** 2).mean()) / 32768) < -70


def test_full_scale_audio_stays_within_16_bits() -> None:
    host = quantize(40_000 * np.sin(np.arange(16_000) / 20))
    loud = np.abs(host.astype(np.int32)) > 32_600
    audio = mark(host.tobytes(), words_over(TEXT, 0, 1), sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
    assert text_of(decode(audio, 16_000)) == [TEXT]
    moved = np.abs(np.frombuffer(audio, "<i2").astype(np.int32) - host)
    assert moved[~loud].max() <= 16
    assert moved[loud].max() <= 168 + 16


@pytest.mark.parametrize(
    ("pcm", "utterance", "message"),
    [(b"abc", 1, "3 bytes"), (b"", -1, "utterance is -1"), (b"", MAX_UTTERANCE + 1, "16777216")],
)
def test_what_cannot_be_marked_is_refused(pcm: bytes, utterance: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mark(pcm, [Word("hi", 0, 1)], sample_rate=16_000, utterance=utterance, speaker=Speaker.CALLER)


def test_more_words_than_can_be_numbered_are_refused() -> None:
    with pytest.raises(ValueError, match="65536 words"):
        mark(b"", [Word("a " * 65_536, 0, 1)], sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)


# --- What a client's audio stack does -------------------------------------------------------------------------

ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"trunc": np.trunc, "floor": np.floor, "round": np.round}


def through_float(pcm: bytes, down: int, up: int, rounding: Callable[[np.ndarray], np.ndarray]) -> bytes:
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(down)
    return rounding(np.clip(samples * np.float32(up), -32768, 32767)).astype("<i2").tobytes()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("up", [32767, 32768])
@pytest.mark.parametrize("down", [32767, 32768])
def test_a_way_through_float_is_exact_four_times_over(down: int, up: int, rounding: str) -> None:
    audio = marked()
    for _ in range(4):
        audio = through_float(audio, down, up, ROUNDINGS[rounding])
    assert text_of(decode(audio, 16_000)) == [TEXT]


def test_an_error_of_six_in_any_sample_is_tolerated() -> None:
    error = np.random.default_rng(1).integers(-6, 7, len(marked()) // 2)
    samples = np.frombuffer(marked(), "<i2") + error
    assert text_of(decode(quantize(samples).tobytes(), 16_000)) == [TEXT]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_chunks_of_any_size_give_the_same_words(sizes: list[int], lead: int) -> None:
    audio = np.random.default_rng(lead).integers(-3000, 3000, lead).astype("<i2").tobytes() + marked()
    decoder = MarkDecoder(16_000)
    heard: list[HeardWord] = []
    at = 0
    while at < len(audio):
        size = sizes[at % len(sizes)]
        heard += decoder.push(audio[at : at + size])
        at += size
    heard += decoder.finish()
    assert heard == heard_in(decode(audio, 16_000))
    assert gather(heard)[0].text == TEXT
    assert decoder.spans == decode(audio, 16_000).spans


@pytest.mark.parametrize("lead", [0, 1, 319, 320, 12_345])
def test_a_word_is_told_within_40_ms_of_its_end(lead: int) -> None:
    audio = bytes(2 * lead) + marked() + bytes(6400)
    decoder = MarkDecoder(16_000)
    count = 0
    for number, frame in enumerate(frames(audio), start=1):
        for word in decoder.push(frame):
            count += 1
            assert number * 0.02 - word.end <= 0.04
    assert count == len(TEXT.split())


# --- Loss -----------------------------------------------------------------------------------------------------


def without(audio: bytes, begin: float, end: float, *, silenced: bool) -> bytes:
    first, last = round(begin * 16_000) * 2, round(end * 16_000) * 2
    return audio[:first] + bytes(last - first if silenced else 0) + audio[last:]


@pytest.mark.parametrize("silenced", [True, False], ids=["silenced", "cut out"])
def test_a_lost_word_is_missing_and_only_that_one(silenced: bool) -> None:
    whole = heard_in(decode(marked(), 16_000))
    lost = whole[4]
    arrived = decode(without(marked(), lost.begin, lost.end, silenced=silenced), 16_000)
    (utterance,) = arrived.utterances
    assert utterance.missing == (range(4, 5),)
    assert [word.text for word in utterance.words] == [word.text for word in whole if word is not lost]
    assert all(word.coverage == 1.0 for word in utterance.words)
    gone = 0 if silenced else lost.end - lost.begin
    for word, original in zip(utterance.words[4:], whole[5:], strict=True):
        assert word.begin == pytest.approx(original.begin - gone, abs=1e-4)
    assert "status" in utterance.text
    assert utterance.coverage == pytest.approx(11 / 12)
    assert utterance.transcript().confidence == pytest.approx(11 / 12, abs=1e-3)


@pytest.mark.parametrize("silenced", [True, False], ids=["silenced", "cut out"])
@pytest.mark.parametrize(("lost_blocks", "is_heard"), [(5, True), (6, False)])
@pytest.mark.parametrize("part", ["head", "tail"])
def test_a_word_is_heard_from_half_its_blocks(lost_blocks: int, is_heard: bool, part: str, silenced: bool) -> None:
    words = [Word("first", 0.0, 0.2), Word("second", 0.2, 0.4)]
    host = tone(0.4, 300, -20).tobytes()
    audio = mark(host, words, sample_rate=16_000, utterance=1, speaker=Speaker.CALLER)
    begin = 0.2 if part == "head" else 0.4 - lost_blocks * 0.02
    heard = heard_in(decode(without(audio, begin, begin + lost_blocks * 0.02, silenced=silenced), 16_000))
    assert [word.text for word in heard] == (["first", "second"] if is_heard else ["first"])
    if is_heard:
        assert heard[1].coverage == 0.5
        assert heard[1].begin == pytest.approx(0.2)
        if silenced:
            assert heard[1].end == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("silenced", [True, False], ids=["silenced", "cut out"])
def test_five_percent_of_lost_frames_never_make_a_wrong_or_doubled_word(silenced: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrived = b"".join(
        frame if rng.random() > 0.05 else bytes(640 if silenced else 0)
        for frame in frames(bytes(2 * int(rng.integers(320))) + marked())
    )
    heard = heard_in(decode(arrived, 16_000))
    assert len(heard) >= 10
    assert len({word.index for word in heard}) == len(heard)
    assert all(word.text == TEXT.split()[word.index] for word in heard)


def test_frames_that_come_twice_double_no_word() -> None:
    twice = b"".join(frame * (2 if number % 9 == 4 else 1) for number, frame in enumerate(frames(marked())))
    assert text_of(decode(twice, 16_000)) == [TEXT]


def test_the_same_audio_played_again_is_heard_again() -> None:
    assert text_of(decode(marked() * 3, 16_000)) == [TEXT] * 3
    assert text_of(decode(marked("no") * 3, 16_000)) == ["no"] * 3


def test_audio_that_stops_in_the_middle_tells_what_arrived() -> None:
    whole = marked()
    (utterance,) = decode(whole[: len(whole) // 4 * 2], 16_000).utterances
    assert TEXT.startswith(utterance.text)
    assert utterance.missing == (range(utterance.words[-1].index + 1, 12),)
    assert utterance.transcript().confidence > 0.9


def test_a_transcript_counts_from_where_the_utterance_began() -> None:
    (utterance,) = decode(silence(2.0).tobytes() + marked(), 16_000).utterances
    transcript = utterance.transcript(origin=2.0)
    assert transcript.ear == "marks"
    assert transcript.confidence == 1.0
    assert transcript.words[0].begin == pytest.approx(speech().begin, abs=1e-4)


# --- Two voices, and the edges of what is marked -----------------------------------------------------------------


def test_an_agent_and_a_caller_are_told_apart() -> None:
    audio = marked("agent speaking", utterance=1, speaker=Speaker.AGENT) + marked("caller speaking", utterance=1)
    decoded = decode(audio, 16_000)
    assert [(u.speaker, u.text) for u in decoded.utterances] == [
        (Speaker.AGENT, "agent speaking"),
        (Speaker.CALLER, "caller speaking"),
    ]
    assert {span.speaker for span in decoded.spans} == {Speaker.AGENT, Speaker.CALLER}


def test_marked_spans_are_exact_to_the_sample() -> None:
    host = silence(1.0).tobytes() + bytes(2 * 123) + marked("...") + silence(1.0).tobytes()
    begin = 1.0 + 123 / 16_000 + speech().begin
    (span,) = decode(host, 16_000).spans
    assert span.begin == pytest.approx(begin, abs=1 / 16_000)
    assert span.end == pytest.approx(1.0 + 123 / 16_000 + speech().end, abs=0.05)


def test_spans_of_a_long_recording_are_all_told() -> None:
    audio = (blocks_of(b"yes") + silence(0.1).tobytes()) * 300
    assert len(decode(audio, 16_000).spans) == 300
    decoder = MarkDecoder(16_000)
    decoder.push(audio)
    assert len(decoder.spans) == 256


# --- What is not marked ----------------------------------------------------------------------------------------


def mu_law(pcm: bytes) -> bytes:
    """G.711 there and back, at the full rate."""
    x = np.frombuffer(pcm, "<i2").astype(np.float64) / 32768
    squeezed = np.round(np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256) * 127) / 127
    return quantize(np.sign(squeezed) * (256 ** np.abs(squeezed) - 1) / 255 * 32767).tobytes()


UNMARKED: dict[str, Callable[[], bytes]] = {
    "speech": lambda: b"".join(
        spoken.pcm.tobytes()
        for spoken in say_all(Say(TEXT), Say(TEXT, "de"), Say(TEXT, "ru"), Say(TEXT, "en-us+f3", 250))
    ),
    "white noise": lambda: noise(20, -30).tobytes(),
    "faint noise": lambda: noise(20, -80).tobytes(),
    "tone": lambda: tone(5, 440, -20).tobytes(),
    "square wave": lambda: np.tile(np.repeat(np.array([8000, -8000], "<i2"), 20), 2000).tobytes(),
    "silence": lambda: silence(5).tobytes(),
    "full scale": lambda: np.full(80_000, 32767, "<i2").tobytes(),
    "steps of 16": lambda: (np.arange(80_000) * 16 % 60_000 - 30_000).astype("<i2").tobytes(),
    "the sync alone": lambda: (
        (np.tile(np.unpackbits(np.frombuffer(b"\xb5\xc4", np.uint8)), 5000) * 16).astype("<i2").tobytes()
    ),
    "a program": lambda: Path(sys.executable).read_bytes()[:2_000_000],
    "marks at half the volume in noise": lambda: quantize(
        np.frombuffer(marked(), "<i2") * 0.5 + noise(len(marked()) / 32_000, -40)[: len(marked()) // 2]
    ).tobytes(),
}


@pytest.mark.parametrize("name", UNMARKED)
def test_unmarked_audio_has_no_words(name: str) -> None:
    assert decode(UNMARKED[name](), 16_000) == Decoded((), ())


def test_marks_after_g711_are_gone_but_never_wrong() -> None:
    heard = heard_in(decode(mu_law(marked()), 16_000))
    assert all(word.text == TEXT.split()[word.index] for word in heard)
    assert len(heard) <= 2


def test_nothing_in_nothing_out() -> None:
    decoder = MarkDecoder(16_000)
    assert decoder.push(b"") == ()
    assert decoder.finish() == ()
    assert decoder.spans == ()


# --- The format, and marks that somebody else wrote ---------------------------------------------------------------


def blocks_of(
    text: bytes,
    *,
    index: int = 0,
    total: int = 1,
    count: int = 2,
    version: int = 1,
    agent: int = 0,
    utterance: int = 5,
    number: int | None = None,
) -> bytes:
    """A unit written from the description alone, bit by bit, on silence."""
    register = [1] * 15
    whitening = []
    for _ in range(304):
        bit = register[14] ^ register[13]
        register = [bit, *register[:14]]
        whitening.append(bit)
    fragments = [text[at : at + 22] for at in range(0, max(len(text), 1), 22)]
    pcm = b""
    for block in range(count):
        fragment = block % len(fragments)
        fields = (
            f"{version:04b}{agent:01b}00{len(fragments[fragment]):05b}{utterance:024b}{index:016b}{total:016b}"
            f"{block if number is None else number:010b}{count:010b}{fragment:04b}{len(fragments) - 1:04b}"
        )
        body = int(fields, 2).to_bytes(12, "big") + fragments[fragment].ljust(22, b"\0")
        body += zlib.crc32(body).to_bytes(4, "big")
        bits = [int(bit) for byte in body for bit in f"{byte:08b}"]
        sync = [int(bit) for bit in f"{0xB5C4:016b}"]
        pcm += (np.array(sync + [a ^ b for a, b in zip(bits, whitening, strict=True)]) * 16).astype("<i2").tobytes()
    return pcm


def test_the_written_format_is_the_described_one() -> None:
    words = [Word("hello", 0.0, 0.0)]
    audio = mark(bytes(2 * 2 * BLOCK), words, sample_rate=16_000, utterance=5, speaker=Speaker.CALLER)
    assert (np.frombuffer(audio, "<i2") // 16 % 2).tolist() == (
        np.frombuffer(blocks_of(b"hello"), "<i2") // 16 % 2
    ).tolist()


@pytest.mark.parametrize(
    ("forged", "texts"),
    [
        (blocks_of(b"plain words", total=2), ["plain words"]),
        (blocks_of(b"red \x1b[31m alert\x07", total=3), ["red [31m alert"]),
        (blocks_of("turned\u202e round".encode(), total=2), ["turned round"]),
        (blocks_of("line\u2028break\u0085here".encode()), ["linebreakhere"]),
        (blocks_of(b"\x1fpiece\x1fof\x1fone", total=3), ["pieceofone"]),
        (blocks_of(b"  ", total=3), []),
        (blocks_of(b""), []),
        (blocks_of(b"half a \xf0\x9f", total=3), []),
        (blocks_of(b"surrogate \xed\xa0\x80", total=2), []),
        (blocks_of(b"more words than announced", total=2), []),
        (blocks_of(b"past the end", index=4, total=3), []),
        (blocks_of(b"version two", total=2, version=2), []),
        (blocks_of(b"number past the count", total=4, number=5), []),
        (blocks_of(b"x" * 352, count=32), ["x" * 352]),
    ],
    ids=lambda value: None if isinstance(value, bytes) else "|".join(value)[:20] or "nothing",
)
def test_a_forged_mark_is_text_at_most(forged: bytes, texts: list[str]) -> None:
    assert text_of(decode(forged + bytes(640), 16_000)) == texts


def test_a_damaged_bit_is_no_word() -> None:
    samples = np.frombuffer(blocks_of(b"hello"), "<i2").copy()
    samples[100] += 16
    samples[420] += 16
    assert decode(samples.tobytes(), 16_000) == Decoded((), ())


def test_blocks_that_contradict_each_other_make_no_word_of_both() -> None:
    first, second = blocks_of(b"one", total=1, count=4), blocks_of(b"two", total=1, count=6)
    mixed = first[:640] + second[640 : 2 * 640]
    assert heard_in(decode(mixed + bytes(6400), 16_000)) == []
