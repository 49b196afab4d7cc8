"""A peer made of aiortc: ICE, DTLS, SRTP and codecs are its business, the line and its timing ours.

Everything of aiortc and aioice that is not their public face is touched in the section *Hooks*, and nowhere else; each
hook has a test that fails when another version no longer has it.
"""

from __future__ import annotations

import asyncio
import fractions
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import aioice.ice
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.codecs import CODECS as AIORTC_CODECS
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from aiortc.sdp import candidate_from_sdp

from voisnap_mock.audio.frames import AGENT_FRAME_BYTES, AGENT_RATE, CALLER_RATE, SAMPLE_BYTES
from voisnap_mock.clock import Clock, Timer
from voisnap_mock.webrtc.line import AgentLine, CallerLine, KeyReader, PacketOrder, Schedule
from voisnap_mock.webrtc.peer import Listener
from voisnap_mock.webrtc.sdp import Answer, IceCandidate, Offer, SdpRefused, read_answer

_log = logging.getLogger("voisnap_mock.webrtc")

_TICK = 0.1
_SILENT_FOR = 10.0
_CLOSING_TAKES = 2.0
_FRAME_SAMPLES = AGENT_FRAME_BYTES // SAMPLE_BYTES
_LOOPBACK = "127.0.0.1"


class AiortcPeer:
    """See `webrtc.peer.Peer`.

    Args:
        hosts: addresses to be reached at; if empty, loopback and every address of the machine.
        announced: what the answer calls them instead.
    """

    def __init__(
        self, listener: Listener, clock: Clock, *, hosts: Sequence[str] = (), announced: Sequence[str] = ()
    ) -> None:
        _install_hooks()
        self._listener = listener
        self._clock = clock
        self._hosts = tuple(hosts)
        self._announced = tuple(announced)
        self._began = clock.monotonic()
        # Servers for ICE must be named, if only as none: aiortc's own default is one on the Internet.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._line = AgentLine()
        self._track = AgentTrack(self._line, clock, began=lambda: self._note_media("out"))
        self._transceiver = self._connection.addTransceiver(self._track, "sendrecv")
        self._keys = KeyReader()
        self._inbox = _Inbox(self._transceiver.receiver, clock, self._take_key)
        self._caller: CallerLine | None = None
        self._codec = ""
        self._mids: tuple[str, ...] = ()
        self._bundle: tuple[str, ...] = ()
        self._heard_anything = False
        self._is_connected = False
        self._is_closing = False
        self._closed: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection.on("connectionstatechange", self._on_state)
        self._connection.on("track", self._on_track)

    # --- negotiating --------------------------------------------------------------------------------------------

    async def answer(self, offer: Offer) -> Answer:
        _hosts.set(self._hosts)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            for other in self._connection.getTransceivers():
                if other is not self._transceiver:
                    # Video, or a second microphone: what nobody reads would pile up.
                    other.direction = "inactive"
            self._inbox.digits = offer.digits
            description = await self._connection.createAnswer()
            await self._connection.setLocalDescription(description)
        except Exception as error:
            raise SdpRefused(f"sdp cannot be answered: {type(error).__name__}: {error}") from error
        answer = read_answer(self._connection.localDescription.sdp, self._announced)
        self._codec = answer.codec
        self._mids, self._bundle = offer.mids, offer.bundle
        return answer

    async def add_candidate(self, candidate: IceCandidate) -> None:
        # In a task: a `.local` name that nobody resolves takes a second each, and would hold up the call.
        self._start(self._add_candidate(candidate))

    async def _add_candidate(self, candidate: IceCandidate) -> None:
        try:
            parsed: RTCIceCandidate = candidate_from_sdp(candidate.text.removeprefix("candidate:"))
            mid = self._mids[candidate.line] if candidate.mid is None and candidate.line is not None else candidate.mid
            # Sections of a bundle share one transport, and aiortc looks for it in the first of them alone.
            parsed.sdpMid = self._bundle[0] if mid in self._bundle else mid
            await self._connection.addIceCandidate(parsed)
        except Exception as error:  # noqa: BLE001 - the border, and the outermost frame of a task
            self._note("webrtc.candidate_refused", candidate=candidate.text, message=f"{type(error).__name__}: {error}")

    # --- connected ----------------------------------------------------------------------------------------------

    def _on_state(self) -> None:
        state = self._connection.connectionState
        if self._is_closing:
            return
        if state == "connected" and not self._is_connected:
            self._is_connected = True
            now = self._clock.monotonic()
            self._caller = CallerLine(now)
            self._start(self._watch())
            self._note(
                "webrtc.connected", took=self._since_began(), codec=self._codec, **selected_pair(self._connection)
            )
            self._listener.connected()
        elif state == "failed":
            self._lose("ICE found no way between both sides" if not self._is_connected else "the network path is gone")
        elif state == "closed":
            self._lose("the far end closed the connection")

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and track is self._transceiver.receiver.track:
            self._start(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        """Read what comes in, for good: frames that nobody reads pile up."""
        resampler: av.AudioResampler | None = None
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame)
                if resampler is None:
                    # The codec decides rate and channels; it is known with the first frame.
                    resampler = av.AudioResampler(format="s16", layout="mono", rate=CALLER_RATE)
                self._hear(frame, resampler)

    def _hear(self, frame: av.AudioFrame, resampler: av.AudioResampler) -> None:
        length = frame.samples / frame.sample_rate
        begin = float((frame.pts or 0) * (frame.time_base or 0))
        # Without a time the resampler takes the pieces as they come; gaps are filled here.
        frame.pts = None
        pcm = b"".join(bytes(piece.planes[0])[: piece.samples * SAMPLE_BYTES] for piece in resampler.resample(frame))
        if self._is_closing or self._caller is None:
            return
        if not self._heard_anything:
            self._heard_anything = True
            self._note_media("in")
        self._listener.heard(self._caller.heard(begin, length, self._clock.monotonic()) + pcm)

    def _take_key(self, packet: RtpPacket) -> None:
        for key in self._keys.read(packet.payload, packet.timestamp):
            if not self._is_closing:
                self._listener.pressed(key)

    async def _watch(self) -> None:
        """Fill in the caller's silence, and notice when nothing comes any more."""
        assert self._caller is not None
        packets, since, look_at = -1, self._clock.monotonic(), 0.0
        while True:
            now = self._clock.monotonic()
            if silence := self._caller.silence_due(now):
                self._listener.heard(silence)
            if now >= look_at:
                look_at = now + 1.0
                # All packets count: a muted client may send no audio, but it reports on what it gets.
                received = await self._packets_received()
                if received != packets:
                    packets, since = received, now
                elif now - since >= _SILENT_FOR:
                    self._lose(f"nothing has come for {_SILENT_FOR:g} s")
                    return
            await self._clock.sleep_until(now + _TICK)

    async def _packets_received(self) -> int:
        report = await self._transceiver.receiver.getStats()
        return sum(stats.packetsReceived for stats in report.values() if stats.type == "transport")

    # --- speaking -----------------------------------------------------------------------------------------------

    def play(self, pcm: bytes) -> None:
        self._line.put(pcm)

    def hush(self) -> None:
        self._line.clear()

    # --- the end ------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        if self._closed is None:
            self._closed = asyncio.create_task(self._close())
        await asyncio.shield(self._closed)

    async def _close(self) -> None:
        self._inbox.close()
        if self._is_connected:
            await self._try(self._tell_figures())
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        await self._try(self._connection.close())
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSING_TAKES)

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        """What fails or hangs at the end must not keep the rest from ending."""
        try:
            await asyncio.wait_for(work, _CLOSING_TAKES)
        except Exception as error:  # noqa: BLE001 - the border: aiortc raises whatever happens to it
            _log.warning("a WebRTC connection did not close in order: %r", error)

    async def _tell_figures(self) -> None:
        self._note("webrtc.closed", **await self._figures())

    async def _figures(self) -> dict[str, Any]:
        """What the call was like, for its record: packets, and how punctual ours went out."""
        figures: dict[str, Any] = {"lost": self._inbox.order.lost, "tooLate": self._inbox.order.late}
        for stats in (await self._transceiver.receiver.getStats()).values():
            if stats.type == "inbound-rtp":
                figures |= {"packetsReceived": stats.packetsReceived}
        for stats in (await self._transceiver.sender.getStats()).values():
            if stats.type == "outbound-rtp":
                figures |= {"packetsSent": stats.packetsSent}
            elif stats.type == "remote-inbound-rtp":
                figures |= {"lostByPeer": stats.packetsLost}
        schedule = self._track.schedule
        return figures | {
            "framesSent": schedule.number,
            "latenessMs": {"p50": schedule.lateness_ms(0.5), "p99": schedule.lateness_ms(0.99)},
        }

    def _lose(self, why: str) -> None:
        if not self._is_closing:
            self._listener.lost(why)

    def _note_media(self, direction: str) -> None:
        self._note("webrtc.media", direction=direction, after=self._since_began())

    def _note(self, kind: str, **details: Any) -> None:
        if not self._is_closing:
            self._listener.note(kind, **details)

    def _since_began(self) -> float:
        return round(self._clock.monotonic() - self._began, 3)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("a WebRTC call failed", exc_info=error)
            self._note("defect", message=f"{type(error).__name__}: {error}")
            self._lose("the mock failed; its log has the details")


