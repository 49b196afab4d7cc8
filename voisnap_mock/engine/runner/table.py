"""All running sessions of a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from voisnap_mock.agents.script import AgentScript, Fidelity, Limits
from voisnap_mock.clock import Clock
from voisnap_mock.engine.events import SessionId
from voisnap_mock.engine.runner.session import Outlet, Session
from voisnap_mock.ids import IdSource

if TYPE_CHECKING:
    from voisnap_mock.audio.endpointing import Endpointer
    from voisnap_mock.audio.stt import Hearing
    from voisnap_mock.audio.tts import Synthesizer
    from voisnap_mock.journal import Journal
    from voisnap_mock.recordings import Recordings


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
    """

    def __init__(
        self,
        *,
        clock: Clock,
        ids: IdSource,
        journal: Journal,
        synthesizer: Synthesizer,
        prompts: Recordings,
        hearing_for: Callable[[AgentScript], Hearing],
        endpointer_for: Callable[[AgentScript], Endpointer],
        limits: Limits = Limits(),
        fidelity: Fidelity = Fidelity(),
        speed: float = 1.0,
        recognition_timeout: float = 10.0,
    ) -> None:
        raise NotImplementedError

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
        raise NotImplementedError

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
        raise NotImplementedError

    def resume(
        self, session_id: str, *, tenant_id: str, channel: Literal["voice", "chat"], outlet: Outlet
    ) -> Resumption:
        """Give a session a new connection: `outlet` gets `SessionResumed`, what it missed, then what follows.

        Raises:
            ResumeRefused: the session is unknown, over, of another tenant or channel; the text says which.
        """
        raise NotImplementedError

    def configure(self, *, limits: Limits, fidelity: Fidelity) -> None:
        """Take the settings of a newly loaded agents file; live sessions keep theirs."""
        raise NotImplementedError

    def get(self, session_id: str) -> Session | None:
        """A live or waiting session."""
        raise NotImplementedError

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Live and waiting sessions, oldest first."""
        raise NotImplementedError

    @property
    def live_count(self) -> int:
        """How many sessions are live or waiting."""
        raise NotImplementedError

    async def close(self) -> None:
        """End every session with `server_shutdown` and stop all work; returns within 2 s."""
        raise NotImplementedError


__all__ = ["Resumption", "SessionId", "SessionTable"]
