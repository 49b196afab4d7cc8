"""Faults of HTTP: of REST requests, and of the requests with which a hub connection begins."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from voisnap_mock.clock import Clock
from voisnap_mock.cloud.door import Door
from voisnap_mock.cloud.problems import CONTENT_TYPE, REASON_HEADER, ProblemDetails, RequestRefused
from voisnap_mock.cloud.session_hub import HubDoor, Visit
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.cloud.tokens import TokenRefused
from voisnap_mock.faults.armed import Scope
from voisnap_mock.faults.desk import FaultDesk
from voisnap_mock.faults.own import HEADER, OwnRules, OwnRulesReader
from voisnap_mock.faults.rules import Answer, Drop, Slow, Verdict
from voisnap_mock.signalr import ConnectionDenied, ConnectionRequest, RequestSevered, Severance
from voisnap_mock.signalr.asgi_wires import sever_request
from voisnap_mock.signalr.transports import cors_headers

LOGIN_PATH: Final = "/api/v1/auth/login"
OVER_HTTP: Final = ("login", "http.<METHOD> <path>")

_HEADER: Final = HEADER.lower().encode()
_ITS_OWN: Final = ("/__voisnap", "/livez", "/readyz")
_MOST_OF_A_LOGIN: Final = 65_536

Scoped = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scoped, Receive, Send], Awaitable[None]]


async def pass_request(clock: Clock, verdicts: Sequence[Verdict], point: str) -> ProblemDetails | Severance | None:
    """Carry out what was decided for one request: wait, then say what is to be done instead; None lets it pass."""
    for verdict in verdicts:
        rule = verdict.rule
        match rule.do:
            case Slow(seconds):
                await clock.sleep_until(clock.monotonic() + seconds)
            case Answer(status, retry_after):
                headers = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
                detail = f"the fault {rule.id!r} of the mock answers {point} with status {status}"
                return ProblemDetails(status, detail, reason=f"fault {rule.id}", headers=headers)
            case Drop(how):
                await clock.sleep_until(clock.monotonic() + rule.after)
                return Severance(how.value)
    return None


class FaultyDoor:
    """The door of a hub, with faults round it: the point `negotiate`, and the rules that requests bring with them.

    Args:
        channel: of the hub.
    """

    def __init__(
        self, door: HubDoor, desk: FaultDesk, clock: Clock, *, channel: str, new_trace_id: Callable[[], str]
    ) -> None:
        self._door = door
        self._desk = desk
        self._channel = channel
        self._new_trace_id = new_trace_id
        self._own = OwnRulesReader(desk)
        self._clock = clock

    def authenticate(self, request: ConnectionRequest) -> Visit | Awaitable[Visit]:
        """As `HubDoor.authenticate`; awaitable only when there is something to do.

        Raises:
            ConnectionDenied: also for rules that cannot be read.
        """
        visit = self._door.authenticate(request)
        if visit.admission is None:
            return visit
        tenant = visit.admission.tenant
        negotiates = request.path.rstrip("/").endswith("/negotiate")
        if not negotiates and request.method != "GET":
            return visit
        begins = negotiates or request.query.get("id") is None
        try:
            visit = self._own.of_visit(visit, tenant, request.headers.get(HEADER))
        except RequestRefused as refused:
            raise self._denied(refused.problem) from refused
        if not begins:
            return visit
        scope = None
        if isinstance(visit.extra, OwnRules):
            scope = visit.extra.scope = self._desk.scope(tenant.id, visit.extra.faults)
        verdicts = self._desk.decide(tenant.id, "negotiate", agent=visit.agent_id, channel=self._channel, scope=scope)
        return self._pass(visit, tenant, scope, verdicts) if verdicts else visit

    async def _pass(self, visit: Visit, tenant: Tenant, scope: Scope | None, verdicts: Sequence[Verdict]) -> Visit:
        instead = await pass_request(self._clock, verdicts, "negotiate")
        if instead is not None and scope is not None:
            self._desk.close_scope(tenant.id, scope)
        if isinstance(instead, ProblemDetails):
            raise self._denied(instead)
        if isinstance(instead, Severance):
            raise RequestSevered(instead)
        return visit

    def _denied(self, problem: ProblemDetails) -> ConnectionDenied:
        return ConnectionDenied(problem.status, problem.body(self._new_trace_id()), CONTENT_TYPE, problem.all_headers())


class FaultyRest:
    """The REST side, with faults round it: the points `login` and `http.<METHOD> <path>`.

    Whose rules count is told by the credential of a request, by the email of a login, else it is the default tenant.
    The mock's own routes cannot be touched.
    """

    def __init__(self, desk: FaultDesk, clock: Clock, *, door: Door, new_trace_id: Callable[[], str]) -> None:
        self._desk = desk
        self._door = door
        self._new_trace_id = new_trace_id
        self._own = OwnRulesReader(desk)
        self._clock = clock

    def concerns(self, scope: Scoped) -> bool:
        """Whether a request has to pass here."""
        if not self._desk.touches(None, OVER_HTTP) and all(name != _HEADER for name, _ in scope["headers"]):
            return False
        return not scope["path"].startswith(_ITS_OWN)

    async def __call__(self, rest: Asgi, scope: Scoped, receive: Receive, send: Send) -> None:
        """Answer a request that `concerns` us."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"].rstrip("/") or "/"
        point = f"http.{scope['method']} {path}"
        login: bytes | None = None
        if (scope["method"], path) == ("POST", LOGIN_PATH):
            point = "login"
            login, receive = await _read_ahead(receive)
        tenant = self._tenant(headers, login)
        own: Scope | None = None
        instead: ProblemDetails | Severance | None
        try:
            if _HEADER in headers:
                own = self._desk.scope(tenant.id, self._own.in_header(tenant, headers[_HEADER]))
        except RequestRefused as refused:
            instead = refused.problem
        else:
            instead = await pass_request(self._clock, self._desk.decide(tenant.id, point, scope=own), point)
        if own is not None:
            self._desk.close_scope(tenant.id, own)
        if isinstance(instead, Severance):
            await sever_request(instead, receive, send)
        elif instead is not None:
            await self._answer(send, instead, headers.get(b"origin"))
        else:
            await rest(scope, receive, send)

    def _tenant(self, headers: Mapping[bytes, str], login: bytes | None) -> Tenant:
        tenants = self._door.tenants
        try:
            if login is not None:
                body = msgspec.json.decode(login)
                user = self._door.tokens.user(body["email"])
                return tenants.default if user is None else tenants.get(user.tenant) or tenants.default
            return self._door.admit(headers.get(b"authorization"), is_hub=False).tenant
        except (TokenRefused, msgspec.DecodeError, TypeError, KeyError, UnicodeError, RecursionError):
            return tenants.default

    async def _answer(self, send: Send, problem: ProblemDetails, origin: str | None) -> None:
        body = problem.body(self._new_trace_id())
        headers = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(body)), **problem.all_headers()}
        if shared := cors_headers(origin):
            headers |= {**shared, "Access-Control-Expose-Headers": f"{REASON_HEADER}, Retry-After"}
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


async def _read_ahead(receive: Receive) -> tuple[bytes, Receive]:
    """A request's body, as far as a login can be long, and a `receive` that gives it again."""
    body = b""
    messages: list[MutableMapping[str, Any]] = []
    while len(body) <= _MOST_OF_A_LOGIN:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if not message.get("more_body"):
            break

    async def receive_again() -> MutableMapping[str, Any]:
        return messages.pop(0) if messages else await receive()

    return body, receive_again
