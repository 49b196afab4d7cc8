"""Which parts of the service's API a test-suite has touched, and which it never did.

Counted from the journal, so that whatever crossed a seam counts, by whichever client, in whichever language. A hub that
was never connected to is listed as unused and does not count against the suite: who integrates voice owes no chat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from voisnap_mock.faults.rules import CODES, POINTS
from voisnap_mock.journal import JournalEntry

SESSION_EVENTS = ("SessionStarted", "Reconnected", "TransferInitiated", "Error", "SessionEnded")
METHODS: Mapping[str, tuple[str, ...]] = {
    "voice": ("SendAudioAsync", "SendDtmfAsync", "EndSessionAsync", "RequestReconnectionAsync"),
    "chat": ("SendMessageAsync", "TypingAsync", "CancelAsync", "EndSessionAsync", "RequestReconnectionAsync"),
    "webrtc": ("SendOfferAsync", "SendIceCandidateAsync", "EndSessionAsync"),
}
EVENTS: Mapping[str, tuple[str, ...]] = {
    "voice": ("Transcription", "TranscriptionOf", "AudioReceived", *SESSION_EVENTS),
    "chat": ("TypingIndicator", "MessageReceived", "ConversationEnded", *SESSION_EVENTS),
    "webrtc": (
        "SdpAnswerReceived",
        "IceCandidateReceived",
        "Transcription",
        "TranscriptionOf",
        *(event for event in SESSION_EVENTS if event != "Reconnected"),
    ),
}
HUBS: Mapping[str, str] = {"voice": "VoiceHub", "chat": "ChatHub", "webrtc": "WebRtcHub"}
END_REASONS = (
    "user_ended",
    "timeout",
    "transfer_complete",
    "agent_ended",
    "max_duration",
    "idle_timeout",
    "disconnected",
    "error",
    "server_shutdown",
)
TRANSPORTS = ("WebSockets", "ServerSentEvents", "LongPolling", "json", "messagepack")

# Which hub events the client was sent for an entry of this kind.
EVENTS_OF: Mapping[str, tuple[str, ...]] = {
    "session.started": ("SessionStarted",),
    "session.resumed": ("Reconnected",),
    "session.failed": ("Error",),
    "connection.turned_away": ("Error",),
    "session.ended": ("ConversationEnded", "SessionEnded"),
    "transfer.started": ("TransferInitiated",),
    "caller.transcript": ("Transcription",),
    "agent.transcript": ("TranscriptionOf",),
    "agent.typing": ("TypingIndicator",),
    "agent.message": ("MessageReceived",),
    "audio.out": ("AudioReceived",),
    "webrtc.answer": ("SdpAnswerReceived", "IceCandidateReceived"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of thing that can be touched: how often each of its items was, in the order of the documentation."""

    title: str
    items: Mapping[str, int]

    @property
    def touched(self) -> int:
        return sum(count > 0 for count in self.items.values())


