"""`fidelity`: what is emulated, and on whose word."""

from __future__ import annotations

import re

from voisnap_mock.cli.console import Span, open_console, print_json
from voisnap_mock.fidelity import AREAS, Ground, behaviours, report

_STYLES: dict[Ground, str] = {"documented": "green", "observed": "cyan", "assumed": "yellow"}


def show(*, as_json: bool) -> None:
    """Print the register of behaviour."""
    if as_json:
        print_json({"data": report()})
        return
    console = open_console()
    for area, those in AREAS.items():
        console.line(Span(area, "bold"))
        for behaviour in those:
            switch = (Span(f"  change: {_plain(behaviour.switch)}", "magenta"),) if behaviour.switch else ()
            ground = Span(f"  {behaviour.ground:<11}", _STYLES[behaviour.ground])
            console.line(ground, Span(_plain(behaviour.subject), "bold"), ": ", _plain(behaviour.does), *switch)
            console.line(" " * 13, Span(_plain(behaviour.basis), "dim"))
        console.line()
    counts = [behaviour.ground for _, behaviour in behaviours()]
    console.line(", ".join(f"{counts.count(ground)} {ground}" for ground in _STYLES))


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", markdown.replace("`", ""))
