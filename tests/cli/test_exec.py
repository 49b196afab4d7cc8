"""`exec` as a real process: what its child gets, whose exit code is whose, signals, checks and reports."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from processes import COMMAND, Program, clean_environment, run

AGENTS = """
version: 1
agents:
  agt_strict:
    script:
      - {hear: "yes", say: "Confirmed."}
      - {end: agent_ended}
faults:
  - {id: never, at: llm, when: {turn: 9}, do: {error: LLM_PROVIDER_ERROR}}
"""
# A child that says when it is ready for signals, and what came.
CHILD = """
import signal, sys, time
def take(number, frame):
    print("GOT", signal.Signals(number).name, flush=True)
    if {heeds}:
        sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, take)
print("READY", flush=True)
while True:
    time.sleep(0.05)
"""


def python(source: str) -> list[str]:
    return ["--", sys.executable, "-c", source]


# --- the child ------------------------------------------------------------------------------------------------------


def test_the_child_finds_a_server_that_is_ready_and_its_output_is_untouched(tmp_path: Path) -> None:
    source = (
        "import json, os, sys, urllib.request\n"
        "sys.stderr.write('to stderr')\n"
        "ready = urllib.request.urlopen(os.environ['VOISNAP_BASE_URL'] + '/readyz').status\n"
        "token = os.environ['VOISNAP_ACCESS_TOKEN']\n"
        "headers = {'Authorization': 'Bearer ' + token}\n"
        "request = urllib.request.Request(os.environ['VOISNAP_BASE_URL'] + '/api/v1/auth/me', headers=headers)\n"
        "me = json.load(urllib.request.urlopen(request))['email']\n"
        "print(ready, me == os.environ['VOISNAP_EMAIL'], sys.stdin.read(), sys.argv[1:])"
    )
    result = run("exec", *python(source), "--port", "a b", cwd=tmp_path, stdin="from stdin")
    assert result.returncode == 0
    assert result.stdout == "200 True from stdin ['--port', 'a b']\n"
    assert result.stderr == "to stderr"


def test_commands_of_this_program_find_the_server_too(tmp_path: Path) -> None:
    result = run("exec", "--", *COMMAND, "chat", "agt_support", "--say", "my name is Ada", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Nice to meet you, Ada" in result.stdout


@pytest.mark.parametrize("code", [0, 1, 5, 111, 255])
def test_the_exit_code_is_the_childs(code: int, tmp_path: Path) -> None:
    assert run("exec", *python(f"raise SystemExit({code})"), cwd=tmp_path).returncode == code


def test_a_child_that_a_signal_ended_is_told_as_shells_do(tmp_path: Path) -> None:
    source = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run("exec", *python(source), cwd=tmp_path).returncode == 128 + signal.SIGKILL


# --- its own failures -----------------------------------------------------------------------------------------------


def test_a_command_that_is_not_there_is_112(tmp_path: Path) -> None:
    result = run("exec", "--", "no-such-command-at-all", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (112, "")
    assert "no-such-command-at-all: there is no such command" in result.stderr
    (tmp_path / "not-executable").write_text("")
    assert run("exec", "--", "./not-executable", cwd=tmp_path).returncode == 112


def test_a_bad_configuration_is_111(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text("version: 1\nagents: {agt_a: {greting: Hello.}}\n")
    result = run("exec", *python("print('ran')"), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (111, "")
    assert "did you mean" in result.stderr
    result = run("exec", "--agents", "nowhere.yaml", *python(""), cwd=tmp_path)
    assert result.returncode == 111
    assert "nowhere.yaml (from the command line): no such file" in result.stderr


def test_a_taken_port_is_110(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("exec", "--port", str(port), *python("print('ran')"), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (110, "")
    assert f"port {port}" in result.stderr


@pytest.mark.parametrize("arguments", ["", "--", "--clok virtual -- true", "--report xml -- true"])
def test_wrong_usage_is_2(arguments: str, tmp_path: Path) -> None:
    assert run("exec", *arguments.split(), cwd=tmp_path).returncode == 2


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_the_childs_answer_counts(number: signal.Signals, tmp_path: Path) -> None:
    with Program([*COMMAND, "exec", *python(CHILD.format(heeds=True))], cwd=tmp_path) as program:
        program.read_until(lambda line: line == "READY")
        program.send_signal(number)
        assert program.read_line() == f"GOT {number.name}"
        assert program.wait() == 7


def test_a_child_that_does_not_heed_it_is_killed_in_time(tmp_path: Path) -> None:
    command = [*COMMAND, "exec", "--kill-after", "200ms", *python(CHILD.format(heeds=False))]
    with Program(command, cwd=tmp_path) as program:
        program.read_until(lambda line: line == "READY")
        program.send_signal(signal.SIGTERM)
        assert program.read_line() == "GOT SIGTERM"
        assert program.wait() == 128 + signal.SIGKILL


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with Program([*COMMAND, "exec", *python(CHILD.format(heeds=False))], cwd=tmp_path) as program:
        program.read_until(lambda line: line == "READY")
        program.send_signal(signal.SIGINT)
        assert program.read_line() == "GOT SIGINT"
        program.send_signal(signal.SIGINT)
        assert program.wait() == 130


# --- checks and reports ---------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "agents.yaml").write_text(AGENTS)
    return tmp_path


CHAT = ("--", *COMMAND, "chat", "agt_strict", "--say", "no")


def test_faults_that_never_fired_are_told_and_change_nothing(project: Path) -> None:
    result = run("exec", *python("print('fine')"), cwd=project)
    assert (result.returncode, result.stdout) == (0, "fine\n")
    assert "never fired: never  nothing has crossed llm" in result.stderr


def test_strict_makes_them_fail_but_never_hides_the_childs_own_failure(project: Path) -> None:
    assert run("exec", "--strict", *python(""), cwd=project).returncode == 113
    assert run("exec", "--strict", *python("raise SystemExit(4)"), cwd=project).returncode == 4
    (project / "agents.yaml").write_text(AGENTS[: AGENTS.index("faults:")])
    assert run("exec", "--strict", *python(""), cwd=project).returncode == 0


def test_reports_tell_calls_faults_problems_and_coverage(project: Path) -> None:
    result = run("exec", "--report", "json", "--report", "junit=out.xml", *CHAT, cwd=project)
    report = json.loads((project / "voisnap-mock.json").read_text())
    assert report["exitCode"] == result.returncode
    assert [(fault["id"], fault["fired"]) for fault in report["faults"]] == [("never", 0)]
    assert "when.turn is 9" in report["faults"][0]["nearMiss"]
    assert [call["agentId"] for call in report["calls"]] == ["agt_strict"]
    assert len(report["problems"]) == 2
    assert report["coverage"]["methods"]["ChatHub.SendMessageAsync"] == 1

    suite = ET.parse(project / "out.xml").getroot()
    failed = {case.get("name"): case.find("failure") is not None for case in suite.iter("testcase")}
    (call,) = report["calls"]
    assert failed == {"fault never": True, f"call {call['id']} with agt_strict": True, "everything else": False}
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")


# A suite that gives each of its tests a tenant, and ends it.
ENDS_TENANTS = """
import asyncio, json, os
from urllib.request import Request, urlopen
from voisnap_mock.caller import ChatUser
from voisnap_mock.clock import SystemClock

