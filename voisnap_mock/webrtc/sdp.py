"""Offers, answers and candidates as text: checked before any library sees them, taken apart and put together.

Pure. What a browser may send is wide, what a media library survives is narrow: empty text, a missing fingerprint or a
port of 99999 are accepted there and fail later, in the background, where nobody is told.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_CANDIDATES = 100
"""Of one call; browsers have some ten."""

CODECS = ("opus", "G722", "PCMU", "PCMA")
"""What can be spoken here."""

_STATIC_PAYLOADS = {"0": "PCMU", "8": "PCMA", "9": "G722"}
_FINGERPRINT = re.compile(r"sha-(1|224|256|384|512) [0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+")
_CANDIDATE = re.compile(
    r"\S{1,64} (?P<component>\d{1,3}) (?P<transport>udp|tcp|ssltcp) (?P<priority>\d{1,10}) (?P<host>\S{1,255}) "
    r"(?P<port>\d{1,5}) typ (?P<type>host|srflx|prflx|relay)( \S+ \S*)*",
    re.IGNORECASE,
)


class SdpRefused(ValueError):
    """A description or a candidate cannot be used; the text says what came and what was expected."""


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """A place where a peer may be reached.

    Attributes:
        text: as RFC 8839 writes it, with `candidate:` before it.
        mid, line: the section it belongs to, by name and by number; one of them is enough.
        host: an address, or a `.local` name that hides one: it must be asked for on the local network, which can take
            a second, or never be answered.
    """

    text: str
    mid: str | None = None
    line: int | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that can be answered.

    Attributes:
        sdp: without candidates.
        candidates: those it had.
        mids: names of its sections, in order.
        bundle: those that share one transport.
        codecs: of its audio section, as far as they can be spoken here.
        digits: payload numbers of pressed keys (telephone-event).
    """

    sdp: str
    candidates: tuple[IceCandidate, ...] = ()
    mids: tuple[str, ...] = ()
    bundle: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ()
    digits: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered.

    Attributes:
        sdp: the description, candidates included.
        candidates: those once more, one by one.
        codec: what is spoken in.
    """

    sdp: str
    candidates: tuple[IceCandidate, ...] = ()
    codec: str = ""


@dataclass(slots=True)
class _Section:
    """Lines of a description up to the next `m=`."""

    lines: list[str] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        start = f"a={name}:"
        return [line.removeprefix(start).strip() for line in self.lines if line.startswith(start)]

    def has(self, name: str) -> bool:
        return f"a={name}" in self.lines or bool(self.values(name))

    @property
    def kind(self) -> str:
        return self.lines[0].removeprefix("m=").split(" ")[0]

    @property
    def is_rejected(self) -> bool:
        parts = self.lines[0].split(" ")
        return len(parts) < 2 or parts[1] == "0"

    @property
    def mid(self) -> str | None:
        return next(iter(self.values("mid")), None)


def _sections(sdp: str) -> tuple[_Section, list[_Section]]:
    """The head, and each section that begins with `m=`."""
    head = _Section()
    sections: list[_Section] = []
    current = head
    for line in sdp.replace("\r\n", "\n").split("\n"):
        if line.startswith("m="):
            current = _Section()
            sections.append(current)
        if line:
            current.lines.append(line)
    return head, sections


def read_offer(sdp: str) -> Offer:
    """Check an offer and take its candidates out.

    Raises:
        SdpRefused: nothing in it could be answered with a voice.
    """
    head, sections = _sections(sdp)
    if not head.lines or head.lines[0] != "v=0":
        first = head.lines[0][:40] if head.lines else sdp[:40]
        raise SdpRefused(f"sdp begins with {first!r}, expected a session description, which begins with 'v=0'")
    audio = [section for section in sections if section.kind == "audio" and not section.is_rejected]
    if not audio:
        kinds = ", ".join(section.kind for section in sections) or "none"
        raise SdpRefused(f"sdp has no audio section in use (its sections: {kinds}), expected one to talk over")
    for section in sections:
        if not section.is_rejected:
            _check_transport(head, section)
    codecs = _codecs(audio[0])
    spoken = tuple(name for name in CODECS if name.casefold() in {codec.casefold() for codec in codecs.values()})
    if not spoken:
        offered = ", ".join(dict.fromkeys(codecs.values())) or "none"
        raise SdpRefused(f"the audio section offers the codecs {offered}, expected one of {', '.join(CODECS)}")
    return Offer(
        sdp=_joined([head, *(_in_order(_without_candidates(section)) for section in sections)]),
        candidates=_candidates(sections),
        mids=tuple(section.mid or "" for section in sections),
        bundle=next((tuple(v.split(" ")[1:]) for v in head.values("group") if v.startswith("BUNDLE ")), ()),
        codecs=spoken,
        digits=frozenset(number for number, name in codecs.items() if name.casefold() == "telephone-event"),
    )


def _check_transport(head: _Section, section: _Section) -> None:
    where = f"the {section.kind} section"
    for name in ("ice-ufrag", "ice-pwd", "fingerprint"):
        if not (section.values(name) or head.values(name)):
            raise SdpRefused(
                f"{where} has no a={name}: media here is encrypted and goes over ICE, as browsers offer it"
            )
    for value in (*section.values("fingerprint"), *head.values("fingerprint")):
        if _FINGERPRINT.fullmatch(value) is None:
            raise SdpRefused(
                f"{where}: a=fingerprint is {value[:60]!r}, expected a hash and its bytes: 'sha-256 AB:CD:...'"
            )
    if section.kind in ("audio", "video") and not section.has("rtcp-mux"):
        raise SdpRefused(f"{where} has no a=rtcp-mux: RTP and RTCP share one port here")


def _codecs(section: _Section) -> dict[int, str]:
    """Payload number -> codec name."""
    codecs = {
        int(number): name for number, name in _STATIC_PAYLOADS.items() if number in section.lines[0].split(" ")[3:]
    }
    for value in section.values("rtpmap"):
        number, _, rest = value.partition(" ")
        if number.isdecimal() and len(number) <= 3:
            codecs[int(number)] = rest.split("/")[0]
    return codecs


def _candidates(sections: Sequence[_Section]) -> tuple[IceCandidate, ...]:
    found: list[IceCandidate] = []
    for line, section in enumerate(sections):
        for value in section.values("candidate"):
            if len(found) == MOST_CANDIDATES:
                raise SdpRefused(f"sdp has more than {MOST_CANDIDATES} candidates")
            found.append(read_candidate(f"candidate:{value}", section.mid, line))
    return tuple(found)


def _without_candidates(section: _Section) -> _Section:
    return _Section([line for line in section.lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))])


def _in_order(section: _Section) -> _Section:
    """An audio section whose codecs are described in the order of its first line, telephone events last.

    aiortc speaks in the codec that is described first, and knows none that is not described, as the oldest may be.
    """
    if section.kind != "audio":
        return section
    described = {number: f"a=rtpmap:{number} {name}/8000" for number, name in _codecs(section).items()}
    described |= {
        int(value.split(" ")[0]): f"a=rtpmap:{value}"
        for value in section.values("rtpmap")
        if value.split(" ")[0].isdecimal()
    }
    first, *others = section.lines
    places = {number: place for place, number in enumerate(first.split(" ")[3:])}
    order = sorted(
        described, key=lambda number: ("telephone-event" in described[number], places.get(str(number), len(places)))
    )
    kept = [line for line in others if not line.startswith("a=rtpmap:")]
    return _Section([first, *(described[number] for number in order), *kept])


def _joined(sections: Sequence[_Section]) -> str:
    return "".join(f"{line}\r\n" for section in sections for line in section.lines)


def read_candidate(text: str, mid: str | None, line: int | None) -> IceCandidate:
    """Check a candidate, given with or without `candidate:` or `a=candidate:` before it.

    Raises:
        SdpRefused: it is none, or names a port or an address that cannot be.
    """
    body = text.strip().removeprefix("a=").removeprefix("candidate:")
    found = _CANDIDATE.fullmatch(body)
    if found is None:
        raise SdpRefused(
            f"candidate is {text[:80]!r}, expected 'candidate:<foundation> 1 udp <priority> <address> <port> typ host'"
        )
    host, port = found["host"], int(found["port"])
    if port > 65_535:
        raise SdpRefused(f"candidate names port {port}, expected 0 to 65535")
    if not host.endswith(".local"):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise SdpRefused(f"candidate names {host[:80]!r}, expected an IP address or a .local name") from None
    return IceCandidate(f"candidate:{body}", mid, line, host)


def read_answer(sdp: str, announced: Sequence[str] = ()) -> Answer:
    """Take apart what the media library answers.

    Args:
        announced: addresses to name instead of the machine's own, for a server behind published ports.
    """
    head, sections = _sections(sdp)
    for section in sections if announced else ():
        section.lines = [named for line in section.lines for named in _announce(line, announced)]
    found: list[IceCandidate] = []
    for line, section in enumerate(sections):
        for value in section.values("candidate"):
            candidate = IceCandidate(f"candidate:{value}", section.mid, line, value.split(" ")[4])
            # Sections that share a transport list the same candidates; one of them is enough.
            if not any(known.text == candidate.text for known in found):
                found.append(candidate)
    return Answer(_joined([head, *sections]), tuple(found), _spoken_in(sections))


def _spoken_in(sections: Sequence[_Section]) -> str:
    for section in sections:
        if section.kind == "audio":
            return next((name for name in _codecs_in_order(section) if name.casefold() != "telephone-event"), "")
    return ""


def _codecs_in_order(section: _Section) -> list[str]:
    codecs = _codecs(section)
    numbers = [int(part) for part in section.lines[0].split(" ")[3:] if part.isdecimal()]
    return [codecs[number] for number in numbers if number in codecs]


def _announce(line: str, announced: Sequence[str]) -> list[str]:
    if not line.startswith("a=candidate:"):
        return [line]
    parts = line.split(" ")
    return [" ".join([*parts[:4], address, *parts[5:]]) for address in announced]
