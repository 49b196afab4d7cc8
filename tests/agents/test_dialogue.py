"""What an agent does: rules, states, keys, silence, strict scripts, templates."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voisnap_mock.agents.dialogue import Dialogue, Turn
from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import CallTool, EndReason, Pause, PushEvent, Say, Transfer


def dialogue(text: str, **variables: object) -> Dialogue:
    """A conversation with an agent of this content, given as it stands below the agent's id."""
    indented = text.strip("\n").replace("\n", "\n    ")
    return Dialogue(parse_agents(f"agents:\n  agt_a:\n    {indented}", source="x").agents["agt_a"], variables=variables)


def said(turn: Turn | None) -> list[str]:
    """The texts of a turn; a problem would be in its place."""
    assert turn is not None
    assert turn.problem is None, turn.problem
    return [action.text for action in turn.actions if isinstance(action, Say)]


SUPPORT = """
greeting: Hi
replies:
  - {hear: [refund, money back], say: Which order?, goto: order}
  - {hear: help, say: Help is near}
  - {else: [Sorry?, Pardon?]}
states:
  order:
    - {hear: '/(?P<order>\\d[\\d ]{3,})/', say: 'Order {{ order }} is refunded.', goto: replies}
    - {hear: help, say: Read the digits out}
    - {else: Digits please}
"""


# --- Speech ---------------------------------------------------------------------------------------------------


def test_the_greeting_comes_first() -> None:
    assert dialogue(SUPPORT).greet() == Turn((Say("Hi"),), matched="greeting")


def test_an_agent_without_greeting_begins_in_silence() -> None:
    assert dialogue("name: A").greet() == Turn(matched="greeting")


def test_the_first_rule_that_fits_answers() -> None:
    talk = dialogue("replies: [{hear: [a, b], say: one}, {hear: [b, c], say: two}]")
    assert [said(talk.hear(text)) for text in ("c", "b", "A!", "c b")] == [["two"], ["one"], ["one"], ["one"]]


def test_a_conversation_through_states() -> None:
    talk = dialogue(SUPPORT)
    assert talk.state is None
    assert said(talk.hear("I want my MONEY back!")) == ["Which order?"]
    assert talk.state == "order"
    assert said(talk.hear("help")) == ["Read the digits out"]
    assert said(talk.hear("one two")) == ["Digits please"]
    assert said(talk.hear("it is four oh seven nine please")) == ["Order 4 0 7 9 is refunded."]
    assert talk.state is None
    assert talk.captures == {"order": "4 0 7 9"}
    assert said(talk.hear("help")) == ["Help is near"]


def test_replies_answer_in_a_state_before_its_else() -> None:
    talk = dialogue(SUPPORT)
    talk.hear("refund")
    assert said(talk.hear("a refund, I said")) == ["Which order?"]


def test_the_else_of_the_replies_answers_where_a_state_has_none() -> None:
    talk = dialogue("""
replies: [{hear: a, goto: s}, {else: what}]
states: {s: [{hear: b, say: ok}]}
""")
    talk.hear("a")
    assert said(talk.hear("c")) == ["what"]


def test_alternatives_come_in_turn_in_every_session_alike() -> None:
    for _ in range(2):
        talk = dialogue(SUPPORT)
        assert [said(talk.hear("?"))[0] for _ in range(3)] == ["Sorry?", "Pardon?", "Sorry?"]


def test_what_nobody_answers_is_answered_by_nothing() -> None:
    talk = dialogue("replies: [{hear: a, say: b}]")
    assert talk.hear("c") == Turn(matched="nothing")
    assert talk.fall_back() is None


def test_the_fall_back_is_what_else_says() -> None:
    talk = dialogue(SUPPORT)
    assert [said(talk.fall_back()), said(talk.hear("?"))] == [["Sorry?"], ["Pardon?"]]


