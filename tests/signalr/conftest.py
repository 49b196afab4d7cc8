from collections.abc import AsyncIterator

import pytest
from hubs import Desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.endpoint.close(grace=0.05)
