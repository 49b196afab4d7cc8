"""Dispatcher: hub methods of one connection, one at a time, in the order in which they were called.

A method that never waits runs inside the call that brought its message: no task, no queue. One that waits is taken
over, where it stands, by the connection's one worker task; what arrives meanwhile waits its turn.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import _enter_task, _leave_task, current_task  # documented in asyncio's "Extending"
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

from voisnap_mock.signalr.errors import HubException, LocalProtocolError
from voisnap_mock.signalr.hub import HubContext, HubMethod, MethodTable
from voisnap_mock.signalr.messages import BindingFailure, Completion, HubMessage, Invocation
from voisnap_mock.signalr.options import Notice, NoticeKind
from voisnap_mock.signalr.tasks import Tasks

METHOD_MISSING = "HubException: Method does not exist."


def refusal_text(target: str, detail: str | None) -> str:
    """The error of an invocation that never reached its method.

    Source: Observed.
    """
    return f"Failed to invoke '{target}' due to an error on the server." + (f" {detail}" if detail else "")


def failure_text(target: str, error: BaseException, *, detailed: bool) -> str:
    """The error of an invocation whose method raised.

    Source: Observed.
    """
    text = f"An unexpected error occurred invoking '{target}' on the server."
    if isinstance(error, HubException):
        return f"{text} HubException: {error.message}"
    return f"{text} {type(error).__name__}: {error}" if detailed else text


class Peer(Protocol):
    """What the dispatcher needs from its connection."""

    @property
    def context(self) -> HubContext: ...

    def send_message(self, message: HubMessage) -> None: ...

    def went_idle(self) -> None:
        """Nothing is running and nothing waits any more."""
        ...

    def connected_failed(self, error: BaseException) -> None:
        """`on_connected` raised."""
        ...


class Dispatcher:
    """Runs the invocations of one connection.

    Args:
        tasks: owner of the worker task.
        notify: told of what fails.
        detailed: whether clients are shown exceptions.
    """

    __slots__ = (
        "_accepting",
        "_busy",
        "_context",
        "_detailed",
        "_draining",
        "_handoff",
        "_loop",
        "_methods",
        "_notify",
        "_peer",
        "_suspended",
        "_tasks",
        "_waiting",
        "_worker",
    )

    def __init__(
        self, peer: Peer, methods: MethodTable, *, tasks: Tasks, notify: Callable[[Notice], None], detailed: bool
    ) -> None:
        self._peer = peer
        self._context = peer.context
        self._methods = methods
        self._tasks = tasks
        self._notify = notify
        self._detailed = detailed
        self._loop = asyncio.get_running_loop()
        self._accepting = True
        self._busy = False
        self._draining = False
        self._waiting: deque[HubMessage] | None = None
        self._suspended: tuple[Coroutine[Any, Any, Any], Any, Invocation | None] | None = None
        self._handoff: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return not self._busy

    @property
    def waiting(self) -> int:
        """How many messages wait their turn."""
        return len(self._waiting) if self._waiting else 0

    def open(self, on_connected: Callable[[HubContext], Coroutine[Any, Any, None]]) -> None:
        """Run the hub's `on_connected`; messages wait until it is done."""
        self._busy = True
        self._run(on_connected(self._context), None)

    def receive(self, message: HubMessage) -> None:
        """Take a message of the client: run its method now, or when its turn has come."""
        if not self._accepting:
            return
        if self._busy:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(message)
            return
        self._handle(message)

    def stop_accepting(self) -> None:
        """Drop what waits and what comes; the running method goes on."""
        self._accepting = False
        self._waiting = None

    def cancel(self) -> None:
        """The connection is over: stop the running method, unless it is the one that asked for this."""
        self.stop_accepting()
        worker, self._worker = self._worker, None
        if worker is None or (self._suspended is not None and current_task() is worker):
            return
        worker.cancel()
        if self._suspended is not None and self._handoff is None:
            # The worker has not taken its first step, and now never will.
            self._discard()

    # --- one message

    def _handle(self, message: HubMessage) -> None:
        match message:
            case Invocation():
                method = self._methods.find(message.target)
                if method is None:
                    self._refuse(message.invocation_id, message.target, METHOD_MISSING)
                else:
                    self._invoke(method, message)
            case BindingFailure():
                if message.target and self._methods.find(message.target) is None:
                    self._refuse(message.invocation_id, message.target, METHOD_MISSING)
                else:
                    self._refuse(
                        message.invocation_id,
                        message.target,
                        message.detail if self._detailed else None,
                        message.detail,
                    )
            case _:
                pass

    def _refuse(self, invocation_id: str | None, target: str, shown: str | None, detail: str | None = None) -> None:
        text = refusal_text(target, shown)
        self._notify(
            Notice(
                NoticeKind.INVOCATION_REFUSED,
                self._context.connection_id,
                refusal_text(target, detail) if detail else text,
            )
        )
        if invocation_id is not None:
            self._peer.send_message(Completion(invocation_id, error=text))

    def _invoke(self, method: HubMethod, message: Invocation) -> None:
        self._busy = True
        if method.is_async:
            self._run(method.call(self._context, *message.arguments), message)
            return
        try:
            result = method.call(self._context, *message.arguments)
        except Exception as error:  # noqa: BLE001 - the outermost frame of a hub method
            self._failed(message, error)
        else:
            self._completed(message, result)
        self._free()

    def _run(self, coroutine: Coroutine[Any, Any, Any], message: Invocation | None) -> None:
        """Run a coroutine as far as it goes without waiting, as if it were in the worker task."""
        worker = self._worker
        if worker is None:
            worker = self._worker = self._tasks.start(self._work())
        loop = self._loop
        outer = current_task(loop)
        elsewhere = outer is not worker
        if elsewhere:
            if outer is not None:
                _leave_task(loop, outer)
            _enter_task(loop, worker)
        try:
            waits_for = coroutine.send(None)
        except StopIteration as stop:
            self._completed(message, stop.value)
        except Exception as error:  # noqa: BLE001 - the outermost frame of a hub method
            self._failed(message, error)
        else:
            self._suspended = (coroutine, waits_for, message)
            if self._worker is not worker:
                self._discard()
            elif self._handoff is not None and not self._handoff.done():
                self._handoff.set_result(None)
            return
        finally:
            if elsewhere:
                _leave_task(loop, worker)
                if outer is not None:
                    _enter_task(loop, outer)
        self._free()

    async def _work(self) -> None:
        """The worker: finishes what had to wait, then what waited behind it."""
        task = asyncio.current_task()
        try:
            while self._worker is task:
                self._handoff = self._loop.create_future()
                if self._suspended is None:
                    await self._handoff
                assert self._suspended is not None
                coroutine, waits_for, message = self._suspended
                try:
                    result = await _go_on(coroutine, waits_for)
                except asyncio.CancelledError as error:
                    if self._worker is not task:
                        raise
                    self._failed(message, error)
                except Exception as error:  # noqa: BLE001 - the outermost frame of a hub method
                    self._failed(message, error)
                else:
                    self._completed(message, result)
                self._suspended = None
                self._free()
        finally:
            self._discard()

    def _discard(self) -> None:
        """End a method that waits for something it will never get."""
        if self._suspended is None:
            return
        coroutine, _, message = self._suspended
        self._suspended = None
        try:
            coroutine.close()
        except RuntimeError as error:
            # It awaited while it was being closed.
            self._failed(message, error)

    def _free(self) -> None:
        """The running method has ended: the next one's turn, until one has to wait."""
        self._busy = False
        if self._draining:
            return
        if self._waiting:
            self._draining = True
            while self._waiting and not self._busy:
                self._handle(self._waiting.popleft())
            self._draining = False
        if not self._busy:
            self._peer.went_idle()

    def _completed(self, message: Invocation | None, result: object) -> None:
        if message is None or message.invocation_id is None:
            return
        try:
            self._peer.send_message(Completion(message.invocation_id, result))
        except LocalProtocolError as error:
            self._failed(message, error)

    def _failed(self, message: Invocation | None, error: BaseException) -> None:
        connection_id = self._context.connection_id
        if message is None:
            self._notify(Notice(NoticeKind.CALLBACK_FAILED, connection_id, "on_connected", error))
            self._peer.connected_failed(error)
            return
        if not isinstance(error, HubException):
            self._notify(Notice(NoticeKind.METHOD_FAILED, connection_id, message.target, error))
        if message.invocation_id is not None:
            text = failure_text(message.target, error, detailed=self._detailed)
            self._peer.send_message(Completion(message.invocation_id, error=text))


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine whose first step has been taken and which waits for `waits_for`."""
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 - handed on to the coroutine, as `yield from` does
            try:
                waits_for = coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            try:
                waits_for = coroutine.send(sent)
            except StopIteration as stop:
                return stop.value
