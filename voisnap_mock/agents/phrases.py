"""Words as a dialogue compares them: case, punctuation, accents' encodings and the spelling of digits do not matter.

Speech recognisers write `four one seven nine` where a person types `4179`; both sides of a comparison are brought to
digits, so a script may use either. What sounds like a digit among digits is one: recognisers do not know better.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_DIGITS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4",
    "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
_ZEROS = ("oh", "o")
_SOUND_LIKE_DIGITS = {"oh": "0", "o": "0", "for": "4", "to": "2", "too": "2"}
_DIGITS_OF_A_NUMBER = 3

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_WORD_IN_TEXT = re.compile(r"\w+")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u02bc")

# Scripts that write no spaces between words: each character counts as a word, so that a phrase is found inside a
# sentence. Thai and Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Heard:
    """A text that the caller said or wrote, ready to be compared."""

    __slots__ = ("_digits", "_words", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._words: str | None = None
        self._digits: str | None = None

    def says(self, phrase: str) -> bool:
        """Whether the words of `phrase` occur in it, whole, together and in order."""
        if self._words is None:
            self._words = words_of(self.text)
        sought = _words_of_phrase(phrase)
        return bool(sought) and sought in self._words

    def search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Search the text as it is, else with its digit words as digits."""
        found = pattern.search(self.text)
        if found is not None:
            return found
        if self._digits is None:
            self._digits = with_digits(self.text)
        return pattern.search(self._digits) if self._digits != self.text else None


def words_of(text: str) -> str:
    """The words of a text, each with a space before it, one more at the end; empty when there is none.

    Folded, without punctuation, digit words as digits. `don't` is one word, `e-mail` two.

    >>> words_of("Call 555, please: don't wait for OH one!")
    ' call 555 please dont wait for 0 1 '
    """
    folded = text.casefold().translate(_APOSTROPHES)
    words = _ASCII_WORD.findall(folded) if folded.isascii() else _unicode_words(folded)
    return f" {' '.join(_digits(words))} " if words else ""


# Phrases come from scripts, so there are only so many; what callers say is not kept.
_words_of_phrase = lru_cache(maxsize=4096)(words_of)


def with_digits(text: str) -> str:
    """The text with English digit words written as digits, the rest as it was.

    >>> with_digits("My number is four one seven nine")
    'My number is 4 1 7 9'
    """
    matches = list(_WORD_IN_TEXT.finditer(text))
    digits = _digits([match[0].casefold() for match in matches])
    pieces: list[str] = []
    end = 0
    for match, word in zip(matches, digits, strict=True):
        pieces += text[end : match.start()], word if word != match[0].casefold() else match[0]
        end = match.end()
    return "".join([*pieces, text[end:]])


def _digits(words: list[str]) -> list[str]:
    """The same words, those that are digits in their place as digits."""
    certain = [_DIGITS.get(word, word if len(word) == 1 and word.isdigit() else "") for word in words]
    digits = [digit or word for digit, word in zip(certain, words, strict=True)]
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and (certain[end] or words[end] in _SOUND_LIKE_DIGITS):
            end += 1
        for index in range(start, end):
            if not certain[index] and _is_meant_as_digit(words, index, run=(start, end), certain=certain):
                digits[index] = _SOUND_LIKE_DIGITS[words[index]]
        start = end + 1
    return digits


def _is_meant_as_digit(words: list[str], index: int, *, run: tuple[int, int], certain: list[str]) -> bool:
    """Whether a word that sounds like a digit is one, in a run of digits and such words.

    "oh" beside a digit is a zero. "for" and "to" are what a recogniser makes of four and two in a longer number; they
    stay words where a sentence would have them: "from nine to five", "a refund for one two three".
    """
    start, end = run
    digits = sum(1 for digit in certain[start:end] if digit)
    if words[index] in _ZEROS:
        return digits >= 1
    if digits < _DIGITS_OF_A_NUMBER:
        return False
    if index == start:
        return start == 0 or words[start - 1] in ("is", "number")
    return index < end - 1 or end == len(words)


def _unicode_words(folded: str) -> list[str]:
    words: list[str] = []
    word = ""
    for character in unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold()):
        is_mark = unicodedata.category(character).startswith("M")
        if not (character.isalnum() or is_mark) or (is_mark and not word):
            words.append(word)
            word = ""
        elif _is_unspaced(character) and not is_mark:
            words += word, character
            word = ""
        else:
            word += character
    return [word for word in (*words, word) if word]


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return code >= 0x0E00 and any(first <= code <= last for first, last in _UNSPACED)
