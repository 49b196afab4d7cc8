"""Calls over WebRTC by clients of other people: libwebrtc in Node, and the sample page in headless Chromium.

Each is tried with the network of this machine and without any: in a network namespace that has nothing but loopback.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from clients import node
from loudness import likeness
from processes import ClientProgram, ServerProgram, run
from test_browser import browser  # noqa: F401

from voisnap_mock.audio.frames import read_wav, write_wav

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]

RECORDINGS = Path(__file__).parent.parent.parent / "recordings"
QUESTION = RECORDINGS / "utterances" / "opening-hours.wav"
AGENTS = """
version: 1
agents:
  agt_line:
    name: Line
    greeting: {wav: prompts/goodbye.wav, text: Welcome to Acme.}
    hears: recordings
    barge_in: false
    timing: {max_idle: 30s}
    replies:
      - {hear: when are you open, say: From nine to five.}
      - {dtmf: "5", say: Five.}
  agt_brief:
    greeting: Hello.
    replies:
      - {dtmf: "9", say: Bye., end: agent_ended}
"""


class Network:
    """Where server and client run; `inside` goes before the commands of clients."""

    def __init__(self, folder: Path, *, has_network: bool) -> None:
        (folder / "recordings").mkdir()
        for name in ("prompts", "utterances"):
            shutil.copytree(RECORDINGS / name, folder / "recordings" / name)
        (folder / "agents.yaml").write_text(AGENTS)
        into: tuple[str, ...] = ()
        if not has_network:
            assert os.name == "posix", "network namespaces are a thing of Linux"
            assert os.geteuid() == 0, "only root may make a network namespace"
            into = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "-")
        self.server = ServerProgram(folder / "agents.yaml", inside=into)
        self.inside = () if has_network else ("nsenter", "--net", "--target", str(self.server.pid))


@pytest.fixture(scope="module", params=["a network", "loopback only"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    made = Network(tmp_path_factory.mktemp("line"), has_network=request.param == "a network")
    with made.server:
        yield made


def heard_in(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes()[: path.stat().st_size // 2 * 2], np.int16)


def prompt(name: str) -> tuple[np.ndarray, int]:
    pcm, rate = read_wav((RECORDINGS / "prompts" / name).read_bytes())
    return np.frombuffer(pcm, np.int16), rate


def test_libwebrtc_is_understood_and_hears_the_agent(network: Network, tmp_path: Path) -> None:
    pcm, rate = read_wav(QUESTION.read_bytes())
    assert rate == 16_000
    (tmp_path / "say.pcm").write_bytes(pcm)
    plan = {
        "url": network.server.url,
        "agent": "agt_line",
        "token": run("token").stdout.strip(),
        "say": str(tmp_path / "say.pcm"),
        "keep": str(tmp_path / "heard.pcm"),
    }
    with ClientProgram([*network.inside, *node("webrtc.mjs"), json.dumps(plan)]) as program:
        events = program.run()
    named = dict(events)
    assert named["session"] == {"status": 201, "iceServers": []}
    assert "connected" in [data for event, data in events if event == "state"]
    assert [data["text"] for event, data in events if event == "Transcription" and data["isFinal"]] == [
        "When are you open?"
    ]
    assert [data["text"] for event, data in events if event == "TranscriptionOf" and data["isFinal"]] == [
        "Welcome to Acme.",
        "From nine to five.",
    ]
    assert named["SessionEnded"]["reason"] == "user_ended"
    assert "refused" not in named
    assert likeness(*prompt("goodbye.wav"), heard_in(tmp_path / "heard.pcm"), 48_000) > 0.9


def use_page(network: Network, browser: str, folder: Path, steps: list[Any], **more: Any) -> dict[str, Any]:  # noqa: F811
    """Go through the steps on the page; the page's words at the end, by kind."""
    (folder / "quiet.wav").write_bytes(write_wav(bytes(32_000), 16_000))
    plan = {
        "browser": browser,
        "profile": str(folder / "profile"),
        "page": f"http://localhost:{network.server.port}/",
        "microphone": str(folder / "quiet.wav"),
        "way": "webrtc",
        "agent": "agt_line",
        "steps": steps,
        **more,
    }
    with ClientProgram([*network.inside, *node("page.mjs"), json.dumps(plan)]) as program:
        events = program.run()
    assert "error" not in dict(events), events
    return dict(events)


def test_a_person_at_the_page_talks_presses_keys_and_hangs_up(
    network: Network,
    browser: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    # The microphone asks again and again, so nothing hangs on when that begins.
    pcm, rate = read_wav(QUESTION.read_bytes())
    microphone = tmp_path / "microphone.wav"
    microphone.write_bytes(write_wav(bytes(2 * rate * 2) + pcm + bytes(rate), rate))
    said = use_page(
        network,
        browser,
        tmp_path,
        [
            ["mute"],
            ["hear", "Welcome to Acme."],
            ["read"],
            ["mute"],
            ["hear", "When are you open?"],
            ["hear", "From nine to five."],
            ["press", "5"],
            ["hear", "Five."],
            ["hang up"],
            ["over"],
        ],
        microphone=str(microphone),
        keep=str(tmp_path / "heard.pcm"),
    )
    assert said["read"] == [["agent", "Welcome to Acme."]], "who is muted is not heard"
    # Whoever stops being muted in the middle of a question has asked half a question.
    spoken = [text for kind, text in said["transcript"] if kind in ("agent", "caller") and not text.startswith("[")]
    firsts = list(dict.fromkeys(spoken))
    assert firsts == ["Welcome to Acme.", "When are you open?", "From nine to five.", "Five."]
    assert ["caller", "When are you open?"] in said["transcript"]
    assert said["problem"] == ""
    heard = heard_in(tmp_path / "heard.pcm")
    assert likeness(*prompt("goodbye.wav"), heard, 16_000) > 0.9
    assert likeness(*prompt("hello.wav"), heard, 16_000) < 0.6, "what was not said is not found"


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    made = Network(tmp_path_factory.mktemp("near"), has_network=True)
    with made.server:
        yield made


@pytest.mark.parametrize("way", ["webrtc", "voice"])
def test_the_agent_hangs_up_and_the_page_says_so(near: Network, browser: str, tmp_path: Path, way: str) -> None:  # noqa: F811
    said = use_page(
        near,
        browser,
        tmp_path,
        [["hear", "Hello."], ["press", "9"], ["hear", "Bye."], ["over"], ["show", "ended: agent_ended"]],
        way=way,
        agent="agt_brief",
    )
    assert ["agent", "Bye."] in said["transcript"]
    assert said["problem"] == ""


def test_a_browser_that_vanishes_ends_its_call(near: Network, browser: str, tmp_path: Path) -> None:  # noqa: F811
    use_page(near, browser, tmp_path, [["hear", "Hello."], ["vanish"]], agent="agt_brief")
    follow = {"follow": "true", "kind": "session.ended"}
    with httpx.stream("GET", f"{near.server.url}/__voisnap/journal", params=follow, trust_env=False) as entries:
        ends = (json.loads(line.removeprefix("data: ")) for line in entries.iter_lines() if line.startswith("data"))
        assert any(entry["reason"] == "disconnected" for entry in ends)
