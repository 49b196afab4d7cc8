"""Fault rules as values: at a point, when it matches, do something, this often. And the table of points.

A *point* is a named place where something crosses from one part of the service to another. What may be done at which
point is `POINTS`, and nothing else says so: reading, help texts and the README's table are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from voisnap_mock.faults.draws import mix

# --- What is done ---------------------------------------------------------------------------------------------

CODES: Mapping[str, bool] = {
    "AGENT_NOT_FOUND": False,
    "AGENT_INACTIVE": False,
    "AUTH_FAILED": False,
    "SESSION_LIMIT_REACHED": False,
    "STT_PROVIDER_TIMEOUT": True,
    "LLM_PROVIDER_ERROR": True,
    "RECONNECT_FAILED": False,
}
"""The documented error codes, and whether a session survives each of them by default.

Source: Documented codes (real-time overview); Assumed which of them are recoverable.
"""


@dataclass(frozen=True, slots=True)
class Fail:
    """The client gets the `Error` event; the session ends with reason `error` unless it is recoverable.

    Attributes:
        recoverable: None is the code's default of `CODES`; an undocumented one is not.
    """

    code: str
    message: str | None = None
    recoverable: bool | None = None

    @property
    def is_recoverable(self) -> bool:
        return CODES.get(self.code, False) if self.recoverable is None else self.recoverable


@dataclass(frozen=True, slots=True)
class Answer:
    """The request is answered with this HTTP status instead; `retry_after` in seconds."""

    status: int
    retry_after: float | None = None


class Cut(StrEnum):
    """How a connection is lost.

    RESET: a TCP reset. CLOSE: the transport is closed without a Close message: clients reconnect. CLOSE_NO_RECONNECT: a
    Close message that forbids it. STALL: nothing is read or written any more. HALF_OPEN: the server has lost the
    connection, the client's socket stays open and silent.
    """

    RESET = "reset"
    CLOSE = "close"
    CLOSE_NO_RECONNECT = "close_no_reconnect"
    STALL = "stall"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection is lost, in one of the ways of `Cut`."""

    how: Cut


@dataclass(frozen=True, slots=True)
class Gap:
    """Every `every` seconds, nothing for `length` seconds."""

    every: float
    length: float


@dataclass(frozen=True, slots=True)
class Impair:
    """A bad line: audio frames of 20 ms are lost, late, doubled, out of order, or sound wrong. Seeded.

    Attributes:
        loss: share of frames lost, 0..1, in bursts of `burst` frames on the average.
        jitter: frames are late by 0 to so many seconds.
        reorder, duplicate: share of frames, 0..1.
        drift_ppm: the line's clock runs fast (positive) or slow by so many millionths.
        gain_db: louder or quieter; clip: samples are cut at this share of full scale, 0..1.
    """

    loss: float = 0.0
    burst: float = 1.0
    jitter: float = 0.0
    gap: Gap | None = None
    reorder: float = 0.0
    duplicate: float = 0.0
    drift_ppm: float = 0.0
    gain_db: float = 0.0
    clip: float = 1.0


class Framing(StrEnum):
    """What happens to a hub message on the wire.

    FRAGMENT: its bytes come in several transport frames. COALESCE: it waits for the next one and shares its frame.
    CORRUPT: its bytes are damaged. DUPLICATE: it comes twice. SWALLOW: it never comes. REORDER: it comes after the next
    one. LATE_PING: keep-alive pings stop. MISSING_COMPLETION: the invocation is carried out and never answered.
    """

    FRAGMENT = "fragment"
    COALESCE = "coalesce"
    CORRUPT = "corrupt"
    DUPLICATE = "duplicate"
    SWALLOW = "swallow"
    REORDER = "reorder"
    LATE_PING = "late_ping"
    MISSING_COMPLETION = "missing_completion"


@dataclass(frozen=True, slots=True)
class Frames:
    """A hub message is mistreated on the wire."""

    how: Framing


@dataclass(frozen=True, slots=True)
class Slow:
    """It comes so many seconds later; what follows on the same way waits behind it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing comes: nothing is understood, nothing is said, the audio is silent."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Something else comes: the text understood, said or spoken; the payload of an event."""

    value: Any


Action = Fail | Answer | Drop | Impair | Frames | Slow | Silence | Replace

