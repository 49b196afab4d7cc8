"""What the mock does like the service, and on whose word: the one register of emulated behaviour.

Each behaviour stands on a page of the documentation, on what ASP.NET Core's own SignalR was seen to do, or on an
assumption, with its reason and, where there is one, the switch that changes it. The code says the same where it does
it: in a docstring with `Source:`. `places` name these docstrings, and a test keeps both together: every `Source:` of a
behaviour is registered here, with the same word.

A new one: write `Source: Documented, PAGE.` or `Source: Assumed, WHY.` into the docstring, and a `Behaviour` here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Ground = Literal["documented", "observed", "assumed"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing that the mock does.

    Attributes:
        subject: what it is about, in few words.
        does: what happens here.
        ground: what that stands on.
        basis: the page, or the reason.
        places: where the code says so, as `module:qualified name` below the package, or `module` alone.
        switch: what changes it: a key of the agents file, a flag; empty when nothing does.
    """

    subject: str
    does: str
    ground: Ground
    basis: str
    places: tuple[str, ...]
    switch: str = ""

    def as_object(self) -> dict[str, Any]:
        """As `fidelity --json` and the control API show it."""
        return {
            "subject": self.subject,
            "does": self.does,
            "ground": self.ground,
            "basis": self.basis,
            "switch": self.switch or None,
            "places": list(self.places),
        }


def _documented(subject: str, does: str, page: str, *places: str, switch: str = "") -> Behaviour:
    return Behaviour(subject, does, "documented", page, places, switch)


def _observed(subject: str, does: str, what: str, *places: str, switch: str = "") -> Behaviour:
    return Behaviour(subject, does, "observed", what, places, switch)


def _assumed(subject: str, does: str, why: str, *places: str, switch: str = "") -> Behaviour:
    return Behaviour(subject, does, "assumed", why, places, switch)


