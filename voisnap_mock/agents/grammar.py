"""What a recogniser may expect of a caller, from the `hear` of an agent's rules.

A phrase is taken as it would be spoken. A regular expression cannot be listed; it adds the words that stand in it, and
the ten digits when it asks for digits. What it takes besides, such as any name, is then not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voisnap_mock.agents.script import AgentScript, Hear

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019\u02bc][^\W\d_]+)*|\d")
_DIGIT_WANTED = re.compile(r"\\d|0-9")
# In a pattern: a group's name or flags, a class, an escape, a count, the bounds of an alternative.
_NO_WORDS = re.compile(r"\(\?(?:P?<\w+>|P=\w+\)|[a-zA-Z-]*[:)]|[=!<]+)|\[\^?\]?(?:\\.|[^\]\\])*\]|\\.|\{[\d,]*\}|[|()]")
_SEAM = "\0"


def grammar_of(script: AgentScript) -> tuple[str, ...]:
    """What the agent's rules listen for, in their order, each once: in lower case, without punctuation, digits as
    words; empty when it listens for nothing in particular."""
    phrases = [
        phrase
        for rule in script.rules()
        for trigger in rule.triggers
        if isinstance(trigger, Hear)
        for phrase in (*map(_spoken, trigger.phrases), *_of_patterns(trigger))
    ]
    return tuple(dict.fromkeys(phrase for phrase in phrases if phrase))


def _of_patterns(trigger: Hear) -> Iterator[str]:
    for pattern in trigger.patterns:
        for part in _NO_WORDS.sub(_SEAM, pattern.pattern).split(_SEAM):
            yield _spoken(part)
        if _DIGIT_WANTED.search(pattern.pattern):
            yield from DIGITS


def _spoken(text: str) -> str:
    words = _WORD.findall(text.casefold().replace("\u2019", "'").replace("\u02bc", "'"))
    return " ".join(DIGITS[int(word)] if word.isdecimal() and word.isascii() else word for word in words)
