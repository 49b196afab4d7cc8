"""Where the caller's speech begins and ends: frames in, speech began / speech ended out.

A frame's level is its power without what lies below 140 Hz (DC, rumble, the fundamental of mains hum), and with less
weight on the highest sounds. A frame counts as speech when it rises above a noise floor. Two things move the floor: it
follows the quietest moment of the last 3 s, and it jumps at once to any sound whose level has stayed within 3.5 dB for
400 ms. Noise, hum and tones do that, speech does not: in 400 ms the level of synthesised speech moves by 10 dB at the
very least, usually by 40. For the same reason an onset is believed only once its level has moved, so a noise or a tone
that is switched on is no speech.

Being sure takes some 100 ms. What is reported is the true place all the same: the onset is dated back to where the
level left the floor, the end to where it came back. Nothing here reads a clock: positions count caller audio.

Marked speech (`audio.marks`) tells by itself where it is: the caller's is speech whatever its level, so that tones or
silence that carry words are heard too; the agent's is an echo and never counts as the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil, inf, log10
from typing import TYPE_CHECKING

from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, CALLER_RATE, FRAME_SECONDS, SAMPLE_BYTES

if TYPE_CHECKING:
    from voisnap_mock.audio.marks import MarkDecoder

_FRAME_SAMPLES = CALLER_FRAME_BYTES // SAMPLE_BYTES

# Levels are dBFS: 0 is a full-scale square wave, 1 LSB of noise is -90.
_QUIETEST_FLOOR = -72.0
_FIRST_FLOOR = -54.0
_ONSET_ABOVE_FLOOR = 6.0
_ONSET_AT_LEAST = -56.0
_SPEECH_ABOVE_FLOOR = 4.0
# An onset is believed loud, but speech reaches down to where people stop hearing it beside the loud part.
_SPEECH_BELOW_PEAK = 40.0

_STEADY_FRAMES = 20
_STEADY_WITHIN = 3.5
_ONSET_FRAMES = 5
_ONSET_GAP_FRAMES = 6
_ONSET_MOVES_BY = 4.0
_PRE_ROLL_FRAMES = 15
_MEMORY_FRAMES = 60
_FLOOR_RISE_PER_FRAME = 0.3
_MINIMUM_BLOCK_FRAMES = 25
_MINIMUM_BLOCKS = 6
# Looking for marks costs 0.13 ms per second of audio by five frames, four times as much by one.
_SCAN_FRAMES = 5
# An echo is known this late, and between its words, too short for a mark, it goes on.
_ECHO_FRAMES = 9


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The caller began to speak.

    Attributes:
        began: seconds of caller audio, dated back to the onset.
    """

    began: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The caller has been silent for `end_of_turn`, or has spoken for `max_utterance`.

    Attributes:
        began, ended: seconds of caller audio; `ended` is where the speech stopped, not when that became certain.
    """

    began: float
    ended: float


Activity = SpeechBegan | SpeechEnded


class Endpointer:
    """One caller's voice activity.

    Feed every 20 ms frame in order. `SpeechBegan` and `SpeechEnded` alternate, beginning with `SpeechBegan`; their
    times never go back. The first frame costs the import of numpy, every other one about 8 µs.

    Args:
        end_of_turn: seconds of silence that end an utterance.
        max_utterance: seconds after which an utterance is ended in mid-speech; the next one begins there.

    Raises:
        ValueError: if one of them is shorter than a frame.

    Source: Assumed; the service documents no endpointing. The defaults of `end_of_turn` and barge-in are in
    `agents.script.Timing`.
    """

    def __init__(self, *, end_of_turn: float, max_utterance: float) -> None:
        if min(end_of_turn, max_utterance) < FRAME_SECONDS:
            raise ValueError(
                f"end_of_turn is {end_of_turn} s and max_utterance {max_utterance} s; {FRAME_SECONDS} s is the least"
            )
        self._end_of_turn_frames = round(end_of_turn / FRAME_SECONDS)
        self._max_frames = int(max_utterance / FRAME_SECONDS + 1e-6)
        self._level_of = _level_meter()
        self._floor = _Floor()
        self._frames = 0
        self._recent: deque[bytes] = deque(maxlen=_MEMORY_FRAMES)
        self._levels: deque[float] = deque(maxlen=max(1, min(_MEMORY_FRAMES, self._max_frames - 1)))
        self._level = _QUIETEST_FLOOR
        # Frames that may turn out to be an onset: the number of the first, the levels of the loud ones.
        self._run_start = 0
        self._run: list[float] = []
        self._run_gap = 0
        # No onset is dated back beyond a steady sound, nor beyond the end of the utterance before.
        self._steady_until = 0
        self._closed = 0
        # The utterance, as frame numbers: its first, and the one after its latest speech.
        self._speaking = False
        self._began = 0
        self._ended = 0
        self._peak = 0.0
        self._pre_roll = b""
        # Marks, as frame numbers: where the caller's latest stretch begins, and the ends of both speakers'.
        self._marks: MarkDecoder | None = None
        self._unscanned: list[bytes] = []
        self._marked_from = 0
        self._marked_until = 0
        self._echo_until = -_ECHO_FRAMES

    def feed(self, frame: bytes) -> tuple[Activity, ...]:
        """Take the next 640 bytes and say what they made certain, if anything.

        Raises:
            ValueError: if the frame is not 640 bytes.
        """
        if len(frame) != CALLER_FRAME_BYTES:
            raise ValueError(f"a frame has {CALLER_FRAME_BYTES} bytes, not {len(frame)}")
        level = self._level = self._level_of(frame)
        self._frames += 1
        self._recent.append(frame)
        self._levels.append(level)
        is_steady = self._floor.follow(level)
        self._unscanned.append(frame)
        if len(self._unscanned) == _SCAN_FRAMES:
            self._look_for_marks()
        if self._speaking:
            return self._look_for_end(level, is_steady=is_steady)
        if self._marked_until > self._closed:
            began = max(self._marked_from, self._closed, self._frames - len(self._recent))
            return self._open(began, ended=self._marked_until)
        if is_steady:
            self._steady_until = self._frames
        return self._look_for_onset(level)

    @property
    def position(self) -> float:
        """Seconds of caller audio fed so far."""
        return self._frames * FRAME_SECONDS

    @property
    def is_speaking(self) -> bool:
        """An utterance is open; a pause shorter than `end_of_turn` belongs to it."""
        return self._speaking

    @property
    def speech_seconds(self) -> float:
        """From the onset of the open utterance to its latest speech; 0 when none is open."""
        return (self._ended - self._began) * FRAME_SECONDS if self._speaking else 0.0

    @property
    def level_dbfs(self) -> float:
        """Level of the latest frame without what lies below 140 Hz; about -90 for digital silence."""
        return self._level

    @property
    def floor_dbfs(self) -> float:
        """The present noise floor."""
        return self._floor.level

    @property
    def pre_roll(self) -> bytes:
        """What an ear must hear first once `SpeechBegan` came: caller audio up to the frame just fed, included.

        It starts 0.3 s before the onset, later at the start of a call or right after another utterance, and stays the
        same until the next `SpeechBegan`.
        """
        return self._pre_roll

    def _look_for_onset(self, level: float) -> tuple[Activity, ...]:
        if level < max(self._floor.level + _ONSET_ABOVE_FLOOR, _ONSET_AT_LEAST):
            self._run_gap += 1
            if self._run_gap > _ONSET_GAP_FRAMES:
                self._run.clear()
            return ()
        if not self._run:
            self._run_start = self._frames - 1
        self._run_gap = 0
        self._run.append(level)
        # The first and the last loud frame may be cut by the edge of a beep: their levels prove nothing.
        inner = self._run[1:-1]
        if len(self._run) < _ONSET_FRAMES or max(inner) - min(inner) < _ONSET_MOVES_BY:
            return ()
        self._look_for_marks()
        if self._is_echo():
            self._run.clear()
            return ()
        self._peak = max(self._run)
        return self._open(self._dated_back(), ended=self._frames)

    def _open(self, began: int, *, ended: int) -> tuple[Activity, ...]:
        self._began = began
        self._ended = ended
        self._peak = max(self._run, default=self._level)
        self._speaking = True
        self._run.clear()
        start = max(self._began - _PRE_ROLL_FRAMES, self._closed)
        self._pre_roll = b"".join(list(self._recent)[-(self._frames - start) :])
        return (SpeechBegan(self._began * FRAME_SECONDS),)

    def _look_for_marks(self) -> None:
        """Learn what the latest frames carry."""
        if not self._unscanned:
            return
        if self._marks is None:
            from voisnap_mock.audio.marks import MarkDecoder

            self._marks = MarkDecoder(CALLER_RATE)
        self._marks.push(b"".join(self._unscanned))
        self._unscanned.clear()
        span = self._marks.last_span
        if span is None:
            return
        until = min(ceil(span.end / FRAME_SECONDS - 1e-6), self._frames)
        if span.speaker == "agent":
            self._echo_until = until
            # No onset is dated back into an echo.
            self._steady_until = max(self._steady_until, until)
        elif until > self._marked_until:
            self._marked_from, self._marked_until = int(span.begin / FRAME_SECONDS + 1e-6), until

    def _is_echo(self) -> bool:
        return self._frames - self._echo_until < _ECHO_FRAMES

    def _dated_back(self) -> int:
        """The number of the frame in which the sound of the present run left the floor."""
        first = max(self._closed, self._steady_until, self._frames - len(self._levels))
        onset = at = max(self._run_start, first)
        audible = self._audible()
        while at > first and onset - at <= _ONSET_GAP_FRAMES:
            at -= 1
            if self._levels[at - self._frames] > audible:
                onset = at
        return onset

    def _audible(self) -> float:
        return max(self._floor.level + _SPEECH_ABOVE_FLOOR, self._peak - _SPEECH_BELOW_PEAK)

    def _look_for_end(self, level: float, *, is_steady: bool) -> tuple[Activity, ...]:
        self._peak = max(self._peak, level)
        if level > self._audible() and not is_steady and not self._is_echo():
            self._ended = self._frames
        elif self._ended < self._marked_until:
            self._ended = self._marked_until
        is_cut = self._frames - self._began >= self._max_frames
        if self._frames - self._ended < self._end_of_turn_frames and not is_cut:
            return ()
        self._look_for_marks()
        self._ended = max(self._ended, self._marked_until)
        if self._frames - self._ended < self._end_of_turn_frames and not is_cut:
            return ()
        self._speaking = False
        self._closed = self._frames
        return (SpeechEnded(self._began * FRAME_SECONDS, self._ended * FRAME_SECONDS),)


class _Floor:
    """The level of what is always there.

    It falls fast and rises slowly to the quietest smoothed level of the last 3 s, so that neither a pause nor a
    sentence without pauses misleads it; a steady sound takes it along at once.
    """

    def __init__(self) -> None:
        self.level = _FIRST_FLOOR
        self._smooth: float | None = None
        self._latest: deque[float] = deque(maxlen=_STEADY_FRAMES)
        # The stretch up to now that has stayed within `_STEADY_WITHIN`: its frames, as far as they matter, and bounds.
        self._alike = 0
        self._low = self._high = inf
        self._minima: deque[float] = deque(maxlen=_MINIMUM_BLOCKS)
        self._block_minimum = 0.0
        self._block_frames = 0

    def follow(self, level: float) -> bool:
        """Take the level of the next frame; say whether the sound, or the silence, has been a steady one."""
        smooth = level if self._smooth is None else 0.6 * self._smooth + 0.4 * level
        self._smooth = smooth
        latest = self._latest
        latest.append(level)
        self._block_minimum = min(self._block_minimum, smooth)
        self._block_frames += 1
        if self._block_frames == _MINIMUM_BLOCK_FRAMES:
            self._minima.append(self._block_minimum)
            self._block_minimum = smooth
            self._block_frames = 0
        is_steady = self._is_steady(level)
        if smooth <= self.level:
            self.level = max((self.level + smooth) / 2, _QUIETEST_FLOOR)
        elif is_steady:
            self.level = max(self.level, sum(latest) / _STEADY_FRAMES)
        elif self._minima:
            quietest = min(*self._minima, self._block_minimum)
            self.level += min(max(quietest - self.level, 0.0), _FLOOR_RISE_PER_FRAME)
        return is_steady

    def _is_steady(self, level: float) -> bool:
        """Whether the latest levels, `level` the last of them, lie close together."""
        if level > self._high:
            self._high = level
        elif level < self._low:
            self._low = level
        if self._high - self._low < _STEADY_WITHIN:
            self._alike += 1
        else:
            self._low = self._high = level
            self._alike = 0
            for earlier in reversed(self._latest):
                low, high = min(self._low, earlier), max(self._high, earlier)
                if high - low >= _STEADY_WITHIN:
                    break
                self._low, self._high = low, high
                self._alike += 1
        return self._alike >= _STEADY_FRAMES


@cache
def _level_meter() -> Callable[[bytes], float]:
    """Make the function from a frame to its level in dBFS.

    A frame holds 2.8 turns at 140 Hz, so all that lies below is, to within 1 part in 10,000, a mix of ten fixed shapes,
    and these are taken off. The rest is weighted by the square of the cosine that falls from 1 at 0 Hz to 0 at 8 kHz: a
    sum of two dot products. That takes 3 dB off white noise and nothing off vowels, at a fifth of a spectrum's cost.
    """
    import numpy as np

    time = np.arange(_FRAME_SAMPLES) / CALLER_RATE
    turns = 2 * np.pi * np.outer(np.arange(0, 141, 10), time)
    rest = np.concatenate([np.cos(turns), np.sin(turns[1:])])
    basis = np.empty((10, _FRAME_SAMPLES))
    # The strongest wave left over is the next shape. A decomposition by LAPACK would start its threads: 40 ms and more.
    for shape in basis:
        powers = np.einsum("ij,ij->i", rest, rest)
        shape[:] = rest[powers.argmax()] / np.sqrt(powers.max())
        rest -= np.outer(np.einsum("ij,j->i", rest, shape), shape)
    shapes = basis.astype(np.float32)
    pcm, single = np.dtype("<i2"), np.dtype(np.float32)
    frombuffer = np.frombuffer
    full_scale = 10 * log10(_FRAME_SAMPLES * 32768.0**2)
    one_lsb = float(_FRAME_SAMPLES)
    silence = bytes(CALLER_FRAME_BYTES)
    silent = 10 * log10(one_lsb) - full_scale

    def level_of(frame: bytes) -> float:
        if frame == silence:
            # What a line carries most of the time.
            return silent
        samples = frombuffer(frame, pcm).astype(single)
        samples -= shapes.dot(samples).dot(shapes)
        power = (float(samples.dot(samples)) + float(samples[1:].dot(samples[:-1]))) / 2
        return 10 * log10(max(power, 0.0) + one_lsb) - full_scale

    return level_of
