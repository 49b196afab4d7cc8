"""All running sessions of a tenant."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.script import AgentScript, EndReason, Fidelity, Limits
from voisnap_mock.clock import SPEEDS, Clock
from voisnap_mock.engine.call import Call
from voisnap_mock.engine.chat import Chat
from voisnap_mock.engine.events import HangupRequested, SessionId
from voisnap_mock.engine.ports import Endpointer, Machine
from voisnap_mock.engine.runner.crew import Crew, ThreadCrew
from voisnap_mock.engine.runner.hearing import EarQueue, Hearing
from voisnap_mock.engine.runner.pace import Pace, RealPace
from voisnap_mock.engine.runner.session import Channel, Outlet, Session, Tap, Works
from voisnap_mock.engine.runner.ticker import Ticker
from voisnap_mock.engine.runner.virtual import VirtualPace
from voisnap_mock.engine.runner.voicing import Prompts, Synthesizer, VoiceDesk
from voisnap_mock.errors import ResumeRefused, SessionLimitReached
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal

ClockMode = Literal["real", "4x", "virtual"]

_CATCH_UP = 0.06
_EAR_THREADS = 4
_ENDED_KEPT = 1_000
_DEFAULT_LIMITS = Limits()
_DEFAULT_FIDELITY = Fidelity()


@dataclass(frozen=True, slots=True)
class Resumption:
    """A session taken up again.

    Attributes:
        displaced: the outlet that was still attached and now gets nothing more: close its connection.
    """

    session: Session
    displaced: Outlet | None


class SessionTable:
    """Opens, finds, resumes and ends sessions; owns what they share: the ticker and the recogniser threads.

    Everything is called on one running loop.

    Attributes:
        mode: how call time passes here.
        is_closed: it opens no sessions any more.
        prompts: the recordings that agents play; may be changed for sessions to come.
        on_open, on_end: told of each session before it starts, and when it is over.

    Args:
        hearing_for: called in a worker thread at an agent's first utterance.
        endpointer_for: called on the loop when a call is opened.
        mode: how call time passes: with the clock, four times as fast, or with the caller's audio; over WebRTC it
            always passes with the clock.
        idle_grace: goes over the scripts' own: seconds of real time after which, on a virtual clock, the agent no
            longer waits for the caller.
        synthesis_timeout: seconds of real time after which a voice counts as failed; for ears the script says it.
        crew: runs blocking work; by default four threads of its own.
        targets: how the journal names what clients call an event, and caller audio.
        tap_for: asked for every session that is opened, before it has journaled anything; told how its time passes.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        ids: IdSource,
        journal: Journal,
        synthesizer: Synthesizer,
        prompts: Prompts,
        hearing_for: Callable[[AgentScript], Hearing],
        endpointer_for: Callable[[AgentScript], Endpointer],
        limits: Limits = _DEFAULT_LIMITS,
        fidelity: Fidelity = _DEFAULT_FIDELITY,
        mode: ClockMode = "real",
        idle_grace: float | None = None,
        synthesis_timeout: float = 20.0,
        crew: Crew | None = None,
        tap_for: Callable[[Session, ClockMode], Tap] | None = None,
        targets: Mapping[type[object], str] = MappingProxyType({}),
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._journal = journal
        self._synthesizer = synthesizer
        self.prompts = prompts
        self._hearing_for = hearing_for
        self._endpointer_for = endpointer_for
        self._limits = limits
        self._fidelity = fidelity
        self.mode: ClockMode = mode
        self.is_closed = False
        self._idle_grace = idle_grace
        self._synthesis_timeout = synthesis_timeout
        self._tap_for = tap_for
        self._targets = targets
        self._crew = ThreadCrew(_EAR_THREADS, name="voisnap-ear") if crew is None else crew
        self.on_open: Callable[[Session], None] = lambda session: None
        self.on_end: Callable[[Session], None] = lambda session: None
        self._ticker = Ticker(clock)
        self._sessions: dict[str, Session] = {}
        self._ended: OrderedDict[str, EndReason | None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def open_call(
        self,
        script: AgentScript,
        *,
        tenant_id: str,
        outlet: Outlet,
        variables: Mapping[str, object] | None = None,
        channel: Literal["voice", "webrtc"] = "voice",
    ) -> Session:
        """Make a voice session; it begins with `receive(Started())`.

        Raises:
            SessionLimitReached: as many sessions live as `limits.max_sessions` allows.
        """
        self._check_limit()
        mode = self._mode_of(channel)
        call = Call(
            script,
            dialogue=Dialogue(script, variables=variables),
            endpointer=self._endpointer_for(script),
            # On a virtual clock no driver is ever late.
            catch_up=math.inf if mode == "virtual" else _CATCH_UP * SPEEDS[mode],
        )
        return self._open(
            self._new_id(), script, call, tenant_id=tenant_id, channel=channel, outlet=outlet, variables=variables
        )

    def open_chat(
        self,
        script: AgentScript,
        *,
        tenant_id: str,
        outlet: Outlet,
        variables: Mapping[str, object] | None = None,
    ) -> Session:
        """Make a chat session; it begins with `receive(Started())`.

        Raises:
            SessionLimitReached: as many sessions live as `limits.max_sessions` allows.
        """
        self._check_limit()
        session_id = self._new_id()
        # Ids of their own, so that two chats at the same time name their messages the same every time.
        ids = IdSource(zlib.crc32(session_id.encode()))
        chat = Chat(
            script,
            dialogue=Dialogue(script, variables=variables),
            new_message_id=lambda: ids.new("msg_"),
            chunks=self._fidelity.chat_chunks,
        )
        return self._open(
            session_id, script, chat, tenant_id=tenant_id, channel="chat", outlet=outlet, variables=variables
        )

    def resume(self, session_id: str, *, tenant_id: str, channel: Channel, outlet: Outlet) -> Resumption:
        """Give a session a new connection: `outlet` gets `SessionResumed`, what it missed, then what follows.

        Raises:
            ResumeRefused: the session is unknown, over, of another tenant or channel; the text says which.

        Source: Documented is only the code for a refused resume; Assumed who may resume, and that the newest
        connection wins.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise ResumeRefused(self._why_gone(session_id))
        if session.tenant_id != tenant_id:
            raise ResumeRefused(f"session {session_id[:80]!r} belongs to another tenant than {tenant_id!r}")
        if session.channel != channel:
            raise ResumeRefused(
                f"session {session_id[:80]!r} is a {session.channel} session, it cannot be resumed as {channel}"
            )
        if session.started_at is None:
            raise ResumeRefused(f"session {session_id[:80]!r} has not begun yet")
        return Resumption(session, session.attach(outlet))

    def configure(self, *, limits: Limits, fidelity: Fidelity) -> None:
        """Take the settings of a newly loaded agents file; live sessions keep theirs."""
        self._limits = limits
        self._fidelity = fidelity

    def get(self, session_id: str) -> Session | None:
        """A live or waiting session."""
        return self._sessions.get(session_id)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Live and waiting sessions, oldest first."""
        return tuple(self._sessions.values())

    @property
    def live_count(self) -> int:
        """How many sessions are live or waiting."""
        return len(self._sessions)

    async def close(self) -> None:
        """End every session with `server_shutdown` and stop all work; work that hangs is left after a second."""
        self.is_closed = True
        for session in self.sessions:
            session.receive(HangupRequested(EndReason.SERVER_SHUTDOWN))
        self._ticker.close()
        self._crew.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def _start_task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _new_id(self) -> SessionId:
        return SessionId(self._ids.new("conv_"))

    def _open(
        self,
        session_id: SessionId,
        script: AgentScript,
        machine: Machine,
        *,
        tenant_id: str,
        channel: Channel,
        outlet: Outlet,
        variables: Mapping[str, object] | None,
    ) -> Session:
        session = Session(
            session_id,
            script,
            machine,
            tenant_id=tenant_id,
            channel=channel,
            outlet=outlet,
            clock=self._clock,
            journal=self._journal,
            works=self._works,
            resume_window=self._fidelity.resume_window,
            forget=self._forget,
            targets=self._targets,
        )
        self._sessions[session.id] = session
        given = {name: value for name, value in (variables or {}).items() if value}
        session.note("session.opened", agent=script.id, channel=channel, **given)
        self.on_open(session)
        return session

    def _works(self, session: Session) -> Works:
        """Make what drives a session and works for it."""
        ear: EarQueue | None = None
        voice: VoiceDesk | None = None

        def owes_an_answer() -> bool:
            return (ear is not None and ear.owes_an_answer) or (voice is not None and voice.owes_an_answer)

        mode = self._mode_of(session.channel)
        pace: Pace
        if mode == "virtual":
            pace = VirtualPace(
                session,
                clock=self._clock,
                ticker=self._ticker,
                idle_grace=session.script.timing.idle_grace if self._idle_grace is None else self._idle_grace,
                owes_an_answer=owes_an_answer,
                note=session.note,
            )
        else:
            pace = RealPace(session, clock=self._clock, ticker=self._ticker, speed=SPEEDS[mode])
        tap = None if self._tap_for is None else self._tap_for(session, mode)
        if session.channel == "chat":
            return Works(pace, tap=tap)
        ear = EarQueue(
            lambda: self._hearing_for(session.script),
            crew=self._crew,
            clock=self._clock,
            timeout=session.script.timing.stt_timeout,
            answer=pace.answer,
            note=session.note,
            settled=pace.settled,
        )
        voice = VoiceDesk(
            self._synthesizer,
            self.prompts,
            start_task=self._start_task,
            crew=self._crew,
            clock=self._clock,
            timeout=self._synthesis_timeout,
            answer=pace.answer,
            note=session.note,
            settled=pace.settled,
        )
        return Works(pace, ear, voice, tap)

    def _mode_of(self, channel: Channel) -> ClockMode:
        """How call time passes there: media over WebRTC is real time, whatever the clock."""
        return "real" if channel == "webrtc" else self.mode

    def _check_limit(self) -> None:
        most = self._limits.max_sessions
        if most is not None and len(self._sessions) >= most:
            live = len(self._sessions)
            raise SessionLimitReached(f"{live} sessions are live, limits.max_sessions is {most}: end one, or raise it")

    def _why_gone(self, session_id: str) -> str:
        if session_id not in self._ended:
            return f"session {session_id[:80]!r} is not known here"
        reason = self._ended[session_id]
        return f"session {session_id[:80]!r} is over" + (f" ({reason})" if reason is not None else "")

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        self.on_end(session)
        self._ended[session.id] = session.reason
        if len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