# --- Where it is done -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """One injection point.

    Attributes:
        name: with a placeholder where there are many: `event.<Name>`.
        actions: what may be done there.
        summary: what crosses there, for people.
    """

    name: str
    actions: tuple[type[Action], ...]
    summary: str


POINTS: tuple[Point, ...] = (
    Point("login", (Answer, Slow, Drop), "POST /api/v1/auth/login"),
    Point("http.<METHOD> <path>", (Answer, Slow, Drop), "any other REST request"),
    Point("negotiate", (Answer, Slow, Drop), "a hub's negotiate, and an upgrade without one"),
    Point("handshake", (Slow, Drop, Frames), "the SignalR handshake of a connection"),
    Point("connect", (Fail, Slow, Drop), "a connection asks for a session"),
    Point("start", (Fail, Slow, Drop), "the session begins"),
    Point("stt", (Fail, Slow, Silence, Replace, Drop), "what the caller said is understood"),
    Point("llm", (Fail, Slow, Silence, Replace, Drop), "the agent decides on its answer, in voice and chat"),
    Point("tts", (Fail, Slow, Silence, Replace, Drop), "a text becomes speech"),
    Point("audio.in", (Impair, Silence, Slow, Fail, Drop), "20 ms of caller audio"),
    Point("audio.out", (Impair, Silence, Slow, Fail, Drop), "20 ms of agent audio"),
    Point("method.<Name>", (Fail, Slow, Frames, Drop), "the client calls a hub method"),
    Point("event.<Name>", (Fail, Slow, Frames, Replace, Drop), "a hub event to the client"),
    Point("reconnect", (Fail, Slow, Drop), "a session is resumed, or RequestReconnectionAsync"),
    Point("end", (Slow, Silence, Drop), "the session ends: SessionEnded and the close"),
    Point("sdp", (Fail, Slow, Silence, Replace, Drop), "a WebRTC offer is answered"),
    Point("ice", (Slow, Frames, Replace), "an ICE candidate, either way"),
)

METHODS = (
    "CancelAsync",
    "EndSessionAsync",
    "RequestReconnectionAsync",
    "SendAudioAsync",
    "SendDtmfAsync",
    "SendIceCandidateAsync",
    "SendMessageAsync",
    "SendOfferAsync",
    "TypingAsync",
)
"""What clients call, for `method.<Name>`."""

EVENTS = (
    "AudioReceived",
    "ConversationEnded",
    "Error",
    "IceCandidateReceived",
    "MessageReceived",
    "Reconnected",
    "SdpAnswerReceived",
    "SessionEnded",
    "SessionStarted",
    "Transcription",
    "TranscriptionOf",
    "TransferInitiated",
    "TypingIndicator",
)
"""What the service sends, for `event.<Name>`; scripts may push others."""

VERBS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

OUTSIDE = ("login", "http", "negotiate", "handshake", "connect")
"""Points that are crossed before there is a session: no turn, no call time, no text, no audio."""


def family(point: str) -> Point | None:
    """The row of `POINTS` that a point belongs to, such as `event.<Name>` for `event.Transcription`."""
    return _FAMILIES.get(_first_word(point))


def _first_word(point: str) -> str:
    """`event` of `event.Transcription`; `audio.in` is one word."""
    return point if point.startswith("audio.") else point.split(".", 1)[0]


_FAMILIES = {_first_word(point.name): point for point in POINTS}

# --- When and how often ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class When:
    """Which crossings match; None is no condition, all of it must hold.

    Attributes:
        agent, tenant, channel, target: equal to the crossing's. `target` is a hub method or event.
        turn: number of the caller's turn, from 1: a final transcript or chat message, also when it failed.
        text: found in what is said or understood, without regard to case.
        call_after: from this call time on, in seconds.
        audio_after: when so much audio has crossed this point in this session, in seconds.
    """

    agent: str | None = None
    tenant: str | None = None
    channel: Literal["voice", "chat", "webrtc"] | None = None
    turn: int | None = None
    target: str | None = None
    text: str | None = None
    call_after: float | None = None
    audio_after: float | None = None


@dataclass(frozen=True, slots=True)
class FaultRule:
    """At one of `at`, when `when` holds, do `do`; skipping the first `skip` matches, then `times` times.

    Attributes:
        id: unique within a tenant.
        after: seconds of call time (outside a session: of real time) before a Fail or Drop takes place.
        every: of the matches of a session, only each so-manieth.
        rate: of the matches of a session, this share, drawn by seed, rule, session and count alone.
        lasts: seconds of call time after its first firing in a session, after which it is over there (`for` in a file).
        per: whose matches `times` and `skip` count: all of the tenant, or each session's own.
        line: where it stands in its file, from 1; 0 when it comes from no file.

    An id may be left empty: the plan that arms the rule gives it one.
    """

    id: str
    at: tuple[str, ...]
    do: Action
    when: When = When()
    after: float = 0.0
    times: int | None = None
    skip: int = 0
    every: int = 1
    rate: float = 1.0
    lasts: float | None = None
    per: Literal["tenant", "session"] = "tenant"
    line: int = field(default=0, compare=False)

    @property
    def is_exclusive(self) -> bool:
        """At one crossing no other such rule fires after this one: only delays and bad lines add up."""
        return not isinstance(self.do, Slow | Impair)

    @property
    def draws(self) -> bool:
        """Chance has a say in when it fires or in what it does."""
        return self.rate < 1.0 or isinstance(self.do, Impair) or self.do == Frames(Framing.CORRUPT)


@dataclass(frozen=True, slots=True)
class Phase:
    """Part of a schedule: for `seconds`, the rules named in `use` are armed."""

    seconds: float
    use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """Phases, one after the other; after the last one it is over, or begins anew."""

    name: str
    phases: tuple[Phase, ...]
    loop: bool = False


@dataclass(frozen=True, slots=True)
class Faults:
    """What one text says: rules, schedules, and the seed of the draws when the text fixes it."""

    rules: tuple[FaultRule, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    seed: int | None = None


# --- What crosses ---------------------------------------------------------------------------------------------


class Crossing(NamedTuple):
    """One crossing of a point, as far as rules may ask about it. A tuple: a call with bad audio makes fifty a second.

    Attributes:
        t: call time in seconds; outside a session real time since the server began.
        session: id of the session; empty outside of one.
        audio: seconds of audio that have crossed here before in this session.
    """

    point: str
    t: float = 0.0
    session: str = ""
    agent: str | None = None
    channel: str | None = None
    turn: int = 0
    target: str | None = None
    text: str | None = None
    audio: float = 0.0


class Verdict(NamedTuple):
    """One rule that fires at a crossing; `seed` and `number` say which of its firings it is."""

    rule: FaultRule
    seed: int = 0
    number: int = 0

    @property
    def draw(self) -> int:
        """A seed of this firing's own, for actions that draw (`Impair`, corruption)."""
        return mix(self.seed, -self.number)

    @property
    def message(self) -> str:
        """What a client is told of a failure; whoever looks into its log sees at once that it was on purpose."""
        given = self.rule.do.message if isinstance(self.rule.do, Fail) else None
        return given or f"the fault {self.rule.id!r} of the mock"
