"""Who may come in: the credential of a request, checked, and the tenant it opens."""

from __future__ import annotations

from dataclasses import dataclass

from voisnap_mock.clock import Clock
from voisnap_mock.cloud.problems import ProblemDetails
from voisnap_mock.cloud.tenants import Tenant, Tenants
from voisnap_mock.cloud.tokens import API_KEY_PREFIXES, Check, Identity, TokenAuthority, TokenRefused


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that was let in: by whom it is, and whose things it may see."""

    identity: Identity
    tenant: Tenant


class Door:
    """Checks the credentials of REST requests and hub connections."""

    def __init__(self, tokens: TokenAuthority, tenants: Tenants, clock: Clock) -> None:
        self.tokens = tokens
        self.tenants = tenants
        self._clock = clock

    def admit(self, authorization: str | None, *, query_token: str | None = None, is_hub: bool) -> Admission:
        """Let a request in by its `Authorization` header or, on a hub, the query's `access_token`; the header first.

        Raises:
            TokenRefused: by the first check that fails.

        Source: Documented: both kinds of credential as Bearer, and only JWTs on hubs (authentication page, real-time
        overview).
        """
        scheme, _, credential = (authorization or "").strip().partition(" ")
        credential = credential.strip()
        if scheme.casefold() != "bearer":
            if is_hub and query_token:
                credential = query_token
            elif scheme:
                raise TokenRefused(
                    Check.SCHEME, f"the Authorization header has scheme {scheme[:20]!r}, expected 'Bearer <token>'"
                )
            else:
                raise TokenRefused(Check.MISSING, _missing(is_hub=is_hub))
        elif not credential:
            credential = (query_token or "") if is_hub else ""
            if not credential:
                raise TokenRefused(Check.MISSING, _missing(is_hub=is_hub))
        if credential.startswith(API_KEY_PREFIXES) and not is_hub:
            identity = self.tokens.check_api_key(credential)
        else:
            identity = self.tokens.check_access(credential, self._clock.wall())
        tenant = self.tenants.get(identity.tenant_id)
        if tenant is None:
            known = ", ".join(self.tenants.named)
            raise TokenRefused(
                Check.TENANT,
                f"claim tid of the access token is {identity.tenant_id[:60]!r}, this server has {known}",
                reason=f"tenants of this server, named by auth.users: {known}",
            )
        return Admission(identity, tenant)


def refusal(error: TokenRefused, *, is_hub: bool = False) -> ProblemDetails:
    """The 401 that tells a client which check its credential failed.

    Source: Documented for hubs (401 on an invalid token, real-time overview); Assumed for REST.
    """
    detail = str(error)
    if is_hub and error.check is Check.KIND:
        detail += "; hubs accept only JWT access tokens"
    # A login with a wrong password is no challenge to a Bearer token.
    missing = error.check in (Check.MISSING, Check.PASSWORD, Check.MFA, Check.REFRESH_TOKEN)
    challenge = "Bearer" if missing else f'Bearer error="invalid_token", error_description="{error.check}"'
    return ProblemDetails(401, detail, reason=error.reason, headers={"WWW-Authenticate": challenge})


def _missing(*, is_hub: bool) -> str:
    where = "the query parameter access_token, or the header" if is_hub else "the header"
    return f"no credential came: {where} 'Authorization: Bearer <token>' is expected; POST /api/v1/auth/login gives one"
