"""What an agent listens for, as a recogniser is told it."""

from __future__ import annotations

import pytest

from voisnap_mock.agents.builtin import builtin_agents
from voisnap_mock.agents.grammar import DIGITS, grammar_of
from voisnap_mock.agents.reading import parse_agents


def grammar(rules: str) -> tuple[str, ...]:
    (script,) = parse_agents(f"version: 1\nagents:\n  agt_a:\n{rules}", source="test").agents.values()
    return grammar_of(script)


def test_phrases_are_brought_to_what_is_spoken_each_once() -> None:
    found = grammar(
        """
    replies:
      - {hear: [Refund!, "money  back", "that's right, isn’t it?"], say: x, goto: more}
      - {dtmf: "1", say: x}
      - {else: x}
    states:
      more:
        - {hear: [refund, "Press 42"], say: x}
        - {hear: "ÄRGER", say: x}
"""
    )
    assert found == ("refund", "money back", "that's right isn't it", "press four two", "ärger")


def test_a_script_has_a_grammar_too() -> None:
    assert grammar('    script: [{hear: "yes", say: x}, {say: y}, {hear: "no", say: z}]') == ("yes", "no")


@pytest.mark.parametrize(
    ("pattern", "phrases"),
    [
        (r"\bmy name is (?P<name>\w+)", ("my name is",)),
        (r"(cancel|stop) my order", ("cancel", "stop", "my order")),
        (r"(?i:Order) [^a-z]{2,3}number", ("order", "number")),
        (r"(?P<order>\d[\d ]{3,})", DIGITS),
        (r"[0-9]+ people", ("people", *DIGITS)),
        (r".*", ()),
    ],
)
def test_a_pattern_adds_the_words_that_stand_in_it(pattern: str, phrases: tuple[str, ...]) -> None:
    assert grammar(f"    replies: [{{hear: '/{pattern}/', say: x}}]") == phrases


def test_an_agent_that_listens_for_nothing_has_none() -> None:
    assert grammar("    replies: [{else: x}]") == ()
    assert grammar_of(builtin_agents().agents["agt_silent"]) == ()
