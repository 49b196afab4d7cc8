"""The journal over HTTP: what happened, what happens, and whether it is what should have."""

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response, StreamingResponse

from voisnap_mock.cloud.rest import CONTROL_PREFIX
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.control.answers import entries_answer, json_answer
from voisnap_mock.control.scope import Scope, problems, refused, seconds_of
from voisnap_mock.control.shapes import Entry, ExpectedEvent, LintNote, ListOf, Verification, Verified
from voisnap_mock.control.stream import follow
from voisnap_mock.journal import JournalFilter
from voisnap_mock.lint import lint_of
from voisnap_mock.verifying import Expected, verify

_MOST_FOLLOWERS = 100
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def journal_routes(scope: Scope) -> APIRouter:
    router = APIRouter(prefix=CONTROL_PREFIX, tags=["journal"])
    InTenant = Annotated[Tenant, Depends(scope.tenant)]

    @router.get("/journal", response_model=ListOf[Entry], responses=_STREAM | problems(404, 503))
    async def read_journal(
        tenant: InTenant,
        call: Annotated[str | None, Query(description="Id of a call.")] = None,
        kind: Annotated[str | None, Query(description="Kind of entry; one that ends with * is a prefix.")] = None,
        target: Annotated[str | None, Query(description="Hub method, hub event, or method and path.")] = None,
        text: Annotated[str | None, Query(description="Part of a transcript or message, in any case.")] = None,
        since: Annotated[int, Query(ge=0, description="Only entries with a greater seq.")] = 0,
        begin: Annotated[float | None, Query(alias="from", description="Call time, in seconds.")] = None,
        end: Annotated[float | None, Query(alias="to", description="Call time, in seconds.")] = None,
        limit: Annotated[int | None, Query(ge=0, description="At most so many, the first ones.")] = None,
        last: Annotated[int | None, Query(ge=0, description="At most so many, the last ones.")] = None,
        follow_on: Annotated[
            bool, Query(alias="follow", description="Go on with what comes, as server-sent events.")
        ] = False,
        last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0)] = None,
    ) -> Response:
        """The entries that all conditions take; with `follow`, also those to come."""
        if last_event_id is not None:
            since = last_event_id
        wanted = JournalFilter(
            call=call,
            kind=kind,
            target=target,
            text=text,
            since=since,
            begin=begin,
            end=end,
            limit=limit,
            last=last,
        )
        if not follow_on:
            return await entries_answer(lambda: tenant.journal.entries(wanted))
        if tenant.journal.subscribers >= _MOST_FOLLOWERS:
            raise refused(503, f"{_MOST_FOLLOWERS} requests follow this journal already: end one")
        if wanted.since > tenant.journal.last_seq:
            # A position in the journal of an earlier server.
            wanted = replace(wanted, since=0)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(follow(tenant.journal, wanted, scope.clock), 200, headers, "text/event-stream")

    @router.post("/verify", response_model=Verified, responses=problems(404))
    async def verify_events(body: Verification, tenant: InTenant) -> Response:
        """Whether these events happened; for each that did not, what came nearest."""
        expected = [_expected(event, f"events.{index}") for index, event in enumerate(body.events)]
        entries = tenant.journal.entries(JournalFilter(call=body.call))
        failures = await asyncio.to_thread(verify, entries, expected, ordered=body.ordered)
        shown = [
            {
                "index": failure.index,
                "message": failure.message,
                "nearest": failure.nearest.as_object() if failure.nearest is not None else None,
            }
            for failure in failures
        ]
        return json_answer({"ok": not failures, "failures": shown})

    @router.get("/lint", response_model=ListOf[LintNote], responses=problems(404))
    async def show_lint(
        tenant: InTenant, call: Annotated[str | None, Query(description="Id of a call.")] = None
    ) -> Response:
        """What clients did here that the service may not like."""
        notes = lint_of(tenant.journal.entries(JournalFilter(kind="lint")))
        return json_answer({"data": [note.as_object() for note in notes if call is None or note.call_id == call]})

    return router


def _expected(event: ExpectedEvent, member: str) -> Expected:
    within = seconds_of(event.within, f"{member}.within") if event.within is not None else None
    return Expected(event.kind, event.target, event.text, event.count, within)
