"""Did what was expected happen? Pure: journal entries and expectations in, failures that can be read out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from voisnap_mock.agents.shape import did_you_mean
from voisnap_mock.journal import JournalEntry, JournalFilter, text_of

_ALIKE = 0.6


@dataclass(frozen=True, slots=True)
class Expected:
    """Something that should be in the journal.

    Attributes:
        kind: of the entry; one that ends with `*` is a prefix.
        target: hub event, hub method or request, such as `Transcription`, `SendDtmfAsync`, `POST /api/v1/auth/login`.
        text: part of what the entry says, without regard to case.
        count: how often, exactly; None is once or more, 0 is never. When order counts, it is how often before the next
            expected thing happens.
        within: seconds since the expected thing before it, or since the first entry: of call time when both are of one
            call, else of real time.
    """

    kind: str | None = None
    target: str | None = None
    text: str | None = None
    count: int | None = None
    within: float | None = None

    @property
    def filter(self) -> JournalFilter:
        """What takes the entries that fit."""
        return JournalFilter(kind=self.kind, target=self.target, text=self.text)

    def among(self, entries: Sequence[JournalEntry]) -> list[JournalEntry]:
        """The entries that fit."""
        takes = self.filter.takes
        return [entry for entry in entries if takes(entry)]

    def __str__(self) -> str:
        named = " ".join(name for name in (self.kind, self.target) if name) or "anything"
        return f'{named} "{self.text}"' if self.text is not None else named


@dataclass(frozen=True, slots=True)
class Failure:
    """An expected thing that did not happen, or not as it should have.

    Attributes:
        index: its place in the list, from 0.
        message: what was expected, what there is, and what came nearest.
        nearest: the entry that came nearest, if any did.
    """

    index: int
    message: str
    nearest: JournalEntry | None = None


def verify(
    entries: Sequence[JournalEntry], expected: Sequence[Expected], *, ordered: bool = True
) -> tuple[Failure, ...]:
    """What of `expected` is not so; nothing when all of it is.

    Args:
        ordered: each must happen after the one before it; other things may happen in between.
    """
    failures: list[Failure] = []
    places: list[_Place] = []
    begin = 0
    for index, wanted in enumerate(expected):
        fits = wanted.filter.takes
        found = [at for at in range(begin, len(entries)) if fits(entries[at])]
        needed = 1 if wanted.count is None else wanted.count
        place = _Place(index, wanted, begin, found[:needed])
        places.append(place)
        if len(found) < needed:
            failures.append(_missing(place, entries, places, len(found), ordered=ordered))
        if ordered and place.found:
            begin = place.found[-1] + 1
    missed = {failure.index for failure in failures}
    for place in places:
        if place.index in missed:
            continue
        failure = _too_many(place, entries, places, ordered=ordered) or _too_late(place, entries, places, ordered)
        if failure is not None:
            failures.append(failure)
    return tuple(sorted(failures, key=lambda failure: failure.index))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an expected thing was looked for, from entry number `begin` on, and where it was found."""

    index: int
    wanted: Expected
    begin: int
    found: list[int]

    @property
    def name(self) -> str:
        return f"event {self.index + 1} ({self.wanted})"


def _before(place: _Place, places: Sequence[_Place]) -> _Place | None:
    """The last one before it that was found."""
    return next((before for before in reversed(places[: place.index]) if before.found), None)


def _missing(
    place: _Place, entries: Sequence[JournalEntry], places: Sequence[_Place], times: int, *, ordered: bool
) -> Failure:
    before = _before(place, places) if ordered else None
    after = f" after {before.name}, {_shown(entries[before.found[-1]])}" if before is not None else ""
    came = "did not happen" if not times else f"happened {_times(times)}"
    often = f", expected {_times(place.wanted.count)}" if place.wanted.count is not None else ""
    if times:
        last = entries[place.found[-1]]
        return Failure(place.index, f"{place.name} {came}{after}{often}; the last time was {_shown(last)}", last)
    nearest, why = nearest_to(place.wanted, entries, place.begin)
    return Failure(place.index, f"{place.name} {came}{after}{often}; {why}", nearest)


