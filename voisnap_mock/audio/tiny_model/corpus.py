"""Which utterances the model learns from: what is said, by which voice, how fast. Seeded; nothing is spoken here.

Some voices and accents are held back: the model never hears them, so that they can show what it has learnt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Literal, NamedTuple

from voisnap_mock.audio.tiny_model.sentences import sentence, vocabulary

Engine = Literal["espeak", "flite"]

ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan")
"""Espeak's voices of English in which words are learnt."""
_ACCENT_WEIGHTS = (6, 3, 1, 1, 1)

_VARIANTS = """
Alex Alicia Andrea Annie AnxiousAndy Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen Reed
RicishayMax RicishayMax3 announcer anika antonio aunty benjamin boris caleb david ed edward edward2 f1 f2 f3 f5 grandma
grandpa gustave ian iven iven2 iven3 iven4 john kaukovalta klatt klatt2 klatt4 klatt5 klatt6 m1 m2 m3 m4 m6 m7 marcelo
michel miguel mike2 norbert pablo paul pedro quincy rob robert robosoft robosoft3 robosoft4 robosoft5 robosoft6
robosoft8 sandro shelby steph steph3 travis victor zac
"""
VARIANTS = tuple(_VARIANTS.split())
"""Espeak's variants of a voice that are learnt from. Not among them: whispers, croaks and other sounds that are hardly
speech, and those held back."""

HELD_BACK_VARIANTS = ("adam", "belinda", "f4", "m5", "klatt3", "linda", "max", "steph2", "m8", "RicishayMax2")

FLITE_VOICES = ("slt", "awb", "kal16")
"""Voices of flite that are learnt from, if it is there; `rms` is held back."""


class Utterance(NamedTuple):
    """What to have spoken.

    Attributes:
        voice: espeak's or flite's name.
        rate: words per minute; for flite the stretch of time in percent.
        pitch, pitch_range: from 0 to 100; for flite's `kal16` the pitch in Hz, for its other voices unused.
        tempo: what the recording is slowed down to, which also deepens it; 1 for as it is.
        seed: of what happens to it on the way.
    """

    engine: Engine
    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    tempo: float
    seed: int


def utterances(engine: Engine, seed: int, first: int, count: int) -> list[Utterance]:
    """Numbers `first` to `first + count` of an endless series, each depending on `engine`, `seed` and its number."""
    return [_utterance(engine, Random(f"{seed} {engine} {number}")) for number in range(first, first + count)]


def _utterance(engine: Engine, rng: Random) -> Utterance:
    text = _text(rng)
    if engine == "flite":
        return Utterance(
            engine,
            text,
            voice=rng.choice(FLITE_VOICES),
            rate=rng.randint(75, 130),
            pitch=rng.randint(80, 180),
            pitch_range=0,
            tempo=rng.choice((1.0, round(rng.uniform(0.86, 1.16), 2), round(rng.uniform(0.86, 1.16), 2))),
            seed=rng.getrandbits(64),
        )
    accent = rng.choices(ACCENTS, _ACCENT_WEIGHTS)[0]
    return Utterance(
        engine,
        text,
        voice=accent if rng.random() < 0.2 else f"{accent}+{rng.choice(VARIANTS)}",
        rate=rng.randint(120, 240),
        pitch=rng.randint(15, 85),
        pitch_range=rng.randint(20, 80),
        tempo=1.0,
        seed=rng.getrandbits(64),
    )


def _text(rng: Random) -> str:
    """Sentences of the patterns, but not only: their sounds would be known by their order alone."""
    match rng.choices(("pattern", "word", "words", "prose"), (40, 15, 20, 25))[0]:
        case "pattern":
            return sentence(rng)
        case "word":
            return rng.choice(vocabulary())
        case "words":
            return " ".join(rng.choices(vocabulary(), k=rng.randint(2, 7)))
        case _:
            return rng.choice(prose())


@cache
def prose() -> Sequence[str]:
    """Ordinary English, eight words at a time: Python's own manual, which is wherever Python is."""
    from pydoc_data import topics

    pieces = set()
    for topic in topics.topics.values():
        for part in re.split(r"[.;:\n]{2,}|\. ", topic):
            found = re.findall(r"[a-z']+", part.lower())
            words = [word for word in found if word.strip("'") and (len(word) > 1 or word in "ai")]
            pieces |= {" ".join(words[at : at + 8]) for at in range(0, len(words) - 3, 8)}
    return sorted(pieces)
