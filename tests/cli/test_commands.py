"""Every command, run as a user runs it: output into a pipe, exit codes, files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import jwt
import pytest
import yaml
from processes import COMMAND, Program, ServerProgram, clean_environment, run
from typer.main import get_command

from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER
from voisnap_mock.cache import VARIABLE, cache_folder
from voisnap_mock.cli.entry import app as cli_app

AGENTS = """
version: 1
auth: {users: [{email: dev@example.test, password: dev}, {email: anna@example.test, password: s3cret-of-anna}]}
agents:
  agt_desk:
    name: Front desk
    greeting: "Hello."
    replies:
      - dtmf: "12"
        say: "Twelve."
      - hear: [refund]
        say: "Which day?"
        goto: day
      - hear: [goodbye, bye]
        say: "Goodbye."
        end: agent_ended
      - hear: [person]
        transfer: {to: "+15550100", summary: "{{ metadata.plan }}"}
      - else: "Sorry?"
    states:
      day: [{else: "Refunded."}]
  agt_closed: {active: false}
"""
ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProgram]:
    path = tmp_path_factory.mktemp("desk") / "agents.yaml"
    path.write_text(AGENTS)
    with ServerProgram(path) as program:
        yield program


@pytest.fixture
def url(server: ServerProgram) -> str:
    return f"--url={server.url}"


COMMANDS: list[str] = list(get_command(cli_app).commands)  # type: ignore[attr-defined]

# --- in general -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")

    assert result.returncode == 0
    assert f"voisnap-mock {command}" in result.stdout
    assert ESCAPE not in result.stdout


def test_the_command_alone_lists_all_commands() -> None:
    result = run("--help")

    assert result.returncode == 0
    listed = re.findall(r"^  ([a-z]+) ", result.stdout.partition("Commands:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dance"], "dance"),
        (["call"], "AGENT"),
        (["call", "agt", "--dtmf", "x"], "0-9, * and #"),
        (["call", "agt", "--wav", "nowhere.wav"], "nowhere.wav"),
        (["call", "agt", "--interrupt", "Stop it"], "is no time with a text"),
        (["call", "agt", "--drop", "soon"], "500ms, 10s, 2m or 1h"),
        (["chat", "agt", "--drop", "1s=later"], "500ms, 10s, 2m or 1h"),
        (["token", "--ttl", "soon"], "500ms, 10s, 2m or 1h"),
        (["token", "--claim", "plan"], "--claim plan=gold"),
        (["env", "--shell", "tcsh"], "powershell"),
        (["serve", "--port", "70000"], "70000"),
        (["serve", "--dance"], "--dance"),
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)

    assert result.returncode == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"voisnap-mock \d+\.\d+\.\d+\n", run("--version").stdout)


def test_a_pipe_that_knows_only_ascii_gets_what_it_can(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text(AGENTS)

    result = run("validate", cwd=tmp_path, environment=clean_environment(PYTHONIOENCODING="ascii"))

    assert (result.returncode, result.stdout) == (0, "? agents.yaml: 2 agents, no problems\n")


def test_no_command_is_cut_short_in_the_list_of_all() -> None:
    assert "..." not in run("--help", environment=clean_environment(COLUMNS="80")).stdout.partition("Commands:")[2]


def test_help_in_colour_for_people() -> None:
    result = run("--help", environment=clean_environment(FORCE_COLOR="1", TERM="xterm-256color"))

    assert ESCAPE in result.stdout


def test_nobody_waits_for_what_he_does_not_use() -> None:
    """The server's start imports nothing that only calls, speech or terminals need."""
    heavy = "rich numpy vosk soxr jwt voisnap_mock.caller voisnap_mock.cli.calling"
    program = (
        "import sys, voisnap_mock.cli, voisnap_mock.cli.serving;"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert result.stdout.strip() == "[]", result.stderr


# --- call -----------------------------------------------------------------------------------------------------------


def kinds(output: str) -> list[tuple[str, str]]:
    """The lines of a transcript as (kind, text), without times."""
    return [(kind, text) for kind, text in re.findall(r"^ +\d+\.\d\d  (\w+) +(.*)$", output, re.MULTILINE)]


def test_call_speaks_listens_presses_and_hangs_up(url: str, tmp_path: Path) -> None:
    recording = tmp_path / "call.wav"

    result = run("call", "agt_desk", "--dtmf", "1", "--dtmf", "2", "--say", "I want a refund", "-o", recording, url)

    assert result.returncode == 0, result.stderr
    assert ESCAPE not in result.stdout
    lines = kinds(result.stdout)
    assert [kind for kind, _ in lines] == [
        "started",
        "agent",
        "press",
        "press",
        "agent",
        "say",
        "heard",
        "agent",
        "ended",
    ]
    assert lines[1] == ("agent", "Hello.")
    assert lines[4] == ("agent", "Twelve.")
    assert lines[6] == ("heard", "I want a refund  (1.00)")
    assert lines[7] == ("agent", "Which day?")
    assert lines[8][1].startswith("user_ended after ")
    with wave.open(str(recording)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 24000)
        assert file.getnframes() > 3 * 24000
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    assert max(samples[0::2]) > 1000, "the caller is on the left"
    assert max(samples[1::2]) > 1000, "the agent is on the right"


def test_call_interrupts_at_its_time(url: str) -> None:
    result = run("call", "agt_desk", "--interrupt", "150ms=I want a refund", "--json", url)

    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    (said,) = [line for line in lines if line["event"] == "say"]
    assert said["text"] == "I want a refund"
    assert 0.15 <= said["t"] < 0.6
    assert "heard" in {line["event"] for line in lines}


@pytest.mark.parametrize("command", ["call", "chat"])
def test_a_connection_is_lost_at_its_time_and_the_session_goes_on(url: str, command: str) -> None:
    result = run(
        command, "agt_desk", "--drop", "100ms=200ms", "--say", "I want a refund", "--drop", "0s", "--json", url
    )

    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    dropped, dropped_again = (line for line in lines if line["event"] == "drop")
    resumed, resumed_again = (line for line in lines if line["event"] == "resumed")
    assert 0.1 <= dropped["t"] < dropped["t"] + 0.2 <= resumed["t"]
    assert dropped_again["t"] <= resumed_again["t"] < dropped_again["t"] + 1.0
    assert "Which day?" in [line.get("text") for line in lines if line["event"] == "agent"]
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)


