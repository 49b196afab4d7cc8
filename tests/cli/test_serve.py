"""`serve` as a real process: what it prints, how it follows edits, how it stops, and how it says no."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import COMMAND, Program, ServerProgram, clean_environment, run

from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER

AGENTS = """
version: 1
auth: {users: [{email: anna@example.test, password: s3cret-of-anna}]}
agents:
  agt_desk:
    name: Front desk
    greeting: "%s"
    replies: [{else: "Sorry?"}]
"""
DEV = "version: 1\nagents: {agt_desk: {greeting: '%s'}}\n"


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    path = tmp_path / "agents.yaml"
    path.write_text(DEV % "First.")
    return path


@pytest.fixture
def server(agents: Path) -> Iterator[ServerProgram]:
    with ServerProgram(agents) as program:
        yield program


def greeting(server: ServerProgram) -> str:
    """What the agent greets a chat user with now."""
    result = run("chat", "agt_desk", "--json", "--url", server.url)
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return str(next(event["text"] for event in events if event["event"] == "agent"))


# --- starting -------------------------------------------------------------------------------------------------------


def test_the_start_tells_all_that_is_needed_and_ends_with_the_ready_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(AGENTS % "Hello.")
    port_file = tmp_path / "port"

    with ServerProgram(path, "--port-file", port_file) as server:
        printed = "\n".join(server.lines)

        assert server.lines[-1] == f"READY http://127.0.0.1:{server.port}"
        assert port_file.read_text() == f"{server.port}\n"
    for part in (
        f"http://127.0.0.1:{server.port}/api/v1",
        f"ws://127.0.0.1:{server.port}/hubs/voice",
        f"ws://127.0.0.1:{server.port}/hubs/chat",
        "anna@example.test",
        "agt_desk",
        "Front desk",
        "mine.yaml",
        "built-in tiny model",
        "espeak",
    ):
        assert part in printed
    assert "s3cret" not in printed + server.errors
    assert "eyJ" not in printed + server.errors
    assert "\x1b" not in printed


def test_without_a_file_the_built_in_agents_and_login_are_served(tmp_path: Path) -> None:
    with ServerProgram(cwd=tmp_path) as server:
        printed = "\n".join(server.lines)

    assert "dev@example.test / dev" in printed
    for agent in ("agt_support", "agt_echo", "agt_silent"):
        assert agent in printed


def test_agents_of_the_working_directory_are_found(agents: Path) -> None:
    with ServerProgram(cwd=agents.parent) as server:
        assert greeting(server) == "First."


def test_the_same_seed_gives_the_same_ids(agents: Path) -> None:
    def conversation() -> object:
        with ServerProgram(agents, "--seed", "7") as server:
            result = run("chat", "agt_desk", "--json", "--url", server.url)
            return json.loads(result.stdout.splitlines()[0])["conversationId"]

    assert conversation() == conversation()


def test_call_time_can_run_faster(agents: Path) -> None:
    with ServerProgram(agents, "--clock", "4x") as server:
        assert greeting(server) == "First."


def test_settings_come_from_the_environment_too(agents: Path, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    environment = clean_environment(VOISNAP_MOCK_PORT_FILE=str(port_file), VOISNAP_MOCK_AGENTS=str(agents))

    with ServerProgram(environment=environment) as server:
        assert port_file.read_text() == f"{server.port}\n"
        assert greeting(server) == "First."


# --- edits ----------------------------------------------------------------------------------------------------------


def test_an_edited_reply_is_heard_at_the_next_call(server: ServerProgram, agents: Path) -> None:
    assert greeting(server) == "First."

    agents.write_text(DEV % "Second.")
    server.read_until(lambda line: "loaded" in line)

    assert greeting(server) == "Second."
    result = run("call", "agt_desk", "--json", "--patience", "1s", "--say", "hello", "--url", server.url)
    assert '"text": "Second."' in result.stdout


def test_a_faulty_edit_is_reported_and_changes_nothing(server: ServerProgram, agents: Path) -> None:
    agents.write_text("version: 1\nagents: {agt_desk: {greating: Second.}}\n")

    assert "agents.yaml:2:" in server.read_until(lambda line: "greating" in line)
    assert greeting(server) == "First."
    agents.write_text(DEV % "Third.")
    server.read_until(lambda line: "loaded" in line)
    assert greeting(server) == "Third."


# --- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="signals are another matter there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_calls_in_order_and_the_process_with_0(server: ServerProgram, number: signal.Signals) -> None:
    call = [*COMMAND, "call", "agt_desk", "--json", "--url", server.url]
    with Program(call) as caller:
        caller.read_until(lambda line: '"started"' in line)

        began = time.monotonic()
        server.send_signal(number)
        code = server.wait(timeout=10)
        took = time.monotonic() - began

        assert code == 0, server.report()
        assert took < 2.0
        assert '"server_shutdown"' in caller.read_until(lambda line: '"ended"' in line)
        assert caller.wait() == 0, caller.report()
    assert "Traceback" not in server.errors


@pytest.mark.skipif(os.name == "nt", reason="signals are another matter there")
def test_an_interrupted_call_is_ended_in_order(server: ServerProgram) -> None:
    with Program([*COMMAND, "call", "agt_desk", "--json", "--url", server.url]) as caller:
        caller.read_until(lambda line: '"started"' in line)
        caller.send_signal(signal.SIGINT)

        assert '"user_ended"' in caller.read_until(lambda line: '"ended"' in line)
        assert caller.wait() == 0, caller.report()


# --- saying no ------------------------------------------------------------------------------------------------------


def refused(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> tuple[int, str]:
    result = run("serve", *arguments, "--port=0", cwd=cwd, environment=clean_environment(**environment))
    assert "Traceback" not in result.stderr
    assert "READY" not in result.stdout
    return result.returncode, result.stderr


def test_a_taken_port_is_exit_code_4_and_named(agents: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", agents, "--port", str(port))

    assert result.returncode == 4
    assert f"port {port} on 127.0.0.1 is taken" in result.stderr
    assert "--port 0" in result.stderr
    assert "READY" not in result.stdout


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b"version: 1\nagents: {agt_a: {greating: hi}}\n", "agents.yaml:2:"),
        (b"version: 1\n\tagents: {}\n", "agents.yaml:2:"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"version: 1\nagents: {agt_a: {greeting: {wav: ../../etc/passwd}}}\n", "agents.yaml:2:"),
    ],
    ids=["empty", "unknown key", "tab", "not utf-8", "wav outside"],
)
def test_a_bad_agents_file_is_exit_code_3(content: bytes, complaint: str, agents: Path) -> None:
    agents.write_bytes(content)

    code, error = refused(agents)

    assert code == 3
    assert complaint in error


def test_a_missing_agents_file_is_exit_code_3_and_the_way_to_begin(tmp_path: Path) -> None:
    code, error = refused(tmp_path / "absent.yaml")

    assert code == 3
    assert "absent.yaml" in error
    assert "voisnap-mock init" in error


@pytest.mark.parametrize("way", ["flag", "environment"])
@pytest.mark.parametrize("kind", ["absent", "incomplete", "broken"])
def test_a_vosk_model_that_cannot_be_used_is_exit_code_3(kind: str, way: str, agents: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    if kind == "incomplete":
        (model / "am").mkdir(parents=True)
    elif kind == "broken":
        shutil.copytree(BUILT_IN_FOLDER, model)
        (model / "am" / "final.mdl").write_bytes(b"junk")

    code, error = (
        refused(agents, f"--vosk-model={model}") if way == "flag" else refused(agents, VOSK_MODEL_PATH=str(model))
    )

    assert code == 3
    assert str(model) in error
    assert ("--vosk-model" if way == "flag" else "VOSK_MODEL_PATH") in error
    assert "unpacked Vosk model" in error


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VOISNAP_MOCK_PORT", "many"),
        ("VOISNAP_MOCK_LOG", "loud"),
        ("VOISNAP_MOCK_SEED", "x"),
        ("VOISNAP_MOCK_CLOCK", "fast"),
    ],
)
def test_a_bad_variable_is_exit_code_3_and_named(variable: str, value: str, agents: Path) -> None:
    result = run("serve", agents, environment=clean_environment(**{variable: value}))

    assert result.returncode == 3
    assert variable in result.stderr
    assert value in result.stderr
