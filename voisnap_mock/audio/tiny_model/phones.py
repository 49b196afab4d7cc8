"""The sounds of the model: which there are, how espeak's names map to them, and the numbers Vosk knows them by.

Espeak has more names than ears can tell apart: variants of a sound by its neighbours, and sounds too rare to be learnt.
Those are merged. Every sound has one output of the network and four numbers, by its place in a word (B, I, E, S), from
which Vosk tells where words begin and end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

SILENCE = "SIL"
UNKNOWN = "SPN"
"""The sound of unknown words: anything that is not silence."""

SOUNDS = (
    # Vowels, plain and before r, then diphthongs.
    *("@", "3", "3:", "a", "aa", "A:", "A@", "0", "O:", "O@", "o@", "V", "E", "e@", "I", "i:", "i@", "U", "u:"),
    *("aI", "aI@", "aU", "eI", "oU", "OI", "@L"),
    # Consonants.
    *("p", "b", "t", "t#", "d", "k", "g", "f", "v", "T", "D", "s", "z", "S", "tS", "dZ", "h"),
    *("m", "n", "N", "l", "r", "w", "j", "?"),
)

_MERGED = {
    "@2": "@", "@5": "@", "@-": "@", "a#": "@",
    "I2": "I", "I#": "I", "i": "i:", "u": "u:", "IR": "3:", "VR": "3:",
    "O2": "0", "o": "oU", "e": "E", "U@": "U", "i@3": "i@", "aI2": "aI", "aI3": "aI@", "oU#": "oU",
    "t2": "t", "t[": "t", "d#": "d", "d[": "d", "Z": "dZ", "r-": "r", "n-": "n", "w#": "w", "x": "k", "C": "S",
    "W": "w", "l^": "l", "L": "l", "R": "r", "Q": "g", "n^": "n",
}  # fmt: skip
_STRESS = "',%=!"
# They stand for no time of their own: links between sounds, and the softening of the one before.
_NO_SOUND = frozenset({"", ";", "-", "|", ":"})

PLACES = "BIES"


def sound_of(name: str) -> str | None:
    """What espeak's phoneme `name` is in the model, or a sound itself; None when it makes no sound of its own.

    Raises:
        KeyError: the model has no such sound.
    """
    bare = name.strip(_STRESS)
    if bare.startswith("_") or name == SILENCE:
        return SILENCE
    if bare in _NO_SOUND:
        return None
    sound = _MERGED.get(bare, bare)
    if sound not in _KNOWN:
        raise KeyError(name)
    return sound


def sounds_of(names: Sequence[str]) -> tuple[str, ...] | None:
    """A word's sounds by espeak's phonemes, without pauses; None when the model lacks one of them, or none is left."""
    try:
        sounds = [sound_of(name) for name in names]
    except KeyError:
        return None
    return tuple(sound for sound in sounds if sound is not None and sound != SILENCE) or None


_KNOWN = frozenset(SOUNDS)


class Phones:
    """Numbers of sounds. Outputs: silence 0, then `sounds` in order, then the unknown. Phones: from 1, by place.

    Args:
        sounds: of the network, in the order of its outputs.
    """

    def __init__(self, sounds: Sequence[str] = SOUNDS) -> None:
        self.sounds = tuple(sounds)
        self._numbers: dict[tuple[str, str], int] = {(SILENCE, ""): 1}
        for sound in (*self.sounds, UNKNOWN):
            for place in PLACES:
                self._numbers[sound, place] = len(self._numbers) + 1

    @property
    def outputs(self) -> Mapping[str, int]:
        """The network's output for each sound, without the one of unknown words."""
        return {sound: number for number, sound in enumerate((SILENCE, *self.sounds))}

    @property
    def pdf_of_phone(self) -> dict[int, int]:
        """Which output scores a phone."""
        outputs = {**self.outputs, UNKNOWN: len(self.sounds) + 1}
        return {number: outputs[sound] for (sound, _), number in self._numbers.items()}

    @property
    def transitions(self) -> int:
        """The greatest transition id."""
        return 2 * len(self._numbers)

    def number(self, sound: str, place: str = "") -> int:
        return self._numbers[sound, place]

    def of_word(self, sounds: Sequence[str]) -> Iterator[int]:
        """The phones of a word, each by its place."""
        last = len(sounds) - 1
        for at, sound in enumerate(sounds):
            yield self.number(sound, "S" if last == 0 else "B" if at == 0 else "E" if at == last else "I")

    def symbols(self) -> str:
        """The content of `phones.txt`."""
        names = [f"{sound}_{place}" if place else sound for sound, place in self._numbers]
        return "".join(f"{name} {number}\n" for number, name in enumerate(["<eps>", *names]))

    def word_boundaries(self) -> str:
        """The content of `word_boundary.int`."""
        kinds = {"": "nonword", "B": "begin", "I": "internal", "E": "end", "S": "singleton"}
        return "".join(f"{number} {kinds[place]}\n" for (_, place), number in self._numbers.items())


def staying(phone: int) -> int:
    """The transition id of another frame in a phone."""
    return 2 * phone - 1


def entering(phone: int) -> int:
    """The transition id of a phone's first frame.

    It is the one that leaves the state: graphs put it first, before those that stay, and Vosk's alignment of words
    counts on that order.
    """
    return 2 * phone
