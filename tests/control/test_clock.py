"""The clock over HTTP, on a real server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hub_caller import HubCaller

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.app import App
from voisnap_mock.config import CallClock, Settings
from voisnap_mock.server import Server

AGENTS = """
version: 1
auth: {users: [{email: a@b.c, password: a}, {email: b@b.c, password: b, tenant: ten_other}]}
agents:
  agt_patient:
    voice: {engine: tone}
    greeting: Hello.
    replies: [{silence: 8s, say: Still there?}]
"""
CLOCK = "/__voisnap/clock"


@asynccontextmanager
async def serving(clock: CallClock = "virtual") -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    app = App(Settings(port=0, clock=clock), file=parse_agents(AGENTS, source="test agents"))
    async with Server(app) as server, httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        yield server, http


async def test_the_clock_is_shown_and_advanced_for_all_live_calls() -> None:
    async with (
        serving() as (server, http),
        HubCaller(server, "voice", agentId="agt_patient") as one,
        HubCaller(server, "chat", agentId="agt_patient") as two,
    ):
        ids = [(await caller.wait_for("SessionStarted"))["conversationId"] for caller in (one, two)]
        shown = (await http.get(CLOCK)).json()
        assert shown["mode"] == "virtual"
        assert {call["id"] for call in shown["calls"]} == set(ids)
        before = {call["id"]: call["t"] for call in shown["calls"]}

        answer = await http.post(CLOCK, json={"advance": "10s"})

        assert answer.status_code == 200
        # Between the two looks the agent may have gone on with its greeting.
        assert {call["id"] for call in answer.json()["calls"]} == set(ids)
        assert all(call["t"] >= before[call["id"]] + 10.0 for call in answer.json()["calls"])
        await one.wait_for("TranscriptionOf", isFinal=True, text="Still there?")
        await two.wait_for("MessageReceived", isFinal=True, content="Still there?")


async def test_one_call_is_advanced_and_the_others_stand_still() -> None:
    async with (
        serving() as (server, http),
        HubCaller(server, "voice", agentId="agt_patient") as one,
        HubCaller(server, "voice", agentId="agt_patient") as two,
    ):
        for caller in (one, two):
            await caller.wait_for("TranscriptionOf", isFinal=True, text="Hello.")
        first, second = (await http.get(CLOCK)).json()["calls"]

        moved = (await http.post(CLOCK, json={"advance": "500ms", "call": first["id"]})).json()["calls"]

        assert moved == [{"id": first["id"], "t": pytest.approx(first["t"] + 0.5)}, second]


async def test_time_runs_into_the_limits_of_a_call() -> None:
    async with serving() as (server, http), HubCaller(server, "voice", agentId="agt_patient") as caller:
        await caller.wait_for("SessionStarted")
        assert (await http.post(CLOCK, json={"advance": "1h"})).json()["calls"] == []
        assert (await caller.wait_for("SessionEnded"))["reason"] == "idle_timeout"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"advance": "-2s"}, 'expected a time with its unit, such as "300ms", .* came "-2s"; .*never goes back'),
        ({"advance": "soon"}, 'came "soon"'),
        ({"advance": "2"}, 'came "2"'),
        ({"advance": "nans"}, 'came "nans"'),
        ({"advance": 2}, "advance: expected a string, came 2"),
        ({}, "advance: expected in the body, but it is missing"),
        ({"advance": "1s", "cal": "conv_1"}, "cal: "),
        ([], "body: expected a JSON object"),
    ],
)
async def test_nonsense_does_not_move_the_clock(body: Any, says: str) -> None:
    async with serving() as (_, http):
        answer = await http.post(CLOCK, json=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert re.search(says, answer.json()["detail"]), answer.json()["detail"]


async def test_a_call_that_is_not_live_is_named_with_those_that_are() -> None:
    async with serving() as (_, http):
        answer = await http.post(CLOCK, json={"advance": "1s", "call": "conv_nobody"})
        assert answer.status_code == 404
        assert '"conv_nobody" is no live call on the virtual clock; there are none' in answer.json()["detail"]


@pytest.mark.parametrize("clock", ["real", "4x"])
async def test_a_clock_that_goes_by_itself_cannot_be_advanced(clock: CallClock) -> None:
    async with serving(clock) as (_, http):
        answer = await http.post(CLOCK, json={"advance": "1s"})
        assert answer.status_code == 409
        assert f"calls go by the {clock} clock here" in answer.json()["detail"]
        assert (await http.get(CLOCK)).json()["mode"] == clock


async def test_the_clock_is_that_of_a_tenant() -> None:
    async with serving() as (server, http), HubCaller(server, "voice", agentId="agt_patient") as caller:
        await caller.wait_for("SessionStarted")
        assert (await http.get(CLOCK, headers={"X-Voisnap-Tenant": "ten_other"})).json()["calls"] == []
        answer = await http.get(CLOCK, headers={"X-Voisnap-Tenant": "ten_nobody"})
        assert answer.status_code == 404
        assert '"ten_nobody" is not known; there are ten_dev, ten_other' in answer.json()["detail"]


async def test_a_page_of_another_origin_cannot_move_the_clock() -> None:
    async with serving() as (server, http):
        body = b'{"advance": "1s"}'
        headers = {"Origin": "http://evil.test", "Content-Type": "text/plain"}
        foreign = await http.post(CLOCK, content=body, headers=headers)
        assert foreign.status_code == 403
        assert "http://evil.test" in foreign.json()["detail"]
        own = await http.post(CLOCK, content=body, headers={"Origin": server.base_url})
        assert own.status_code == 200
