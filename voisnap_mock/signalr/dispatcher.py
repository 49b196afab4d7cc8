"""Dispatcher: what a client may call on one connection, and in which order it runs.

Invocations run one at a time (or as many as the options allow) in the order in which they came. One that never waits
runs inside the call that brought its message. Streams, in either direction, run beside them in tasks of their own.
Answers to what the server asked of the client are taken at once, so that a method may wait for one.

Source: Observed, ASP.NET Core 7 and later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

from voisnap_mock.signalr.binder import convert
from voisnap_mock.signalr.errors import BindingError, ConnectionClosed, HubError, HubException, LocalProtocolError
from voisnap_mock.signalr.hub import HubContext, HubMethod, MethodTable
from voisnap_mock.signalr.messages import (
    VOID,
    BindingFailure,
    CancelInvocation,
    Completion,
    HubMessage,
    Invocation,
    StreamInvocation,
    StreamItem,
)
from voisnap_mock.signalr.options import Notice, NoticeKind
from voisnap_mock.signalr.runner import Runner
from voisnap_mock.signalr.tasks import Tasks

METHOD_MISSING = "HubException: Method does not exist."
STREAM_FAILED = "An error occurred on the server while streaming results."


def refusal_text(target: str, detail: str | None) -> str:
    """The error of an invocation that never reached its method.

    Source: Observed.
    """
    return f"Failed to invoke '{target}' due to an error on the server." + (f" {detail}" if detail else "")


def failure_text(target: str, error: BaseException, *, detailed: bool) -> str:
    """The error of an invocation whose method raised.

    Source: Observed.
    """
    return _with_cause(f"An unexpected error occurred invoking '{target}' on the server.", error, detailed=detailed)


def _with_cause(text: str, error: BaseException, *, detailed: bool) -> str:
    if isinstance(error, HubException):
        return f"{text} HubException: {error.message}"
    return f"{text} {type(error).__name__}: {error}" if detailed else text


class Peer(Protocol):
    """What the dispatcher needs from its connection."""

    @property
    def context(self) -> HubContext: ...

    def send_message(self, message: HubMessage) -> None: ...

    async def drained(self) -> None:
        """Until the client has read enough for more to be sent."""
        ...

    def hold_reading(self, held: bool) -> None:
        """Stop or go on to read from the client."""
        ...

    def went_idle(self) -> None:
        """No invocation runs and none waits."""
        ...

    def connected_failed(self, error: BaseException) -> None:
        """`on_connected` raised."""
        ...


class Upload:
    """A stream that the client sends and a hub method reads."""

    CAPACITY = 10
    """Items that wait for the method before reading from the client stops; ASP.NET Core's StreamBufferCapacity."""

    def __init__(self, kind: Any, hold_reading: Callable[[bool], None]) -> None:
        self._kind = kind
        self._hold_reading = hold_reading
        self._items: deque[object] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self._holding = False

    def put(self, item: object) -> None:
        if self._ended:
            return
        try:
            self._items.append(convert(item, self._kind, "The stream item"))
        except BindingError as error:
            self.end(HubException(error.detail))
            return
        self._arrived.set()
        if len(self._items) > self.CAPACITY and not self._holding:
            self._holding = True
            self._hold_reading(True)

    def end(self, error: Exception | None = None) -> None:
        self._ended = True
        self._error = error
        self._arrived.set()

    def release(self) -> None:
        """The method is done with it."""
        self._ended = True
        self._items.clear()
        self._let_go()

    def _let_go(self) -> None:
        if self._holding:
            self._holding = False
            self._hold_reading(False)

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        while not self._items:
            self._let_go()
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        if len(self._items) <= self.CAPACITY // 2:
            self._let_go()
        return item


