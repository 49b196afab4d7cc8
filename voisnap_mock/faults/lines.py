"""Delay lines: what passes may be late, and what comes behind it on the same way never overtakes it. Pure.

Delivery is at the later of "now and the delay" and the delivery before it. Waiting in place would stall the sender
instead of the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Act = Callable[[], None]
Later = Callable[[float, Act], None]


@dataclass(slots=True)
class _Held:
    """Something that waits: for its own delay unless it `is_due`, and for all that is before it."""

    act: Act
    is_due: bool


class Lines:
    """The ways of one direction of a connection, by name.

    Args:
        later: calls something when so many seconds have passed.
    """

    def __init__(self, later: Later) -> None:
        self._later = later
        self._held: dict[str, deque[_Held]] = {}
        self._last: deque[_Held] = deque()

    def put(self, way: str, act: Act, *, delay: float = 0.0) -> None:
        """Do `act` when its turn has come on its way; at once when nothing delays it."""
        held = self._held.get(way)
        if not delay and not held:
            act()
        elif held is None:
            self._held[way] = held = deque()
            self._hold(held, act, delay)
        else:
            self._hold(held, act, delay)

    def put_last(self, act: Act, *, delay: float = 0.0) -> None:
        """Do `act` when nothing is held on any way any more; in the order of these calls."""
        self._hold(self._last, act, delay)
        if not delay:
            self._release()

    def _hold(self, held: deque[_Held], act: Act, delay: float) -> None:
        item = _Held(act, not delay)
        held.append(item)
        if delay:
            self._later(delay, lambda: self._fall_due(item))

    def _fall_due(self, item: _Held) -> None:
        item.is_due = True
        self._release()

    def _release(self) -> None:
        for way in list(self._held):
            held = self._held[way]
            while held and held[0].is_due:
                held.popleft().act()
            if not held:
                self._held.pop(way, None)
        while self._last and self._last[0].is_due and not self._held:
            self._last.popleft().act()
