"""The part of the table that says what an agent does, and when: texts, actions, triggers, rules, steps."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from voisnap_mock.agents import script
from voisnap_mock.agents.combining import Either, Key, ListOf, MappingOf, Reading, Record, Tagged, Whole, one_or_more
from voisnap_mock.agents.nodes import ListNode, MapNode, Node, ScalarNode, cut, quoted, refuse
from voisnap_mock.agents.phrases import words_of
from voisnap_mock.agents.script import HOME, Action, EndReason, Rule
from voisnap_mock.agents.shape import AnyJson, AnyScalar, Choice, Duration, Integer, Note, Only, Shape, Text
from voisnap_mock.agents.templates import TemplateError, names_in
from voisnap_mock.errors import Problem

# --- Texts with templates -------------------------------------------------------------------------------------


def _note_templates(node: ScalarNode, notes: list[Note]) -> None:
    try:
        notes.extend(Note("template", name, node) for name in names_in(node.text))
    except TemplateError as error:
        raise refuse(node, str(error)) from error


def _template(text: str, node: Node, notes: list[Note]) -> str:
    if isinstance(node, ScalarNode):
        _note_templates(node, notes)
    return text


TEMPLATE = Reading(Text(), _template)

# --- What an agent does ---------------------------------------------------------------------------------------


def _spoken(text: str, node: Node, notes: list[Note]) -> Action:
    return script.Say(text)


# No `..`, no backslash, no drive letter, no absolute path: a prompt stays inside recordings/ on every system.
_WAV = r"^(?!.*(^|/)\.{1,2}(/|$))[^/\\:*?\"<>|\x00-\x1f\x7f][^\\:*?\"<>|\x00-\x1f\x7f]*\.[wW][aA][vV]$"

PROMPT: Record[Action] = Record(
    "prompt",
    (
        Key(
            "wav",
            Text(_WAV, 'the path of a .wav file below recordings/, such as "prompts/hello.wav"'),
            "recording to play, below recordings/; any rate, one or more channels",
        ),
        Key("text", TEMPLATE, "what transcripts and chat show for it", is_required=True),
    ),
    script.Say,
    place=("line", "column"),
)

PAUSE = Reading(Duration("0ms", "1h"), lambda seconds, node, notes: script.Pause(seconds))

EVENT: Record[Action] = Record(
    "event",
    (
        Key("name", Text(), "the client method to call", is_required=True),
        Key("payload", AnyJson(_note_templates), "its one argument; texts in it may hold templates"),
    ),
    script.PushEvent,
)

TOOL: Record[Action] = Record(
    "tool",
    (
        Key("name", Text(), "the tool's name, for the journal", is_required=True),
        Key("result", AnyJson(_note_templates), "what it answers, for the journal; texts may hold templates"),
        Key("took", Duration("0ms", "10m"), "how long it works (0s)"),
    ),
    script.CallTool,
)


def _unwrapped(name: str, shape: Shape[Action], text: str) -> Record[Action]:
    """A list item with one key, `pause: 2s`: the action itself."""
    return Record(f"{name} item", (Key(name, shape, text, is_required=True, into="action"),), lambda action: action)


SAY_ITEM: Shape[Action] = Either(
    (
        Reading(TEMPLATE, _spoken),
        Tagged(
            {
                "wav": PROMPT,
                "text": PROMPT,
                "pause": _unwrapped("pause", PAUSE, "say nothing for so long"),
                "event": _unwrapped("event", EVENT, "push a hub event to the client"),
                "tool": _unwrapped("tool", TOOL, "pretend to call a tool"),
            }
        ),
    )
)
SAY: Shape[tuple[Action, ...]] = one_or_more(SAY_ITEM, of="texts, prompts, pauses, events or tools")

TRANSFER: Shape[script.Transfer] = Either(
    (
        Reading(TEMPLATE, lambda to, node, notes: script.Transfer(to)),
        Record(
            "transfer",
            (
                Key("to", TEMPLATE, "whom to hand the caller to, a number in quotes or a name", is_required=True),
                Key("type", Choice(("warm", "cold")), "warm: with a summary; cold: without a word (warm)"),
                Key("summary", Reading(Text(may_be_empty=True), _template), "what the other side is told"),
            ),
            script.Transfer,
        ),
    )
)

# What a script may end a session with: every reason but those that only a broken line or a dying server gives.
_ENDS = (
    EndReason.AGENT_ENDED,
    EndReason.TRANSFER_COMPLETE,
    EndReason.USER_ENDED,
    EndReason.TIMEOUT,
    EndReason.IDLE_TIMEOUT,
    EndReason.MAX_DURATION,
)

# --- When it does it ------------------------------------------------------------------------------------------


def _phrase_or_pattern(text: str, node: Node, notes: list[Note]) -> str | re.Pattern[str]:
    if not text.startswith("/"):
        if not words_of(text):
            raise refuse(
                node, f"{quoted(text)} has no letter and no digit, so nobody can say it: a /pattern/ may match it"
            )
        return text
    if len(text) < 3 or not text.endswith("/"):
        raise refuse(
            node, f'expected a pattern between slashes, such as "/order (?P<order>\\d+)/", found {quoted(text)}'
        )
    # Named before the pattern is known to be good: a bad one must not make its templates look wrong, too.
    notes.extend(Note("capture", name, node) for name in re.findall(r"\(\?P<(\w+)>", text))
    try:
        # Doubtful set expressions are only warned of; nobody would see that here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(text[1:-1], re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise refuse(node, f"bad pattern {cut(text)}: {cut(str(error))}") from error


def _hear(heard: tuple[str | re.Pattern[str], ...], node: Node, notes: list[Note]) -> script.Hear:
    return script.Hear(
        phrases=tuple(item for item in heard if isinstance(item, str)),
        patterns=tuple(item for item in heard if not isinstance(item, str)),
    )


_HEARD = Reading(Text(), _phrase_or_pattern)
HEAR = Reading(one_or_more(_HEARD, of="phrases and /patterns/"), _hear)


def _number_of_keys(number: int, node: Node, notes: list[Note]) -> script.Dtmf:
    assert isinstance(node, ScalarNode)
    if node.text != str(number):
        raise refuse(node, f'expected keys of a phone, found the number {node.text}: write "{node.text}" in quotes')
    return script.Dtmf(node.text)


DTMF: Shape[script.Dtmf] = Either(
    (
        Reading(Integer(0, 999_999_999), _number_of_keys),
        Reading(Text("^[0-9*#]{1,32}$", "keys of a phone (0-9, * and #)"), lambda keys, node, notes: script.Dtmf(keys)),
    )
)

SILENCE = Reading(Duration("100ms", "1h"), lambda after, node, notes: script.Silence(after))

ELSE: Shape[tuple[tuple[Action, ...], ...]] = Either(
    (
        Only(None, ((),)),
        Reading(SAY_ITEM, lambda item, node, notes: ((item,),)),
        ListOf(SAY, least=1, of="alternatives"),
    )
)

_LANGUAGE = Text("^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$", 'a language tag such as "en" or "de-AT"')
WHEN = Record(
    "when",
    (
        Key(
            "language",
            Either(
                (Reading(_LANGUAGE, lambda tag, node, notes: (tag,)), ListOf(_LANGUAGE, least=1, of="language tags"))
            ),
            "any of these languages of the chat; en also covers en-GB",
        ),
        Key(
            "metadata",
            MappingOf(
                Text(),
                Either(
                    (
                        Reading(AnyScalar(), lambda value, node, notes: (value,)),
                        ListOf(AnyScalar(), least=1, of="such values"),
                    )
                ),
                least=1,
                of="paths and the values that fit",
            ),
            "dotted paths into the metadata, each with the value or values that fit",
        ),
    ),
    script.When,
    narrows={"minProperties": 1},
    check=lambda whole: _something(whole, "a condition names language, metadata or both"),
)


def _something(whole: Whole, message: str) -> Iterator[Problem]:
    if not whole.node.entries:
        yield Problem(whole.node.line, whole.node.column, message)


# --- Rules ----------------------------------------------------------------------------------------------------

_TRIGGER_KEYS = (
    Key("hear", HEAR, "the caller said any of these words, phrases or /patterns/"),
    Key("dtmf", DTMF, "the caller pressed these keys, one after the other"),
    Key("silence", SILENCE, "the caller has been silent for so long; once per silence"),
)
_ELSE_KEY = Key("else", ELSE, "the caller said what no rule took; alternatives are used in turn", into="otherwise")
_ACTION_KEYS = (
    Key("tool", TOOL, "pretend to call a tool, before anything else"),
    Key("event", EVENT, "push a hub event to the client, before the pause"),
    Key("pause", PAUSE, "wait so long, before speaking"),
    Key("say", SAY, "what to say: a text, a prompt, or a list that makes one reply"),
)
_END_KEYS = (
    Key("transfer", TRANSFER, "hand the caller over; ends the session with transfer_complete"),
    Key(
        "end",
        Reading(Choice(tuple(_ENDS)), lambda reason, node, notes: EndReason(reason)),
        "end the session with this reason",
    ),
)


def _goto(state: str, node: Node, notes: list[Note]) -> str:
    notes.append(Note("goto", state, node))
    return state


_GOTO_KEY = Key(
    "goto",
    Reading(Text(), _goto),
    f"the state to go to; {HOME} leaves all states",
)
_TRIGGERS = ("hear", "dtmf", "silence", "else")
_ENDINGS = ("goto", "transfer", "end")


def _rule(
    *,
    hear: script.Hear | None = None,
    dtmf: script.Dtmf | None = None,
    silence: script.Silence | None = None,
    otherwise: tuple[tuple[Action, ...], ...] | None = None,
    when: script.When | None = None,
    tool: Action | None = None,
    event: Action | None = None,
    pause: Action | None = None,
    say: tuple[Action, ...] = (),
    goto: str | None = None,
    transfer: script.Transfer | None = None,
    end: EndReason | None = None,
    line: int = 0,
) -> Rule:
    triggers = (hear, dtmf, silence, None if otherwise is None else script.Otherwise())
    first = tuple(action for action in (tool, event, pause) if action is not None)
    return Rule(
        triggers=tuple(trigger for trigger in triggers if trigger is not None),
        alternatives=tuple((*first, *actions) for actions in otherwise or (say,)),
        goto=goto,
        transfer=transfer,
        end=end,
        when=when,
        line=line,
    )


def keys_of(node: Node) -> set[str]:
    """The keys of a mapping; none of anything else."""
    return {entry.key.text for entry in node.entries} if isinstance(node, MapNode) else set()


def _check_endings(whole: Whole) -> Iterator[Problem]:
    present = [key for key in _ENDINGS if key in keys_of(whole.node)]
    if len(present) > 1:
        yield whole.problem(present[1], f'"{present[0]}" and "{present[1]}" exclude each other')


def _check_rule(whole: Whole) -> Iterator[Problem]:
    present = keys_of(whole.node)
    if not present & set(_TRIGGERS):
        yield Problem(whole.node.line, whole.node.column, f"a rule needs one of {', '.join(_TRIGGERS)}")
    if "else" in present:
        if "say" in present:
            yield whole.problem("say", '"else" already holds what is said: move the text there')
        if "hear" in present:
            yield whole.problem("hear", '"else" is for what no "hear" took: make two rules of it')
    yield from _check_endings(whole)


def _check_step(whole: Whole) -> Iterator[Problem]:
    yield from _something(whole, "a step does something or waits for something")
    yield from _check_endings(whole)


def excludes(*keys: str) -> list[dict[str, object]]:
    """JSON Schema: no two of these keys together."""
    pairs = [(one, other) for index, one in enumerate(keys) for other in keys[index + 1 :]]
    return [{"not": {"required": list(pair)}} for pair in pairs]


RULE = Record(
    "rule",
    (
        *_TRIGGER_KEYS,
        _ELSE_KEY,
        Key("when", WHEN, "the rule counts only for these languages or metadata"),
        *_ACTION_KEYS,
        _GOTO_KEY,
        *_END_KEYS,
    ),
    _rule,
    check=_check_rule,
    narrows={
        "anyOf": [{"required": [key]} for key in _TRIGGERS],
        "allOf": [*excludes(*_ENDINGS), *excludes("else", "say"), *excludes("else", "hear")],
    },
    place=("line",),
)

STEP = Record(
    "step",
    (*_TRIGGER_KEYS, *_ACTION_KEYS, *_END_KEYS),
    _rule,
    check=_check_step,
    narrows={"minProperties": 1, "allOf": excludes("transfer", "end")},
    place=("line",),
)


RULES = ListOf(RULE, of="rules")


def _ending_last(steps: tuple[Rule, ...], node: Node, notes: list[Note]) -> tuple[Rule, ...]:
    assert isinstance(node, ListNode)
    for step, after in zip(steps, node.items[1:], strict=False):
        if step.end is not None or step.transfer is not None:
            raise refuse(after, f"nothing comes after the step in line {step.line}: it ends the session")
    return steps


SCRIPT = Reading(ListOf(STEP, least=1, of="steps"), _ending_last)
