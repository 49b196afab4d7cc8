"""One running session: carries out what its machine orders, and tells the machine what came of it."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from heapq import heappop, heappush
from typing import Any, Literal, Protocol, assert_never, cast

from voisnap_mock.agents.script import AgentScript, EndReason
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, FRAME_SECONDS, Framer
from voisnap_mock.clock import Clock, Timer
from voisnap_mock.engine.events import (
    AbandonSynthesis,
    AgentMessage,
    AgentTranscript,
    AgentTyping,
    AudioArrived,
    AudioReady,
    CallerTranscript,
    Deadline,
    Detached,
    Emit,
    EventPushed,
    FinishRecognition,
    HangupRequested,
    Note,
    Recognize,
    Resumed,
    SessionEffect,
    SessionEnded,
    SessionEvent,
    SessionFailed,
    SessionId,
    SessionResumed,
    SessionStarted,
    Sever,
    Started,
    Synthesize,
    TransferStarted,
    UserMessage,
    Word,
)
from voisnap_mock.engine.patience import DIGITS
from voisnap_mock.engine.ports import Machine
from voisnap_mock.engine.runner.hearing import EarQueue
from voisnap_mock.engine.runner.ledger import AudioLedger
from voisnap_mock.engine.runner.pace import Input, Pace
from voisnap_mock.engine.runner.voicing import VoiceDesk
from voisnap_mock.errors import ClockError
from voisnap_mock.journal import Journal

Channel = Literal["voice", "chat", "webrtc"]
Status = Literal["live", "waiting", "ended"]

_log = logging.getLogger("voisnap_mock.engine")

_MOST_MISSED = 1_000

_KINDS: dict[type[SessionEvent], str] = {
    SessionStarted: "session.started",
    SessionResumed: "session.resumed",
    CallerTranscript: "caller.transcript",
    AgentTranscript: "agent.transcript",
    AgentTyping: "agent.typing",
    AgentMessage: "agent.message",
    UserMessage: "caller.message",
    TransferStarted: "transfer.started",
    EventPushed: "event.pushed",
    SessionFailed: "session.failed",
    SessionEnded: "session.ended",
}
_WORD = tuple(field.name for field in fields(Word))
_FIELDS = {event: tuple(field.name for field in fields(event)) for event in _KINDS}


class Outlet(Protocol):
    """Where a session's events go: a hub's side of one connection."""

    def deliver(self, event: SessionEvent) -> None:
        """Show `event` to the client. Never blocks and never raises; nothing comes after `SessionEnded`."""
        ...

    def sever(self, how: str) -> None:
        """Lose the client's connection: `reset`, `close`, `close_no_reconnect`, `stall` or `half_open`."""
        ...


class Tap(Protocol):
    """Listens in on a session's audio: what the client really sent, and really was sent, with its call time."""

    def heard(self, pcm: bytes, t: float) -> None:
        """20 ms of the caller, which end at `t`."""
        ...

    def said(self, pcm: bytes, t: float) -> None:
        """20 ms of the agent, to be played from `t` on."""
        ...

    def close(self) -> None:
        """The session is over and has journaled its last entry."""
        ...


class _Taps:
    """Several that listen in."""

    def __init__(self, taps: tuple[Tap, ...]) -> None:
        self._taps = taps

    def heard(self, pcm: bytes, t: float) -> None:
        for tap in self._taps:
            tap.heard(pcm, t)

    def said(self, pcm: bytes, t: float) -> None:
        for tap in self._taps:
            tap.said(pcm, t)

    def close(self) -> None:
        for tap in self._taps:
            tap.close()


@dataclass(frozen=True, slots=True)
class Works:
    """What drives one session and works for it; a chat has neither ear nor voice."""

    pace: Pace
    ear: EarQueue | None = None
    voice: VoiceDesk | None = None
    tap: Tap | None = None


