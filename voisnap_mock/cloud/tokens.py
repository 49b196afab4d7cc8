"""Access and refresh tokens: made, checked, rotated and revoked.

Access tokens are JWTs, signed by PyJWT; every claim is checked here, against the time that is passed in. Refresh
tokens are random strings that only this process knows. PyJWT and cryptography are loaded when the first token is
made or checked: they would cost a fifth of the start-up time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from voisnap_mock.agents.script import DEFAULT_TENANT, Auth, User
from voisnap_mock.clock import iso_timestamp
from voisnap_mock.errors import ConfigError, VoisnapMockError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from jwt.api_jws import PyJWS

ISSUER = "voisnap-mock"
AUDIENCE = "voisnap"
MFA_TTL = 300.0
MFA_ATTEMPTS = 5
SESSION_TTL = 300.0
SESSIONS_KEPT = 86_400.0
API_KEY_PREFIXES = ("vsnp_live_", "vsnp_sb_")
_REFRESH_PREFIX = "rt_"
_SESSION_PREFIX = "wrtc_tok_"
_TOTP_STEP = 30

_READ_SCOPES = (
    "agents:read",
    "conversations:read",
    "telephony:read",
    "webhooks:read",
    "analytics:read",
    "billing:read",
)
_WRITE_SCOPES = ("agents:write", "conversations:write", "telephony:write", "webhooks:write")


class Check(StrEnum):
    """Which check a credential failed."""

    MISSING = "missing"
    SCHEME = "scheme"
    MALFORMED = "malformed"
    KIND = "kind"
    ALGORITHM = "algorithm"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    ISSUER = "iss"
    AUDIENCE = "aud"
    NOT_YET_VALID = "nbf"
    EXPIRED = "exp"
    TENANT = "tid"
    REVOKED = "revoked"
    API_KEY = "api_key"
    PASSWORD = "password"
    REFRESH_TOKEN = "refresh_token"
    MFA = "mfa"
    SESSION_TOKEN = "session_token"


class TokenRefused(VoisnapMockError):
    """A credential does not open the door; `check` says which check it failed, the text why and what to do.

    Attributes:
        reason: the part of the mock's configuration that decided it, when one did.
    """

    def __init__(self, check: Check, message: str, *, reason: str | None = None) -> None:
        super().__init__(f"{message} (failed check: {check})")
        self.check = check
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a credential stands for.

    Attributes:
        kind: an access token of a user, or an API key of a tenant.
        expires_at: seconds since 1970; None for an API key.
    """

    kind: Literal["user", "api_key"]
    subject: str
    tenant_id: str
    email: str = ""
    role: str = ""
    scope: str = ""
    token_id: str = ""
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives. Never log it.

    Attributes:
        expires_in: whole seconds until the access token expires.
    """

    access_token: str
    refresh_token: str
    expires_in: int
    user: User

    def __repr__(self) -> str:
        return f"Tokens(user={self.user.email!r}, expires_in={self.expires_in})"


@dataclass(frozen=True, slots=True)
class MfaChallenge:
    """The password was right; a code is still needed."""

    token: str

    def __repr__(self) -> str:
        return "MfaChallenge()"


@dataclass(slots=True)
class _Login:
    """One login and everything that descends from it."""

    email: str
    is_dead: bool = False


@dataclass(slots=True)
class _Grant:
    """A refresh token."""

    login: _Login
    expires_at: float
    is_used: bool = False


@dataclass(slots=True)
class _PendingMfa:
    user: User
    expires_at: float
    attempts_left: int = MFA_ATTEMPTS


@dataclass(slots=True)
class SessionGrant:
    """What a session token opens: one WebRTC session. Never log it.

    Attributes:
        session_id: the `wrtc_` id, which is no secret.
        expires_at: seconds since 1970; a connection that was made before lives on.
        metadata: what the creator of the session gave with it.
    """

    token: str = field(repr=False)
    session_id: str
    tenant_id: str
    agent_id: str
    metadata: Mapping[str, Any]
    expires_at: float
    _used_by: str | None = None

    @property
    def kept_until(self) -> float:
        """When it may be forgotten. One in use is asked for by every poll, and ends with its connection soon enough."""
        return self.expires_at if self._used_by is None else self.expires_at + SESSIONS_KEPT


class TokenAuthority:
    """Makes and checks the tokens of one server.

    All times are seconds since 1970, passed in as `now`.

    Source: Documented that a login gives a JWT for the hubs, and that hubs take no API keys (real-time overview).
    Assumed: algorithm, claims, lives, rotation, and the codes of MFA, of which no page shows anything.
    """

    def __init__(self, auth: Auth) -> None:
        self._grants: dict[str, _Grant] = {}
        self._logins: dict[str, tuple[_Login, float]] = {}
        self._revoked: dict[str, float] = {}
        self._mfa: dict[str, _PendingMfa] = {}
        self._sessions: dict[str, SessionGrant] = {}
        self._prune_at = 1024
        self._enrolled: dict[str, User] = {}
        self._api_keys: dict[str, str] = {}
        self._auth = auth
        self.configure(auth)

    def configure(self, auth: Auth) -> None:
        """Go by another `auth` from now on. Logins live on; access tokens too, unless secret or algorithm changed.

        Raises:
            ConfigError: if a user's MFA secret is not base32.
        """
        for user in auth.users:
            if user.mfa_secret is not None:
                _check_mfa_secret(user)
        self._auth = auth

    def enrol(self, user: User, api_key: str) -> None:
        """Know a user that the agents file does not, and an API key of the same tenant."""
        self._enrolled[user.email.casefold()] = user
        self._api_keys[api_key] = user.tenant

    def expel(self, tenant_id: str) -> None:
        """Forget the users and keys of a tenant that were enrolled, every login of theirs and its session tokens."""
        gone = {email for email, user in self._enrolled.items() if user.tenant == tenant_id}
        self._enrolled = {email: user for email, user in self._enrolled.items() if email not in gone}
        self._api_keys = {key: tenant for key, tenant in self._api_keys.items() if tenant != tenant_id}
        self._grants = {
            token: grant for token, grant in self._grants.items() if grant.login.email.casefold() not in gone
        }
        self._logins = {token: login for token, login in self._logins.items() if login[0].email.casefold() not in gone}
        self._sessions = {token: grant for token, grant in self._sessions.items() if grant.tenant_id != tenant_id}

    # --- making -------------------------------------------------------------------------------------------------

    def login(self, email: str, password: str, now: float) -> Tokens | MfaChallenge:
        """Check a password.

        Raises:
            TokenRefused: if there is no such user, or the password is another one.
        """
        user = self.user(email)
        if not _same(password, user.password if user else "") or user is None:
            raise TokenRefused(
                Check.PASSWORD,
                "wrong email or password",
                reason=f"auth.users of this server: {', '.join(known.email for known in self._auth.users)}",
            )
        if user.mfa_secret is None:
            return self._issue(user, _Login(user.email), now)
        self._prune(now)
        token = f"mfa_{secrets.token_urlsafe(24)}"
        self._mfa[token] = _PendingMfa(user, now + MFA_TTL)
        return MfaChallenge(token)

    def verify_mfa(self, token: str, code: str, now: float) -> Tokens:
        """Finish a login with a code of the user's authenticator; codes of 30 s before and after count too.

        Raises:
            TokenRefused: if the challenge is unknown or over, or the code is wrong; five wrong codes end it.
        """
        pending = self._mfa.get(token)
        if pending is None or now >= pending.expires_at:
            raise TokenRefused(Check.MFA, "mfaToken is unknown, used or older than five minutes: log in again")
        user = pending.user
        assert user.mfa_secret is not None
        step = int(now // _TOTP_STEP)
        codes = [totp(user.mfa_secret, at * _TOTP_STEP) for at in (step - 1, step, step + 1)]
        if not any(_same(code.strip(), right) for right in codes):
            pending.attempts_left -= 1
            if not pending.attempts_left:
                del self._mfa[token]
            raise TokenRefused(
                Check.MFA,
                f"the code does not fit this user's mfa_secret at {iso_timestamp(now)}; "
                f"{pending.attempts_left} attempts are left",
            )
        del self._mfa[token]
        return self._issue(user, _Login(user.email), now)

    def refresh(self, refresh_token: str, now: float) -> Tokens:
        """Trade a refresh token for new tokens. Each works once: a second use ends the whole login.

        Raises:
            TokenRefused: if it is unknown, expired, used, or of a login that is over.
        """
        grant = self._grants.get(refresh_token)
        if grant is None:
            raise TokenRefused(Check.REFRESH_TOKEN, "refreshToken is not one of this server: log in again")
        if grant.is_used:
            grant.login.is_dead = True
            raise TokenRefused(
                Check.REFRESH_TOKEN,
                "refreshToken was used before, so every token of its login is now dead: "
                "keep the new refreshToken of each refresh, and log in again",
            )
        if grant.login.is_dead:
            raise TokenRefused(Check.REFRESH_TOKEN, "refreshToken belongs to a login that is over: log in again")
        if now >= grant.expires_at:
            raise TokenRefused(
                Check.REFRESH_TOKEN,
                f"refreshToken expired at {iso_timestamp(grant.expires_at)}: log in again",
                reason=f"auth.refresh_ttl: {self._auth.refresh_ttl:g}s",
            )
        user = self.user(grant.login.email)
        if user is None:
            raise TokenRefused(Check.REFRESH_TOKEN, "the user of refreshToken is no longer in the agents file")
        grant.is_used = True
        return self._issue(user, grant.login, now)

    def logout(self, identity: Identity, refresh_token: str | None, now: float) -> None:
        """End the login of `identity`, and that of `refresh_token` when one is given: both their tokens are dead."""
        known = self._logins.get(identity.token_id)
        if known is not None:
            known[0].is_dead = True
        elif identity.token_id:
            # Minted by somebody else with the published secret: only this token is known.
            self._prune(now)
            self._revoked[identity.token_id] = identity.expires_at or now
        if refresh_token is not None and (grant := self._grants.get(refresh_token)) is not None:
            grant.login.is_dead = True

    def mint(self, user: User, now: float, *, ttl: float | None = None, claims: Mapping[str, Any] = {}) -> str:
        """An access token for `user`, with `claims` put over the usual ones; a claim of None is left out."""
        life = self._auth.token_ttl if ttl is None else ttl
        payload: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id(user.email),
            "tid": user.tenant,
            "email": user.email,
            "role": user.role,
            "scope": scope_of(user.role),
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + life),
            "jti": f"jti_{secrets.token_hex(12)}",
        }
        payload = {name: value for name, value in (payload | dict(claims)).items() if value is not None}
        return self._sign(payload)

    def grant_session(
        self, session_id: str, *, tenant_id: str, agent_id: str, metadata: Mapping[str, Any], now: float
    ) -> SessionGrant:
        """Make a token that opens one WebRTC session, once, within five minutes.

        Source: Documented that it begins with `wrtc_tok_` and a JWT's letters (WebRTC page). Assumed: its life, and
        that it works once; no page says.
        """
        self._prune(now)
        expires_at = now + SESSION_TTL
        claims = {"sid": session_id, "tid": tenant_id, "exp": int(expires_at), "jti": f"jti_{secrets.token_hex(12)}"}
        token = _SESSION_PREFIX + self._sign(claims)
        grant = self._sessions[token] = SessionGrant(token, session_id, tenant_id, agent_id, metadata, expires_at)
        return grant

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set; empty under HS256, which has none."""
        if self._auth.algorithm == "HS256":
            return {"keys": []}
        from jwt.algorithms import RSAAlgorithm

        key = RSAAlgorithm.to_jwk(self._rsa_key.public_key(), as_dict=True)
        return {"keys": [{**key, "kid": self._key_id, "use": "sig", "alg": "RS256"}]}

    # --- checking -----------------------------------------------------------------------------------------------

    def check_access(self, token: str, now: float) -> Identity:
        """Whom an access token stands for.

        Raises:
            TokenRefused: by the first check that fails: form, algorithm, signature, iss, aud, nbf, exp, revocation.
        """
        claims = self._verified_claims(token)
        _expect_claim(claims, "iss", Check.ISSUER, ISSUER)
        audience = claims.get("aud")
        if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
            _expect_claim(claims, "aud", Check.AUDIENCE, AUDIENCE)
        valid_from = _time_claim(claims, "nbf", is_required=False)
        if valid_from is not None and now < valid_from:
            raise TokenRefused(
                Check.NOT_YET_VALID,
                f"the access token is not valid before {iso_timestamp(valid_from)} (nbf); it is {iso_timestamp(now)}",
            )
        expires_at = _time_claim(claims, "exp", is_required=True)
        assert expires_at is not None
        if now >= expires_at:
            raise TokenRefused(
                Check.EXPIRED,
                f"the access token expired at {iso_timestamp(expires_at)} (exp); it is {iso_timestamp(now)}: "
                "log in again or POST /api/v1/auth/refresh",
            )
        token_id = _text_claim(claims, "jti", is_required=False)
        login = self._logins.get(token_id)
        if (login is not None and login[0].is_dead) or token_id in self._revoked:
            raise TokenRefused(Check.REVOKED, "the access token belongs to a login that is over: log in again")
        return Identity(
            kind="user",
            subject=_text_claim(claims, "sub"),
            tenant_id=_text_claim(claims, "tid"),
            email=_text_claim(claims, "email", is_required=False),
            role=_text_claim(claims, "role", is_required=False),
            scope=_text_claim(claims, "scope", is_required=False),
            token_id=token_id,
            expires_at=expires_at,
        )

    def check_api_key(self, key: str) -> Identity:
        """Whom an API key stands for.

        Raises:
            TokenRefused: if the agents file does not list it.
        """
        tenant_id = DEFAULT_TENANT if any(_same(key, known) for known in self._auth.api_keys) else None
        tenant_id = self._api_keys.get(key, tenant_id)
        if tenant_id is None:
            raise TokenRefused(
                Check.API_KEY,
                "the API key is not one of this server: list it under auth.api_keys of the agents file",
                reason="auth.api_keys",
            )
        digest = hashlib.sha256(key.encode()).hexdigest()[:14].upper()
        return Identity(
            kind="api_key",
            subject=f"key_{digest}",
            tenant_id=tenant_id,
            scope=" ".join((*_READ_SCOPES, *_WRITE_SCOPES)),
        )

    def check_session(self, token: str, *, tenant_id: str, used_by: str | None, now: float) -> SessionGrant:
        """What a session token opens for a client of `tenant_id`.

        Args:
            used_by: names the connection that uses the token up, for which it stays good; None only looks.

        Raises:
            TokenRefused: it is unknown, of another tenant, expired, or was used by another connection.
        """
        grant = self._sessions.get(token)
        again = "POST /api/v1/webrtc/sessions gives one"
        if grant is None:
            raise TokenRefused(Check.SESSION_TOKEN, f"sessionToken is not one of this server: {again}")
        if grant.tenant_id != tenant_id:
            raise TokenRefused(Check.SESSION_TOKEN, "sessionToken belongs to another tenant than the access token")
        if grant._used_by is not None and grant._used_by != used_by:
            raise TokenRefused(
                Check.SESSION_TOKEN,
                f"sessionToken of {grant.session_id} was used already, it opens one connection: {again}",
            )
        if grant._used_by is None:
            if now >= grant.expires_at:
                raise TokenRefused(
                    Check.SESSION_TOKEN, f"sessionToken expired at {iso_timestamp(grant.expires_at)}: {again}"
                )
            grant._used_by = used_by
        return grant

    def user_of(self, identity: Identity) -> User:
        """The user behind `identity`; one that no file knows is made from the token's claims."""
        known = self.user(identity.email)
        if known is not None:
            return known
        return User(identity.email, "", first_name="", last_name="", role=identity.role, tenant=identity.tenant_id)

    def holder_of(self, token: str) -> User | None:
        """Who was given this refresh token, or this challenge for a code; None when nobody was."""
        if (pending := self._mfa.get(token)) is not None:
            return pending.user
        grant = self._grants.get(token)
        return None if grant is None else self.user(grant.login.email)

    # --- inside -------------------------------------------------------------------------------------------------

    def user(self, email: str) -> User | None:
        """Who logs in with this email; None when there is nobody."""
        wanted = email.strip().casefold()
        known = next((user for user in self._auth.users if user.email.casefold() == wanted), None)
        return known or self._enrolled.get(wanted)

    def _issue(self, user: User, login: _Login, now: float) -> Tokens:
        self._prune(now)
        life = self._auth.token_ttl
        token_id = f"jti_{secrets.token_hex(12)}"
        access_token = self.mint(user, now, claims={"jti": token_id})
        refresh_token = _REFRESH_PREFIX + secrets.token_urlsafe(32)
        self._logins[token_id] = (login, now + life)
        self._grants[refresh_token] = _Grant(login, now + self._auth.refresh_ttl)
        return Tokens(access_token, refresh_token, int(life), user)

    def _prune(self, now: float) -> None:
        """Forget what has expired, now and then: what is forgotten is refused as unknown or expired."""
        if self._size < self._prune_at:
            return
        self._grants = {token: grant for token, grant in self._grants.items() if grant.expires_at > now}
        self._logins = {token: login for token, login in self._logins.items() if login[1] > now}
        self._revoked = {token: until for token, until in self._revoked.items() if until > now}
        self._mfa = {token: pending for token, pending in self._mfa.items() if pending.expires_at > now}
        self._sessions = {token: grant for token, grant in self._sessions.items() if grant.kept_until > now}
        self._prune_at = max(1024, 2 * self._size)

    @property
    def _size(self) -> int:
        return sum(len(kept) for kept in (self._grants, self._logins, self._revoked, self._mfa, self._sessions))

    @cached_property
    def _jws(self) -> PyJWS:
        from jwt.algorithms import HMACAlgorithm
        from jwt.api_jws import PyJWS

        class AnyLengthHmac(HMACAlgorithm):
            # A short secret of an agents file is no danger on a developer's machine and no reason for a warning.
            def check_key_length(self, key: bytes) -> str | None:
                return None

        jws = PyJWS(algorithms=["RS256"])
        jws.register_algorithm("HS256", AnyLengthHmac(HMACAlgorithm.SHA256))
        return jws

    @cached_property
    def _rsa_key(self) -> RSAPrivateKey:
        from cryptography.hazmat.primitives.asymmetric import rsa

        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _key_id(self) -> str:
        numbers = self._rsa_key.public_key().public_numbers()
        return hashlib.sha256(f"{numbers.n}:{numbers.e}".encode()).hexdigest()[:16]

    def _sign(self, payload: Mapping[str, Any]) -> str:
        body = msgspec.json.encode(payload)
        if self._auth.algorithm == "HS256":
            return self._jws.encode(body, self._auth.secret, algorithm="HS256")
        return self._jws.encode(body, self._rsa_key, algorithm="RS256", headers={"kid": self._key_id})

    def _verified_claims(self, token: str) -> Mapping[str, Any]:
        if token.startswith(API_KEY_PREFIXES):
            raise TokenRefused(
                Check.KIND, "an API key was given where only an access token counts: POST /api/v1/auth/login gives one"
            )
        if token.startswith(_REFRESH_PREFIX):
            raise TokenRefused(Check.KIND, "a refresh token was given where an access token is expected")
        from jwt import exceptions

        try:
            algorithm = self._jws.get_unverified_header(token).get("alg")
        except (exceptions.InvalidTokenError, UnicodeError):
            raise TokenRefused(
                Check.MALFORMED, "the access token is no JWT: three parts of base64url, joined by dots, are expected"
            ) from None
        expected = self._auth.algorithm
        if algorithm != expected:
            named = str(algorithm)[:20]
            hint = "an unsigned token proves nothing" if named.casefold() == "none" else f"sign it with {expected}"
            raise TokenRefused(
                Check.ALGORITHM,
                f"the access token says alg {named!r}, this server takes only {expected}: {hint}",
                reason=f"auth.algorithm: {expected}",
            )
        try:
            key = self._auth.secret if expected == "HS256" else self._rsa_key.public_key()
            payload = self._jws.decode_complete(token, key, algorithms=[expected])["payload"]
        except exceptions.InvalidSignatureError:
            of_whom = "auth.secret" if expected == "HS256" else "the key of /.well-known/jwks.json"
            raise TokenRefused(
                Check.SIGNATURE,
                f"the signature of the access token does not fit {of_whom} of this server: another key signed it, "
                "or it was changed",
                reason=of_whom,
            ) from None
        except exceptions.InvalidTokenError as error:
            raise TokenRefused(Check.MALFORMED, f"the access token cannot be read: {error}") from None
        try:
            claims = msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise TokenRefused(Check.MALFORMED, "the claims of the access token are not a JSON object")
        return claims


