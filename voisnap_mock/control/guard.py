"""Who may use the control API: pages of other origins may not, and with a token only those who have it."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from voisnap_mock.cloud.problems import ProblemDetails
from voisnap_mock.cloud.wire import quoted

ANY_ADDRESS = ("0.0.0.0", "::")
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Looks at every request below `/__voisnap`, before anything else does.

    A page in a browser can be made to reach a server on this machine: by a plain request to 127.0.0.1, which names the
    page as its `Origin`, or under a name of its own that suddenly leads here (DNS rebinding), which shows in `Host`.
    Both are refused. The port of `Host` does not matter: containers are reached by another one.

    A server that listens on every address cannot know its names. It takes any IP address and any name without a dot,
    such as a container's: neither can belong to a page of the internet.

    Args:
        host: what the server was told to listen on.
        token: what `Authorization: Bearer` must bring, if anything. Whoever has it may use any name.
    """

    def __init__(self, host: str, *, token: str | None = None) -> None:
        self._takes_any = host in ANY_ADDRESS
        self._names = _OWN_NAMES | {host.casefold()}
        self._token = token.encode() if token is not None else None

    def refusal(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> ProblemDetails | None:
        """What to answer a request that may not be made; None when it may. Headers are an ASGI scope's."""
        given = {name.lower(): value.decode("latin-1") for name, value in headers}
        host, origin = given.get(b"host", ""), given.get(b"origin")
        if method not in _READING and origin is not None and not _is_of(origin, host):
            text = f"header Origin: a page of {quoted(origin)} may not change this server; only its own pages may"
            return ProblemDetails(403, text)
        if self._token is not None:
            return self._ask_for_token(given.get(b"authorization", ""))
        if not self._knows(host):
            return ProblemDetails(
                403,
                f"header Host: {quoted(host)} is no name of this server, which has {', '.join(sorted(self._names))}; "
                "serve with --host NAME, or set VOISNAP_MOCK_CONTROL_TOKEN and use it here",
            )
        return None

    def _ask_for_token(self, authorization: str) -> ProblemDetails | None:
        assert self._token is not None
        scheme, _, given = authorization.partition(" ")
        if scheme.casefold() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            return None
        came = "another token came" if given else "none came"
        return ProblemDetails(
            401,
            f"the control API of this server wants its token as 'Authorization: Bearer <token>', {came}; it is what "
            "VOISNAP_MOCK_CONTROL_TOKEN was when the server started",
            reason="control token",
        )

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        return self._takes_any and bool(name) and ("." not in name or _is_address(name))


def _is_of(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
