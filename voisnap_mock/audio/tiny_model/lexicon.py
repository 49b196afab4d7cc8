"""How words are pronounced, and which follow each other: what graphs are made of, and its two text files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from voisnap_mock.audio.tiny_model.phones import sounds_of

BEGIN = "<s>"
END = "</s>"

Bigrams = Counter[tuple[str, str]]
"""How often a word follows another one; `BEGIN` and `END` stand for the ends of sentences."""

# Rarer ones come from words that run together, or from slips of the engine.
_LEAST_SHARE = 0.05
_MOST_PRONUNCIATIONS = 6


class Pronunciation(NamedTuple):
    """One way to say a word.

    Attributes:
        sounds: names of `phones.SOUNDS`.
        weight: how common it is beside the most common one, above 0 to 1.
    """

    sounds: tuple[str, ...]
    weight: float


Lexicon = Mapping[str, tuple[Pronunciation, ...]]


class Reading(NamedTuple):
    """A text as the synthesiser reads it.

    Attributes:
        text: words with single spaces between.
        spoken: for each spoken word espeak's phonemes; espeak may join or split words of the text.
    """

    text: str
    spoken: Sequence[Sequence[str]]


def lexicon_of(readings: Iterable[Reading], words: Iterable[str]) -> dict[str, tuple[Pronunciation, ...]]:
    """The pronunciations of `words` that occur in the readings, each word's most common one first.

    A reading in which words were joined or split tells nothing about them, unless its text is a single word. Words
    that are left over are missing from the answer.
    """
    counts: dict[str, Counter[tuple[str, ...]]] = {word: Counter() for word in words}
    for text, spoken in readings:
        written = text.split(" ")
        pieces = [[name for word in spoken for name in word]] if len(written) == 1 else spoken
        if len(written) != len(pieces):
            continue
        for word, names in zip(written, pieces, strict=True):
            if word in counts and (sounds := sounds_of(names)) is not None:
                counts[word][sounds] += 1
    return {word: _weighted(counted) for word, counted in sorted(counts.items()) if counted}


def _weighted(counted: Counter[tuple[str, ...]]) -> tuple[Pronunciation, ...]:
    # By name where they are equally common, so that the order in which texts came does not matter.
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:_MOST_PRONUNCIATIONS]
    most = ranked[0][1]
    least = _LEAST_SHARE * counted.total()
    return tuple(Pronunciation(sounds, round(count / most, 4)) for sounds, count in ranked if count >= least)


def count_bigrams(sentences: Iterable[str], *, times: int = 1) -> Bigrams:
    """Count the words of these sentences, each sentence `times` over."""
    counts: Bigrams = Counter()
    for sentence in sentences:
        words = [BEGIN, *sentence.split(), END]
        for pair in pairwise(words):
            counts[pair] += times
    return counts


# --- Files ----------------------------------------------------------------------------------------------------------


def serialize_lexicon(lexicon: Lexicon) -> str:
    """Lines `word weight sound sound ...`, sorted by word."""
    return "".join(
        f"{word} {weight:g} {' '.join(sounds)}\n" for word in sorted(lexicon) for sounds, weight in lexicon[word]
    )


def parse_lexicon(text: str) -> dict[str, tuple[Pronunciation, ...]]:
    """What `serialize_lexicon` wrote.

    Raises:
        ValueError: naming the line that is something else.
    """
    lexicon: dict[str, tuple[Pronunciation, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            word, weight, *sounds = line.split()
            pronunciation = Pronunciation(tuple(sounds), float(weight))
        except ValueError:
            raise ValueError(f"line {number}: {line[:80]!r} is not `word weight sounds`") from None
        lexicon[word] = (*lexicon.get(word, ()), pronunciation)
    return lexicon


def serialize_bigrams(bigrams: Bigrams) -> str:
    """Lines `word follower count follower count ...`, sorted."""
    followers: dict[str, list[str]] = {}
    for (first, second), count in sorted(bigrams.items()):
        followers.setdefault(first, []).append(f"{second} {count}")
    return "".join(f"{first} {' '.join(counted)}\n" for first, counted in followers.items())


def parse_bigrams(text: str) -> Bigrams:
    """What `serialize_bigrams` wrote.

    Raises:
        ValueError: naming the line that is something else.
    """
    bigrams: Bigrams = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            first, *rest = line.split()
            for second, count in zip(rest[::2], rest[1::2], strict=True):
                bigrams[first, second] = int(count)
        except ValueError:
            raise ValueError(f"line {number}: {line[:80]!r} is not `word follower count ...`") from None
    return bigrams
