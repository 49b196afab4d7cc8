"""Places calls over WebRTC and says how well they were served.

Each call speaks with packets that were encoded once, and only notes when packets of the agent come, without decoding
them: so one process carries more calls than the server does.

Run as `python webrtc_load.py URL TOKEN CALLS SECONDS [ROUNDS]`; prints one JSON object. With more rounds than one the
calls are placed and ended again, so many times.
"""

import asyncio
import fractions
import json
import sys
import urllib.request
from time import perf_counter

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.codecs.opus import OpusEncoder
from load import lateness

from voisnap_mock.signalr import HubClient

FRAME = 0.02
LOUD_BYTES = 10
"""A packet of Opus that holds anything but silence is longer."""


def hum() -> list[bytes]:
    """A second of a tone in Opus, as payloads of 20 ms."""
    encoder = OpusEncoder()
    payloads: list[bytes] = []
    wave = (6_000 * np.sin(np.arange(48_000) / 48_000 * 300 * 6.2832)).astype(np.int16)
    for number in range(51):
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.planes[0].update(wave[number % 50 * 960 :][:960].tobytes())
        frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 960, fractions.Fraction(1, 48_000)
        payloads += encoder.encode(frame)[0]
    return payloads


class Hum(MediaStreamTrack):
    """Packets of the hum on an absolute schedule."""

    kind = "audio"

    def __init__(self, payloads: list[bytes]) -> None:
        super().__init__()
        self._payloads = payloads
        self._began: float | None = None
        self._number = 0

    async def recv(self) -> av.Packet:
        now = perf_counter()
        if self._began is None:
            self._began = now
        await asyncio.sleep(max(0.0, self._began + self._number * FRAME - now))
        packet = av.Packet(self._payloads[self._number % len(self._payloads)])
        packet.pts, packet.time_base = self._number * 960, fractions.Fraction(1, 48_000)
        self._number += 1
        return packet


class Call:
    """One call; times are seconds after the offer was sent."""

    def __init__(self, url: str, token: str, payloads: list[bytes]) -> None:
        self._url = url
        self._token = token
        self._hum = Hum(payloads)
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.arrivals: list[float] = []
        self.answered = self.connected = self.heard = 0.0
        self._offered = 0.0

    async def place(self) -> None:
        self.peer.addTrack(self._hum)
        receiver = self.peer.getTransceivers()[0].receiver
        receiver._handle_rtp_packet = self._note
        session = await asyncio.to_thread(self._make_session)
        self.hub = HubClient(
            f"{self._url}/hubs/webrtc?sessionToken={session['sessionToken']}", access_token=self._token
        )
        answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self.hub.on("SdpAnswerReceived", answer.set_result)
        self.hub.on("IceCandidateReceived", lambda candidate: None)
        await self.hub.start()
        await self.peer.setLocalDescription(await self.peer.createOffer())
        is_open = asyncio.Event()
        self.peer.on(
            "connectionstatechange", lambda: is_open.set() if self.peer.connectionState == "connected" else None
        )
        self._offered = perf_counter()
        await self.hub.send("SendOfferAsync", {"sdp": self.peer.localDescription.sdp, "type": "offer"})
        description = await answer
        self.answered = perf_counter() - self._offered
        await self.peer.setRemoteDescription(RTCSessionDescription(description["sdp"], "answer"))
        await asyncio.wait_for(is_open.wait(), 20)
        self.connected = perf_counter() - self._offered

    def _make_session(self) -> dict[str, str]:
        request = urllib.request.Request(
            f"{self._url}/api/v1/webrtc/sessions",
            json.dumps({"agentId": "agt_talker"}).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            session: dict[str, str] = json.load(response)
        return session

    async def _note(self, packet: object, arrival_time_ms: int) -> None:
        now = perf_counter()
        self.arrivals.append(now)
        if not self.heard and len(packet.payload) > LOUD_BYTES:  # type: ignore[attr-defined]
            self.heard = now - self._offered

    async def end(self) -> None:
        await self.hub.stop()
        await self.peer.close()


async def main(url: str, token: str, number: int, seconds: float, rounds: int) -> dict[str, float]:
    payloads = hum()
    calls: list[Call] = []
    for _ in range(rounds):
        calls = [Call(url, token, payloads) for _ in range(number)]
        for call in calls:
            # One after the other, as people call.
            await call.place()
        print("measuring", file=sys.stderr, flush=True)
        for call in calls:
            call.arrivals.clear()
        await asyncio.sleep(seconds)
        print("measured", file=sys.stderr, flush=True)
        for call in calls:
            await call.end()
    late = [each for call in calls for each in lateness(call.arrivals)]
    packets = sum(len(call.arrivals) for call in calls)
    return {
        "held": sum(len(call.arrivals) > 0.9 * seconds / FRAME for call in calls),
        "offer_to_answer_ms_p50": round(float(np.median([call.answered for call in calls])) * 1000, 1),
        "offer_to_line_ms_p50": round(float(np.median([call.connected for call in calls])) * 1000, 1),
        "offer_to_agent_heard_ms_p50": round(float(np.median([call.heard for call in calls])) * 1000, 1),
        "audio_late_ms_p99": round(float(np.percentile(late, 99)) * 1000, 1) if late else 0.0,
        "packets": packets,
    }


if __name__ == "__main__":
    _, url, token, number, seconds, *rounds = sys.argv
    print(json.dumps(asyncio.run(main(url, token, int(number), float(seconds), int(*rounds or ("1",))))))
