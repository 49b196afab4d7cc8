"""A journal as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace

import msgspec

from voisnap_mock.clock import Clock
from voisnap_mock.journal import Journal, JournalEntry, JournalFilter

HEARTBEAT = 15.0
"""Seconds of silence after which a comment tells that somebody is still there."""
_MOST_AT_ONCE = 100


async def follow(journal: Journal, wanted: JournalFilter, clock: Clock) -> AsyncIterator[bytes]:
    """The entries that are there, then those to come, each with its `seq` as id; ends with the journal.

    With `wanted.limit` it ends after so many. A reader that is too slow sees a `journal.dropped` entry in place of what
    it lost.
    """
    left = wanted.limit
    with journal.subscribe(replace(wanted, limit=None, last=None)) as following:
        # Nothing can happen between the two: what comes later comes through the subscription.
        batch: Iterable[JournalEntry] = journal.entries(wanted)
        yield b": journal of voisnap-mock\n\n"
        while True:
            shown = list(batch)[:left]
            if shown:
                yield await _events_of(shown)
            if left is not None:
                left -= len(shown)
                if left <= 0:
                    return
            waiting = asyncio.ensure_future(following.wait())
            try:
                while not waiting.done():
                    beat = asyncio.ensure_future(clock.sleep_until(clock.monotonic() + HEARTBEAT))
                    await asyncio.wait({waiting, beat}, return_when=asyncio.FIRST_COMPLETED)
                    if not waiting.done():
                        yield b": still here\n\n"
                    beat.cancel()
                    with suppress(asyncio.CancelledError):
                        await beat
            finally:
                waiting.cancel()
            batch = following.take()
            if not batch:
                return


async def _events_of(entries: list[JournalEntry]) -> bytes:
    """As one piece. Many are not made on the loop: a full journal takes a while, and calls would wait."""
    if len(entries) <= _MOST_AT_ONCE:
        return b"".join(map(event_of, entries))
    return await asyncio.to_thread(lambda: b"".join(map(event_of, entries)))


def event_of(entry: JournalEntry) -> bytes:
    """One server-sent event."""
    return b"id: %d\ndata: %s\n\n" % (entry.seq, msgspec.json.encode(entry.as_object()))
