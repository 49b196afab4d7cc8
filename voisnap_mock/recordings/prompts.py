"""What agents play: the WAV files below `recordings/`, by name."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from voisnap_mock.audio.frames import AGENT_RATE, read_wav, resample
from voisnap_mock.audio.spoken_text import spread
from voisnap_mock.engine.events import Speech, Word
from voisnap_mock.errors import SpeechError

LONGEST_PROMPT_BYTES = 256 * 1024 * 1024
"""A larger file is no prompt; it would be held in memory."""

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
