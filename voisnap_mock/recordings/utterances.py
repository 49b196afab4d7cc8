"""What callers said, each with its text: the recordings that the mock knows again by their sound."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voisnap_mock.audio.frames import CALLER_RATE, read_wav, resample, wav_seconds, write_wav
from voisnap_mock.errors import SpeechError
from voisnap_mock.recordings.files import write_whole

LONGEST_UTTERANCE = 60.0
"""Seconds; what lasts longer is no utterance and is not even loaded."""

_LONGEST_UTTERANCE_BYTES = 64 * 1024 * 1024
_LONGEST_TEXT_BYTES = 20_000
_KEPT_SAYINGS = 200

Version = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class KnownUtterance:
    """A caller's recording and what is said in it; `pcm` is PCM s16le mono at 16 kHz."""

    text: str
    pcm: bytes


class Utterances:
    """A folder of known caller recordings, `NAME.wav` with `NAME.txt`; it need not exist. Methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scan(self) -> dict[str, Version]:
        """The WAV files there are, each with what it and its text look like: what looks the same need not be read
        again. A folder that cannot be read is as good as none."""
        texts: dict[str, os.stat_result] = {}
        wavs: dict[str, os.stat_result] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    kind = os.path.splitext(entry.name)[1].lower()
                    if kind in (".wav", ".txt"):
                        with suppress(OSError):
                            (wavs if kind == ".wav" else texts)[entry.name] = entry.stat()
        except OSError:
            return {}
        versions = {}
        for name in sorted(wavs):
            wav, text = wavs[name], texts.get(_text_name(name))
            versions[name] = (
                wav.st_mtime_ns,
                wav.st_size,
                text.st_mtime_ns if text is not None else 0,
                text.st_size if text is not None else -1,
            )
        return versions

    def read(self, name: str) -> KnownUtterance:
        """Read a file that `scan` found, and its text.

        Raises:
            SpeechError: it cannot be used; the text says what is wrong with which file, and what to do.
        """
        text = self._text(name)
        path = self.folder / name
        try:
            status = path.stat()
            # A pipe or a device would block for ever.
            if not stat.S_ISREG(status.st_mode):
                raise SpeechError(f"{path}: is not a file; it is left out")
            with path.open("rb") as file:
                length = wav_seconds(file, status.st_size)
                if length > LONGEST_UTTERANCE:
                    raise SpeechError(
                        f"lasts {_duration(length)}, too long for something said in one turn, at most"
                        f" {LONGEST_UTTERANCE:.0f} s are taken. Cut it into files of one turn each"
                    )
                if status.st_size > _LONGEST_UTTERANCE_BYTES:
                    raise SpeechError(f"has {status.st_size} bytes, at most {_LONGEST_UTTERANCE_BYTES} are taken")
                file.seek(0)
                pcm, sample_rate = read_wav(file.read())
        except (OSError, SpeechError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SpeechError(f"{path}: {why}; it is left out") from error
        return KnownUtterance(text, resample(pcm, sample_rate, CALLER_RATE))

    def keep(self, text: str, pcm: bytes) -> Path:
        """Add an utterance under a name made of its content; of more than 200 the oldest go.

        Raises:
            OSError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(text.encode() + b"\0" + pcm).hexdigest()[:20]
        path = self.folder / f"{name}.wav"
        # The text comes first: whoever sees the WAV file finds its text.
        write_whole(path.with_suffix(".txt"), f"{text}\n".encode())
        write_whole(path, write_wav(pcm, CALLER_RATE))
        self._forget_oldest()
        return path

    def _forget_oldest(self) -> None:
        known = sorted(self.scan().items(), key=lambda each: each[1][0])
        for name, _ in known[:-_KEPT_SAYINGS]:
            for path in (self.folder / name, self.folder / _text_name(name)):
                with suppress(OSError):
                    path.unlink()

    def _text(self, name: str) -> str:
        path = self.folder / _text_name(name)
        wav = self.folder / name
        try:
            if path.stat().st_size > _LONGEST_TEXT_BYTES:
                raise SpeechError(
                    f"{path}: {path.stat().st_size} bytes are too much for one utterance; {name} is left out"
                )
            data = path.read_bytes()
        except FileNotFoundError:
            raise SpeechError(
                f"{wav}: has no text; write what is said in it into {path.name} beside it. Until then it is left out"
            ) from None
        except OSError as error:
            raise SpeechError(f"{path}: cannot be read: {error.strerror}; {name} is left out") from error
        try:
            decoded = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SpeechError(
                f"{path}: is not UTF-8 (byte {data[error.start]:#04x} at place {error.start + 1});"
                f" save it as UTF-8. {name} is left out"
            ) from None
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in decoded).split())
        if not text:
            raise SpeechError(f"{path}: is empty; write what is said in {name}, which is left out until then")
        return text


def _text_name(wav_name: str) -> str:
    return os.path.splitext(wav_name)[0] + ".txt"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
