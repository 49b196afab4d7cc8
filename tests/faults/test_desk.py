"""The desk: a plan for each tenant, what is noted, and that tenants never see each other's faults."""

from __future__ import annotations

from typing import Any

import pytest

from voisnap_mock.app import App
from voisnap_mock.clock import ManualClock
from voisnap_mock.config import Settings, parse_agents
from voisnap_mock.errors import FaultConflict, FaultsError, FaultUnknown
from voisnap_mock.tenancy import Wishes

AGENTS = """\
agents: {agt_a: {greeting: Hi, replies: [{else: [{event: {name: Weather}}]}]}}
faults: [{id: busy, at: negotiate, do: {http: 429}, times: 1}]
schedules: {day: [{for: 1s, use: [busy]}]}
"""


def app_of(agents: str = AGENTS) -> App:
    return App(Settings(port=0), clock=ManualClock(), file=parse_agents(agents, source="test agents"))


def noted(app: App, tenant_id: str = "ten_dev") -> list[tuple[str, dict[str, Any]]]:
    tenant = app.tenants.get(tenant_id)
    assert tenant is not None
    return [(entry.kind, dict(entry.details)) for entry in tenant.journal.entries() if entry.kind.startswith("fault.")]


def test_rules_of_the_agents_file_are_armed_when_it_is_loaded() -> None:
    app = app_of(AGENTS.split("schedules")[0])
    (report,) = app.faults.report("ten_dev")
    assert (report.rule.id, report.armed, report.fired) == ("busy", True, 0)
    assert app.faults.watches("ten_dev", "negotiate")
    (verdict,) = app.faults.decide("ten_dev", "negotiate")
    assert verdict.rule.id == "busy"
    assert not app.faults.decide("ten_dev", "negotiate")
    assert noted(app) == [("fault.fired", {"fault": "busy", "point": "negotiate", "do": {"http": 429}})]


def test_what_is_armed_disarmed_and_reset_is_noted() -> None:
    app = app_of()
    (rule,) = app.faults.arm("ten_dev", app.faults.read("ten_dev", "{at: stt, do: {silence: true}}"))
    assert rule.id == "stt-1"
    app.faults.disarm("ten_dev", "stt-1")
    app.faults.reset("ten_dev")
    assert noted(app) == [
        ("fault.armed", {"fault": "stt-1", "rule": {"id": "stt-1", "at": "stt", "do": {"silence": True}}}),
        ("fault.disarmed", {"fault": "stt-1"}),
        ("fault.reset", {}),
    ]


def test_reading_knows_what_the_tenants_scripts_push_and_what_is_armed() -> None:
    app = app_of()
    app.faults.read("ten_dev", "{at: event.Weather, do: {slow: 1s}}")
    app.faults.read("ten_dev", {"faults": [], "schedules": {"x": [{"for": "1s", "use": ["busy"]}]}})
    with pytest.raises(FaultsError, match="body:1:6: nothing sends the event"):
        app.faults.read("ten_dev", "{at: event.Wheather, do: {slow: 1s}}", source="body")


def test_replacing_leaves_only_what_is_given() -> None:
    app = app_of()
    app.faults.replace("ten_dev", app.faults.read("ten_dev", "[{id: x, at: tts, do: {silence: true}}]"))
    assert [report.rule.id for report in app.faults.report("ten_dev")] == ["x"]
    with pytest.raises(FaultConflict):
        app.faults.arm("ten_dev", app.faults.read("ten_dev", "[{id: x, at: stt, do: {silence: true}}]"))


async def test_a_schedule_runs_by_the_wall_clock() -> None:
    clock = ManualClock()
    app = App(Settings(port=0), clock=clock, file=parse_agents(AGENTS, source="test agents"))
    assert not app.faults.decide("ten_dev", "negotiate")
    app.faults.start_schedule("ten_dev", "day")
    assert app.faults.is_running("ten_dev", "day")
    assert app.faults.decide("ten_dev", "negotiate")
    await clock.advance(1.5)
    assert not app.faults.is_running("ten_dev", "day")
    with pytest.raises(FaultUnknown, match="there is no schedule 'night'; there are day"):
        app.faults.stop_schedule("ten_dev", "night")


def test_a_new_tenant_has_the_files_faults_and_counts_on_its_own() -> None:
    app = app_of(AGENTS.split("schedules")[0])
    tenant = app.tenancy.create().tenant
    app.faults.arm(tenant.id, app.faults.read(tenant.id, "{id: mine, at: stt, do: {silence: true}}"))
    assert app.faults.decide("ten_dev", "negotiate")
    assert app.faults.decide(tenant.id, "negotiate")
    assert [report.rule.id for report in app.faults.report("ten_dev")] == ["busy"]
    assert [report.rule.id for report in app.faults.report(tenant.id)] == ["busy", "mine"]
    app.tenancy.reset(tenant)
    assert [(report.rule.id, report.fired) for report in app.faults.report(tenant.id)] == [("busy", 0)]


async def test_a_dropped_tenant_leaves_nothing_behind() -> None:
    app = app_of()
    own = parse_agents("agents: {agt_b: {}}\nfaults: [{id: x, at: tts, do: {silence: true}}]", source="own")
    tenant = app.tenancy.create(Wishes(file=own)).tenant
    assert [report.rule.id for report in app.faults.report(tenant.id)] == ["x"]
    await app.tenancy.drop(tenant.id)
    assert not app.faults.watches(tenant.id, "tts")
    assert not app.faults.decide(tenant.id, "tts")
    with pytest.raises(FaultUnknown, match="there is no tenant"):
        app.faults.report(tenant.id)


def test_an_unknown_tenant_is_named() -> None:
    with pytest.raises(FaultUnknown, match="there is no tenant 'ten_x'"):
        app_of().faults.report("ten_x")
