"""The reference client: places a voice call or holds a chat with any server that speaks the service's hubs.

Owns the client's side of the wire (names of methods and events, the base64 of the audio), the 20 ms pace of the
caller's audio, and the question when it is the caller's turn. Refuses printing, files and speech: audio goes in and
comes out as PCM. It reads the wire by itself, not through `cloud.wire`: a slip there must not cancel out here.

    async with VoiceCaller(url, "agt_support", access_token=token, clock=SystemClock()) as caller:
        await caller.floor()                 # the agent has greeted us
        caller.speak(pcm)                    # PCM s16le mono, 16 kHz
        await caller.floor()                 # our words are out and the agent has answered
        await caller.hang_up()
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, assert_never
from urllib.parse import urlencode

from voisnap_mock.audio.frames import AGENT_RATE, CALLER_FRAME_BYTES, FRAME_SECONDS
from voisnap_mock.clock import Clock
from voisnap_mock.errors import VoisnapMockError
from voisnap_mock.signalr import HubClient
from voisnap_mock.signalr.errors import NegotiationError, SignalRError
from voisnap_mock.tracks import Recording

_SILENCE = bytes(CALLER_FRAME_BYTES)
# Seconds that a server may take to confirm the end.
_FAREWELL = 5.0


class CallRefused(VoisnapMockError):
    """The server did not take the call or chat, or ended it with an error; the text says why."""


# --- What a client learns ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The session is on.

    Attributes:
        session_id: resumes this session on another connection.
    """

    conversation_id: str
    session_id: str
    agent_name: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The session goes on where it was."""

    session_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What the agent understood of the caller; `confidence` 0.0 to 1.0."""

    text: str
    is_final: bool
    confidence: float


