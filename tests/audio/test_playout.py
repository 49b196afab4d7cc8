"""Agent audio leaves in whole frames, 20 ms apart, and no sample is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.frames import AGENT_FRAME_BYTES, FRAME_SECONDS
from voisnap_mock.audio.playout import Playout


def take_all(playout: Playout, *, until: float) -> list[tuple[float, bytes]]:
    """Every frame until `until`, each with the moment it was due."""
    taken = []
    while (due := playout.next_deadline()) is not None and due <= until:
        frame = playout.take(due)
        assert frame is not None
        taken.append((due, frame))
    return taken


def speech(frames: float) -> bytes:
    """Audio of so many frames in which every sample differs from its neighbours."""
    samples = round(frames * 480)
    return b"".join((1 + at % 30_000).to_bytes(2, "little") for at in range(samples))


def test_frames_are_due_every_twenty_milliseconds_from_the_begin() -> None:
    playout = Playout()
    playout.begin(1.35)
    playout.push(speech(3), 1.0)
    assert [due for due, _ in take_all(playout, until=9)] == [1.35, 1.37, 1.39]


def test_nothing_is_due_before_its_time() -> None:
    playout = Playout()
    playout.begin(1.0)
    playout.push(speech(1), 0.0)
    assert playout.take(0.999) is None
    assert playout.take(1.0) is not None


def test_audio_without_a_begin_is_due_when_it_comes() -> None:
    playout = Playout()
    playout.push(speech(1), 2.5)
    assert playout.next_deadline() == 2.5


def test_less_than_a_frame_waits_for_more() -> None:
    playout = Playout()
    playout.push(speech(0.5), 0.0)
    assert playout.next_deadline() is None
    playout.push(speech(0.5), 0.1)
    assert playout.next_deadline() == 0.1


def test_the_last_frame_is_padded_with_silence() -> None:
    playout = Playout()
    playout.push(speech(1.25), 0.0)
    playout.finish(0.0)
    (_, first), (_, last) = take_all(playout, until=1)
    assert len(first) == len(last) == AGENT_FRAME_BYTES
    assert last[240:] == bytes(720)
    assert playout.position == 960


def test_finish_with_nothing_left_adds_no_silence() -> None:
    playout = Playout()
    playout.push(speech(2), 0.0)
    playout.finish(0.0)
    assert len(take_all(playout, until=1)) == 2


def test_audio_that_comes_in_time_continues_the_run() -> None:
    playout = Playout()
    playout.push(speech(1), 1.0)
    assert playout.take(1.0) is not None
    playout.push(speech(1), 1.013)
    assert playout.next_deadline() == 1.02


def test_a_run_that_ran_dry_goes_on_when_audio_comes() -> None:
    playout = Playout()
    playout.push(speech(1), 1.0)
    assert playout.take(1.0) is not None
    playout.push(speech(2), 1.5)
    assert [due for due, _ in take_all(playout, until=9)] == [1.5, 1.52]


def test_a_little_lateness_is_caught_up_on_the_old_schedule() -> None:
    playout = Playout()
    playout.push(speech(5), 1.0)
    taken = [playout.take(1.05) for _ in range(4)]
    assert [frame is not None for frame in taken] == [True, True, True, False]
    assert playout.next_deadline() == 1.06


def test_a_stall_makes_a_gap_and_no_burst() -> None:
    playout = Playout()
    playout.push(speech(50), 1.0)
    assert playout.take(1.0) is not None
    assert playout.take(1.5) is not None
    assert playout.take(1.5) is None
    assert playout.next_deadline() == 1.52


def test_cut_drops_what_was_not_handed_out() -> None:
    playout = Playout()
    playout.push(speech(3.5), 0.0)
    assert playout.take(0.0) is not None
    assert playout.cut() == pytest.approx(0.05)
    assert playout.next_deadline() is None
    assert playout.position == 480


def test_sixty_seconds_keep_the_pace_exactly() -> None:
    playout = Playout()
    playout.begin(0.1)
    playout.push(bytes(3000 * AGENT_FRAME_BYTES), 0.0)
    due = [at for at, _ in take_all(playout, until=100)]
    assert due[-1] == pytest.approx(0.1 + 2999 * FRAME_SECONDS, abs=1e-9)
    assert max(abs(after - before - FRAME_SECONDS) for before, after in pairwise(due)) < 1e-8


@given(st.lists(st.integers(0, 2000), max_size=20))
def test_every_sample_pushed_comes_out_once_and_in_order(sizes: list[int]) -> None:
    whole = speech(sum(sizes) / 480)
    playout = Playout()
    at = 0
    for size in sizes:
        playout.push(whole[at * 2 : (at + size) * 2], 0.0)
        at += size
    playout.finish(0.0)
    out = b"".join(frame for _, frame in take_all(playout, until=1e6))
    assert out[: len(whole)] == whole
    assert len(out) % AGENT_FRAME_BYTES == 0
    assert len(out) - len(whole) < AGENT_FRAME_BYTES
    assert not any(out[len(whole) :])


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=60))
def test_however_the_driver_stumbles_no_more_than_four_frames_leave_at_once(steps: list[float]) -> None:
    playout = Playout()
    playout.push(bytes(400 * AGENT_FRAME_BYTES), 0.0)
    now = 0.0
    for step in steps:
        now += step
        before = playout.position
        while playout.take(now) is not None:
            pass
        assert (playout.position - before) / 480 <= 4
