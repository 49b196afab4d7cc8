"""`exec`: a command with a server beside it, for test-suites in any language.

The child has the server's standard input, output and error as they are. Whatever ends, the other ends too: the server
when the child has, the child when a signal comes, and killed if it does not heed it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from voisnap_mock.app import App
from voisnap_mock.cli.console import open_console, print_error
from voisnap_mock.cli.failures import INTERRUPTED
from voisnap_mock.cli.run_report import Format, RunReport, TenantReport, write_report
from voisnap_mock.cli.serving import fault_lines, unfired_line
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.config import ENVIRONMENT_PREFIX, client_variables, load_settings
from voisnap_mock.errors import ConfigError, PortTaken
from voisnap_mock.faults.reading import faults_of
from voisnap_mock.lint import lint_of
from voisnap_mock.server import Server, run_server, stop_signals
from voisnap_mock.testing.checks import problems_in

NOT_READY = 110
BAD_CONFIGURATION = 111
NOT_FOUND = 112
CHECK_FAILED = 113
INTERNAL = 114


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """What `exec` is to do.

    Attributes:
        kill_after: seconds that the child may take to heed a signal.
        reports: what to write, and where.
    """

    command: Sequence[str]
    is_strict: bool = False
    kill_after: float = 10.0
    reports: Sequence[tuple[Format, Path]] = ()


def execute(flags: Mapping[str, object], plan: ExecPlan) -> None:
    """Run the command and leave with its exit code, or with one of this module's own.

    Raises:
        SystemExit: always.
    """
    try:
        # Unlike `serve`, it takes a free port.
        given = {name: value for name, value in flags.items() if value is not None}
        free = {} if os.environ.get(f"{ENVIRONMENT_PREFIX}PORT") else {"port": 0}
        settings = load_settings(free | given, environment=os.environ)
        logging.basicConfig(
            level=settings.log.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
        )
        app = App(settings, report=print_error)
        sys.exit(run_server(app, _run(app, plan)))
    except ConfigError as error:
        print_error(str(error))
        sys.exit(BAD_CONFIGURATION)
    except PortTaken as error:
        print_error(str(error))
        sys.exit(NOT_READY)
    except Exception as error:  # noqa: BLE001 - the outermost frame: 1 would be the child's
        print_error(f"the mock failed: {type(error).__name__}: {error}")
        sys.exit(INTERNAL)


async def _run(app: App, plan: ExecPlan) -> int:
    dropped: list[TenantReport] = []
    app.tenancy.on_drop = lambda tenant: dropped.append(_report_dropped(app, tenant))
    signals = _Signals(plan.kill_after)
    with stop_signals(signals.take):
        async with Server(app) as server:
            app.warm_up()
            environment = os.environ | _variables(server)
            try:
                child = await asyncio.create_subprocess_exec(*plan.command, env=environment)
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                why = "there is no such command" if missing else f"cannot be run: {error.strerror}"
                print_error(f"{plan.command[0]}: {why}")
                return NOT_FOUND
            signals.attach(child)
            code = await child.wait()
            signals.close()
            # As shells say that a signal ended a command.
            code = INTERRUPTED if signals.is_twice else 128 - code if code < 0 else code
            return _conclude(app, plan, code, dropped)


def _conclude(app: App, plan: ExecPlan, code: int, dropped: Sequence[TenantReport]) -> int:
    """Tell what was left behind, also by tenants that are gone; returns the exit code that follows from it."""
    left = (_report(app, tenant) for tenant in app.tenants.all())
    report = RunReport(tuple(plan.command), code, (*left, *dropped))
    console = open_console(sys.stderr)
    for tenant in report.tenants:
        for problem in tenant.problems:
            console.line(problem)
    for line in fault_lines(app):
        console.line(*line)
    for tenant in dropped:
        for fault in tenant.faults:
            if not fault.fired:
                console.line(*unfired_line(fault, tenant.id))
    is_written = True
    for format_, path in plan.reports:
        try:
            write_report(format_, path, report)
        except (OSError, ConfigError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            print_error(f"--report: {path} cannot be written: {why}")
            is_written = False
    if not is_written:
        return code or INTERNAL
    return CHECK_FAILED if plan.is_strict and not code and report.failures else code


def _report(app: App, tenant: Tenant) -> TenantReport:
    entries = tenant.journal.entries()
    return TenantReport(
        tenant.id,
        calls=tenant.calls.calls,
        faults=app.faults.report(tenant.id),
        problems=tuple(problems_in(entries)),
        lint=lint_of(entries),
        coverage=tenant.coverage,
    )


def _report_dropped(app: App, tenant: Tenant) -> TenantReport:
    """The same of one that goes. Faults of the server's file are there for all tenants, and no promise of this one."""
    standing = faults_of(app.tenancy.file).rules
    report = _report(app, tenant)
    return replace(report, faults=[fault for fault in report.faults if fault.rule not in standing])


def _variables(server: Server) -> dict[str, str]:
    app, auth = server.app, server.app.tenancy.file.auth
    user = auth.users[0] if auth.users else None
    return client_variables(
        server.base_url,
        api_key=next(iter(auth.api_keys), ""),
        email="" if user is None else user.email,
        password="" if user is None else user.password,
        access_token="" if user is None else app.tokens.mint(user, app.clock.wall()),
    ) | {"VOISNAP_MOCK_URL": server.base_url}


class _Signals:
    """Hands signals on to the child; kills it when it does not heed the first in time, and at a second.

    Attributes:
        is_twice: a second signal came.
    """

    def __init__(self, kill_after: float) -> None:
        self.is_twice = False
        self._kill_after = kill_after
        self._child: asyncio.subprocess.Process | None = None
        self._first: signal.Signals | None = None
        self._killer: asyncio.TimerHandle | None = None

    def attach(self, child: asyncio.subprocess.Process) -> None:
        """There is a child now: it gets what has come already."""
        self._child = child
        if self._first is not None:
            self._hand_on(child, self._first)

    def take(self, number: signal.Signals) -> None:
        """A signal came; on the loop."""
        if self._first is None:
            self._first = number
            if self._child is not None:
                self._hand_on(self._child, number)
            return
        self.is_twice = True
        if self._child is not None:
            self._kill(self._child)

    def close(self) -> None:
        """The child is over."""
        if self._killer is not None:
            self._killer.cancel()

    def _hand_on(self, child: asyncio.subprocess.Process, number: signal.Signals) -> None:
        self._killer = asyncio.get_running_loop().call_later(self._kill_after, self._kill, child)
        # From a terminal, Ctrl-C goes to the child too: it must not come twice.
        if number != signal.SIGINT or not _is_in_foreground():
            with suppress(ProcessLookupError):
                child.send_signal(number)

    def _kill(self, child: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            child.kill()


def _is_in_foreground() -> bool:
    """Whether a terminal sends its signals to this process and its child."""
    if os.name == "nt":
        return True
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
