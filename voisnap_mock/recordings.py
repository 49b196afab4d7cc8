"""The recordings folder, which lies beside the agents file. No other module touches it.

    recordings/
      prompts/      what agents play, by name
      utterances/   what callers said, each with its text
      calls/        recorded calls

The user's cache (`cache.py`) has a folder of utterances too, of the same form: what `voisnap-mock say` spoke.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from voisnap_mock.audio.frames import AGENT_RATE, CALLER_RATE, read_wav, resample, wav_seconds, write_wav
from voisnap_mock.audio.spoken_text import spread
from voisnap_mock.engine.events import Speech, Word
from voisnap_mock.errors import SpeechError

LONGEST_PROMPT_BYTES = 256 * 1024 * 1024
"""A larger file is no prompt; it would be held in memory."""

LONGEST_UTTERANCE = 60.0
"""Seconds; what lasts longer is no utterance and is not even loaded."""

_LONGEST_UTTERANCE_BYTES = 64 * 1024 * 1024
_LONGEST_TEXT_BYTES = 20_000
_KEPT_SAYINGS = 200

# Speech begins and ends where 20 ms of it are within this factor of the loudest 20 ms.
_AUDIBLE = 0.02


@dataclass(frozen=True, slots=True)
class _Kept:
    """Attributes: version: what the file looked like when it was read; a file that looks different is read again."""

    version: tuple[int, int, int]
    pcm: bytes


class Recordings:
    """The recordings in one folder, which need not exist until one is asked for. May be used from several threads.

    Methods block while they read; the first one that decodes audio also loads numpy and soxr.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[Path, _Kept] = {}
        self._lock = threading.Lock()

    def prompt(self, wav: str, text: str = "") -> Speech:
        """The WAV file `wav`, a path below the folder with `/` between its parts, as agent audio.

        It is kept until the file changes. With `text`, which is what it says, its words are spread over the part of it
        that is not silent; without, it has no words.

        Raises:
            SpeechError: if there is no such file, the path leads out of the folder, or it is no WAV file that can be
                read. The text names the file and what is wrong.
        """
        path = self._find(wav)
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            with self._lock:
                kept = self._kept.get(path)
            if kept is None or kept.version != version:
                kept = _Kept(version, self._read(path, status.st_size))
                with self._lock:
                    self._kept[path] = kept
        except (OSError, SpeechError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SpeechError(f"prompt {wav!r} ({path}) cannot be played: {why}") from error
        return Speech(kept.pcm, _words(text, kept.pcm))

    def missing(self, wavs: Iterable[str]) -> dict[str, str]:
        """Those of `wavs` that cannot be played, each with the reason; for checks before the first call.

        Looks at names and at the beginnings of files, and decodes nothing.
        """
        reasons = {}
        for wav in dict.fromkeys(wavs):
            try:
                self._look_at(wav)
            except SpeechError as error:
                reasons[wav] = str(error)
        return reasons

    def _look_at(self, wav: str) -> None:
        path = self._find(wav)
        try:
            with path.open("rb") as file:
                header = file.read(12)
        except OSError as error:
            raise SpeechError(f"prompt {wav!r} ({path}) cannot be played: {error.strerror}") from error
        if header[:4] != b"RIFF" or header[8:] != b"WAVE":
            raise SpeechError(f"prompt {wav!r} ({path}) is not a WAV file: it starts with {header!r}")

    def _find(self, wav: str) -> Path:
        """The file, links followed."""
        parts = PurePosixPath(wav)
        if "\0" in wav or "\\" in wav or parts.is_absolute() or PureWindowsPath(wav).drive or ".." in parts.parts:
            raise SpeechError(
                f"prompt {wav!r} is not a path below {self.folder}: expected one like 'prompts/hello.wav'"
            )
        try:
            folder = self.folder.resolve()
            path = (folder / parts).resolve()
            status = path.stat() if path.is_relative_to(folder) else None
        except (OSError, RuntimeError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            hint = self._others(parts) if isinstance(error, FileNotFoundError) else ""
            raise SpeechError(f"prompt {wav!r} is not in {self.folder}: {why}{hint}") from error
        if status is None:
            raise SpeechError(
                f"prompt {wav!r} is a link that leads out of {self.folder}, to {path}: copy the file there"
            )
        # A pipe or a device would block for ever.
        if not stat.S_ISREG(status.st_mode):
            raise SpeechError(f"prompt {wav!r} ({path}) is not a file")
        return path

    def _others(self, parts: PurePosixPath) -> str:
        try:
            names = sorted(path.name for path in (self.folder / parts.parent).glob("*.wav"))
        except OSError:
            return ""
        return f"; the WAV files there are {', '.join(names[:8])}" if names else ""

    @staticmethod
    def _read(path: Path, size: int) -> bytes:
        if size > LONGEST_PROMPT_BYTES:
            raise SpeechError(f"it has {size} bytes, more than the {LONGEST_PROMPT_BYTES} a prompt may have")
        pcm, sample_rate = read_wav(path.read_bytes())
        return resample(pcm, sample_rate, AGENT_RATE)


def _words(text: str, pcm: bytes) -> tuple[Word, ...]:
    words = text.split()
    if not words:
        return ()
    begin, end = _voiced(pcm)
    return tuple(Word(word, *times) for word, times in zip(words, spread(words, begin, end), strict=True))


def _voiced(pcm: bytes) -> tuple[float, float]:
    """Where the audio is first and last not silent, in seconds; all of it when it is silent throughout."""
    import numpy as np

    step = AGENT_RATE // 50
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    whole = len(samples) - len(samples) % step
    levels = np.sqrt(np.square(samples[:whole].reshape(-1, step)).mean(axis=1))
    length = len(samples) / AGENT_RATE
    audible = np.flatnonzero(levels > levels.max(initial=0.0) * _AUDIBLE)
    if not len(audible):
        return 0.0, length
    return float(audible[0]) * step / AGENT_RATE, min(length, (float(audible[-1]) + 1) * step / AGENT_RATE)


# --- Utterances -----------------------------------------------------------------------------------------------

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
        _write(path.with_suffix(".txt"), f"{text}\n".encode())
        _write(path, write_wav(pcm, CALLER_RATE))
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


def _write(path: Path, data: bytes) -> None:
    """So that nobody ever sees half of it."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_bytes(data)
        half.replace(path)
    except OSError:
        with suppress(OSError):
            half.unlink()
        raise
