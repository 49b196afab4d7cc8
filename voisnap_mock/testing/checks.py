"""What a suite should not leave behind, whoever runs it: told in sentences. Pure: entries and reports in, texts out."""

from __future__ import annotations

from collections.abc import Iterable

from voisnap_mock.faults.plan import RuleReport
from voisnap_mock.journal import JournalEntry


def problems_in(entries: Iterable[JournalEntry]) -> list[str]:
    """Errors of the mock itself, and calls that left a strict script or ended before its last turn."""
    found = []
    strayed: set[str | None] = set()
    for entry in entries:
        call = f"call {entry.call_id}: " if entry.call_id else ""
        match entry.kind:
            case "defect":
                found.append(f"{call}the mock itself failed: {entry.details['message']}")
            case "script.wrong_turn":
                strayed.add(entry.call_id)
                found.append(f"{call}the script did not go on: {entry.details['reason']}")
            case "script.unused_turns" if entry.call_id not in strayed:
                found.append(f"{call}turns of the script were not reached: {'; '.join(entry.details['turns'])}")
    return found


def never_fired(report: RuleReport) -> str | None:
    """What is wrong about a fault; None when it has fired."""
    return None if report.fired else f"fault {report.rule.id} never fired; nearest: {report.near_miss}"
