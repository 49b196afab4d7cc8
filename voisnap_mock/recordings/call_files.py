"""The files of a recorded call, as text and bytes. Pure: who writes them where, and who reads them, is elsewhere.

    <conversationId>/
      in.wav            the caller: 16 kHz, 16 bit, mono        (not for chats)
      out.wav           the agent: 24 kHz, 16 bit, mono         (not for chats)
      events.jsonl      the journal of the call, an entry a line
      transcript.vtt    who said what, as WebVTT
      call.json         whose call it was, and how it ended

On a virtual clock the same call gives the same files, to the byte: what is real time is null in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from voisnap_mock.audio.frames import AGENT_RATE, CALLER_RATE
from voisnap_mock.journal import JournalEntry

Side = Literal["in", "out"]
RATES: dict[Side, int] = {"in": CALLER_RATE, "out": AGENT_RATE}

EVENTS = "events.jsonl"
TRANSCRIPT = "transcript.vtt"
CALL = "call.json"
WAVS: dict[Side, str] = {"in": "in.wav", "out": "out.wav"}

VTT_HEAD = "WEBVTT\n\n"
# Seconds that a message of a chat is shown: it was written in no time.
_MESSAGE_SHOWN = 1.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """Somebody said something, for good.

    Attributes:
        who: `agent` or `caller`; of the caller it is what the agent understood.
        begin, end: seconds of call time; of a chat message they are equal.
        interrupted: the caller broke it off, and `text` is what was really played.
    """

    who: Literal["agent", "caller"]
    text: str
    begin: float
    end: float
    confidence: float | None = None
    ear: str | None = None
    interrupted: bool = False

    def as_object(self) -> dict[str, Any]:
        """As the control API and `show --json` give it."""
        said: dict[str, Any] = {"who": self.who, "text": self.text, "begin": self.begin, "end": self.end}
        if self.ear is not None:
            said |= {"confidence": self.confidence, "ear": self.ear}
        return said | {"interrupted": True} if self.interrupted else said


def utterance_in(entry: dict[str, Any]) -> Utterance | None:
    """What a journal entry, as an object, says was said; None for all others."""
    match entry:
        case {"kind": "agent.transcript", "is_final": True, "text": str(text), "begin": begin, "end": end}:
            return Utterance("agent", text, begin, end, interrupted=entry.get("interrupted") is True)
        case {"kind": "caller.transcript", "is_final": True, "text": str(text), "begin": begin, "end": end}:
            return Utterance("caller", text, begin, end, entry.get("confidence"), entry.get("ear"))
        case {"kind": "agent.message", "is_final": True, "text": str(text), "t": float() | int() as t}:
            return Utterance("agent", text, t, t)
        case {"kind": "caller.message", "text": str(text), "t": float() | int() as t}:
            return Utterance("caller", text, t, t)
        case _:
            return None


def event_line(entry: JournalEntry, number: int, *, with_real_time: bool) -> dict[str, Any]:
    """A line of `events.jsonl`: a journal entry whose `seq` counts the lines of this file."""
    return entry.as_object() | {"seq": number, "at": round(entry.at, 3) if with_real_time else None}


def json_line(value: object) -> str:
    """One line of a file of JSON lines, with its end."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def call_text(facts: dict[str, Any]) -> str:
    """`call.json`."""
    return json.dumps(facts, ensure_ascii=False, indent=2) + "\n"


def vtt_cue(said: Utterance) -> str:
    """A cue of `transcript.vtt`, in the voice of who said it."""
    end = said.end if said.end > said.begin else said.begin + _MESSAGE_SHOWN
    text = " ".join(said.text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{_vtt_time(said.begin)} --> {_vtt_time(end)}\n<v {said.who}>{text}\n\n"


def vtt(said: Iterable[Utterance]) -> str:
    """A whole `transcript.vtt`; cues stand in the order in which they begin, as WebVTT wants them."""
    return VTT_HEAD + "".join(map(vtt_cue, sorted(said, key=lambda each: (each.begin, each.end))))


def _vtt_time(seconds: float) -> str:
    milliseconds = round(max(seconds, 0.0) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
