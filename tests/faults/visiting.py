"""A tenant of its own on a running server, and clients that tell what happened to them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from hub_caller import token_of

from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.clock import SystemClock
from voisnap_mock.journal import JournalEntry
from voisnap_mock.server import MockServer
from voisnap_mock.signalr import ConnectionClosed, ConnectionLimits, HubClient, HubError, SignalRError
from voisnap_mock.tenancy import Enrolment, Wishes

PATIENCE = 0.3
"""Real seconds after which a client gives up waiting; on a virtual clock whatever comes has come long before."""

LOUD = b"".join(
    (round(12_000 * (1 if at // 40 % 2 else -1) * (0.3 + at % 4000 / 6000))).to_bytes(2, "little", signed=True)
    for at in range(8_000)
)
"""Half a second of a buzz: speech to whoever listens only for activity."""

_EVENTS = (
    "SessionStarted",
    "SessionEnded",
    "ConversationEnded",
    "Reconnected",
    "Transcription",
    "TranscriptionOf",
    "AudioReceived",
    "Error",
    "MessageReceived",
    "TypingIndicator",
    "SdpAnswerReceived",
    "IceCandidateReceived",
)


class Visitor:
    """One connection of a client that gives up after `PATIENCE`.

    Attributes:
        refused: what ended the start, when it failed.
        events: (name, payload) of what came.
        answers: (method, outcome) of what was called: `ok`, `no answer`, `lost`, or the text of the error.
        took: seconds of real time that the start took.

    Args:
        timeout: seconds of silence after which it takes the server for dead.
    """

    def __init__(self, url: str, *, token: str, timeout: float, **options: Any) -> None:
        limits = ConnectionLimits(handshake_timeout=PATIENCE, keep_alive=5, timeout=timeout, max_message_bytes=None)
        self.client = HubClient(url, access_token=token, limits=limits, **options)
        self.refused: Exception | None = None
        self.events: list[tuple[str, Any]] = []
        self.answers: list[tuple[str, str]] = []
        self.took = 0.0
        self._changed = asyncio.Event()
        for target in _EVENTS:
            self.client.on(target, self._keeper(target))

    def _keeper(self, target: str) -> Callable[[Any], None]:
        def keep(payload: Any) -> None:
            self.events.append((target, payload))
            self._changed.set()

        return keep

    async def start(self) -> bool:
        clock = SystemClock()
        began = clock.monotonic()
        try:
            await asyncio.wait_for(self.client.start(), 2 * PATIENCE)
        except (SignalRError, OSError, TimeoutError) as error:
            self.refused = error
        self.took = clock.monotonic() - began
        return self.refused is None

    async def sees(self, target: str, *, times: int = 1, **members: Any) -> bool:
        """Whether so many such events come, or have come."""

        def has_come() -> bool:
            fitting = [
                payload
                for name, payload in self.events
                if name == target and all(isinstance(payload, dict) and payload.get(k) == v for k, v in members.items())
            ]
            return len(fitting) >= times

        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not has_come() and self.client.is_open:
                    self._changed.clear()
                    await self._changed.wait()
        return has_come()

    async def call(self, method: str, *arguments: object, patience: float = PATIENCE) -> None:
        try:
            await asyncio.wait_for(self.client.invoke(method, *arguments), patience)
            outcome = "ok"
        except TimeoutError:
            outcome = "no answer"
        except HubError as error:
            outcome = str(error)
        except ConnectionClosed:
            outcome = "lost"
        self.answers.append((method, outcome))

    async def send_audio(self, pcm: bytes) -> None:
        with suppress(ConnectionClosed, HubError):
            for at in range(0, len(pcm), 6400):
                await self.client.send("SendAudioAsync", base64.b64encode(pcm[at : at + 6400]).decode())

    async def outcome(self) -> str:
        """How the connection ended: `ended` in order, `reset`, `closed` without a Close, `silent`, else why."""
        if self.refused is not None:
            return f"refused: {self.refused}"
        try:
            await asyncio.wait_for(self.client.closed, 3 * PATIENCE)
        except TimeoutError:
            return "open"
        except ConnectionClosed as error:
            text = str(error)
            if "reset" in text:
                return "reset"
            if "Server timeout" in text:
                return "silent"
            return "closed" if "without a Close" in text else text
        return "ended"

    def names(self) -> list[str]:
        """Of all events in their order, without audio; repetitions stay."""
        return [name for name, _ in self.events if name != "AudioReceived"]

    def of(self, target: str) -> list[Any]:
        return [payload for name, payload in self.events if name == target]

    def finals(self) -> list[str]:
        """What the agent of a chat has said."""
        return [payload["content"] for payload in self.of("MessageReceived") if payload.get("isFinal")]


class Visit:
    """What one test has: a tenant, its clients, its journal.

    Attributes:
        server_timeout: of clients to come.
    """

    def __init__(self, server: MockServer, enrolment: Enrolment) -> None:
        self.server = server
        self.tenant = enrolment.tenant
        self.enrolment = enrolment
        self.token = token_of(server, enrolment.user.email, enrolment.tenant.id)
        self.visitors: list[Visitor] = []
        self.server_timeout = 30.0

    @classmethod
    def to(cls, server: MockServer, file: AgentsFile | None = None) -> Visit:
        async def create() -> Enrolment:
            return server.app.tenancy.create(Wishes(file=file))

        return cls(server, server.wait_for(create()))

    def arm(self, *rules: dict[str, Any]) -> None:
        async def arm() -> None:
            desk = self.server.app.faults
            desk.arm(self.tenant.id, desk.read(self.tenant.id, json.dumps(rules)))

        self.server.wait_for(arm())

    def visitor(self, hub: str, *, options: dict[str, Any] | None = None, **query: str) -> Visitor:
        url = f"{self.server.base_url}/hubs/{hub}?{urlencode(query)}"
        visitor = Visitor(url, token=self.token, timeout=self.server_timeout, **(options or {}))
        self.visitors.append(visitor)
        return visitor

    def entries(self, kind: str) -> list[JournalEntry]:
        return [entry for entry in self.tenant.journal.entries() if entry.kind == kind]

    def fired(self) -> list[str]:
        """The points at which rules have fired."""
        return [entry.details["point"] for entry in self.entries("fault.fired")]

    def ends(self) -> list[str]:
        """How the server saw its connections end."""
        return [entry.details["message"] for entry in self.entries("connection.closed")]

    async def leave(self) -> None:
        for visitor in self.visitors:
            with suppress(SignalRError, OSError, RuntimeError):
                await visitor.client.stop()

    async def until(self, condition: Callable[[], object]) -> None:
        """What the server does is noted a moment later than its clients see it."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - the journal is of another thread
                await asyncio.sleep(0.002)
