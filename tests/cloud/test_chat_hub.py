"""ChatHub end to end: a real server and a SignalR client."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hub_caller import HubCaller, ServerFactory, Wire, journaled, token_of

from voisnap_mock.journal import JournalFilter
from voisnap_mock.server import Server
from voisnap_mock.signalr import ConnectionClosed, HubError

FIFTEEN = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen."


def clerk(server: Server, wire: Wire | None = None, **query: str) -> HubCaller:
    query = {"agentId": "agt_clerk", "userName": "Ann", "metadata": json.dumps({"userId": "u1"})} | query
    return HubCaller(server, "chat", wire=wire, **query)


async def test_a_chat_greets_answers_and_ends(server: Server) -> None:
    async with clerk(server, language="de-AT", auth="true") as user:
        started = await user.wait_for("SessionStarted")
        assert started["agentName"] == "Clerk"
        greeting = await user.wait_for("MessageReceived", isFinal=True)
        assert greeting["content"] == "Hi Ann, you are u1."
        at = len(user.events)
        assert await user.invoke("SendMessageAsync", {"content": "hello", "metadata": {"n": 7}}) is None
        answer = await user.wait_for("MessageReceived", after=at, isFinal=True)
        assert answer["content"] == "You wrote: 7."
        assert answer["messageId"] != greeting["messageId"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer["timestamp"])
        await user.invoke("SendMessageAsync", {"content": "Bye!"})
        ended = await user.wait_for("SessionEnded")
        await user.closed()
    assert ended["reason"] == "agent_ended"
    assert user.targets()[-3:] == ["TypingIndicator", "ConversationEnded", "SessionEnded"]
    assert user.targets()[0] == "SessionStarted"
    opened = server.app.tenants.default.journal.entries(JournalFilter(kind="connection.opened"))[0]
    assert opened.details["query"]["language"] == "de-AT"
    assert opened.details["query"]["auth"] == "true"


async def test_a_reply_grows_in_chunks_of_one_message(server: Server) -> None:
    async with clerk(server) as user:
        await user.wait_for("TypingIndicator", isTyping=False)
        at = len(user.events)
        await user.invoke("SendMessageAsync", {"content": "a long one"})
        final = await user.wait_for("MessageReceived", after=at, isFinal=True)
        await user.wait_for("TypingIndicator", after=at, isTyping=False)
    events = user.events[at:]
    assert events[0] == ("TypingIndicator", {"isTyping": True})
    assert events[-1] == ("TypingIndicator", {"isTyping": False})
    *chunks, last = [payload for target, payload in events if target == "MessageReceived"]
    assert last == final
    assert (final["content"], final["isChunk"]) == (FIFTEEN, False)
    assert {chunk["messageId"] for chunk in chunks} == {final["messageId"]}
    assert all(chunk["isChunk"] and not chunk["isFinal"] for chunk in chunks)
    texts = [chunk["content"] for chunk in chunks]
    assert len(texts) >= 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert FIFTEEN.startswith(texts[-1])


async def test_messages_sent_meanwhile_wait_their_turn(server: Server) -> None:
    async with clerk(server) as user:
        await user.wait_for("TypingIndicator", isTyping=False)
        at = len(user.events)
        await asyncio.gather(
            *(user.invoke("SendMessageAsync", {"content": "x", "metadata": {"n": n}}) for n in range(3))
        )
        await user.wait_for("MessageReceived", isFinal=True, content="You wrote: 2.")
    finals = [
        payload["content"] for target, payload in user.events[at:] if target == "MessageReceived" and payload["isFinal"]
    ]
    assert finals == ["You wrote: 0.", "You wrote: 1.", "You wrote: 2."]


async def test_cancel_makes_the_text_so_far_final(server: Server) -> None:
    async with HubCaller(server, "chat", agentId="agt_slow_clerk") as user:
        await user.wait_for("SessionStarted")
        await user.invoke("SendMessageAsync", {"content": "tell me"})
        chunk = await user.wait_for("MessageReceived", isChunk=True)
        assert await user.invoke("CancelAsync") is None
        final = await user.wait_for("MessageReceived", isFinal=True)
        assert final["content"] == chunk["content"]
        assert final["messageId"] == chunk["messageId"]
        await user.wait_for("TypingIndicator", isTyping=False)
        assert await user.invoke("CancelAsync") is None, "with nothing to cancel nothing happens"


async def test_the_user_ends_the_chat(server: Server) -> None:
    async with clerk(server) as user:
        started = await user.wait_for("SessionStarted")
        assert await user.invoke("TypingAsync") is None
        assert await user.invoke("EndSessionAsync") is None
        assert await user.wait_for("ConversationEnded") == {
            "conversationId": started["conversationId"],
            "reason": "user_ended",
        }
        assert (await user.wait_for("SessionEnded"))["reason"] == "user_ended"
        await user.closed()


async def test_calls_after_the_end_are_answered_and_ignored(server: Server) -> None:
    async with clerk(server) as user:
        answers: list[asyncio.Future[list[Any]]] = []

        async def go_on() -> list[Any]:
            return [
                await user.invoke("SendMessageAsync", {"content": "hello?"}),
                await user.invoke("TypingAsync"),
                await user.invoke("CancelAsync"),
                await user.invoke("RequestReconnectionAsync"),
                await user.invoke("EndSessionAsync"),
            ]

        user.client.on("SessionEnded", lambda _: answers.append(asyncio.ensure_future(go_on())))
        await user.invoke("EndSessionAsync")
        await user.wait_for("SessionEnded")
        assert await asyncio.gather(*answers) == [[None] * 5]
        await user.closed()
    assert user.targets()[-1] == "SessionEnded"


async def test_a_graceful_reconnection_is_answered_on_the_same_connection(server: Server) -> None:
    async with clerk(server) as user:
        session_id = (await user.wait_for("SessionStarted"))["sessionId"]
        assert await user.invoke("RequestReconnectionAsync") is None
        await user.wait_for("Reconnected", sessionId=session_id)
        await user.invoke("SendMessageAsync", {"content": "x", "metadata": {"n": 1}})
        await user.wait_for("MessageReceived", isFinal=True, content="You wrote: 1.")


@pytest.mark.parametrize(("whose", "says"), [("nobody's", "not known"), ("over", "is over"), ("foreign", "not known")])
async def test_a_resume_that_is_refused_says_why(server: Server, whose: str, says: str) -> None:
    async with clerk(server) as user:
        session_id = (await user.wait_for("SessionStarted"))["sessionId"]
        if whose == "over":
            await user.invoke("EndSessionAsync")
            await user.closed()
        elif whose == "nobody's":
            session_id = "conv_nobody"
        token = token_of(server, tenant="ten_other" if whose == "foreign" else "ten_dev")
        async with HubCaller(server, "chat", token=token, agentId="agt_clerk", sessionId=session_id) as other:
            error = await other.wait_for("Error")
            assert (error["code"], error["recoverable"]) == ("RECONNECT_FAILED", False)
            assert says in error["message"]
            await other.closed()


WRONG_CALLS: list[tuple[str, tuple[Any, ...], str]] = [
    ("SendMessageAsync", (), r"Invocation provides 0 argument\(s\) but target expects 1"),
    ("SendMessageAsync", ("hello",), "Error binding arguments.*Argument 1 'message'.*got the string \"hello\""),
    ("SendMessageAsync", ({},), "Error binding arguments.*Argument 1 'message'.*content"),
    ("SendMessageAsync", ({"content": 5},), "Error binding arguments.*Argument 1 'message'.*content"),
    ("SendMessageAsync", ({"content": "x", "metadata": "y"},), "Error binding arguments.*Argument 1 'message'"),
    ("SendMessageAsync", ({"content": "  "},), "Argument 1 'message'.*expected a text to answer"),
    ("EndSessionAsync", ("user_ended",), r"Invocation provides 1 argument\(s\) but target expects 0"),
    ("CancelAsync", (1,), "Invocation provides 1 argument"),
    ("SendAudioAsync", ("AAA=",), "Method does not exist"),
]


async def test_a_wrong_call_is_an_error_of_that_call_and_nothing_else(server: Server) -> None:
    async with clerk(server) as user:
        for target, arguments, says in WRONG_CALLS:
            with pytest.raises(HubError) as refused:
                await user.invoke(target, *arguments)
            assert re.search(says, str(refused.value)), (target, arguments, str(refused.value))
        await user.invoke("SendMessageAsync", {"Content": "still there?", "METADATA": {"n": 1}})
        await user.wait_for("MessageReceived", isFinal=True, content="You wrote: 1.")


async def test_a_message_may_be_as_long_as_a_hub_message_and_no_longer(server: Server) -> None:
    async with clerk(server) as user:
        await user.invoke("SendMessageAsync", {"content": "long " + "x" * 32_000, "metadata": {"n": 1}})
        await user.wait_for("MessageReceived", isFinal=True, content=FIFTEEN)
        with pytest.raises(ConnectionClosed):
            await user.invoke("SendMessageAsync", {"content": "x" * 33_000})
    noticed = await journaled(server.app.tenants.default.journal, kind="connection.protocol_error")
    assert "32768" in noticed.details["message"]


async def test_a_chat_is_resumed_and_told_what_it_missed(server: Server) -> None:
    async with Wire(server) as wire, clerk(server, wire) as lost:
        session_id = (await lost.wait_for("SessionStarted"))["sessionId"]
        await lost.wait_for("TypingIndicator", isTyping=False)
        await lost.client.send("SendMessageAsync", {"content": "x", "metadata": {"n": 1}})
        await lost.client.send("SendMessageAsync", {"content": "x", "metadata": {"n": 2}})
        await lost.wait_for("MessageReceived", isFinal=True, content="You wrote: 1.")
        await lost.lose_connection()
    async with clerk(server, sessionId=session_id) as back:
        await back.wait_for("Reconnected", sessionId=session_id)
        if not any(payload.get("content") == "You wrote: 2." for _, payload in lost.events):
            await back.wait_for("MessageReceived", isFinal=True, content="You wrote: 2.")
        await back.invoke("SendMessageAsync", {"content": "x", "metadata": {"n": 3}})
        await back.wait_for("MessageReceived", isFinal=True, content="You wrote: 3.")
    assert back.targets()[0] == "Reconnected"


@pytest.mark.parametrize(("style", "chunks"), [("off", 0), ("delta", 5)])
async def test_chunks_can_be_off_or_deltas(make_server: ServerFactory, style: str, chunks: int) -> None:
    server = await make_server(
        f"""
version: 1
fidelity: {{chat_chunks: {style}}}
agents:
  agt_a: {{timing: {{chat_chunk: 1ms}}, replies: [{{else: "{FIFTEEN}"}}]}}
"""
    )
    async with HubCaller(server, "chat", agentId="agt_a") as user:
        await user.invoke("SendMessageAsync", {"content": "go"})
        final = await user.wait_for("MessageReceived", isFinal=True)
    assert final["content"] == FIFTEEN
    came = [payload["content"] for target, payload in user.events if target == "MessageReceived" and payload["isChunk"]]
    assert len(came) in (chunks, chunks - 1) if chunks else not came
    assert FIFTEEN.startswith("".join(came).rstrip())
