"""WebRtcHub end to end: a real server, a SignalR client, and real media: ICE, DTLS, Opus, both ways."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from aiortc import RTCSessionDescription
from fakes import FakePeer, FakePeers
from hub_caller import PATIENCE, HubCaller, ServerFactory, journaled, token_of
from webrtc_caller import WebRtcCaller, create_session
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from voisnap_mock.audio.tts import say
from voisnap_mock.clock import ManualClock
from voisnap_mock.journal import JournalFilter
from voisnap_mock.recordings.reading import read_packed
from voisnap_mock.server import Server
from voisnap_mock.signalr import HubError

SHOP = """
version: 1
agents:
  agt_shop:
    name: Shop
    greeting: Welcome.
    hears: vosk
    timing: {end_of_turn: 400ms, first_audio: 0ms}
    replies:
      - {hear: [refund], say: Which order?, end: agent_ended}
      - {else: What?}
  agt_talker:
    voice: {engine: tone, rate: 300}
    hears: activity
    greeting: "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen."
    timing: {end_of_turn: 200ms, first_audio: 0ms}
    replies: [{else: "Yes?"}]
"""


def notes(server: Server, kind: str) -> list[dict[str, Any]]:
    return [dict(entry.details) for entry in server.app.tenants.default.journal.entries(JournalFilter(kind=kind))]


# --- calls -----------------------------------------------------------------------------------------------------


async def test_a_spoken_sentence_is_understood_and_the_agent_is_heard(make_server: ServerFactory) -> None:
    speech = await asyncio.to_thread(say, "I want a refund")
    server = await make_server(SHOP)
    async with await WebRtcCaller.to(server, "agt_shop") as caller:
        started = await caller.wait_for("SessionStarted")
        assert started["agentName"] == "Shop"
        await caller.dial()
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Welcome.")
        caller.speak_into(speech)
        heard = await caller.wait_for("Transcription", isFinal=True)
        assert heard["text"] == "i want a refund"
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Which order?")
        ended = await caller.wait_for("SessionEnded")
        assert ended["reason"] == "agent_ended"
        await caller.closed()
    assert "AudioReceived" not in caller.targets()
    assert (np.abs(caller.heard()) > 1000).sum() > 4800

    call = started["conversationId"]
    (session,) = notes(server, "webrtc.session")
    assert session["sessionId"] == caller.session["sessionId"]
    (connected,) = notes(server, "webrtc.connected")
    assert connected["codec"] == "opus"
    assert connected["took"] < 5
    assert {media["direction"] for media in notes(server, "webrtc.media")} == {"in", "out"}
    closed = await journaled(server.app.tenants.default.journal, kind="webrtc.closed", call=call)
    assert closed.details["packetsReceived"] > 50
    assert closed.details["framesSent"] > 50


async def test_what_the_agent_says_arrives_as_it_was_said(make_server: ServerFactory) -> None:
    """The same words over VoiceHub and through Opus: the loudness over time is the same."""
    server = await make_server(SHOP)

    def envelope(samples: np.ndarray, rate: int) -> np.ndarray:
        size = rate // 50
        whole = np.abs(samples[: len(samples) // size * size].astype(float)).reshape(-1, size).mean(axis=1)
        loud = np.flatnonzero(whole > 200)
        return whole[loud[0] : loud[-1] + 1]

    async with HubCaller(server, "voice", agentId="agt_talker") as plain:
        await plain.wait_for("TranscriptionOf", isFinal=True)
    pcm = b"".join(payload for target, payload in plain.events if target == "AudioReceived")
    async with await WebRtcCaller.to(server, "agt_talker") as caller:
        await caller.dial()
        await caller.wait_for("TranscriptionOf", isFinal=True)
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded", reason="user_ended")
    said = envelope(np.frombuffer(pcm, np.int16), 24_000)
    heard = envelope(caller.heard(), 48_000)
    assert len(heard) == pytest.approx(len(said), abs=6)
    best = max(
        float(np.corrcoef(said[5 : len(said) - 10], heard[at : at + len(said) - 15])[0, 1])
        for at in range(min(11, len(heard) - len(said) + 16))
    )
    assert best > 0.9


async def test_a_caller_who_interrupts_stops_the_agent(make_server: ServerFactory) -> None:
    server = await make_server(SHOP)
    speech = await asyncio.to_thread(say, "Stop it please, will you")
    async with await WebRtcCaller.to(server, "agt_talker") as caller:
        await caller.dial()
        await caller.wait_for("TranscriptionOf", isFinal=False)
        caller.speak_into(speech)
        cut = await caller.wait_for("TranscriptionOf", isFinal=True)
        assert cut["text"].startswith("One")
        assert not cut["text"].endswith("sixteen.")
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Yes?")


async def test_the_far_end_that_goes_ends_the_call_as_disconnected(make_server: ServerFactory) -> None:
    server = await make_server(SHOP)
    async with await WebRtcCaller.to(server, "agt_talker") as caller:
        await caller.dial()
        await caller.peer.close()
        ended = await caller.wait_for("SessionEnded")
        assert ended["reason"] == "disconnected"
        await caller.closed()
    assert notes(server, "webrtc.lost")[0]["message"] == "the far end closed the connection"


async def test_a_hub_connection_that_drops_ends_the_call_at_once(make_server: ServerFactory) -> None:
    server = await make_server(SHOP)
    async with await WebRtcCaller.to(server, "agt_talker") as caller:
        started = await caller.wait_for("SessionStarted")
        await caller.dial()
    call = started["conversationId"]
    ended = await journaled(server.app.tenants.default.journal, kind="session.ended", call=call)
    assert ended.details["reason"] == "disconnected"
    await journaled(server.app.tenants.default.journal, kind="webrtc.closed", call=call)


async def test_candidates_that_come_one_by_one_after_the_offer_or_before_it_connect(server: Server) -> None:
    for is_early in (False, True):
        async with await WebRtcCaller.to(server, "agt_desk") as caller:
            caller.peer.addTrack(caller.microphone)
            await caller.peer.setLocalDescription(await caller.peer.createOffer())
            lines = caller.peer.localDescription.sdp.splitlines()
            bare = "".join(f"{line}\r\n" for line in lines if "candidate" not in line)
            trickled: list[Any] = [
                {"candidate": line.removeprefix("a="), "sdpMid": "0", "sdpMLineIndex": 0}
                for line in lines
                if line.startswith("a=candidate")
            ]
            ends: list[list[Any]] = [[None], [{"candidate": ""}], [{}], []]
            if is_early:
                for candidate in trickled:
                    await caller.invoke("SendIceCandidateAsync", candidate)
            await caller.invoke("SendOfferAsync", {"sdp": bare, "type": "offer"})
            if not is_early:
                for candidate in trickled:
                    await caller.invoke("SendIceCandidateAsync", candidate)
            for end in ends:
                await caller.invoke("SendIceCandidateAsync", *end)
            answer = await caller.wait_for("SdpAnswerReceived")
            assert answer["type"] == "answer"
            bare = "".join(f"{line}\r\n" for line in answer["sdp"].splitlines() if "candidate" not in line)
            await caller.peer.setRemoteDescription(RTCSessionDescription(bare, "answer"))
            for target, payload in caller.events:
                if target == "IceCandidateReceived":
                    assert (payload["sdpMid"], payload["sdpMLineIndex"]) == ("0", 0)
                    await caller.trickle(payload["candidate"])
            await caller.peer.addIceCandidate(None)
            await caller.connected()


async def test_keys_pressed_in_the_call_drive_the_rules(make_server: ServerFactory) -> None:
    peers = FakePeers()
    server = await make_server(load_peers=lambda: peers)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        peer.listener.connected()
        peer.listener.pressed("0")
        transfer = await caller.wait_for("TransferInitiated")
        assert transfer["transferTo"] == "+15550100"
        await caller.wait_for("SessionEnded", reason="transfer_complete")
    await asyncio.wait_for(peer.closed.wait(), PATIENCE)


async def test_a_server_that_stops_ends_its_calls_and_their_media(make_server: ServerFactory) -> None:
    server = await make_server(SHOP)
    async with await WebRtcCaller.to(server, "agt_talker") as caller:
        await caller.dial()
        await server.stop()
        await caller.wait_for("SessionEnded", reason="server_shutdown")
        await caller.closed()
    assert notes(server, "webrtc.closed")
    assert not [thread for thread in threading.enumerate() if thread.name == "audio-decoder"]


async def test_a_bad_line_is_a_bad_line_here_too(make_server: ServerFactory) -> None:
    """An agent whose audio suffers both ways: faults stand in the engine, so media of any kind meets them."""
    server = await make_server()
    async with await WebRtcCaller.to(server, "agt_mock_bad_line") as caller:
        await caller.dial()
        await caller.wait_for("TranscriptionOf", isFinal=True)
    fired = {entry["point"] for entry in notes(server, "fault.fired")}
    assert fired == {"audio.in", "audio.out"}


# --- with a peer that does as it is told -----------------------------------------------------------------------


OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:efghijklmnopqrstuvwxyz\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=mid:0\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
)


async def offered(caller: WebRtcCaller, peers: FakePeers) -> FakePeer:
    await caller.wait_for("SessionStarted")
    await caller.invoke("SendOfferAsync", {"sdp": OFFER, "type": "offer"})
    await caller.wait_for("SdpAnswerReceived")
    return peers.made[-1]


async def test_the_agent_holds_its_tongue_until_the_line_is_open(make_server: ServerFactory) -> None:
    peers = FakePeers()
    clock = ManualClock()
    server = await make_server(load_peers=lambda: peers, clock=clock)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        await clock.advance(10.0)
        assert caller.targets()[:1] == ["SessionStarted"]
        assert "TranscriptionOf" not in caller.targets()
        assert not peer.played
        peer.listener.connected()
        while not peer.played:
            await clock.advance(0.02)
            await asyncio.sleep(0.001)
        assert len(peer.played[0]) == 960


async def test_a_line_that_does_not_open_in_fifteen_seconds_ends_the_call(make_server: ServerFactory) -> None:
    peers = FakePeers()
    clock = ManualClock()
    server = await make_server(load_peers=lambda: peers, clock=clock)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        await clock.advance(14.9)
        assert "SessionEnded" not in caller.targets()
        await clock.advance(0.2)
        await caller.wait_for("SessionEnded", reason="disconnected")
        await clock.advance(0.2)
    await asyncio.wait_for(peer.closed.wait(), PATIENCE)
    assert "--allow-loopback-in-peer-connection" in notes(server, "webrtc.lost")[0]["message"]


async def test_an_offer_that_never_comes_is_waited_for_for_a_minute(make_server: ServerFactory) -> None:
    clock = ManualClock()
    server = await make_server(load_peers=FakePeers, clock=clock)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        await clock.advance(59.0)
        assert "SessionEnded" not in caller.targets()
        await clock.advance(2.0)
        await caller.wait_for("SessionEnded", reason="disconnected")


async def test_media_is_real_time_whatever_the_clock_of_the_server(make_server: ServerFactory) -> None:
    peers = FakePeers()
    server = await make_server(load_peers=lambda: peers, call_clock="virtual")
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        (session,) = server.app.tenants.default.sessions.sessions
        assert not session.is_repeatable
        async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
            assert (await http.post("/__voisnap/clock", json={"advance": "5s"})).status_code == 200
        peer.listener.connected()
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Hello.")
        assert session.t > 0.2


async def test_a_call_is_recorded_by_real_time_whatever_the_clock_of_the_server(make_server: ServerFactory) -> None:
    peers = FakePeers()
    server = await make_server(load_peers=lambda: peers, call_clock="virtual")
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        peer.listener.connected()
        for _ in range(5):
            peer.listener.heard(b"\x01\x02" * 320)
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Hello.")
        await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
        async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
            (facts,) = (await http.get("/__voisnap/calls")).json()["data"]
            packed = (await http.get(f"/__voisnap/calls/{facts['id']}/file")).content
    record = read_packed("the call", packed)
    assert (record.facts["channel"], record.facts["clock"]) == ("webrtc", "real")
    assert record.facts["startedAt"] is not None
    assert all(event["at"] is not None for event in record.events)
    assert [said.text for said in record.transcript] == ["Hello."]
    assert b"\x01\x02" * 320 * 5 in record.audio["in"]
    assert b"".join(peer.played).strip(b"\0") in record.audio["out"], "not cut up by what is a little late"


# --- the session token -----------------------------------------------------------------------------------------


async def test_a_session_is_made_with_a_token_that_lives_five_minutes(server: Server) -> None:
    answer = await create_session(server, "agt_desk", metadata={"userId": "user_1"})
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == {"sessionId", "sessionToken", "expiresAt", "iceServers"}
    assert body["sessionId"].startswith("wrtc_01HX")
    assert body["sessionToken"].startswith("wrtc_tok_eyJ")
    assert body["iceServers"] == []
    kept = str(server.app.tenants.default.journal.entries())
    assert body["sessionId"] in kept
    assert body["sessionToken"] not in kept


async def test_sessions_hand_out_the_ice_servers_of_the_file_and_our_own(make_server: ServerFactory) -> None:
    turn = '{urls: ["turn:127.0.0.1:3478"], username: u, credential: p}'
    server = await make_server(f"webrtc: {{stun: true, ice_servers: [{turn}]}}\nagents: {{agt_desk: {{}}}}")
    for _ in range(2):
        stun, configured = (await create_session(server, "agt_desk")).json()["iceServers"]
        assert configured == {"urls": ["turn:127.0.0.1:3478"], "username": "u", "credential": "p"}
    host, _, port = stun["urls"][0].removeprefix("stun:").partition(":")
    assert host == "127.0.0.1"
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()

    class Asking(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            answered.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Asking, remote_addr=(host, int(port)))
    transport.sendto(bytes.fromhex("000100002112a442") + b"twelve bytes")
    assert (await asyncio.wait_for(answered, PATIENCE)).startswith(b"\x01\x01")
    transport.close()


async def test_an_api_key_makes_sessions_too(server: Server) -> None:
    assert (await create_session(server, "agt_desk", token="vsnp_sb_dev")).status_code == 201


@pytest.mark.parametrize(
    ("agent", "more", "status", "says"),
    [
        ("agt_nobody", {}, 404, 'Agent "agt_nobody" does not exist; test agents has agt_desk'),
        (7, {}, 422, "agentId: expected a string"),
        ("agt_desk", {"metadata": "x"}, 422, "metadata"),
        (
            "agt_desk",
            {"metadata": {"a": "x" * 32_768}},
            422,
            "metadata: 32,776 bytes of JSON came, 32,768 are the most",
        ),
        ("agt_desk", {"metadata": {"a": "\ud800"}}, 422, "metadata: expected JSON that can be written again"),
        ("agt_desk", {"token": "nonsense"}, 401, "the access token is no JWT"),
    ],
)
async def test_a_session_that_cannot_be_made_says_why(
    server: Server, agent: Any, more: dict[str, Any], status: int, says: str
) -> None:
    answer = await create_session(server, agent, **more)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


async def test_an_inactive_agent_is_turned_away_as_on_every_hub(server: Server) -> None:
    async with await WebRtcCaller.to(server, "agt_closed") as caller:
        assert (await caller.wait_for("Error"))["code"] == "AGENT_INACTIVE"
        await caller.closed()


async def test_a_token_opens_one_connection(server: Server) -> None:
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        await refused(server, {"sessionToken": caller.session["sessionToken"]}, "was used already")


async def refused(server: Server, query: dict[str, str], says: str, *, token: str | None = None) -> None:
    """Negotiate and upgrade are both answered with 401."""
    query = query | {"access_token": token_of(server) if token is None else token}
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        negotiated = await http.post("/hubs/webrtc/negotiate", params=query)
    assert negotiated.status_code == 401
    assert says in negotiated.json()["detail"]
    with pytest.raises(InvalidStatus) as upgraded:
        await connect(f"{server.base_url.replace('http', 'ws')}/hubs/webrtc?{urlencode(query)}", proxy=None)
    assert upgraded.value.response.status_code == 401
    assert says in upgraded.value.response.body.decode()


@pytest.mark.parametrize("transport", ["ServerSentEvents", "LongPolling"])
async def test_a_connection_that_asks_again_and_again_stays_good_for_its_token(server: Server, transport: str) -> None:
    session = (await create_session(server, "agt_desk")).json()
    query = {"sessionToken": session["sessionToken"], "access_token": token_of(server), "negotiateVersion": "1"}
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        negotiated = await http.post("/hubs/webrtc/negotiate", params=query)
        assert negotiated.status_code == 200
        query["id"] = negotiated.json()["connectionToken"]
        if transport == "LongPolling":
            assert (await http.get("/hubs/webrtc", params=query)).status_code == 200
            for _ in range(2):
                sent = await http.post("/hubs/webrtc", params=query, content=b'{"protocol":"json","version":1}\x1e')
                assert sent.status_code == 200
            return
        headers = {"Accept": "text/event-stream"}
        async with http.stream("GET", "/hubs/webrtc", params=query, headers=headers) as events:
            assert events.status_code == 200
            sent = await http.post("/hubs/webrtc", params=query, content=b'{"protocol":"json","version":1}\x1e')
            assert sent.status_code == 200


async def test_a_token_that_is_missing_wrong_or_of_another_tenant_is_refused(server: Server) -> None:
    session = (await create_session(server, "agt_desk")).json()
    other = token_of(server, "other@example.test", "ten_other")
    for query, token, says in (
        ({}, None, "sessionToken is missing"),
        ({"sessionToken": "wrtc_tok_eyJnonsense"}, None, "not one of this server"),
        ({"sessionToken": session["sessionToken"]}, other, "belongs to another tenant"),
    ):
        await refused(server, query, says, token=token)


async def test_a_token_that_is_five_minutes_old_is_refused(make_server: ServerFactory) -> None:
    clock = ManualClock()
    server = await make_server(clock=clock)
    session = (await create_session(server, "agt_desk")).json()
    await clock.advance(300.0)
    await refused(server, {"sessionToken": session["sessionToken"]}, "sessionToken expired at")


# --- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "says"),
    [
        ({"sdp": "garbage", "type": "offer"}, "sdp begins with 'garbage'"),
        ({"sdp": "", "type": "offer"}, "sdp begins with ''"),
        ({"sdp": OFFER, "type": "answer"}, "type is \"answer\", expected 'offer'"),
        ({"sdp": OFFER.replace("a=fingerprint", "a=footprint")}, "no a=fingerprint"),
        ({"sdp": OFFER.replace("m=audio", "m=video")}, "no audio section in use"),
        ({"sdp": OFFER.replace("opus", "speex")}, "offers the codecs speex"),
        ({"sdp": None}, "expected an object with sdp, type"),
        ({}, "missing required field"),
        (None, "expected an object with sdp, type, got null"),
    ],
)
async def test_a_bad_offer_is_an_error_of_its_invocation_and_the_next_one_is_answered(
    server: Server, offer: Any, says: str
) -> None:
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        with pytest.raises(HubError) as refused:
            await caller.invoke("SendOfferAsync", offer)
        assert says in str(refused.value)
        await caller.dial()


async def test_of_ten_thousand_candidates_the_first_hundred_count(make_server: ServerFactory) -> None:
    peers = FakePeers()
    server = await make_server(load_peers=lambda: peers)

    def candidate(port: int) -> dict[str, str]:
        return {"candidate": f"candidate:1 1 udp 1 127.0.0.1 {port} typ host", "sdpMid": "0"}

    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        for port in range(9_999):
            await caller.client.send("SendIceCandidateAsync", candidate(port))
        with pytest.raises(HubError, match="number 10000 of this call, 100 are the most"):
            await caller.invoke("SendIceCandidateAsync", candidate(9_999))
        assert len(peer.candidates) == 100
        peer.listener.connected()
        await caller.wait_for("TranscriptionOf", isFinal=True, text="Hello.")
    refusals = notes(server, "method.refused")
    assert len(refusals) < 10, "one remark is enough"


async def test_offer_after_offer_brings_no_more_candidates_than_one_may(make_server: ServerFactory) -> None:
    peers = FakePeers()
    server = await make_server(load_peers=lambda: peers)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        for first in range(0, 400, 40):
            lines = [f"a=candidate:1 1 udp 1 127.0.0.1 {1000 + port} typ host\r\n" for port in range(first, first + 40)]
            for _ in range(2):
                await caller.invoke("SendOfferAsync", {"sdp": OFFER + "".join(lines), "type": "offer"})
        assert len(peer.candidates) == len(set(peer.candidates)) == 100
    assert len(notes(server, "webrtc.candidate_refused")) == 1, "one remark is enough"


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        ({"candidate": "nonsense", "sdpMid": "0"}, "expected 'candidate:<foundation>"),
        ({"candidate": "candidate:1 1 udp 1 127.0.0.1 99999 typ host", "sdpMid": "0"}, "port 99999"),
        ({"candidate": "candidate:1 1 udp 1 127.0.0.1 5000 typ host"}, "sdpMid and sdpMLineIndex are both missing"),
        (
            {"candidate": "candidate:1 1 udp 1 127.0.0.1 5000 typ host", "sdpMid": "video"},
            "name no section of the offer",
        ),
        ({"candidate": "candidate:1 1 udp 1 127.0.0.1 5000 typ host", "sdpMLineIndex": 5}, "name no section of the"),
        ({"candidate": "candidate:1 1 udp 1 127.0.0.1 5000 typ host", "sdpMLineIndex": -1}, "name no section of the"),
        ({"candidate": 7, "sdpMid": "0"}, "expected"),
    ],
)
async def test_a_bad_candidate_is_an_error_of_its_invocation(
    make_server: ServerFactory, candidate: dict[str, Any], says: str
) -> None:
    peers = FakePeers()
    server = await make_server(load_peers=lambda: peers)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        peer = await offered(caller, peers)
        with pytest.raises(HubError) as refused:
            await caller.invoke("SendIceCandidateAsync", candidate)
        assert says in str(refused.value)
        assert peer.candidates == []


async def test_a_client_that_goes_while_its_offer_is_answered_leaves_nothing_behind(make_server: ServerFactory) -> None:
    peers = FakePeers(answers=False)
    server = await make_server(load_peers=lambda: peers)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        await caller.client.send("SendOfferAsync", {"sdp": OFFER, "type": "offer"})
        await journaled(server.app.tenants.default.journal, kind="method", target="SendOfferAsync")
    (peer,) = peers.made
    await asyncio.wait_for(peer.closed.wait(), PATIENCE)


async def test_an_offer_after_the_end_is_answered_and_ignored(make_server: ServerFactory) -> None:
    peers = FakePeers()
    server = await make_server(load_peers=lambda: peers)
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        await caller.client.send("EndSessionAsync", "user_ended")
        assert await caller.invoke("SendOfferAsync", {"sdp": OFFER, "type": "offer"}) is None
        await caller.wait_for("SessionEnded")
    assert peers.made == []


async def test_a_reason_that_no_client_has_is_refused(server: Server) -> None:
    async with await WebRtcCaller.to(server, "agt_desk") as caller:
        with pytest.raises(HubError, match="expected one of user_ended"):
            await caller.invoke("EndSessionAsync", "bored")


# --- without the extra -----------------------------------------------------------------------------------------


WITHOUT = """
import sys
import httpx
from voisnap_mock import MockServer
if "{blocked}":
    sys.modules["aiortc"] = None
with MockServer() as server, httpx.Client(base_url=server.base_url, trust_env=False) as http:
    with server.caller("agt_support") as caller:
        caller.heard()
    assert "av" not in sys.modules, "loaded before anybody asked for it"
    login = http.post("/api/v1/auth/login", json={{"email": "dev@example.test", "password": "dev"}}).json()
    answer = http.post(
        "/api/v1/webrtc/sessions",
        json={{"agentId": "agt_support"}},
        headers={{"Authorization": "Bearer " + login["accessToken"]}},
    )
    print(answer.status_code, answer.text)
"""


@pytest.mark.parametrize(("blocked", "status"), [("aiortc", "501"), ("", "201")])
def test_aiortc_is_loaded_by_the_first_session_and_without_it_the_rest_works(blocked: str, status: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(blocked=blocked)], capture_output=True, text=True, timeout=50, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(status), ran.stdout
    if blocked:
        assert "pip install 'voisnap-mock[webrtc]'" in ran.stdout
