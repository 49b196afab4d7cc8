"""The same words by every way in: files, the control API, headers, metadata. And what is refused there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from visiting import LOUD, PATIENCE, Visit, Visitor

from voisnap_mock.config import Settings, parse_agents
from voisnap_mock.faults.rules import CODES
from voisnap_mock.server import MockServer

AGENTS = """
agents:
  agt_desk:
    greeting: Hello.
    voice: {engine: tone, rate: 400}
    hears: activity
    timing: {end_of_turn: 200ms, first_audio: 100ms, chat_chunk: 5ms}
    replies: [{else: "{{ metadata }}"}]
"""
PLACES = {"STT_PROVIDER_TIMEOUT": "stt", "LLM_PROVIDER_ERROR": "llm", "RECONNECT_FAILED": "reconnect"}
"""Where a code naturally arises; the others do when a connection asks for its session."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockServer]:
    """It has a file of agents with a copy of the desk for each code, and one of faults with a rule for each copy."""
    folder = tmp_path_factory.mktemp("files")
    one = AGENTS.removeprefix("\nagents:\n")
    copies = "".join(one.replace("agt_desk", f"agt_for_{code}") for code in CODES)
    (folder / "agents.yaml").write_text(f"agents:\n{one}{copies}")
    rules = [{"id": code, **rule_of(code), "when": {"agent": f"agt_for_{code}"}} for code in CODES]
    (folder / "faults.json").write_text(json.dumps([{**rule, "per": "session"} for rule in rules]))
    settings = Settings(
        port=0, idle_grace=0.005, agents=folder / "agents.yaml", faults=folder / "faults.json", clock="virtual"
    )
    with MockServer(settings=settings) as server:
        assert httpx.get(f"{server.base_url}/livez", trust_env=False, timeout=10).status_code == 200
        yield server


@pytest.fixture
async def visit(server: MockServer) -> AsyncIterator[Visit]:
    visit = Visit.to(server)
    yield visit
    await visit.leave()


def rule_of(code: str) -> dict[str, Any]:
    return {"at": PLACES.get(code, "connect"), "do": {"error": code}, "times": 1}


# --- Ways: each returns what a connection has to bring with it, and the visit it is for ---------------------------


