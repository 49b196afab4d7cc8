import pytest
from bot import ask

pytestmark = [pytest.mark.anyio, pytest.mark.voisnap(agents="agents.yaml")]


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_the_bot_asks_until_it_has_its_refund(voisnap_mock):
    async with voisnap_mock.expect_call("agt_support") as call:
        answers = await ask(voisnap_mock.base_url, voisnap_mock.token(), "agt_support", ["a refund please", "4179"])
        await call.wait_for("ConversationEnded", text="agent_ended")
    assert answers[1:] == ["Sure. What is the order number?", "Order 4179 is refunded."]


async def test_an_agent_may_ask_back(voisnap_mock):
    async with voisnap_mock.async_chat("agt_support") as user:  # a chat user that comes with the mock
        await user.heard()
        await user.write("something else")
        assert await user.heard() == "Sorry, could you repeat that?"
