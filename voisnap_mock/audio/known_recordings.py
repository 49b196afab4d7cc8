"""Known recordings as an ear: an index of what lies in the folders, kept up to date, and who listens by it.

Everything here blocks and is made for worker threads. Importing this module does not load numpy; the first recording
does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from voisnap_mock.audio.spoken_text import spread
from voisnap_mock.engine.events import Transcript, Word
from voisnap_mock.errors import SpeechError
from voisnap_mock.recordings.utterances import KnownUtterance, Version

if TYPE_CHECKING:
    from voisnap_mock.audio.fingerprint import Fingerprint, KnownRecordings, Match, RecordingMatcher, TooLong, TooShort
    from voisnap_mock.clock import Clock

# How often the folders are looked at, at most: a look at 200 files costs a millisecond.
_LOOK_EVERY = 0.2
# The other ears still have to answer within the agent's `stt_timeout`.
_WAIT = 5.0


class Folder(Protocol):
    """Where recordings lie; `recordings.Utterances` is the real one."""

    @property
    def folder(self) -> Path: ...

    def scan(self) -> Mapping[str, Version]: ...

    def read(self, name: str) -> KnownUtterance: ...


@dataclass(frozen=True, slots=True)
class IndexNews:
    """What a look at the folders has changed.

    Attributes:
        known: how many recordings are known now.
        problems: what is wrong with files, for people; all of them, each naming its file.
    """

    known: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Attributes: taken: what the file is known by, or what is wrong with it."""

    version: Version
    taken: Fingerprint | TooShort | TooLong | str
    is_quiet: bool


class RecordingIndex:
    """All that is known by its sound, for any number of calls; safe for several threads.

    Args:
        folders: whose recordings count; what is wrong with files of the folders in `quiet` is not told.
        on_news: told in the thread that looked.
    """

    def __init__(
        self,
        folders: Sequence[Folder],
        *,
        clock: Clock,
        quiet: Sequence[Folder] = (),
        on_news: Callable[[IndexNews], None] | None = None,
    ) -> None:
        self._folders = (*folders, *quiet)
        self._quiet = tuple(quiet)
        self._clock = clock
        self._on_news = on_news
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._kept: dict[str, _Kept] = {}
        self._known: KnownRecordings | None = None
        self._problems: tuple[str, ...] = ()
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many recordings there are to be known; looks at the folders, reads no file."""
        return sum(len(folder.scan()) for folder in self._folders)

    def refresh(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Take in what has changed in the folders. About 2 ms for each second of new audio.

        Args:
            on_progress: told how many of how many new files have been read.
        """
        with self._lock:
            self._refresh(on_progress)

    def current(self, *, wait: float) -> KnownRecordings | None:
        """The index of what lies in the folders now; None when there is nothing to know.

        Raises:
            BlockingIOError: another thread is making it, and is not done within `wait` seconds.
        """
        if not self._lock.acquire(timeout=wait):
            raise BlockingIOError
        try:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= _LOOK_EVERY:
                self._refresh(None)
            return self._known
        finally:
            self._lock.release()

    def close(self) -> None:
        """Read nothing more."""
        self._is_closed = True

    def _refresh(self, on_progress: Callable[[int, int], None] | None) -> None:
        versions: dict[str, tuple[Folder, str, Version]] = {}
        for folder in self._folders:
            for name, version in folder.scan().items():
                versions[str(folder.folder / name)] = (folder, name, version)
        new = [
            path
            for path, (_, _, version) in versions.items()
            if path not in self._kept or self._kept[path].version != version
        ]
        if new or len(versions) != len(self._kept):
            kept = {path: self._kept[path] for path in versions if path in self._kept}
            for number, path in enumerate(new):
                if self._is_closed:
                    return
                if on_progress is not None:
                    on_progress(number, len(new))
                folder, name, version = versions[path]
                kept[path] = _Kept(version, _take(path, folder, name), folder in self._quiet)
            if new and on_progress is not None:
                on_progress(len(new), len(new))
            # In the folders' order, whatever came first.
            self._kept = {path: kept[path] for path in versions}
            self._build()
        self._looked_at = self._clock.monotonic()

    def _build(self) -> None:
        taken = [each.taken for each in self._kept.values()]
        prints = [each for each in taken if not isinstance(each, str)]
        problems = [each.taken for each in self._kept.values() if isinstance(each.taken, str) and not each.is_quiet]
        known: KnownRecordings | None = None
        if prints:
            from voisnap_mock.audio.fingerprint import KnownRecordings

            known = KnownRecordings(prints, unchecked={path for path, each in self._kept.items() if each.is_quiet})
            problems += [
                str(problem)
                for problem in known.problems
                if not all(self._kept[name].is_quiet for name in problem.names)
            ]
        self._known = known if known is not None and len(known) else None
        self._problems = tuple(problems)
        if self._on_news is not None:
            self._on_news(IndexNews(0 if known is None else len(known), self._problems))


def _take(path: str, folder: Folder, name: str) -> Fingerprint | TooShort | TooLong | str:
    """What a file is known by, or what is wrong with it."""
    from voisnap_mock.audio.fingerprint import Recording, fingerprint

    try:
        utterance = folder.read(name)
    except SpeechError as error:
        return str(error)
    return fingerprint(Recording(path, utterance.text, utterance.pcm))


class RecordingsEar:
    """Hears which known recording is played, also through codecs, gain and noise.

    Its confidence says how much the sound is the recording's. Texts that were played one after the other are joined.
    """

    name = "recordings"

    def __init__(self, index: RecordingIndex) -> None:
        self._index = index

    def open(self) -> _RecordingsListener:
        return _RecordingsListener(self._index)


class _RecordingsListener:
    """While the index is still being made, the audio is kept; only the end of the utterance waits for it, a while."""

    is_sure = False

    def __init__(self, index: RecordingIndex) -> None:
        self._index = index
        self._matcher: RecordingMatcher | None = None
        self._held = bytearray()
        self._is_pointless = False
        self._begin()

    def accept(self, pcm: bytes) -> None:
        if self._is_pointless:
            return
        if self._matcher is None:
            self._held += pcm
            self._begin()
        else:
            self._matcher.push(pcm)

    def partial(self, expected: str | None = None) -> Transcript | None:
        """What has been played to its end; the end of the utterance may show that it was something else."""
        return None if self._matcher is None else _transcript(self._matcher.heard)

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        self._begin(wait=_WAIT)
        return None if self._matcher is None else _transcript(self._matcher.finish())

    def _begin(self, *, wait: float = 0.0) -> None:
        if self._matcher is not None or self._is_pointless:
            return
        try:
            known = self._index.current(wait=wait)
        except BlockingIOError:
            return
        if known is None:
            self._is_pointless = True
        else:
            from voisnap_mock.audio.fingerprint import RecordingMatcher

            self._matcher = RecordingMatcher(known)
            self._matcher.push(bytes(self._held))
        self._held.clear()


def _transcript(heard: Sequence[Match]) -> Transcript | None:
    if not heard:
        return None
    words = []
    for match in heard:
        texts = match.text.split()
        times = spread(texts, match.begin, max(match.begin, match.end))
        words += [Word(text, *time) for text, time in zip(texts, times, strict=True)]
    score = sum(match.score for match in heard) / len(heard)
    return Transcript(" ".join(match.text for match in heard), round(score, 4), RecordingsEar.name, tuple(words))
