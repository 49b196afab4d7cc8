"""Templates: names between double braces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.agents.templates import TemplateError, look_up, names_in, render, render_all

VALUES = {"name": "Ada", "count": 3, "ok": True, "none": None, "list": [1, "\u00e9"], "braces": "{{ name }}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi {{ name }}.", "Hi Ada."),
        ("{{name}}{{  name\t}}", "AdaAda"),
        ("{{ count }} {{ ok }} {{ none }}|", "3 true |"),
        ("{{ list }}", '[1, "\u00e9"]'),
        ("{{ unset }}", ""),
        ("{ name } }}", "{ name } }}"),
        ("{{ braces }}", "{{ name }}"),
    ],
)
def test_names_are_replaced_by_values(text: str, expected: str) -> None:
    list(names_in(text))
    assert render(text, VALUES.get) == expected


def test_texts_inside_json_are_rendered_keys_are_not() -> None:
    payload = {"{{ name }}": ["{{ name }}", 1, None, {"a": "{{ count }}"}]}
    assert render_all(payload, VALUES.get) == {"{{ name }}": ["Ada", 1, None, {"a": "3"}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ }}", 'expected a name between "{{" and "}}", found ""'),
        ("{{ a + b }}", 'expected a name between "{{" and "}}", found "a + b"'),
        ("{{ 1a }}", 'expected a name between "{{" and "}}", found "1a"'),
        ("{{ a. }}", 'expected a name between "{{" and "}}", found "a."'),
        ("{{ a }", '"{{" without "}}"'),
        ("{{ a }} and {{ b", '"{{" without "}}"'),
    ],
)
def test_what_is_no_name_is_refused(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        list(names_in(text))
    assert str(caught.value) == message


def test_names_are_listed() -> None:
    assert list(names_in("{{ a }} {{ metadata.x-y.0 }} b")) == ["a", "metadata.x-y.0"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"b": [10, 20]}),
        ("a.b.1", 20),
        ("a.b.2", None),
        ("a.b.x", None),
        ("a.c", None),
        ("a.b.1.z", None),
        ("a.b.-1", None),
    ],
)
def test_paths_lead_into_json(path: str, value: object) -> None:
    assert look_up({"a": {"b": [10, 20]}}, path.split(".")) == value


@given(st.text())
def test_any_text_without_templates_stays_as_it_is(text: str) -> None:
    if "{{" not in text:
        assert list(names_in(text)) == []
        assert render(text, VALUES.get) == text
