"""Every row of the table of `engine.chat`: what is written when, and what the queue, cancel and limits do."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from phone import SILENT, SUPPORT, script_of

from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.script import (
    AgentScript,
    CallTool,
    EndReason,
    Hear,
    Otherwise,
    Pause,
    PushEvent,
    Rule,
    Say,
    Silence,
    Transfer,
)
from voisnap_mock.engine.chat import Chat, ChatState, Chunks
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

LONG = script_of(SILENT, replies=(Rule((Otherwise(),), ((Say("one two three four five six seven"),),)),))


class Desk:
    """A user's end of a pure `Chat`, walking its deadlines in chat time."""

    def __init__(self, script: AgentScript = SUPPORT, *, chunks: Chunks = "cumulative") -> None:
        ids = count(1)
        self.chat = Chat(script, dialogue=Dialogue(script), new_message_id=lambda: f"msg_{next(ids)}", chunks=chunks)
        self.t = 0.0
        self.log: list[tuple[float, SessionEffect]] = []

    def give(self, given: ChatInput) -> list[SessionEffect]:
        effects = self.chat.receive(given, self.t)
        self.log += [(self.t, effect) for effect in effects]
        return effects

    def write(self, text: str, metadata: dict[str, Any] | None = None) -> list[SessionEffect]:
        return self.give(TextArrived(text, metadata or {}))

    def wait(self, seconds: float) -> None:
        target = round(self.t + seconds, 9)
        while (deadline := self.chat.next_deadline()) is not None and deadline.at <= target:
            self.t = max(self.t, deadline.at)
            self.log += [(self.t, effect) for effect in self.chat.advance(self.t)]
        self.t = target

    @property
    def events(self) -> list[object]:
        return [effect.event for _, effect in self.log if isinstance(effect, Emit)]

    @property
    def texts(self) -> list[tuple[str, bool]]:
        return [(event.text, event.is_final) for event in self.events if isinstance(event, AgentMessage)]


def idle(script: AgentScript = LONG, *, chunks: Chunks = "cumulative") -> Desk:
    desk = Desk(script, chunks=chunks)
    desk.give(Started())
    desk.log.clear()
    return desk


def test_new_started_greets_after_session_started() -> None:
    desk = Desk()
    assert desk.give(Started()) == [
        Emit(SessionStarted("Support")),
        Note("turn.answered", {"matched": "greeting"}),
        Emit(AgentTyping(True)),
    ]
    desk.wait(1)
    assert desk.events[2:] == [
        AgentMessage("msg_1", "Hi there.", is_chunk=True, is_final=False),
        AgentMessage("msg_1", "Hi there.", is_chunk=False, is_final=True),
        AgentTyping(False),
    ]


def test_new_started_without_a_greeting_is_idle_and_does_not_type() -> None:
    desk = Desk(SILENT)
    assert desk.give(Started()) == [Emit(SessionStarted("Silent")), Note("turn.answered", {"matched": "greeting"})]
    assert desk.chat.state is ChatState.IDLE
    assert desk.chat.next_deadline() is None


@pytest.mark.parametrize("given", [TextArrived("hi", {}), UserTyping(), CancelRequested(), Resumed()])
def test_new_ignores_what_comes_too_early(given: ChatInput) -> None:
    desk = Desk()
    assert desk.give(given) == []
    assert desk.chat.state is ChatState.NEW


def test_new_failed_or_hung_up_is_over() -> None:
    desk = Desk()
    assert desk.give(Failed("X", "y")) == [Emit(SessionFailed("X", "y", False))]
    assert desk.chat.is_over
    desk = Desk()
    assert desk.give(HangupRequested(EndReason.DISCONNECTED)) == []
    assert desk.chat.is_over


def test_a_message_is_answered_three_words_at_a_time() -> None:
    desk = idle()
    assert desk.write("hello") == [
        Emit(UserMessage("hello")),
        Note("turn.answered", {"matched": "replies[0]", "heard": "hello"}),
        Emit(AgentTyping(True)),
    ]
    assert desk.chat.state is ChatState.WRITING
    desk.wait(1)
    assert [(t, effect.event) for t, effect in desk.log[3:] if isinstance(effect, Emit)] == [
        (0.05, AgentMessage("msg_1", "one two three", is_chunk=True, is_final=False)),
        (0.1, AgentMessage("msg_1", "one two three four five six", is_chunk=True, is_final=False)),
        (0.15, AgentMessage("msg_1", "one two three four five six seven", is_chunk=True, is_final=False)),
        (0.15, AgentMessage("msg_1", "one two three four five six seven", is_chunk=False, is_final=True)),
        (0.15, AgentTyping(False)),
    ]
    assert desk.chat.state is ChatState.IDLE


