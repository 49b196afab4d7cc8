"""Words that the built-in model learns from the agents, spoken on a real call."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_caller import HubCaller, journaled
from speech_samples import say

from voisnap_mock.app import App
from voisnap_mock.config import Settings
from voisnap_mock.server import Server


def agents(*words: str) -> str:
    return f"""
version: 1
agents:
  agt_zoo:
    voice: {{engine: tone, rate: 400}}
    replies:
      - hear: [{", ".join(words)}]
        say: Found.
      - else: Lost.
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setenv("VOISNAP_MOCK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "agents.yaml"
    path.write_text(agents("kangaroo", "archbishop"))
    return App(Settings(port=0, agents=path, clock="virtual"), report=lambda text: None)


async def heard(caller: HubCaller, text: str) -> str:
    at = len(caller.events)
    await caller.speak(say(text).pcm.tobytes())
    return str((await caller.wait_for("Transcription", after=at, isFinal=True))["text"])


async def test_a_word_of_an_agent_is_understood_from_the_first_call_on(app: App) -> None:
    # Nothing has warmed up: the call itself has to see to it.
    async with Server(app) as server, HubCaller(server, "voice", agentId="agt_zoo") as caller:
        await caller.wait_for("SessionStarted")
        assert await heard(caller, "i want to cancel my kangaroo") == "i want to cancel my kangaroo"
        assert "Found." in str(caller.shown())
        learnt = await journaled(app.tenants.default.journal, kind="words.learnt")
        assert learnt.details == {"added": ["archbishop", "kangaroo"], "skipped": [], "problem": None}


async def test_a_call_under_way_understands_words_of_an_edited_file(app: App) -> None:
    async with Server(app) as server, HubCaller(server, "voice", agentId="agt_zoo") as caller:
        await caller.wait_for("SessionStarted")
        assert await heard(caller, "archbishop") == "archbishop"
        app.settings.agents.write_text(agents("zebra"))  # type: ignore[union-attr]
        await app.reload()
        assert await heard(caller, "zebra") == "zebra"
