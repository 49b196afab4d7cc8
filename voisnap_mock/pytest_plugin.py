"""Fixtures for pytest. Installing the package registers them; nothing of it is loaded before a test asks for one.

def test_refund(voisnap_mock):
    voisnap_mock.load("agents.yaml")
    with voisnap_mock.expect_call("agt_support") as call:
        my_client.dial(voisnap_mock.base_url, "agt_support", wav=voisnap_mock.say("I want a refund"))
        call.wait_for("TranscriptionOf", text="order number")
    call.assert_golden("golden/refund.txt")
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import pytest

if TYPE_CHECKING:
    from voisnap_mock.config import CallClock
    from voisnap_mock.coverage import Coverage
    from voisnap_mock.server import MockServer
    from voisnap_mock.testing.mock import Agents, Faults, Mock, Terms

_MARKER_KEYS = ("agents", "faults", "seed", "clock")
_WORKER_KEY = "voisnap_coverage"
_TITLE = "voisnap-mock"


class _Suite:
    """What one run of pytest has touched of the API. Attributes: unwritten: why the coverage file is not there."""

    def __init__(self) -> None:
        self.coverage: Coverage | None = None
        self.unwritten = ""

    def take(self, mock: Mock) -> None:
        """A test is over: count what it touched."""
        self.add(mock.tenant.coverage)

    def add(self, coverage: Coverage) -> None:
        if self.coverage is None:
            from voisnap_mock.coverage import Coverage

            self.coverage = Coverage()
        self.coverage.add(coverage)


_SUITE = pytest.StashKey[_Suite]()
_MOCKS = pytest.StashKey["list[Mock]"]()
_PASSED = pytest.StashKey[bool]()

# --- options ----------------------------------------------------------------------------------------------------

_INI: tuple[tuple[str, str, Literal["string"]], ...] = (
    (
        "voisnap_agents",
        "the agents file of tests that name none (agents.yaml of the root folder, else the built-in agents)",
        "string",
    ),
    ("voisnap_seed", "as --voisnap-seed", "string"),
    ("voisnap_clock", "as --voisnap-clock", "string"),
    ("voisnap_patience", "seconds of real time that a test waits for something at the most (10)", "string"),
    ("voisnap_record", "as --voisnap-record", "string"),
    ("voisnap_fail_under", "as --voisnap-fail-under", "string"),
)
_NUMBERS: Mapping[str, tuple[type[int] | type[float], str]] = {
    "seed": (int, "a whole number"),
    "patience": (float, "a number of seconds"),
    "fail_under": (float, "a percentage"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("voisnap", "voisnap-mock: an offline stand-in for the Voisnap API")
    group.addoption("--voisnap-seed", metavar="NUMBER", help="where ids and draws come from: same seed, same calls")
    group.addoption("--voisnap-clock", metavar="CLOCK", help="virtual (the default), real or 4x")
    group.addoption("--voisnap-update", action="store_true", help="write golden files anew instead of comparing")
    group.addoption("--voisnap-record", metavar="DIR", help="keep every call in a folder there")
    group.addoption("--voisnap-coverage", action="store_true", help="show what the tests touched of the API")
    group.addoption("--voisnap-coverage-file", metavar="FILE", help="write that: a page if FILE ends with .html")
    group.addoption("--voisnap-fail-under", metavar="PERCENT", help="fail when that is less; shows it too")
    for name, text, kind in _INI:
        parser.addini(name, f"voisnap-mock: {text}", type=kind, default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "voisnap(agents=, faults=, seed=, clock=): what the fixture voisnap_mock begins with; see voisnap-mock",
    )
    config.stash[_SUITE] = _Suite()
    for name in _NUMBERS:
        _number(config, name)


def _setting(config: pytest.Config, name: str) -> str:
    """An option, else its ini key; empty when neither is given."""
    return str(config.getoption(f"voisnap_{name}", None) or config.getini(f"voisnap_{name}") or "")


def _number(config: pytest.Config, name: str) -> Any:
    """An option that is a number, None when it is not given. Raises UsageError, as `pytest_configure` finds out."""
    text, (kind, expected) = _setting(config, name), _NUMBERS[name]
    try:
        number = kind(text) if text else None
        if number is None or math.isfinite(number):
            return number
    except ValueError:
        pass
    raise pytest.UsageError(f"voisnap_{name}: {text!r} is not {expected}")


def _refuse(text: str) -> NoReturn:
    """Fail the test for what it, or the run, was given; no line of this program would tell more."""
    pytest.fail(text, pytrace=False)


# --- fixtures ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def voisnap_mock_server(pytestconfig: pytest.Config) -> Iterator[MockServer]:
    """The server of the run, on a free port, in a thread of its own; one for each worker of xdist."""
    with _server(pytestconfig, None) as server:
        yield server


@pytest.fixture
def voisnap_mock(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, voisnap_mock_server: MockServer
) -> Iterator[Mock]:
    """A mock of the Voisnap API for this test alone: an isolated tenant on the server of the run."""
    yield from _mock(request, pytestconfig, voisnap_mock_server, _marked(request))


@pytest.fixture
def make_voisnap_mock(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Callable[..., Mock]]:
    """Makes more of them, each on a server of its own: `make_voisnap_mock(agents, faults=, seed=, clock=)`."""
    from contextlib import ExitStack, contextmanager

    with ExitStack() as stack:

        def make(
            agents: Agents | None = None,
            *,
            faults: Faults | None = None,
            seed: int | None = None,
            clock: CallClock | None = None,
        ) -> Mock:
            server = stack.enter_context(_server(pytestconfig, clock))
            given = {"agents": agents, "faults": faults, "seed": seed, "clock": clock}
            return stack.enter_context(contextmanager(_mock)(request, pytestconfig, server, given))

        yield make


@pytest.fixture
def voisnap_env(voisnap_mock: Mock, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Sets the variables that point a client at `voisnap_mock`, `VOISNAP_BASE_URL` and the others, and gives them."""
    variables = voisnap_mock.variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def _server(config: pytest.Config, clock: CallClock | None) -> MockServer:
    from voisnap_mock.config import load_settings
    from voisnap_mock.errors import ConfigError
    from voisnap_mock.server import MockServer

    flags = {
        "agents": _setting(config, "agents") or None,
        "port": 0,
        "seed": _number(config, "seed"),
        "clock": clock or _setting(config, "clock") or "virtual",
        "record": _setting(config, "record") or None,
    }
    try:
        settings = load_settings(flags, folder=config.rootpath)
        return MockServer(settings=settings)
    except ConfigError as error:
        _refuse(str(error))


