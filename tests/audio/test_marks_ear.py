"""The ear for marked speech: exact words, in the chain with the others."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_samples import SENTENCES, Samples, Say, Spoken, noise, say_all, silence

from voisnap_mock.audio.mark_blocks import Block, embed, serialize_block
from voisnap_mock.audio.marks import Speaker, mark
from voisnap_mock.audio.marks_ear import MOST_TEXT, MarksEar
from voisnap_mock.audio.stt import ActivityEar, Hearing, Listener
from voisnap_mock.engine.events import Transcript


def spoken(number: int = 0) -> Spoken:
    return say_all(*map(Say, SENTENCES[:3]))[number]


def marked(number: int = 0, *, speaker: Speaker = Speaker.CALLER) -> bytes:
    one = spoken(number)
    return mark(one.pcm.tobytes(), one.words, sample_rate=16_000, utterance=number, speaker=speaker)


def hear(*parts: bytes | Samples, speech_seconds: float = 2.0, chunk: int = 3200) -> Transcript | None:
    pcm = b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)
    listener = MarksEar().open()
    for at in range(0, len(pcm), chunk):
        listener.accept(pcm[at : at + chunk])
    return listener.finish(speech_seconds)


def test_the_words_are_exact_and_where_they_were_said() -> None:
    heard = hear(silence(0.3), marked(), silence(0.7))
    assert heard is not None
    assert (heard.text, heard.confidence, heard.ear) == (SENTENCES[0], 1.0, "marks")
    for word, truth in zip(heard.words, spoken().words, strict=True):
        assert word.text == truth.text
        assert word.begin == pytest.approx(0.3 + truth.begin, abs=0.001)


def test_unmarked_speech_is_for_the_next_ear() -> None:
    assert hear(silence(0.3), spoken().pcm, silence(0.7)) is None


def test_several_utterances_in_one_turn_are_one_text() -> None:
    heard = hear(marked(0), silence(0.4), marked(1), marked(1))
    assert heard is not None
    assert heard.text == " ".join((SENTENCES[0], SENTENCES[1], SENTENCES[1]))
    assert len(heard.words) == len(heard.text.split())
    begins = [word.begin for word in heard.words]
    assert begins == sorted(begins)


def test_partials_grow_word_by_word_as_they_arrive() -> None:
    listener = MarksEar().open()
    assert listener.partial() is None
    pcm, shown = marked() + bytes(6400), []
    for at in range(0, len(pcm), 640):
        listener.accept(pcm[at : at + 640])
        partial = listener.partial()
        words = partial.text.split() if partial is not None else []
        # A word is shown within 40 ms of its end.
        assert len(words) >= sum(word.end + 0.04 <= (at + 640) / 32_000 for word in spoken().words)
        shown.append(words)
    assert all(later[: len(sooner)] == sooner for sooner, later in pairwise(shown))
    assert len({len(words) for words in shown}) == len(SENTENCES[0].split()) + 1


def test_what_was_lost_lowers_the_confidence_and_leaves_out_only_those_words() -> None:
    lost = spoken().words[3]
    pcm = bytearray(marked())
    begin, end = round(lost.begin * 16_000) * 2, round(lost.end * 16_000) * 2
    pcm[begin:end] = bytes(end - begin)
    heard = hear(bytes(pcm))
    assert heard is not None
    assert heard.text.split() == [word for at, word in enumerate(SENTENCES[0].split()) if at != 3]
    assert 0.8 < heard.confidence < 1.0


def test_the_agents_own_voice_is_no_text_of_the_caller() -> None:
    assert hear(silence(0.3), marked(speaker=Speaker.AGENT)) == Transcript("", 0.0, "marks")
    both = hear(marked(0, speaker=Speaker.AGENT), marked(1))
    assert both is not None
    assert both.text == SENTENCES[1]


def test_a_little_echo_before_unmarked_speech_leaves_it_to_the_next_ear() -> None:
    echo = marked(speaker=Speaker.AGENT)[: 32_000 * 3 // 10]
    assert hear(echo, spoken(1).pcm, speech_seconds=2.5) is None


class CountingEar:
    """Counts the audio it hears."""

    name = "counting"
    is_sure = False

    def __init__(self) -> None:
        self.heard = 0

    def open(self) -> Listener:
        return self

    def accept(self, pcm: bytes) -> None:
        self.heard += len(pcm)

    def partial(self, expected: str | None = None) -> Transcript | None:
        return Transcript("something else")

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        return Transcript("something else", 0.5, self.name)


def test_once_a_word_was_heard_no_other_ear_is_asked() -> None:
    other = CountingEar()
    listening = Hearing([MarksEar(), other, ActivityEar()]).open()
    pcm = marked() + bytes(3200)
    for at in range(0, len(pcm), 3200):
        listening.accept(pcm[at : at + 3200])
    assert listening.finish(2.0).text == SENTENCES[0]
    assert other.heard < (spoken().words[0].end + 0.2) * 32_000


def test_without_marks_the_others_hear_everything() -> None:
    other = CountingEar()
    listening = Hearing([MarksEar(), other]).open()
    listening.accept(spoken().pcm.tobytes())
    assert listening.partial() == Transcript("something else")
    assert listening.finish(2.0).text == "something else"
    assert other.heard == spoken().pcm.nbytes


# --- Forged marks ---------------------------------------------------------------------------------------------------


def forged(*texts: bytes, count: int = 1) -> bytes:
    """Marks as nobody of ours would make them: a word in every 20 ms, any bytes as text."""
    samples = np.zeros(320 * len(texts), np.int16)
    for at, text in enumerate(texts):
        block = Block(False, 1, at % 65_535, 65_535, 0, count, 0, 1, text[:22])
        embed(samples[320 * at :], serialize_block(block))
    return samples.tobytes()


def test_text_that_is_no_text_is_not_heard() -> None:
    assert (
        hear(forged(b"\xff\xfe\x00", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"", b" ", b"\x1f", b"\x00\x1b")) is None
    )


def test_what_would_turn_a_terminal_or_a_line_is_taken_out() -> None:
    texts = ["\x1b[31mred", "a\nb", "\u202eevil\u202c", "tab\there", "</script>", "{{ name }}", '"}]}']
    heard = hear(forged(*(text.encode() for text in texts)))
    assert heard is not None
    assert heard.text == '[31mred ab evil tabhere </script> {{ name }} "}]}'
    assert heard.text.isprintable()


def test_a_flood_of_words_is_bounded() -> None:
    heard = hear(forged(*[b"w" * 22] * 1500))
    assert heard is not None
    assert len(heard.text) <= MOST_TEXT
    assert len(heard.words) > 400


@given(st.lists(st.binary(max_size=22), max_size=12))
@settings(max_examples=60, deadline=None)
def test_whatever_is_forged_the_text_is_clean(texts: list[bytes]) -> None:
    heard = hear(forged(*texts), noise(0.1, -40))
    if heard is not None:
        assert heard.text.strip() == heard.text != ""
        assert not any(letter in heard.text for letter in "\r\n\t\x1b\x00\u202e\u2028")
        assert 0.0 <= heard.confidence <= 1.0
        assert all(0.0 <= word.begin <= word.end for word in heard.words)
