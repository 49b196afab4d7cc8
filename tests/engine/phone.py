"""A caller's end of a pure `Call`: plays speech and silence to it and plays its ear and voice, all in call time.

The functions at the end bring a call into a state, with the test itself as its ear and voice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from fakes import LOUD_FRAME, SILENT_FRAME, LoudnessEndpointer, spoken

from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.script import AgentScript, Hear, Otherwise, Rule, Say, Timing
from voisnap_mock.engine.call import Call, CallState
from voisnap_mock.engine.events import (
    AudioArrived,
    AudioReady,
    Emit,
    FinishRecognition,
    Note,
    PartlyHeard,
    RecognitionFailed,
    Recognize,
    SessionEffect,
    SessionEvent,
    Started,
    Synthesize,
    Synthesized,
    Transcribed,
    Transcript,
    VoiceInput,
)
from voisnap_mock.engine.ports import Machine

Event = TypeVar("Event")

SUPPORT = AgentScript(
    "agt_support",
    "Support",
    greeting=(Say("Hi there."),),
    replies=(
        Rule((Hear(phrases=("refund",)),), ((Say("Sure. What is the number?"),),)),
        Rule((Otherwise(),), ((Say("Sorry?"),), (Say("Pardon?"),))),
    ),
)
SILENT = AgentScript("agt_silent", "Silent")


def script_of(base: AgentScript = SUPPORT, *, timing: dict[str, Any] | None = None, **changes: Any) -> AgentScript:
    """A script like `base`, with these fields changed."""
    return replace(base, timing=replace(Timing(), **(timing or {})), **changes)


class Phone:
    """Feeds a call frame by frame and walks its deadlines, so that each thing happens at its own time.

    Attributes:
        t: call time.
        machine: the call, or what `decorate` put round it.
        understood: what the ear answers, utterance by utterance; with `has_ear` off the test answers itself.
        log: everything that came out, as (call time, effect).
    """

    def __init__(
        self,
        script: AgentScript = SUPPORT,
        *,
        understood: list[str | RecognitionFailed] | None = None,
        has_ear: bool = True,
        has_voice: bool = True,
        decorate: Callable[[Call], Machine] = lambda call: call,
    ) -> None:
        self.call = Call(
            script,
            dialogue=Dialogue(script),
            endpointer=LoudnessEndpointer(end_of_turn=script.timing.end_of_turn),
            catch_up=math.inf,
        )
        self.machine = decorate(self.call)
        self.t = 0.0
        self.understood = understood or []
        self.has_ear = has_ear
        self.has_voice = has_voice
        self.log: list[tuple[float, SessionEffect]] = []
        self._partials = 0

    # --- What the caller does -------------------------------------------------------------------------------------

    def start(self) -> list[SessionEffect]:
        return self.give(Started())

    def speak(self, seconds: float) -> None:
        self._play(LOUD_FRAME, seconds)

    def hush(self, seconds: float) -> None:
        """Silence on the line."""
        self._play(SILENT_FRAME, seconds)

    def say(self, seconds: float = 1.0, end_of_turn: float = 0.7) -> None:
        """An utterance and the silence that ends it."""
        self.speak(seconds)
        self.hush(end_of_turn)

    def give(self, given: VoiceInput) -> list[SessionEffect]:
        """Hand in an input now; what comes of it, answers of ear and voice left out."""
        effects = self.machine.receive(given, self.t)
        self._take(effects)
        return effects

    def wait(self, seconds: float) -> None:
        """Let call time pass without caller audio."""
        self._walk(round(self.t + seconds, 9))

    # --- What came of it ------------------------------------------------------------------------------------------

    @property
    def events(self) -> list[SessionEvent]:
        """What the client was shown, audio left out."""
        return [
            effect.event
            for _, effect in self.log
            if isinstance(effect, Emit) and not isinstance(effect.event, AudioReady)
        ]

    def all(self, kind: type[Event]) -> list[Event]:
        """Every event or effect of this type, in order."""
        found = []
        for _, effect in self.log:
            if isinstance(effect, kind):
                found.append(effect)
            elif isinstance(effect, Emit) and isinstance(effect.event, kind):
                found.append(effect.event)
        return found

    def times(self, kind: type[Any]) -> list[float]:
        """When each of them came."""
        return [
            t
            for t, effect in self.log
            if isinstance(effect, kind) or (isinstance(effect, Emit) and isinstance(effect.event, kind))
        ]

    def notes(self, kind: str) -> list[dict[str, Any]]:
        return [effect.details for _, effect in self.log if isinstance(effect, Note) and effect.kind == kind]

    # --- How it goes on -------------------------------------------------------------------------------------------

    def _play(self, frame: bytes, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self._walk(round(self.t + 0.02, 9))
            self.give(AudioArrived(frame))

    def _walk(self, target: float) -> None:
        while (deadline := self.machine.next_deadline()) is not None and deadline.at <= target:
            self.t = max(self.t, deadline.at)
            self._take(self.machine.advance(self.t))
        self.t = target

    def _take(self, effects: list[SessionEffect]) -> None:
        self.log += [(self.t, effect) for effect in effects]
        for effect in effects:
            answer = self._answer(effect)
            if answer is not None:
                self.give(answer)

    def _answer(self, effect: SessionEffect) -> VoiceInput | None:
        match effect:
            case Synthesize() if self.has_voice:
                return Synthesized(effect.reply, effect.item, spoken(effect.text))
            case Recognize(wants_partial=True) if self.has_ear and self.understood:
                expected = self.understood[0]
                if isinstance(expected, str):
                    self._partials += 1
                    text = " ".join(expected.split()[: self._partials])
                    return PartlyHeard(effect.utterance, Transcript(text, 0.5, "fake"))
            case FinishRecognition() if self.has_ear:
                self._partials = 0
                text = self.understood.pop(0) if self.understood else ""
                if isinstance(text, RecognitionFailed):
                    return replace(text, utterance=effect.utterance)
                return Transcribed(effect.utterance, Transcript(text, 0.9, "fake"))
            case _:
                pass
        return None


def heard(text: str, utterance: int = 1) -> Transcribed:
    """What the ear says of an utterance."""
    return Transcribed(utterance, Transcript(text, 0.9, "fake"))


def by_hand(script: AgentScript = SUPPORT) -> Phone:
    """A phone on which the test itself is ear and voice."""
    return Phone(script, has_ear=False, has_voice=False)


def listening(script: AgentScript = SILENT) -> Phone:
    phone = by_hand(script)
    phone.start()
    assert phone.call.state is CallState.LISTENING
    return phone


def thinking(script: AgentScript = SILENT, *, seconds: float = 0.2) -> Phone:
    """After an utterance of so many seconds that began with the call."""
    phone = listening(script)
    phone.say(seconds)
    assert phone.call.state is CallState.THINKING
    return phone


def speaking(script: AgentScript = SUPPORT, *, played: float = 0.0) -> Phone:
    """In the greeting, all of which has been made: a word lasts 0.2 s."""
    phone = by_hand(script)
    phone.start()
    greeting = " ".join(action.text for action in script.greeting if isinstance(action, Say))
    phone.give(Synthesized(1, 0, spoken(greeting)))
    phone.wait(played)
    assert phone.call.state is CallState.SPEAKING
    return phone
