"""One running session: carries out what its machine orders, and tells the machine what came of it."""

from __future__ import annotations

from typing import Literal, Protocol

from voisnap_mock.agents.script import AgentScript, EndReason
from voisnap_mock.engine.events import ChatInput, SessionEvent, SessionId, VoiceInput

Channel = Literal["voice", "chat", "webrtc"]
Status = Literal["live", "waiting", "ended"]


class Outlet(Protocol):
    """Where a session's events go: a hub's side of one connection."""

    def deliver(self, event: SessionEvent) -> None:
        """Show `event` to the client. Never blocks and never raises; nothing comes after `SessionEnded`."""
        ...


class Session:
    """A session under way. `SessionTable` makes it; all methods are called on the server's loop.

    Give it `Started()` when the client can be told things: call time begins then, and nothing is delivered before.
    Its last event is `SessionEnded`; inputs after that are ignored.

    Attributes:
        id: equal to the `conversationId`.
        status: `waiting` while its connection is lost.
        reason: why it ended, None while it lives.
    """

    id: SessionId
    tenant_id: str
    channel: Channel
    script: AgentScript

    @property
    def status(self) -> Status:
        raise NotImplementedError

    @property
    def reason(self) -> EndReason | None:
        raise NotImplementedError

    @property
    def t(self) -> float:
        """Call time now, in seconds; 0.0 before the start, the duration after the end."""
        raise NotImplementedError

    def receive(self, given: VoiceInput | ChatInput) -> None:
        """Hand in what the client did. Does not block.

        Caller audio may come in pieces of any whole number of samples.
        """
        raise NotImplementedError

    def detach(self, outlet: Outlet) -> None:
        """The connection behind `outlet` is gone: wait for another one until the resume window closes.

        Does nothing when another outlet has taken over, or when the session has ended.
        """
        raise NotImplementedError
