"""Audio in the journal: added up by the second of call time."""

from __future__ import annotations

import zlib
from typing import Any

from voisnap_mock.engine.runner.ledger import AudioLedger

FRAME = b"\x01\x02" * 320


class Book:
    def __init__(self) -> None:
        self.entries: list[tuple[str, float, dict[str, Any]]] = []
        self.ledger = AudioLedger(lambda *entry: self.entries.append(entry), in_target="SendAudioAsync")

    def hear(self, *times: float) -> None:
        for t in times:
            self.ledger.heard(FRAME, t)


def seconds(begin: float, end: float) -> list[float]:
    """The ends of the frames between two times."""
    return [round(number * 0.02, 3) for number in range(round(begin * 50) + 1, round(end * 50) + 1)]


def test_each_second_is_an_entry_written_when_the_next_begins() -> None:
    book = Book()
    book.hear(*seconds(0, 1))
    assert book.entries == []
    book.hear(*seconds(1, 2.5))
    first, second = book.entries
    crc = f"{zlib.crc32(FRAME * 50):08x}"
    assert first == (
        "audio.in",
        1.02,
        {"target": "SendAudioAsync", "frames": 50, "bytes": 32_000, "crc32": crc, "begin": 0.02, "end": 1.0},
    )
    assert (second[1], second[2]["begin"], second[2]["end"]) == (2.02, 1.02, 2.0)
    book.ledger.flush(2.6)
    assert (book.entries[2][1], book.entries[2][2]["frames"]) == (2.6, 25)
    book.ledger.flush(3.0)
    assert len(book.entries) == 3, "nothing is written twice"


def test_a_pause_ends_an_entry_when_it_is_over() -> None:
    book = Book()
    book.hear(0.02, 0.04, 5.5, 5.52)
    assert [(t, details["frames"]) for _, t, details in book.entries] == [(5.5, 2)]
    book.ledger.flush(9.0)
    assert [(details["begin"], details["end"]) for _, _, details in book.entries] == [(0.02, 0.04), (5.5, 5.52)]


def test_the_two_directions_are_counted_apart() -> None:
    book = Book()
    book.hear(0.02)
    book.ledger.said(bytes(960), 0.0)
    book.ledger.said(bytes(960), 0.02)
    book.ledger.flush(0.1)
    assert [(kind, details["frames"], details["bytes"]) for kind, _, details in book.entries] == [
        ("audio.in", 1, 640),
        ("audio.out", 2, 1920),
    ]
    assert "target" not in book.entries[1][2]
