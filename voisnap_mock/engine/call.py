"""A voice session as a state machine: who has the floor, what is heard, what is said, and when it is over.

The state follows from what is going on, so it cannot contradict it:

    NEW         not begun
    SPEAKING    a reply is under way: being made, waiting for its first-audio delay, or playing
    LISTENING   no reply, and the caller speaks or is waited for
    THINKING    no reply, no speech, and the ear still owes an answer
    ENDED       over for good; every further input is ignored

| state     | on                               | next      | what happens                                              |
| --------- | -------------------------------- | --------- | --------------------------------------------------------- |
| NEW       | Started                          | SPEAKING  | SessionStarted, the greeting; without one LISTENING       |
| NEW       | Started (waits for its line)     | LISTENING | SessionStarted; the caller's silence does not count       |
| LISTENING | LineOpened, if it was waited for | SPEAKING  | the greeting                                              |
| LISTENING | speech begins                    | LISTENING | Recognize with pre-roll; the silence is over              |
| LISTENING | utterance ends                   | THINKING  | Recognize the rest, FinishRecognition                     |
| LISTENING | PartlyHeard                      | LISTENING | CallerTranscript (partial), if the text has grown         |
| LISTENING | silence rule is due              | SPEAKING  | its reply                                                 |
| LISTENING | max_idle is due                  | ENDED     | SessionEnded: idle_timeout                                |
| THINKING  | Transcribed                      | SPEAKING  | CallerTranscript (final), the answer; LISTENING if silent |
| THINKING  | speech begins                    | LISTENING | as above; the utterance before stays pending              |
| LISTENING | Transcribed                      | LISTENING | CallerTranscript (final); held for the next utterance     |
| any live  | RecognitionFailed                | SPEAKING  | SessionFailed, the fallback; not recoverable: ENDED       |
| SPEAKING  | SynthesisFailed                  | SPEAKING  | SessionFailed, the fallback once; not recoverable: ENDED  |
| SPEAKING  | Synthesized                      | SPEAKING  | queued; frames follow as AudioReady                       |
| SPEAKING  | `barge_in` of speech             | LISTENING | AbandonSynthesis, AgentTranscript (interrupted)           |
| SPEAKING  | Transcribed                      | SPEAKING  | CallerTranscript (final); waits as the next turn          |
| SPEAKING  | reply played to its end          | LISTENING | AgentTranscript (final), transfer or end, the next turn   |
| any live  | key that completes a sequence    | SPEAKING  | the reply breaks off (or ends first), the key's answer    |
| any live  | another key                      | the same  | may wait for the next one until the inter-digit time-out  |
| any live  | max_duration, HangupRequested    | ENDED     | the reply breaks off, SessionEnded                        |
| any live  | Detached                         | the same  | the caller's silence does not count                       |
| any live  | Resumed                          | the same  | SessionResumed; the silence counts anew                   |
| ENDED     | anything                         | ENDED     | nothing                                                   |

What the table cannot hold:

* *Generations.* Replies and utterances are numbered. Speech for another reply than the one under way, and views of an
  utterance that is settled, are dropped, so nothing stale reaches the next turn.
* *Time.* `receive` and `advance` first carry out, one by one and each at its own time, the deadlines that have passed;
  so how often a driver calls changes nothing, but for a playout that comes more than `catch_up` too late.
* *First audio.* The delay counts from the moment the caller's turn was over; making the speech runs meanwhile. A
  greeting and the answer to a silence wait for nobody.
* *An ending reply* (with transfer or end) that is broken off still transfers or ends.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from voisnap_mock.agents.script import AgentScript, EndReason
from voisnap_mock.engine.events import (
    AudioArrived,
    Deadline,
    Detached,
    DigitPressed,
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
    SessionFailed,
    SessionResumed,
    SessionStarted,
    Started,
    SynthesisFailed,
    Synthesized,
    Transcribed,
    TransferStarted,
    VoiceInput,
)
from voisnap_mock.engine.patience import DIGITS, Limit, Patience
from voisnap_mock.engine.ports import Dialogue, Endpointer
from voisnap_mock.engine.reply import Reply
from voisnap_mock.engine.utterances import Utterance, Utterances

if TYPE_CHECKING:
    from voisnap_mock.agents.dialogue import Turn

_MOST_WAITING = 16


class CallState(StrEnum):
    NEW = "new"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    ENDED = "ended"


class _Due(StrEnum):
    REPLY = "reply"
    DIGITS = "digits"
    LAPSE = "lapse"
    LIMIT = "limit"


class Call:
    """One voice session. Sans-IO: inputs and the time go in, effects come out; the table above says which.

    Times are call time: seconds since `Started`, never going back. After every `receive` and `advance` ask
    `next_deadline` and `advance` no later than that.

    Attributes:
        turns: final transcripts so far, and utterances whose recognition failed.
        dialogue: whoever is asked what the agent does.

    Args:
        catch_up: how late agent audio may be before it leaves a gap, in call time; infinite for a driver that never
            is late.
    """

    def __init__(
        self, script: AgentScript, *, dialogue: Dialogue, endpointer: Endpointer, catch_up: float = 0.06
    ) -> None:
        timing = script.timing
        self._script = script
        self.dialogue = dialogue
        self._catch_up = catch_up
        self.turns = 0
        self._now = 0.0
        self._state: CallState | None = CallState.NEW
        self._utterances = Utterances(
            endpointer,
            partial_every=timing.partial_every,
            end_of_turn=timing.end_of_turn,
            expected=dialogue.expected_text,
        )
        self._patience = Patience(
            max_idle=timing.call_max_idle,
            max_duration=timing.call_max_duration,
        )
        self._reply: Reply | None = None
        self._turn: Turn | None = None
        self._replies = 0
        self._is_fallback = False
        self._waits_for_line = False
        self._is_no_input = False
        self._held = ""
        self._held_since = 0.0
        self._waiting: deque[tuple[str | Turn, float]] = deque()
        self._digits_at: float | None = None
        # The next thing that is due. Listening to the caller may only put it off, so while it is kept, an early one
        # costs one needless look.
        self._due: tuple[float, _Due] | None = None
        self._deadline: Deadline | None = None
        self._due_is_known = False

    @property
    def state(self) -> CallState:
        """Where the turn stands."""
        if self._state is not None:
            return self._state
        if self._reply is not None:
            return CallState.SPEAKING
        if self._utterances.open is None and self._utterances.pending:
            return CallState.THINKING
        return CallState.LISTENING

    @property
    def is_over(self) -> bool:
        """Nothing can happen any more."""
        return self._state is CallState.ENDED

    def receive(self, given: VoiceInput, now: float) -> list[SessionEffect]:
        """Carry out what is due, then take an input in; the effects are in the order in which to carry them out."""
        effects = self.advance(now)
        if self._state is CallState.ENDED:
            return effects
        if isinstance(given, AudioArrived) and self._state is None:
            self._hear(given.pcm, effects)
            return effects
        self._due_is_known = False
        if self._state is CallState.NEW:
            return self._receive_before_start(given)
        match given:
            case Synthesized():
                if self._reply is not None and self._reply.number == given.reply:
                    effects += self._reply.synthesized(given.item, given.speech, self._now, is_last=given.is_last)
                    effects += self.advance(self._now)
            case PartlyHeard():
                partial = self._utterances.show(given.utterance, given.transcript, self._now)
                if partial is not None:
                    effects.append(Emit(partial))
            case Transcribed():
                effects += self._transcribed(given)
            case RecognitionFailed():
                effects += self._recognition_failed(given)
            case SynthesisFailed():
                effects += self._synthesis_failed(given)
            case DigitPressed():
                effects += self._press(given.digit)
            case LineOpened():
                effects += self._open_line()
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
                effects += self._failed(given.code, given.message, recoverable=given.recoverable)
            case Started() | AudioArrived():
                pass
            case _:
                assert_never(given)
        return effects

    def advance(self, now: float) -> list[SessionEffect]:
        """Carry out all deadlines up to `now`, in order."""
        effects: list[SessionEffect] = []
        while self._state is None:
            due = self._next_due()
            if due is None or due[0] > now:
                break
            self._due_is_known = False
            if self._reply is not None and self._reply.put_off(now):
                continue
            if due[1] is _Due.LAPSE and due[0] != self._utterances.lapses_at:
                # With every frame of an utterance it lapses later; that is looked up only when the time comes.
                continue
            self._now = max(self._now, due[0])
            match due[1]:
                case _Due.REPLY:
                    assert self._reply is not None
                    effects += self._reply.advance(self._now)
                    effects += self._after_reply()
                case _Due.DIGITS:
                    effects += self._take_turn(self._await_digits(self.dialogue.digits_timed_out()), self._now)
                case _Due.LAPSE:
                    effects += self._utterances.lapse(self._now)
                    self._note_speech_end()
                case _Due.LIMIT:
                    effects += self._reach_limit()
                case _:
                    assert_never(due[1])
        self._now = max(self._now, now)
        return effects

    def next_deadline(self) -> Deadline | None:
        """When to `advance`; None when only an input can change anything."""
        if self._state is not None:
            return None
        if not self._due_is_known:
            self._next_due()
        return self._deadline

    def _next_due(self) -> tuple[float, _Due] | None:
        if not self._due_is_known:
            due = self._due = self._find_due()
            self._deadline = None if due is None else Deadline(due[0], waits_for_caller=due[1] is not _Due.REPLY)
            self._due_is_known = True
        return self._due

    def _find_due(self) -> tuple[float, _Due] | None:
        found: tuple[float, _Due] | None = None
        if self._reply is not None:
            at = self._reply.next_deadline()
            if at is not None:
                found = (at, _Due.REPLY)
        if self._digits_at is not None and (found is None or self._digits_at < found[0]):
            found = (self._digits_at, _Due.DIGITS)
        lapse = self._utterances.lapses_at
        if lapse is not None and (found is None or lapse < found[0]):
            found = (lapse, _Due.LAPSE)
        limit = self._patience.ends_at if self._reply is not None else self._limit_at()
        if limit is not None and (found is None or limit < found[0]):
            found = (limit, _Due.LIMIT)
        return found

    def _limit_at(self) -> float | None:
        limit = self._next_limit()
        return None if limit is None else limit[0]

    def _next_limit(self) -> tuple[float, Limit] | None:
        is_quiet = (
            self._reply is None
            and self._utterances.open is None
            and not self._utterances.pending
            and self._digits_at is None
        )
        next_silence = self.dialogue.next_silence() if is_quiet else None
        return self._patience.next_limit(is_quiet=is_quiet, next_silence=next_silence)

    # --- Begin, limits, end ---------------------------------------------------------------------------------------

    def _receive_before_start(self, given: VoiceInput) -> list[SessionEffect]:
        match given:
            case Started():
                self._state = None
                self._patience.start(self._now)
                started = Emit(SessionStarted(self._script.name))
                if given.waits_for_line:
                    self._waits_for_line = self._patience.is_suspended = True
                    return [started]
                return [started, *self._speak(self.dialogue.greet(), self._now)]
            case Failed():
                self._state = CallState.ENDED
                return [Emit(SessionFailed(given.code, given.message, given.recoverable))]
            case HangupRequested():
                self._state = CallState.ENDED
                return []
            case _:
                return []

    def _open_line(self) -> list[SessionEffect]:
        if not self._waits_for_line:
            return []
        self._waits_for_line = self._patience.is_suspended = False
        self._patience.heard_until(self._now)
        return self._speak(self.dialogue.greet(), self._now)

    def _reach_limit(self) -> list[SessionEffect]:
        limit = self._next_limit()
        assert limit is not None
        match limit[1]:
            case Limit.SILENCE_RULE:
                seconds = self.dialogue.next_silence()
                assert seconds is not None
                turn = self.dialogue.fall_silent(seconds)
                return [] if turn is None else self._speak(turn, self._now, is_no_input=True)
            case Limit.IDLE:
                return self._end(EndReason.IDLE_TIMEOUT)
            case Limit.DURATION:
                return self._end(EndReason.MAX_DURATION)
            case _:
                assert_never(limit[1])

    def _end(self, reason: EndReason) -> list[SessionEffect]:
        effects = self._reply.stop(self._now) if self._reply is not None else []
        self._reply = self._turn = None
        self._waiting.clear()
        self._state = CallState.ENDED
        unused = self.dialogue.unused_turns()
        if unused:
            effects.append(Note("script.unused_turns", {"turns": list(unused)}))
        duration = round(self._now - self._patience.started_at, DIGITS)
        return [*effects, Emit(SessionEnded(reason, duration))]

    def _failed(self, code: str, message: str, *, recoverable: bool) -> list[SessionEffect]:
        effects: list[SessionEffect] = [Emit(SessionFailed(code, message, recoverable))]
        return effects if recoverable else effects + self._end(EndReason.ERROR)

    # --- Hearing --------------------------------------------------------------------------------------------------

    def _hear(self, frame: bytes, effects: list[SessionEffect]) -> None:
        was_open = self._utterances.open
        orders = self._utterances.hear(frame, self._now)
        is_open = self._utterances.open
        if orders:
            effects += orders
            self._due_is_known = False
        if is_open is not was_open:
            if was_open is not None:
                self._note_speech_end()
            if is_open is not None:
                self.dialogue.spoke()
        if is_open is not None and self._reply is not None and self._script.barge_in is not None:
            # Speech from before the reply does not interrupt it.
            heard = min(self._utterances.speech_seconds, self._now - self._reply.began_at)
            if heard + 1e-9 >= self._script.barge_in:
                self._due_is_known = False
                effects += self._break_off()

    def _note_speech_end(self) -> None:
        for utterance in self._utterances.pending.values():
            self._patience.heard_until(utterance.ended)

    def _transcribed(self, given: Transcribed) -> list[SessionEffect]:
        utterance = self._utterances.settle(given.utterance)
        if utterance is None:
            return []
        final = None if given.is_lost else self._utterances.final(utterance, given.transcript)
        if final is None:
            details = {"begin": utterance.began, "end": utterance.ended, "ear": given.transcript.ear}
            return [Note("caller.not_understood", details), *self._take_text("", utterance)]
        self.turns += 1
        return [Emit(final), *self._take_text(final.text, utterance)]

    def _take_text(self, text: str, utterance: Utterance) -> list[SessionEffect]:
        """Answer `text`, or keep it until it can be answered."""
        if self._reply is not None:
            if text:
                return self._let_wait(text, utterance.decided_at)
            return []
        self._hold(text, utterance.decided_at)
        return self._answer_held()

    def _hold(self, text: str, decided_at: float) -> None:
        self._held = f"{self._held} {text}".strip()
        self._held_since = max(self._held_since, decided_at)

    def _answer_held(self) -> list[SessionEffect]:
        """Answer what was held, unless the caller goes on or the ear still owes something."""
        if not self._held or self._utterances.open is not None or self._utterances.pending:
            return []
        text, self._held = self._held, ""
        return self._answer_text(text, self._held_since)

    def _answer_text(self, text: str, decided_at: float) -> list[SessionEffect]:
        return self._speak(self.dialogue.hear(text), decided_at + self._script.timing.first_audio, heard=text)

    def _recognition_failed(self, given: RecognitionFailed) -> list[SessionEffect]:
        utterance = self._utterances.give_up(given.utterance)
        if utterance is None:
            return []
        self.turns += 1
        effects = self._failed(given.code, given.message, recoverable=given.recoverable)
        if self._state is CallState.ENDED:
            return effects
        if self._held:
            return effects + self._take_text("", utterance)
        return effects + self._take_turn(self.dialogue.fall_back(), utterance.decided_at or self._now)

    def _press(self, digit: str) -> list[SessionEffect]:
        self.dialogue.spoke()
        self._patience.heard_until(self._now)
        effects: list[SessionEffect] = [Note("caller.digit", {"digit": digit})]
        turn = self._await_digits(self.dialogue.press(digit))
        if turn is not None and self._reply is not None and self._script.barge_in is not None:
            effects += self._break_off()
            if self._state is CallState.ENDED:
                return effects
        return effects + self._take_turn(turn, self._now)

    def _await_digits(self, turn: Turn | None) -> Turn | None:
        """Wait for the next key, if the dialogue wants more."""
        wants_more = bool(self.dialogue.pending_digits)
        self._digits_at = round(self._now + self.dialogue.inter_digit_timeout, DIGITS) if wants_more else None
        return turn

    # --- Speaking -------------------------------------------------------------------------------------------------

    def _take_turn(self, turn: Turn | None, decided_at: float) -> list[SessionEffect]:
        """Speak an answer now, or after the reply that is under way."""
        if turn is None:
            return []
        if self._reply is not None:
            return self._let_wait(turn, decided_at)
        return self._speak(turn, decided_at + self._script.timing.first_audio)

    def _let_wait(self, what: str | Turn, decided_at: float) -> list[SessionEffect]:
        effects: list[SessionEffect] = []
        if len(self._waiting) == _MOST_WAITING:
            self._waiting.popleft()
            effects.append(Note("turn.dropped", {"waiting": _MOST_WAITING}))
        self._waiting.append((what, decided_at))
        return effects

    def _speak(
        self,
        turn: Turn,
        audio_from: float,
        *,
        heard: str | None = None,
        is_no_input: bool = False,
        is_fallback: bool = False,
    ) -> list[SessionEffect]:
        """Begin the reply of a turn."""
        details = {"matched": turn.matched} if heard is None else {"matched": turn.matched, "heard": heard}
        effects: list[SessionEffect] = [Note("turn.answered", details)]
        if turn.problem is not None:
            effects.append(Note("script.wrong_turn", {"reason": turn.problem}))
            return effects + self._end(EndReason.ERROR)
        self._turn = turn
        if not turn.actions:
            return effects + (self._finish_turn() or self._answer_waiting())
        self._replies += 1
        self._is_no_input = is_no_input
        self._is_fallback = is_fallback
        self._reply = Reply(
            self._replies,
            turn.actions,
            voice=self._script.voice,
            now=self._now,
            audio_from=round(audio_from, DIGITS),
            catch_up=self._catch_up,
        )
        effects += self._reply.start()
        return effects + self._after_reply()

    def _after_reply(self) -> list[SessionEffect]:
        """If the reply is over, go on with what follows it."""
        if self._reply is None or not self._reply.is_over:
            return []
        self._reply = None
        self._patience.heard_until(self._now, is_no_input=self._is_no_input)
        return self._finish_turn() or self._answer_waiting()

    def _finish_turn(self) -> list[SessionEffect]:
        """Carry out the transfer or the end that the turn holds."""
        turn, self._turn = self._turn, None
        if turn is None:
            return []
        if turn.transfer is not None:
            to = turn.transfer
            return [
                Emit(TransferStarted(to.to, to.type, to.summary)),
                *self._end(turn.end or EndReason.TRANSFER_COMPLETE),
            ]
        return [] if turn.end is None else self._end(turn.end)

    def _answer_waiting(self) -> list[SessionEffect]:
        if not self._waiting:
            return self._answer_held()
        what, decided_at = self._waiting.popleft()
        if not isinstance(what, str):
            return self._take_turn(what, decided_at)
        self._hold(what, decided_at)
        text, self._held = self._held, ""
        return self._answer_text(text, decided_at)

    def _break_off(self) -> list[SessionEffect]:
        """The caller interrupts: stop the reply, give the caller the floor."""
        assert self._reply is not None
        effects = self._reply.stop(self._now)
        self._reply = None
        effects += self._finish_turn()
        while self._waiting:
            what, decided_at = self._waiting.popleft()
            if isinstance(what, str):
                self._hold(what, decided_at)
        return effects

    def _synthesis_failed(self, given: SynthesisFailed) -> list[SessionEffect]:
        if self._reply is None or self._reply.number != given.reply:
            return []
        effects = self._reply.stop(self._now)
        self._reply = None
        effects += self._failed(given.code, given.message, recoverable=given.recoverable)
        if self._state is CallState.ENDED:
            return effects
        self._patience.heard_until(self._now)
        following = self._finish_turn()
        if following:
            return effects + following
        fallback = None if self._is_fallback else self.dialogue.fall_back()
        if fallback is None:
            return effects + self._answer_waiting()
        return effects + self._speak(fallback, self._now, is_fallback=True)
