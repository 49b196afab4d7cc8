"""Tenants that are made and ended while the server runs: each is a world of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import AgentsFile, Limits
from voisnap_mock.caller import CallRefused
from voisnap_mock.server import MockServer
from voisnap_mock.tenancy import Enrolment, Wishes


def agents(greeting: str) -> AgentsFile:
    text = f"""
version: 1
seed: 5
agents:
  agt_desk:
    greeting: {greeting}
    voice: {{engine: tone, rate: 400}}
    hears: marks
    timing: {{first_audio: 0ms}}
    replies: [{{hear: bye, say: Goodbye., end: agent_ended}}]
"""
    return parse_agents(text, source=greeting)


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(agents("Server."), clock="virtual") as server:
        yield server


def create(server: MockServer, wishes: Wishes | None = None) -> Enrolment:
    async def make() -> Enrolment:
        return server.app.tenancy.create(wishes or Wishes())

    return server.wait_for(make())


def login(server: MockServer, email: str, password: str) -> httpx.Response:
    return httpx.post(f"{server.base_url}/api/v1/auth/login", json={"email": email, "password": password})


def greeting_in(server: MockServer, tenant: str) -> str:
    with server.caller("agt_desk", tenant=tenant) as caller:
        return caller.heard()


def test_a_tenant_has_agents_users_and_keys_of_its_own(server: MockServer) -> None:
    made = create(server, Wishes(file=agents("Mine.")))
    user = login(server, made.user.email, made.user.password).json()["user"]
    assert user["tenantId"] == made.tenant.id
    listed = httpx.get(f"{server.base_url}/api/v1/agents", headers={"Authorization": f"Bearer {made.api_key}"}).json()
    assert [agent["firstMessage"] for agent in listed["data"]] == ["Mine."]
    assert greeting_in(server, made.tenant.id) == "Mine."
    assert greeting_in(server, "ten_dev") == "Server."


def test_tenants_with_one_seed_name_their_calls_alike_and_see_only_their_own(server: MockServer) -> None:
    one, other = create(server, Wishes(seed=7)), create(server, Wishes(seed=7))
    with server.caller("agt_desk", tenant=one.tenant.id) as first:
        first.heard()
        with server.caller("agt_desk", tenant=other.tenant.id) as second:
            assert second.conversation_id == first.conversation_id
        assert [session.id for session in one.tenant.sessions.sessions] == [first.conversation_id]
    assert {entry.tenant_id for entry in one.tenant.journal.entries()} == {one.tenant.id}


def test_limits_are_the_tenants_own(server: MockServer) -> None:
    made = create(server, Wishes(limits=Limits(max_sessions=1)))
    with server.caller("agt_desk", tenant=made.tenant.id):
        with (
            pytest.raises(CallRefused, match="SESSION_LIMIT_REACHED"),
            server.caller("agt_desk", tenant=made.tenant.id),
        ):
            pass
        assert greeting_in(server, "ten_dev") == "Server."


def test_a_tenant_without_agents_of_its_own_follows_the_servers_file() -> None:
    with MockServer(agents("Server."), clock="virtual") as server:
        follower, other = create(server), create(server, Wishes(file=agents("Mine.")))

        async def load() -> None:
            server.app.tenancy.load(agents("Edited."))

        server.wait_for(load())
        assert greeting_in(server, follower.tenant.id) == "Edited."
        assert greeting_in(server, other.tenant.id) == "Mine."


def test_reset_leads_back_to_the_file_that_the_tenant_began_with(server: MockServer) -> None:
    made, follower = create(server, Wishes(file=agents("First."))), create(server)
    tenancy = server.app.tenancy

    async def give() -> None:
        tenancy.give(made.tenant, agents("Second."))
        tenancy.give(follower.tenant, agents("Second."))

    async def reset() -> None:
        tenancy.reset(made.tenant)
        tenancy.reset(follower.tenant)

    server.wait_for(give())
    assert greeting_in(server, made.tenant.id) == greeting_in(server, follower.tenant.id) == "Second."
    server.wait_for(reset())
    assert greeting_in(server, made.tenant.id) == "First."
    assert greeting_in(server, follower.tenant.id) == "Server."


def test_reset_also_leads_back_to_the_prompts_that_the_tenant_began_with(server: MockServer, tmp_path: Path) -> None:
    made, follower = create(server, Wishes(recordings=tmp_path / "first")), create(server)
    tenants = (made.tenant, follower.tenant)
    before = [tenant.sessions.prompts for tenant in tenants]

    async def give_and_reset() -> None:
        for tenant in tenants:
            server.app.tenancy.give(tenant, agents("Second."), tmp_path / "second")
            server.app.tenancy.reset(tenant)

    server.wait_for(give_and_reset())
    assert [tenant.sessions.prompts for tenant in tenants] == before


def test_a_dropped_tenant_leaves_nothing(server: MockServer) -> None:
    made = create(server, Wishes(file=agents("Mine.")))
    tokens = login(server, made.user.email, made.user.password).json()
    with server.caller("agt_desk", tenant=made.tenant.id) as caller:
        caller.heard()
        server.wait_for(server.app.tenancy.drop(made.tenant.id))
        assert made.tenant.sessions.live_count == 0
    assert made.tenant.id not in server.app.tenants.ids
    refused = httpx.get(
        f"{server.base_url}/api/v1/auth/me", headers={"Authorization": f"Bearer {tokens['accessToken']}"}
    )
    assert refused.status_code == 401
    assert "tid" in refused.json()["detail"]
    assert login(server, made.user.email, made.user.password).status_code == 401
    assert login(server, "dev@example.test", "dev").status_code == 200


def test_a_tenant_that_the_agents_file_names_cannot_be_dropped(server: MockServer) -> None:
    with pytest.raises(KeyError):
        server.wait_for(server.app.tenancy.drop("ten_dev"))


def test_what_is_secret_about_a_tenant_is_not_printed(server: MockServer) -> None:
    made = create(server)
    assert made.user.password not in repr(made)
    assert made.api_key not in repr(made)
