"""A call told to people: who said what when, and what befell it. Pure: journal entries in, lines out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from voisnap_mock.journal import JournalEntry


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the story.

    Attributes:
        t: seconds of call time when it was over.
        who: whose line it is, or what happened: `agent`, `caller`, `keys`, `event`, `ended` and others.
        text: what was said, or what there is to say of it.
        note: what is not the same everywhere, such as how sure the ear was.
        begin: when it began, for what was spoken.
        interrupted: the caller broke it off.
    """

    t: float
    who: str
    text: str
    note: str = ""
    begin: float | None = None
    interrupted: bool = False


def story(entries: Iterable[JournalEntry]) -> list[Moment]:
    """The moments of a call, in the order in which they happened; `entries` are those of the call alone."""
    told = (_moment(entry) for entry in entries)
    return [moment for moment in told if moment is not None]


def timeline(moments: Iterable[Moment], *, indent: str = "  ") -> str:
    """The story as lines for a failed test: call time, who, what."""
    return "\n".join(
        f"{indent}{moment.t:8.3f}  {moment.who:<9} {' '.join(moment.text.split())}"
        f"{' (interrupted)' if moment.interrupted else ''}{f'  ({moment.note})' if moment.note else ''}"
        for moment in moments
    )


def _moment(entry: JournalEntry) -> Moment | None:
    details, t = entry.details, entry.t or 0.0
    match entry.kind:
        case "session.started":
            return Moment(t, "started", str(details.get("agent_name", "")))
        case "agent.transcript" if details["is_final"]:
            return Moment(
                t, "agent", details["text"], begin=details["begin"], interrupted=bool(details.get("interrupted"))
            )
        case "caller.transcript" if details["is_final"]:
            note = f"{details['ear']} {details['confidence']:.2f}" if details.get("ear") else ""
            return Moment(t, "caller", details["text"], note, begin=details["begin"])
        case "agent.message" if details["is_final"]:
            return Moment(t, "agent", details["text"])
        case "caller.message":
            return Moment(t, "caller", details["text"])
        case "caller.not_understood":
            return Moment(t, "caller", "was not understood")
        case "caller.digit":
            return Moment(t, "keys", details["digit"])
        case "event.pushed":
            return Moment(t, "event", " ".join((details["target"], *map(_json, details["arguments"]))))
        case "tool.called":
            return Moment(t, "tool", str(details.get("name", "")))
        case "transfer.started":
            summary = f": {details['summary']}" if details["summary"] else ""
            return Moment(t, "transfer", f"{details['type']} to {details['to']}{summary}")
        case "session.failed":
            kept = " (recoverable)" if details["recoverable"] else ""
            return Moment(t, "error", f"{details['code']}{kept}", str(details["message"]))
        case "session.detached":
            return Moment(t, "dropped", "the connection is lost")
        case "session.resumed":
            return Moment(t, "resumed", "")
        case "session.taken_over":
            return Moment(t, "resumed", "another connection took over")
        case "session.ended":
            return Moment(t, "ended", details["reason"])
        case "fault.fired":
            return Moment(t, "fault", f"{details['fault']} at {details['point']}: {_json(details['do'])}")
        case "script.wrong_turn":
            return Moment(t, "wrong", str(details["reason"]))
        case "script.unused_turns":
            return Moment(t, "unused", "; ".join(details["turns"]))
        case "method.refused":
            return Moment(t, "refused", str(details["message"]))
        case "defect":
            return Moment(t, "defect", str(details["message"]))
        case "lint":
            return Moment(t, "lint", str(details["message"]))
        case _:
            return None


def _json(payload: Any) -> str:
    return json.dumps(payload, ensure_ascii=False, sort_keys=True)
