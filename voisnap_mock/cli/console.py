"""What the commands print, and how: colour and live lines for people, plain lines for a pipe.

Owns every write to the terminal. Rich is imported only when a person looks on; it costs a tenth of the start-up.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import IO, Any, Protocol

_BAR_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line and its look, in Rich's words: `bold`, `red`, `dim`, `bold cyan` ..."""

    text: str
    style: str = ""


class Console(Protocol):
    """Where a command prints."""

    @property
    def is_terminal(self) -> bool:
        """A person is looking, not a program."""
        ...

    def line(self, *pieces: str | Span) -> None:
        """Print one line, made of these pieces."""
        ...

    def table(self, rows: Sequence[Sequence[str | Span]], *, indent: int = 2) -> None:
        """Print rows in aligned columns."""
        ...

    def live(self, *pieces: str | Span) -> None:
        """Show a line that the next one replaces; a pipe does not see it. Nothing at all takes it away."""
        ...


class PlainConsole:
    """Text and line breaks, nothing else; every line is flushed, so that a waiting program sees it at once."""

    is_terminal = False

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def line(self, *pieces: str | Span) -> None:
        _write_line(self._stream, "".join(map(_text, pieces)).rstrip())

    def table(self, rows: Sequence[Sequence[str | Span]], *, indent: int = 2) -> None:
        widths = _widths(rows)
        for row in rows:
            cells = (_text(cell).ljust(width) for cell, width in zip(row, widths, strict=False))
            self.line(" " * indent + "  ".join(cells))

    def live(self, *pieces: str | Span) -> None:
        pass


class TerminalConsole:
    """Colours by Rich; long lines wrap under their own column in tables."""

    is_terminal = True

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console as RichConsole

        self._rich = RichConsole(file=stream, highlight=False, soft_wrap=True)
        self._live_shown = False

    def line(self, *pieces: str | Span) -> None:
        self.live()
        self._rich.print(_rich_text(pieces))

    def table(self, rows: Sequence[Sequence[str | Span]], *, indent: int = 2) -> None:
        from rich.padding import Padding
        from rich.table import Table

        self.live()
        grid = Table.grid(padding=(0, 2), pad_edge=False)
        columns = max((len(row) for row in rows), default=0)
        for number in range(columns):
            grid.add_column(no_wrap=number < columns - 1, overflow="fold")
        for row in rows:
            grid.add_row(*(_rich_text([cell]) for cell in row))
        self._rich.print(Padding(grid, (0, 0, 0, indent)), soft_wrap=False)

    def live(self, *pieces: str | Span) -> None:
        from rich.control import Control
        from rich.segment import ControlType

        if self._live_shown:
            self._rich.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            self._live_shown = False
        if pieces:
            text = _rich_text(pieces)
            text.truncate(max(1, self._rich.width - 1), overflow="ellipsis")
            self._rich.print(text, end="")
            self._live_shown = True


def _write_line(stream: IO[str], text: str) -> None:
    """Write one line. Raises BrokenPipeError, once, when whoever read it has enough, as `head` and `grep -q` have."""
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        # What is still in the buffer goes somewhere too, at the latest when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        raise


def _text(piece: str | Span) -> str:
    return piece.text if isinstance(piece, Span) else piece


def _widths(rows: Sequence[Sequence[str | Span]]) -> list[int]:
    columns = max((len(row) for row in rows), default=0)
    return [max((len(_text(row[number])) for row in rows if number < len(row)), default=0) for number in range(columns)]


def _rich_text(pieces: Sequence[str | Span]) -> Any:
    from rich.text import Text

    return Text.assemble(*((_text(piece), piece.style if isinstance(piece, Span) else "") for piece in pieces))


def is_terminal(stream: IO[str]) -> bool:
    """A person is looking at `stream`; `NO_COLOR` and `TERM=dumb` ask for plain text, `FORCE_COLOR` for colour."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def open_console(stream: IO[str] | None = None) -> Console:
    """The console for `stream`, by default standard output."""
    stream = stream or sys.stdout
    return TerminalConsole(stream) if is_terminal(stream) else PlainConsole(stream)


def take_any_text() -> None:
    """Let standard output and standard error show `?` for what their encoding cannot say, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_json(value: object, *, compact: bool = False) -> None:
    """Print `value` on standard output: indented, or with `compact` as one line of a stream of JSON lines."""
    speaks_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    _write_line(sys.stdout, json.dumps(value, ensure_ascii=not speaks_unicode, indent=None if compact else 2))


def print_error(text: str) -> None:
    """Print what went wrong on standard error; the first line after the word `error:`."""
    console = open_console(sys.stderr)
    first, *rest = text.splitlines() or [""]
    console.line(Span("error: ", "bold red"), first)
    for line in rest:
        console.line(line)


def bar(what: str, done: int, total: int | None, *, unit: str = "", per_unit: int = 1) -> tuple[str | Span, ...]:
    """A progress bar for `Console.live`, as in `downloading ━━━━━━━━──── 12.3 of 40.0 MB`."""
    digits = 1 if per_unit > 1 else 0
    shown = f"{done / per_unit:.{digits}f}"
    if not total:
        return Span("… ", "cyan"), what, f" {shown} {unit}".rstrip() if done else ""
    full = min(done * _BAR_WIDTH // total, _BAR_WIDTH)
    drawn = Span("━" * full, "cyan"), Span("─" * (_BAR_WIDTH - full), "dim")
    return f"{what} ", *drawn, f" {shown} of {total / per_unit:.{digits}f} {unit}".rstrip()


@contextmanager
def working(console: Console, text: str) -> Iterator[None]:
    """Show `text` as long as the work inside goes on."""
    console.live(Span("… ", "cyan"), text)
    try:
        yield
    finally:
        console.live()
