"""Agents files: what is taken, what is refused, where and how it is said, and that the JSON Schema agrees."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml
from _pytest.mark import ParameterSet
from hypothesis import given, settings
from hypothesis import strategies as st

from voisnap_mock.agents.nodes import Refused, compose, plain_value
from voisnap_mock.agents.reading import agents_schema, parse_agents
from voisnap_mock.agents.script import (
    AgentScript,
    AgentsFile,
    CallTool,
    Dtmf,
    EndReason,
    Hear,
    Otherwise,
    Pause,
    Prompt,
    PushEvent,
    Rule,
    Say,
    Silence,
    Transfer,
    When,
)
from voisnap_mock.errors import AgentsFileError

REFUSED = Path(__file__).parent.parent / "data" / "agents_refused.txt"
SCHEMA = jsonschema.Draft202012Validator(agents_schema())


def problems(text: str | bytes) -> list[str]:
    """Every problem as `line:column: message`."""
    with pytest.raises(AgentsFileError) as caught:
        parse_agents(text, source="agents.yaml")
    return [line.removeprefix("agents.yaml:") for line in str(caught.value).split("\n")]


def agent(text: str) -> AgentScript:
    """The only agent of a file, given its content in flow style."""
    return parse_agents(f"agents: {{agt_a: {text}}}", source="agents.yaml").agents["agt_a"]


# --- Taken ----------------------------------------------------------------------------------------------------

RULES_TAKEN: list[tuple[str, str, Rule]] = [
    ("a phrase", "{hear: refund, say: Sure}", Rule((Hear(("refund",)),), ((Say("Sure"),),))),
    ("yes is a word", "{hear: yes, say: no}", Rule((Hear(("yes",)),), ((Say("no"),),))),
    ("several phrases", "{hear: [refund, money back]}", Rule((Hear(("refund", "money back")),))),
    ("keys in quotes", '{dtmf: "12#"}', Rule((Dtmf("12#"),))),
    ("keys that are a number", "{dtmf: 5}", Rule((Dtmf("5"),))),
    ("said or pressed", '{hear: operator, dtmf: "0"}', Rule((Hear(("operator",)), Dtmf("0")))),
    ("silence", "{silence: 1.5s, say: Hello}", Rule((Silence(1.5),), ((Say("Hello"),),))),
    ("else, one text", "{else: What}", Rule((Otherwise(),), ((Say("What"),),))),
    ("else, in turn", "{else: [A, B]}", Rule((Otherwise(),), ((Say("A"),), (Say("B"),)))),
    (
        "else, in turn, one of them longer",
        "{else: [A, [B, {pause: 1s}]]}",
        Rule((Otherwise(),), ((Say("A"),), (Say("B"), Pause(1.0)))),
    ),
    ("else without words", "{else: , end: agent_ended}", Rule((Otherwise(),), end=EndReason.AGENT_ENDED)),
    ("a reply in parts", "{hear: x, say: [A, {text: B}]}", Rule((Hear(("x",)),), ((Say("A"), Say("B")),))),
    (
        "a prompt",
        "{hear: x, say: {wav: prompts/b.WAV, text: B}}",
        Rule((Hear(("x",)),), ((Say("B", "prompts/b.WAV"),),)),
    ),
    (
        "rule keys come before what is said, in one order",
        "{hear: x, say: A, pause: 2s, event: {name: N, payload: [1, null]}, tool: {name: T, result: {a: 1}, took: 1m}}",
        Rule((Hear(("x",)),), ((CallTool("T", {"a": 1}, 60.0), PushEvent("N", [1, None]), Pause(2.0), Say("A")),)),
    ),
    (
        "the same as parts of a reply",
        "{hear: x, say: [A, {pause: 2s}, {event: {name: N}}, {tool: {name: T}}]}",
        Rule((Hear(("x",)),), ((Say("A"), Pause(2.0), PushEvent("N"), CallTool("T")),)),
    ),
    ("a transfer", '{hear: x, transfer: "+1555"}', Rule((Hear(("x",)),), transfer=Transfer("+1555"))),
    (
        "a transfer in full",
        '{hear: x, transfer: {to: "+1555", type: cold, summary: ""}}',
        Rule((Hear(("x",)),), transfer=Transfer("+1555", "cold", "")),
    ),
    ("an end", "{hear: x, end: timeout}", Rule((Hear(("x",)),), end=EndReason.TIMEOUT)),
    (
        "conditions",
        "{hear: x, when: {language: de, metadata: {a.b: [1, yes, null], c: true}}}",
        Rule((Hear(("x",)),), when=When(("de",), {"a.b": (1, "yes", None), "c": (True,)})),
    ),
]


@pytest.mark.parametrize(("text", "rule"), [row[1:] for row in RULES_TAKEN], ids=[row[0] for row in RULES_TAKEN])
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    document = f"{{replies: [{text}]}}"
    assert agent(document).replies == (rule,)
    SCHEMA.validate(plain_value(compose(f"agents: {{agt_a: {document}}}")))


def test_a_pattern_is_searched_without_regard_to_case() -> None:
    (rule,) = agent(r"{replies: [{hear: ['/order (?P<number>\d+)/', order]}]}").replies
    (hear,) = rule.triggers
    assert isinstance(hear, Hear)
    assert hear.phrases == ("order",)
    found = hear.patterns[0].search("ORDER 17")
    assert found is not None
    assert found["number"] == "17"


def test_a_whole_file_is_read() -> None:
    text = """\
