"""The clients that the README shows, run as they stand; only the server's address is another."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clients import NODE, node
from processes import COMMAND, Program, ServerProgram, clean_environment, run

pytestmark = pytest.mark.interop

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8647"


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProgram]:
    """A server without an agents file: the README's agents are built in."""
    with ServerProgram(cwd=tmp_path_factory.mktemp("empty")) as program:
        yield program


def snippet(language: str, mark: str, server: ServerProgram) -> str:
    (source,) = (text for text in re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S) if mark in text)
    assert ADDRESS in source
    return source.replace(ADDRESS, f"127.0.0.1:{server.port}")


def test_the_javascript_client_starts_a_call_sends_audio_and_hears_the_greeting(built_in: ServerProgram) -> None:
    node("")  # says what to do when the Node clients are not there
    source = snippet("js", "SendAudioAsync", built_in)
    with Program(["node", "--input-type=module", "--eval", f"{source}\nconsole.log('sent');"], cwd=NODE) as client:
        client.read_until(lambda line: line.startswith("conv_"))
        client.read_until(lambda line: line == "sent")
        client.read_until(lambda line: line == "agent Hi, this is Acme. How can I help? true")
        assert not client.errors


def test_the_python_client_gets_an_answer(built_in: ServerProgram) -> None:
    source = snippet("python", "signalrcore", built_in)
    token = run("token").stdout.strip()
    with Program(
        [sys.executable, "-u", "-c", source],
        environment=clean_environment(VOISNAP_ACCESS_TOKEN=token),
        stdin=subprocess.PIPE,
    ) as client:
        client.read_until(lambda line: line == "Sure. What is the order number?")
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.wait() == 0
        assert "Traceback" not in client.errors


def test_the_shell_line_sets_what_the_clients_read(built_in: ServerProgram) -> None:
    assert 'eval "$(voisnap-mock env)"' in README
    environment = clean_environment(VOISNAP_MOCK_URL=built_in.url)
    script = f'eval "$({" ".join(COMMAND)} env)"; echo "$VOISNAP_BASE_URL ${{VOISNAP_ACCESS_TOKEN%%.*}}"'
    with Program(["sh", "-c", script], environment=environment) as shell:
        base_url, header = shell.read_until(lambda line: "eyJ" in line).split()
    assert base_url == built_in.url
    assert header.startswith("eyJ")
