"""Delay lines: late, then bunched, never out of order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.faults.lines import Lines


class Bench:
    """Lines on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.lines = Lines(self.later)
        self.came: list[tuple[str, float]] = []

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, len(self.due), act))

    def put(self, name: str, way: str = "way", delay: float = 0.0) -> None:
        self.lines.put(way, lambda: self.came.append((name, self.now)), delay=delay)

    def put_last(self, name: str, delay: float = 0.0) -> None:
        self.lines.put_last(lambda: self.came.append((name, self.now)), delay=delay)

    def run_until(self, end: float) -> None:
        while self.due and min(self.due)[0] <= end:
            at, number, act = min(self.due)
            self.due.remove((at, number, act))
            self.now = at
            act()
        self.now = end


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_nothing_delays_passes_at_once(bench: Bench) -> None:
    bench.put("a")
    bench.put_last("b")
    assert bench.came == [("a", 0.0), ("b", 0.0)]


def test_what_is_behind_a_late_one_waits_for_it_and_comes_with_it(bench: Bench) -> None:
    bench.put("late", delay=0.05)
    bench.run_until(0.02)
    bench.put("behind")
    bench.put("elsewhere", way="other")
    bench.run_until(1)
    assert bench.came == [("elsewhere", 0.02), ("late", 0.05), ("behind", 0.05)]


def test_a_shorter_delay_behind_a_longer_one_is_over_with_it(bench: Bench) -> None:
    bench.put("long", delay=3.0)
    bench.put("short", delay=1.0)
    bench.put("longer", delay=4.0)
    bench.run_until(10)
    assert bench.came == [("long", 3.0), ("short", 3.0), ("longer", 4.0)]


def test_the_last_ones_wait_for_every_way_and_keep_their_order(bench: Bench) -> None:
    bench.put("a", way="one", delay=1.0)
    bench.put("b", way="two", delay=2.0)
    bench.put_last("ended", delay=0.5)
    bench.put_last("close")
    bench.run_until(10)
    assert [name for name, _ in bench.came] == ["a", "b", "ended", "close"]
    assert bench.came[-1][1] == 2.0


def test_what_an_act_puts_behind_itself_still_comes(bench: Bench) -> None:
    bench.lines.put("way", lambda: bench.put("second"), delay=1.0)
    bench.run_until(2)
    assert bench.came == [("second", 1.0)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5), st.floats(0, 1))))
def test_delivery_is_the_later_of_the_own_delay_and_the_one_before(puts: list[tuple[str, float, float]]) -> None:
    bench = Bench()
    expected: dict[str, list[float]] = {"a": [], "b": []}
    for number, (way, delay, gap) in enumerate(puts):
        bench.run_until(bench.now + gap)
        expected[way].append(max(bench.now + delay, *expected[way][-1:], bench.now))
        bench.put(f"{way}{number}", way=way, delay=delay)
    bench.run_until(bench.now + 100)
    for way, times in expected.items():
        assert [at for name, at in bench.came if name[0] == way] == times
