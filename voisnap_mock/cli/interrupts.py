"""Ctrl-C, once to finish in an orderly way, twice to stop at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")


class Interruption:
    """Catches the first SIGINT or SIGTERM from entering on; the second one does what it usually does."""

    def __init__(self) -> None:
        self._watched: list[signal.Signals] = []
        self._came = asyncio.Event()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        # Windows loops have no signal handlers; there Ctrl-C ends the command at once.
        with suppress(NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._interrupt)
                self._watched.append(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    async def cuts_short(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """The result of `work`, or None when the signal came first and `work` was cancelled."""
        working = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(self._came.wait())
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            working.cancel()
            await asyncio.wait({working, waiting})
        return None if working.cancelled() else working.result()

    def _interrupt(self) -> None:
        self._release()
        self._came.set()

    def _release(self) -> None:
        for number in self._watched:
            asyncio.get_running_loop().remove_signal_handler(number)
        self._watched = []
