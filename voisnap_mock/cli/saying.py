"""`say`: a caller's utterance as a file."""

from __future__ import annotations

from pathlib import Path

from voisnap_mock.agents.script import Voice
from voisnap_mock.audio import tts
from voisnap_mock.audio.frames import CALLER_RATE, seconds, write_wav
from voisnap_mock.cli.console import open_console
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.errors import SpeechError


def caller_speech(text: str, *, voice: str, rate: int) -> bytes:
    """`text`, spoken, as PCM s16le mono at 16 kHz; blocks for some 0.3 s.

    Raises:
        CheckFailed: if it cannot be spoken here.
    """
    try:
        return tts.say(text, Voice(name=voice, rate=rate))
    except SpeechError as error:
        raise CheckFailed(f"{error}\n`voisnap-mock doctor` tells what speaking needs on this machine.") from error


def say(text: str, out: Path, *, voice: str, rate: int) -> None:
    """Write `text`, spoken, to `out`.

    Raises:
        CheckFailed: if it cannot be spoken here, or the file cannot be written.
    """
    pcm = caller_speech(text, voice=voice, rate=rate)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(write_wav(pcm, CALLER_RATE))
    except OSError as error:
        raise CheckFailed(f"{out}: cannot be written: {error.strerror}") from error
    open_console().line(f"{out}: {seconds(pcm, CALLER_RATE):.2f} s, 16 kHz, 16 bit, mono")