def _mock(
    request: pytest.FixtureRequest, config: pytest.Config, server: MockServer, given: Mapping[str, Any]
) -> Iterator[Mock]:
    """One mock from its beginning to its end, with what the test left behind."""
    from voisnap_mock.errors import ConfigError

    mock = server.mock(**given, terms=_terms(request, config))
    try:
        mock.open()
    except ConfigError as error:
        _refuse(str(error))
    node = request.node
    node.stash.setdefault(_MOCKS, []).append(mock)
    try:
        yield mock
    finally:
        # Items live as long as the run: they must not keep the audio of all its calls, nor a rerun find the last one's.
        node.stash[_MOCKS].remove(mock)
        try:
            mock.close()
        finally:
            config.stash[_SUITE].take(mock)
    if node.stash.get(_PASSED, False) and (problems := mock.problems()):
        pytest.fail("\n".join([*problems, mock.report()]), pytrace=False)


def _terms(request: pytest.FixtureRequest, config: pytest.Config) -> Terms:
    from voisnap_mock.testing.golden import GoldenFiles, is_ci
    from voisnap_mock.testing.mock import PATIENCE, Terms

    folder = Path(request.path).parent
    return Terms(
        folder=folder,
        top=config.rootpath,
        golden=GoldenFiles(folder, update=config.getoption("voisnap_update"), is_ci=is_ci(os.environ)),
        patience=_number(config, "patience") or PATIENCE,
        name=request.node.nodeid,
    )


def _marked(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """What the markers say, the nearest first."""
    given: dict[str, Any] = {}
    for marker in request.node.iter_markers("voisnap"):
        unknown = [*map(repr, marker.args), *(repr(key) for key in marker.kwargs if key not in _MARKER_KEYS)]
        if unknown:
            expected = ", ".join(f"{key}=" for key in _MARKER_KEYS)
            _refuse(f"@pytest.mark.voisnap: {', '.join(unknown)} is not known, expected {expected}")
        given = marker.kwargs | given
    return given


# --- what a test left behind ------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed but left something behind; tell the story of its calls in any case."""
    try:
        result = yield
    except BaseException:
        _tell(item)
        raise
    problems = [problem for mock in item.stash.get(_MOCKS, []) for problem in mock.problems()]
    _tell(item)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Only here it shows that a test of `unittest` has failed: its errors are not raised."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report


def _tell(item: pytest.Item) -> None:
    for mock in item.stash.get(_MOCKS, []):
        if report := mock.report():
            item.add_report_section("call", _TITLE, report)


# --- coverage ---------------------------------------------------------------------------------------------------


def _is_counted(config: pytest.Config) -> bool:
    return bool(config.getoption("voisnap_coverage") or _setting(config, "fail_under"))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    coverage = config.stash[_SUITE].coverage
    if hasattr(config, "workeroutput"):
        # A worker of xdist: the controller adds it up.
        if coverage is not None:
            cast(Any, config).workeroutput[_WORKER_KEY] = coverage.dump()
        return
    if file := config.getoption("voisnap_coverage_file"):
        from voisnap_mock.cli.covering import write_coverage
        from voisnap_mock.coverage import Coverage
        from voisnap_mock.errors import ConfigError

        try:
            write_coverage(config.rootpath / file, coverage or Coverage())
        except ConfigError as error:
            config.stash[_SUITE].unwritten = str(error)
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
    least = _number(config, "fail_under")
    if least is not None and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        percent = 0.0 if coverage is None else coverage.percent
        if percent < least:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of xdist has ended."""
    dumped = getattr(node, "workeroutput", {}).get(_WORKER_KEY)
    if dumped is not None:
        from voisnap_mock.coverage import Coverage

        node.config.stash[_SUITE].add(Coverage.load(dumped))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if unwritten := config.stash[_SUITE].unwritten:
        terminalreporter.line(f"FAILED: {unwritten}", red=True)
    if not _is_counted(config) or hasattr(config, "workeroutput"):
        return
    coverage = config.stash[_SUITE].coverage
    terminalreporter.section("Voisnap API coverage")
    if coverage is None:
        terminalreporter.line("no test used voisnap_mock")
    else:
        rows = coverage.rows()
        width = max(len(title) for title, _, _ in rows)
        for title, share, missing in rows:
            terminalreporter.line(f"{title:<{width}}  {share:>8}  {missing}")
        if coverage.unused_hubs:
            terminalreporter.line(f"not used and not counted: {', '.join(coverage.unused_hubs)}")
    percent = 0.0 if coverage is None else coverage.percent
    least = _number(config, "fail_under")
    if least is not None and percent < least:
        terminalreporter.line(f"FAILED: {percent:g} %, less than --voisnap-fail-under {least:g}", red=True)
    else:
        terminalreporter.line(f"{percent:g} %")
