"""Which words agents listen for, taken from their scripts. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from voisnap_mock.agents.script import AgentScript, Hear

_APOSTROPHES = str.maketrans("\u2019\u02bc", "''")
# Accents that stand apart (a combining mark) belong to their letter.
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f]|'(?=[^\W_]))*")

# What a regular expression is made of, as far as it takes to see its plain words.
_PIECE = re.compile(
    r"""
    (?P<comment> \(\?\#[^)]*\) )
    | (?P<open> \( (?: \?P<\w+> | \?P?[:=!>|] | \?<[=!] | \?[a-zA-Z-]*:? )? )
    | (?P<set> \[ \]?(?: \\. | [^\]\\] )* \] )
    | (?P<escape> \\. )
    | (?P<repeat> [*+?]\?? | \{\d*,?\d*\}\?? )
    | (?P<gap> \.[*+]\?? )
    | (?P<any> \. )
    | (?P<end> [|)^$\s] )
    | (?P<plain> . )
    """,
    re.VERBOSE | re.DOTALL,
)
# `\b` and its like stand between words; a letter class stands for letters of a word that is not plain.
_SPACE_ESCAPES = frozenset("bBsSWdDAZntr")
_BROKEN = "\0"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What agents listen for, in lower case.

    Attributes:
        words: sorted, each once.
        phrases: as they would be said, words with single spaces between; sorted, each once.
    """

    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()


def wanted_by(scripts: Iterable[AgentScript]) -> Wanted:
    """The words in what these agents hear: of phrases all, of regular expressions those that stand there in full.

    Numbers in digits are left out, they are said in words; so are rules for sessions in other languages than English.
    """
    words: set[str] = set()
    phrases: set[str] = set()
    for rule in (rule for script in scripts for rule in script.rules()):
        if rule.when is not None and rule.when.language and not any(map(_is_english, rule.when.language)):
            continue
        for hear in (trigger for trigger in rule.triggers if isinstance(trigger, Hear)):
            for phrase in hear.phrases:
                said = words_in(phrase)
                words.update(said)
                if said:
                    phrases.add(" ".join(said))
            for pattern in hear.patterns:
                words.update(_plain_words(pattern.pattern))
    return Wanted(tuple(sorted(words)), tuple(sorted(phrases)))


def words_in(text: str) -> list[str]:
    """The words of a text as a model would know them: lower case, with apostrophes, without numbers in digits."""
    composed = unicodedata.normalize("NFC", text.translate(_APOSTROPHES)).lower()
    return [word for word in _WORD.findall(composed) if not word.isdigit()]


def _is_english(language: str) -> bool:
    return language.lower().split("-")[0] in ("en", "*")


def _plain_words(pattern: str) -> set[str]:
    """Words of a regular expression next to which nothing is left open: `colou?r` and `re\\w+` have none.

    What `.*` stands between are words too: that it may stand for a part of one is hardly ever meant.
    """
    text = ""
    for piece in _PIECE.finditer(pattern):
        match piece.lastgroup:
            case "plain":
                text += piece[0]
            case "escape":
                letter = piece[0][1]
                text += letter if not letter.isalnum() else " " if letter in _SPACE_ESCAPES else _BROKEN
            case "repeat":
                # What it repeats is the last letter, or a group that is over.
                text += _BROKEN if text[-1:].isalpha() else ""
            case "set" | "any":
                text += _BROKEN
            case _:
                text += " "
    whole = (token for token in re.split(r"[^\w'\0\u2019\u0300-\u036f]+", text) if _BROKEN not in token)
    return {word for token in whole for word in words_in(token)}
