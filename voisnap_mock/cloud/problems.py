"""Error answers over HTTP, as RFC 7807 problem details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from voisnap_mock.errors import VoisnapMockError

CONTENT_TYPE = "application/problem+json"
REASON_HEADER = "X-Voisnap-Mock-Reason"
"""Says that the mock's own configuration, not the request alone, caused an answer, and which part of it."""

_KINDS: Mapping[int, tuple[str, str]] = {
    400: ("bad-request", "Bad Request"),
    401: ("unauthorized", "Unauthorized"),
    403: ("forbidden", "Forbidden"),
    404: ("not-found", "Resource Not Found"),
    405: ("method-not-allowed", "Method Not Allowed"),
    409: ("conflict", "Conflict"),
    413: ("payload-too-large", "Payload Too Large"),
    415: ("unsupported-media-type", "Unsupported Media Type"),
    422: ("validation-failed", "Validation Failed"),
    429: ("rate-limit-exceeded", "Rate Limit Exceeded"),
    500: ("internal-error", "Internal Server Error"),
    503: ("service-unavailable", "Service Unavailable"),
}


@dataclass(frozen=True, slots=True)
class ProblemDetails:
    """What went wrong with one request.

    Attributes:
        status: the HTTP status; it decides `type` and `title`.
        detail: what was found, what was expected, and the next step. Never a credential.
        errors: for 422, each wrong field and what is wrong with it.
        reason: which part of the mock's configuration caused it, for the header `X-Voisnap-Mock-Reason`.
        headers: further headers of the answer.

    Source: Documented for the five members and the slugs `not-found` and `rate-limit-exceeded` (API overview and
    rate-limit pages). Assumed: the other slugs, the content type that RFC 7807 registers, and `errors` by field, as
    ASP.NET Core shows validation problems.
    """

    status: int
    detail: str
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, trace_id: str) -> bytes:
        slug, title = _KINDS.get(self.status, (f"http-{self.status}", f"HTTP {self.status}"))
        shown: dict[str, object] = {
            "type": f"https://docs.voisnap.ai/errors/{slug}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "traceId": trace_id,
        }
        if self.errors:
            shown["errors"] = {name: list(texts) for name, texts in self.errors.items()}
        return msgspec.json.encode(shown)

    def all_headers(self) -> dict[str, str]:
        """The headers of the answer besides its content type."""
        headers = dict(self.headers)
        if self.status == 401:
            headers.setdefault("WWW-Authenticate", "Bearer")
        if self.reason is not None:
            headers[REASON_HEADER] = header_text(self.reason)
        return headers


class RequestRefused(VoisnapMockError):
    """A request ends with this problem."""

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def header_text(text: str) -> str:
    """`text` on one line and in ASCII, as a header value needs it."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()
