"""The voice of one session: speech for its replies, made by tasks that the session owns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Protocol

from voisnap_mock.agents.script import Voice
from voisnap_mock.clock import Clock, Timer
from voisnap_mock.engine.events import Speech, SynthesisFailed, Synthesize, Synthesized
from voisnap_mock.engine.runner.crew import Crew
from voisnap_mock.errors import SpeechError

FAILURE = "LLM_PROVIDER_ERROR"
"""Source: Assumed; none of the documented codes is about speaking, and this is the one for an answer that failed."""


class Synthesizer(Protocol):
    """Makes speech; `audio.tts` holds the real ones."""

    def speak(self, text: str, voice: Voice) -> AsyncIterator[Speech]:
        """Speak `text`, piece by piece. Raises SpeechError when it cannot."""
        ...


class Prompts(Protocol):
    """Finds prompt recordings; `recordings.Recordings` is the real one."""

    def prompt(self, wav: str) -> Speech:
        """Blocks. Raises SpeechError when there is no such prompt or it is no WAV file."""
        ...


class VoiceDesk:
    """Carries out `Synthesize` and `AbandonSynthesis`: each item of a reply is a task that answers piece by piece.

    A voice that gives no piece for `timeout` seconds is given up with `SynthesisFailed`.

    Args:
        start_task: starts a task and owns it.
        answer: takes each piece, then an empty one marked as the last.
        note: journals what no machine needs to know.
        settled: called whenever speech is done and its answer taken.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        prompts: Prompts,
        *,
        start_task: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        crew: Crew,
        clock: Clock,
        timeout: float,
        answer: Callable[[Synthesized | SynthesisFailed], None],
        note: Callable[..., object],
        settled: Callable[[], None],
    ) -> None:
        self._settled = settled
        self._synthesizer = synthesizer
        self._prompts = prompts
        self._start_task = start_task
        self._crew = crew
        self._clock = clock
        self._timeout = timeout
        self._answer = answer
        self._note = note
        self._tasks: dict[asyncio.Task[None], int] = {}

    @property
    def owes_an_answer(self) -> bool:
        """Some speech is still being made."""
        return bool(self._tasks)

    def make(self, order: Synthesize) -> None:
        task = self._start_task(self._make(order))
        self._tasks[task] = order.reply
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def abandon(self, reply: int) -> None:
        """Nobody will hear this reply."""
        for task, number in list(self._tasks.items()):
            if number == reply:
                del self._tasks[task]
                task.cancel()

    def close(self) -> None:
        """Make no more speech."""
        for task in list(self._tasks):
            task.cancel()
        self._tasks.clear()

    async def _make(self, order: Synthesize) -> None:
        """The outermost frame of a task: whatever happens in it becomes an answer."""
        failure: str | None = None
        try:
            await self._speak(order)
        except TimeoutError:
            failure = f"The voice gave nothing for {self._timeout:g} s."
        except SpeechError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - the outermost frame of a task
            failure = f"{type(error).__name__}: {error}"
        task = asyncio.current_task()
        if task is None or self._tasks.pop(task, None) is None:
            return
        if failure is None:
            self._answer(Synthesized(order.reply, order.item, Speech(b""), is_last=True))
        else:
            self._note("speech.failed", text=order.text, wav=order.wav, message=failure)
            self._answer(SynthesisFailed(order.reply, order.item, FAILURE, failure))
        self._settled()

    async def _speak(self, order: Synthesize) -> None:
        patience = _Patience(self._clock, self._timeout)
        with patience:
            mark = _marker(order)
            if order.wav is not None:
                self._give(order, await self._prompt(order.wav, mark))
                return
            async for speech in self._synthesizer.speak(order.text, order.voice):
                self._give(order, mark(speech))
                patience.renew()

    def _give(self, order: Synthesize, speech: Speech) -> None:
        if asyncio.current_task() in self._tasks:
            self._answer(Synthesized(order.reply, order.item, speech, is_last=False))

    async def _prompt(self, wav: str, mark: Callable[[Speech], Speech]) -> Speech:
        found: asyncio.Future[Speech] = asyncio.get_running_loop().create_future()

        def done(outcome: Speech | BaseException) -> None:
            if found.done():
                return
            if isinstance(outcome, BaseException):
                found.set_exception(outcome)
            else:
                found.set_result(outcome)

        self._crew.submit(lambda: mark(self._prompts.prompt(wav)), done)
        return await found


def _marker(order: Synthesize) -> Callable[[Speech], Speech]:
    """What puts marks into the speech of an item, if its voice is to be marked."""
    if not order.voice.marked:
        return lambda speech: speech
    # Loads numpy, which only such agents need here.
    from voisnap_mock.audio.marking import AgentMarker

    return AgentMarker(order.text, reply=order.reply, item=order.item).mark


class _Patience:
    """Like `asyncio.timeout`, but on our clock: raises TimeoutError in the task that entered it."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._task = asyncio.current_task()
        self._timer: Timer | None = None
        self._is_up = False

    def renew(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at(self._clock.monotonic() + self._seconds, self._run_out)

    def _run_out(self) -> None:
        assert self._task is not None
        self._is_up = True
        self._task.cancel()

    def __enter__(self) -> None:
        self.renew()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._is_up and kind is asyncio.CancelledError:
            assert self._task is not None
            self._task.uncancel()
            raise TimeoutError from error
