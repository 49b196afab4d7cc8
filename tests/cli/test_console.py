from __future__ import annotations

import io

import pytest

from voisnap_mock.cli.console import PlainConsole, Span, TerminalConsole, bar, is_terminal, open_console, working


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_text_without_escapes_and_no_live_lines() -> None:
    stream = io.StringIO()
    console = open_console(stream)

    with working(console, "busy"):
        console.line(Span("red", "red"), " and plain")
    console.table([("a", Span("first", "bold")), ("long", "second")])

    assert not console.is_terminal
    assert stream.getvalue() == "red and plain\n  a     first\n  long  second\n"


def test_a_terminal_gets_colours_and_a_live_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = Terminal()
    console = open_console(stream)
    assert isinstance(console, TerminalConsole)

    console.live("thinking")
    console.line(Span("done", "red"))

    assert "thinking" in stream.getvalue()
    assert "\r\x1b[2K" in stream.getvalue()
    assert "\x1b[31mdone" in stream.getvalue()


def test_brackets_are_text_and_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = Terminal()

    TerminalConsole(stream).line("[speech 1.4s] [/nothing]")

    assert "[speech 1.4s] [/nothing]" in stream.getvalue()


@pytest.mark.parametrize(
    ("variables", "stream", "expected"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"NO_COLOR": ""}, Terminal(), False),
        ({"TERM": "dumb"}, Terminal(), False),
        ({"FORCE_COLOR": "1"}, io.StringIO(), True),
    ],
)
def test_who_looks_is_told_by_the_stream_and_the_usual_variables(
    variables: dict[str, str], stream: io.StringIO, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert is_terminal(stream) is expected


def test_tables_of_uneven_rows_are_printed() -> None:
    stream = io.StringIO()

    PlainConsole(stream).table([("one",), ("two", "2")], indent=0)

    assert stream.getvalue() == "one\ntwo  2\n"


@pytest.mark.parametrize(
    ("done", "total", "expected"),
    [
        (0, 8, "copying ────────────────────────  0 of 8"),
        (2, 8, "copying ━━━━━━──────────────────  2 of 8"),
        (8, 8, "copying ━━━━━━━━━━━━━━━━━━━━━━━━  8 of 8"),
        (9, 8, "copying ━━━━━━━━━━━━━━━━━━━━━━━━  9 of 8"),
        (5, None, "… copying  5"),
        (0, None, "… copying"),
    ],
)
def test_a_bar_shows_how_far_it_is(done: int, total: int | None, expected: str) -> None:
    shown = "".join(piece.text if isinstance(piece, Span) else piece for piece in bar("copying", done, total))
    assert shown.split() == expected.split()


def test_a_bar_counts_in_the_unit_of_people() -> None:
    assert bar("copying", 12_340_000, 40_000_000, unit="MB", per_unit=1_000_000)[-1] == " 12.3 of 40.0 MB"
