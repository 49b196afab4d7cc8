"""Servers with hubs for everything, and the JavaScript clients of four generations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from clients import node
from hub_processes import HubServer
from javascript_clients import EVERY_WAY, Way, name_of_way
from line_clients import LineClient


@pytest.fixture(scope="session", params=["product", "asgi"])
def hubs(request: pytest.FixtureRequest) -> Iterator[HubServer]:
    """The same hubs, served past ASGI and over it."""
    with HubServer(request.param) as server:
        yield server
        assert server.errors == "", server.errors


@pytest.fixture(scope="session")
def javascript() -> Iterator[Callable[[int], LineClient]]:
    """`javascript(8)` is the process of that client's version; each is started once."""
    started: dict[int, LineClient] = {}
    with ExitStack() as stack:

        def get(version: int) -> LineClient:
            if version not in started:
                client = LineClient([*node("hubs.mjs"), str(version)], f"@microsoft/signalr {version}")
                started[version] = stack.enter_context(client)
            return started[version]

        yield get


@pytest.fixture(params=EVERY_WAY, ids=name_of_way)
def way(request: pytest.FixtureRequest, hubs: HubServer, javascript: Callable[[int], LineClient]) -> Way:
    version, transport, protocol = request.param
    return Way(version, transport, protocol, javascript(version), hubs)