version: 1
seed: 42
auth:
  users:
    - {email: me@b.c, password: pw, first_name: A, role: R, tenant: ten_x, mfa_secret: jbsw y3dp ehpk 3pxp}
  algorithm: RS256
  secret: 0123456789abcdef0123456789abcdef
  token_ttl: 1h
  refresh_ttl: 14d
  api_keys: [vsnp_live_1]
limits: {max_sessions: 0, max_message_bytes: 65536, max_utterance: 10s, journal_entries: 10, journal_bytes: 5000}
fidelity: {auth_failure: error_event, on_token_expiry: error, chat_chunks: delta, resume_window: 0s}
agents:
  agt_a:
    name: A
    active: false
    greeting: [Hi, {wav: a/b.wav, text: there}]
    voice: {engine: tone, name: de, rate: 80, volume: 1}
    hears: vosk
    vosk_model: models/de
    timing: {partial_every: 20ms, end_of_turn: 1s, first_audio: 0ms, max_idle: 1m, max_duration: 1h, idle_grace: 2s}
    barge_in: false
    replies: []
    states: {s: [], 'the end': [{hear: x, goto: replies}, {hear: y, goto: s}]}
  agt_b:
    barge_in: {after: 500ms}
    script: [{say: Hi}, {hear: x}, {transfer: them}]
    timing: {chat_chunk: 1ms}
"""
    SCHEMA.validate(plain_value(compose(text)))
    file = parse_agents(text, source="x.yaml")
    assert (file.source, file.seed, file.limits.max_sessions, file.limits.max_utterance) == ("x.yaml", 42, 0, 10.0)
    assert file.auth.users[0].mfa_secret == "JBSWY3DPEHPK3PXP"
    assert (file.auth.algorithm, file.auth.token_ttl, file.auth.refresh_ttl) == ("RS256", 3600.0, 14 * 86400.0)
    assert (file.auth.api_keys, file.fidelity.resume_window) == (("vsnp_live_1",), 0.0)
    first, second = file.agents.values()
    assert (first.id, first.name, first.active, first.barge_in) == ("agt_a", "A", False, None)
    assert first.greeting == (Say("Hi"), Say("there", "a/b.wav"))
    assert (first.voice.engine, first.voice.rate, first.voice.volume) == ("tone", 80, 1.0)
    assert (first.timing.partial_every, first.timing.max_idle, first.timing.max_duration) == (0.02, 60.0, 3600.0)
    assert first.timing.idle_grace == 2.0
    assert list(first.states) == ["s", "the end"]
    assert first.script is None
    assert (second.id, second.name, second.barge_in, second.timing.chat_chunk) == ("agt_b", "agt_b", 0.5, 0.001)
    assert second.script is not None
    assert [step.line for step in second.script] == [27, 27, 27]
    assert list(file.prompts()) == [Prompt("a/b.wav", 17, 20)]


def test_what_is_left_out_gets_the_defaults() -> None:
    file = parse_agents("agents: {agt_a: {}}", source="x.yaml")
    assert file == AgentsFile(agents={"agt_a": AgentScript(id="agt_a", name="agt_a")})


def test_every_prompt_is_listed_with_its_place() -> None:
    text = """\
