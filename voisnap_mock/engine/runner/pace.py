"""Call time for one session: when its machine gets inputs, and when its deadlines come."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from voisnap_mock.clock import Clock
from voisnap_mock.engine.events import AudioArrived, ChatInput, Deadline, VoiceInput
from voisnap_mock.engine.patience import DIGITS
from voisnap_mock.engine.runner.ticker import Ticker
from voisnap_mock.errors import ClockError

Input = VoiceInput | ChatInput

_HAIR = 1e-4


class Paced(Protocol):
    """What a pace drives: a session."""

    @property
    def is_over(self) -> bool: ...

    def step(self, given: Input | None, t: float) -> None:
        """Let call time be `t`, with an input or without one."""
        ...

    def next_deadline(self) -> Deadline | None: ...


class Pace(Protocol):
    """How call time passes.

    Attributes:
        is_repeatable: the same inputs are the same call every time; its record holds nothing of real time.
    """

    is_repeatable: bool

    @property
    def t(self) -> float:
        """Call time now, in seconds."""
        ...

    def start(self) -> None:
        """Call time 0.0 is now."""
        ...

    def receive(self, given: Input) -> None:
        """The client did something."""
        ...

    def hear(self, frames: Sequence[AudioArrived]) -> None:
        """Caller audio has come, in frames of 20 ms."""
        ...

    def in_turn(self, act: Callable[[], None]) -> None:
        """Call `act` once all that was received before has happened; nothing is ever dropped."""
        ...

    def answer(self, given: Input) -> None:
        """Ear or voice has answered."""
        ...

    def settled(self) -> None:
        """Ear or voice has done a job."""
        ...

    def advance(self, seconds: float) -> Awaitable[None]:
        """Let call time pass. Raises ClockError if it passes by itself."""
        ...

    def rescheduled(self) -> None:
        """A deadline may have come nearer."""
        ...

    def real_seconds(self, seconds: float) -> float:
        """How much real time so much call time takes that nobody moves."""
        ...

    def hurry(self, quiet: float) -> None:
        """Somebody waits for what the agent is doing; matters when nothing came in for `quiet` seconds of real time."""
        ...

    @property
    def is_at_rest(self) -> bool:
        """Nothing will happen before the caller does something, or call time passes by itself."""
        ...

    @property
    def answers(self) -> int | None:
        """How often ear and voice have answered so far; None while they owe an answer, or what came in waits."""
        ...

    def take_back(self) -> None:
        """Forget the caller audio that has come and has not been heard yet."""
        ...

    def hold(self, *, is_held: bool) -> None:
        """Whether an idle caller is waited for without end: somebody else moves the time."""
        ...

    def stop(self) -> None:
        """Call time stands still from now on."""
        ...


class RealPace:
    """Call time is wall time since the start, `speed` times as fast.

    Source: Assumed as far as it can differ from the service: clocks run at one pace there, of course.
    """

    is_repeatable = False

    def __init__(self, paced: Paced, *, clock: Clock, ticker: Ticker, speed: float) -> None:
        self._paced = paced
        self._clock = clock
        self._speed = speed
        self._name = "real" if speed == 1.0 else f"{speed:g}x"
        self._started_at: float | None = None
        self._stopped_at: float | None = None
        self._alarm = ticker.alarm(self._wake)
        self._due = math.inf

    @property
    def t(self) -> float:
        if self._stopped_at is not None:
            return self._stopped_at
        if self._started_at is None:
            return 0.0
        return round((self._clock.monotonic() - self._started_at) * self._speed, DIGITS)

    def start(self) -> None:
        self._started_at = self._clock.monotonic()

    def receive(self, given: Input) -> None:
        self._paced.step(given, self.t)
        self._set_alarm()

    answer = receive

    def hear(self, frames: Sequence[AudioArrived]) -> None:
        t = self.t
        for frame in frames:
            self._paced.step(frame, t)
        self._set_alarm()

    def in_turn(self, act: Callable[[], None]) -> None:
        act()

    def settled(self) -> None:
        pass

    def advance(self, seconds: float) -> Awaitable[None]:
        raise ClockError(f"this call goes by the {self._name} clock: only a virtual clock can be advanced")

    def rescheduled(self) -> None:
        self._set_alarm()

    def real_seconds(self, seconds: float) -> float:
        return seconds / self._speed

    def hurry(self, quiet: float) -> None:
        pass

    @property
    def is_at_rest(self) -> bool:
        return True

    @property
    def answers(self) -> int | None:
        return None

    def take_back(self) -> None:
        pass

    def hold(self, *, is_held: bool) -> None:
        pass

    def stop(self) -> None:
        self._stopped_at = self.t
        self._alarm.cancel()

    def _wake(self) -> None:
        t = self.t
        # Clocks and the ticker's grid round: a wake-up that is a hair early is the one that was asked for.
        if t < self._due < t + _HAIR:
            t = self._due
        self._due = math.inf
        self._paced.step(None, t)
        self._set_alarm()

    def _set_alarm(self) -> None:
        deadline = self._paced.next_deadline()
        if deadline is not None and deadline.at != self._due and self._started_at is not None:
            self._due = deadline.at
            self._alarm.set(self._started_at + deadline.at / self._speed)
