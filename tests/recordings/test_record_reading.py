"""Records of calls that come from anywhere: read when they are sound, refused by name when they are not."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voisnap_mock.audio.frames import wav_header, write_wav
from voisnap_mock.recordings.archive import zip_of
from voisnap_mock.recordings.reading import RecordError, read_record

FACTS = {"id": "conv_1", "agentId": "agt_a", "channel": "voice", "status": "ended", "durationSeconds": 1.0}
EVENTS: list[dict[str, Any]] = [
    {"seq": 1, "t": 0.0, "kind": "session.opened", "agent": "agt_a"},
    {"seq": 2, "t": 0.5, "kind": "agent.transcript", "text": "Hi.", "is_final": True, "begin": 0.0, "end": 0.5},
    {"seq": 3, "t": 1.0, "kind": "session.ended", "reason": "user_ended", "duration": 1.0},
]
LINES = "".join(json.dumps(event) + "\n" for event in EVENTS).encode()
SOUND = b"\x01\x00" * 16_000
FILES = {
    "call.json": json.dumps(FACTS).encode(),
    "events.jsonl": LINES,
    "transcript.vtt": b"WEBVTT\n\n",
    "in.wav": write_wav(SOUND, 16_000),
    "out.wav": write_wav(bytes(48_000), 24_000),
}


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def zipped(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("form", ["folder", "zip", "zip without a folder", "zip of a Mac"])
def test_a_record_is_read_from_its_folder_or_its_zip(tmp_path: Path, form: str) -> None:
    path = tmp_path / "call"
    match form:
        case "folder":
            folder_of(path, FILES)
        case "zip":
            path.write_bytes(zip_of(FILES, "conv_1"))
        case "zip without a folder":
            zipped(path, list(FILES.items()))
        case _:
            entries = [(f"conv_1/{name}", data) for name, data in FILES.items()]
            zipped(path, [("conv_1/", b""), *entries, ("__MACOSX/conv_1/call.json", b"?"), ("conv_1/.DS_Store", b"?")])
    record = read_record(path)
    assert record.facts == FACTS
    assert list(record.events) == EVENTS
    assert record.audio == {"in": SOUND, "out": bytes(48_000)}
    assert [said.text for said in record.transcript] == ["Hi."]
    assert not record.is_cut


def test_a_record_that_broke_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    cut = FILES | {"events.jsonl": LINES[:-20], "in.wav": write_wav(SOUND, 16_000) + b"\x01" * 999}
    record = read_record(folder_of(tmp_path / "call", cut | {"out.wav": wav_header(0, 24_000)}))
    assert list(record.events) == EVENTS[:2]
    assert record.is_cut
    assert record.audio == {"in": SOUND, "out": b""}


def test_another_sample_rate_is_understood(tmp_path: Path) -> None:
    files = FILES | {"in.wav": write_wav(bytes(16_000), 8_000)}
    assert len(read_record(folder_of(tmp_path / "call", files)).audio["in"]) == 32_000


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"call.json": None}, r"call: holds no call\.json; expected the folder of a recorded call, or its zip"),
        ({"events.jsonl": None}, r"call: holds no events\.jsonl"),
        ({"call.json": b"{"}, r"call/call\.json: is not JSON"),
        ({"call.json": b"[]"}, r"call/call\.json: tells no call: expected an object with id, agentId and channel"),
        ({"call.json": b"[" * 100_000}, r"call/call\.json: is nested too deep"),
        ({"call.json": b" " * 2_000_000}, r"call/call\.json: has 2000000 bytes, at most 1048576 are read"),
        ({"events.jsonl": b"\xff\n"}, r"call/events\.jsonl:1: is not JSON"),
        ({"events.jsonl": LINES + b"{}\n"}, r"call/events\.jsonl:4: is no entry of a journal"),
        ({"events.jsonl": b'{"kind": "x", "t": NaN}\n'}, r"call/events\.jsonl:1: t is nan, expected seconds"),
        ({"events.jsonl": b'{"kind": "x", "t": -1}\n'}, r"call/events\.jsonl:1: t is -1, expected seconds"),
        ({"in.wav": b"ID3"}, r"call/in\.wav: the file ends inside the RIFF header"),
        ({"in.wav": write_wav(SOUND, 16_000)[:-9]}, r"call/in\.wav: the file is cut off: its data chunk says"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told_with_the_file(
    tmp_path: Path, files: dict[str, bytes | None], says: str
) -> None:
    given = {name: data for name, data in (FILES | files).items() if data is not None}
    with pytest.raises(RecordError, match=says):
        read_record(folder_of(tmp_path / "call", given))


def bomb(path: Path) -> Path:
    """A zip whose directory says that its file is small; it is not."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("call.json", b" " * 50_000_000)
        archive.writestr("events.jsonl", LINES)
    data = bytearray(packed.getvalue())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1_000)
    path.write_bytes(data)
    return path


