"""Reads what was recorded of a call: its folder, or the zip of it. Nothing is unpacked onto the disk.

What comes from elsewhere may be anything: every size is bounded before it is read, names inside a zip lead nowhere,
and whatever is wrong is told with the name of the file, and the line where there is one.
"""

from __future__ import annotations

import io
import json
import math
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from voisnap_mock.audio.frames import WAV_HEADER_BYTES, read_wav, resample, wav_header
from voisnap_mock.errors import ConfigError, SpeechError
from voisnap_mock.recordings.call_files import CALL, EVENTS, RATES, TRANSCRIPT, WAVS, Side, Utterance, utterance_in

if TYPE_CHECKING:
    import zipfile

_MEGABYTE = 1024 * 1024
_MOST_BYTES: Mapping[str, int] = {
    CALL: _MEGABYTE,
    EVENTS: 64 * _MEGABYTE,
    TRANSCRIPT: 16 * _MEGABYTE,
    **dict.fromkeys(WAVS.values(), 512 * _MEGABYTE),
}
_MOST_ZIP_BYTES = 2 * 512 * _MEGABYTE
_MOST_ZIP_ENTRIES = 10_000

Reader = Callable[[str], bytes | None]
"""Gives the bytes of a file of the record; None when it is not there."""


class RecordError(ConfigError):
    """It is no record of a call, or cannot be read; the text names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A recorded call.

    Attributes:
        source: the folder or zip.
        facts: what `call.json` says: `id`, `agentId`, `channel`, `durationSeconds`, `reason` ...
        events: the lines of `events.jsonl`, in order.
        audio: PCM of each side, at its own rate; empty for a chat.
        is_cut: the last line was cut off: whoever wrote it was killed.
    """

    source: str
    facts: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    audio: Mapping[Side, bytes]
    is_cut: bool = False

    @property
    def transcript(self) -> tuple[Utterance, ...]:
        """Who said what, in the order in which it was said to its end."""
        said = (utterance_in(dict(event)) for event in self.events)
        return tuple(each for each in said if each is not None)


def read_record(path: Path, *, with_audio: bool = True) -> RecordedCall:
    """Read the folder or the zip of a recorded call; blocks. Without `with_audio` the WAV files are left alone.

    Raises:
        RecordError: it cannot be used.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RecordError(f"{path}: {why}; expected the folder of a recorded call, or its zip") from error
    if stat.S_ISDIR(mode):
        return _record(str(path), lambda name: _read_file(path / name), with_audio=with_audio)
    if stat.S_ISREG(mode):
        try:
            with path.open("rb") as file:
                return _read_zip(str(path), file, path.stat().st_size, with_audio=with_audio)
        except OSError as error:
            raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    raise RecordError(f"{path}: is neither a folder nor a file; expected the folder of a recorded call, or its zip")


def read_packed(source: str, data: bytes, *, with_audio: bool = True) -> RecordedCall:
    """The same of a zip that came from elsewhere; `source` names it in errors."""
    return _read_zip(source, io.BytesIO(data), len(data), with_audio=with_audio)


def _read_file(path: Path) -> bytes | None:
    try:
        status = path.stat()
        # A pipe or a device would block for ever.
        if not stat.S_ISREG(status.st_mode):
            raise RecordError(f"{path}: is not a file")
        if status.st_size > _MOST_BYTES[path.name]:
            raise _too_large(str(path), status.st_size)
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error


def _too_large(where: str, size: int) -> RecordError:
    most = _MOST_BYTES[PurePosixPath(where.replace("\\", "/")).name]
    return RecordError(f"{where}: has {size} bytes, at most {most} are read")


# --- zip --------------------------------------------------------------------------------------------------------


def _read_zip(source: str, packed: IO[bytes], size: int, *, with_audio: bool) -> RecordedCall:
    import zipfile
    import zlib

    if size > _MOST_ZIP_BYTES:
        raise RecordError(f"{source}: has {size} bytes, at most {_MOST_ZIP_BYTES} are read")
    try:
        with zipfile.ZipFile(packed) as archive:
            entries = _entries(source, archive)

            def read(name: str) -> bytes | None:
                entry = entries.get(name)
                return None if entry is None else _read_entry(source, archive, entry)

            return _record(source, read, with_audio=with_audio)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise RecordError(
            f"{source}: is not a zip that can be read: {error}; expected the folder of a recorded call, or its zip"
        ) from error


def _entries(source: str, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of the one record in a zip, by name, whatever folder they are in."""
    import zipfile

    listed = archive.infolist()
    if len(listed) > _MOST_ZIP_ENTRIES:
        raise RecordError(f"{source}: holds {len(listed)} files, at most {_MOST_ZIP_ENTRIES} are looked at")
    found: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for entry in listed:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or ":" in entry.filename:
            raise RecordError(f"{source}: holds {entry.filename!r}, a name that leads out of it; it is no record")
        # Some programs put folders of their own beside what they were told to pack.
        if name.name not in _MOST_BYTES or entry.is_dir() or name.parts[0] == "__MACOSX":
            continue
        folders.add(str(name.parent))
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RecordError(
                f"{source}: holds {entry.filename!r} in compression {entry.compress_type}; expected deflate"
            )
        if len(folders) > 1:
            names = ", ".join(sorted(folders))
            raise RecordError(f"{source}: holds more than one record ({names}); expected the zip of one call")
        if name.name in found:
            raise RecordError(f"{source}: holds {entry.filename!r} twice")
        found[name.name] = entry
    return found