base = os.environ["VOISNAP_BASE_URL"]

def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    return urlopen(Request(f"{base}/__voisnap/{path}", data, {"Content-Type": "application/json"}, method=method))

async def chat(token):
    async with ChatUser(base, "agt_strict", access_token=token, clock=SystemClock()) as user:
        await user.write("no")
        await user.wait_for_end(within=5)

for id in ("one", "two"):
    fault = {"id": id, "at": "llm", "when": {"turn": 8}, "do": {"error": "LLM_PROVIDER_ERROR"}}
    tenant = json.load(ask("POST", "tenants", {"faults": [fault]}))
    asyncio.run(chat(tenant["accessToken"]))
    ask("DELETE", "tenants/" + tenant["tenantId"])
"""


def test_tenants_that_the_suite_has_ended_count_too(project: Path) -> None:
    result = run("exec", "--clock", "virtual", "--strict", "--report", "json", *python(ENDS_TENANTS), cwd=project)
    assert result.returncode == 113, result.stderr
    report = json.loads((project / "voisnap-mock.json").read_text())
    assert [fault["id"] for fault in report["faults"]] == ["never", "one", "two"], "the file's own is told once"
    assert result.stderr.count("never fired: ") == 3
    assert [call["agentId"] for call in report["calls"]] == ["agt_strict"] * 2
    assert sum("the script did not go on" in problem for problem in report["problems"]) == 2
    assert report["coverage"]["methods"]["ChatHub.SendMessageAsync"] == 2


def test_what_no_xml_may_hold_does_not_spoil_a_junit_report(project: Path) -> None:
    run("exec", "--report", "junit", "--", *COMMAND, "chat", "agt_strict", "--say", "no\x1b[1m \ufffe", cwd=project)
    failures = ET.parse(project / "voisnap-mock.xml").getroot().iter("failure")
    assert any("no\ufffd[1m \ufffd" in (failure.text or "") for failure in failures)


def test_coverage_of_several_runs_and_of_pytest_is_added_up(project: Path) -> None:
    run("exec", "--report", "coverage=one.json", *CHAT, cwd=project)
    run("exec", "--report", "coverage", *CHAT, cwd=project)
    (project / "test_it.py").write_text("def test_it(voisnap_mock):\n    voisnap_mock.login()\n")
    command = [sys.executable, "-m", "pytest", "-q", "--voisnap-coverage-file", "py.json", "test_it.py"]
    subprocess.run(command, cwd=project, env=clean_environment(), check=True, capture_output=True, timeout=50)
    result = run("coverage", "one.json", "voisnap-coverage.json", "py.json", "--json", cwd=project)
    assert json.loads(result.stdout)["methods"]["ChatHub.SendMessageAsync"] == 2


def test_no_token_is_in_a_report(project: Path) -> None:
    run("exec", "--report", "json", "--report", "junit", *CHAT, cwd=project)
    for name in ("voisnap-mock.json", "voisnap-mock.xml"):
        assert "eyJ" not in (project / name).read_text()


def test_a_report_that_cannot_be_written_is_told(project: Path) -> None:
    result = run("exec", "--report", "json=no/such/folder.json", "--report", "junit", *python(""), cwd=project)
    assert result.returncode == 114
    assert (project / "voisnap-mock.xml").exists(), "the others are"
    assert "--report: no/such/folder.json cannot be written" in result.stderr


def test_settings_of_the_environment_count(tmp_path: Path) -> None:
    environment = clean_environment(VOISNAP_MOCK_CLOCK="sundial")
    result = run("exec", *python(""), cwd=tmp_path, environment=environment)
    assert result.returncode == 111
    assert "VOISNAP_MOCK_CLOCK: 'sundial' is not a clock" in result.stderr
