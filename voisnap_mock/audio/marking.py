"""Who marks speech, and who reads it: the caller's utterances, an agent's own voice, a client's playback.

The marks themselves are in `audio.marks`. Importing this module does not load numpy.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from voisnap_mock.agents.script import Voice
from voisnap_mock.audio.frames import (
    AGENT_FRAME_BYTES,
    AGENT_RATE,
    CALLER_RATE,
    read_wav_channels,
    resample,
    seconds,
)
from voisnap_mock.audio.spoken_text import pieces, spread
from voisnap_mock.audio.tones import speak_tones
from voisnap_mock.audio.tts import LocalSynthesizer, say_words
from voisnap_mock.engine.events import Speech, Word
from voisnap_mock.errors import NoVoice

if TYPE_CHECKING:
    from voisnap_mock.audio.marks import Decoded

logger = logging.getLogger(__name__)

_NUMBERS = 1 << 24
_ITEMS = 1 << 4
_MOST_SPOKEN = 256


def caller_speech(text: str, voice: str | Voice = "en-us") -> bytes:
    """An utterance that the mock is sure to understand: PCM s16le mono at 16 kHz that carries its own words.

    The same text and voice give the same bytes. Where there is no voice at all it is one tone per word: the marks say
    what it means. Blocks for some 0.3 s.

    Raises:
        SpeechError: the text is empty, or the voice is unknown.
    """
    spoken_by = voice if isinstance(voice, Voice) else Voice(name=voice)
    try:
        speech = say_words(text, spoken_by)
    except NoVoice as error:
        speech = _caller_tones(text, spoken_by, error)
    return _marked(text, speech)


class CallerVoice:
    """Speaks for the callers of one server, as `caller_speech` does, and remembers what it has spoken.

    Lives in the server's loop.
    """

    def __init__(self, synthesizer: LocalSynthesizer) -> None:
        self._synthesizer = synthesizer
        self._spoken: OrderedDict[tuple[str, Voice], bytes] = OrderedDict()

    async def speak(self, text: str, voice: str = "en-us") -> bytes:
        """PCM s16le mono at 16 kHz that carries its own words. Raises SpeechError as `caller_speech` does."""
        spoken_by = Voice(name=voice)
        key = (text, spoken_by)
        if key not in self._spoken:
            try:
                speech = await self._synthesizer.say_words(text, spoken_by)
            except NoVoice as error:
                speech = _caller_tones(text, spoken_by, error)
            self._spoken[key] = await asyncio.to_thread(_marked, text, speech)
            if len(self._spoken) > _MOST_SPOKEN:
                self._spoken.popitem(last=False)
        self._spoken.move_to_end(key)
        return self._spoken[key]


def _caller_tones(text: str, voice: Voice, error: NoVoice) -> Speech:
    logger.warning("%s; tones are used instead, which only their marks can tell apart", error)
    tones = speak_tones(" ".join(pieces(text)).split(), rate=voice.rate, volume=voice.volume)
    return Speech(resample(tones.pcm, AGENT_RATE, CALLER_RATE), tones.words)


def _marked(text: str, speech: Speech) -> bytes:
    from voisnap_mock.audio.marks import Speaker, mark

    number = zlib.crc32(text.encode()) % _NUMBERS
    return mark(speech.pcm, speech.words, sample_rate=CALLER_RATE, utterance=number, speaker=Speaker.CALLER)


def decode_speech(audio: bytes, sample_rate: int = AGENT_RATE) -> Decoded:
    """Which marked words arrived in `audio`, when, and which of them were lost on the way.

    What an agent says is marked with `voice: {marked: true}`: give what your client played, sample by sample as it
    came in. Silence between is fine, and so are lost, doubled and silenced frames; gain, mixing, resampling and codecs
    are not.

    Args:
        audio: PCM s16le mono at `sample_rate`, or a whole WAV file of any format, whose channels are read one by one.

    Raises:
        SpeechError: it is a WAV file that cannot be read.
        ValueError: it ends with half a sample.
    """
    from voisnap_mock.audio.marks import Decoded, decode

    channels: tuple[bytes, ...] = (audio,)
    if audio[:4] == b"RIFF":
        channels, sample_rate = read_wav_channels(audio)
    elif len(audio) % 2:
        raise ValueError(f"audio has {len(audio)} bytes; 16-bit samples need an even number")
    read = [decode(channel, sample_rate) for channel in channels]
    return Decoded(
        tuple(sorted((each for one in read for each in one.utterances), key=lambda each: each.words[0].begin)),
        tuple(sorted((each for one in read for each in one.spans), key=lambda each: each.begin)),
    )


class AgentMarker:
    """Marks what an agent says, part by part as it is made. An item of a reply is one utterance of its own.

    Args:
        text: of the whole item.
        reply, item: their numbers; they tell this utterance from its neighbours.
    """

    def __init__(self, text: str, *, reply: int, item: int) -> None:
        from voisnap_mock.audio.marks import count_words

        self._text = text
        self._number = (reply * _ITEMS + item % _ITEMS) % _NUMBERS
        self._total = count_words(" ".join(pieces(text)))
        self._index = 0

    def mark(self, speech: Speech) -> Speech:
        """The next part: whole frames as before, some more where the words need the room."""
        from voisnap_mock.audio.marks import Speaker, count_words, mark

        words = speech.words
        if not words and speech.pcm and self._index == 0:
            # A recording, whose words nobody has timed.
            texts = self._text.split()
            self._total = count_words(self._text)
            times = spread(texts, 0.0, seconds(speech.pcm, AGENT_RATE))
            words = tuple(Word(text, *time) for text, time in zip(texts, times, strict=True))
        pcm = mark(
            speech.pcm,
            words,
            sample_rate=AGENT_RATE,
            utterance=self._number,
            speaker=Speaker.AGENT,
            index=self._index,
            total=self._total,
        )
        self._index += sum(count_words(word.text) for word in words)
        return Speech(pcm + bytes(-len(pcm) % AGENT_FRAME_BYTES), speech.words)
