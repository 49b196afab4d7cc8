"""The table of an agents file: which keys there are, what they may hold, what they are for.

`agents.reading` reads by it and makes the JSON Schema from it. A new key is a row here and a field in
`agents.script`; sections that are somebody else's are handed to `file_with`. What an agent does is in `agents.rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from voisnap_mock.agents import script
from voisnap_mock.agents.combining import Either, Key, ListOf, MappingOf, Reading, Record, Whole
from voisnap_mock.agents.nodes import ListNode, Node, cut, quoted, refuse
from voisnap_mock.agents.rules import RULES, SAY, SCRIPT, excludes, keys_of
from voisnap_mock.agents.script import HOME, AgentScript, AgentsFile
from voisnap_mock.agents.shape import Choice, Duration, Flag, Integer, Note, Number, Only, Shape, Text, did_you_mean
from voisnap_mock.errors import Problem

_FIXED_NAMES = ("userName", "language", "metadata", "message.metadata")

# --- An agent -------------------------------------------------------------------------------------------------

VOICE = Record(
    "voice",
    (
        Key("engine", Choice(("auto", "pyttsx3", "tone", "recording")), "the synthesiser (auto: the best that works)"),
        Key("name", Text(), "a voice of the engine, for espeak en-us, en-us+f3, de, ... (en-us)"),
        Key("rate", Integer(80, 450), "words per minute (175)"),
        Key("volume", Number(0.0, 1.0), "loudness (1.0)"),
        Key("marked", Flag(), "whether its audio carries its words, for decode_speech (false)"),
    ),
    script.Voice,
    place=("line", "column"),
)

TIMING = Record(
    "timing",
    (
        Key("partial_every", Duration("20ms", "1m"), "caller speech between two partial transcripts (300ms)"),
        Key("end_of_turn", Duration("100ms", "1m"), "caller silence that ends an utterance (700ms)"),
        Key("first_audio", Duration("0ms", "10m"), "from the end of the caller's turn to the reply (350ms)"),
        Key("max_idle", Duration("100ms"), "silence of both sides that ends the session (call: 15s, chat: none)"),
        Key("max_duration", Duration("100ms"), "length that ends the session (call: 10m, chat: none)"),
        Key("chat_chunk", Duration("0ms", "1m"), "between two chunks of a chat reply (50ms)"),
        Key("stt_timeout", Duration("10ms", "10m"), "real time in which an utterance must be understood (10s)"),
        Key("idle_grace", Duration("0ms", "10m"), "real time that a virtual clock waits for an idle caller (50ms)"),
    ),
    script.Timing,
)

_BARGE_IN_AFTER = AgentScript("", "").barge_in
BARGE_IN: Shape[float | None] = Either(
    (
        Only(False, None),
        Record(
            "barge-in",
            (Key("after", Duration("20ms", "1m"), "caller speech that stops a reply (200ms)"),),
            lambda after=_BARGE_IN_AFTER: after,
        ),
    )
)


def _check_agent(whole: Whole) -> Iterator[Problem]:
    present = keys_of(whole.node)
    for other in ("replies", "states"):
        if "script" in present and other in present:
            yield whole.problem(other, f'an agent has either "script" or "{other}"')
    states_node = whole.node.get("states")
    states = sorted(keys_of(states_node)) if states_node is not None else []
    if whole.values.get("grammar") == "script":
        # Only who has one pays for this import.
        from voisnap_mock.agents.grammar import grammar_of

        if not grammar_of(_agent(**whole.values)):
            yield whole.problem("grammar", 'no rule here has a "hear" with words: nothing could be understood')
    for note in whole.notes:
        if note.kind == "goto" and note.text not in (*states, HOME):
            hint = did_you_mean(note.text, [*states, HOME]) if states else ": this agent has no states"
            yield Problem(note.node.line, note.node.column, f"there is no state {quoted(note.text)}{hint}")
    yield from _check_templates(whole)


def _check_templates(whole: Whole) -> Iterator[Problem]:
    captures = {note.text: note.node for note in whole.notes if note.kind == "capture"}
    for name in ("metadata", "message", "userName", "language"):
        if name in captures:
            yield Problem(captures[name].line, captures[name].column, f'"{name}" is taken: give the group another name')
    for note in whole.notes:
        is_known = note.text in (*captures, *_FIXED_NAMES) or note.text.startswith(("metadata.", "message.metadata."))
        if note.kind == "template" and not is_known:
            hint = did_you_mean(note.text, [*captures, *_FIXED_NAMES])
            yield Problem(note.node.line, note.node.column, f'nothing sets "{{{{ {cut(note.text)} }}}}"{hint}')


def _agent(**values: object) -> AgentScript:
    return AgentScript(id="", **{"name": "", **values})  # type: ignore[arg-type]


AGENT = Record(
    "agent",
    (
        Key("name", Text(), "what clients see as agentName (the id)"),
        Key("active", Flag(), "false answers AGENT_INACTIVE (true)"),
        Key("greeting", SAY, "said at the start, before the caller says anything"),
        Key("voice", VOICE, "how the agent sounds"),
        Key(
            "hears",
            Choice(("auto", "marks", "recordings", "vosk", "script", "activity")),
            "how the caller is understood (auto)",
        ),
        Key("vosk_model", Text(), "folder of the Vosk model for this agent"),
        Key("grammar", Choice(("open", "script")), "any words, or only what the rules listen for (open)"),
        Key("timing", TIMING, "delays and limits of its sessions"),
        Key("barge_in", BARGE_IN, "whether the caller may interrupt"),
        Key("replies", RULES, "what it answers; the first rule that fits"),
        Key(
            "states",
            MappingOf(Text(rf"^(?!{HOME}$)\S(.*\S)?$", f'a name other than "{HOME}"'), RULES, of="states"),
            "rules that come before the replies while the conversation is in that state",
        ),
        Key("script", SCRIPT, "an exact order of steps; a wrong turn ends the session with reason error"),
    ),
    _agent,
    check=_check_agent,
    narrows={"allOf": [*excludes("script", "replies"), *excludes("script", "states")]},
)


def _named(agents: dict[str, AgentScript], node: Node, notes: list[Note]) -> dict[str, AgentScript]:
    return {key: replace(agent, id=key, name=agent.name or key) for key, agent in agents.items()}


_AGENT_ID = Text("^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$", "an agent's id (letters, digits, _ . -)")

# --- The rest of the file -------------------------------------------------------------------------------------


def _base32(text: str, node: Node, notes: list[Note]) -> str:
    secret = text.replace(" ", "").rstrip("=").upper()
    if len(secret) % 8 not in (0, 2, 4, 5, 7):
        raise refuse(node, "expected a base32 secret: the last character or more is missing")
    return secret


USER = Record(
    "user",
    (
        Key("email", Text(r"^[^@\s]+@[^@\s]+$", "an e-mail address"), "login name", is_required=True),
        Key("password", Text(is_secret=True), "password", is_required=True),
        Key("first_name", Text(), "first name (Dev)"),
        Key("last_name", Text(), "last name (User)"),
        Key("role", Text(), "role in the tenant (TenantOwner)"),
        Key("tenant", Text("^ten_[A-Za-z0-9_-]{1,64}$", 'a tenant id such as "ten_dev"'), "tenant (ten_dev)"),
        Key(
            "mfa_secret",
            Reading(Text("^[A-Za-z2-7 ]{16,}=*$", "a base32 secret", is_secret=True), _base32),
            "base32 TOTP secret; with it a login needs a second step",
        ),
    ),
    script.User,
)


def _different(users: tuple[script.User, ...], node: Node, notes: list[Note]) -> tuple[script.User, ...]:
    assert isinstance(node, ListNode)
    known: set[str] = set()
    for user, where in zip(users, node.items, strict=True):
        if user.email.casefold() in known:
            raise refuse(where, f"there is already a user {quoted(user.email)}")
        known.add(user.email.casefold())
    return users


AUTH = Record(
    "auth",
    (
        Key("users", Reading(ListOf(USER, least=1, of="users"), _different), "who may log in (dev@example.test)"),
        Key("algorithm", Choice(("HS256", "RS256")), "how access tokens are signed (HS256)"),
        Key(
            "secret",
            Text(is_secret=True),
            "the HS256 key (the published one, so that anyone may mint tokens)",
        ),
        Key("token_ttl", Duration("1s", "365d"), "life of an access token (1h)"),
        Key("refresh_ttl", Duration("1s", "365d"), "life of a refresh token (14d)"),
        Key(
            "api_keys",
            ListOf(Text("^vsnp_(live|sb)_[A-Za-z0-9_-]+$", "an API key (vsnp_live_..., vsnp_sb_...)", is_secret=True)),
            "keys that REST accepts (vsnp_sb_dev)",
        ),
    ),
    script.Auth,
)

LIMITS = Record(
    "limits",
    (
        Key("max_sessions", Integer(0), "live sessions; one more gets SESSION_LIMIT_REACHED (no limit)"),
        Key("max_message_bytes", Integer(1024, 16 * 2**20), "size of one hub message of a client (32768)"),
        Key("max_utterance", Duration("1s", "10m"), "speech after which an utterance ends by itself (30s)"),
        Key("journal_entries", Integer(1), "entries that the journal keeps (50000)"),
        Key("journal_bytes", Integer(1024), "bytes that the journal keeps (33554432)"),
        Key(
            "rate_limits",
            Choice(("off", "starter", "professional", "business")),
            "the plan whose rate limits count (off)",
        ),
    ),
    script.Limits,
)

FIDELITY = Record(
    "fidelity",
    (
        Key("auth_failure", Choice(("http_401", "error_event")), "a bad token on a hub (http_401)"),
        Key("on_token_expiry", Choice(("ignore", "error")), "a token that expires in mid-session (ignore)"),
        Key("chat_chunks", Choice(("cumulative", "delta", "off")), "how a chat reply is cut (cumulative)"),
        Key("resume_window", Duration("0s", "1d"), "real time that a dropped session waits for its client (30s)"),
        Key("mock_in_metadata", Choice(("allow", "forbid")), "faults in a connection's metadata, as $mock (allow)"),
    ),
    script.Fidelity,
)

_ICE_URL = Text(r"^(stuns?|turns?):[^\s?/]+(\?transport=(udp|tcp))?$", 'a URL such as "stun:127.0.0.1:3478"')

ICE_SERVER = Record(
    "ICE server",
    (
        Key("urls", ListOf(_ICE_URL, least=1, of="urls"), "stun: and turn: URLs", is_required=True),
        Key("username", Text(), "for TURN"),
        Key("credential", Text(is_secret=True), "for TURN"),
    ),
    script.IceServer,
)

_ADDRESS = Text(r"^(\d{1,3}(\.\d{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$", 'an IP address such as "127.0.0.1"')

WEBRTC = Record(
    "webrtc",
    (
        Key("ice_servers", ListOf(ICE_SERVER, of="ICE servers"), "what WebRTC sessions hand to clients (none)"),
        Key("stun", Flag(), "answer STUN here, and hand that to clients too (false)"),
        Key("hosts", ListOf(_ADDRESS, of="addresses"), "addresses to be reached at (loopback and all of the machine)"),
        Key(
            "announced",
            ListOf(_ADDRESS, of="addresses"),
            "what answers call them instead, where ports are published",
        ),
    ),
    script.WebRtc,
)

_KEYS: tuple[Key, ...] = (
    Key("version", Only(1, None), "version of this format: 1", into="_version"),
    Key("seed", Integer(0), "where ids, choices and draws come from (0)"),
    Key("auth", AUTH, "users and tokens"),
    Key("limits", LIMITS, "limits"),
    Key("fidelity", FIDELITY, "switches for what the documentation of the real service leaves open"),
    Key("webrtc", WEBRTC, "where media over WebRTC goes"),
    Key(
        "agents",
        Reading(MappingOf(_AGENT_ID, AGENT, least=1, of="agent ids and agents"), _named),
        "the agents, by id",
        is_required=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Sections:
    """Keys of an agents file that are not about agents: what they hold is read by the shapes that come with them.

    Attributes:
        check: looks at the whole file, for what these sections and the agents say of each other.
    """

    keys: tuple[Key, ...] = ()
    check: Callable[[Whole], Iterator[Problem]] | None = None


NO_SECTIONS = Sections()


def file_with(sections: Sections) -> Record[AgentsFile]:
    """The whole file; what `sections` read is `AgentsFile.sections`, by key."""
    names = {key.name for key in sections.keys}

    def make(_version: None = None, **values: Any) -> AgentsFile:
        others = {name: values.pop(name) for name in names & values.keys()}
        return AgentsFile(**values, sections=others)

    return Record("agents file", (*_KEYS, *sections.keys), make, check=sections.check)
