"""How words are compared: case, punctuation, spelling of digits, and scripts without spaces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.agents.phrases import Heard, with_digits, words_of

SAID = [
    ("I want a REFUND!", "refund", True),
    ("refunds", "refund", False),
    ("my money, back", "money back", True),
    ("money is back", "money back", False),
    ("back money", "money back", False),
    ("Don\u2019t do it", "don't", True),
    ("dont do it", "don't", True),
    ("my e-mail address", "e mail", True),
    ("STRASSE", "stra\u00dfe", True),
    ("cafe\u0301", "caf\u00e9", True),
    ("\uff32\uff25\uff26\uff35\uff2e\uff24", "refund", True),
    ("\u0130stanbul", "i\u0307stanbul", True),
    ("\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u043f\u0440\u0438\u0432\u0435\u0442", True),
    ("\u6211\u8981\u9000\u6b3e", "\u9000\u6b3e", True),
    ("\u6211\u8981\u9000\u6b3e", "\u6b3e\u9000", False),
    ("\u0e02\u0e2d\u0e04\u0e37\u0e19\u0e40\u0e07\u0e34\u0e19", "\u0e04\u0e37\u0e19\u0e40\u0e07\u0e34\u0e19", True),
    ("\u0928\u092e\u0938\u094d\u0924\u0947 \u091c\u0940", "\u0928\u092e\u0938\u094d\u0924\u0947", True),
    ("press one", "press 1", True),
    ("press 1", "press one", True),
    ("oh, hello", "zero", False),
    ("four oh seven", "4 0 7", True),
    ("wait for me", "4", False),
    ("", "refund", False),
    ("refund", "!", False),
    ("\U0001f44d yes", "yes", True),
]


@pytest.mark.parametrize(("text", "phrase", "is_there"), SAID)
def test_a_phrase_is_found_as_whole_words(text: str, phrase: str, is_there: bool) -> None:
    assert Heard(text).says(phrase) is is_there


DIGITS = [
    ("My number is four one seven nine.", "My number is 4 1 7 9."),
    ("Zero-Nine", "0-9"),
    ("oh", "oh"),
    ("oh oh seven", "0 0 7"),
    ("four oh seven", "4 0 7"),
    ("oh no", "oh no"),
    ("for one seven nine", "4 1 7 9"),
    ("my number is for eight nine zero", "my number is 4 8 9 0"),
    ("one two two for eight", "1 2 2 4 8"),
    ("one to three four", "1 2 3 4"),
    ("one two three for", "1 2 3 4"),
    ("from nine to five", "from 9 to 5"),
    ("a refund for one two three", "a refund for 1 2 3"),
    ("one two three for you", "1 2 3 for you"),
    ("wait for two minutes", "wait for 2 minutes"),
    ("someone phoned", "someone phoned"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), DIGITS)
def test_digit_words_become_digits(text: str, expected: str) -> None:
    assert with_digits(text) == expected


@given(st.text())
def test_any_text_can_be_compared_and_contains_itself(text: str) -> None:
    assert Heard(text).says(text) is bool(words_of(text))
    with_digits(text)


@given(st.text(), st.text())
def test_punctuation_and_case_change_nothing(before: str, after: str) -> None:
    assert Heard(f"{before} (Money; BACK?) {after}").says("money back")


def test_a_pattern_sees_the_text_as_it_is_before_digits() -> None:
    heard = Heard("One, order FOUR two")
    found = heard.search(re.compile(r"order (\w+)"))
    assert found is not None
    assert found[1] == "FOUR"
    found = heard.search(re.compile(r"order (\d \d)"))
    assert found is not None
    assert found[1] == "4 2"
    assert heard.search(re.compile(r"\d{5}")) is None
