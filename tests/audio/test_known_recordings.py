"""The ear for known recordings: files in folders, an index that follows them, and what is heard by it."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soxr
from lines import lossy, mu_law, noisy
from speech_samples import SENTENCES, Samples, Say, Spoken, noise, say_all, silence

from voisnap_mock.audio.frames import write_wav
from voisnap_mock.audio.known_recordings import IndexNews, RecordingIndex, RecordingsEar
from voisnap_mock.clock import ManualClock
from voisnap_mock.engine.events import Transcript
from voisnap_mock.recordings.utterances import KnownUtterance, Utterances, Version

TEXTS = (*SENTENCES[:6], "yes please")


def spoken(number: int) -> Spoken:
    return say_all(*map(Say, TEXTS))[number]


def record(folder: Path, name: str, number: int, *, text: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(TEXTS[number] if text is None else text, encoding="utf-8")
    (folder / f"{name}.wav").write_bytes(write_wav(spoken(number).pcm.tobytes(), 16_000))


class Studio:
    """An index over a folder, with a clock that stands still unless moved."""

    def __init__(self, folder: Path, *, quiet: Path | None = None) -> None:
        self.clock = ManualClock()
        self.news: list[IndexNews] = []
        self.index = RecordingIndex(
            [Utterances(folder)],
            quiet=[Utterances(quiet)] if quiet is not None else [],
            clock=self.clock,
            on_news=self.news.append,
        )

    async def later(self) -> None:
        await self.clock.advance(1.0)

    def hear(self, *parts: Samples, chunk: int = 3200) -> Transcript | None:
        pcm = np.concatenate(parts).tobytes()
        listener = RecordingsEar(self.index).open()
        for at in range(0, len(pcm), chunk):
            listener.accept(pcm[at : at + chunk])
        return listener.finish(2.0)

    def text(self, number: int) -> str | None:
        heard = self.hear(silence(0.3), spoken(number).pcm, silence(0.7))
        return None if heard is None else heard.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "utterances"


@pytest.fixture
def studio(folder: Path) -> Studio:
    for number in range(3):
        record(folder, f"file{number}", number)
    return Studio(folder)


# --- Hearing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [lambda pcm: pcm, mu_law, noisy, lossy], ids=["clean", "mu-law", "noise", "loss"])
def test_a_known_recording_is_heard_through_any_line(studio: Studio, line: object) -> None:
    heard = studio.hear(silence(0.3), line(spoken(1).pcm), silence(0.7))  # type: ignore[operator]
    assert heard is not None
    assert (heard.text, heard.ear) == (TEXTS[1], "recordings")
    assert 0.8 <= heard.confidence <= 1.0
    assert [word.text for word in heard.words] == TEXTS[1].split()
    assert heard.words[0].begin == pytest.approx(0.3 + spoken(1).begin, abs=0.1)
    assert heard.words[-1].end == pytest.approx(0.3 + spoken(1).end, abs=0.25)


def test_two_one_after_the_other_are_heard_as_one_text(studio: Studio) -> None:
    heard = studio.hear(silence(0.3), spoken(0).pcm, silence(0.2), spoken(2).pcm, silence(0.7))
    assert heard is not None
    assert heard.text == f"{TEXTS[0]} {TEXTS[2]}"
    begins = [word.begin for word in heard.words]
    assert begins == sorted(begins)


@pytest.mark.parametrize(
    "sound", [silence(2), noise(2, -30), spoken(3).pcm, spoken(6).pcm], ids=["silence", "noise", "speech", "words"]
)
def test_anything_else_is_for_the_next_ear(studio: Studio, sound: Samples) -> None:
    assert studio.hear(silence(0.3), sound, silence(0.7)) is None


def test_the_text_is_there_as_a_partial_when_it_was_played(studio: Studio) -> None:
    listener = RecordingsEar(studio.index).open()
    assert listener.partial() is None
    listener.accept(np.concatenate([silence(0.3), spoken(0).pcm, silence(0.4)]).tobytes())
    partial = listener.partial()
    assert partial is not None
    assert partial.text == TEXTS[0]


def test_without_recordings_nothing_is_heard_and_numpy_is_not_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from voisnap_mock.audio.known_recordings import RecordingIndex, RecordingsEar\n"
        "from voisnap_mock.clock import SystemClock\nfrom voisnap_mock.recordings.utterances import Utterances\n"
        f"index = RecordingIndex([Utterances(Path({str(tmp_path / 'none')!r}))], clock=SystemClock())\n"
        "index.refresh(); listener = RecordingsEar(index).open(); listener.accept(bytes(32000))\n"
        "assert listener.finish(1.0) is None and listener.partial() is None and index.count == 0\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def wav(body: bytes, *, code: int, rate: int, channels: int, bits: int) -> bytes:
    align = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate, rate * align, align, bits)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", len(form))
        + form
        + struct.pack("<4sI", b"data", len(body))
        + body
    )


PCM, FLOAT = 1, 3
FORMATS = {
    "8 bits, 8 kHz": (PCM, 8_000, 1, 8),
    "16 bits, 11.025 kHz": (PCM, 11_025, 1, 16),
    "16 bits stereo, 44.1 kHz": (PCM, 44_100, 2, 16),
    "24 bits, 48 kHz": (PCM, 48_000, 1, 24),
    "32 bits stereo, 96 kHz": (PCM, 96_000, 2, 32),
    "float 32, 22.05 kHz": (FLOAT, 22_050, 1, 32),
    "float 64 stereo, 48 kHz": (FLOAT, 48_000, 2, 64),
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_recording_is_known_whatever_its_format(folder: Path, form: str) -> None:
    code, rate, channels, bits = FORMATS[form]
    samples = soxr.resample(spoken(0).pcm.astype(np.float64) / 32768, 16_000, rate).clip(-1, 0.9999)
    both = np.repeat(samples, channels)
    if code == FLOAT:
        body = both.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        body = (both * 127 + 128).astype(np.uint8).tobytes()
    else:
        wide = (both * 2**31).astype("<i4").view(np.uint8).reshape(-1, 4)
        body = wide[:, 4 - bits // 8 :].tobytes()
    folder.mkdir()
    (folder / "file.wav").write_bytes(wav(body, code=code, rate=rate, channels=channels, bits=bits))
    (folder / "file.txt").write_text(TEXTS[0])
    studio = Studio(folder)
    assert studio.text(0) == TEXTS[0]
    assert studio.news == [IndexNews(1, ())]


# --- The index follows the folder -----------------------------------------------------------------------------------


async def test_files_that_come_change_and_go_are_noticed(studio: Studio, folder: Path) -> None:
    assert studio.text(3) is None
    record(folder, "new", 3)
    await studio.later()
    assert studio.text(3) == TEXTS[3]
    (folder / "new.txt").write_text("Something else, entirely.", encoding="utf-8")
    await studio.later()
    assert studio.text(3) == "Something else, entirely."
    (folder / "new.wav").unlink()
    await studio.later()
    assert studio.text(3) is None
    assert studio.text(0) == TEXTS[0]
    shutil.rmtree(folder)
    await studio.later()
    assert studio.text(0) is None
    assert [news.known for news in studio.news] == [3, 4, 4, 3, 0]


async def test_only_what_changed_is_read_again(folder: Path) -> None:
    reads: list[str] = []

    class Watched(Utterances):
        def read(self, name: str) -> KnownUtterance:
            reads.append(name)
            return super().read(name)

    for number in range(3):
        record(folder, f"file{number}", number)
    index = RecordingIndex([Watched(folder)], clock=ManualClock())
    index.refresh()
    record(folder, "file1", 4)
    index.refresh()
    index.refresh()
    assert reads == ["file0.wav", "file1.wav", "file2.wav", "file1.wav"]


async def test_the_folders_are_not_looked_at_for_every_utterance(studio: Studio, folder: Path) -> None:
    assert studio.text(0) == TEXTS[0]
    record(folder, "new", 3)
    assert studio.text(3) is None
    await studio.clock.advance(0.21)
    assert studio.text(3) == TEXTS[3]


def test_progress_is_told_file_by_file(studio: Studio) -> None:
    told: list[tuple[int, int]] = []
    studio.index.refresh(lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_an_index_that_is_closed_reads_no_more(studio: Studio) -> None:
    studio.index.close()
    studio.index.refresh()
    assert studio.news == []


class SlowFolder(Utterances):
    """Reads nothing before it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_read = threading.Event()
        self.is_reading = threading.Event()

    def read(self, name: str) -> KnownUtterance:
        self.is_reading.set()
        assert self.may_read.wait(20)
        return super().read(name)


