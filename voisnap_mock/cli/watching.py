"""`calls` and `tail`: what happened and happens on a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from voisnap_mock.cli.console import Console, Span, open_console, print_json
from voisnap_mock.cli.service import control, follow

_FIXED = ("seq", "at", "t", "tenantId", "callId", "kind", "target", "text", "message")
_STYLES = {
    "agent": "bold cyan",
    "caller": "green",
    "method": "yellow",
    "fault": "magenta",
    "lint": "yellow",
    "defect": "bold red",
    "session": "bold",
}


def calls(url: str | None, tenant: str | None, *, as_json: bool) -> None:
    """Print the calls, oldest first."""
    found = control(url, "GET", "calls", tenant=tenant)["data"]
    if as_json:
        print_json(found)
        return
    console = open_console()
    if not found:
        console.line("No calls yet.")
    rows: list[tuple[str | Span, ...]] = []
    for call in found:
        lasted = "" if call["durationSeconds"] is None else f"{call['durationSeconds']:.2f} s"
        state = call["reason"] or call["status"]
        style = "bold green" if call["status"] == "live" else "dim"
        started = call["startedAt"] or ""
        rows.append((Span(call["id"], "cyan"), call["agentId"], call["channel"], Span(state, style), lasted, started))
    console.table(rows)


def tail(
    url: str | None, tenant: str | None, wanted: Mapping[str, str | None], *, last: int, goes_on: bool, as_json: bool
) -> None:
    """Print the last entries of the journal and then those to come, until Ctrl-C or the end of the server."""
    query = urlencode({name: value for name, value in wanted.items() if value is not None} | {"last": str(last)})
    console = open_console()
    try:
        for entry in _entries(url, tenant, f"journal?{query}", goes_on=goes_on):
            if as_json:
                print_json(entry, compact=True)
            else:
                _show(console, entry)
    except KeyboardInterrupt:
        return


def _entries(url: str | None, tenant: str | None, path: str, *, goes_on: bool) -> Iterator[dict[str, Any]]:
    if goes_on:
        yield from follow(url, f"{path}&follow=true", tenant=tenant)
    else:
        yield from control(url, "GET", path, tenant=tenant)["data"]


def _show(console: Console, entry: Mapping[str, Any]) -> None:
    when = f"{entry['t']:9.3f}" if entry["t"] is not None else " " * 9
    call = (entry["callId"] or "")[-6:]
    said = entry.get("text") or entry.get("message") or ""
    more = {name: value for name, value in entry.items() if name not in _FIXED and value is not None}
    console.line(
        Span(f"{when}  {call:<6}  ", "dim"),
        Span(f"{entry['kind']:<20}", _STYLES.get(entry["kind"].partition(".")[0], "")),
        f" {entry.get('target') or ''}".rstrip(),
        f" {json.dumps(said, ensure_ascii=False)}" if said else "",
        Span(f"  {json.dumps(more, ensure_ascii=False)}" if more else "", "dim"),
    )