async def by_arming(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    visit.arm({"id": "it", **rule})
    return visit, {}


async def by_file(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    text = AGENTS + f"faults: [{json.dumps({'id': 'it', **rule})}]\n"
    return Visit.to(visit.server, parse_agents(text, source="test agents")), {}


async def by_a_file_of_faults(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    """`--faults FILE`"""
    return visit, {"agent": f"agt_for_{rule['do']['error']}"}


async def by_the_control_api(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    async with httpx.AsyncClient(base_url=visit.server.base_url, trust_env=False) as http:
        answer = await http.post("/__voisnap/faults", json=rule, headers={"X-Voisnap-Tenant": visit.tenant.id})
    assert answer.status_code == 201, answer.text
    return visit, {}


async def by_the_choice_of_a_magic_agent(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    return visit, {"agent": f"agt_mock_{rule['do']['error'].lower()}"}


async def by_header(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    return visit, {"options": {"headers": {"X-Voisnap-Mock": json.dumps(rule)}}}


async def by_header_at_negotiate_only(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    """As browsers do it, which can send no header with a WebSocket."""
    return visit, {"negotiated_with": {"X-Voisnap-Mock": json.dumps([rule])}}


async def by_metadata(visit: Visit, rule: dict[str, Any]) -> tuple[Visit, dict[str, Any]]:
    return visit, {"metadata": json.dumps({"userId": "ada", "$mock": rule})}


WAYS: list[Callable[..., Any]] = [
    by_arming,
    by_file,
    by_a_file_of_faults,
    by_the_control_api,
    by_the_choice_of_a_magic_agent,
    by_header,
    by_header_at_negotiate_only,
    by_metadata,
]


async def connect(visit: Visit, hub: str, brought: dict[str, Any], **query: str) -> Visitor:
    brought = dict(brought)
    if "negotiated_with" in brought:
        headers = {"Authorization": f"Bearer {visit.token}", **brought.pop("negotiated_with")}
        url = f"{visit.server.base_url}/hubs/{hub}/negotiate?negotiateVersion=1&{urlencode(query)}"
        async with httpx.AsyncClient(trust_env=False) as http:
            token = (await http.post(url, headers=headers)).json()["connectionToken"]
        query["id"], brought["options"] = token, {"skip_negotiation": True}
    visitor = visit.visitor(hub, **query, **brought)
    await visitor.start()
    return visitor


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", CODES)
async def test_each_code_by_each_way(visit: Visit, code: str, way: Callable[..., Any]) -> None:
    visit, brought = await way(visit, rule_of(code))
    agent = brought.pop("agent", "agt_desk")
    match PLACES.get(code):
        case "stt":
            visitor = await connect(visit, "voice", brought, agentId=agent)
            await visitor.sees("TranscriptionOf", isFinal=True)
            await visitor.send_audio(LOUD + bytes(32_000))
        case "llm":
            visitor = await connect(visit, "chat", brought, agentId=agent)
            await visitor.sees("MessageReceived", isFinal=True)
            await visitor.call("SendMessageAsync", {"content": "hello"})
        case "reconnect":
            first = await connect(visit, "chat", brought, agentId=agent)
            assert await first.sees("MessageReceived", isFinal=True)
            await first.client.stop()
            visitor = await connect(visit, "chat", brought, sessionId=first.of("SessionStarted")[0]["sessionId"])
        case _:
            visitor = await connect(visit, "voice", brought, agentId=agent)
    assert await visitor.sees("Error", code=code, recoverable=CODES[code])
    if not CODES[code]:
        assert await visitor.outcome() == "ended"
    assert len(visit.fired()) == 1
    await visit.leave()


# --- The header on REST -----------------------------------------------------------------------------------------


async def rest(visit: Visit, rule: Any, *, path: str = "/api/v1/agents", **more: Any) -> httpx.Response:
    text = rule if isinstance(rule, str) else json.dumps(rule)
    headers = {"Authorization": f"Bearer {visit.token}", "X-Voisnap-Mock": text, **more}
    async with httpx.AsyncClient(base_url=visit.server.base_url, trust_env=False) as http:
        return await http.get(path, headers=headers)


async def test_a_header_is_for_its_request_alone_and_is_accounted_for(visit: Visit) -> None:
    rule = {"id": "mine", "at": "http.GET /api/v1/agents", "do": {"http": 502}}
    answer = await rest(visit, rule)
    assert (answer.status_code, answer.headers["X-Voisnap-Mock-Reason"]) == (502, "fault mine")
    assert (await rest(visit, [])).status_code == 200
    assert (await rest(visit, {**rule, "at": "login"})).status_code == 200
    reports = [dict(entry.details) for entry in visit.entries("fault.report")]
    assert reports == [
        {"fault": "mine", "fired": 1, "nearMiss": None},
        {"fault": "mine", "fired": 0, "nearMiss": "nothing has crossed login"},
    ]


async def test_browsers_may_read_the_answer_of_a_fault(visit: Visit) -> None:
    rule = {"at": "http.GET /api/v1/agents", "do": {"http": 429, "retry_after": "1500ms"}}
    answer = await rest(visit, rule, Origin="http://page.test")
    assert answer.headers["Access-Control-Allow-Origin"] == "http://page.test"
    assert answer.headers["Retry-After"] == "2"
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{oops", "is not JSON"),
        ("5", "one rule is expected"),
        ('{"at": "conect", "do": {"http": 500}}', "did you mean"),
        ('{"at": "login", "do": {"silence": true}}', "possible are http, slow, drop"),
        ('{"schedules": {"x": [{"for": "1s"}]}}', "schedules belong into a file"),
        (json.dumps({"at": "login", "do": {"http": 500}, "id": "x" * 8_200}), "at most 8192"),
    ],
)
async def test_a_header_that_cannot_be_used_is_a_bad_request_that_says_why(visit: Visit, text: str, found: str) -> None:
    answer = await rest(visit, text)
    assert answer.status_code == 400
    assert found in answer.json()["detail"]
    assert answer.headers["X-Voisnap-Mock-Reason"] == "header X-Voisnap-Mock"
    visitor = await connect(visit, "chat", {"options": {"headers": {"X-Voisnap-Mock": text}}}, agentId="agt_desk")
    assert getattr(visitor.refused, "status", None) == 400
    assert found in getattr(visitor.refused, "body", b"").decode()
    assert visit.fired() == []


async def test_the_mocks_own_routes_are_out_of_reach(visit: Visit) -> None:
    for path in ("/__voisnap/info", "/livez"):
        visit.arm({"at": f"http.GET {path}", "do": {"http": 500}})
        assert (await rest(visit, [], path=path)).status_code == 200


# --- Metadata ---------------------------------------------------------------------------------------------------


async def test_scripts_do_not_see_the_faults_in_the_metadata(visit: Visit) -> None:
    metadata = json.dumps({"userId": "ada", "$mock": [{"at": "login", "do": {"http": 500}}]})
    visitor = await connect(visit, "chat", {}, agentId="agt_desk", metadata=metadata)
    await visitor.sees("MessageReceived", isFinal=True)
    await visitor.call("SendMessageAsync", {"content": "what do you see?"})
    await visitor.sees("MessageReceived", isFinal=True, times=2)
    assert "ada" in visitor.finals()[1]
    assert "$mock" not in visitor.finals()[1]


async def test_a_tenant_may_forbid_faults_in_the_metadata(visit: Visit) -> None:
    text = AGENTS + "fidelity: {mock_in_metadata: forbid}\n"
    strict = Visit.to(visit.server, parse_agents(text, source="test agents"))
    metadata = json.dumps({"$mock": {"at": "connect", "do": {"error": "AGENT_NOT_FOUND"}}})
    visitor = await connect(strict, "voice", {}, agentId="agt_desk", metadata=metadata)
    assert getattr(visitor.refused, "status", None) == 403
    assert b"fidelity.mock_in_metadata" in getattr(visitor.refused, "body", b"")
    by_header = {"options": {"headers": {"X-Voisnap-Mock": '{"at": "connect", "do": {"error": "AGENT_NOT_FOUND"}}'}}}
    assert await (await connect(strict, "voice", by_header, agentId="agt_desk")).sees("Error", code="AGENT_NOT_FOUND")
    await strict.leave()


@pytest.mark.parametrize(
    ("rule", "fired"),
    [
        ({"at": "negotiate", "do": {"http": 503}}, 1),
        ({"at": "connect", "do": {"error": "AUTH_FAILED"}}, 1),
        ({"at": "stt", "do": {"silence": True}}, 0),
    ],
)
async def test_what_a_connection_without_a_session_brought_is_accounted_for(
    visit: Visit, rule: dict[str, Any], fired: int
) -> None:
    brought = {"options": {"headers": {"X-Voisnap-Mock": json.dumps(rule)}}}
    visitor = await connect(visit, "chat", brought, agentId="agt_nobody")
    await visitor.outcome()
    await visit.until(lambda: visit.entries("fault.report"))
    (report,) = (entry.details for entry in visit.entries("fault.report"))
    assert (report["fired"], report["nearMiss"]) == (fired, None if fired else "nothing has crossed stt")


async def test_what_a_connection_brings_is_not_for_others(visit: Visit) -> None:
    brought = {"options": {"headers": {"X-Voisnap-Mock": '{"at": "llm", "do": {"error": "LLM_PROVIDER_ERROR"}}'}}}
    mine = await connect(visit, "chat", brought, agentId="agt_desk")
    other = await connect(visit, "chat", {}, agentId="agt_desk")
    for visitor in (mine, other):
        await visitor.sees("MessageReceived", isFinal=True)
        await visitor.call("SendMessageAsync", {"content": "hello"})
    assert await mine.sees("Error", code="LLM_PROVIDER_ERROR")
    assert await other.sees("MessageReceived", isFinal=True, times=2)
    assert other.of("Error") == []


async def test_rules_of_a_connection_go_with_its_session_to_the_next_connection(visit: Visit) -> None:
    rule = {"at": "event.MessageReceived", "when": {"turn": 1}, "do": {"drop": "close"}, "times": 1}
    brought = {"metadata": json.dumps({"$mock": rule})}
    first = await connect(visit, "chat", brought, agentId="agt_desk")
    await first.sees("MessageReceived", isFinal=True)
    await first.call("SendMessageAsync", {"content": "hello"})
    assert await first.outcome() == "closed"
    session = first.of("SessionStarted")[0]["sessionId"]
    again = await connect(visit, "chat", brought, sessionId=session)
    assert await again.sees("Reconnected")
    await again.call("SendMessageAsync", {"content": "again"})
    assert await again.sees("MessageReceived", isFinal=True), "once is once in a session"
    assert visit.fired() == ["event.MessageReceived"]


async def test_a_connection_that_resumes_may_bring_rules_and_need_not_bring_them_again(visit: Visit) -> None:
    first = await connect(visit, "chat", {}, agentId="agt_desk")
    await first.sees("MessageReceived", isFinal=True)
    await first.client.stop()
    session = first.of("SessionStarted")[0]["sessionId"]
    rules = [
        {"at": "reconnect", "do": {"error": "RECONNECT_FAILED"}, "times": 1},
        {"at": "event.MessageReceived", "do": {"replace": "other"}},
    ]
    refused = await connect(visit, "chat", {"metadata": json.dumps({"$mock": rules})}, sessionId=session)
    assert await refused.sees("Error", code="RECONNECT_FAILED")
    again = await connect(visit, "chat", {}, sessionId=session)
    assert await again.sees("Reconnected")
    await again.call("SendMessageAsync", {"content": "hello"})
    await again.sees("MessageReceived")
    assert set(again.of("MessageReceived")) == {"other"}


# --- A tenant that is dropped meanwhile ---------------------------------------------------------------------------


async def dropped_once_fired(visit: Visit, point: str) -> None:
    """Return when a rule has fired and its tenant is no more."""
    await visit.until(lambda: point in visit.fired())
    await asyncio.to_thread(visit.server.wait_for, visit.server.app.tenancy.drop(visit.tenant.id))


@pytest.mark.parametrize("point", ["negotiate", "connect"])
async def test_a_connection_that_waits_while_its_tenant_is_dropped_is_turned_away(
    visit: Visit, point: str, caplog: pytest.LogCaptureFixture
) -> None:
    visit.arm({"at": point, "do": {"slow": "400ms"}})
    visitor = visit.visitor("chat", options={"skip_negotiation": True}, agentId="agt_desk")
    connecting = asyncio.create_task(visitor.start())
    await dropped_once_fired(visit, point)
    assert await connecting
    assert await visitor.outcome() == "ended"
    assert [(name, payload["code"]) for name, payload in visitor.events] == [("Error", "AUTH_FAILED")]
    assert visit.tenant.sessions.sessions == ()
    assert caplog.text == ""


async def test_a_request_that_waits_while_its_tenant_is_dropped_is_refused(visit: Visit) -> None:
    brought = {"at": "http.GET /api/v1/agents", "do": {"slow": "400ms"}}
    headers = {"Authorization": f"Bearer {visit.token}", "X-Voisnap-Mock": json.dumps(brought)}
    async with httpx.AsyncClient(base_url=visit.server.base_url, trust_env=False) as client:
        request = asyncio.create_task(client.get("/api/v1/agents", headers=headers))
        await dropped_once_fired(visit, "http.GET /api/v1/agents")
        assert (await request).status_code == 401


async def test_a_connection_that_resumes_a_session_is_lost_so_much_call_time_later(visit: Visit) -> None:
    first = await connect(visit, "chat", {}, agentId="agt_desk")
    await first.sees("MessageReceived", isFinal=True)
    await first.client.stop()
    visit.arm({"at": "reconnect", "do": {"drop": "reset", "after": "1h"}})
    again = await connect(visit, "chat", {}, sessionId=first.of("SessionStarted")[0]["sessionId"])
    assert await again.sees("Reconnected")
    assert await again.outcome() == "reset"


# --- Connections under way ----------------------------------------------------------------------------------------


async def test_a_rule_that_is_armed_reaches_connections_that_are_there(visit: Visit) -> None:
    visitor = await connect(visit, "chat", {}, agentId="agt_desk")
    await visitor.sees("MessageReceived", isFinal=True)
    visit.arm({"at": "event.TypingIndicator", "do": {"frames": "duplicate"}})
    await visitor.call("SendMessageAsync", {"content": "hello"})
    await visitor.sees("MessageReceived", isFinal=True, times=2)
    assert visitor.names().count("TypingIndicator") >= 2 + 2


async def test_a_rule_is_over_in_the_midst_of_a_session_when_its_time_is(visit: Visit) -> None:
    """Late typing at the beginning of a chat, by virtual time; later messages come unharmed."""
    visit.arm({"id": "it", "at": "event.MessageReceived", "do": {"frames": "duplicate"}, "for": "20ms"})
    visitor = await connect(visit, "chat", {}, agentId="agt_desk")
    await visitor.sees("MessageReceived", isFinal=True)
    (session,) = visit.tenant.sessions.sessions

    visit.server.wait_for(session.advance(1.0))
    await visitor.call("SendMessageAsync", {"content": "hello"})
    await visitor.sees("MessageReceived", isFinal=True, times=3)
    assert visitor.finals()[:2] == ["Hello.", "Hello."]
    assert len(visitor.finals()) == 3


@pytest.mark.parametrize("do", [{"slow": "50ms"}, {"frames": "coalesce"}, {"frames": "reorder"}])
async def test_an_event_that_cannot_be_written_harms_nothing_when_it_is_late(
    visit: Visit, do: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    visit.arm({"at": "event.*", "when": {"target": "Weather"}, "do": do})
    visitor = await connect(visit, "chat", {"options": {"protocol": "messagepack"}}, agentId="agt_desk")
    await visitor.sees("MessageReceived", isFinal=True)
    (session,) = visit.tenant.sessions.sessions

    async def push() -> None:
        session.push("Weather", (2**70,))

    visit.server.wait_for(push())
    await visitor.call("SendMessageAsync", {"content": "hello"})
    await visit.until(lambda: "event Weather cannot be sent" in caplog.text)
    assert await visitor.sees("MessageReceived", isFinal=True, times=2)
    assert visit.entries("defect") == []
    assert "Traceback" not in caplog.text


async def test_tenants_do_not_see_each_others_faults(visit: Visit) -> None:
    other = Visit.to(visit.server)
    visit.arm(*({"at": at, "do": {"drop": "close"}} for at in ("negotiate", "connect", "event.*", "method.*")))
    visitor = await connect(other, "chat", {}, agentId="agt_desk")
    assert await visitor.sees("MessageReceived", isFinal=True)
    assert (await rest(other, [])).status_code == 200
    assert other.fired() == []
    await other.leave()


async def test_pings_that_do_not_come_are_missed(visit: Visit) -> None:
    """A client that counts on pings gives the server up; here it counts on them sooner than they would come."""
    visit.server_timeout = PATIENCE
    visit.arm({"at": "event.SessionStarted", "do": {"frames": "late_ping"}})
    visitor = await connect(visit, "chat", {}, agentId="agt_desk")
    assert await visitor.outcome() == "silent"


@pytest.mark.parametrize("status", [429, 503, 599])
async def test_an_upgrade_without_negotiate_is_answered_too(visit: Visit, status: int) -> None:
    visit.arm({"at": "negotiate", "do": {"http": status}})
    visitor = await connect(visit, "voice", {"options": {"skip_negotiation": True}}, agentId="agt_desk")
    assert getattr(visitor.refused, "status", None) == status
    assert b"the fault" in getattr(visitor.refused, "body", b"")


@pytest.mark.parametrize("at", ["handshake", "event.SessionStarted", "method.TypingAsync", "ice", "stt", "negotiate"])
async def test_a_connection_that_no_rule_can_concern_has_nothing_in_its_way(visit: Visit, at: str) -> None:
    visit.arm({"at": at, "do": {"slow": "1ms"}})
    await connect(visit, "chat", {}, agentId="agt_desk")
    lives = visit.server.app.endpoints[1]._live.values()
    (live,) = [live for live in lives if live.context.user.admission.tenant is visit.tenant]  # type: ignore[attr-defined]
    assert live.is_tapped is (at not in ("stt", "negotiate"))
