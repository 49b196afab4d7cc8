"""One conversation with an agent: what was heard, pressed or not said -> what the agent does.

    what happens            who may answer, in this order
    ---------------------   -----------------------------------------------------------------
    speech, chat message    `hear` of the state, `hear` of the replies, `else` of the state, `else` of the replies
    keys                    `dtmf` of the state, `dtmf` of the replies; the longest sequence wins
    silence                 `silence` of both, the shortest first; each once per silence
    any, strict script      the next step only; anything else is a wrong turn

Every rule acts only on something the caller does or leaves undone, so no script can run in a circle by itself.

Source: Assumed throughout, the real service answers by a language model. Rules are what makes a test repeatable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from voisnap_mock.agents.phrases import Heard
from voisnap_mock.agents.script import (
    HOME,
    Action,
    AgentScript,
    CallTool,
    Dtmf,
    EndReason,
    FailWith,
    Hear,
    Otherwise,
    Pause,
    PushEvent,
    Rule,
    Say,
    Silence,
    Transfer,
    Trigger,
    When,
)
from voisnap_mock.agents.templates import look_up, render, render_all

DIGITS = frozenset("0123456789*#")


@dataclass(frozen=True, slots=True)
class Turn:
    """What the agent does now.

    Attributes:
        actions: to be done in order; their texts are ready to be spoken. Together they are one reply.
        transfer: hand the caller over after the actions.
        end: end the session after the actions.
        matched: what answered, for people and the journal: `replies[2] line 31`, `greeting`, `nothing`.
        problem: why this turn was not the one that a strict script expects; `end` is then `error`.
    """

    actions: tuple[Action, ...] = ()
    transfer: Transfer | None = None
    end: EndReason | None = None
    matched: str = "nothing"
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a rule stands in its script; also its identity within a session."""

    name: str
    index: int


