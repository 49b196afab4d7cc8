"""What an agents file says, as values. `agents.reading` makes them, `agents.dialogue` plays them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

HOME = "replies"
"""What `goto` names to lead out of every state."""

DEFAULT_TENANT = "ten_dev"

Hears = Literal["auto", "marks", "recordings", "vosk", "script", "activity"]


class EndReason(StrEnum):
    """Why a session is over.

    Source: Documented for `user_ended`, `timeout` and `transfer_complete` as a client's reasons (VoiceHub page);
    the others are Assumed, the page shows no server-side reason.
    """

    USER_ENDED = "user_ended"
    TIMEOUT = "timeout"
    TRANSFER_COMPLETE = "transfer_complete"
    AGENT_ENDED = "agent_ended"
    MAX_DURATION = "max_duration"
    IDLE_TIMEOUT = "idle_timeout"
    DISCONNECTED = "disconnected"
    ERROR = "error"
    SERVER_SHUTDOWN = "server_shutdown"


@dataclass(frozen=True, slots=True)
class Voice:
    """How an agent sounds.

    Attributes:
        engine: which synthesiser; `auto` is the best one that works here.
        name: a voice of that engine, for espeak `en-us`, `en-us+f3`, `de` ...
        rate: words per minute, 80 to 450.
        volume: 0.0 to 1.0.
        marked: its audio carries its words, so that a client's playback can be decoded.
        line, column: where it stands in its file, from 1; 0 when it is not from a file.
    """

    engine: Literal["auto", "pyttsx3", "tone", "recording"] = "auto"
    name: str = "en-us"
    rate: int = 175
    volume: float = 1.0
    marked: bool = False
    line: int = field(default=0, compare=False, repr=False)
    column: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays and limits of a session, in seconds of call time.

    Attributes:
        partial_every: caller speech between two partial transcripts.
        end_of_turn: caller silence that ends an utterance.
        first_audio: from the end of the caller's turn to the first audio of the reply.
        max_idle: silence of both sides that ends the session; None is 15 s for a call and no limit for a chat.
        max_duration: length that ends the session; None is 10 min for a call and no limit for a chat.
        chat_chunk: between two chunks of a chat reply.
        stt_timeout: real time within which an ear must have understood an utterance that is over.
        idle_grace: real time after which, on a virtual clock, the agent no longer waits for an idle caller.

    Source: Assumed, all but the two limits of a call; no page has numbers for the others.
    """

    partial_every: float = 0.3
    end_of_turn: float = 0.7
    first_audio: float = 0.35
    max_idle: float | None = None
    max_duration: float | None = None
    chat_chunk: float = 0.05
    stt_timeout: float = 10.0
    idle_grace: float = 0.05

    @property
    def call_max_idle(self) -> float:
        """Source: Documented as the sample value of `maxIdleTimeSeconds` (agents page)."""
        return 15.0 if self.max_idle is None else self.max_idle

    @property
    def call_max_duration(self) -> float:
        """Source: Documented as the sample value of `maxDurationSeconds` (agents page)."""
        return 600.0 if self.max_duration is None else self.max_duration


# --- What an agent does ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """Speak `text`; with `wav`, play that prompt (relative to `recordings/`) and show `text` as what it says.

    Attributes:
        text: may hold templates: `{{ name }}`.
        line, column: where `wav` stands in its file, from 1; 0 when there is none.
    """

    text: str
    wav: str | None = None
    line: int = field(default=0, compare=False, repr=False)
    column: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Say nothing for `seconds` of call time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PushEvent:
    """Send the client the hub event `name` with `payload` as its one argument; texts in it may hold templates."""

    name: str
    payload: Any = None


@dataclass(frozen=True, slots=True)
class CallTool:
    """Pretend to call a tool: journaled with `result`, takes `took` seconds of call time."""

    name: str
    result: Any = None
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class FailWith:
    """Show the client an error; one that is not `recoverable` comes with the end of the session. In no file."""

    code: str
    message: str
    recoverable: bool


Action = Say | Pause | PushEvent | CallTool | FailWith


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand the caller to somebody else; the session then ends with `transfer_complete`."""

    to: str
    type: Literal["warm", "cold"] = "warm"
    summary: str = ""


