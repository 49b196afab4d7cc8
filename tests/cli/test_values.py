from __future__ import annotations

from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.cli.values import (
    Drop,
    Interrupt,
    Play,
    Press,
    Say,
    digits,
    drop,
    duration,
    interruption,
    pairs,
    steps_in_order,
    whole_number,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10.0), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0), ("14d", 1_209_600.0), ("7", 7.0)],
)
def test_durations_carry_a_unit_or_are_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5 parsecs", "1h30m"])
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="500ms, 10s, 2m or 1h"):
        duration(text)


def test_whole_numbers_have_bounds() -> None:
    port = whole_number(0, 65535)

    assert port("8647") == 8647
    for text in ("70000", "-1", "many", "1.5"):
        with pytest.raises(typer.BadParameter, match=rf"'{text}' is no whole number from 0 to 65535"):
            port(text)


def test_keys_are_those_of_a_telephone() -> None:
    assert digits("12*#") == "12*#"
    with pytest.raises(typer.BadParameter, match="'1a' has keys that no telephone has"):
        digits("1a")


def test_pairs_take_json_values_and_plain_text() -> None:
    given = ["plan=gold", "age=5", "vip=true", "gone=null", 'tags=["a"]', "equation=1=1", "empty="]

    assert pairs(given, option="--claim") == {
        "plan": "gold",
        "age": 5,
        "vip": True,
        "gone": None,
        "tags": ["a"],
        "equation": "1=1",
        "empty": "",
    }


@pytest.mark.parametrize("text", ["plan", "=gold"])
def test_a_word_without_equals_is_no_pair(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write for example --claim plan=gold"):
        pairs([text], option="--claim")


def test_an_interruption_is_a_time_and_a_text() -> None:
    assert interruption("1.5s=Stop it = now ") == Interrupt(1.5, "Stop it = now")
    for wrong in ("Stop it", "1.5s=", "1.5s= ", "soon=Stop it", "-1s=Stop it"):
        with pytest.raises(typer.BadParameter, match="write for example"):
            interruption(wrong)


def test_a_drop_is_a_time_and_how_long_to_stay_away() -> None:
    assert drop("1.5s") == Drop(1.5, 0.0)
    assert drop("3s=500ms") == Drop(3.0, 0.5)
    for wrong in ("soon", "=2s", "1s=soon", ""):
        with pytest.raises(typer.BadParameter, match="write for example"):
            drop(wrong)


def test_steps_keep_the_order_of_the_command_line() -> None:
    words = ["agt", "--dtmf", "1", "--say", "hello", "--out", "x.wav", "--wav=a.wav", "--say=--dtmf", "--dtmf", "2#"]
    words += ["--interrupt", "2s=no", "--drop", "3s"]

    steps = steps_in_order(
        words,
        say=["hello", "--dtmf"],
        wav=[Path("a.wav")],
        dtmf=["1", "2#"],
        interrupt=[Interrupt(2.0, "no")],
        drop=[Drop(3.0, 0.0)],
    )

    assert steps == [
        Press("1"),
        Say("hello"),
        Play(Path("a.wav")),
        Say("--dtmf"),
        Press("2#"),
        Interrupt(2.0, "no"),
        Drop(3.0, 0.0),
    ]


steps_strategy = st.lists(
    st.one_of(
        st.builds(Say, st.text()),
        st.builds(Press, st.from_regex(r"\A[0-9*#]+\Z")),
        st.builds(Play, st.just(Path("a.wav"))),
    )
)


@given(steps_strategy, st.booleans())
def test_any_order_of_steps_comes_out_as_it_went_in(steps: list[Say | Press | Play], is_joined: bool) -> None:
    words = ["agt_support"]
    for step in steps:
        option, value = {
            Say: lambda step: ("--say", step.text),
            Press: lambda step: ("--dtmf", step.digits),
            Play: lambda step: ("--wav", str(step.path)),
        }[type(step)](step)
        words += [f"{option}={value}"] if is_joined else [option, value]

    found = steps_in_order(
        words,
        say=[step.text for step in steps if isinstance(step, Say)],
        wav=[step.path for step in steps if isinstance(step, Play)],
        dtmf=[step.digits for step in steps if isinstance(step, Press)],
    )

    assert found == steps
