"""Client programs that take plans on standard input and print what they see, both as JSON lines.

One process serves any number of plans, one after the other or at once; see `node/hubs.mjs` for the lines.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

from processes import Program


class PlanFailed(AssertionError):
    """A plan ended with an error of the client's program."""


class Run:
    """One plan that is being carried out."""

    def __init__(self, program: LineClient, number: int) -> None:
        self._program = program
        self._number = number

    def wait_for(self, event: str) -> Any:
        """The data of the next `event`; other events of this run must not come before it."""
        seen, data = self._program.next_of(self._number)
        if seen == "failed" and event != "failed":
            raise PlanFailed(f"{data}\n{self._program.errors}")
        assert seen == event, f"{seen} {data!r} came instead of {event}\n{self._program.errors}"
        return data

    def go(self, value: object = None) -> None:
        """Let the plan go on."""
        self._program.say({"run": self._number, "go": value})

    def result(self) -> Any:
        return self.wait_for("done")


class LineClient:
    """A running client program. A context manager."""

    def __init__(self, command: Sequence[str | Path], name: str) -> None:
        self.name = name
        self._command = command
        self._numbers = count(1)
        self._ahead: dict[int, list[tuple[str, Any]]] = {}

    def __repr__(self) -> str:
        return f"<LineClient {self.name}>"

    def __enter__(self) -> Self:
        self._program = Program(self._command, stdin=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._program.stdin.close()
        self._program.__exit__()

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return self._program.errors

    def start(self, do: str, **plan: Any) -> Run:
        number = next(self._numbers)
        self.say({"run": number, "do": do, **plan})
        return Run(self, number)

    def run(self, do: str, **plan: Any) -> Any:
        """Carry a plan out; returns its result."""
        return self.start(do, **plan).result()

    def say(self, message: dict[str, Any]) -> None:
        self._program.stdin.write(json.dumps(message) + "\n")
        self._program.stdin.flush()

    def next_of(self, number: int) -> tuple[str, Any]:
        """The next event of one run; those of other runs are kept for them."""
        ahead = self._ahead.setdefault(number, [])
        while not ahead:
            line = self._program.read_line()
            assert line is not None, f"{self.name} ended\n{self._program.report()}"
            message = json.loads(line)
            self._ahead.setdefault(message["run"], []).append((message["event"], message["data"]))
        return ahead.pop(0)
