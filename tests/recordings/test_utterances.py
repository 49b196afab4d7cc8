import os
from pathlib import Path

import pytest

from voisnap_mock.recordings.utterances import KnownUtterance, Utterances


def test_an_utterance_that_is_kept_can_be_read_again(tmp_path: Path) -> None:
    known = Utterances(tmp_path / "cache" / "utterances")
    path = known.keep("I want a refund.", bytes(3200))
    assert path.with_suffix(".txt").read_text() == "I want a refund.\n"
    assert list(known.scan()) == [path.name]
    assert known.read(path.name) == KnownUtterance("I want a refund.", bytes(3200))
    assert known.keep("I want a refund.", bytes(3200)) == path
    assert len(list(known.folder.iterdir())) == 2


def test_of_what_is_kept_the_oldest_go(tmp_path: Path) -> None:
    known = Utterances(tmp_path)
    paths = []
    for number in range(203):
        paths.append(known.keep(f"number {number}", bytes(2 * number)))
        os.utime(paths[-1], (number, number))
    known.keep("the last one", b"")
    left = known.scan()
    assert len(left) == 200
    assert paths[3].name not in left
    assert paths[4].name in left
    assert len(list(tmp_path.iterdir())) == 400


def test_what_cannot_be_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    known = Utterances(tmp_path)
    path = known.keep("text", bytes(3200))
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match=r"Is a directory|denied|exists"):
        known.keep("text", bytes(3200))
    assert sorted(each.suffix for each in tmp_path.iterdir()) == [".txt", ".wav"]
