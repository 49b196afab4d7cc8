"""Plays the caller of a recorded call again, against any server, and compares what comes of it with the record.

The caller's sound is sent as it lies in call time, keys, messages and the end at their own times. A lost connection is
not lost again: the replay stays on the line, or leaves it where the caller left for good.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any, Literal

from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, CALLER_RATE, SAMPLE_BYTES
from voisnap_mock.caller import (
    CallerEvent,
    CallRefused,
    ChatUser,
    Connected,
    Ended,
    Failed,
    Heard,
    Pushed,
    Said,
    Transferred,
    VoiceCaller,
    Wrote,
)
from voisnap_mock.clock import Clock
from voisnap_mock.errors import ConfigError
from voisnap_mock.recordings.reading import RecordedCall

# As much as the smallest limit of one hub message takes as base64: 0.6 s.
_PIECE_BYTES = 30 * CALLER_FRAME_BYTES
# Call time that a call on a virtual clock gets to end by itself, and real time that any call gets.
_OVERTIME = 1.0
_FAREWELL = 5.0


# --- what a record asks for and says ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Act:
    """The caller called a hub method at `t` seconds of call time."""

    t: float
    method: str
    arguments: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What the caller does in a replay.

    Attributes:
        given: query parameters of the connection: `metadata`, `userName`, `language`.
        sound: PCM s16le mono at 16 kHz from the begin of the call; empty in a chat.
        acts: in order of time.
        until: seconds of call time that the record lasts.
        leaves: at `until` the caller goes away without a word.
        pushed: names of events that the service does not have.
    """

    agent_id: str
    channel: Literal["voice", "chat"]
    given: Mapping[str, Any]
    sound: bytes
    acts: tuple[Act, ...]
    until: float
    leaves: bool
    pushed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """An event that the client saw: its target, what identifies it, and its call time as far as known."""

    target: str
    text: str
    t: float | None = None

    def as_object(self) -> dict[str, Any]:
        return {"t": self.t, "target": self.target, "text": self.text}


def plan_of(record: RecordedCall, *, agent_id: str | None = None) -> Plan:
    """What the caller of a record did; `agent_id` is whom it calls instead.

    Raises:
        ConfigError: such a call cannot be played again.
    """
    channel = record.facts["channel"]
    if channel not in ("voice", "chat"):
        raise ConfigError(f"{record.source}: is a {channel} call; only voice calls and chats can be played again")
    opened: Mapping[str, Any] = next((event for event in record.events if event["kind"] == "session.opened"), {})
    left_at = _left_at(record)
    acts = [
        Act(event.get("t") or 0.0, str(event.get("target")), _arguments(event, channel))
        for event in record.events
        if event["kind"] == "method"
    ]
    duration = record.facts.get("durationSeconds")
    if not isinstance(duration, int | float):
        # Nobody wrote the end.
        duration = max((event.get("t") or 0.0 for event in record.events), default=0.0)
    until = duration if left_at is None else left_at
    return Plan(
        agent_id=agent_id or record.facts["agentId"],
        channel=channel,
        given={name: opened[name] for name in ("metadata", "userName", "language") if name in opened},
        sound=record.audio.get("in", b""),
        acts=tuple(act for act in acts if act.t <= until),
        until=until,
        leaves=left_at is not None,
        pushed=tuple(dict.fromkeys(str(e.get("target")) for e in record.events if e["kind"] == "event.pushed")),
    )


def _left_at(record: RecordedCall) -> float | None:
    """When the caller's connection was lost for good."""
    left_at: float | None = None
    for event in record.events:
        if event["kind"] == "session.detached":
            left_at = event.get("t") or 0.0
        elif event["kind"] == "session.resumed":
            left_at = None
    return left_at


def _arguments(event: Mapping[str, Any], channel: str) -> tuple[object, ...]:
    match event:
        case {"target": "SendDtmfAsync", "digit": digit}:
            return (digit,)
        case {"target": "SendMessageAsync", "text": text}:
            return ({"content": text, "metadata": event.get("metadata") or {}},)
        case {"target": "EndSessionAsync", "reason": reason} if channel == "voice":
            return (reason,)
        case _:
            return ()


