"""Graphs: every word and nothing else can be heard, and probabilities are probabilities."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.tiny_model.fst import EPSILON, Transducer
from voisnap_mock.audio.tiny_model.graph import UNKNOWN_WORD, bigram_model, graph_files, word_loop, word_numbers
from voisnap_mock.audio.tiny_model.lexicon import Pronunciation, count_bigrams
from voisnap_mock.audio.tiny_model.phones import Phones, entering, staying

PHONES = Phones(("k", "a", "t"))
LEXICON = {
    "cat": (Pronunciation(("k", "a", "t"), 1.0), Pronunciation(("k", "a"), 0.25)),
    "a": (Pronunciation(("a",), 1.0),),
}
NUMBERS = word_numbers(LEXICON)


def paths(fst: Transducer, frames: list[int], state: int | None = None) -> Iterator[tuple[list[int], float]]:
    """Every way to read `frames` to an end: what is written, and the cost."""
    state = fst.start if state is None else state
    if not frames and math.isfinite(fst.final_cost(state)):
        yield [], fst.final_cost(state)
    for arc in fst.arcs(state):
        if arc.reads == EPSILON:
            rest = frames
        elif frames and frames[0] == arc.reads:
            rest = frames[1:]
        else:
            continue
        written = [arc.writes] if arc.writes else []
        yield from ((written + more, arc.cost + cost) for more, cost in paths(fst, rest, arc.to))


def frames_of(sounds: str, *, each: int = 1) -> list[int]:
    phones = PHONES.of_word(sounds.split())
    return [label for phone in phones for label in [entering(phone), *[staying(phone)] * (each - 1)]]


def heard(frames: list[int]) -> list[list[str]]:
    names = {number: word for word, number in NUMBERS.items()}
    found = sorted(paths(word_loop(LEXICON, NUMBERS, PHONES), frames), key=lambda path: path[1])
    return [[names[number] for number in written] for written, _ in found]


SILENCE = [entering(PHONES.number("SIL")), staying(PHONES.number("SIL"))]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (frames_of("k a t"), ["cat"]),
        (frames_of("k a t", each=4), ["cat"]),
        (frames_of("k a"), ["cat"]),
        (frames_of("a"), ["a"]),
        (frames_of("a") + frames_of("k a t"), ["a", "cat"]),
        (frames_of("a") + SILENCE + frames_of("a"), ["a", "a"]),
        (SILENCE + frames_of("a") + SILENCE, ["a"]),
        (SILENCE, []),
    ],
)
def test_the_loop_hears_words_with_or_without_silence(frames: list[int], words: list[str]) -> None:
    assert heard(frames) == [words]


@pytest.mark.parametrize("frames", [frames_of("k"), frames_of("t a"), frames_of("k a")[:1], SILENCE + SILENCE])
def test_the_loop_hears_nothing_else(frames: list[int]) -> None:
    assert heard(frames) == []


def test_an_unknown_word_lasts_three_frames_at_least() -> None:
    unknown = [entering(phone) for phone in PHONES.of_word(["SPN"] * 3)]
    assert heard(unknown) == [[UNKNOWN_WORD]]
    assert heard(unknown[:2]) == []


def test_a_rarer_pronunciation_costs_more() -> None:
    fst = word_loop(LEXICON, NUMBERS, PHONES)
    (usual,), (rare,) = (list(paths(fst, frames_of(sounds))) for sounds in ("k a t", "k a"))
    assert rare[1] - usual[1] == pytest.approx(-0.5 * math.log(0.25))


def shares_after(fst: Transducer, state: int) -> dict[int, float]:
    """What may follow in this state, with its probability; a pair that was counted hides its way over the back-off."""
    (back_off,) = [arc for arc in fst.arcs(state) if arc.reads == EPSILON]
    unigrams = {arc.reads: math.exp(-arc.cost) for arc in fst.arcs(back_off.to)} | {
        0: math.exp(-fst.final_cost(back_off.to))
    }
    seen = {arc.reads: math.exp(-arc.cost) for arc in fst.arcs(state) if arc.reads != EPSILON}
    if math.isfinite(fst.final_cost(state)):
        seen[0] = math.exp(-fst.final_cost(state))
    return {label: seen.get(label, math.exp(-back_off.cost) * share) for label, share in unigrams.items()}


sentences = st.lists(
    st.lists(st.sampled_from(["a", "cat"]), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=6
)


@given(sentences)
def test_what_follows_a_word_adds_up_to_one(said: list[str]) -> None:
    fst = bigram_model(count_bigrams(said), NUMBERS)
    backed_off = {arc.to for state in range(fst.states) for arc in fst.arcs(state) if arc.reads == EPSILON}
    for state in set(range(fst.states)) - backed_off:
        assert sum(shares_after(fst, state).values()) == pytest.approx(1.0)
    for state in backed_off:
        total = sum(math.exp(-arc.cost) for arc in fst.arcs(state)) + math.exp(-fst.final_cost(state))
        assert total == pytest.approx(1.0)


def test_words_that_were_never_said_have_their_share() -> None:
    fst = bigram_model(count_bigrams(["cat cat"]), NUMBERS)
    shares = shares_after(fst, fst.start)
    assert 0 < shares[NUMBERS["a"]] < shares[NUMBERS["cat"]]
    assert shares[NUMBERS[UNKNOWN_WORD]] > 0


def test_pairs_of_unknown_words_are_left_out() -> None:
    known = bigram_model(count_bigrams(["a cat"]), NUMBERS)
    more = bigram_model(count_bigrams(["a cat"]) + Counter({("dog", "barks"): 3, ("dog", "</s>"): 1}), NUMBERS)
    assert more.serialize(sort="input") == known.serialize(sort="input")


def test_a_model_without_any_sentence_still_knows_its_words() -> None:
    fst = bigram_model(Counter(), NUMBERS)
    assert shares_after(fst, fst.start)[NUMBERS["cat"]] > 0.1


def test_the_folder_has_what_vosk_wants() -> None:
    files = graph_files(LEXICON, count_bigrams(["a cat"]), PHONES)
    assert set(files) == {
        "words.txt",
        "phones.txt",
        "phones/word_boundary.int",
        "disambig_tid.int",
        "HCLr.fst",
        "Gr.fst",
    }
    assert files["words.txt"].decode().splitlines() == ["<eps> 0", "[unk] 1", "a 2", "cat 3", "#0 4", "<s> 5", "</s> 6"]
    # No graph reads this one.
    assert int(files["disambig_tid.int"]) == PHONES.transitions + 1
