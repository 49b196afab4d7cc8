"""A WebRTC client for tests: the REST call, the hub connection, and aiortc for the media, as an integrator does it."""

from __future__ import annotations

import asyncio
import fractions
import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import av
import httpx
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from hub_caller import PATIENCE, AnyServer, HubCaller, token_of

from voisnap_mock.clock import SystemClock

Route = Callable[[bytes, Callable[[bytes], Awaitable[None]]], Awaitable[None]]
"""Forwards a packet that the client sends: never, once, later, or twice."""


async def create_session(server: AnyServer, agent: str, **more: Any) -> httpx.Response:
    """`POST /api/v1/webrtc/sessions`; `token` may be given instead of the dev user's."""
    token = more.pop("token", None) or token_of(server)
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as http:
        return await http.post(
            "/api/v1/webrtc/sessions",
            content=json.dumps({"agentId": agent, **more}),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )


class Microphone(MediaStreamTrack):
    """Speaks what it is given, PCM at 16 kHz, and silence between."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.frames: deque[bytes] = deque()
        self.is_quiet = asyncio.Event()
        self._clock = SystemClock()
        self._began: float | None = None
        self._number = 0

    def say(self, pcm: bytes) -> None:
        self.is_quiet.clear()
        self.frames.extend(pcm[at : at + 640].ljust(640, b"\0") for at in range(0, len(pcm), 640))

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = self._clock.monotonic()
        if self._began is None:
            self._began = now
        await self._clock.sleep_until(self._began + self._number * 0.02)
        frame = av.AudioFrame(format="s16", layout="mono", samples=320)
        frame.planes[0].update(self.frames.popleft() if self.frames else bytes(640))
        if not self.frames:
            self.is_quiet.set()
        frame.sample_rate, frame.pts = 16_000, self._number * 320
        frame.time_base = fractions.Fraction(1, 16_000)
        self._number += 1
        return frame


class WebRtcCaller(HubCaller):
    """A call over WebRTC; `dial` makes it.

    Attributes:
        session: the body of the POST.
        peer: aiortc's end.
        audio: agent audio as it came out of the codec: int16 samples, 48 kHz mono.
    """

    def __init__(self, server: AnyServer, session: dict[str, Any], **query: str) -> None:
        super().__init__(server, "webrtc", sessionToken=session["sessionToken"], **query)
        self.session = session
        self.answers: list[dict[str, Any]] = []
        for target in ("SdpAnswerReceived", "IceCandidateReceived"):
            self.client.on(target, self._keeper(target))
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.microphone = Microphone()
        self.audio: list[np.ndarray] = []
        self._reading: set[asyncio.Task[None]] = set()
        self.peer.on("track", self._on_track)

    @classmethod
    async def to(cls, server: AnyServer, agent: str, **more: Any) -> Self:
        answer = await create_session(server, agent, **more)
        assert answer.status_code == 201, answer.text
        return cls(server, answer.json())

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._reading.add(asyncio.ensure_future(self._read(track)))

    async def _read(self, track: MediaStreamTrack) -> None:
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                self.audio.append(frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0])

    async def dial(self, *, route: Route | None = None) -> None:
        """Offer, take the answer, and return when media can flow."""
        self.peer.addTrack(self.microphone)
        await self.offer()
        await self.connected()
        if route is not None:
            self.send_through(route)

    def send_through(self, route: Route) -> None:
        """From now on every packet of ours goes through `route`."""
        transport = self.peer.getTransceivers()[0].sender.transport
        send = transport._send_rtp

        async def forward(data: bytes) -> None:
            await route(data, send)

        transport._send_rtp = forward

    async def offer(self) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        before = len(self.events)
        await self.invoke("SendOfferAsync", {"sdp": self.peer.localDescription.sdp, "type": "offer"})
        answer = await self.wait_for("SdpAnswerReceived", after=before)
        await self.peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))

    async def connected(self) -> None:
        connected = asyncio.Event()

        def look() -> None:
            if self.peer.connectionState == "connected":
                connected.set()

        self.peer.on("connectionstatechange", look)
        look()
        await asyncio.wait_for(connected.wait(), PATIENCE)

    async def trickle(self, candidate: str, mid: str = "0") -> None:
        """Take a candidate of the server's, as a browser does."""
        parsed = candidate_from_sdp(candidate.removeprefix("candidate:"))
        parsed.sdpMid = mid
        await self.peer.addIceCandidate(parsed)

    def speak_into(self, pcm: bytes, *, silence: float = 1.0) -> None:
        """Have the microphone speak, and then be silent."""
        self.microphone.say(pcm + bytes(int(silence * 50) * 640))

    def heard(self) -> np.ndarray:
        """All agent audio so far, at 48 kHz."""
        return np.concatenate(self.audio) if self.audio else np.zeros(0, np.int16)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.peer.close()
        for task in self._reading:
            task.cancel()
        await super().__aexit__(kind, error, trace)