def test_a_turn_says_which_rule_answered() -> None:
    talk = dialogue(SUPPORT)
    matched = [talk.hear(text).matched for text in ("help", "refund", "help", "?")]
    assert matched == ["replies[1] line 6", "replies[0] line 5", "states.order[1] line 11", "states.order[2] line 12"]


def test_captures_keep_their_spelling_and_stay_for_the_session() -> None:
    talk = dialogue(r"""
replies:
  - {hear: '/my name is (?P<name>\w+)(?: (?P<family>\w+))?/', say: 'Hi {{ name }} {{ family }}.'}
  - {else: 'What, {{ name }}?'}
""")
    assert said(talk.hear("?")) == ["What, ?"]
    assert said(talk.hear("Well, MY NAME IS José")) == ["Hi José ."]
    assert said(talk.hear("my name is Ada Lovelace")) == ["Hi Ada Lovelace."]
    assert said(talk.hear("my name is Bob")) == ["Hi Bob Lovelace."]
    assert said(talk.hear("?")) == ["What, Bob?"]


def test_everything_a_rule_does_is_in_its_turn() -> None:
    turn = dialogue("""
replies:
  - hear: a
    say: [one, {pause: 1s}, {wav: p.wav, text: two}]
    tool: {name: T, result: [1], took: 2s}
    event: {name: E, payload: x}
    pause: 3s
    transfer: {to: them, type: cold, summary: why}
""").hear("a")
    assert turn.actions == (
        CallTool("T", [1], 2.0),
        PushEvent("E", "x"),
        Pause(3.0),
        Say("one"),
        Pause(1.0),
        Say("two", "p.wav"),
    )
    assert (turn.transfer, turn.end) == (Transfer("them", "cold", "why"), None)


def test_a_rule_may_end_the_session() -> None:
    assert dialogue("replies: [{hear: bye, end: agent_ended}]").hear("bye").end is EndReason.AGENT_ENDED


# --- Templates and conditions ---------------------------------------------------------------------------------

TEMPLATES: list[tuple[str, str]] = [
    ("{{ userName }}", "Ada"),
    ("{{ language }}", "de-AT"),
    ("{{ metadata.customer.plan }}", "gold"),
    ("{{ metadata.customer }}", '{"plan": "gold"}'),
    ("{{ metadata.nothing.there }}|", "|"),
    ("{{ message.metadata.page }}", "7"),
    ("{{ message.metadata.other }}|", "|"),
]
GIVEN: dict[str, Any] = {"userName": "Ada", "language": "de-AT", "metadata": {"customer": {"plan": "gold"}, "seats": 2}}


@pytest.mark.parametrize(("template", "text"), TEMPLATES)
def test_templates_see_the_session_and_the_message(template: str, text: str) -> None:
    talk = dialogue(f"replies: [{{else: '{template}'}}]", **GIVEN)
    assert said(talk.hear("x", message_metadata={"page": 7})) == [text]


def test_message_metadata_is_that_of_the_last_message_only() -> None:
    talk = dialogue("replies: [{else: '{{ message.metadata.a }}|'}]")
    assert said(talk.hear("x", message_metadata={"a": 1})) == ["1|"]
    assert said(talk.hear("x")) == ["|"]


def test_templates_work_in_transfers_events_and_tools() -> None:
    turn = dialogue(
        """
replies:
  - hear: a
    event: {name: E, payload: {who: ['{{ userName }}']}}
    tool: {name: T, result: '{{ metadata.seats }}'}
    transfer: {to: '{{ userName }}', summary: 'for {{ language }}'}
""",
        **GIVEN,
    ).hear("a")
    assert turn.actions == (CallTool("T", "2"), PushEvent("E", {"who": ["Ada"]}))
    assert turn.transfer == Transfer("Ada", "warm", "for de-AT")


def test_a_text_that_comes_out_empty_is_not_spoken() -> None:
    assert dialogue("greeting: ['{{ userName }}', Hi, {wav: p.wav, text: '{{ userName }}'}]").greet().actions == (
        Say("Hi"),
        Say("", "p.wav"),
    )


