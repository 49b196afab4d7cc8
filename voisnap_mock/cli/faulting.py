"""`faults`: what is armed on a running server, and more or less of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from voisnap_mock.cli.console import Console, Span, open_console, print_json
from voisnap_mock.cli.service import control
from voisnap_mock.errors import ConfigError
from voisnap_mock.faults.token import is_token


def show(url: str | None, tenant: str | None, *, as_json: bool) -> None:
    """Print every rule: whether it is armed, how often it fired, and what kept it from it."""
    armed = control(url, "GET", "faults", tenant=tenant)
    if as_json:
        print_json(armed["data"])
        return
    console = open_console()
    if not armed["data"]:
        console.line("No faults are armed.")
        return
    _list(console, armed["data"])
    console.line(Span(f"Again, the same: voisnap-mock faults add {armed['token']}", "dim"))


def add(rule: str | None, parts: Mapping[str, Any], url: str | None, tenant: str | None, *, as_json: bool) -> None:
    """Arm the rule that the options make, or those of a text, a token or a file.

    Raises:
        ConfigError: a rule is wrong; the text says where.
    """
    if (rule is None) == (not parts):
        raise typer.BadParameter("give a rule (JSON, YAML, a file or a token), or options such as --at and --error.")
    body: object = parts if rule is None else _text_of(rule).encode()
    added = control(url, "POST", "faults", body, tenant=tenant)
    if as_json:
        print_json(added["data"])
    else:
        _list(open_console(), added["data"])


def clear(ids: Sequence[str], url: str | None, tenant: str | None) -> None:
    """Disarm these rules, or all."""
    for path in [f"faults/{fault_id}" for fault_id in ids] or ["faults"]:
        control(url, "DELETE", path, tenant=tenant)


def rule_of(do: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """A rule of what the options gave; None and what is empty was not given."""
    rule = {name: value for name, value in others.items() if value is not None and value != {}}
    action = {name: value for name, value in do.items() if value is not None and value != {}}
    return rule | ({"do": action} if action else {})


def json_or_text(text: str | None) -> Any:
    """A value of `--replace`."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text_of(rule: str) -> str:
    """A rule or a token as it was written, or the file of that name."""
    if is_token(rule) or any(letter in rule for letter in "{[\n:"):
        return rule
    path = Path(rule)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"faults file {path} cannot be read: {error}") from error


def _list(console: Console, reports: Sequence[Mapping[str, Any]]) -> None:
    rows: list[tuple[str | Span, ...]] = []
    for report in reports:
        rule = {name: value for name, value in report["rule"].items() if name not in ("id", "at")}
        at = report["rule"]["at"]
        state = f"fired {report['fired']}" if report["fired"] else ("armed" if report["armed"] else "spent")
        rows.append(
            (
                Span(report["id"], "cyan"),
                at if isinstance(at, str) else ", ".join(at),
                json.dumps(rule, ensure_ascii=False),
                Span(state, "green" if report["fired"] else ""),
                Span(report["nearMiss"] or "", "dim"),
            )
        )
    console.table(rows)
