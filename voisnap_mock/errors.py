"""What can go wrong, as one tree.

    VoisnapMockError
    ├── ConfigError            a file, flag or environment value is wrong (exit code 3)
    │   ├── TextError          a file or text is wrong; carries every problem with line and column
    │   │   ├── AgentsFileError    it is an agents file
    │   │   └── FaultsError        it is about faults
    │   └── ModelError         a speech model was asked for and cannot be loaded
    ├── PortTaken              the address cannot be bound (exit code 4)
    ├── ResumeRefused          a session cannot be resumed by this connection
    ├── SessionLimitReached    no more sessions are allowed at the same time
    ├── ExtraMissing           a part needs a library that is not installed; names the extra
    ├── ClockError             a call's clock cannot be moved like that
    ├── FaultConflict          a fault is armed already under this id
    ├── FaultUnknown           no fault or schedule has this name
    ├── ExpectationFailed      a test expected something else; an AssertionError too
    ├── MisuseError            a test uses the mock in a way that cannot work
    └── SpeechError            speech could not be synthesised
        └── NoVoice            there is no synthesiser on this machine

The SignalR server has a tree of its own in `voisnap_mock.signalr.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass


class VoisnapMockError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(VoisnapMockError):
    """A setting cannot be used. The text names the value, what was expected, and where it came from."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file.

    Attributes:
        line, column: position of the offending text, both from 1.
        message: what was found and what was expected, without the position.
    """

    line: int
    column: int
    message: str


class TextError(ConfigError):
    """A text cannot be used; `str()` lists every problem as `source:line:column: message`."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = sorted(problems)

    def __str__(self) -> str:
        return "\n".join(f"{self.source}:{p.line}:{p.column}: {p.message}" for p in self.problems)


class AgentsFileError(TextError):
    """An agents file cannot be used."""


class FaultsError(TextError):
    """Rules or schedules of faults cannot be used."""


class ModelError(ConfigError):
    """A speech model was asked for and cannot be loaded; the text names path, what is missing, and the remedy."""


class PortTaken(VoisnapMockError):
    """The address is in use or not allowed."""


class ResumeRefused(VoisnapMockError):
    """A session is unknown, over, of another tenant, or outside its resume window; the text says which."""


class SessionLimitReached(VoisnapMockError):
    """As many sessions are live as the agents file allows; the text says how many."""


class ExtraMissing(VoisnapMockError):
    """A part of the mock needs a library that is not installed; the text says which, and what to run."""


class ClockError(VoisnapMockError):
    """A call's clock was asked for something it cannot do; the text says what it can."""


class ExpectationFailed(VoisnapMockError, AssertionError):
    """What a test expected did not happen; the text says what did, with the story of the call."""


class MisuseError(VoisnapMockError):
    """A test uses the mock in a way that cannot work; the text says what to do instead."""


class SpeechError(VoisnapMockError):
    """A reply could not be synthesised; the text says by which engine and why."""


class NoVoice(SpeechError):
    """There is no synthesiser on this machine that could speak; the text says what is missing."""


class FaultConflict(VoisnapMockError):
    """A fault of this id is armed already; the text says what to do."""


class FaultUnknown(VoisnapMockError):
    """There is no fault, or no schedule, of this name; the text says which there are."""