def encrypted(path: Path) -> Path:
    zipped(path, list(FILES.items()))
    data = bytearray(path.read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(magic)
        data[at + flags] |= 1
    path.write_bytes(data)
    return path


def rarely_packed(path: Path) -> Path:
    """What unpacks it answers damage with errors of its own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    return path


def torn(path: Path) -> Path:
    data = bytearray(zip_of(FILES, "conv_1"))
    data[60:90] = bytes(30)
    path.write_bytes(data)
    return path


BAD_ZIPS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "another name": (
        lambda path: zipped(path, []).parent / "x.zip",
        "expected the folder of a recorded call, or its zip",
    ),
    "text": (lambda path: (path.write_text("hello"), path)[1], "is not a zip that can be read"),
    "empty": (lambda path: zipped(path, []), r"holds no events\.jsonl"),
    "slip": (lambda path: zipped(path, [("../call.json", b"{}")]), r"holds '\.\./call\.json', a name that leads out"),
    "absolute": (lambda path: zipped(path, [("/etc/call.json", b"{}")]), "a name that leads out of it"),
    "drive": (lambda path: zipped(path, [("C:/call.json", b"{}")]), "a name that leads out of it"),
    "two calls": (
        lambda path: zipped(path, [(f"{call}/{name}", data) for call in "ab" for name, data in FILES.items()]),
        r"holds more than one record \(a, b\)",
    ),
    "honest bomb": (
        lambda path: zipped(path, [("call.json", b" " * 50_000_000), ("events.jsonl", LINES)]),
        r"/call\.json: has 50000000 bytes, at most 1048576 are read",
    ),
    "lying bomb": (bomb, r"/call\.json: has|is not a zip that can be read"),
    "encrypted": (encrypted, "is not a zip that can be read: .*encrypted"),
    "torn": (torn, "is not a zip that can be read|is not JSON"),
    "rare compression": (rarely_packed, r"holds 'call\.json' in compression 14; expected deflate"),
    "many": (lambda path: zipped(path, [(f"{n}.txt", b"") for n in range(10_001)]), "holds 10001 files"),
}


@pytest.mark.parametrize("form", BAD_ZIPS)
def test_a_zip_that_is_no_record_is_refused_by_name(tmp_path: Path, form: str) -> None:
    make, says = BAD_ZIPS[form]
    path = make(tmp_path / "call.zip")
    with pytest.raises(RecordError, match=says) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["call.zip"]


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "call.zip", [("call.json", b"{}"), ("call.json", b"{}")])
    with pytest.raises(RecordError, match=r"holds 'call\.json' twice"):
        read_record(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="is neither a folder nor a file"):
        read_record(tmp_path / "pipe")
    folder = folder_of(tmp_path / "call", {"events.jsonl": LINES})
    os.mkfifo(folder / "call.json")
    with pytest.raises(RecordError, match=r"call\.json: is not a file"):
        read_record(folder)
