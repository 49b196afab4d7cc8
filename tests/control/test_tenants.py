"""Tenants over HTTP: made, given agents, ended; none ever sees another."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from typing import Any

import httpx
import pytest
from controlled import Control
from hub_caller import HubCaller

from voisnap_mock.server import Server

OTHER = {"X-Voisnap-Tenant": "ten_other"}


def agents(greeting: str) -> dict[str, Any]:
    desk = {"greeting": greeting, "voice": {"engine": "tone", "rate": 400}, "hears": "activity"}
    return {"version": 1, "agents": {"agt_desk": desk}}


def of(tenant: dict[str, Any]) -> dict[str, str]:
    return {"X-Voisnap-Tenant": tenant["tenantId"]}


async def make(control: Control, **wishes: Any) -> dict[str, Any]:
    answer = await control.post("tenants", json=wishes)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def greeting_of(server: Server, token: str) -> str:
    async with HubCaller(server, "chat", token=token, agentId="agt_desk") as user:
        said = (await user.wait_for("MessageReceived", isFinal=True))["content"]
        await user.invoke("EndSessionAsync")
        await user.wait_for("SessionEnded")
        return said


async def test_a_tenant_comes_with_all_that_a_client_needs(server: Server, control: Control) -> None:
    made = await make(control, agents=agents("Mine."), seed=7, clock="real", limits={"max_sessions": 1})
    assert set(made) == {"tenantId", "accessToken", "refreshToken", "email", "password", "apiKey"}
    async with httpx.AsyncClient(base_url=f"{server.base_url}/api/v1", trust_env=False) as http:
        key = await http.get("/agents", headers={"Authorization": f"Bearer {made['apiKey']}"})
        assert [agent["firstMessage"] for agent in key.json()["data"]] == ["Mine."]
        login = await http.post("/auth/login", json={"email": made["email"], "password": made["password"]})
        assert login.json()["user"]["tenantId"] == made["tenantId"]
        fresh = await http.post("/auth/refresh", json={"refreshToken": made["refreshToken"]})
        assert fresh.status_code == 200
    asked = (await control.get("journal", params={"kind": "http.request"}, headers=of(made))).json()["data"]
    assert [entry["path"].rpartition("/")[2] for entry in asked] == ["agents", "login", "refresh"]
    assert (await control.get("journal", params={"kind": "http.request"})).json()["data"] == []
    assert await greeting_of(server, made["accessToken"]) == "Mine."
    assert (await control.get("clock", headers=of(made))).json()["mode"] == "real"
    async with HubCaller(server, "chat", token=made["accessToken"], agentId="agt_desk") as one:
        await one.wait_for("SessionStarted")
        async with HubCaller(server, "chat", token=made["accessToken"], agentId="agt_desk") as two:
            assert (await two.wait_for("Error"))["code"] == "SESSION_LIMIT_REACHED"
    assert made["tenantId"] in (await control.get("info")).json()["tenants"]


@pytest.mark.parametrize(
    ("path", "body", "member"),
    [
        ("tenants", r'{"agents": {"agents": {"agt_\ud800": {}}}}', "body"),
        ("tenants", r'{"faults": "\ud800"}', "body"),
        ("verify", r'{"events": [{"text": "\ud800"}]}', "body"),
        ("calls/conv_1/push", r'{"target": "Custom", "arguments": ["\udc00"]}', "body"),
    ],
)
async def test_half_a_surrogate_pair_is_refused_and_not_answered_with_a_defect(
    control: Control, path: str, body: str, member: str
) -> None:
    answer = await control.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert "half of a surrogate pair" in answer.json()["errors"][member][0]


@pytest.mark.parametrize(
    ("body", "member", "says"),
    [
        ({"agents": {"agents": {"agt_x": {"greting": "x"}}}}, "agents", 'body:1:34: unknown key "greting"'),
        (
            {"seed": 1, "agents": {"agents": {"agt_😀": {}}}},
            "agents",
            "body:1:35:",
        ),
        ({"agents": "agents:\n  agt_x: {greeting: 5}"}, "agents", "agents:2:21: expected text, found the number 5"),
        ({"agents": {"agents": {"agt_x": {"greeting": {"wav": "no.wav", "text": "x"}}}}}, "agents", "no.wav"),
        ({"agents": 5}, "agents.str", "expected a string, came 5"),
        ({"limits": {"max_sesions": 1}}, "limits", 'unknown key "max_sesions"; did you mean "max_sessions"?'),
        ({"seed": -1}, "seed", "expected 0 or more"),
        ({"clock": "sundial"}, "clock", "expected 'real', '4x' or 'virtual'"),
        ({"seeds": 1}, "seeds", "came 1"),
    ],
)
async def test_a_wish_that_cannot_be_fulfilled_is_refused_with_its_place(
    control: Control, body: dict[str, Any], member: str, says: str
) -> None:
    before = (await control.get("info")).json()["tenants"]
    # As most clients write it: beyond ASCII in escapes, in pairs if need be.
    answer = await control.post("tenants", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert says in "\n".join(answer.json()["errors"][member])
    assert (await control.get("info")).json()["tenants"] == before


async def test_letters_written_as_two_escapes_arrive(server: Server, control: Control) -> None:
    body = json.dumps({"agents": agents("Hi 😀 \\ud83d\\ude00")})
    assert "\\ud83d\\ude00" in body
    answer = await control.post("tenants", content=body, headers={"Content-Type": "application/json"})
    assert await greeting_of(server, answer.json()["accessToken"]) == "Hi 😀 \\ud83d\\ude00"


async def test_a_tenant_that_is_ended_leaves_no_trace(server: Server, control: Control) -> None:
    made = await make(control, agents=agents("Mine."))
    tenant = server.app.tenants.get(made["tenantId"])
    assert tenant is not None
    gone = weakref.ref(tenant)
    async with HubCaller(server, "chat", token=made["accessToken"], agentId="agt_desk") as user:
        await user.wait_for("SessionStarted")
        answer = await control.delete(f"tenants/{made['tenantId']}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await user.wait_for("SessionEnded"))["reason"] == "server_shutdown"
        await user.closed()
    assert made["tenantId"] not in (await control.get("info")).json()["tenants"]
    assert (await control.get("journal", headers=of(made))).status_code == 404
    assert (await control.delete(f"tenants/{made['tenantId']}")).status_code == 404
    assert made["tenantId"] not in (await control.get("journal")).text
    async with httpx.AsyncClient(base_url=f"{server.base_url}/api/v1", trust_env=False) as http:
        for credential in (made["accessToken"], made["apiKey"]):
            answer = await http.get("/agents", headers={"Authorization": f"Bearer {credential}"})
            assert answer.status_code == 401
    del tenant
    gc.collect()
    assert gone() is None, "nothing of the server holds it"


async def test_a_tenant_of_the_agents_file_stays(control: Control) -> None:
    answer = await control.delete("tenants/ten_other")
    assert answer.status_code == 409
    assert "ten_other" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "calls"), ("GET", "journal"), ("GET", "agents"), ("POST", "reset"), ("GET", "clock"), ("GET", "lint")],
)
async def test_an_unknown_tenant_is_404_with_those_there_are(control: Control, method: str, path: str) -> None:
    answer = await control.request(method, path, headers={"X-Voisnap-Tenant": "ten_nobody"})
    assert answer.status_code == 404
    assert '"ten_nobody" is not known; there are ten_dev, ten_other' in answer.json()["detail"]


async def test_a_hundred_tenants_at_the_same_time_never_see_each_other(server: Server, control: Control) -> None:
    async def live(number: int) -> None:
        made = await make(control, agents=agents(f"I am {number}."), seed=1)
        async with HubCaller(server, "chat", token=made["accessToken"], agentId="agt_desk") as user:
            call_id = (await user.wait_for("SessionStarted"))["conversationId"]
            assert (await user.wait_for("MessageReceived", isFinal=True))["content"] == f"I am {number}."
            (call,) = (await control.get("calls", headers=of(made))).json()["data"]
            assert (call["id"], call["tenantId"]) == (call_id, made["tenantId"])
            await user.invoke("EndSessionAsync")
            await user.wait_for("SessionEnded")
        entries = (await control.get("journal", headers=of(made))).json()["data"]
        assert {entry["tenantId"] for entry in entries} == {made["tenantId"]}
        assert [entry["text"] for entry in entries if entry["kind"] == "agent.message" and entry["is_final"]] == [
            f"I am {number}."
        ]
        assert (await control.delete(f"tenants/{made['tenantId']}")).status_code == 204

    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(live(number))
    assert (await control.get("info")).json()["tenants"] == ["ten_dev", "ten_other"]
    assert (await control.get("calls")).json()["data"] == []


# --- agents -----------------------------------------------------------------------------------------------------------


async def test_agents_are_shown_with_their_script(control: Control) -> None:
    shown = (await control.get("agents")).json()
    assert shown["source"] == "test agents"
    (desk,) = shown["data"]
    assert (desk["id"], desk["name"], desk["firstMessage"]) == ("agt_desk", "Desk", "Hello.")
    assert desk["mock"]["greeting"] == [{"text": "Hello.", "wav": None}]
    assert desk["mock"]["replies"][0]["triggers"] == [{"phrases": ["refund"], "patterns": []}]


@pytest.mark.parametrize("form", ["json", "yaml"])
async def test_agents_can_be_replaced_and_are_back_after_a_reset(server: Server, control: Control, form: str) -> None:
    made = await make(control, agents=agents("First."))
    body = json.dumps(agents("Second.")) if form == "json" else "agents:\n  agt_desk: {greeting: Second.}\n"
    answer = await control.put("agents", content=body, headers=of(made) | {"Content-Type": f"application/{form}"})
    assert answer.status_code == 200
    assert answer.json()["data"][0]["version"] == 2
    assert await greeting_of(server, made["accessToken"]) == "Second."
    assert (await control.get("agents")).json()["data"][0]["firstMessage"] == "Hello."

    assert (await control.post("reset", headers=of(made))).json()["agents"] == ["agt_desk"]
    assert await greeting_of(server, made["accessToken"]) == "First."


async def test_a_call_under_way_keeps_the_agent_it_began_with(server: Server, control: Control) -> None:
    async with HubCaller(server, "chat", agentId="agt_desk") as user:
        await user.wait_for("MessageReceived", isFinal=True)
        await control.put("agents", json=agents("Changed."))
        await user.invoke("SendMessageAsync", {"content": "refund"})
        assert (await user.wait_for("MessageReceived", isFinal=True, content="Which order?"))["isFinal"]


async def test_agents_can_be_added_and_changed_one_by_one(server: Server, control: Control) -> None:
    patch = {"agents": {"agt_new": {"greeting": "New."}}}
    shown = (await control.patch("agents", json=patch)).json()["data"]
    assert [agent["id"] for agent in shown] == ["agt_desk", "agt_new"]
    assert shown[0]["firstMessage"] == "Hello."
    answer = await control.patch("agents", json=patch | {"seed": 9})
    assert answer.status_code == 422
    assert "PATCH changes agents" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("agents:\n  agt_x:\n    greting: hi", ['body:3:5: unknown key "greting"; did you mean "greeting"?']),
        ("", ["body:1:1: the file is empty"]),
        ("{", ["body:2:1: not valid YAML"]),
        ("agents:\n  a: {hears: nose}\n  b: {hears: 5}", ["body:2:14:", "body:3:14:"]),
        ("agents:\n  a: {voice: {name: klingon}}", ["body:2:14:"]),
    ],
)
async def test_faulty_agents_are_refused_with_every_place_and_change_nothing(
    control: Control, body: str, says: list[str]
) -> None:
    answer = await control.put("agents", content=body)
    assert answer.status_code == 422
    told = answer.json()["errors"]["body"]
    assert all(any(each.startswith(text) for each in told) for text in says), told
    assert (await control.get("agents")).json()["data"][0]["firstMessage"] == "Hello."


async def test_what_is_the_servers_own_in_a_file_is_said_not_to_count(control: Control) -> None:
    users = {"auth": {"users": [{"email": "x@y.z", "password": "x"}]}}
    notes = (await control.put("agents", json=agents("Hi.") | users, headers=OTHER)).json()["notes"]
    assert [note.partition(":")[0] for note in notes] == ["auth"]
