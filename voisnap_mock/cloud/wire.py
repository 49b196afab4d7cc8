"""The service's words: names and shapes of hub events, hub arguments and agent objects.

The only module that knows them. Bytes become base64 further down, in the hub protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from voisnap_mock.agents.script import Action, AgentScript, Dtmf, EndReason, IceServer, Say, Silence
from voisnap_mock.clock import iso_timestamp
from voisnap_mock.engine.events import (
    AgentMessage,
    AgentTranscript,
    AgentTyping,
    AudioArrived,
    AudioReady,
    CallerTranscript,
    EventPushed,
    SessionEnded,
    SessionEvent,
    SessionFailed,
    SessionResumed,
    SessionStarted,
    TransferStarted,
    UserMessage,
)
from voisnap_mock.engine.runner import Channel
from voisnap_mock.webrtc.sdp import Answer, IceCandidate, Offer, SdpRefused, read_candidate, read_offer

CLIENT_END_REASONS = (EndReason.USER_ENDED, EndReason.TIMEOUT, EndReason.TRANSFER_COMPLETE)
"""What a client may say to `EndSessionAsync`. Source: Documented, VoiceHub page."""

DIGITS = "0123456789*#"

AGENT_NOT_FOUND = "AGENT_NOT_FOUND"
AGENT_INACTIVE = "AGENT_INACTIVE"
AUTH_FAILED = "AUTH_FAILED"
SESSION_LIMIT_REACHED = "SESSION_LIMIT_REACHED"
RECONNECT_FAILED = "RECONNECT_FAILED"

HubEvent = tuple[str, *tuple[object, ...]]
"""A hub event: its target and its arguments; the service's own have one."""


TARGETS: Mapping[type[object], str] = {
    AudioArrived: "SendAudioAsync",
    SessionStarted: "SessionStarted",
    SessionResumed: "Reconnected",
    CallerTranscript: "Transcription",
    AgentTranscript: "TranscriptionOf",
    AudioReady: "AudioReceived",
    AgentTyping: "TypingIndicator",
    AgentMessage: "MessageReceived",
    TransferStarted: "TransferInitiated",
    SessionFailed: "Error",
    SessionEnded: "SessionEnded",
}
"""What the journal names the hub event by that tells a client of something, and the method that brings audio."""


class ArgumentError(ValueError):
    """A hub method's argument is wrong; the text names it, what came and what was expected."""


# --- to the client ---------------------------------------------------------------------------------------------


def hub_events(event: SessionEvent, *, session_id: str, wall: float, channel: Channel) -> tuple[HubEvent, ...]:
    """What a client is told of `event`, in order; nothing for what only the journal shows.

    Source: Documented, the event tables of the VoiceHub and ChatHub pages. Assumed: `sessionId` in `SessionStarted`
    (the pages ask for it on resume and show no other place where a client could learn it), and both
    `ConversationEnded` and `SessionEnded` at the end of a chat (one page names each).
    """
    match event:
        case AudioReady(pcm):
            return (("AudioReceived", pcm),)
        case CallerTranscript(text=text, is_final=is_final, confidence=confidence):
            return (("Transcription", {"text": text, "isFinal": is_final, "confidence": round(confidence, 3)}),)
        case AgentTranscript(text=text, is_final=is_final):
            return (("TranscriptionOf", {"text": text, "isFinal": is_final}),)
        case AgentTyping(is_typing):
            return (("TypingIndicator", {"isTyping": is_typing}),)
        case AgentMessage(message_id, text, is_chunk, is_final):
            payload = {
                "messageId": message_id,
                "content": text,
                "isChunk": is_chunk,
                "isFinal": is_final,
                "timestamp": iso_timestamp(wall),
            }
            return (("MessageReceived", payload),)
        case SessionStarted(agent_name):
            started = {
                "conversationId": session_id,
                "agentName": agent_name,
                "timestamp": iso_timestamp(wall),
                "sessionId": session_id,
            }
            return (("SessionStarted", started),)
        case SessionResumed(message):
            return (("Reconnected", {"sessionId": session_id, "message": message}),)
        case TransferStarted(to, kind, summary):
            return (("TransferInitiated", {"transferTo": to, "transferType": kind, "summary": summary}),)
        case EventPushed(name, arguments):
            return ((name, *arguments),)
        case SessionFailed(code, message, recoverable):
            return (error_event(code, message, recoverable=recoverable),)
        case SessionEnded(reason, duration):
            ended: HubEvent = (
                "SessionEnded",
                {"conversationId": session_id, "reason": reason.value, "durationSeconds": round(duration, 3)},
            )
            if channel != "chat":
                return (ended,)
            return (("ConversationEnded", {"conversationId": session_id, "reason": reason.value}), ended)
        case UserMessage():
            return ()
        case _:
            assert_never(event)


