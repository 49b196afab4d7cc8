"""Ctrl-C, once to finish in an orderly way, twice to stop at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def until_interrupted(work: Coroutine[object, object, _T]) -> _T | None:
    """Run `work`; at SIGINT or SIGTERM cancel it and return None, so that the caller can tidy up.

    After that the usual handling is back: a second SIGINT raises `KeyboardInterrupt`.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    caught: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        caught.append(number)
        release()
        task.cancel()

    def release() -> None:
        for number in watched:
            loop.remove_signal_handler(number)

    watched: list[signal.Signals] = []
    # Windows loops have no signal handlers; there Ctrl-C ends the command at once.
    with suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt, number)
            watched.append(number)
    try:
        return await task
    except asyncio.CancelledError:
        if caught:
            return None
        raise
    finally:
        release()
