"""The timed transcript of a call or chat: plain lines, colours and a live line for people, JSON for programs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, assert_never

from voisnap_mock.caller import (
    CallerEvent,
    Connected,
    Ended,
    Failed,
    Heard,
    Pushed,
    Resumed,
    Said,
    Sounded,
    Transferred,
    Typing,
    Wrote,
)
from voisnap_mock.cli.console import Console, Span, print_json

_LABEL_STYLES = {
    "agent": "bold cyan",
    "caller": "green",
    "heard": "green",
    "say": "yellow",
    "play": "yellow",
    "press": "yellow",
    "drop": "yellow",
    "you": "bold yellow",
    "error": "bold red",
    "transfer": "magenta",
}


class Transcript:
    """Prints what happens on a line as it happens.

    Each line: seconds since the session began, who or what, the text. `say`, `play`, `press`, `drop` and `you` are what
    the caller did; `heard` is what the agent understood of it; `agent` is what the agent said.
    """

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self._as_json = as_json

    def title(self, text: str, detail: str) -> None:
        """Say what is about to begin; programs do not need it."""
        if not self._as_json:
            self._console.line(Span(text, "bold"), "  ", Span(detail, "dim"))

    def note(self, at: float, kind: str, text: str, **details: Any) -> None:
        """Something that the caller does."""
        self._show(at, kind, text, details={"text": text, **details})

    def learn(self, event: CallerEvent, at: float) -> None:
        """Something that arrived."""
        match event:
            case Connected(conversation_id, session_id, agent_name):
                ids = {"conversationId": conversation_id, "sessionId": session_id, "agentName": agent_name}
                self._show(at, "started", f"{agent_name} answers, {conversation_id}", details=ids)
            case Resumed(session_id, message):
                text = f"{session_id} goes on: {message}"
                self._show(at, "resumed", text, details={"sessionId": session_id, "message": message})
            case Heard(text, is_final, confidence):
                sure = f"  ({confidence:.2f})" if confidence else ""
                details = {"text": text, "confidence": confidence}
                self._show_text(at, "heard", text, is_final=is_final, details=details, tail=sure)
            case Said(text, is_final) | Wrote(_, text, is_final):
                self._show_text(at, "agent", text, is_final=is_final, details={"text": text})
            case Typing(is_typing):
                if is_typing:
                    self._live(at, "agent", "…")
            case Transferred(to, kind, summary):
                about = f": {summary}" if summary else ""
                transfer = {"to": to, "type": kind, "summary": summary}
                self._show(at, "transfer", f"to {to}, {kind}{about}", details=transfer)
            case Failed(code, message, is_recoverable):
                error = {"code": code, "message": message, "recoverable": is_recoverable}
                self._show(at, "error", f"{code}: {message}", details=error)
            case Ended(reason, duration):
                text = f"{reason} after {duration:g} s"
                self._show(at, "ended", text, details={"reason": reason, "durationSeconds": duration})
            case Sounded() | Pushed():
                pass
            case _:
                assert_never(event)

    def _show_text(
        self, at: float, kind: str, text: str, *, is_final: bool, details: dict[str, Any], tail: str = ""
    ) -> None:
        if is_final:
            self._show(at, kind, text, details=details, tail=tail)
        else:
            self._live(at, kind, text)

    def _show(self, at: float, kind: str, text: str, *, details: dict[str, Any], tail: str = "") -> None:
        # A call goes on to its end though nobody reads on: `grep -q` is content with the first line that fits.
        with suppress(BrokenPipeError):
            if self._as_json:
                print_json({"t": round(at, 3), "event": kind, **details}, compact=True)
            else:
                self._console.line(*head(at, kind), text, Span(tail, "dim"))

    def _live(self, at: float, kind: str, text: str) -> None:
        if not self._as_json:
            self._console.live(*head(at, kind), Span(text, "dim"))


def head(at: float, kind: str) -> tuple[Span, Span]:
    """What every line of a transcript begins with: seconds since the session began, and who or what."""
    return Span(f"{at:8.2f}  ", "dim"), Span(f"{kind:<9}", _LABEL_STYLES.get(kind, "dim"))
