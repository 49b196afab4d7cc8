"""Known recordings: recognise by its sound which recording of a set is being played, also through codecs and noise.

Samples in, text with its place out; no file, no clock, no model. How it works:

**Features.** Every 20 ms the power of 40 ms in 20 mel bands of the telephone band, to the power 0.2, less 0.7 of the
frame's mean over the bands. The exponent turns gain into a plain factor, and what all bands have in common (most of
what one speech has in common with another) goes.

**Index.** A recording is cut into segments of 400 ms, from its first sound to its last. A segment less each band's
mean, scaled to unit length, is one column of the matrices that all streams share.

**Matching.** The last 400 ms of a stream times a matrix correlates them with every segment at once. A chain of a
recording's segments, each at its distance after the one before, some frames fewer when frames were lost, scores the
mean of its correlations.

**Deciding.** What is heard of an utterance is the set of chains that explains most of it; when much of the rest is as
loud, the utterance is something else that only contains them, and nothing is heard.

Source: Assumed; the service has no such thing. Every constant was found by trial; `tests/benchmarks/fingerprint.py`
measures what they are worth.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from math import log10
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
FRAME_SECONDS = 0.02

_HOP = 320
_WINDOW = 640
_FFT = 1024
_BANDS = 20
_LOWEST_HZ, _HIGHEST_HZ = 300.0, 3_300.0
_POWER_FLOOR = 1_000.0
_EXPONENT = 0.2
_COMMON_SHARE = 0.7

_SEGMENT = 20
_PAD_BEFORE, _PAD_AFTER = 5, 25
_ACTIVE_DB = 35.0
_SOUND_DB = 40.0
_ACTIVE_SHARE = 0.3
_QUIETEST = 100.0
_SHORTEST = 0.3
_LONGEST = 60.0
_LONG_PAUSE = 0.6

# A correlation under the knee costs three times as much.
_KNEE = 0.7
_SLOPE = 2.0
# What a recording's first segment counts at least, so that one whose beginning is cut off is still known.
_LATE_START = 0.6
_FRAMES_LOST = 5
_FRAMES_ADDED = 1
_BATCH = 5

# For recordings of one, two, three and more segments.
_THRESHOLDS = (0.86, 0.86, 0.80, 0.75)
# What the worst segment must be worth. Loss spoils all a little, another word spoils one or two and leaves the rest.
_WEAKEST = 0.1
_WEAKEST_ON_CLEAN_LINE = 0.55
_CLEAN_LINE = 0.97
_SETTLED_FRAMES = 6
# A chain is worth what it scores above this, for every frame of it, less a little, so that one is better than two.
_WORTHLESS = 0.5
_CHAIN_COST = 2.0
_LOUD_DB = 15.0
_UNEXPLAINED_FRAMES = 6
_UNEXPLAINED_SHARE = 0.2
_EDGE_FRAMES = 3
_LOOKS_ALIKE = 0.80
_MAY_LOOK_ALIKE = 0.45
_MOST_LOOK_ALIKES = 20
_MOST_COMPARED = 2_000
_NEVER = -9.0
_PIECE = 32
_HISTORY = _SEGMENT + _FRAMES_ADDED
# OpenBLAS shares larger products out among threads, which for products of this size costs ten to twenty times what it
# saves, most of all beside other work; one that has no more than this many multiplications stays in its thread.
_PRODUCT = 1 << 18
_BLOCK = _PRODUCT // (_BATCH * _SEGMENT * _BANDS)
_RECENT_BATCHES = -(-_SEGMENT // _BATCH) + 1

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a file holds: `pcm` is PCM s16le mono at 16 kHz, `text` what is said in it."""

    name: str
    text: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Match:
    """A recording that was played.

    Attributes:
        score: 0.8 to 1.0, serves as confidence.
        begin, end: where its speech lies, seconds from the start of the stream.
    """

    name: str
    text: str
    score: float
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class TooShort:
    """A recording with less than 0.3 s of sound: too little to tell it from other speech. It is left out."""

    name: str
    seconds: float

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.seconds:.2f} s of sound is too short to be known again, at least {_SHORTEST} s are"
            f" needed; it is left out. Record a longer phrase, or use marked speech"
        )


@dataclass(frozen=True, slots=True)
class TooLong:
    """A recording that is no utterance any more. It is left out."""

    name: str
    seconds: float

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.seconds:.0f} s is too long for something said in one turn, at most {_LONGEST:.0f} s"
            f" are taken; it is left out. Cut it into files of one turn each"
        )


