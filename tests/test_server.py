"""A server starts, reloads and stops as a program or a test-suite needs it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hub_caller import HubCaller, journaled, token_of
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.app import App
from voisnap_mock.clock import ManualClock
from voisnap_mock.config import Settings
from voisnap_mock.errors import AgentsFileError, ConfigError, MisuseError, PortTaken
from voisnap_mock.server import MockServer, Server, bind
from voisnap_mock.signalr.errors import SignalRError
from voisnap_mock.signalr.uvicorn_ws import HubSocket

AGENTS = """
version: 1
agents:
  agt_a:
    voice: {{engine: tone, rate: 400}}
    replies:
      - {{else: "{}"}}
"""
PATIENCE = 15.0


def agents(answer: str = "First.") -> str:
    return AGENTS.format(answer)


def get(url: str) -> tuple[int, dict[str, object]]:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.status, json.loads(answer.read())


@pytest.fixture
def mock() -> Iterator[MockServer]:
    with MockServer(parse_agents(agents(), source="test agents")) as running:
        yield running


# --- in a thread -----------------------------------------------------------------------------------------------------


def test_a_mock_server_answers_as_soon_as_it_is_started_and_no_longer_when_stopped() -> None:
    with MockServer() as server:
        assert get(f"{server.base_url}/readyz") == (200, {"status": "ready", "waiting_for": []})
    with pytest.raises(OSError, match="refused"):
        get(f"{server.base_url}/readyz")
    server.stop()


def test_a_mock_server_is_started_once() -> None:
    with MockServer() as server, pytest.raises(MisuseError, match="started once"):
        server.start()


def test_whatever_keeps_a_mock_server_from_starting_is_told_to_who_starts_it() -> None:
    """One that was said to be running, and is not, would fail each test for another reason."""

    class Clock(ManualClock):
        has_battery = True

        def wall(self) -> float:
            if not self.has_battery:
                raise RuntimeError("no battery")
            return super().wall()

    clock = Clock()
    server = MockServer(clock=clock)
    clock.has_battery = False
    with pytest.raises(RuntimeError, match="no battery"):
        server.start()


def test_servers_in_one_process_share_nothing() -> None:
    first_file, second_file = (parse_agents(agents(text), source=text) for text in ("One.", "Two."))
    with MockServer(first_file) as first, MockServer(second_file) as second:
        assert first.port != second.port
        assert get(f"{first.base_url}/__voisnap/info")[1]["agents"] == "One."
        assert get(f"{second.base_url}/__voisnap/info")[1]["agents"] == "Two."
        tokens = first.app.tokens.login("dev@example.test", "dev", first.app.clock.wall())
        assert tokens.refresh_token not in str(vars(second.app.tokens))  # type: ignore[union-attr]
        first.stop()
        assert get(f"{second.base_url}/livez")[0] == 200


def test_a_taken_port_is_named(mock: MockServer) -> None:
    with pytest.raises(PortTaken, match=rf"port {mock.port} on 127\.0\.0\.1 is taken \(default of --port\).*--port 0"):
        MockServer(settings=Settings(port=mock.port)).start()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_this_machine_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigError, match=f"--host: .?{host}"):
        bind(host, 0)


def test_localhost_is_bound_on_every_address_it_has() -> None:
    sockets = bind("localhost", 0)
    try:
        assert len({bound.getsockname()[1] for bound in sockets}) == 1
        assert "127.0.0.1" in {bound.getsockname()[0] for bound in sockets}
    finally:
        for bound in sockets:
            bound.close()


def test_a_wrong_agents_file_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text("version: 1\nagnets: {}\n", encoding="utf-8")
    with pytest.raises(AgentsFileError, match=r"agents\.yaml:2:1: "):
        MockServer(tmp_path / "agents.yaml")


def test_the_port_file_holds_the_port_once_the_server_is_ready(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    port_file.write_text("1\n")
    with MockServer(settings=Settings(port=0, port_file=port_file)) as server:
        assert port_file.read_text() == f"{server.port}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["port"]


def test_a_port_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    server = MockServer(settings=Settings(port=0, port_file=tmp_path / "no" / "folder" / "port"))
    with pytest.raises(ConfigError, match=r"--port-file: .* cannot be written: No such file"):
        server.start()


# --- in the running loop ---------------------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(App(Settings(port=0), file=parse_agents(agents(), source="test agents"))) as running:
        yield running


async def test_small_packets_leave_at_once(server: Server) -> None:
    """Without TCP_NODELAY each invocation would take 40 ms."""
    async with HubCaller(server, "chat", agentId="agt_a"):
        (connection,) = server._state.connections
        assert isinstance(connection, HubSocket)
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_compression_is_not_offered(server: Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/hubs/voice?access_token={token_of(server)}"
    async with connect(url, compression="deflate", proxy=None) as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


async def test_a_websocket_beside_the_hubs_is_a_404_that_names_them(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{server.port}/hubs/video", proxy=None)
    response = refused.value.response
    assert response.status_code == 404
    problem = json.loads(response.body or b"")
    assert problem["detail"] == "WebSocket /hubs/video: no hub is here; hubs are /hubs/voice, /hubs/chat, /hubs/webrtc"


async def test_no_log_shows_a_token(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    token = token_of(server)
    with caplog.at_level(logging.DEBUG):
        async with HubCaller(server, "voice", token="", agentId="agt_a", access_token=token) as caller:
            await caller.wait_for("SessionStarted")
        refused = HubCaller(server, "voice", token="", agentId="agt_a", access_token=token + "x")
        with pytest.raises(Exception, match="401"):
            await refused.client.start()
    assert token not in "".join(record.getMessage() for record in caplog.records)


async def test_stopping_ends_every_session_in_order() -> None:
    server = Server(App(Settings(port=0), file=parse_agents(agents(), source="test agents")))
    await server.start()
    async with (
        HubCaller(server, "voice", agentId="agt_a") as caller,
        HubCaller(server, "chat", agentId="agt_a") as user,
    ):
        await caller.wait_for("SessionStarted")
        await user.wait_for("SessionStarted")
        stopping = asyncio.create_task(server.stop())
        for client in (caller, user):
            assert (await client.wait_for("SessionEnded"))["reason"] == "server_shutdown"
            await client.closed()
        await asyncio.wait_for(stopping, PATIENCE)


async def test_a_client_that_never_reads_does_not_delay_the_end() -> None:
    server = Server(App(Settings(port=0), file=parse_agents(agents(), source="test agents")))
    await server.start()
    url = f"ws://127.0.0.1:{server.port}/hubs/voice?agentId=agt_a&access_token={token_of(server)}"
    async with connect(url, proxy=None, max_queue=1, close_timeout=0.1) as deaf:
        await deaf.send('{"protocol":"json","version":1}\x1e')
        await journaled(server.app.tenants.default.journal, kind="session.started")
        deaf.transport.pause_reading()
        began = server.app.clock.monotonic()
        await asyncio.wait_for(server.stop(), PATIENCE)
        assert server.app.clock.monotonic() - began < 2.0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
async def test_a_call_whose_speech_worker_is_killed_or_frozen_is_spoken_to(name: str) -> None:
    text = f"This is a greeting for {name[3:].lower()}."
    file = parse_agents(f"version: 1\nagents: {{agt_a: {{greeting: {text}}}}}", source="test agents")
    async with Server(App(Settings(port=0), file=file)) as server:
        await server.app.synthesizer.settled()
        worker = server.app.synthesizer.worker_pid
        assert worker is not None
        os.kill(worker, getattr(signal, name))
        async with HubCaller(server, "voice", agentId="agt_a") as caller:
            assert (await caller.wait_for("TranscriptionOf", isFinal=True))["text"] == text
        audio = b"".join(payload for target, payload in caller.events if target == "AudioReceived")
        assert sum(any(audio[at : at + 960]) for at in range(0, len(audio), 960)) > 50, "a second of sound"
        assert server.app.synthesizer.worker_pid != worker


# --- hot reload ------------------------------------------------------------------------------------------------------


class Edited:
    """A server that follows a file, and the file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "agents.yaml"
        self.write(agents("First."))
        self.reports: list[str] = []
        self.app = App(Settings(port=0, agents=self.path), report=self.reports.append)
        self.journal = self.app.tenants.default.journal

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.path)

    async def edit(self, text: str, kind: str) -> None:
        """Write the file, and wait until the journal says that the server has dealt with it."""
        with self.journal.subscribe() as following:
            self.write(text)
            async with asyncio.timeout(PATIENCE):
                async for entry in following:
                    if entry.kind == kind:
                        return


