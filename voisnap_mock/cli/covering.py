"""`coverage`: what the clients of a server, or of earlier test runs, touched of the service's API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from voisnap_mock.cli.console import Span, open_console, print_json
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.service import control, find_server
from voisnap_mock.coverage import Coverage, added_up
from voisnap_mock.errors import ConfigError


def coverage(
    files: Sequence[Path],
    *,
    url: str | None,
    tenant: str | None,
    as_json: bool,
    html: Path | None,
    fail_under: float | None,
) -> None:
    """Print the coverage of a running server, or of the files that test runs wrote, added up.

    Raises:
        CheckFailed: it is less than `fail_under`; no server answers.
        ConfigError: a file is no coverage file, or the page cannot be written.
    """
    found = added_up(map(read_coverage, files)) if files else _of_server(url, tenant)
    if html is not None:
        write_coverage(html, found)
    if as_json:
        print_json(found.report())
    else:
        console = open_console()
        console.line(Span(f"Voisnap API coverage: {found.percent:g} %", "bold"))
        console.table([(title, Span(share, "cyan"), Span(missing, "dim")) for title, share, missing in found.rows()])
        if found.unused_hubs:
            console.line(f"  not used and not counted: {', '.join(found.unused_hubs)}")
        if html is not None:
            console.line(f"  written: {html}")
    if fail_under is not None and found.percent < fail_under:
        raise CheckFailed(f"coverage is {found.percent:g} %, less than --fail-under {fail_under:g}")


def read_coverage(path: Path) -> Coverage:
    """A coverage file.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    try:
        return Coverage.load(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"coverage file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"coverage file {path}: {error}") from error


def write_coverage(path: Path, found: Coverage) -> None:
    """Write a page for browsers when the name ends with `.html`, else a file that `read_coverage` reads.

    Raises:
        ConfigError: it cannot be written.
    """
    if path.suffix.casefold() in (".html", ".htm"):
        from voisnap_mock.coverage_page import coverage_page

        text = coverage_page(found)
    else:
        text = json.dumps(found.dump(), indent=1, sort_keys=True) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"coverage cannot be written to {path}: {error.strerror}") from error


def _of_server(url: str | None, tenant: str | None) -> Coverage:
    answer = control(url, "GET", "coverage", tenant=tenant)
    try:
        return Coverage.load(answer["counts"])
    except (TypeError, KeyError, ValueError) as error:
        raise CheckFailed(
            f"{find_server(url)} answered something else ({error}); is it a voisnap-mock of this version?"
        ) from error
