"""The plugin as other people's test-suites meet it: each test here is a small suite that pytest runs."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import clean_environment

from voisnap_mock import MockServer

pytest_plugins = ["pytester"]

AGENTS = """
version: 1
agents:
  agt_shop:
    greeting: Good morning.
    voice: {engine: tone, rate: 300}
    hears: marks
    timing: {end_of_turn: 300ms, first_audio: 100ms}
    replies:
      - hear: refund
        say: Which order?
  agt_strict:
    voice: {engine: tone, rate: 300}
    hears: marks
    script:
      - {hear: "yes", say: "Confirmed."}
      - {end: agent_ended}
"""


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """All that a suite may need is loaded once: pytester forgets what a suite in this process has loaded itself."""
    with MockServer(clock="virtual") as server, server.mock(AGENTS) as mock:
        mock.login()
        for each in (mock.caller("agt_shop"), mock.chat("agt_shop")):
            with each as party:
                party.heard()
        mock.say("I want a refund")
        importlib.import_module("voisnap_mock.testing.awaited")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project with an agents file and no conftest."""
    for variable in ("CI", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(variable, raising=False)
    (pytester.path / "agents.yaml").write_text(AGENTS)
    return pytester


def arguments(*more: str) -> list[str]:
    """What keeps the plugins of this project's own tests out of the way."""
    return [
        *("-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
        *more,
    ]


def run(suite: pytest.Pytester, source: str, *more: str) -> pytest.RunResult:
    suite.makepyfile(source)
    return suite.runpytest_inprocess(*arguments(*more))


# --- the fixtures -----------------------------------------------------------------------------------------------


def test_a_suite_without_conftest_or_settings_finds_the_fixtures_and_its_agents(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import os

        def test_refund(voisnap_mock):
            with voisnap_mock.expect_call("agt_shop") as call, voisnap_mock.caller("agt_shop") as caller:
                caller.heard()
                caller.say("I want a refund")
                assert caller.heard() == "Which order?"
            assert call.transcript[1] == ("caller", "I want a refund")

        def test_every_test_has_a_tenant_of_its_own(voisnap_mock):
            voisnap_mock.assert_no_calls()

        def test_variables(voisnap_mock, voisnap_env):
            assert os.environ["VOISNAP_BASE_URL"] == voisnap_mock.base_url == voisnap_env["VOISNAP_BASE_URL"]

        def test_they_are_gone():
            assert "VOISNAP_BASE_URL" not in os.environ

        def test_more_servers(voisnap_mock, make_voisnap_mock):
            other, third = make_voisnap_mock(), make_voisnap_mock({"version": 1, "agents": {"agt_other": {}}})
            assert len({voisnap_mock.base_url, other.base_url, third.base_url}) == 3
            assert list(third.tenant.agents) == ["agt_other"]

        def test_the_server(voisnap_mock_server, voisnap_mock):
            assert voisnap_mock_server.base_url == voisnap_mock.base_url
        """,
    )
    result.assert_outcomes(passed=6)


def test_the_marker_says_what_a_test_begins_with_the_nearest_first(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import pytest

        FAULT = {"at": "llm", "do": {"slow": "2s"}, "id": "slow"}

        @pytest.mark.voisnap(agents={"version": 1, "agents": {"agt_one": {}}}, clock="4x", seed=4)
        class TestMarked:
            def test_class(self, voisnap_mock):
                assert list(voisnap_mock.tenant.agents) == ["agt_one"]
                assert voisnap_mock.tenant.sessions.mode == "4x"

            @pytest.mark.voisnap(clock="virtual", faults=[FAULT])
            def test_function(self, voisnap_mock):
                assert list(voisnap_mock.tenant.agents) == ["agt_one"]
                assert voisnap_mock.tenant.sessions.mode == "virtual"
                assert list(voisnap_mock.fault_report()) == ["slow"]
                voisnap_mock.disarm("slow")

        @pytest.mark.voisnap(agent="agents.yaml")
        def test_misspelt(voisnap_mock): ...
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["@pytest.mark.voisnap: 'agent' is not known, expected agents=, *"])


def test_options_and_ini_keys_set_the_same(suite: pytest.Pytester) -> None:
    source = """
        def test_it(voisnap_mock):
            assert voisnap_mock.tenant.sessions.mode == "real"
            assert list(voisnap_mock.tenant.agents) == ["agt_mine"]
            with voisnap_mock.caller("agt_mine") as caller:
                print("ID", caller.conversation_id)
        """
    (suite.path / "mine.yaml").write_text("version: 1\nagents: {agt_mine: {}}\n")
    suite.makeini(
        "[pytest]\nvoisnap_clock = real\nvoisnap_agents = mine.yaml\nvoisnap_seed = 5\nvoisnap_record = calls\n"
    )
    by_ini = run(suite, source, "-rP")
    by_ini.assert_outcomes(passed=1)
    (record,) = (suite.path / "calls").iterdir()
    facts = json.loads((record / "call.json").read_text())
    assert (facts["agentId"], facts["status"]) == ("agt_mine", "ended"), "written to its end when the run is over"
    by_option = run(suite, source, "-rP", "--voisnap-seed", "6")

    def ids(result: pytest.RunResult) -> list[str]:
        return [line for line in result.outlines if line.startswith("ID ")]

    assert len(ids(by_ini)) == 1
    assert ids(by_ini) != ids(by_option)
    run(suite, source, "--voisnap-clock", "sundial").stdout.fnmatch_lines(
        ["*'sundial' is not a clock, expected one of*"]
    )


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("seed", "x", "a whole number"), ("fail-under", "much", "a percentage"), ("fail-under", "nan", "a percentage")],
)
def test_what_is_no_number_is_wrong_usage_and_no_test_runs(
    suite: pytest.Pytester, option: str, value: str, expected: str
) -> None:
    result = run(suite, "def test_it(): ...", f"--voisnap-{option}", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: voisnap_{option.replace('-', '_')}: '{value}' is not {expected}"])


def test_unittest_classes_asyncio_and_anyio_tests_use_the_same_fixture(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import asyncio
        import unittest
        import pytest

        class TestOld(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _mock(self, voisnap_mock):
                self.mock = voisnap_mock

            def test_call(self):
                with self.mock.caller("agt_shop") as caller:
                    self.assertEqual(caller.heard(), "Good morning.")

            def test_left_behind(self):
                self.mock.fault("llm", error="LLM_PROVIDER_ERROR")

        async def refund(mock):
            async with mock.expect_call("agt_shop") as call, mock.async_caller("agt_shop") as caller:
                assert await caller.heard() == "Good morning."
                await call.hear("I want a refund")
                await call.wait_for("TranscriptionOf", text="which order")

        @pytest.mark.asyncio
        async def test_asyncio(voisnap_mock):
            await refund(voisnap_mock)

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_anyio(voisnap_mock, anyio_backend):
            await refund(voisnap_mock)

        def test_loops_of_its_own(voisnap_mock):
            asyncio.run(refund(voisnap_mock))
            asyncio.run(refund(voisnap_mock))
        """,
    )
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["fault llm-1 never fired*"])


def test_workers_of_xdist_have_a_server_each_and_one_coverage(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_call(voisnap_mock, number, worker_id):
            with voisnap_mock.caller("agt_shop") as caller:
                caller.heard()
            print("URL", worker_id, voisnap_mock.base_url)
        """
    )
    result = suite.runpytest_subprocess(*arguments("-n2", "-rP", "--voisnap-coverage", "--voisnap-fail-under", "5"))
    result.assert_outcomes(passed=6)
    servers = {line for line in result.outlines if line.startswith("URL ")}
    assert len(servers) == 2
    result.stdout.fnmatch_lines(["*Voisnap API coverage*", "hub methods *of 4*", "* %"])


def test_too_little_coverage_fails_the_run(suite: pytest.Pytester) -> None:
    source = (
        "def test_call(voisnap_mock):\n    voisnap_mock.caller('agt_shop').__enter__().__exit__(None, None, None)\n"
    )
    result = run(suite, source, "--voisnap-fail-under", "99")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED: * %, less than --voisnap-fail-under 99"])
    assert run(suite, source, "--voisnap-fail-under", "1").ret == pytest.ExitCode.OK


def test_a_coverage_file_that_cannot_be_written_fails_the_run_and_hides_nothing(suite: pytest.Pytester) -> None:
    result = run(suite, "def test_it(): ...", "--voisnap-coverage-file", "no/such/folder/of.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["FAILED: coverage cannot be written to *of.json: No such file or directory"])


def test_a_test_that_is_over_keeps_nothing_in_memory(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import gc, weakref
        import pytest

        mocks = []

        @pytest.mark.parametrize("number", range(3))
        def test_it(voisnap_mock, number):
            gc.collect()
            assert [mock() for mock in mocks] == [None] * number
            mocks.append(weakref.ref(voisnap_mock))
        """,
    )
    result.assert_outcomes(passed=3)


# --- failures ---------------------------------------------------------------------------------------------------


def test_a_failed_test_shows_the_story_of_its_calls(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        def test_own_reason(voisnap_mock):
            voisnap_mock.fault("llm", error="LLM_PROVIDER_ERROR")
            with voisnap_mock.caller("agt_shop") as caller:
                caller.heard()
                assert caller.heard(timeout=1.0) == "something else"
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*NothingHeard*",
            "*Captured voisnap-mock call*",
            "call conv_* with agt_shop (voice; ended: user_ended)",
            "*  agent     Good morning.",
            "*  ended     user_ended",
        ]
    )
    assert "never fired" not in result.stdout.str(), "it failed already, for a reason of its own"


