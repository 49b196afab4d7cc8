"""A bad line over ten minutes of virtual audio: what is asked for is what comes, and the same for the same seed."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voisnap_mock.faults.impair import BadLine, Passed
from voisnap_mock.faults.rules import Gap, Impair

TEN_MINUTES = 30_000
FRAME = bytes(range(256)) * 2 + bytes(128)


def across(impair: Impair, frames: int = TEN_MINUTES, *, seed: int = 1) -> list[list[Passed]]:
    line = BadLine(impair, seed, len(FRAME))
    return [line.cross(FRAME) for _ in range(frames)]


def lost(impair: Impair, *, seed: int = 1) -> list[bool]:
    return [passed.pcm is None for frames in across(impair, seed=seed) for passed in frames]


def bursts(losses: list[bool]) -> list[int]:
    return [len(list(run)) for is_lost, run in groupby(losses) if is_lost]


@pytest.mark.parametrize("seed", range(5))
def test_three_percent_are_lost_in_bursts_of_three(seed: int) -> None:
    losses = lost(Impair(loss=0.03, burst=3), seed=seed)
    assert 0.02 < sum(losses) / len(losses) < 0.04
    lengths = bursts(losses)
    assert 2.4 < sum(lengths) / len(lengths) < 3.7


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 1), (0.2, 1), (0.5, 1), (0.2, 10), (0.9, 1), (0.9, 20)])
def test_losses_are_as_many_and_as_long_as_asked_for(loss: float, burst: float) -> None:
    losses = lost(Impair(loss=loss, burst=burst))
    lengths = bursts(losses)
    assert sum(losses) / len(losses) == pytest.approx(loss, rel=0.25)
    # So many losses cannot come in shorter bursts.
    assert sum(lengths) / len(lengths) == pytest.approx(max(burst, loss / (1 - loss)), rel=0.25)


def test_everything_or_nothing_may_be_lost() -> None:
    assert all(lost(Impair(loss=1.0)))
    assert not any(lost(Impair(jitter=0.01)))


def test_gaps_come_at_their_times() -> None:
    gone = [number * 0.02 for number, is_lost in enumerate(lost(Impair(gap=Gap(8.0, 0.4)))) if is_lost]
    assert gone[0] == pytest.approx(8.0)
    assert len(gone) == 74 * 20
    assert all(at % 8 < 0.4 + 1e-6 or at % 8 > 8 - 1e-6 for at in gone)


def test_frames_are_late_by_up_to_the_jitter_evenly() -> None:
    late = [passed.late for frames in across(Impair(jitter=0.04)) for passed in frames]
    assert 0 <= min(late) < 0.001
    assert 0.039 < max(late) < 0.04
    assert sum(late) / len(late) == pytest.approx(0.02, rel=0.05)


def test_the_shares_of_doubled_and_overtaken_frames_are_kept() -> None:
    passed = across(Impair(duplicate=0.1, reorder=0.05))
    assert sum(len(frames) == 2 for frames in passed) / len(passed) == pytest.approx(0.1, rel=0.1)
    overtaken = sum(any(one.overtaken for one in frames) for frames in passed)
    assert overtaken / len(passed) == pytest.approx(0.05, rel=0.15)


@pytest.mark.parametrize("drift_ppm", [120, -120, 50_000, -50_000])
def test_a_fast_clock_makes_more_audio_and_a_slow_one_less(drift_ppm: float) -> None:
    frames = sum(len(passed) for passed in across(Impair(drift_ppm=drift_ppm)))
    assert abs(frames - TEN_MINUTES * (1 + drift_ppm / 1e6)) <= 1


def test_levels_and_clipping_are_those_of_samples() -> None:
    samples = np.array([1000, -1000, 20000, -20000], "<i2")
    pcm = np.resize(samples, 320).astype("<i2").tobytes()

    def heard(impair: Impair) -> list[int]:
        (passed,) = BadLine(impair, 1, len(pcm)).cross(pcm)
        assert passed.pcm is not None
        return [int(sample) for sample in np.frombuffer(passed.pcm, "<i2")[:4]]

    assert heard(Impair(gain_db=-20)) == [100, -100, 2000, -2000]
    assert heard(Impair(gain_db=20)) == [10000, -10000, 32767, -32767]
    assert heard(Impair(clip=0.5)) == [1000, -1000, 16383, -16383]


IMPAIRED = Impair(loss=0.2, burst=2, jitter=0.05, reorder=0.1, duplicate=0.1, drift_ppm=400)


def test_the_same_seed_is_the_same_line_and_another_is_another() -> None:
    assert across(IMPAIRED, 500, seed=3) == across(IMPAIRED, 500, seed=3)
    assert across(IMPAIRED, 500, seed=3) != across(IMPAIRED, 500, seed=4)


@given(st.binary(min_size=640, max_size=640), st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_what_comes_out_is_whole_frames(pcm: bytes, seed: int) -> None:
    line = BadLine(IMPAIRED, seed, 640)
    for _ in range(20):
        for passed in line.cross(pcm):
            assert passed.pcm is None or len(passed.pcm) == 640
            assert passed.late >= 0
