"""A server process, the clients, and a caller's words as WAV files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clients import HERE, Client, node
from processes import ClientProgram, ServerProgram, run


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProgram]:
    with ServerProgram(HERE / "agents.yaml") as program:
        yield program


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`spoken(text)` is the path of a WAV file that `voisnap-mock say` made of it."""
    folder = tmp_path_factory.mktemp("spoken")
    made: dict[str, str] = {}

    def say(text: str) -> str:
        if text not in made:
            path = folder / f"{len(made)}.wav"
            result = run("say", text, "-o", path)
            assert result.returncode == 0, result.stderr
            made[text] = str(path)
        return made[text]

    return say


@pytest.fixture(params=["@microsoft/signalr", "signalrcore"])
def client(request: pytest.FixtureRequest, server: ServerProgram) -> Iterator[Client]:
    """Starts one of the independent clients with a plan; see `node/client.mjs`."""
    started: list[ClientProgram] = []
    command = (
        node("client.mjs")
        if request.param == "@microsoft/signalr"
        else (sys.executable, str(HERE / "signalrcore_client.py"))
    )

    def start(do: str, **plan: Any) -> ClientProgram:
        program = ClientProgram([*command, json.dumps({"do": do, "url": server.url, **plan})])
        started.append(program)
        return program

    yield start
    for program in started:
        program.__exit__()
