"""YAML as text: what is refused before any key has a meaning, with its place."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from voisnap_mock.agents import nodes
from voisnap_mock.agents.nodes import AGENTS_FILE, Refused, compose, plain_value

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(letter + 1)}: &{chr(letter + 1)} [{','.join(['*' + chr(letter)] * 9)}]" for letter in range(97, 106)
)
DEEP_BY_ALIAS = "\n".join(f"k{n}: &k{n} {'[' * 40}{f'*k{n - 1}' if n else ''}{']' * 40}" for n in range(30))

REFUSED: list[tuple[str, str | bytes, list[str]]] = [
    ("empty", "", ['1:1: the file is empty: it needs at least the key "agents"']),
    ("white space", " \n\n", ['1:1: the file is empty: it needs at least the key "agents"']),
    ("only a comment", "# x\n", ['2:1: the file has no content: it needs at least the key "agents"']),
    ("UTF-16", "a: 1".encode("utf-16"), ["1:1: the file is UTF-16: save it as UTF-8"]),
    ("Latin-1", "a: 1\nb: \u00e9".encode("latin-1"), ["2:4: the byte 0xe9 is not UTF-8: save the file as UTF-8"]),
    (
        "a control character",
        "a: 1\nb: \x00",
        ["2:4: the character U+0000 is not allowed in YAML: remove it, or write it as an escape in quotes"],
    ),
    (
        "half a character",
        "a: \ud800",
        ["1:4: the character U+D800 is not allowed in YAML: remove it, or write it as an escape in quotes"],
    ),
    (
        "half a character, escaped",
        'a: "\\ud800"',
        ["1:7: not valid YAML: found invalid Unicode character escape code while parsing a quoted scalar"],
    ),
    (
        "too large",
        "a" * (AGENTS_FILE.bytes + 1),
        ["1:1: the file has 1,048,577 bytes; 1,048,576 are read at most"],
    ),
    ("a tab", "a:\n\tb: 1", ["2:1: a tab indents this line: YAML wants spaces"]),
    ("a tab at the start", "\ta: 1", ["1:1: a tab indents this line: YAML wants spaces"]),
    ("a tab between spaces", "a:\n  b: c\n \td: e", ["3:2: a tab indents this line: YAML wants spaces"]),
    ("duplicate keys", "a: 1\nb: 2\na: 3", ['3:1: the key "a" is already there, in line 1']),
    (
        "duplicate keys, twice, deep",
        "a: {b: 1, b: 2}\nc: [{d: 1, 'd': 2}]",
        ['1:11: the key "b" is already there, in line 1', '2:12: the key "d" is already there, in line 2'],
    ),
    ("a number as key", "1: a", ['1:1: keys are texts: write "1" in quotes']),
    ("null as key", "null: a", ['1:1: keys are texts: write "null" in quotes']),
    ("a list as key", "? [a]\n: b", ["1:3: a list or mapping cannot be a key"]),
    (
        "a merge key",
        "a: &a {b: 1}\nc: {<<: *a}",
        ['2:5: merge keys ("<<") are not supported: write the keys out, or repeat a whole value'],
    ),
    (
        "a tag",
        "a: !!python/object/apply:os.system [x]",
        ["1:4: the tag !!python/object/apply:os.system is not supported: leave it out"],
    ),
    ("a harmless tag", "a: !!str 5", ["1:4: the tag !!str is not supported: leave it out"]),
    ("an unknown anchor", "a: *b", ["1:4: *b repeats an anchor that is not there: write &b before it, or use quotes"]),
    ("an anchor in itself", "a: &a [1, {b: *a}]", ["1:15: *a stands inside &a: it would contain itself"]),
    ("an alias bomb", BOMB, ["5:23: more than 50,000 values, counting what aliases repeat: too much to read"]),
    ("depth", "[" * 900, ["1:65: lists and mappings are nested more than 64 deep"]),
    ("depth in blocks", "- " * 10_000, ["1:129: lists and mappings are nested more than 64 deep"]),
    ("depth of a megabyte", "{a: " * 250_000, ["1:257: lists and mappings are nested more than 64 deep"]),
    ("depth by aliases", DEEP_BY_ALIAS, ["2:49: lists and mappings are nested more than 64 deep"]),
    ("two documents", "---\na: 1\n---\nb: 2", ["3:1: a second document begins here: a file has one"]),
    (
        "an open bracket",
        "a: [1,\n  2\nb: 3",
        ["3:2: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence that begins in line 1"],
    ),
    (
        "a character that begins nothing",
        "a: @b",
        ["1:4: not valid YAML: this character cannot begin a text: put the text in quotes"],
    ),
    ("a star", "a: *", ['1:5: not valid YAML: "*" and "&" cannot begin a text: put the text in quotes']),
    (
        "a colon in a text",
        "a: b: c",
        ['1:5: not valid YAML: a text with ": " in it needs quotes, or the indentation is off'],
    ),
    ("a directive of the future", "%YAML 2.0\n---\na: 1", ["1:1: not valid YAML: found incompatible YAML document"]),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_bad_text_is_refused_with_its_place(text: str | bytes, expected: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        compose(text)
    assert [f"{problem.line}:{problem.column}: {problem.message}" for problem in caught.value.problems] == expected


def test_depth_is_refused_wherever_the_parser_notices_it() -> None:
    with pytest.raises(Refused) as caught:
        compose("[" * 10_000)
    assert [problem.message for problem in caught.value.problems] == ["lists and mappings are nested more than 64 deep"]


SCALARS: list[tuple[str, Any]] = [
    ("yes", "yes"),
    ("off", "off"),
    ("true", True),
    ("False", False),
    ("~", None),
    ("null", None),
    ("", None),
    ("12", 12),
    ("-12", -12),
    ("012", 12),
    ("0x1F", 31),
    ("0o17", 15),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("1.5", 1.5),
    ("-.5e3", -500.0),
    ("1e3", 1000.0),
    ("2024-01-01", "2024-01-01"),
    ("'12'", "12"),
    ('"\\u00e9"', "\u00e9"),
    ("-", [None]),
    ("|\n  two\n  lines", "two\nlines"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    read = plain_value(compose(f"- {text}"))
    assert read == [value]
    assert type(read[0]) is type(value)


@pytest.mark.parametrize("number", [".inf", "-.INF", ".nan", "1e999", "9223372036854775808", "1" * 5000])
def test_numbers_that_json_cannot_hold_are_refused(number: str) -> None:
    with pytest.raises(Refused):
        plain_value(compose(f"- {number}"))


def test_every_node_knows_its_place() -> None:
    root = compose("a: 1\nb:\n  - c\n  - {d: e}\n")
    assert isinstance(root, nodes.MapNode)
    listed = root.get("b")
    assert isinstance(listed, nodes.ListNode)
    assert [(node.line, node.column) for node in (root, listed, *listed.items)] == [(1, 1), (3, 3), (3, 5), (4, 5)]
    assert root.get("nothing") is None


def test_an_alias_of_a_scalar_stands_where_it_is_used() -> None:
    root = compose("a: &x 1\nb: *x")
    assert isinstance(root, nodes.MapNode)
    value = root.get("b")
    assert value is not None
    assert (value.line, value.column) == (2, 4)


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(1 - 2**63, 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text("abc<:", min_size=1), inner)),
    max_leaves=20,
)


@settings(deadline=None)
@given(json_values)
def test_what_an_ordinary_yaml_writer_writes_is_read_back(value: Any) -> None:
    text = yaml.safe_dump([value], allow_unicode=True, width=math.inf)
    try:
        read = plain_value(compose(text))
    except Refused as refused:
        # Unprintable text, such as a byte order mark in the middle, is all that may be refused.
        problems = refused.problems
    else:
        assert read == [value]
        return
    assert all("not allowed in YAML" in problem.message for problem in problems)


@pytest.fixture
def slow_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML without libyaml, as on platforms that have no wheel."""
    monkeypatch.setattr(nodes, "_Loader", yaml.SafeLoader)


@pytest.mark.usefixtures("slow_parser")
@pytest.mark.parametrize("text", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_the_parser_without_libyaml_refuses_the_same(text: str | bytes) -> None:
    with pytest.raises(Refused):
        compose(text)


@pytest.mark.usefixtures("slow_parser")
def test_the_parser_without_libyaml_reads_the_same() -> None:
    text = "a: [1, 'two', {b: ~}]\nc: |\n  x\n"
    assert plain_value(compose(text)) == {"a": [1, "two", {"b": None}], "c": "x\n"}
