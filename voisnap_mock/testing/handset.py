"""The reference caller for tests: a telephone in a program's hand, on a real hub of a server in the same process.

    with MockServer("agents.yaml", clock="virtual") as server, server.caller("agt_support") as caller:
        assert caller.heard() == "Hi, this is Acme. How can I help?"
        caller.say("I want a refund")
        assert caller.heard() == "Sure. What is the order number?"

On a virtual clock the handset moves the call's time itself: what it sends is the time, 20 ms by 20 ms, and while it
listens it sends silence, as a line does. So the same program is the same call, to the frame. On the other clocks it
speaks and listens at the clock's pace.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from voisnap_mock.agents.script import DEFAULT_TENANT, User
from voisnap_mock.app import App
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, CALLER_RATE, FRAME_SECONDS, read_wav, resample
from voisnap_mock.caller import (
    CallerEvent,
    CallRefused,
    ChatUser,
    Connected,
    Ended,
    Heard,
    Said,
    VoiceCaller,
    Wrote,
)
from voisnap_mock.clock import SPEEDS
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.engine.runner import Session
from voisnap_mock.errors import VoisnapMockError
from voisnap_mock.journal import JournalEntry, JournalFilter
from voisnap_mock.tracks import Recording

Result = TypeVar("Result")
Line_ = TypeVar("Line_", VoiceCaller, ChatUser)
Party_ = TypeVar("Party_", bound="AsyncParty[Any]")

# A failed test shows its own lines, not these.
__tracebackhide__ = True

# Frames of one message; as base64 they must stay below what a hub takes.
_MOST_AHEAD = 32
# What a caller who listens waits for.
_STOPS = frozenset(
    {"agent.transcript", "session.ended", "session.detached", "session.failed", "transfer.started", "event.pushed"}
)
_LINES = ("agent.transcript", "caller.transcript", "agent.message", "caller.message")


class NothingHeard(VoisnapMockError):
    """The agent did not say what was waited for; the text has the conversation so far."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a conversation.

    Attributes:
        who: `agent` or `caller`; of one who speaks it is what the agent understood.
        begin, end: seconds of call time.
        interrupted: the caller broke it off, and `text` is what was really played.
    """

    who: str
    text: str
    begin: float
    end: float
    interrupted: bool = False


class AsyncParty(Generic[Line_]):
    """What a telephone and a keyboard in a program's hand have in common; an async context manager.

    Inside, the session is on. Leaving it hangs up, unless the connection was dropped: then the session waits.

    Args:
        agent_id: whom to reach.
        metadata: of the connection, for the agent's templates.
        tenant: whose agent it is.
    """

    def __init__(
        self,
        app: App,
        base_url: str,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        self._app = app
        self._base_url = base_url
        self._agent_id = agent_id
        self._metadata = metadata
        self._tenant_id = tenant
        # Kept when the server forgets it: what was can still be told.
        self._known_tenant: Tenant | None = None
        self._line: Line_ | None = None
        self._session: Session | None = None
        self._said: list[tuple[str, str]] = []
        self._heard = 0

    async def __aenter__(self) -> Self:
        self._line = self._make_line()
        await self._line.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        line = self._own_line
        if line.is_dropped:
            self._live.release()
            return
        if not line.is_over:
            await line.hang_up()
        await line.__aexit__(None, None, None)

    # --- what was said ------------------------------------------------------------------------------------------

    @property
    def conversation_id(self) -> str:
        return str(self._live.id)

    @property
    def t(self) -> float:
        """Call time, in seconds."""
        return self._live.t

    @property
    def ended(self) -> Ended | None:
        """How the session ended, once it has."""
        return self._own_line.ended

    @property
    def transcript(self) -> list[tuple[str, str]]:
        """Who said what so far, in order: `("agent", "Hello.")`."""
        return list(self._said)

    @property
    def timed_transcript(self) -> list[Line]:
        """The same with the call times, as the journal has them; a chat message has one time."""
        entries = self._tenant.journal.entries(JournalFilter(call=self.conversation_id))
        return [
            Line(
                entry.kind.partition(".")[0],
                entry.details["text"],
                entry.details.get("begin", entry.t),
                entry.details.get("end", entry.t),
                entry.details.get("interrupted", False),
            )
            for entry in entries
            if entry.kind in _LINES and entry.details.get("is_final", True)
        ]

    async def heard(self, timeout: float = 10.0) -> str:  # noqa: ASYNC109 - it is call time
        """What the agent says next, to its end; what it has said since the last time counts.

        Args:
            timeout: seconds of call time.

        Raises:
            NothingHeard: if it says nothing within `timeout`, or the session ends.
        """
        give_up = self.t + timeout
        while not (unheard := [text for who, text in self._said[self._heard :] if who == "agent"]):
            if not self._is_on:
                reason = self.ended.reason if self.ended is not None else "the connection is lost"
                raise NothingHeard(f"the call ended ({reason}) and nothing more was said; {self._shown()}")
            if self.t + 1e-9 >= give_up:
                raise NothingHeard(f"the agent said nothing within {timeout:g} s of call time; {self._shown()}")
            await self._let_pass(give_up - self.t)
        while self._said[self._heard][0] != "agent":
            self._heard += 1
        self._heard += 1
        return unheard[0]

    async def hears_end(self, timeout: float = 60.0) -> Ended:  # noqa: ASYNC109 - it is call time
        """Stay until the session is over. Raises NothingHeard if it is not within `timeout` of call time."""
        give_up = self.t + timeout
        while self.ended is None:
            if not self._is_on or self.t + 1e-9 >= give_up:
                raise NothingHeard(f"the call did not end within {timeout:g} s of call time; {self._shown()}")
            await self._let_pass(give_up - self.t)
        return self.ended

    # --- the connection -----------------------------------------------------------------------------------------

    async def drop(self) -> None:
        """Lose the connection without a word; returns when the server has noticed."""
        line = self._open_line
        wanted = JournalFilter(call=self.conversation_id, kind="session.detached", since=self._tenant.journal.last_seq)
        with self._tenant.journal.subscribe(wanted) as detached:
            await line.drop()
            await anext(detached)

    async def resume(self) -> None:
        """Come back on a new connection. Raises CallRefused if the session does not wait any more."""
        if not self._own_line.is_dropped:
            raise CallRefused("the call was not dropped: there is nothing to resume")
        await self._own_line.resume()

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _live(self) -> Session:
        assert self._session is not None, "there is no call yet: use the object as a context manager"
        return self._session

    @property
    def _tenant(self) -> Tenant:
        if self._known_tenant is None:
            self._known_tenant = self._app.tenants.get(self._tenant_id)
        if self._known_tenant is None:
            raise CallRefused(f"tenant {self._tenant_id!r} is not known; there are {', '.join(self._app.tenants.ids)}")
        return self._known_tenant

    @property
    def _own_line(self) -> Line_:
        assert self._line is not None, "there is no line yet: use the object as a context manager"
        return self._line

    @property
    def _open_line(self) -> Line_:
        line = self._own_line
        if line.is_dropped:
            raise CallRefused("the connection was dropped: resume() first")
        if line.is_over:
            raise CallRefused(f"the call is over; {self._shown()}")
        return line

    @property
    def _is_on(self) -> bool:
        return not self._own_line.is_over

    @property
    def _is_virtual(self) -> bool:
        return self._tenant.sessions.mode == "virtual"

    def _access_token(self) -> str:
        user = User("caller@example.test", "", tenant=self._tenant.id)
        return self._app.tokens.mint(user, self._app.clock.wall())

    def _make_line(self) -> Line_:
        raise NotImplementedError

    def _learn(self, event: CallerEvent, at: float) -> None:
        match event:
            case Said(text, is_final=True) | Wrote(_, text, is_final=True):
                self._said.append(("agent", text))
            case Heard(text, is_final=True):
                self._said.append(("caller", text))
            case Connected():
                # At once: its time must not begin to move before we say so.
                self._session = self._tenant.sessions.get(event.session_id)
                self._live.hold()
            case _:
                pass

    async def _wait_until(self, at: float) -> None:
        if at < self.t - 1e-9:
            raise ValueError(f"at={at:g} lies in the past: call time is {self.t:g} s")
        while self.t + FRAME_SECONDS / 2 < at and self._is_on:
            await self._let_pass(at - self.t)

    async def _let_pass(self, seconds: float) -> None:
        """Wait for news, `seconds` of call time at most; on a virtual clock let a little of it pass."""
        raise NotImplementedError

    async def _wait_for_news(self, seconds: float) -> None:
        """On a clock that goes by itself."""
        await self._open_line.wait_for_news(max(0.001, seconds / SPEEDS[self._tenant.sessions.mode]))

    def _shown(self) -> str:
        lines = "; ".join(f"{who}: {text!r}" for who, text in self._said)
        return f"the conversation so far: {lines}" if lines else "nothing was said so far"


class AsyncHandset(AsyncParty[VoiceCaller]):
    """A caller on the server's own loop; an async context manager, inside of which the call is on.

    Leaving it hangs up. `Handset` is the same for programs that are not async.

    Args:
        voice: the caller's own.
    """

    def __init__(
        self,
        app: App,
        base_url: str,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        voice: str = "en-us",
        tenant: str = DEFAULT_TENANT,
        ahead: int = _MOST_AHEAD,
    ) -> None:
        super().__init__(app, base_url, agent_id, metadata=metadata, tenant=tenant)
        self._voice = voice
        self._ahead = ahead
        self._tap = _Tap()
        self._is_listening = False

    @property
    def audio(self) -> Recording:
        """Both sides so far, on one time line of call time."""
        return self._own_line.recording

    # --- what a caller does -------------------------------------------------------------------------------------

    async def say(self, text: str) -> None:
        """Say `text`; returns when it is said, the agent's answer is still to come. Raises SpeechError."""
        await self._utter(await self._speech(text))

    async def play(self, wav: str | Path) -> None:
        """Play a WAV file of any rate. Raises SpeechError if it is none, OSError if it cannot be read."""
        await self._utter(await asyncio.to_thread(_caller_audio, Path(wav)))

    async def press(self, digits: str) -> None:
        """Press keys, `0-9 * #`, one after the other. Raises CallRefused for others."""
        line = self._open_line
        for digit in digits:
            await line.press(digit)
        await self._settle()

    async def interrupt(self, text: str = "Wait a moment please.", *, at: float | None = None) -> None:
        """Begin to say `text` at `at` seconds of call time, whatever the agent is doing; at once without `at`.

        Raises:
            ValueError: if that time is over.
        """
        pcm = await self._speech(text)
        if at is not None:
            await self._wait_until(at)
        await self._utter(pcm)

    # --- inside -------------------------------------------------------------------------------------------------

    def _make_line(self) -> VoiceCaller:
        return VoiceCaller(
            self._base_url,
            self._agent_id,
            access_token=self._access_token(),
            clock=self._app.clock,
            metadata=self._metadata,
            speed=None if self._is_virtual else SPEEDS[self._tenant.sessions.mode],
            call_time=self._time_of_audio,
            on_event=self._learn,
        )

    def _learn(self, event: CallerEvent, at: float) -> None:
        super()._learn(event, at)
        if isinstance(event, Connected):
            self._live.listen_in(self._tap)
            self._tenant.journal.follow(self._stop_listening_at)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tenant.journal.unfollow(self._stop_listening_at)
        await super().__aexit__(kind, error, trace)

    def _time_of_audio(self) -> float:
        """When the agent audio that is here now was sent, in call time."""
        if self._tap.said_at:
            return self._tap.said_at.popleft()
        return 0.0 if self._session is None else self._session.t

    def _stop_listening_at(self, entry: JournalEntry) -> None:
        """Silence is sent ahead of what it waits for: what comes first ends it, so none is sent too much."""
        is_one = entry.kind in _STOPS and entry.details.get("is_final", True)
        if self._is_listening and is_one and entry.call_id == self._live.id:
            self._is_listening = False
            self._live.take_back()

    async def _speech(self, text: str) -> bytes:
        return await self._app.caller_voice.speak(text, self._voice)

    async def _utter(self, pcm: bytes) -> None:
        line = self._open_line
        if not self._is_virtual:
            line.speak(pcm)
            await line.spoken()
            return
        pcm += bytes(-len(pcm) % CALLER_FRAME_BYTES)
        most = self._ahead * CALLER_FRAME_BYTES
        for at in range(0, len(pcm), most):
            if line.is_over:
                return
            await self._send(pcm[at : at + most])

    async def _let_pass(self, seconds: float) -> None:
        if not self._is_virtual:
            await self._wait_for_news(seconds)
            return
        frames = min(self._ahead, max(1, math.ceil(seconds / FRAME_SECONDS - 1e-6)))
        self._is_listening = True
        try:
            await self._send(bytes(frames * CALLER_FRAME_BYTES))
        finally:
            self._is_listening = False

    async def _send(self, pcm: bytes) -> None:
        """On a virtual clock: send whole frames, and return when all that came of it is here."""
        self._tap.frames_heard = 0
        before = self._live.answers
        await self._open_line.transmit(pcm)
        if before is None or self._live.answers != before:
            await self._settle()
        self.audio.drop_caller(len(pcm) - self._tap.frames_heard * CALLER_FRAME_BYTES)
        self._tap.said_at.clear()

    async def _settle(self) -> None:
        """On a virtual clock: return when all that was sent has been acted on, and what came of it is here."""
        if self._is_virtual:
            await self._live.advance(0.0)
            if self._is_on:
                await self._open_line.transmit(b"")


