"""The mock as a test sees it: a tenant of its own on a running server, and what became of it when the test is over.

    with MockServer(clock="virtual") as server, server.mock("agents.yaml") as mock:
        with mock.expect_call("agt_support") as call:
            my_client.dial(mock.base_url, "agt_support", wav=mock.say("I want a refund"))
            call.wait_for("TranscriptionOf", text="order number")
        assert call.transcript[-1] == ("agent", "Sure. What is the order number?")

The fixture `voisnap_mock` is one of these. Everything may be used from any thread, and from async tests too.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.agents.shape import duration
from voisnap_mock.audio.frames import CALLER_RATE, write_wav
from voisnap_mock.config import RECORDINGS, AgentsSource, CallClock, client_variables, parse_agents
from voisnap_mock.errors import ConfigError, ExpectationFailed, MisuseError
from voisnap_mock.journal import JournalEntry, JournalFilter
from voisnap_mock.tenancy import Enrolment, Wishes
from voisnap_mock.testing.calls import CallBook, DoorJournal, ObservedCall
from voisnap_mock.testing.checks import never_fired, problems_in
from voisnap_mock.testing.golden import GoldenFiles
from voisnap_mock.testing.mock_calls import AsyncMockCall, Bench, Calls, ExpectedCall, MockCall

if TYPE_CHECKING:
    from voisnap_mock.cloud.tenants import Tenant
    from voisnap_mock.faults.plan import RuleReport
    from voisnap_mock.faults.rules import FaultRule
    from voisnap_mock.server import MockServer
    from voisnap_mock.testing.awaited import AwaitedHandset, AwaitedKeyboard
    from voisnap_mock.testing.handset import Handset
    from voisnap_mock.testing.keyboard import Keyboard

Agents = str | Path | Mapping[str, Any]
"""An agents file: its path, its text (of more than one line), or the same as a mapping."""
Faults = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Fault rules, in the words of an agents file; a mapping is one rule, or `{faults, schedules}`."""

# A failed test shows its own lines, not these.
__tracebackhide__ = True

PATIENCE = 10.0
"""Seconds of real time that a test waits for something at the most."""
_FAREWELL = 0.2


class CallLeftOpen(UserWarning):
    """A test ended while a call of it went on; the mock has ended the call."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a test goes by.

    Attributes:
        folder: where the names of its files begin, and, if they are not there, in the folders above it up to `top`.
        golden: its golden files; None is those of `folder`.
        patience: seconds of real time that it waits for something at the most.
        name: whose it is, for messages.
    """

    folder: Path = field(default_factory=Path.cwd)
    top: Path = field(default_factory=Path.cwd)
    golden: GoldenFiles | None = None
    patience: float = PATIENCE
    name: str = ""

    def find(self, name: str | Path) -> Path:
        """The file of this name.

        Raises:
            ConfigError: it is nowhere; says where it was looked for.
        """
        folders = [self.folder, *(above for above in self.folder.parents if above.is_relative_to(self.top))]
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        looked = ", ".join(str(folder) for folder in folders)
        raise ConfigError(f"agents file {name}: no such file; looked in {looked}")


