"""Reading fault rules and schedules: the same words in a file, a request, a header and an argument.

The table below is made of the shapes of `agents.shape` and `agents.combining`, so that errors have their line and
column and the JSON Schema of an agents file shows these keys too. JSON is read as the YAML that it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

from voisnap_mock.agents.combining import Either, Key, ListOf, MappingOf, Reading, Record, Whole, one_or_more
from voisnap_mock.agents.nodes import Entry, ListNode, MapNode, Most, Node, Refused, ScalarNode, compose, quoted, refuse
from voisnap_mock.agents.reading import worth_telling
from voisnap_mock.agents.script import AgentScript, AgentsFile, PushEvent
from voisnap_mock.agents.shape import (
    AnyJson,
    Choice,
    Duration,
    Flag,
    Integer,
    Note,
    Number,
    Only,
    Shape,
    Text,
    did_you_mean,
)
from voisnap_mock.agents.table import Sections
from voisnap_mock.errors import FaultsError, Problem
from voisnap_mock.faults.rules import (
    CODES,
    EVENTS,
    METHODS,
    OUTSIDE,
    POINTS,
    VERBS,
    Action,
    Answer,
    Cut,
    Drop,
    Fail,
    FaultRule,
    Faults,
    Frames,
    Framing,
    Gap,
    Impair,
    Phase,
    Replace,
    Schedule,
    Silence,
    Slow,
    When,
    family,
)
from voisnap_mock.faults.token import token_to_text

_MOST = Most(bytes=8 * 2**20, values=400_000, wanted="a rule is expected, or a list of rules")

KEYS: Mapping[type[Action], str] = {
    Fail: "error",
    Answer: "http",
    Drop: "drop",
    Impair: "impair",
    Frames: "frames",
    Slow: "slow",
    Silence: "silence",
    Replace: "replace",
}
"""The key of `do` that stands for an action."""

# --- Where ----------------------------------------------------------------------------------------------------

_NAMED = {"method": ("method", METHODS), "event": ("event", EVENTS)}
_PLAIN = tuple(point.name for point in POINTS if "<" not in point.name)


def _point(text: str, node: Node, notes: list[Note]) -> str:
    family_name, _, name = text.partition(".")
    if text in _PLAIN:
        return text
    if family_name in _NAMED and name:
        kind, known = _NAMED[family_name]
        if name != "*" and name not in known:
            # Scripts may push events of any name; who knows the scripts looks at this note.
            if kind == "event":
                notes.append(Note("event-point", name, node))
            else:
                raise refuse(node, f"there is no hub method {quoted(name)}{did_you_mean(name, known)}")
        return text
    if family_name == "http":
        verb, _, path = name.partition(" ")
        if verb not in VERBS:
            hint = did_you_mean(verb, VERBS)
            raise refuse(node, f'expected "http.<METHOD> <path>", found the method {quoted(verb)}{hint}')
        if not path.startswith("/") or "?" in path:
            raise refuse(node, f'expected "http.{verb} /path" and no query, found the path {quoted(path)}')
        return text
    raise refuse(node, f"there is no point {quoted(text)}{did_you_mean(text, [point.name for point in POINTS])}")


POINT = Reading(Text(), _point)

# --- When -----------------------------------------------------------------------------------------------------

WHEN = Record(
    "fault when",
    (
        Key("agent", Text(), "the id of the agent"),
        Key("tenant", Text(), "the id of the tenant"),
        Key("channel", Choice(("voice", "chat", "webrtc")), "voice, chat or webrtc"),
        Key("turn", Integer(1), "the caller's turn: a final transcript or chat message, also one that failed"),
        Key("target", Text(), "a hub method or event, for points with a * in them"),
        Key("text", Text(), "part of what is said or understood, without regard to case"),
        Key("call_after", Duration(), "from this call time on"),
        Key("audio_after", Duration(), "once so much audio has crossed audio.in or audio.out in this session"),
    ),
    When,
    narrows={"minProperties": 1},
    check=lambda whole: _not_empty(whole, "a condition names at least one thing"),
)


def _not_empty(whole: Whole, message: str) -> Iterator[Problem]:
    if not whole.node.entries:
        yield Problem(whole.node.line, whole.node.column, message)


# --- What -----------------------------------------------------------------------------------------------------

_SHARE = Number(0.0, 1.0)


def _gap_fits(whole: Whole) -> Iterator[Problem]:
    every, length = whole.values.get("every"), whole.values.get("length")
    if every is not None and length is not None and length >= every:
        yield whole.problem("for", 'a gap is shorter than the time between two ("every")')


GAP = Record(
    "gap",
    (
        Key("every", Duration("20ms"), "from the beginning of one gap to the next", is_required=True),
        Key("for", Duration("20ms"), "length of a gap", is_required=True, into="length"),
    ),
    Gap,
    check=_gap_fits,
)


IMPAIR: Record[Impair] = Record(
    "impair",
    (
        Key("loss", _SHARE, "share of frames of 20 ms that are lost (0)"),
        Key("burst", Number(1.0, 1000.0), "how many are lost in a row, on the average (1)"),
        Key("jitter", Duration("0ms", "10s"), "frames are late by up to so much (0ms)"),
        Key("gap", GAP, "regular holes"),
        Key("reorder", _SHARE, "share of frames that change places with the next (0)"),
        Key("duplicate", _SHARE, "share of frames that come twice (0)"),
        Key("drift_ppm", Number(-100_000.0, 100_000.0), "how much the line's clock runs fast, in millionths (0)"),
        Key("gain_db", Number(-96.0, 48.0), "louder or quieter (0)"),
        Key("clip", Number(0.001, 1.0), "share of full scale at which samples are cut (1)"),
    ),
    Impair,
    narrows={"minProperties": 1},
    check=lambda whole: _not_empty(whole, "an impairment names at least one thing that is wrong with the line"),
)


def _do(
    *,
    error: str | None = None,
    message: str | None = None,
    recoverable: bool | None = None,
    undocumented: bool = False,
    after: float = 0.0,
    http: int | None = None,
    retry_after: float | None = None,
    drop: str | None = None,
    impair: Impair | None = None,
    frames: str | None = None,
    slow: float | None = None,
    silence: bool | None = None,
    replace: tuple[Any] | None = None,
) -> tuple[Action, float]:
    """The action, and the seconds after which it takes place."""
    action: Action
    if error is not None:
        action = Fail(error, message, recoverable)
    elif http is not None:
        action = Answer(http, retry_after)
    elif drop is not None:
        action = Drop(Cut(drop))
    elif impair is not None:
        action = impair
    elif frames is not None:
        action = Frames(Framing(frames))
    elif slow is not None:
        action = Slow(slow)
    elif silence is not None:
        action = Silence()
    else:
        assert replace is not None, "the check has seen an action"
        action = Replace(replace[0])
    return action, after


_BELONG = {
    "message": ("error",),
    "recoverable": ("error",),
    "undocumented": ("error",),
    "after": ("error", "drop"),
    "retry_after": ("http",),
}


def _check_do(whole: Whole) -> Iterator[Problem]:
    present = [entry.key.text for entry in whole.node.entries]
    actions = [key for key in present if key in KEYS.values()]
    if not actions:
        yield Problem(whole.node.line, whole.node.column, f"one of {', '.join(KEYS.values())} is expected")
    for other in actions[1:]:
        yield whole.problem(other, f'a rule does one thing: "{actions[0]}" and "{other}" exclude each other')
    for key in present:
        if key in _BELONG and actions and actions[0] not in _BELONG[key]:
            owners = " or ".join(f'"{owner}"' for owner in _BELONG[key])
            yield whole.problem(key, f'"{key}" belongs to {owners}, not to "{actions[0]}"')
    code = whole.values.get("error")
    if code is None:
        return
    is_free = bool(whole.values.get("undocumented"))
    if code not in CODES and not is_free:
        hint = did_you_mean(code, list(CODES))
        hint = hint if "did you mean" in hint else f"; documented are {', '.join(CODES)}"
        place = whole.node.get("error") or whole.node
        yield Problem(
            place.line, place.column, f"{quoted(code)} is no documented code{hint} (undocumented: true takes any)"
        )
    elif code in CODES and is_free:
        yield whole.problem("undocumented", f"{code} is documented: leave this out")


DO: Record[tuple[Action, float]] = Record(
    "do",
    (
        Key("error", Text("^[A-Za-z0-9_.-]{1,64}$", "an error code"), f"the client gets it: {', '.join(CODES)}"),
        Key("message", Text(), "its message"),
        Key("recoverable", Flag(), "whether the session survives it (as the code is)"),
        Key("undocumented", Flag(), "take a code that the documentation does not have (false)"),
        Key("after", Duration(), "how much later the error or the drop comes, in call time (0s)"),
        Key("http", Integer(400, 599), "the request is answered with this status"),
        Key("retry_after", Duration("0s", "1d"), "its Retry-After"),
        Key("drop", Choice(tuple(Cut)), f"the connection is lost: {', '.join(Cut)}"),
        Key("impair", IMPAIR, "a bad line"),
        Key("frames", Choice(tuple(Framing)), f"the message is mistreated: {', '.join(Framing)}"),
        Key("slow", Duration("1ms", "1h"), "it comes so much later, and what follows waits behind it"),
        Key("silence", Only(True, True), "nothing comes"),
        Key("replace", Reading(AnyJson(), lambda value, node, notes: (value,)), "this comes instead"),
    ),
    _do,
    narrows={"oneOf": [{"required": [key]} for key in KEYS.values()]},
    check=_check_do,
)

# --- Rules ----------------------------------------------------------------------------------------------------


def _rule(
    *,
    at: tuple[str, ...],
    do: tuple[Action, float],
    id: str = "",
    line: int = 0,
    **more: Any,
) -> FaultRule:
    action, after = do
    return FaultRule(id, tuple(dict.fromkeys(at)), action, after=after, line=line, **more)


def _check_rule(whole: Whole) -> Iterator[Problem]:
    at: tuple[str, ...] = whole.values.get("at", ())
    action = whole.values["do"][0] if "do" in whole.values else None
    when: When = whole.values.get("when") or When()
    for point in at:
        row = family(point)
        assert row is not None, "POINT reads only what is in the table"
        if action is not None and type(action) not in row.actions:
            possible = ", ".join(KEYS[kind] for kind in row.actions)
            yield whole.problem("do", f'"{KEYS[type(action)]}" is not possible at {point}; possible are {possible}')
        yield from _impossible(whole, point, when)
    if isinstance(action, Replace) and not isinstance(action.value, str):
        texts = [point for point in at if point in ("stt", "llm", "tts", "sdp", "ice")]
        if texts:
            yield whole.problem("do", f'"replace" is a text at {texts[0]}')
    if action == Frames(Framing.MISSING_COMPLETION):
        for point in at:
            if not point.startswith("method."):
                yield whole.problem(
                    "do", f'"missing_completion" is for the answer to a call, at method.<Name>, not {point}'
                )


def _impossible(whole: Whole, point: str, when: When) -> Iterator[Problem]:
    """Conditions that no crossing of the point can meet."""
    first, _, name = point.partition(".")
    place = whole.node.get("when") or whole.node
    if when.target is not None and name not in ("*", when.target):
        # At a named point the name says it all; at the others there is no target.
        yield Problem(place.line, place.column, f'"target" {quoted(when.target)} never crosses {point}')
    if when.audio_after is not None and not point.startswith("audio."):
        yield Problem(place.line, place.column, f'"audio_after" counts at audio.in and audio.out, not at {point}')
    if first in OUTSIDE:
        for key in ("turn", "text", "call_after"):
            if getattr(when, key) is not None:
                yield Problem(place.line, place.column, f'"{key}" has no meaning at {point}: there is no session yet')


RULE = Record(
    "fault",
    (
        Key("id", Text("^[^\\s,]([^\\n,]{0,126}[^\\s,])?$", "a name without commas"), "what the fault is called"),
        Key("at", one_or_more(POINT, of="points"), "the point, or points", is_required=True),
        Key("when", WHEN, "which crossings of the point match (all)"),
        Key("do", DO, "what is done", is_required=True),
        Key("times", Integer(1), "fire so many times (no limit)"),
        Key("skip", Integer(0), "let so many matches pass first (0)"),
        Key("every", Integer(1), "of the matches of a session, only each so-manieth (1)"),
        Key("rate", _SHARE, "of the matches of a session only this share, drawn by the seed (1)"),
        Key("for", Duration("1ms"), "it is over in a session so long after its first firing there", into="lasts"),
        Key("per", Choice(("tenant", "session")), "whose matches times and skip count (tenant)"),
    ),
    _rule,
    check=_check_rule,
    place=("line",),
)


def _ids_differ(rules: tuple[FaultRule, ...], node: Node, notes: list[Note]) -> tuple[FaultRule, ...]:
    assert isinstance(node, ListNode)
    first: dict[str, int] = {}
    problems: list[Problem] = []
    for rule, item in zip(rules, node.items, strict=True):
        if rule.id in first:
            place = (item.get("id") if isinstance(item, MapNode) else None) or item
            there = f"the fault {quoted(rule.id)} is already there, in line {first[rule.id]}"
            problems.append(Problem(place.line, place.column, there))
        elif rule.id:
            first[rule.id] = item.line
    if problems:
        raise Refused(problems)
    return rules


RULES: Shape[tuple[FaultRule, ...]] = Reading(ListOf(RULE, of="faults"), _ids_differ)

# --- Schedules ------------------------------------------------------------------------------------------------


def _use(name: str, node: Node, notes: list[Note]) -> str:
    notes.append(Note("use", name, node))
    return name


PHASE = Record(
    "phase",
    (
        Key("for", Duration("1ms"), "how long it lasts", is_required=True, into="seconds"),
        Key("use", ListOf(Reading(Text(), _use), of="ids of faults"), "the faults that are armed meanwhile"),
    ),
    Phase,
)
PHASES = ListOf(PHASE, least=1, of="phases")
SCHEDULE: Shape[tuple[tuple[Phase, ...], bool]] = Either(
    (
        Reading(PHASES, lambda phases, node, notes: (phases, False)),
        Record(
            "schedule",
            (
                Key("phases", PHASES, "one after the other", is_required=True),
                Key("loop", Flag(), "whether the first phase follows the last one (false)"),
            ),
            lambda phases, loop=False: (phases, loop),
        ),
    )
)
SCHEDULES: Shape[tuple[Schedule, ...]] = Reading(
    MappingOf(Text("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", "a name (letters, digits, _ . -)"), SCHEDULE, of="schedules"),
    lambda schedules, node, notes: tuple(Schedule(name, phases, loop) for name, (phases, loop) in schedules.items()),
)

# --- What only the whole can judge ------------------------------------------------------------------------------


def _check_whole(
    whole: Whole, *, ids: Sequence[str] | None = (), events: Sequence[str] | None = ()
) -> Iterator[Problem]:
    """Names that nothing has, and rules that can never fire.

    Args:
        ids: faults that schedules may use besides those of this text; None when nobody knows.
        events: names that scripts push; None when nobody knows.
    """
    rules: tuple[FaultRule, ...] = whole.values.get("faults", ())
    known = [*(rule.id for rule in rules if rule.id), *(ids or ())]
    used = {note.text for note in whole.notes if note.kind == "use"}
    for note in whole.notes:
        if note.kind == "use" and ids is not None and note.text not in known and "faults" in _readable(whole):
            hint = did_you_mean(note.text, known)
            yield Problem(note.node.line, note.node.column, f"there is no fault {quoted(note.text)}{hint}")
        if note.kind == "event-point" and events is not None and note.text not in events:
            hint = did_you_mean(note.text, [*EVENTS, *events])
            yield Problem(note.node.line, note.node.column, f"nothing sends the event {quoted(note.text)}{hint}")
    node = whole.node.get("faults")
    if isinstance(node, ListNode) and len(node.items) == len(rules):
        yield from _shadowed(rules, node.items, used)


def _readable(whole: Whole) -> set[str]:
    """The keys that could be read, or are not there: what is missing in them is really missing."""
    present = {entry.key.text for entry in whole.node.entries}
    return {"faults", "schedules"} - present | set(whole.values)


def _conditions(rule: FaultRule) -> tuple[tuple[str, object], ...]:
    when = rule.when
    return tuple((name, value) for name in When.__slots__ if (value := getattr(when, name)) is not None)


def _shadowed(rules: Sequence[FaultRule], nodes: Sequence[Node], used: set[str]) -> Iterator[Problem]:
    """Rules behind one that fires at every crossing of theirs: one of them is not meant."""
    always: dict[tuple[str, tuple[tuple[str, object], ...]], FaultRule] = {}
    for rule, node in zip(rules, nodes, strict=True):
        if rule.id in used:
            continue
        conditions = _conditions(rule)
        firsts = []
        for point in rule.at:
            wider = (
                always.get((point, some))
                for count in range(len(conditions) + 1)
                for some in combinations(conditions, count)
            )
            firsts.append(next((first for first in wider if first is not None), None))
        if all(first is not None for first in firsts):
            first = firsts[0]
            assert first is not None
            name = quoted(first.id) if first.id else "the one"
            yield Problem(
                node.line,
                node.column,
                f"this fault can never fire: {name} in line {first.line} fires each time before it",
            )
        is_endless = rule.times is None and rule.lasts is None
        if rule.is_exclusive and is_endless and not rule.skip and rule.every == 1 and rule.rate == 1.0:
            for point in rule.at:
                always.setdefault((point, conditions), rule)


# --- Ways in ----------------------------------------------------------------------------------------------------


def pushed_events(agents: Iterable[AgentScript]) -> tuple[str, ...]:
    """The names of the events that scripts push."""
    return tuple(
        dict.fromkeys(
            action.name
            for agent in agents
            for actions in (agent.greeting, *(actions for rule in agent.rules() for actions in rule.alternatives))
            for action in actions
            if isinstance(action, PushEvent)
        )
    )


FAULTS_KEY = Key("faults", RULES, "what goes wrong: at a point, when it matches, do something, this often")
SCHEDULES_KEY = Key("schedules", SCHEDULES, "named sequences of phases, each with the faults that are armed meanwhile")
MAGIC_KEY = Key("magic", Flag(), "whether the agents agt_mock_... are there, each with its fault (true)")


def _check_file(whole: Whole) -> Iterator[Problem]:
    agents: Mapping[str, AgentScript] = whole.values.get("agents", {})
    return _check_whole(whole, events=pushed_events(agents.values()))


SECTIONS = Sections((FAULTS_KEY, SCHEDULES_KEY, MAGIC_KEY), _check_file)
"""What an agents file says about faults."""

_SEED = "seed of faults"


def faults_of(file: AgentsFile) -> Faults:
    """What an agents file says about faults."""
    sections = file.sections
    return Faults(sections.get("faults", ()), sections.get("schedules", ()), sections.get(_SEED))


def with_faults(file: AgentsFile, more: Faults, *, source: str) -> AgentsFile:
    """The agents file as if it said this about faults too; a token's faults take the place of its own.

    Raises:
        FaultsError: naming the ids and schedules that both have.
    """
    own = faults_of(file) if more.seed is None else Faults()
    lines = {rule.id: rule.line for rule in own.rules if rule.id}
    problems = [
        Problem(rule.line, 1, f"the fault {quoted(rule.id)} is already in line {lines[rule.id]} of {file.source}")
        for rule in more.rules
        if rule.id in lines
    ]
    taken = {schedule.name for schedule in own.schedules}
    problems += [
        Problem(1, 1, f"the schedule {quoted(schedule.name)} is already there, in {file.source}")
        for schedule in more.schedules
        if schedule.name in taken
    ]
    if problems:
        raise FaultsError(source, problems)
    joined = {
        "faults": (*own.rules, *more.rules),
        "schedules": (*own.schedules, *more.schedules),
        _SEED: more.seed,
    }
    return replace(file, sections={**file.sections, **joined})


def is_about_faults(text: bytes) -> bool:
    """Whether a file holds faults and no agents."""
    try:
        node = compose(text, _MOST)
    except Refused:
        return False
    if isinstance(node, MapNode):
        return node.get("agents") is None and any(node.get(key) is not None for key in ("faults", "schedules", "at"))
    return isinstance(node, ListNode)


def read_faults(
    given: str | bytes | Mapping[str, Any] | Sequence[Any],
    *,
    source: str,
    ids: Sequence[str] | None = (),
    events: Sequence[str] | None = (),
) -> Faults:
    """Read one rule, a list of rules, a mapping with `faults` and `schedules`, or a token of `faults.token`.

    Args:
        given: YAML or JSON as text, or decoded JSON.
        source: what to call it in messages.
        ids: faults that schedules may use besides those of this text; None when nobody knows.
        events: names that scripts push, `pushed_events`; None when nobody knows.

    Raises:
        FaultsError: with every problem, each with line and column.
    """
    text = given if isinstance(given, str | bytes) else json.dumps(given)
    try:
        seed, text = token_to_text(text)
    except ValueError as error:
        raise FaultsError(source, [Problem(1, 1, str(error))]) from None
    notes: list[Note] = []
    try:
        return replace(_read(compose(text, _MOST), notes, ids, events), seed=seed)
    except Refused as refused:
        raise FaultsError(source, worth_telling(refused.problems)) from None


def _read(node: Node, notes: list[Note], ids: Sequence[str] | None, events: Sequence[str] | None) -> Faults:
    file = Record(
        "faults file",
        (FAULTS_KEY, SCHEDULES_KEY),
        lambda faults=(), schedules=(): Faults(faults, schedules),
        check=partial(_check_whole, ids=ids, events=events),
    )
    if isinstance(node, MapNode) and (node.get("faults") is not None or node.get("schedules") is not None):
        return file.read(node, notes)
    if isinstance(node, ScalarNode):
        raise refuse(node, "expected a rule such as {at: stt, do: {error: STT_PROVIDER_TIMEOUT}}, or a list of rules")
    rules = node if isinstance(node, ListNode) else ListNode([node], node.line, node.column)
    name = ScalarNode("faults", is_plain=True, line=node.line, column=node.column)
    return file.read(MapNode([Entry(name, rules)], node.line, node.column), notes)