def test_call_plays_a_file_and_prints_json_lines(url: str, tmp_path: Path) -> None:
    spoken = tmp_path / "bye.wav"
    assert run("say", "goodbye", "--out", spoken).returncode == 0

    result = run("call", "agt_desk", "--wav", spoken, "--json", url)

    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "agent", "play", "heard", "agent", "ended"]
    assert events[0]["sessionId"] == events[0]["conversationId"]
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)
    assert (events[3]["text"], events[3]["confidence"]) == ("goodbye", 1.0)
    assert events[4]["text"] == "Goodbye."
    assert events[5]["reason"] == "agent_ended"


def test_call_says_what_became_of_the_rest_when_the_agent_hangs_up_first(url: str) -> None:
    result = run("call", "agt_desk", "--say", "goodbye", "--say", "are you there", url)

    assert result.returncode == 1
    assert "the call ended (agent_ended) before 1 of 2 steps could be done" in result.stderr


def test_a_session_is_resumed_by_another_call(url: str) -> None:
    with Program([*COMMAND, "call", "agt_desk", "--json", "--say", "I want a refund", url]) as first:
        started = json.loads(first.read_until(lambda line: '"started"' in line))
        first.read_until(lambda line: "Which day" in line)
    # Leaving the block kills the process: the connection is lost, the session waits.

    result = run("call", "agt_desk", "--json", "--say", "it was monday", "--session", started["sessionId"], url)

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert (events[0]["event"], events[0]["sessionId"]) == ("resumed", started["sessionId"]), result.stderr
    assert "Refunded." in [event.get("text") for event in events]


def test_a_call_whose_server_dies_is_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS)
    with ServerProgram(path) as server, Program([*COMMAND, "call", "agt_desk", "--url", server.url]) as caller:
        caller.read_until(lambda line: "started" in line)
        server.send_signal(signal.SIGKILL)

        assert caller.wait() == 1
        assert "the connection was lost before the call had ended" in caller.errors


