"""Transducers as bytes: what OpenFst's `vector` format says they are."""

from __future__ import annotations

import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.tiny_model.fst import Arc, Transducer


def read(data: bytes) -> tuple[int, int, list[tuple[float, list[Arc]]]]:
    """Properties, start, and the states of a file, read as the format has it."""
    at = 0

    def take(layout: str) -> tuple[int | float, ...]:
        nonlocal at
        values = struct.unpack_from("<" + layout, data, at)
        at += struct.calcsize("<" + layout)
        return values

    assert take("i") == (2125659606,)
    for name in (b"vector", b"standard"):
        (size,) = take("i")
        assert data[at : at + int(size)] == name
        at += int(size)
    version, flags, properties, start, states, arcs = map(int, take("iiQqqq"))
    assert (version, flags) == (2, 0)
    found = []
    for _ in range(states):
        final, leaving = take("fq")
        found.append(
            (final, [Arc(int(i), int(o), w, int(to)) for i, o, w, to in (take("iifi") for _ in range(int(leaving)))])
        )
    assert at == len(data)
    assert sum(len(leaving) for _, leaving in found) == arcs
    return properties, start, found


def test_a_small_transducer_is_these_bytes() -> None:
    fst = Transducer()
    fst.start = fst.add_state()
    end = fst.add_state()
    fst.set_final(end, 0.5)
    fst.add_arc(fst.start, reads=7, writes=3, cost=1.5, to=end)
    properties, start, states = read(fst.serialize(sort="input"))
    assert properties == 0x3 | 0x10000000
    assert start == 0
    assert states == [(math.inf, [Arc(7, 3, 1.5, 1)]), (0.5, [])]


arcs = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3).map(float), st.integers(0, 4))


@given(st.lists(st.lists(arcs, max_size=6), min_size=5, max_size=5))
def test_arcs_are_sorted_and_none_is_lost(leaving: list[list[tuple[int, int, float, int]]]) -> None:
    fst = Transducer()
    for _ in leaving:
        fst.add_state()
    for state, each in enumerate(leaving):
        for reads, writes, cost, to in each:
            fst.add_arc(state, reads=reads, writes=writes, cost=cost, to=to)
    for sort, column, flag in (("input", 0, 0x10000000), ("output", 1, 0x40000000)):
        properties, _, states = read(fst.serialize(sort=sort))  # type: ignore[arg-type]
        assert properties == 0x3 | flag
        for state, (final, found) in enumerate(states):
            assert math.isinf(final)
            assert sorted(found) == sorted(fst.arcs(state))
            assert [arc[column] for arc in found] == sorted(arc[column] for arc in found)
