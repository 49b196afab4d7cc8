"""The journal: the emulator's memory of all that crossed a border, in order.

It is append-only, capped by count and by bytes, and says what it dropped. Credentials are taken out on the way in, by
one list (`CREDENTIAL_NAMES`), so nothing that reads the journal has to think of them. It is written from the server's
loop; reading a snapshot is safe from any thread.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

from voisnap_mock.clock import Clock

DROPPED = "journal.dropped"
REDACTED = "[redacted]"

CREDENTIAL_NAMES = frozenset(
    {
        "accesstoken",
        "apikey",
        "authorization",
        "cookie",
        "credential",
        "mfasecret",
        "mfatoken",
        "password",
        "proxyauthorization",
        "refreshtoken",
        "secret",
        "sessiontoken",
        "setcookie",
        "token",
    }
)
"""Names whose value is never kept, compared without case, `_` and `-`."""

# What gives a credential away inside a longer text: a member of JSON, a token in a URL or a header, a JWT, an API key.
# JSON may stand inside JSON, and be cut short: then what comes before the end is the value.
_CREDENTIAL_TEXT = re.compile(
    r"(?P<member>(?P<quote>\\{0,3}\")(?P<key>[\w-]{1,40})(?P=quote)\s*:\s*)"
    r"(?:\"(?:[^\"\\]|\\.)*(?:\"|\Z)|\\+\".*?(?:(?<!\\)(?P=quote)|\Z))"
    r"|(?P<name>\b(?:access_token|refresh_token|password|sessionToken)=)[^&\s\"']+"
    r"|(?P<scheme>\bBearer\s+)(?=\S*[\d._~+/-]\S)[^\s\"',]{6,}"
    r"|\b(?:wrtc_tok_)?eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|\bvsnp_(?:live|sb)_\w+",
    re.IGNORECASE | re.DOTALL,
)

# What an entry costs besides its details, roughly: the object, its fixed fields, its place in the queue.
_ENTRY_BYTES = 200
_PLAIN = frozenset({int, float, bool, type(None)})
_PLAIN_BYTES = 24
_TEXT_BYTES = 50
_TEXTS = ("text", "message")
_SUBSCRIBER_LIMIT = 10_000


class JournalEntry(NamedTuple):
    """One thing that happened. A tuple: it is made in half the time of a data class.

    Attributes:
        seq: place in the journal, from 1, without gaps.
        at: seconds since 1970.
        kind: what happened, dotted and lower case: `session.started`, `connection.refused`.
        tenant_id, call_id: whom it concerns, as far as known; a call's id is its `conversationId`.
        t: call time in seconds, inside a session.
        details: the rest, ready for JSON.
    """

    seq: int
    at: float
    kind: str
    tenant_id: str | None = None
    call_id: str | None = None
    t: float | None = None
    details: Mapping[str, Any] = MappingProxyType({})

    def as_object(self) -> dict[str, Any]:
        """As the control API and records of calls show it: the details follow, and never hide what goes before."""
        fixed = {
            "seq": self.seq,
            "at": self.at,
            "t": self.t,
            "tenantId": self.tenant_id,
            "callId": self.call_id,
            "kind": self.kind,
        }
        return fixed | {name: value for name, value in self.details.items() if name not in fixed}


@dataclass(frozen=True, slots=True)
class JournalFilter:
    """Which entries to show; None is no condition.

    Attributes:
        call, kind: equal to the entry's; a kind that ends with `*` is a prefix.
        target: equal to `details["target"]`: the hub method, the hub event or the request.
        text: found in `details["text"]` or `details["message"]`, without regard to case.
        since: only entries with a greater `seq`.
        begin, end: only entries of sessions, from and up to these seconds of call time.
        limit: at most so many, the first ones.
        last: at most so many, the last ones.
    """

    call: str | None = None
    kind: str | None = None
    target: str | None = None
    text: str | None = None
    since: int = 0
    begin: float | None = None
    end: float | None = None
    limit: int | None = None
    last: int | None = None

    def takes(self, entry: JournalEntry) -> bool:
        """Whether the entry fulfils every condition; how many there are is no matter here."""
        if entry.seq <= self.since or (self.call is not None and entry.call_id != self.call):
            return False
        if self.kind is not None and not _kind_fits(self.kind, entry.kind):
            return False
        if self.target is not None and entry.details.get("target") != self.target:
            return False
        if self.begin is not None and (entry.t is None or entry.t < self.begin):
            return False
        if self.end is not None and (entry.t is None or entry.t > self.end):
            return False
        if self.text is None:
            return True
        wanted = self.text.casefold()
        return any(wanted in str(entry.details.get(name, "")).casefold() for name in _TEXTS)


class Journal:
    """An append-only record that forgets its oldest entries beyond its caps.

    Args:
        clock: dates the entries.
        max_entries, max_bytes: the caps; bytes are estimated from the text that the details hold.
    """

    def __init__(self, clock: Clock, max_entries: int = 50_000, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: deque[JournalEntry] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._last_seq = 0
        self._dropped: JournalEntry | None = None
        self._followers: list[Callable[[JournalEntry], None]] = []
        self._subscriptions: set[Subscription] = set()
        self._is_closed = False

    def append(
        self,
        kind: str,
        /,
        *,
        tenant_id: str | None = None,
        call_id: str | None = None,
        t: float | None = None,
        **details: Any,
    ) -> JournalEntry:
        """Write one entry, credentials removed, and wake those who follow."""
        size = _ENTRY_BYTES
        # The details are this call's own: what must not be kept is replaced where it is.
        for name, value in details.items():
            if type(value) is str and not is_credential(name):
                text = _kept(value)
                size += _TEXT_BYTES + len(text)
                if text is not value:
                    details[name] = text
            elif type(value) in _PLAIN and not is_credential(name):
                size += _PLAIN_BYTES
            else:
                details[name], used = _redacted(name, value)
                size += used
        self._last_seq += 1
        entry = JournalEntry(self._last_seq, self._clock.wall(), kind, tenant_id, call_id, t, details)
        self._entries.append(entry)
        self._sizes.append(size)
        self._bytes += size
        if len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._forget()
        for follower in self._followers:
            follower(entry)
        return entry

    def entries(self, wanted: JournalFilter = JournalFilter()) -> tuple[JournalEntry, ...]:
        """The entries that `wanted` takes, oldest first.

        When entries were dropped, and `wanted.since` lies before the gap, the first of the result is a marker of kind
        `journal.dropped`: its `seq` is the last one dropped, its details count entries and bytes.
        """
        # Copying the deque first makes this safe beside a writer in another thread.
        found = [entry for entry in self._entries.copy() if wanted.takes(entry)]
        if wanted.last is not None:
            found = found[max(0, len(found) - wanted.last) :]
        dropped = self._dropped
        if dropped is not None and dropped.seq > wanted.since:
            found.insert(0, dropped)
        return tuple(found if wanted.limit is None else found[: wanted.limit])

    def subscribe(self, wanted: JournalFilter = JournalFilter()) -> Subscription:
        """Follow the journal: an async iterator over the entries appended from now on. Close it, or use `with`."""
        subscription = Subscription(self, wanted)
        self._subscriptions.add(subscription)
        self.follow(subscription.push)
        if self._is_closed:
            subscription.finish()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription; its `close` calls it."""
        self._subscriptions.discard(subscription)
        self.unfollow(subscription.push)

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    def close(self) -> None:
        """Nothing more will happen: let every subscription end when it has been read."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.finish()

    def follow(self, follower: Callable[[JournalEntry], None]) -> None:
        """Call `follower` with every entry from now on, while it is written: it must be quick and must not raise."""
        self._followers.append(follower)

    @property
    def last_seq(self) -> int:
        """The `seq` of the newest entry, 0 when there is none: what to pass as `since`."""
        return self._last_seq

    def _forget(self) -> None:
        entries = size = 0
        last = None
        while len(self._entries) > 1 and (len(self._entries) > self._max_entries or self._bytes > self._max_bytes):
            last, used = self._entries.popleft(), self._sizes.popleft()
            self._bytes -= used
            entries += 1
            size += used
        if last is None:
            return
        before = self._dropped.details if self._dropped is not None else {"entries": 0, "bytes": 0}
        self._dropped = JournalEntry(
            last.seq,
            last.at,
            DROPPED,
            details={"entries": before["entries"] + entries, "bytes": before["bytes"] + size},
        )

    def unfollow(self, follower: Callable[[JournalEntry], None]) -> None:
        """Forget a follower, if it is one."""
        if follower in self._followers:
            self._followers.remove(follower)


class Subscription:
    """One follower of a journal. Belongs to the loop it is read in.

    A follower that falls more than 10,000 entries behind loses the oldest of them and sees a `journal.dropped` marker
    in their place.
    """

    def __init__(self, journal: Journal, wanted: JournalFilter) -> None:
        self._journal = journal
        self._wanted = wanted
        self._waiting: deque[JournalEntry] = deque()
        self._lost = 0
        self._lost_entry: JournalEntry | None = None
        self._awake = asyncio.Event()
        self._is_last = False

    def push(self, entry: JournalEntry) -> None:
        """Take an entry, if it is wanted; the journal calls it."""
        if not self._wanted.takes(entry):
            return
        if len(self._waiting) >= _SUBSCRIBER_LIMIT:
            self._lost_entry = self._waiting.popleft()
            self._lost += 1
        self._waiting.append(entry)
        self._awake.set()

    def finish(self) -> None:
        """Nothing more will come: the iteration ends with what is waiting."""
        self._is_last = True
        self._awake.set()

    def close(self) -> None:
        """End the iteration; what was not read is lost."""
        self._waiting.clear()
        self._lost_entry = None
        self.finish()
        self._journal.unsubscribe(self)

    async def wait(self) -> None:
        """Until `take` has something to give, or never will."""
        while not (self._waiting or self._is_last):
            self._awake.clear()
            await self._awake.wait()

    def take(self) -> list[JournalEntry]:
        """All that is waiting to be read, a marker for what was lost before it."""
        taken = [] if (marker := self._take_marker()) is None else [marker]
        taken += self._waiting
        self._waiting.clear()
        return taken

    def _take_marker(self) -> JournalEntry | None:
        if self._lost_entry is None:
            return None
        marker = JournalEntry(self._lost_entry.seq, self._lost_entry.at, DROPPED, details={"entries": self._lost})
        self._lost, self._lost_entry = 0, None
        return marker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[JournalEntry]:
        return self

    async def __anext__(self) -> JournalEntry:
        await self.wait()
        if (marker := self._take_marker()) is not None:
            return marker
        if not self._waiting:
            raise StopAsyncIteration
        return self._waiting.popleft()


def redact(text: str) -> str:
    """`text` without the credentials that can be told: by their name in JSON, URLs and headers, by their look."""
    # Nearly all texts are told apart here; the pattern takes ten times as long.
    if not ('"' in text or "=" in text or "earer" in text or "EARER" in text or "eyJ" in text or "vsnp_" in text):
        return text
    parts: list[str] = []
    done = look_from = 0
    while (found := _CREDENTIAL_TEXT.search(text, look_from)) is not None:
        if found["key"] is not None and not is_credential(found["key"]):
            # The value of another member may hold one.
            look_from = found.end("member")
            continue
        quote = found["quote"] or ""
        named = found["member"] or found["name"] or found["scheme"] or ""
        parts += (text[done : found.start()], named, quote, REDACTED, quote)
        done = look_from = found.end()
    return "".join((*parts, text[done:]))


def _kept(text: str) -> str:
    """`text` as it may be kept: without credentials, and without halves of surrogate pairs, which nobody can send."""
    text = redact(text)
    return text if text.isascii() else text.encode(errors="replace").decode()


@lru_cache(1024)
def is_credential(name: str) -> bool:
    """Whether a field of this name holds something that must not be shown."""
    return name.replace("_", "").replace("-", "").casefold() in CREDENTIAL_NAMES


def text_of(entry: JournalEntry) -> str:
    """What an entry says in words: a transcript, a message; empty when it says nothing."""
    return next((str(entry.details[name]) for name in _TEXTS if name in entry.details), "")


def _kind_fits(wanted: str, kind: str) -> bool:
    return kind.startswith(wanted[:-1]) if wanted.endswith("*") else kind == wanted


def _redacted(name: str, value: Any) -> tuple[Any, int]:
    """The value as it may be kept, and roughly how many bytes it takes."""
    if is_credential(name) and value not in (None, 0):
        return REDACTED, 60
    match value:
        case str():
            # `str()` also turns members of a StrEnum into what JSON shows.
            text = _kept(str(value))
            return text, _TEXT_BYTES + len(text)
        case None | int() | float():
            return value, _PLAIN_BYTES
        case bytes():
            return f"{len(value)} bytes", 60
        case Mapping():
            size = 64
            mapping = {}
            for key, inner in value.items():
                mapping[_kept(str(key))], used = _redacted(str(key), inner)
                size += used + _TEXT_BYTES
            return mapping, size
        case list() | tuple():
            size = 56
            items = []
            for inner in value:
                item, used = _redacted("", inner)
                items.append(item)
                size += used
            return items, size
        case _:
            text = _kept(str(value))
            return text, _TEXT_BYTES + len(text)
