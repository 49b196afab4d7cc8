"""From the text of a reply to what is spoken: no markup, no control characters, one sentence at a time.

Pure. Sentences are the unit of everything that follows: of the queue (so that a long reply holds nobody up), of the
cache (replies that differ in one sentence share the others) and of the second attempt after a failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

LONGEST_PIECE = 250
"""Characters; a longer sentence is cut, at a pause of the speaker when it has one."""

# A tag has a name and well-formed attributes: "a < b and b > c" has none.
_TAG = re.compile(r"""</?[A-Za-z][\w:.-]*(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>|<!--.*?-->""", re.DOTALL)
# Espeak takes some control characters as commands. Surrogates cannot be encoded.
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_SENTENCE_END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s)|[。！？｡]+[」』”’）]*""")
_PAUSE = re.compile(r"[,;:–—](?=\s)|[，、；：]")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|mr|mrs|ms|dr|prof|st|no|nr|vs|etc|approx|jr|sr|inc|ltd|co|e\.g|i\.e|z\.b|bzw|ca|tel|ext)\.$",
    re.IGNORECASE,
)


def spoken(text: str) -> str:
    """`text` as it is read aloud: tags and control characters gone, entities resolved, white space single.

    Markup would be read out ("less than speak greater than"), since no engine here is told to interpret it.
    """
    untagged = _TAG.sub(" ", text)
    if "&" in untagged:
        import html

        untagged = html.unescape(untagged)
    return " ".join(_UNSPEAKABLE.sub(" ", untagged).split())


def pieces(text: str) -> list[str]:
    """The sentences of `text`, cleaned by `spoken`, none longer than `LONGEST_PIECE`; empty when nothing is left."""
    return [piece for sentence in _sentences(spoken(text)) for piece in _cut(sentence)]


def tokens(piece: str) -> list[tuple[int, int]]:
    """Where the words of `piece` lie: runs without white space, as (begin, end) character offsets."""
    return [match.span() for match in re.finditer(r"\S+", piece)]


def _sentences(text: str) -> Iterator[str]:
    begin = 0
    for match in _SENTENCE_END.finditer(text):
        sentence = text[begin : match.end()]
        following = text[match.end() :].lstrip()[:1]
        goes_on = sentence.endswith(".") and (following.islower() or _ABBREVIATION.search(sentence) is not None)
        if following and goes_on:
            continue
        yield sentence.strip()
        begin = match.end()
    if rest := text[begin:].strip():
        yield rest


def _cut(sentence: str) -> Iterator[str]:
    while len(sentence) > LONGEST_PIECE:
        head = sentence[:LONGEST_PIECE]
        pauses = [match.end() for match in _PAUSE.finditer(head)]
        spaces = [match.start() for match in re.finditer(r"\s", head)]
        # A cut in the first third would leave a splinter.
        at = next((max(cuts) for cuts in (pauses, spaces) if cuts and max(cuts) > LONGEST_PIECE // 3), LONGEST_PIECE)
        yield sentence[:at].strip()
        sentence = sentence[at:].strip()
    if sentence:
        yield sentence


def spread(words: list[str], begin: float, end: float) -> list[tuple[float, float]]:
    """Share the time from `begin` to `end` out among `words`, by their length; for speech whose words are not timed."""
    total = sum(len(word) + 1 for word in words)
    edges, passed = [begin], 0
    for word in words:
        passed += len(word) + 1
        edges.append(begin + (end - begin) * passed / total)
    return list(pairwise(edges))