def test_what_is_left_behind_fails_the_test_with_its_reason(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        def test_unfired(voisnap_mock):
            voisnap_mock.fault("llm", error="LLM_PROVIDER_ERROR", times=1)

        def test_wrong_turn(voisnap_mock):
            with voisnap_mock.caller("agt_strict") as caller:
                caller.say("no")
                caller.hears_end()

        def test_unused(voisnap_mock):
            with voisnap_mock.caller("agt_strict"):
                pass
        """,
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "fault llm-1 never fired; nearest: nothing has crossed llm",
            "*the script did not go on: expected the caller to say one of *'yes'*, heard 'no'*",
            "*turns of the script were not reached: to say one of *",
        ]
    )


def test_what_shows_only_when_the_call_is_ended_is_an_error_of_the_teardown(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import pytest

        @pytest.mark.filterwarnings("ignore")
        def test_leaks(voisnap_mock):
            voisnap_mock.caller("agt_strict").__enter__()
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*turns of the script were not reached*"])


def test_a_test_of_unittest_that_failed_for_its_own_reason_has_no_error_besides(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import unittest
        import pytest

        class TestShop(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _mock(self, voisnap_mock):
                self.mock = voisnap_mock

            def test_own_reason(self):
                self.mock.caller("agt_strict").__enter__()
                self.assertEqual(1, 2, "its own reason")
        """,
        *("-W", "default"),
    )
    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(["E*its own reason*", "*Captured voisnap-mock call*"])