@dataclass(frozen=True, slots=True)
class LongPause:
    """A recording with a pause that may end the caller's turn. It is kept, yet only known when the turn is longer."""

    name: str
    seconds: float

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def __str__(self) -> str:
        return (
            f"{self.name}: has a pause of {self.seconds:.1f} s, which may end the turn before the whole is heard;"
            f" cut it into two files there, or raise the agent's end_of_turn"
        )


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """Two recordings of different texts that sound nearly the same. Both are kept."""

    name: str
    other: str
    score: float

    @property
    def names(self) -> tuple[str, ...]:
        return self.name, self.other

    def __str__(self) -> str:
        return (
            f"{self.name} and {self.other}: sound alike ({self.score:.2f}) but have different texts; one may be heard"
            f" for the other. Check the two texts, or tell them apart by marked speech"
        )


Problem = TooShort | TooLong | LongPause | LookAlikes


# --- Features -------------------------------------------------------------------------------------------------


def _mel_bands() -> tuple[int, int, Floats]:
    """First bin, bin after the last, and the weight of each bin in each band."""
    lowest, highest = (2595 * log10(1 + hertz / 700) for hertz in (_LOWEST_HZ, _HIGHEST_HZ))
    edges_mel = np.linspace(lowest, highest, _BANDS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    hertz = np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    weights = np.clip(np.minimum(rising, falling), 0, None)
    used = np.flatnonzero(weights.any(axis=1))
    first, after = int(used[0]), int(used[-1]) + 1
    return first, after, weights[first:after].astype(np.float32)


_FIRST_BIN, _AFTER_BIN, _WEIGHTS = _mel_bands()
_HANN = np.hanning(_WINDOW).astype(np.float32)


def _features(samples: npt.NDArray[np.int16]) -> tuple[Floats, Floats]:
    """Of each 20 ms but the last: 20 features, and the power. The window of one reaches 20 ms into the next."""
    hops = samples[: len(samples) // _HOP * _HOP].reshape(-1, _HOP)
    windows = np.concatenate((hops[:-1], hops[1:]), axis=1) * _HANN
    spectra = np.fft.rfft(windows, _FFT)[:, _FIRST_BIN:_AFTER_BIN]
    power = (spectra.real**2 + spectra.imag**2).astype(np.float32) @ _WEIGHTS + np.float32(_POWER_FLOOR)
    features = power ** np.float32(_EXPONENT)
    return features - np.float32(_COMMON_SHARE) * features.mean(axis=1, keepdims=True), power.sum(axis=1)


def _all_features(samples: npt.NDArray[np.int16]) -> tuple[Floats, Floats]:
    """The same for a whole recording, some frames at a time: arrays that stay in the cache take half the time."""
    step = _PIECE * _HOP
    pieces = [_features(samples[at : at + step + _HOP]) for at in range(0, len(samples) - _HOP, step)]
    return np.concatenate([features for features, _ in pieces]), np.concatenate([powers for _, powers in pieces])


def _segments(features: Floats, begins: npt.NDArray[np.intp]) -> Floats:
    """A row for each segment: 20 frames less each band's mean, at unit length; silence is all zeros."""
    rows = features[begins[:, None] + np.arange(_SEGMENT)]
    rows = (rows - rows.mean(axis=1, keepdims=True)).reshape(len(begins), -1)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    scaled: Floats = rows / np.maximum(lengths, 1e-3)[:, None]
    return scaled


def _normal(features: Floats) -> Floats:
    """Less each band's mean, at unit length."""
    moved = features - features.mean(axis=0)
    normal: Floats = moved / max(float(np.sqrt((moved**2).sum())), 1e-3)
    return normal


def _loud(powers: Floats) -> float:
    """The power from which a frame is as loud as these."""
    return float(powers.mean()) * 10 ** (-_LOUD_DB / 10)


def _valued(correlations: Floats) -> Floats:
    valued: Floats = correlations + np.float32(_SLOPE) * np.minimum(correlations - np.float32(_KNEE), 0)
    return valued


# --- The index ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """A recording as the index keeps it; costs about 0.3 ms per second of audio to take, 15 kB to keep.

    Attributes:
        begin, end: first sample of its sound and the one after the last.
        longest_pause: seconds of silence within it.
        segments: one row for each.
        begins: the first frame of each segment, in `features`.
        features: of all its frames and the padding, to compare it with others.
    """

    name: str
    text: str
    begin: int
    end: int
    longest_pause: float
    segments: Floats
    begins: tuple[int, ...]
    features: Floats


def fingerprint(recording: Recording) -> Fingerprint | TooShort | TooLong:
    """What the recording is known by, whatever is silence around it."""
    pcm = np.frombuffer(recording.pcm, "<i2", len(recording.pcm) // 2)
    if len(pcm) > _LONGEST * SAMPLE_RATE:
        return TooLong(recording.name, len(pcm) / SAMPLE_RATE)
    begin, end = _sound(pcm)
    if (end - begin) / SAMPLE_RATE < _SHORTEST:
        return TooShort(recording.name, (end - begin) / SAMPLE_RATE)
    features, powers = _all_features(np.pad(pcm, (_PAD_BEFORE * _HOP, _PAD_AFTER * _HOP)))
    active = powers > powers.max() * 10 ** (-_ACTIVE_DB / 10)
    sounding = np.flatnonzero(active)
    first, last = int(sounding[0]), int(sounding[-1])
    begins = [
        frame
        for frame in range(first, last - _SEGMENT + 1, _SEGMENT)
        if frame == first or active[frame : frame + _SEGMENT].mean() >= _ACTIVE_SHARE
    ]
    begins.append(max(last - _SEGMENT + 1, first))
    return Fingerprint(
        name=recording.name,
        text=recording.text,
        begin=begin,
        end=end,
        longest_pause=float((np.diff(sounding).max(initial=1) - 1) * FRAME_SECONDS),
        segments=_segments(features, np.array(begins)),
        begins=tuple(begins),
        features=features,
    )


def _sound(pcm: npt.NDArray[np.int16]) -> tuple[int, int]:
    """First sample of what sounds and the one after the last, by 5 ms pieces; both 0 for silence."""
    piece = SAMPLE_RATE // 200
    pieces = pcm[: len(pcm) // piece * piece].reshape(-1, piece).astype(np.float32)
    power = pieces.var(axis=1)
    loud = np.flatnonzero(power > max(power.max(initial=0) * 10 ** (-_SOUND_DB / 10), _QUIETEST))
    return (int(loud[0]) * piece, (int(loud[-1]) + 1) * piece) if len(loud) else (0, 0)


class KnownRecordings:
    """The recordings that can be known: immutable, one for any number of streams.

    Making one costs little next to taking the fingerprints, so make a new one when a file changed and keep the other
    files' fingerprints.

    Args:
        unchecked: names of recordings that are not compared with each other.

    Attributes:
        problems: what the owner of the recordings should know, first what was left out.
        fingerprints: of the recordings that are known.
        segments: how many there are; `correlations` has a column for each, recording by recording. The arrays say, for
            `RecordingMatcher`, which column belongs to which recording and what it must be worth.
    """

    def __init__(
        self, fingerprints: Iterable[Fingerprint | TooShort | TooLong], *, unchecked: Container[str] = ()
    ) -> None:
        given = list(fingerprints)
        self.fingerprints = tuple(each for each in given if isinstance(each, Fingerprint))
        counts = [len(each.segments) for each in self.fingerprints]
        self.counts = np.array(counts, np.float32)
        self.first = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.intp) if counts else np.zeros(0, np.intp)
        self.last = self.first + np.array(counts, np.intp) - 1
        self.thresholds = np.array([_THRESHOLDS[min(count, len(_THRESHOLDS)) - 1] for count in counts], np.float32)
        self.segments = sum(counts)
        rows = np.concatenate([each.segments for each in self.fingerprints]) if counts else np.zeros((0, 400), "f4")
        self._blocks = tuple(
            np.ascontiguousarray(rows[at : at + _BLOCK].T, np.float32) for at in range(0, len(rows), _BLOCK)
        )
        steps = np.array([step for each in self.fingerprints for step in (0, *_steps(each))], np.intp)
        # Nearly every segment comes 20 frames after its left neighbour; the others are looked up one by one.
        self.odd = np.flatnonzero((steps != 0) & (steps != _SEGMENT))
        self.odd_steps = np.maximum(steps[self.odd] + np.arange(-_FRAMES_LOST, _FRAMES_ADDED + 1)[:, None], 1)
        self.odd_reach = int(steps[self.odd].max(initial=0)) + _FRAMES_ADDED + 1
        self.problems: tuple[Problem, ...] = (
            *(each for each in given if not isinstance(each, Fingerprint)),
            *(
                LongPause(each.name, each.longest_pause)
                for each in self.fingerprints
                if each.longest_pause > _LONG_PAUSE
            ),
            *self._look_alikes(unchecked),
        )

    @classmethod
    def of(cls, recordings: Iterable[Recording]) -> KnownRecordings:
        return cls(map(fingerprint, recordings))

    def __len__(self) -> int:
        return len(self.fingerprints)

    @property
    def nbytes(self) -> int:
        """What the index takes, without the fingerprints."""
        return sum(block.nbytes for block in self._blocks)

    def correlations(self, segments: Floats) -> Floats:
        """Of each of a few segments, one per row, with all that are known."""
        correlated = np.empty((len(segments), self.segments), np.float32)
        for number, block in enumerate(self._blocks):
            at = number * _BLOCK
            np.matmul(segments, block, out=correlated[:, at : at + _BLOCK])
        return correlated

    def _look_alikes(self, unchecked: Container[str]) -> Iterable[LookAlikes]:
        """Pairs that one stream could confuse, the first ones. Only pairs whose segments are alike at all are compared
        in full, and of a folder full of copies of one file not all."""
        if not self.fingerprints:
            return
        told = 0
        seen: set[tuple[int, int]] = set()
        for ours, theirs in self._alike(unchecked):
            mine, other = self.fingerprints[ours], self.fingerprints[theirs]
            if ours == theirs or mine.text == other.text or (theirs, ours) in seen:
                continue
            if abs(len(mine.segments) - len(other.segments)) > 1:
                continue
            seen.add((ours, theirs))
            score = float(_chain(other, mine.features).values.mean())
            if score > _LOOKS_ALIKE:
                told += 1
                yield LookAlikes(mine.name, other.name, round(score, 2))
            if told == _MOST_LOOK_ALIKES or len(seen) == _MOST_COMPARED:
                return

    def _alike(self, unchecked: Container[str]) -> Iterable[tuple[int, int]]:
        """Pairs of recordings whose segments correlate. One with all the others at a time: two thousand recordings
        have a quarter of a billion pairs of segments, a gigabyte."""
        for ours, known in enumerate(self.fingerprints):
            if known.name in unchecked:
                continue
            alike = np.zeros(len(self), np.float32)
            for at in range(0, len(known.segments), _BATCH):
                correlated = self.correlations(known.segments[at : at + _BATCH])
                alike += np.maximum.reduceat(correlated, self.first, axis=1).sum(axis=0)
            for theirs in np.flatnonzero(alike / len(known.segments) > _MAY_LOOK_ALIKE).tolist():
                yield ours, theirs


def _steps(known: Fingerprint) -> list[int]:
    """Frames from each segment to the next."""
    return np.diff(known.begins).tolist()


class _Chain(NamedTuple):
    """Attributes: values: what each segment is worth; first, last: where the first and the last segment end."""

    values: Floats
    first: int
    last: int


def _chain(known: Fingerprint, features: Floats) -> _Chain:
    """The best way through all segments of a recording; places count from frame 19, where the first one may end."""
    count = len(features) - _SEGMENT + 1
    rows = np.arange(count)
    segments, step = _segments(features, rows), max(_PRODUCT // known.segments.size, 1)
    products = [segments[at : at + step] @ known.segments.T for at in range(0, count, step)]
    values = _valued(np.concatenate(products))
    # A little of what the first segment really is tells apart the places where it would count the same.
    path = np.maximum(values[:, 0], np.float32(_LATE_START)) + values[:, 0] / 1000
    origins = []
    for segment, step in enumerate(_steps(known), start=1):
        reach = rows[:, None] - np.arange(max(step - _FRAMES_LOST, 1), step + _FRAMES_ADDED + 1)
        reached = np.where(reach >= 0, path[np.maximum(reach, 0)], np.float32(_NEVER))
        best = reached.argmax(axis=1)
        origins.append(np.maximum(reach[rows, best], 0))
        path = values[:, segment] + reached[rows, best]
    places = [int(path.argmax())]
    for origin in reversed(origins):
        places.append(int(origin[places[-1]]))
    places.reverse()
    return _Chain(values[places, np.arange(len(places))], places[0], places[-1])


@dataclass(frozen=True, slots=True)
class _Found:
    """A chain that scores enough; `first` and `last` are frames of the stream."""

    known: Fingerprint
    score: float
    first: int
    last: int

    @property
    def worth(self) -> float:
        return (self.score - _WORTHLESS) * (self.last - self.first + 1) - _CHAIN_COST


class RecordingMatcher:
    """Tells which known recordings one stream of PCM (s16le mono, 16 kHz) plays.

    Push the audio of an utterance, from some 300 ms before its onset; `finish` at its end tells what was played and
    makes ready for the next utterance. Only pushed audio counts as time. Costs 3 to 6 ms of CPU per second of audio
    with 200 recordings, nothing with none; remembers 4 kB per second of the utterance.
    """

    def __init__(self, known: KnownRecordings) -> None:
        self._known = known
        self._pushed = 0
        self._begin_utterance()

    def _begin_utterance(self) -> None:
        self._origin = self._pushed
        # The first window begins 20 ms before the utterance, so that each 100 ms make five frames.
        self._pending = bytearray(2 * _HOP)
        self._features: list[Floats] = [np.zeros((_SEGMENT - 1, _BANDS), np.float32)]
        self._powers: list[Floats] = []
        self._frames = 0
        self._paths = np.full((_HISTORY + _BATCH, self._known.segments), _NEVER, np.float32)
        self._odd_paths = np.full((self._known.odd_reach, len(self._known.odd)), _NEVER, np.float32)
        self._hits: dict[int, tuple[float, int]] = {}
        self._last_hit = 0
        self._found: list[_Found] = []

    @property
    def heard(self) -> tuple[Match, ...]:
        """What is known of the utterance so far, for a partial transcript; its end may show that it was not so."""
        return tuple(self._match(found) for found in _best(self._found))

    def push(self, pcm: bytes) -> None:
        """Take the next audio, as much as one likes, whole samples. It is worked on by 100 ms."""
        self._pushed += len(pcm) // 2
        if len(self._known):
            self._pending += pcm
            self._work()

    def finish(self) -> tuple[Match, ...]:
        """The utterance is over: what was played, in its order; empty when it was something else, if only in part."""
        if len(self._known):
            self._pending += bytes(2 * _HOP * (_BATCH + _FRAMES_ADDED))
            self._work()
            self._settle()
        best = _best(self._found)
        heard = tuple(self._match(found) for found in best) if self._explains(best) else ()
        self._begin_utterance()
        return heard

    def _work(self) -> None:
        size = 2 * _HOP * (_BATCH + 1)
        at = 0
        while len(self._pending) - at >= size:
            self._hear(np.frombuffer(self._pending[at : at + size], "<i2"))
            at += size - 2 * _HOP
        del self._pending[:at]

    def _hear(self, samples: npt.NDArray[np.int16]) -> None:
        known = self._known
        features, powers = _features(samples)
        self._features.append(features)
        self._powers.append(powers)
        recent = np.concatenate(self._features[-_RECENT_BATCHES:])[1 - _SEGMENT - _BATCH :]
        values = _valued(known.correlations(_segments(recent, np.arange(_BATCH))))
        values[:, known.first] = np.maximum(values[:, known.first], np.float32(_LATE_START))
        self._paths[:_HISTORY] = self._paths[_BATCH:]
        paths = self._paths[_HISTORY:]
        # The best of the seven places where the left neighbour may have ended, by doubling.
        before = self._paths[: _BATCH + 6]
        before = np.maximum(before[1:], before[:-1])
        before = np.maximum(before[2:], before[:-2])
        before = np.maximum(before[3:], before[:-3])
        paths[:, 1:] = before[:, :-1]
        paths[:, known.first] = 0
        paths += values
        columns = np.arange(len(known.odd))
        for row in range(_BATCH):
            frame = self._frames + row
            reached = self._odd_paths[(frame - known.odd_steps) % known.odd_reach, columns]
            paths[row, known.odd] = values[row, known.odd] + reached.max(axis=0)
            self._odd_paths[frame % known.odd_reach] = paths[row, known.odd - 1]
        scores = paths[:, known.last] / known.counts
        for row, file in np.argwhere(scores >= known.thresholds).tolist():
            self._hit(self._frames + row, file, float(scores[row, file]))
        self._frames += _BATCH
        if self._hits and self._frames - self._last_hit > _SETTLED_FRAMES:
            self._settle()

    def _hit(self, frame: int, file: int, score: float) -> None:
        if self._hits and frame - self._last_hit > _SETTLED_FRAMES:
            self._settle()
        self._last_hit = frame
        if score > self._hits.get(file, (0.0, 0))[0]:
            self._hits[file] = (score, frame)

    def _settle(self) -> None:
        """Take the best of the hits that came together: the one that explains the longest stretch well."""
        if not self._hits:
            return
        known = self._known
        hits = sorted(self._hits.items(), key=lambda hit: (hit[1][0] - _WORTHLESS) * known.counts[hit[0]])
        self._hits.clear()
        for file, (_, frame) in reversed(hits):
            found = self._trace(known.fingerprints[file], frame)
            if found is not None and found.score >= known.thresholds[file]:
                self._found.append(found)
                return

    def _trace(self, known: Fingerprint, frame: int) -> _Found | None:
        """A closer look at the recording that seems to end at `frame`; None if one of its words is another."""
        reach = known.begins[-1] - known.begins[0] + len(known.begins) * _FRAMES_ADDED
        begin = max(frame - reach, 0)
        chain = _chain(known, np.concatenate(self._features)[begin : frame + _SEGMENT])
        first, last = begin + chain.first + 1 - _SEGMENT, begin + chain.last
        values = chain.values
        if values[0] < _LATE_START:
            values[0] = max(values[0], self._late_start(known, first, last))
        if values.min() < (_WEAKEST_ON_CLEAN_LINE if np.median(values) > _CLEAN_LINE else _WEAKEST):
            return None
        return _Found(known, float(values.mean()), first, last)

    def _late_start(self, known: Fingerprint, first: int, last: int) -> float:
        """What the first segment is worth by its end, if nothing but silence came before that."""
        powers = np.concatenate(self._powers)
        onset = int(np.argmax(powers > _loud(powers[max(first, 0) : last + 1])))
        missing = onset + 1 - first
        if onset <= first:
            return _NEVER
        if missing > _SEGMENT - _FRAMES_LOST:
            return _LATE_START
        features = np.concatenate(self._features)[_SEGMENT - 1 :]
        played = _normal(features[first + missing : first + _SEGMENT])
        place = known.begins[0] + missing
        recorded = (known.features[place + shift :][: len(played)] for shift in (-1, 0, 1))
        best = max(float((played * _normal(each)).sum()) for each in recorded)
        return best + _SLOPE * min(best - _KNEE, 0.0)

    def _explains(self, best: Sequence[_Found]) -> bool:
        """Whether hardly anything outside of the recordings is as loud as they are."""
        if not best:
            return False
        powers = np.concatenate(self._powers)
        within = np.zeros(len(powers), bool)
        for found in best:
            within[max(found.first - _EDGE_FRAMES, 0) : found.last + 1 + _EDGE_FRAMES] = True
        loud = powers > _loud(powers[within])
        unexplained = int((loud & ~within).sum())
        return unexplained <= max(_UNEXPLAINED_FRAMES, _UNEXPLAINED_SHARE * int(within.sum()))

    def _match(self, found: _Found) -> Match:
        """Frame 0 of a stream begins one frame before it, frame 0 of a recording `_PAD_BEFORE` frames."""
        known = found.known
        shift = self._origin + (_PAD_BEFORE - 1 - known.begins[0]) * _HOP
        begin = shift + found.first * _HOP + known.begin
        shift = self._origin + (_PAD_BEFORE - known.begins[-1] - _SEGMENT) * _HOP
        end = shift + found.last * _HOP + known.end
        return Match(known.name, known.text, round(found.score, 4), max(begin, 0) / SAMPLE_RATE, end / SAMPLE_RATE)


def _best(found: Sequence[_Found]) -> list[_Found]:
    """The recordings that explain most together and do not overlap, in their order."""
    ordered = sorted(found, key=lambda each: each.last)
    best: list[tuple[float, list[_Found]]] = [(0.0, [])]
    for number, each in enumerate(ordered):
        free = sum(other.last <= each.first + _FRAMES_LOST for other in ordered[:number])
        worth, chosen = best[free]
        best.append(max(best[-1], (worth + each.worth, [*chosen, each]), key=lambda option: option[0]))
    return best[-1][1]
