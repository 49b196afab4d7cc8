"""The REST side of the service: authentication, keys, agents. Every error is an RFC 7807 body."""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voisnap_mock import __version__
from voisnap_mock.agents.script import User
from voisnap_mock.clock import Clock
from voisnap_mock.cloud.door import Admission, Door, refusal
from voisnap_mock.cloud.problems import CONTENT_TYPE, REASON_HEADER, ProblemDetails, RequestRefused
from voisnap_mock.cloud.rates import HEADERS as RATE_HEADERS
from voisnap_mock.cloud.rates import Policy
from voisnap_mock.cloud.requests import Requests, note_of
from voisnap_mock.cloud.tenants import Agent, Tenant
from voisnap_mock.cloud.tokens import MfaChallenge, TokenRefused, Tokens, user_id
from voisnap_mock.cloud.webrtc_sessions import WebRtcSessions
from voisnap_mock.cloud.wire import agent_object, quoted
from voisnap_mock.journal import is_credential

MAX_PAGE_SIZE = 100
MAX_BODY_BYTES = 4 * 1024 * 1024
CONTROL_PREFIX = "/__voisnap"
HEALTH = ("/livez", "/readyz")


class _Body(BaseModel):
    """A request body; members that the API does not know are ignored, types are not guessed."""

    model_config = ConfigDict(strict=True)


class LoginBody(_Body):
    email: str
    password: str


class MfaBody(_Body):
    mfaToken: str
    code: str


class RefreshBody(_Body):
    refreshToken: str


class LogoutBody(_Body):
    refreshToken: str | None = None


class WebRtcBody(_Body):
    agentId: str
    metadata: dict[str, Any] | None = None


def build_rest(
    *,
    door: Door,
    requests: Requests,
    clock: Clock,
    new_trace_id: Callable[[], str],
    on_error: Callable[[str, Exception], None],
    webrtc: WebRtcSessions,
    control: APIRouter,
    guard: Callable[[str, Iterable[tuple[bytes, bytes]]], ProblemDetails | None],
    page: APIRouter | None = None,
) -> ASGIApp:
    """The application with all routes, the error answers, and CORS for browsers.

    Args:
        requests: counts and journals them.
        on_error: told of an exception that nobody expected, with method and path; the client gets a 500 that shows
            nothing of it.
        page: the routes of the sample page, when there is to be one.
        control: the mock's own routes. Scripts of other origins cannot read them.
        guard: gets method and headers of every request to them, and says what to answer it instead, if anything.
    """
    app = FastAPI(
        title="voisnap-mock: control API",
        version=__version__,
        openapi_url=f"{CONTROL_PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
    )
    # The document is of what is ours; the service has its own documentation.
    app.include_router(_routes(door, requests, clock, webrtc), include_in_schema=False)
    app.include_router(control)
    if page is not None:
        app.include_router(page, include_in_schema=False)

    def answer(problem: ProblemDetails) -> Response:
        return Response(problem.body(new_trace_id()), problem.status, problem.all_headers(), CONTENT_TYPE)

    def refuse(request: Request, problem: ProblemDetails, **details: object) -> Response:
        if (note := note_of(request.scope)) is not None:
            note.details.update(details, message=problem.detail)
        return answer(problem)

    async def on_refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestRefused)
        return refuse(request, error.problem)

    async def on_token_refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, TokenRefused)
        return refuse(request, refusal(error), check=error.check)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, RequestRefused):
            return refuse(request, error.__cause__.problem)
        if error.status_code == 400 and error.__cause__ is not None:
            # FastAPI says so when reading the body fails in another way than by wrong JSON.
            text = f"expected a JSON object, but the body cannot be read: {type(error.__cause__).__name__}"
            return refuse(request, ProblemDetails(422, f"body: {text}", errors={"body": [text]}))
        return refuse(request, _http_problem(request, error))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refuse(request, invalid_request(error.errors(), content_type=request.headers.get("content-type")))

    async def on_unexpected(request: Request, error: Exception) -> Response:
        on_error(f"{request.method} {request.url.path}", error)
        text = "voisnap-mock failed while it answered; this is a defect of the mock, its log has the details"
        return refuse(request, ProblemDetails(500, text))

    app.add_exception_handler(RequestRefused, on_refused)
    app.add_exception_handler(TokenRefused, on_token_refused)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_unexpected)
    # Outermost, so that errors carry the headers too: a browser shows its program nothing without them.
    with_cors = CORSMiddleware(
        app,
        allow_origin_regex=".*",
        allow_credentials=True,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("*",),
        expose_headers=(REASON_HEADER, "Retry-After", "WWW-Authenticate", *RATE_HEADERS),
        max_age=600,
    )
    service = requests.around(with_cors)

    async def answer_request(scope: Scope, receive: Receive, send: Send) -> None:
        path, receive = scope["path"], _bounded(receive)
        if len(path) > 1 and path.endswith("/"):
            # As ASP.NET Core routes; a redirect would cost some clients their Authorization header.
            scope["path"] = path = path.rstrip("/") or "/"
        if path in HEALTH:
            await with_cors(scope, receive, send)
        elif not path.startswith(CONTROL_PREFIX):
            await service(scope, receive, send)
        elif (problem := guard(scope["method"], scope["headers"])) is not None:
            await answer(problem)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer_request