class AgentTrack(MediaStreamTrack):
    """Agent audio for aiortc's sender: 20 ms of 24 kHz mono each time, on an absolute schedule, silence included.

    The rate must never change, and nothing but `MediaStreamError` may be raised: both end the sender for good.

    Args:
        began: called when the first frame is asked for, which is when the sender has a line.
    """

    kind = "audio"

    def __init__(self, line: AgentLine, clock: Clock, *, began: Callable[[], None]) -> None:
        super().__init__()
        self._line = line
        self._began = began
        self._clock = clock
        self.schedule = Schedule()

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        clock, schedule = self._clock, self.schedule
        if not schedule.number:
            self._began()
        await clock.sleep_until(schedule.due(clock.monotonic()))
        frame = av.AudioFrame(format="s16", layout="mono", samples=_FRAME_SAMPLES)
        frame.planes[0].update(self._line.take())
        frame.sample_rate = AGENT_RATE
        frame.pts = schedule.number * _FRAME_SAMPLES
        frame.time_base = fractions.Fraction(1, AGENT_RATE)
        schedule.sent(clock.monotonic())
        return frame


# --- Hooks ----------------------------------------------------------------------------------------------------------

_hosts: ContextVar[tuple[str, ...]] = ContextVar("voisnap_mock_webrtc_hosts", default=())
_TELEPHONE_EVENTS = tuple(
    RTCRtpCodecParameters(mimeType="audio/telephone-event", clockRate=rate, channels=1, payloadType=number)
    for rate, number in ((48_000, 110), (8_000, 126))
)
_addresses_of_the_machine = aioice.ice.get_host_addresses


