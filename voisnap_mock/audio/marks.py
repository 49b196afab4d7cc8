"""Marked speech: audio that carries its own words and their times, inaudibly, in its samples.

Samples in, words with times out; no model, no file, no clock. What a mark is:

**Carrier and block** are in `audio.mark_blocks`: 320 samples that stand alone and outlive re-chunking and conversion
to float and back, but no gain, mixing, resampling or codec. So mark last.

**Unit.** As a rule one word, from where it begins to its last sound; at least two blocks, and each fragment at least
twice. Words too short for that share a unit. In a unit's text a space parts words, U+001F parts pieces of one word:
scripts without spaces are cut at each character and very long words anywhere, so that a loss stays small.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, pairwise
from math import ceil

import numpy as np

from voisnap_mock.audio.mark_blocks import (
    BLOCK_SAMPLES,
    MAX_BLOCKS,
    MAX_FRAGMENTS,
    MAX_UTTERANCE,
    MAX_WORDS,
    TEXT_BYTES,
    Block,
    Samples,
    carried_bits,
    embed,
    parse_block,
    serialize_block,
    sync_positions,
)
from voisnap_mock.engine.events import Transcript, Word

_MAX_UNIT_TEXT = TEXT_BYTES * MAX_FRAGMENTS
_HEARD_FROM = 0.5
_PIECE_SEAM = "\x1f"
# A piece of a word leaves room for the seam before it.
_MAX_PIECE = _MAX_UNIT_TEXT - 1
_AUDIBLE_RMS = 60.0
_SCAN_SAMPLES = 4096
_SPAN_GAP = 2 * BLOCK_SAMPLES
_REMEMBERED_SPANS = 256

# Thai to Myanmar, Khmer, CJK and kana, full-width forms, the supplementary ideographs. Korean has spaces.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff\uff01-\uffef\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
# Embeddings, overrides and isolates turn the text around them; joiners stay, Persian and emoji need them.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_JOINERS = frozenset("\u200c\u200d")


class Speaker(StrEnum):
    """Whose voice is marked; without it the echo of an agent would be heard as the caller."""

    CALLER = "caller"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word, or a piece of one, that arrived.

    The text is foreign input: valid Unicode without control characters, at most 352 bytes of UTF-8, else unchecked.

    Attributes:
        begin, end: seconds from the start of the stream. Words that share a unit share its time by length.
        coverage: blocks of its unit that arrived, 0.5 to 1.0.
        utterance: the number given when marking, 0 to `MAX_UTTERANCE`.
        index: place among the `total` words and pieces of the utterance, from 0.
        joins: it goes on the word before it, without a space.
    """

    text: str
    begin: float
    end: float
    coverage: float
    utterance: int
    speaker: Speaker
    index: int
    total: int
    joins: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of marked audio, seconds from the start of the stream, exact to the sample."""

    begin: float
    end: float
    speaker: Speaker


@dataclass(frozen=True, slots=True)
class MarkedUtterance:
    """What arrived of one marked utterance.

    Attributes:
        words: in their order; never empty.
        missing: places of the words that did not arrive, as ranges.
    """

    utterance: int
    speaker: Speaker
    total: int
    words: tuple[HeardWord, ...]
    missing: tuple[range, ...]

    @property
    def text(self) -> str:
        return _joined(self.words)

    @property
    def coverage(self) -> float:
        """Mean over all words of the utterance, a missing one counts as 0."""
        return sum(word.coverage for word in self.words) / self.total

    def transcript(self, *, origin: float = 0.0) -> Transcript:
        """As a transcript whose times count from `origin`, seconds of the stream.

        The confidence is the mean coverage from the first word that arrived to the last, since the endpointer may
        have cut the utterance in two. Pieces of a word are put together.
        """
        words: list[Word] = []
        for heard in self.words:
            begin, end = max(heard.begin - origin, 0.0), max(heard.end - origin, 0.0)
            if heard.joins and words:
                words[-1] = Word(words[-1].text + heard.text, words[-1].begin, end)
            else:
                words.append(Word(heard.text, begin, end))
        expected = self.words[-1].index - self.words[0].index + 1
        confidence = sum(word.coverage for word in self.words) / expected
        return Transcript(self.text, round(min(confidence, 1.0), 4), "marks", tuple(words))


@dataclass(frozen=True, slots=True)
class Decoded:
    """All that is marked in a piece of audio."""

    utterances: tuple[MarkedUtterance, ...]
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        """Everything that arrived, in its order."""
        return " ".join(utterance.text for utterance in self.utterances)


# --- Marking --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word or a part of one; `begin` in samples."""

    text: str
    joins: bool
    begin: int


