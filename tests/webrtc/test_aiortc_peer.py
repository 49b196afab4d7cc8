"""Our end of a WebRTC connection against another one in this process: media, losses, keys, re-offers, ends.

The first tests say which private parts of aiortc and aioice are relied upon; they fail loudly when another version has
moved them.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aioice.ice
import numpy as np
import pytest
from aiortc import (
    RTCConfiguration,
    RTCDtlsTransport,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import VideoStreamTrack
from aiortc.rtp import RtpPacket
from webrtc_caller import Microphone

from voisnap_mock.clock import Clock, SystemClock, Timer
from voisnap_mock.webrtc.aiortc_peer import AiortcPeer, selected_pair
from voisnap_mock.webrtc.sdp import Answer, SdpRefused, read_candidate, read_offer

TONE = b"".join(
    round(9_000 * np.sin(at / 16_000 * 440 * 6.2832)).to_bytes(2, "little", signed=True) for at in range(16_000)
)
AGENT_FRAME = b"".join(
    round(9_000 * np.sin(at / 24_000 * 500 * 6.2832)).to_bytes(2, "little", signed=True) for at in range(480)
)


class Ears:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.keys = ""
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.losses: list[str] = []
        self.opened = asyncio.Event()
        self._changed = asyncio.Condition()

    def connected(self) -> None:
        self.opened.set()

    def heard(self, pcm: bytes) -> None:
        self.pcm += pcm

    def pressed(self, key: str) -> None:
        self.keys += key

    def lost(self, why: str) -> None:
        self.losses.append(why)

    def note(self, kind: str, **details: Any) -> None:
        self.notes.append((kind, details))

    def seconds(self) -> float:
        return len(self.pcm) / 32_000

    def samples(self) -> np.ndarray:
        return np.frombuffer(bytes(self.pcm), np.int16)


async def until(fits: Callable[[], object], *, patience: float = 8.0) -> None:
    """Return once `fits` holds; there is no event for what a listener was told."""
    end = time.monotonic() + patience
    while not fits():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)


class Line:
    """Both ends of a connection: `peer` is ours, `far` stands for a browser."""

    def __init__(self, *, clock: Clock | None = None, announced: tuple[str, ...] = ()) -> None:
        self.ears = Ears()
        self.peer = AiortcPeer(self.ears, clock or SystemClock(), hosts=["127.0.0.1"], announced=announced)
        self.far = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.microphone = Microphone()

    async def close(self) -> None:
        await self.peer.close()
        await self.far.close()

    async def negotiate(self, *, change: Callable[[str], str] = lambda sdp: sdp) -> Answer:
        await self.far.setLocalDescription(await self.far.createOffer())
        offer = read_offer(change(self.far.localDescription.sdp))
        answer = await self.peer.answer(offer)
        for candidate in offer.candidates:
            await self.peer.add_candidate(candidate)
        await self.far.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
        return answer

    def through(self, route: Callable[[bytes, Callable[[bytes], Awaitable[None]]], Awaitable[None]]) -> None:
        transport = self.far.getTransceivers()[0].sender.transport
        send = transport._send_rtp

        async def forward(data: bytes) -> None:
            # RTCP passes by.
            await (send(data) if 192 <= data[1] <= 223 else route(data, send))

        transport._send_rtp = forward


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[Line]:
    line = Line(**settings)
    line.far.addTrack(line.microphone)
    try:
        await line.negotiate()
        await asyncio.wait_for(line.ears.opened.wait(), 8)
        yield line
    finally:
        await line.close()


# --- what is relied upon --------------------------------------------------------------------------------------------


async def test_aioice_asks_a_module_function_for_the_addresses_of_the_machine() -> None:
    await Line().close()
    assert aioice.ice.get_host_addresses.__module__ == "voisnap_mock.webrtc.aiortc_peer"
    source = inspect.getsource(aioice.ice.Connection.gather_candidates)
    assert "get_host_addresses(" in source
    assert "use_ipv4=" in source
    assert "use_ipv6=" in source
    assert "127.0.0.1" in aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False)


def test_a_receiver_hands_each_packet_to_a_jitter_buffer_that_can_be_replaced() -> None:
    assert list(inspect.signature(RTCRtpReceiver._handle_rtp_packet).parameters) == [
        "self",
        "packet",
        "arrival_time_ms",
    ]
    source = inspect.getsource(RTCRtpReceiver)
    assert "self.__jitter_buffer.add(packet)" in source
    assert "packet._data" in source
    assert list(inspect.signature(JitterBuffer.add).parameters) == ["self", "packet"]
    assert list(inspect.signature(JitterFrame).parameters) == ["data", "timestamp"]
    transport = inspect.getsource(RTCDtlsTransport)
    assert "receiver._handle_rtp_packet(packet, arrival_time_ms=" in transport


async def test_the_codecs_of_aiortc_are_a_list_that_telephone_events_can_join() -> None:
    await Line().close()
    names = [codec.name for codec in RTCRtpSender.getCapabilities("audio").codecs]
    assert names.count("telephone-event") == 2
    assert {"opus", "PCMU", "PCMA", "G722"} <= set(names)


async def test_the_pair_of_addresses_in_use_can_be_told() -> None:
    async with connected() as line:
        pair = selected_pair(line.far)
        assert pair["local"].startswith("127.0.0.1:") or pair["local"]
        assert pair["remote"].startswith("127.0.0.1:")
        kinds = dict(line.ears.notes)
        assert kinds["webrtc.connected"]["codec"] == "opus"
        assert kinds["webrtc.connected"]["local"].startswith("127.0.0.1:")


# --- media ----------------------------------------------------------------------------------------------------------


def loud_share(samples: np.ndarray) -> float:
    return float((np.abs(samples) > 500).mean()) if len(samples) else 0.0


async def test_both_sides_hear_each_other() -> None:
    async with connected() as line:
        heard: list[np.ndarray] = []

        async def listen() -> None:
            track = line.far.getReceivers()[0].track
            while True:
                heard.append((await track.recv()).to_ndarray().reshape(-1, 2)[:, 0])

        listening = asyncio.create_task(listen())
        line.microphone.say(TONE)
        for _ in range(40):
            line.peer.play(AGENT_FRAME)
        await until(lambda: loud_share(line.ears.samples()[-8_000:]) > 0.9)
        await until(lambda: heard and loud_share(np.concatenate(heard)[-24_000:]) > 0.9)
        listening.cancel()


async def test_lost_packets_shorten_nothing_and_delay_nothing() -> None:
    async with connected() as line:
        number = 0

        async def lose_every_fifth(data: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
            nonlocal number
            number += 1
            if number % 5:
                await send(data)

        line.microphone.say(TONE * 10)
        await until(lambda: line.ears.seconds() > 0.3)
        line.through(lose_every_fifth)
        before, began = line.ears.seconds(), time.monotonic()
        await asyncio.sleep(1.5)
        took = time.monotonic() - began
        assert line.ears.seconds() - before == pytest.approx(took, abs=0.15)
        assert loud_share(line.ears.samples()[-16_000:]) == pytest.approx(0.8, abs=0.15)
        await line.peer.close()
        assert 10 <= dict(line.ears.notes)["webrtc.closed"]["lost"] <= 20


async def test_packets_that_overtake_each_other_are_put_in_order() -> None:
    async with connected() as line:
        held: list[bytes] = []

        async def swap(data: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
            held.append(data)
            if len(held) == 3:
                for at in (2, 0, 1):
                    await send(held[at])
                held.clear()

        await until(lambda: line.ears.seconds() > 0.1)
        line.through(swap)
        line.microphone.say(TONE * 2)
        await until(lambda: line.ears.seconds() > 1.5)
        await line.peer.close()
        figures = dict(line.ears.notes)["webrtc.closed"]
        assert (figures["lost"], figures["tooLate"]) == (0, 0)
        # A tone whose pieces were swapped would change its phase all the time.
        samples = line.ears.samples()[-12_000:].astype(float)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        peak = int(spectrum.argmax())
        assert spectrum[peak - 3 : peak + 4].sum() > 0.7 * spectrum.sum()


async def test_keys_are_heard_among_the_audio() -> None:
    async with connected() as line:
        pressing = iter([("5", False)] * 3 + [("5", True)] * 3 + [("#", True)] * 3)
        timestamps = {"5": 7_000, "#": 9_000}

        async def press(data: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
            key, is_end = next(pressing, ("", False))
            if key:
                packet = RtpPacket.parse(data)
                packet.payload_type = next(iter(line.peer._inbox.digits))
                packet.timestamp = timestamps[key]
                packet.payload = bytes(["0123456789*#".index(key), 0x80 if is_end else 0, 0, 160])
                data = packet.serialize()
            await send(data)

        line.through(press)
        await until(lambda: line.ears.keys == "5#")
        line.microphone.say(TONE)
        await until(lambda: loud_share(line.ears.samples()[-8_000:]) > 0.9)
        assert line.ears.keys == "5#"


async def test_a_caller_who_mutes_by_sending_nothing_is_silent_and_not_gone() -> None:
    async with connected() as line:
        await until(lambda: line.ears.seconds() > 0.1)

        async def drop(data: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
            return

        line.through(drop)
        before = line.ears.seconds()
        await until(lambda: line.ears.seconds() > before + 1.0)
        assert not line.ears.losses


async def test_the_oldest_codec_works_too() -> None:
    line = Line()
    line.far.addTrack(line.microphone)
    try:
        answer = await line.negotiate(change=lambda sdp: sdp.replace("opus/", "none/").replace("G722/", "none/"))
        assert answer.codec == "PCMU"
        await asyncio.wait_for(line.ears.opened.wait(), 8)
        line.microphone.say(TONE)
        await until(lambda: loud_share(line.ears.samples()[-8_000:]) > 0.9)
    finally:
        await line.close()


# --- negotiating ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["audio", "video"])
async def test_video_is_refused_politely_and_the_voice_goes_on(first: str) -> None:
    line = Line()
    tracks = [line.microphone, VideoStreamTrack()]
    for track in tracks if first == "audio" else reversed(tracks):
        line.far.addTrack(track)
    try:
        answer = await line.negotiate()
        sections = dict(part.split(" ", 1) for part in answer.sdp.split("m=")[1:])
        assert "a=inactive" in sections["video"]
        assert "a=sendrecv" in sections["audio"]
        await asyncio.wait_for(line.ears.opened.wait(), 8)
        line.microphone.say(TONE)
        await until(lambda: loud_share(line.ears.samples()[-8_000:]) > 0.9)
    finally:
        await line.close()


async def test_another_offer_holds_the_call_and_a_third_takes_it_up_again() -> None:
    async with connected() as line:
        line.far.getTransceivers()[0].direction = "sendonly"
        assert "a=recvonly" in (await line.negotiate()).sdp
        line.far.getTransceivers()[0].direction = "sendrecv"
        assert "a=sendrecv" in (await line.negotiate()).sdp
        line.microphone.say(TONE)
        await until(lambda: loud_share(line.ears.samples()[-8_000:]) > 0.9)


async def test_names_that_hide_addresses_hold_nothing_up() -> None:
    line = Line()
    line.far.addTrack(line.microphone)
    hidden = [read_candidate(f"candidate:{n} 1 udp 1 nobody-{n}.local 5000 typ host", "0", 0) for n in range(3)]
    try:
        await line.far.setLocalDescription(await line.far.createOffer())
        began = time.monotonic()
        answer = await line.peer.answer(read_offer(line.far.localDescription.sdp))
        for candidate in hidden:
            await line.peer.add_candidate(candidate)
        assert time.monotonic() - began < 0.5
        await line.far.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
        await asyncio.wait_for(line.ears.opened.wait(), 8)
    finally:
        await line.close()


async def test_an_offer_that_passes_our_checks_and_not_aiortcs_is_refused_too() -> None:
    line = Line()
    line.far.addTransceiver("audio", "recvonly")
    try:
        with pytest.raises(SdpRefused, match="sdp cannot be answered"):
            await line.negotiate(change=lambda sdp: sdp.replace("a=mid:0", "a=mid:0\r\na=setup:sideways"))
    finally:
        await line.close()


async def test_answers_may_announce_another_address() -> None:
    line = Line(announced=("203.0.113.9",))
    line.far.addTrack(line.microphone)
    await line.far.setLocalDescription(await line.far.createOffer())
    answer = await line.peer.answer(read_offer(line.far.localDescription.sdp))
    assert {candidate.host for candidate in answer.candidates} == {"203.0.113.9"}
    await line.close()


# --- the end --------------------------------------------------------------------------------------------------------


async def test_a_far_end_that_closes_is_noticed_at_once() -> None:
    async with connected() as line:
        await line.far.close()
        await until(lambda: line.ears.losses, patience=2.0)
        assert line.ears.losses == ["the far end closed the connection"]


class QuickClock(SystemClock):
    """Runs ten times as fast."""

    def monotonic(self) -> float:
        return super().monotonic() * 10

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.monotonic()) / 10)

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, at - self.monotonic()) / 10, callback)


async def test_a_far_end_that_says_nothing_any_more_is_given_up_after_ten_seconds() -> None:
    async with connected(clock=QuickClock()) as line:
        transport = line.far.getTransceivers()[0].sender.transport

        async def vanish(data: bytes) -> None:
            return

        transport._send_rtp = vanish
        await until(lambda: line.ears.losses)
        assert line.ears.losses == ["nothing has come for 10 s"]


async def test_closing_twice_is_closing_once_and_tells_what_the_call_was_like() -> None:
    async with connected() as line:
        await until(lambda: line.ears.seconds() > 0.5)
        await asyncio.gather(line.peer.close(), line.peer.close())
        await line.peer.close()
        (figures,) = [details for kind, details in line.ears.notes if kind == "webrtc.closed"]
        assert figures["packetsReceived"] > 10
        assert figures["framesSent"] > 10
        assert figures["latenessMs"]["p99"] <= 200
    assert not line.ears.losses