def test_call_follows_a_transfer_and_hands_over_metadata(url: str) -> None:
    result = run("call", "agt_desk", "--say", "I want to speak to a person", "--metadata", "plan=gold", url)

    assert result.returncode == 0, result.stderr
    assert ("transfer", "to +15550100, warm: gold") in kinds(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["agt_nobody"], "AGENT_NOT_FOUND"),
        (["agt_closed"], "AGENT_INACTIVE"),
        (["agt_desk", "--token", "abc"], "401"),
        (["agt_desk", "--password", "s3cret"], "refused the login of dev@example.test"),
        (["agt_desk", "--session", "conv_gone"], "RECONNECT_FAILED"),
    ],
)
@pytest.mark.parametrize("command", ["call", "chat"])
def test_a_refused_call_is_exit_code_1_and_one_message(
    command: str, arguments: list[str], complaint: str, url: str
) -> None:
    result = run(command, *arguments, url)

    assert result.returncode == 1
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert "abc" not in result.stderr
    assert "s3cret" not in result.stderr


@pytest.mark.parametrize("command", [["call", "agt"], ["chat", "agt"], ["ready"]])
def test_no_server_is_exit_code_1_and_the_way_to_start_one(command: list[str]) -> None:
    result = run(*command, "--url", "http://127.0.0.1:9")

    assert result.returncode == 1
    assert "no server answers at http://127.0.0.1:9" in result.stderr
    assert "voisnap-mock serve" in result.stderr


def test_a_file_that_is_no_recording_is_exit_code_3(tmp_path: Path, url: str) -> None:
    text = tmp_path / "text.wav"
    text.write_text("not a recording")

    result = run("call", "agt_desk", "--wav", text, url)

    assert result.returncode == 3
    assert "text.wav: cannot be played" in result.stderr


def test_a_microphone_needs_its_extra(url: str) -> None:
    result = run("call", "agt_desk", "--mic", url)

    assert result.returncode == 3
    assert "voisnap-mock[mic]" in result.stderr or "PortAudio" in result.stderr or "no usable" in result.stderr


# --- chat -----------------------------------------------------------------------------------------------------------


def test_chat_sends_its_messages_in_turn(url: str) -> None:
    result = run("chat", "agt_desk", "--say", "A refund!", "--say", "Monday", url)

    assert result.returncode == 0, result.stderr
    assert [line for line in kinds(result.stdout) if line[0] in ("agent", "you")] == [
        ("agent", "Hello."),
        ("you", "A refund!"),
        ("agent", "Which day?"),
        ("you", "Monday"),
        ("agent", "Refunded."),
    ]
    assert ESCAPE not in result.stdout


def test_chat_reads_lines_from_a_pipe(url: str) -> None:
    result = run("chat", "agt_desk", url, stdin="A refund\n\nbye")

    assert result.returncode == 0, result.stderr
    assert [text for kind, text in kinds(result.stdout) if kind == "you"] == ["A refund", "bye"]
    assert kinds(result.stdout)[-1][0] == "ended"


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_chat_of_which_nobody_reads_on_goes_on_to_its_end(url: str, as_json: tuple[str, ...]) -> None:
    command = [*COMMAND, "chat", "agt_desk", "--say", "A refund", *as_json, url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()
    ) as chat:
        assert chat.stdout is not None
        assert chat.stderr is not None
        while "started" not in chat.stdout.readline():
            pass
        chat.stdout.close()
        assert (chat.stderr.read(), chat.wait()) == ("", 0)


def test_chat_logs_in_as_another_user_and_finds_the_server_by_its_variables(server: ServerProgram) -> None:
    environment = clean_environment(
        VOISNAP_BASE_URL=f"{server.url}/api/v1",
        VOISNAP_EMAIL="anna@example.test",
        VOISNAP_PASSWORD="s3cret-of-anna",
    )

    result = run("chat", "agt_desk", "--say", "bye", "--json", environment=environment)

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["reason"] == "agent_ended"


# --- say, token, env ------------------------------------------------------------------------------------------------


