"""Faults from files, from a token, and by the choice of a magic agent; and what `serve` says of them at its end."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest
from processes import ServerProgram, run

from voisnap_mock.app import App
from voisnap_mock.caller import CallRefused
from voisnap_mock.config import Settings, load_settings, parse_agents
from voisnap_mock.errors import ConfigError, FaultsError
from voisnap_mock.faults import magic
from voisnap_mock.faults.reading import read_faults
from voisnap_mock.faults.rules import CODES
from voisnap_mock.journal import JournalEntry
from voisnap_mock.server import MockServer
from voisnap_mock.testing.handset import Handset, NothingHeard
from voisnap_mock.testing.keyboard import Keyboard

AGENTS = """\
agents: {agt_a: {greeting: Hi, voice: {engine: tone}}}
faults: [{id: busy, at: login, do: {http: 429}, times: 1, skip: 9}]
"""


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS)
    return path


def armed(app: App) -> list[str]:
    return [report.rule.id for report in app.faults.report("ten_dev")]


# --- Files ------------------------------------------------------------------------------------------------------


def test_a_faults_file_adds_to_the_agents_file(agents: Path) -> None:
    more = agents.with_name("more.yaml")
    more.write_text("faults: [{id: deaf, at: stt, do: {silence: true}}]\nschedules: {s: [{for: 1s, use: [busy]}]}\n")
    app = App(Settings(agents=agents, faults=more))
    assert armed(app) == ["busy", "deaf"]
    assert [schedule.name for schedule in app.faults.schedules("ten_dev")] == ["s"]


def test_the_built_in_agents_take_faults_too(tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("{id: deaf, at: stt, do: {silence: true}}")
    assert armed(App(Settings(faults=more))) == ["deaf"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{id: busy, at: llm, do: {silence: true}}", 'more.yaml:1:1: the fault "busy" is already in line 2 of'),
        ("{at: event.Weather, do: {slow: 1s}}", 'more.yaml:1:6: nothing sends the event "Weather"'),
        ("- {at: lllm, do: {slow: 1s}}", 'more.yaml:1:8: there is no point "lllm"; did you mean "llm"?'),
    ],
)
def test_a_faulty_faults_file_is_refused(agents: Path, text: str, complaint: str) -> None:
    more = agents.with_name("more.yaml")
    more.write_text(text)
    with pytest.raises(FaultsError) as caught:
        App(Settings(agents=agents, faults=more))
    assert complaint in str(caught.value)


def test_a_faults_file_that_is_not_there_is_named_with_what_named_it(tmp_path: Path) -> None:
    settings = load_settings({"faults": "nowhere.yaml"}, folder=tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"faults file .*nowhere\.yaml cannot be read \(from --faults\): .*; expected a file or a token",
    ):
        App(settings)


async def test_an_edit_keeps_the_counters_of_what_has_not_changed(agents: Path) -> None:
    more = agents.with_name("more.yaml")
    more.write_text("{id: deaf, at: stt, do: {silence: true}}")
    app = App(Settings(agents=agents, faults=more), report=lambda text: None)
    for _ in range(10):
        app.faults.decide("ten_dev", "login")
    more.write_text("{id: mute, at: tts, do: {silence: true}}")
    await app.reload()
    assert [(r.rule.id, r.fired) for r in app.faults.report("ten_dev")] == [("busy", 1), ("mute", 0)]
    more.write_text("{id: mute, at: tts, do: {oops: true}}")
    await app.reload()
    assert armed(app) == ["busy", "mute"]


def test_a_token_takes_the_place_of_the_files_own_faults(agents: Path) -> None:
    first = App(Settings(agents=agents, seed=7))
    first.faults.arm("ten_dev", read_faults("{id: x, at: stt, do: {silence: true}, rate: 0.5}", source="x"))
    token = first.faults.token("ten_dev")
    settings = load_settings({"agents": str(agents), "faults": token})
    assert settings.faults == token
    assert armed(App(settings)) == ["busy", "x"]


# --- Magic agents -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> object:
    with MockServer(parse_agents(AGENTS, source="test agents"), clock="virtual") as server:
        yield server


def failures(server: MockServer, call_id: str) -> list[tuple[float | None, str]]:
    return [(entry.t, entry.details["code"]) for entry in entries(server, "session.failed") if entry.call_id == call_id]


def entries(server: MockServer, kind: str) -> list[JournalEntry]:
    return [entry for entry in server.app.tenants.default.journal.entries() if entry.kind == kind]


def test_every_code_has_its_agent_and_none_is_in_the_list(server: MockServer) -> None:
    assert {f"agt_mock_{code.lower()}" for code in CODES} < set(magic.AGENTS)
    login = httpx.post(
        f"{server.base_url}/api/v1/auth/login", json={"email": "dev@example.test", "password": "dev"}, timeout=30
    ).json()
    listed = httpx.get(
        f"{server.base_url}/api/v1/agents", headers={"Authorization": f"Bearer {login['accessToken']}"}, timeout=30
    ).json()
    assert [agent["id"] for agent in listed["data"]] == ["agt_a"]


@pytest.mark.parametrize("code", ["AGENT_NOT_FOUND", "AGENT_INACTIVE", "AUTH_FAILED", "SESSION_LIMIT_REACHED"])
def test_a_code_of_connecting_turns_the_connection_away(server: MockServer, code: str) -> None:
    with pytest.raises(CallRefused, match=code), server.caller(f"agt_mock_{code.lower()}"):
        pass


def test_a_session_of_its_agent_cannot_be_resumed(server: MockServer) -> None:
    with server.caller("agt_mock_reconnect_failed") as caller:
        caller.heard()
        caller.drop()
        with pytest.raises(CallRefused, match="RECONNECT_FAILED"):
            caller.resume()


def test_the_ear_of_its_agent_fails_at_the_first_turn(server: MockServer) -> None:
    with server.caller("agt_mock_stt_provider_timeout") as caller:
        caller.heard()
        caller.say("hello there")
        assert caller.heard() == "I heard you."
        caller.say("hello again")
        caller.heard()
        assert [code for _, code in failures(server, caller.conversation_id)] == ["STT_PROVIDER_TIMEOUT"]


@pytest.mark.parametrize("code", ["STT_PROVIDER_TIMEOUT", "LLM_PROVIDER_ERROR"])
def test_the_first_message_of_a_chat_fails(server: MockServer, code: str) -> None:
    with server.chat(f"agt_mock_{code.lower()}") as user:
        user.heard()
        user.write("hello")
        assert user.heard() == "I heard you."
        user.write("hello")
        assert user.heard() == "I heard you again."
        assert [found for _, found in failures(server, user.conversation_id)] == [code]


def test_the_slow_agent_answers_three_seconds_later(server: MockServer) -> None:
    def answered_after(who: Keyboard) -> float:
        who.heard()
        asked = who.t
        who.write("hello")
        who.heard()
        return who.t - asked

    with server.chat("agt_mock_slow") as slow, server.chat("agt_mock_bad_line") as usual:
        assert answered_after(slow) == pytest.approx(answered_after(usual) + 3, abs=0.06)


def test_the_silent_agent_says_nothing(server: MockServer) -> None:
    with server.caller("agt_mock_silent") as caller:
        caller.say("is anybody there")
        with pytest.raises(NothingHeard):
            caller.heard(timeout=5)


def lost(caller: Handset) -> bool:
    try:
        while True:
            caller.say("one two three")
    except CallRefused:
        return True


def test_the_agent_that_drops_does_so_after_three_seconds(server: MockServer) -> None:
    with server.caller("agt_mock_drop_3s") as caller:
        assert lost(caller)
        call_id = caller.conversation_id
    (severed,) = [entry for entry in entries(server, "connection.severed") if entry.call_id == call_id]
    assert (severed.t, severed.details) == (3.0, {"how": "reset"})


def test_the_bad_line_is_bad_both_ways(server: MockServer) -> None:
    with server.caller("agt_mock_bad_line") as caller:
        caller.heard()
        caller.say("can you hear me well enough")
        caller.heard()
        points = {
            entry.details["point"]
            for entry in entries(server, "fault.fired")
            if entry.call_id == caller.conversation_id
        }
    assert points == {"audio.in", "audio.out"}


def test_an_agent_of_the_file_or_magic_false_keeps_them_away() -> None:
    app = App(Settings(), file=parse_agents("agents: {agt_mock_slow: {greeting: Mine}}", source="x"))
    tenant = app.tenants.default
    assert not app.faults.watches("ten_dev", "llm", agent="agt_mock_slow")
    found = tenant.find("agt_mock_slow")
    assert found is not None
    assert found.script.greeting[0].text == "Mine"  # type: ignore[union-attr]
    app = App(Settings(), file=parse_agents("agents: {agt_a: {}}\nmagic: false", source="x"))
    assert app.tenants.default.find("agt_mock_slow") is None
    assert not app.faults.watches("ten_dev", "llm")


# --- serve and validate -----------------------------------------------------------------------------------------


def test_at_its_end_serve_names_the_faults_that_never_fired_and_how_to_have_the_same_again(agents: Path) -> None:
    more = agents.with_name("more.yaml")
    more.write_text(
        "- {id: dice, at: llm, do: {replace: No.}, rate: 0.5}\n- {id: deaf, at: stt, do: {silence: true}}\n"
    )
    with ServerProgram(agents, "--faults", more, "--clock", "virtual") as program:
        said = run("chat", "agt_a", "--say", "one", "--url", program.url)
        assert said.returncode == 0, said.stderr
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0
    printed = "\n".join(program.lines)
    assert "never fired: deaf  nothing has crossed stt" in printed
    token = next(line for line in program.lines if "The same faults again" in line).rpartition(" ")[2]
    assert [rule.id for rule in read_faults(token, source="x").rules] == ["busy", "dice", "deaf"]


def test_validate_reads_files_of_faults(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("- {at: stt, do: {silence: true}}\n- {at: event.Weather, do: {slow: 1s}}\n")
    bad.write_text("faults: [{at: sttt, do: {silence: true}}]")
    result = run("validate", str(good), str(bad))
    assert result.returncode == 3
    assert "good.yaml: 2 faults, no problems" in result.stdout
    assert 'bad.yaml:1:15: there is no point "sttt"; did you mean "stt"?' in result.stdout