async def answer_of(caller: HubCaller) -> str:
    at = len(caller.events)
    await caller.invoke("SendMessageAsync", {"content": "hello"})
    return str((await caller.wait_for("MessageReceived", after=at, isFinal=True))["content"])


async def test_an_edit_counts_for_new_sessions_and_not_for_live_ones(tmp_path: Path) -> None:
    edited = Edited(tmp_path)
    async with Server(edited.app) as server:
        edited.app.watch()
        async with HubCaller(server, "chat", agentId="agt_a") as older:
            await older.wait_for("SessionStarted")
            await edited.edit(agents("Second."), "agents.loaded")
            async with HubCaller(server, "chat", agentId="agt_a") as newer:
                assert await answer_of(newer) == "Second."
            assert await answer_of(older) == "First."
    assert edited.app.tenants.default.agents["agt_a"].version == 2
    assert edited.reports == [f"{edited.path} loaded: agt_a"]


async def test_an_edited_size_of_messages_counts_for_new_connections(tmp_path: Path) -> None:
    edited = Edited(tmp_path)
    long = {"content": "x" * 40_000}
    async with Server(edited.app) as server:
        edited.app.watch()
        async with HubCaller(server, "chat", agentId="agt_a") as older:
            await older.wait_for("SessionStarted")
            await edited.edit(agents("First.") + "limits: {max_message_bytes: 65536}\n", "agents.loaded")
            async with HubCaller(server, "chat", agentId="agt_a") as newer:
                await newer.invoke("SendMessageAsync", long)
            with pytest.raises(SignalRError):
                await older.invoke("SendMessageAsync", long)


