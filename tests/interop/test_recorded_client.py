"""A call of an unmodified client is recorded, and comes out the same when the record calls again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from clients import HERE, node
from processes import ClientProgram, ServerProgram, run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]


def test_the_recorded_javascript_client_calls_again(tmp_path: Path, spoken: Callable[[str], str]) -> None:
    with ServerProgram(HERE / "agents.yaml", "--record", tmp_path) as server:
        plan = {"do": "voice", "url": server.url, "agent": "agt_desk", "wavs": [spoken("I want a refund")], "dtmf": "5"}
        with ClientProgram([*node("client.mjs"), json.dumps(plan)]) as client:
            client.run()
    (folder,) = tmp_path.iterdir()

    with ServerProgram(HERE / "agents.yaml", "--clock", "virtual") as server:
        result = run("replay", folder, "--url", server.url)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "refund" in (folder / "transcript.vtt").read_text()