agents:
  agt_a:
    replies:
      - else: [{wav: a.wav, text: a}, [x, {wav: b.wav, text: b}]]
    states:
      s:
        - hear: x
          say: {wav: c.wav, text: c}
  agt_b:
    script:
      - say:
          - {text: d, wav: d.wav}
"""
    assert list(parse_agents(text, source="x").prompts()) == [
        Prompt("a.wav", 4, 16),
        Prompt("b.wav", 4, 43),
        Prompt("c.wav", 8, 16),
        Prompt("d.wav", 12, 13),
    ]


def test_anchors_repeat_whole_values() -> None:
    file = parse_agents("agents: {a: {voice: &v {name: de}}, b: {voice: *v}}", source="x")
    assert file.agents["a"].voice == file.agents["b"].voice


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter() -> None:
    text = "\ufeffagents:\r\n  agt_a:\r\n    name: Jos\u00e9\r\n".encode()
    assert parse_agents(text, source="x").agents["agt_a"].name == "Jos\u00e9"


def test_templates_may_use_what_is_known() -> None:
    text = "{{ name }} {{userName}} {{ language }} {{ metadata }} {{ metadata.a-b.0 }} {{ message.metadata.x }}"
    (rule,) = agent(f"{{replies: [{{hear: '/(?P<name>x)/', say: '{text}'}}]}}").replies
    assert rule.alternatives == ((Say(text),),)


# --- Refused --------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    document: str
    problems: list[str]
    verdict: str


def refused() -> list[ParameterSet]:
    rows = []
    for part in REFUSED.read_text(encoding="utf-8").split("\n=== ")[1:]:
        title, _, body = part.partition("\n")
        name, _, verdict = title.removesuffix("]").partition(" [")
        document, _, problems = body.partition("\n--->\n")
        rows.append(pytest.param(Row(document, problems.strip().split("\n"), verdict), id=name))
    return rows


@pytest.mark.parametrize("row", refused())
def test_a_wrong_file_is_refused_by_reader_and_schema(row: Row) -> None:
    assert problems(row.document) == row.problems
    if row.verdict == "no YAML":
        with pytest.raises(Refused):
            plain_value(compose(row.document))
    else:
        assert SCHEMA.is_valid(plain_value(compose(row.document))) is (row.verdict == "reader only")


def test_all_problems_are_reported_in_the_file_s_order() -> None:
    text = """\
sed: 1
agents:
  agt_a:
    voice: {rate: 9000}
    replies:
      - hear: ['/(/', x]
        goto: nowhere
      - say: {wav: /x.wav, text: '{{ nobody }}'}
    timing: {max_idle: 5}
"""
    assert [line.split(":")[:2] for line in problems(text)] == [
        ["1", "1"],
        ["4", "19"],
        ["6", "16"],
        ["7", "15"],
        ["8", "9"],
        ["8", "20"],
        ["8", "34"],
        ["9", "24"],
    ]


def test_what_an_alias_repeats_is_wrong_once() -> None:
    text = "agents: {a: {voice: &v {rate: 1}}, b: {voice: *v}}"
    assert problems(text) == ["1:31: expected a whole number, 80 to 450, found the number 1"]


def test_a_flood_of_problems_is_cut() -> None:
    text = "agents:\n" + "".join(f"  agt_{number}: {{x: 1}}\n" for number in range(300))
    found = problems(text)
    assert len(found) == 101
    assert found[-1] == "102:13: 200 more problems from here on"


def test_no_secret_is_shown() -> None:
    text = """\
auth:
  secret: hunter2
  api_keys: [hunter2, {hunter2: x}]
  users:
    - {email: a@b.c, password: [hunter2]}
    - {email: a@b.c, password: 112233, mfa_secret: hunter2}
