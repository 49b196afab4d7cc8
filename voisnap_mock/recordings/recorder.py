"""`--record`: calls are written into folders while they go on, by a thread of its own.

No call ever waits for the disk, and nothing that goes wrong with it reaches a call: a record that cannot be written
breaks off, and that is told. What is on the disk is readable at any moment, also after the process was killed: a WAV
file's header is written after its samples and never promises more than there is, lines and cues are added whole, and
`call.json` is replaced in one step. What may then be missing is the last second of sound and what the thread had not
got round to; `call.json` says `live` for ever.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from voisnap_mock.audio.frames import SAMPLE_BYTES, WAV_HEADER_BYTES, wav_header
from voisnap_mock.errors import ConfigError
from voisnap_mock.journal import JournalEntry
from voisnap_mock.recordings.call_files import (
    CALL,
    EVENTS,
    RATES,
    TRANSCRIPT,
    VTT_HEAD,
    WAVS,
    Side,
    Utterance,
    call_text,
    event_line,
    json_line,
    utterance_in,
    vtt,
    vtt_cue,
)
from voisnap_mock.recordings.files import write_whole

_MOST_WAITING_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 1_000
_FAREWELL = 1.0

Job = Callable[[], None]


class Recorder:
    """The folder of recorded calls, and the thread that writes there. Its methods belong to the server's loop.

    Args:
        folder: made if it is not there.
        origin: what named it, for errors.
        on_loop: calls something on the server's loop, from the thread.
        report: told, once for each cause, that calls are not recorded any more and what to do.

    Raises:
        ConfigError: nothing can be written there.
    """

    def __init__(
        self, folder: Path, *, origin: str, on_loop: Callable[[Job], None], report: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self._on_loop = on_loop
        self._report = report
        self._jobs: SimpleQueue[tuple[CallFolder, Job, int] | None] = SimpleQueue()
        # Each is counted by one thread alone, so the difference is right without a lock.
        self._given_bytes = 0
        self._written_bytes = 0
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()
        probe = folder / f".voisnap-mock.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(probe, b"x")
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"{origin}: calls cannot be recorded in {folder}: {error.strerror}; name a folder that can be written"
            ) from error

    def open(self, call_id: str, *, with_real_time: bool, note: Callable[[str], None]) -> CallFolder:
        """The record of a call that begins. `note` is told, on the loop, if it breaks off, and why."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="voisnap-mock recorder", daemon=True)
            self._thread.start()
        return CallFolder(self, call_id, with_real_time=with_real_time, note=note)

    def submit(self, folder: CallFolder, job: Job, size: int) -> None:
        """Have the thread do something for a call. `size` is how many bytes wait with it."""
        if folder.has_failed:
            return
        if self._given_bytes + size - self._written_bytes > _MOST_WAITING_BYTES:
            self._give_up(folder, f"the disk is too slow, {_MOST_WAITING_BYTES >> 20} MB wait to be written")
            return
        self._given_bytes += size
        self._jobs.put((folder, job, size))

    def close(self) -> None:
        """Return when all is written, or after a second: a disk that hangs must not keep a server from stopping."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join(_FAREWELL)

    def _give_up(self, folder: CallFolder, why: str) -> None:
        """From either thread."""
        folder.has_failed = True
        text = (
            f"call {folder.call_id} is not recorded any more in {folder.path}: {why}; the call itself goes on. "
            "Make room there, or name another folder with --record"
        )

        def tell() -> None:
            folder.note(text)
            if why not in self._told:
                self._told.add(why)
                self._report(f"warning: {text}")

        self._on_loop(tell)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (given := self._jobs.get()) is not None:
            folder, job, size = given
            self._written_bytes += size
            if folder.has_failed:
                continue
            try:
                job()
            except OSError as error:
                self._give_up(folder, error.strerror or str(error))
            except Exception as error:  # noqa: BLE001 - the outermost frame of the thread: the other calls go on
                self._give_up(folder, f"{type(error).__name__}: {error}")


class CallFolder:
    """One call's folder. Its methods belong to the server's loop and return at once; `Recorder.open` makes it.

    Attributes:
        path: where it is; of a call whose id has a folder already, that of an earlier server with the same seed, it is
            another one with a number behind.
        note: told when the record breaks off.
        has_failed: it has broken off; nothing more is written.
    """

    def __init__(self, recorder: Recorder, call_id: str, *, with_real_time: bool, note: Callable[[str], None]) -> None:
        self.call_id = call_id
        self.path = recorder.folder / call_id
        self.note = note
        self.has_failed = False
        self._recorder = recorder
        self._with_real_time = with_real_time
        self._lines = 0
        self._said: list[Utterance] = []

    def begin(self, facts: dict[str, Any], *, has_audio: bool) -> None:
        """The call begins."""
        self._recorder.submit(self, lambda: self._begin(facts, has_audio=has_audio), _ENTRY_BYTES)

    def add_audio(self, side: Side, place: int, pcm: bytes) -> None:
        """A piece of audio, at `place` in samples."""
        self._recorder.submit(self, lambda: self._add_audio(side, place, pcm), len(pcm))

    def add_entry(self, entry: JournalEntry) -> None:
        """The journal got an entry of this call."""
        self._recorder.submit(self, lambda: self._add_entry(entry), _ENTRY_BYTES)

    def end(self, facts: dict[str, Any], lengths: dict[Side, int]) -> None:
        """The call is over; `lengths` are how many samples each side has, none of a chat."""
        self._recorder.submit(self, lambda: self._end(facts, lengths), _ENTRY_BYTES)

    # --- in the recorder's thread -----------------------------------------------------------------------------------

    def _begin(self, facts: dict[str, Any], *, has_audio: bool) -> None:
        self._make()
        self._write_call(facts)
        (self.path / EVENTS).touch()
        (self.path / TRANSCRIPT).write_text(VTT_HEAD, encoding="utf-8")
        for side in WAVS if has_audio else ():
            (self.path / WAVS[side]).write_bytes(wav_header(0, RATES[side]))

    def _make(self) -> None:
        path, number = self.path, 1
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                path = self.path.with_name(f"{self.call_id}-{number}")
            else:
                self.path = path
                return

    def _add_audio(self, side: Side, place: int, pcm: bytes) -> None:
        with (self.path / WAVS[side]).open("r+b") as file:
            file.seek(WAV_HEADER_BYTES + place * SAMPLE_BYTES)
            file.write(pcm)
            _promise(file, place * SAMPLE_BYTES + len(pcm), RATES[side])

    def _add_entry(self, entry: JournalEntry) -> None:
        self._lines += 1
        line = event_line(entry, self._lines, with_real_time=self._with_real_time)
        _append(self.path / EVENTS, json_line(line))
        said = utterance_in(line)
        if said is not None:
            self._said.append(said)
            _append(self.path / TRANSCRIPT, vtt_cue(said))

    def _end(self, facts: dict[str, Any], lengths: dict[Side, int]) -> None:
        for side, length in lengths.items():
            with (self.path / WAVS[side]).open("r+b") as file:
                file.truncate(WAV_HEADER_BYTES + length * SAMPLE_BYTES)
                _promise(file, length * SAMPLE_BYTES, RATES[side])
        # While the call went on, its cues could only be added in the order in which they ended.
        write_whole(self.path / TRANSCRIPT, vtt(self._said).encode())
        self._write_call(facts)

    def _write_call(self, facts: dict[str, Any]) -> None:
        write_whole(self.path / CALL, call_text(facts).encode())


def _promise(file: IO[bytes], data_bytes: int, sample_rate: int) -> None:
    """Say in the header how much audio there is, once it is there."""
    file.flush()
    file.seek(0)
    file.write(wav_header(data_bytes, sample_rate))


def _append(path: Path, text: str) -> None:
    with path.open("ab", buffering=0) as file:
        data = text.encode()
        if file.write(data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
