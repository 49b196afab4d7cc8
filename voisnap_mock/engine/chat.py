"""A text session as a state machine, over the same dialogue as a call.

| state   | on                             | next    | what happens                                                   |
| ------- | ------------------------------ | ------- | -------------------------------------------------------------- |
| NEW     | Started                        | WRITING | SessionStarted, the greeting; without one IDLE                 |
| IDLE    | TextArrived                    | WRITING | UserMessage, AgentTyping, the answer; IDLE if it is silent     |
| IDLE    | silence rule is due            | WRITING | its reply                                                      |
| IDLE    | max_idle is due                | ENDED   | SessionEnded: idle_timeout                                     |
| IDLE    | UserTyping                     | IDLE    | the silence is over                                            |
| WRITING | `chat_chunk` has passed        | WRITING | up to three words more as AgentMessage (chunk)                 |
| WRITING | the text is whole              | IDLE    | AgentMessage (final), AgentTyping off, transfer or end, queue  |
| WRITING | TextArrived                    | WRITING | UserMessage; it queues                                         |
| WRITING | CancelRequested                | IDLE    | the text so far as AgentMessage (final), AgentTyping off       |
| live    | max_duration, HangupRequested  | ENDED   | the reply breaks off like a cancelled one, SessionEnded        |
| live    | Detached, Resumed, Failed      |         | as in a call                                                   |
| ENDED   | anything                       | ENDED   | nothing                                                        |

A reply is one message with one id: the texts of its sayings, joined by a space. Pauses, events and tools come between,
in call time. A cancelled reply that holds a transfer or an end still transfers or ends.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, assert_never

from voisnap_mock.agents.script import Action, AgentScript, CallTool, EndReason, FailWith, Pause, PushEvent, Say
from voisnap_mock.engine.events import (
    AgentMessage,
    AgentTyping,
    CancelRequested,
    ChatInput,
    Deadline,
    Detached,
    Emit,
    EventPushed,
    Failed,
    HangupRequested,
    Note,
    ReconnectionRequested,
    Resumed,
    SessionEffect,
    SessionEnded,
    SessionFailed,
    SessionResumed,
    SessionStarted,
    Started,
    TextArrived,
    TransferStarted,
    UserMessage,
    UserTyping,
)
from voisnap_mock.engine.patience import DIGITS, Limit, Patience
from voisnap_mock.engine.ports import Dialogue

if TYPE_CHECKING:
    from voisnap_mock.agents.dialogue import Turn

Chunks = Literal["cumulative", "delta", "off"]

_CHUNK = re.compile(r"(?:\s*\S+){1,3}")
_MOST_WAITING = 32


class ChatState(StrEnum):
    NEW = "new"
    IDLE = "idle"
    WRITING = "writing"
    ENDED = "ended"


@dataclass(slots=True)
class _Writing:
    """The reply under way.

    Attributes:
        cursor: the action that comes next, or is being written.
        free_at: call time of the next step.
        text: what was written so far, of all sayings.
        rest: what is left of the saying that is being written.
        message_id: empty until there is text.
    """

    turn: Turn
    free_at: float
    is_no_input: bool
    cursor: int = 0
    text: str = ""
    rest: str = ""
    message_id: str = ""


class Chat:
    """One text session. Sans-IO, with the same three methods as a `Call`; the table above says what happens when.

    Attributes:
        turns: messages of the user so far.
        dialogue: whoever is asked what the agent does.

    Args:
        new_message_id: names each reply.
        chunks: what a chunk holds: all text so far, only what is new, or no chunks at all.
    """

    def __init__(
        self,
        script: AgentScript,
        *,
        dialogue: Dialogue,
        new_message_id: Callable[[], str],
        chunks: Chunks = "cumulative",
    ) -> None:
        self._script = script
        self.dialogue = dialogue
        self._new_message_id = new_message_id
        self._chunks = chunks
        self.turns = 0
        self._now = 0.0
        self._state: ChatState | None = ChatState.NEW
        self._patience = Patience(max_idle=script.timing.max_idle, max_duration=script.timing.max_duration)
        self._writing: _Writing | None = None
        self._waiting: deque[TextArrived] = deque()

    @property
    def state(self) -> ChatState:
        if self._state is not None:
            return self._state
        return ChatState.IDLE if self._writing is None else ChatState.WRITING

    @property
    def is_over(self) -> bool:
        """Nothing can happen any more."""
        return self._state is ChatState.ENDED

    def receive(self, given: ChatInput, now: float) -> list[SessionEffect]:
        """Carry out what is due, then take an input in; the effects are in the order in which to carry them out."""
        effects = self.advance(now)
        if self._state is ChatState.ENDED:
            return effects
        if self._state is ChatState.NEW:
            return self._receive_before_start(given)
        match given:
            case TextArrived():
                effects += self._take(given)
            case UserTyping():
                self._stir()
            case CancelRequested():
                effects += self._cancel()
            case HangupRequested():
                effects += self._end(given.reason)
            case ReconnectionRequested():
                effects.append(Emit(SessionResumed("The session goes on over this connection.")))
            case Detached():
                self._patience.is_suspended = True
            case Resumed():
                self._patience.is_suspended = False
                self._patience.heard_until(self._now)
                effects.append(Emit(SessionResumed("The session goes on over a new connection.")))
            case Failed():
                effects.append(Emit(SessionFailed(given.code, given.message, given.recoverable)))
                if not given.recoverable:
                    effects += self._end(EndReason.ERROR)
            case Started():
                pass
            case _:
                assert_never(given)
        return effects

    def advance(self, now: float) -> list[SessionEffect]:
        """Carry out all deadlines up to `now`, in order, each at its own time."""
        effects: list[SessionEffect] = []
        while self._state is None:
            writing = self._writing
            if writing is not None and writing.free_at <= now:
                limit = self._next_limit()
                if limit is None or limit[0] > writing.free_at:
                    self._now = max(self._now, writing.free_at)
                    effects += self._write()
                    continue
            limit = self._next_limit()
            if limit is None or limit[0] > now:
                break
            self._now = max(self._now, limit[0])
            effects += self._reach(limit[1])
        self._now = max(self._now, now)
        return effects

    def next_deadline(self) -> Deadline | None:
        """When to `advance`; None when only an input can change anything."""
        if self._state is not None:
            return None
        limit = self._next_limit()
        writing = self._writing
        if writing is not None and (limit is None or writing.free_at < limit[0]):
            return Deadline(writing.free_at, waits_for_caller=False)
        return None if limit is None else Deadline(limit[0], waits_for_caller=True)

    def _next_limit(self) -> tuple[float, Limit] | None:
        is_quiet = self._writing is None
        next_silence = self.dialogue.next_silence() if is_quiet else None
        return self._patience.next_limit(is_quiet=is_quiet, next_silence=next_silence)

    def _receive_before_start(self, given: ChatInput) -> list[SessionEffect]:
        match given:
            case Started():
                self._state = None
                self._patience.start(self._now)
                return [Emit(SessionStarted(self._script.name)), *self._begin(self.dialogue.greet())]
            case Failed():
                self._state = ChatState.ENDED
                return [Emit(SessionFailed(given.code, given.message, given.recoverable))]
            case HangupRequested():
                self._state = ChatState.ENDED
                return []
            case _:
                return []

    def _reach(self, limit: Limit) -> list[SessionEffect]:
        match limit:
            case Limit.SILENCE_RULE:
                seconds = self.dialogue.next_silence()
                assert seconds is not None
                turn = self.dialogue.fall_silent(seconds)
                return [] if turn is None else self._begin(turn, is_no_input=True)
            case Limit.IDLE:
                return self._end(EndReason.IDLE_TIMEOUT)
            case Limit.DURATION:
                return self._end(EndReason.MAX_DURATION)
            case _:
                assert_never(limit)

    def _end(self, reason: EndReason) -> list[SessionEffect]:
        effects = self._break_off()
        self._waiting.clear()
        self._state = ChatState.ENDED
        unused = self.dialogue.unused_turns()
        if unused:
            effects.append(Note("script.unused_turns", {"turns": list(unused)}))
        return [*effects, Emit(SessionEnded(reason, round(self._now - self._patience.started_at, DIGITS)))]

    # --- Turns ----------------------------------------------------------------------------------------------------

    def _stir(self) -> None:
        self.dialogue.spoke()
        self._patience.heard_until(self._now)

    def _take(self, message: TextArrived) -> list[SessionEffect]:
        """Answer a message, or queue it; beyond 32 queued ones the newest is dropped.

        Source: Assumed, the documentation does not say what a second message does; queueing loses nothing.
        """
        self._stir()
        self.turns += 1
        effects: list[SessionEffect] = [Emit(UserMessage(message.text))]
        if self._writing is None:
            return effects + self._answer(message)
        if len(self._waiting) == _MOST_WAITING:
            return [*effects, Note("turn.dropped", {"text": message.text, "waiting": _MOST_WAITING})]
        self._waiting.append(message)
        return effects

    def _answer(self, message: TextArrived) -> list[SessionEffect]:
        metadata: Mapping[str, object] = message.metadata
        return self._begin(self.dialogue.hear(message.text, message_metadata=metadata), heard=message.text)

    def _begin(self, turn: Turn, *, heard: str | None = None, is_no_input: bool = False) -> list[SessionEffect]:
        details = {"matched": turn.matched} if heard is None else {"matched": turn.matched, "heard": heard}
        effects: list[SessionEffect] = [Note("turn.answered", details)]
        if turn.problem is not None:
            effects.append(Note("script.wrong_turn", {"reason": turn.problem}))
            return effects + self._end(EndReason.ERROR)
        self._writing = _Writing(turn, self._now, is_no_input)
        if any(_text_of(action) for action in turn.actions):
            effects.append(Emit(AgentTyping(True)))
        return effects + self._write()

    def _write(self) -> list[SessionEffect]:
        """Do what is due of the reply."""
        writing = self._writing
        assert writing is not None
        effects: list[SessionEffect] = []
        actions = writing.turn.actions
        while writing.free_at <= self._now:
            if writing.rest:
                effects += self._write_chunk(writing)
            elif writing.cursor == len(actions):
                return effects + self._finish()
            else:
                self._act(writing, actions[writing.cursor], effects)
                writing.cursor += 1
        return effects

    def _act(self, writing: _Writing, action: Action, effects: list[SessionEffect]) -> None:
        match action:
            case Say():
                text = _text_of(action)
                writing.rest = f" {text}" if text and writing.text else text
                if text:
                    writing.message_id = writing.message_id or self._new_message_id()
                    self._wait(writing, self._script.timing.chat_chunk)
            case Pause(seconds=seconds):
                self._wait(writing, seconds)
            case PushEvent(name=name, payload=payload):
                effects.append(Emit(EventPushed(name, (payload,))))
            case CallTool(name=name, result=result, took=took):
                effects.append(Note("tool.called", {"name": name, "result": result, "took": took}))
                self._wait(writing, took)
            case FailWith(code=code, message=message, recoverable=recoverable):
                effects.append(Emit(SessionFailed(code, message, recoverable)))
            case _:
                assert_never(action)

    def _wait(self, writing: _Writing, seconds: float) -> None:
        writing.free_at = round(writing.free_at + seconds, DIGITS)

    def _write_chunk(self, writing: _Writing) -> list[SessionEffect]:
        """Write up to three words more.

        Source: Assumed. The sample client sets its text to a chunk's content, so a chunk holds all text so far.
        """
        chunk = _CHUNK.match(writing.rest)
        size = chunk.end() if chunk is not None else len(writing.rest)
        piece, writing.rest = writing.rest[:size], writing.rest[size:]
        writing.text += piece
        if writing.rest:
            self._wait(writing, self._script.timing.chat_chunk)
        if self._chunks == "off":
            return []
        text = piece if self._chunks == "delta" else writing.text
        return [Emit(AgentMessage(writing.message_id, text, is_chunk=True, is_final=False))]

    def _finish(self) -> list[SessionEffect]:
        writing = self._writing
        assert writing is not None
        effects = self._break_off()
        self._patience.heard_until(self._now, is_no_input=writing.is_no_input)
        effects += self._finish_turn(writing.turn)
        if self._state is None and self._waiting:
            effects += self._answer(self._waiting.popleft())
        return effects

    def _cancel(self) -> list[SessionEffect]:
        if self._writing is None:
            return []
        turn = self._writing.turn
        effects = self._break_off()
        effects.append(Note("reply.cancelled", {"matched": turn.matched}))
        self._patience.heard_until(self._now)
        effects += self._finish_turn(turn)
        if self._state is None and self._waiting:
            effects += self._answer(self._waiting.popleft())
        return effects

    def _break_off(self) -> list[SessionEffect]:
        """Make the text so far the final one."""
        writing, self._writing = self._writing, None
        effects: list[SessionEffect] = []
        if writing is None:
            return effects
        if writing.text:
            effects.append(Emit(AgentMessage(writing.message_id, writing.text, is_chunk=False, is_final=True)))
        if any(_text_of(action) for action in writing.turn.actions):
            effects.append(Emit(AgentTyping(False)))
        return effects

    def _finish_turn(self, turn: Turn) -> list[SessionEffect]:
        if turn.transfer is not None:
            to = turn.transfer
            return [
                Emit(TransferStarted(to.to, to.type, to.summary)),
                *self._end(turn.end or EndReason.TRANSFER_COMPLETE),
            ]
        return [] if turn.end is None else self._end(turn.end)


def _text_of(action: Action) -> str:
    return action.text.strip() if isinstance(action, Say) else ""
