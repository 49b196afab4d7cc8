"""The composition root: makes every object of one server and joins them. No globals: two apps share nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voisnap_mock import __version__
from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.audio.installed_models import newest_model
from voisnap_mock.audio.known_recordings import IndexNews, RecordingIndex
from voisnap_mock.audio.marking import CallerVoice
from voisnap_mock.audio.stt import Ears
from voisnap_mock.audio.tts import LocalSynthesizer
from voisnap_mock.cache import MODELS, UTTERANCES, cache_folder
from voisnap_mock.clock import Clock, SystemClock
from voisnap_mock.cloud.chat_hub import ChatHub
from voisnap_mock.cloud.door import Door
from voisnap_mock.cloud.manners import token_in_path
from voisnap_mock.cloud.problems import CONTENT_TYPE, ProblemDetails
from voisnap_mock.cloud.session_hub import HubDoor, SessionHub
from voisnap_mock.cloud.tenants import Tenant, write_remark
from voisnap_mock.cloud.tokens import TokenAuthority
from voisnap_mock.cloud.voice_hub import VoiceHub
from voisnap_mock.cloud.webrtc_hub import WebRtcHub
from voisnap_mock.cloud.webrtc_sessions import WebRtcDoor, WebRtcSessions
from voisnap_mock.config import AgentsSource, FaultsSource, Settings
from voisnap_mock.errors import ConfigError, ModelError
from voisnap_mock.faults.desk import FaultDesk
from voisnap_mock.faults.gate import FaultGate
from voisnap_mock.faults.http import FaultyDoor, FaultyRest
from voisnap_mock.faults.wire import Wires
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import redact
from voisnap_mock.recordings.recorder import Recorder
from voisnap_mock.recordings.utterances import Utterances
from voisnap_mock.signalr import HubEndpoint, HubOptions
from voisnap_mock.signalr.connection import ConnectionLimits
from voisnap_mock.tenancy import Tenancy
from voisnap_mock.webrtc.peer import Listener, Peer, PeerMaker, load_peers

if TYPE_CHECKING:
    from voisnap_mock.audio.tiny_model.extension import Extended

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

VOICE_PATH = "/hubs/voice"
CHAT_PATH = "/hubs/chat"
WEBRTC_PATH = "/hubs/webrtc"

_log = logging.getLogger("voisnap_mock.app")

# Seconds after which people want to know what takes so long, and how far it is.
_PATIENT = 0.5
_PROGRESS_EVERY = 0.1


class App:
    """One server's objects, and the ASGI application over them.

    `start` and `stop` belong to the loop that serves; everything else may be read before. The agents file is read, and
    configured speech models are tried, when the object is made.

    Attributes:
        endpoints: the hubs, for a server that can drive their WebSockets without ASGI.

    Args:
        file: the agents to serve, instead of the file that the settings name.
        report: told, in a sentence, what the person at the terminal should know: a reload, a faulty edit.
        progress: told how many of how many known recordings have been read, when that takes long.
        load_peers: gives what makes the media side of WebRTC calls; called when the first one is asked for.

    Raises:
        ConfigError: a setting, the agents file or a speech model cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        file: AgentsFile | None = None,
        report: Callable[[str], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        load_peers: Callable[[], PeerMaker] = load_peers,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self._report = report or _log.warning
        self._progress = progress
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recorder: Recorder | None = None
        if settings.record is not None:
            self._recorder = Recorder(
                settings.record, origin=settings.origin("record"), on_loop=self._on_loop, report=self._report
            )
        self._source = AgentsSource(
            settings.agents, origin=settings.origins.get("agents", ""), recorded=settings.record
        )
        self._more_faults = FaultsSource(settings.faults, origin=settings.origin("faults"))
        self._own_file = file
        folder = settings.agents.parent if settings.agents is not None else Path.cwd()
        self._index = RecordingIndex(
            [self._source.utterances],
            quiet=[Utterances(cache_folder() / UTTERANCES)],
            clock=self.clock,
            on_news=lambda news: self._on_loop(lambda: self._note_recordings(news)),
        )
        self.ears = Ears(
            vosk_model=str(settings.vosk_model) if settings.vosk_model is not None else None,
            vosk_model_origin=settings.origins.get("vosk_model", "--vosk-model"),
            agents_folder=folder,
            installed=newest_model(cache_folder() / MODELS),
            recordings=self._index,
            on_learnt=lambda words: self._on_loop(lambda: self._note_words(words)),
        )
        self.synthesizer = LocalSynthesizer()
        self.caller_voice = CallerVoice(self.synthesizer)
        loaded = self._more_faults.join(file if file is not None else self._source.load())
        self.ears.check(loaded.agents.values())
        self.tokens = TokenAuthority(loaded.auth)
        self.faults = FaultDesk(self.clock)
        self.tenancy = Tenancy(
            loaded,
            settings=settings,
            clock=self.clock,
            tokens=self.tokens,
            ears=self.ears,
            synthesizer=self.synthesizer,
            recordings=self._source.recordings,
            recorder=self._recorder,
            faults=self.faults,
        )
        self.tenants = self.tenancy.tenants
        self._trace_ids = IdSource(self.tenancy.seed_for("trace"))
        self._connection_ids = IdSource(self.tenancy.seed_for("connection"))
        self.door = Door(self.tokens, self.tenants, self.clock)
        hub_door = HubDoor(self.door, self._new_trace_id, self.clock, policies={VOICE_PATH: "voice-hub"})
        webrtc_door = WebRtcDoor(self.door, self.clock, self._new_trace_id)
        self._webrtc = WebRtcSessions(
            self.door, self.clock, IdSource(self.tenancy.seed_for("webrtc")), load=load_peers, host=settings.host
        )
        self._webrtc_hub = WebRtcHub(self.clock, self._new_peer)
        self._hubs: tuple[SessionHub, ...] = (VoiceHub(self.clock), ChatHub(self.clock), self._webrtc_hub)
        options = _hub_options(loaded)
        gate = FaultGate(self.faults, self.clock)
        self._faulty_rest = FaultyRest(self.faults, self.clock, door=self.door, new_trace_id=self._new_trace_id)
        for hub in self._hubs:
            hub.gate = gate
        self.endpoints = tuple(
            HubEndpoint(
                hub,
                path=path,
                authenticate=FaultyDoor(
                    door, self.faults, self.clock, channel=hub.channel, new_trace_id=self._new_trace_id
                ).authenticate,
                clock=self.clock,
                options=options,
                new_connection_id=self._connection_ids.connection_id,
                notify=hub.notify,
                on_made=Wires(self.faults, self.clock, hub.channel).made,
            )
            for hub, path, door in zip(
                self._hubs, (VOICE_PATH, CHAT_PATH, WEBRTC_PATH), (hub_door, hub_door, webrtc_door), strict=True
            )
        )
        self._rest: Asgi | None = None
        self._rest_being_made: asyncio.Task[Asgi] | None = None
        self._base_url = ""
        self._started_at = self.clock.monotonic()
        self._waiting_for: tuple[str, ...] = ("start",)
        self._watcher: asyncio.Task[None] | None = None
        self._warming_up: asyncio.Task[None] | None = None
        self.when_warm: Callable[[], None] = lambda: None
        """Called once, in the warm-up's thread, when all is loaded."""
        self._loader: threading.Thread | None = None
        self._last_fault = ""
        self._known_problems: frozenset[str] = frozenset()

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self, base_url: str) -> None:
        """Begin to serve under `base_url`. Speech warms up behind the first calls; nobody waits for it here."""
        self._base_url = base_url
        self._started_at = self.clock.monotonic()
        self._loop = asyncio.get_running_loop()
        self._waiting_for = ()
        # Agents that speak in tones and recordings need no speech worker; should one come later, it is started then.
        if any(agent.voice.engine in ("auto", "pyttsx3") for agent in self.tenants.default.file.agents.values()):
            await self.synthesizer.start()

    def warm_up(self) -> None:
        """Load what the first request and the first call will need, once the server is ready. Takes about a second."""
        self._warming_up = asyncio.get_running_loop().create_task(self._warm_up())

    async def _warm_up(self) -> None:
        # In this order: a login comes before a call, and the two would only slow each other down.
        await self._make_rest()
        # A daemon: a large speech model that is still being loaded must not keep a stopped server alive.
        self._loader = threading.Thread(target=self._load_heavy, name="voisnap-mock warm-up", daemon=True)
        self._loader.start()

    @property
    def is_loading(self) -> bool:
        """Whether the warm-up's thread is at work."""
        return self._loader is not None and self._loader.is_alive()

    def watch(self) -> None:
        """Follow the agents file from now on, on the running loop."""
        if self._own_file is None and (self._source.path or self._more_faults.path) is not None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """End all sessions with `server_shutdown`, then all connections."""
        self._waiting_for = ("stop",)
        self._index.close()
        for task in (self._watcher, self._warming_up):
            if task is not None:
                task.cancel()
        try:
            await asyncio.gather(*(tenant.sessions.close() for tenant in self.tenants.all()))
            for tenant in self.tenants.all():
                tenant.journal.close()
            for hub in self._hubs:
                hub.finish()
            await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))
            await self._webrtc_hub.settle()
            self._webrtc.close()
        finally:
            if self._recorder is not None:
                await asyncio.to_thread(self._recorder.close)
            await self.synthesizer.close()

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What must still happen before calls can be taken."""
        return self._waiting_for

    # --- requests ---------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application. Hub paths do not pass FastAPI."""
        for endpoint in self.endpoints:
            if endpoint.handles(scope):
                await endpoint(scope, receive, send)
                return
        match scope["type"]:
            case "http":
                rest = self._rest or await self._make_rest()
                try:
                    if self._faulty_rest.concerns(scope):
                        await self._faulty_rest(rest, scope, receive, send)
                    else:
                        await rest(scope, receive, send)
                except Exception:  # noqa: BLE001 - the outermost frame of a request: it is answered and noted already
                    _log.debug("%s %s failed", scope["method"], scope["path"], exc_info=True)
            case "websocket":
                await self._refuse_websocket(scope, receive, send)
            case "lifespan":
                raise NotImplementedError("App.start and App.stop are called by the server")

    async def _make_rest(self) -> Asgi:
        """FastAPI takes longer to load than all the rest: it is loaded after the start, off the loop, once."""
        if self._rest_being_made is None:
            self._rest_being_made = asyncio.get_running_loop().create_task(asyncio.to_thread(self._build_rest))
        # Shielded: a client that does not wait must not spoil it for the next one.
        self._rest = await asyncio.shield(self._rest_being_made)
        return self._rest

    def _build_rest(self) -> Asgi:
        from voisnap_mock.cloud.requests import Requests
        from voisnap_mock.cloud.rest import build_rest
        from voisnap_mock.control.guard import Guard
        from voisnap_mock.control.routes import build_control
        from voisnap_mock.control.scope import Scope as ControlScope
        from voisnap_mock.sample_page import build_sample_page

        return build_rest(
            door=self.door,
            requests=Requests(self.tenants, self.clock),
            clock=self.clock,
            new_trace_id=self._new_trace_id,
            on_error=self._note_defect,
            webrtc=self._webrtc,
            control=build_control(
                ControlScope(self.tenants, self.clock),
                health=self,
                info=self.info,
                asyncapi=self._asyncapi,
                landlord=self.tenancy,
                tokens=self.tokens,
                desk=self.faults,
            ),
            guard=Guard(self.settings.host, token=self.settings.control_token).refusal,
            page=None if self.settings.no_ui else build_sample_page(),
        )

    async def _refuse_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        tenant, path = self.tenants.default, scope["path"]
        tenant.journal.append("connection.refused", tenant_id=tenant.id, hub=path, message="no hub is here")
        if redact(path) != path:
            write_remark(tenant, token_in_path(f"WebSocket {path}"))
        hubs = ", ".join(endpoint.path for endpoint in self.endpoints)
        problem = ProblemDetails(404, f"WebSocket {redact(path)}: no hub is here; hubs are {hubs}")
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": problem.body(self._new_trace_id())})

    def _asyncapi(self) -> dict[str, Any]:
        from voisnap_mock.control.asyncapi import asyncapi_document

        hubs = {
            hub.channel: (endpoint.path, endpoint.methods)
            for hub, endpoint in zip(self._hubs, self.endpoints, strict=True)
        }
        return asyncapi_document(hubs, base_url=self._base_url, version=__version__)

    def info(self) -> dict[str, Any]:
        """What `/__voisnap/info` shows."""
        http, ws = self._base_url, self._base_url.replace("http", "ws", 1)
        return {
            "version": __version__,
            "urls": {
                "base": http,
                "api": f"{http}/api/v1",
                "voice": ws + VOICE_PATH,
                "chat": ws + CHAT_PATH,
                "webrtc": ws + WEBRTC_PATH,
                "control": f"{http}/__voisnap",
                "page": None if self.settings.no_ui else f"{http}/",
            },
            "tenants": list(self.tenants.ids),
            "uptimeSeconds": round(self.clock.monotonic() - self._started_at, 3),
            "agents": self.tenants.default.file.source,
            "ears": self.ears.describe(),
            "voices": self.synthesizer.status(),
        }

    # --- agents -----------------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Read the agents file again; calls under way are not touched. A faulty one is reported and changes nothing."""
        try:
            file = await asyncio.to_thread(self._read)
            self.tokens.configure(file.auth)
        except ConfigError as error:
            if str(error) != self._last_fault:
                self._last_fault = str(error)
                self._report(f"{error}\nThe agents loaded before stay in use.")
                tenant = self.tenants.default
                tenant.journal.append("agents.rejected", tenant_id=tenant.id, message=str(error))
            return
        if file == self.tenancy.file and not self._last_fault:
            return
        self._last_fault = ""
        self.tenancy.load(file)
        for endpoint in self.endpoints:
            endpoint.configure(_hub_options(file))
        self._report(f"{file.source} loaded: {', '.join(file.agents)}")
        await asyncio.to_thread(self._load_ears)

    def _read(self) -> AgentsFile:
        file = self._more_faults.join(self._source.load())
        self.ears.check(file.agents.values())
        return file

    async def _watch(self) -> None:
        changed = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._source.watch(changed.set))
                group.create_task(self._more_faults.watch(changed.set))
                while True:
                    await changed.wait()
                    changed.clear()
                    await self.reload()
                    await asyncio.to_thread(self._index.refresh, self._show_progress())
        except Exception as error:  # noqa: BLE001 - the outermost frame of the task
            self._report(f"edits of {self._source.path} are no longer noticed: {error!r}")

    # --- parts ------------------------------------------------------------------------------------------------------

    def _new_peer(self, listener: Listener, tenant: Tenant) -> Peer:
        settings = tenant.file.webrtc
        return self._webrtc.make_peer(listener, self.clock, hosts=settings.hosts, announced=settings.announced)

    def _new_trace_id(self) -> str:
        return self._trace_ids.new("trace_")

    def _note_defect(self, target: str, error: Exception) -> None:
        tenant = self.tenants.default
        tenant.journal.append("defect", tenant_id=tenant.id, target=target, message=f"{type(error).__name__}: {error}")
        _log.error("%s failed", target, exc_info=error)

    def _load_heavy(self) -> None:
        import jwt.api_jws  # noqa: F401
        import numpy as np  # noqa: F401
        import soxr  # noqa: F401

        self._load_ears()
        self._index.refresh(self._show_progress())
        self.when_warm()

    def _load_ears(self) -> None:
        """Have the built-in model learn the words of the agents, and load it. Blocks."""
        try:
            self.ears.warm_up()
        except ModelError as error:
            _log.warning("%s", error)

    def _note_words(self, words: Extended) -> None:
        tenant = self.tenants.default
        tenant.journal.append(
            "words.learnt",
            tenant_id=tenant.id,
            added=list(words.added),
            skipped=list(words.skipped),
            problem=words.problem or None,
        )

    # --- known recordings -------------------------------------------------------------------------------------------

    def _show_progress(self) -> Callable[[int, int], None] | None:
        """What tells `progress` of an index that takes long."""
        progress = self._progress
        if progress is None:
            return None
        next_at = self.clock.monotonic() + _PATIENT
        is_shown = False

        def show(done: int, total: int) -> None:
            nonlocal next_at, is_shown
            now = self.clock.monotonic()
            if now >= next_at or (is_shown and done == total):
                next_at, is_shown = now + _PROGRESS_EVERY, True
                self._on_loop(lambda: progress(done, total))

        return show

    def _note_recordings(self, news: IndexNews) -> None:
        tenant = self.tenants.default
        tenant.journal.append("recordings.indexed", tenant_id=tenant.id, known=news.known, problems=list(news.problems))
        for problem in news.problems:
            if problem not in self._known_problems:
                self._report(f"warning: {problem}")
        self._known_problems = frozenset(news.problems)

    def _on_loop(self, call: Callable[[], None]) -> None:
        """From any thread. Without a loop nobody is there to be told."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(call)


def _hub_options(file: AgentsFile) -> HubOptions:
    return HubOptions(limits=ConnectionLimits(max_message_bytes=file.limits.max_message_bytes))
