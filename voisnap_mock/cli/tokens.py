"""`token` and `env`: what a client needs to get in, made without a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from voisnap_mock.agents.script import AgentsFile, Auth, User
from voisnap_mock.cli.console import print_json
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.files import DEFAULT_FILE, read_agents
from voisnap_mock.cli.service import ask, find_server
from voisnap_mock.clock import SystemClock
from voisnap_mock.cloud.tokens import TokenAuthority
from voisnap_mock.config import client_variables
from voisnap_mock.errors import ConfigError

SHELLS = {
    "sh": "export {name}={value}",
    "fish": "set -gx {name} {value}",
    "powershell": "$env:{name} = {value}",
    "cmd": "set {name}={value}",
}


def mint(
    *,
    user: str,
    tenant: str | None,
    ttl: float | None,
    claims: dict[str, Any],
    is_expired: bool,
    agents: Path | None,
) -> None:
    """Print one access token.

    Raises:
        ConfigError: if the agents file cannot be used, or its tokens are signed with a key that only a server has.
    """
    auth = _auth(agents)
    if auth.algorithm == "RS256":
        raise ConfigError(
            "auth.algorithm is RS256: the key lives in the running server, nobody else can mint its tokens.\n"
            "Log in there (POST /api/v1/auth/login), or use HS256."
        )
    found = _user(auth, user)
    if tenant:
        found = replace(found, tenant=tenant)
    now = SystemClock().wall()
    life = auth.token_ttl if ttl is None else ttl
    # An expired token was good once: made longer ago than it lives.
    made_at = now - life - 1 if is_expired else now
    typer.echo(TokenAuthority(auth).mint(found, made_at, ttl=life, claims=claims))


def env(url: str | None, *, shell: str, agents: Path | None, as_json: bool) -> None:
    """Print the variables that point a client at the server."""
    if shell not in SHELLS:
        raise typer.BadParameter(f"{shell!r} is none of {', '.join(SHELLS)}.", param_hint="--shell")
    server = find_server(url)
    auth = _auth(agents)
    user = auth.users[0] if auth.users else User("dev@example.test", "dev")
    variables = client_variables(
        server,
        api_key=next(iter(auth.api_keys), ""),
        email=user.email,
        password=user.password,
        access_token=_token(server, auth, user),
    )
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        typer.echo(SHELLS[shell].format(name=name, value=_quoted(value, shell)))


def _token(server: str, auth: Auth, user: User) -> str:
    """From the server when it is up, because only it has an RS256 key; else minted here."""
    try:
        answer = ask(
            "POST", f"{server}/api/v1/auth/login", {"email": user.email, "password": user.password}, timeout=2.0
        )
    except OSError:
        if auth.algorithm == "RS256":
            return ""
        return TokenAuthority(auth).mint(user, SystemClock().wall())
    if answer.status == 200 and isinstance(answer.body, dict):
        return str(answer.body.get("accessToken", ""))
    raise CheckFailed(
        f"{server} does not know {user.email}: it serves another agents file.\nName that file with --agents."
    )


def _auth(path: Path | None) -> Auth:
    file: AgentsFile | None = None
    if path is not None or DEFAULT_FILE.exists():
        file = read_agents(path or DEFAULT_FILE)
    return file.auth if file else Auth()


def _user(auth: Auth, email: str) -> User:
    wanted = email.casefold()
    return next((user for user in auth.users if user.email.casefold() == wanted), User(email, ""))


def _quoted(value: str, shell: str) -> str:
    if shell == "cmd":
        return value
    if shell == "powershell":
        return "'" + value.replace("'", "''") + "'"
    import shlex

    return shlex.quote(value)