def test_a_caller_who_comes_before_the_index_is_ready_is_heard_all_the_same(folder: Path) -> None:
    record(folder, "file", 0)
    slow = SlowFolder(folder)
    index = RecordingIndex([slow], clock=ManualClock())
    with ThreadPoolExecutor(1) as maker:
        making = maker.submit(index.refresh)
        assert slow.is_reading.wait(20)
        listener = RecordingsEar(index).open()
        listener.accept(silence(0.3).tobytes() + spoken(0).pcm.tobytes())
        assert listener.partial() is None
        slow.may_read.set()
        heard = listener.finish(2.0)
        making.result()
    assert heard is not None
    assert heard.text == TEXTS[0]


# --- What is wrong with files ---------------------------------------------------------------------------------------


def damage_text_missing(folder: Path) -> None:
    (folder / "bad.txt").unlink()


def damage_text_latin1(folder: Path) -> None:
    (folder / "bad.txt").write_bytes("I'd like a café".encode("latin-1"))


def damage_text_empty(folder: Path) -> None:
    (folder / "bad.txt").write_text(" \n\t")


def damage_text_huge(folder: Path) -> None:
    (folder / "bad.txt").write_text("word " * 10_000)


def damage_text_folder(folder: Path) -> None:
    (folder / "bad.txt").unlink()
    (folder / "bad.txt").mkdir()


def damage_wav_truncated(folder: Path) -> None:
    (folder / "bad.wav").write_bytes((folder / "bad.wav").read_bytes()[:30])


