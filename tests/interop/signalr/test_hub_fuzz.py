"""Thousands of mutated frames on every transport of a live server; then an ordinary call is placed, and works.

`VOISNAP_TEST_FUZZ_LIVE` is the number of frames on each transport, parted between the protocols and the two kinds of
server; without it there is only a taste. See `hub_fuzz`.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator

import pytest
from hub_fuzz import SENTINEL, Attack, Mutator, attacks, last_call, mutated_bytes, waves, websocket_frames
from hub_processes import HubServer
from raw_wire import HANDSHAKE, RS, Canary, RawSocket, RawWebSocket, frame, read_answer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

FRAMES = int(os.environ.get("VOISNAP_TEST_FUZZ_LIVE", "20000"))
SIDE_BY_SIDE = 32
GROWTH = 48_000_000


@pytest.fixture(autouse=True)
def as_before(hubs: HubServer) -> Iterator[None]:
    """Others notice nothing, nothing is left behind, nothing was printed, and a new connection works."""
    before = hubs.state()["memory"]
    with Canary(hubs):
        yield
    hubs.control("empty", hub="plain")
    assert hubs.state()["memory"] - before < GROWTH
    assert hubs.errors == ""
    with RawWebSocket.open(hubs) as socket:
        assert socket.invoke("Echo", "after all that")["result"] == "after all that"


def check(attack: Attack, received: bytes, *, is_over: bool) -> None:
    """What came back is what the rules say."""
    story = (attack.frames[-3:], received[-300:])
    assert is_over == attack.ends, story
    assert (SENTINEL.encode() in received) == attack.answered, story


def outcome(socket: RawWebSocket, attack: Attack) -> tuple[bytes, bool]:
    """Everything up to the last call's answer or the server's close frame; whether it was the close frame."""
    received = b""
    while not (attack.answered and SENTINEL.encode() in received):
        opcode, payload = socket.receive()
        if opcode == 8:
            assert payload == b"\x03\xe8"
            return received, True
        received += payload
    return received, False


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
def test_websockets(hubs: HubServer, protocol: str) -> None:
    pick = random.Random(2)
    for wave in waves(attacks(protocol, FRAMES // 4), SIDE_BY_SIDE):
        sockets = [RawWebSocket(hubs, "/plain") for _ in wave]
        for socket, attack in zip(sockets, wave, strict=True):
            frames = b"".join(websocket_frames(data, pick) for data in attack.frames)
            begin = frame(HANDSHAKE[protocol], opcode=2)
            socket.write_all_it_takes(begin + frames + frame(last_call(protocol), opcode=2))
        for socket, attack in zip(sockets, wave, strict=True):
            # Otherwise all that was sent is the beginning of one long message, and nothing is to come.
            if attack.ends or attack.answered:
                received, is_over = outcome(socket, attack)
                check(attack, received, is_over=is_over)
            socket.__exit__()


def test_websockets_below_the_hub_protocol(hubs: HubServer) -> None:
    """Frames whose heads, masks and lengths are wrong too: whatever is said about them, the connection ends."""
    pick = random.Random(4)
    stream = iter(Mutator(3, "json"))
    for _ in range(FRAMES // 40 // SIDE_BY_SIDE + 1):
        sockets = [RawWebSocket(hubs, "/plain") for _ in range(SIDE_BY_SIDE)]
        for socket in sockets:
            frames = [mutated_bytes(pick, websocket_frames(next(stream), pick)) for _ in range(5)]
            socket.write_all_it_takes(frame(HANDSHAKE["json"]) + b"".join(frames))
            socket.half_close()
        for socket in sockets:
            socket.drain()
            socket.__exit__()


def post(target: str, data: bytes) -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def get(target: str, accept: str = "*/*") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode()


class Line(RawSocket):
    """One HTTP connection that is kept."""

    def ask(self, request: bytes) -> tuple[int, bytes]:
        self.write(request)
        answer = read_answer(self)
        return answer.status, answer.body

    def new_target(self) -> str:
        _, body = self.ask(post("/plain/negotiate?negotiateVersion=1", b""))
        return f"/plain?id={json.loads(body)['connectionToken']}"


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
def test_long_polling(hubs: HubServer, protocol: str) -> None:
    with Line(hubs.port) as line:
        for attack in attacks(protocol, FRAMES // 4):
            target = line.new_target()
            assert line.ask(get(target)) == (200, b"")
            assert line.ask(post(target, HANDSHAKE[protocol]))[0] == 200
            assert line.ask(get(target)) == (200, b"{}" + RS)
            status, _ = line.ask(post(target, b"".join(attack.frames) + last_call(protocol)))
            assert status == 200 or (status == 404 and attack.ends)
            status = 200
            if attack.ends or attack.answered:
                received = b""
                while status == 200 and not (attack.answered and SENTINEL.encode() in received):
                    status, body = line.ask(get(target))
                    received += body
                check(attack, received, is_over=status != 200)
            assert line.ask(f"DELETE {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())[0] in (202, 404)


def test_event_streams(hubs: HubServer) -> None:
    with Line(hubs.port) as line, Line(hubs.port) as posts:
        for wave in waves(attacks("json", FRAMES // 2), SIDE_BY_SIDE):
            streams = []
            for attack in wave:
                target = line.new_target()
                stream = RawSocket(hubs.port)
                stream.write(get(target, "text/event-stream"))
                stream.read_until(b":\r\n")
                posts.write(post(target, HANDSHAKE["json"]) + post(target, b"".join(attack.frames) + last_call("json")))
                streams.append(stream)
            for attack in wave:
                assert read_answer(posts).status == 200
                status = read_answer(posts).status
                assert status == 200 or (status == 404 and attack.ends)
            for stream, attack in zip(streams, wave, strict=True):
                if attack.answered:
                    check(attack, stream.read_until(SENTINEL.encode()), is_over=False)
                elif attack.ends:
                    check(attack, stream.read_until(b"\r\n0\r\n\r\n"), is_over=True)
                stream.__exit__()


def test_requests(hubs: HubServer) -> None:
    """Mutated heads and bodies of every request there is; each on a connection of its own, which ends."""
    pick = random.Random(7)
    with Line(hubs.port) as line:
        target = line.new_target()
    upgrade = (
        b"GET /plain HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    whole = [
        post("/plain/negotiate?negotiateVersion=1", b"x"),
        get(target),
        get(target, "text/event-stream"),
        post(target, b'{"type":6}' + RS),
        f"DELETE {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"OPTIONS /plain HTTP/1.1\r\nHost: x\r\nOrigin: http://there\r\n\r\n",
        upgrade,
        b"POST /plain?id=x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    ]
    for _ in range(FRAMES // 20 // SIDE_BY_SIDE + 1):
        sockets = [RawSocket(hubs.port) for _ in range(SIDE_BY_SIDE)]
        for socket in sockets:
            socket.write_all_it_takes(mutated_bytes(pick, pick.choice(whole), pick.randrange(1, 4)))
            socket.half_close()
        for socket in sockets:
            socket.drain()
            socket.__exit__()
