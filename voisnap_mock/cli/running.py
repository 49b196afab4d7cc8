"""The commands that talk to a running server by its control API, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from voisnap_mock.cli import values
from voisnap_mock.cli.options import CONTEXT, JsonOption, TenantOption, UrlOption

faults_app = typer.Typer(
    help="List, add and clear faults of a running server.",
    no_args_is_help=True,
    context_settings=CONTEXT,
)


@faults_app.command("list")
def faults_list(url: UrlOption = None, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List the faults: which are armed, how often each fired, and what kept it from it."""
    from voisnap_mock.cli.faulting import show

    show(url, tenant, as_json=as_json)


@faults_app.command("add")
def faults_add(
    rule: Annotated[
        str | None,
        typer.Argument(metavar="RULE", help="JSON, YAML, a file, or a token; instead of --at.", show_default=False),
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(help="Where: stt, negotiate, method.SendAudioAsync ...; repeatable.")
    ] = None,
    when: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only then: agent=agt_support, turn=2 ...")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Fail with this code, such as LLM_PROVIDER_ERROR.")] = None,
    undocumented: Annotated[bool, typer.Option("--undocumented", help="The code need not be a known one.")] = False,
    recoverable: Annotated[bool | None, typer.Option(help="Whether the error says so.", show_default=False)] = None,
    http: Annotated[int | None, typer.Option(help="Answer with this status.", show_default=False)] = None,
    retry_after: Annotated[str | None, typer.Option(metavar="TIME", help="With --http.", show_default=False)] = None,
    drop: Annotated[str | None, typer.Option(help="reset, close, close_no_reconnect, stall, half_open.")] = None,
    frames: Annotated[str | None, typer.Option(help="fragment, coalesce, corrupt, duplicate, swallow ...")] = None,
    impair: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="loss=0.03, burst=3, jitter=40ms ...")
    ] = None,
    slow: Annotated[str | None, typer.Option(metavar="TIME", help="Let it take so much longer.")] = None,
    silence: Annotated[bool, typer.Option("--silence", help="Nothing comes of it.")] = False,
    replace: Annotated[str | None, typer.Option(metavar="VALUE", help="Something else comes of it.")] = None,
    after: Annotated[str | None, typer.Option(metavar="TIME", help="So much later.", show_default=False)] = None,
    times: Annotated[int | None, typer.Option(help="At most so often.", show_default=False)] = None,
    skip: Annotated[int | None, typer.Option(help="Not the first ones.", show_default=False)] = None,
    every: Annotated[int | None, typer.Option(help="Only every third, say.", show_default=False)] = None,
    rate: Annotated[float | None, typer.Option(help="By chance, 0.0 to 1.0.", show_default=False)] = None,
    lasts: Annotated[str | None, typer.Option("--for", metavar="TIME", help="So long.", show_default=False)] = None,
    per: Annotated[str | None, typer.Option(help="Count per tenant or per session.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--id", help="What to call it.", show_default=False)] = None,
    url: UrlOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Arm a fault.

    voisnap-mock faults add --at stt --error STT_PROVIDER_TIMEOUT --when turn=2 --times 1
    """
    from voisnap_mock.cli.faulting import add, json_or_text, rule_of

    do = {
        "error": error,
        "undocumented": undocumented or None,
        "recoverable": recoverable,
        "http": http,
        "retry_after": retry_after,
        "drop": drop,
        "frames": frames,
        "impair": values.pairs(impair or [], option="--impair"),
        "slow": slow,
        "silence": silence or None,
        "replace": json_or_text(replace),
        "after": after,
    }
    others = {
        "id": name,
        "at": at[0] if at is not None and len(at) == 1 else at,
        "when": values.pairs(when or [], option="--when"),
        "times": times,
        "skip": skip,
        "every": every,
        "rate": rate,
        "for": lasts,
        "per": per,
    }
    add(rule, rule_of(do, others), url, tenant, as_json=as_json)


@faults_app.command("clear")
def faults_clear(
    ids: Annotated[list[str] | None, typer.Argument(metavar="IDS", help="All, without any.")] = None,
    url: UrlOption = None,
    tenant: TenantOption = None,
) -> None:
    """Disarm faults."""
    from voisnap_mock.cli.faulting import clear

    clear(ids or [], url, tenant)


def calls(url: UrlOption = None, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List the calls of a running server, also those that are over."""
    from voisnap_mock.cli.watching import calls

    calls(url, tenant, as_json=as_json)


def tail(
    call: Annotated[str | None, typer.Option(metavar="ID", help="Only of this call.", show_default=False)] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only of this kind; session.* is a prefix.", show_default=False)
    ] = None,
    target: Annotated[str | None, typer.Option(help="Only of this hub method or event.", show_default=False)] = None,
    text: Annotated[str | None, typer.Option(help="Only what says this.", show_default=False)] = None,
    last: Annotated[
        int,
        typer.Option(
            "--last", "-n", parser=values.whole_number(0, 1_000_000), metavar="NUMBER", help="Begin with so many."
        ),
    ] = 10,
    goes_on: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on with what comes.")] = True,
    url: UrlOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow the journal of a running server until Ctrl-C."""
    from voisnap_mock.cli.watching import tail

    wanted = {"call": call, "kind": kind, "target": target, "text": text}
    tail(url, tenant, wanted, last=last, goes_on=goes_on, as_json=as_json)