@dataclass(frozen=True, slots=True)
class Said:
    """What the agent has said so far in this reply."""

    text: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class Sounded:
    """A piece of agent audio: PCM s16le mono at 24 kHz."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Wrote:
    """A chat message of the agent, or the part of it that is there so far."""

    message_id: str
    text: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class Typing:
    """The agent began or stopped to write."""

    is_typing: bool


@dataclass(frozen=True, slots=True)
class Transferred:
    """The agent hands the caller to somebody else."""

    to: str
    type: str
    summary: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The server reports an error; when it is not recoverable, the session is over."""

    code: str
    message: str
    is_recoverable: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over; `duration` in seconds of call time."""

    reason: str
    duration: float


@dataclass(frozen=True, slots=True)
class Pushed:
    """An event of a name that was asked for besides those of the service."""

    name: str
    arguments: tuple[Any, ...]


CallerEvent = Connected | Resumed | Heard | Said | Sounded | Wrote | Typing | Transferred | Failed | Ended | Pushed


def parse_event(target: str, arguments: list[Any]) -> CallerEvent | None:
    """The meaning of a hub event, or None for one that changes nothing for a caller.

    Raises:
        KeyError, IndexError, TypeError, ValueError: if the documented members are not there.

    Source: Documented, event tables of the VoiceHub and ChatHub pages; `sessionId` of `SessionStarted` is Assumed.
    """
    (data,) = arguments
    match target:
        case "AudioReceived":
            return Sounded(base64.b64decode(data, validate=True))
        case "Transcription":
            return Heard(data["text"], data["isFinal"], float(data["confidence"]))
        case "TranscriptionOf":
            return Said(data["text"], data["isFinal"])
        case "MessageReceived":
            return Wrote(data["messageId"], data["content"], data["isFinal"])
        case "TypingIndicator":
            return Typing(data["isTyping"])
        case "SessionStarted":
            conversation = data["conversationId"]
            return Connected(conversation, data.get("sessionId", conversation), data.get("agentName", ""))
        case "Reconnected":
            return Resumed(data["sessionId"], data["message"])
        case "TransferInitiated":
            return Transferred(data["transferTo"], data["transferType"], data["summary"])
        case "Error":
            return Failed(data["code"], data["message"], data["recoverable"])
        case "SessionEnded":
            return Ended(data["reason"], float(data["durationSeconds"]))
        case _:
            return None


_VOICE_EVENTS = (
    "AudioReceived",
    "Transcription",
    "TranscriptionOf",
    "SessionStarted",
    "Reconnected",
    "TransferInitiated",
    "Error",
    "SessionEnded",
)
_CHAT_EVENTS = (
    "MessageReceived",
    "TypingIndicator",
    "SessionStarted",
    "Reconnected",
    "TransferInitiated",
    "Error",
    "SessionEnded",
)


# --- Whose turn it is -------------------------------------------------------------------------------------------


class TurnTaking:
    """Says when a polite caller may speak. Pure: events and times in, a waiting time out.

    It is the caller's turn when everything of the caller is out, the agent's reply is complete and has been played,
    and a short breath has passed. A reply that does not begin, or gets stuck, is waited for with `patience` only.
    """

    def __init__(self, *, patience: float, breath: float) -> None:
        self._patience = patience
        self._breath = breath
        self._reply_open = False
        self._answer_due = False
        self._last_sign = 0.0
        self._played_until = 0.0

    def caller_spoke(self, until: float) -> None:
        """The caller said or pressed something, or connected; an answer is due from `until` on."""
        self._answer_due = True
        self._last_sign = max(self._last_sign, until)

    def learn(self, event: CallerEvent, now: float) -> None:
        """Take note of an event that arrived at `now`."""
        match event:
            case Sounded(pcm):
                self._played_until = max(self._played_until, now) + len(pcm) / 2 / AGENT_RATE
                self._last_sign = now
            case Said(is_final=is_final) | Wrote(is_final=is_final):
                self._answer_due = False
                self._reply_open = not is_final
                self._last_sign = now
            case Typing(is_typing):
                self._reply_open = is_typing
                self._last_sign = now
            case Heard():
                self._answer_due = True
                self._last_sign = now
            case Connected() | Resumed() | Transferred() | Failed() | Ended() | Pushed():
                self._last_sign = now
            case _:
                assert_never(event)

    def wait(self, now: float) -> float:
        """Seconds until it may be the caller's turn; 0 when it is. Ask again after that time or after an event."""
        if self._answer_due or self._reply_open:
            return max(0.0, max(self._last_sign, self._played_until) + self._patience - now)
        return max(0.0, max(self._last_sign, self._played_until) + self._breath - now)


# --- On the line ------------------------------------------------------------------------------------------------


