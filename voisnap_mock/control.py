"""The mock's own routes: health at the root, everything else below `/__voisnap/`."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from voisnap_mock.agents.script import DEFAULT_TENANT
from voisnap_mock.agents.shape import duration
from voisnap_mock.cloud.problems import ProblemDetails, RequestRefused
from voisnap_mock.cloud.rest import CONTROL_PREFIX
from voisnap_mock.cloud.tenants import Tenant, Tenants
from voisnap_mock.cloud.wire import quoted


class Health(Protocol):
    """What the health routes ask."""

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What must still happen before calls can be taken; empty when ready."""
        ...


class ClockBody(BaseModel):
    """Let call time pass, for all calls of the tenant or for one; a member that is misspelt must not do nothing."""

    model_config = ConfigDict(strict=True, extra="forbid")

    advance: str
    call: str | None = None


def _same_origin(request: Request) -> None:
    """A page of another origin may not change anything here, though a browser lets it send requests."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        text = f"header Origin: a page of {quoted(origin)} may not change this server; only its own pages may"
        raise RequestRefused(ProblemDetails(403, text))


TenantHeader = Annotated[str, Header(alias="X-Voisnap-Tenant")]


def build_control(health: Health, info: Callable[[], dict[str, Any]], *, tenants: Tenants) -> APIRouter:
    """The routes. `info` is asked on every request."""
    router = APIRouter()

    @router.get("/livez")
    async def livez() -> Response:
        return JSONResponse({"status": "alive"})

    @router.get("/readyz")
    async def readyz() -> Response:
        waiting_for = health.waiting_for
        if waiting_for:
            return JSONResponse({"status": "not ready", "waiting_for": list(waiting_for)}, 503)
        return JSONResponse({"status": "ready", "waiting_for": []})

    @router.get(CONTROL_PREFIX, include_in_schema=False)
    @router.get(f"{CONTROL_PREFIX}/info")
    async def show_info() -> Response:
        return JSONResponse(info())

    @router.get(f"{CONTROL_PREFIX}/coverage")
    async def show_coverage(tenant: TenantHeader = DEFAULT_TENANT) -> Response:
        coverage = _tenant(tenants, tenant).coverage
        return JSONResponse({**coverage.report(), "counts": coverage.dump()})

    @router.get(f"{CONTROL_PREFIX}/clock")
    async def show_clock(tenant: TenantHeader = DEFAULT_TENANT) -> Response:
        return JSONResponse(_clock_of(_tenant(tenants, tenant)))

    @router.post(f"{CONTROL_PREFIX}/clock", dependencies=[Depends(_same_origin)])
    async def advance_clock(body: ClockBody, tenant: TenantHeader = DEFAULT_TENANT) -> Response:
        found = _tenant(tenants, tenant)
        mode = found.sessions.mode
        if mode != "virtual":
            text = f"calls go by the {mode} clock here, which nobody can advance: start with --clock virtual"
            raise RequestRefused(ProblemDetails(409, text))
        try:
            seconds = duration(body.advance)
        except ValueError as error:
            text = f"{error}, came {quoted(body.advance)}; call time never goes back"
            raise RequestRefused(ProblemDetails(422, f"advance: {text}", errors={"advance": [text]})) from None
        sessions = found.sessions.sessions
        if body.call is not None:
            sessions = tuple(session for session in sessions if session.id == body.call)
            if not sessions:
                live = ", ".join(session.id for session in found.sessions.sessions) or "none"
                raise RequestRefused(ProblemDetails(404, f"call {quoted(body.call)} is not live; live are {live}"))
        await asyncio.gather(*(session.advance(seconds) for session in sessions))
        return JSONResponse(_clock_of(found))

    return router


def _tenant(tenants: Tenants, tenant_id: str) -> Tenant:
    tenant = tenants.get(tenant_id)
    if tenant is None:
        known = ", ".join(tenants.ids)
        raise RequestRefused(
            ProblemDetails(404, f"header X-Voisnap-Tenant: tenant {quoted(tenant_id)} is not known; there are {known}")
        )
    return tenant


def _clock_of(tenant: Tenant) -> dict[str, Any]:
    calls = [{"id": session.id, "t": round(session.t, 3)} for session in tenant.sessions.sessions]
    return {"mode": tenant.sessions.mode, "calls": calls}
