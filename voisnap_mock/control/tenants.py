"""Tenants over HTTP: making and ending them, their agents, and the way back to where they began."""

import json
import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from voisnap_mock.agents.script import AgentScript, AgentsFile, Auth, Limits
from voisnap_mock.cloud.rest import CONTROL_PREFIX, agent_answer
from voisnap_mock.cloud.tenants import Enrolment, Tenant, Wishes
from voisnap_mock.cloud.tokens import TokenAuthority, Tokens
from voisnap_mock.cloud.wire import quoted
from voisnap_mock.control.bodies import file_body, part_of, readable, told
from voisnap_mock.control.faults import with_faults
from voisnap_mock.control.scope import Scope, invalid, problems, refused
from voisnap_mock.control.shapes import LoadedAgents, MadeTenant, NewTenant, ResetState
from voisnap_mock.errors import AgentsFileError, ConfigError

_NEW_TENANT = NewTenant()
_AGENTS_BODY = file_body(
    "An agents file, as `voisnap-mock schema` describes it.", {"type": "object", "required": ["agents"]}
)


class Landlord(Protocol):
    """Makes, changes and ends tenants; `tenancy.Tenancy` is the real one."""

    @property
    def file(self) -> AgentsFile: ...

    def read(self, text: str | bytes, *, source: str) -> AgentsFile: ...

    def create(self, wishes: Wishes = ...) -> Enrolment: ...

    def drop(self, tenant_id: str) -> Awaitable[object]: ...

    def give(self, tenant: Tenant, file: AgentsFile) -> None: ...

    def reset(self, tenant: Tenant) -> None: ...


def tenant_routes(scope: Scope, landlord: Landlord, tokens: TokenAuthority) -> APIRouter:
    router = APIRouter(prefix=CONTROL_PREFIX, tags=["tenants"])
    InTenant = Annotated[Tenant, Depends(scope.tenant)]

    @router.post("/tenants", status_code=201, response_model=MadeTenant)
    async def make_tenant(request: Request, body: NewTenant = _NEW_TENANT) -> Response:
        """Make an isolated tenant, with a user and an API key of its own."""
        file: AgentsFile | None = None
        if body.agents is not None:
            text, source = part_of(await request.body(), "agents", body.agents)
            file = _read(landlord, text, source=source, member="agents")
        if body.faults is not None:
            file = with_faults(file or landlord.file, await request.body(), body.faults)
        limits = None if body.limits is None else _limits(landlord, body.limits)
        wishes = Wishes(file=file, seed=body.seed, clock=body.clock, limits=limits)
        with _servable("agents"):
            made = landlord.create(wishes)
        login = tokens.login(made.user.email, made.user.password, scope.clock.wall())
        assert isinstance(login, Tokens), "users that are made here have no second factor"
        return JSONResponse(
            {
                "tenantId": made.tenant.id,
                "accessToken": login.access_token,
                "refreshToken": login.refresh_token,
                "email": made.user.email,
                "password": made.user.password,
                "apiKey": made.api_key,
            },
            201,
        )

    @router.delete("/tenants/{tenant_id}", status_code=204, response_class=Response, responses=problems(404, 409))
    async def end_tenant(tenant_id: str) -> Response:
        """End a tenant that was made here: its calls, its journal, its tokens and keys."""
        if tenant_id in scope.tenants.named:
            raise refused(
                409, f"tenant {tenant_id} is the agents file's, only a tenant that was made here can be ended"
            )
        try:
            await landlord.drop(tenant_id)
        except KeyError:
            known = ", ".join(scope.tenants.ids)
            raise refused(404, f"tenant {quoted(tenant_id)} is not known; there are {known}") from None
        return Response(status_code=204)

    @router.get("/agents", response_model=LoadedAgents, responses=problems(404))
    async def show_agents(tenant: InTenant) -> Response:
        """The loaded agents as the service shows them, each with its script as `mock`."""
        return JSONResponse(_loaded(tenant))

    @router.put("/agents", response_model=LoadedAgents, responses=problems(404), openapi_extra=_AGENTS_BODY)
    async def replace_agents(request: Request, tenant: InTenant) -> Response:
        """Go by another agents file from now on; calls under way finish on the one before."""
        file = _read(landlord, readable(await request.body()), source="body", member="body")
        with _servable("body"):
            landlord.give(tenant, file)
        return JSONResponse(_loaded(tenant, file))

    @router.patch("/agents", response_model=LoadedAgents, responses=problems(404), openapi_extra=_AGENTS_BODY)
    async def change_agents(request: Request, tenant: InTenant) -> Response:
        """Add the agents of the body, or replace those of the same id; all else stays."""
        patch = _read(landlord, readable(await request.body()), source="body", member="body")
        if patch != AgentsFile(agents=patch.agents):
            raise invalid("body", "PATCH changes agents; PUT replaces the whole file with its other sections")
        with _servable("body"):
            landlord.give(tenant, replace(tenant.file, agents=tenant.file.agents | patch.agents))
        return JSONResponse(_loaded(tenant))

    @router.post("/reset", response_model=ResetState, responses=problems(404))
    async def reset(tenant: InTenant) -> Response:
        """Back to the agents file that the tenant began with; calls under way go on, and so does the journal."""
        landlord.reset(tenant)
        return JSONResponse({"tenantId": tenant.id, "source": tenant.file.source, "agents": list(tenant.file.agents)})

    return router


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(landlord: Landlord, text: str | bytes, *, source: str, member: str) -> AgentsFile:
    """An agents file out of a request; 422 with line and column of every problem."""
    try:
        return landlord.read(text, source=source)
    except AgentsFileError as error:
        raise told(member, error) from None


@contextmanager
def _servable(member: str) -> Iterator[None]:
    """422 when agents cannot be served here."""
    try:
        yield
    except ConfigError as error:
        raise invalid(member, *str(error).splitlines()) from None


def _limits(landlord: Landlord, limits: dict[str, Any]) -> Limits:
    """The section `limits`, read as that of an agents file."""
    text = json.dumps({"agents": {"agt_any": {}}, "limits": limits}, ensure_ascii=False)
    try:
        return landlord.read(text, source="limits").limits
    except AgentsFileError as error:
        raise invalid("limits", *(problem.message for problem in error.problems)) from None


# --- showing ----------------------------------------------------------------------------------------------------------


def _loaded(tenant: Tenant, given: AgentsFile | None = None) -> dict[str, Any]:
    agents = [agent_answer(agent) | {"mock": _script_object(agent.script)} for agent in tenant.agents.values()]
    return {"data": agents, "source": tenant.file.source, "notes": _notes(given) if given is not None else []}


def _notes(file: AgentsFile) -> list[str]:
    """What of an agents file a tenant does not go by."""
    notes = []
    if file.auth != Auth():
        notes.append("auth: users, keys and tokens are the server's; what this file says of them does not count")
    if file.limits.max_message_bytes != Limits().max_message_bytes:
        notes.append("limits.max_message_bytes: is the server's; what this file says does not count")
    return notes


def _script_object(script: AgentScript) -> Any:
    """A script as plain JSON, without its places in the file."""
    return _without_places(msgspec.to_builtins(script, enc_hook=_pattern))


def _pattern(value: Any) -> str:
    assert isinstance(value, re.Pattern), f"{type(value)} of a script cannot be shown"
    return f"/{value.pattern}/"


def _without_places(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_places(inner) for name, inner in value.items() if name not in ("line", "column")}
        case list() | tuple():
            return [_without_places(item) for item in value]
        case _:
            return value
