"""What a test-suite touched of the API: counted from journals, added up, shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import run

from voisnap_mock.agents.script import EndReason
from voisnap_mock.caller import CallRefused
from voisnap_mock.clock import SystemClock
from voisnap_mock.cloud.chat_hub import ChatHub
from voisnap_mock.cloud.session_hub import SessionHub
from voisnap_mock.cloud.voice_hub import VoiceHub
from voisnap_mock.cloud.webrtc_hub import WebRtcHub
from voisnap_mock.coverage import END_REASONS, METHODS, TRANSPORTS, Coverage, added_up
from voisnap_mock.coverage_page import coverage_page
from voisnap_mock.faults.rules import POINTS
from voisnap_mock.journal import JournalEntry
from voisnap_mock.server import MockServer
from voisnap_mock.signalr.hub import MethodTable
from voisnap_mock.webrtc.peer import Peer


def entry(kind: str, call_id: str | None = None, /, **details: object) -> JournalEntry:
    return JournalEntry(1, 0.0, kind, "ten_dev", call_id, 0.0, details)


def a_voice_call(call: str = "conv_1") -> Coverage:
    coverage = Coverage()
    for made in (
        entry("connection.opened", hub="/hubs/voice", transport="WebSockets", protocol="json"),
        entry("session.opened", call, channel="voice"),
        entry("session.started", call),
        entry("method", call, target="SendDtmfAsync"),
        entry("caller.transcript", call, text="hello"),
        entry("fault.fired", call, point="event.Transcription"),
        entry("session.failed", call, code="STT_PROVIDER_TIMEOUT"),
        entry("session.ended", call, reason="user_ended"),
    ):
        coverage.take(made)
    return coverage


def _no_peer(listener: object, tenant: object) -> Peer:
    raise AssertionError("nobody calls here")


@pytest.mark.parametrize(
    ("channel", "hub"),
    [
        ("voice", VoiceHub(SystemClock())),
        ("chat", ChatHub(SystemClock())),
        ("webrtc", WebRtcHub(SystemClock(), _no_peer)),
    ],
)
def test_every_hub_method_can_be_covered(channel: str, hub: SessionHub) -> None:
    assert set(METHODS[channel]) == set(MethodTable(hub).names())


def test_every_end_reason_can_be_covered() -> None:
    assert set(END_REASONS) == {reason.value for reason in EndReason}


def test_what_crossed_a_seam_is_counted_and_the_rest_is_not() -> None:
    report = a_voice_call().report()
    assert report["methods"]["VoiceHub.SendDtmfAsync"] == 1
    assert report["methods"]["VoiceHub.SendAudioAsync"] == 0
    assert report["events"]["VoiceHub.Transcription"] == 1
    assert report["events"]["VoiceHub.Error"] == 1
    assert report["errors"]["STT_PROVIDER_TIMEOUT"] == 1
    assert report["endReasons"]["user_ended"] == 1
    assert report["faultPoints"]["event.<Name>"] == 1
    assert report["transports"] == dict.fromkeys(TRANSPORTS, 0) | {"WebSockets": 1, "json": 1}
    assert set(report["faultPoints"]) == {point.name for point in POINTS}


def test_a_hub_that_nobody_used_is_named_and_does_not_count() -> None:
    report = a_voice_call().report()
    assert report["unusedHubs"] == ["ChatHub", "WebRtcHub"]
    assert not any(name.startswith("ChatHub") for name in report["methods"])


def test_percent_is_the_share_of_all_that_could_be_touched() -> None:
    coverage = a_voice_call()
    parts = coverage.parts().values()
    touched, total = sum(part.touched for part in parts), sum(len(part.items) for part in parts)
    assert coverage.percent == round(100 * touched / total, 1)
    assert Coverage().percent == 0.0


def test_workers_and_runs_add_up() -> None:
    one, other = a_voice_call("conv_1"), a_voice_call("conv_2")
    total = added_up([one, Coverage.load(json.loads(json.dumps(other.dump())))])
    assert total.report()["methods"]["VoiceHub.SendDtmfAsync"] == 2
    assert total.percent == one.percent


@pytest.mark.parametrize("dumped", [{}, {"hubs": 1}, {**Coverage().dump(), "events": {"a": "b"}}])
def test_something_else_is_not_taken_for_coverage(dumped: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no coverage of voisnap-mock"):
        Coverage.load(dumped)  # type: ignore[arg-type]


def test_the_page_shows_every_item_and_needs_nothing_else() -> None:
    page = coverage_page(a_voice_call())
    assert "://" not in page
    for part in a_voice_call().parts().values():
        for name in part.items:
            assert name.replace("<", "&lt;").replace(">", "&gt;") in page


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(clock="virtual") as server:
        with server.caller("agt_support") as caller:
            caller.heard()
            caller.say("a representative please")
            caller.hears_end()
        with pytest.raises(CallRefused), server.caller("agt_nobody"):
            pass
        yield server


def test_a_running_server_tells_what_was_touched(server: MockServer, tmp_path: Path) -> None:
    page = tmp_path / "coverage.html"
    shown = run("coverage", "--url", server.base_url, "--html", page)
    assert shown.returncode == 0, shown.stderr
    assert "Voisnap API coverage:" in shown.stdout
    assert "not used and not counted: ChatHub, WebRtcHub" in shown.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    report = json.loads(run("coverage", "--url", server.base_url, "--json").stdout)
    assert report["errors"]["AGENT_NOT_FOUND"] == 1
    assert report["endReasons"]["transfer_complete"] == 1
    assert report["events"]["VoiceHub.TransferInitiated"] == 1


def test_too_little_coverage_fails_and_says_how_much_there_is(server: MockServer) -> None:
    failed = run("coverage", "--url", server.base_url, "--fail-under", "99")
    assert failed.returncode == 1
    assert "less than --fail-under 99" in failed.stderr


def test_files_of_several_runs_are_added_up(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(json.dumps(a_voice_call().dump()), encoding="utf-8")
    report = json.loads(run("coverage", tmp_path / "one.json", tmp_path / "two.json", "--json").stdout)
    assert report["methods"]["VoiceHub.SendDtmfAsync"] == 2


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("[]", encoding="utf-8")
    failed = run("coverage", tmp_path / "odd.json")
    assert failed.returncode == 3
    assert "odd.json: this is no coverage of voisnap-mock" in failed.stderr
    assert run("coverage", tmp_path / "none.json").returncode == 3
