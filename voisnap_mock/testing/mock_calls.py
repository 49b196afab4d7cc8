"""The calls of a test as a test holds them: `MockCall`, whose methods block, and `AsyncMockCall`, which is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

from voisnap_mock.audio.frames import WAV_HEADER_BYTES
from voisnap_mock.errors import ExpectationFailed, MisuseError, VoisnapMockError
from voisnap_mock.journal import JournalEntry
from voisnap_mock.recordings.call_files import Side
from voisnap_mock.testing.calls import CallBook, ObservedCall
from voisnap_mock.testing.golden import GoldenFiles, golden_text
from voisnap_mock.testing.handset import Loop
from voisnap_mock.testing.story import Moment

Result = TypeVar("Result")

# A failed test shows its own lines, not these.
__tracebackhide__ = True


@dataclass(slots=True)
class Bench:
    """What the calls of a test share.

    Attributes:
        over: why nothing more can be done; empty while it can.
    """

    loop: Loop
    book: CallBook
    golden: GoldenFiles
    over: str = ""

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` returns, once it is done. Raises MisuseError where it would stop an event loop from running."""
        try:
            self.check()
            self.check_blocking()
        except MisuseError:
            work.close()
            raise
        return self.loop.wait_for(work)

    async def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The same for whoever awaits it, in an event loop of any thread."""
        try:
            self.check()
        except MisuseError:
            work.close()
            raise
        try:
            return await asyncio.wrap_future(self.loop.submit(work))
        except VoisnapMockError as error:
            raise error.with_traceback(None) from None

    def check(self) -> None:
        """Raises MisuseError when the test is over."""
        if self.over:
            raise MisuseError(self.over)

    def check_blocking(self) -> None:
        """Raises MisuseError where waiting would stop an event loop from running."""
        if _in_event_loop():
            raise MisuseError(
                "this would stop the event loop that your client runs on: in an async test write "
                "`async with voisnap_mock.expect_call(...) as call`, and await the methods of `call`"
            )


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _CallFace:
    """What can be read of a call, whether its methods block or are awaited. Everything may be read from any thread."""

    def __init__(self, bench: Bench, call: ObservedCall | None, *, whom: str = "", since: int = 0) -> None:
        self._bench = bench
        self._found = call
        self._whom = whom
        self._since = since

    @property
    def _call(self) -> ObservedCall:
        if self._found is None:
            self._found = self._bench.book.claim(self._whom, self._since)
        if self._found is None:
            raise ExpectationFailed(f"no call to {self._whom} has come yet; wait_for(...) waits until it is there")
        return self._found

    @property
    def id(self) -> str:
        """Equal to the client's `conversationId`."""
        return self._call.id

    @property
    def agent_id(self) -> str:
        return self._call.agent_id

    @property
    def channel(self) -> str:
        """`voice`, `chat` or `webrtc`."""
        return self._call.channel

    @property
    def t(self) -> float:
        """Call time in seconds; after the end, how long it was."""
        session = self._call.session
        return self._call.duration if session is None else session.t

    @property
    def reason(self) -> str | None:
        """Why it ended; None while it goes on."""
        return self._call.reason

    @property
    def transcript(self) -> list[tuple[str, str]]:
        """Who said what, to its end: `("agent", "Hello.")`; of the caller it is what the agent understood."""
        return [(moment.who, moment.text) for moment in self._call.moments if moment.who in ("agent", "caller")]

    @property
    def timed_transcript(self) -> list[Moment]:
        """The same with call times, and with all else that happened: keys, transfers, errors, faults, the end."""
        return self._call.moments

    @property
    def events(self) -> tuple[JournalEntry, ...]:
        """What the journal has of the call, in order."""
        return self._call.entries

    @property
    def reconnects(self) -> int:
        """How often the client was told `Reconnected`."""
        return sum(entry.kind == "session.resumed" for entry in self._call.entries)

    @property
    def silence_after_barge_in(self) -> float | None:
        """Seconds of call time from the last interruption until the agent spoke again.

        None when nobody interrupted, or the agent has said nothing more.
        """
        said = [moment for moment in self._call.moments if moment.who == "agent"]
        for moment, following in reversed(list(pairwise(said))):
            if moment.interrupted and following.begin is not None:
                return round(following.begin - moment.t, 3)
        return None

    @property
    def audio_in(self) -> bytes:
        """What the caller sent so far, on the line of call time: PCM s16le mono at 16 kHz."""
        return self._audio("in")

    @property
    def audio_out(self) -> bytes:
        """What the agent sent so far, likewise, at 24 kHz."""
        return self._audio("out")

    def _audio(self, side: Side) -> bytes:
        call = self._call

        async def listen() -> bytes:
            return call.book.tenant.calls.wav(call.id, side)

        wav = call.book.tenant.calls.wav(call.id, side) if self._bench.over else self._bench.loop.wait_for(listen())
        return wav[WAV_HEADER_BYTES:]

    def assert_golden(self, path: str | Path, *, times: bool = False) -> None:
        """The call is the one of the golden file; see `voisnap_mock.testing.golden`. `times` compares call times too.

        Raises:
            ExpectationFailed: with the difference.
        """
        self._bench.golden.check(path, golden_text(self._call.moments, times=times))

    def told(self) -> str:
        """The call for people: who said what when, and what befell it."""
        return self._call.told()

    def __repr__(self) -> str:
        if self._found is None:
            return f"<{type(self).__name__} to {self._whom}, not here yet>"
        return f"<{type(self).__name__} {self.id} with {self.agent_id}>"

    async def _arrived(self) -> ObservedCall:
        """The call, once it is there."""
        if self._found is None:
            self._found = await self._bench.book.arrival(self._whom, self._since)
        return self._found

    async def _settled(self) -> None:
        """The call has come, and the agent does nothing any more that would go on by itself."""
        await (await self._arrived()).come_to_rest()

    async def _hear(self, text: str) -> None:
        await (await self._arrived()).hear(text)

    async def _press(self, keys: str) -> None:
        await (await self._arrived()).press(keys)

    async def _wait_for(self, what: str, text: str | None, timeout: float, partial: bool) -> JournalEntry:  # noqa: ASYNC109
        call = await self._arrived()
        return await call.wait_for(what, text=text, timeout=timeout, partial=partial)

    async def _push(self, target: str, arguments: tuple[Any, ...]) -> None:
        await (await self._arrived()).push(target, arguments)

    async def _hang_up(self, reason: str) -> None:
        await (await self._arrived()).hang_up(reason)


