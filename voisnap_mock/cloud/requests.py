"""What is noted of every REST request while it is answered, and written into the journal when it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from voisnap_mock.clock import Clock
from voisnap_mock.cloud.manners import token_in_path
from voisnap_mock.cloud.problems import RequestRefused
from voisnap_mock.cloud.rates import Policy
from voisnap_mock.cloud.tenants import Tenant, Tenants, write_remark
from voisnap_mock.journal import redact

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_NOTE = "voisnap_mock.note"


@dataclass(slots=True)
class RequestNote:
    """What became known of a request.

    Attributes:
        tenant: whom it belongs to, once that is known.
        details: why it was refused, for the journal.
        headers: further headers of the answer.
    """

    tenant: Tenant | None = None
    details: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def note_of(scope: Scope) -> RequestNote | None:
    """The note of a request; None when it did not come through `Requests`."""
    note = scope.get(_NOTE)
    assert note is None or isinstance(note, RequestNote)
    return note


class Requests:
    """Stands in front of the REST application: counts rates and journals. Of bodies and headers nothing is kept.

    An entry is of kind `http.request`: `{target, method, path, status, took, message?, check?}`; `target` is method and
    path, `took` seconds of real time, `status` None when no answer was given.
    """

    def __init__(self, tenants: Tenants, clock: Clock) -> None:
        self._tenants = tenants
        self._clock = clock

    def limit(self, scope: Scope, tenant: Tenant, policy: Policy, key: str) -> None:
        """Count the request, for `tenant`; its answer says what is left.

        Raises:
            RequestRefused: 429, too many.
        """
        note = note_of(scope)
        assert note is not None
        note.tenant = tenant
        plan = tenant.file.limits.rate_limits
        rate = tenant.rates.take(plan, policy, key, self._clock.wall())
        if rate is None:
            return
        note.headers = rate.headers()
        if rate.is_exceeded:
            raise RequestRefused(rate.problem(plan))

    def around(self, app: Asgi) -> Asgi:
        """`app`, each of its requests journaled."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            note = scope[_NOTE] = RequestNote()
            began, status = self._clock.monotonic(), None

            async def send_on(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    given = {name.lower() for name, _ in message["headers"]}
                    more = [(name.lower().encode(), value.encode()) for name, value in note.headers.items()]
                    message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in given)]
                await send(message)

            try:
                await app(scope, receive, send_on)
            finally:
                tenant = note.tenant or self._tenants.default
                method, path = scope["method"], scope["path"]
                if redact(path) != path:
                    write_remark(tenant, token_in_path(f"{method} {path}"))
                tenant.journal.append(
                    "http.request",
                    tenant_id=tenant.id,
                    target=f"{method} {path}",
                    method=method,
                    path=path,
                    status=status,
                    took=round(self._clock.monotonic() - began, 4),
                    **note.details,
                )

        return answer