class _Tap:
    """What the session has really heard of a handset, and when it has sent what."""

    def __init__(self) -> None:
        self.frames_heard = 0
        self.said_at: deque[float] = deque()

    def heard(self, pcm: bytes, t: float) -> None:
        self.frames_heard += 1

    def said(self, pcm: bytes, t: float) -> None:
        self.said_at.append(t)

    def close(self) -> None:
        pass


def _caller_audio(wav: Path) -> bytes:
    pcm, rate = read_wav(wav.read_bytes())
    return pcm if rate == CALLER_RATE else resample(pcm, rate, CALLER_RATE)


class Loop(Protocol):
    """Runs coroutines on a server that is in a thread of its own."""

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run `work` on the server's loop."""
        ...

    def wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The same, and return what it returns."""
        ...


class PartyView(Generic[Party_]):
    """What another thread than the server's may read of an `AsyncParty`."""

    def __init__(self, loop: Loop, party: Party_) -> None:
        self._loop = loop
        self._party = party

    @property
    def conversation_id(self) -> str:
        return self._party.conversation_id

    @property
    def t(self) -> float:
        return self._party.t

    @property
    def ended(self) -> Ended | None:
        return self._party.ended

    @property
    def transcript(self) -> list[tuple[str, str]]:
        return self._party.transcript

    @property
    def timed_transcript(self) -> list[Line]:
        return self._party.timed_transcript