agents: {a: {}}
"""
    shown = "\n".join(problems(text))
    assert "hunter2" not in shown
    assert "112233" not in shown


def test_nothing_in_a_message_can_drive_a_terminal() -> None:
    assert problems('agents: {a: {"\\e[31m": 1}}')[0].startswith('1:14: unknown key "\\u001b[31m"')


def test_a_pattern_too_deep_to_compile_is_a_problem() -> None:
    (problem,) = problems(f"agents: {{a: {{replies: [{{hear: '/{'(' * 20_000}/'}}]}}}}")
    assert problem.startswith("1:31: bad pattern /((((")


def test_a_doubtful_pattern_warns_nobody() -> None:
    assert agent("{replies: [{hear: '/[[a]/'}]}")


# --- Properties -----------------------------------------------------------------------------------------------

yaml_like = st.text(st.sampled_from("agents: {}[]&*!|>-'\"#%@`?,\n\t \\x0\u00e9/<~"), max_size=60)


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary(), yaml_like, yaml_like.map(lambda text: f"agents: {{a: {text}}}")))
def test_no_text_does_anything_but_pass_or_be_refused(text: str | bytes) -> None:
    try:
        parse_agents(text, source="x")
    except AgentsFileError as error:
        refused = error
    else:
        return
    assert refused.problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in refused.problems)


KEYS = [
    *("agents", "a", "replies", "states", "script", "hear", "say", "else", "dtmf", "silence", "goto", "when", "wav"),
    *("text", "greeting", "voice", "rate", "timing", "max_idle", "transfer", "to", "event", "name", "payload"),
]
integers = st.integers(min_value=1 - 2**63, max_value=2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)


def json_values(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.one_of(st.none(), st.booleans(), integers, floats, texts),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
        max_leaves=12,
    )


meaningful = st.sampled_from(["x", "5s", "replies", "/(?P<a>x)/", "{{ a }}", "p.wav", "agent_ended"])


@settings(deadline=None)
@given(json_values(meaningful))
def test_the_schema_refuses_nothing_that_the_reader_takes(content: Any) -> None:
    document = {"agents": {"a": content}}
    try:
        parse_agents(json.dumps(document), source="x")
    except AgentsFileError:
        return
    SCHEMA.validate(document)


words = st.sampled_from(["refund", "money back", "yes", "5 5", "\u00fcber", 'a "quoted" word', "x: y", "# no comment"])
say_items = st.one_of(
    words.map(Say),
    words.map(lambda text: Say(text, "prompts/x.wav")),
    st.sampled_from([0.0, 0.25, 90.0]).map(Pause),
    st.tuples(words, json_values(words)).map(lambda pair: PushEvent(*pair)),
    st.tuples(words, json_values(words), st.sampled_from([0.0, 1.5])).map(lambda triple: CallTool(*triple)),
)
spoken = st.lists(say_items, min_size=1, max_size=3).map(tuple)
steps = st.builds(
    Rule,
    triggers=st.one_of(
        words.map(lambda phrase: (Hear((phrase,)),)),
        st.sampled_from(["0", "12#", "*"]).map(lambda digits: (Dtmf(digits),)),
        st.sampled_from([0.5, 8.0]).map(lambda after: (Silence(after),)),
    ),
    alternatives=spoken.map(lambda actions: (actions,)),
)
agents = st.builds(
    AgentScript,
    id=st.just("agt_a"),
    name=words,
    active=st.booleans(),
    greeting=spoken,
    barge_in=st.sampled_from([None, 0.2, 1.0]),
    script=st.lists(steps, min_size=1, max_size=3).map(tuple),
)


def as_item(action: Say | Pause | PushEvent | CallTool) -> Any:
    match action:
        case Say(text, None):
            return text
        case Say(text, wav):
            return {"wav": wav, "text": text}
        case Pause(seconds):
            return {"pause": f"{seconds * 1000:g}ms"}
        case PushEvent(name, payload):
            return {"event": {"name": name, "payload": payload}}
        case CallTool(name, result, took):
            return {"tool": {"name": name, "result": result, "took": f"{took:g}s"}}


def as_step(step: Rule) -> Any:
    document: dict[str, Any] = {"say": [as_item(action) for action in step.alternatives[0]]}
    for trigger in step.triggers:
        match trigger:
            case Hear(phrases):
                document["hear"] = list(phrases)
            case Dtmf(digits):
                document["dtmf"] = digits
            case Silence(after):
                document["silence"] = f"{after:g}s"
            case Otherwise():
                raise AssertionError("no step has an else")
    return document


@settings(deadline=None)
@given(agents)
def test_what_is_written_down_is_read_back(script: AgentScript) -> None:
    document = {
        "agents": {
            "agt_a": {
                "name": script.name,
                "active": script.active,
                "greeting": [as_item(action) for action in script.greeting],
                "barge_in": False if script.barge_in is None else {"after": f"{script.barge_in:g}s"},
                "script": [as_step(step) for step in script.script or ()],
            }
        }
    }
    for text in (json.dumps(document), yaml.safe_dump(document, allow_unicode=True, sort_keys=False)):
        assert parse_agents(text, source="x").agents == {"agt_a": script}
    SCHEMA.validate(document)