CONDITIONS: list[tuple[str, bool]] = [
    ("{language: de}", True),
    ("{language: DE_at}", True),
    ("{language: [fr, de]}", True),
    ("{language: en}", False),
    ("{language: de-CH}", False),
    ("{metadata: {customer.plan: gold}}", True),
    ("{metadata: {customer.plan: [silver, gold]}}", True),
    ("{metadata: {customer.plan: silver}}", False),
    ("{metadata: {seats: 2}}", True),
    ("{metadata: {seats: '2'}}", False),
    ("{metadata: {seats: true}}", False),
    ("{metadata: {nothing: null}}", True),
    ("{metadata: {customer.plan: gold, seats: 3}}", False),
    ("{metadata: {page: 7}}", True),
    ("{language: de, metadata: {seats: 2}}", True),
    ("{language: en, metadata: {seats: 2}}", False),
]


@pytest.mark.parametrize(("when", "holds"), CONDITIONS)
def test_a_rule_with_conditions_counts_only_when_they_hold(when: str, holds: bool) -> None:
    talk = dialogue(f"replies: [{{hear: a, when: {when}, say: yes}}, {{hear: a, say: no}}]", **GIVEN)
    assert said(talk.hear("a", message_metadata={"page": 7})) == ["yes" if holds else "no"]


def test_without_language_no_language_condition_holds() -> None:
    talk = dialogue("replies: [{else: a, when: {language: en}}]", language=None, metadata=None)
    assert talk.hear("x").matched == "nothing"


# --- Keys -----------------------------------------------------------------------------------------------------

KEYS = """
replies:
  - {dtmf: "1", say: one}
  - {dtmf: "12#", say: twelve}
  - {dtmf: "3", say: three, goto: s}
  - {dtmf: "*", say: star}
states:
  s:
    - {dtmf: "1", say: one in s}
"""


def press(talk: Dialogue, keys: str) -> list[str | None]:
    turns = [talk.press(key) for key in keys]
    return [None if turn is None else said(turn)[0] for turn in turns]


def test_a_key_answers_at_once_when_nothing_longer_begins_with_it() -> None:
    assert press(dialogue(KEYS), "*3") == ["star", "three"]


def test_a_sequence_is_complete_with_its_last_key() -> None:
    talk = dialogue(KEYS)
    assert press(talk, "12#") == [None, None, "twelve"]
    assert talk.pending_digits == ""


def test_a_key_that_may_go_on_waits_for_the_time_out() -> None:
    talk = dialogue(KEYS)
    assert press(talk, "1") == [None]
    assert talk.pending_digits == "1"
    assert said(talk.digits_timed_out()) == ["one"]
    assert talk.digits_timed_out() is None


def test_keys_after_a_sequence_begin_the_next_one() -> None:
    talk = dialogue(KEYS)
    assert press(talk, "1*") == [None, "one"]
    assert talk.pending_digits == "*"
    assert said(talk.digits_timed_out()) == ["star"]


def test_keys_that_no_rule_knows_are_forgotten() -> None:
    talk = dialogue(KEYS)
    assert press(talk, "9") == [None]
    assert talk.pending_digits == ""
    assert talk.digits_timed_out() is None
    assert press(talk, "*") == ["star"]


def test_half_a_sequence_falls_back_to_the_keys_that_are_one() -> None:
    talk = dialogue(KEYS)
    assert press(talk, "12") == [None, None]
    assert said(talk.digits_timed_out()) == ["one"]
    assert talk.pending_digits == "2"
    assert talk.digits_timed_out() is None
    assert talk.pending_digits == ""


def test_a_state_s_keys_come_first() -> None:
    talk = dialogue(KEYS)
    press(talk, "3")
    assert press(talk, "1") == [None]
    assert said(talk.digits_timed_out()) == ["one in s"]


