"""Faults that come with a connection's metadata, as browsers send them: taken, or forbidden by a switch."""

from __future__ import annotations

import asyncio

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.caller import CallRefused, ChatUser
from voisnap_mock.cli.service import Login, access_token
from voisnap_mock.clock import SystemClock
from voisnap_mock.server import MockServer

METADATA = {"$mock": {"at": "connect", "do": {"error": "SESSION_LIMIT_REACHED"}}}


def outcome(fidelity: str) -> str:
    """How a connection with a fault in its metadata goes."""

    async def connect(url: str) -> None:
        token = await asyncio.to_thread(access_token, url, Login())
        async with ChatUser(url, "agt_a", access_token=token, clock=SystemClock(), metadata=METADATA):
            pass

    text = f"version: 1\nfidelity: {fidelity}\nagents: {{agt_a: {{replies: [{{else: x}}]}}}}"
    with MockServer(parse_agents(text, source="test agents")) as server:
        try:
            asyncio.run(connect(server.base_url))
        except CallRefused as error:
            return str(error)
    return "taken"


def test_a_fault_in_the_metadata_strikes_its_own_connection() -> None:
    assert "SESSION_LIMIT_REACHED" in outcome("{}")


def test_a_tenant_can_forbid_faults_in_metadata() -> None:
    refused = outcome("{mock_in_metadata: forbid}")
    assert "403" in refused
    assert "fidelity.mock_in_metadata: forbid" in refused
