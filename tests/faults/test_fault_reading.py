"""Rules and schedules: what is taken, what is refused, where and how it is said; and that writing is its reverse."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voisnap_mock.config import agents_schema, parse_agents
from voisnap_mock.errors import AgentsFileError, FaultsError
from voisnap_mock.faults.reading import KEYS, read_faults
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
)
from voisnap_mock.faults.token import text_to_token
from voisnap_mock.faults.writing import write_faults, write_rule

SCHEMA = jsonschema.Draft202012Validator(agents_schema())


def one(text: str) -> FaultRule:
    (rule,) = read_faults(text, source="rules").rules
    return rule


def problems(text: str | bytes, **known: list[str]) -> list[str]:
    with pytest.raises(FaultsError) as caught:
        read_faults(text, source="rules", **known)
    return [line.removeprefix("rules:") for line in str(caught.value).split("\n")]


# --- Taken ----------------------------------------------------------------------------------------------------

TAKEN: list[tuple[str, FaultRule]] = [
    (
        (
            "{id: stt-slow, at: stt, when: {agent: agt_support, turn: 2}, "
            "do: {error: STT_PROVIDER_TIMEOUT, after: 3s}, times: 1}"
        ),
        FaultRule(
            "stt-slow", ("stt",), Fail("STT_PROVIDER_TIMEOUT"), When(agent="agt_support", turn=2), after=3.0, times=1
        ),
    ),
    (
        "{id: flaky, at: llm, do: {error: LLM_PROVIDER_ERROR, recoverable: true}, rate: 0.2}",
        FaultRule("flaky", ("llm",), Fail("LLM_PROVIDER_ERROR", recoverable=True), rate=0.2),
    ),
    (
        "{at: negotiate, do: {http: 429, retry_after: 2s}, times: 3}",
        FaultRule("", ("negotiate",), Answer(429, 2), times=3),
    ),
    (
        "{at: audio.out, when: {audio_after: 1.2s}, do: {drop: reset}}",
        FaultRule("", ("audio.out",), Drop(Cut.RESET), When(audio_after=1.2)),
    ),
    (
        (
            "{at: [audio.in, audio.out], do: {impair: {loss: 0.03, burst: 3, jitter: 40ms, "
            "gap: {every: 8s, for: 400ms}, drift_ppm: 120}}}"
        ),
        FaultRule(
            "", ("audio.in", "audio.out"), Impair(loss=0.03, burst=3, jitter=0.04, gap=Gap(8, 0.4), drift_ppm=120)
        ),
    ),
    (
        "{at: event.Transcription, do: {frames: fragment}}",
        FaultRule("", ("event.Transcription",), Frames(Framing.FRAGMENT)),
    ),
    (
        "{at: event.*, when: {target: Error}, do: {slow: 1s}}",
        FaultRule("", ("event.*",), Slow(1), When(target="Error")),
    ),
    ("{at: http.GET /api/v1/agents/*, do: {http: 500}}", FaultRule("", ("http.GET /api/v1/agents/*",), Answer(500))),
    (
        "{at: event.SessionStarted, do: {replace: {a: [1]}}}",
        FaultRule("", ("event.SessionStarted",), Replace({"a": [1]})),
    ),
    (
        "{at: llm, do: {error: MADE_UP, undocumented: true, message: Ouch}, skip: 1, every: 2, for: 5s, per: session}",
        FaultRule("", ("llm",), Fail("MADE_UP", "Ouch"), skip=1, every=2, lasts=5, per="session"),
    ),
    ('{"at": "tts", "do": {"silence": true}}', FaultRule("", ("tts",), Silence())),
]


@pytest.mark.parametrize(("text", "rule"), TAKEN, ids=[text[:40] for text, _ in TAKEN])
def test_a_rule_is_read(text: str, rule: FaultRule) -> None:
    assert one(text) == rule


def test_rules_come_alone_as_a_list_and_with_schedules() -> None:
    rule = FaultRule("busy", ("negotiate",), Answer(429))
    text = "{id: busy, at: negotiate, do: {http: 429}}"
    alone, listed = read_faults(text, source="x"), read_faults(f"- {text}", source="x")
    whole = read_faults(
        f"faults: [{text}]\nschedules:\n  day: [{{for: 20s, use: []}}, {{for: 1m, use: [busy]}}]\n"
        "  night: {loop: true, phases: [{for: 1s}]}\n",
        source="x",
    )
    assert alone == listed == Faults((rule,))
    assert whole.schedules == (
        Schedule("day", (Phase(20), Phase(60, ("busy",)))),
        Schedule("night", (Phase(1),), loop=True),
    )


def test_decoded_json_is_read_too() -> None:
    assert read_faults({"at": "stt", "do": {"silence": True}}, source="x") == read_faults(
        [{"at": "stt", "do": {"silence": True}}], source="x"
    )


def test_every_action_of_the_table_has_a_key_and_every_point_can_be_read() -> None:
    assert set(KEYS) == {action for point in POINTS for action in point.actions}
    for point in POINTS:
        for action in point.actions:
            name = point.name.replace("<Name>", "*").replace("<METHOD> <path>", "GET /api/v1/agents")
            assert one(json.dumps({"at": name, "do": DONE[KEYS[action]]})).at == (name,)


DONE = {
    "error": {"error": "LLM_PROVIDER_ERROR"},
    "http": {"http": 503},
    "drop": {"drop": "stall"},
    "impair": {"impair": {"loss": 0.5}},
    "frames": {"frames": "swallow"},
    "slow": {"slow": "1s"},
    "silence": {"silence": True},
    "replace": {"replace": "x"},
}

# --- Refused --------------------------------------------------------------------------------------------------

REFUSED = [
    ("{at: sttt, do: {silence: true}}", ['1:6: there is no point "sttt"; did you mean "stt"?']),
    (
        "{at: method.SendAudio, do: {slow: 1s}}",
        ['1:6: there is no hub method "SendAudio"; did you mean "SendAudioAsync"?'],
    ),
    (
        "{at: event.Transcripton, do: {slow: 1s}}",
        ['1:6: nothing sends the event "Transcripton"; did you mean "Transcription"?'],
    ),
    (
        "{at: http.PSOT /x, do: {http: 500}}",
        ['1:6: expected "http.<METHOD> <path>", found the method "PSOT"; did you mean "POST"?'],
    ),
    ("{at: http.GET x, do: {http: 500}}", ['1:6: expected "http.GET /path" and no query, found the path "x"']),
    (
        "{at: stt, do: {error: STT_PROVIDER_TIMOUT}}",
        [
            (
                '1:23: "STT_PROVIDER_TIMOUT" is no documented code; did you mean "STT_PROVIDER_TIMEOUT"? '
                "(undocumented: true takes any)"
            )
        ],
    ),
    (
        "{at: stt, do: {error: AUTH_FAILED, undocumented: true}}",
        ["1:36: AUTH_FAILED is documented: leave this out"],
    ),
    ("{at: stt, do: {silence: true}, tims: 1}", ['1:32: unknown key "tims"; did you mean "times"?']),
    ("{at: stt, do: {silence: true}, rate: 1.5}", ["1:38: expected a number, 0 to 1, found the number 1.5"]),
    ("{at: stt, do: {silence: true}, times: 0}", ["1:39: expected a whole number, 1 or more, found the number 0"]),
    (
        "{at: stt, do: {slow: -3s}}",
        ['1:22: expected a time with its unit, such as "300ms", "8s", "10m", "1h" or "14d", 1ms to 1h; found "-3s"'],
    ),
    (
        "{at: stt, do: {impair: {loss: 0.1}}}",
        ['1:11: "impair" is not possible at stt; possible are error, slow, silence, replace, drop'],
    ),
    ("{at: stt, do: {}}", ["1:15: one of error, http, drop, impair, frames, slow, silence, replace is expected"]),
    (
        "{at: stt, do: {silence: true, slow: 1s}}",
        ['1:31: a rule does one thing: "silence" and "slow" exclude each other'],
    ),
    ("{at: stt, do: {silence: true, after: 1s}}", ['1:31: "after" belongs to "error" or "drop", not to "silence"']),
    ("{at: stt, do: {replace: 5}}", ['1:11: "replace" is a text at stt']),
    (
        "{at: login, when: {turn: 1}, do: {http: 500}}",
        ['1:19: "turn" has no meaning at login: there is no session yet'],
    ),
    (
        "{at: stt, when: {audio_after: 1s}, do: {silence: true}}",
        ['1:17: "audio_after" counts at audio.in and audio.out, not at stt'],
    ),
    (
        "{at: event.Error, when: {target: SessionEnded}, do: {slow: 1s}}",
        ['1:25: "target" "SessionEnded" never crosses event.Error'],
    ),
    ("{at: stt, when: {}, do: {silence: true}}", ["1:17: a condition names at least one thing"]),
    (
        "{at: audio.in, do: {impair: {gap: {every: 1s, for: 2s}}}}",
        ['1:47: a gap is shorter than the time between two ("every")'],
    ),
    (
        "[{id: a, at: stt, do: {silence: true}}, {id: a, at: llm, do: {silence: true}}]",
        ['1:46: the fault "a" is already there, in line 1'],
    ),
    (
        (
            "- {id: a, at: [stt, llm], do: {silence: true}}\n- {at: stt, when: {turn: 2}, do: {slow: 1s}}\n"
            "- {at: llm, when: {turn: 2}, do: {error: LLM_PROVIDER_ERROR}}"
        ),
        [
            '2:3: this fault can never fire: "a" in line 1 fires each time before it',
            '3:3: this fault can never fire: "a" in line 1 fires each time before it',
        ],
    ),
    (
        "faults: [{id: busy, at: negotiate, do: {http: 429}}]\nschedules: {day: [{for: 1s, use: [bussy]}]}",
        ['2:35: there is no fault "bussy"; did you mean "busy"?'],
    ),
    ("stt", ["1:1: expected a rule such as {at: stt, do: {error: STT_PROVIDER_TIMEOUT}}, or a list of rules"]),
    ("", ["1:1: the file is empty: a rule is expected, or a list of rules"]),
    ("faults1.7.xyz", ["1:1: this token is damaged: copy it whole, from faults1. to its end"]),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=[text[:50] for text, _ in REFUSED])
def test_what_is_wrong_is_named_with_its_place(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = problems("- {at: sttt, do: {slow: 1s}}\n- {at: stt, do: {slow: 1s}, rat: 1}\n- {at: stt}")
    assert [line.split(":")[0] for line in found] == ["1", "2", "3"]


def test_rules_of_a_schedule_may_stand_behind_others() -> None:
    text = (
        "faults:\n- {id: a, at: stt, do: {silence: true}}\n- {id: b, at: stt, do: {replace: x}}\n"
        "schedules: {s: [{for: 1s, use: [b]}]}"
    )
    assert len(read_faults(text, source="x").rules) == 2


def test_events_that_scripts_push_are_points() -> None:
    text = "{at: event.Weather, do: {frames: swallow}}"
    assert read_faults(text, source="x", events=["Weather"]).rules[0].at == ("event.Weather",)
    assert problems("{at: event.Wether, do: {frames: swallow}}", events=["Weather"]) == [
        '1:6: nothing sends the event "Wether"; did you mean "Weather"?'
    ]


# --- In an agents file ------------------------------------------------------------------------------------------

FILE = """\
agents: {agt_a: {greeting: [Hi, {event: {name: Weather}}]}}
faults:
  - {id: a, at: event.Weather, do: {slow: 1s}}
