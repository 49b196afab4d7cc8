"""`ready`: is the server there?"""

from __future__ import annotations

import asyncio

from voisnap_mock.cli.console import Console, open_console, working
from voisnap_mock.cli.failures import CheckFailed, NotReady
from voisnap_mock.cli.service import Answer, ask, find_server, no_server
from voisnap_mock.clock import Clock, SystemClock

_PAUSE = 0.1


def ready(url: str | None, *, wait: bool, timeout: float) -> None:
    """Return when the server is ready.

    Raises:
        CheckFailed: if it is not, and nobody wants to wait.
        NotReady: if it was not in time.
    """
    server = find_server(url)
    console = open_console()
    if wait:
        asyncio.run(_wait(server, timeout, SystemClock(), console))
    else:
        try:
            problem = _problem(ask("GET", f"{server}/readyz", timeout=timeout))
        except OSError as error:
            raise no_server(server, error) from error
        if problem:
            raise CheckFailed(f"{server} is not ready: {problem}")
    console.line(f"{server} is ready")


async def _wait(server: str, within: float, clock: Clock, console: Console) -> None:
    give_up = clock.monotonic() + within
    with working(console, f"waiting for {server}"):
        while True:
            left = give_up - clock.monotonic()
            try:
                problem = _problem(await asyncio.to_thread(ask, "GET", f"{server}/readyz", timeout=max(0.1, left)))
            except OSError as error:
                problem = f"no answer ({getattr(error, 'reason', error)})"
            if problem is None:
                return
            if clock.monotonic() + _PAUSE >= give_up:
                raise NotReady(f"{server} was not ready within {within:g} s: {problem}")
            await clock.sleep_until(clock.monotonic() + _PAUSE)


def _problem(answer: Answer) -> str | None:
    """Why the server is not ready; None when it is."""
    if answer.status == 200:
        return None
    if isinstance(answer.body, dict) and "waiting_for" in answer.body:
        waiting = answer.body["waiting_for"]
        return f"waiting for {', '.join(map(str, waiting)) if isinstance(waiting, list) else waiting}"
    return f"/readyz answered {answer.status}; is it a voisnap-mock?"