def _too_many(
    place: _Place, entries: Sequence[JournalEntry], places: Sequence[_Place], *, ordered: bool
) -> Failure | None:
    if place.wanted.count is None:
        return None
    following = next((after for after in places[place.index + 1 :] if after.found), None)
    end = following.found[0] if ordered and following is not None else len(entries)
    found = place.wanted.among(entries[place.begin : end])
    if len(found) <= place.wanted.count:
        return None
    until = f" before {following.name}" if ordered and following is not None else ""
    one_more = found[place.wanted.count]
    often = "never" if place.wanted.count == 0 else _times(place.wanted.count)
    text = f"{place.name} happened {_times(len(found))}{until}, expected {often}; one too many is {_shown(one_more)}"
    return Failure(place.index, text, one_more)


def _too_late(
    place: _Place, entries: Sequence[JournalEntry], places: Sequence[_Place], ordered: bool
) -> Failure | None:
    if place.wanted.within is None or not place.found:
        return None
    before = _before(place, places) if ordered else None
    since = entries[0 if before is None else before.found[-1]]
    last = entries[place.found[-1]]
    in_call = since.t is not None and last.t is not None and since.call_id == last.call_id
    took = (last.t or 0.0) - (since.t or 0.0) if in_call else last.at - since.at
    if took <= place.wanted.within + 1e-9:
        return None
    what = "the first entry" if before is None else before.name
    unit = "s of call time" if in_call else "s"
    text = (
        f"{place.name} happened {took:.3f} {unit} after {what}, expected within {place.wanted.within:g} s: "
        f"{_shown(last)}"
    )
    return Failure(place.index, text, last)


def nearest_to(wanted: Expected, entries: Sequence[JournalEntry], begin: int) -> tuple[JournalEntry | None, str]:
    """The entry that is most like what was wanted, and what keeps it from being it."""
    earlier = wanted.among(entries[:begin])
    if earlier:
        return earlier[-1], f"it happened before: {_shown(earlier[-1])}"
    if not entries:
        return None, "there are no entries at all"
    named = Expected(kind=wanted.kind, target=wanted.target)
    if wanted.text is not None:
        alike = [(_likeness(wanted.text, text_of(entry)), entry) for entry in named.among(entries) if text_of(entry)]
        likeness, best = max(alike, key=lambda each: each[0], default=(0.0, None))
        # Of a kind that was named, any text helps; of all texts, only one that is nearly right.
        if best is not None and (named != Expected() or likeness > _ALIKE):
            return best, f'nearest is {_shown(best)}, whose text is "{_cut(text_of(best))}"'
        saying = Expected(text=wanted.text).among(entries)
        if saying:
            return saying[0], f"nearest is {_shown(saying[0])}, which says it but is no {named}"
    if wanted.target is not None and wanted.kind is not None:
        half = Expected(target=wanted.target).among(entries)
        if half:
            return half[0], f"nearest is {_shown(half[0])}, which is no {wanted.kind}"
    return None, _unknown(wanted, entries)


def _unknown(wanted: Expected, entries: Sequence[JournalEntry]) -> str:
    """Nothing of the name is there: say what is."""
    if wanted.target is not None:
        what, name = "target", wanted.target
        names = dict.fromkeys(str(entry.details["target"]) for entry in entries if "target" in entry.details)
    elif wanted.kind is not None:
        what, name, names = "kind", wanted.kind, dict.fromkeys(entry.kind for entry in entries)
    else:
        return f"none of the {len(entries)} entries says it"
    return f"no {what} of that name is among the {len(entries)} entries{did_you_mean(name, list(names))}"


def _likeness(wanted: str, text: str) -> float:
    return SequenceMatcher(None, wanted.casefold(), text.casefold()[:500]).ratio()


def _shown(entry: JournalEntry) -> str:
    """An entry in a sentence: `agent.transcript TranscriptionOf at 3.200 s (seq 12)`."""
    target = entry.details.get("target")
    named = f"{entry.kind} {target}" if target is not None and target != entry.kind else entry.kind
    when = f" at {entry.t:.3f} s" if entry.t is not None else ""
    return f"{named}{when} (seq {entry.seq})"


def _times(count: int | None) -> str:
    return "once" if count == 1 else f"{count} times"


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