def test_else_does_not_answer_keys() -> None:
    talk = dialogue("replies: [{else: what}]")
    assert talk.press("1") is None


@pytest.mark.parametrize("key", ["a", "", "12", "\u0661", " ", "A"])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="expected one of 0-9"):
        dialogue(KEYS).press(key)


# --- Silence --------------------------------------------------------------------------------------------------

SILENCE = """
replies:
  - {hear: a, goto: s}
  - {silence: 16s, say: Goodbye}
  - {silence: 8s, say: Still there?}
states:
  s:
    - {silence: 5s, say: Well?}
    - {silence: 8s, say: Hurry}
"""


def test_each_silence_rule_answers_once_per_silence_the_shortest_first() -> None:
    talk = dialogue(SILENCE)
    assert talk.next_silence() == 8.0
    assert talk.fall_silent(7.99) is None
    assert said(talk.fall_silent(8.0)) == ["Still there?"]
    assert talk.next_silence() == 16.0
    assert said(talk.fall_silent(16.0)) == ["Goodbye"]
    assert talk.next_silence() is None
    assert talk.fall_silent(99.0) is None


@pytest.mark.parametrize("sound", ["speech", "a word", "a key"])
def test_any_sound_of_the_caller_begins_a_new_silence(sound: str) -> None:
    talk = dialogue(SILENCE)
    talk.fall_silent(8.0)
    match sound:
        case "speech":
            talk.spoke()
        case "a word":
            talk.hear("x")
        case _:
            talk.press("1")
    assert talk.next_silence() == 8.0


def test_a_state_s_silence_replaces_that_of_the_replies_for_the_same_time() -> None:
    talk = dialogue(SILENCE)
    talk.hear("a")
    heard = []
    while (seconds := talk.next_silence()) is not None:
        heard.append((seconds, *said(talk.fall_silent(seconds))))
    assert heard == [(5.0, "Well?"), (8.0, "Hurry"), (16.0, "Goodbye")]


def test_an_agent_without_silence_rules_waits_for_ever() -> None:
    assert dialogue(KEYS).next_silence() is None


# --- Strict scripts -------------------------------------------------------------------------------------------

STRICT = """
greeting: Hello.
script:
  - say: Confirm?
  - {hear: ["yes", '/it is (?P<what>\\w+)/'], say: 'Fine {{ what }}'}
  - pause: 1s
  - {dtmf: "1#", say: Thanks}
  - {silence: 3s, say: Bye}
  - end: transfer_complete
"""


def test_a_script_played_right() -> None:
    talk = dialogue(STRICT)
    assert said(talk.greet()) == ["Hello.", "Confirm?"]
    assert talk.expected_text() == "yes"
    turn = talk.hear("It is RIGHT")
    assert turn.actions == (Say("Fine RIGHT"), Pause(1.0))
    assert turn.matched == "script[1] line 6"
    assert talk.press("1") is None
    assert said(talk.press("#")) == ["Thanks"]
    assert talk.next_silence() == 3.0
    assert talk.fall_silent(2.9) is None
    last = talk.fall_silent(3.0)
    assert said(last) == ["Bye"]
    assert last is not None
    assert last.end is EndReason.TRANSFER_COMPLETE
    assert talk.unused_turns() == ()


def problem(turn: Turn | None) -> str:
    assert turn is not None
    assert turn.end is EndReason.ERROR
    assert turn.actions == ()
    assert turn.problem is not None
    return turn.problem


def test_wrong_words_end_a_script_and_say_why() -> None:
    talk = dialogue(STRICT)
    talk.greet()
    assert problem(talk.hear("maybe")) == (
        "expected the caller to say one of ['yes', '/it is (?P<what>\\\\w+)/'], heard 'maybe' (step 2, line 6)"
    )