def _read_entry(source: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    where = f"{source}/{entry.filename}"
    most = _MOST_BYTES[PurePosixPath(entry.filename).name]
    if entry.file_size > most:
        raise _too_large(where, entry.file_size)
    with archive.open(entry) as file:
        # What a zip says of its sizes need not be true.
        data = file.read(most + 1)
    if len(data) > most:
        raise _too_large(where, len(data))
    return data


# --- files ------------------------------------------------------------------------------------------------------


def _record(source: str, read: Reader, *, with_audio: bool) -> RecordedCall:
    call, lines = read(CALL), read(EVENTS)
    for name, data in ((EVENTS, lines), (CALL, call)):
        if data is None:
            raise RecordError(f"{source}: holds no {name}; expected the folder of a recorded call, or its zip")
    assert call is not None
    assert lines is not None
    facts = _json(f"{source}/{CALL}", call)
    if not isinstance(facts, dict) or not all(
        isinstance(facts.get(name), str) for name in ("id", "agentId", "channel")
    ):
        raise RecordError(f"{source}/{CALL}: tells no call: expected an object with id, agentId and channel")
    events, is_cut = _events(f"{source}/{EVENTS}", lines)
    audio: dict[Side, bytes] = {}
    for side, name in WAVS.items() if with_audio else ():
        wav = read(name)
        if wav is not None:
            audio[side] = _pcm(f"{source}/{name}", wav, RATES[side])
    return RecordedCall(source, facts, events, audio, is_cut)


def _events(where: str, data: bytes) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    events = []
    lines = data.split(b"\n")
    # After the last line break comes nothing, unless its writer was killed.
    rest = lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = _json(f"{where}:{number}", line)
        t = event.get("t") if isinstance(event, dict) else None
        if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
            raise RecordError(f"{where}:{number}: is no entry of a journal: expected an object with a kind")
        if t is not None and (isinstance(t, bool) or not isinstance(t, int | float) or not 0 <= t < math.inf):
            raise RecordError(f"{where}:{number}: t is {t!r}, expected seconds of call time")
        events.append(event)
    return tuple(events), bool(rest.strip())


def _json(where: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise RecordError(f"{where}: is nested too deep") from None
    except ValueError as error:
        raise RecordError(f"{where}: is not JSON: {error}") from None


def _pcm(where: str, data: bytes, sample_rate: int) -> bytes:
    if data[:WAV_HEADER_BYTES] == wav_header(0, sample_rate):
        return b""
    try:
        pcm, its_rate = read_wav(data)
    except SpeechError as error:
        raise RecordError(f"{where}: {error}") from error
    return resample(pcm, its_rate, sample_rate)