class Mock:
    """One test's own part of a server. `MockServer.mock` makes it; a context manager, also an async one.

    Leaving it checks what the test left behind, see `problems`, unless the test has failed already.
    """

    def __init__(
        self,
        server: MockServer,
        agents: Agents | None = None,
        *,
        faults: Faults | None = None,
        seed: int | None = None,
        clock: CallClock | None = None,
        terms: Terms,
    ) -> None:
        self._server = server
        self._agents = agents
        self._faults = faults
        self._seed = seed
        self._clock = clock
        self._terms = terms
        self._golden = terms.golden or GoldenFiles(terms.folder)
        self._opened: Enrolment | None = None
        self._bench: Bench | None = None
        self._files: Path | None = None
        self._spoken: dict[str, Path] = {}
        self._speaking = threading.Lock()
        self._told: set[str] = set()
        self._door: DoorJournal | None = None
        self._armed: set[str] = set()
        self._left: list[str] = []
        self._over = ""

    # --- life ---------------------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Make the tenant.

        Raises:
            ConfigError: its agents file or a fault rule cannot be used.
        """
        file, recordings = (None, None) if self._agents is None else self._read(self._agents)
        wishes = Wishes(file=file, recordings=recordings, seed=self._seed, clock=self._clock)
        try:
            self._server.wait_for(self._open(wishes))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End its calls and forget it. What was can still be read; nothing more can be done."""
        if self._over or self._opened is None:
            return
        left_open = self._server.wait_for(self._close())
        whose = f" of {self._terms.name}" if self._terms.name else ""
        self._over = self._at.over = f"this mock{whose} is over: it cannot be used any more"
        if self._files is not None:
            shutil.rmtree(self._files, ignore_errors=True)
        if left_open:
            told = "\n".join(left_open)
            warnings.warn(CallLeftOpen(f"{self._terms.name or 'the test'} left a call open:\n{told}"), stacklevel=2)

    async def _open(self, wishes: Wishes) -> None:
        app = self._server.app
        self._opened = app.tenancy.create(wishes)
        self._door = DoorJournal(app.tenants.default.journal)
        book = CallBook(
            self._opened.tenant,
            door=self._door,
            clock=app.clock,
            speak=app.caller_voice.speak,
            patience=self._terms.patience,
        )
        self._bench = Bench(self._server, book, self._golden)
        if self._faults is not None:
            await self._arm(self._faults)

    async def _close(self) -> list[str]:
        """Returns the calls that the test left open, as they were."""
        book = self._at.book
        open_calls = [call for call in book.observed if _is_live(call)]
        if open_calls:
            # A client that has just gone may not have been noticed yet.
            with book.waiting(patience=_FAREWELL) as look_again:
                while any(_is_live(call) for call in open_calls) and await look_again():
                    pass
        left_open = [call.told() for call in open_calls if _is_live(call)]
        self._left = self._unfired()
        await self._server.app.tenancy.drop(self.tenant.id)
        book.close()
        return left_open

    # --- for clients --------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """For example `http://127.0.0.1:40123`."""
        self._at.check()
        return self._server.base_url

    @property
    def host(self) -> str:
        """For example `127.0.0.1:40123`."""
        return urlsplit(self.base_url).netloc

    @property
    def email(self) -> str:
        return self._enrolment.user.email

    @property
    def password(self) -> str:
        return self._enrolment.user.password

    @property
    def api_key(self) -> str:
        """For REST alone: hubs take only access tokens."""
        return self._enrolment.api_key

    def token(self, **claims: Any) -> str:
        """An access token for the hubs, with `claims` put over the usual ones; a claim of None is left out."""
        self._at.check()
        app = self._server.app
        return app.tokens.mint(self._enrolment.user, app.clock.wall(), claims=claims)

    def login(self) -> dict[str, Any]:
        """What `POST /api/v1/auth/login` answers: `{accessToken, refreshToken, tokenType, expiresIn, user}`."""
        from voisnap_mock.cli.service import ask

        answer = ask(
            "POST", f"{self.base_url}/api/v1/auth/login", {"email": self.email, "password": self.password}, timeout=30.0
        )
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise ExpectationFailed(f"the login was answered with {answer.status}: {answer.body}")
        return answer.body

    @property
    def variables(self) -> dict[str, str]:
        """What points a client here: `VOISNAP_BASE_URL`, `VOISNAP_ACCESS_TOKEN` and the others, by name."""
        return client_variables(
            self.base_url,
            api_key=self.api_key,
            email=self.email,
            password=self.password,
            access_token=self.token(),
        )

    # --- what happens -------------------------------------------------------------------------------------------

    def load(self, agents: Agents) -> None:
        """Go by another agents file from now on; calls under way finish on the one before.

        Args:
            agents: its path, its text, or the same as a mapping. Prompts are in `recordings/` beside the file.

        Raises:
            ConfigError: it cannot be used; every problem with its place.
        """
        self._at.check()
        file, recordings = self._read(agents)
        self._server.wait_for(self._load(file, recordings))

    async def _load(self, file: AgentsFile, recordings: Path | None) -> None:
        self._server.app.tenancy.give(self.tenant, file, recordings)

    def reset(self) -> None:
        """Back to the agents that it began with, without the faults that the test armed."""
        self._at.check()
        self._server.wait_for(self._reset())

    async def _reset(self) -> None:
        self._server.app.tenancy.reset(self.tenant)
        self._armed.clear()

    def fault(
        self,
        at: str | Sequence[str],
        *,
        id: str | None = None,
        when: Mapping[str, Any] | None = None,
        times: int | None = None,
        skip: int | None = None,
        every: int | None = None,
        rate: float | None = None,
        lasts: str | None = None,
        per: str | None = None,
        **do: Any,
    ) -> MockFault:
        """Arm a fault, in the words of an agents file: `fault("llm", error="LLM_PROVIDER_ERROR", times=1)`.

        One that has not fired when the test is over fails the test.

        Args:
            at: the point, or points.
            lasts: what is called `for` in a file.
            do: what is done: `error`, `http`, `drop`, `impair`, `frames`, `slow`, `silence` or `replace`, with what
                belongs to it.

        Raises:
            FaultsError: there is no such fault.
            FaultConflict: the id is taken.
        """
        self._at.check()
        given: dict[str, Any] = {
            "id": id,
            "at": at if isinstance(at, str) else list(at),
            "when": when,
            "do": do,
            "times": times,
        }
        given |= {"skip": skip, "every": every, "rate": rate, "for": lasts, "per": per}
        rule = {name: value for name, value in given.items() if value is not None}
        (armed,) = self._server.wait_for(self._arm(rule))
        return MockFault(self, armed.id)

    async def _arm(self, given: Faults) -> tuple[FaultRule, ...]:
        desk, tenant_id = self._server.app.faults, self.tenant.id
        rules = desk.arm(tenant_id, desk.read(tenant_id, given, source="faults of the test"))
        self._armed.update(rule.id for rule in rules)
        return rules

    def fault_report(self) -> dict[str, RuleReport]:
        """What became of each fault, by id."""
        self._at.check()
        return {report.rule.id: report for report in self._server.wait_for(self._reports())}

    async def _reports(self) -> tuple[RuleReport, ...]:
        return self._server.app.faults.report(self.tenant.id)

    def disarm(self, rule_id: str) -> None:
        """Take a fault back: it fires no more, and need not have fired. Raises FaultUnknown."""
        self._at.check()
        self._server.wait_for(self._disarm(rule_id))

    async def _disarm(self, rule_id: str) -> None:
        self._server.app.faults.disarm(self.tenant.id, rule_id)
        self._armed.discard(rule_id)

    def _unfired(self) -> list[str]:
        """What is wrong about faults that the test armed; those of agents files are nobody's promise."""
        reports = self._server.app.faults.report(self.tenant.id)
        return [*filter(None, (never_fired(report) for report in reports if report.rule.id in self._armed))]

    async def _left_behind(self) -> list[str]:
        return self._unfired()

    def expect_call(self, agent_id: str) -> ExpectedCall:
        """The next call to this agent; use it with `with`, or with `async with` in an async test."""
        self._at.check()
        return ExpectedCall(self._at, agent_id)

    @property
    def calls(self) -> Calls:
        """All calls so far, oldest first."""
        return Calls(self._at)

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """All that happened, in order."""
        return self.tenant.journal.entries()

    @property
    def clock(self) -> MockClock:
        return MockClock(self._at)

    # --- callers ------------------------------------------------------------------------------------------------

    def caller(self, agent_id: str, *, metadata: Mapping[str, object] | None = None, voice: str = "en-us") -> Handset:
        """A reference caller, a context manager: inside, the call is on. See `MockServer.caller`."""
        self._at.check()
        return self._server.caller(agent_id, metadata=metadata, voice=voice, tenant=self.tenant.id)

    def async_caller(
        self, agent_id: str, *, metadata: Mapping[str, object] | None = None, voice: str = "en-us"
    ) -> AwaitedHandset:
        """The same for async tests: `async with`, and its methods are awaited."""
        self._at.check()
        return self._server.async_caller(agent_id, metadata=metadata, voice=voice, tenant=self.tenant.id)

    def chat(
        self,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        language: str | None = None,
        user_name: str | None = None,
    ) -> Keyboard:
        """A reference chat user, a context manager: inside, the chat is on. See `MockServer.chat`."""
        self._at.check()
        return self._server.chat(
            agent_id, metadata=metadata, language=language, user_name=user_name, tenant=self.tenant.id
        )

    def async_chat(
        self,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        language: str | None = None,
        user_name: str | None = None,
    ) -> AwaitedKeyboard:
        """The same for async tests."""
        self._at.check()
        return self._server.async_chat(
            agent_id, metadata=metadata, language=language, user_name=user_name, tenant=self.tenant.id
        )

    def say(self, text: str) -> Path:
        """A WAV file, 16 kHz mono, of a caller who says `text`, which the mock is sure to understand; gone afterwards.

        Raises:
            SpeechError: there is nothing to say.
        """
        pcm = self.say_pcm(text)
        with self._speaking:
            if text not in self._spoken:
                if self._files is None:
                    self._files = Path(tempfile.mkdtemp(prefix="voisnap-mock-"))
                words = "".join(letter if letter.isalnum() else "-" for letter in text.casefold())[:40].strip("-")
                path = self._files / f"{len(self._spoken) + 1}-{words}.wav"
                path.write_bytes(write_wav(pcm, CALLER_RATE))
                self._spoken[text] = path
            return self._spoken[text]

    def say_pcm(self, text: str) -> bytes:
        """The same as PCM s16le mono at 16 kHz, without a header: what `SendAudioAsync` takes, piece by piece."""
        self._at.check()
        return self._server.wait_for(self._server.app.caller_voice.speak(text))

    # --- afterwards ---------------------------------------------------------------------------------------------

    def assert_no_calls(self) -> None:
        """Nobody called. Raises ExpectationFailed with the calls there were."""
        calls = self._at.book.observed
        if calls:
            told = "\n".join(call.told() for call in calls)
            raise ExpectationFailed(f"no call was expected, there were {len(calls)}\n{told}")

    def assert_no_lint(self) -> None:
        """The client gave no cause for a remark on its manners. Raises ExpectationFailed with the remarks."""
        remarks = [
            f"  {entry.details['rule']}: {entry.details['message']}"
            for entry in self.tenant.journal.entries(JournalFilter(kind="lint"))
        ]
        if remarks:
            raise ExpectationFailed("the client does what it better would not:\n" + "\n".join(remarks))

    def problems(self) -> list[str]:
        """What a test should not leave behind, each told once, with its reason.

        Those are errors of the mock itself, calls that left a strict script or ended before its last turn, and faults
        that never fired.
        """
        found = problems_in((*self.tenant.journal.entries(), *self._outside.entries("defect")))
        found += self._left if self._over else self._server.wait_for(self._left_behind())
        fresh = [problem for problem in found if problem not in self._told]
        self._told.update(fresh)
        return fresh

    def report(self) -> str:
        """All calls for people, with what was remarked and refused besides; empty when nothing happened."""
        parts = [call.told() for call in self._at.book.observed]
        parts += [
            f"{entry.kind}: {entry.details['message']}"
            for entry in (*self.tenant.journal.entries(), *self._outside.entries("connection.refused"))
            if entry.call_id is None and entry.kind in ("connection.refused", "connection.turned_away", "lint")
        ]
        return "\n".join(parts)

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def tenant(self) -> Tenant:
        return self._enrolment.tenant

    @property
    def _enrolment(self) -> Enrolment:
        if self._opened is None:
            raise MisuseError("this mock is not open yet: use it as a context manager")
        return self._opened

    @property
    def _at(self) -> Bench:
        if self._bench is None:
            raise MisuseError("this mock is not open yet: use it as a context manager")
        return self._bench

    @property
    def _outside(self) -> DoorJournal:
        if self._door is None:
            raise MisuseError("this mock is not open yet: use it as a context manager")
        return self._door

    def _read(self, agents: Agents) -> tuple[AgentsFile, Path | None]:
        """An agents file and the folder of its recordings, if it comes from a file."""
        if isinstance(agents, Mapping):
            return parse_agents(json.dumps(agents), source="agents given as a mapping"), None
        if isinstance(agents, str) and "\n" in agents:
            return parse_agents(agents, source="agents given as text"), None
        path = self._terms.find(agents)
        return AgentsSource(path).load(), path.parent / RECORDINGS

    def _fail_for(self, error: BaseException | None) -> None:
        problems = self.problems()
        if problems and error is None:
            raise ExpectationFailed("\n".join([*problems, self.report()]))

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._fail_for(error)

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.open)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)
        self._fail_for(error)