# --- When it does it ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hear:
    """The caller said any of these.

    Attributes:
        phrases: words or phrases; case and punctuation do not matter, whole words only.
        patterns: regular expressions, searched; named groups become variables of the session.
    """

    phrases: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed these keys, `0-9 * #`, one after the other."""

    digits: str


@dataclass(frozen=True, slots=True)
class Silence:
    """The caller has been silent for `after` seconds of call time; once per silence."""

    after: float


@dataclass(frozen=True, slots=True)
class Otherwise:
    """The caller said something that no other rule took."""


Trigger = Hear | Dtmf | Silence | Otherwise


@dataclass(frozen=True, slots=True)
class When:
    """The rule counts only for these sessions; all of it must hold.

    Attributes:
        language: any of these language tags; `de` also covers `de-AT`. Empty: any language.
        metadata: for each dotted path the values that fit, compared as JSON values. A message's own metadata is
            looked at first, then the connection's.
    """

    language: tuple[str, ...] = ()
    metadata: dict[str, tuple[str | int | float | bool | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """When one of `triggers` happens, do one of `alternatives` (in turn), then `goto`, `transfer` or `end`.

    A step of a strict script may have no trigger: it follows the step before it at once.

    Attributes:
        line: where the rule stands in its file, from 1; 0 when it comes from no file.
    """

    triggers: tuple[Trigger, ...] = ()
    alternatives: tuple[tuple[Action, ...], ...] = ((),)
    goto: str | None = None
    transfer: Transfer | None = None
    end: EndReason | None = None
    when: When | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class AgentScript:
    """One agent. Either `replies` and `states`, or a strict `script`.

    Attributes:
        barge_in: seconds of caller speech that stop a reply; None when the caller cannot interrupt.
        grammar: with `script` Vosk understands only what the rules listen for.

    Source: Assumed, `barge_in`: the agents page has `interruption`, and no number.
    """

    id: str
    name: str
    active: bool = True
    greeting: tuple[Action, ...] = ()
    voice: Voice = Voice()
    hears: Hears = "auto"
    vosk_model: str | None = None
    grammar: Literal["open", "script"] = "open"
    timing: Timing = Timing()
    barge_in: float | None = 0.2
    replies: tuple[Rule, ...] = ()
    states: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    script: tuple[Rule, ...] | None = None

    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order of the file's sections."""
        of_states = (rule for rules in self.states.values() for rule in rules)
        return (*self.replies, *of_states, *(self.script or ()))


# --- The rest of the file -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in.

    Attributes:
        mfa_secret: base32 TOTP secret; with it a login needs a second step.
    """

    email: str
    password: str = field(repr=False)
    first_name: str = "Dev"
    last_name: str = "User"
    role: str = "TenantOwner"
    tenant: str = DEFAULT_TENANT
    mfa_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """How tokens are made. Lives are in seconds."""

    users: tuple[User, ...] = (User("dev@example.test", "dev"),)
    algorithm: Literal["HS256", "RS256"] = "HS256"
    secret: str = field(default="voisnap-mock-development-secret-never-for-production", repr=False)
    token_ttl: float = 3600.0
    refresh_ttl: float = 14 * 86400.0
    api_keys: tuple[str, ...] = field(default=("vsnp_sb_dev",), repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits; None is no limit.

    Attributes:
        max_message_bytes: of one hub message from a client, separator included.
        max_utterance: seconds of speech after which an utterance ends by itself.

    Source: Observed, `max_message_bytes` is the default of ASP.NET Core; Assumed that nothing else is limited unless
    asked for.
    """

    max_sessions: int | None = None
    max_message_bytes: int = 32_768
    max_utterance: float = 30.0
    journal_entries: int = 50_000
    journal_bytes: int = 32 * 1024 * 1024
    rate_limits: Literal["off", "starter", "professional", "business"] = "off"


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Switches for behaviour that the documentation leaves open; the defaults are this project's best guess."""

    auth_failure: Literal["http_401", "error_event"] = "http_401"
    on_token_expiry: Literal["ignore", "error"] = "ignore"
    chat_chunks: Literal["cumulative", "delta", "off"] = "cumulative"
    resume_window: float = 30.0
    mock_in_metadata: Literal["allow", "forbid"] = "allow"


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server that clients are told to use."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class WebRtc:
    """Where media over WebRTC goes.

    Attributes:
        ice_servers: what sessions hand to clients. The server itself uses none.
        stun: answer STUN on a port of this server, and hand that to clients too.
        hosts: addresses of this machine to be reached at; empty: loopback and all of them.
        announced: addresses to name in answers instead, when ports are published under another one.
    """

    ice_servers: tuple[IceServer, ...] = ()
    stun: bool = False
    hosts: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentsFile:
    """A whole agents file, checked.

    Attributes:
        sections: what it says besides, by key, as whoever brought the key has read it.
    """

    agents: dict[str, AgentScript]
    seed: int = 0
    auth: Auth = Auth()
    limits: Limits = Limits()
    fidelity: Fidelity = Fidelity()
    webrtc: WebRtc = WebRtc()
    sections: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="built-in agents", compare=False)

    def prompts(self) -> Iterator[Prompt]:
        """Every recording that an agent plays, and the place that names it. Whether it exists is not known here."""
        for agent in self.agents.values():
            rules = (
                *agent.replies,
                *(rule for state in agent.states.values() for rule in state),
                *(agent.script or ()),
            )
            spoken = (agent.greeting, *(actions for rule in rules for actions in rule.alternatives))
            for action in (action for actions in spoken for action in actions):
                if isinstance(action, Say) and action.wav is not None:
                    yield Prompt(action.wav, action.line, action.column)


class Prompt(NamedTuple):
    """A recording that an agents file names: path below `recordings/`, and where the file says so."""

    wav: str
    line: int
    column: int
