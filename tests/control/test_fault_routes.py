"""Faults over HTTP: armed, reported, disarmed; each tenant has its own."""

from __future__ import annotations

import re
from typing import Any

import pytest
from controlled import AGENTS, Control, Serving
from hub_caller import HubCaller

from voisnap_mock.server import Server

SLOW = {"at": "stt", "when": {"agent": "agt_desk", "turn": 2}, "do": {"error": "STT_PROVIDER_TIMEOUT"}, "times": 1}
FILE = f"""{AGENTS}
faults:
  - {{id: from-file, at: llm, do: {{error: LLM_PROVIDER_ERROR}}}}
schedules:
  monday: [{{for: 10s, use: [from-file]}}]
"""


async def faults_of(control: Control, **headers: str) -> list[dict[str, Any]]:
    return (await control.get("faults", headers=headers)).json()["data"]


async def test_rules_are_armed_shown_and_disarmed(control: Control) -> None:
    added = await control.post("faults", json=SLOW)
    assert added.status_code == 201
    (fault,) = added.json()["data"]
    assert fault == {
        "id": fault["id"],
        "rule": {"id": fault["id"]} | SLOW,
        "armed": True,
        "fired": 0,
        "nearMiss": "nothing has crossed stt",
    }
    more = await control.post(
        "faults", content="- {id: mute, at: tts, do: {silence: true}}\n- {at: llm, do: {slow: 1s}}"
    )
    assert [each["id"] == "mute" for each in more.json()["data"]] == [True, False]
    assert len(await faults_of(control)) == 3

    assert (await control.delete("faults/mute")).status_code == 204
    assert "mute" not in [each["id"] for each in await faults_of(control)]
    gone = await control.delete("faults/mute")
    assert gone.status_code == 404
    assert "mute" in gone.json()["detail"]

    replaced = await control.put("faults", json=[{"id": "only", "at": "stt", "do": {"slow": "1s"}}])
    assert [each["id"] for each in replaced.json()["data"]] == ["only"]
    assert (await control.delete("faults")).status_code == 204
    assert await faults_of(control) == []


async def test_a_token_arms_the_same_faults_again(control: Control) -> None:
    await control.post("faults", json={"id": "flaky", "at": "llm", "do": {"silence": True}, "rate": 0.5})
    shown = (await control.get("faults")).json()
    await control.delete("faults")
    answer = await control.post("faults", content=shown["token"])
    assert answer.json()["data"] == shown["data"]


async def test_each_tenant_has_its_own(control: Control) -> None:
    made = (await control.post("tenants", json={"faults": SLOW | {"id": "mine"}})).json()
    mine = {"X-Voisnap-Tenant": made["tenantId"]}
    await control.post("faults", json=SLOW | {"id": "theirs"})
    assert [fault["id"] for fault in await faults_of(control, **mine)] == ["mine"]
    assert [fault["id"] for fault in await faults_of(control)] == ["theirs"]
    await control.delete("faults", headers=mine)
    await control.post("reset", headers=mine)
    assert [fault["id"] for fault in await faults_of(control, **mine)] == ["mine"], "it began with it"


async def test_reset_brings_back_those_of_the_file_and_no_others(serving: Serving) -> None:
    async with serving(FILE) as (_, control):
        await control.post("faults", json=SLOW)
        await control.delete("faults/from-file")
        await control.post("reset")
        assert [fault["id"] for fault in await faults_of(control)] == ["from-file"]


async def test_a_schedule_is_started_and_stopped(serving: Serving) -> None:
    async with serving(FILE) as (_, control):
        phases = [{"for": "10s", "use": ["from-file"]}]
        shown = {"name": "monday", "running": False, "schedule": phases}
        assert (await control.get("schedules")).json()["data"] == [shown]
        assert (await control.post("schedules/monday")).json() == shown | {"running": True}
        assert (await control.delete("schedules/monday")).json() == shown
        for method in ("POST", "DELETE"):
            answer = await control.request(method, "schedules/tuesday")
            assert answer.status_code == 404
            assert "tuesday" in answer.json()["detail"]


async def test_what_never_fired_says_what_came_nearest(server: Server, control: Control) -> None:
    await control.post("faults", json={"id": "late", "at": "llm", "when": {"turn": 2}, "do": {"silence": True}})
    async with HubCaller(server, "chat", agentId="agt_desk") as user:
        await user.wait_for("MessageReceived", isFinal=True)
        await user.invoke("SendMessageAsync", {"content": "refund"})
        await user.wait_for("MessageReceived", isFinal=True, content="Which order?")
        await user.invoke("EndSessionAsync")
        await user.wait_for("SessionEnded")
    (late,) = await faults_of(control)
    assert late["fired"] == 0
    assert "llm" in late["nearMiss"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"at": "sst", "do": {"silence": true}}', 'body:1:8: .*did you mean "stt"'),
        ('[{"at": "stt",\n  "do": {"errror": "X"}}]', "body:2:10:"),
        ("", "body:1:1:"),
        ("{", "not valid YAML"),
        ("5", "expected a rule"),
    ],
)
async def test_nonsense_is_refused_with_its_place(control: Control, body: str, says: str) -> None:
    for method in ("POST", "PUT"):
        answer = await control.request(method, "faults", content=body)
        assert answer.status_code == 422
        assert any(re.search(says, text) for text in answer.json()["errors"]["body"]), answer.text
    assert await faults_of(control) == []


async def test_an_id_can_be_armed_once(control: Control) -> None:
    await control.post("faults", json=SLOW | {"id": "one"})
    answer = await control.post("faults", json=SLOW | {"id": "one"})
    assert answer.status_code == 409
    assert '"one"' in answer.json()["detail"] or "'one'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"at": "sst", "do": {"silence": True}}, 'did you mean "stt"'),
        ({"id": "from-file", "at": "stt", "do": {"silence": True}}, "from-file"),
    ],
)
async def test_a_tenant_with_faulty_faults_is_not_made(serving: Serving, wish: dict[str, Any], says: str) -> None:
    async with serving(FILE) as (_, control):
        answer = await control.post("tenants", json={"faults": [wish]})
        assert answer.status_code == 422
        assert says in "\n".join(answer.json()["errors"]["faults"])
        assert (await control.get("info")).json()["tenants"] == ["ten_dev", "ten_other"]
