"""The calls of a tenant as a test sees them: awaited, spoken and pressed into, and told when something went wrong.

All of it belongs to the server's loop; `mock_calls` has what tests hold.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

from voisnap_mock.agents.script import EndReason
from voisnap_mock.agents.shape import did_you_mean
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, FRAME_SECONDS
from voisnap_mock.clock import SPEEDS, Clock
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.cloud.wire import ArgumentError, one_digit
from voisnap_mock.coverage import EVENTS, EVENTS_OF, METHODS
from voisnap_mock.engine.events import AudioArrived, DigitPressed, HangupRequested, TextArrived
from voisnap_mock.engine.runner import Session
from voisnap_mock.errors import ExpectationFailed, MisuseError
from voisnap_mock.journal import Journal, JournalEntry, JournalFilter
from voisnap_mock.testing.story import Moment, story, timeline
from voisnap_mock.verifying import Expected, nearest_to

Result = TypeVar("Result")

QUIET = 0.01
"""Seconds of real time without anything from the client after which, while a test waits, the agent goes on."""

_LOOK_EVERY = 0.005
_TARGETS = frozenset(name for table in (EVENTS, METHODS) for names in table.values() for name in names)
# Where an entry says something in words.
_WORDS = ("text", "message", "code", "reason", "digit", "summary", "rule")


class ObservedCall:
    """One call of a tenant. Its coroutines belong to the server's loop; its values may be read from any thread.

    Attributes:
        seq: of its first entry in the journal.
        is_claimed: a test expected it, so no other expectation is fulfilled by it.
    """

    def __init__(self, book: CallBook, call_id: str, agent_id: str, channel: str, seq: int) -> None:
        self.id = call_id
        self.agent_id = agent_id
        self.channel = channel
        self.seq = seq
        self.book = book
        self.is_claimed = False
        self._seen = seq

    # --- what is known ------------------------------------------------------------------------------------------

    @property
    def session(self) -> Session | None:
        """None once it is over."""
        return self.book.tenant.sessions.get(self.id)

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """What the journal has of it."""
        return self.book.tenant.journal.entries(JournalFilter(call=self.id))

    @property
    def moments(self) -> list[Moment]:
        return story(self.entries)

    @property
    def reason(self) -> str | None:
        """Why it ended; None while it goes on."""
        return next((entry.details["reason"] for entry in self.entries if entry.kind == "session.ended"), None)

    @property
    def duration(self) -> float:
        """Seconds of call time until its end; 0.0 while it goes on."""
        return next((entry.details["duration"] for entry in self.entries if entry.kind == "session.ended"), 0.0)

    def told(self) -> str:
        """The call for people: whose it is, and its story."""
        session = self.session
        state = f"ended: {self.reason}" if session is None else f"{session.status}, {session.t:.3f} s"
        lines = timeline(self.moments) or "  nothing happened"
        return f"call {self.id} with {self.agent_id} ({self.channel}; {state})\n{lines}"

    def failed(self, what: str) -> ExpectationFailed:
        return ExpectationFailed(f"{what}\n{self.told()}")

    # --- what a test does ---------------------------------------------------------------------------------------

    async def hear(self, text: str) -> None:
        """The agent hears the caller say, or write, `text`."""
        session = self._live("hear")
        if session.channel == "chat":
            session.receive(TextArrived(text, {}))
            await self._taken(session)
            return
        speech = await self.book.speak(text)
        silence = bytes(math.ceil(session.script.timing.end_of_turn / FRAME_SECONDS + 2) * CALLER_FRAME_BYTES)
        # All at once, on every clock: what the client sends meanwhile must not come between.
        session.receive(AudioArrived(speech + bytes(-len(speech) % CALLER_FRAME_BYTES) + silence))
        await self._taken(session)

    async def press(self, keys: str) -> None:
        """The agent is told that the caller pressed these keys."""
        session = self._live("press")
        if session.channel == "chat":
            raise MisuseError(f"call {self.id} is a chat: it has no keys to press")
        try:
            digits = [one_digit(key) for key in keys]
        except ArgumentError as error:
            raise MisuseError(f"press({keys!r}): {error}") from None
        for digit in digits:
            session.receive(DigitPressed(digit))
        await self._taken(session)

    async def push(self, target: str, arguments: tuple[Any, ...]) -> None:
        """Send the client a hub event."""
        session = self._live("push")
        session.push(target, arguments)
        await self._taken(session)

    async def hang_up(self, reason: str) -> None:
        """End it from the agent's side."""
        try:
            ended = EndReason(reason)
        except ValueError:
            raise MisuseError(f"hang_up({reason!r}): expected one of {', '.join(EndReason)}") from None
        session = self._live("hang_up")
        session.receive(HangupRequested(ended))
        await self._taken(session)

    async def wait_for(
        self,
        what: str,
        *,
        text: str | None,
        timeout: float,  # noqa: ASYNC109 - it is call time
        partial: bool,
    ) -> JournalEntry:
        """The next entry of this kind or target, after the one that was waited for before."""
        _check_name(what)
        named = what + (f" with {text!r}" if text is not None else "")
        until = self._t + timeout
        with self.book.waiting(timeout) as look_again:
            while True:
                for entry in self.book.tenant.journal.entries(JournalFilter(call=self.id, since=self._seen)):
                    if _fits(entry, what, text=text, partial=partial):
                        self._seen = entry.seq
                        return entry
                session = self.session
                if session is None:
                    raise self.failed(
                        f"{named} did not come before the call was over ({self.reason}){self._near(what, text)}"
                    )
                if session.t >= until:
                    raise self.failed(f"{named} did not come within {timeout:g} s of call time{self._near(what, text)}")
                session.hurry(QUIET)
                if not await look_again():
                    raise self.failed(
                        f"{named} did not come within {self.book.patience:g} s of real time; "
                        f"call time is {session.t:.3f} s{self._moved_by()}{self._near(what, text)}"
                    )

    async def come_to_rest(self) -> None:
        """On a virtual clock: let what the agent is doing run out; at the most for the patience of the test."""
        if not self.book.is_virtual:
            return
        with self.book.waiting() as look_again:
            while (session := self.session) is not None and not session.is_at_rest:
                session.hurry(QUIET)
                if not await look_again():
                    return

    def _live(self, doing: str) -> Session:
        session = self.session
        if session is None:
            raise self.failed(f"{doing}: the call is over ({self.reason})")
        return session

    async def _taken(self, session: Session) -> None:
        """Return when what was handed in has been acted on."""
        if self.book.is_virtual:
            await session.advance(0.0)

    @property
    def _t(self) -> float:
        session = self.session
        return 0.0 if session is None else session.t

    def _moved_by(self) -> str:
        """Most waits in vain on a virtual clock are for a caller who neither speaks nor listens."""
        if not self.book.is_virtual or self.channel != "voice":
            return ""
        return " and goes on with the client's audio (`caller.heard()` listens) or `clock.advance(...)` alone"

    def _near(self, what: str, text: str | None) -> str:
        """What came nearest, and why it is not the one."""
        wanted = Expected(kind=what, text=text) if "." in what else Expected(target=what, text=text)
        whole = [entry for entry in self.entries if entry.details.get("is_final", True)]
        if not any(_fits(entry, what, text=None, partial=False) for entry in whole):
            return f"; there was no {what} at all"
        _, why = nearest_to(wanted, whole, sum(entry.seq <= self._seen for entry in whole))
        return f"; {why}"


