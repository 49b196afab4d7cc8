"""Speech with its phonemes, from espeak-ng. Only for processes of our own (`job`): it is not safe elsewhere."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from voisnap_mock.audio import espeak_worker
from voisnap_mock.audio.frames import SAMPLE_BYTES

Samples = npt.NDArray[np.int16]

_WITH_PHONEME_EVENTS = 0x0001
_DO_NOT_EXIT = 0x8000
_EVENT_PHONEME = 7
_BUFFER_MS = 500
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_UTF8 = 1
_NAME_BYTES = 8
# Between the names of phonemes; none of them holds it.
_SEPARATOR = "\x1f"


class Spoken(NamedTuple):
    """An utterance.

    Attributes:
        sounds: names of phonemes and the seconds at which they begin, in order.
    """

    samples: Samples
    sample_rate: int
    sounds: list[tuple[str, float]]


class Reader:
    """Espeak, which reads texts aloud or just says their phonemes. There can be one in a process.

    Raises:
        EngineMissing: if there is no library, or it does not start.
    """

    def __init__(self) -> None:
        self._binding, data = espeak_worker.load_binding()
        self._rate: int = self._binding.Initialize(
            self._binding.AUDIO_OUTPUT_SYNCHRONOUS, _BUFFER_MS, data, _WITH_PHONEME_EVENTS | _DO_NOT_EXIT
        )
        if self._rate <= 0:
            raise espeak_worker.EngineMissing(f"espeak-ng did not start (its answer is {self._rate})")
        self._phonemes = self._binding.dll.espeak_TextToPhonemes
        self._phonemes.restype = ctypes.c_char_p
        self._phonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
        # Without it breath is made from the time of day; espeak-ng 1.51 cannot do otherwise.
        self._set_seed = getattr(self._binding.dll, "espeak_ng_SetRandSeed", lambda seed: None)
        self._voice = ""
        self._heard: list[bytes] = []
        self._events: list[tuple[str, int]] = []
        self._name_at: int = self._binding.EVENT.id.offset
        self._binding.SetSynthCallback(self._called_back)

    @property
    def name(self) -> str:
        """What reads, for people."""
        return f"espeak-ng {self._binding.Info().decode()}"

    def phonemes(self, text: str, voice: str) -> list[list[str]]:
        """The phonemes of each spoken word; some 30 us for a sentence.

        Raises:
            ValueError: there is no such voice.
        """
        self._set_voice(voice)
        buffer = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(buffer))
        words: list[list[str]] = []
        # A clause at a time; the pointer moves on and ends as null.
        while rest.value:
            clause = self._phonemes(ctypes.byref(rest), _UTF8, ord(_SEPARATOR) << 8)
            # Not just split(): that would take the separator for a space.
            spoken = (clause or b"").decode(errors="replace").split(" ")
            words += [word.split(_SEPARATOR) for word in spoken if word.strip()]
        return words

    def say(self, text: str, voice: str, *, rate: int, pitch: int, pitch_range: int, seed: int = 1) -> Spoken:
        """Speak: `rate` in words per minute, pitch and its range from 0 to 100, `seed` of the breath of some voices.

        Raises:
            ValueError: there is no such voice.
        """
        self._set_voice(voice)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_PITCH_RANGE, pitch_range)):
            self._binding.SetParameter(parameter, value)
        self._set_seed(seed & 0x7FFF_FFFF)
        self._heard, self._events = [], []
        data = text.encode()
        # The binding's own Synth gives ten times the length of the text as its size.
        self._binding.cSynth(data, len(data) + 1, 0, self._binding.POS_CHARACTER, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(self._heard), np.int16)
        return Spoken(samples, self._rate, [(name, sample / self._rate) for name, sample in self._events])

    def _set_voice(self, voice: str) -> None:
        # Setting one costs more than reading a sentence.
        if voice == self._voice:
            return
        if self._binding.SetVoiceByName(voice.encode()) != self._binding.EE_OK:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self._voice = voice

    def _called_back(self, samples: Any, count: int, events: Any) -> int:
        at = 0
        while (event := events[at]).type != self._binding.EVENT_LIST_TERMINATED:
            if event.type == _EVENT_PHONEME:
                # The name fills the field where other events have a pointer; it need not end with a zero.
                name = ctypes.string_at(ctypes.addressof(event) + self._name_at, _NAME_BYTES).split(b"\0")[0]
                self._events.append((name.decode(errors="replace"), event.sample))
            at += 1
        if count > 0:
            self._heard.append(ctypes.string_at(samples, count * SAMPLE_BYTES))
        return 0