class MockCall(_CallFace):
    """A call, for tests that are not async. Methods wait for the call to be there, and until their work is done."""

    def hear(self, text: str) -> None:
        """The agent hears the caller say `text`, or reads it in a chat: put into the call as if the client had sent it.

        The silence that ends a turn comes with it. The client learns of it as of everything the caller says.
        """
        self._bench.run(self._hear(text))

    def press(self, keys: str) -> None:
        """The agent is told that the caller pressed these keys, `0-9 * #`, as if the client had."""
        self._bench.run(self._press(keys))

    def wait_for(
        self, what: str, *, text: str | None = None, timeout: float = 30.0, partial: bool = False
    ) -> JournalEntry:
        """Wait for what happens next in the call, and return it; what was waited for once does not count again.

        Args:
            what: a hub event or method (`TranscriptionOf`, `SendDtmfAsync`), or a kind of entry (`fault.fired`).
            text: part of what it says, without regard to case.
            timeout: seconds of call time.
            partial: partial transcripts count too.

        Raises:
            ExpectationFailed: it does not come in time, or not within the test's patience, with the story of the call.
        """
        return self._bench.run(self._wait_for(what, text, timeout, partial))

    def push(self, target: str, *arguments: Any) -> None:
        """Send the client a hub event, of any name and with any arguments that JSON can hold."""
        self._bench.run(self._push(target, arguments))

    def hang_up(self, reason: str = "agent_ended") -> None:
        """End it from the agent's side."""
        self._bench.run(self._hang_up(reason))


class AsyncMockCall(_CallFace):
    """A call, for async tests, in any event loop; see `MockCall` for what its methods do."""

    async def hear(self, text: str) -> None:
        await self._bench.wait(self._hear(text))

    async def press(self, keys: str) -> None:
        await self._bench.wait(self._press(keys))

    async def wait_for(
        self,
        what: str,
        *,
        text: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - it is call time
        partial: bool = False,
    ) -> JournalEntry:
        return await self._bench.wait(self._wait_for(what, text, timeout, partial))

    async def push(self, target: str, *arguments: Any) -> None:
        await self._bench.wait(self._push(target, arguments))

    async def hang_up(self, reason: str = "agent_ended") -> None:
        await self._bench.wait(self._hang_up(reason))


class ExpectedCall:
    """What `expect_call` gives: a context manager, and an async one, for the next call to an agent.

    Inside, the call may not have come yet. Leaving it without an error waits for that, and on a virtual clock lets what
    the agent is doing run out.
    """

    def __init__(self, bench: Bench, agent_id: str) -> None:
        self._bench = bench
        self._agent_id = agent_id
        self._face: _CallFace | None = None

    def __enter__(self) -> MockCall:
        self._bench.check_blocking()
        self._face = face = MockCall(self._bench, None, whom=self._agent_id, since=self._begin())
        return face

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._face is not None:
            self._bench.run(self._face._settled())

    async def __aenter__(self) -> AsyncMockCall:
        self._face = face = AsyncMockCall(self._bench, None, whom=self._agent_id, since=self._begin())
        return face

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._face is not None:
            await self._bench.wait(self._face._settled())

    def _begin(self) -> int:
        self._bench.check()
        return self._bench.book.tenant.journal.last_seq


class Calls(Sequence[MockCall]):
    """The calls of a test so far, oldest first."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __len__(self) -> int:
        return len(self._bench.book.observed)

    @overload
    def __getitem__(self, at: int) -> MockCall: ...
    @overload
    def __getitem__(self, at: slice) -> list[MockCall]: ...
    def __getitem__(self, at: int | slice) -> MockCall | list[MockCall]:
        observed = self._bench.book.observed
        if isinstance(at, slice):
            return [MockCall(self._bench, call) for call in observed[at]]
        return MockCall(self._bench, observed[at])

    def one(self) -> MockCall:
        """The only call there was.

        Raises:
            ExpectationFailed: there was none, or more than one.
        """
        observed = self._bench.book.observed
        if len(observed) != 1:
            told = "\n".join(call.told() for call in observed)
            raise ExpectationFailed(f"one call was expected, there were {len(observed)}\n{told}".rstrip())
        return self[0]

    def __repr__(self) -> str:
        return repr(list(self))
