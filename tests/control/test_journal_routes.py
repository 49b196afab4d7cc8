"""The journal over HTTP: filtered, followed, verified."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from typing import Any

import httpx
import pytest
from controlled import Control, Serving
from hub_caller import PATIENCE, HubCaller

from voisnap_mock.clock import ManualClock
from voisnap_mock.control.stream import HEARTBEAT, follow
from voisnap_mock.journal import DROPPED, Journal, JournalEntry, JournalFilter
from voisnap_mock.server import Server


async def events_of(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The entries of a stream of server-sent events; each one's id is its place."""
    event_id = 0
    async for line in answer.aiter_lines():
        if line.startswith("id: "):
            event_id = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            entry = json.loads(line.removeprefix("data: "))
            assert entry["seq"] == event_id
            yield entry


async def next_of(events: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return await asyncio.wait_for(anext(events), PATIENCE)


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({"kind": "session.*"}, ["session.opened", "session.started", "session.ended"]),
        ({"target": "SessionStarted"}, ["session.started"]),
        ({"target": "EndSessionAsync"}, ["method"]),
        ({"text": "hELLO", "kind": "agent.transcript", "last": 1}, ["agent.transcript"]),
        ({"call": "conv_nobody"}, []),
        ({"from": 0, "to": 0, "kind": "session.started"}, ["session.started"]),
        ({"from": 1000}, []),
        ({"limit": 0}, []),
        ({"limit": 1}, ["agents.loaded"]),
        ({"since": 100_000}, []),
    ],
    ids=str,
)
async def test_the_journal_is_filtered(
    server: Server, control: Control, query: dict[str, Any], kinds: list[str]
) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        await caller.wait_for("TranscriptionOf", isFinal=True)
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
    entries = (await control.get("journal", params=query)).json()["data"]
    assert [entry["kind"] for entry in entries] == kinds


@pytest.mark.parametrize(
    "query", [{"limit": -1}, {"since": "x"}, {"from": "soon"}, {"last": -1}, {"follow": "perhaps"}]
)
async def test_a_condition_that_makes_no_sense_is_refused_by_name(control: Control, query: dict[str, Any]) -> None:
    answer = await control.get("journal", params=query)
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == list(query)