class Dispatcher:
    """Runs what a client calls on one connection.

    Args:
        tasks: owner of every task.
        notify: told of what fails.
        detailed: whether clients are shown exceptions.
        parallel: how many invocations may run at once.

    Attributes:
        running: how many invocations run now; streams do not count.
    """

    __slots__ = (
        "_accepting",
        "_context",
        "_detailed",
        "_draining",
        "_free",
        "_last_id",
        "_methods",
        "_notify",
        "_opening",
        "_parallel",
        "_peer",
        "_results",
        "_runners",
        "_streams",
        "_tasks",
        "_uploads",
        "_waiting",
        "running",
    )

    def __init__(
        self,
        peer: Peer,
        methods: MethodTable,
        *,
        tasks: Tasks,
        notify: Callable[[Notice], None],
        detailed: bool,
        parallel: int = 1,
    ) -> None:
        self._peer = peer
        self._context = peer.context
        self._methods = methods
        self._tasks = tasks
        self._notify = notify
        self._detailed = detailed
        self._parallel = parallel
        self._accepting = True
        self._opening = False
        self._draining = False
        self.running = 0
        # Made when first needed: most connections are idle or only ever run one short method at a time.
        self._runners: list[Runner[Invocation | None]] | None = None
        self._free: list[Runner[Invocation | None]] = []
        self._waiting: deque[HubMessage] | None = None
        self._streams: dict[str, asyncio.Task[None]] | None = None
        self._uploads: dict[str, Upload] | None = None
        self._results: dict[str, asyncio.Future[object]] | None = None
        self._last_id = 0

    def open(self, on_connected: Callable[[HubContext], Coroutine[Any, Any, None]]) -> None:
        """Run the hub's `on_connected`; messages wait until it is done."""
        self._opening = True
        self.running += 1
        self._runner().start(on_connected(self._context), None)

    def receive(self, message: HubMessage) -> None:
        """Take a message of the client: act on it now, or when its turn has come."""
        if self._results and type(message) is Completion and message.invocation_id in self._results:
            self._answered(message)
        elif not self._accepting:
            return
        elif self._waiting or self._opening or (self.running >= self._parallel and type(message) is Invocation):
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(message)
        elif type(message) is Invocation:
            self._invocation(message)
        else:
            self._handle(message)

    def stop_accepting(self) -> None:
        """Drop what waits and what comes, end streams; running methods go on."""
        self._accepting = False
        self._waiting = None
        for stream in list((self._streams or {}).values()):
            stream.cancel()

    def cancel(self) -> None:
        """The connection is over: stop what runs, unless it is what asked for this."""
        self.stop_accepting()
        for upload in (self._uploads or {}).values():
            upload.end(ConnectionClosed("the connection has ended"))
        for answer in (self._results or {}).values():
            if not answer.done():
                answer.set_exception(ConnectionClosed("the connection has ended"))
                answer.exception()
        runners, self._runners = self._runners, None
        for runner in runners or ():
            runner.cancel()

    async def ask(self, target: str, arguments: tuple[object, ...], kind: Any) -> object:
        """Call a method of the client and wait for its result.

        Raises:
            HubError: the client answered with an error, or with another type.
            ConnectionClosed: the connection ended before.
        """
        self._last_id += 1
        invocation_id = f"s{self._last_id}"
        if self._results is None:
            self._results = {}
        answer = self._results[invocation_id] = asyncio.get_running_loop().create_future()
        try:
            self._peer.send_message(Invocation(target, arguments, invocation_id))
            value = await answer
        finally:
            self._results.pop(invocation_id, None)
        try:
            return convert(value, kind, f"The result of '{target}'")
        except BindingError as error:
            raise HubError(error.detail) from error

    def _answered(self, completion: Completion) -> None:
        assert self._results is not None
        answer = self._results[completion.invocation_id]
        if answer.done():
            return
        if completion.error is not None:
            answer.set_exception(HubError(completion.error))
        else:
            answer.set_result(None if completion.result is VOID else completion.result)

    # --- one message

    def _handle(self, message: HubMessage) -> None:
        match message:
            case Invocation():
                self._invocation(message)
            case StreamItem():
                if self._uploads and (upload := self._uploads.get(message.invocation_id)) is not None:
                    upload.put(message.item)
            case Completion():
                if self._uploads and (upload := self._uploads.get(message.invocation_id)) is not None:
                    upload.end(None if message.error is None else HubException(message.error))
            case StreamInvocation():
                self._stream_invocation(message)
            case CancelInvocation():
                if self._streams and (stream := self._streams.get(message.invocation_id)) is not None:
                    stream.cancel()
            case BindingFailure():
                if message.target and self._methods.find(message.target) is None:
                    self._refuse(message.invocation_id, message.target, METHOD_MISSING)
                else:
                    shown = message.detail if self._detailed else None
                    self._refuse(message.invocation_id, message.target, shown, message.detail)
            case _:
                pass

    def _refuse(self, invocation_id: str | None, target: str, shown: str | None, detail: str | None = None) -> None:
        text = refusal_text(target, shown)
        self._refuse_with(invocation_id, text, refusal_text(target, detail) if detail else text)

    def _refuse_with(self, invocation_id: str | None, text: str, detail: str | None = None) -> None:
        self._notify(Notice(NoticeKind.INVOCATION_REFUSED, self._context.connection_id, detail or text))
        if invocation_id is not None:
            self._peer.send_message(Completion(invocation_id, error=text))

    def _invocation(self, message: Invocation) -> None:
        target = message.target
        method = self._methods.find(target)
        if method is None:
            self._refuse(message.invocation_id, target, METHOD_MISSING)
        elif method.is_stream:
            self._refuse_with(
                message.invocation_id,
                f"The client attempted to invoke the streaming '{target}' method with a non-streaming invocation.",
            )
        elif method.uploads or message.stream_ids:
            uploads = self._take_uploads(method, message)
            if uploads is not None:
                self._tasks.start(self._run_with_uploads(method, message, uploads))
        elif method.is_async:
            self.running += 1
            self._runner().start(method.call(self._context, *message.arguments), message)
        else:
            self.running += 1
            try:
                result = method.call(self._context, *message.arguments)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outermost frame of a hub method
                self._failed(message, error)
            else:
                self._completed(message, result)
            self._next()

    # --- invocations

    def _runner(self) -> Runner[Invocation | None]:
        if self._free:
            return self._free.pop()
        runner: Runner[Invocation | None] = Runner(self._tasks, self._done)
        if self._runners is None:
            self._runners = []
        self._runners.append(runner)
        return runner

    def _done(
        self,
        runner: Runner[Invocation | None],
        message: Invocation | None,
        result: object,
        error: BaseException | None,
    ) -> None:
        """A method has ended, within the call that brought its message or later."""
        self._free.append(runner)
        if message is None:
            self._opening = False
        if error is not None:
            self._failed(message, error)
        elif message is not None:
            self._completed(message, result)
        self._next()

    def _next(self) -> None:
        """A method has ended: the turn of those that wait, as many as may run."""
        self.running -= 1
        if self._draining:
            return
        if self._waiting:
            self._draining = True
            while self._waiting and (self.running < self._parallel or type(self._waiting[0]) is not Invocation):
                self._handle(self._waiting.popleft())
            self._draining = False
        if self.running == 0:
            self._peer.went_idle()

    def _completed(self, message: Invocation, result: object) -> None:
        if message.invocation_id is None:
            return
        try:
            self._peer.send_message(Completion(message.invocation_id, result))
        except LocalProtocolError as error:
            self._failed(message, error)

    def _failed(self, message: Invocation | StreamInvocation | None, error: BaseException) -> None:
        connection_id = self._context.connection_id
        if message is None:
            self._notify(Notice(NoticeKind.CALLBACK_FAILED, connection_id, "on_connected", error))
            self._peer.connected_failed(error)
            return
        if not isinstance(error, HubException):
            self._notify(Notice(NoticeKind.METHOD_FAILED, connection_id, message.target, error))
        if message.invocation_id is not None:
            if isinstance(message, StreamInvocation):
                text = _with_cause(STREAM_FAILED, error, detailed=self._detailed)
            else:
                text = failure_text(message.target, error, detailed=self._detailed)
            self._peer.send_message(Completion(message.invocation_id, error=text))

    # --- streams

    def _stream_invocation(self, message: StreamInvocation) -> None:
        target, invocation_id = message.target, message.invocation_id
        method = self._methods.find(target)
        if method is None:
            self._refuse(invocation_id, target, METHOD_MISSING)
        elif not method.is_stream:
            self._refuse_with(
                invocation_id,
                f"The client attempted to invoke the non-streaming '{target}' method with a streaming invocation.",
            )
        elif self._streams and invocation_id in self._streams:
            self._refuse_with(invocation_id, f"Invocation ID '{invocation_id}' is already in use.")
        else:
            uploads = self._take_uploads(method, message)
            if uploads is None:
                return
            if self._streams is None:
                self._streams = {}
            generator = method.call(self._context, *method.arguments(message.arguments, uploads))
            self._streams[invocation_id] = self._tasks.start(self._stream(generator, message))

    async def _stream(self, generator: AsyncGenerator[object, None], message: StreamInvocation) -> None:
        """Send a stream's items; a cancelled stream completes without an error."""
        invocation_id = message.invocation_id
        try:
            async with aclosing(generator):
                async for item in generator:
                    self._peer.send_message(StreamItem(invocation_id, item))
                    await self._peer.drained()
        except asyncio.CancelledError:
            if self._accepting:
                self._peer.send_message(Completion(invocation_id))
        except Exception as error:  # noqa: BLE001 - the outermost frame of a hub method
            self._failed(message, error)
        else:
            self._peer.send_message(Completion(invocation_id))
        finally:
            assert self._streams is not None
            self._streams.pop(invocation_id, None)
            self._drop_uploads(message.stream_ids)

    def _take_uploads(self, method: HubMethod, message: Invocation | StreamInvocation) -> list[Upload] | None:
        """The streams a call brings; None when they do not fit and the call was refused."""
        ids = message.stream_ids
        problem = ""
        if len(ids) != len(method.uploads):
            problem = f"Client sent {len(ids)} stream(s), Hub method expects {len(method.uploads)}."
        elif self._uploads and (used := [stream_id for stream_id in ids if stream_id in self._uploads]):
            problem = f"Stream ID '{used[0]}' is already in use."
        if problem:
            self._refuse_with(message.invocation_id, failure_text(message.target, HubException(problem), detailed=True))
            return None
        uploads = [Upload(kind, self._peer.hold_reading) for _, kind in method.uploads]
        if uploads:
            self._uploads = (self._uploads or {}) | dict(zip(ids, uploads, strict=True))
        return uploads

    def _drop_uploads(self, ids: tuple[str, ...]) -> None:
        for stream_id in ids:
            if self._uploads and (upload := self._uploads.pop(stream_id, None)) is not None:
                upload.release()

    async def _run_with_uploads(self, method: HubMethod, message: Invocation, uploads: list[Upload]) -> None:
        """A method that reads streams runs beside the others, or their items could never reach it."""
        try:
            result = method.call(self._context, *method.arguments(message.arguments, uploads))
            if method.is_async:
                result = await result
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame of a hub method
            self._failed(message, error)
        else:
            self._completed(message, result)
        finally:
            self._drop_uploads(message.stream_ids)