def error_event(code: str, message: str, *, recoverable: bool) -> HubEvent:
    """The `Error` event of every hub. Source: Documented, real-time overview."""
    return ("Error", {"code": code, "message": message, "recoverable": recoverable})


def answer_event(answer: Answer) -> HubEvent:
    """Source: Documented name; Assumed shape, what a browser's `setRemoteDescription` takes."""
    return ("SdpAnswerReceived", {"sdp": answer.sdp, "type": "answer"})


def candidate_event(candidate: IceCandidate) -> HubEvent:
    """Source: Documented name; Assumed shape, what a browser's `addIceCandidate` takes."""
    return (
        "IceCandidateReceived",
        {"candidate": candidate.text, "sdpMid": candidate.mid, "sdpMLineIndex": candidate.line},
    )


# --- from the client -------------------------------------------------------------------------------------------


def whole_samples(audio: bytes) -> bytes:
    """Caller audio that consists of whole 16-bit samples.

    Raises:
        ArgumentError: if a byte is left over.
    """
    if len(audio) % 2:
        raise ArgumentError(
            f"Argument 1 'audio': {len(audio)} bytes came, expected whole 16-bit samples, so an even number of bytes "
            "(20 ms of 16 kHz mono are 640)"
        )
    return audio


def one_digit(text: str) -> str:
    """One key of a telephone.

    Raises:
        ArgumentError: if it is none, or more than one.
    """
    if len(text) != 1 or text not in DIGITS:
        raise ArgumentError(
            f"Argument 1 'digit': {quoted(text)} came, expected one of 0-9, * or #, one key for each call"
        )
    return text


def client_end_reason(text: str) -> EndReason:
    """Why a client ends a session.

    Raises:
        ArgumentError: if the service knows no such reason of a client.
    """
    for reason in CLIENT_END_REASONS:
        if text == reason.value:
            return reason
    raise ArgumentError(
        f"Argument 1 'reason': {quoted(text)} came, expected one of "
        f"{', '.join(reason.value for reason in CLIENT_END_REASONS)}"
    )


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """The argument of `SendMessageAsync`.

    Source: Documented shape (ChatHub page). Assumed: `metadata` may be left out or null.
    """

    content: str
    metadata: dict[str, Any] | None = None


def said_in(message: ChatMessage) -> str:
    """What a chat message says.

    Raises:
        ArgumentError: if it says nothing. Assumed: an empty message is a mistake of the client.
    """
    if not message.content.strip():
        raise ArgumentError(f"Argument 1 'message': content is {quoted(message.content)}, expected a text to answer")
    return message.content


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """The argument of `SendOfferAsync`. Source: Documented shape (WebRTC page)."""

    sdp: str
    type: str = "offer"


def offered(offer: SessionDescription) -> Offer:
    """An offer that can be answered.

    Raises:
        ArgumentError: if it cannot.
    """
    if offer.type != "offer":
        raise ArgumentError(f"Argument 1 'offer': type is {quoted(offer.type)}, expected 'offer'")
    try:
        return read_offer(offer.sdp)
    except SdpRefused as error:
        raise ArgumentError(f"Argument 1 'offer': {error}") from error


@dataclass(frozen=True, slots=True)
class CandidateArgument:
    """The argument of `SendIceCandidateAsync`. Source: Documented shape (WebRTC page)."""

    candidate: str | None = None
    sdp_mid: str | None = None
    sdp_m_line_index: int | None = None


def offered_candidate(candidate: CandidateArgument | None) -> IceCandidate | None:
    """A candidate that can be tried; None when it says that no more will come.

    Raises:
        ArgumentError: if it is malformed, or belongs to no section.
    """
    if candidate is None or not candidate.candidate:
        return None
    mid, line = candidate.sdp_mid, candidate.sdp_m_line_index
    if mid is None and line is None:
        raise ArgumentError("Argument 1 'candidate': sdpMid and sdpMLineIndex are both missing, expected one of them")
    try:
        return read_candidate(candidate.candidate, mid, line)
    except SdpRefused as error:
        raise ArgumentError(f"Argument 1 'candidate': {error}") from error


