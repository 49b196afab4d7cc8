"""The engine's vocabulary: what goes into a session, what it orders, and what a hub may show its client.

Inputs say what happened, effects say what to do, events are what the far side learns. All times are seconds of call
time. Caller audio is PCM s16le mono at 16 kHz, agent audio PCM s16le mono at 24 kHz, in `bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NewType

from voisnap_mock.agents.script import EndReason, Voice

SessionId = NewType("SessionId", str)
"""A session's id, equal to its `conversationId`."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it lies: seconds from the start of the audio it belongs to."""

    text: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Speech:
    """Synthesised speech, or a piece of it: agent audio and where its words lie in it."""

    pcm: bytes
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an ear made of an utterance.

    Attributes:
        confidence: 0.0 to 1.0; 0.0 when the ear cannot tell.
        ear: which ear answered: `marks`, `recordings`, `vosk`, `script`, `activity`.
        words: timed from the start of the utterance's audio, as far as the ear knows them.
        took: seconds of real time that the ears worked on it, all of them together.
    """

    text: str
    confidence: float = 0.0
    ear: str = ""
    words: tuple[Word, ...] = ()
    took: float = 0.0


# --- Into a session -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The client is there: begin.

    Attributes:
        waits_for_line: the caller can neither speak nor hear yet: the agent says nothing until `LineOpened`.
    """

    waits_for_line: bool = False


@dataclass(frozen=True, slots=True)
class LineOpened:
    """A caller that was waited for can be heard and hears: the greeting can be said."""


@dataclass(frozen=True, slots=True)
class AudioArrived:
    """Caller audio. A `Call` takes it in frames of 20 ms, 640 bytes; a running `Session` takes any whole samples."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class DigitPressed:
    """A key: one of `0-9 * #`."""

    digit: str


@dataclass(frozen=True, slots=True)
class TextArrived:
    """A chat message of the user."""

    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UserTyping:
    """The user types."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The user wants no more of the chat reply that is being given."""


@dataclass(frozen=True, slots=True)
class PartlyHeard:
    """The ear's view of an utterance that is still going on."""

    utterance: int
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Transcribed:
    """The ear's last word on an utterance; with `is_lost` nothing comes of it, not even of what partials showed."""

    utterance: int
    transcript: Transcript
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    """The ear gave no answer; `code` is the service's error code, `recoverable` whether the session goes on."""

    utterance: int
    code: str
    message: str
    recoverable: bool = True


@dataclass(frozen=True, slots=True)
class Synthesized:
    """Speech for item `item` of reply `reply`; it may come in pieces, `is_last` marks the last one."""

    reply: int
    item: int
    speech: Speech
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class SynthesisFailed:
    """Item `item` of reply `reply` cannot be spoken."""

    reply: int
    item: int
    code: str
    message: str
    recoverable: bool = True


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """Somebody ends the session: the client, the connection that will not come back, or the server."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class ReconnectionRequested:
    """The client asked for a graceful reconnection."""


@dataclass(frozen=True, slots=True)
class Detached:
    """The connection is lost and may come back: the session goes on, but nobody is waited for."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A new connection took the session over."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The session itself fails with one of the service's error codes."""

    code: str
    message: str
    recoverable: bool = False


VoiceInput = (
    Started
    | LineOpened
    | AudioArrived
    | DigitPressed
    | PartlyHeard
    | Transcribed
    | RecognitionFailed
    | Synthesized
    | SynthesisFailed
    | HangupRequested
    | ReconnectionRequested
    | Detached
    | Resumed
    | Failed
)
ChatInput = (
    Started
    | TextArrived
    | UserTyping
    | CancelRequested
    | HangupRequested
    | ReconnectionRequested
    | Detached
    | Resumed
    | Failed
)


# --- What the far side learns ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The session is on."""

    agent_name: str


@dataclass(frozen=True, slots=True)
class SessionResumed:
    """The session goes on, on a new connection or after a graceful reconnection."""

    message: str


@dataclass(frozen=True, slots=True)
class CallerTranscript:
    """What the caller is understood to have said; `begin`, `end` and the times of `words` are call time.

    Attributes:
        words: of a final transcript, as far as the ear knows them; for the record, no hub shows them.
        took: seconds of real time that the ears worked on it.
    """

    text: str
    is_final: bool
    confidence: float
    ear: str
    begin: float
    end: float
    words: tuple[Word, ...] = ()
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentTranscript:
    """What the agent has said so far in this reply; when `interrupted`, what was really played."""

    text: str
    is_final: bool
    begin: float
    end: float
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class AudioReady:
    """The next 20 ms of agent audio, 960 bytes; due now."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class AgentTyping:
    """The agent began or stopped to write."""

    is_typing: bool


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """A chat reply or, with `is_chunk`, a piece of one as the client is to see it."""

    message_id: str
    text: str
    is_chunk: bool
    is_final: bool


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A chat message of the user was taken; for the record, no hub sends it back."""

    text: str


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """The caller is handed to somebody else."""

    to: str
    type: str
    summary: str


@dataclass(frozen=True, slots=True)
class EventPushed:
    """A hub event that the script, or somebody from outside, sends by hand."""

    name: str
    arguments: tuple[Any, ...] = (None,)


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """Something went wrong; when not `recoverable`, the end follows."""

    code: str
    message: str
    recoverable: bool


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over; nothing follows."""

    reason: EndReason
    duration: float


SessionEvent = (
    SessionStarted
    | SessionResumed
    | CallerTranscript
    | AgentTranscript
    | AudioReady
    | AgentTyping
    | AgentMessage
    | UserMessage
    | TransferStarted
    | EventPushed
    | SessionFailed
    | SessionEnded
)


# --- What a session orders ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Emit:
    """Show `event` to the client and the journal; without `is_shown` to the journal only."""

    event: SessionEvent
    is_shown: bool = True


@dataclass(frozen=True, slots=True)
class Sever:
    """Lose the client's connection, in one of the ways of `Outlet.sever`; the session goes on without it."""

    how: str


@dataclass(frozen=True, slots=True)
class Note:
    """Write `kind` with `details` into the journal: what no client sees, such as the rule that answered."""

    kind: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recognize:
    """Let the ear hear `pcm` of utterance `utterance`; with `wants_partial`, answer with `PartlyHeard`.

    `expected` is the text a strict script expects next, for the ear that goes by it.
    """

    utterance: int
    pcm: bytes
    wants_partial: bool = False
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class FinishRecognition:
    """Utterance `utterance` is over: answer with `Transcribed` or `RecognitionFailed`.

    Attributes:
        speech_seconds: how much of it was speech.
    """

    utterance: int
    speech_seconds: float
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Synthesize:
    """Make speech for item `item` of reply `reply`: of `text`, or of the prompt recording `wav`."""

    reply: int
    item: int
    text: str
    voice: Voice
    wav: str | None = None


@dataclass(frozen=True, slots=True)
class AbandonSynthesis:
    """Nobody will hear reply `reply` any more; stop making it."""

    reply: int


SessionEffect = Emit | Note | Sever | Recognize | FinishRecognition | Synthesize | AbandonSynthesis


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a session wants to be woken.

    Attributes:
        at: call time.
        waits_for_caller: it is the caller who is waited for (silence, idleness, length), not something the agent does.
    """

    at: float
    waits_for_caller: bool