@dataclass(slots=True)
class _UnitDraft:
    """Pieces that share a stretch of audio; positions in samples."""

    index: int
    text: bytes
    begin: int
    end: int = 0

    @property
    def fragments(self) -> int:
        return max(1, ceil(len(self.text) / TEXT_BYTES))

    @property
    def blocks(self) -> int:
        return min((self.end - self.begin) // BLOCK_SAMPLES, MAX_BLOCKS)

    @property
    def need(self) -> int:
        """Samples it takes: two blocks, and two for each fragment."""
        return 2 * self.fragments * BLOCK_SAMPLES

    def holds(self, text: bytes) -> bool:
        return 2 * ceil(len(text) / TEXT_BYTES) <= self.blocks


def count_words(text: str) -> int:
    """How many words and pieces `mark` makes of a text: the `total` when an utterance is marked in parts."""
    return len(_parts(_clean(text)))


def mark(
    pcm: bytes,
    words: Sequence[Word],
    *,
    sample_rate: int,
    utterance: int,
    speaker: Speaker,
    index: int = 0,
    total: int | None = None,
) -> bytes:
    """Speech that carries `words`: the same samples moved by 16 at most, longer only when the text needs more room.

    Do it last, after resampling and volume. Control characters do not pass, and a word that is empty without them is
    left out. With no words the audio is returned as it is.

    Args:
        pcm: PCM s16le mono; marks work at any rate, times are right at the rate given.
        words: with the time each begins, in seconds; the end matters only where a word must be cut.
        utterance: a number that tells this utterance from its neighbours, 0 to `MAX_UTTERANCE`.
        index: how many words and pieces of the utterance came in earlier parts, where it is marked in parts.
        total: how many it has in all; without it, those up to the end of this part.

    Raises:
        ValueError: for half a sample, an utterance out of range, or more than `MAX_WORDS` words and pieces.
    """
    if len(pcm) % 2:
        raise ValueError(f"pcm has {len(pcm)} bytes; 16-bit samples need an even number")
    if not 0 <= utterance <= MAX_UTTERANCE:
        raise ValueError(f"utterance is {utterance}; 0 to {MAX_UTTERANCE} can be marked")
    host = np.frombuffer(pcm, "<i2")
    pieces = _cut(words, len(host), sample_rate)
    if not pieces:
        return pcm
    total = max(total or 0, index + len(pieces))
    if total > MAX_WORDS:
        raise ValueError(f"{total} words and pieces; {MAX_WORDS} can be marked at once, cut the text in two")
    units = _plan(pieces, host, sample_rate)
    marked = np.zeros(max(len(host), units[-1].end), np.int16)
    marked[: len(host)] = host
    for unit in units:
        unit.index += index
        embed(marked[unit.begin :], _blocks(unit, total=total, utterance=utterance, speaker=speaker))
    return marked.astype("<i2", copy=False).tobytes()


def _cut(words: Iterable[Word], samples: int, sample_rate: int) -> list[_Piece]:
    """The words in their order, cleaned, cut where they must be; begins never go back and lie in the audio."""
    cut = [(parts, word) for word in words if (parts := _parts(_clean(word.text)))]
    begins = [min(max(round(word.begin * sample_rate), 0), samples) for _, word in cut]
    begins = list(accumulate([*begins, samples], max))
    pieces = []
    for (parts, word), (begin, next_begin) in zip(cut, pairwise(begins), strict=True):
        end = round(word.end * sample_rate)
        end = min(end, next_begin) if end > begin else next_begin
        length = sum(len(text) for text, _ in parts)
        done = 0
        for text, joins in parts:
            pieces.append(_Piece(text, joins, begin + (end - begin) * done // length))
            done += len(text)
    return pieces


def _parts(text: str) -> list[tuple[str, bool]]:
    """The words in a text, each with whether it goes on the one before.

    One in a script without spaces is cut by character; one too long for a unit anywhere.
    """
    parts = []
    for token in text.split():
        characters = [token]
        if _UNSPACED.search(token):
            characters = [token[0]]
            for character in token[1:]:
                if _may_part(characters[-1][-1], character):
                    characters.append(character)
                else:
                    characters[-1] += character
        short = [short for part in characters for short in _shortened(part)]
        parts += [(part, number > 0) for number, part in enumerate(short)]
    return parts


def _may_part(left: str, right: str) -> bool:
    if not (_UNSPACED.match(left) or _UNSPACED.match(right)) or left in _JOINERS or right in _JOINERS:
        return False
    # Marks belong to the character before them, and so does closing punctuation; an opening bracket to the next.
    return unicodedata.category(right) not in {"Mn", "Mc", "Me", "Po", "Pe", "Pf"} and (
        unicodedata.category(left) not in {"Ps", "Pi"}
    )


def _shortened(part: str) -> list[str]:
    if len(part) * 4 <= _MAX_PIECE or len(part.encode()) <= _MAX_PIECE:
        return [part]
    step = _MAX_PIECE // 4
    return [part[at : at + step] for at in range(0, len(part), step)]


def _clean(text: str) -> str:
    """Without what would turn a line, a terminal or the order of the text; white space of any kind is a space."""
    if text.isascii() and text.isprintable():
        return text
    kept = []
    for character in text:
        if character.isspace():
            kept.append(" ")
        elif unicodedata.category(character) not in {"Cc", "Cs"} and character not in _BIDI_CONTROLS:
            kept.append(character)
    return "".join(kept)


def _plan(pieces: Sequence[_Piece], host: Samples, sample_rate: int) -> list[_UnitDraft]:
    """Give each piece a stretch of audio, its own where it is long enough.

    One that is too short takes from the pause after it, else joins the next; one without sound joins the one before.
    When text crowds so that a unit is full, it takes the room it needs and pushes the following ones back.
    """
    sound_ends = _sound_ends(host, sample_rate)
    units: list[_UnitDraft] = []
    at = 0
    free_from = 0
    while at < len(pieces):
        first = at
        unit = _UnitDraft(first, _seam(pieces[first], leads=True), max(pieces[first].begin, free_from))
        joined_before = False
        while True:
            at += 1
            limit = pieces[at].begin if at < len(pieces) else len(host)
            sounds_until = min(max(sound_ends(limit), unit.begin), max(limit, unit.begin))
            if sounds_until - unit.begin >= unit.need:
                unit.end = sounds_until
                break
            unit.end = unit.begin + unit.need
            if unit.end <= limit:
                break
            if at == first + 1 and sounds_until == unit.begin and units:
                longer = units[-1].text + _seam(pieces[first])
                if len(longer) <= _MAX_UNIT_TEXT and units[-1].holds(longer):
                    units[-1].text = longer
                    joined_before = True
                    break
            if at == len(pieces):
                break
            longer = unit.text + _seam(pieces[at])
            if len(longer) > _MAX_UNIT_TEXT:
                break
            unit.text = longer
        if not joined_before:
            units.append(unit)
            free_from = unit.end
    return units


def _seam(piece: _Piece, *, leads: bool = False) -> bytes:
    """A piece's bytes behind what parts it from the piece before."""
    seam = _PIECE_SEAM if piece.joins else "" if leads else " "
    return (seam + piece.text).encode()


def _sound_ends(host: Samples, sample_rate: int) -> Callable[[int], int]:
    """Ask it for a position: where the last sound before it ends, and 5 ms more; 0 if there is none."""
    step = max(sample_rate // 200, 1)
    whole = len(host) // step
    power = (host[: whole * step].reshape(whole, step).astype(np.float32) ** 2).mean(axis=1)
    ends = np.where(power > _AUDIBLE_RMS**2, (np.arange(whole) + 2) * step, 0)
    last_ends = [0, *accumulate(ends.tolist(), max)]
    return lambda position: last_ends[min(position // step, whole)]


def _blocks(unit: _UnitDraft, *, total: int, utterance: int, speaker: Speaker) -> bytes:
    count, fragments = unit.blocks, unit.fragments
    texts = [unit.text[at : at + TEXT_BYTES] for at in range(0, len(unit.text), TEXT_BYTES)]
    return b"".join(
        serialize_block(
            Block(
                is_agent=speaker is Speaker.AGENT,
                utterance=utterance,
                index=unit.index,
                total=total,
                number=number,
                count=count,
                fragment=number % fragments,
                fragments=fragments,
                text=texts[number % fragments],
            )
        )
        for number in range(count)
    )


# --- Reading --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Unit:
    """A unit that is arriving; positions in samples. `begin` goes by its first block seen, `end` by the last."""

    begin: int
    end: int
    blocks: int
    fragments: int
    total: int
    seen: set[int] = field(default_factory=set)
    texts: dict[int, bytes] = field(default_factory=dict)
    is_told: bool = False

    @property
    def coverage(self) -> float:
        return len(self.seen) / self.blocks

    @property
    def is_heard(self) -> bool:
        return self.coverage >= _HEARD_FROM and len(self.texts) == self.fragments


class MarkDecoder:
    """Reads the marks of one stream of PCM s16le mono.

    Push the audio in chunks of any size, even split samples; the words are the same. A word is heard when at least
    half of its blocks arrived: it is told once, when its last block is there or its time is over, which is within
    20 ms of its end, 40 when the last block lies badly. Frames may be lost, silenced, doubled or swapped. Both
    speakers' marks are told; it is for the caller of this class to ignore an echo.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._pending = bytearray()
        # The last bits read, as one number, the newest bit least significant, and where the oldest one stands.
        self._bits = 0
        self._bit_count = 0
        self._origin = 0
        self._free_from = 0
        self._units: dict[tuple[int, Speaker, int], _Unit] = {}
        self._told_until = 0
        self._spans: deque[tuple[int, int, Speaker]] = deque(maxlen=_REMEMBERED_SPANS)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where marked audio was, blocks less than 40 ms of 16 kHz audio apart taken together; the last 256 of them."""
        rate = self._sample_rate
        return tuple(Span(begin / rate, end / rate, speaker) for begin, end, speaker in self._spans)

    @property
    def last_span(self) -> Span | None:
        """The latest of them; quick to ask for."""
        if not self._spans:
            return None
        begin, end, speaker = self._spans[-1]
        return Span(begin / self._sample_rate, end / self._sample_rate, speaker)

    def push(self, pcm: bytes) -> tuple[HeardWord, ...]:
        """The words that are complete with this audio, as a rule in their order."""
        self._pending += pcm
        if len(self._pending) < 2 * BLOCK_SAMPLES:
            return ()
        return self._take()

    def finish(self) -> tuple[HeardWord, ...]:
        """The words that are only known with the end of the utterance; the stream may go on."""
        heard = [*self._take()]
        heard += self._tell(None)
        self._units.clear()
        return tuple(heard)

    def _take(self) -> tuple[HeardWord, ...]:
        whole = len(self._pending) & ~1
        samples = np.frombuffer(bytes(self._pending[:whole]), "<i2")
        del self._pending[:whole]
        heard: list[HeardWord] = []
        for at in range(0, len(samples), _SCAN_SAMPLES):
            heard += self._scan(samples[at : at + _SCAN_SAMPLES])
        return tuple(heard)

    def _scan(self, samples: Samples) -> list[HeardWord]:
        count = len(samples)
        self._bits = self._bits << count | carried_bits(samples)
        self._bit_count += count
        heard: list[HeardWord] = []
        spare = self._bit_count - BLOCK_SAMPLES + 1
        if spare <= 0:
            return heard
        begins = sync_positions(self._bits, self._bit_count) >> (BLOCK_SAMPLES - 1)
        while begins:
            offset = spare - begins.bit_length()
            begins &= ~(1 << (begins.bit_length() - 1))
            position = self._origin + offset
            if position < self._free_from:
                continue
            block = parse_block(self._bits >> (self._bit_count - offset - BLOCK_SAMPLES))
            if block is not None:
                self._free_from = position + BLOCK_SAMPLES
                heard += self._tell(position)
                heard += self._receive(block, position)
        self._origin += spare
        self._bit_count = BLOCK_SAMPLES - 1
        self._bits &= (1 << self._bit_count) - 1
        heard += self._tell(self._origin)
        if self._units:
            late = self._origin - self._sample_rate
            self._units = {key: unit for key, unit in self._units.items() if unit.end > late}
        return heard

    def _receive(self, block: Block, position: int) -> list[HeardWord]:
        speaker = Speaker.AGENT if block.is_agent else Speaker.CALLER
        self._note_span(position, speaker)
        key = (block.utterance, speaker, block.index)
        begin = position - block.number * BLOCK_SAMPLES
        length = block.count * BLOCK_SAMPLES
        unit = self._units.get(key)
        # A block that returns a whole unit later is the same audio played again, not a straggler.
        if (
            unit is None
            or begin - unit.begin >= 0.9 * length
            or (unit.blocks, unit.fragments, unit.total) != (block.count, block.fragments, block.total)
        ):
            unit = _Unit(begin, begin + length, block.count, block.fragments, block.total)
            self._units[key] = unit
        if unit.is_told:
            return []
        unit.seen.add(block.number)
        unit.texts.setdefault(block.fragment, block.text)
        unit.end = begin + length
        if unit.is_heard and block.number == block.count - 1:
            return self._words(key, unit)
        return []

    def _tell(self, position: int | None) -> list[HeardWord]:
        """The heard units that are over at `position`; None is the end of everything."""
        heard: list[HeardWord] = []
        for key, unit in self._units.items():
            if not unit.is_told and (position is None or unit.end <= position) and unit.is_heard:
                heard += self._words(key, unit)
        return heard

    def _words(self, key: tuple[int, Speaker, int], unit: _Unit) -> list[HeardWord]:
        unit.is_told = True
        utterance, speaker, index = key
        try:
            text = b"".join(unit.texts[number] for number in range(unit.fragments)).decode()
        except UnicodeDecodeError:
            return []
        parts = _split(text)
        if index + len(parts) > unit.total:
            return []
        # Where frames were lost, the begin by a later block's number lies in the word before.
        at = float(self._told_until if unit.begin < self._told_until < unit.end else unit.begin)
        self._told_until = max(self._told_until, unit.end)
        share = (unit.end - at) / sum(len(part) + 1 for part, _ in parts)
        heard = []
        for number, (part, joins) in enumerate(parts):
            begin, at = at, at + share * (len(part) + 1)
            if word := _clean(part).replace(" ", ""):
                heard.append(
                    HeardWord(
                        text=word,
                        begin=begin / self._sample_rate,
                        end=at / self._sample_rate,
                        coverage=unit.coverage,
                        utterance=utterance,
                        speaker=speaker,
                        index=index + number,
                        total=unit.total,
                        joins=joins,
                    )
                )
        return heard

    def _note_span(self, position: int, speaker: Speaker) -> None:
        begin = position
        if self._spans:
            last_begin, last_end, last_speaker = self._spans[-1]
            if last_speaker is speaker and position - last_end < _SPAN_GAP:
                begin = last_begin
                self._spans.pop()
        self._spans.append((begin, position + BLOCK_SAMPLES, speaker))


def _split(text: str) -> list[tuple[str, bool]]:
    """The words and pieces of a unit's text, each with whether it goes on the one before."""
    first, *rest = re.split(f"([ {_PIECE_SEAM}])", text)
    if not first and rest and rest[0] == _PIECE_SEAM:
        seams, parts = rest[::2], rest[1::2]
    else:
        seams, parts = [" ", *rest[::2]], [first, *rest[1::2]]
    return [(part, seam == _PIECE_SEAM) for seam, part in zip(seams, parts, strict=True)]


def decode(pcm: bytes, sample_rate: int) -> Decoded:
    """All that is marked in `pcm` (s16le mono): which words arrived, when, and which are missing."""
    decoder = MarkDecoder(sample_rate)
    step = 2 * sample_rate
    heard: list[HeardWord] = []
    spans: list[Span] = []
    for at in range(0, len(pcm), step):
        heard += decoder.push(pcm[at : at + step])
        spans = _with(spans, decoder.spans)
    heard += decoder.finish()
    return Decoded(gather(heard), tuple(_with(spans, decoder.spans)))


def _with(spans: list[Span], later: tuple[Span, ...]) -> list[Span]:
    """All spans when the decoder remembers only the last ones; its first may continue one of ours."""
    if not later:
        return spans
    return [span for span in spans if span.begin < later[0].begin] + list(later)


def gather(words: Iterable[HeardWord]) -> tuple[MarkedUtterance, ...]:
    """Words as a decoder tells them, utterance by utterance.

    An utterance that is played again is one more. A word told late, after the next one, takes its place.
    """
    groups: list[list[HeardWord]] = []
    for word in words:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and (word.utterance, word.speaker, word.total) == (last.utterance, last.speaker, last.total)
            and (word.index > last.index or word.begin < last.begin)
        ):
            groups[-1].append(word)
        else:
            groups.append([word])
    utterances = []
    for group in groups:
        group.sort(key=lambda word: word.index)
        first = group[0]
        places = [-1, *(word.index for word in group), first.total]
        missing = tuple(range(left + 1, right) for left, right in pairwise(places) if right > left + 1)
        utterances.append(MarkedUtterance(first.utterance, first.speaker, first.total, tuple(group), missing))
    return tuple(utterances)


def _joined(words: Iterable[HeardWord]) -> str:
    text = ""
    for word in words:
        text += word.text if word.joins or not text else f" {word.text}"
    return text
