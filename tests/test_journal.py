"""The journal keeps what happened, forgets the oldest, and never keeps a credential."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.clock import ManualClock
from voisnap_mock.journal import DROPPED, REDACTED, Journal, JournalFilter

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c3JfMSJ9.c2lnbmF0dXJl"


class Colour(StrEnum):
    RED = "red"


def journal(**caps: int) -> Journal:
    return Journal(ManualClock(wall=1_750_000_000.0), **caps)


def test_entries_are_numbered_and_dated_in_order() -> None:
    book = journal()
    first = book.append("session.started", tenant_id="ten_dev", call_id="conv_1", t=0.0, agent="agt_echo")
    second = book.append("session.ended", tenant_id="ten_dev", call_id="conv_1", t=1.5)
    assert book.entries() == (first, second)
    assert (first.seq, second.seq, book.last_seq) == (1, 2, 2)
    assert first.at == 1_750_000_000.0
    assert first.details == {"agent": "agt_echo"}


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (JournalFilter(call="conv_2"), ["event"]),
        (JournalFilter(kind="event"), ["event", "event"]),
        (JournalFilter(kind="session.*"), ["session.started"]),
        (JournalFilter(target="Transcription"), ["event"]),
        (JournalFilter(text="REFUND"), ["event"]),
        (JournalFilter(text="no such agent"), ["refused"]),
        (JournalFilter(since=2), ["event", "refused"]),
        (JournalFilter(limit=1), ["session.started"]),
        (JournalFilter(last=2), ["event", "refused"]),
        (JournalFilter(kind="event", last=5), ["event", "event"]),
        (JournalFilter(last=0), []),
        (JournalFilter(begin=0.5), ["event"]),
        (JournalFilter(begin=0.0, end=0.5), ["session.started"]),
        (JournalFilter(call="conv_1", kind="event", since=1, limit=5), ["event"]),
    ],
    ids=str,
)
def test_a_filter_takes_what_it_names(wanted: JournalFilter, kinds: list[str]) -> None:
    book = journal()
    book.append("session.started", call_id="conv_1", t=0.0)
    book.append("event", call_id="conv_1", t=2.5, target="Transcription", text="I want a refund")
    book.append("event", call_id="conv_2", target="AudioReceived")
    book.append("refused", message="No such agent: agt_x")
    assert [entry.kind for entry in book.entries(wanted)] == kinds


def test_an_entry_is_shown_with_its_details_beside_it() -> None:
    book = journal()
    book.append("event", tenant_id="ten_dev", call_id="conv_1", t=2.5, target="Custom", seq="mine", callId="x")
    assert book.entries()[0].as_object() == {
        "seq": 1,
        "at": 1_750_000_000.0,
        "t": 2.5,
        "tenantId": "ten_dev",
        "callId": "conv_1",
        "kind": "event",
        "target": "Custom",
    }


def test_beyond_its_entries_it_drops_the_oldest_and_says_so() -> None:
    book = journal(max_entries=3)
    for number in range(10):
        book.append("event", number=number)
    marker, *kept = book.entries()
    assert [entry.details["number"] for entry in kept] == [7, 8, 9]
    assert (marker.kind, marker.seq, marker.details["entries"]) == (DROPPED, 7, 7)
    assert book.entries(JournalFilter(since=7)) == tuple(kept), "a reader past the gap sees no marker"
    assert book.entries(JournalFilter(call="conv_1"))[0].kind == DROPPED, "a filtered view says it too"


def test_beyond_its_bytes_it_drops_the_oldest_and_says_so() -> None:
    book = journal(max_bytes=10_000)
    for _ in range(10):
        book.append("event", text="x" * 3000)
    marker, *kept = book.entries()
    assert len(kept) == 3
    assert marker.details["entries"] == 7
    assert marker.details["bytes"] > 7 * 3000


def test_an_entry_larger_than_the_whole_journal_is_kept_alone() -> None:
    book = journal(max_bytes=1_000)
    book.append("event", text="small")
    book.append("event", text="x" * 5000)
    assert [len(entry.details.get("text", "")) for entry in book.entries()] == [0, 5000]


@pytest.mark.parametrize(
    "name",
    ["access_token", "accessToken", "Authorization", "password", "refreshToken", "refresh-token", "secret", "api_key"],
)
def test_a_field_named_like_a_credential_is_not_kept(name: str) -> None:
    book = journal()
    book.append("http", query={name: "hunter2", "agentId": "agt_echo"}, headers=[{name: ["hunter2"]}])
    details = book.entries()[0].details
    assert "hunter2" not in str(details)
    assert details["query"] == {name: REDACTED, "agentId": "agt_echo"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            f"/hubs/voice?agentId=agt_echo&access_token={TOKEN}&x=1",
            f"/hubs/voice?agentId=agt_echo&access_token={REDACTED}&x=1",
        ),
        ("ACCESS_TOKEN=abc", f"ACCESS_TOKEN={REDACTED}"),
        (f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {REDACTED}"),
        ("BEARER abc.def", f"BEARER {REDACTED}"),
        (f"got {TOKEN} here", f"got {REDACTED} here"),
        ("key vsnp_sb_dev is no JWT", f"key {REDACTED} is no JWT"),
        ("I want a refund, the bearer said", "I want a refund, the bearer said"),
        ("a = b", "a = b"),
        (
            '{"name": "Ada", "api_key" : "s3\\"cret", "Token":"x"}',
            f'{{"name": "Ada", "api_key" : "{REDACTED}", "Token":"{REDACTED}"}}',
        ),
        (
            f'{{"note": "got {TOKEN}", "inner": {{"password": "x"}}}}',
            f'{{"note": "got {REDACTED}", "inner": {{"password": "{REDACTED}"}}}}',
        ),
        ('"token": she said', '"token": she said'),
        (
            '"{\\"password\\":\\"hunter\\\\\\"2\\",\\"x\\":\\"y\\"}"',
            f'"{{\\"password\\":\\"{REDACTED}\\",\\"x\\":\\"y\\"}}"',
        ),
        ('came "{\\"password\\":\\"hunt... (95 characters)', f'came "{{\\"password\\":\\"{REDACTED}\\"'),
        ('{"name": "Ada", "password": "hunt... (95 characters)', f'{{"name": "Ada", "password": "{REDACTED}"'),
    ],
)
def test_a_credential_inside_a_text_is_not_kept(text: str, shown: str) -> None:
    book = journal()
    book.append("note", message=text)
    assert book.entries()[0].details["message"] == shown


def test_details_are_plain_values() -> None:
    book = journal()
    book.append("note", colour=Colour.RED, audio=b"\0" * 640, nested={"list": (1, None, True)}, path=ValueError("x"))
    details = book.entries()[0].details
    assert details == {"colour": "red", "audio": "640 bytes", "nested": {"list": [1, None, True]}, "path": "x"}
    assert type(details["colour"]) is str


@pytest.mark.parametrize(
    "details",
    [{"text": "half a pair: \ud800"}, {"query": {"\udc00": ["\ud800"]}}, {"problem": ValueError("\ud800")}],
    ids=str,
)
def test_what_a_client_cannot_have_sent_whole_does_not_make_an_entry_unreadable(details: dict[str, Any]) -> None:
    book = journal()
    book.append("note", **details)
    assert "\\ud" not in ascii(book.entries()[0].details)
    json.dumps(book.entries()[0].as_object(), ensure_ascii=False).encode()


@given(st.lists(st.text(max_size=300), max_size=60), st.integers(1, 20), st.integers(300, 5000))
def test_nothing_is_lost_unsaid(texts: list[str], max_entries: int, max_bytes: int) -> None:
    book = journal(max_entries=max_entries, max_bytes=max_bytes)
    for text in texts:
        book.append("event", text=text)
    entries = book.entries()
    dropped = entries[0].details["entries"] if entries and entries[0].kind == DROPPED else 0
    kept = [entry for entry in entries if entry.kind != DROPPED]
    assert dropped + len(kept) == len(texts)
    assert len(kept) <= max_entries
    assert [entry.seq for entry in kept] == list(range(dropped + 1, len(texts) + 1))


async def test_a_follower_sees_what_is_appended_after_it_came() -> None:
    book = journal()
    book.append("event", number=0)
    with book.subscribe(JournalFilter(kind="event")) as follower:
        book.append("event", number=1)
        book.append("other")
        book.append("event", number=2)
        assert [(await anext(follower)).details["number"] for _ in range(2)] == [1, 2]
    assert [entry async for entry in follower] == []


async def test_a_follower_far_behind_learns_what_it_missed() -> None:
    book = journal()
    with book.subscribe() as follower:
        for number in range(10_005):
            book.append("event", number=number)
        marker = await anext(follower)
        assert (marker.kind, marker.details["entries"], marker.seq) == (DROPPED, 5, 5)
        assert (await anext(follower)).details["number"] == 5
