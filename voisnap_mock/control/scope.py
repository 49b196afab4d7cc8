"""What every route needs: the prefix, the tenant that a request is about, its calls, and how errors are declared."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header

from voisnap_mock.agents.script import DEFAULT_TENANT
from voisnap_mock.agents.shape import duration
from voisnap_mock.clock import Clock
from voisnap_mock.cloud.problems import CONTENT_TYPE, ProblemDetails, RequestRefused
from voisnap_mock.cloud.tenants import Tenant, Tenants
from voisnap_mock.cloud.wire import quoted
from voisnap_mock.control.shapes import Problem

TenantHeader = Annotated[
    str, Header(alias="X-Voisnap-Tenant", description="The tenant that is meant; its agents, calls and journal.")
]


@dataclass(frozen=True, slots=True)
class Scope:
    """Finds what a request is about."""

    tenants: Tenants
    clock: Clock

    async def tenant(self, tenant_id: TenantHeader = DEFAULT_TENANT) -> Tenant:
        """The tenant of the header; 404 when there is none."""
        tenant = self.tenants.get(tenant_id)
        if tenant is None:
            known = ", ".join(self.tenants.ids)
            raise refused(404, f"header X-Voisnap-Tenant: tenant {quoted(tenant_id)} is not known; there are {known}")
        return tenant


def seconds_of(text: str, member: str, *, hint: str = "") -> float:
    """A time with its unit as seconds; 422 when it is none."""
    try:
        return duration(text)
    except ValueError as error:
        message = f"{error}, came {quoted(text)}{hint}"
        raise invalid(member, message) from None


def refused(status: int, detail: str, *, reason: str | None = None) -> RequestRefused:
    return RequestRefused(ProblemDetails(status, detail, reason=reason))


def invalid(member: str, *messages: str) -> RequestRefused:
    """422 for one member of the body."""
    text = "; ".join(messages)
    return RequestRefused(ProblemDetails(422, f"{member}: {text}", errors={member: messages}))


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route declares its errors."""
    schema = Problem.model_json_schema()
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {CONTENT_TYPE: {"schema": schema}}}
        for status in statuses
    }


_DESCRIPTIONS = {
    401: "The server has a control token, and it did not come.",
    403: "A page of another origin, or a name that is not this server's.",
    404: "The tenant, or what the path names, is not known.",
    409: "It is known, but not in a state for this.",
    413: "The body is too large.",
    422: "The request is wrong; `errors` says where.",
    503: "Not now.",
}