class Dialogue:
    """Keeps the place in an agent's script for one session.

    Args:
        script: the agent.
        variables: what templates and conditions see from the start: `metadata` (decoded JSON), `userName`,
            `language`. Captures of `hear` patterns join them.
    """

    inter_digit_timeout = 2.0
    """Seconds of call time after which a key sequence counts as complete.

    Source: Assumed; the page sends single keys and says nothing of sequences.
    """

    def __init__(self, script: AgentScript, *, variables: Mapping[str, object] | None = None) -> None:
        self._script = script
        self._given = variables or {}
        self._message_metadata: Mapping[str, Any] = {}
        self._captures: dict[str, str] = {}
        self._state: str | None = None
        self._next_step = 0
        self._times_used: dict[_Place, int] = {}
        self._spent_silences: set[_Place] = set()
        self._digits = ""

    @property
    def state(self) -> str | None:
        """The state of the script that the conversation is in; None outside all states."""
        return self._state

    @property
    def captures(self) -> Mapping[str, str]:
        """What `hear` patterns have captured so far."""
        return self._captures

    @property
    def pending_digits(self) -> str:
        """Keys that wait for more: `digits_timed_out` is due `inter_digit_timeout` after the last one."""
        return self._digits

    # --- What happens -----------------------------------------------------------------------------------------

    def greet(self) -> Turn:
        """The session begins: the greeting, then the first steps of a strict script that wait for nothing."""
        greeting = Turn(actions=self._rendered(self._script.greeting), matched="greeting")
        return self._follow(greeting) if self._script.script is not None else greeting

    def hear(self, text: str, *, message_metadata: Mapping[str, Any] | None = None) -> Turn:
        """The caller said or wrote `text`; a chat message may bring metadata of its own."""
        self.spoke()
        self._message_metadata = message_metadata or {}
        heard = Heard(text)
        if self._script.script is not None:
            step = self._step()
            captured = _first(_matched(trigger, heard) for trigger in step.triggers) if step else None
            return self._wrong_turn(f"heard '{text}'") if captured is None else self._take_step(captured)
        for place, rule, trigger in self._rules():
            captured = _matched(trigger, heard)
            if captured is not None:
                return self._take(place, rule, captured)
        return self.fall_back() or Turn()

    def fall_back(self) -> Turn | None:
        """The caller said something that nobody understood; None when the agent has no words for that."""
        for place, rule, trigger in self._rules():
            if isinstance(trigger, Otherwise):
                return self._take(place, rule)
        return None

    def press(self, digit: str) -> Turn | None:
        """The caller pressed one of `0-9 * #`.

        Returns:
            None when a longer sequence may follow (then there are `pending_digits`), or when no rule knows the keys.

        Raises:
            ValueError: for any other digit.
        """
        if digit not in DIGITS:
            raise ValueError(f"expected one of 0-9, * and #, got {digit!r}")
        self.spoke()
        self._digits += digit
        return self._dial(is_complete=False)

    def digits_timed_out(self) -> Turn | None:
        """No key came for `inter_digit_timeout`; None when none was waited for, or no rule knows the keys."""
        return self._dial(is_complete=True) if self._digits else None

    def spoke(self) -> None:
        """The caller made a sound: this silence is over, `silence` rules count anew."""
        self._spent_silences.clear()

    def next_silence(self) -> float | None:
        """Seconds of silence until `fall_silent` has an answer; None when it will have none in this silence."""
        return min((after for after, _, _ in self._silences()), default=None)

    def fall_silent(self, seconds: float) -> Turn | None:
        """The caller has been silent for `seconds`; None when no rule is due."""
        due = next(((place, rule) for after, place, rule in self._silences() if after <= seconds), None)
        if due is None:
            return None
        place, rule = due
        if self._script.script is not None:
            return self._take_step({})
        # A state's rule takes the place of a reply's rule for the same time.
        times = {trigger.after for trigger in rule.triggers if isinstance(trigger, Silence)}
        self._spent_silences |= {other for after, other, _ in self._silences() if after in times}
        return self._take(place, rule)

    # --- What a strict script still wants ----------------------------------------------------------------------

    def expected_text(self) -> str | None:
        """What the caller has to say next by a strict script, if the script says it in words."""
        steps = (self._script.script or ())[self._next_step :]
        hears = (trigger for step in steps for trigger in step.triggers if isinstance(trigger, Hear))
        return next((trigger.phrases[0] if trigger.phrases else None for trigger in hears), None)

    def unused_turns(self) -> tuple[str, ...]:
        """The steps of a strict script that were not reached."""
        steps = (self._script.script or ())[self._next_step :]
        return tuple(
            f"{_wanted(step)} (step {number}, line {step.line})"
            for number, step in enumerate(steps, start=self._next_step + 1)
        )

    # --- Rules ------------------------------------------------------------------------------------------------

    def _rules(self) -> Iterator[tuple[_Place, Rule, Trigger]]:
        """What may answer here and now, a row per trigger, the state's rules first."""
        lists = [("replies", self._script.replies)]
        if self._state is not None:
            lists.insert(0, (f"states.{self._state}", self._script.states[self._state]))
        for name, rules in lists:
            for index, rule in enumerate(rules):
                if rule.when is None or self._holds(rule.when):
                    for trigger in rule.triggers:
                        yield _Place(name, index), rule, trigger

    def _holds(self, when: When) -> bool:
        language = str(self._given.get("language") or "").casefold().replace("_", "-")
        wanted = [tag.casefold().replace("_", "-") for tag in when.language]
        if wanted and not any(language == tag or language.startswith(f"{tag}-") for tag in wanted):
            return False
        for path, values in when.metadata.items():
            steps = path.split(".")
            found = look_up(self._message_metadata, steps)
            if found is None:
                found = look_up(self._given.get("metadata"), steps)
            if not any(_equal(found, value) for value in values):
                return False
        return True

    def _take(self, place: _Place, rule: Rule, captured: Mapping[str, str] | None = None) -> Turn:
        self._captures.update(captured or {})
        times = self._times_used.get(place, 0)
        self._times_used[place] = times + 1
        if rule.goto is not None:
            self._state = None if rule.goto == HOME else rule.goto
        return Turn(
            actions=self._rendered(rule.alternatives[times % len(rule.alternatives)]),
            transfer=self._handed_over(rule.transfer),
            end=rule.end,
            matched=f"{place.name}[{place.index}]" + (f" line {rule.line}" if rule.line else ""),
        )

    # --- Keys and silence ---------------------------------------------------------------------------------------

    def _dial(self, *, is_complete: bool) -> Turn | None:
        if self._script.script is not None:
            return self._dial_step(is_complete=is_complete)
        sequences: dict[str, tuple[_Place, Rule]] = {}
        for place, rule, trigger in self._rules():
            if isinstance(trigger, Dtmf):
                sequences.setdefault(trigger.digits, (place, rule))
        dialled = self._digits
        if not is_complete and any(known != dialled and known.startswith(dialled) for known in sequences):
            return None
        for length in range(len(dialled), 0, -1):
            if dialled[:length] in sequences:
                # Keys after the sequence begin the next one.
                self._digits = dialled[length:]
                return self._take(*sequences[dialled[:length]])
        self._digits = ""
        return None

    def _dial_step(self, *, is_complete: bool) -> Turn | None:
        step = self._step()
        wanted = [trigger.digits for trigger in step.triggers if isinstance(trigger, Dtmf)] if step else []
        dialled = self._digits
        if not is_complete and any(known != dialled and known.startswith(dialled) for known in wanted):
            return None
        self._digits = ""
        return self._take_step({}) if dialled in wanted else self._wrong_turn(f"got the keys '{dialled}'")

    def _silences(self) -> list[tuple[float, _Place, Rule]]:
        """Rules that this silence has not used yet, the shortest first."""
        if self._script.script is not None:
            step = self._step()
            rules = [(_Place("script", self._next_step), step, trigger) for trigger in step.triggers] if step else []
        else:
            rules = list(self._rules())
        silences = [
            (trigger.after, place, rule)
            for place, rule, trigger in rules
            if isinstance(trigger, Silence) and place not in self._spent_silences
        ]
        return sorted(silences, key=lambda silence: silence[0])

    # --- Strict scripts -----------------------------------------------------------------------------------------

    def _step(self) -> Rule | None:
        steps = self._script.script or ()
        return steps[self._next_step] if self._next_step < len(steps) else None

    def _take_step(self, captured: Mapping[str, str]) -> Turn:
        step = self._step()
        assert step is not None, "only a step that there is can match"
        place = _Place("script", self._next_step)
        self._next_step += 1
        return self._follow(self._take(place, step, captured))

    def _follow(self, turn: Turn) -> Turn:
        """Add the steps that come at once after this turn."""
        while turn.end is None and turn.transfer is None:
            step = self._step()
            if step is None or step.triggers:
                break
            more = self._take(_Place("script", self._next_step), step)
            self._next_step += 1
            turn = replace(turn, actions=(*turn.actions, *more.actions), transfer=more.transfer, end=more.end)
        return turn

    def _wrong_turn(self, what_came: str) -> Turn:
        step = self._step()
        expected = f"expected the caller {_wanted(step)}" if step else "the script is over"
        place = f" (step {self._next_step + 1}, line {step.line})" if step else ""
        return Turn(end=EndReason.ERROR, matched="nothing", problem=f"{expected}, {what_came}{place}")

    # --- Templates ----------------------------------------------------------------------------------------------

    def _rendered(self, actions: tuple[Action, ...]) -> tuple[Action, ...]:
        rendered: list[Action] = []
        for action in actions:
            match action:
                case Say():
                    said = replace(action, text=render(action.text, self._value))
                    # A template without a value may leave nothing to say.
                    if said.text.strip() or said.wav is not None:
                        rendered.append(said)
                case PushEvent():
                    rendered.append(replace(action, payload=render_all(action.payload, self._value)))
                case CallTool():
                    rendered.append(replace(action, result=render_all(action.result, self._value)))
                case Pause() | FailWith():
                    rendered.append(action)
        return tuple(rendered)

    def _handed_over(self, transfer: Transfer | None) -> Transfer | None:
        if transfer is None:
            return None
        to, summary = render(transfer.to, self._value), render(transfer.summary, self._value)
        return replace(transfer, to=to, summary=summary)

    def _value(self, name: str) -> object:
        first, *path = name.split(".")
        if first == "message":
            return look_up(self._message_metadata, path[1:])
        if first in self._captures:
            return self._captures[first]
        return look_up(self._given.get(first), path)


def _matched(trigger: Trigger, heard: Heard) -> dict[str, str] | None:
    """What the trigger captured; None when it does not fit."""
    if not isinstance(trigger, Hear):
        return None
    if any(heard.says(phrase) for phrase in trigger.phrases):
        return {}
    for pattern in trigger.patterns:
        found = heard.search(pattern)
        if found is not None:
            return {name: value.strip() for name, value in found.groupdict().items() if value is not None}
    return None


def _first(found: Iterator[dict[str, str] | None]) -> dict[str, str] | None:
    return next((captured for captured in found if captured is not None), None)


def _equal(one: object, other: object) -> bool:
    """As JSON values are: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _wanted(step: Rule) -> str:
    """What a step waits for, as it fits after "expected the caller"."""
    wanted = []
    for trigger in step.triggers:
        match trigger:
            case Hear():
                wanted.append(f"to say one of {[*trigger.phrases, *(f'/{p.pattern}/' for p in trigger.patterns)]}")
            case Dtmf():
                wanted.append(f"to press '{trigger.digits}'")
            case Silence():
                wanted.append(f"to be silent for {trigger.after:g} s")
            case Otherwise():
                wanted.append("to say anything")
    return " or ".join(wanted) or "to let the agent go on"
