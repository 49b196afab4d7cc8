"""Speech with its phonemes from flite, a program that need not be there.

Flite names its sounds otherwise than espeak, and speaks recorded voices, which no espeak voice resembles. What it says
is matched, sound by sound, with what espeak would have said; where both read a text differently it is not used.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from voisnap_mock.audio.frames import read_wav
from voisnap_mock.audio.tiny_model.phones import SILENCE, sound_of
from voisnap_mock.audio.tiny_model.synthesis import Spoken

# For each sound of the model the ones of flite that may stand for it.
_COUNTERPARTS = {
    "@": "ax ah ih eh", "3": "er ax", "3:": "er", "a": "ae", "aa": "ae aa", "A:": "aa", "A@": "aa", "0": "aa ao",
    "O:": "ao aa", "O@": "ao", "o@": "ao", "V": "ah ax", "E": "eh", "I": "ih ax iy", "i:": "iy ih", "U": "uh",
    "u:": "uw", "e@": "eh", "i@": "ih iy", "aI": "ay", "aI@": "ay", "aU": "aw", "eI": "ey", "oU": "ow", "OI": "oy",
    "@L": "ax l",
    "t": "t d dx", "t#": "t d dx", "d": "d", "p": "p", "b": "b", "k": "k", "g": "g", "f": "f", "v": "v", "T": "th",
    "D": "dh", "s": "s z", "z": "z s", "S": "sh", "dZ": "jh zh", "tS": "ch", "h": "hh", "m": "m", "n": "n", "N": "ng n",
    "l": "l", "r": "r", "w": "w", "j": "y", "?": "t",
}  # fmt: skip
_COUNTERPART = {sound: frozenset(names.split()) for sound, names in _COUNTERPARTS.items()}
_VOWELS = frozenset({"aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"})
_OUR_VOWELS = frozenset(sound for sound, names in _COUNTERPART.items() if names & _VOWELS)
_PAUSE = "pau"

_SKIPS_OURS, _SKIPS_THEIRS = 0.9, 0.7
_SAME_KIND, _OTHER_KIND = 0.8, 2.0
# Cost per sound; above it the texts were read differently.
_ACCEPTABLE = 0.45
_TIMEOUT = 30.0

Segment = tuple[str, float, float]
"""A sound of flite, where it begins and where it ends, in seconds."""


def has_flite() -> bool:
    """Whether the program is on this machine."""
    return shutil.which("flite") is not None


class Recorded(NamedTuple):
    """What flite said; the segments include pauses."""

    pcm: bytes
    sample_rate: int
    segments: list[Segment]


def record(text: str, voice: str, *, stretch: float = 1.0, pitch: int | None = None) -> Recorded | None:
    """Have flite speak: `stretch` of all durations, `pitch` in Hz for voices that can change it; None if it fails.

    Raises:
        OSError: flite is not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "said.wav")
        command = ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(recording)]
        command += ["--setf", f"duration_stretch={stretch:.2f}"]
        if pitch is not None:
            command += ["--setf", f"int_f0_target_mean={pitch}"]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
        if said.returncode != 0 or not recording.exists():
            return None
        return Recorded(*read_wav(recording.read_bytes()), _segments(said.stdout))


def say(text: str, voice: str, *, stretch: float, pitch: int, phonemes: Sequence[str]) -> Spoken | None:
    """Speak `text`, with the sounds named as espeak names its `phonemes`; None when they do not match.

    Raises:
        OSError: flite is not there.
    """
    # The voices that were recorded as wholes keep their pitch.
    recorded = record(text, voice, stretch=stretch, pitch=pitch if voice.startswith("kal") else None)
    if recorded is None:
        return None
    sounds = [sound for sound in map(sound_of, phonemes) if sound is not None and sound != SILENCE]
    spoken = [segment for segment in recorded.segments if segment[0] != _PAUSE]
    if not sounds or not spoken:
        return None
    begins = aligned(sounds, spoken)
    if begins is None:
        return None
    pauses = [(begin, 0, SILENCE) for name, begin, _ in recorded.segments if name == _PAUSE]
    placed = sorted([*pauses, *((begin, 1, sound) for begin, sound in zip(begins, sounds, strict=True))])
    samples = np.frombuffer(recorded.pcm, "<i2")
    return Spoken(samples, recorded.sample_rate, [(sound, begin) for begin, _, sound in placed])


def _segments(printed: str) -> list[Segment]:
    """Flite prints each sound with its end: `hh:0.310 ax:0.352`."""
    segments: list[Segment] = []
    begin = 0.0
    for piece in printed.split():
        name, _, end = piece.rpartition(":")
        segments.append((name, begin, float(end)))
        begin = float(end)
    return segments


def aligned(sounds: Sequence[str], spoken: Sequence[Segment]) -> list[float] | None:
    """Where each of `sounds` begins in what flite said, by the cheapest way from one to the other; None if dear."""
    ours, theirs = len(sounds), len(spoken)
    costs = np.full((ours + 1, theirs + 1), np.inf)
    steps = np.zeros((ours + 1, theirs + 1, 2), int)
    costs[0, 0] = 0.0
    for row in range(ours + 1):
        for column in range(theirs + 1):
            ways = []
            if row and column:
                ways.append((costs[row - 1, column - 1] + _cost(sounds[row - 1], spoken[column - 1][0]), (1, 1)))
            if row:
                ways.append((costs[row - 1, column] + _SKIPS_OURS, (1, 0)))
            if column:
                ways.append((costs[row, column - 1] + _SKIPS_THEIRS, (0, 1)))
            if ways:
                costs[row, column], steps[row, column] = min(ways)
    if costs[ours, theirs] / max(ours, theirs) > _ACCEPTABLE:
        return None
    begins: list[float | None] = [None] * ours
    row, column = ours, theirs
    while row or column:
        down, right = steps[row, column]
        if down and right:
            begins[row - 1] = spoken[column - 1][1]
        row, column = row - int(down), column - int(right)
    return _filled(begins, first=spoken[0][1], end=spoken[-1][2])


def _cost(sound: str, name: str) -> float:
    if name in _COUNTERPART.get(sound, ()):
        return 0.0
    return _SAME_KIND if (sound in _OUR_VOWELS) == (name in _VOWELS) else _OTHER_KIND


def _filled(begins: Sequence[float | None], *, first: float, end: float) -> list[float]:
    """Sounds without a place of their own begin halfway to the next one that has."""
    filled: list[float] = []
    for at, begin in enumerate(begins):
        if begin is not None:
            filled.append(begin)
        elif at == 0:
            filled.append(first)
        else:
            following = next((later for later in begins[at + 1 :] if later is not None), end)
            filled.append((filled[-1] + following) / 2)
    return filled
