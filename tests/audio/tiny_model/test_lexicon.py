"""Pronunciations out of readings, counts of word pairs, and their files."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.tiny_model.lexicon import (
    Pronunciation,
    Reading,
    count_bigrams,
    lexicon_of,
    parse_bigrams,
    parse_lexicon,
    serialize_bigrams,
    serialize_lexicon,
)
from voisnap_mock.audio.tiny_model.phones import SOUNDS

CAT, CAP = ["k", "'a", "t"], ["k", "'a", "p"]


def test_pronunciations_are_weighed_against_the_most_common_one() -> None:
    readings = [Reading("cat", [CAT])] * 4 + [Reading("cat", [CAP])]
    assert lexicon_of(readings, ["cat"]) == {
        "cat": (Pronunciation(("k", "a", "t"), 1.0), Pronunciation(("k", "a", "p"), 0.25))
    }


def test_rare_pronunciations_are_slips() -> None:
    readings = [Reading("cat", [CAT])] * 30 + [Reading("cat", [CAP])]
    assert [said.sounds for said in lexicon_of(readings, ["cat"])["cat"]] == [("k", "a", "t")]


def test_a_text_whose_words_were_joined_tells_nothing() -> None:
    assert lexicon_of([Reading("the cat", [["D", "@", *CAT]])], ["the", "cat"]) == {}


def test_a_single_word_may_be_spoken_as_several() -> None:
    (said,) = lexicon_of([Reading("b2b", [["b", "'i:"], ["t", "u:"], ["b", "'i:"]])], ["b2b"])["b2b"]
    assert said.sounds == ("b", "i:", "t", "u:", "b", "i:")


def test_words_that_cannot_be_pronounced_are_missing() -> None:
    readings = [Reading("x y", [["y~"], ["k", "a"]])]
    assert list(lexicon_of(readings, ["x", "y", "z"])) == ["y"]


def test_pairs_are_counted_with_the_ends_of_sentences() -> None:
    counts = count_bigrams(["yes please", "yes"], times=2)
    assert counts == {
        ("<s>", "yes"): 4,
        ("yes", "please"): 2,
        ("please", "</s>"): 2,
        ("yes", "</s>"): 2,
    }


words = st.text(st.characters(categories=("L", "N"), include_characters="'-_"), min_size=1, max_size=8)
pronunciations = st.builds(
    Pronunciation,
    st.lists(st.sampled_from(SOUNDS), min_size=1, max_size=5).map(tuple),
    st.integers(1, 10_000).map(lambda weight: weight / 10_000),
)


@given(st.dictionaries(words, st.lists(pronunciations, min_size=1, max_size=3).map(tuple), max_size=5))
def test_a_lexicon_comes_back_from_its_file(lexicon: dict[str, tuple[Pronunciation, ...]]) -> None:
    assert parse_lexicon(serialize_lexicon(lexicon)) == lexicon


@given(st.dictionaries(st.tuples(words, words), st.integers(1, 10**6), max_size=8))
def test_counts_come_back_from_their_file(counts: dict[tuple[str, str], int]) -> None:
    assert parse_bigrams(serialize_bigrams(Counter(counts))) == counts


@pytest.mark.parametrize("line", ["cat", "cat one k", ""])
def test_a_damaged_lexicon_names_the_line(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_lexicon(f"dog 1 d\n{line}\n")


@pytest.mark.parametrize("line", ["a b", "a b one", ""])
def test_damaged_counts_name_the_line(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_bigrams(f"a b 1\n{line}\n")