class Party(PartyView[Party_]):
    """An `AsyncParty` for programs that are not async. All methods block."""

    def __enter__(self) -> Self:
        self._loop.wait_for(self._party.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.wait_for(self._party.__aexit__(kind, error, trace))

    def heard(self, timeout: float = 10.0) -> str:
        """See `AsyncParty.heard`, and so for all others."""
        return self._loop.wait_for(self._party.heard(timeout))

    def hears_end(self, timeout: float = 60.0) -> Ended:
        return self._loop.wait_for(self._party.hears_end(timeout))

    def drop(self) -> None:
        self._loop.wait_for(self._party.drop())

    def resume(self) -> None:
        self._loop.wait_for(self._party.resume())


class Handset(Party[AsyncHandset]):
    """`AsyncHandset` for programs that are not async; `MockServer.caller` makes it. All methods block."""

    def say(self, text: str) -> None:
        """See `AsyncHandset.say`, and so for all others."""
        self._loop.wait_for(self._party.say(text))

    def play(self, wav: str | Path) -> None:
        self._loop.wait_for(self._party.play(wav))

    def press(self, digits: str) -> None:
        self._loop.wait_for(self._party.press(digits))

    def interrupt(self, text: str = "Wait a moment please.", *, at: float | None = None) -> None:
        self._loop.wait_for(self._party.interrupt(text, at=at))

    @property
    def audio(self) -> Recording:
        return self._party.audio
