"""The README tells the truth: what it shows runs, and what there is to set is in it."""

import ast
import re
import textwrap
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from typer.main import get_command

from voisnap_mock import AsyncMockCall, Mock, MockCall, pytest_plugin
from voisnap_mock.agents.builtin import builtin_agents
from voisnap_mock.audio.marking import caller_speech
from voisnap_mock.cli.entry import app as cli_app
from voisnap_mock.config import agents_schema, parse_agents
from voisnap_mock.server import MockServer
from voisnap_mock.signalr import HubClient

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@contextmanager
def served(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    ready = threading.Event()
    startup = server.startup

    async def startup_and_tell(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        ready.set()

    server.startup = startup_and_tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(20)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


async def test_the_echo_hub_on_a_bare_starlette_app_runs() -> None:
    (source,) = (block for block in blocks("python") if "class Echo" in block)
    assert len([line for line in source.splitlines() if line.strip()]) <= 10
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(source, "README.md", "exec", dont_inherit=True), namespace)
    with served(namespace["app"]) as base:
        async with HubClient(f"{base}/echo") as client:
            assert await client.invoke("Say", "hello") == "hello"


def test_the_reference_caller_does_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = (block for block in blocks("python") if "caller.interrupt" in block)
    exec(compile(source, "README.md", "exec", dont_inherit=True), {"__name__": "readme"})
    assert "('agent', 'Hi, this is Acme. How can I help?'), ('caller', 'I want a refund')" in capsys.readouterr().out


def test_the_snippet_that_decodes_a_playback_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = (block for block in blocks("python") if "decode_speech" in block)
    exec(compile(source, "README.md", "exec", dont_inherit=True), {"pcm": caller_speech("hello there")})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["hello there", "() 1.0"]
    assert [line.split()[0] for line in lines[2:]] == ["hello", "there"]


def test_the_control_api_does_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = (block for block in blocks("python") if "/__voisnap" in block)
    commands = [block for block in blocks("sh") if block.startswith("curl") and "/__voisnap" in block]
    with MockServer() as server:
        source = source.replace("http://127.0.0.1:8647", server.base_url)
        exec(compile(source, "README.md", "exec", dont_inherit=True), {"__name__": "readme"})
        assert capsys.readouterr().out.startswith("ten_")
        for command in commands:
            method = "PATCH" if "-X PATCH" in command else "POST"
            path, body = re.search(r"localhost:8647(\S+).*? '(.*)'", command, re.DOTALL).groups()  # type: ignore[union-attr]
            answer = httpx.request(method, server.base_url + path, content=body)
            assert answer.status_code == 200, answer.text
    assert len(commands) == 2


def test_the_fault_in_a_header_that_it_shows_fires() -> None:
    (command,) = (block for block in blocks("sh") if "X-Voisnap-Mock" in block)
    path, body, fault = re.findall(r"localhost:8647(\S+)|--json '(.*?)'|X-Voisnap-Mock: (.*?)'", command)
    with MockServer() as server:
        headers = {"Content-Type": "application/json", "X-Voisnap-Mock": fault[2]}
        assert httpx.post(server.base_url + path[0], content=body[1], headers=headers).status_code == 503
        del headers["X-Voisnap-Mock"]
        assert httpx.post(server.base_url + path[0], content=body[1], headers=headers).status_code == 200


def test_every_extra_is_in_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [extra for extra in extras if f"`{extra}` is" not in README] == []


def test_the_agents_file_it_shows_is_accepted() -> None:
    whole, *sections = blocks("yaml")
    file = parse_agents(whole, source="README.md")
    assert set(file.agents) == {"agt_support"}
    for section in sections:
        parse_agents(f"{section}agents: {{agt_a: {{}}}}\n", source="README.md")


def test_the_built_in_agents_are_named() -> None:
    for agent in builtin_agents().agents:
        assert f"`{agent}`" in README


def test_every_key_of_an_agents_file_is_in_it() -> None:
    def keys(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            for name, inner in schema.items():
                if name == "properties":
                    yield from inner
                yield from keys(inner)
        elif isinstance(schema, list):
            for inner in schema:
                yield from keys(inner)

    missing = sorted(key for key in set(keys(agents_schema())) if not re.search(rf"\b{re.escape(key)}\b", README))
    assert not missing


def test_every_command_and_every_flag_of_serve_and_exec_is_in_it() -> None:
    commands = get_command(cli_app).commands  # type: ignore[attr-defined]
    assert [name for name in commands if f"| `{name}" not in README] == []
    for name in ("serve", "exec"):
        flags = [option for parameter in commands[name].params for option in parameter.opts if option.startswith("--")]
        assert [flag for flag in flags if flag not in README and flag != "--help"] == []


def test_everything_a_test_can_do_is_in_it() -> None:
    section = README[README.index("## In your tests") : README.index("## agents.yaml")]
    section = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
    told = set(re.findall(r"\b\w+\b", " ".join(re.findall(r"`([^`]+)`", section))))
    for kind in (Mock, MockCall):
        assert [name for name in dir(kind) if not name.startswith("_") and name not in told] == []
    assert {name for name in dir(MockCall) if not name.startswith("_")} == {
        name for name in dir(AsyncMockCall) if not name.startswith("_")
    }
    fixtures = [
        name for name, value in vars(pytest_plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"
    ]
    assert fixtures
    assert [name for name in fixtures if f"| `{name}` |" not in section] == []
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    options = [name for option in parser.getgroup("voisnap").options for name in option.names()]
    assert [option for option in options if option not in section] == []
    keys = {name for name, _, _ in pytest_plugin._INI}
    assert keys - {"voisnap_agents", "voisnap_patience"} <= {
        name.removeprefix("--").replace("-", "_") for name in options
    }


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(#([a-z0-9-]+)\)", README))))
def test_its_links_lead_somewhere(target: str) -> None:
    headings = re.findall(r"^##+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert target in anchors


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|recordings|voisnap_mock)/[\w./-]*)`", README))))
def test_the_files_it_names_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_benchmark_is_in_it_with_its_goal() -> None:
    tree = ast.parse((ROOT / "tests" / "benchmarks" / "__main__.py").read_text(encoding="utf-8"))
    (goals,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GOALS"
    )
    assert re.findall(r"^\| `(\w+)` \|", README[README.index("| benchmark |") :], re.MULTILINE) == list(goals)


def test_its_lines_are_short_enough_to_read_in_a_terminal() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > 130 and not line.startswith("|")]
    assert not long, textwrap.shorten(long[0], 200)
