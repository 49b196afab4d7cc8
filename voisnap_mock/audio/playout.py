"""Agent audio, cut into frames that fall due at a fixed pace. Pure: time comes in, frames and deadlines come out."""

from __future__ import annotations

import math
from collections import deque

from voisnap_mock.audio.frames import AGENT_FRAME_BYTES, AGENT_RATE, FRAME_SECONDS, SAMPLE_BYTES

_FRAME_SAMPLES = AGENT_FRAME_BYTES // SAMPLE_BYTES

# Frame n of a run is due at begin + n * 20 ms; the sum is rounded so that equal times compare equal.
_DIGITS = 9


class Playout:
    """A queue of agent audio with an absolute schedule: PCM s16le mono at 24 kHz in, frames of 20 ms, 960 bytes, out.

    Audio that was pushed without a gap is one *run*: its frames are due 20 ms apart, counted from the run's begin, so
    lateness of the driver never adds up. A run that ran dry goes on when audio comes again, at that moment.

    Source: Assumed, the documentation names neither size nor pace of `AudioReceived`; 20 ms is what it advises for the
    other direction. A frame is sent when it is due and not ahead, so an interruption never has to be taken back.
    """

    def __init__(self, *, catch_up: float = 0.06) -> None:
        """Args: catch_up: how late a frame may be, in seconds, before the rest of the run is put off with it."""
        self._catch_up = catch_up
        # Cut into frames only when they are due: many calls may hold the same long speech.
        self._pieces: deque[bytes] = deque()
        self._at = 0
        self._waiting = 0
        self._run_began = -math.inf
        self._run_frames = 0
        self._sent = 0
        self.next_due = -math.inf
        """When the frame after the last one is due, which is also when the last one has been played to its end."""

    @property
    def position(self) -> int:
        """Samples handed out so far, the padding included."""
        return self._sent * _FRAME_SAMPLES

    @property
    def queued_seconds(self) -> float:
        """Audio that waits, in seconds."""
        return self._waiting / (SAMPLE_BYTES * AGENT_RATE)

    def next_deadline(self) -> float | None:
        """When to ask for a frame; None while nothing waits."""
        return self.next_due if self._waiting >= AGENT_FRAME_BYTES else None

    def begin(self, at: float) -> None:
        """Let no later frame be due before `at`."""
        if at > self.next_due:
            self._begin_run(at)

    def push(self, pcm: bytes, now: float) -> None:
        """Queue audio of any length; less than a frame waits for more, or for `finish`."""
        if self._waiting < AGENT_FRAME_BYTES:
            self.begin(now)
        if pcm:
            self._pieces.append(pcm)
            self._waiting += len(pcm)

    def finish(self, now: float) -> None:
        """No more audio follows for now: pad what is left with silence to a whole frame."""
        if rest := self._waiting % AGENT_FRAME_BYTES:
            self.push(bytes(AGENT_FRAME_BYTES - rest), now)

    def put_off(self, now: float) -> bool:
        """Move the schedule if the next frame is too late by now; says whether it did.

        Up to `catch_up` late, frames keep their schedule, so a driver that was late sends the few missing ones at
        once. Beyond that the caller hears a gap, never a burst.
        """
        if now - self.next_due <= self._catch_up or self._waiting < AGENT_FRAME_BYTES:
            return False
        self._begin_run(now)
        return True

    def take(self, now: float) -> bytes | None:
        """The next frame, if it is due; ask until there is none. A frame that is too late puts off the rest."""
        if self._waiting < AGENT_FRAME_BYTES or now < self.next_due:
            return None
        self.put_off(now)
        self._run_frames += 1
        self.next_due = round(self._run_began + self._run_frames * FRAME_SECONDS, _DIGITS)
        self._sent += 1
        return self._next_frame()

    def cut(self) -> float:
        """Throw away what was not handed out; says how many seconds that was."""
        dropped = self.queued_seconds
        self._pieces.clear()
        self._waiting = self._at = 0
        return dropped

    def _next_frame(self) -> bytes:
        frame = self._pieces[0][self._at : self._at + AGENT_FRAME_BYTES]
        self._at += AGENT_FRAME_BYTES
        self._waiting -= AGENT_FRAME_BYTES
        while self._at >= len(self._pieces[0]):
            self._at -= len(self._pieces.popleft())
            if not self._at:
                break
            frame += self._pieces[0][: self._at]
        return frame

    def _begin_run(self, at: float) -> None:
        self._run_began = self.next_due = at
        self._run_frames = 0