class Session:
    """A session under way. `SessionTable` makes it; all methods are called on the server's loop.

    Give it `Started()` when the client can be told things: call time begins then, and nothing is delivered before.
    Its last event is `SessionEnded`; inputs after that are ignored.

    Attributes:
        id: equal to the `conversationId`.
        started_at: seconds since 1970; None before the start.
        duration: seconds of call time; None while it lives.
        reason: why it ended; None while it lives, or when it was given up before it began.
        is_held: somebody moves its time.
    """

    def __init__(
        self,
        session_id: SessionId,
        script: AgentScript,
        machine: Machine,
        *,
        tenant_id: str,
        channel: Channel,
        outlet: Outlet,
        clock: Clock,
        journal: Journal,
        works: Callable[[Session], Works],
        resume_window: float,
        forget: Callable[[Session], None],
        targets: Mapping[type[object], str],
    ) -> None:
        self.id = session_id
        self.tenant_id = tenant_id
        self.channel: Channel = channel
        self.script = script
        self.started_at: float | None = None
        self.duration: float | None = None
        self.reason: EndReason | None = None
        self._machine = machine
        self._outlet: Outlet | None = outlet
        self._clock = clock
        self._journal = journal
        self._resume_window = resume_window
        self._forget = forget
        self._targets = targets
        # Over WebRTC audio is no hub message.
        audio: Mapping[type[object], str] = targets if channel == "voice" else {}
        self._ledger = AudioLedger(self._write, in_target=audio.get(AudioArrived), out_target=audio.get(AudioReady))
        self._framer = Framer(CALLER_FRAME_BYTES)
        self._missed: deque[SessionEvent] = deque()
        self._is_resuming = False
        self._window: Timer | None = None
        self._is_over = False
        self.is_held = False
        # While effects are carried out, an outlet may hand in something new: it waits its turn here.
        self._is_stepping = False
        self._waiting: deque[tuple[Input | None, float]] = deque()
        # A heap: when, in which order they were asked for, and what.
        self._errands: list[tuple[float, int, Callable[[], None]]] = []
        self._last_errand = 0
        self._frames_heard = self._frames_said = 0
        made = works(self)
        self._pace, self._ear, self._voice = made.pace, made.ear, made.voice
        self._tap: Tap | None = made.tap

    # --- For hubs and the control API -----------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """`waiting` while its connection is lost."""
        if self._is_over:
            return "ended"
        return "waiting" if self._outlet is None else "live"

    @property
    def t(self) -> float:
        """Call time now, in seconds; 0.0 before the start, the duration after the end."""
        return self._pace.t

    @property
    def turns(self) -> int:
        """Turns of the caller so far: final transcripts or chat messages, also those that failed."""
        return self._machine.turns

    @property
    def heard(self) -> float:
        """Seconds of caller audio that have come in."""
        return round(self._frames_heard * FRAME_SECONDS, DIGITS)

    @property
    def said(self) -> float:
        """Seconds of agent audio that have gone out."""
        return round(self._frames_said * FRAME_SECONDS, DIGITS)

    def decorate(self, wrap: Callable[[Machine], Machine]) -> None:
        """Put something round the session's machine, also in mid-call; nobody can take it away again."""
        self._machine = wrap(self._machine)

    def receive(self, given: Input) -> None:
        """Hand in what the client did. Does not block.

        Caller audio may come in pieces of any whole number of samples.
        """
        if self._is_over:
            return
        if isinstance(given, AudioArrived):
            self._pace.hear([AudioArrived(frame) for frame in self._framer.push(given.pcm)])
            return
        if isinstance(given, Started):
            if self.started_at is not None:
                return
            self.started_at = self._clock.wall()
            self._pace.start()
        self._pace.receive(given)

    def detach(self, outlet: Outlet) -> None:
        """The connection behind `outlet` is gone: wait for another one until the resume window closes.

        Does nothing when another outlet has taken over, or when the session has ended. A session that was not yet
        started, and one of WebRTC, ends at once.

        Source: Assumed for the length of the window (30 s of real time); the documentation has a "retry window".
        """
        if self._is_over or outlet is not self._outlet:
            return
        self._outlet = None
        self._framer = Framer(CALLER_FRAME_BYTES)
        self.note("session.detached", resume_window=self._resume_window)
        if self.started_at is None or self.channel == "webrtc":
            self.receive(HangupRequested(EndReason.DISCONNECTED))
            return
        self._window = self._clock.call_at(
            self._clock.monotonic() + self._resume_window,
            lambda: self.receive(HangupRequested(EndReason.DISCONNECTED)),
        )
        self.receive(Detached())

    def attach(self, outlet: Outlet) -> Outlet | None:
        """Go on over a new connection, which first gets `SessionResumed` and then what was missed.

        Returns the outlet that was attached till now, if any; it gets nothing more. `SessionTable.resume` checks
        whether this may be, and calls it.
        """
        displaced, self._outlet = self._outlet, outlet
        self._is_resuming = True
        if self._window is not None:
            self._window.cancel()
            self._window = None
        self._framer = Framer(CALLER_FRAME_BYTES)
        if displaced is not None:
            self.note("session.taken_over")
        self.receive(Resumed())
        return displaced

    def note(self, kind: str, **details: Any) -> None:
        """Write something about this session into the journal."""
        self._journal.append(kind, tenant_id=self.tenant_id, call_id=self.id, t=round(self._pace.t, 3), **details)

    def note_in_turn(self, kind: str, **details: Any) -> None:
        """Like `note`, at the place among what the client did: on a virtual clock that may still be waiting."""
        self._pace.in_turn(lambda: self.note(kind, **details))

    def push(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Send the client a hub event by hand, at its place among what is waiting; it changes nothing else."""
        self._pace.in_turn(lambda: self._push(EventPushed(name, arguments)))

    def _push(self, event: EventPushed) -> None:
        if not self._is_over:
            self._emit(event, self._pace.t)

    @property
    def is_repeatable(self) -> bool:
        """On a virtual clock: whoever sends the same gets the same call."""
        return self._pace.is_repeatable

    async def advance(self, seconds: float) -> None:
        """Let so much call time pass on a virtual clock; returns when everything due until then has happened.

        Raises:
            ClockError: call time passes by itself here, or `seconds` is no time that could pass.
        """
        if not 0 <= seconds < math.inf:
            raise ClockError(f"call time cannot be advanced by {seconds} s: a number of seconds from 0 on is expected")
        if not self._is_over:
            await self._pace.advance(seconds)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when so many seconds of call time have passed, before anything that happens then.

        What is left when the session ends is done after as much real time as call time would have taken; on a virtual
        clock that is none. `act` must not raise.
        """
        if self._is_over:
            self._do_after_end(seconds, act)
            return
        self._last_errand += 1
        heappush(self._errands, (round(self._pace.t + seconds, DIGITS), self._last_errand, act))
        self._pace.rescheduled()

    def hurry(self, quiet: float = 0.0) -> None:
        """Somebody waits for what the agent is doing: on a virtual clock, let it run out at once.

        Does nothing while something came in within the last `quiet` seconds of real time.
        """
        self._pace.hurry(quiet)

    @property
    def is_at_rest(self) -> bool:
        """On a virtual clock: nothing happens any more before the caller does something. On others always so."""
        return self._is_over or self._pace.is_at_rest

    def hold(self) -> None:
        """Somebody moves this call's time, with audio and `advance`: on a virtual clock nothing runs out by itself."""
        self.is_held = True
        self._pace.hold(is_held=True)

    @property
    def answers(self) -> int | None:
        """On a virtual clock: how often ear and voice have answered so far; None while something is still due.

        When it is the same number before and after something was handed in, all that came of it came at once.
        """
        return self._pace.answers

    def take_back(self) -> None:
        """Who holds the time sends ahead, and stops at what just happened: audio that waits was never sent."""
        self._pace.take_back()

    def listen_in(self, tap: Tap) -> None:
        """Tap the session's audio from now on, besides whoever does already."""
        self._tap = tap if self._tap is None else _Taps((self._tap, tap))

    def release(self) -> None:
        """Nobody holds the time any more."""
        self.is_held = False
        self._pace.hold(is_held=False)

    # --- For its pace ---------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """It has ended, and everything of it has been stopped."""
        return self._is_over

    def next_deadline(self) -> Deadline | None:
        """What the machine waits for, or the next errand."""
        deadline = self._machine.next_deadline()
        if self._errands:
            at = self._errands[0][0]
            if deadline is None or at < deadline.at or (at == deadline.at and deadline.waits_for_caller):
                return Deadline(at, waits_for_caller=False)
        return deadline

    def step(self, given: Input | None, t: float) -> None:
        """Let the machine take an input, or only the time, and carry out what it orders."""
        if self._is_stepping:
            self._waiting.append((given, t))
            return
        self._is_stepping = True
        try:
            self._step(given, t)
            while self._waiting and not self._is_over:
                self._step(*self._waiting.popleft())
        except Exception as error:  # noqa: BLE001 - the outermost frame of a session: its defect must not reach others
            self._fail(error, t)
        finally:
            self._is_stepping = False

    def _step(self, given: Input | None, t: float) -> None:
        while self._errands and self._errands[0][0] <= t:
            heappop(self._errands)[2]()
        machine = self._machine
        if type(given) is AudioArrived:
            self._frames_heard += 1
            self._ledger.heard(given.pcm, t)
            if self._tap is not None:
                self._tap.heard(given.pcm, t)
        for effect in machine.advance(t) if given is None else machine.receive(given, t):
            if type(effect) is Emit and effect.is_shown:
                self._emit(effect.event, t)
            else:
                self._carry_out(effect, t)
        if machine.is_over:
            self._stop()

    def _fail(self, error: Exception, t: float) -> None:
        """A defect of this program: say so, and end the session, whose state nobody can trust any more."""
        _log.error("session %s failed", self.id, exc_info=error, extra={"call_id": self.id})
        self.note("defect", message=f"{type(error).__name__}: {error}")
        if not self._is_over:
            self.reason, self.duration = EndReason.ERROR, t
            ended = SessionEnded(EndReason.ERROR, t)
            self._write_event(ended, t)
            outlet, self._outlet = self._outlet, None
            self._stop()
            if outlet is not None and self.started_at is not None:
                outlet.deliver(ended)

    # --- Effects --------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: SessionEffect, t: float) -> None:
        match effect:
            case Emit(event=event):
                self._emit(event, t, is_shown=False)
            case Sever(how=how):
                if self._outlet is not None:
                    self.note("connection.severed", how=how)
                    self._outlet.sever(how)
            case Note(kind=kind, details=details):
                if kind == "script.wrong_turn":
                    _log.warning("session %s: %s", self.id, details["reason"], extra={"call_id": self.id})
                self._write(kind, t, details)
            case Recognize() | FinishRecognition():
                assert self._ear is not None
                self._ear.feed(effect)
            case Synthesize():
                assert self._voice is not None
                self._voice.make(effect)
            case AbandonSynthesis(reply=reply):
                assert self._voice is not None
                self._voice.abandon(reply)
            case _:
                assert_never(effect)

    def _emit(self, event: SessionEvent, t: float, *, is_shown: bool = True) -> None:
        # A new connection hears first that it has resumed the session, however long that takes.
        outlet = None if self._is_resuming else self._outlet
        if type(event) is AudioReady:
            # Journaled by the second, and not kept for later: fifty a second, and stale at once.
            if outlet is not None:
                self._frames_said += 1
                outlet.deliver(event)
                self._ledger.said(event.pcm, t)
                if self._tap is not None:
                    self._tap.said(event.pcm, t)
            return
        if isinstance(event, SessionEnded):
            self.reason, self.duration = event.reason, event.duration
        self._write_event(event, t)
        if not is_shown:
            return
        if isinstance(event, SessionResumed | SessionEnded) and self._outlet is not None:
            self._is_resuming = False
            if isinstance(event, SessionResumed):
                self._outlet.deliver(event)
                self._deliver_missed(self._outlet)
            else:
                self._deliver_missed(self._outlet)
                self._outlet.deliver(event)
        elif outlet is not None:
            outlet.deliver(event)
        else:
            self._miss(event)

    def _deliver_missed(self, outlet: Outlet) -> None:
        missed, self._missed = self._missed, deque()
        for late in missed:
            outlet.deliver(late)

    def _miss(self, event: SessionEvent) -> None:
        """Keep an event for the next connection; of more than 1,000 the oldest are lost, and journaled as such.

        Source: Assumed, the documentation says nothing of a replay; a client that came back must know what was said.
        """
        if len(self._missed) == _MOST_MISSED:
            lost = self._missed.popleft()
            self.note("session.missed_event_dropped", event=_KINDS[type(lost)], kept=_MOST_MISSED)
        self._missed.append(event)

    def _write_event(self, event: SessionEvent, t: float) -> None:
        if type(event) is SessionEnded:
            self._ledger.flush(t)
        details = _details(event, is_repeatable=self._pace.is_repeatable)
        target = self._targets.get(type(event))
        self._write(_KINDS[type(event)], t, details if target is None else {"target": target, **details})

    def _write(self, kind: str, t: float, details: dict[str, Any]) -> None:
        # Details may hold any names, also those of the journal's own arguments.
        append = cast("Callable[..., object]", self._journal.append)
        append(kind, tenant_id=self.tenant_id, call_id=self.id, t=round(t, 3), **details)

    def _stop(self) -> None:
        self._is_over = True
        self._waiting.clear()
        self._missed.clear()
        self._pace.stop()
        for at, _, act in sorted(self._errands):
            self._do_after_end(at - self._pace.t, act)
        self._errands.clear()
        if self._window is not None:
            self._window.cancel()
        if self._ear is not None:
            self._ear.close()
        if self._voice is not None:
            self._voice.close()
        self._forget(self)
        if self._tap is not None:
            self._tap.close()

    def _do_after_end(self, seconds: float, act: Callable[[], None]) -> None:
        self._clock.call_at(self._clock.monotonic() + self._pace.real_seconds(seconds), act)


def _shown(value: Any) -> Any:
    """As the journal shows it: milliseconds are enough for people."""
    return round(value, 3) if isinstance(value, float) else value


def _details(event: SessionEvent, *, is_repeatable: bool) -> dict[str, Any]:
    """What the journal keeps of an event. How long an ear took is real time, and different every time."""
    if isinstance(event, EventPushed):
        return {"target": event.name, "arguments": event.arguments}
    details = {name: _shown(getattr(event, name)) for name in _FIELDS[type(event)]}
    if isinstance(event, CallerTranscript):
        details["words"] = [{name: _shown(getattr(word, name)) for name in _WORD} for word in event.words]
        if not event.is_final:
            del details["words"]
        if not event.is_final or is_repeatable:
            del details["took"]
    return details
