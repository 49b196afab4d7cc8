"""The sample page: served by the mock, complete in itself, and gone when nobody wants it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest

from voisnap_mock import MockServer, Settings
from voisnap_mock.sample_page import FOLDER, policy_for

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def test_the_page_and_every_file_it_asks_for_are_served() -> None:
    with MockServer() as server, httpx.Client(base_url=server.base_url, trust_env=False) as http:
        page = http.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        host = f"127.0.0.1:{server.port}"
        assert f"connect-src 'self' ws://{host} wss://{host};" in policy
        wanted = set(re.findall(r'(?:href|src)="(sample/[^"]+)"', page.text))
        assert {f"sample/{path.name}" for path in FOLDER.glob("*.js")} <= wanted
        for path in wanted:
            answer = http.get(f"/{path}")
            assert answer.status_code == 200, path
            assert answer.headers["content-type"].startswith(TYPES.get(Path(path).suffix, "text/plain"))
        assert "## Hearing" in http.get("/sample/readme").text
        assert http.get("/sample/page.js/").status_code == 200
        assert http.get("/sample/../config.py").status_code == 404


@pytest.mark.parametrize("host", ["", "*", "evil.test; script-src *", "a b"])
def test_a_name_that_is_none_adds_nothing_to_what_the_page_may_reach(host: str) -> None:
    assert "connect-src 'self';" in policy_for(host)


def test_without_a_page_its_address_is_a_404() -> None:
    with (
        MockServer(settings=Settings(no_ui=True)) as server,
        httpx.Client(base_url=server.base_url, trust_env=False) as http,
    ):
        assert http.get("/").status_code == 404
        assert http.get("/sample/page.js").status_code == 404
        assert http.get("/__voisnap/info").json()["urls"]["page"] is None


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_nothing_on_the_page_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    addresses = set(re.findall(r"\b(?:https?|wss?)://[\w.-]+", text))
    assert addresses <= {"http://www.w3.org", "https://host"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_what_a_file_imports_is_beside_it(path: Path) -> None:
    for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
        assert (FOLDER / name).exists()


WITHOUT_AN_OFFER = """
const track = { stop: () => console.log("microphone off") };
const media = { getUserMedia: async () => ({ getTracks: () => [track] }) };
Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: media } });
globalThis.MediaStream = class {};
globalThis.fetch = async () => ({ ok: true, json: async () => ({ sessionToken: "t", iceServers: [] }) });
globalThis.WebSocket = class {
  constructor() { setTimeout(() => { this.onopen(); this.onmessage({ data: "{}\\u001e" }); }); }
  send() {}
  close() { console.log("hub closed"); }
};
globalThis.RTCPeerConnection = class {
  addTrack() { return {}; }
  async setLocalDescription() { throw new Error("no way"); }
  close() { console.log("peer closed"); }
};
const { callByWebRtc } = await import(process.argv.at(-1));
const call = { server: "http://x", token: "t", agentId: "agt_x", listen: (event) => console.log(event) };
await callByWebRtc(call).catch((error) => console.log(error.message));
process.exit();
"""


@pytest.mark.interop
def test_a_webrtc_call_that_cannot_be_offered_leaves_nothing_open() -> None:
    command = ["node", "--input-type=module", "--eval", WITHOUT_AN_OFFER, (FOLDER / "webrtc.js").as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert {"peer closed", "hub closed", "microphone off", "closed", "no way"} <= set(ran.stdout.splitlines()), ran