def test_a_test_that_leaks_a_call_is_warned_and_the_call_ended(suite: pytest.Pytester) -> None:
    source = "def test_leaks(voisnap_mock):\n    voisnap_mock.caller('agt_shop').__enter__()\n"
    result = run(suite, source, "-W", "default")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*CallLeftOpen: *test_leaks left a call open:*"])


def test_skipped_and_expected_failures_stay_what_they_are(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import pytest

        def test_skipped(voisnap_mock):
            voisnap_mock.fault("llm", error="LLM_PROVIDER_ERROR")
            pytest.skip("not today")

        @pytest.mark.xfail(strict=True)
        def test_expected(voisnap_mock):
            voisnap_mock.fault("llm", error="LLM_PROVIDER_ERROR")
        """,
    )
    result.assert_outcomes(skipped=1, xfailed=1)


# --- misuse -----------------------------------------------------------------------------------------------------


def test_something_that_never_comes_fails_when_patience_is_at_its_end(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        def test_it(voisnap_mock):
            with voisnap_mock.expect_call("agt_shop") as call, voisnap_mock.caller("agt_shop"):
                call.wait_for("TranscriptionOf", text="which order")
        """,
        "-o",
        "voisnap_patience=0.2",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*TranscriptionOf with 'which order' did not come within 0.2 s of real time*", "E*agent     Good morning."]
    )
    assert "mock_calls.py" not in result.stdout.str(), "the traceback is the test's own"


