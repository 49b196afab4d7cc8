"""Calls: which there are, what was said and heard, and a hand in those that are live."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from voisnap_mock.cloud.rest import CONTROL_PREFIX
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.control.answers import entries_answer
from voisnap_mock.control.scope import Scope, problems, refused
from voisnap_mock.control.shapes import CallFacts, Entry, Hangup, ListOf, Push, Said
from voisnap_mock.engine.events import HangupRequested
from voisnap_mock.engine.runner import Session
from voisnap_mock.recordings.archive import NoAudio, NoSuchCall, zip_of


def _file(media_type: str) -> dict[int | str, dict[str, object]]:
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


def call_routes(scope: Scope) -> APIRouter:
    router = APIRouter(prefix=f"{CONTROL_PREFIX}/calls", tags=["calls"])
    InTenant = Annotated[Tenant, Depends(scope.tenant)]

    @router.get("", response_model=ListOf[CallFacts], responses=problems(404))
    async def list_calls(tenant: InTenant) -> Response:
        """The calls of the tenant, oldest first, also those that are over."""
        return JSONResponse({"data": list(tenant.calls.calls)})

    @router.get("/{call_id}", response_model=CallFacts, responses=problems(404))
    async def show_call(call_id: str, tenant: InTenant) -> Response:
        """How a call stands."""
        with _known():
            return JSONResponse(tenant.calls.facts(call_id))

    @router.get("/{call_id}/transcript", response_model=ListOf[Said], responses=problems(404))
    async def show_transcript(call_id: str, tenant: InTenant) -> Response:
        """Who said what, in the order in which it was said to its end."""
        with _known():
            return JSONResponse({"data": [said.as_object() for said in tenant.calls.transcript(call_id)]})

    @router.get("/{call_id}/events", response_model=ListOf[Entry], responses=problems(404))
    async def show_events(call_id: str, tenant: InTenant) -> Response:
        """What the journal has of a call."""
        with _known():
            return await entries_answer(lambda: tenant.calls.entries(call_id))

    @router.get("/{call_id}/audio/{side}.wav", response_class=Response, responses=_file("audio/wav") | problems(404))
    async def show_audio(call_id: str, side: Literal["in", "out"], tenant: InTenant) -> Response:
        """What was heard: `in` is the caller at 16 kHz, `out` the agent at 24 kHz; of a live call, up to now."""
        with _known():
            return Response(tenant.calls.wav(call_id, side), media_type="audio/wav")

    @router.get("/{call_id}/file", response_class=Response, responses=_file("application/zip") | problems(404))
    async def show_file(call_id: str, tenant: InTenant) -> Response:
        """The files that `--record` writes for a call, as a zip."""
        with _known():
            files = tenant.calls.folder_files(call_id)
        packed = await asyncio.to_thread(zip_of, files, call_id)
        headers = {"Content-Disposition": f'attachment; filename="{call_id}.zip"'}
        return Response(packed, headers=headers, media_type="application/zip")

    @router.post("/{call_id}/push", status_code=204, response_class=Response, responses=problems(404, 409))
    async def push(call_id: str, body: Push, tenant: InTenant) -> Response:
        """Send the client of a live call a hub event, whatever the agent is doing. It changes nothing else."""
        _live(tenant, call_id).push(body.target, tuple(body.arguments))
        return Response(status_code=204)

    @router.post("/{call_id}/hangup", status_code=204, response_class=Response, responses=problems(404, 409))
    async def hang_up(call_id: str, tenant: InTenant, body: Hangup = _HANGUP) -> Response:
        """End a live call."""
        _live(tenant, call_id).receive(HangupRequested(body.reason))
        return Response(status_code=204)

    return router


_HANGUP = Hangup()


@contextmanager
def _known() -> Iterator[None]:
    """404 when the archive does not know the call, or has no audio of it."""
    try:
        yield
    except (NoSuchCall, NoAudio) as error:
        raise refused(404, str(error)) from None


def _live(tenant: Tenant, call_id: str) -> Session:
    """A call that has begun and goes on; 404 when it is not known, 409 when it is over or has not begun."""
    session = tenant.sessions.get(call_id)
    if session is not None and session.started_at is not None:
        return session
    with _known():
        facts = tenant.calls.facts(call_id)
    if session is not None:
        raise refused(409, f"call {call_id} has not begun yet")
    raise refused(409, f"call {call_id} is over: it ended with {facts['reason']}")
