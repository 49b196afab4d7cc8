"""Espeak in its worker process, as seen from the event loop: requests go in, speech comes out.

`EspeakService` keeps one worker running and everything it was asked for in order. A request always gets finished: when
the worker dies or freezes, it is replaced and the request made again, once; a request that still fails, or that no
worker can be had for, is marked `failed`, and who made it finds another way to speak.

    no process --start, or a request--> starting --{"ready"}--> ready --killed, frozen--> no process
                                           |
                                           +--{"problem"}, or died twice--> unavailable (for good, or for a while)
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from voisnap_mock.audio.espeak_worker import Message, MessageReader, encode
from voisnap_mock.engine.events import Speech, Word

logger = logging.getLogger(__name__)

CLOSED = "the speech service is closed"
"""Why a request failed that came, or was on its way, when the service was closed."""

# The worker begins with the next request while the answer to the last one is on its way.
_IN_FLIGHT = 2
_ATTEMPTS = 2
# After a failure that may pass, such as a start that took too long.
_PAUSE_AFTER_FAILED_STARTS = 30.0
# An event loop that was held up finds its timers due before it sees what has come in meanwhile.
_SECOND_LOOK = 0.05
_GOODBYE = 0.5


@dataclass(frozen=True, slots=True)
class SpeechKey:
    """What decides how a piece of text sounds.

    Attributes:
        voice: espeak's own name for it.
        rate: words per minute.
        sample_rate: of the speech, in Hz.
    """

    piece: str
    voice: str
    rate: int
    volume: float
    sample_rate: int


def worker_command() -> list[str]:
    """What to run."""
    return [sys.executable, "-P", "-m", "voisnap_mock.audio.espeak_worker"]


def worker_environment() -> dict[str, str]:
    """The worker finds the modules that this process finds, none that happen to lie in the current folder, and does
    its sums in one thread, since it forks."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    search_path = os.pathsep.join(entry for entry in sys.path if entry)
    return inherited | {"PYTHONPATH": search_path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class SpeechRequest:
    """A piece on its way, growing.

    Attributes:
        parts: the speech so far, in order; parts are whole 20 ms frames and whole words.
        done: nothing more will come.
        failed: why the piece is not complete, once `done`.
        attempts: how many have failed.
    """

    def __init__(self, key: SpeechKey, on_done: Callable[[SpeechRequest], None]) -> None:
        self.key = key
        self.parts: list[Speech] = []
        self.done = False
        self.failed: str | None = None
        self.attempts = 0
        self._on_done = on_done
        self._came = 0  # Parts that came in this attempt.
        self._waiting: list[asyncio.Future[None]] = []

    async def progress(self) -> None:
        """Return when there are more parts, or at the end."""
        if self.done:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def restart(self) -> None:
        """Begin another attempt."""
        self._came = 0

    def add(self, speech: Speech) -> None:
        """Take the next part; one that an earlier attempt already gave is dropped."""
        self._came += 1
        if self._came > len(self.parts):
            self.parts.append(speech)
            self._wake()

    def finish(self, failed: str | None = None) -> None:
        """Nothing more will come."""
        self.done = True
        self.failed = failed
        self._on_done(self)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class _Worker(asyncio.SubprocessProtocol):
    """The wires to one process."""

    def __init__(
        self, on_message: Callable[[_Worker, Message, bytes], None], on_lost: Callable[[_Worker], None]
    ) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._messages = MessageReader()
        self._transport: asyncio.SubprocessTransport | None = None
        self._stderr = bytearray()
        self.ready = False
        self.answered = False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            for message, audio in self._messages.push(data):
                self._on_message(self, message, audio)
        else:
            self._stderr = (self._stderr + data)[-2000:]
            logger.debug("the speech worker says: %s", data.decode(errors="replace").rstrip())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport.close()
        if not self.gone.done():
            self.gone.set_result(None)
        self._on_lost(self)

    @property
    def pid(self) -> int | None:
        return self._transport.get_pid() if self._transport is not None else None

    @property
    def last_words(self) -> str:
        """The last line it wrote to its standard error, and how it ended."""
        code = self._transport.get_returncode() if self._transport is not None else None
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        return f"exit status {code}" + (f": {lines[-1]}" if lines else "")

    def send(self, message: Message) -> None:
        if self._transport is not None and (pipe := self._transport.get_pipe_transport(0)) is not None:
            cast(asyncio.WriteTransport, pipe).write(encode(message))

    def dismiss(self) -> None:
        """Close its input, at which it ends by itself."""
        if self._transport is not None and (pipe := self._transport.get_pipe_transport(0)) is not None:
            pipe.close()

    def kill(self) -> None:
        """End it and its fork."""
        if self._transport is None or self._transport.get_returncode() is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._transport.kill()
            else:
                # It leads a process group of its own.
                os.killpg(self._transport.get_pid(), signal.SIGKILL)


class EspeakService:
    """One worker process, replaced when it fails, and the requests to it. Lives in one event loop.

    Args:
        answer_within: seconds without progress after which a worker with something to do counts as frozen.
        start_within: the same for its start.
        command: what to run as worker.
    """

    def __init__(
        self,
        *,
        answer_within: float = 1.0,
        start_within: float = 15.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self._command = command or worker_command()
        self._answer_within = answer_within
        self._start_within = start_within
        self._queue: deque[SpeechRequest] = deque()
        self._in_flight: deque[SpeechRequest] = deque()
        self._worker: _Worker | None = None
        self._starting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._looked_once = False
        self._engine: str | None = None
        self._failed_starts = 0
        self._problem: str | None = None
        self._try_again_at: float | None = None
        self._closed = False
        self._settled = asyncio.Event()

    @property
    def engine(self) -> str | None:
        """What speaks, once a worker has said so: `espeak-ng 1.52.0 via pyttsx3`."""
        return self._engine

    @property
    def problem(self) -> str | None:
        """Why there is no espeak; None while there is, or may be."""
        return self._problem

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, when there is one."""
        return self._worker.pid if self._worker is not None else None

    def start(self) -> None:
        """Begin to start a worker, so that the first request need not wait for that."""
        if self._worker is None and self._starting is None and not self._closed:
            self._starting = asyncio.get_running_loop().create_task(self._spawn(), name="start the speech worker")

    async def settled(self) -> None:
        """Return when a worker is ready, or it is certain that there will be none."""
        await self._settled.wait()

    def ask(self, key: SpeechKey, on_done: Callable[[SpeechRequest], None]) -> SpeechRequest:
        """Have a piece spoken, after all that were asked for before it; `on_done` is called when it is done."""
        request = SpeechRequest(key, on_done)
        if self._closed:
            request.finish(CLOSED)
        elif self._problem is not None and not self._may_try_again():
            request.finish(self._problem)
        else:
            self._queue.append(request)
            self._pump()
        return request

    async def close(self) -> None:
        """End the worker and fail what is not finished."""
        self._closed = True
        self._stop_watching()
        if self._starting is not None:
            # Not cancelled: a process that is half started would be lost.
            await asyncio.wait([self._starting])
        worker = self._worker
        if worker is not None:
            if worker.ready:
                worker.dismiss()
            else:
                # One that still starts would not see for long that nobody wants it.
                worker.kill()
            try:
                await asyncio.wait_for(asyncio.shield(worker.gone), _GOODBYE)
            except TimeoutError:
                worker.kill()
                await worker.gone
        self._fail_all(CLOSED)
        self._settled.set()

    # --- the worker -------------------------------------------------------------------------------------------

    async def _spawn(self) -> None:
        worker = _Worker(self._heard, self._lost)
        self._worker = worker
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: worker,
                *self._command,
                env=worker_environment(),
                # Neither Ctrl-C nor a signal to the server's group is for the worker: it ends when its input does.
                start_new_session=True,
            )
        except (OSError, NotImplementedError, ValueError) as error:
            self._worker = None
            self._give_up(f"the speech worker cannot be started with {self._command[0]!r}: {error}")
        self._starting = None
        if self._worker is worker and not worker.ready:
            self._watch_for(self._start_within)
        elif self._worker is None and not self._closed:
            self._pump()

    def _heard(self, worker: _Worker, message: Message, audio: bytes) -> None:
        if worker is not self._worker or self._closed:
            return
        if "engine" in message:
            self._engine = message["engine"]
        elif "problem" in message:
            self._give_up(message["problem"])
        elif "ready" in message:
            worker.ready = True
            self._failed_starts = 0
            self._settled.set()
        elif self._in_flight:
            worker.answered = True
            self._take_answer(self._in_flight[0], message, audio)
        self._pump()
        if worker.ready:
            self._watch_for(self._patience() if self._in_flight else None)

    def _take_answer(self, request: SpeechRequest, message: Message, audio: bytes) -> None:
        if "error" in message:
            self._in_flight.popleft()
            request.finish(message["error"])
            return
        request.add(Speech(audio, tuple(Word(text, begin, end) for text, begin, end in message["words"])))
        if message["is_last"]:
            self._in_flight.popleft()
            request.finish()

    def _lost(self, worker: _Worker) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        self._stop_watching()
        if self._closed:
            return
        # Only the first in line can be what it died of; the others are simply asked again.
        if self._in_flight:
            first = self._in_flight[0]
            first.attempts += 1
            if first.attempts >= _ATTEMPTS:
                self._in_flight.popleft()
                first.finish(f"the speech worker failed twice ({worker.last_words}) at {first.key.piece[:60]!r}")
        for request in reversed(self._in_flight):
            request.restart()
            self._queue.appendleft(request)
        self._in_flight.clear()
        if self._problem is not None:
            return
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _ATTEMPTS:
                self._give_up(f"the speech worker does not start ({worker.last_words})", for_good=False)
                return
        # One that ended before it did anything is not replaced until there is something to do.
        replace = bool(self._queue) or worker.answered
        logger.warning("the speech worker ended (%s)%s", worker.last_words, "; a new one is started" if replace else "")
        if replace:
            self.start()

    def _give_up(self, problem: str, *, for_good: bool = True) -> None:
        self._problem = problem
        again_in = None if for_good else _PAUSE_AFTER_FAILED_STARTS
        self._try_again_at = None if again_in is None else asyncio.get_running_loop().time() + again_in
        self._fail_all(problem)
        self._settled.set()

    def _may_try_again(self) -> bool:
        if self._try_again_at is None or asyncio.get_running_loop().time() < self._try_again_at:
            return False
        self._problem = self._try_again_at = None
        self._failed_starts = 0
        return True

    def _fail_all(self, problem: str) -> None:
        for request in [*self._in_flight, *self._queue]:
            request.finish(problem)
        self._in_flight.clear()
        self._queue.clear()

    def _pump(self) -> None:
        if self._worker is None:
            if self._queue:
                self.start()
            return
        if not self._worker.ready:
            return
        idle = not self._in_flight
        while self._queue and len(self._in_flight) < _IN_FLIGHT:
            request = self._queue.popleft()
            self._in_flight.append(request)
            key = request.key
            self._worker.send(
                {
                    "piece": key.piece,
                    "voice": key.voice,
                    "rate": key.rate,
                    "volume": key.volume,
                    "sample_rate": key.sample_rate,
                }
            )
        if idle and self._in_flight:
            self._watch_for(self._patience())

    # --- freezing ---------------------------------------------------------------------------------------------

    def _patience(self) -> float:
        # A machine that was too busy once may be so again.
        return self._answer_within * (3 if self._in_flight[0].attempts else 1)

    def _watch_for(self, seconds: float | None) -> None:
        self._stop_watching()
        self._looked_once = False
        if seconds is not None:
            self._watch = asyncio.get_running_loop().call_later(seconds, self._nothing_came)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _nothing_came(self) -> None:
        if not self._looked_once:
            self._looked_once = True
            self._watch = asyncio.get_running_loop().call_later(_SECOND_LOOK, self._nothing_came)
            return
        if self._worker is not None:
            logger.warning("the speech worker (process %s) gives no answer and is killed", self._worker.pid)
            self._worker.kill()
