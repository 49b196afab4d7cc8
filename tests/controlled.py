"""A server, and a client of its control API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx

from voisnap_mock.app import App
from voisnap_mock.clock import Clock
from voisnap_mock.config import CallClock, Settings, parse_agents
from voisnap_mock.server import Server

AGENTS = """
version: 1
seed: 5
auth: {users: [{email: dev@example.test, password: dev}, {email: b@b.c, password: b, tenant: ten_other}]}
agents:
  agt_desk:
    name: Desk
    greeting: Hello.
    voice: {engine: tone, rate: 400}
    hears: marks
    timing: {first_audio: 0ms}
    replies:
      - {hear: refund, say: Which order?}
      - {hear: bye, say: Goodbye., end: agent_ended}
"""

Control = httpx.AsyncClient
Serving = Callable[..., AbstractAsyncContextManager[tuple[Server, Control]]]


@asynccontextmanager
async def serve(
    agents: str = AGENTS, *, call_clock: CallClock = "virtual", clock: Clock | None = None, **settings: object
) -> AsyncIterator[tuple[Server, Control]]:
    """A server, and a client whose paths are below `/__voisnap/`."""
    chosen = Settings(port=0, clock=call_clock, **settings)  # type: ignore[arg-type]
    app = App(chosen, clock=clock, file=parse_agents(agents, source="test agents"))
    async with (
        Server(app) as server,
        httpx.AsyncClient(base_url=f"{server.base_url}/__voisnap/", trust_env=False) as control,
    ):
        yield server, control
