"""Who may use the control API."""

from __future__ import annotations

import logging

import httpx
import pytest
from controlled import Serving

from voisnap_mock.control.guard import Guard

TOKEN = "s3cret-token"


def refused(guard: Guard, method: str = "GET", **headers: str) -> int | None:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    problem = guard.refusal(method, raw)
    return problem.status if problem is not None else None


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8647", None),
        ("127.0.0.1", "localhost:8647", None),
        ("127.0.0.1", "LOCALHOST.:8647", None),
        ("127.0.0.1", "localhost", None),
        ("127.0.0.1", "localhost:9000", None),
        ("127.0.0.1", "[::1]:8647", None),
        ("127.0.0.1", "evil.test:8647", 403),
        ("127.0.0.1", "127.0.0.1.evil.test", 403),
        ("127.0.0.1", "192.168.1.5:8647", 403),
        ("127.0.0.1", "mock:8647", 403),
        ("127.0.0.1", "", 403),
        ("127.0.0.1", "[::1", 403),
        ("127.0.0.1", "localhost:port", None),
        ("mock.corp.test", "Mock.Corp.Test:8647", None),
        ("mock.corp.test", "other.corp.test:8647", 403),
        ("0.0.0.0", "192.168.1.5:8647", None),
        ("0.0.0.0", "[fe80::1]:8647", None),
        ("::", "mock:8647", None),
        ("0.0.0.0", "evil.test:8647", 403),
        ("0.0.0.0", "", 403),
    ],
)
def test_only_names_of_this_server_are_taken(bound: str, host: str, status: int | None) -> None:
    assert refused(Guard(bound), host=host) == status


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        ("POST", "http://localhost:8647", None),
        ("POST", "http://localhost:3000", 403),
        ("DELETE", "http://evil.test", 403),
        ("PUT", "null", 403),
        ("POST", "http://[", 403),
        ("PATCH", "http://localhost", 403),
        ("GET", "http://evil.test", None),
    ],
)
def test_a_page_of_another_origin_may_read_nothing_and_change_nothing(
    method: str, origin: str, status: int | None
) -> None:
    assert refused(Guard("127.0.0.1"), method, host="localhost:8647", origin=origin) == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(f"Bearer {TOKEN}", None), (f"bearer {TOKEN}", None), ("Bearer wrong", 401), (f"Basic {TOKEN}", 401), ("", 401)],
)
def test_with_a_token_only_those_who_have_it_come_in(authorization: str, status: int | None) -> None:
    guard = Guard("127.0.0.1", token=TOKEN)
    assert refused(guard, host="localhost:8647", authorization=authorization) == status


def test_whoever_has_the_token_may_use_any_name_but_no_other_origin() -> None:
    guard = Guard("127.0.0.1", token=TOKEN)
    headers = {"host": "mock.corp.test", "authorization": f"Bearer {TOKEN}"}
    assert refused(guard, "POST", **headers) is None
    assert refused(guard, "POST", **headers, origin="http://evil.test") == 403


async def test_cross_origin_reads_are_given_no_permission(serving: Serving) -> None:
    async with serving() as (_, control):
        answer = await control.get("info", headers={"Origin": "http://evil.test"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_control_route_is_guarded_and_the_others_are_not(serving: Serving) -> None:
    async with serving() as (server, control):
        rebound = {"Host": "evil.test"}
        for method, path in (("GET", "info"), ("POST", "reset"), ("GET", "nothing"), ("DELETE", "tenants/ten_dev")):
            answer = await control.request(method, path, headers=rebound)
            assert answer.status_code == 403, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert "evil.test" in answer.json()["detail"]
        async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
            assert (await http.get("/__voisnap", headers=rebound)).status_code == 403
            assert (await http.get("/livez", headers=rebound)).status_code == 200
            assert (await http.get("/.well-known/jwks.json", headers=rebound)).status_code == 200


async def test_the_token_is_asked_for_and_shown_nowhere(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(control_token=TOKEN) as (server, control):
            refused = await control.get("journal")
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.headers["x-voisnap-mock-reason"] == "control token"
            given = {"Authorization": f"Bearer {TOKEN}"}
            assert (await control.get("info", headers=given)).status_code == 200
            assert TOKEN not in (await control.get("journal", headers=given)).text
            assert TOKEN not in repr(server.app.settings)
    assert TOKEN not in caplog.text
