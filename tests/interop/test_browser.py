"""The documentation's browser example in headless Chromium, with a WAV file for a microphone."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from clients import HERE, NODE, node
from processes import ClientProgram, ServerProgram, run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]


class _Pages(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[str]:
    """A web server with the page and the client beside it: another origin than the mock, as in real life."""
    folder = tmp_path / "pages"
    folder.mkdir()
    shutil.copy(HERE / "browser" / "call.html", folder)
    shutil.copy(NODE / "node_modules/@microsoft/signalr/dist/browser/signalr.min.js", folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Pages, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def browser() -> str:
    named = os.environ.get("VOISNAP_TEST_BROWSER")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no Chromium found: `python3 tests` installs it, or name one in VOISNAP_TEST_BROWSER"
    return found


def after_a_silence(source: str, target: Path, *, seconds: float) -> Path:
    """A copy of a WAV file that begins with silence: the greeting has to pass first."""
    with wave.open(source) as spoken, wave.open(str(target), "wb") as delayed:
        delayed.setparams(spoken.getparams())
        delayed.writeframes(bytes(int(seconds * spoken.getframerate()) * 2))
        delayed.writeframes(spoken.readframes(spoken.getnframes()))
    return target


def test_the_browser_example_is_understood_and_heard(
    server: ServerProgram, pages: str, browser: str, spoken: Callable[[str], str], tmp_path: Path
) -> None:
    token = run("token").stdout.strip()
    query = urlencode({"server": server.url, "agent": "agt_desk", "token": token})
    plan = {
        "browser": browser,
        "page": f"{pages}/call.html?{query}",
        "microphone": str(after_a_silence(spoken("I want a refund"), tmp_path / "microphone.wav", seconds=2.5)),
        "hangUpAfter": 2,
    }

    with ClientProgram([*node("browser.mjs"), json.dumps(plan)]) as program:
        events = program.run()

    finals = [data["text"] for event, data in events if event == "Transcription" and data["isFinal"]]
    assert "refund" in finals[0]
    replies = [data["text"] for event, data in events if event == "TranscriptionOf" and data["isFinal"]]
    assert replies == ["Hello.", "Which day was it?"]
    named = dict(events)
    assert named["audible"]["peak"] > 0.05
    assert named["SessionEnded"]["reason"] == "user_ended"
    assert named["page"]["heard"] == f"✓ {finals[-1]}"
    assert named["page"]["said"] == "Which day was it?"
    errors = [data["text"] for event, data in events if event == "console" and data["type"] == "error"]
    # The last piece of audio may still be unanswered when the call ends; the example logs that too.
    assert [text for text in errors if "Invocation canceled" not in text] == []
