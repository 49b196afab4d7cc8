"""Rules that come with a request and are for it alone: the header `X-Voisnap-Mock`, and `$mock` in the metadata.

Source: Assumed, the service has neither; a browser can set no header, but the metadata of its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from voisnap_mock.cloud.problems import ProblemDetails, RequestRefused
from voisnap_mock.cloud.session_hub import Visit
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.errors import FaultsError
from voisnap_mock.faults.armed import Scope
from voisnap_mock.faults.desk import FaultDesk
from voisnap_mock.faults.rules import Faults

HEADER: Final = "X-Voisnap-Mock"
IN_METADATA: Final = "$mock"
MOST_BYTES: Final = 8_192

_FORBIDDEN = f"metadata: this tenant takes no {IN_METADATA} (fidelity.mock_in_metadata: forbid)"
# Clients that poll send the same header again and again.
_MOST_KEPT = 64


@dataclass(slots=True)
class OwnRules:
    """What a request brought with it.

    Attributes:
        scope: once the rules are armed.
    """

    faults: Faults
    scope: Scope | None = None


def own_rules(visit: object) -> OwnRules | None:
    """What came with the request of a visit."""
    return visit.extra if isinstance(visit, Visit) and isinstance(visit.extra, OwnRules) else None


class OwnRulesReader:
    """Reads what requests bring with them."""

    def __init__(self, desk: FaultDesk) -> None:
        self._desk = desk
        self._kept: dict[tuple[str, bytes], Faults] = {}

    def in_header(self, tenant: Tenant, value: str) -> Faults:
        """Raises RequestRefused: 400 that says what is wrong with the header."""
        data = value.encode("latin-1", "replace")
        return self._read(tenant, data, f"header {HEADER}", lambda: msgspec.json.decode(data))

    def in_metadata(self, tenant: Tenant, given: object) -> Faults:
        """Raises RequestRefused: 400 that says what is wrong, 403 where the tenant forbids it."""
        if tenant.file.fidelity.mock_in_metadata == "forbid":
            raise RequestRefused(ProblemDetails(403, _FORBIDDEN, reason="fidelity.mock_in_metadata: forbid"))
        return self._read(tenant, msgspec.json.encode(given), f"metadata.{IN_METADATA}", lambda: given)

    def of_visit(self, visit: Visit, tenant: Tenant, header: str | None) -> Visit:
        """A visit with what it brings in `extra`, and without it in what scripts see.

        Raises:
            RequestRefused: see the others.
        """
        metadata: Any = visit.variables.get("metadata")
        has_own = isinstance(metadata, dict) and IN_METADATA in metadata
        if header is None and not has_own:
            return visit
        rules = self.in_header(tenant, header).rules if header is not None else ()
        variables = visit.variables
        if has_own:
            rules += self.in_metadata(tenant, metadata[IN_METADATA]).rules
            kept = {name: value for name, value in metadata.items() if name != IN_METADATA}
            variables = {**variables, "metadata": kept}
        return replace(visit, variables=variables, extra=OwnRules(Faults(rules)))

    def _read(self, tenant: Tenant, data: bytes, source: str, decode: Callable[[], Any]) -> Faults:
        if len(data) > MOST_BYTES:
            raise _refused(tenant, f"{source} has {len(data)} bytes, at most {MOST_BYTES} are taken", source)
        kept = self._kept.get((tenant.id, data))
        if kept is not None:
            return kept
        try:
            given = decode()
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _refused(
                tenant, f"{source} is not JSON ({error}): one rule is expected, or a list of rules", source
            ) from error
        if not isinstance(given, dict | list):
            raise _refused(tenant, f"{source}: one rule is expected, or a list of rules", source)
        try:
            faults = self._desk.read(tenant.id, given, source=source)
        except FaultsError as error:
            raise _refused(tenant, str(error), source) from error
        if faults.schedules:
            raise _refused(tenant, f"{source}: rules are expected, schedules belong into a file", source)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[tenant.id, data] = faults
        return faults


def _refused(tenant: Tenant, text: str, source: str) -> RequestRefused:
    tenant.journal.append("fault.refused", tenant_id=tenant.id, message=text)
    return RequestRefused(ProblemDetails(400, text, reason=source))