schedules: {s: [{for: 1s, use: [a]}]}
magic: false
"""


def test_an_agents_file_holds_faults_and_its_schema_shows_them() -> None:
    file = parse_agents(FILE, source="agents.yaml")
    assert file.sections["faults"] == (FaultRule("a", ("event.Weather",), Slow(1.0)),)
    assert file.sections["schedules"] == (Schedule("s", (Phase(1.0, ("a",)),)),)
    assert file.sections["magic"] is False
    rules = [write_rule(rule) for _, rule in TAKEN]
    assert SCHEMA.is_valid({"agents": {"agt_a": {}}, "faults": rules})
    assert not SCHEMA.is_valid({"agents": {"agt_a": {}}, "faults": [{"at": "stt", "do": {"oops": 1}}]})


def test_problems_of_agents_and_faults_are_told_together() -> None:
    with pytest.raises(AgentsFileError) as caught:
        parse_agents("agents: {agt_a: {grreeting: x}}\nfaults: [{at: event.Weather, do: {slow: 1s}}]", source="f")
    assert [line.split(": ", 1)[0] for line in str(caught.value).split("\n")] == ["f:1:18", "f:2:15"]


# --- And back ---------------------------------------------------------------------------------------------------

SECONDS = st.integers(1, 3_600_000).map(lambda ms: ms / 1000)
SHARES = st.integers(0, 1000).map(lambda n: n / 1000)
TEXTS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12)


def framings_at(name: str) -> list[Framing]:
    return [how for how in Framing if how is not Framing.MISSING_COMPLETION or name.startswith("method.")]


def actions_at(point: str, kinds: tuple[type[Action], ...]) -> st.SearchStrategy[Action]:
    text_only = point in ("stt", "llm", "tts", "sdp", "ice")
    made: dict[type[Action], st.SearchStrategy[Action]] = {
        Fail: st.builds(Fail, st.sampled_from(list(CODES)), st.none() | TEXTS, st.none() | st.booleans()),
        Answer: st.builds(Answer, st.integers(400, 599), st.none() | SECONDS),
        Drop: st.builds(Drop, st.sampled_from(Cut)),
        Impair: st.builds(
            Impair,
            loss=st.integers(1, 1000).map(lambda n: n / 1000),
            burst=st.integers(1, 50).map(float),
            jitter=st.integers(0, 1000).map(lambda ms: ms / 1000),
            gap=st.none() | st.builds(Gap, st.just(2.0), st.just(0.5)),
            reorder=SHARES,
            drift_ppm=st.integers(-500, 500).map(float),
        ),
        Frames: st.builds(Frames, st.sampled_from(framings_at(point))),
        Slow: st.builds(Slow, SECONDS),
        Silence: st.just(Silence()),
        Replace: st.builds(Replace, TEXTS if text_only else TEXTS | st.integers() | st.lists(st.booleans())),
    }
    return st.one_of(*(made[kind] for kind in kinds))


@st.composite
def rules(draw: st.DrawFn) -> FaultRule:
    row = draw(st.sampled_from(POINTS))
    name = row.name
    if name.endswith(".<Name>"):
        name = name.replace("<Name>", draw(st.sampled_from(METHODS if name.startswith("method") else EVENTS)))
    elif "<METHOD>" in name:
        name = f"http.{draw(st.sampled_from(VERBS))} /api/v1/agents"
    is_outside = name.split(".", 1)[0] in OUTSIDE
    action = draw(actions_at(name, row.actions))
    return FaultRule(
        draw(st.just("") | TEXTS),
        (name,),
        action,
        When(
            agent=draw(st.none() | TEXTS),
            channel=draw(st.sampled_from([None, "voice", "chat", "webrtc"])),
            turn=None if is_outside else draw(st.none() | st.integers(1, 9)),
            text=None if is_outside else draw(st.none() | TEXTS),
            audio_after=draw(st.none() | SECONDS) if name.startswith("audio") else None,
        ),
        after=draw(st.just(0.0) | SECONDS) if isinstance(action, Fail | Drop) else 0.0,
        times=draw(st.none() | st.integers(1, 99)),
        skip=draw(st.integers(0, 9)),
        every=draw(st.integers(1, 9)),
        rate=draw(SHARES),
        lasts=draw(st.none() | SECONDS),
        per=draw(st.sampled_from(["tenant", "session"])),
    )


@given(rules())
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_back_and_fits_the_schema(rule: FaultRule) -> None:
    written = write_rule(rule)
    assert one(json.dumps(written)) == rule
    assert SCHEMA.is_valid({"agents": {"agt_a": {}}, "faults": [written]})


WORDS = st.sampled_from(
    ["id", "at", "when", "do", "times", "rate", "for", "faults", "schedules", "error", "impair", "gap", "use", "stt"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | TEXTS, inner, max_size=5),
    max_leaves=20,
)


def complaint_of(text: str) -> str:
    try:
        read_faults(text, source="x")
    except FaultsError as error:
        return str(error)
    return "none"


@given(JSON)
@settings(max_examples=500, deadline=None)
def test_whatever_is_given_is_read_or_refused_in_words(given: object) -> None:
    assert complaint_of(json.dumps(given)).startswith(("x:", "none"))


@given(rules(), JSON, st.data())
@settings(max_examples=300, deadline=None)
def test_a_rule_with_something_else_in_it_is_read_or_refused_in_words(
    rule: FaultRule, other: object, data: st.DataObject
) -> None:
    written = write_rule(rule)
    place = written["do"] if data.draw(st.booleans()) else written
    place[data.draw(st.sampled_from([*place, "tims"]))] = other
    assert complaint_of(json.dumps(written)).startswith(("x:", "none"))


def test_a_token_brings_everything_back() -> None:
    faults = read_faults(
        "faults: [{id: a, at: llm, do: {error: LLM_PROVIDER_ERROR}, rate: 0.3}]\n"
        "schedules: {s: {loop: true, phases: [{for: 90s, use: [a]}]}}",
        source="x",
    )
    token = text_to_token(write_faults(faults), 42)
    assert " " not in token
    again = read_faults(f" {token}\n", source="x")
    assert (again.rules, again.schedules, again.seed) == (faults.rules, faults.schedules, 42)
    assert read_faults(token.encode(), source="x") == again


def test_ten_thousand_rules_are_read() -> None:
    rules = [{"at": "stt", "when": {"turn": turn}, "do": {"silence": True}} for turn in range(1, 10_001)]
    assert len(read_faults({"faults": rules}, source="x").rules) == 10_000
