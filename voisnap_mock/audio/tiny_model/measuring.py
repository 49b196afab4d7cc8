"""How many words a model gets wrong: sentences and voices that it has never met, through Vosk as the server uses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from voisnap_mock.audio.frames import CALLER_RATE, SAMPLE_BYTES
from voisnap_mock.audio.tiny_model.corpus import HELD_BACK_VARIANTS
from voisnap_mock.audio.tiny_model.flite import has_flite
from voisnap_mock.audio.tiny_model.jobs import do

if TYPE_CHECKING:
    from voisnap_mock.audio.vosk_ear import VoskEar

SENTENCES = (
    "good evening my sister left her coat in your restaurant on sunday",
    "the water in our bath has been cold for two days",
    "how far is the hotel from the north station",
    "nobody told me that the plane was full",
    "may i keep the old number when i change my contract",
    "the message said that i owe you sixty dollars",
    "we arrive at midnight so please leave the key at reception",
    "there was no receipt in the box with the shoes",
    "my daughter is nine years old does she need a ticket",
    "i would rather pay every month than once a year",
    "can you see the package on your screen or is it lost",
    "the second page of the contract is missing",
    "is there a discount if i order three of them",
    "they took the money twice for the same flight",
    "which train do i take to be at the airport before seven in the morning",
    "tell my brother to call the hospital right away",
    "the code in your letter is only half of it",
    "we moved to a new house and need to update our address",
    "somebody is at the door please call me back in ten minutes",
    "i forgot to cancel the breakfast for friday",
)
"""Sentences of known words that neither training nor the language model has seen."""

COMMANDS = ("yes", "no", "operator", "refund", "cancel", "goodbye", "account", "repeat", "payment", "main menu")

_CHUNK_BYTES = CALLER_RATE // 5 * SAMPLE_BYTES
_SILENCE = bytes(CALLER_RATE * 3 // 10 * SAMPLE_BYTES)
_TIMEOUT = 300.0
_FLITE_HELD_BACK = "rms"


@dataclass(frozen=True, slots=True)
class Order:
    """Something to be said: `rate` in words per minute, `pitch` from 0 to 100."""

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50
    engine: str = "espeak"


@dataclass(frozen=True, slots=True)
class Score:
    """How a set of utterances was understood.

    Attributes:
        words: that were said.
        errors: words missing, added or wrong.
        mistaken: utterances with an error, each as what was said and what was heard.
    """

    utterances: int
    words: int
    errors: int
    mistaken: tuple[tuple[str, str], ...]

    @property
    def error_rate(self) -> float:
        return self.errors / self.words


def held_back_sets() -> dict[str, list[Order]]:
    """What is said, by kind of voice; the same every time."""
    rng = Random("held back")
    digits = [" ".join(rng.choices(_DIGITS, k=rng.randint(3, 9))) for _ in range(20)]
    sets = {
        "en-us": [Order(text, "en-us") for text in SENTENCES],
        "en": [Order(text, "en") for text in SENTENCES],
        "held-back voices": [_held_back(text, rng) for text in SENTENCES for _ in range(3)],
        "held-back accent": [Order(text, "en-gb-scotland") for text in SENTENCES],
        "digits, held-back voices": [_held_back(text, rng) for text in digits],
        "single words, en-us": [Order(text, "en-us") for text in COMMANDS],
        "single words, held-back voices": [_held_back(text, rng) for text in COMMANDS for _ in range(2)],
    }
    if has_flite():
        sets["flite, held-back voice"] = [Order(text, _FLITE_HELD_BACK, engine="flite") for text in SENTENCES]
    return sets


_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _held_back(text: str, rng: Random) -> Order:
    variant = rng.choice(HELD_BACK_VARIANTS)
    return Order(text, f"en-us+{variant}", rng.choice((140, 175, 210)), rng.choice((35, 50, 65)))


def speak_orders(orders: Sequence[Order]) -> list[bytes]:
    """What was ordered, as 16 kHz PCM with some silence around.

    Raises:
        JobFailed: it cannot be spoken.
    """
    wanted = [[order.engine, order.text, order.voice, order.rate, order.pitch] for order in orders]
    answer, pcm = do({"job": "say", "utterances": wanted}, timeout=_TIMEOUT)
    return [_SILENCE + piece + _SILENCE for piece in _cut(pcm, answer["bytes"])]


def measure(ear: VoskEar, orders: Sequence[Order], spoken: Sequence[bytes]) -> Score:
    """Let `ear` hear what was spoken and compare.

    Raises:
        ModelError: the model cannot be loaded.
    """
    errors, mistaken = 0, []
    for order, pcm in zip(orders, spoken, strict=True):
        listener = ear.open()
        for at in range(0, len(pcm), _CHUNK_BYTES):
            listener.accept(pcm[at : at + _CHUNK_BYTES])
        transcript = listener.finish(len(pcm) / SAMPLE_BYTES / CALLER_RATE)
        heard = transcript.text if transcript is not None else ""
        wrong = word_errors(order.text.split(), heard.split())
        errors += wrong
        if wrong:
            mistaken.append((order.text, heard))
    return Score(len(orders), sum(len(order.text.split()) for order in orders), errors, tuple(mistaken))


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """The least number of words to add, leave out or replace that turns one into the other."""
    row = list(range(len(heard) + 1))
    for at, word in enumerate(said, 1):
        diagonal, row[0] = row[0], at
        for to, other in enumerate(heard, 1):
            diagonal, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, diagonal + (word != other))
    return row[-1]


def _cut(pcm: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield pcm[at : at + size]
        at += size