def test_delta_chunks_join_to_the_whole_text() -> None:
    desk = idle(chunks="delta")
    desk.write("hello")
    desk.wait(1)
    *chunks, final = desk.texts
    assert "".join(text for text, _ in chunks) == final[0]
    assert [text for text, _ in chunks] == ["one two three", " four five six", " seven"]


def test_without_chunks_there_is_only_the_whole_text() -> None:
    desk = idle(chunks="off")
    desk.write("hello")
    desk.wait(1)
    assert desk.texts == [("one two three four five six seven", True)]


@pytest.mark.parametrize("chunks", ["cumulative", "delta", "off"])
def test_sayings_are_one_message_and_what_lies_between_takes_its_time(chunks: Chunks) -> None:
    actions = (PushEvent("E", 1), Say("one two"), Pause(1.0), CallTool("t", None, took=0.5), Say("three"))
    desk = idle(script_of(SILENT, replies=(Rule((Otherwise(),), (actions,)),)), chunks=chunks)
    desk.write("hello")
    desk.wait(5)
    assert desk.texts[-1] == ("one two three", True)
    assert {event.message_id for event in desk.events if isinstance(event, AgentMessage)} == {"msg_1"}
    assert desk.log[2:4] == [(0.0, Emit(AgentTyping(True))), (0.0, Emit(EventPushed("E", (1,))))]
    assert desk.log[-1] == (1.6, Emit(AgentTyping(False)))


def test_a_silent_answer_does_not_type() -> None:
    desk = idle(SILENT)
    desk.write("hello")
    assert desk.events == [UserMessage("hello")]


def test_messages_queue_while_a_reply_is_written() -> None:
    desk = idle()
    desk.write("first")
    assert desk.write("second") == [Emit(UserMessage("second"))]
    desk.wait(1)
    finals = [(event.message_id, event.text) for event in desk.events if isinstance(event, AgentMessage)][3::4]
    assert [message_id for message_id, _ in finals] == ["msg_1", "msg_2"]
    assert [event for event in desk.events if isinstance(event, AgentTyping)] == [
        AgentTyping(True),
        AgentTyping(False),
        AgentTyping(True),
        AgentTyping(False),
    ]


def test_more_messages_than_the_queue_holds_lose_the_newest() -> None:
    desk = idle()
    for number in range(34):
        desk.write(str(number))
    assert desk.log[-1] == (0.0, Note("turn.dropped", {"text": "33", "waiting": 32}))


def test_cancel_makes_the_text_so_far_final() -> None:
    desk = idle()
    desk.write("hello")
    desk.wait(0.07)
    assert desk.give(CancelRequested()) == [
        Emit(AgentMessage("msg_1", "one two three", is_chunk=False, is_final=True)),
        Emit(AgentTyping(False)),
        Note("reply.cancelled", {"matched": "replies[0]"}),
    ]
    desk.wait(1)
    assert desk.chat.state is ChatState.IDLE


def test_cancel_before_the_first_word_sends_no_message() -> None:
    desk = idle()
    desk.write("hello")
    assert desk.give(CancelRequested())[0] == Emit(AgentTyping(False))


def test_cancel_goes_on_with_the_queue() -> None:
    desk = idle()
    desk.write("first")
    desk.write("second")
    assert Note("turn.answered", {"matched": "replies[0]", "heard": "second"}) in desk.give(CancelRequested())


def test_cancel_without_a_reply_does_nothing() -> None:
    assert idle().give(CancelRequested()) == []


def test_metadata_of_a_message_reaches_the_templates() -> None:
    script = script_of(SILENT, replies=(Rule((Otherwise(),), ((Say("Hello {{ message.metadata.userId }}."),),)),))
    desk = idle(script)
    desk.write("hi", {"userId": "u1"})
    desk.wait(1)
    assert desk.texts[-1] == ("Hello u1.", True)


def test_transfer_and_end_follow_the_reply() -> None:
    rules = (
        Rule((Hear(phrases=("person",)),), ((Say("Wait."),),), transfer=Transfer("+1555", "cold")),
        Rule((Hear(phrases=("bye",)),), ((Say("Bye."),),), end=EndReason.AGENT_ENDED),
    )
    desk = idle(script_of(SILENT, replies=rules))
    desk.write("person")
    desk.wait(1)
    assert desk.events[-3:] == [
        AgentTyping(False),
        TransferStarted("+1555", "cold", ""),
        SessionEnded(EndReason.TRANSFER_COMPLETE, 0.05),
    ]
    desk = idle(script_of(SILENT, replies=rules))
    desk.write("bye")
    desk.write("still there?")
    desk.wait(1)
    assert desk.events[-1] == SessionEnded(EndReason.AGENT_ENDED, 0.05)


