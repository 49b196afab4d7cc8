"""The server that a command talks to: where it is, whether it is ready, and a token from it."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.errors import ConfigError

CONTROL = "/__voisnap"
DEFAULT_URL = "http://127.0.0.1:8647"
DEFAULT_EMAIL = "dev@example.test"
DEFAULT_PASSWORD = "dev"
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def find_server(url: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The base URL of the server, without a path: the flag, `VOISNAP_MOCK_URL`, `VOISNAP_BASE_URL`, the default.

    `127.0.0.1:9000` and a `ws://` URL are understood too, and a path such as `/api/v1` is taken off.

    Raises:
        ConfigError: if the first of them that is set is no URL of a server.
    """
    sources = {
        "--url": url,
        "VOISNAP_MOCK_URL": environment.get("VOISNAP_MOCK_URL"),
        "VOISNAP_BASE_URL": environment.get("VOISNAP_BASE_URL"),
    }
    source, given = next(((name, value) for name, value in sources.items() if value), ("default", DEFAULT_URL))
    parts = urlsplit(given if "://" in given else f"http://{given}")
    problem = f"{source} {given!r} is not the URL of a server: expected something like {DEFAULT_URL}"
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{problem} ({error})") from error
    if parts.scheme not in _SCHEMES or not host:
        raise ConfigError(problem)
    name = f"[{host}]" if ":" in host else host
    return f"{_SCHEMES[parts.scheme]}://{name}" + (f":{port}" if port else "")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: status, parsed JSON body (None when it is no JSON), and the body as it came."""

    status: int
    body: Any
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """Who to be: a ready token, or an e-mail address and password to log in with."""

    token: str | None = field(default=None, repr=False)
    email: str = DEFAULT_EMAIL
    password: str = field(default=DEFAULT_PASSWORD, repr=False)


def find_login(
    *, token: str | None, email: str | None, password: str | None, environment: Mapping[str, str] = os.environ
) -> Login:
    """Flags first, then `VOISNAP_ACCESS_TOKEN`, then `VOISNAP_EMAIL` and `VOISNAP_PASSWORD`, then the built-in login.

    An e-mail address on the command line is meant: it wins over a token of the environment.
    """
    if not token and not email:
        token = environment.get("VOISNAP_ACCESS_TOKEN")
    return Login(
        token or None,
        email or environment.get("VOISNAP_EMAIL") or DEFAULT_EMAIL,
        password or environment.get("VOISNAP_PASSWORD") or DEFAULT_PASSWORD,
    )


def ask(
    method: str,
    url: str,
    body: object = None,
    *,
    token: str | None = None,
    tenant: str | None = None,
    timeout: float = 5.0,
) -> Answer:
    """One HTTP request; blocks. Proxies of the environment are left aside: the server is on this machine.

    `tenant` is whose things the control API shows; its default tenant's without. The control API gets the token of the
    environment.

    Raises:
        OSError: if no answer came.
    """
    try:
        with _open(method, url, body, token=token, tenant=tenant, timeout=timeout) as response:
            return _answer(response.status, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url} answered something that is not HTTP: {error!r}") from error


def _open(
    method: str,
    url: str,
    body: object = None,
    *,
    token: str | None = None,
    tenant: str | None = None,
    timeout: float | None = None,
) -> http.client.HTTPResponse:
    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/yaml" if isinstance(body, bytes) else "application/json"
    if token is None and urlsplit(url).path.startswith(CONTROL):
        token = os.environ.get("VOISNAP_MOCK_CONTROL_TOKEN")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if tenant:
        headers["X-Voisnap-Tenant"] = tenant
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    response: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    return response


def control(url: str | None, method: str, path: str, body: object = None, *, tenant: str | None = None) -> Any:
    """Ask the control API of the server that `find_server` finds; blocks. The answer's JSON, None when it has no body.

    Args:
        body: JSON, or the bytes of a YAML text.

    Raises:
        ConfigError: the server says that what was given is wrong (422); each problem on a line.
        CheckFailed: nobody answers, or it refuses.
    """
    server = find_server(url)
    try:
        answer = ask(method, f"{server}{CONTROL}/{path}", body, tenant=tenant, timeout=30.0)
    except OSError as error:
        raise no_server(server, error) from error
    if answer.status < 300:
        return answer.body
    if answer.status == 422 and isinstance(answer.body, dict) and answer.body.get("errors"):
        raise ConfigError("\n".join(text for texts in answer.body["errors"].values() for text in texts))
    raise _refused(server, answer)


def follow(url: str | None, path: str, *, tenant: str | None = None) -> Iterator[dict[str, Any]]:
    """The server-sent events of the control API, each one's JSON, until the server ends; blocks.

    Raises:
        CheckFailed: nobody answers, or it refuses.
    """
    server = find_server(url)
    try:
        # Longer than its heartbeats are apart.
        response = _open("GET", f"{server}{CONTROL}/{path}", tenant=tenant, timeout=60.0)
        with response:
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(server, _answer(error.code, error.read())) from error
    except OSError as error:
        raise no_server(server, error) from error


def _refused(server: str, answer: Answer) -> CheckFailed:
    return CheckFailed(f"{server} refused: {problem_text(answer.status, answer.body)}")


def access_token(server: str, login: Login) -> str:
    """A token for the hubs: the given one, or a fresh one from the server's login; blocks.

    Raises:
        CheckFailed: if nobody answers, or the login is refused.
    """
    if login.token:
        return login.token
    try:
        answer = ask("POST", f"{server}/api/v1/auth/login", {"email": login.email, "password": login.password})
    except OSError as error:
        raise no_server(server, error) from error
    match answer:
        case Answer(200, {"accessToken": str(token)}):
            return token
        case Answer(200, {"mfaRequired": True}):
            raise CheckFailed(
                f"{login.email} needs a second factor at {server}; use another user, or pass --token with a token"
            )
        case Answer(status, body):
            raise CheckFailed(
                f"{server} refused the login of {login.email}: {problem_text(status, body)}\n"
                "Give --email and --password, or --token, of a user that this server knows."
            )


def no_server(server: str, error: OSError) -> CheckFailed:
    """The error for a server that does not answer."""
    reason = getattr(error, "reason", error)
    return CheckFailed(
        f"no server answers at {server} ({reason})\nStart one with `voisnap-mock serve`, or name another with --url."
    )


def problem_text(status: int, body: object) -> str:
    """The gist of a problem document."""
    if isinstance(body, dict):
        detail = body.get("detail") or body.get("title")
        if detail:
            return f"{status}, {detail}"
    return str(status)


def _answer(status: int, data: bytes) -> Answer:
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    return Answer(status, body, data)