def timed(seen: Sequence[Seen], events: Sequence[Mapping[str, Any]]) -> tuple[Seen, ...]:
    """What the client saw with the times of the server's journal, if that has just the same events."""
    shown = [(replace(each, t=event.get("t"))) for event in events if (each := _shown(event)) is not None]
    is_same = [(each.target, each.text) for each in shown] == [(each.target, each.text) for each in seen]
    return tuple(shown if is_same else seen)


def seen_in(record: RecordedCall) -> tuple[Seen, ...]:
    """What the client of a record was shown for good: final texts, transfers, errors, pushed events and the end.

    Left out are what it was no more there to see, and the end of a server that was stopped.
    """
    left_at = _left_at(record)
    shown = []
    for event in record.events:
        t = event.get("t")
        seen = _shown(event)
        if seen is not None and (left_at is None or t is None or t <= left_at):
            shown.append(replace(seen, t=t))
    return tuple(shown)


def _shown(event: Mapping[str, Any]) -> Seen | None:
    match event:
        case {"kind": "session.started"}:
            return Seen("SessionStarted", str(event.get("agent_name", "")))
        case {"kind": "caller.transcript", "is_final": True, "text": text}:
            return Seen("Transcription", text)
        case {"kind": "agent.transcript", "is_final": True, "text": text}:
            return Seen("TranscriptionOf", text)
        case {"kind": "agent.message", "is_final": True, "text": text}:
            return Seen("MessageReceived", text)
        case {"kind": "transfer.started"}:
            return Seen("TransferInitiated", f"{event.get('to')}, {event.get('type')}")
        case {"kind": "event.pushed"}:
            return Seen(str(event.get("target")), _compact(event.get("arguments")))
        case {"kind": "session.failed"}:
            return Seen("Error", str(event.get("code")))
        case {"kind": "session.ended", "reason": reason} if reason not in ("server_shutdown", "disconnected"):
            return Seen("SessionEnded", reason)
        case _:
            return None


def _seen_of(event: CallerEvent) -> Seen | None:
    match event:
        case Connected(agent_name=name):
            return Seen("SessionStarted", name)
        case Heard(text, is_final=True):
            return Seen("Transcription", text)
        case Said(text, is_final=True):
            return Seen("TranscriptionOf", text)
        case Wrote(text=text, is_final=True):
            return Seen("MessageReceived", text)
        case Transferred(to, kind):
            return Seen("TransferInitiated", f"{to}, {kind}")
        case Pushed(name, arguments):
            return Seen(name, _compact(arguments))
        case Failed(code):
            return Seen("Error", code)
        case Ended(reason):
            return Seen("SessionEnded", reason)
        case _:
            return None


