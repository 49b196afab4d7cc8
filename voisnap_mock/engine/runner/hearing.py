"""The ear of one session: what its machine wants heard, heard in a worker thread, in order and within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from voisnap_mock.clock import Clock, Timer
from voisnap_mock.engine.events import (
    FinishRecognition,
    PartlyHeard,
    RecognitionFailed,
    Recognize,
    Transcribed,
    Transcript,
)
from voisnap_mock.engine.runner.crew import Crew

FAILURE = "STT_PROVIDER_TIMEOUT"
# 10 s of audio: a recogniser that is further behind will not answer in time anyway.
_MOST_JOBS = 100

Answer = PartlyHeard | Transcribed | RecognitionFailed


class EarProblem(Protocol):
    """An ear that could not be used; `audio.stt.EarProblem` is the real one."""

    @property
    def ear(self) -> str: ...

    @property
    def message(self) -> str: ...


class Listener(Protocol):
    """Hears one utterance. All methods may block; they are called from one thread at a time."""

    @property
    def problems(self) -> Sequence[EarProblem]:
        """The ears that were left out, so far."""
        ...

    def accept(self, pcm: bytes) -> None: ...

    def partial(self, expected: str | None = None) -> Transcript | None: ...

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None: ...


class Hearing(Protocol):
    """The chain of ears of one agent; `audio.stt.Hearing` is the real one."""

    def open(self) -> Listener: ...


class EarQueue:
    """Carries out `Recognize` and `FinishRecognition` in order, one at a time, without blocking the loop.

    Up to 100 jobs wait; beyond that the oldest audio is dropped and journaled. An utterance that gets no answer within
    `timeout` of its end, or whose ear raises, is answered with `RecognitionFailed`; the rest of it is then dropped.

    Args:
        hearing: makes the agent's ears; called in the worker, for it may have to load a model.
        answer: takes what was heard.
        note: journals what no machine needs to know.
        settled: called whenever a job is done and its answer taken.

    Attributes:
        owes_an_answer: an answer is still to come, or so much work that audio may get lost. Virtual time asks for it
            at every frame, so it is found out only when it may have changed.
    """

    def __init__(
        self,
        hearing: Callable[[], Hearing],
        *,
        crew: Crew,
        clock: Clock,
        timeout: float,
        answer: Callable[[Answer], None],
        note: Callable[..., object],
        settled: Callable[[], None],
    ) -> None:
        self.owes_an_answer = False
        self._settled = settled
        self._make_hearing = hearing
        self._crew = crew
        self._clock = clock
        self._timeout = timeout
        self._answer = answer
        self._note = note
        self._jobs: deque[Recognize | FinishRecognition] = deque()
        self._at_work: Recognize | FinishRecognition | None = None
        self._is_closed = False
        self._given_up = 0
        self._timers: dict[int, Timer] = {}
        # Only the worker touches these, and there is never more than one job of this queue at work.
        self._hearing: Hearing | None = None
        self._listener: Listener | None = None
        self._utterance = 0
        self._took = 0.0
        self._problems: Sequence[EarProblem] = ()

    def feed(self, order: Recognize | FinishRecognition) -> None:
        if order.utterance <= self._given_up or self._is_closed:
            return
        if isinstance(order, FinishRecognition):
            self._timers[order.utterance] = self._clock.call_at(
                self._clock.monotonic() + self._timeout, lambda: self._time_out(order.utterance)
            )
        self._jobs.append(order)
        if len(self._jobs) > _MOST_JOBS:
            self._drop_oldest_audio()
        self._go_on()
        self._reckon()

    def close(self) -> None:
        """Hear nothing more."""
        self._is_closed = True
        self._jobs.clear()
        self.owes_an_answer = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _drop_oldest_audio(self) -> None:
        for at, job in enumerate(self._jobs):
            if isinstance(job, Recognize):
                del self._jobs[at]
                self._note("hearing.audio_dropped", utterance=job.utterance, bytes=len(job.pcm), waiting=_MOST_JOBS)
                return

    def _go_on(self) -> None:
        if self._at_work is not None or self._is_closed:
            return
        while self._jobs:
            job = self._jobs.popleft()
            if job.utterance > self._given_up:
                self._at_work = job
                self._crew.submit(partial(self._work, job), partial(self._done, job))
                return

    def _done(self, job: Recognize | FinishRecognition, outcome: Answer | BaseException | None) -> None:
        self._at_work = None
        utterance = job.utterance
        if self._is_closed:
            return
        if isinstance(outcome, BaseException):
            self._note("hearing.failed", utterance=utterance, message=_say(outcome))
            outcome = RecognitionFailed(utterance, FAILURE, f"Speech recognition failed: {_say(outcome)}")
        if isinstance(outcome, Transcribed):
            for problem in self._problems:
                self._note("hearing.ear_failed", utterance=utterance, ear=problem.ear, message=problem.message)
        if outcome is not None and utterance > self._given_up:
            self._settle(outcome)
        self._go_on()
        self._reckon()
        self._settled()

    def _settle(self, answer: Answer) -> None:
        if not isinstance(answer, PartlyHeard):
            timer = self._timers.pop(answer.utterance, None)
            if timer is not None:
                timer.cancel()
        if isinstance(answer, RecognitionFailed):
            self._given_up = max(self._given_up, answer.utterance)
        self._answer(answer)

    def _time_out(self, utterance: int) -> None:
        self._timers.pop(utterance, None)
        if utterance <= self._given_up:
            return
        message = f"Speech recognition gave no answer within {self._timeout:g} s."
        self._note("hearing.timed_out", utterance=utterance, timeout=self._timeout)
        self._settle(RecognitionFailed(utterance, FAILURE, message))
        self._reckon()
        self._settled()

    def _reckon(self) -> None:
        is_awaited = self._at_work is not None and self._is_awaited(self._at_work)
        self.owes_an_answer = (
            is_awaited or len(self._jobs) > _MOST_JOBS // 2 or any(self._is_awaited(job) for job in self._jobs)
        )

    def _is_awaited(self, job: Recognize | FinishRecognition) -> bool:
        return job.utterance > self._given_up and (isinstance(job, FinishRecognition) or job.wants_partial)

    # --- In the worker thread -------------------------------------------------------------------------------------

    def _get_hearing(self) -> Hearing:
        if self._hearing is None:
            self._hearing = self._make_hearing()
        return self._hearing

    def _work(self, job: Recognize | FinishRecognition) -> Answer | None:
        began = self._clock.monotonic()
        if self._listener is None or self._utterance != job.utterance:
            self._listener = self._get_hearing().open()
            self._utterance, self._took = job.utterance, 0.0
        heard: Transcript | None = None
        if isinstance(job, FinishRecognition):
            heard = self._listener.finish(job.speech_seconds, job.expected)
            self._problems = tuple(self._listener.problems)
            self._listener = None
        else:
            self._listener.accept(job.pcm)
            if job.wants_partial:
                heard = self._listener.partial(job.expected)
        self._took += self._clock.monotonic() - began
        if isinstance(job, FinishRecognition):
            return Transcribed(job.utterance, replace(heard or Transcript(""), took=round(self._took, 6)))
        return None if heard is None else PartlyHeard(job.utterance, heard)


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
