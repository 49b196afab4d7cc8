"""The REST routes on a real server: what they answer, and how they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hub_caller import ServerFactory, token_of

from voisnap_mock.cloud.tokens import totp
from voisnap_mock.journal import JournalFilter
from voisnap_mock.server import Server

DEV = {"email": "dev@example.test", "password": "dev"}
ORIGIN = "http://localhost:3000"


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as client:
        yield client


async def login(http: httpx.AsyncClient, **credentials: str) -> dict[str, Any]:
    answer = await http.post("/api/v1/auth/login", json=credentials or DEV)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def assert_problem(answer: httpx.Response, status: int, slug: str, says: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"https://docs.voisnap.ai/errors/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert re.fullmatch(r"trace_01HX\w+", problem["traceId"])
    assert re.search(says, problem["detail"]), problem["detail"]
    return problem


# --- login -----------------------------------------------------------------------------------------------------------


async def test_a_login_answers_with_tokens_and_the_user(http: httpx.AsyncClient) -> None:
    body = await login(http)
    user = body.pop("user")
    assert body.keys() == {"accessToken", "refreshToken", "tokenType", "expiresIn"}
    assert (body["tokenType"], body["expiresIn"]) == ("Bearer", 3600)
    assert re.fullmatch(r"usr_\w+", user.pop("id"))
    assert user == {
        "email": "dev@example.test",
        "firstName": "Dev",
        "lastName": "User",
        "role": "TenantOwner",
        "tenantId": "ten_dev",
    }


async def test_me_is_who_logged_in(http: httpx.AsyncClient) -> None:
    body = await login(http)
    me = await http.get("/api/v1/auth/me", headers=bearer(body["accessToken"]))
    assert me.json() == body["user"]


async def test_wrong_credentials_are_401(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/auth/login", json=DEV | {"password": "hunter2-wrong"})
    assert_problem(answer, 401, "unauthorized", "wrong email or password")
    assert "hunter2" not in answer.text
    assert answer.headers["X-Voisnap-Mock-Reason"].startswith("auth.users of this server: dev@example.test")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_password_that_no_file_could_hold_is_a_wrong_one(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/auth/login", content=json.dumps(DEV | {"password": "\ud800"}).encode())
    assert_problem(answer, 401, "unauthorized", "wrong email or password")


WRONG_BODIES: list[tuple[bytes, str, dict[str, str]]] = [
    (b"", "application/json", {"body": "expected a JSON object, but the body is empty"}),
    (b"{", "application/json", {"body": "expected JSON.*character 1"}),
    (b"[]", "application/json", {"body": "expected a JSON object, came an array"}),
    (b'"x"', "application/json", {"body": "expected a JSON object, came a string"}),
    (b"null", "application/json", {"body": "empty|null"}),
    (b"{}", "application/json", {"email": "missing", "password": "missing"}),
    (b'{"email": 5, "password": "x"}', "application/json", {"email": "expected a string, came 5"}),
    (b'{"email": "a", "password": 12345}', "application/json", {"password": "expected a string, came a number$"}),
    (b'{"email": null, "password": ["geheim"]}', "application/json", {"email": "came null", "password": "an array$"}),
    (b"email=a&password=b", "application/x-www-form-urlencoded", {"body": "expected"}),
    (b"\xff\xfe", "application/json", {"body": "expected"}),
    (b"[" * 5000, "application/json", {"body": "expected"}),
]


@pytest.mark.parametrize(("body", "content_type", "errors"), WRONG_BODIES)
async def test_a_malformed_login_is_422_and_names_each_field(
    http: httpx.AsyncClient, body: bytes, content_type: str, errors: dict[str, str]
) -> None:
    answer = await http.post("/api/v1/auth/login", content=body, headers={"Content-Type": content_type})
    problem = assert_problem(answer, 422, "validation-failed", "expected")
    assert problem["errors"].keys() == errors.keys()
    for field, says in errors.items():
        assert re.search(says, problem["errors"][field][0]), problem
    assert "12345" not in answer.text
    assert "geheim" not in answer.text


async def test_a_login_needs_no_content_type(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/auth/login", content=json.dumps(DEV).encode())
    assert answer.status_code == 200


async def test_refresh_rotates_and_a_second_use_is_401(http: httpx.AsyncClient) -> None:
    first = await login(http)
    second = await http.post("/api/v1/auth/refresh", json={"refreshToken": first["refreshToken"]})
    assert second.status_code == 200
    assert second.json().keys() == first.keys()
    assert second.json()["refreshToken"] != first["refreshToken"]
    again = await http.post("/api/v1/auth/refresh", json={"refreshToken": first["refreshToken"]})
    assert_problem(again, 401, "unauthorized", "used before")
    dead = await http.post("/api/v1/auth/refresh", json={"refreshToken": second.json()["refreshToken"]})
    assert_problem(dead, 401, "unauthorized", "login that is over")


async def test_logout_kills_both_tokens(http: httpx.AsyncClient) -> None:
    body = await login(http)
    out = await http.post("/api/v1/auth/logout", headers=bearer(body["accessToken"]))
    assert (out.status_code, out.content) == (204, b"")
    me = await http.get("/api/v1/auth/me", headers=bearer(body["accessToken"]))
    assert_problem(me, 401, "unauthorized", "failed check: revoked")
    refreshed = await http.post("/api/v1/auth/refresh", json={"refreshToken": body["refreshToken"]})
    assert_problem(refreshed, 401, "unauthorized", "login that is over")


@pytest.mark.parametrize("body", [{}, None, {"refreshToken": None}])
async def test_logout_takes_a_body_or_none(http: httpx.AsyncClient, body: Any) -> None:
    token = (await login(http))["accessToken"]
    out = await http.post("/api/v1/auth/logout", headers=bearer(token), json=body)
    assert out.status_code == 204


async def test_mfa_asks_for_a_code_first(http: httpx.AsyncClient, server: Server) -> None:
    challenge = await login(http, email="mfa@example.test", password="mfa")
    assert challenge.keys() == {"mfaRequired", "mfaToken"}
    wrong = await http.post("/api/v1/auth/mfa/verify", json={"mfaToken": challenge["mfaToken"], "code": "000000"})
    assert_problem(wrong, 401, "unauthorized", "4 attempts are left")
    code = totp("JBSWY3DPEHPK3PXP", server.app.clock.wall())
    right = await http.post("/api/v1/auth/mfa/verify", json={"mfaToken": challenge["mfaToken"], "code": code})
    assert right.status_code == 200
    assert right.json()["user"]["email"] == "mfa@example.test"


# --- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (None, "no credential came.*failed check: missing"),
        ("Bearer", "failed check: missing"),
        ("Basic ZGV2OmRldg==", "scheme 'Basic'.*failed check: scheme"),
        ("Bearer nonsense", "failed check: malformed"),
        ("Bearer vsnp_sb_unknown", "failed check: api_key"),
        ("Bearer rt_something", "refresh token.*failed check: kind"),
    ],
)
async def test_a_request_without_a_good_credential_is_401(
    http: httpx.AsyncClient, header: str | None, says: str
) -> None:
    answer = await http.get("/api/v1/agents", headers={"Authorization": header} if header else {})
    assert_problem(answer, 401, "unauthorized", says)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_token_of_a_tenant_that_is_not_here_is_401_and_says_who_is(
    http: httpx.AsyncClient, server: Server
) -> None:
    answer = await http.get("/api/v1/agents", headers=bearer(token_of(server, tenant="ten_x")))
    assert_problem(answer, 401, "unauthorized", "tid.*'ten_x'.*ten_dev, ten_other.*failed check: tid")
    assert "ten_dev, ten_other" in answer.headers["X-Voisnap-Mock-Reason"]


async def test_the_default_api_key_reads_agents_but_is_nobody(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/v1/agents", headers=bearer("vsnp_sb_dev"))).status_code == 200
    me = await http.get("/api/v1/auth/me", headers=bearer("vsnp_sb_dev"))
    assert_problem(me, 403, "forbidden", "API key belongs to a tenant")


async def test_no_credential_reaches_the_journal(http: httpx.AsyncClient, server: Server) -> None:
    body = await login(http)
    await http.get("/api/v1/auth/me", headers=bearer(body["accessToken"] + "x"))
    await http.get("/api/v1/agents", headers=bearer("vsnp_sb_secretkey"))
    journal = str(server.app.tenants.default.journal.entries())
    for secret in (body["accessToken"][:30], body["refreshToken"], "vsnp_sb_secretkey"):
        assert secret not in journal


# --- agents ----------------------------------------------------------------------------------------------------------


async def test_agents_come_in_the_documented_envelope(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/agents", headers=bearer("vsnp_sb_dev"))
    body = answer.json()
    ids = [agent["id"] for agent in body.pop("data")]
    assert ids == ["agt_desk", "agt_strict", "agt_clerk", "agt_slow_clerk", "agt_closed"]
    assert body == {"page": 1, "pageSize": 20, "total": 5, "totalPages": 1}


@pytest.mark.parametrize(
    ("query", "ids", "total", "pages"),
    [
        ("pageSize=2&sortBy=id&sortOrder=asc", ["agt_clerk", "agt_closed"], 5, 3),
        ("pageSize=2&page=3&sortBy=id&sortOrder=asc", ["agt_strict"], 5, 3),
        ("page=9", [], 5, 1),
        ("status=inactive", ["agt_closed"], 1, 1),
        ("status=active&sortBy=name&pageSize=1", ["agt_strict"], 4, 4),
        ("pageSize=100&sortBy=status&sortOrder=desc&page=1&status=inactive", ["agt_closed"], 1, 1),
    ],
)
async def test_agents_are_paged_sorted_and_filtered(
    http: httpx.AsyncClient, query: str, ids: list[str], total: int, pages: int
) -> None:
    body = (await http.get(f"/api/v1/agents?{query}", headers=bearer("vsnp_sb_dev"))).json()
    assert [agent["id"] for agent in body["data"]] == ids
    assert (body["total"], body["totalPages"]) == (total, pages)


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("page=0", "page", 'expected 1 or more, came "0"'),
        ("page=x", "page", 'expected a whole number, came "x"'),
        ("pageSize=101", "pageSize", 'expected 100 or less, came "101"'),
        ("pageSize=", "pageSize", "expected a whole number"),
        ("sortBy=colour", "sortBy", "expected 'createdAt'.*came \"colour\""),
        ("sortOrder=up", "sortOrder", "expected 'asc' or 'desc', came \"up\""),
        ("status=Active", "status", "expected 'active' or 'inactive', came \"Active\""),
    ],
)
async def test_a_wrong_list_parameter_is_422_and_named(
    http: httpx.AsyncClient, query: str, field: str, says: str
) -> None:
    answer = await http.get(f"/api/v1/agents?{query}", headers=bearer("vsnp_sb_dev"))
    problem = assert_problem(answer, 422, "validation-failed", field)
    assert re.search(says, problem["errors"][field][0]), problem


async def test_one_agent_is_the_object_itself(http: httpx.AsyncClient) -> None:
    agent = (await http.get("/api/v1/agents/agt_desk", headers=bearer("vsnp_sb_dev"))).json()
    assert (agent["id"], agent["name"], agent["status"], agent["version"]) == ("agt_desk", "Front Desk", "active", 1)
    assert agent["dtmfEnabled"] is True


async def test_a_slash_at_the_end_changes_nothing(http: httpx.AsyncClient) -> None:
    for path in ("/api/v1/agents/", "/api/v1/agents/agt_desk/"):
        assert (await http.get(path, headers=bearer("vsnp_sb_dev"))).status_code == 200


async def test_an_unknown_agent_is_404_and_says_which_there_are(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/agents/agt_nope", headers=bearer("vsnp_sb_dev"))
    assert_problem(answer, 404, "not-found", "agt_nope.*agt_desk")
    assert answer.headers["X-Voisnap-Mock-Reason"] == "agents of test agents"


# --- keys, errors, browsers, health ----------------------------------------------------------------------------------


async def test_hs256_publishes_no_key(http: httpx.AsyncClient) -> None:
    assert (await http.get("/.well-known/jwks.json")).json() == {"keys": []}


async def test_rs256_publishes_the_key_of_its_tokens(make_server: ServerFactory) -> None:
    import jwt

    server = await make_server("version: 1\nauth: {algorithm: RS256}\nagents: {agt_a: {replies: [{else: x}]}}")
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        token = (await login(http))["accessToken"]
        key = jwt.PyJWKSet.from_dict((await http.get("/.well-known/jwks.json")).json())[
            jwt.get_unverified_header(token)["kid"]
        ]
        assert jwt.decode(token, key, algorithms=["RS256"], audience="voisnap")["tid"] == "ten_dev"


@pytest.mark.parametrize(
    ("method", "path", "status", "slug", "says"),
    [
        ("GET", "/api", 404, "not-found", "GET /api: voisnap-mock has no such resource"),
        ("GET", "/api/v1/conversations", 404, "not-found", "GET /api/v1/conversations"),
        ("DELETE", "/api/v1/agents", 405, "method-not-allowed", "takes GET"),
        ("GET", "/api/v1/auth/login", 405, "method-not-allowed", "takes POST"),
        ("GET", "/docs", 404, "not-found", "/docs"),
    ],
)
async def test_a_route_that_is_not_there_is_a_problem_too(
    http: httpx.AsyncClient, method: str, path: str, status: int, slug: str, says: str
) -> None:
    assert_problem(await http.request(method, path), status, slug, says)


async def test_a_defect_is_a_500_that_shows_nothing_and_is_journaled(
    http: httpx.AsyncClient, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.app.tenants.default.agents = None  # type: ignore[assignment]
    answer = await http.get("/api/v1/agents", headers=bearer("vsnp_sb_dev"))
    assert_problem(answer, 500, "internal-error", "defect of the mock")
    assert "NoneType" not in answer.text
    (entry,) = server.app.tenants.default.journal.entries(JournalFilter(kind="defect"))
    assert entry.details["target"] == "GET /api/v1/agents"
    assert "NoneType" in caplog.text


async def test_browsers_of_any_origin_may_ask_with_credentials(http: httpx.AsyncClient) -> None:
    preflight = await http.options(
        "/api/v1/auth/login",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,authorization",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert preflight.headers["access-control-allow-credentials"] == "true"
    for answer in (
        await http.post("/api/v1/auth/login", json=DEV, headers={"Origin": ORIGIN}),
        await http.post("/api/v1/auth/login", json={}, headers={"Origin": ORIGIN}),
        await http.get("/api/v1/agents", headers={"Origin": ORIGIN}),
        await http.get("/nowhere", headers={"Origin": ORIGIN}),
    ):
        assert answer.headers["access-control-allow-origin"] == ORIGIN, answer.status_code
        assert answer.headers["access-control-allow-credentials"] == "true"


async def test_the_mocks_own_routes_are_not_for_other_origins(http: httpx.AsyncClient) -> None:
    answer = await http.get("/__voisnap/info", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


async def test_health_and_info(http: httpx.AsyncClient, server: Server) -> None:
    assert (await http.get("/livez")).status_code == 200
    assert (await http.get("/readyz")).json() == {"status": "ready", "waiting_for": []}
    server.app._waiting_for = ("stop",)
    waiting = await http.get("/readyz")
    assert (waiting.status_code, waiting.json()["waiting_for"]) == (503, ["stop"])
    info = (await http.get("/__voisnap/info")).json()
    assert info.keys() == {"version", "urls", "tenants", "uptimeSeconds", "agents", "ears", "voices"}
    assert info["tenants"] == ["ten_dev", "ten_other"]
    assert info["urls"]["voice"] == f"ws://127.0.0.1:{server.port}/hubs/voice"


# --- in the journal -----------------------------------------------------------------------------------------------


async def test_every_request_is_journaled_without_what_it_carries(http: httpx.AsyncClient, server: Server) -> None:
    login = await http.post(
        "/api/v1/auth/login?access_token=eyJhbGciOi.abc.def", json={"email": "dev@example.test", "password": "dev"}
    )
    await http.get("/api/v1/agents", headers={"Authorization": f"Bearer {login.json()['accessToken']}"})
    await http.get("/api/v1/agents", headers={"Authorization": "Bearer nonsense"})
    await http.get("/api/v1/nothing")
    await http.get("/readyz")
    entries = [entry for entry in server.app.tenants.default.journal.entries() if entry.kind == "http.request"]
    assert [(entry.details["target"], entry.details["status"]) for entry in entries] == [
        ("POST /api/v1/auth/login", 200),
        ("GET /api/v1/agents", 200),
        ("GET /api/v1/agents", 401),
        ("GET /api/v1/nothing", 404),
    ]
    assert all(0 <= entry.details["took"] < 10 for entry in entries)
    assert set(entries[0].details) == {"target", "method", "path", "status", "took"}
    assert "failed check: malformed" in entries[2].details["message"]
    assert entries[2].details["check"] == "malformed"


async def test_a_request_is_journaled_by_its_own_tenant(http: httpx.AsyncClient, server: Server) -> None:
    await http.post("/api/v1/auth/login", json={"email": "other@example.test", "password": "other"})
    other = server.app.tenants.get("ten_other")
    assert other is not None
    assert [entry.details["target"] for entry in other.journal.entries() if entry.kind == "http.request"] == [
        "POST /api/v1/auth/login"
    ]
