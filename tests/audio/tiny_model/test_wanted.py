"""The words that agents listen for."""

from __future__ import annotations

import re

import pytest

from voisnap_mock.agents.script import AgentScript, Dtmf, Hear, Rule, When
from voisnap_mock.audio.tiny_model.wanted import wanted_by, words_in


def agent(*rules: Rule, states: dict[str, tuple[Rule, ...]] | None = None, strict: bool = False) -> AgentScript:
    script = rules if strict else None
    return AgentScript("agt_a", "A", replies=() if strict else rules, states=states or {}, script=script)


def hears(*phrases: str, pattern: str | None = None, when: When | None = None) -> Rule:
    patterns = () if pattern is None else (re.compile(pattern),)
    return Rule(triggers=(Hear(phrases=phrases, patterns=patterns),), when=when)


def test_words_of_phrases_from_replies_states_and_strict_scripts() -> None:
    scripts = [
        agent(hears("My Kangaroo!", "refund"), states={"order": (hears("order 66, please"),)}),
        agent(hears("archbishop"), Rule(triggers=(Dtmf("1"),)), strict=True),
    ]
    wanted = wanted_by(scripts)
    assert wanted.words == ("archbishop", "kangaroo", "my", "order", "please", "refund")
    assert wanted.phrases == ("archbishop", "my kangaroo", "order please", "refund")


def test_the_order_of_agents_does_not_matter() -> None:
    one, other = agent(hears("kangaroo")), agent(hears("archbishop"))
    assert wanted_by([one, other]) == wanted_by([other, one])


def test_rules_for_other_languages_do_not_count() -> None:
    german, british = (
        hears(text, when=When(language=(tag,))) for text, tag in (("rückerstattung", "de"), ("lorry", "en-GB"))
    )
    assert wanted_by([agent(german, british)]).words == ("lorry",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t panic", ["don't", "panic"]),
        ("e-mail", ["e", "mail"]),
        ("'quoted' words'", ["quoted", "words"]),
        ("code 4179 b2b", ["code", "b2b"]),
        ("größer CAFE\u0301", ["größer", "caf\u00e9"]),
        ("snake_case", ["snake", "case"]),
        ("?!", []),
    ],
)
def test_words_in_a_text(text: str, words: list[str]) -> None:
    assert words_in(text) == words


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"\bmy name is (?P<name>\w+)", "my name is"),
        (r"(?i)(zebra|giraffe) (?:now|later)", "zebra giraffe now later"),
        (r"^kangaroo$", "kangaroo"),
        (r"colou?r", ""),
        (r"refund(s|ed)?", "refund s ed"),
        (r"re\w+ me", "me"),
        (r"(?P<order>\d[\d ]{3,})", ""),
        (r"[ab]cd ef", "ef"),
        (r"go{2,}d day", "day"),
        (r"wait.*please", "wait please"),
        (r"wait.please", ""),
        (r"(?#comment)yes\.no", "yes no"),
        (r"don'?t", "don't"),
        (r"[\s\S]+", ""),
        (r"\x41bc def", "def"),
    ],
)
def test_only_words_that_stand_there_in_full_come_out_of_a_pattern(pattern: str, words: str) -> None:
    assert set(wanted_by([agent(hears(pattern=pattern))]).words) == set(words.split())