def test_say_writes_what_a_client_sends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "hello.wav"

    result = run("say", "hello there", "-o", target, "--voice", "en-gb-x-rp", "--rate", "150")

    assert result.returncode == 0, result.stderr
    with wave.open(str(target)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.getnframes() > 8000
    assert target.with_suffix(".txt").read_text(encoding="utf-8") == "hello there\n"
    known = cache_folder() / "utterances"
    assert [path.stem for path in known.glob("*.wav") if path.read_bytes() == target.read_bytes()] == [
        path.stem for path in known.glob("*.txt") if path.read_text() == "hello there\n"
    ]


def test_say_does_not_overwrite_a_text_that_is_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    for name, says in (("notes.wav", "is there already"), ("notes.txt", "give the sound another name")):
        result = run("say", "hello", "-o", tmp_path / name)

        assert result.returncode == 1
        assert says in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_say_does_its_work_without_a_cache_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    result = run(
        "say", "hello", "-o", tmp_path / "x.wav", environment=clean_environment(**{VARIABLE: str(tmp_path / "file")})
    )

    assert result.returncode == 0, result.stderr
    assert "Not known by its sound" in result.stdout
    assert (tmp_path / "x.txt").read_text() == "hello\n"


# --- models ---------------------------------------------------------------------------------------------------------


def test_a_model_is_installed_listed_and_found(tmp_path: Path) -> None:
    environment = clean_environment(**{VARIABLE: str(tmp_path / "cache")})
    assert run("models", "path", environment=environment).stdout.strip() == str(BUILT_IN_FOLDER)
    archive = Path(shutil.make_archive(str(tmp_path / "vosk-model-mine"), "zip", BUILT_IN_FOLDER))

    result = run("models", "install", archive, environment=environment)

    assert result.returncode == 0, result.stderr
    folder = tmp_path / "cache" / "models" / "vosk-model-mine"
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert result.stdout.splitlines() == [
        f"Installed vosk-model-mine in {folder}",
        f"SHA-256 {checksum}",
        "Agents with `hears: auto` use it from the next start of a server on.",
    ]
    assert run("models", "path", environment=environment).stdout.strip() == str(folder)
    assert run("models", "path", "built-in", environment=environment).stdout.strip() == str(BUILT_IN_FOLDER)
    listed = run("models", "list", environment=environment).stdout
    assert re.search(r"\* +vosk-model-mine +\d\.\d MB +\d{4}-\d\d-\d\d +/", listed), listed
    as_json = json.loads(run("models", "list", "--json", environment=environment).stdout)
    assert [(model["name"], model["used"]) for model in as_json] == [("vosk-model-mine", True), ("built-in", False)]
    assert as_json[0]["sha256"] == checksum
    other = run("models", "list", environment={**environment, "VOSK_MODEL_PATH": "/elsewhere"})
    assert "/elsewhere, because VOSK_MODEL_PATH names it" in other.stdout

    with ServerProgram(environment=environment) as server:
        assert f"(model {folder}, models install)" in server.report()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["install", "nothing.zip"], 1, "nothing.zip: cannot be read: No such file"),
        (["install", "x.zip", "--sha256", "12"], 2, "is no SHA-256"),
        (["path", "klingon"], 1, "there is no model 'klingon'; there are built-in"),
    ],
)
def test_models_says_what_is_wrong(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    result = run("models", *arguments, environment=clean_environment(**{VARIABLE: str(tmp_path)}), cwd=tmp_path)

    assert result.returncode == code
    assert says in " ".join(result.stderr.split())


def test_say_names_a_voice_that_is_not_there(tmp_path: Path) -> None:
    result = run("say", "hello", "-o", tmp_path / "x.wav", "--voice", "klingon")

    assert result.returncode == 1
    assert "klingon" in result.stderr
    assert not (tmp_path / "x.wav").exists()


SECRET = "voisnap-mock-development-secret-never-for-production"


def claims_of(token: str, *, is_expired: bool = False) -> dict[str, object]:
    options = {"verify_exp": not is_expired}
    decoded: dict[str, object] = jwt.decode(
        token.strip(), SECRET, algorithms=["HS256"], audience="voisnap", issuer="voisnap-mock", options=options
    )
    return decoded


def test_token_mints_what_any_server_accepts(tmp_path: Path, server: ServerProgram) -> None:
    result = run(
        "token",
        *("--user", "eve@example.test", "--tenant", "ten_eve", "--ttl", "2h", "--claim", "plan=gold", "--claim", "n=5"),
        cwd=tmp_path,
    )

    assert result.returncode == 0, result.stderr
    claims = claims_of(result.stdout)
    assert (claims["email"], claims["tid"], claims["plan"], claims["n"]) == ("eve@example.test", "ten_eve", "gold", 5)
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 7200


def test_token_can_be_expired(tmp_path: Path) -> None:
    result = run("token", "--expired", cwd=tmp_path)

    with pytest.raises(jwt.ExpiredSignatureError):
        claims_of(result.stdout)
    assert claims_of(result.stdout, is_expired=True)["email"] == "dev@example.test"


def test_token_goes_by_the_agents_file(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("version: 1\nauth: {secret: my-own-secret-of-many-characters, token_ttl: 5m}\nagents: {agt_a: {}}\n")
    rsa = tmp_path / "rsa.yaml"
    rsa.write_text("version: 1\nauth: {algorithm: RS256}\nagents: {agt_a: {}}\n")

    token = run("token", "--agents", own, cwd=tmp_path).stdout.strip()
    refused = run("token", "--agents", rsa, cwd=tmp_path)

    claims = jwt.decode(token, "my-own-secret-of-many-characters", algorithms=["HS256"], audience="voisnap")
    assert claims["exp"] - claims["iat"] == 300
    assert refused.returncode == 3
    assert "Log in there" in refused.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_env_is_understood_by_a_shell(server: ServerProgram, tmp_path: Path) -> None:
    exports = run("env", "--url", server.url, cwd=tmp_path).stdout

    shown = subprocess.run(
        ["sh", "-c", f'{exports}\necho "$VOISNAP_EMULATOR_HOST $VOISNAP_BASE_URL $VOISNAP_API_KEY $VOISNAP_EMAIL"'],
        capture_output=True,
        text=True,
    ).stdout.split()

    assert shown == [server.url.removeprefix("http://"), server.url, "vsnp_sb_dev", "dev@example.test"]
    token = re.search(r"VOISNAP_ACCESS_TOKEN=(\S+)", exports)
    assert token
    assert run("chat", "agt_desk", "--say", "bye", "--url", server.url, "--token", token[1]).returncode == 0


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("fish", "set -gx VOISNAP_EMAIL dev@example.test"),
        ("powershell", "$env:VOISNAP_EMAIL = 'dev@example.test'"),
        ("cmd", "set VOISNAP_EMAIL=dev@example.test"),
    ],
)
def test_env_speaks_other_shells_and_needs_no_server(shell: str, line: str, tmp_path: Path) -> None:
    result = run("env", "--shell", shell, "--url", "http://127.0.0.1:9", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert line in result.stdout.splitlines()


# --- validate, schema, init -----------------------------------------------------------------------------------------


def test_validate_is_content_with_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text(AGENTS)

    result = run("validate", cwd=tmp_path)

    assert (result.returncode, result.stdout) == (0, "✓ agents.yaml: 2 agents, no problems\n")


def test_validate_names_file_line_and_column_of_each_problem(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "version: 1\nagents:\n  agt_a:\n    greating: hello\n    timing: {end_of_turn: 700}\n"
        "    replies: [{hear: hi, say: {wav: prompts/none.wav}}]\n"
    )
    (tmp_path / "lost.yaml").write_text("version: 1\nagents: {agt_a: {greeting: {wav: prompts/none.wav, text: Hi}}}\n")

    result = run("validate", "bad.yaml", "lost.yaml", "absent.yaml", cwd=tmp_path)

    assert result.returncode == 3
    lines = result.stdout.splitlines()
    assert re.match(r"bad\.yaml:4:5: .*greating.*greeting", lines[0])
    assert re.match(r"bad\.yaml:5:27: ", lines[1])
    assert any(re.match(r"lost\.yaml:2:\d+: .*prompts/none\.wav", line) for line in lines)
    assert any("absent.yaml" in line and "no such file" in line for line in lines)
    assert "Traceback" not in result.stderr


def test_validate_prints_json_and_reads_standard_input(tmp_path: Path) -> None:
    good = run("validate", "-", "--json", stdin=AGENTS, cwd=tmp_path)
    bad = run("validate", "-", "--json", stdin="version: 1\nagents: {agt_a: {nme: x}}\n", cwd=tmp_path)

    assert (good.returncode, json.loads(good.stdout)) == (0, [])
    assert bad.returncode == 3
    (problem,) = json.loads(bad.stdout)
    assert (problem["file"], problem["line"]) == ("<stdin>", 2)
    assert "nme" in problem["message"]


def test_validate_without_a_file_to_check_is_exit_code_3(tmp_path: Path) -> None:
    result = run("validate", cwd=tmp_path)

    assert result.returncode == 3
    assert "there is no agents.yaml here" in result.stderr


def test_schema_is_a_json_schema_that_our_files_meet() -> None:
    schema = json.loads(run("schema").stdout)

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(AGENTS), schema)


