"""One listening server: in the running loop, in a thread, or as the whole process."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import uvicorn
from uvicorn.server import ServerState

from voisnap_mock.agents.script import DEFAULT_TENANT, AgentsFile
from voisnap_mock.app import App
from voisnap_mock.clock import Clock
from voisnap_mock.config import CallClock, Settings
from voisnap_mock.errors import ConfigError, MisuseError, PortTaken, VoisnapMockError
from voisnap_mock.signalr.uvicorn_ws import HubSocket, websocket_class

if TYPE_CHECKING:
    from voisnap_mock.testing.awaited import AwaitedHandset, AwaitedKeyboard
    from voisnap_mock.testing.handset import Handset
    from voisnap_mock.testing.keyboard import Keyboard
    from voisnap_mock.testing.mock import Agents, Faults, Mock, Terms

Result = TypeVar("Result")

INTERRUPTED_TWICE = 130
"""The exit code when a second signal did not want to wait."""

# Seconds for sessions and hubs to end in order, and then for each further step; together less than the 2 s promised.
_FAREWELLS = 1.0
_DRAIN = 0.3
_BACKLOG = 2048


class Server:
    """An `App` behind a socket, in the running loop.

    uvicorn's protocols do HTTP and WebSocket; its `Server` is left out: it polls, sleeps 0.2 s while it stops, takes
    the signals of the process and raises them again.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._state = ServerState()
        self._dating: asyncio.TimerHandle | None = None
        self.port = 0

    @property
    def host(self) -> str:
        """The host that clients on this machine use."""
        host = self.app.settings.host
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        return f"[{host}]" if ":" in host else host

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Bind, listen and answer.

        Raises:
            PortTaken: the address cannot be bound; the text names it and the way out.
            ConfigError: the host cannot be resolved.
        """
        settings = self.app.settings
        if settings.port_file is not None:
            # One from an earlier run would tell whoever waits for it the wrong port.
            _remove_port_file(settings.port_file)
        self._sockets = bind(settings.host, settings.port, origin=settings.origin("port"))
        self.port = self._sockets[0].getsockname()[1]
        config = uvicorn.Config(
            self.app,
            http="h11",
            ws=websocket_class(self.app.endpoints),
            lifespan="off",
            log_config=None,
            # At "info", uvicorn logs the path of every WebSocket with its query, tokens included.
            log_level="warning",
            access_log=False,
            # Compression costs two to three times the CPU and 90 kB for each call.
            ws_per_message_deflate=False,
            # SignalR has its own pings; a client that answers none of these must not be cut off.
            ws_ping_interval=None,
            proxy_headers=False,
            server_header=False,
        )
        config.load()
        loop = asyncio.get_running_loop()
        self._date()
        await self.app.start(self.base_url)
        for bound in self._sockets:
            server = await loop.create_server(
                lambda: config.http_protocol_class(config=config, server_state=self._state, app_state={}, _loop=loop),  # type: ignore[call-arg]
                sock=bound,
                backlog=_BACKLOG,
            )
            self._servers.append(server)
        if settings.port_file is not None:
            _write_port_file(settings.port_file, self.port)

    async def stop(self) -> None:
        """End all calls with `server_shutdown`, then every connection; takes less than 2 s whatever clients do."""
        for server in self._servers:
            server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.app.stop(), _FAREWELLS)
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=_DRAIN)
        for connection in list(self._state.connections):
            if isinstance(connection, HubSocket):
                connection.abort()
            else:
                connection.transport.abort()
        for task in tuple(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=_DRAIN)
        if self._dating is not None:
            self._dating.cancel()
        for bound in self._sockets:
            bound.close()

    def _date(self) -> None:
        """The `Date` header of all answers, made anew every second."""
        self._state.default_headers = [(b"date", formatdate(self.app.clock.wall(), usegmt=True).encode())]
        self._dating = asyncio.get_running_loop().call_later(1.0, self._date)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class MockServer:
    """A server in a thread of its own, for programs and tests that are not async.

        with MockServer() as server:
            client = connect(server.base_url)

    Each instance is a server of its own, on a free port unless the settings name one; any number run side by side.

    Args:
        clock: what moves call time, `real`, `4x` or `virtual`, over the settings' own; or where time comes from.
        agents: the path of an agents file, or one that was read already; None is the built-in agents.
        settings: further settings; `agents` goes over them.
        watch: follow the agents file while running.
        report: told of reloads and faulty edits, in the server's thread.

    Raises:
        ConfigError: a setting, the agents file or a speech model cannot be used.
    """

    def __init__(
        self,
        agents: str | Path | AgentsFile | None = None,
        *,
        settings: Settings | None = None,
        clock: CallClock | Clock | None = None,
        watch: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> None:
        file = agents if isinstance(agents, AgentsFile) else None
        chosen = settings or Settings(port=0)
        if isinstance(agents, str | Path):
            chosen = replace(chosen, agents=Path(agents))
        if isinstance(clock, str):
            chosen, clock = replace(chosen, clock=clock), None
        self.app = App(chosen, clock=clock, file=file, report=report)
        self._watch = watch
        self._server = Server(self.app)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None

    @property
    def base_url(self) -> str:
        """For example `http://127.0.0.1:40123`; once started."""
        return self._server.base_url

    @property
    def port(self) -> int:
        return self._server.port

    def start(self) -> Self:
        """Listen; returns when requests are answered.

        Raises:
            PortTaken: the address cannot be bound.
            MisuseError: it was started before.
        """
        if self._thread is not None:
            raise MisuseError("a MockServer is started once: make another one")
        listening = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="voisnap-mock", daemon=True)
        self._thread.start()
        listening.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def stop(self) -> None:
        """End calls and connections, and the thread. Stopping twice is stopping once."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None or loop is None or stopping is None:
            return
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(stopping.set)
        thread.join()

    def caller(
        self,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        voice: str = "en-us",
        tenant: str = DEFAULT_TENANT,
    ) -> Handset:
        """A reference caller on VoiceHub, a context manager: inside, the call is on.

        Raises:
            CallRefused: on entering, when the agent does not take the call.
        """
        from voisnap_mock.testing.handset import AsyncHandset, Handset

        handset = AsyncHandset(self.app, self.base_url, agent_id, metadata=metadata, voice=voice, tenant=tenant)
        return Handset(self, handset)

    def async_caller(
        self,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        voice: str = "en-us",
        tenant: str = DEFAULT_TENANT,
    ) -> AwaitedHandset:
        """The same for async programs, in an event loop of their own."""
        from voisnap_mock.testing.awaited import AwaitedHandset
        from voisnap_mock.testing.handset import AsyncHandset

        handset = AsyncHandset(self.app, self.base_url, agent_id, metadata=metadata, voice=voice, tenant=tenant)
        return AwaitedHandset(self, handset)

    def chat(
        self,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        language: str | None = None,
        user_name: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Keyboard:
        """A reference chat user on ChatHub, a context manager: inside, the chat is on.

        Raises:
            CallRefused: on entering, when the agent does not take the chat.
        """
        from voisnap_mock.testing.keyboard import AsyncKeyboard, Keyboard

        keyboard = AsyncKeyboard(
            self.app,
            self.base_url,
            agent_id,
            metadata=metadata,
            language=language,
            user_name=user_name,
            tenant=tenant,
        )
        return Keyboard(self, keyboard)

    def async_chat(
        self,
        agent_id: str,
        *,
        metadata: Mapping[str, object] | None = None,
        language: str | None = None,
        user_name: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> AwaitedKeyboard:
        """The same for async programs, in an event loop of their own."""
        from voisnap_mock.testing.awaited import AwaitedKeyboard
        from voisnap_mock.testing.keyboard import AsyncKeyboard

        keyboard = AsyncKeyboard(
            self.app,
            self.base_url,
            agent_id,
            metadata=metadata,
            language=language,
            user_name=user_name,
            tenant=tenant,
        )
        return AwaitedKeyboard(self, keyboard)

    def mock(
        self,
        agents: Agents | None = None,
        *,
        faults: Faults | None = None,
        seed: int | None = None,
        clock: CallClock | None = None,
        terms: Terms | None = None,
    ) -> Mock:
        """A tenant of its own on this server, as a test sees it: a context manager, also an async one.

        Args:
            agents: its agents file: a path, the text, or the same as a mapping; None is the server's.
            faults: rules that are armed from the start.
            seed, clock: its own; None is the server's.
            terms: what the test goes by; by default, names of files are relative to the working directory.
        """
        from voisnap_mock.testing.mock import Mock, Terms

        return Mock(self, agents, faults=faults, seed=seed, clock=clock, terms=terms or Terms())

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run `work` on the server's loop, from any other thread.

        Raises:
            MisuseError: the server does not run.
        """
        loop = self._loop
        if loop is None or loop.is_closed() or self._stopping is None or self._stopping.is_set():
            work.close()
            raise MisuseError("this server is not running: use it as a context manager, or start() it")
        return asyncio.run_coroutine_threadsafe(work, loop)

    def wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work` on the server's loop and return what it returns; not to be called from there."""
        __tracebackhide__ = True  # a failed test shows its own lines
        running = self.submit(work)
        try:
            return running.result()
        except VoisnapMockError as error:
            # It tells its reader what is wrong; the way through the server does not.
            raise error.with_traceback(None) from None
        except BaseException:
            # Ctrl-C, say: nobody waits any more.
            running.cancel()
            raise

    def _run(self, listening: threading.Event) -> None:
        try:
            asyncio.run(self._serve(listening))
        except BaseException as error:
            if listening.is_set():
                raise
            # Whatever it is, it is for whoever waits for the start.
            self._failure = error
        finally:
            listening.set()

    async def _serve(self, listening: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with self._server:
            if self._watch:
                self.app.watch()
            listening.set()
            await self._stopping.wait()

    def __enter__(self) -> Self:
        return self.start()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(app: App, *, on_ready: Callable[[Server], None], on_stopping: Callable[[], None] = lambda: None) -> int:
    """Be a server until SIGINT or SIGTERM; returns the exit code, which is 0.

    The first signal ends all calls with `server_shutdown` within 2 s; a second one ends the process at once with 130.

    Args:
        on_ready: called when requests are answered.
        on_stopping: called when the first signal came.

    Raises:
        PortTaken: the address cannot be bound.
    """
    app.when_warm = _set_memory_aside
    return run_server(app, _serve_until_signal(app, on_ready, on_stopping))


def run_server(app: App, work: Coroutine[Any, Any, int]) -> int:
    """Run `work`, which serves `app` as all that this process does; returns the exit code that it returns."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(work)
    if app.is_loading:
        # Native code is loading a speech model: the interpreter cannot end in order beside it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, with the extra `fast` installed; it holds some more calls per core."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _set_memory_aside() -> None:
    """Spare the garbage collector what is loaded for good: looking through it stops every call for 20 ms and more.

    Looking through what 300 calls hold takes as long, so that is done seldom, about once for 2,000 calls: a call that
    has ended leaves some 200 objects to it, 60 kB.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 20, 20)


async def _serve_until_signal(app: App, on_ready: Callable[[Server], None], on_stopping: Callable[[], None]) -> int:
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            sys.stdout.flush()
            os._exit(INTERRUPTED_TWICE)
        stopping.set()

    with stop_signals(on_signal):
        async with Server(app) as server:
            on_ready(server)
            app.warm_up()
            app.watch()
            await stopping.wait()
            on_stopping()
    return 0


@contextmanager
def stop_signals(on_signal: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call `on_signal` on the running loop meanwhile."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        try:
            loop.add_signal_handler(number, on_signal, number)
        except NotImplementedError:  # Windows has no other way
            signal.signal(number, lambda came, _: loop.call_soon_threadsafe(on_signal, signal.Signals(came)))
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def bind(host: str, port: int, *, origin: str = "--port") -> list[socket.socket]:
    """Sockets on every address of `host`, all on the same port; with port 0 on a free one.

    Raises:
        PortTaken: an address is in use, or not allowed.
        ConfigError: `host` is no name or address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host: {host!r} cannot be resolved: {error}") from error
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
    bound: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in addresses:
        try:
            bound.append(_listener(family, address, bound[0].getsockname()[1] if bound else port))
        except OSError as error:
            failure = error
            # "localhost" has an IPv6 address in tables of machines that have no IPv6.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    else:
        if bound:
            return bound
    for listener in bound:
        listener.close()
    assert failure is not None
    raise _bind_error(host, port, origin, failure) from failure


def _listener(family: int, address: tuple[Any, ...], port: int) -> socket.socket:
    # The protocol is named, not 0: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address[0], port, *address[2:]))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_error(host: str, port: int, origin: str, error: OSError) -> PortTaken | ConfigError:
    match error.errno:
        case errno.EADDRINUSE:
            return PortTaken(
                f"port {port} on {host} is taken ({origin}): stop the program that has it, or choose another with "
                "--port; --port 0 takes a free one"
            )
        case errno.EACCES | errno.EPERM:
            return PortTaken(f"port {port} on {host} is not allowed ({origin}): choose one above 1023 with --port")
        case errno.EADDRNOTAVAIL:
            return ConfigError(f"--host: {host} is no address of this machine; 127.0.0.1 is always one")
        case _:
            return PortTaken(f"port {port} on {host} cannot be bound ({origin}): {error.strerror}")


def _write_port_file(path: Path, port: int) -> None:
    """Put the whole file in place at once: whoever waits for it never reads half of it."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(f"{port}\n", encoding="ascii")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"--port-file: {path} cannot be written: {error.strerror}") from error


def _remove_port_file(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--port-file: {path} cannot be written: {error.strerror}") from error