def _bounded(receive: Receive) -> Receive:
    """`receive`, for a body that is not larger than any request has reason to be."""
    size = 0

    async def receive_more() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise RequestRefused(ProblemDetails(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes"))
        return message

    return receive_more


def _routes(door: Door, requests: Requests, clock: Clock, webrtc: WebRtcSessions) -> APIRouter:
    """The service's own routes.

    Source: Documented that POST /api/v1/auth/login exists (real-time overview), and the agents (API overview: envelope,
    paging; agents page: object). Assumed: the other routes of authentication, and the bodies of all of them.
    """
    router = APIRouter()
    tokens = door.tokens

    def admitted(policy: Policy) -> Callable[[Request], Awaitable[Admission]]:
        async def admit(request: Request) -> Admission:
            admission = door.admit(request.headers.get("Authorization"), is_hub=False)
            requests.limit(request.scope, admission.tenant, policy, admission.identity.subject)
            return admission

        return admit

    def by_address(request: Request, user: User | None, policy: Policy) -> None:
        tenant = (door.tenants.get(user.tenant) if user is not None else None) or door.tenants.default
        requests.limit(request.scope, tenant, policy, request.client.host if request.client else "")

    Admitted = Annotated[Admission, Depends(admitted("api-standard"))]
    AdmittedToList = Annotated[Admission, Depends(admitted("api-read-heavy"))]
    AdmittedToWrite = Annotated[Admission, Depends(admitted("api-write"))]

    # --- authentication ---------------------------------------------------------------------------------------------

    @router.post("/api/v1/auth/login")
    async def login(request: Request, body: LoginBody) -> Response:
        by_address(request, tokens.user(body.email), "auth-strict")
        return JSONResponse(_login_answer(tokens.login(body.email, body.password, clock.wall())))

    @router.post("/api/v1/auth/mfa/verify")
    async def verify_mfa(request: Request, body: MfaBody) -> Response:
        by_address(request, tokens.holder_of(body.mfaToken), "auth-strict")
        return JSONResponse(_login_answer(tokens.verify_mfa(body.mfaToken, body.code, clock.wall())))

    @router.post("/api/v1/auth/refresh")
    async def refresh(request: Request, body: RefreshBody) -> Response:
        by_address(request, tokens.holder_of(body.refreshToken), "api-standard")
        return JSONResponse(_login_answer(tokens.refresh(body.refreshToken, clock.wall())))

    @router.post("/api/v1/auth/logout")
    async def logout(admission: Admitted, body: LogoutBody | None = None) -> Response:
        tokens.logout(admission.identity, body.refreshToken if body else None, clock.wall())
        return Response(status_code=204)

    @router.get("/api/v1/auth/me")
    async def me(admission: Admitted) -> Response:
        identity = admission.identity
        if identity.kind == "api_key":
            raise RequestRefused(
                ProblemDetails(403, "an API key belongs to a tenant, not to a user: use an access token here")
            )
        return JSONResponse(_user_object(tokens.user_of(identity)) | {"id": identity.subject})

    @router.get("/.well-known/jwks.json")
    async def jwks() -> Response:
        return JSONResponse(tokens.jwks())

    # --- agents -----------------------------------------------------------------------------------------------------

    @router.get("/api/v1/agents")
    async def list_agents(
        admission: AdmittedToList,
        page: Annotated[int, Query(ge=1)] = 1,
        page_size: Annotated[int, Query(alias="pageSize", ge=1, le=MAX_PAGE_SIZE)] = 20,
        sort_by: Annotated[Literal["createdAt", "updatedAt", "name", "id", "status"], Query(alias="sortBy")] = (
            "createdAt"
        ),
        sort_order: Annotated[Literal["asc", "desc"], Query(alias="sortOrder")] = "desc",
        status: Literal["active", "inactive"] | None = None,
    ) -> Response:
        shown = [agent_answer(agent) for agent in admission.tenant.agents.values()]
        found = [agent for agent in shown if status is None or agent["status"] == status]
        found.sort(key=lambda agent: str(agent[sort_by]), reverse=sort_order == "desc")
        return JSONResponse(
            {
                "data": found[(page - 1) * page_size : page * page_size],
                "page": page,
                "pageSize": page_size,
                "total": len(found),
                "totalPages": math.ceil(len(found) / page_size),
            }
        )

    @router.get("/api/v1/agents/{agent_id}")
    async def read_agent(agent_id: str, admission: Admitted) -> Response:
        return JSONResponse(agent_answer(_known_agent(admission.tenant, agent_id)))

    @router.post("/api/v1/webrtc/sessions")
    async def create_webrtc_session(body: WebRtcBody, admission: AdmittedToWrite, request: Request) -> Response:
        agent = _known_agent(admission.tenant, body.agentId)
        asked_at = request.url.hostname or "127.0.0.1"
        created = await webrtc.create(admission.tenant, agent.script.id, body.metadata or {}, asked_at=asked_at)
        return JSONResponse(created, 201)

    return router


def _known_agent(tenant: Tenant, agent_id: str) -> Agent:
    agent = tenant.find(agent_id)
    if agent is None:
        known = ", ".join(tenant.agents) or "none"
        detail = f"Agent {quoted(agent_id)} does not exist; {tenant.file.source} has {known}"
        raise RequestRefused(ProblemDetails(404, detail, reason=f"agents of {tenant.file.source}"))
    return agent


def _login_answer(answer: Tokens | MfaChallenge) -> dict[str, Any]:
    match answer:
        case MfaChallenge(token):
            return {"mfaRequired": True, "mfaToken": token}
        case Tokens():
            return {
                "accessToken": answer.access_token,
                "refreshToken": answer.refresh_token,
                "tokenType": "Bearer",
                "expiresIn": answer.expires_in,
                "user": _user_object(answer.user),
            }


def _user_object(user: User) -> dict[str, Any]:
    return {
        "id": user_id(user.email),
        "email": user.email,
        "firstName": user.first_name,
        "lastName": user.last_name,
        "role": user.role,
        "tenantId": user.tenant,
    }


def agent_answer(agent: Agent) -> dict[str, Any]:
    return agent_object(agent.script, version=agent.version, created_at=agent.created_at, updated_at=agent.updated_at)


# --- errors ------------------------------------------------------------------------------------------------------


def _http_problem(request: Request, error: HTTPException) -> ProblemDetails:
    asked = f"{request.method} {request.url.path}"
    match error.status_code:
        case 404:
            detail = f"{asked}: voisnap-mock has no such resource; its README lists those it has"
        case 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            detail = f"{asked}: this resource takes {allowed}"
        case _:
            detail = f"{asked}: {error.detail}"
    return ProblemDetails(error.status_code, detail, headers=dict(error.headers or {}))


def invalid_request(errors: Iterable[Mapping[str, Any]], *, content_type: str | None) -> ProblemDetails:
    """The 422 for what pydantic found: each wrong field, what came and what was expected.

    Source: Assumed; the status of validation errors is not documented.
    """
    fields: dict[str, list[str]] = {}
    for error in errors:
        where, *path = (str(part) for part in error["loc"])
        name = ".".join(path) if path and error["type"] != "json_invalid" else where
        fields.setdefault(name, []).append(_explain(error, where, name, content_type))
    detail = "; ".join(f"{name}: {text}" for name, texts in fields.items() for text in texts)
    return ProblemDetails(422, detail, errors=fields)


def _explain(error: Mapping[str, Any], where: str, name: str, content_type: str | None) -> str:
    context = error.get("ctx", {})
    expected = {
        "missing": f"expected in the {where}, but it is missing",
        "string_type": "expected a string",
        "int_parsing": "expected a whole number",
        "greater_than_equal": f"expected {context.get('ge')} or more",
        "less_than_equal": f"expected {context.get('le')} or less",
        "literal_error": f"expected {context.get('expected')}",
        "json_invalid": f"expected JSON, but it cannot be read: {context.get('error')} at character {error['loc'][-1]}",
        "model_attributes_type": "expected a JSON object",
    }.get(error["type"], str(error["msg"]))
    if error["type"] == "missing" and name == "body":
        return "expected a JSON object, but the body is empty"
    if error["type"] in ("missing", "json_invalid"):
        return expected
    came = error.get("input")
    if isinstance(came, bytes):
        kind = content_type or "no content type"
        return f"{expected} as application/json, came {len(came)} bytes as {kind}"
    if is_credential(name) or name in ("body", "code"):
        return f"{expected}, came {_kind_of(came)}"
    return f"{expected}, came {quoted(came)}"


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
