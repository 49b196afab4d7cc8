"""A client of a hub for tests: keeps every event in order, and waits for the ones a test names."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from voisnap_mock.agents.script import User
from voisnap_mock.clock import SystemClock
from voisnap_mock.journal import Journal, JournalEntry, JournalFilter
from voisnap_mock.server import MockServer, Server
from voisnap_mock.signalr import ConnectionClosed, HubClient, Transport

EVENTS = (
    "SessionStarted",
    "SessionEnded",
    "ConversationEnded",
    "Reconnected",
    "Transcription",
    "TranscriptionOf",
    "AudioReceived",
    "TransferInitiated",
    "Error",
    "MessageReceived",
    "TypingIndicator",
    "Custom",
)
PATIENCE = 15.0


AnyServer = MockServer | Server
ServerFactory = Callable[..., Awaitable[Server]]


def token_of(server: AnyServer, email: str = "dev@example.test", tenant: str = "ten_dev", **claims: Any) -> str:
    """A token as anybody may mint it."""
    return server.app.tokens.mint(User(email, "", tenant=tenant), server.app.clock.wall(), claims=claims)


class Wire:
    """A TCP relay to `server` that can be cut; a context manager."""

    def __init__(self, server: AnyServer) -> None:
        self._target = server.port
        self._ends: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.base_url = ""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks)

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def _relay(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        self._ends += [near, far]
        for reader, writer in ((near_reader, far), (far_reader, near)):
            self._tasks.append(asyncio.create_task(self._forward(reader, writer)))

    @staticmethod
    async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()


class HubCaller:
    """One connection to `/hubs/<hub>`.

    Attributes:
        hub: `voice` or `chat`.
        events: (target, payload) of all events so far; audio as bytes.
    """

    def __init__(
        self,
        server: AnyServer,
        hub: str,
        *,
        token: str | None = None,
        wire: Wire | None = None,
        transports: Sequence[Transport] = tuple(Transport),
        **query: str,
    ) -> None:
        self.hub = hub
        self.events: list[tuple[str, Any]] = []
        self._changed = asyncio.Condition()
        self._wire = wire
        base_url = server.base_url if wire is None else wire.base_url
        url = f"{base_url}/hubs/{hub}?{urlencode(query)}"
        access_token = token_of(server) if token is None else token
        self.client = HubClient(url, access_token=access_token, transports=transports)
        for target in EVENTS:
            self.client.on(target, self._keeper(target), *((bytes,) if target == "AudioReceived" else ()))

    def _keeper(self, target: str) -> Callable[[Any], Any]:
        async def keep(payload: Any) -> None:
            async with self._changed:
                self.events.append((target, payload))
                self._changed.notify_all()

        return keep

    async def wait_for(self, target: str, *, after: int = 0, **members: Any) -> Any:
        """The payload of the first event `target` from number `after` on whose members are as given."""

        def find() -> list[Any]:
            return [
                payload
                for name, payload in self.events[after:]
                if name == target and all(payload.get(member) == value for member, value in members.items())
            ]

        async def wait() -> Any:
            async with self._changed:
                await self._changed.wait_for(find)
            return find()[0]

        try:
            return await asyncio.wait_for(wait(), PATIENCE)
        except TimeoutError:
            raise AssertionError(f"no {target} {members} after event {after} came: {self.shown()}") from None

    def shown(self) -> list[tuple[str, Any]]:
        """The events without audio."""
        return [event for event in self.events if event[0] != "AudioReceived"]

    def targets(self) -> list[str]:
        """The names of the events, repetitions joined."""
        names = [target for target, _ in self.events]
        return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]

    async def invoke(self, target: str, *arguments: object) -> Any:
        return await asyncio.wait_for(self.client.invoke(target, *arguments), PATIENCE)

    async def speak(self, pcm: bytes, *, silence: float = 1.0, piece: int = 6400, is_paced: bool = False) -> None:
        """Send caller audio and then silence: at the pace of speech, or as fast as the server takes it."""
        pcm += bytes(int(silence * 50) * 640)
        clock = SystemClock()
        began = clock.monotonic()
        for at in range(0, len(pcm), piece):
            if is_paced:
                await clock.sleep_until(began + at / 32_000)
            await self.client.send("SendAudioAsync", base64.b64encode(pcm[at : at + piece]).decode())

    async def lose_connection(self) -> None:
        """Cut the TCP connection without a word; only for a caller that is connected by a `Wire`."""
        assert self._wire is not None
        self._wire.cut()
        with suppress(ConnectionClosed):
            await self.closed()

    async def closed(self) -> None:
        """Return when the server has closed with a Close message that does not invite back; raise otherwise."""
        await asyncio.wait_for(self.client.closed, PATIENCE)

    async def __aenter__(self) -> Self:
        await self.client.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.stop()


async def journaled(journal: Journal, **wanted: Any) -> JournalEntry:
    """The first entry that fits, there already or still to come."""
    with journal.subscribe(JournalFilter(**wanted)) as following:
        for entry in journal.entries(JournalFilter(**wanted)):
            return entry
        return await asyncio.wait_for(anext(following), PATIENCE)