def _install_hooks() -> None:
    """Change what aiortc and aioice have no settings for, once."""
    if aioice.ice.get_host_addresses is not _host_addresses:
        aioice.ice.get_host_addresses = _host_addresses
        AIORTC_CODECS["audio"] += _TELEPHONE_EVENTS


def _host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """Where we can be reached. aioice leaves out loopback, which is all there is without a network."""
    return list(_hosts.get()) or [_LOOPBACK, *_addresses_of_the_machine(use_ipv4=use_ipv4, use_ipv6=use_ipv6)]


def selected_pair(connection: RTCPeerConnection) -> dict[str, str]:
    """The two addresses between which media goes, as `local` and `remote`."""
    for transceiver in connection.getTransceivers():
        pair = transceiver.receiver.transport.transport._connection._nominated.get(1)
        if pair is not None:
            local, remote = pair.local_candidate, pair.remote_candidate
            return {
                "local": f"{local.host}:{local.port} {local.type}",
                "remote": f"{remote.host}:{remote.port} {remote.type}",
            }
    return {}


class _Inbox:
    """Stands before a receiver: puts packets in order, takes keys out, and hands on each packet by itself.

    aiortc's own jitter buffer holds four packets, and after one lost packet sixteen for the rest of the call; its
    decoders know no telephone events.

    Attributes:
        digits: payload numbers of telephone events.
    """

    def __init__(self, receiver: RTCRtpReceiver, clock: Clock, take_key: Callable[[RtpPacket], None]) -> None:
        self.order: PacketOrder[RtpPacket] = PacketOrder()
        self.digits: frozenset[int] = frozenset()
        self._clock = clock
        self._take_key = take_key
        self._source: int | None = None
        self._ready: deque[tuple[RtpPacket, int]] = deque()
        self._timer: Timer | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._hand_on = receiver._handle_rtp_packet
        hooked: Any = receiver
        hooked._handle_rtp_packet = self.receive
        hooked._RTCRtpReceiver__jitter_buffer = self

    async def receive(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        """In place of the receiver's `_handle_rtp_packet`."""
        if packet.ssrc != self._source:
            self._source, lost, late = packet.ssrc, self.order.lost, self.order.late
            self.order = PacketOrder()
            self.order.lost, self.order.late = lost, late
        ready = self.order.push(packet.sequence_number, packet, self._clock.monotonic())
        self._ready.extend((each, arrival_time_ms) for each in ready)
        await self._drain()
        self._set_timer()

    def add(self, packet: Any) -> tuple[bool, JitterFrame | None]:
        """In place of the jitter buffer's: a frame for the decoder, or None for what is no audio."""
        if packet.payload_type in self.digits:
            self._take_key(packet)
            return False, None
        return False, JitterFrame(packet._data, packet.timestamp)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _drain(self) -> None:
        while self._ready:
            packet, arrival = self._ready.popleft()
            await self._hand_on(packet, arrival_time_ms=arrival)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.order.deadline
        if deadline is not None:
            self._timer = self._clock.call_at(deadline, self._flush)

    def _flush(self) -> None:
        ready = self.order.flush(self._clock.monotonic())
        arrival = int(self._clock.wall() * 1000)
        self._ready.extend((each, arrival) for each in ready)
        self._set_timer()
        if self._ready:
            self._flushing = asyncio.create_task(self._drain())
