"""Which rules fire: counting, drawing, conditions, schedules, reports. All pure, all exact."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voisnap_mock.errors import FaultConflict, FaultUnknown
from voisnap_mock.faults.armed import Armed, Count
from voisnap_mock.faults.plan import FaultPlan, phase_at, report_of
from voisnap_mock.faults.reading import read_faults
from voisnap_mock.faults.rules import Crossing, FaultRule, Faults, Phase, Schedule, Silence

Thing = TypeVar("Thing")


def plan_of(text: str, *, seed: int = 1, sessions: Sequence[str] = ("s1",)) -> FaultPlan:
    plan = FaultPlan(seed, tenant="ten_dev")
    plan.load(read_faults(text, source="x"))
    for session in sessions:
        plan.session_opened(session)
    return plan


def at(point: str = "stt", **facts: object) -> Crossing:
    return Crossing(point, session="s1", agent="agt_a", channel="voice")._replace(**facts)


def fired(plan: FaultPlan, crossings: Sequence[Crossing]) -> list[tuple[str, ...]]:
    return [tuple(verdict.rule.id for verdict in plan.decide(crossing)) for crossing in crossings]


def pattern(plan: FaultPlan, count: int, **facts: object) -> str:
    """One letter for each of `count` crossings of stt: x where a rule fired."""
    return "".join("x" if names else "." for names in fired(plan, [at(**facts)] * count))


def alive(kind: type[Thing]) -> list[Thing]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, kind)]


# --- How often --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("", "xxxxxxxxxx"),
        ("times: 2", "xx........"),
        ("skip: 3", "...xxxxxxx"),
        ("every: 3", "..x..x..x."),
        ("skip: 1, every: 2, times: 3", "..x.x.x..."),
        ("rate: 0", ".........."),
        ("rate: 1.0", "xxxxxxxxxx"),
    ],
)
def test_a_rule_fires_as_often_as_it_says(quantity: str, expected: str) -> None:
    assert pattern(plan_of(f"{{at: stt, do: {{silence: true}}, {quantity}}}"), 10) == expected


def test_times_and_skip_count_for_the_tenant_or_for_each_session() -> None:
    both = [at(session="s1"), at(session="s2")] * 3
    text = "{id: a, at: stt, do: {silence: true}, skip: 1, times: 1, per: %s}"
    assert fired(plan_of(text % "tenant", sessions=("s1", "s2")), both) == [(), ("a",), (), (), (), ()]
    assert fired(plan_of(text % "session", sessions=("s1", "s2")), both) == [(), (), ("a",), ("a",), (), ()]


def test_every_counts_in_each_session_on_its_own() -> None:
    plan = plan_of("{id: a, at: stt, do: {silence: true}, every: 2}", sessions=("s1", "s2"))
    assert fired(plan, [at(session="s1"), at(session="s2"), at(session="s1")]) == [(), (), ("a",)]


def test_a_rule_is_over_so_long_after_its_first_firing_in_a_session() -> None:
    plan = plan_of("{id: a, at: stt, when: {call_after: 5s}, do: {silence: true}, for: 2s}", sessions=("s1", "s2"))
    times = [4.9, 5.0, 6.5, 7.0, 7.01, 20.0]
    assert [bool(plan.decide(at(t=t))) for t in times] == [False, True, True, True, False, False]
    assert [bool(plan.decide(at(t=t, session="s2"))) for t in (6.0, 8.0, 8.1)] == [True, True, False]


def test_a_rate_is_kept_on_the_whole_and_drawn_anew_for_each_session() -> None:
    plan = plan_of("{at: stt, do: {silence: true}, rate: 0.2}", sessions=("s1", "s2"))
    one, other = pattern(plan, 5_000), pattern(plan, 5_000, session="s2")
    assert 900 < one.count("x") < 1_100
    assert one != other


# --- The same again ---------------------------------------------------------------------------------------------

CALLS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), min_size=1, max_size=60)
MANY = (
    "[{id: a, at: stt, do: {slow: 1s}, rate: 0.4},"
    " {id: b, at: stt, when: {turn: 2}, do: {silence: true}, rate: 0.5},"
    " {id: c, at: stt, do: {replace: x}, every: 3}]"
)


@given(CALLS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_what_fires_in_a_session_does_not_depend_on_the_others(calls: list[tuple[int, int]], order: object) -> None:
    """Interleaved in any way, each session gets what it gets alone."""
    sessions = [f"s{number}" for number in range(4)]
    crossings = [at(session=f"s{number}", turn=turn) for number, turn in calls]
    together: dict[str, list[tuple[str, ...]]] = {session: [] for session in sessions}
    plan = plan_of(MANY, sessions=sessions)
    for crossing, names in zip(crossings, fired(plan, crossings), strict=True):
        together[crossing.session].append(names)
    for session in sessions:
        alone = plan_of(MANY, sessions=sessions)
        assert fired(alone, [crossing for crossing in crossings if crossing.session == session]) == together[session]


def test_another_seed_is_another_run_and_a_token_is_the_same_one() -> None:
    text = "{id: a, at: stt, do: {silence: true}, rate: 0.5}"
    first = plan_of(text, seed=7)
    lost = pattern(first, 64)
    assert first.has_drawn
    assert pattern(plan_of(text, seed=8), 64) != lost
    by_file = plan_of(first.token(), seed=99, sessions=("other id",))
    assert pattern(by_file, 64, session="other id") == lost
    by_hand = plan_of("[]", seed=99, sessions=("before",))
    by_hand.arm(read_faults(first.token(), source="x"))
    by_hand.session_opened("s1")
    assert pattern(by_hand, 64) == lost


def test_what_never_draws_needs_no_token() -> None:
    plan = plan_of("{at: stt, do: {silence: true}}")
    plan.decide(at())
    assert not plan.has_drawn


# --- Which crossings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "fits", "fails"),
    [
        ("agent: agt_a", {}, {"agent": "agt_b"}),
        ("tenant: ten_dev", {}, None),
        ("channel: voice", {}, {"channel": "chat"}),
        ("turn: 2", {"turn": 2}, {"turn": 1}),
        ("text: Refund", {"text": "a REFUND please"}, {"text": "hello"}),
        ("text: refund", {"text": "refund"}, {"text": None}),
        ("call_after: 2s", {"t": 2.0}, {"t": 1.99}),
        ("agent: agt_a, turn: 1, text: yes", {"turn": 1, "text": "yes"}, {"turn": 1, "text": "no"}),
    ],
)
def test_all_conditions_must_hold(condition: str, fits: dict[str, object], fails: dict[str, object] | None) -> None:
    plan = plan_of(f"{{at: stt, when: {{{condition}}}, do: {{silence: true}}}}")
    assert plan.decide(at(**fits))
    if fails is not None:
        assert not plan.decide(at(**fails))


def test_a_rule_for_another_tenant_never_fires() -> None:
    assert not plan_of("{at: stt, when: {tenant: ten_other}, do: {silence: true}}").decide(at())


def test_audio_that_has_crossed_is_a_condition() -> None:
    plan = plan_of("{at: audio.out, when: {audio_after: 1.2s}, do: {drop: reset}}")
    assert [bool(plan.decide(at("audio.out", audio=audio))) for audio in (1.18, 1.2)] == [False, True]


def test_stars_stand_for_names_and_for_parts_of_a_path() -> None:
    plan = plan_of(
        "[{id: e, at: event.*, do: {slow: 1s}}, {id: h, at: http.GET /api/v1/agents/*, do: {http: 500}},"
        " {id: t, at: method.*, when: {target: SendDtmfAsync}, do: {slow: 1s}}]"
    )
    assert fired(
        plan,
        [
            at("event.Error"),
            at("http.GET /api/v1/agents/agt_a"),
            at("http.GET /api/v1/agents"),
            at("http.GET /api/v1/agents/agt_a/x"),
            at("method.SendDtmfAsync", target="SendDtmfAsync"),
            at("method.TypingAsync", target="TypingAsync"),
        ],
    ) == [("e",), ("h",), (), (), ("t",), ()]
    assert plan.watches("event.Anything")
    assert not plan.watches("stt")


def test_only_the_first_of_two_that_exclude_each_other_fires_and_delays_add_up() -> None:
    plan = plan_of(
        "[{id: slow, at: stt, do: {slow: 1s}}, {id: once, at: stt, do: {silence: true}, times: 1},"
        " {id: then, at: stt, do: {replace: x}, times: 1}]"
    )
    assert fired(plan, [at()] * 3) == [("slow", "once"), ("slow", "then"), ("slow",)]


def test_a_rule_for_an_agent_concerns_only_that_agent() -> None:
    plan = plan_of("{at: stt, when: {agent: agt_a}, do: {silence: true}, times: 1}")
    assert plan.watches("stt")
    assert plan.watches("stt", agent="agt_a")
    assert not plan.watches("stt", agent="agt_b")
    plan.decide(at())
    assert not plan.watches("stt", agent="agt_a")


# --- Schedules --------------------------------------------------------------------------------------------------

SCHEDULED = (
    "faults: [{id: a, at: [stt, negotiate], do: {slow: 1s}}, {id: always, at: tts, do: {silence: true}}]\n"
    "schedules: {s: [{for: 20s, use: []}, {for: 40s, use: [a]}, {for: 10s}]%s}"
)


def test_phases_go_by_call_time_in_a_session() -> None:
    plan = plan_of(SCHEDULED % "")
    assert not plan.decide(at(t=25))
    assert plan.decide(at("tts", t=25))
    plan.start_schedule("s", now=1_000.0)
    assert [bool(plan.decide(at(t=t))) for t in (0, 19.9, 20, 59.9, 60, 71)] == [False, False, True, True, False, False]
    plan.stop_schedule("s")
    assert not plan.decide(at(t=25))


def test_phases_go_by_the_wall_clock_outside_of_sessions() -> None:
    plan = plan_of(SCHEDULED % "")
    plan.start_schedule("s", now=1_000.0)
    outside = Crossing("negotiate")
    times = (999, 1_010, 1_020, 1_059, 1_061)
    assert [bool(plan.decide(outside._replace(t=t))) for t in times] == [False, False, True, True, False]


def test_a_loop_begins_anew_and_what_does_not_loop_is_over() -> None:
    phases = (Phase(1.0), Phase(2.0, ("a",)))
    assert [phase_at(Schedule("s", phases, loop=True), t) for t in (0, 1, 2.9, 3, 4, 301)] == [
        phases[0],
        phases[1],
        phases[1],
        phases[0],
        phases[1],
        phases[1],
    ]
    assert phase_at(Schedule("s", phases), 3.0) is None


def test_an_unknown_schedule_is_named_with_those_there_are() -> None:
    with pytest.raises(FaultUnknown, match="there is no schedule 'x'; there are s"):
        plan_of(SCHEDULED % "").start_schedule("x", 0.0)


# --- Arming -----------------------------------------------------------------------------------------------------


def test_rules_without_an_id_get_one_that_is_free() -> None:
    plan = plan_of("[{id: stt-1, at: stt, do: {slow: 1s}}, {at: stt, do: {silence: true}, times: 1}]")
    more = plan.arm(read_faults("[{at: stt, do: {replace: x}}, {at: llm, do: {replace: x}}]", source="x"))
    assert [report.rule.id for report in plan.report()] == ["stt-1", "stt-2", "stt-3", "llm-1"]
    assert [rule.id for rule in more] == ["stt-3", "llm-1"]


def test_an_id_is_taken_once_and_nothing_is_armed_by_halves() -> None:
    plan = plan_of("{id: a, at: stt, do: {silence: true}}")
    with pytest.raises(FaultConflict, match="there is already a fault 'a'"):
        plan.arm(read_faults("[{id: b, at: llm, do: {slow: 1s}}, {id: a, at: llm, do: {slow: 2s}}]", source="x"))
    assert [report.rule.id for report in plan.report()] == ["a"]


def test_disarming_and_replacing_take_effect_at_once() -> None:
    plan = plan_of("[{id: a, at: stt, do: {slow: 1s}}, {id: b, at: stt, do: {silence: true}}]")
    assert fired(plan, [at()]) == [("a", "b")]
    assert plan.disarm("b").id == "b"
    assert fired(plan, [at()]) == [("a",)]
    plan.replace(read_faults("{id: c, at: stt, do: {silence: true}}", source="x"))
    assert fired(plan, [at()]) == [("c",)]
    with pytest.raises(FaultUnknown, match="there is no fault 'a'; there are c"):
        plan.disarm("a")


def test_a_reload_keeps_the_counters_of_what_has_not_changed() -> None:
    text = "[{id: a, at: stt, do: {silence: true}, times: 2}, {id: b, at: llm, do: {silence: true}}]"
    plan = plan_of(text)
    plan.decide(at())
    plan.arm(read_faults("{id: mine, at: tts, do: {silence: true}}", source="x"))
    plan.load(
        read_faults(
            "- {id: new, at: tts, do: {slow: 1s}}\n"
            + "\n".join(
                f"- {r}"
                for r in (
                    "{id: a, at: stt, do: {silence: true}, times: 2}",
                    "{id: b, at: llm, do: {silence: true}, times: 9}",
                )
            ),
            source="x",
        )
    )
    assert [(r.rule.id, r.fired) for r in plan.report()] == [("new", 0), ("a", 1), ("b", 0), ("mine", 0)]
    assert pattern(plan, 3) == "x.."


def test_a_reset_is_the_file_again_with_fresh_counters() -> None:
    plan = plan_of("{id: a, at: stt, do: {silence: true}, times: 1}")
    plan.arm(read_faults("{id: b, at: llm, do: {silence: true}}", source="x"))
    assert pattern(plan, 2) == "x."
    plan.reset()
    assert [report.rule.id for report in plan.report()] == ["a"]
    assert pattern(plan, 2) == "x."


def test_rules_of_one_session_concern_no_other() -> None:
    plan = plan_of("[]", sessions=("s1", "s2"))
    scope = plan.scope([FaultRule("a", ("stt",), Silence(), times=1)])
    assert plan.watches("stt", scope=scope)
    assert not plan.decide(at(session="s2"))
    assert plan.decide(at(), scope)
    assert not plan.decide(at(), scope)
    assert [(report.rule.id, report.fired, report.armed) for report in report_of(scope)] == [("a", 1, False)]


def test_what_a_request_brought_is_gone_with_it() -> None:
    plan = plan_of("{at: negotiate, do: {slow: 1s}}")
    for _ in range(3):
        assert plan.decide(at("negotiate", session=""), plan.scope([FaultRule("brought", ("negotiate",), Silence())]))
    assert not [armed for armed in alive(Armed) if armed.rule.id == "brought"]


def test_a_client_that_calls_after_the_end_of_its_session_meets_the_counts_of_that_session() -> None:
    plan = plan_of("{at: method.EndSessionAsync, do: {slow: 1s}, times: 1, per: session}")
    assert plan.decide(at("method.EndSessionAsync"))
    plan.session_ended("s1")
    assert not plan.decide(at("method.EndSessionAsync"))


def test_sessions_that_are_over_are_forgotten_in_the_end() -> None:
    plan = plan_of("{id: late, at: method.EndSessionAsync, do: {slow: 1s}, times: 2, per: session}", sessions=())
    before = len(alive(Count))
    for number in range(3_000):
        plan.session_opened(f"s{number}")
        plan.session_ended(f"s{number}")
        assert plan.decide(at("method.EndSessionAsync", session=f"s{number}"))
    assert len(alive(Count)) - before < 1_100


# --- What became of them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "crossing", "near_miss"),
    [
        ("when: {turn: 2}", at(turn=1, t=3.25), "stt, agt_a, turn 1, 3.25 s: when.turn is 2"),
        ("when: {agent: agt_b}", at(), "stt, agt_a, 0 s: when.agent is agt_b"),
        ("when: {text: refund}", at(turn=1, text="hi"), "stt, agt_a, turn 1, 0 s: when.text is 'refund', it was 'hi'"),
        ("when: {call_after: 9s}", at(t=1), "stt, agt_a, 1 s: when.call_after is 9 s"),
        ("skip: 1", at(), "stt, agt_a, 0 s: it matched, and the first 1 matches are skipped"),
        ("every: 2", at(), "stt, agt_a, 0 s: it was match 1 of its session, every is 2"),
        ("rate: 0", at(), "stt, agt_a, 0 s: it matched, and was not drawn (rate is 0)"),
        ("times: 1", at("llm"), "nothing has crossed stt"),
    ],
)
def test_a_rule_that_never_fired_says_what_came_nearest(rule: str, crossing: Crossing, near_miss: str) -> None:
    plan = plan_of(f"{{id: a, at: stt, do: {{silence: true}}, {rule}}}")
    plan.decide(crossing)
    (report,) = plan.report()
    assert (report.fired, report.armed, report.near_miss) == (0, True, near_miss)


def test_the_nearest_miss_is_kept_and_a_firing_ends_it() -> None:
    plan = plan_of("{id: a, at: stt, when: {agent: agt_a, turn: 2}, do: {silence: true}}")
    plan.decide(at(turn=1))
    plan.decide(at(agent="agt_b", turn=2))
    assert plan.report()[0].near_miss == "stt, agt_a, turn 1, 0 s: when.turn is 2"
    plan.decide(at(turn=2))
    assert plan.report()[0].near_miss is None
    assert plan.report()[0].fired == 1


def test_a_rule_behind_another_says_so() -> None:
    plan = plan_of("[{id: a, at: stt, do: {silence: true}, times: 1}, {id: b, at: stt, do: {replace: x}}]")
    plan.decide(at())
    assert plan.report()[1].near_miss == "stt, agt_a, 0 s: the fault 'a' fired before it"


def test_ten_thousand_rules_fire_each_at_its_turn() -> None:
    rules = tuple(
        FaultRule(f"r{turn}", ("stt",), Silence(), replace(FaultRule("", (), Silence()).when, turn=turn), times=1)
        for turn in range(1, 10_001)
    )
    plan = FaultPlan(1)
    plan.load(Faults(rules))
    plan.session_opened("s1")
    turns = range(1, 10_001, 97)
    assert fired(plan, [at(turn=turn) for turn in turns]) == [(f"r{turn}",) for turn in turns]
    assert sum(report.fired for report in plan.report()) == len(turns)


def test_endless_different_paths_do_not_fill_the_memory() -> None:
    plan = plan_of("{at: http.GET /api/v1/agents/*, do: {http: 500}, times: 1}")
    for number in range(10_000):
        plan.decide(Crossing(f"http.GET /api/v1/agents/{number}"))
    assert len(plan._candidates) <= 4_096
