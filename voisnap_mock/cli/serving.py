"""`serve`: the server in this process, and what it tells the person who started it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from voisnap_mock import __version__
from voisnap_mock.agents.script import DEFAULT_TENANT, AgentsFile, Auth
from voisnap_mock.app import App
from voisnap_mock.cli.console import Console, Span, bar, open_console
from voisnap_mock.config import load_settings
from voisnap_mock.faults.plan import RuleReport
from voisnap_mock.server import Server
from voisnap_mock.server import serve as serve_until_signal


def serve(flags: Mapping[str, object]) -> None:
    """Serve until a signal comes. `flags` are by the names of `Settings`; None is "not given".

    Raises:
        ConfigError: if a setting, the agents file or a speech model cannot be used.
        PortTaken: if the address cannot be bound.
        SystemExit: with the server's exit code.
    """
    settings = load_settings(flags, environment=os.environ)
    logging.basicConfig(
        level=settings.log.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
    )
    console = open_console()
    app = App(
        settings,
        report=lambda text: _show_report(console, text),
        progress=lambda done, total: _show_progress(console, done, total),
    )

    def show_start(server: Server) -> None:
        for line in _start_lines(server):
            console.line(*line)

    def show_stop() -> None:
        console.line("Stopping.")
        for line in fault_lines(app):
            console.line(*line)

    sys.exit(serve_until_signal(app, on_ready=show_start, on_stopping=show_stop))


def fault_lines(app: App) -> Iterator[tuple[str | Span, ...]]:
    """What people must know of the faults at the end: those that never fired, and how to have the same again."""
    for tenant_id in app.tenants.ids:
        for report in app.faults.report(tenant_id):
            if not report.fired:
                yield unfired_line(report, tenant_id)
        if app.faults.has_drawn(tenant_id):
            yield (f"The same faults again{_of(tenant_id)}: --faults {app.faults.token(tenant_id)}",)


def unfired_line(report: RuleReport, tenant_id: str) -> tuple[str | Span, ...]:
    """A fault that never fired, and what came nearest."""
    what = f"{report.rule.id}{_of(tenant_id)}"
    return Span("never fired: ", "yellow"), what, Span(f"  {report.near_miss}", "dim")


def _of(tenant_id: str) -> str:
    return "" if tenant_id == DEFAULT_TENANT else f" of {tenant_id}"


def _start_lines(server: Server) -> Iterator[tuple[str | Span, ...]]:
    app, file = server.app, server.app.tenants.default.file
    urls = app.info()["urls"]
    yield Span(f"voisnap-mock {__version__}", "bold"), Span("  offline stand-in for the Voisnap API", "dim")
    yield ()
    if urls["page"]:
        yield _label("Page"), urls["page"], Span("  talk to the agents in a browser", "dim")
    yield _label("REST"), urls["api"]
    yield _label("Voice"), urls["voice"], Span("?agentId=...&access_token=...", "dim")
    yield _label("Chat"), urls["chat"], Span("?agentId=...&access_token=...", "dim")
    yield _label("WebRTC"), urls["webrtc"], Span("?sessionToken=...&access_token=...", "dim")
    yield _label("Control"), urls["control"]
    yield _label("Login"), *_login(file)
    yield _label("Hears"), app.ears.describe()
    if app.ears.warning:
        yield _label(""), Span(f"warning: {app.ears.warning}", "yellow")
    yield _label("Speaks"), app.synthesizer.status()
    if app.settings.record is not None:
        yield _label("Records"), _nearby(str(app.settings.record))
    watched = " (edits are taken over at once)" if app.settings.agents is not None else ""
    yield _label("Agents"), _nearby(file.source), Span(watched, "dim")
    width = max(map(len, file.agents), default=0)
    for agent in file.agents.values():
        closed = "" if agent.active else "  inactive"
        pinned = "" if agent.hears == "auto" else f"  hears {agent.hears}"
        name = Span(f"{agent.id:<{width}}", "cyan")
        yield _label(""), name, f"  {agent.name}", Span(pinned, "dim"), Span(closed, "yellow")
    yield ()
    # Programs wait for exactly this line.
    yield (f"READY {server.base_url}",)


def _login(file: AgentsFile) -> Iterator[str | Span]:
    """Whom one can log in as; a password is shown only if everybody knows it."""
    known = Auth().users
    for number, user in enumerate(file.auth.users):
        if number:
            yield ", "
        yield user.email
        if user in known:
            yield f" / {user.password}"
            yield Span(" (built-in)", "dim")
    if not file.auth.users:
        yield Span("nobody: auth.users is empty", "yellow")


def _label(text: str) -> Span:
    return Span(f"  {text:<9}", "dim")


def _show_progress(console: Console, done: int, total: int) -> None:
    console.live(*(bar("reading known recordings", done, total) if done < total else ()))


def _show_report(console: Console, text: str) -> None:
    for line in _nearby(text).splitlines():
        console.line(line)


def _nearby(text: str) -> str:
    """The text with paths below the working directory written as people say them there."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")
