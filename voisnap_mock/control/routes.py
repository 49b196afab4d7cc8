"""All routes of the control API, put together."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from voisnap_mock.cloud.tokens import TokenAuthority
from voisnap_mock.control.calls import call_routes
from voisnap_mock.control.faults import fault_routes
from voisnap_mock.control.journals import journal_routes
from voisnap_mock.control.scope import Scope, problems
from voisnap_mock.control.server import Health, health_routes, server_routes
from voisnap_mock.control.tenants import Landlord, tenant_routes
from voisnap_mock.faults.desk import FaultDesk


def build_control(
    scope: Scope,
    *,
    health: Health,
    info: Callable[[], dict[str, Any]],
    asyncapi: Callable[[], dict[str, Any]],
    landlord: Landlord,
    tokens: TokenAuthority,
    desk: FaultDesk,
) -> APIRouter:
    """The routes. `info` and `asyncapi` are asked on every request."""
    control = APIRouter(responses=problems(401, 403, 413, 422))
    for part in (
        server_routes(scope, info, asyncapi),
        tenant_routes(scope, landlord, tokens),
        fault_routes(scope, desk),
        call_routes(scope),
        journal_routes(scope),
    ):
        control.include_router(part)
    whole = APIRouter()
    whole.include_router(health_routes(health))
    whole.include_router(control)
    return whole