def test_init_writes_files_that_work_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    own = tmp_path / "tests" / "test_voisnap.py"
    own.write_text("# mine")

    result = run("init", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert own.read_text() == "# mine"
    assert (tmp_path / "recordings" / "prompts").is_dir()
    assert run("validate", cwd=tmp_path).returncode == 0
    again = run("init", cwd=tmp_path)
    assert "wrote" not in again.stdout
    assert again.stdout.count("kept") == 3


def test_the_starter_test_passes(tmp_path: Path) -> None:
    assert run("init", "project", cwd=tmp_path).returncode == 0

    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_voisnap.py"],
        cwd=tmp_path / "project",
        env=clean_environment(),
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout + result.stderr


# --- ready, doctor --------------------------------------------------------------------------------------------------


def test_ready_is_exit_code_0_for_a_server_that_is(url: str, server: ServerProgram) -> None:
    result = run("ready", url)

    assert (result.returncode, result.stdout) == (0, f"{server.url} is ready\n")
    assert run("ready", "--wait", url).returncode == 0


def test_ready_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    with (
        Program([*COMMAND, "ready", "--wait", "--timeout", "30s", "--url", url]) as ready,
        Program([*COMMAND, "serve", "--port", str(port)], cwd=tmp_path) as server,
    ):
        assert ready.wait() == 0, ready.report() + server.report()


def test_ready_that_waited_in_vain_is_exit_code_5() -> None:
    result = run("ready", "--wait", "--timeout", "300ms", "--url", "http://127.0.0.1:9")

    assert result.returncode == 5
    assert "was not ready within 0.3 s" in result.stderr


def test_doctor_really_speaks_and_hears(tmp_path: Path) -> None:
    result = run("doctor", cwd=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("heard every word") == 3
    for ear in ("marked speech", "known recordings", "Vosk, built in", "voice activity"):
        assert re.search(rf"✓ {ear} +(heard|found) ", result.stdout), result.stdout
    assert "0 in recordings/utterances" in result.stdout
    assert "Calls and chats work on this machine." in result.stdout
    assert ESCAPE not in result.stdout


def test_doctor_names_a_recording_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "recordings" / "utterances").mkdir(parents=True)
    (tmp_path / "recordings" / "utterances" / "hello.wav").write_bytes(b"junk")

    result = run("doctor", "--json", cwd=tmp_path)

    assert result.returncode == 1
    (finding,) = [finding for finding in json.loads(result.stdout) if finding["state"] == "wrong"]
    assert finding["subject"] == "recordings here"
    assert "hello.wav: has no text" in finding["remedy"]


def test_doctor_names_a_model_that_does_not_work(tmp_path: Path) -> None:
    (tmp_path / "am").mkdir()
    (tmp_path / "am" / "final.mdl").write_bytes(b"junk")

    result = run("doctor", "--json", "--vosk-model", tmp_path, cwd=tmp_path)

    assert result.returncode == 1
    (finding,) = [finding for finding in json.loads(result.stdout) if finding["state"] == "wrong"]
    assert finding["subject"] == "Vosk, your model"
    assert str(tmp_path) in finding["result"]


def test_the_package_runs_as_a_module_and_as_a_command() -> None:
    assert COMMAND[1:] == ("-m", "voisnap_mock")
    script = Path(sys.executable).with_name("voisnap-mock")

    assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout == run("--version").stdout
