"""Programs in processes of their own, as a user would run them. Waits for what they print, never for time to pass."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from voisnap_mock.cache import VARIABLE

COMMAND = (sys.executable, "-m", "voisnap_mock")
CLIENT_VARIABLES = (
    "VOISNAP_EMULATOR_HOST",
    "VOISNAP_BASE_URL",
    "VOISNAP_API_KEY",
    "VOISNAP_EMAIL",
    "VOISNAP_PASSWORD",
    "VOISNAP_ACCESS_TOKEN",
    "VOSK_MODEL_PATH",
    "FORCE_COLOR",
)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what would point the commands somewhere else; the run's own cache folder stays."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == VARIABLE or (name not in CLIENT_VARIABLES and not name.startswith("VOISNAP_MOCK_"))
    }
    return kept | more


class Program:
    """A running program whose standard output is read line by line; standard error is kept. A context manager."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
    ) -> None:
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=dict(environment) if environment is not None else clean_environment(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.command = [str(part) for part in command]
        self.lines: list[str] = []
        self._errors: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdin(self) -> Any:
        return self._process.stdin

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return "".join(self._errors)

    def read_line(self, *, timeout: float = 30.0) -> str | None:
        """The next line of output without its end; None when there will be no more."""
        try:
            line = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"nothing was printed for {timeout:g} s\n{self.report()}") from None
        if line is None:
            self._queue.put(None)
        return line

    def read_until(self, fits: Callable[[str], bool], *, timeout: float = 30.0) -> str:
        """The next line for which `fits` holds."""
        while (line := self.read_line(timeout=timeout)) is not None:
            if fits(line):
                return line
        raise AssertionError(f"the program ended with {self.wait()}\n{self.report()}")

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, *, timeout: float = 30.0) -> int:
        """The exit code."""
        code = self._process.wait(timeout)
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return code

    def report(self) -> str:
        """All that was printed, for a failing test."""
        return "\n".join(["--- standard output", *self.lines, "--- standard error", self.errors])

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)


class ServerProgram(Program):
    """`voisnap-mock serve` on a free port, ready.

    Attributes:
        url: where it answers.

    Args:
        inside: a command that runs the server's, such as one that takes its network away.
    """

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> None:
        super().__init__([*inside, *COMMAND, "serve", *arguments, "--port", "0"], cwd=cwd, environment=environment)
        try:
            self.url = self.read_until(lambda line: line.startswith("READY ")).removeprefix("READY ")
        except BaseException:
            self.__exit__()
            raise

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


class ClientProgram(Program):
    """A client that prints JSON lines `{"event": ..., "data": ...}`."""

    def events(self, *, timeout: float = 40.0) -> Iterator[tuple[str, Any]]:
        """Each event as it comes, as (event, data), until the client ends."""
        while (line := self.read_line(timeout=timeout)) is not None:
            message = json.loads(line)
            yield message["event"], message["data"]

    def run(self) -> list[tuple[str, Any]]:
        """All events, once the client has ended by itself and without a complaint."""
        events = list(self.events())
        assert self.wait() == 0, self.report()
        assert events[-1][0] == "done", self.report()
        return events


def run(
    *arguments: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float = 50.0,
) -> subprocess.CompletedProcess[str]:
    """Run `voisnap-mock` with these arguments to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=dict(environment) if environment is not None else clean_environment(),
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
    )