def damage_wav_cut(folder: Path) -> None:
    (folder / "bad.wav").write_bytes((folder / "bad.wav").read_bytes()[:1000])


def damage_wav_empty(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(b"")


def damage_wav_no_samples(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(write_wav(b"", 16_000))


def damage_wav_short(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(write_wav(spoken(6).pcm[4000:7000].tobytes(), 16_000))


def damage_wav_silent(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(write_wav(bytes(64_000), 16_000))


def damage_wav_mp3(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(b"ID3\x03" + bytes(4000))


def damage_wav_folder(folder: Path) -> None:
    (folder / "bad.wav").unlink()
    (folder / "bad.wav").mkdir()


def damage_wav_fifo(folder: Path) -> None:
    (folder / "bad.wav").unlink()
    os.mkfifo(folder / "bad.wav")


def damage_wav_two_hours(folder: Path) -> None:
    """A sparse file: it takes no room on disk, and to read it would take a gigabyte of memory."""
    size = 2 * 3600 * 48_000 * 2 * 2
    head = bytearray(write_wav(b"", 48_000))
    head[22:24] = (2).to_bytes(2, "little")
    head[40:44] = size.to_bytes(4, "little")
    with (folder / "bad.wav").open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)


DAMAGES = {
    "text missing": (damage_text_missing, r"bad\.wav: has no text; write what is said in it into bad\.txt"),
    "text not UTF-8": (damage_text_latin1, r"bad\.txt: is not UTF-8 \(byte 0xe9 at place 15\); save it as UTF-8"),
    "text empty": (damage_text_empty, r"bad\.txt: is empty; write what is said in bad\.wav"),
    "text huge": (damage_text_huge, r"bad\.txt: 50000 bytes are too much"),
    "text a folder": (damage_text_folder, r"bad\.txt: cannot be read"),
    "header cut off": (damage_wav_truncated, r"bad\.wav: .*cut off"),
    "data cut off": (damage_wav_cut, r"bad\.wav: the file is cut off: its data chunk says \d+ bytes, 956 follow"),
    "file empty": (damage_wav_empty, r"bad\.wav: the file ends inside the RIFF header"),
    "no samples": (damage_wav_no_samples, r"bad\.wav: the file has no samples"),
    "too short": (damage_wav_short, r"bad\.wav: 0\.1\d s of sound is too short"),
    "only silence": (damage_wav_silent, r"bad\.wav: 0\.00 s of sound is too short"),
    "no WAV at all": (damage_wav_mp3, r"bad\.wav: not a WAV file: it starts with b'ID3"),
    "a folder": (damage_wav_folder, r"bad\.wav: is not a file"),
    "two hours": (damage_wav_two_hours, r"bad\.wav: lasts 120 min, too long for something said in one turn"),
}
if hasattr(os, "mkfifo"):
    DAMAGES["a pipe"] = (damage_wav_fifo, r"bad\.wav: is not a file")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_used_is_named_and_the_others_are_known(
    studio: Studio, folder: Path, damage: str
) -> None:
    record(folder, "bad", 3)
    do, says = DAMAGES[damage]
    do(folder)
    studio.index.refresh()
    (news,) = studio.news
    (problem,) = news.problems
    assert news.known == 3
    assert problem.startswith(str(folder))
    assert re.search(says, problem), problem
    assert studio.text(0) == TEXTS[0]


def test_a_text_of_several_lines_with_a_byte_order_mark_is_one_text(folder: Path) -> None:
    record(folder, "file", 0, text="\ufeff  I want\tto \r\n cancel\u2028it \x1b[0m\n")
    assert Studio(folder).text(0) == "I want to cancel it [0m"


def test_recordings_that_sound_alike_are_told(folder: Path) -> None:
    record(folder, "one", 0)
    record(folder, "other", 0, text="something else")
    studio = Studio(folder)
    studio.index.refresh()
    (problem,) = studio.news[0].problems
    assert "one.wav and" in problem
    assert "sound alike" in problem


def test_of_many_that_sound_alike_only_some_are_told(folder: Path) -> None:
    for number in range(12):
        record(folder, f"copy{number}", 6, text=f"text {number}")
    studio = Studio(folder)
    studio.index.refresh()
    assert studio.news[0].known == 12
    assert len(studio.news[0].problems) == 20


def test_of_the_quiet_folder_no_problem_is_told(tmp_path: Path) -> None:
    record(tmp_path / "quiet", "one", 0)
    record(tmp_path / "quiet", "other", 0, text="something else")
    record(tmp_path / "quiet", "bad", 1)
    (tmp_path / "quiet" / "bad.txt").unlink()
    studio = Studio(tmp_path / "none", quiet=tmp_path / "quiet")
    studio.index.refresh()
    assert studio.news == [IndexNews(2, ())]
    record(tmp_path / "none", "mine", 0, text="a third text")
    studio.index.refresh()
    assert len(studio.news[1].problems) == 2


def test_a_folder_that_cannot_be_scanned_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    scanned: Mapping[str, Version] = Utterances(tmp_path / "file").scan()
    assert scanned == {}
