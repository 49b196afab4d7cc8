"""`replay`: a recorded caller calls again, and the answers are compared with the record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from voisnap_mock.caller import CallRefused
from voisnap_mock.cli.console import Console, Span, open_console, print_json
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.recorded import find_record
from voisnap_mock.cli.service import access_token, ask, find_login, find_server
from voisnap_mock.clock import SPEEDS, SystemClock
from voisnap_mock.replay import Plan, Replayed, Row, Seen, compare, plan_of, play, seen_in, timed

# How the control API names the clocks whose time passes by itself. A server without a control API is in real time.


def replay(
    source: str,
    *,
    agent: str | None,
    tolerance: float | None,
    url: str | None,
    email: str | None,
    password: str | None,
    token: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Play the caller of a recorded call again, and print what came out differently.

    Raises:
        ConfigError: it is no record, or none that can be played.
        CheckFailed: something came out differently, or the call was refused.
    """
    record = find_record(source, url=url, tenant=tenant)
    plan, recorded = plan_of(record, agent_id=agent), seen_in(record)
    server = find_server(url)
    own_token = access_token(server, find_login(token=token, email=email, password=password))
    speed = _speed_of(server, tenant)
    console = open_console()
    if not as_json:
        about = f"{plan.channel} with {plan.agent_id}, {plan.until:g} s, on {server}"
        console.line(Span(f"Replaying {record.facts['id']}", "bold"), "  ", Span(about, "dim"))
    try:
        replayed = asyncio.run(_play(plan, server, own_token, speed, tenant))
    except CallRefused as error:
        raise CheckFailed(f"the call failed: {error}") from error
    seen: Sequence[Seen] = replayed.seen
    if speed is None:
        seen = timed(seen, _events_of(server, replayed.call_id, tenant))
        if tolerance is not None and any(each.t is None for each in seen):
            raise CheckFailed("--tolerance: the server goes by a virtual clock and does not tell when its events came")
    rows = compare(recorded, seen, tolerance=tolerance)
    different = [row for row in rows if not row.is_same]
    if as_json:
        print_json(
            {
                "same": not different,
                "call": replayed.call_id,
                "recorded": [each.as_object() for each in recorded],
                "replayed": [each.as_object() for each in seen],
                "differences": [_difference(row) for row in different],
            }
        )
    else:
        _show(rows, console)
    if different:
        raise CheckFailed(f"{len(different)} of {len(rows)} events are different from the record")


async def _play(plan: Plan, server: str, token: str, speed: float | None, tenant: str | None) -> Replayed:
    async def advance(call_id: str, until: float) -> None:
        await asyncio.to_thread(_advance, server, call_id, until, tenant)

    return await play(plan, server, access_token=token, clock=SystemClock(), speed=speed, advance=advance)


def _speed_of(server: str, tenant: str | None) -> float | None:
    answer = ask("GET", f"{server}/__voisnap/clock", tenant=tenant)
    match answer.body:
        case {"mode": str(mode)} if answer.status == 200:
            return SPEEDS.get(mode)
        case _:
            return 1.0


def _advance(server: str, call_id: str, until: float, tenant: str | None) -> None:
    """Move the virtual clock of a call to `until`; a call that is over has none any more."""
    url = f"{server}/__voisnap/clock"
    match ask("GET", url, tenant=tenant).body:
        case {"calls": list(calls)}:
            t = next((call["t"] for call in calls if call["id"] == call_id), until)
            if until > t:
                ask("POST", url, {"advance": f"{until - t:.9f}s", "call": call_id}, tenant=tenant)


def _events_of(server: str, call_id: str, tenant: str | None) -> Sequence[dict[str, object]]:
    """The server's own journal of a call; nothing where there is no such control API."""
    answer = ask("GET", f"{server}/__voisnap/calls/{call_id}/events", tenant=tenant)
    match answer.body:
        case {"data": list(events)} if answer.status == 200:
            return events
        case _:
            return ()


def _show(rows: Sequence[Row], console: Console) -> None:
    for row in rows:
        one, other = row.recorded, row.replayed
        if one is not None and row.is_same:
            _line(console, " ", one, "dim")
            continue
        if one is not None:
            _line(console, "-", one, "red")
        if other is not None:
            _line(console, "+", other, "green")
    different = sum(not row.is_same for row in rows)
    if not different:
        console.line(Span(f"The same {len(rows)} events.", "bold green"))


def _line(console: Console, sign: str, seen: Seen, style: str) -> None:
    at = f"{seen.t:8.2f}" if seen.t is not None else " " * 8
    console.line(Span(f"{sign} {at}  {seen.target:<18}{seen.text}".rstrip(), style))


def _difference(row: Row) -> dict[str, object]:
    what = "late" if row.is_late else "missing" if row.replayed is None else "extra"
    return {
        "what": what,
        "recorded": None if row.recorded is None else row.recorded.as_object(),
        "replayed": None if row.replayed is None else row.replayed.as_object(),
    }
