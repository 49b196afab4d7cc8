"""Further words for a model, kept in a cache that may be broken, full or shared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from voisnap_mock.audio.tiny_model.building import MODEL_CONF
from voisnap_mock.audio.tiny_model.extension import Extended, Store, extend
from voisnap_mock.audio.tiny_model.folders import checksum, language_files, read_files, words_of, write_files
from voisnap_mock.audio.tiny_model.lexicon import Pronunciation, count_bigrams
from voisnap_mock.audio.tiny_model.phones import Phones

WORDS, PHRASES = ("archbishop", "kangaroo"), ("my kangaroo",)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What extending looks at: all but the network."""
    folder = tmp_path_factory.mktemp("base")
    lexicon = {"my": (Pronunciation(("m", "aI"), 1.0),), "no": (Pronunciation(("n", "oU"), 1.0),)}
    write_files(
        folder, {"conf/model.conf": MODEL_CONF.encode(), **language_files(lexicon, count_bigrams(["my"]), Phones())}
    )
    return folder


def known(extended: Extended) -> set[str]:
    return set(words_of(read_files(extended.folder)))


def test_words_are_learnt_once_and_found_again(base: Path, tmp_path: Path) -> None:
    first = extend(base, WORDS, PHRASES, cache=tmp_path)
    assert (first.added, first.skipped, first.problem) == (WORDS, (), "")
    assert first.folder.parent == tmp_path
    assert known(first) == {"my", "no", *WORDS}
    written = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()}
    again = extend(base, WORDS, PHRASES, cache=tmp_path)
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in again.folder.rglob("*") if path.is_file()} == written
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]


def test_other_words_phrases_and_models_are_kept_apart(base: Path, tmp_path: Path) -> None:
    other_base = tmp_path / "other"
    write_files(other_base, {**read_files(base), "conf/model.conf": b"--beam=12\n"})
    cache = tmp_path / "cache"
    folders = {
        extend(folder, words, phrases, cache=cache).folder
        for folder, words, phrases in (
            (base, WORDS, PHRASES),
            (base, WORDS[:1], PHRASES),
            (base, WORDS, ()),
            (other_base, WORDS, PHRASES),
        )
    }
    assert len(folders) == 4


def test_without_words_the_model_stays_as_it_is(base: Path, tmp_path: Path) -> None:
    assert extend(base, (), (), cache=tmp_path / "cache") == Extended(base)
    assert not (tmp_path / "cache").exists()


def test_words_without_a_pronunciation_are_skipped_with_a_warning(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extended = extend(base, ("kangaroo", "日本"), (), cache=tmp_path)
    assert (extended.added, extended.skipped) == (("kangaroo",), ("日本",))
    assert caplog.messages[0].endswith(": 日本")


def test_a_flood_of_words_is_cut(base: Path, tmp_path: Path) -> None:
    extended = extend(base, ("archbishop", "kangaroo", "zebra"), (), cache=tmp_path, most=2)
    assert (extended.added, extended.skipped) == (("archbishop", "kangaroo"), ("zebra",))


def test_a_model_of_another_make_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "other"
    write_files(other, {"am/final.mdl": b"x"})
    extended = extend(other, WORDS, (), cache=tmp_path / "cache")
    assert (extended.folder, extended.added, extended.skipped) == (other, (), WORDS)
    assert "lexicon.txt" in extended.problem
    assert "archbishop, kangaroo" in caplog.messages[0]


def test_a_synthesiser_that_is_missing_costs_the_words_only(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    extended = extend(base, WORDS, (), cache=tmp_path)
    assert (extended.folder, extended.skipped) == (base, WORDS)
    assert "could not be started" in extended.problem


# --- The cache ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["graph/HCLr.fst", "lexicon.txt", "extension.json", "conf/model.conf"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed"])
def test_a_damaged_model_is_made_anew(base: Path, tmp_path: Path, name: str, damage: str) -> None:
    good = extend(base, WORDS, PHRASES, cache=tmp_path)
    files = read_files(good.folder)
    path = good.folder / name
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-3])
        case "emptied":
            path.write_bytes(b"")
        case _:
            path.unlink()
    assert extend(base, WORDS, PHRASES, cache=tmp_path) == good
    assert read_files(good.folder) == files


@pytest.mark.parametrize("note", [b"[]", b'{"checksum": 1}', b'{"checksum": "x", "added": []}', b"\xff"])
def test_a_note_that_says_something_else_is_not_believed(base: Path, tmp_path: Path, note: bytes) -> None:
    good = extend(base, WORDS, PHRASES, cache=tmp_path)
    (good.folder / "extension.json").write_bytes(note)
    assert extend(base, WORDS, PHRASES, cache=tmp_path) == good


def test_a_file_in_the_place_of_the_model_is_replaced(base: Path, tmp_path: Path) -> None:
    good = extend(base, WORDS, PHRASES, cache=tmp_path)
    shutil.rmtree(good.folder)
    good.folder.write_text("not a folder")
    assert extend(base, WORDS, PHRASES, cache=tmp_path) == good


def test_a_cache_that_cannot_be_written_costs_time_only(base: Path, tmp_path: Path) -> None:
    # A file where a folder should be stops even those who may write everywhere.
    (tmp_path / "cache").write_text("not a folder")
    extended = extend(base, WORDS, PHRASES, cache=tmp_path / "cache" / "deeper")
    assert extended.is_temporary
    assert extended.added == WORDS
    assert known(extended) == {"my", "no", *WORDS}
    shutil.rmtree(extended.folder)


def test_writers_at_the_same_time_end_up_with_one_whole_model(base: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        learnt = list(pool.map(lambda _: extend(base, WORDS, PHRASES, cache=tmp_path), range(8)))
    assert len(set(learnt)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [learnt[0].folder.name]
    assert extend(base, WORDS, PHRASES, cache=tmp_path) == learnt[0]


def test_processes_at_the_same_time_end_up_with_one_whole_model(base: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from voisnap_mock.audio.tiny_model.extension import extend\n"
        f"print(extend(Path(sys.argv[1]), {WORDS!r}, {PHRASES!r}, cache=Path(sys.argv[2])).folder)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(base), str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    folders = {process.communicate(timeout=60)[0] for process in running}
    assert len(folders) == 1
    assert Store(tmp_path).find(Path(os.fsdecode(folders.pop().strip())).name) is not None
    assert len(list(tmp_path.iterdir())) == 1


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(25):
        files = {"a": b"1"}
        note = json.dumps({"added": [], "checksum": checksum(files)}).encode()
        assert store.keep(f"key{number:02}", {**files, "extension.json": note}) is not None
        os.utime(tmp_path / f"key{number:02}", (number, number))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"key{number:02}" for number in range(5, 25)]
