"""Tokens open the door only when every check passes, and each failed check has its own reason."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from voisnap_mock.agents.script import Auth, User
from voisnap_mock.cloud.tokens import (
    MFA_TTL,
    SESSION_TTL,
    Check,
    MfaChallenge,
    TokenAuthority,
    TokenRefused,
    Tokens,
    totp,
    user_id,
)
from voisnap_mock.errors import ConfigError

NOW = 1_750_000_000.0
SECRET = "voisnap-mock-development-secret-never-for-production"
FOREIGN_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
MFA_SECRET = "JBSWY3DPEHPK3PXP"


def authority(**auth: Any) -> TokenAuthority:
    return TokenAuthority(Auth(**auth))


def logged_in(tokens: TokenAuthority, now: float = NOW) -> Tokens:
    answer = tokens.login("dev@example.test", "dev", now)
    assert isinstance(answer, Tokens)
    return answer


def claims(**changes: Any) -> dict[str, Any]:
    usual = {
        "iss": "voisnap-mock",
        "aud": "voisnap",
        "sub": "usr_1",
        "tid": "ten_dev",
        "email": "dev@example.test",
        "iat": int(NOW),
        "nbf": int(NOW),
        "exp": int(NOW) + 60,
        "jti": "j",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def signed(key: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def unsigned(header: dict[str, Any], payload: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def foreign_rsa_public_pem() -> str:
    return (
        FOREIGN_KEY.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def test_a_login_gives_an_access_token_with_the_documented_claims() -> None:
    tokens = authority()
    answer = logged_in(tokens, NOW + 0.25)
    shown = jwt.decode(answer.access_token, options={"verify_signature": False})
    assert jwt.get_unverified_header(answer.access_token)["alg"] == "HS256"
    assert shown.pop("jti").startswith("jti_")
    assert shown.pop("scope").split()[0] == "agents:read"
    assert shown == {
        "iss": "voisnap-mock",
        "aud": "voisnap",
        "sub": user_id("dev@example.test"),
        "tid": "ten_dev",
        "email": "dev@example.test",
        "role": "TenantOwner",
        "iat": int(NOW),
        "nbf": int(NOW),
        "exp": int(NOW) + 3600,
    }
    assert answer.expires_in == 3600
    identity = tokens.check_access(answer.access_token, NOW + 1)
    assert (identity.tenant_id, identity.email, identity.role) == ("ten_dev", "dev@example.test", "TenantOwner")


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("dev@example.test", "Dev"),
        ("dev@example.test", ""),
        ("dev@example.test", "half a pair: \ud800"),
        ("x@y.z", "dev"),
        ("\ud800", "dev"),
        ("", ""),
    ],
)
def test_wrong_credentials_are_refused_alike(email: str, password: str) -> None:
    with pytest.raises(TokenRefused, match="wrong email or password") as refused:
        authority().login(email, password, NOW)
    assert refused.value.check is Check.PASSWORD
    assert "dev@example.test" in str(refused.value.reason)


def test_an_address_is_matched_without_regard_to_case() -> None:
    assert isinstance(authority().login(" Dev@Example.Test ", "dev", NOW), Tokens)


@pytest.mark.parametrize(
    ("token", "check", "says"),
    [
        (lambda: "", Check.MALFORMED, "no JWT"),
        (lambda: "not-a-token", Check.MALFORMED, "no JWT"),
        (lambda: "a.b", Check.MALFORMED, "no JWT"),
        (lambda: "a.b.c", Check.MALFORMED, "no JWT"),
        (lambda: "ä.b.c", Check.MALFORMED, "no JWT"),
        (lambda: "\ud800.b.c", Check.MALFORMED, "no JWT"),
        (lambda: unsigned([], {}), Check.MALFORMED, "no JWT"),
        (lambda: "vsnp_sb_dev", Check.KIND, "API key"),
        (lambda: "rt_abcdef", Check.KIND, "refresh token"),
        (lambda: unsigned({"alg": "none"}, claims()), Check.ALGORITHM, "alg 'none'.*HS256.*unsigned"),
        (lambda: unsigned({"alg": "NonE"}, claims()), Check.ALGORITHM, "unsigned"),
        (lambda: unsigned({}, claims()), Check.ALGORITHM, "alg 'None'"),
        (lambda: signed(algorithm="HS512", key=SECRET * 2), Check.ALGORITHM, "alg 'HS512'.*takes only HS256"),
        (lambda: jwt.encode(claims(), FOREIGN_KEY, algorithm="RS256"), Check.ALGORITHM, "alg 'RS256'"),
        (lambda: signed(key="another-secret-of-thirty-two-bytes!!"), Check.SIGNATURE, "auth.secret"),
        (lambda: signed()[:-4] + "AAAA", Check.SIGNATURE, "another key signed it, or it was changed"),
        (lambda: signed(iss="voisnap"), Check.ISSUER, "iss.*'voisnap'.*expected 'voisnap-mock'"),
        (lambda: signed(iss=None), Check.ISSUER, "iss.*missing"),
        (lambda: signed(aud="somebody-else"), Check.AUDIENCE, "aud.*'somebody-else'.*expected 'voisnap'"),
        (lambda: signed(aud=["a", "b"]), Check.AUDIENCE, "expected 'voisnap'"),
        (lambda: signed(aud=None), Check.AUDIENCE, "aud.*missing"),
        (lambda: signed(exp=int(NOW)), Check.EXPIRED, "expired at 2025-06-15T15:06:40Z"),
        (lambda: signed(exp=int(NOW) - 3600), Check.EXPIRED, "log in again"),
        (lambda: signed(exp=None), Check.CLAIMS, "exp.*missing"),
        (lambda: signed(nbf=int(NOW) + 5), Check.NOT_YET_VALID, "not valid before 2025-06-15T15:06:45Z"),
        (lambda: signed(tid=None), Check.CLAIMS, "tid.*missing"),
        (lambda: signed(tid=5), Check.CLAIMS, "tid.*'5'"),
        (lambda: signed(sub=None), Check.CLAIMS, "sub.*missing"),
    ],
)
def test_each_failed_check_has_its_own_reason(token: Callable[[], str], check: Check, says: str) -> None:
    text = token()
    with pytest.raises(TokenRefused, match=says) as refused:
        authority().check_access(text, NOW)
    assert refused.value.check is check
    assert f"failed check: {check}" in str(refused.value)
    assert len(text) < 20 or text not in str(refused.value), "an error never shows the token"


@pytest.mark.parametrize(
    ("payload", "check"),
    [
        (b"[]", Check.MALFORMED),
        (b"\xff", Check.MALFORMED),
        (b"[" * 50_000, Check.MALFORMED),
        (json.dumps(claims(exp="soon")).encode(), Check.CLAIMS),
        (json.dumps(claims(exp=True)).encode(), Check.CLAIMS),
        (json.dumps(claims(exp=1e300)).encode(), Check.CLAIMS),
        (json.dumps(claims(nbf="soon")).encode(), Check.CLAIMS),
    ],
    ids=["array", "not-utf8", "deep", "exp-text", "exp-bool", "exp-huge", "nbf-text"],
)
def test_odd_claims_behind_a_good_signature_are_refused(payload: bytes, check: Check) -> None:
    token = jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")
    with pytest.raises(TokenRefused) as refused:
        authority().check_access(token, NOW)
    assert refused.value.check is check


def test_time_is_the_one_passed_in() -> None:
    tokens = authority()
    token = tokens.mint(User("dev@example.test", ""), NOW, ttl=60)
    assert tokens.check_access(token, NOW + 59.9).expires_at == NOW + 60
    with pytest.raises(TokenRefused, match="exp"):
        tokens.check_access(token, NOW + 60)
    with pytest.raises(TokenRefused, match="nbf"):
        tokens.check_access(token, NOW - 1)


def test_anyone_may_mint_a_token_with_the_published_secret() -> None:
    assert authority().check_access(signed(tid="ten_other"), NOW).tenant_id == "ten_other"


def test_minted_claims_go_over_the_usual_ones() -> None:
    token = authority().mint(User("a@b.c", ""), NOW, claims={"role": "ReadOnly", "email": None, "extra": [1]})
    shown = jwt.decode(token, options={"verify_signature": False})
    assert shown["role"] == "ReadOnly"
    assert shown["extra"] == [1]
    assert "email" not in shown


def test_a_short_secret_of_an_agents_file_works() -> None:
    tokens = authority(secret="s3cret")
    assert tokens.check_access(logged_in(tokens).access_token, NOW).email == "dev@example.test"


def test_rs256_tokens_are_checked_with_the_published_key() -> None:
    tokens = authority(algorithm="RS256")
    token = logged_in(tokens).access_token
    (key,) = tokens.jwks()["keys"]
    assert key.keys() == {"kty", "key_ops", "n", "e", "kid", "use", "alg"}
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": key["kid"]}
    public = RSAAlgorithm.from_jwk(key)
    read = jwt.decode(token, public, algorithms=["RS256"], audience="voisnap", options={"verify_exp": False})
    assert read["sub"] == tokens.check_access(token, NOW).subject


def test_rs256_refuses_a_foreign_key_and_a_key_used_as_a_secret() -> None:
    tokens = authority(algorithm="RS256")
    with pytest.raises(TokenRefused, match=re.escape("jwks.json")):
        tokens.check_access(jwt.encode(claims(), FOREIGN_KEY, algorithm="RS256"), NOW)
    with pytest.raises(TokenRefused, match="takes only RS256"):
        tokens.check_access(signed(), NOW)


def test_hs256_has_no_public_keys() -> None:
    assert authority().jwks() == {"keys": []}


def test_a_refresh_token_works_once_and_a_second_use_ends_the_whole_login() -> None:
    tokens = authority()
    first = logged_in(tokens)
    second = tokens.refresh(first.refresh_token, NOW + 10)
    assert second.refresh_token != first.refresh_token
    assert tokens.check_access(first.access_token, NOW + 10), "the older access token lives on"
    with pytest.raises(TokenRefused, match="used before"):
        tokens.refresh(first.refresh_token, NOW + 20)
    with pytest.raises(TokenRefused, match="login that is over"):
        tokens.refresh(second.refresh_token, NOW + 20)
    for token in (first.access_token, second.access_token):
        with pytest.raises(TokenRefused) as refused:
            tokens.check_access(token, NOW + 20)
        assert refused.value.check is Check.REVOKED
    assert tokens.check_access(logged_in(tokens).access_token, NOW + 20), "another login is not touched"


def test_a_refresh_token_expires() -> None:
    tokens = authority(refresh_ttl=100.0)
    answer = logged_in(tokens)
    with pytest.raises(TokenRefused, match="expired") as refused:
        tokens.refresh(answer.refresh_token, NOW + 100)
    assert refused.value.reason == "auth.refresh_ttl: 100s"


def test_an_unknown_refresh_token_is_refused() -> None:
    with pytest.raises(TokenRefused, match="not one of this server"):
        authority().refresh("rt_made_up", NOW)


def test_a_logout_kills_both_tokens_of_its_login_and_no_other() -> None:
    tokens = authority()
    mine, other = logged_in(tokens), logged_in(tokens)
    tokens.logout(tokens.check_access(mine.access_token, NOW), None, NOW)
    with pytest.raises(TokenRefused, match="login that is over"):
        tokens.check_access(mine.access_token, NOW)
    with pytest.raises(TokenRefused, match="login that is over"):
        tokens.refresh(mine.refresh_token, NOW)
    assert tokens.check_access(other.access_token, NOW)
    assert tokens.refresh(other.refresh_token, NOW)


def test_a_logout_of_a_minted_token_kills_that_token_and_the_named_refresh_token() -> None:
    tokens = authority()
    minted, other = signed(jti="mine"), logged_in(tokens)
    tokens.logout(tokens.check_access(minted, NOW), other.refresh_token, NOW)
    with pytest.raises(TokenRefused, match="revoked"):
        tokens.check_access(minted, NOW)
    with pytest.raises(TokenRefused):
        tokens.refresh(other.refresh_token, NOW)


def test_a_user_taken_out_of_the_file_cannot_refresh() -> None:
    tokens = authority()
    answer = logged_in(tokens)
    tokens.configure(Auth(users=(User("new@example.test", "x"),)))
    with pytest.raises(TokenRefused, match="no longer in the agents file"):
        tokens.refresh(answer.refresh_token, NOW)
    assert tokens.user_of(tokens.check_access(answer.access_token, NOW)).email == "dev@example.test"


def with_mfa() -> tuple[TokenAuthority, MfaChallenge]:
    tokens = authority(users=(User("mfa@example.test", "pw", mfa_secret=MFA_SECRET),))
    challenge = tokens.login("mfa@example.test", "pw", NOW)
    assert isinstance(challenge, MfaChallenge)
    return tokens, challenge


def code_at(moment: float) -> str:
    return totp(MFA_SECRET, moment)


@pytest.mark.parametrize(
    ("moment", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_codes_are_those_of_rfc_6238(moment: int, code: str) -> None:
    assert totp(base64.b32encode(b"12345678901234567890").decode(), moment) == code


@pytest.mark.parametrize("skew", [-30, 0, 30])
def test_mfa_takes_the_code_of_now_and_of_its_neighbours(skew: int) -> None:
    tokens, challenge = with_mfa()
    answer = tokens.verify_mfa(challenge.token, code_at(NOW + skew), NOW)
    assert tokens.check_access(answer.access_token, NOW).email == "mfa@example.test"
    with pytest.raises(TokenRefused, match="mfaToken"):
        tokens.verify_mfa(challenge.token, code_at(NOW), NOW)


def test_five_wrong_codes_end_the_challenge() -> None:
    tokens, challenge = with_mfa()
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(TokenRefused, match=f"{left} attempts are left"):
            tokens.verify_mfa(challenge.token, "000000", NOW)
    with pytest.raises(TokenRefused, match="unknown"):
        tokens.verify_mfa(challenge.token, code_at(NOW), NOW)


def test_a_challenge_expires() -> None:
    tokens, challenge = with_mfa()
    with pytest.raises(TokenRefused, match="five minutes"):
        tokens.verify_mfa(challenge.token, code_at(NOW + MFA_TTL), NOW + MFA_TTL)


def test_an_mfa_secret_that_is_not_base32_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"mfa_secret of user a@b\.c: expected base32"):
        authority(users=(User("a@b.c", "x", mfa_secret="not base32!"),))


def test_api_keys_are_those_of_the_file() -> None:
    tokens = authority(api_keys=("vsnp_sb_dev", "vsnp_live_1"))
    identity = tokens.check_api_key("vsnp_live_1")
    assert (identity.kind, identity.tenant_id) == ("api_key", "ten_dev")
    with pytest.raises(TokenRefused, match=r"auth\.api_keys") as refused:
        tokens.check_api_key("vsnp_live_2")
    assert "vsnp_live_2" not in str(refused.value)


def test_no_repr_shows_a_token() -> None:
    answer = logged_in(authority())
    assert answer.access_token not in repr(answer)
    assert answer.refresh_token not in repr(answer)
    assert with_mfa()[1].token not in repr(with_mfa()[1])


def test_expired_logins_are_forgotten_in_time() -> None:
    tokens = authority(token_ttl=1.0, refresh_ttl=2.0)
    for number in range(3000):
        logged_in(tokens, NOW + number)
    assert len(tokens._grants) <= 1024


# --- WebRTC sessions -------------------------------------------------------------------------------------------------


def session_of(tokens: TokenAuthority, tenant_id: str = "ten_dev", now: float = NOW) -> str:
    return tokens.grant_session("wrtc_1", tenant_id=tenant_id, agent_id="agt_echo", metadata={}, now=now).token


def test_with_its_tenant_a_session_token_is_gone() -> None:
    tokens = authority()
    gone, other = session_of(tokens, "ten_gone"), session_of(tokens)
    tokens.expel("ten_gone")
    with pytest.raises(TokenRefused, match="is not one of this server"):
        tokens.check_session(gone, tenant_id="ten_gone", used_by=None, now=NOW)
    assert tokens.check_session(other, tenant_id="ten_dev", used_by=None, now=NOW).session_id == "wrtc_1"


def test_session_tokens_that_nobody_used_do_not_pile_up_and_one_in_use_stays_good() -> None:
    tokens = authority()
    used, unused = session_of(tokens), session_of(tokens)
    tokens.check_session(used, tenant_id="ten_dev", used_by="conn", now=NOW)
    later = NOW + SESSION_TTL
    for _ in range(2_000):
        session_of(tokens, now=later)
    with pytest.raises(TokenRefused, match="is not one of this server"):
        tokens.check_session(unused, tenant_id="ten_dev", used_by=None, now=later)
    assert tokens.check_session(used, tenant_id="ten_dev", used_by="conn", now=later).session_id == "wrtc_1"