def test_a_slip_is_told_in_the_lines_of_the_test_alone(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        def test_fault(voisnap_mock):
            voisnap_mock.fault("lm", error="LLM_PROVIDER_ERROR")

        def test_agent(voisnap_mock):
            with voisnap_mock.chat("agt_shoop"):
                pass

        def test_name(voisnap_mock):
            with voisnap_mock.expect_call("agt_shop") as call, voisnap_mock.caller("agt_shop"):
                call.wait_for("TranscriptonOf")

        def test_keyboard(voisnap_mock):
            with voisnap_mock.chat("agt_shop") as user:
                user.heard()
                user.heard(0.1)
        """,
    )
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            'E*there is no point "lm"; did you mean "llm"*',
            "E*AGENT_NOT_FOUND*",
            "E*did you mean 'TranscriptionOf'*",
            "E*NothingHeard*",
        ]
    )
    places = {line.partition(":")[0] for line in result.outlines if re.match(r"\S+\.py:\d+:", line)}
    assert len(places) == 1, "each traceback is the test's own"


def test_a_fixture_asked_for_twice_is_the_same_and_usable_from_two_threads(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import threading
        import pytest

        @pytest.fixture
        def again(voisnap_mock):
            return voisnap_mock

        def test_it(voisnap_mock, again):
            assert again is voisnap_mock
            heard = []

            def call():
                with voisnap_mock.caller("agt_shop") as caller:
                    heard.append(caller.heard())

            threads = [threading.Thread(target=call) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert heard == ["Good morning."] * 2

        kept = []

        def test_keeps_it(voisnap_mock):
            kept.append(voisnap_mock)

        def test_uses_it_after_its_end():
            kept[0].expect_call("agt_shop")
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E*MisuseError: this mock of *test_keeps_it is over*"])


def test_golden_files_lie_beside_the_test_and_are_written_on_request_alone(suite: pytest.Pytester) -> None:
    source = """
        def test_it(voisnap_mock):
            with voisnap_mock.expect_call("agt_shop") as call, voisnap_mock.caller("agt_shop") as caller:
                caller.heard()
            call.assert_golden("golden/hello.txt", times=True)
        """
    golden = suite.path / "golden" / "hello.txt"
    missing = run(suite, source)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["E*hello.txt is not there: pytest --voisnap-update writes it*"])
    assert not golden.exists()
    run(suite, source, "--voisnap-update").assert_outcomes(passed=1)
    assert golden.read_text().splitlines()[1:] == [
        "   0.740  agent     Good morning.",
        "   0.740  ended     user_ended",
    ]
    run(suite, source).assert_outcomes(passed=1)
    golden.write_text(golden.read_text().replace("morning", "evening"))
    run(suite, source).stdout.fnmatch_lines(
        ["E*-   0.740  agent     Good evening.", "E*+   0.740  agent     Good morning."]
    )


def test_on_ci_a_missing_golden_file_fails_and_is_never_written(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    source = """
        def test_it(voisnap_mock):
            with voisnap_mock.expect_call("agt_shop") as call, voisnap_mock.caller("agt_shop"):
                pass
            call.assert_golden("hello.txt")
        """
    for more in ([], ["--voisnap-update"]):
        result = run(suite, source, *more)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E*on CI (the variable CI is set) nothing is written*"])
        assert not (suite.path / "hello.txt").exists()


def test_ctrl_c_in_the_middle_ends_the_run_at_once(suite: pytest.Pytester, tmp_path: Path) -> None:
    suite.makepyfile(
        """
        def test_waits(voisnap_mock):
            with voisnap_mock.expect_call("agt_shop") as call, voisnap_mock.caller("agt_shop"):
                print("WAITING", flush=True)
                call.wait_for("TranscriptionOf", text="never", timeout=600)
        """
    )
    command = [sys.executable, "-m", "pytest", "-s", *arguments("-o", "voisnap_patience=300")]
    process = subprocess.Popen(command, cwd=suite.path, stdout=subprocess.PIPE, text=True, env=clean_environment())
    assert process.stdout is not None
    for line in process.stdout:
        if "WAITING" in line:
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output


# --- cost -------------------------------------------------------------------------------------------------------


def test_a_run_that_does_not_use_it_loads_nothing_of_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_it():
            loaded = {name for name in sys.modules if name.startswith("voisnap_mock")}
            assert loaded <= {"voisnap_mock", "voisnap_mock.pytest_plugin"}
            assert not {"fastapi", "uvicorn", "numpy", "yaml", "msgspec", "websockets"} & set(sys.modules)
        """
    )
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "voisnap_mock.pytest_plugin", "--voisnap-coverage"]
    done = subprocess.run(command, cwd=suite.path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no test used voisnap_mock" in done.stdout
