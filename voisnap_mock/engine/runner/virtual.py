"""Call time that only the caller, or a test, moves: the same call is the same every time, and takes no time at all."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from voisnap_mock.agents.script import EndReason
from voisnap_mock.audio.frames import FRAME_SECONDS
from voisnap_mock.clock import Clock
from voisnap_mock.engine.events import AudioArrived, HangupRequested
from voisnap_mock.engine.patience import DIGITS
from voisnap_mock.engine.runner.pace import Input, Paced
from voisnap_mock.engine.runner.ticker import Ticker

# After so many steps other sessions get their turn.
_STEPS_AT_A_TIME = 500
# 20 min of audio; whoever sends more than that ahead of an ear that is stuck loses the oldest.
_MOST_WAITING = 60_000


@dataclass(slots=True)
class _Advance:
    """Somebody asked for `seconds` of call time; `done` is told when they have passed."""

    seconds: float
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Act:
    """Something to be done when its turn comes; takes no call time."""

    act: Callable[[], None]


class VirtualPace:
    """Call time is caller audio received: each frame of 20 ms moves it by 20 ms.

    What comes in is taken in order, and each thing only when ear and voice owe no answer: how fast they are, and how
    the caller's audio was chunked, changes nothing. Deadlines on the way are carried out at their own time, before the
    frame that reaches them.

    When nothing comes in for `idle_grace` of real time, what the agent is already doing runs out at once. What waits
    for the caller does not: only caller audio and `advance` lead there, so a debugger never ends a call.

    Source: Assumed throughout: the real service has no such clock.

    Args:
        owes_an_answer: whether ear or voice is still at work.
        note: journals what was lost.
    """

    is_repeatable = True

    def __init__(
        self,
        paced: Paced,
        *,
        clock: Clock,
        ticker: Ticker,
        idle_grace: float,
        owes_an_answer: Callable[[], bool],
        note: Callable[..., object],
    ) -> None:
        self._paced = paced
        self._clock = clock
        self._idle_grace = idle_grace
        self._owes_an_answer = owes_an_answer
        self._note = note
        self._t = 0.0
        self._waiting: deque[Input | _Advance | _Act] = deque()
        self._goal: float | None = None
        self._idle_from = 0.0
        self._given_at = -math.inf
        self._answers = 0
        self._is_idle = False
        self._is_held = False
        self._is_pumping = False
        self._alarm = ticker.alarm(self._look_for_idleness)

    @property
    def t(self) -> float:
        return self._t

    def start(self) -> None:
        """Nothing to do: time stands at 0.0 until somebody moves it."""

    def receive(self, given: Input) -> None:
        if isinstance(given, HangupRequested) and given.reason is EndReason.SERVER_SHUTDOWN:
            self._paced.step(given, self._t)
            return
        self._note_activity()
        self._waiting.append(given)
        self._pump()

    def hear(self, frames: Sequence[AudioArrived]) -> None:
        """Caller audio has come. Beyond 20 min of it the oldest is dropped and journaled."""
        self._note_activity()
        self._waiting.extend(frames)
        while len(self._waiting) > _MOST_WAITING and self._drop_oldest_audio():
            pass
        self._pump()

    def in_turn(self, act: Callable[[], None]) -> None:
        """Call `act` at the call time that follows from what is already waiting."""
        if self._paced.is_over:
            act()
            return
        self._waiting.append(_Act(act))
        self._pump()

    def answer(self, given: Input) -> None:
        self._answers += 1
        self._paced.step(given, self._t)

    def settled(self) -> None:
        self._answers += 1
        self._pump()

    def advance(self, seconds: float) -> asyncio.Future[None]:
        """Let so much call time pass, after what is already waiting; everything due until then happens."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Advance(seconds, done))
        self._pump()
        return done

    def rescheduled(self) -> None:
        self._pump()

    def real_seconds(self, seconds: float) -> float:
        return 0.0

    def hurry(self, quiet: float) -> None:
        """Somebody waits for what the agent is doing: an idle caller gets `quiet` seconds of grace and no more.

        A caller who is just sending is not idle: only the end of that tells what comes first.
        """
        if self._clock.monotonic() >= self._given_at + quiet:
            self._is_idle = True
            self._pump()

    @property
    def is_at_rest(self) -> bool:
        if self._waiting or self._owes_an_answer():
            return False
        deadline = self._paced.next_deadline()
        return deadline is None or deadline.waits_for_caller

    @property
    def answers(self) -> int | None:
        return None if self._waiting or self._owes_an_answer() else self._answers

    def take_back(self) -> None:
        """Forget the caller audio that waits, but for the frame whose time has begun."""
        begun = self._goal is not None
        self._waiting = deque(
            waiting
            for number, waiting in enumerate(self._waiting)
            if type(waiting) is not AudioArrived or (begun and number == 0)
        )

    def hold(self, *, is_held: bool) -> None:
        self._is_held = is_held
        self._pump()

    def stop(self) -> None:
        self._alarm.cancel()
        waiting, self._waiting = self._waiting, deque()
        for left in waiting:
            if isinstance(left, _Act):
                left.act()
            elif isinstance(left, _Advance) and not left.done.done():
                left.done.set_result(None)

    def _note_activity(self) -> None:
        self._is_idle = False
        self._given_at = self._clock.monotonic()

    def _drop_oldest_audio(self) -> bool:
        for at, waiting in enumerate(self._waiting):
            if isinstance(waiting, AudioArrived):
                del self._waiting[at]
                self._note("caller.audio_dropped", bytes=len(waiting.pcm), waiting=_MOST_WAITING)
                return True
        return False

    def _pump(self) -> None:
        """Go on until something is owed, nothing is left, or it is the turn of others."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            for _ in range(_STEPS_AT_A_TIME):
                if self._paced.is_over or self._owes_an_answer() or not self._go_on():
                    return
        finally:
            self._is_pumping = False
        asyncio.get_running_loop().call_soon(self._pump)

    def _go_on(self) -> bool:
        """Do the next thing; False when there is none."""
        if self._waiting:
            self._go_towards(self._waiting[0])
            return True
        deadline = self._paced.next_deadline()
        if deadline is None or deadline.waits_for_caller:
            return False
        if not self._is_idle:
            self._idle_from = self._clock.monotonic() + self._idle_grace
            self._alarm.set(self._idle_from)
            return False
        self._t = max(self._t, deadline.at)
        self._paced.step(None, self._t)
        return True

    def _go_towards(self, first: Input | _Advance | _Act) -> None:
        """Carry out the next deadline on the way to what waits, or take it when there is none."""
        if self._goal is None:
            if type(first) is AudioArrived:
                self._goal = round(self._t + FRAME_SECONDS, DIGITS)
            elif isinstance(first, _Advance):
                self._goal = round(self._t + first.seconds, DIGITS)
            else:
                self._goal = self._t
        deadline = self._paced.next_deadline()
        if deadline is not None and deadline.at <= self._goal:
            self._t = max(self._t, deadline.at)
            self._paced.step(None, self._t)
            return
        self._waiting.popleft()
        self._t, self._goal = self._goal, None
        if type(first) is AudioArrived:
            self._paced.step(first, self._t)
        elif isinstance(first, _Advance):
            self._paced.step(None, self._t)
            if not first.done.done():
                first.done.set_result(None)
        elif isinstance(first, _Act):
            first.act()
        else:
            self._paced.step(first, self._t)

    def _look_for_idleness(self) -> None:
        if self._waiting or self._is_idle or self._is_held:
            return
        if self._clock.monotonic() + 1e-6 < self._idle_from:
            self._alarm.set(self._idle_from)
            return
        self._is_idle = True
        self._pump()
