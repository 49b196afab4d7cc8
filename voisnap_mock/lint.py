"""Remarks on how clients behave, as the journal has them: nothing that the service would refuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from voisnap_mock.journal import JournalEntry

LINT = "lint"
"""The kind of their entries."""


@dataclass(frozen=True, slots=True)
class LintNote:
    """What a client did, and how often.

    Attributes:
        call_id: None when it concerns no call.
        t, message: of the first time.
    """

    call_id: str | None
    rule: str
    message: str
    t: float | None
    count: int

    def as_object(self) -> dict[str, Any]:
        """As the control API shows it."""
        return {
            "callId": self.call_id,
            "rule": self.rule,
            "message": self.message,
            "t": self.t,
            "count": self.count,
        }


def lint_of(entries: Iterable[JournalEntry]) -> tuple[LintNote, ...]:
    """The remarks among `entries`, one for each rule and call, in the order in which they were first made."""
    notes: dict[tuple[str | None, str], LintNote] = {}
    for entry in entries:
        if entry.kind != LINT:
            continue
        call_id = entry.call_id or entry.details.get("callId")
        rule = str(entry.details["rule"])
        before = notes.get((call_id, rule))
        message, t, count = str(entry.details["message"]), entry.t, 0
        if before is not None:
            message, t, count = before.message, before.t, before.count
        notes[call_id, rule] = LintNote(call_id, rule, message, t, count + 1)
    return tuple(notes.values())
