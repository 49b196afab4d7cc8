"""What the control API takes and gives, as models: requests are checked by them, and the OpenAPI document shows them.

Times `t`, `begin` and `end` are seconds of call time.
"""

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from voisnap_mock.agents.script import EndReason

Item = TypeVar("Item")
Channel = Literal["voice", "chat", "webrtc"]
Clock = Literal["real", "4x", "virtual"]
Duration = Annotated[str, Field(examples=["2s", "300ms"])]


class Body(BaseModel):
    """A request body: types are not guessed, and a member that is misspelt must not do nothing."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _can_be_said_again(cls, given: Any) -> Any:
        try:
            msgspec.json.encode(given)
        except UnicodeEncodeError:
            raise ValueError("a text in it has half of a surrogate pair, which is no character") from None
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        return given


class ListOf(BaseModel, Generic[Item]):
    data: list[Item]


class Problem(BaseModel):
    """Every error, as RFC 7807."""

    type: str
    title: str
    status: int
    detail: str
    traceId: str
    errors: dict[str, list[str]] | None = None


# --- Server -----------------------------------------------------------------------------------------------------------


class Alive(BaseModel):
    status: Literal["alive"]


class Readiness(BaseModel):
    status: Literal["ready", "not ready"]
    waiting_for: list[str]


class Info(BaseModel):
    version: str
    urls: dict[str, str | None]
    tenants: list[str]
    uptimeSeconds: float
    agents: str
    ears: Any
    voices: Any


class CoverageReport(BaseModel):
    """Counts by name; `counts` are all of them, as `voisnap-mock coverage` adds them up."""

    methods: dict[str, int]
    events: dict[str, int]
    errors: dict[str, int]
    endReasons: dict[str, int]
    transports: dict[str, int]
    faultPoints: dict[str, int]
    unusedHubs: list[str]
    percent: float
    counts: dict[str, dict[str, int]]


class Emulated(BaseModel):
    """A behaviour of the mock, and what it stands on."""

    area: str
    subject: str
    does: str
    ground: Literal["documented", "observed", "assumed"]
    basis: str
    switch: str | None
    places: list[str]


class ClockCall(BaseModel):
    id: str
    t: float


class ClockState(BaseModel):
    mode: Clock
    calls: list[ClockCall]


class Advance(Body):
    """Let call time pass, for all live calls of the tenant or for one."""

    advance: Duration
    call: str | None = None


# --- Tenants and agents -----------------------------------------------------------------------------------------------


class NewTenant(Body):
    """What a tenant is to have of its own; without, it has what the server has.

    `agents` is an agents file, as an object or as YAML text; `faults` are as for `POST faults`.
    """

    agents: dict[str, Any] | str | None = None
    faults: dict[str, Any] | list[Any] | str | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    clock: Clock | None = None
    limits: dict[str, Any] | None = None


class MadeTenant(BaseModel):
    """A tenant and the credentials of its user."""

    tenantId: str
    accessToken: str
    refreshToken: str
    email: str
    password: str
    apiKey: str


class LoadedAgents(BaseModel):
    """The agents as the service shows them, each with `mock`, its script."""

    data: list[dict[str, Any]]
    source: str
    notes: list[str]


class ResetState(BaseModel):
    tenantId: str
    source: str
    agents: list[str]


# --- Faults -----------------------------------------------------------------------------------------------------------


class FaultReport(BaseModel):
    """A rule and what became of it; `nearMiss` says of one that never fired what came nearest."""

    id: str
    rule: dict[str, Any]
    armed: bool
    fired: int
    nearMiss: str | None


class ArmedFaults(BaseModel):
    """`token` replays the faults of the tenant at the same places, wherever rules can be given."""

    data: list[FaultReport]
    token: str


class ScheduleState(BaseModel):
    name: str
    running: bool
    schedule: Any


# --- Calls ------------------------------------------------------------------------------------------------------------


class CallFacts(BaseModel):
    id: str
    agentId: str
    tenantId: str
    channel: Channel
    status: Literal["live", "waiting", "ended"]
    clock: Clock
    startedAt: str | None
    durationSeconds: float | None
    reason: EndReason | None


class Said(BaseModel):
    """Somebody said something; of a chat message, `begin` and `end` are equal."""

    who: Literal["agent", "caller"]
    text: str
    begin: float
    end: float
    confidence: float | None = None
    ear: str | None = None
    interrupted: bool | None = None


class Push(Body):
    """A hub event by hand."""

    target: Annotated[str, Field(min_length=1, max_length=200)]
    arguments: Annotated[list[Any], Field(max_length=20)] = []


class Hangup(Body):
    reason: EndReason = Field(default=EndReason.AGENT_ENDED, strict=False)


# --- Journal ----------------------------------------------------------------------------------------------------------


class Entry(BaseModel):
    """A journal entry; further members depend on `kind`."""

    model_config = ConfigDict(extra="allow")

    seq: int
    at: float
    t: float | None
    tenantId: str | None
    callId: str | None
    kind: str


class ExpectedEvent(Body):
    """`kind`, `target`, `text`, or several of them; `within` is counted from the event before."""

    kind: str | None = None
    target: str | None = None
    text: str | None = None
    count: Annotated[int, Field(ge=0)] | None = None
    within: Duration | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.kind is None and self.target is None and self.text is None:
            raise ValueError("kind, target or text is expected, none of them came")
        return self


class Verification(Body):
    call: str | None = None
    ordered: bool = True
    events: list[ExpectedEvent]


class VerificationFailure(BaseModel):
    """`index` is the place of the event in the list, from 0."""

    index: int
    message: str
    nearest: Entry | None


class Verified(BaseModel):
    ok: bool
    failures: list[VerificationFailure]


class LintNote(BaseModel):
    """What a client does that the service may not like; `t` and `message` are of the first time."""

    callId: str | None
    rule: str
    message: str
    t: float | None
    count: int
