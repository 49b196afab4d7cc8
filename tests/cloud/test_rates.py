"""Rate limits: the documented numbers, headers and refusals, by tenant and policy; off unless set."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from hub_caller import HubCaller, ServerFactory, token_of

from voisnap_mock.clock import ManualClock
from voisnap_mock.cloud.rates import HEADERS, LIMITS, RateCounter
from voisnap_mock.server import Server
from voisnap_mock.signalr import ConnectionClosed, SignalRError

AGENTS = """
version: 1
limits: {rate_limits: starter}
auth:
  users:
    - {email: dev@example.test, password: dev}
    - {email: other@example.test, password: other, tenant: ten_other}
agents:
  agt_desk: {greeting: Hello., voice: {engine: tone, rate: 400}, hears: activity}
"""
NOW = 1_750_000_000.0
DEV = {"email": "dev@example.test", "password": "dev"}
OTHER = {"email": "other@example.test", "password": "other"}


def test_a_window_lets_so_many_through_and_begins_anew() -> None:
    counter = RateCounter()
    rates = [counter.take("starter", "voice-hub", "ten_dev", NOW + at) for at in range(7)]
    assert [(rate.remaining, rate.is_exceeded) for rate in rates if rate is not None] == [
        (4, False),
        (3, False),
        (2, False),
        (1, False),
        (0, False),
        (0, True),
        (0, True),
    ]
    exceeded = rates[-1]
    assert exceeded is not None
    assert exceeded.headers() == dict(zip(HEADERS, ("5", "0", str(int(NOW + 60)), "voice-hub"), strict=True))
    problem = exceeded.problem("starter")
    assert (problem.status, problem.headers["Retry-After"], problem.reason) == (
        429,
        "54",
        "limits.rate_limits: starter",
    )
    fresh = counter.take("starter", "voice-hub", "ten_dev", NOW + 60)
    assert fresh is not None
    assert (fresh.remaining, fresh.resets_at) == (4, NOW + 120)


def test_keys_and_policies_are_counted_apart_and_forgotten_when_asked() -> None:
    counter = RateCounter()
    for _ in range(5):
        counter.take("starter", "auth-strict", "10.0.0.1", NOW)
    exceeded = [
        counter.take("starter", policy, key, NOW)
        for policy, key in (("auth-strict", "10.0.0.1"), ("auth-strict", "10.0.0.2"), ("api-standard", "10.0.0.1"))
    ]
    assert [rate.is_exceeded for rate in exceeded if rate is not None] == [True, False, False]
    counter.clear()
    rate = counter.take("starter", "auth-strict", "10.0.0.1", NOW)
    assert rate is not None
    assert not rate.is_exceeded


def test_nothing_is_counted_without_a_plan() -> None:
    assert RateCounter().take("off", "auth-strict", "10.0.0.1", NOW) is None


@pytest.mark.parametrize(
    ("plan", "standard", "write", "hub"),
    [("starter", 60, 20, 5), ("professional", 120, 60, 10), ("business", 300, 120, 25)],
)
def test_the_plans_are_the_documented_ones(plan: str, standard: int, write: int, hub: int) -> None:
    limits = LIMITS[plan]  # type: ignore[index]
    assert (limits["api-standard"], limits["api-write"], limits["voice-hub"]) == (standard, write, hub)
    assert (limits["auth-strict"], limits["api-read-heavy"]) == (5, 300)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall=NOW)


@pytest.fixture
async def limited(make_server: ServerFactory, clock: ManualClock) -> Server:
    return await make_server(AGENTS, clock=clock)


@pytest.fixture
async def http(limited: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{limited.base_url}/api/v1", trust_env=False) as client:
        yield client


async def test_every_answer_says_what_is_left(http: httpx.AsyncClient) -> None:
    login = await http.post("/auth/login", json=DEV)
    assert [login.headers[name] for name in HEADERS] == ["5", "4", str(int(NOW + 60)), "auth-strict"]
    bearer = {"Authorization": f"Bearer {login.json()['accessToken']}"}
    for path, policy in (
        ("/agents", "api-read-heavy"),
        ("/agents/agt_desk", "api-standard"),
        ("/auth/me", "api-standard"),
    ):
        assert (await http.get(path, headers=bearer)).headers["X-RateLimit-Policy"] == policy
    missing = await http.get("/agents/agt_nobody", headers=bearer)
    assert (missing.status_code, missing.headers["X-RateLimit-Remaining"]) == (404, "57")
    shown = (await http.get("/agents", headers=bearer | {"Origin": "http://page.test"})).headers
    assert all(name in shown["access-control-expose-headers"] for name in HEADERS)


async def test_too_many_logins_are_429_until_the_window_is_over(
    http: httpx.AsyncClient, limited: Server, clock: ManualClock
) -> None:
    for _ in range(5):
        assert (await http.post("/auth/login", json=DEV)).status_code == 200
    await clock.advance(18.5)
    refused = await http.post("/auth/login", json=DEV)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "42"
    assert refused.headers["X-Voisnap-Mock-Reason"] == "limits.rate_limits: starter"
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    problem = refused.json()
    assert (problem["type"], problem["title"]) == (
        "https://docs.voisnap.ai/errors/rate-limit-exceeded",
        "Rate Limit Exceeded",
    )
    assert "auth-strict" in problem["detail"]
    assert (await http.post("/auth/login", json=OTHER)).status_code == 200, "another tenant is not concerned"
    await clock.advance(42)
    assert (await http.post("/auth/login", json=DEV)).status_code == 200
    noted = [entry for entry in limited.app.tenants.default.journal.entries() if entry.details.get("status") == 429]
    assert [entry.details["target"] for entry in noted] == ["POST /api/v1/auth/login"]


async def test_voice_connections_are_counted_once_each(limited: Server) -> None:
    for _ in range(5):
        async with HubCaller(limited, "voice", agentId="agt_desk") as caller:
            await caller.wait_for("SessionStarted")
            await caller.invoke("EndSessionAsync", "user_ended")
            await caller.wait_for("SessionEnded")
    with pytest.raises((SignalRError, ConnectionClosed), match="429"):
        async with HubCaller(limited, "voice", agentId="agt_desk"):
            pass
    async with HubCaller(limited, "chat", agentId="agt_desk") as user:
        await user.wait_for("SessionStarted")
    async with httpx.AsyncClient(base_url=limited.base_url, trust_env=False) as http:
        refused = await http.post(f"/hubs/voice/negotiate?access_token={token_of(limited)}")
    assert refused.status_code == 429
    assert refused.headers["X-RateLimit-Policy"] == "voice-hub"
    assert refused.headers["Retry-After"] == "60"
    noted = limited.app.tenants.default.journal.entries()
    assert [entry.details["policy"] for entry in noted if entry.kind == "connection.refused"] == ["voice-hub"] * 2


async def test_without_a_plan_no_answer_speaks_of_limits(server: Server) -> None:
    async with httpx.AsyncClient(base_url=f"{server.base_url}/api/v1", trust_env=False) as http:
        answers = [await http.post("/auth/login", json=DEV) for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}
    assert not [name for name in answers[0].headers if name.startswith("x-ratelimit")]