async def test_a_follower_gets_what_there_is_and_what_comes(server: Server, control: Control) -> None:
    journal = server.app.tenants.default.journal
    journal.append("note", text="before")
    async with control.stream("GET", "journal", params={"follow": "true", "kind": "note"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async with aclosing(events_of(answer)) as events:
            assert (await next_of(events))["text"] == "before"
            journal.append("other")
            journal.append("note", text="one", access_token="eyJhbGciOi.abc.def")
            journal.append("note", text="two")
            one, two = await next_of(events), await next_of(events)
    assert (one["text"], two["text"], one["access_token"]) == ("one", "two", "[redacted]")
    assert two["seq"] == journal.last_seq


@pytest.mark.parametrize("place", ["header", "query"])
async def test_a_follower_that_comes_back_goes_on_where_it_was(server: Server, control: Control, place: str) -> None:
    journal = server.app.tenants.default.journal
    seen = journal.append("note", text="seen").seq
    journal.append("note", text="missed")
    headers = {"Last-Event-ID": str(seen)} if place == "header" else {}
    query = {"follow": "true", "kind": "note"} | ({} if place == "header" else {"since": str(seen)})
    async with (
        control.stream("GET", "journal", params=query, headers=headers) as answer,
        aclosing(events_of(answer)) as events,
    ):
        assert (await next_of(events))["text"] == "missed"


async def test_a_position_in_the_journal_of_an_earlier_server_begins_anew(server: Server, control: Control) -> None:
    server.app.tenants.default.journal.append("note", text="first")
    headers = {"Last-Event-ID": "99999"}
    async with (
        control.stream("GET", "journal", params={"follow": "true", "kind": "note"}, headers=headers) as answer,
        aclosing(events_of(answer)) as events,
    ):
        assert (await next_of(events))["text"] == "first"


async def test_a_stream_ends_with_its_limit(server: Server, control: Control) -> None:
    journal = server.app.tenants.default.journal
    for number in range(3):
        journal.append("note", number=number)
    answer = await control.get("journal", params={"follow": "true", "kind": "note", "limit": 2})
    assert answer.text.count("data: ") == 2


async def test_there_are_only_so_many_followers(server: Server, control: Control) -> None:
    journal = server.app.tenants.default.journal
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(journal.subscribe())
        refused = await control.get("journal", params={"follow": "true"})
        assert refused.status_code == 503
        assert "100 requests follow this journal already" in refused.json()["detail"]
    answer = await control.get("journal", params={"follow": "true", "limit": 1})
    assert answer.status_code == 200


async def test_followers_see_the_end_of_a_stopping_server(serving: Serving) -> None:
    async with serving() as (server, control), HubCaller(server, "chat", agentId="agt_desk") as user:
        await user.wait_for("SessionStarted")
        async with (
            control.stream("GET", "journal", params={"follow": "true", "kind": "session.ended"}) as answer,
            aclosing(events_of(answer)) as events,
        ):
            stopping = asyncio.create_task(server.stop())
            assert (await next_of(events))["reason"] == "server_shutdown"
            assert [entry async for entry in events] == [], "the answer ends in order"
            await stopping


async def test_a_dropped_tenants_followers_are_let_go(server: Server, control: Control) -> None:
    tenant = (await control.post("tenants")).json()["tenantId"]
    headers = {"X-Voisnap-Tenant": tenant}
    async with (
        control.stream("GET", "journal", params={"follow": "true"}, headers=headers) as answer,
        aclosing(events_of(answer)) as events,
    ):
        assert (await next_of(events))["kind"] == "agents.loaded"
        assert (await control.delete(f"tenants/{tenant}")).status_code == 204
        assert [entry async for entry in events] == []


async def test_silence_is_broken_by_heartbeats() -> None:
    clock = ManualClock()
    journal = Journal(clock)
    async with aclosing(follow(journal, JournalFilter(), clock)) as stream:  # type: ignore[type-var]
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        for _ in range(2):
            await clock.advance(HEARTBEAT - 1)
            assert not waiting.done()
            await clock.advance(1)
            assert (await waiting).startswith(b":")
            waiting = asyncio.ensure_future(anext(stream))
        await clock.advance(1)
        journal.append("note")
        assert b'"kind":"note"' in await waiting
        waiting = asyncio.ensure_future(anext(stream))
        await clock.advance(0)
        journal.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
    assert journal.subscribers == 0


async def test_a_reader_that_is_too_slow_sees_what_it_lost() -> None:
    clock = ManualClock()
    journal = Journal(clock)
    async with aclosing(follow(journal, JournalFilter(), clock)) as stream:  # type: ignore[type-var]
        await anext(stream)
        for number in range(10_005):
            journal.append("note", number=number)
        batch = await anext(stream)
    assert f'"kind":"{DROPPED}","entries":5'.encode() in batch
    assert batch.count(b"data: ") == 10_001


async def test_what_happened_can_be_verified(server: Server, control: Control) -> None:
    async with HubCaller(server, "voice", agentId="agt_desk") as caller:
        call_id = (await caller.wait_for("SessionStarted"))["conversationId"]
        await caller.wait_for("TranscriptionOf", isFinal=True)
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
    events: list[dict[str, Any]] = [
        {"target": "SessionStarted", "count": 1},
        {"target": "TranscriptionOf", "text": "hello", "within": "5s"},
        {"kind": "session.ended"},
    ]
    answer = (await control.post("verify", json={"call": call_id, "events": events})).json()
    assert answer == {"ok": True, "failures": []}

    answer = (await control.post("verify", json={"call": call_id, "events": [*events, {"target": "Error"}]})).json()
    assert answer["ok"] is False
    (failure,) = answer["failures"]
    assert failure["index"] == 3
    assert failure["message"].startswith("event 4 (Error) did not happen after event 3 (session.ended)")

    events.reverse()
    assert (await control.post("verify", json={"events": events, "ordered": False})).json()["ok"] is True
    failures = (await control.post("verify", json={"events": events})).json()["failures"]
    assert [failure["nearest"]["target"] for failure in failures] == ["TranscriptionOf", "SessionStarted"]


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({}, "events"),
        ({"events": [{"knd": "x"}]}, "events.0.knd"),
        ({"events": [{}]}, "events.0"),
        ({"events": [{"kind": "x"}, {"kind": "x", "within": "soon"}]}, "events.1.within"),
        ({"events": [{"kind": "x", "count": -1}]}, "events.0.count"),
    ],
)
async def test_nonsense_is_not_verified(control: Control, body: dict[str, Any], member: str) -> None:
    answer = await control.post("verify", json=body)
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [member]


class Watched(Journal):
    """Full, and knows which threads look into its entries."""

    def __init__(self, count: int) -> None:
        super().__init__(ManualClock())
        self.threads: set[int] = set()
        journal = self

        class Details(dict[str, Any]):
            def items(self) -> Any:
                journal.threads.add(threading.get_ident())
                return super().items()

        self._all = tuple(JournalEntry(seq, 0.0, "note", details=Details()) for seq in range(1, count + 1))

    def entries(self, wanted: JournalFilter | None = None) -> tuple[JournalEntry, ...]:
        return self._all


async def test_calls_do_not_wait_while_a_full_journal_is_made_into_events() -> None:
    journal = Watched(1_000)
    told = [chunk async for chunk in follow(journal, JournalFilter(limit=1_000), ManualClock())]
    assert b"".join(told).count(b"data: ") == 1_000
    assert threading.get_ident() not in journal.threads
