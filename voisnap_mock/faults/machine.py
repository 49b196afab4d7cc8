"""Faults inside a session: a decorator round its machine, and one round the machine's dialogue. Both pure.

What the machine takes in and what it orders passes here and is held back, changed or left out. What is held back waits
in call time and shows in `next_deadline`, so that a fault costs a virtual call no real time. Everything that goes the
same way (the answers of the ear, the orders to the voice, audio in, audio out) keeps its order: it waits behind what
was held back before it.

    point       what passes                                     what a fault makes of it
    ---------   ---------------------------------------------   ---------------------------------------------------
    start       Started                                         later; SessionStarted and then the failure
    stt         Transcribed, RecognitionFailed                  later, another text, none, RecognitionFailed
    llm         what the dialogue answers to words and keys     later, another text, none, FailWith and the fallback
    tts         Synthesize                                      later, another text, silent audio, SynthesisFailed
    audio.in    AudioArrived                                    later, silent, impaired; the session's failure
    audio.out   AudioReady                                      later, silent, impaired; the session's failure
    reconnect   ReconnectionRequested                           later; the session's failure
    end         SessionEnded                                    later; never shown

At each of them the connection may be lost instead: the session goes on, or ends, without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from voisnap_mock.agents.script import EndReason
from voisnap_mock.audio.frames import AGENT_FRAME_BYTES, CALLER_FRAME_BYTES, FRAME_SECONDS
from voisnap_mock.engine.events import (
    AbandonSynthesis,
    AudioArrived,
    AudioReady,
    Deadline,
    Detached,
    Emit,
    Failed,
    HangupRequested,
    LineOpened,
    Note,
    PartlyHeard,
    RecognitionFailed,
    ReconnectionRequested,
    Resumed,
    SessionEffect,
    SessionEnded,
    Sever,
    Speech,
    Started,
    SynthesisFailed,
    Synthesize,
    Synthesized,
    TextArrived,
    Transcribed,
    Transcript,
)
from voisnap_mock.engine.patience import DIGITS
from voisnap_mock.faults.armed import Scope
from voisnap_mock.faults.dialogue import FaultyDialogue
from voisnap_mock.faults.impair import BadLine, Passed
from voisnap_mock.faults.plan import FaultPlan
from voisnap_mock.faults.rules import Crossing, Drop, Fail, Impair, Replace, Silence, Slow, Verdict
from voisnap_mock.faults.writing import write_firing

if TYPE_CHECKING:
    from voisnap_mock.engine.ports import Dialogue, Machine

POINTS_INSIDE = ("start", "stt", "llm", "tts", "audio.in", "audio.out", "reconnect", "end")
"""The points that are crossed here."""

# What is done when its time has come, given that time.
_Act = Callable[[float], list[SessionEffect]]

_NOBODY_WAITS = (EndReason.DISCONNECTED, EndReason.SERVER_SHUTDOWN)
# At any other end, audio that is held back is played to its end.
_ABRUPT = (EndReason.USER_ENDED, *_NOBODY_WAITS)


class FaultyMachine:
    """A call or a chat, with faults round it.

    Attributes:
        turns: of the caller, as far as the machine knows of them.

    Args:
        said, heard: seconds of agent and caller audio that have crossed before.
        is_detached: the session has no connection now.
    """

    dialogue: Dialogue

    def __init__(
        self,
        inner: Machine,
        *,
        plan: FaultPlan,
        session: str,
        agent: str,
        channel: str,
        first_audio: float,
        said: float = 0.0,
        heard: float = 0.0,
        is_detached: bool = False,
    ) -> None:
        self._inner = inner
        self._plan = plan
        self._scope: Scope | None = None
        self._session = session
        self._agent = agent
        self._channel = channel
        self._now = 0.0
        # Turns that have been understood, and those of them that the machine knows of: a late one lies between.
        self._understood = self.turns = inner.turns
        self._audio = {"audio.in": heard, "audio.out": said}
        self._held: list[tuple[float, int, _Act]] = []
        self._serial = 0
        self._free_at: dict[str, float] = {}
        self._bad_lines: dict[tuple[str, str, Impair], BadLine] = {}
        self._noted: set[tuple[str, str]] = set()
        self._muted: set[tuple[int, int]] = set()
        self._orders: list[SessionEffect] = []
        self._is_waiting_to_start = False
        self._is_detached = is_detached
        self._is_ending = False
        self._end_it: _Act = lambda at: []
        self._abandoned = 0
        self._watched: frozenset[str] = frozenset()
        self._plan_version = -1
        inner.dialogue = self.dialogue = FaultyDialogue(
            inner.dialogue, self, first_audio=0.0 if channel == "chat" else first_audio
        )

    @property
    def scope(self) -> Scope | None:
        """The rules of this session alone."""
        return self._scope

    @scope.setter
    def scope(self, scope: Scope | None) -> None:
        self._scope, self._plan_version = scope, -1

    # --- The machine that its session sees ------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return self._inner.is_over and not self._is_ending

    def next_deadline(self) -> Deadline | None:
        deadline = self._inner.next_deadline()
        if self._held and (deadline is None or self._held[0][0] <= deadline.at):
            return Deadline(self._held[0][0], waits_for_caller=False)
        return deadline

    def receive(self, given: Any, now: float) -> list[SessionEffect]:
        effects = self.advance(now)
        effects += self._take(given)
        # What is not held back but comes after the orders around it, such as a failure, is due already.
        return effects + self._release(now)

    def advance(self, now: float) -> list[SessionEffect]:
        effects = self._release(now)
        self._now = max(self._now, now)
        effects += self._pass_out(self._inner.advance(now))
        return effects + self._release(now)

    def _release(self, now: float) -> list[SessionEffect]:
        """Let go what is due, each thing at its own time."""
        effects: list[SessionEffect] = []
        while self._held and self._held[0][0] <= now:
            at = self._held[0][0]
            if at > self._now:
                # The machine may end at that, and then nothing is held any more.
                self._now = at
                effects += self._pass_out(self._inner.advance(at))
                continue
            due, _, act = heappop(self._held)
            effects += act(due)
        return effects

    # --- Holding back ---------------------------------------------------------------------------------------------

    def _later(self, seconds: float, act: _Act) -> None:
        self._serial += 1
        heappush(self._held, (round(self._now + seconds, DIGITS), self._serial, act))

    def _in_order(self, way: str, seconds: float, act: _Act) -> list[SessionEffect]:
        """Do `act` in so many seconds, and not before what goes the same way."""
        at = round(self._now + seconds, DIGITS)
        if at <= self._now and self._is_free(way):
            return act(at)
        at = max(at, self._free_at.get(way, 0.0))
        self._free_at[way] = at
        self._serial += 1
        heappush(self._held, (at, self._serial, act))
        return []

    def _is_free(self, way: str) -> bool:
        """Nothing is held back on the way; what is due right now may not have been let go yet."""
        return self._free_at.get(way, -1.0) < self._now

    def _hand_in(self, given: Any) -> list[SessionEffect]:
        return self._pass_out(self._inner.receive(given, self._now))

    def _handing_in(self, given: Any) -> _Act:
        return lambda at: self._hand_in(given)

    def sever(self, drop: Drop, after: float) -> None:
        """Lose the connection, now or later."""

        def lose(at: float) -> list[SessionEffect]:
            # A connection that stalls is not known to be lost, but no audio crosses it any more.
            self._is_detached = True
            return [Sever(drop.how.value)]

        self._later(after, lose)

    def _fail(self, verdict: Verdict, action: Fail) -> None:
        """Let the session fail with the code."""
        failed = Failed(action.code, verdict.message, action.is_recoverable)
        self._later(verdict.rule.after, self._handing_in(failed))

    # --- Deciding -------------------------------------------------------------------------------------------------

    def _watches(self, point: str) -> bool:
        if self._plan_version != self._plan.version:
            self._plan_version = self._plan.version
            self._watched = frozenset(
                name for name in POINTS_INSIDE if self._plan.watches(name, agent=self._agent, scope=self._scope)
            )
        return point in self._watched

    def decide(
        self, point: str, *, turn: int, text: str | None = None, audio: float = 0.0, once: bool = False
    ) -> tuple[Verdict, ...]:
        """What fires now at a point; each is journaled, with `once` what lasts only its first time."""
        if not self._watches(point):
            return ()
        crossing = Crossing(
            point, self._now, self._session, self._agent, self._channel, turn, text=text, audio=round(audio, DIGITS)
        )
        verdicts = self._plan.decide(crossing, self._scope)
        for verdict in verdicts:
            place = (verdict.rule.id, point)
            if place not in self._noted or not once or isinstance(verdict.rule.do, Fail | Drop):
                self._noted.add(place)
                self._orders.append(Note("fault.fired", write_firing(verdict.rule, point)))
        return verdicts

    def _ordered(self) -> list[SessionEffect]:
        orders, self._orders = self._orders, []
        return orders

    def answering(self, text: str | None) -> int:
        """The turn that is answered now. A chat's turns are counted here, since a message may wait to be answered."""
        if self._channel == "chat" and text is not None:
            self._understood = self.turns = self.turns + 1
        return self.turns

    # --- What comes in --------------------------------------------------------------------------------------------

    def _take(self, given: Any) -> list[SessionEffect]:
        if type(given) is AudioArrived:
            return self._hear(given)
        match given:
            case Transcribed() | RecognitionFailed():
                return self._understand(given)
            case PartlyHeard():
                return self._in_order("stt", 0.0, self._handing_in(given))
            case Synthesized() if (given.reply, given.item) in self._muted:
                speech = Speech(bytes(len(given.speech.pcm)), given.speech.words)
                return self._hand_in(replace(given, speech=speech))
            case Started():
                return self._start(given)
            case ReconnectionRequested():
                return self._reconnect(given)
            case HangupRequested(reason=reason) if reason in _NOBODY_WAITS:
                if self._is_ending:
                    return self._end_it(self._now)
            case HangupRequested() | TextArrived() | LineOpened() if self._is_waiting_to_start:
                # A client that does not wait for the beginning is answered when it has come.
                return self._in_order("start", 0.0, self._handing_in(given))
            case Detached():
                self._is_detached = True
            case Resumed():
                self._is_detached = False
            case _:
                pass
        return self._hand_in(given)

    def _start(self, started: Started) -> list[SessionEffect]:
        late, after = 0.0, None
        for verdict in self.decide("start", turn=0):
            match verdict.rule.do:
                case Slow(seconds=seconds):
                    late += seconds
                case _:
                    after = verdict
        orders = self._ordered()
        self._is_waiting_to_start = late > 0

        def begin(at: float) -> list[SessionEffect]:
            self._is_waiting_to_start = False
            effects = self._hand_in(started)
            if after is not None:
                self._break(after)
            return effects

        return orders + self._in_order("start", late, begin)

    def _break(self, verdict: Verdict) -> None:
        """Carry out a failure or a drop of the whole session."""
        match verdict.rule.do:
            case Fail() as action:
                self._fail(verdict, action)
            case Drop() as drop:
                self.sever(drop, verdict.rule.after)
            case _:
                pass

    def _reconnect(self, given: ReconnectionRequested) -> list[SessionEffect]:
        late, is_refused = 0.0, False
        for verdict in self.decide("reconnect", turn=self.turns):
            match verdict.rule.do:
                case Slow(seconds=seconds):
                    late += seconds
                case action:
                    self._break(verdict)
                    is_refused = isinstance(action, Fail)
        orders = self._ordered()
        return orders if is_refused else orders + self._in_order("start", late, self._handing_in(given))

    def _understand(self, given: Transcribed | RecognitionFailed) -> list[SessionEffect]:
        text = given.transcript.text if isinstance(given, Transcribed) else None
        heard = given.transcript if isinstance(given, Transcribed) else Transcript("")
        late, verdicts = 0.0, self.decide("stt", turn=self._understood + 1, text=text)
        for verdict in verdicts:
            match verdict.rule.do:
                case Slow(seconds=seconds):
                    late += seconds
                case Fail(code=code) as action:
                    late += verdict.rule.after
                    given = RecognitionFailed(given.utterance, code, verdict.message, action.is_recoverable)
                case Silence():
                    given = Transcribed(given.utterance, heard, is_lost=True)
                case Replace(value=value):
                    given = Transcribed(given.utterance, replace(heard, text=value, words=()))
                case Drop() as drop:
                    self.sever(drop, verdict.rule.after)
                case _:
                    pass
        # What nobody understood is no turn, unless a fault made it so.
        if text != "" or verdicts:
            self._understood += 1
        turn, orders, passed = self._understood, self._ordered(), given

        def answer(at: float) -> list[SessionEffect]:
            self.turns = turn
            return self._hand_in(passed)

        return orders + self._in_order("stt", late, answer)

    def _hear(self, given: AudioArrived) -> list[SessionEffect]:
        if not self._watches("audio.in") and self._is_free("audio.in"):
            self._audio["audio.in"] += FRAME_SECONDS
            return self._hand_in(given)
        late, frames = self._line("audio.in", given.pcm, CALLER_FRAME_BYTES, turn=self._understood + 1)
        effects = self._ordered()
        for frame in frames:
            # The caller's time goes on where a frame is missing.
            passed = AudioArrived(bytes(CALLER_FRAME_BYTES) if frame.pcm is None else frame.pcm)
            effects += self._on_line("audio.in", late, frame, self._handing_in(passed))
        return effects

    # --- What goes out --------------------------------------------------------------------------------------------

    def _pass_out(self, effects: list[SessionEffect]) -> list[SessionEffect]:
        """What of the machine's orders is carried out now; the dialogue may have added to them."""
        passed = self._ordered()
        for effect in effects:
            if type(effect) is Emit:
                if type(effect.event) is AudioReady:
                    passed += self._say(effect, effect.event)
                    continue
                if isinstance(effect.event, SessionEnded):
                    passed += self._end(effect, effect.event)
                    continue
            elif isinstance(effect, Synthesize):
                passed += self._voice(effect)
                continue
            elif isinstance(effect, AbandonSynthesis):
                self._abandoned = effect.reply
            passed.append(effect)
        return passed

    def _voice(self, order: Synthesize) -> list[SessionEffect]:
        late = 0.0
        for verdict in self.decide("tts", turn=self.turns, text=order.text):
            match verdict.rule.do:
                case Slow(seconds=seconds):
                    late += seconds
                case Fail(code=code) as action:
                    failed = SynthesisFailed(order.reply, order.item, code, verdict.message, action.is_recoverable)
                    self._later(late + verdict.rule.after, self._handing_in(failed))
                    return self._ordered()
                case Silence():
                    self._muted.add((order.reply, order.item))
                case Replace(value=value):
                    order = replace(order, text=value, wav=None)
                case Drop() as drop:
                    self.sever(drop, verdict.rule.after)
                case _:
                    pass
        made = order

        def make(at: float) -> list[SessionEffect]:
            return [] if made.reply == self._abandoned else [made]

        return self._ordered() + self._in_order("tts", late, make)

    def _say(self, effect: Emit, ready: AudioReady) -> list[SessionEffect]:
        if self._is_detached:
            return [effect]
        if not self._watches("audio.out") and self._is_free("audio.out"):
            self._audio["audio.out"] += FRAME_SECONDS
            return [effect]
        late, frames = self._line("audio.out", ready.pcm, AGENT_FRAME_BYTES, turn=self.turns)
        effects = self._ordered()
        for frame in frames:
            if frame.pcm is not None:
                shown = Emit(AudioReady(frame.pcm))
                effects += self._on_line("audio.out", late, frame, _giving_out(shown))
        return effects

    def _end(self, effect: Emit, ended: SessionEnded) -> list[SessionEffect]:
        late, severed = 0.0, None
        for verdict in self.decide("end", turn=self.turns):
            match verdict.rule.do:
                case Slow(seconds=seconds):
                    late += seconds
                case Silence():
                    effect = replace(effect, is_shown=False)
                case Drop(how=how):
                    severed = Sever(how.value)
                    late += verdict.rule.after
                case _:
                    pass
        if ended.reason in _NOBODY_WAITS:
            late = 0.0
        elif ended.reason not in _ABRUPT and "audio.out" in self._free_at:
            self._free_at["end"] = self._free_at["audio.out"]
        shown, orders = effect, self._ordered()
        self._is_ending = True

        def end(at: float) -> list[SessionEffect]:
            self._is_ending = False
            self._held.clear()
            return [shown] if severed is None else [severed, shown]

        self._end_it = end
        return orders + self._in_order("end", late, end)

    # --- Audio ----------------------------------------------------------------------------------------------------

    def _line(self, point: str, pcm: bytes, frame_bytes: int, *, turn: int) -> tuple[float, list[Passed]]:
        """Put a frame on the line: the delay of what comes out, and what that is."""
        late, frames = 0.0, [Passed(pcm)]
        for verdict in self.decide(point, turn=turn, audio=self._audio[point], once=True):
            match verdict.rule.do:
                case Slow(seconds=seconds):
                    late += seconds
                case Impair() as impair:
                    key = (verdict.rule.id, point, impair)
                    line = self._bad_lines.get(key)
                    if line is None:
                        line = self._bad_lines[key] = BadLine(impair, verdict.draw, frame_bytes)
                    frames = [further for frame in frames for further in _across(line, frame)]
                case Silence():
                    frames = [replace(frame, pcm=frame.pcm and bytes(len(frame.pcm))) for frame in frames]
                case _:
                    self._break(verdict)
        self._audio[point] += FRAME_SECONDS
        return late, frames

    def _on_line(self, way: str, late: float, frame: Passed, act: _Act) -> list[SessionEffect]:
        if not frame.overtaken:
            return self._in_order(way, late + frame.late, act)
        ahead = max(0.0, self._free_at.get(way, 0.0) - self._now)
        self._later(max(late + frame.late, ahead) + frame.overtaken, act)
        return []


def _giving_out(effect: SessionEffect) -> _Act:
    return lambda at: [effect]


def _across(line: BadLine, frame: Passed) -> list[Passed]:
    """A frame that comes from another bad line; where it was lost there, nothing is left to impair."""
    if frame.pcm is None:
        return [frame]
    return [
        Passed(further.pcm, frame.late + further.late, frame.overtaken + further.overtaken)
        for further in line.cross(frame.pcm)
    ]