class Coverage:
    """What has been touched so far. `take` every entry of a journal, in order; reports may be added up.

    Attributes:
        hubs: how many connections each hub has had: `voice`, `chat`, `webrtc`.
    """

    def __init__(self) -> None:
        self.hubs: Counter[str] = Counter()
        self._methods: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self._transports: Counter[str] = Counter()
        self._points: Counter[str] = Counter()
        self._channels: dict[str, str] = {}

    def take(self, entry: JournalEntry) -> None:
        """Count one entry. What is no part of the API changes nothing."""
        kind, details = entry.kind, entry.details
        call = entry.call_id or str(details.get("callId") or "")
        if kind == "session.opened":
            self._channels[call] = str(details["channel"])
        elif kind == "connection.opened":
            self.hubs[self._channel(entry)] += 1
            self._transports[str(details.get("transport"))] += 1
            self._transports[str(details.get("protocol"))] += 1
        elif kind == "fault.fired":
            self._points[_point(str(details.get("point")))] += 1
        elif kind == "method":
            self._methods[f"{self._channel(entry)}.{details.get('target')}"] += 1
        elif kind == "audio.in":
            self._methods[f"{self._channel(entry)}.SendAudioAsync"] += 1
        if kind in ("session.failed", "connection.turned_away"):
            self._errors[str(details.get("code"))] += 1
        for event in EVENTS_OF.get(kind, ()):
            self._events[f"{self._channel(entry)}.{event}"] += 1
        if kind == "session.ended":
            self._ends[str(details["reason"])] += 1
            self._channels.pop(call, None)

    def add(self, other: Coverage) -> None:
        """Count what another suite, worker or run has touched too."""
        for mine, others in zip(self._counters().values(), other._counters().values(), strict=True):
            mine.update(others)

    @property
    def used_hubs(self) -> tuple[str, ...]:
        """The channels whose hub somebody connected to."""
        return tuple(channel for channel in HUBS if self.hubs[channel])

    @property
    def unused_hubs(self) -> tuple[str, ...]:
        """The names of the hubs that nobody connected to."""
        return tuple(name for channel, name in HUBS.items() if not self.hubs[channel])

    def parts(self) -> Mapping[str, Part]:
        """Everything that could have been touched, under the names of the control API; unused hubs left out."""
        used = self.used_hubs
        return {
            "methods": Part("hub methods", _of_hubs(self._methods, METHODS, used)),
            "events": Part("hub events", _of_hubs(self._events, EVENTS, used)),
            "errors": Part("error codes", {code: self._errors[code] for code in CODES}),
            "endReasons": Part("end reasons", {reason: self._ends[reason] for reason in END_REASONS}),
            "transports": Part("transports", {name: self._transports[name] for name in TRANSPORTS}),
            "faultPoints": Part("fault points", {point.name: self._points[point.name] for point in POINTS}),
        }

    @property
    def percent(self) -> float:
        """Share of `parts` that was touched, 0 to 100, with one decimal."""
        parts = self.parts().values()
        total = sum(len(part.items) for part in parts)
        return round(100 * sum(part.touched for part in parts) / total, 1)

    def report(self) -> dict[str, Any]:
        """As JSON shows it: counts by part and name, unused hubs, percent."""
        return {
            **{name: dict(part.items) for name, part in self.parts().items()},
            "unusedHubs": list(self.unused_hubs),
            "percent": self.percent,
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """For people: each part, how much of it was touched, and what never was."""
        return [
            (
                part.title,
                f"{part.touched} of {len(part.items)}",
                ", ".join(name for name, count in part.items.items() if not count) or "all touched",
            )
            for part in self.parts().values()
        ]

    def dump(self) -> dict[str, dict[str, int]]:
        """All counts, for `load` in another process."""
        return {name: dict(counter) for name, counter in self._counters().items()}

    @classmethod
    def load(cls, dumped: Mapping[str, Mapping[str, int]]) -> Self:
        """What `dump` gave.

        Raises:
            ValueError: it is something else.
        """
        made = cls()
        try:
            for name, counter in made._counters().items():
                counter.update({str(item): int(count) for item, count in dumped[name].items()})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"this is no coverage of voisnap-mock: {type(error).__name__}: {error}") from None
        return made

    def _counters(self) -> dict[str, Counter[str]]:
        return {
            "hubs": self.hubs,
            "methods": self._methods,
            "events": self._events,
            "errors": self._errors,
            "endReasons": self._ends,
            "transports": self._transports,
            "faultPoints": self._points,
        }

    def _channel(self, entry: JournalEntry) -> str:
        if entry.call_id in self._channels:
            return self._channels[entry.call_id]
        # Whoever has no session yet has a hub: `/hubs/voice`.
        return str(entry.details.get("hub", "")).rpartition("/")[2]


def added_up(reports: Iterable[Coverage]) -> Coverage:
    """All of them together."""
    total = Coverage()
    for report in reports:
        total.add(report)
    return total


def _point(name: str) -> str:
    """The row of `POINTS` that a point such as `event.Transcription` belongs to."""
    known = {point.name for point in POINTS}
    if name in known:
        return name
    first = name.partition(".")[0]
    return next((point for point in known if point.startswith(f"{first}.<")), name)


def _of_hubs(counted: Counter[str], table: Mapping[str, tuple[str, ...]], used: tuple[str, ...]) -> Mapping[str, int]:
    return {f"{HUBS[channel]}.{name}": counted[f"{channel}.{name}"] for channel in used for name in table[channel]}
