"""The point `llm`: a decorator round a session's dialogue. What a model would be slow at, or fail at, is its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from voisnap_mock.agents.dialogue import Turn
from voisnap_mock.agents.script import Action, EndReason, FailWith, Pause, Say
from voisnap_mock.faults.rules import Drop, Fail, Replace, Silence, Slow, Verdict

if TYPE_CHECKING:
    from voisnap_mock.engine.ports import Dialogue


class Seam(Protocol):
    """What the dialogue needs of the machine's decorator."""

    def answering(self, text: str | None) -> int:
        """The number of the turn that is answered now."""
        ...

    def decide(self, point: str, *, turn: int, text: str | None = None) -> tuple[Verdict, ...]: ...

    def sever(self, drop: Drop, after: float) -> None:
        """Lose the connection, `after` seconds from now."""
        ...


class FaultyDialogue:
    """Answers the caller's words and keys as the real dialogue does, unless a fault fires; all else is as it was.

    Args:
        first_audio: what a spoken answer waits for anyway; a delay comes on top of it.
    """

    def __init__(self, inner: Dialogue, seam: Seam, *, first_audio: float) -> None:
        self._inner = inner
        self._seam = seam
        self._first_audio = first_audio

    @property
    def inter_digit_timeout(self) -> float:
        return self._inner.inter_digit_timeout

    @property
    def pending_digits(self) -> str:
        return self._inner.pending_digits

    def greet(self) -> Turn:
        return self._inner.greet()

    def hear(self, text: str, *, message_metadata: Mapping[str, object] | None = None) -> Turn:
        return self._answer(text, lambda: self._inner.hear(text, message_metadata=message_metadata))

    def press(self, digit: str) -> Turn | None:
        turn = self._inner.press(digit)
        return None if turn is None else self._answer(None, lambda: turn)

    def digits_timed_out(self) -> Turn | None:
        turn = self._inner.digits_timed_out()
        return None if turn is None else self._answer(None, lambda: turn)

    def next_silence(self) -> float | None:
        return self._inner.next_silence()

    def fall_silent(self, seconds: float) -> Turn | None:
        return self._inner.fall_silent(seconds)

    def fall_back(self) -> Turn | None:
        return self._inner.fall_back()

    def spoke(self) -> None:
        self._inner.spoke()

    def expected_text(self) -> str | None:
        return self._inner.expected_text()

    def unused_turns(self) -> tuple[str, ...]:
        return self._inner.unused_turns()

    def _answer(self, text: str | None, ask: Callable[[], Turn]) -> Turn:
        late = 0.0
        turn: Turn | None = None
        for verdict in self._seam.decide("llm", turn=self._seam.answering(text), text=text):
            match verdict.rule.do:
                case Slow(seconds=seconds):
                    late += seconds
                case Fail() as action:
                    late += verdict.rule.after
                    turn = self._failed(verdict, action)
                case Silence():
                    turn = Turn()
                case Replace(value=value):
                    turn = _said_otherwise(ask(), value)
                case Drop() as drop:
                    self._seam.sever(drop, verdict.rule.after)
                case _:
                    pass
        turn = ask() if turn is None else turn
        if not late:
            return turn
        if turn.actions and not isinstance(turn.actions[0], FailWith):
            late += self._first_audio
        return replace(turn, actions=(Pause(late), *turn.actions))

    def _failed(self, verdict: Verdict, action: Fail) -> Turn:
        """The error, and what the agent says when it has not understood; or the end.

        Source: Assumed, as for an ear that fails.
        """
        failure = FailWith(action.code, verdict.message, action.is_recoverable)
        if not action.is_recoverable:
            return Turn((failure,), end=EndReason.ERROR)
        fallback = self._inner.fall_back() or Turn()
        return replace(fallback, actions=(failure, *fallback.actions))


def _said_otherwise(turn: Turn, text: str) -> Turn:
    """The same turn with another text: where it leads does not change."""
    others: tuple[Action, ...] = tuple(action for action in turn.actions if not isinstance(action, Say))
    return replace(turn, actions=(*others, Say(text)))
