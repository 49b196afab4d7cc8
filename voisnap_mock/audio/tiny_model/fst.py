"""Finite-state transducers in OpenFst's `vector` format with standard arcs, which Vosk reads for its graphs.

Source: Documented by the sources of OpenFst (`fst.cc`, `vector-fst.h`); that Vosk reads it is shown by a test.
"""

from __future__ import annotations

import math
import struct
from typing import Literal, NamedTuple

_MAGIC = 2125659606
_VERSION = 2
_EXPANDED_AND_MUTABLE = 0x3
_SORTED = {"input": 0x10000000, "output": 0x40000000}
_HEADER = struct.Struct("<iiQqqq")
_STATE = struct.Struct("<fq")
_ARC = struct.Struct("<iifi")

EPSILON = 0


class Arc(NamedTuple):
    """A way to another state.

    Attributes:
        reads, writes: labels, 0 for none.
        cost: the negative logarithm of its likelihood.
        to: the state.
    """

    reads: int
    writes: int
    cost: float
    to: int


class Transducer:
    """A graph that reads labels and writes others. Whoever builds one adds a state before arcs to it.

    Attributes:
        start: the state where reading begins.
    """

    def __init__(self) -> None:
        self.start = 0
        self._arcs: list[list[Arc]] = []
        self._final: list[float] = []

    @property
    def states(self) -> int:
        return len(self._arcs)

    def add_state(self) -> int:
        """A new state, in which nothing may end."""
        self._arcs.append([])
        self._final.append(math.inf)
        return len(self._arcs) - 1

    def set_final(self, state: int, cost: float) -> None:
        """What is read may end in this state."""
        self._final[state] = cost

    def final_cost(self, state: int) -> float:
        """What it costs to end here; infinite where nothing may end."""
        return self._final[state]

    def add_arc(self, state: int, *, reads: int, writes: int, cost: float, to: int) -> None:
        self._arcs[state].append(Arc(reads, writes, cost, to))

    def arcs(self, state: int) -> tuple[Arc, ...]:
        return tuple(self._arcs[state])

    def serialize(self, *, sort: Literal["input", "output"]) -> bytes:
        """The file; the arcs of each state sorted by what they read, or write."""
        kind, arc_kind = (struct.pack("<i", len(name)) + name for name in (b"vector", b"standard"))
        arcs = sum(map(len, self._arcs))
        properties = _EXPANDED_AND_MUTABLE | _SORTED[sort]
        out = [struct.pack("<i", _MAGIC), kind, arc_kind]
        out.append(_HEADER.pack(_VERSION, 0, properties, self.start, len(self._arcs), arcs))
        by = 0 if sort == "input" else 1
        for final, leaving in zip(self._final, self._arcs, strict=True):
            out.append(_STATE.pack(final, len(leaving)))
            out += [_ARC.pack(*arc) for arc in sorted(leaving, key=lambda arc: arc[by])]
        return b"".join(out)
