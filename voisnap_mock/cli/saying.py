"""`say`: a caller's utterance as a file."""

from __future__ import annotations

from pathlib import Path

from voisnap_mock.agents.script import Voice
from voisnap_mock.audio import marking
from voisnap_mock.audio.frames import CALLER_RATE, seconds, write_wav
from voisnap_mock.cache import UTTERANCES, VARIABLE, cache_folder
from voisnap_mock.cli.console import Span, open_console
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.errors import SpeechError
from voisnap_mock.recordings.utterances import Utterances


def caller_speech(text: str, *, voice: str, rate: int) -> bytes:
    """`text`, spoken and marked, as PCM s16le mono at 16 kHz; blocks for some 0.3 s.

    Raises:
        CheckFailed: if it cannot be spoken here.
    """
    try:
        return marking.caller_speech(text, Voice(name=voice, rate=rate))
    except SpeechError as error:
        raise CheckFailed(f"{error}\n`voisnap-mock doctor` tells what speaking needs on this machine.") from error


def say(text: str, out: Path, *, voice: str, rate: int) -> None:
    """Write `text`, spoken, to `out`, and the text beside it; servers of this user will know the sound again.

    Raises:
        CheckFailed: if it cannot be spoken here, or a file cannot be written.
    """
    beside = out.with_suffix(".txt")
    if beside == out:
        raise CheckFailed(f"{out}: its text is to be written there; give the sound another name, such as x.wav")
    if beside.exists() and not out.exists():
        raise CheckFailed(
            f"{beside}: is there already, and is not the text of a {out.name}; move it, or give the sound another name"
        )
    pcm = caller_speech(text, voice=voice, rate=rate)
    spoken = " ".join(text.split())
    path = out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(write_wav(pcm, CALLER_RATE))
        path = beside
        beside.write_text(f"{spoken}\n", encoding="utf-8")
    except OSError as error:
        raise CheckFailed(f"{path}: cannot be written: {error.strerror}") from error
    console = open_console()
    console.line(f"{out}: {seconds(pcm, CALLER_RATE):.2f} s, 16 kHz, 16 bit, mono, marked; its text is in {beside}")
    try:
        Utterances(cache_folder() / UTTERANCES).keep(spoken, pcm)
    except OSError as error:
        console.line(
            Span(
                f"Not known by its sound, which matters behind a codec: {cache_folder()} cannot be written"
                f" ({error.strerror}); {VARIABLE} names another folder.",
                "yellow",
            )
        )