class _Party:
    """The client's end of a session: what a call and a chat have in common.

    A context manager: inside, the session is on; leaving it closes the connection and ends nothing.

    Args:
        url: of the hub, for a new session or for the one of this id.
        also: names of further events that `on_event` is to be told of, as `Pushed`.

    Attributes:
        ended: how the session ended, once it has.
        failed: the error that ended it, if one did.
        is_dropped: the connection was given up with `drop`, or lost on the way, and there is no new one yet.
    """

    def __init__(
        self,
        url: Callable[[str | None], str],
        events: tuple[str, ...],
        *,
        session_id: str | None,
        access_token: str,
        clock: Clock,
        turns: TurnTaking,
        also: Sequence[str],
        on_event: Callable[[CallerEvent, float], None] | None,
    ) -> None:
        self.ended: Ended | None = None
        self.failed: Failed | None = None
        self.is_dropped = False
        self._url = url
        self._also = frozenset(also) - frozenset(events)
        self._events = (*events, *self._also)
        self._access_token = access_token
        self._clock = clock
        self._turns = turns
        self._on_event = on_event
        self._started_at = clock.monotonic()
        self._news = asyncio.Event()
        self._session: Connected | Resumed | None = None
        self._is_closed = False
        self._is_on = False
        self._watch: asyncio.Task[None] | None = None
        self._client = self._make_client(session_id)

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def session(self) -> Connected | Resumed:
        """The session this is."""
        assert self._session is not None, "the session has not begun: use the object as a context manager"
        return self._session

    @property
    def is_over(self) -> bool:
        """The session has ended or the connection is gone."""
        return self.ended is not None or self._is_closed

    def now(self) -> float:
        """Seconds since the session began."""
        return self._clock.monotonic() - self._started_at

    async def drop(self) -> None:
        """Lose the connection without a word; the session waits for `resume`."""
        self.is_dropped = True
        await self._close()

    async def resume(self) -> None:
        """Come back on a new connection. Raises CallRefused if the session does not wait any more."""
        await self._close()
        self._client = self._make_client(self.session.session_id)
        self.is_dropped = self._is_closed = self._is_on = False
        try:
            await self._open()
        except BaseException:
            await self.drop()
            raise

    async def lose_connection(self, away: float) -> None:
        """Drop the connection and come back after `away` seconds of real time. Raises CallRefused like `resume`."""
        await self.drop()
        await self._clock.sleep_until(self._clock.monotonic() + away)
        await self.resume()

    async def floor(self) -> bool:
        """Wait until it is the caller's turn; False when the session is over instead."""
        while not self.is_over:
            seconds = self._turns.wait(self.now())
            if seconds <= 0:
                return True
            await self.wait_for_news(seconds)
        return False

    async def wait_until(self, at: float) -> bool:
        """Wait until the session is `at` seconds old; False when it is over before."""
        while not self.is_over and (left := at - self.now()) > 0:
            await self.wait_for_news(left)
        return not self.is_over

    async def wait_for_end(self, *, within: float | None = None) -> Ended | None:
        """Stay until the session is over, `within` seconds at most."""
        give_up = None if within is None else self.now() + within
        while not self.is_over:
            left = None if give_up is None else give_up - self.now()
            if left is not None and left <= 0:
                break
            await self.wait_for_news(left)
        return self.ended

    # --- inside -------------------------------------------------------------------------------------------------

    def _make_client(self, session_id: str | None) -> HubClient:
        client = HubClient(self._url(session_id), access_token=self._access_token)
        for target in self._events:
            client.on(target, lambda *arguments, target=target: self._learn(target, list(arguments)))
        return client

    async def _open(self) -> None:
        try:
            await self._client.start()
        except NegotiationError as error:
            raise CallRefused(_with_reason(error)) from error
        except (SignalRError, OSError) as error:
            raise CallRefused(str(error)) from error
        self._watch = asyncio.create_task(self._wait_until_closed())
        while not self._is_on:
            if self.failed is not None:
                raise CallRefused(f"{self.failed.code}: {self.failed.message}")
            if self.is_over:
                raise CallRefused("the server closed the connection before the session began")
            await self.wait_for_news()

    async def _close(self) -> None:
        await self._client.stop()
        if self._watch is not None:
            await self._watch

    async def _wait_until_closed(self) -> None:
        with suppress(SignalRError):
            await self._client.closed
        self._is_closed = True
        self.is_dropped = self.is_dropped or self.ended is None
        self._news.set()

    def _learn(self, target: str, arguments: list[Any]) -> None:
        try:
            event = Pushed(target, tuple(arguments)) if target in self._also else parse_event(target, arguments)
        except (LookupError, TypeError, ValueError) as error:
            # Nobody can tell what would be waited for in vain now.
            message = f"{target} came in a form that the documentation does not show ({error!r})"
            self.failed = Failed("UNREADABLE_EVENT", message, False)
            self._is_closed = True
            self._news.set()
            return
        if event is None:
            return
        match event:
            case Sounded():
                pass
            case Connected() | Resumed():
                if self._session is None:
                    self._started_at = self._clock.monotonic()
                self._session = event
                self._is_on = True
            case Failed(is_recoverable=False):
                self.failed = event
            case Ended():
                self.ended = event
            case _:
                pass
        now = self.now()
        self._turns.learn(event, now)
        self._take(event, now)
        if self._on_event is not None:
            self._on_event(event, now)
        self._news.set()

    def _take(self, event: CallerEvent, now: float) -> None:
        """What a kind of session does with an event besides."""

    async def wait_for_news(self, seconds: float | None = None) -> None:
        """Return at the next event, or after `seconds`."""
        self._news.clear()
        if seconds is None:
            await self._news.wait()
            return
        async with asyncio.TaskGroup() as tasks:
            news = tasks.create_task(self._news.wait())
            alarm = tasks.create_task(self._clock.sleep_until(self._clock.monotonic() + seconds))
            await asyncio.wait({news, alarm}, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            alarm.cancel()

    async def invoke(self, method: str, *arguments: object) -> None:
        """Call a hub method, whatever comes of it for whose turn it is.

        Raises:
            CallRefused: if the server does not accept it; not when the session is over.
        """
        try:
            await self._client.invoke(method, *arguments)
        except (SignalRError, OSError) as error:
            if not self.is_over:
                raise CallRefused(f"{method}: {error}") from error


class VoiceCaller(_Party):
    """One call on the VoiceHub, with a line that is never silent on the wire: 640 bytes every 20 ms, speech or silence.

    Frames leave on an absolute schedule; after a stall the missed ones follow at once, so that no caller audio is lost.

    Args:
        speed: how many times as fast as speech the line is; None is a line on which nothing moves but by `transmit`.
        call_time: where on the recording's time line agent audio lies that comes now; seconds since the start if None.

    Attributes:
        recording: both sides of the call so far.

    Source: Documented, "VoiceHub": connection, audio format, methods and events.
    """

    def __init__(
        self,
        base_url: str,
        agent_id: str,
        *,
        access_token: str,
        clock: Clock,
        metadata: Mapping[str, object] | None = None,
        session_id: str | None = None,
        patience: float = 6.0,
        speed: float | None = 1.0,
        call_time: Callable[[], float] | None = None,
        also: Sequence[str] = (),
        on_event: Callable[[CallerEvent, float], None] | None = None,
    ) -> None:
        super().__init__(
            lambda session: _hub_url(base_url, "voice", agentId=agent_id, sessionId=session, metadata=_json(metadata)),
            _VOICE_EVENTS,
            session_id=session_id,
            access_token=access_token,
            clock=clock,
            turns=TurnTaking(patience=patience, breath=0.3),
            also=also,
            on_event=on_event,
        )
        self.recording = Recording()
        self._speed = speed
        self._call_time = call_time or self.now
        self._queue: deque[bytes] = deque()
        self._rest = b""
        self._queue_empty = asyncio.Event()
        self._pacer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if isinstance(self.session, Connected):
            # A greeting is due.
            self._turns.caller_spoke(0.0)
        return self

    async def resume(self) -> None:
        await super().resume()
        self.recording.pad_caller(self._call_time())

    async def _open(self) -> None:
        await super()._open()
        if self._queue:
            self._queue_empty.clear()
        if self._speed is not None:
            self._pacer = asyncio.create_task(self._send_audio(FRAME_SECONDS / self._speed))

    async def _close(self) -> None:
        if self._pacer is not None:
            self._pacer.cancel()
            with suppress(asyncio.CancelledError):
                await self._pacer
        await super()._close()

    def speak(self, pcm: bytes) -> None:
        """Put PCM s16le mono at 16 kHz on the line, behind what is already waiting there."""
        data = self._rest + pcm
        whole = len(data) - len(data) % CALLER_FRAME_BYTES
        self._queue.extend(data[at : at + CALLER_FRAME_BYTES] for at in range(0, whole, CALLER_FRAME_BYTES))
        self._rest = data[whole:]
        self._queue_empty.clear()

    async def spoken(self) -> bool:
        """Wait until all that `speak` was given is on its way; False when the session is over instead."""
        if self._rest:
            self._queue.append(self._rest.ljust(CALLER_FRAME_BYTES, b"\0"))
            self._rest = b""
        if self._queue and not self.is_over:
            await self._queue_empty.wait()
            self._turns.caller_spoke(self.now())
        return not self.is_over

    async def floor(self) -> bool:
        """Wait until all of `speak` is out and it is the caller's turn again; False when the call is over."""
        return await self.spoken() and await super().floor()

    async def transmit(self, pcm: bytes) -> None:
        """Send PCM at once; returns when the server has it, and all that it had sent before is here.

        Raises:
            CallRefused: if the server does not accept it.
        """
        await self.invoke("SendAudioAsync", base64.b64encode(pcm).decode())
        self.recording.add_caller(pcm)

    async def press(self, digit: str) -> None:
        """Press one key, `0-9 * #`.

        Raises:
            CallRefused: if the server does not accept it.
        """
        await self.invoke("SendDtmfAsync", digit)
        self._turns.caller_spoke(self.now())

    async def hang_up(self, reason: str = "user_ended") -> Ended | None:
        """End the session and wait for the server's `SessionEnded`."""
        if not self.is_over:
            await self.invoke("EndSessionAsync", reason)
        return await self.wait_for_end(within=_FAREWELL)

    def _take(self, event: CallerEvent, now: float) -> None:
        if isinstance(event, Sounded):
            self.recording.add_agent(event.pcm, self._call_time())

    async def _send_audio(self, frame_every: float) -> None:
        started = self._clock.monotonic()
        number = 0
        try:
            while not self.is_over:
                await self._clock.sleep_until(started + number * frame_every)
                frame = self._queue.popleft() if self._queue else _SILENCE
                await self._client.send("SendAudioAsync", base64.b64encode(frame).decode())
                self.recording.add_caller(frame)
                if not self._queue:
                    self._queue_empty.set()
                number += 1
        except (SignalRError, OSError):
            # The connection is going; `_wait_until_closed` tells.
            pass
        finally:
            self._queue_empty.set()


class ChatUser(_Party):
    """One chat on the ChatHub.

    Source: Documented, "ChatHub": connection, methods and events, as far as the page could be read.
    """

    def __init__(
        self,
        base_url: str,
        agent_id: str,
        *,
        access_token: str,
        clock: Clock,
        metadata: Mapping[str, object] | None = None,
        session_id: str | None = None,
        language: str | None = None,
        user_name: str | None = None,
        patience: float = 6.0,
        also: Sequence[str] = (),
        on_event: Callable[[CallerEvent, float], None] | None = None,
    ) -> None:
        super().__init__(
            lambda session: _hub_url(
                base_url,
                "chat",
                agentId=agent_id,
                sessionId=session,
                metadata=_json(metadata),
                language=language,
                userName=user_name,
            ),
            _CHAT_EVENTS,
            session_id=session_id,
            access_token=access_token,
            clock=clock,
            turns=TurnTaking(patience=patience, breath=0.2),
            also=also,
            on_event=on_event,
        )

    async def write(self, text: str, *, metadata: Mapping[str, object] | None = None) -> None:
        """Send one message.

        Raises:
            CallRefused: if the server does not accept it.
        """
        self._turns.caller_spoke(self.now())
        await self.invoke("SendMessageAsync", {"content": text, "metadata": dict(metadata or {})})

    async def typing(self) -> None:
        """Tell the agent that the user types."""
        await self.invoke("TypingAsync")

    async def cancel(self) -> None:
        """Have no more of the reply that is being written."""
        await self.invoke("CancelAsync")

    async def hang_up(self) -> Ended | None:
        """End the session and wait for the server's `SessionEnded`."""
        if not self.is_over:
            await self.invoke("EndSessionAsync")
        return await self.wait_for_end(within=_FAREWELL)


def _hub_url(base_url: str, hub: str, **query: str | None) -> str:
    given = {name: value for name, value in query.items() if value}
    return f"{base_url.rstrip('/')}/hubs/{hub}?{urlencode(given)}"


def _with_reason(error: NegotiationError) -> str:
    """The error, and what the server says about it in its problem document."""
    try:
        return f"{error}: {json.loads(error.body)['detail']}"
    except (ValueError, LookupError, TypeError):
        return str(error)


def _json(metadata: Mapping[str, object] | None) -> str | None:
    return json.dumps(metadata, separators=(",", ":")) if metadata else None
