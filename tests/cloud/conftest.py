"""A server for the tests of the service's hubs and REST routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hub_caller import ServerFactory

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.app import App
from voisnap_mock.clock import Clock
from voisnap_mock.config import CallClock, Settings
from voisnap_mock.server import Server

AGENTS = """
version: 1
auth:
  users:
    - {email: dev@example.test, password: dev}
    - {email: other@example.test, password: other, tenant: ten_other}
    - {email: mfa@example.test, password: mfa, mfa_secret: JBSWY3DPEHPK3PXP}
agents:
  agt_desk:
    name: Front Desk
    greeting: Hello.
    voice: {engine: tone, rate: 400}
    hears: activity
    timing: {end_of_turn: 200ms, first_audio: 0ms}
    replies:
      - {hear: '/speech/', say: "I heard you."}
      - {dtmf: "1", say: "One.", event: {name: Custom, payload: {key: one}}}
      - {dtmf: "0", transfer: {to: "+15550100", type: cold, summary: Wants a person}}
      - {dtmf: "9", say: Bye., end: agent_ended}
      - {else: "What?"}
  agt_strict:
    voice: {engine: tone, rate: 400}
    hears: script
    timing: {end_of_turn: 200ms, first_audio: 0ms}
    script:
      - {hear: "yes please", say: "Confirmed."}
      - {end: agent_ended}
  agt_clerk:
    name: Clerk
    voice: {engine: tone}
    greeting: "Hi {{ userName }}, you are {{ metadata.userId }}."
    timing: {chat_chunk: 5ms}
    replies:
      - {hear: bye, say: Goodbye., end: agent_ended}
      - {hear: long, say: "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen."}
      - {else: "You wrote: {{ message.metadata.n }}."}
  agt_slow_clerk:
    voice: {engine: tone}
    timing: {chat_chunk: 1s}
    replies:
      - {else: "Once upon a time there was a slow clerk who never came to the end of a single sentence."}
  agt_closed:
    active: false
    voice: {engine: tone}
    replies: [{else: Never.}]
"""


@pytest.fixture
async def make_server() -> AsyncIterator[ServerFactory]:
    """Starts servers in the test's own loop: `await make_server(text_of_an_agents_file)`."""
    async with AsyncExitStack() as stack:

        async def make(
            agents: str | None = AGENTS, *, clock: Clock | None = None, call_clock: CallClock = "real", **more: Any
        ) -> Server:
            file = parse_agents(agents, source="test agents") if agents is not None else None
            return await stack.enter_async_context(
                Server(App(Settings(port=0, clock=call_clock), clock=clock, file=file, **more))
            )

        yield make


@pytest.fixture
async def server(make_server: ServerFactory) -> Server:
    return await make_server()
