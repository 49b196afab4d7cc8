"""Words and how the local synthesiser pronounces them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from voisnap_mock.audio.tiny_model.corpus import ACCENTS
from voisnap_mock.audio.tiny_model.jobs import JobFailed, JobTimedOut, do
from voisnap_mock.audio.tiny_model.lexicon import Pronunciation, Reading, lexicon_of

# Words sound different alone, within a sentence, and before a vowel.
_CARRIERS = ("{}", "say {} again", "is it {}", "the {} of it")
_TIMEOUT = 15.0


def pronounce(
    words: Iterable[str], *, sentences: Sequence[str] = ()
) -> tuple[dict[str, tuple[Pronunciation, ...]], str]:
    """The pronunciations of `words`, alone and in `sentences`, and the synthesiser's name. Blocks some 0.2 s.

    Words that cannot be pronounced with the sounds of the model are missing, and those in other letters than Latin
    ones, which espeak would spell.

    Raises:
        JobFailed: there is no synthesiser.
    """
    words = [word for word in words if _is_latin(word)]
    if not words:
        return {}, ""
    texts = [carrier.format(word) for word in words for carrier in _CARRIERS]
    readings: list[Reading] = []
    engine = ""
    # The engine may not survive some text; the others should not suffer from it.
    for part in _parts([*texts, *sentences]):
        spoken, engine = part
        readings += spoken
    return lexicon_of(readings, words), engine


def _is_latin(word: str) -> bool:
    letters = [letter for letter in word if letter.isalpha()]
    return bool(letters) and all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)


def _parts(texts: Sequence[str]) -> Iterator[tuple[list[Reading], str]]:
    try:
        yield _read(texts)
    except JobTimedOut:
        raise
    except JobFailed:
        # That it is not there at all shows with a plain text.
        _read(["hello"])
        if len(texts) > 1:
            middle = len(texts) // 2
            yield from _parts(texts[:middle])
            yield from _parts(texts[middle:])


def _read(texts: Sequence[str]) -> tuple[list[Reading], str]:
    answer, _ = do({"job": "phonemes", "texts": list(texts), "voices": list(ACCENTS)}, timeout=_TIMEOUT)
    readings = [
        Reading(text, spoken) for in_voice in answer["spoken"] for text, spoken in zip(texts, in_voice, strict=True)
    ]
    return readings, answer["engine"]