class DoorJournal:
    """What the server noted since now of those whose tenant it does not know: a bad token, a request that failed.

    It is nobody's own: with several tests at the same time, each sees it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._since = journal.last_seq

    def entries(self, kind: str) -> tuple[JournalEntry, ...]:
        return self._journal.entries(JournalFilter(kind=kind, since=self._since))


class CallBook:
    """The calls of a tenant, in the order in which they came. Belongs to the server's loop.

    Attributes:
        observed: all of them.
        patience: seconds of real time that a test waits for something at the most.

    Args:
        door: where connections of unknown tenants are noted.
        speak: what a caller says, as PCM s16le mono at 16 kHz.
    """

    def __init__(
        self,
        tenant: Tenant,
        *,
        door: DoorJournal,
        clock: Clock,
        speak: Callable[[str], Awaitable[bytes]],
        patience: float,
    ) -> None:
        self.tenant = tenant
        self._door = door
        self.clock = clock
        self.speak = speak
        self.patience = patience
        self.observed: list[ObservedCall] = []
        self._news = asyncio.Event()
        self._claiming = threading.Lock()
        self._follow = self._take
        tenant.journal.follow(self._follow)

    @property
    def is_virtual(self) -> bool:
        return self.tenant.sessions.mode == "virtual"

    def close(self) -> None:
        self.tenant.journal.unfollow(self._follow)

    def find(self, call_id: str) -> ObservedCall | None:
        return next((call for call in self.observed if call.id == call_id), None)

    async def arrival(self, agent_id: str, since: int) -> ObservedCall:
        """The first call to this agent that began after the journal's `since` and that nobody else expected."""
        with self.waiting() as look_again:
            while (call := self.claim(agent_id, since)) is None:
                if not await look_again():
                    raise ExpectationFailed(self._no_arrival(agent_id, since))
            return call

    def claim(self, agent_id: str, since: int) -> ObservedCall | None:
        """The same if it is there already; from any thread."""
        with self._claiming:
            for call in self.observed:
                if call.seq > since and not call.is_claimed and call.agent_id == agent_id:
                    call.is_claimed = True
                    return call
        return None

    @contextmanager
    def waiting(
        self, call_seconds: float = 0.0, *, patience: float | None = None
    ) -> Iterator[Callable[[], Awaitable[bool]]]:
        """Gives what to await between two looks: it returns at news or soon, and False when patience is at its end.

        Args:
            call_seconds: how much call time may pass meanwhile, which takes real time on a clock that is not virtual.
            patience: instead of the test's own.
        """
        passing = 0.0 if self.is_virtual else call_seconds / SPEEDS[self.tenant.sessions.mode]
        give_up = self.clock.monotonic() + (self.patience if patience is None else patience) + passing

        async def look_again() -> bool:
            left = give_up - self.clock.monotonic()
            if left <= 0:
                return False
            self._news.clear()
            try:
                async with asyncio.timeout(min(left, _LOOK_EVERY)):
                    await self._news.wait()
            except TimeoutError:
                pass
            return True

        yield look_again

    def _take(self, entry: JournalEntry) -> None:
        if entry.kind == "session.opened" and entry.call_id is not None:
            agent, channel = str(entry.details["agent"]), str(entry.details["channel"])
            self.observed.append(ObservedCall(self, entry.call_id, agent, channel, entry.seq))
        self._news.set()

    def _no_arrival(self, agent_id: str, since: int) -> str:
        meanwhile = [f"a call to {call.agent_id}" for call in self.observed if call.seq > since]
        own = self.tenant.journal.entries(JournalFilter(since=since))
        for entry in (*own, *self._door.entries("connection.refused")):
            if entry.kind == "connection.turned_away":
                meanwhile.append(
                    f"a connection that was turned away: {entry.details['code']}, {entry.details['message']}"
                )
            elif entry.kind == "connection.refused":
                meanwhile.append(f"a connection that was refused: {entry.details['message']}")
        hint = ""
        if agent_id not in self.tenant.agents:
            hint = f"; there is no such agent{did_you_mean(agent_id, list(self.tenant.agents))}"
        came = "; ".join(meanwhile) or "nothing"
        return f"no call to {agent_id} came within {self.patience:g} s{hint}; meanwhile came: {came}"


def _fits(entry: JournalEntry, what: str, *, text: str | None, partial: bool) -> bool:
    """Whether an entry is what a test waits for: a kind such as `fault.fired`, else a hub event or method."""
    details = entry.details
    if not partial and details.get("is_final") is False:
        return False
    if "." in what:
        is_it = JournalFilter(kind=what).takes(entry)
    else:
        # The end of a chat is one entry and two events.
        is_it = what in (*EVENTS_OF.get(entry.kind, ()), details.get("target"))
    if not is_it or text is None:
        return is_it
    wanted = text.casefold()
    return any(wanted in str(details[name]).casefold() for name in _WORDS if name in details)


def _check_name(what: str) -> None:
    """A name that is nearly one of the service's is a slip; others may be those of events that a script pushes."""
    if "." in what or what in _TARGETS:
        return
    near = get_close_matches(what, _TARGETS, n=1, cutoff=0.8)
    if near:
        raise MisuseError(f"wait_for({what!r}): there is no such hub event or method; did you mean {near[0]!r}?")