def _compact(arguments: object) -> str:
    return json.dumps(arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


# --- comparing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """An event on one side, or the same event on both.

    Attributes:
        is_late: it came at another time than was allowed.
    """

    recorded: Seen | None
    replayed: Seen | None
    is_late: bool = False

    @property
    def is_same(self) -> bool:
        return self.recorded is not None and self.replayed is not None and not self.is_late


def compare(recorded: Sequence[Seen], replayed: Sequence[Seen], *, tolerance: float | None = None) -> tuple[Row, ...]:
    """Lay two sequences of events beside each other: the same are those of one target and text, in order.

    With a `tolerance`, in seconds, the same event must also have come at the same time, where both times are known.
    """
    rows = []
    matcher = SequenceMatcher(
        None, [(e.target, e.text) for e in recorded], [(e.target, e.text) for e in replayed], autojunk=False
    )
    for _, begin, end, its_begin, its_end in matcher.get_opcodes():
        left, right = recorded[begin:end], replayed[its_begin:its_end]
        if [(e.target, e.text) for e in left] == [(e.target, e.text) for e in right]:
            rows += [Row(one, other, _is_late(one, other, tolerance)) for one, other in zip(left, right, strict=True)]
        else:
            rows += [Row(one, None) for one in left]
            rows += [Row(None, other) for other in right]
    return tuple(rows)


def _is_late(recorded: Seen, replayed: Seen, tolerance: float | None) -> bool:
    if tolerance is None or recorded.t is None or replayed.t is None:
        return False
    return abs(replayed.t - recorded.t) > tolerance + 1e-9


# --- playing ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Replayed:
    """What came of a replay. Attributes: call_id: of the new call."""

    call_id: str = ""
    seen: list[Seen] = field(default_factory=list)


async def play(
    plan: Plan,
    base_url: str,
    *,
    access_token: str,
    clock: Clock,
    speed: float | None,
    advance: Callable[[str, float], Awaitable[None]] | None = None,
) -> Replayed:
    """Play the caller of `plan`.

    Args:
        speed: how fast call time passes at the server; None is a virtual clock, which gets the sound as fast as it
            takes it. Then the events have no times.
        advance: moves the virtual clock of a call, by its id, to a call time; for chats, which send no sound.

    Raises:
        CallRefused: the server does not take the call.
    """
    replayed = Replayed()

    def learn(event: CallerEvent, at: float) -> None:
        if isinstance(event, Connected):
            replayed.call_id = event.conversation_id
        seen = _seen_of(event)
        if seen is not None:
            replayed.seen.append(seen if speed is None else replace(seen, t=round(at * speed, 3)))

    metadata = plan.given.get("metadata")
    if plan.channel == "chat":
        async with ChatUser(
            base_url,
            plan.agent_id,
            access_token=access_token,
            clock=clock,
            metadata=metadata,
            language=plan.given.get("language"),
            user_name=plan.given.get("userName"),
            also=plan.pushed,
            on_event=learn,
        ) as user:

            async def let_pass(until: float) -> None:
                if speed is not None:
                    await user.wait_until(until / speed)
                elif advance is not None and not user.is_over:
                    await advance(user.session.session_id, until)

            await _act(plan, user, let_pass)
    else:
        async with VoiceCaller(
            base_url,
            plan.agent_id,
            access_token=access_token,
            clock=clock,
            metadata=metadata,
            speed=speed,
            also=plan.pushed,
            on_event=learn,
        ) as caller:
            if speed is None:
                await _act(plan, caller, _Line(caller, plan.sound).send_until)
            else:
                caller.speak(plan.sound)
                await _act(plan, caller, lambda until: caller.wait_until(until / speed))
    return replayed


class _Line:
    """Sends the sound of a record to a server on a virtual clock, where it is the time."""

    def __init__(self, caller: VoiceCaller, sound: bytes) -> None:
        self._caller = caller
        self._sound = sound
        self._sent = 0

    async def send_until(self, until: float) -> None:
        goal = int(until * CALLER_RATE) * SAMPLE_BYTES
        while self._sent < goal and not self._caller.is_over:
            size = min(_PIECE_BYTES, goal - self._sent)
            piece = self._sound[self._sent : self._sent + size].ljust(size, b"\0")
            with suppress(CallRefused):
                await self._caller.transmit(piece)
            self._sent += size


async def _act(plan: Plan, party: VoiceCaller | ChatUser, let_pass: Callable[[float], Awaitable[object]]) -> None:
    """Do everything at its time, and see the call to its end."""
    for act in plan.acts:
        await let_pass(act.t)
        if party.is_over:
            return
        # What a server refuses it answers with other events than the record has, or with none.
        with suppress(CallRefused):
            await party.invoke(act.method, *act.arguments)
    await let_pass(plan.until)
    if plan.leaves:
        return
    if not party.is_over and not any(act.method == "EndSessionAsync" for act in plan.acts):
        # It ended by itself, and is due to; what is a little late may be.
        await let_pass(plan.until + _OVERTIME)
    await party.wait_for_end(within=_FAREWELL)
    if not party.is_over:
        await party.hang_up()