def test_a_wrong_turn_of_a_strict_script_ends_the_session() -> None:
    desk = idle(script_of(SILENT, script=(Rule((Hear(phrases=("yes",)),), ((Say("Good."),),)),)))
    desk.write("no")
    assert desk.events[-1] == SessionEnded(EndReason.ERROR, 0.0)
    assert any(isinstance(effect, Note) and effect.kind == "script.wrong_turn" for _, effect in desk.log)


def test_hanging_up_in_mid_reply_makes_the_text_so_far_final() -> None:
    desk = idle()
    desk.write("hello")
    desk.wait(0.05)
    assert desk.give(HangupRequested(EndReason.USER_ENDED)) == [
        Emit(AgentMessage("msg_1", "one two three", is_chunk=False, is_final=True)),
        Emit(AgentTyping(False)),
        Emit(SessionEnded(EndReason.USER_ENDED, 0.05)),
    ]


def test_a_chat_has_no_limits_unless_the_script_sets_them() -> None:
    assert idle().chat.next_deadline() is None


def test_limits_of_a_chat() -> None:
    desk = idle(script_of(LONG, timing={"max_idle": 5.0, "max_duration": 7.0}))
    assert desk.chat.next_deadline() == Deadline(5.0, waits_for_caller=True)
    desk.wait(4)
    desk.give(UserTyping())
    assert desk.chat.next_deadline() == Deadline(7.0, waits_for_caller=True)
    desk.wait(9)
    assert desk.events[-1] == SessionEnded(EndReason.MAX_DURATION, 7.0)
    desk = idle(script_of(LONG, timing={"max_idle": 5.0}))
    desk.wait(9)
    assert desk.events[-1] == SessionEnded(EndReason.IDLE_TIMEOUT, 5.0)


def test_a_limit_in_mid_reply_breaks_it_off() -> None:
    desk = idle(script_of(LONG, timing={"max_duration": 0.07}))
    desk.write("hello")
    desk.wait(1)
    assert desk.texts[-1] == ("one two three", True)
    assert desk.events[-1] == SessionEnded(EndReason.MAX_DURATION, 0.07)


def test_a_silence_rule_writes_once_per_silence() -> None:
    rule = Rule((Silence(3.0),), ((Say("Still there?"),),))
    desk = idle(script_of(SILENT, replies=(rule,), timing={"max_idle": 10.0}))
    desk.wait(2.0)
    desk.give(UserTyping())
    assert desk.chat.next_deadline() == Deadline(5.0, waits_for_caller=True)
    desk.wait(20)
    assert [text for text, is_final in desk.texts if is_final] == ["Still there?"]
    assert desk.events[-1] == SessionEnded(EndReason.IDLE_TIMEOUT, 12.0)


def test_connections_and_failures() -> None:
    desk = idle(script_of(LONG, timing={"max_idle": 5.0}))
    assert desk.give(ReconnectionRequested()) == [Emit(SessionResumed("The session goes on over this connection."))]
    desk.give(Detached())
    desk.wait(20)
    assert desk.give(Resumed()) == [Emit(SessionResumed("The session goes on over a new connection."))]
    assert desk.chat.next_deadline() == Deadline(25.0, waits_for_caller=True)
    assert desk.give(Failed("LLM_PROVIDER_ERROR", "busy", recoverable=True)) == [
        Emit(SessionFailed("LLM_PROVIDER_ERROR", "busy", True))
    ]
    assert desk.give(Failed("AUTH_FAILED", "expired")) == [
        Emit(SessionFailed("AUTH_FAILED", "expired", False)),
        Emit(SessionEnded(EndReason.ERROR, 20.0)),
    ]


@pytest.mark.parametrize(
    "given",
    [
        Started(),
        TextArrived("x", {}),
        UserTyping(),
        CancelRequested(),
        HangupRequested(EndReason.USER_ENDED),
        ReconnectionRequested(),
        Detached(),
        Resumed(),
        Failed("X", "x"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_ended_ignores_everything(given: ChatInput) -> None:
    desk = idle()
    desk.give(HangupRequested(EndReason.USER_ENDED))
    assert desk.give(given) == []
    assert desk.chat.advance(1e6) == []
    assert desk.chat.next_deadline() is None
    assert desk.chat.state is ChatState.ENDED
