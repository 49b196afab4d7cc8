"""Mutated frames for a live server, and what the protocol's own rules say will come of them.

A whole run, 200,000 frames on each transport, takes about a minute; `python3 tests` does one:

    VOISNAP_TEST_FUZZ_LIVE=200000 python -m pytest tests/interop/signalr/test_hub_fuzz.py

Every connection gets mutated frames until one of them must end it, or until it has had enough, and then an ordinary
call. The sans-IO core, fed with the same bytes, says beforehand which of the two will be the answer; so no frame is
sent to a connection that is dead already, and none is counted twice. Only some of the frames that are fatal are sent:
a new connection costs more than the frame.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from hub_server import EverythingHub
from raw_wire import HANDSHAKE, RS, frame

from voisnap_mock.signalr.connection import ConnectionLimits, HubConnection, Role, State
from voisnap_mock.signalr.hub import MethodTable
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.messages import Invocation
from voisnap_mock.signalr.protocols import JsonHubProtocol

SENTINEL = "the-last-call"
FRAMES_PER_CONNECTION = 60
RARE_KEPT = 0.01
"""Of the frames that end their connection, or swallow what follows; each costs a new connection."""

JSON: list[dict[str, Any]] = [
    {"type": 1, "invocationId": "1", "target": "Echo", "arguments": [{"a": [1, {"b": None}], "text": "naïve 雪"}]},
    {"type": 1, "invocationId": "2", "target": "Add", "arguments": [1, 2]},
    {"type": 1, "target": "Nothing", "arguments": []},
    {"type": 1, "invocationId": "3", "target": "EchoBytes", "arguments": ["AAH+/w=="]},
    {"type": 1, "invocationId": "4", "target": "Move", "arguments": [{"xAxis": 1, "label": "A"}, 2]},
    {"type": 1, "invocationId": "5", "target": "Announce", "arguments": [True], "headers": {"a": "b"}},
    {"type": 1, "invocationId": "6", "target": "Refuse", "arguments": ["no"]},
    {"type": 1, "invocationId": "7", "target": "Sum", "arguments": [], "streamIds": ["s"]},
    {"type": 2, "invocationId": "s", "item": 5},
    {"type": 3, "invocationId": "s"},
    {"type": 3, "invocationId": "s", "error": "gone"},
    {"type": 4, "invocationId": "8", "target": "Count", "arguments": [3]},
    {"type": 4, "invocationId": "9", "target": "Doubled", "arguments": [1], "streamIds": ["d"]},
    {"type": 5, "invocationId": "9"},
    {"type": 6},
    {"type": 7, "error": "enough", "allowReconnect": True},
    {"type": 8, "sequenceId": 1},
    {"type": 9, "sequenceId": 1},
]
_FORMS = {
    1: ("invocationId", "target", "arguments", "streamIds"),
    2: ("invocationId", "item"),
    4: ("invocationId", "target", "arguments", "streamIds"),
    5: ("invocationId",),
}
_BRICKS = (b"\x1e", b'"', b"{", b"[", b"]}", b":", b",", b"\\u", b"null", b"1e999", b"-", b"9" * 25, b"\x00", b"\xff")
_BINARY_BRICKS = (
    b"\xc0",
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x00\x00\xff\xff",
    b"\xc9\xff\xff\xff\xff",
    b"\x91" * 70,
)


def _packed(message: dict[str, Any]) -> bytes:
    """The same message in MessagePack, with its length."""
    kind = message.get("type")
    headers = message.get("headers", {})
    defaults = {"invocationId": None, "target": "", "arguments": [], "streamIds": [], "item": None}
    items: list[object]
    if kind in (1, 2, 4, 5):
        items = [kind, headers, *(message.get(name, defaults[name]) for name in _FORMS[kind])]
    elif kind == 3:
        tail = [1, message["error"]] if "error" in message else [3, message["result"]] if "result" in message else [2]
        items = [3, headers, message.get("invocationId"), *tail]
    else:
        items = [kind, *(value for name, value in message.items() if name != "type")]
    body = msgspec.msgpack.encode(items)
    size = len(body)
    if size < 0x80:
        return bytes([size]) + body
    return bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F]) + body


def serialize(message: dict[str, Any], protocol: str) -> bytes:
    return _packed(message) if protocol == "messagepack" else msgspec.json.encode(message) + RS


def last_call(protocol: str) -> bytes:
    return serialize({"type": 1, "invocationId": SENTINEL, "target": "Add", "arguments": [1, 2]}, protocol)


class Mutator:
    """Frames that are nearly right, the same ones for the same seed."""

    def __init__(self, seed: int, protocol: str) -> None:
        self.random = random.Random(seed)
        self._protocol = protocol
        self._corpus = [serialize(message, protocol) for message in JSON]
        self._bricks = _BRICKS if protocol == "json" else (*_BINARY_BRICKS, *_BRICKS[:4])

    def __iter__(self) -> Iterator[bytes]:
        while True:
            if self.random.random() < 0.6:
                data = bytearray(serialize(self._bent(), self._protocol))
                times = self.random.choice((0, 0, 0, 1))
            else:
                data = bytearray(self.random.choice(self._corpus))
                times = self.random.choice((1, 1, 1, 2, 3, 6))
            for _ in range(times):
                self._mutate(data)
            yield bytes(data[:40_000])

    def _bent(self) -> dict[str, Any]:
        """A well-formed record whose members are not what they should be."""
        pick = self.random
        message = dict(pick.choice(JSON))
        for _ in range(pick.choice((1, 1, 2))):
            name = pick.choice(list(message)[1:] or ["type"])
            match pick.randrange(6):
                case 0:
                    del message[name]
                case 1:
                    message[pick.choice(("more", "headers", "result", "error", "streamIds", name.upper()))] = (
                        self._value()
                    )
                case 2 if isinstance(message[name], list):
                    message[name] = [self._value() for _ in range(pick.randrange(4))]
                case 3 if isinstance(message[name], str):
                    times = pick.choice((0, 2, 2, 2, 2, 2, 2, 300, 9000))
                    message[name] = message[name] * min(times, 40_000 // (len(message[name]) + 1))
                case 4 if pick.random() < 0.3:
                    message["type"] = self._value()
                case _:
                    message[name] = self._value()
            if not message:
                break
        return message

    def _value(self, depth: int = 0) -> object:
        pick = self.random
        match pick.randrange(11):
            case 0:
                return None
            case 1:
                return pick.choice((True, False))
            case 2:
                return pick.choice((0, -1, 1, 2**31, 2**53 + 1, -(2**63), 2**64 - 1))
            case 3:
                return pick.choice((0.5, -1e308, 5e-324))
            case 4:
                return pick.choice(("", "s", "1", "Add", "AAH+/w", "\u0000", "\u001e", "\U0001f600", "x" * 300))
            case 5 if depth < 4:
                return {pick.choice(("xAxis", "label", "a", "")): self._value(depth + 1) for _ in range(2)}
            case 6 if depth < 4:
                return [self._value(depth + 1) for _ in range(pick.randrange(5))]
            case 7:
                nested: object = []
                for _ in range(pick.choice((10, 63, 64, 65, 200))):
                    nested = [nested]
                return nested
            case _:
                return pick.choice((1, 2, 3, "s", "d", "text"))

    def _mutate(self, data: bytearray) -> None:
        pick = self.random
        size = len(data)
        start = pick.randrange(size + 1)
        end = min(size, start + pick.randrange(1, 12))
        match pick.randrange(9):
            case 0:
                if start < size:
                    data[start] ^= 1 << pick.randrange(8)
            case 1:
                if start < size:
                    data[start] = pick.randrange(256)
            case 2:
                del data[start:end]
            case 3:
                data[start:start] = pick.randbytes(pick.randrange(1, 5))
            case 4:
                data[start:start] = data[start:end] * pick.randrange(1, 5)
            case 5:
                data[start:start] = pick.choice(self._bricks)
            case 6:
                # A long filling, up to more than a message may have.
                data[start:start] = bytes(data[start:end]) * pick.choice((10, 10, 100, 100, 100, 4000))
            case 7:
                data[start:end] = pick.choice(self._corpus)[start:end]
            case _:
                del data[start:]


@dataclass(frozen=True)
class Attack:
    """What one connection is sent after its handshake.

    Attributes:
        frames: mutated, each nearly a message; the last may be the one that ends the connection.
        ends: the server must end the connection.
        answered: the call that follows the frames must be answered.
    """

    frames: tuple[bytes, ...]
    ends: bool
    answered: bool


class Oracle:
    """Knows the outcome: the sans-IO core, fed with the same bytes, without a network around it."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._types = MethodTable(EverythingHub())

    def connection(self) -> HubConnection:
        connection = HubConnection(
            Role.SERVER,
            (JsonHubProtocol(), MessagePackHubProtocol()),
            now=0.0,
            types=self._types,
            limits=ConnectionLimits(detailed_errors=False),
        )
        connection.receive_bytes(HANDSHAKE[self._protocol], 0.0)
        assert connection.state is State.OPEN
        return connection

    def attacks(self, mutator: Mutator, count: int) -> Iterator[Attack]:
        """`count` frames in all, parted into attacks."""
        stream = iter(mutator)
        while count > 0:
            attack = self._attack(stream, mutator.random, min(count, FRAMES_PER_CONNECTION))
            count -= len(attack.frames)
            yield attack

    def _attack(self, stream: Iterator[bytes], pick: random.Random, most: int) -> Attack:
        connection = self.connection()
        frames: list[bytes] = []
        while len(frames) < most:
            data = next(stream)
            connection.receive_bytes(data, 0.0)
            is_fatal = connection.state is not State.OPEN
            if not is_fatal and not connection._rest:
                frames.append(data)
            elif pick.random() < RARE_KEPT:
                frames.append(data)
                break
            else:
                # It was never sent. Of the frames before it nothing is left that would matter.
                connection = self.connection()
        events = connection.receive_bytes(last_call(self._protocol), 0.0)
        answered = any(isinstance(event, Invocation) and event.invocation_id == SENTINEL for event in events)
        return Attack(tuple(frames), ends=connection.state is not State.OPEN, answered=answered)


