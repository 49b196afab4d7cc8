"""`MockServer.mock`: a test's own part of a server, what it can do with its calls, and what it hears when it errs."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from voisnap_mock import CallLeftOpen, ExpectationFailed, MisuseError, MockServer, decode_speech
from voisnap_mock.audio.frames import read_wav
from voisnap_mock.errors import AgentsFileError, ClockError, ConfigError, FaultConflict, FaultsError
from voisnap_mock.testing.mock import Mock, Terms

AGENTS = """
version: 1
agents:
  agt_shop:
    greeting: Good morning, what can I do for you?
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms, first_audio: 100ms}
    replies:
      - hear: refund
        say: Which order?
      - dtmf: "0"
        transfer: {to: "+15550100", type: warm, summary: "A person"}
      - silence: 8s
        say: Still there?
      - else: Sorry?
  agt_strict:
    voice: {engine: tone, rate: 240}
    hears: marks
    timing: {end_of_turn: 400ms}
    script:
      - {hear: "yes", say: "Confirmed."}
      - {end: agent_ended}
"""
TERMS = Terms(patience=0.3, name="test_of_mine")


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(clock="virtual") as running:
        yield running


@pytest.fixture
def mock(server: MockServer) -> Iterator[Mock]:
    with server.mock(AGENTS, terms=TERMS) as opened:
        yield opened


# --- a tenant of its own ----------------------------------------------------------------------------------------


def test_two_of_them_share_nothing(server: MockServer) -> None:
    with server.mock(AGENTS) as one, server.mock(AGENTS) as other:
        with one.caller("agt_shop") as caller:
            caller.heard()
        assert len(one.calls) == 1
        other.assert_no_calls()
        assert {one.email, one.api_key} & {other.email, other.api_key} == set()
        assert {entry.tenant_id for entry in one.journal} == {one.tenant.id}


def test_the_same_test_has_the_same_calls_every_time(server: MockServer) -> None:
    def entries() -> list[object]:
        with server.mock(AGENTS, seed=5) as mock, mock.caller("agt_shop") as caller:
            caller.heard()
            caller.say("I want a refund")
            caller.heard()
            return [(entry.kind, entry.call_id, entry.t) for entry in mock.journal if entry.call_id]

    assert entries() == entries()


def test_its_login_token_and_key_open_the_door(mock: Mock) -> None:
    login = mock.login()
    assert login["user"]["email"] == mock.email
    for credential in (login["accessToken"], mock.token(), mock.api_key):
        request = urllib.request.Request(
            f"{mock.base_url}/api/v1/agents", headers={"Authorization": f"Bearer {credential}"}
        )
        with urllib.request.urlopen(request) as answer:
            assert [agent["id"] for agent in json.load(answer)["data"]] == ["agt_shop", "agt_strict"]


def test_the_variables_are_those_of_the_command_env(mock: Mock) -> None:
    assert mock.variables.keys() == {
        "VOISNAP_EMULATOR_HOST",
        "VOISNAP_BASE_URL",
        "VOISNAP_API_KEY",
        "VOISNAP_EMAIL",
        "VOISNAP_PASSWORD",
        "VOISNAP_ACCESS_TOKEN",
    }
    assert mock.variables["VOISNAP_EMULATOR_HOST"] == mock.host


@pytest.mark.parametrize("form", ["path", "text", "mapping"])
def test_agents_come_as_a_file_as_text_and_as_a_mapping(server: MockServer, tmp_path: Path, form: str) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nagents: {agt_mine: {greeting: Hello.}}\n")
    given = {
        "path": "mine.yaml",
        "text": "version: 1\nagents: {agt_mine: {greeting: Hello.}}\n",
        "mapping": {"version": 1, "agents": {"agt_mine": {"greeting": "Hello."}}},
    }[form]
    with server.mock(terms=Terms(folder=tmp_path)) as mock:
        mock.load(given)
        assert list(mock.tenant.agents) == ["agt_mine"]
        mock.reset()
        assert "agt_echo" in mock.tenant.agents


def test_a_file_is_found_in_the_folders_above_the_test(server: MockServer, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nagents: {agt_mine: {}}\n")
    terms = Terms(folder=tmp_path / "tests" / "unit", top=tmp_path)
    with server.mock("mine.yaml", terms=terms) as mock:
        assert list(mock.tenant.agents) == ["agt_mine"]
        with pytest.raises(ConfigError, match=r"other\.yaml: no such file; looked in .*unit, .*tests, "):
            mock.load("other.yaml")


@pytest.mark.parametrize("form", ["text", "mapping"])
def test_agents_may_bring_their_faults(server: MockServer, form: str) -> None:
    given = {"agents": {"agt_shop": {}}, "faults": [{"at": "llm", "do": {"replace": "No."}}]}
    with server.mock(given if form == "mapping" else f"\n{json.dumps(given)}") as mock, mock.chat("agt_shop") as user:
        assert list(mock.fault_report()) == ["llm-1"]
        user.write("hello")
        assert user.heard() == "No."


def test_a_faulty_file_is_an_error_with_line_and_column(mock: Mock) -> None:
    with pytest.raises(AgentsFileError, match=r"agents given as text:2:\d+: .*greting.*did you mean"):
        mock.load("version: 1\nagents: {agt_a: {greting: Hello.}}\n")
    assert "agt_shop" in mock.tenant.agents, "what was loaded before stays"


# --- calls ------------------------------------------------------------------------------------------------------


def test_a_call_is_expected_spoken_into_and_waited_for(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop"):
        call.wait_for("TranscriptionOf", text="good MORNING")
        call.hear("I want a refund")
        answer = call.wait_for("TranscriptionOf")
        call.press("0")
        call.wait_for("TransferInitiated", text="a person")
        call.wait_for("session.ended")
    assert answer.details["text"] == "Which order?"
    assert call.transcript == [
        ("agent", "Good morning, what can I do for you?"),
        ("caller", "I want a refund"),
        ("agent", "Which order?"),
    ]
    assert call.reason == "transfer_complete"
    assert mock.calls.one().id == call.id
    assert mock.clock.now() == call.t == mock.clock.now(call)


def test_a_chat_is_a_call_too(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.chat("agt_shop") as user:
        user.heard()
        call.hear("refund")
        assert call.wait_for("MessageReceived", text="order").details["text"] == "Which order?"
        with pytest.raises(MisuseError, match="is a chat: it has no keys"):
            call.press("1")
    assert call.transcript[-2:] == [("caller", "refund"), ("agent", "Which order?")]


def test_partial_transcripts_count_only_when_they_are_asked_for(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop"):
        partial = call.wait_for("TranscriptionOf", partial=True)
        final = call.wait_for("TranscriptionOf")
    assert not partial.details["is_final"]
    assert final.details["is_final"]


def test_what_both_said_can_be_heard(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop") as caller:
        caller.heard()
        caller.say("I want a refund")
        caller.heard()
    assert decode_speech(call.audio_in, 16_000).text == "I want a refund"
    assert len(call.audio_out) / 48_000 == pytest.approx(call.t, abs=0.05)


def test_reconnects_and_the_silence_after_an_interruption_are_told(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop") as caller:
        caller.interrupt("I want a refund", at=0.5)
        caller.heard()
        assert call.silence_after_barge_in is None
        caller.heard()
        caller.drop()
        caller.resume()
    (broken, answer) = [moment for moment in call.timed_transcript if moment.who == "agent"]
    assert broken.interrupted
    assert answer.begin is not None
    assert call.silence_after_barge_in == pytest.approx(answer.begin - broken.t)
    assert call.reconnects == 1


def test_any_event_can_be_pushed_to_the_client(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop") as caller:
        call.push("TransferInitiated", {"transferTo": "+1", "transferType": "cold", "summary": ""})
        call.push("ShowPage", {"page": 7}, "now")
        call.wait_for("ShowPage")
        call.push("SessionEnded", {"reason": "pushed", "durationSeconds": 1})
        assert caller.hears_end().reason == "pushed", "the client has got it"
    assert [moment.text for moment in call.timed_transcript if moment.who == "event"][1] == 'ShowPage {"page": 7} "now"'


def test_the_agent_can_hang_up(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop") as caller:
        call.hang_up()
        assert caller.hears_end().reason == "agent_ended"
        with pytest.raises(ExpectationFailed, match=r"hear: the call is over \(agent_ended\)"):
            call.hear("hello?")
    with mock.caller("agt_shop"), pytest.raises(MisuseError, match="expected one of user_ended, "):
        mock.calls[-1].hang_up("bored")


def test_time_can_be_advanced(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop") as caller:
        caller.heard()
        mock.clock.advance("8s")
        call.wait_for("TranscriptionOf", text="still there")
        with pytest.raises(MisuseError, match="advance\\('8'\\)"):
            mock.clock.advance("8")


def test_time_that_passes_by_itself_cannot(server: MockServer) -> None:
    with server.mock(AGENTS, clock="4x") as mock, mock.caller("agt_shop"):
        with pytest.raises(ClockError, match="goes by the 4x clock"):
            mock.clock.advance("1s")
        call = mock.calls.one()
        call.hear("I want a refund")
        call.wait_for("TranscriptionOf", text="order")


def test_speech_that_is_sure_to_be_understood_is_made_for_the_client(mock: Mock) -> None:
    path = mock.say("I want a refund")
    pcm, rate = read_wav(path.read_bytes())
    assert (rate, pcm) == (16_000, mock.say_pcm("I want a refund"))
    assert decode_speech(pcm, 16_000).text == "I want a refund"
    long = "this is a rather long sentence, with another end each time: "
    assert mock.say(long + "one") != mock.say(long + "two") == mock.say(long + "two")


def test_a_client_that_is_still_at_work_is_waited_for(mock: Mock) -> None:
    """It sends in another thread, and the test only waits."""

    def client() -> None:
        with mock.caller("agt_shop") as caller:
            caller.say("I want a refund")
            caller.heard()
            caller.hears_end()

    thread = threading.Thread(target=client)
    with mock.expect_call("agt_shop") as call:
        thread.start()
        call.wait_for("Transcription", text="refund")
        call.press("0")
    thread.join()
    assert call.reason == "transfer_complete"


def test_speech_made_in_many_threads_is_in_one_folder_that_goes(
    mock: Mock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    texts = [f"refund number {number}" for number in range(16)]
    for text in texts:
        mock.say_pcm(text)
    patience, many = sys.getswitchinterval(), len(texts)
    begin = threading.Barrier(many)

    def say(text: str) -> Path:
        begin.wait()
        return mock.say(text)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(many) as threads:
            paths = set(threads.map(say, texts))
    finally:
        sys.setswitchinterval(patience)
    assert len(paths) == many
    assert len({path.name.partition("-")[0] for path in paths}) == many, "each has a number of its own"
    assert {path.parent for path in paths} == set(tmp_path.iterdir())
    mock.close()
    assert not [*tmp_path.iterdir()]


async def test_async_tests_await_the_same(mock: Mock) -> None:
    async with mock.expect_call("agt_shop") as call, mock.async_caller("agt_shop") as caller:
        assert await caller.heard() == "Good morning, what can I do for you?"
        await call.hear("I want a refund")
        await call.wait_for("TranscriptionOf", text="order")
        await call.press("0")
    assert call.reason == "transfer_complete"
    async with mock.expect_call("agt_shop") as chat, mock.async_chat("agt_shop") as user:
        await user.heard()
        await user.write("refund")
        assert await user.heard() == "Which order?"
    assert chat.channel == "chat"


async def test_a_server_and_a_mock_are_async_context_managers_too() -> None:
    async with (
        MockServer(clock="virtual") as own,
        own.mock(AGENTS) as mock,
        mock.expect_call("agt_shop") as call,
        mock.async_caller("agt_shop"),
    ):
        await call.wait_for("SessionStarted")


def test_several_event_loops_may_use_it_at_the_same_time(mock: Mock) -> None:
    async def call() -> str:
        async with mock.async_caller("agt_shop") as caller:
            await caller.heard()
            await caller.say("I want a refund")
            return await caller.heard()

    heard: list[str] = []
    threads = [threading.Thread(target=lambda: heard.append(asyncio.run(call()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == ["Which order?"] * 4
    assert len(mock.calls) == 4


# --- what does not come -----------------------------------------------------------------------------------------


def test_what_never_comes_fails_with_the_story_of_the_call(mock: Mock) -> None:
    with mock.caller("agt_shop") as caller:
        caller.heard()
        call = mock.calls.one()
        with pytest.raises(ExpectationFailed) as failure:
            call.wait_for("TranscriptionOf", text="order number")
        text = str(failure.value)
        assert "TranscriptionOf with 'order number' did not come within 0.3 s of real time" in text
        assert "nearest is agent.transcript TranscriptionOf at" in text
        assert 'whose text is "Good morning, what can I do for you?"' in text
        assert "agent     Good morning, what can I do for you?" in text
    with pytest.raises(ExpectationFailed, match=r"Error did not come before the call was over \(user_ended\)"):
        call.wait_for("Error")


def test_a_wait_for_a_caller_who_does_not_listen_says_what_moves_the_time(mock: Mock) -> None:
    mock.fault("stt", error="STT_PROVIDER_TIMEOUT")
    with mock.expect_call("agt_shop") as call, mock.caller("agt_shop") as caller:
        caller.heard()
        caller.say("I want a refund")
        with pytest.raises(ExpectationFailed, match=r"goes on with the client's audio \(`caller\.heard"):
            call.wait_for("Error")
        caller.heard()
        call.wait_for("Error", text="STT_PROVIDER_TIMEOUT")
    with mock.chat("agt_shop") as user:
        user.heard()
        with pytest.raises(ExpectationFailed, match=r"call time is [0-9.]+ s; there was no Error"):
            mock.calls[-1].wait_for("Error")


def test_a_wait_ends_in_call_time_when_that_passes(mock: Mock) -> None:
    with mock.caller("agt_shop") as caller:
        caller.heard()
        waiting = threading.Thread(target=lambda: caller.heard(9.0))
        waiting.start()
        with pytest.raises(ExpectationFailed, match="did not come within 2 s of call time"):
            mock.calls.one().wait_for("Error", timeout=2.0)
        waiting.join()


def test_a_call_that_never_comes_fails_and_tells_what_came(mock: Mock) -> None:
    with (
        pytest.raises(ExpectationFailed, match=r"no call to agt_strict came .* meanwhile came: a call to agt_shop"),
        mock.expect_call("agt_strict"),
        mock.caller("agt_shop"),
    ):
        pass
    with (
        pytest.raises(ExpectationFailed, match=r'no such agent; did you mean "agt_shop"\?; meanwhile came: nothing'),
        mock.expect_call("agt_shoop"),
    ):
        pass
    with mock.caller("agt_shop"):
        pass
    with pytest.raises(ExpectationFailed, match=r"one call was expected, there were 2\ncall conv_"):
        mock.calls.one()


def test_a_client_with_a_bad_token_is_told_of_where_its_call_is_missed(mock: Mock) -> None:
    expected = mock.expect_call("agt_shop")
    expected.__enter__()
    request = urllib.request.Request(f"{mock.base_url}/hubs/voice/negotiate?access_token={mock.token(exp=1)}", b"")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)
    with pytest.raises(ExpectationFailed, match=r"meanwhile came: a connection that was refused: .*expired"):
        expected.__exit__(None, None, None)
    assert "connection.refused: the access token expired" in mock.report()


def test_a_misspelt_event_is_told_at_once(mock: Mock) -> None:
    with mock.caller("agt_shop"), pytest.raises(MisuseError, match="did you mean 'TranscriptionOf'"):
        mock.calls.one().wait_for("TranscriptOf")


def test_two_expectations_are_two_calls(mock: Mock) -> None:
    with mock.expect_call("agt_shop") as one, mock.expect_call("agt_shop") as other:
        with mock.caller("agt_shop"):
            pass
        with mock.caller("agt_shop"):
            pass
    assert one.id != other.id


# --- what is left behind ----------------------------------------------------------------------------------------


def test_a_fault_that_never_fired_fails_the_test_with_the_nearest_miss(server: MockServer) -> None:
    with (
        pytest.raises(ExpectationFailed, match=r"fault llm-1 never fired; nearest: nothing has crossed llm"),
        server.mock(AGENTS) as mock,
    ):
        mock.fault("llm", error="LLM_PROVIDER_ERROR", times=1)
    with server.mock(AGENTS) as mock:
        fault = mock.fault("llm", id="slow", slow="2s", when={"turn": 2})
        assert fault.fired == 0
        assert "nothing has crossed llm" in str(fault.near_miss)
        with pytest.raises(FaultConflict):
            mock.fault("llm", id="slow", slow="2s")
        fault.disarm()
        with pytest.raises(FaultsError, match="did you mean"):
            mock.fault("lmm", error="LLM_PROVIDER_ERROR")


def test_a_wrong_turn_of_a_script_fails_the_test_with_its_reason(server: MockServer) -> None:
    why = r"the script did not go on: expected the caller to say one of \['yes'\], heard 'no'"
    with pytest.raises(ExpectationFailed, match=why), server.mock(AGENTS) as mock, mock.caller("agt_strict") as caller:
        _ = caller.say("no"), caller.hears_end()


def test_turns_of_a_script_that_were_not_reached_fail_the_test(server: MockServer) -> None:
    with (
        pytest.raises(ExpectationFailed, match=r"turns of the script were not reached: to say one of \['yes'\]"),
        server.mock(AGENTS) as mock,
        mock.caller("agt_strict"),
    ):
        pass


def test_an_error_of_the_mock_itself_fails_the_test(server: MockServer) -> None:
    with pytest.raises(ExpectationFailed, match="the mock itself failed: KeyError: 'x'"), server.mock(AGENTS) as mock:
        mock.tenant.journal.append("defect", tenant_id=mock.tenant.id, message="KeyError: 'x'")
    with pytest.raises(ExpectationFailed, match="the mock itself failed: a request"), server.mock(AGENTS):
        server.app.tenants.default.journal.append("defect", tenant_id="ten_dev", message="a request")


def test_a_test_that_failed_is_not_failed_again(server: MockServer) -> None:
    with pytest.raises(ZeroDivisionError), server.mock(AGENTS) as mock:
        _ = mock.fault("llm", error="LLM_PROVIDER_ERROR"), 1 / 0


def test_a_call_left_open_is_ended_and_named(server: MockServer) -> None:
    mock = server.mock(AGENTS, terms=TERMS).open()
    caller = mock.caller("agt_shop").__enter__()
    with pytest.warns(CallLeftOpen, match="test_of_mine left a call open:\ncall conv_.* with agt_shop"):
        mock.close()
    assert mock.calls.one().reason == "server_shutdown"
    assert caller.hears_end().reason == "server_shutdown"
    caller.__exit__(None, None, None)


def test_manners_of_the_client_can_be_asserted(mock: Mock) -> None:
    mock.assert_no_lint()
    mock.tenant.journal.append("lint", tenant_id=mock.tenant.id, rule="chunk_size", message="512 bytes came at once")
    with pytest.raises(ExpectationFailed, match="chunk_size: 512 bytes came at once"):
        mock.assert_no_lint()
    with mock.caller("agt_shop"):
        pass
    with pytest.raises(ExpectationFailed, match=r"no call was expected, there were 1\ncall conv_"):
        mock.assert_no_calls()


# --- misuse -----------------------------------------------------------------------------------------------------


async def test_a_wait_that_would_stop_the_clients_loop_is_refused(mock: Mock) -> None:
    async with mock.async_caller("agt_shop"):
        with pytest.raises(MisuseError, match="in an async test write `async with"):
            mock.calls.one().wait_for("TranscriptionOf")
        with pytest.raises(MisuseError, match="in an async test"), mock.expect_call("agt_shop"):
            pytest.fail("the test went on")


def test_after_the_end_it_says_so_and_still_tells_what_was(server: MockServer) -> None:
    with server.mock(AGENTS, terms=TERMS) as mock, mock.caller("agt_shop") as caller:
        caller.heard()
    for use in (lambda: mock.base_url, mock.login, lambda: mock.expect_call("agt_shop"), lambda: mock.load(AGENTS)):
        with pytest.raises(MisuseError, match="this mock of test_of_mine is over"):
            use()
    assert mock.calls.one().transcript == [("agent", "Good morning, what can I do for you?")]
    assert mock.calls.one().audio_out
    mock.close()


def test_before_the_start_it_says_so_too(server: MockServer) -> None:
    with pytest.raises(MisuseError, match="not open yet"):
        _ = server.mock(AGENTS).base_url
    with pytest.raises(MisuseError, match="this server is not running"):
        MockServer().mock(AGENTS).open()
