"""A server for the tests of the control API, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from controlled import Control, Serving, serve

from voisnap_mock.server import Server


@pytest.fixture
def serving() -> Serving:
    return serve


@pytest.fixture
async def running() -> AsyncIterator[tuple[Server, Control]]:
    async with serve() as (server, control):
        yield server, control


@pytest.fixture
def server(running: tuple[Server, Control]) -> Server:
    return running[0]


@pytest.fixture
def control(running: tuple[Server, Control]) -> Control:
    return running[1]
