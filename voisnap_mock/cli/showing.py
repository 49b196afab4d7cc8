"""`show`: a recorded call as a timed transcript with its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voisnap_mock.cli.console import Console, Span, open_console, print_json
from voisnap_mock.cli.recorded import find_record
from voisnap_mock.cli.transcript import head
from voisnap_mock.recordings.call_files import Utterance, utterance_in
from voisnap_mock.recordings.reading import RecordedCall

# Told by the lines of the transcript, or nothing that people look for.
_LEFT_OUT = (
    "agent.transcript",
    "agent.typing",
    "agent.message",
    "audio.in",
    "audio.out",
    "caller.digit",
    "caller.message",
    "caller.transcript",
    "session.opened",
)
_FIXED = ("seq", "at", "t", "tenantId", "callId", "kind")


def show(source: str, *, url: str | None, tenant: str | None, as_json: bool) -> None:
    """Print a recorded call, or one of a running server.

    Raises:
        ConfigError: it is no record, or cannot be read.
        CheckFailed: the server does not know it.
    """
    record = find_record(source, url=url, tenant=tenant, with_audio=False)
    if as_json:
        print_json(
            {
                "call": dict(record.facts),
                "transcript": [said.as_object() for said in record.transcript],
                "events": [dict(event) for event in record.events],
            }
        )
    else:
        _show(record, open_console())


def _show(record: RecordedCall, console: Console) -> None:
    facts = record.facts
    about = f"{facts['channel']} with {facts['agentId']}, {facts.get('clock', 'real')} clock"
    console.line(Span(str(facts["id"]), "bold"), "  ", Span(about, "dim"))
    for at, _, label, text, tail in sorted(_rows(record), key=lambda row: row[:2]):
        console.line(*head(at, label), text, Span(tail, "dim"))
    if facts.get("status") != "ended":
        console.line(Span("The record breaks off here: the call went on, or its server was killed.", "yellow"))


def _rows(record: RecordedCall) -> Iterator[tuple[float, int, str, str, str]]:
    """Each line: call time, place among those of the same time, label, text, and what is less important."""
    latest = 0.0
    for number, event in enumerate(record.events):
        latest = max(latest, event.get("t") or 0.0)
        said = utterance_in(dict(event))
        if said is not None:
            yield said.begin, number, said.who, said.text, _manner(said)
        elif event["kind"] not in _LEFT_OUT:
            label, text = _described(event)
            yield latest, number, label, text, ""


def _manner(said: Utterance) -> str:
    if said.interrupted:
        return "  (interrupted)"
    if said.ear is None:
        return ""
    sure = f"{said.confidence:.2f}, " if said.confidence else ""
    return f"  ({sure}{said.ear})"


def _described(event: Mapping[str, Any]) -> tuple[str, str]:
    match event:
        case {"kind": "session.started"}:
            return "started", str(event.get("agent_name", ""))
        case {"kind": "session.ended"}:
            return "ended", f"{event.get('reason')} after {event.get('duration')} s"
        case {"kind": "session.failed"}:
            return "error", f"{event.get('code')}: {event.get('message')}"
        case {"kind": "transfer.started"}:
            about = f": {event['summary']}" if event.get("summary") else ""
            return "transfer", f"to {event.get('to')}, {event.get('type')}{about}"
        case {"kind": "event.pushed"}:
            return "event", f"{event.get('target')} {event.get('arguments')}"
        case {"kind": "method", "target": "SendDtmfAsync"}:
            return "press", str(event.get("digit"))
        case _:
            details = ", ".join(f"{name} {value}" for name, value in event.items() if name not in _FIXED)
            return "", f"{event['kind']}  {details}".rstrip()
