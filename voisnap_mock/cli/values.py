"""What users write on the command line, as values; each reader raises `typer.BadParameter` with what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from voisnap_mock.cli.run_report import Format

_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_DIGITS = re.compile(r"[0-9*#]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def duration(text: str | float) -> float:
    """`500ms`, `10s`, `2m`, `1h`, `14d` as seconds; a bare number is seconds too."""
    # Here, not above: most command lines hold no duration.
    from voisnap_mock.agents.shape import duration as with_unit

    written = str(text).strip()
    try:
        return float(written) if _SECONDS.fullmatch(written) else with_unit(written)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no duration; write for example 500ms, 10s, 2m or 1h.") from None


def whole_number(low: int, high: int) -> Callable[[str | int], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise typer.BadParameter(f"{text!r} is no whole number from {low} to {high}.")
        return number

    return read


def digits(text: str) -> str:
    """Keys of a telephone."""
    if not _DIGITS.fullmatch(text):
        raise typer.BadParameter(f"{text!r} has keys that no telephone has; the keys are 0-9, * and #.")
    return text


def report(text: str) -> tuple[Format, Path]:
    """A report of `exec`: `junit`, `json` or `coverage`, or one of them with `=FILE`."""
    from voisnap_mock.cli.run_report import DEFAULT_NAMES, Format

    name, _, file = text.partition("=")
    if name not in list(Format):
        raise typer.BadParameter(f"{text!r} is no report; write {', '.join(Format)}, or for example junit=results.xml.")
    return Format(name), Path(file or DEFAULT_NAMES[Format(name)])


def sha256(text: str) -> str:
    """A checksum as `sha256sum` prints it."""
    checksum = text.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(checksum):
        raise typer.BadParameter(f"{text!r} is no SHA-256; it has 64 digits 0-9 and a-f.")
    return checksum


def pairs(given: Sequence[str], *, option: str) -> dict[str, Any]:
    """`name=value` pairs; a value that reads as JSON is that JSON value, any other is text."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is no pair; write for example {option} plan=gold.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@dataclass(frozen=True, slots=True)
class Say:
    """Speak or write this."""

    text: str


@dataclass(frozen=True, slots=True)
class Play:
    """Play this WAV file."""

    path: Path


@dataclass(frozen=True, slots=True)
class Press:
    """Press these keys, one after the other."""

    digits: str


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Begin to speak at `at` seconds of the session, whatever the agent is doing."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Lose the connection at `at` seconds of the session, and come back after `away` seconds."""

    at: float
    away: float


Step = Say | Play | Press | Interrupt | Drop


def interruption(text: str | Interrupt) -> Interrupt:
    """`1.5s=Stop it` as what to say and when."""
    if isinstance(text, Interrupt):
        return text
    time, equals, words = text.partition("=")
    if not equals or not words.strip():
        raise typer.BadParameter(f"{text!r} is no time with a text; write for example 1.5s='Stop it'.")
    return Interrupt(duration(time), words.strip())


def drop(text: str | Drop) -> Drop:
    """`3s` or `3s=2s`: when to lose the connection, and how long to stay away."""
    if isinstance(text, Drop):
        return text
    at, _, away = text.partition("=")
    return Drop(duration(at), duration(away) if away.strip() else 0.0)


def steps_in_order(
    arguments: Sequence[str],
    *,
    say: Sequence[str],
    wav: Sequence[Path] = (),
    dtmf: Sequence[str] = (),
    interrupt: Sequence[Interrupt] = (),
    drop: Sequence[Drop] = (),
) -> list[Step]:
    """The steps of a call or chat in the order in which they stand on the command line.

    The command-line parser groups values by option; `arguments` are the words that it was given.
    """
    left: dict[str, Iterator[Step]] = {
        "say": iter([Say(text) for text in say]),
        "wav": iter([Play(path) for path in wav]),
        "dtmf": iter([Press(keys) for keys in dtmf]),
        "interrupt": iter(interrupt),
        "drop": iter(drop),
    }
    found: list[Step] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        steps = left.get(name.removeprefix("--")) if name.startswith("--") else None
        if steps is None:
            continue
        if not equals:
            # The value may look like an option itself.
            next(words, None)
        found.extend(step for _, step in zip(range(1), steps, strict=False))
    return found