AREAS: dict[str, tuple[Behaviour, ...]] = {
    "Logging in": (
        _documented(
            "credentials",
            "REST takes a JWT or an API key as Bearer; hubs take JWTs alone",
            "authentication; real-time overview",
            "cloud.door:Door.admit",
            "cloud.tokens:TokenAuthority",
        ),
        _documented("login", "`POST /api/v1/auth/login` gives a JWT", "real-time overview", "cloud.rest:_routes"),
        _assumed(
            "login, refresh, logout, MFA",
            "bodies, claims, lives and rotation as in [Logging in](#logging-in)",
            "the pages end before they show any of it",
            "cloud.rest:_routes",
            "cloud.tokens:TokenAuthority",
            switch="`auth`",
        ),
        _documented("scopes", "their names", "authentication", "cloud.tokens:scope_of"),
        _assumed(
            "scopes of a role",
            "`ReadOnly` may read, every other role may all",
            "no page says which role has which",
            "cloud.tokens:scope_of",
        ),
        _documented(
            "bad token on a hub", "HTTP 401", "real-time overview", "cloud.session_hub:HubDoor", "cloud.door:refusal"
        ),
        _assumed(
            "bad token on a hub, when",
            "at negotiate and at the upgrade, before the connection is made",
            "a client should learn it as early as it can",
            "cloud.session_hub:HubDoor",
            switch="`fidelity.auth_failure: error_event`",
        ),
        _assumed(
            "bad credential over REST",
            "401 that names the check that failed",
            "what HTTP says",
            "cloud.door:refusal",
        ),
        _assumed(
            "token that expires in mid-session",
            "nothing happens",
            "SignalR looks at the token only when a connection is made",
            "cloud.session_hub:HubOutlet.expire_at",
            switch="`fidelity.on_token_expiry: error`",
        ),
    ),
    "REST": (
        _documented(
            "agents",
            "list envelope, paging, the agent object",
            "API overview; agents",
            "cloud.rest:_routes",
            "cloud.wire:agent_object",
        ),
        _assumed(
            "agents, what the page only samples",
            "`inactive` is the other status; values are made from the script",
            "the page shows one sample",
            "cloud.wire:agent_object",
        ),
        _documented(
            "errors",
            "problem documents with their five members",
            "API overview; rate limits",
            "cloud.problems:ProblemDetails",
        ),
        _assumed(
            "errors, details",
            "content type `application/problem+json`, slugs of the other statuses, `errors` by field",
            "what RFC 7807 and ASP.NET Core do",
            "cloud.problems:ProblemDetails",
        ),
        _assumed(
            "a body that cannot be used",
            "422 with every field that is wrong",
            "no page shows its status",
            "cloud.rest:invalid_request",
        ),
        _documented("timestamps", "ISO 8601 in UTC, to the second", "every page", "clock:iso_timestamp"),
    ),
    "Rates": (
        _documented(
            "rate limits",
            "policies, numbers by plan, the four headers, the 429",
            "rate limits",
            "cloud.rates:LIMITS",
            "cloud.rates:Rate.headers",
            "cloud.rates:Rate.problem",
            "cloud.session_hub:HubDoor._welcome",
            switch="`limits.rate_limits`",
        ),
        _assumed(
            "rate limits, details",
            "a minute from the first request on; `Retry-After`; policies without a plan are the same in all",
            "the page has one table for them, and no window",
            "cloud.rates:LIMITS",
            "cloud.rates:Rate.problem",
            "cloud.rates:RateCounter",
            switch="`limits.rate_limits`",
        ),
        _assumed(
            "what counts as a connection",
            "negotiating, and an upgrade that comes without",
            "the page only says VoiceHub connections",
            "cloud.session_hub:HubDoor._welcome",
        ),
        _assumed(
            "impatient clients",
            "five attempts within five seconds are a remark (lint)",
            "no back-off does that",
            "cloud.manners:Attempts",
        ),
        _assumed(
            "calls after the end", "answered, ignored, a remark (lint)", "no page says", "cloud.manners:after_end"
        ),
    ),
    "Hubs": (
        _documented(
            "`Error`",
            "`{code, message, recoverable}` and the seven codes",
            "real-time overview",
            "cloud.session_hub:SessionHub.on_connected",
            "cloud.wire:error_event",
            "faults.rules:CODES",
        ),
        _assumed(
            "recoverable errors",
            "`STT_PROVIDER_TIMEOUT`, `LLM_PROVIDER_ERROR`; after the others the server closes",
            "a provider may be back for the next turn, the rest does not change",
            "faults.rules:CODES",
            switch="`recoverable` of a fault",
        ),
        _assumed(
            "unknown or inactive agent, too many sessions, failed resume",
            "accepted, `Error`, Close without reconnect, no `SessionStarted`",
            "the codes are events, and a client that reconnects would only be told again",
            "cloud.session_hub:SessionHub.on_connected",
        ),
        _assumed(
            "limits",
            "no session limit; an utterance ends after 30 s of speech",
            "no page has numbers that a test could rely on",
            "agents.script:Limits",
            switch="`limits`",
        ),
        _observed(
            "size of a hub message",
            "32,768 bytes, then the connection ends",
            "the default of ASP.NET Core",
            "agents.script:Limits",
            switch="`limits.max_message_bytes`",
        ),
        _assumed(
            "connection metadata that is no JSON object",
            "400 at negotiate and upgrade",
            "the page only says what it is",
            "cloud.session_hub:HubDoor",
        ),
        _documented(
            "events of a session",
            "names and members",
            "VoiceHub; ChatHub",
            "cloud.wire:hub_events",
            "cloud.voice_hub:VoiceHub",
            "cloud.chat_hub:ChatHub",
        ),
        _assumed(
            "where a client learns its session's id",
            "`SessionStarted.sessionId`, equal to `conversationId`",
            "the pages ask for it on resume and show no other place",
            "cloud.wire:hub_events",
        ),
        _documented(
            "reasons of a client",
            "`user_ended`, `timeout`, `transfer_complete`",
            "VoiceHub",
            "agents.script:EndReason",
            "cloud.wire:CLIENT_END_REASONS",
        ),
        _assumed(
            "reasons of the server",
            "`agent_ended`, `max_duration`, `idle_timeout`, `disconnected`, `error`, `server_shutdown`",
            "the pages show none",
            "agents.script:EndReason",
        ),
        _documented(
            "refused resume", "`RECONNECT_FAILED`", "real-time overview", "engine.runner.table:SessionTable.resume"
        ),
        _assumed(
            "resume",
            "a token of the tenant may; the newest connection wins",
            "the pages only show the query",
            "engine.runner.table:SessionTable.resume",
        ),
        _assumed(
            "resume window",
            "30 s of real time; over WebRTC none",
            'the pages have a "retry window" without a number',
            "engine.runner.session:Session.detach",
            switch="`fidelity.resume_window`",
        ),
        _assumed(
            "what was missed while the connection was lost",
            "events are delivered after `Reconnected`, audio is not",
            "a client that came back must know what was said",
            "engine.runner.session:Session._miss",
        ),
        _documented(
            "`RequestReconnectionAsync`", "is a method", "VoiceHub", "cloud.voice_hub:VoiceHub.request_reconnection"
        ),
        _assumed(
            "answer to `RequestReconnectionAsync`",
            "`Reconnected` on the same connection; ChatHub has it too",
            "no page shows one, and both hubs resume alike",
            "cloud.voice_hub:VoiceHub.request_reconnection",
            "cloud.chat_hub:ChatHub",
        ),
    ),
    "Voice": (
        _documented(
            "audio",
            "raw PCM, 20 ms advised; other sizes are remarks",
            "VoiceHub",
            "cloud.manners:Manners",
        ),
        _assumed(
            "pace of caller audio",
            "2 s ahead of real time is a remark (lint), nothing else",
            "audio is meant to come as it is spoken",
            "cloud.manners:Manners",
        ),
        _assumed(
            "size and pace of `AudioReceived`",
            "20 ms, sent when due",
            "20 ms is what the page advises for the other direction",
            "audio.playout:Playout",
        ),
        _assumed(
            "delays of a turn",
            "a turn ends after 700 ms of silence, audio begins 350 ms later",
            "no page has numbers",
            "agents.script:Timing",
            "audio.endpointing:Endpointer",
            switch="`timing`",
        ),
        _documented(
            "`max_idle`, `max_duration`",
            "15 s and 600 s unless set",
            "agents (values of the sample)",
            "agents.script:Timing.call_max_idle",
            "agents.script:Timing.call_max_duration",
            switch="`timing`",
        ),
        _assumed(
            "silence and idleness",
            "count from the last speech of either side; a silence rule fires once per silence",
            "the pages have no silence rules",
            "engine.patience:Patience",
            switch="`silence`, `timing.max_idle`",
        ),
        _assumed(
            "a caller who stops sending in mid-word",
            "the utterance ends 1 s after its end of turn",
            "else such a call would never fall silent",
            "engine.utterances:Utterances.lapses_at",
        ),
        _assumed(
            "partial transcripts",
            "every 300 ms of speech, each longer than the one before",
            'the page says "partial then final"',
            "engine.utterances:Utterances.show",
            "audio.stt:ScriptEar",
            switch="`timing.partial_every`",
        ),
        _assumed(
            "barge-in",
            "200 ms of speech stop the reply; no event of its own, the final text is what was played",
            "the pages have no event for it",
            "agents.script:AgentScript",
            "engine.reply:Reply.stop",
            switch="`barge_in`",
        ),
        _assumed(
            "how much of a recording was heard before barge-in",
            "as many of its words as of its length",
            "a recording has no times of its words",
            "engine.reply:_Saying._spread_words",
        ),
        _assumed(
            "sequence of keys",
            "waits 2 s for the next one",
            "the page sends single keys",
            "agents.dialogue:Dialogue.inter_digit_timeout",
        ),
        _assumed(
            "a reply that cannot be spoken",
            "`LLM_PROVIDER_ERROR`",
            "no documented code is about speaking",
            "engine.runner.voicing:FAILURE",
        ),
    ),
    "Chat": (
        _documented("message", "`{content, metadata}`", "ChatHub", "cloud.wire:ChatMessage"),
        _assumed("message without metadata", "is taken", "nothing is lost by it", "cloud.wire:ChatMessage"),
        _assumed(
            "chat chunks",
            "hold the text so far, three words more every 50 ms",
            "the sample client shows a chunk's content as the whole text",
            "engine.chat:Chat._write_chunk",
            switch="`fidelity.chat_chunks: delta` or `off`",
        ),
        _assumed(
            "a message while the agent still answers",
            "waits for its turn",
            "queueing loses nothing",
            "engine.chat:Chat._take",
        ),
        _assumed(
            "end of a chat",
            "`ConversationEnded`, then `SessionEnded`",
            "one page names each",
            "cloud.wire:hub_events",
        ),
    ),
    "WebRTC": (
        _documented(
            "session, signalling, token",
            "the POST and its answer, methods, names of events, `wrtc_tok_`",
            "WebRTC",
            "cloud.webrtc_hub:WebRtcHub",
            "cloud.webrtc_sessions:WebRtcSessions.create",
            "cloud.webrtc_sessions:WebRtcDoor",
            "cloud.tokens:TokenAuthority.grant_session",
            "cloud.wire:SessionDescription",
            "cloud.wire:CandidateArgument",
            "cloud.wire:answer_event",
            "cloud.wire:candidate_event",
            "cloud.wire:webrtc_session_object",
        ),
        _assumed(
            "answer and candidates",
            "as a browser's API takes them; the answer holds the candidates too",
            "the page ends before it shows them",
            "cloud.webrtc_hub:WebRtcHub",
            "cloud.webrtc_hub:WebRtcHub.send_offer",
            "cloud.wire:answer_event",
            "cloud.wire:candidate_event",
        ),
        _assumed(
            "events on WebRtcHub",
            "those of VoiceHub, without audio",
            "the page shows no other way to learn what was said",
            "cloud.webrtc_hub:WebRtcHub",
        ),
        _assumed(
            "session token",
            "lives 5 min and is used up by the connection, not by negotiating",
            "no page says",
            "cloud.tokens:TokenAuthority.grant_session",
            "cloud.webrtc_sessions:WebRtcDoor",
        ),
        _assumed(
            "ICE servers",
            "none",
            "an offline browser would wait for those of the service",
            "cloud.webrtc_sessions:WebRtcSessions.create",
            switch="`webrtc.ice_servers`",
        ),
    ),
    "Faults": (
        _assumed(
            "`$mock` in a connection's metadata, `X-Voisnap-Mock`",
            "faults for this connection or request; no script sees them",
            "the service has neither; a browser can set no header",
            "faults.own",
            switch="`fidelity.mock_in_metadata: forbid`",
        ),
        _assumed(
            "a provider that fails for a turn",
            "`Error`, then what the agent says when it has not understood; not recoverable: the end",
            "the pages only list the codes",
            "faults.dialogue:FaultyDialogue._failed",
            switch="`faults`",
        ),
        _assumed(
            "agents `agt_mock_...`",
            "are always there, each with its fault",
            "whoever can choose an agent can choose a failure; the service has none",
            "faults.magic",
            switch="`magic: false`",
        ),
        _assumed(
            "a bad line",
            "losses in bursts as by Gilbert's model; jitter, gaps, drift, level, clipping",
            "what packet networks do",
            "faults.impair",
            switch="`faults`",
        ),
    ),
    "Agents and time": (
        _assumed(
            "what an agent answers",
            "what its rules say",
            "a language model answers there; rules make a test repeatable",
            "agents.dialogue",
            switch="`replies`, `script`",
        ),
        _assumed(
            "call time",
            "wall time since `SessionStarted`",
            "the service cannot do otherwise",
            "engine.runner.pace:RealPace",
            switch="`--clock`",
        ),
        _assumed(
            "virtual call time",
            "the caller's audio",
            "the service has no such clock; it makes tests fast and repeatable",
            "engine.runner.virtual:VirtualPace",
            switch="`--clock`",
        ),
    ),
    "SignalR": (
        _documented(
            "the hub protocol",
            "handshake, JSON and MessagePack, messages, keep-alive, stateful reconnect",
            "HubProtocol.md of ASP.NET Core",
            "signalr.connection",
            "signalr.messages",
            "signalr.messagepack",
            "signalr.payloads",
            "signalr.protocols",
            "signalr.resumption",
            "signalr.hub:HubContext.abort",
        ),
        _documented(
            "transports",
            "negotiate, WebSockets, server-sent events, long polling",
            "TransportProtocols.md of ASP.NET Core; RFC 6455",
            "signalr.transports",
            "signalr.asgi_wires:LongPoll",
            "signalr.uvicorn_ws:_key",
            "signalr.uvicorn_ws:_is_text",
        ),
        _observed(
            "texts and limits",
            "error texts, limits, the first Ping, the Close message",
            "ASP.NET Core 7 and later",
            "signalr.connection",
            "signalr.protocols",
            "signalr.binder:Signature.read_values",
            "signalr.dispatcher",
            "signalr.dispatcher:refusal_text",
            "signalr.dispatcher:failure_text",
            "signalr.resumption",
            "signalr.hub:HubContext.abort",
            "signalr.live:LiveConnection.connected_failed",
        ),
        _observed(
            "names of methods",
            "without regard to case",
            "ASP.NET Core",
            "signalr.hub:hub_method",
            "signalr.hub:MethodTable.find",
        ),
        _observed(
            "answers of the transports",
            "order of polls and posts, bodies, header values, versions of negotiate",
            "ASP.NET Core",
            "signalr.asgi_wires:AsgiWebSocket",
            "signalr.asgi_wires:LongPoll",
            "signalr.endpoint:HubEndpoint._post",
            "signalr.endpoint:HubEndpoint._claim",
            "signalr.transports",
            "signalr.transports:place_get",
            "signalr.transports:read_negotiate",
        ),
        _assumed(
            "the last words on a connection that ends",
            "get a moment to be written",
            "ASP.NET Core tells the hub in between, which takes some time too",
            "signalr.asgi_wires:_LAST_WORD",
        ),
    ),
}
"""The behaviours, by what they are about, in the order in which people read them."""


def behaviours() -> Iterator[tuple[str, Behaviour]]:
    """Every behaviour with its area."""
    for area, those in AREAS.items():
        for behaviour in those:
            yield area, behaviour


def report() -> list[dict[str, Any]]:
    """All of it, ready for JSON."""
    return [{"area": area, **behaviour.as_object()} for area, behaviour in behaviours()]


def assumptions_table() -> str:
    """The README's table of what is assumed, as Markdown."""
    rows = [
        f"| {behaviour.subject} | {behaviour.does} | {behaviour.switch} |"
        for _, behaviour in behaviours()
        if behaviour.ground == "assumed"
    ]
    return "\n".join(["| behaviour | assumed | switch |", "| --- | --- | --- |", *rows]) + "\n"