@cache
def attacks(protocol: str, count: int) -> tuple[Attack, ...]:
    """The same `count` frames for every transport and server; to make them takes longer than to send them."""
    return tuple(Oracle(protocol).attacks(Mutator(1, protocol), count))


def websocket_frames(data: bytes, pick: random.Random) -> bytes:
    """The bytes of one mutated frame on a WebSocket: whole, fragmented, or as two frames."""
    try:
        data.decode()
        opcode = pick.choice((1, 2))
    except UnicodeDecodeError:
        opcode = 2
    cut = pick.randrange(len(data) + 1)
    match pick.randrange(10):
        case 0:
            return frame(data[:cut], opcode=opcode, fin=False) + frame(data[cut:], opcode=0)
        case 1:
            return frame(data[:cut], opcode=2) + frame(data[cut:], opcode=2)
        case 2:
            return frame(data, opcode=opcode, mask=pick.randbytes(4))
        case _:
            return frame(data, opcode=opcode)


def mutated_bytes(pick: random.Random, data: bytes, count: int = 3) -> bytes:
    """Bytes below the hub protocol, a WebSocket frame or an HTTP request, with a few of them changed."""
    changed = bytearray(data)
    for _ in range(count):
        place = pick.randrange(len(changed))
        match pick.randrange(4):
            case 0:
                changed[place] = pick.randrange(256)
            case 1:
                del changed[place : place + pick.randrange(1, 6)]
            case 2:
                changed[place:place] = pick.randbytes(pick.randrange(1, 4))
            case _:
                changed[place] ^= 1 << pick.randrange(8)
        if not changed:
            return b"\0"
    return bytes(changed)


def waves(attacks: Sequence[Attack], size: int) -> Iterator[Sequence[Attack]]:
    """Attacks that run side by side."""
    return (attacks[begin : begin + size] for begin in range(0, len(attacks), size))
