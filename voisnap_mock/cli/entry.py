"""The commands, their options, and what becomes of their errors.

Only words are defined here; what a command does lives in a module of its own, imported when the command runs: nobody
waits for the reference caller to serve, or for the server to mint a token.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from voisnap_mock.cli import running, values
from voisnap_mock.cli.console import is_terminal, print_error, take_any_text
from voisnap_mock.cli.failures import INTERRUPTED, exit_code
from voisnap_mock.cli.options import CONTEXT, JsonOption, TenantOption, UrlOption
from voisnap_mock.errors import VoisnapMockError

_IS_TERMINAL = is_terminal(sys.stdout)

app = typer.Typer(
    name="voisnap-mock",
    help="An offline stand-in for the Voisnap voice-agent API.",
    no_args_is_help=True,
    add_completion=False,
    # Rich makes help and usage errors handsome for people; a pipe gets plain text and none of its import time.
    rich_markup_mode="rich" if _IS_TERMINAL else None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)

AgentsArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="AGENTS.yaml",
        help="The agents file; without one, agents.yaml of this directory, else the built-in agents.",
        show_default=False,
    ),
]
AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent, such as agt_support.")]
RecordArgument = Annotated[
    str,
    typer.Argument(metavar="CALL", help="Folder or zip of a recorded call, or the id of a call of a running server."),
]
EmailOption = Annotated[
    str | None, typer.Option(help="Log in as this user; else VOISNAP_EMAIL, the built-in user.", show_default=False)
]
PasswordOption = Annotated[
    str | None, typer.Option(help="Its password; else VOISNAP_PASSWORD, the built-in one.", show_default=False)
]
TokenOption = Annotated[
    str | None,
    typer.Option(help="Use this access token, no login; else VOISNAP_ACCESS_TOKEN.", show_default=False),
]
PatienceOption = Annotated[
    float,
    typer.Option(
        parser=values.duration,
        metavar="TIME",
        help="How long to wait for the agent before going on.",
        show_default="6s",
    ),
]
DropOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TIME[=AWAY]",
        parser=values.drop,
        help="Lose the connection at this time and come back, at once or after a while; repeatable.",
        show_default=False,
    ),
]
MetadataOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Metadata of the connection.", show_default=False)
]
SessionOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Resume this session instead of beginning one.", show_default=False)
]
VoiceOption = Annotated[str, typer.Option(help="A voice of espeak, such as en-us+f3 or en-gb-x-rp.")]
RateOption = Annotated[
    int, typer.Option(parser=values.whole_number(80, 450), metavar="NUMBER", help="Words per minute.")
]
AgentsOption = Annotated[
    Path | None,
    typer.Option(
        help="Make it as a server with this agents file would; else agents.yaml of this directory, if there.",
        show_default=False,
    ),
]

# What `serve` and `exec` can be told about the server.
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
PortOption = Annotated[
    int | None,
    typer.Option(
        parser=values.whole_number(0, 65535),
        metavar="NUMBER",
        help="Port; 0 picks a free one.",
        show_default="8647",
    ),
]
PortFileOption = Annotated[Path | None, typer.Option(help="Write the port here when ready.", show_default=False)]
SeedOption = Annotated[int | None, typer.Option(help="Same seed, same ids.", show_default=False)]
VoskModelOption = Annotated[
    Path | None,
    typer.Option(help="Folder of a Vosk model; else VOSK_MODEL_PATH, the built-in one.", show_default=False),
]
ClockOption = Annotated[
    str | None,
    typer.Option(help="What moves call time: real, 4x, or virtual (the caller's audio).", show_default="real"),
]
IdleGraceOption = Annotated[
    float | None,
    typer.Option(
        parser=values.duration,
        metavar="TIME",
        help="Real time that a virtual clock waits for an idle caller before the agent goes on.",
        show_default="50ms",
    ),
]
FaultsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Faults besides those of the agents file; or a token: those.", show_default=False
    ),
]
RecordOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Record every call in a folder of its own here.", show_default=False),
]
NoUiOption = Annotated[bool | None, typer.Option("--no-ui", help="Serve no sample page.", show_default=False)]
LogLevelOption = Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="warning")]


class _OrderedCommand(TyperCommand):
    """Remembers the words it was given: the order of `--say`, `--wav`, `--dtmf` and so on is that of the call."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"voisnap-mock {version('voisnap-mock')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An offline stand-in for the Voisnap voice-agent API."""


@app.command()
def serve(
    agents: AgentsArgument = None,
    host: HostOption = None,
    port: PortOption = None,
    port_file: PortFileOption = None,
    seed: SeedOption = None,
    vosk_model: VoskModelOption = None,
    clock: ClockOption = None,
    idle_grace: IdleGraceOption = None,
    faults: FaultsOption = None,
    record: RecordOption = None,
    no_ui: NoUiOption = None,
    log: LogLevelOption = None,
) -> None:
    """Serve until stopped.

    An edited agents file is taken over at once; a faulty one is reported and the old one stays.
    """
    from voisnap_mock.cli.serving import serve

    serve(
        {
            "agents": agents,
            "host": host,
            "port": port,
            "port_file": port_file,
            "seed": seed,
            "vosk_model": vosk_model,
            "clock": clock,
            "idle_grace": idle_grace,
            "faults": faults,
            "record": record,
            "no_ui": no_ui,
            "log": log,
        }
    )


@app.command("exec", context_settings={"ignore_unknown_options": False})
def execute(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="What to run, with its arguments.", show_default=False)
    ],
    agents: Annotated[
        Path | None,
        typer.Option(
            help="The agents file; without one, agents.yaml of this directory, else the built-in agents.",
            show_default=False,
        ),
    ] = None,
    host: HostOption = None,
    port: Annotated[
        int | None,
        typer.Option(parser=values.whole_number(0, 65535), metavar="NUMBER", help="Port.", show_default="a free one"),
    ] = None,
    port_file: PortFileOption = None,
    seed: SeedOption = None,
    vosk_model: VoskModelOption = None,
    clock: ClockOption = None,
    idle_grace: IdleGraceOption = None,
    faults: FaultsOption = None,
    record: RecordOption = None,
    no_ui: NoUiOption = None,
    log: LogLevelOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail with 113 for unfired faults, wrong script turns and server errors.")
    ] = False,
    report: Annotated[
        list[Any] | None,
        typer.Option(
            parser=values.report,
            metavar="FORMAT[=FILE]",
            help="Write junit, json or coverage; repeatable.",
            show_default=False,
        ),
    ] = None,
    kill_after: Annotated[
        float,
        typer.Option(
            parser=values.duration,
            metavar="TIME",
            help="How long COMMAND may take to heed a signal.",
            show_default="10s",
        ),
    ] = 10.0,
) -> None:
    """Run a command with a server beside it.

    The command finds the server by VOISNAP_BASE_URL and the other variables that env prints. The exit code is the
    command's; 110 to 114 are failures of the mock: not ready, bad configuration, command not found, a check failed
    under --strict, internal.
    """
    from voisnap_mock.cli.executing import ExecPlan, execute

    execute(
        {
            "agents": agents,
            "host": host,
            "port": port,
            "port_file": port_file,
            "seed": seed,
            "vosk_model": vosk_model,
            "clock": clock,
            "idle_grace": idle_grace,
            "faults": faults,
            "record": record,
            "no_ui": no_ui,
            "log": log,
        },
        ExecPlan(
            command,
            is_strict=strict,
            kill_after=kill_after,
            reports=report or [],
        ),
    )


@app.command(cls=_OrderedCommand)
def call(
    context: typer.Context,
    agent: AgentArgument,
    say: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Say this; repeatable.", show_default=False)
    ] = None,
    wav: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Play this WAV file; repeatable.", show_default=False
        ),
    ] = None,
    dtmf: Annotated[
        list[str] | None,
        typer.Option(metavar="KEYS", parser=values.digits, help="Press these keys; repeatable.", show_default=False),
    ] = None,
    interrupt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TIME=TEXT",
            parser=values.interruption,
            help="Begin to say this at this time of the call, whoever speaks; repeatable.",
            show_default=False,
        ),
    ] = None,
    drop: DropOption = None,
    mic: Annotated[
        bool, typer.Option("--mic", help="Talk by microphone and loudspeaker (extra: mic) until Ctrl-C.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.wav", help="Record: caller left, agent right.", show_default=False),
    ] = None,
    voice: VoiceOption = "en-us",
    rate: RateOption = 175,
    metadata: MetadataOption = None,
    session: SessionOption = None,
    patience: PatienceOption = 6.0,
    url: UrlOption = None,
    email: EmailOption = None,
    password: PasswordOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call an agent by voice.

    Prints the timed transcript. Steps (--say, --wav, --dtmf, --interrupt, --drop) happen in the order given, each
    when the agent has finished, --interrupt and --drop at their time. Ctrl-C hangs up.
    """
    from voisnap_mock.cli.calling import CallPlan, call

    call(
        agent,
        CallPlan(
            steps=values.steps_in_order(
                context.meta["words"],
                say=say or [],
                wav=wav or [],
                dtmf=dtmf or [],
                interrupt=[values.interruption(step) for step in interrupt or []],
                drop=[values.drop(step) for step in drop or []],
            ),
            with_microphone=mic,
            out=out,
            voice=voice,
            rate=rate,
            metadata=values.pairs(metadata or [], option="--metadata"),
            session_id=session,
            patience=patience,
        ),
        url=url,
        email=email,
        password=password,
        token=token,
        as_json=as_json,
    )


@app.command(cls=_OrderedCommand)
def chat(
    context: typer.Context,
    agent: AgentArgument,
    say: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Send this; repeatable. Else type or pipe lines.", show_default=False),
    ] = None,
    drop: DropOption = None,
    language: Annotated[str | None, typer.Option(help="Such as es-MX.", show_default=False)] = None,
    user_name: Annotated[str | None, typer.Option(help="Name of the user.", show_default=False)] = None,
    metadata: MetadataOption = None,
    session: SessionOption = None,
    patience: PatienceOption = 6.0,
    url: UrlOption = None,
    email: EmailOption = None,
    password: PasswordOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Chat with an agent."""
    from voisnap_mock.cli.chatting import ChatPlan, chat

    chat(
        agent,
        ChatPlan(
            steps=[
                step
                for step in values.steps_in_order(
                    context.meta["words"], say=say or [], drop=[values.drop(step) for step in drop or []]
                )
                if isinstance(step, values.Say | values.Drop)
            ],
            language=language,
            user_name=user_name,
            metadata=values.pairs(metadata or [], option="--metadata"),
            session_id=session,
            patience=patience,
        ),
        url=url,
        email=email,
        password=password,
        token=token,
        as_json=as_json,
    )


@app.command()
def say(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the caller says.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.wav", help="The file to write.")],
    voice: VoiceOption = "en-us",
    rate: RateOption = 175,
) -> None:
    """Write a caller's utterance as a WAV file.

    16 kHz, 16 bit, mono: what a client sends to the VoiceHub.
    """
    from voisnap_mock.cli.saying import say

    say(text, out, voice=voice, rate=rate)


@app.command()
def token(
    user: Annotated[str, typer.Option(help="E-mail address; users of the agents file keep their role.")] = (
        "dev@example.test"
    ),
    tenant: Annotated[str | None, typer.Option(help="Tenant, such as ten_dev.", show_default=False)] = None,
    ttl: Annotated[
        float | None,
        typer.Option(parser=values.duration, metavar="TIME", help="Life of the token.", show_default="1h"),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set a claim; NAME=null drops it. Repeatable.", show_default=False),
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="A token that is already over.")] = False,
    agents: AgentsOption = None,
) -> None:
    """Mint an access token, without a server."""
    from voisnap_mock.cli.tokens import mint

    mint(
        user=user,
        tenant=tenant,
        ttl=ttl,
        claims=values.pairs(claim or [], option="--claim"),
        is_expired=expired,
        agents=agents,
    )


@app.command()
def validate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILES", help="Agents files; - is standard input.", show_default="agents.yaml"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check agents files.

    One line per problem, as file:line:column: message; exit code 3 when there is one.
    """
    from voisnap_mock.cli.files import validate

    validate(files or [], as_json=as_json)


@app.command()
def show(
    source: RecordArgument,
    url: UrlOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who said what when in a recorded call. It tells what happened besides, too."""
    from voisnap_mock.cli.showing import show

    show(source, url=url, tenant=tenant, as_json=as_json)


@app.command()
def replay(
    source: RecordArgument,
    agent: Annotated[
        str | None,
        typer.Option(metavar="AGENT", help="Call this agent instead.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            parser=values.duration,
            metavar="TIME",
            help="Events must also come at their time, give or take this.",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = None,
    email: EmailOption = None,
    password: PasswordOption = None,
    token: TokenOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a recorded caller call again, and compare what comes of it.

    Exit code 0 when the events are the same, 1 when not. On a virtual clock it takes no time.
    """
    from voisnap_mock.cli.replaying import replay

    replay(
        source,
        agent=agent,
        tolerance=tolerance,
        url=url,
        email=email,
        password=password,
        token=token,
        tenant=tenant,
        as_json=as_json,
    )


@app.command()
def ready(
    wait: Annotated[bool, typer.Option("--wait", help="Wait for it.")] = False,
    timeout: Annotated[
        float, typer.Option(parser=values.duration, metavar="TIME", help="How long at most.", show_default="10s")
    ] = 10.0,
    url: UrlOption = None,
) -> None:
    """Tell whether a server is ready.

    Exit code 0 when it is, 1 when not, 5 when it was not in time with --wait.
    """
    from voisnap_mock.cli.readiness import ready

    ready(url, wait=wait, timeout=timeout)


@app.command()
def doctor(
    vosk_model: Annotated[
        Path | None, typer.Option(help="Also try this Vosk model; else VOSK_MODEL_PATH.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find out what works on this machine.

    Really speaks a sentence and recognises it with each ear; tells what is missing and what to do about it.
    """
    from voisnap_mock.cli.diagnosis import doctor

    doctor(vosk_model, as_json=as_json)


models_app = typer.Typer(
    help="Vosk models: what is installed, and more of them. Nothing is ever fetched by itself.",
    no_args_is_help=True,
    context_settings=CONTEXT,
)
app.add_typer(models_app, name="models")


@models_app.command("install")
def models_install(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_FILE_OR_URL", help="A zip or tar archive, its URL, or a model's name on Vosk's site."
        ),
    ],
    sha256: Annotated[
        str | None,
        typer.Option(parser=values.sha256, metavar="HEX", help="What its checksum must be.", show_default=False),
    ] = None,
) -> None:
    """Install a Vosk model.

    A download that broke off goes on where it was. The model is tried before it is put in place.
    """
    from voisnap_mock.cli.models import install

    install(source, sha256=sha256)


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """List the installed models; * is the one in use."""
    from voisnap_mock.cli.models import show

    show(as_json=as_json)


@models_app.command("path")
def models_path(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The one in use, without a name.", show_default=False)
    ] = None,
) -> None:
    """Print the folder of a model, as for --vosk-model."""
    from voisnap_mock.cli.models import path

    path(name)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to.", show_default=".")] = Path(),
) -> None:
    """Write starter files; overwrites nothing."""
    from voisnap_mock.cli.files import init

    init(directory)


@app.command()
def schema() -> None:
    """Print the JSON Schema of agents files."""
    from voisnap_mock.cli.files import schema

    schema()


@app.command()
def env(
    url: UrlOption = None,
    shell: Annotated[str, typer.Option(help="sh, fish, powershell or cmd.")] = "sh",
    agents: AgentsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print shell exports that point clients here.

    In a POSIX shell: eval "$(voisnap-mock env)"
    """
    from voisnap_mock.cli.tokens import env

    env(url, shell=shell, agents=agents, as_json=as_json)


@app.command()
def coverage(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILES", help="Coverage files of test runs, added up; without one, a running server."),
    ] = None,
    url: UrlOption = None,
    tenant: TenantOption = None,
    html: Annotated[Path | None, typer.Option(help="Write a page for browsers, too.", show_default=False)] = None,
    fail_under: Annotated[
        float | None,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Exit with 1 when it is less.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which parts of the API clients have used. Those that they never touched are named."""
    from voisnap_mock.cli.covering import coverage

    coverage(files or [], url=url, tenant=tenant, as_json=as_json, html=html, fail_under=fail_under)


@app.command()
def fidelity(as_json: JsonOption = False) -> None:
    """List what is emulated. What is documented, and what is assumed, with the switch that changes it."""
    from voisnap_mock.cli.grounds import show

    show(as_json=as_json)


app.add_typer(running.faults_app, name="faults")
app.command()(running.calls)
app.command()(running.tail)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    take_any_text()
    try:
        app(args=arguments, prog_name="voisnap-mock")
    except VoisnapMockError as error:
        print_error(str(error))
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough of it.
        sys.exit(1)
    sys.exit(0)