async def test_a_faulty_edit_changes_nothing_and_is_reported_once(tmp_path: Path) -> None:
    edited = Edited(tmp_path)
    async with Server(edited.app) as server:
        edited.app.watch()
        await edited.edit(agents("Second.").replace("replies", "repleis"), "agents.rejected")
        await edited.app.reload()
        async with HubCaller(server, "chat", agentId="agt_a") as user:
            assert await answer_of(user) == "First."
        (report,) = edited.reports
        assert report.startswith(f"{edited.path}:6:5: ")
        assert "repleis" in report
        assert report.endswith("The agents loaded before stay in use.")
        await edited.edit(agents("Third."), "agents.loaded")
        async with HubCaller(server, "chat", agentId="agt_a") as user:
            assert await answer_of(user) == "Third."


async def test_an_edit_made_before_watching_began_is_not_lost(tmp_path: Path) -> None:
    edited = Edited(tmp_path)
    edited.write(agents("Second."))
    async with Server(edited.app):
        with edited.journal.subscribe() as following:
            edited.app.watch()
            assert (await asyncio.wait_for(anext(following), PATIENCE)).kind == "agents.loaded"


async def test_an_edit_brings_tenants_and_takes_them_away(tmp_path: Path) -> None:
    edited = Edited(tmp_path)
    async with Server(edited.app):
        with_user = agents() + "auth: {users: [{email: a@b.c, password: x, tenant: ten_new}]}\n"
        edited.write(with_user)
        await edited.app.reload()
        assert edited.app.tenants.ids == ("ten_dev", "ten_new")
        edited.write(agents())
        await edited.app.reload()
        assert edited.app.tenants.ids == ("ten_dev",)
        assert edited.app.tenants.get("ten_new") is None


# --- as a process ----------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys
from voisnap_mock.app import App
from voisnap_mock.clock import ManualClock
from voisnap_mock.config import Settings
from voisnap_mock.server import serve

class StuckApp(App):
    async def stop(self):
        await asyncio.sleep(1000)

app = (StuckApp if "stuck" in sys.argv else App)(Settings(port=0))
ready = lambda server: print("READY", server.base_url, flush=True)
sys.exit(serve(app, on_ready=ready, on_stopping=lambda: print("STOPPING", flush=True)))
"""


class Process:
    def __init__(self, *arguments: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._child.stdout is not None
        self.base_url = self._child.stdout.readline().removeprefix("READY ").strip()

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def next_line(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def wait(self) -> tuple[int, str]:
        _, errors = self._child.communicate(timeout=PATIENCE)
        return self._child.returncode, errors


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to a child")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_the_process_in_order(number: signal.Signals) -> None:
    process = Process()
    assert get(f"{process.base_url}/livez")[0] == 200
    process.signal(number)
    assert process.next_line() == "STOPPING"
    assert process.wait() == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to a child")
def test_a_second_signal_ends_it_at_once() -> None:
    process = Process("stuck")
    process.signal(signal.SIGINT)
    assert process.next_line() == "STOPPING"
    process.signal(signal.SIGTERM)
    assert process.wait()[0] == 130


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to a child")
def test_work_that_hangs_does_not_keep_a_stopped_process() -> None:
    process = Process("stuck")
    process.signal(signal.SIGTERM)
    assert process.wait()[0] == 0
