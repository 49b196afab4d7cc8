"""The reference chat user for tests: a keyboard in a program's hand, on a real hub of a server in the same process.

    with MockServer("agents.yaml", clock="virtual") as server, server.chat("agt_support") as user:
        assert user.heard() == "Hi, this is Acme. How can I help?"
        user.write("I want a refund")
        assert user.heard() == "Sure. What is the order number?"

On a virtual clock the keyboard moves the chat's time itself, 20 ms by 20 ms while it waits, and never before all that
the server has sent is here. So the same program is the same chat, and an idle user comes to its silence rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from voisnap_mock.agents.script import DEFAULT_TENANT
from voisnap_mock.app import App
from voisnap_mock.audio.frames import FRAME_SECONDS
from voisnap_mock.caller import CallerEvent, ChatUser, Connected, Wrote
from voisnap_mock.journal import JournalEntry
from voisnap_mock.testing.handset import AsyncParty, Party

# A failed test shows its own lines, not these.
__tracebackhide__ = True

# Seconds of real time after which a message that the server has sent counts as lost on its way.
_LOST_AFTER = 1.0


class AsyncKeyboard(AsyncParty[ChatUser]):
    """A chat user on the server's own loop; `Keyboard` is the same for programs that are not async.

    Args:
        language, user_name: of the connection.
    """

    def __init__(
        self,
        app: App,
        base_url: str,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        language: str | None = None,
        user_name: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        super().__init__(app, base_url, agent_id, metadata=metadata, tenant=tenant)
        self._language = language
        self._user_name = user_name
        # Messages that are on their way from the server.
        self._under_way = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tenant.journal.unfollow(self._note_sent)
        await super().__aexit__(kind, error, trace)

    # --- what a user does ---------------------------------------------------------------------------------------

    async def write(self, text: str, *, metadata: Mapping[str, object] | None = None) -> None:
        """Send a message; the agent's answer is still to come. Raises CallRefused if the server does not take it."""
        await self._open_line.write(text, metadata=metadata)
        self._said.append(("caller", text))

    async def typing(self) -> None:
        """Be seen typing, which breaks the silence."""
        await self._open_line.typing()

    async def cancel(self, *, at: float | None = None) -> None:
        """Have no more of the reply that is being written, at `at` seconds of call time; at once without `at`.

        Raises:
            ValueError: if that time is over.
        """
        if at is not None:
            await self._wait_until(at)
        await self._open_line.cancel()

    # --- inside -------------------------------------------------------------------------------------------------

    def _make_line(self) -> ChatUser:
        return ChatUser(
            self._base_url,
            self._agent_id,
            access_token=self._access_token(),
            clock=self._app.clock,
            metadata=self._metadata,
            language=self._language,
            user_name=self._user_name,
            on_event=self._learn,
        )

    def _learn(self, event: CallerEvent, at: float) -> None:
        super()._learn(event, at)
        if isinstance(event, Connected):
            self._tenant.journal.follow(self._note_sent)
        elif isinstance(event, Wrote):
            self._under_way = max(0, self._under_way - 1)

    def _note_sent(self, entry: JournalEntry) -> None:
        if entry.kind == "agent.message" and entry.call_id == self._live.id:
            self._under_way += 1

    async def _let_pass(self, seconds: float) -> None:
        if not self._is_virtual:
            await self._wait_for_news(seconds)
        elif self._under_way > 0 or self._live.is_over:
            before = self._under_way
            await self._open_line.wait_for_news(_LOST_AFTER)
            if self._under_way == before:
                self._under_way = 0
        else:
            await self._live.advance(min(seconds, FRAME_SECONDS))


class Keyboard(Party[AsyncKeyboard]):
    """`AsyncKeyboard` for programs that are not async; `MockServer.chat` makes it. All methods block."""

    def write(self, text: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """See `AsyncKeyboard.write`, and so for all others."""
        self._loop.wait_for(self._party.write(text, metadata=metadata))

    def typing(self) -> None:
        self._loop.wait_for(self._party.typing())

    def cancel(self, *, at: float | None = None) -> None:
        self._loop.wait_for(self._party.cancel(at=at))
