"""The server itself: whether it lives, what it is, its time."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from voisnap_mock.cloud.rest import CONTROL_PREFIX
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.cloud.wire import quoted
from voisnap_mock.control.scope import Scope, problems, refused, seconds_of
from voisnap_mock.control.shapes import Advance, Alive, ClockState, CoverageReport, Emulated, Info, ListOf, Readiness
from voisnap_mock.fidelity import report


class Health(Protocol):
    """What the health routes ask."""

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What must still happen before calls can be taken; empty when ready."""
        ...


def health_routes(health: Health) -> APIRouter:
    """`/livez` and `/readyz`, at the root."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", response_model=Alive)
    async def livez() -> Response:
        return JSONResponse({"status": "alive"})

    @router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readyz() -> Response:
        waiting_for = health.waiting_for
        if waiting_for:
            return JSONResponse({"status": "not ready", "waiting_for": list(waiting_for)}, 503)
        return JSONResponse({"status": "ready", "waiting_for": []})

    return router


def server_routes(
    scope: Scope, info: Callable[[], dict[str, Any]], asyncapi: Callable[[], dict[str, Any]]
) -> APIRouter:
    """`info` and `asyncapi` are asked on every request."""
    router = APIRouter(prefix=CONTROL_PREFIX, tags=["server"])
    InTenant = Annotated[Tenant, Depends(scope.tenant)]

    @router.get("", include_in_schema=False)
    @router.get("/info", response_model=Info)
    async def show_info() -> Response:
        """Version, addresses, tenants, and how speech is heard and spoken."""
        return JSONResponse(info())

    @router.get("/asyncapi.json", response_model=dict[str, Any])
    async def show_hubs() -> Response:
        """The hubs as an AsyncAPI 3 document."""
        return JSONResponse(asyncapi())

    @router.get("/coverage", response_model=CoverageReport, responses=problems(404))
    async def show_coverage(tenant: InTenant) -> Response:
        """How often each part of the service's API was touched."""
        return JSONResponse({**tenant.coverage.report(), "counts": tenant.coverage.dump()})

    @router.get("/fidelity", response_model=ListOf[Emulated])
    async def show_fidelity() -> Response:
        """What is emulated, and on whose word."""
        return JSONResponse({"data": report()})

    @router.get("/clock", response_model=ClockState, responses=problems(404))
    async def show_clock(tenant: InTenant) -> Response:
        """What moves call time, and the time of each live call."""
        return JSONResponse(_clock_of(tenant))

    @router.post("/clock", response_model=ClockState, responses=problems(404, 409))
    async def advance_clock(body: Advance, tenant: InTenant) -> Response:
        """Let call time pass on a virtual clock; answers when everything due until then has happened."""
        mode = tenant.sessions.mode
        if mode != "virtual":
            raise refused(
                409, f"calls go by the {mode} clock here, which nobody can advance: start with --clock virtual"
            )
        seconds = seconds_of(body.advance, "advance", hint="; call time never goes back")
        # Calls over WebRTC go by the wall clock, here too.
        sessions = tuple(session for session in tenant.sessions.sessions if session.is_repeatable)
        if body.call is not None:
            sessions = tuple(session for session in sessions if session.id == body.call)
            if not sessions:
                live = ", ".join(session.id for session in tenant.sessions.sessions if session.is_repeatable) or "none"
                raise refused(404, f"call {quoted(body.call)} is no live call on the virtual clock; there are {live}")
        await asyncio.gather(*(session.advance(seconds) for session in sessions))
        return JSONResponse(_clock_of(tenant))

    return router


def _clock_of(tenant: Tenant) -> dict[str, Any]:
    calls = [{"id": session.id, "t": round(session.t, 3)} for session in tenant.sessions.sessions]
    return {"mode": tenant.sessions.mode, "calls": calls}
