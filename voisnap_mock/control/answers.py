"""Answers that are larger than a line."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
from fastapi.responses import Response

from voisnap_mock.journal import JournalEntry


def json_answer(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def entries_answer(entries: Callable[[], Iterable[JournalEntry]]) -> Response:
    """Journal entries as `{data}`. Not made on the loop: a full journal takes a while, and calls would wait."""
    return await asyncio.to_thread(lambda: json_answer({"data": [entry.as_object() for entry in entries()]}))