def _is_live(call: ObservedCall) -> bool:
    session = call.session
    return session is not None and session.status == "live"


class MockFault:
    """A fault that a test armed; `Mock.fault` makes it."""

    def __init__(self, mock: Mock, rule_id: str) -> None:
        self.id = rule_id
        self._mock = mock

    @property
    def fired(self) -> int:
        """How often it did."""
        return self._mock.fault_report()[self.id].fired

    @property
    def near_miss(self) -> str | None:
        """While it has not fired: what came nearest, and what was missing."""
        return self._mock.fault_report()[self.id].near_miss

    def disarm(self) -> None:
        """Take it back: it fires no more, and need not have."""
        self._mock.disarm(self.id)

    def __repr__(self) -> str:
        return f"<MockFault {self.id!r}>"


class MockClock:
    """The clock of a test's calls."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def advance(self, time: str | float) -> None:
        """Let call time pass for all live calls, `"2s"` or seconds; returns when all that was due has happened.

        Raises:
            ClockError: call time passes by itself here.
            MisuseError: that is no time.
        """
        try:
            seconds = duration(time) if isinstance(time, str) else float(time)
        except ValueError as error:
            raise MisuseError(f"advance({time!r}): {error}") from None
        self._bench.check()
        self._bench.loop.wait_for(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        sessions = self._bench.book.tenant.sessions.sessions
        await asyncio.gather(*(session.advance(seconds) for session in sessions))

    def now(self, call: MockCall | AsyncMockCall | None = None) -> float:
        """Call time of `call`, or of the newest one, in seconds; 0.0 before the first."""
        if call is not None:
            return call.t
        calls = Calls(self._bench)
        return calls[-1].t if calls else 0.0