def connection_metadata(text: str) -> dict[str, Any]:
    """The query parameter `metadata`: a JSON object.

    Raises:
        ArgumentError: if it is not.
    """
    expected = "expected a JSON object, URL-encoded"
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ArgumentError(f"query parameter 'metadata' is not JSON ({error}): {quoted(text)}; {expected}") from error
    except RecursionError as error:
        raise ArgumentError(f"query parameter 'metadata' is nested too deep; {expected}") from error
    if not isinstance(value, dict):
        raise ArgumentError(f"query parameter 'metadata' is {quoted(value)}; {expected}")
    return value


def quoted(value: object, limit: int = 80) -> str:
    """A value of a client as an error may show it: as JSON, cut short."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


# --- WebRTC sessions over REST ---------------------------------------------------------------------------------


def webrtc_session_object(
    session_id: str, token: str, expires_at: float, ice_servers: tuple[IceServer, ...]
) -> dict[str, Any]:
    """A new WebRTC session as the API shows it, secret token included.

    Source: Documented, the sample of the WebRTC page.
    """
    servers: list[dict[str, Any]] = []
    for server in ice_servers:
        shown: dict[str, Any] = {"urls": list(server.urls)}
        if server.username is not None:
            shown |= {"username": server.username, "credential": server.credential or ""}
        servers.append(shown)
    return {
        "sessionId": session_id,
        "sessionToken": token,
        "expiresAt": iso_timestamp(expires_at),
        "iceServers": servers,
    }


# --- agents over REST ------------------------------------------------------------------------------------------


def agent_object(script: AgentScript, *, version: int, created_at: float, updated_at: float) -> dict[str, Any]:
    """An agent as the API shows it, made from its script; what a script does not decide has the sample's value.

    Source: Documented names and shapes (agents page, seen up to `voicemailDetection`). Assumed: `inactive` as the
    other status, `updatedAt`, and the values, which the page gives only as samples.
    """
    silence = _first_silence(script)
    takes_digits = any(isinstance(trigger, Dtmf) for rule in script.rules() for trigger in rule.triggers)
    return {
        "id": script.id,
        "name": script.name,
        "description": "",
        "status": agent_status(script),
        "version": version,
        "publishedVersion": version,
        "persona": {"name": script.name, "personality": "", "role": ""},
        "voice": {
            "provider": f"voisnap-mock/{script.voice.engine}",
            "voiceId": script.voice.name,
            "stability": 0.5,
            "similarityBoost": 0.75,
            "style": 0.0,
            "useSpeakerBoost": True,
            "speed": round(script.voice.rate / 175, 2),
        },
        "llm": {
            "provider": "voisnap-mock",
            "model": "script",
            "temperature": 0.0,
            "maxTokens": 300,
            "topP": 1.0,
            "frequencyPenalty": 0.0,
            "presencePenalty": 0.0,
        },
        "transcription": {
            "provider": "voisnap-mock",
            "model": script.hears,
            "language": "en-US",
            "smartFormat": False,
            "punctuate": False,
            "profanityFilter": False,
        },
        "systemPromptTemplate": "",
        "firstMessage": _spoken(script.greeting),
        "firstMessageMode": "assistant_speaks_first",
        "endCallPhrases": [],
        "maxDurationSeconds": _number(script.timing.call_max_duration),
        "maxIdleTimeSeconds": _number(script.timing.call_max_idle),
        "dtmfEnabled": takes_digits,
        "hipaaCompliant": False,
        "aiDisclosureMessage": "",
        "silenceDetection": {
            "enabled": silence is not None,
            "timeoutSeconds": _number(silence[0]) if silence else 8,
            "message": silence[1] if silence else "",
        },
        "endpointing": {
            "provider": "vad",
            "silenceDurationMs": round(script.timing.end_of_turn * 1000),
            "utteranceEndMs": 1000,
        },
        "interruption": {"enabled": script.barge_in is not None, "sensitivity": "medium"},
        "voicemailDetection": {"enabled": False, "action": "leave_message", "message": ""},
        "recording": {"enabled": False, "format": "mp3", "storageRetentionDays": 90},
        "tools": [],
        "createdAt": iso_timestamp(created_at),
        "updatedAt": iso_timestamp(updated_at),
    }


def agent_status(script: AgentScript) -> str:
    return "active" if script.active else "inactive"


def _first_silence(script: AgentScript) -> tuple[float, str] | None:
    for rule in script.rules():
        for trigger in rule.triggers:
            if isinstance(trigger, Silence):
                return trigger.after, _spoken(rule.alternatives[0])
    return None


def _spoken(actions: tuple[Action, ...]) -> str:
    return " ".join(action.text for action in actions if isinstance(action, Say))


def _number(seconds: float) -> int | float:
    """Whole seconds without a fraction, as the samples show them."""
    return int(seconds) if seconds == int(seconds) else seconds
