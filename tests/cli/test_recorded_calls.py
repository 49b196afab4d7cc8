"""`show` and `replay`: what was recorded, seen again and played again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import ServerProgram, clean_environment, run

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.audio.frames import write_wav
from voisnap_mock.config import Settings
from voisnap_mock.recordings.archive import zip_of
from voisnap_mock.server import MockServer

AGENTS = """
version: 1
seed: 3
agents:
  agt_shop:
    name: Shop
    greeting: Good morning, what can I do for you?
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms, first_audio: 100ms}
    replies:
      - {hear: [refund], say: "Which order, {{ metadata.name }}?"}
      - {dtmf: "0", transfer: {to: "+15550100", summary: Asked for a person}}
      - {else: What?}
"""

# However busy the machine is, the agent waits for the next piece of sound.
VIRTUAL = ("--clock", "virtual", "--idle-grace", "5s")


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "agents.yaml"
    path.write_text(AGENTS)
    return path


@pytest.fixture(scope="module")
def polite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a call in which nobody comes near to interrupting: what is said does not hang on a moment."""
    folder = tmp_path_factory.mktemp("calls")
    breath = tmp_path_factory.mktemp("breath") / "breath.wav"
    breath.write_bytes(write_wav(bytes(96_000), 16_000))
    settings = Settings(port=0, clock="virtual", record=folder)
    with (
        MockServer(parse_agents(AGENTS, source="test agents"), settings=settings) as server,
        server.caller("agt_shop", metadata={"name": "Ada"}) as caller,
    ):
        caller.heard()
        caller.play(breath)
        caller.say("I want a refund")
        caller.heard()
        caller.play(breath)
        caller.press("0")
        caller.hears_end()
    return folder / caller.conversation_id


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a call."""
    folder = tmp_path_factory.mktemp("calls")
    settings = Settings(port=0, clock="virtual", record=folder)
    with (
        MockServer(parse_agents(AGENTS, source="test agents"), settings=settings) as server,
        server.caller("agt_shop", metadata={"name": "Ada"}) as caller,
    ):
        caller.interrupt("I want a refund", at=1.0)
        caller.heard()
        caller.heard()
        caller.press("0")
        caller.hears_end()
    return folder / caller.conversation_id


def test_a_recorded_call_is_shown_as_a_timed_transcript_with_its_events(record: Path) -> None:
    result = run("show", record)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if "turn.answered" not in line and "reply." not in line]
    assert lines[0] == f"{record.name}  voice with agt_shop, virtual clock"
    assert lines[1:] == [
        "    0.00  started  Shop",
        "    0.00  agent    Good morning, what can  (interrupted)",
        "    1.00  caller   I want a refund  (1.00, marks)",
        "    2.44  agent    Which order, Ada?",
        "    3.64  press    0",
        "    3.64  transfer to +15550100, warm: Asked for a person",
        "    3.64  ended    transfer_complete after 3.64 s",
    ]


def test_a_person_sees_colours_and_a_program_json(record: Path, tmp_path: Path) -> None:
    assert "\x1b[" in run("show", record, environment=clean_environment(FORCE_COLOR="1")).stdout
    packed = tmp_path / "call.zip"
    packed.write_bytes(zip_of({path.name: path.read_bytes() for path in record.iterdir()}, record.name))
    shown = json.loads(run("show", packed, "--json").stdout)
    assert shown["call"]["reason"] == "transfer_complete"
    assert shown["transcript"][1] == {
        "who": "caller",
        "text": "I want a refund",
        "begin": 1.0,
        "end": 1.94,
        "confidence": 1.0,
        "ear": "marks",
    }
    assert shown["events"][0]["kind"] == "session.opened"


def test_a_record_that_broke_off_says_so(record: Path, tmp_path: Path) -> None:
    facts = json.loads((record / "call.json").read_text())
    (tmp_path / "call.json").write_text(json.dumps(facts | {"status": "live"}))
    (tmp_path / "events.jsonl").write_bytes((record / "events.jsonl").read_bytes()[:-10])
    lines = run("show", tmp_path).stdout.splitlines()
    assert lines[-1] == "The record breaks off here: the call went on, or its server was killed."


def test_a_call_of_a_running_server_is_shown_by_its_id(agents: Path) -> None:
    with ServerProgram(agents, *VIRTUAL) as server:
        ended = json.loads(
            run("chat", "agt_shop", "--say", "refund", "--json", "--url", server.url).stdout.splitlines()[0]
        )
        call_id = ended["conversationId"]
        shown = run("show", call_id, "--url", server.url)
        again = run("replay", call_id, "--url", server.url, "--tolerance", "0s")
        unknown = run("show", "conv_nobody", "--url", server.url)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"{call_id}  chat with agt_shop, virtual clock\n")
    assert "caller   refund" in shown.stdout
    assert again.returncode == 0, again.stdout + again.stderr
    assert unknown.returncode == 1
    assert f"conv_nobody is no file here, and {server.url} does not give it: 404, call" in unknown.stderr
    assert run("show", "conv_nobody", "--url", "http://127.0.0.1:9").returncode == 1


def test_what_is_no_record_is_a_bad_file(tmp_path: Path) -> None:
    result = run("show", tmp_path / "nothing")
    assert result.returncode == 3
    assert "nothing: No such file or directory; expected the folder of a recorded call, or its zip" in result.stderr


# --- replay -----------------------------------------------------------------------------------------------------


def test_a_replay_that_comes_out_the_same_is_0(record: Path, agents: Path) -> None:
    with ServerProgram(agents, *VIRTUAL) as server:
        result = run("replay", record, "--url", server.url)
        as_json = run("replay", record, "--json", environment=clean_environment(VOISNAP_MOCK_URL=server.url))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"Replaying {record.name}  voice with agt_shop, 3.64 s, on {server.url}"
    assert [line.split()[-1] for line in lines if "SessionEnded" in line] == ["transfer_complete"]
    assert lines[-1] == "The same 6 events."
    assert as_json.returncode == 0, as_json.stderr
    found = json.loads(as_json.stdout)
    assert (found["same"], found["differences"]) == (True, [])
    # The server tells when its events came, and on a virtual clock that is the same to the millisecond.
    assert found["replayed"] == found["recorded"]


def test_a_replay_that_comes_out_differently_is_1_and_shows_how(record: Path, agents: Path) -> None:
    other = agents.with_name("other.yaml")
    other.write_text(AGENTS.replace("Which order", "What number"))
    with ServerProgram(other, *VIRTUAL) as server:
        result = run("replay", record, "--url", server.url)
        found = json.loads(run("replay", record, "--url", server.url, "--json").stdout)
    assert result.returncode == 1
    changed = [line for line in result.stdout.splitlines() if line[0] in "+-"]
    assert [(line[0], line.partition("TranscriptionOf")[2].strip()) for line in changed] == [
        ("-", "Which order, Ada?"),
        ("+", "What number, Ada?"),
    ]
    assert result.stderr == "error: 2 of 7 events are different from the record\n"
    assert [difference["what"] for difference in found["differences"]] == ["missing", "extra"]


def test_in_real_time_events_must_come_at_their_time_if_one_wants(polite: Path, agents: Path) -> None:
    with ServerProgram(agents, "--clock", "4x") as server:
        in_time = run("replay", polite, "--url", server.url, "--tolerance", "4s")
        never = run("replay", polite, "--url", server.url, "--tolerance", "0s")
        refused = run("replay", polite, "--url", server.url, "--agent", "agt_nobody")
    assert in_time.returncode == 0, in_time.stdout + in_time.stderr
    assert never.returncode == 1
    assert refused.returncode == 1
    assert "error: the call failed: AGENT_NOT_FOUND" in refused.stderr


def test_what_cannot_be_replayed_is_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "call.zip").write_text("no zip")
    result = run("replay", tmp_path / "call.zip")
    assert result.returncode == 3
    assert f"error: {tmp_path}/call.zip: is not a zip that can be read" in result.stderr