def user_id(email: str) -> str:
    """The id of a user, the same in every server: `usr_` and a name made from the address."""
    digest = hashlib.sha256(email.casefold().encode()).digest()
    return f"usr_01HX{base64.b32encode(digest)[:10].decode()}"


def scope_of(role: str) -> str:
    """The scopes of a role, as an OAuth scope string.

    Source: Documented scopes (authentication page); Assumed which role has which.
    """
    return " ".join(_READ_SCOPES if role == "ReadOnly" else (*_READ_SCOPES, *_WRITE_SCOPES))


def totp(secret: str, now: float) -> str:
    """The six digits that an authenticator with the base32 `secret` shows at `now` (RFC 6238, SHA-1, 30 s).

    Raises:
        ValueError: if `secret` is not base32.
    """
    counter = int(now // _TOTP_STEP).to_bytes(8, "big")
    digest = hmac.digest(_base32(secret), counter, "sha1")
    offset = digest[-1] & 0xF
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


def _same(given: str, right: str) -> bool:
    """Whether two secrets are equal; JSON of a client may hold half a surrogate pair, which UTF-8 cannot."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), right.encode(errors="surrogatepass"))


def _base32(secret: str) -> bytes:
    text = secret.replace(" ", "").rstrip("=").upper()
    return base64.b32decode(text + "=" * (-len(text) % 8))


def _check_mfa_secret(user: User) -> None:
    try:
        is_good = bool(_base32(user.mfa_secret or ""))
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError(f"mfa_secret of user {user.email}: expected base32, letters A-Z and digits 2-7")


def _expect_claim(claims: Mapping[str, Any], name: str, check: Check, expected: str) -> None:
    if claims.get(name) != expected:
        came = f"is {str(claims[name])[:60]!r}" if name in claims else "is missing"
        raise TokenRefused(check, f"claim {name} of the access token {came}, expected {expected!r}")


def _time_claim(claims: Mapping[str, Any], name: str, *, is_required: bool) -> float | None:
    value = claims.get(name)
    if value is None and not is_required:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**33:
        came = "is missing" if value is None else f"is {str(value)[:40]!r}"
        raise TokenRefused(Check.CLAIMS, f"claim {name} of the access token {came}, expected seconds since 1970")
    return float(value)


def _text_claim(claims: Mapping[str, Any], name: str, *, is_required: bool = True) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or (is_required and not value):
        came = f"is {str(value)[:40]!r}" if value else "is missing"
        raise TokenRefused(Check.CLAIMS, f"claim {name} of the access token {came}, expected a text")
    return value