def test_words_instead_of_keys_are_a_wrong_turn() -> None:
    talk = dialogue(STRICT)
    talk.greet()
    talk.hear("yes")
    assert problem(talk.hear("yes")) == "expected the caller to press '1#', heard 'yes' (step 4, line 8)"


def test_keys_instead_of_words_are_a_wrong_turn() -> None:
    talk = dialogue(STRICT)
    talk.greet()
    assert problem(talk.press("5")).endswith("got the keys '5' (step 2, line 6)")


def test_wrong_keys_are_a_wrong_turn() -> None:
    talk = dialogue(STRICT)
    talk.greet()
    talk.hear("yes")
    assert talk.press("1") is None
    assert problem(talk.press("2")) == "expected the caller to press '1#', got the keys '12' (step 4, line 8)"


def test_too_few_keys_are_a_wrong_turn() -> None:
    talk = dialogue(STRICT)
    talk.greet()
    talk.hear("yes")
    talk.press("1")
    assert problem(talk.digits_timed_out()) == "expected the caller to press '1#', got the keys '1' (step 4, line 8)"


def test_words_instead_of_silence_are_a_wrong_turn() -> None:
    talk = dialogue("script: [{silence: 3s, hear: ok}]")
    assert problem(talk.hear("x")) == (
        "expected the caller to say one of ['ok'] or to be silent for 3 s, heard 'x' (step 1, line 3)"
    )


def test_words_after_a_script_are_a_wrong_turn() -> None:
    talk = dialogue("script: [{hear: a, say: b}]")
    talk.hear("a")
    assert problem(talk.hear("a")) == "the script is over, heard 'a'"
    assert problem(talk.press("1")) == "the script is over, got the keys '1'"


def test_silence_where_none_is_expected_is_nothing() -> None:
    talk = dialogue(STRICT)
    talk.greet()
    assert talk.next_silence() is None
    assert talk.fall_silent(60.0) is None


def test_steps_that_were_not_reached_are_listed() -> None:
    talk = dialogue(STRICT)
    talk.greet()
    talk.hear("yes")
    assert talk.unused_turns() == (
        "to press '1#' (step 4, line 8)",
        "to be silent for 3 s (step 5, line 9)",
        "to let the agent go on (step 6, line 10)",
    )


def test_a_script_without_words_left_expects_none() -> None:
    assert dialogue("script: [{hear: '/x/'}, {hear: b}]").expected_text() is None
    assert dialogue("script: [{dtmf: 1}, {hear: [b, c]}]").expected_text() == "b"
    assert dialogue(SUPPORT).expected_text() is None
    assert dialogue(SUPPORT).unused_turns() == ()


# --- Properties -----------------------------------------------------------------------------------------------

happenings = st.lists(
    st.one_of(
        st.sampled_from(["refund", "four one seven", "help", "yes", "x", ""]).map(lambda text: ("hear", text)),
        st.sampled_from("0123456789*#").map(lambda key: ("press", key)),
        st.just(("time out", "")),
        st.just(("silence", "")),
    ),
    max_size=20,
)


def play(text: str, happened: list[tuple[str, str]]) -> list[Turn | None]:
    talk = dialogue(text)
    turns: list[Turn | None] = [talk.greet()]
    for what, value in happened:
        match what:
            case "hear":
                turns.append(talk.hear(value))
            case "press":
                turns.append(talk.press(value))
            case "time out":
                turns.append(talk.digits_timed_out())
                if turns[-1] is None:
                    assert talk.pending_digits == ""
            case _:
                seconds = talk.next_silence()
                turns.append(None if seconds is None else talk.fall_silent(seconds))
                assert (turns[-1] is None) == (seconds is None)
    return turns


@settings(deadline=None)
@given(st.sampled_from([SUPPORT, KEYS, SILENCE, STRICT]), happenings)
def test_the_same_happenings_give_the_same_conversation(text: str, happened: list[tuple[str, str]]) -> None:
    assert play(text, happened) == play(text, happened)
