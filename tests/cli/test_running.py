"""The commands that talk to a running server, each in a process of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import COMMAND, Program, ServerProgram, clean_environment, run

AGENTS = """
version: 1
agents:
  agt_desk:
    greeting: Hello.
    voice: {engine: tone, rate: 400}
    replies: [{else: Sorry?}]
"""
TOKEN = "control-token-of-the-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProgram]:
    path = tmp_path_factory.mktemp("desk") / "agents.yaml"
    path.write_text(AGENTS)
    with ServerProgram(path, "--clock", "virtual") as program:
        yield program


@pytest.fixture
def url(server: ServerProgram) -> Iterator[str]:
    yield server.url
    httpx.post(f"{server.url}/__voisnap/reset")


def json_of(*arguments: str | Path) -> Any:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fault_is_added_listed_and_cleared(url: str) -> None:
    options = ["--at", "stt", "--when", "agent=agt_desk", "--when", "turn=2", "--error", "STT_PROVIDER_TIMEOUT"]
    (added,) = json_of("faults", "add", *options, "--after", "3s", "--times", "1", "--id", "stt-slow", "--url", url)
    assert added["rule"] == {
        "id": "stt-slow",
        "at": "stt",
        "when": {"agent": "agt_desk", "turn": 2},
        "do": {"error": "STT_PROVIDER_TIMEOUT", "after": "3s"},
        "times": 1,
    }
    listed = run("faults", "list", "--url", url)
    assert listed.returncode == 0
    first, last = listed.stdout.splitlines()
    assert first.split()[:2] == ["stt-slow", "stt"]
    assert "nothing has crossed stt" in first
    token = last.rsplit(maxsplit=1)[1]
    assert run("faults", "clear", "stt-slow", "--url", url).returncode == 0
    assert run("faults", "list", "--url", url).stdout == "No faults are armed.\n"
    assert run("faults", "add", token, "--url", url).returncode == 0
    assert [fault["id"] for fault in json_of("faults", "list", "--url", url)] == ["stt-slow"]
    assert run("faults", "clear", "--url", url).returncode == 0
    assert json_of("faults", "list", "--url", url) == []


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--at", "negotiate", "--http", "429", "--retry-after", "2s"], {"http": 429, "retry_after": "2s"}),
        (["--at", "audio.out", "--drop", "reset"], {"drop": "reset"}),
        (["--at", "event.Transcription", "--frames", "fragment"], {"frames": "fragment"}),
        (["--at", "llm", "--slow", "2s", "--rate", "0.5"], {"slow": "2s"}),
        (["--at", "tts", "--silence", "--per", "session", "--skip", "1"], {"silence": True}),
        (["--at", "llm", "--replace", "Something else."], {"replace": "Something else."}),
        (["--at", "audio.in", "--impair", "loss=0.03", "--impair", "burst=3"], {"impair": {"loss": 0.03, "burst": 3}}),
        (["--at", "llm", "--error", "MY_OWN", "--undocumented"], {"error": "MY_OWN", "undocumented": True}),
        (
            ["--at", "stt", "--at", "tts", "--error", "LLM_PROVIDER_ERROR", "--no-recoverable"],
            {"error": "LLM_PROVIDER_ERROR", "recoverable": False},
        ),
    ],
)
def test_every_action_can_be_given_in_options(url: str, options: list[str], rule: dict[str, Any]) -> None:
    (added,) = json_of("faults", "add", *options, "--url", url)
    assert added["rule"]["do"] == rule


def test_a_rule_may_be_json_or_a_file(url: str, tmp_path: Path) -> None:
    (added,) = json_of("faults", "add", '{"at": "tts", "do": {"silence": true}}', "--url", url)
    assert added["rule"]["do"] == {"silence": True}
    path = tmp_path / "faults.yaml"
    path.write_text("- {id: one, at: stt, do: {slow: 1s}}\n- {id: two, at: llm, do: {slow: 1s}}\n")
    assert [fault["id"] for fault in json_of("faults", "add", path, "--url", url)] == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--at", "sst", "--error", "STT_PROVIDER_TIMEOUT"], 3, 'did you mean "stt"'),
        (["--at", "stt", "--error", "STT_PROVIDER_TIMOUT"], 3, 'did you mean "STT_PROVIDER_TIMEOUT"'),
        (["no-such-file.yaml"], 3, "no-such-file.yaml cannot be read"),
        ([], 2, "give a rule"),
        (["{at: stt, do: {slow: 1s}}", "--at", "stt"], 2, "give a rule"),
        (["--at", "stt", "--error", "STT_PROVIDER_TIMEOUT", "--tenant", "ten_x"], 1, '"ten_x" is not known'),
    ],
)
def test_what_is_wrong_is_said(url: str, arguments: list[str], code: int, says: str) -> None:
    done = run("faults", "add", *arguments, "--url", url)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in " ".join(done.stderr.split())


def test_an_unknown_fault_cannot_be_cleared(url: str) -> None:
    done = run("faults", "clear", "nobody", "--url", url)
    assert done.returncode == 1
    assert "nobody" in done.stderr


def test_calls_are_listed_and_the_journal_is_shown(url: str) -> None:
    assert run("calls", "--url", url).stdout == "No calls yet.\n"
    assert run("chat", "agt_desk", "--say", "hi there", "--url", url).returncode == 0
    (call,) = json_of("calls", "--url", url)
    assert (call["agentId"], call["channel"], call["reason"]) == ("agt_desk", "chat", "user_ended")
    shown = run("calls", "--url", url)
    assert shown.stdout.split()[:4] == [call["id"], "agt_desk", "chat", "user_ended"]

    entries = run("tail", "--no-follow", "--call", call["id"], "--kind", "session.*", "--json", "--url", url)
    kinds = [json.loads(line)["kind"] for line in entries.stdout.splitlines()]
    assert kinds == ["session.opened", "session.started", "session.ended"]
    said = run("tail", "--no-follow", "--text", "HI THERE", "--kind", "caller.*", "-n", "1", "--url", url)
    assert '"hi there"' in said.stdout
    assert len(said.stdout.splitlines()) == 1


def test_tail_follows_until_ctrl_c(url: str) -> None:
    with Program([*COMMAND, "tail", "-n", "0", "--kind", "fault.*", "--url", url]) as program:
        # Which of the two is there first nobody knows: arm until it shows.
        for number in range(50):
            run("faults", "add", "--at", "stt", "--slow", "1s", "--id", f"fault-{number}", "--url", url)
            if program.lines:
                break
        assert "fault.armed" in program.read_until(lambda line: "fault.armed" in line)
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert program.errors == ""


def test_tail_ends_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS)
    with ServerProgram(path) as server, Program([*COMMAND, "tail", "--url", server.url]) as program:
        program.read_until(lambda line: "agents.loaded" in line)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert program.wait() == 0


def test_a_tenant_can_be_named(url: str) -> None:
    made = httpx.post(f"{url}/__voisnap/tenants").json()["tenantId"]
    json_of("faults", "add", "--at", "stt", "--slow", "1s", "--url", url, "--tenant", made)
    assert len(json_of("faults", "list", "--url", url, "--tenant", made)) == 1
    assert json_of("faults", "list", "--url", url) == []
    assert json_of("calls", "--url", url, "--tenant", made) == []


def test_the_control_token_comes_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS)
    mine = clean_environment(VOISNAP_MOCK_CONTROL_TOKEN=TOKEN)
    with ServerProgram(path, environment=mine) as server:
        refused = run("calls", "--url", server.url)
        assert refused.returncode == 1
        assert "VOISNAP_MOCK_CONTROL_TOKEN" in refused.stderr
        assert run("calls", "--url", server.url, environment=mine).returncode == 0
        assert run("tail", "--no-follow", "--url", server.url, environment=mine).returncode == 0
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert TOKEN not in server.report()


@pytest.mark.parametrize("command", [["faults", "list"], ["calls"], ["tail"], ["tail", "--no-follow"]])
def test_no_server_is_told_with_the_way_out(command: list[str]) -> None:
    done = run(*command, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "voisnap-mock serve" in done.stderr
