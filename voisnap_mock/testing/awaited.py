"""The telephone and the keyboard of `handset` and `keyboard` for async tests, in another loop than the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from voisnap_mock.caller import Ended
from voisnap_mock.testing.handset import AsyncHandset, AsyncParty, PartyView
from voisnap_mock.testing.keyboard import AsyncKeyboard
from voisnap_mock.tracks import Recording

Result = TypeVar("Result")
Party_ = TypeVar("Party_", bound="AsyncParty[Any]")


class AwaitedParty(PartyView[Party_]):
    """An `AsyncParty` whose methods are awaited in the loop of the test."""

    async def __aenter__(self) -> Self:
        await self._wait(self._party.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wait(self._party.__aexit__(kind, error, trace))

    async def heard(self, timeout: float = 10.0) -> str:  # noqa: ASYNC109 - it is call time
        """See `AsyncParty.heard`, and so for all others."""
        return await self._wait(self._party.heard(timeout))

    async def hears_end(self, timeout: float = 60.0) -> Ended:  # noqa: ASYNC109 - it is call time
        return await self._wait(self._party.hears_end(timeout))

    async def drop(self) -> None:
        await self._wait(self._party.drop())

    async def resume(self) -> None:
        await self._wait(self._party.resume())

    async def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return await asyncio.wrap_future(self._loop.submit(work))


class AwaitedHandset(AwaitedParty[AsyncHandset]):
    """`AsyncHandset` in the loop of the test; `MockServer.async_caller` makes it."""

    async def say(self, text: str) -> None:
        """See `AsyncHandset.say`, and so for all others."""
        await self._wait(self._party.say(text))

    async def play(self, wav: str | Path) -> None:
        await self._wait(self._party.play(wav))

    async def press(self, digits: str) -> None:
        await self._wait(self._party.press(digits))

    async def interrupt(self, text: str = "Wait a moment please.", *, at: float | None = None) -> None:
        await self._wait(self._party.interrupt(text, at=at))

    @property
    def audio(self) -> Recording:
        return self._party.audio


class AwaitedKeyboard(AwaitedParty[AsyncKeyboard]):
    """`AsyncKeyboard` in the loop of the test; `MockServer.async_chat` makes it."""

    async def write(self, text: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """See `AsyncKeyboard.write`, and so for all others."""
        await self._wait(self._party.write(text, metadata=metadata))

    async def typing(self) -> None:
        await self._wait(self._party.typing())

    async def cancel(self, *, at: float | None = None) -> None:
        await self._wait(self._party.cancel(at=at))
