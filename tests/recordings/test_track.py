"""Audio on the line of call time: placed by samples, never by the clock on the wall."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.recordings.track import Track

LOUD = b"\x01\x00" * 320
SILENT = bytes(640)


class Laid:
    """A track at 16 kHz and the pieces that came out of it."""

    def __init__(self, *, slack: float = 0.0) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.track = Track(16_000, slack=slack, keep=lambda place, pcm: self.pieces.append((place, pcm)))

    def lay(self, *frames: tuple[float, bytes]) -> list[tuple[int, int]]:
        """Lay frames and say where the sounding pieces are, as (place, samples)."""
        for at, pcm in frames:
            self.track.lay(pcm, at)
        self.track.flush()
        return [(place, len(pcm) // 2) for place, pcm in self.pieces]


def test_frames_that_follow_each_other_are_one_piece() -> None:
    laid = Laid()
    assert laid.lay((0.0, LOUD), (0.02, LOUD), (0.04, LOUD)) == [(0, 960)]
    assert laid.track.length == 960


def test_a_side_that_paused_is_where_it_was() -> None:
    laid = Laid()
    assert laid.lay((0.5, LOUD), (2.0, LOUD)) == [(8_000, 320), (32_000, 320)]
    assert laid.track.length == 32_320


def test_silence_takes_time_and_no_room() -> None:
    laid = Laid()
    assert laid.lay((0.0, LOUD), (0.02, SILENT), (0.04, SILENT), (0.06, LOUD), (0.08, SILENT)) == [(0, 320), (960, 320)]
    assert laid.track.length == 1_600


def test_frames_that_jitter_within_the_slack_follow_each_other_without_a_crack() -> None:
    laid = Laid(slack=0.1)
    late = (0.003, 0.0, 0.05, 0.012, 0.08, 0.0)
    assert laid.lay(*((number * 0.02 + by, LOUD) for number, by in enumerate(late))) == [(0, 6 * 320)]


def test_a_gap_beyond_the_slack_is_a_gap() -> None:
    laid = Laid(slack=0.1)
    assert laid.lay((0.0, LOUD), (0.15, LOUD)) == [(0, 320), (2_400, 320)]


def test_what_comes_in_a_burst_is_laid_end_to_end_and_nothing_is_lost() -> None:
    laid = Laid()
    assert laid.lay((1.0, LOUD), (1.0, LOUD), (1.0, LOUD)) == [(16_000, 960)]


def test_a_long_sound_is_kept_second_by_second() -> None:
    laid = Laid()
    for number in range(125):
        laid.track.lay(LOUD, number * 0.02)
    assert [(place, len(pcm)) for place, pcm in laid.pieces] == [(0, 32_000), (16_000, 32_000)]
    assert laid.lay()[-1] == (32_000, 8_000)


@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.booleans()), max_size=60),
    st.sampled_from([0.0, 0.1]),
)
def test_whatever_comes_pieces_never_overlap_and_hold_every_sample(
    frames: list[tuple[float, bool]], slack: float
) -> None:
    laid = Laid(slack=slack)
    at = 0.0
    for pause, is_loud in frames:
        at += pause
        laid.track.lay(LOUD if is_loud else SILENT, at)
    laid.track.flush()
    end = 0
    for place, pcm in laid.pieces:
        assert place >= end
        end = place + len(pcm) // 2
    assert laid.track.length >= end
    assert sum(len(pcm) for _, pcm in laid.pieces) == 640 * sum(is_loud for _, is_loud in frames)
