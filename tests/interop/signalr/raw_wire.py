"""Plain sockets that say exactly what a test wants said: HTTP requests, WebSocket frames, and halves of both."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from hub_processes import HubServer

RS = b"\x1e"
HANDSHAKE = {
    "json": b'{"protocol":"json","version":1}\x1e',
    "messagepack": b'{"protocol":"messagepack","version":1}\x1e',
}
CLOSED_WITH_ERROR = b'{"type":7,"error":"Connection closed with an error.","allowReconnect":true}\x1e'


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")


def request(
    server: HubServer,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def negotiate(server: HubServer, hub: str = "plain", query: str = "negotiateVersion=1") -> dict[str, Any]:
    answer = request(server, "POST", f"/{hub}/negotiate?{query}")
    assert answer.status == 200, answer
    members: dict[str, Any] = json.loads(answer.body)
    return members


def new_token(server: HubServer, hub: str = "plain") -> str:
    return str(negotiate(server, hub)["connectionToken"])


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True, mask: bytes | None = b"\0\0\0\0") -> bytes:
    """A client's WebSocket frame; the mask of zeros leaves the payload as it is."""
    length = len(payload)
    masked = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | opcode])
    if length < 126:
        head += bytes([masked | length])
    elif length < 65_536:
        head += bytes([masked | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + length.to_bytes(8, "big")
    if mask is None:
        return head + payload
    if mask != b"\0\0\0\0":
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + payload


class RawSocket:
    """A TCP connection to the server. A context manager."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def write_all_it_takes(self, data: bytes) -> None:
        """Write until the other side has had enough."""
        with suppress(OSError):
            self.socket.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while mark not in self._buffer:
            self._fill()
        end = self._buffer.index(mark) + len(mark)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def is_at_end(self) -> bool:
        """Whether the other side has hung up, in whatever way; waits for it or for the next byte."""
        if self._buffer:
            return False
        try:
            self._fill()
        except (EOFError, ConnectionError):
            return True
        return False

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def drain(self) -> None:
        """Read until the other side hangs up, in whatever way."""
        while not self.is_at_end():
            self._buffer = b""

    def _fill(self) -> None:
        piece = self.socket.recv(65_536)
        if not piece:
            raise EOFError(f"the server hung up; unread: {self._buffer[:200]!r}")
        self._buffer += piece


class RawWebSocket(RawSocket):
    """A WebSocket whose frames a test makes itself.

    Attributes:
        status: of the answer to the upgrade; anything but 101 comes with `refusal`.
    """

    def __init__(
        self, server: HubServer, target: str, *, headers: Mapping[str, str] | None = None, port: int | None = None
    ) -> None:
        super().__init__(port or server.port)
        lines = [
            f"GET {target} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
            "\r\n",
        ]
        self.write("\r\n".join(lines).encode())
        head = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(head[0].split()[1])
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = b"" if self.status == 101 else self.read_exactly(int(fields.get("content-length", "0")))
        self.refusal = Answer(self.status, fields, body)

    @classmethod
    def open(cls, server: HubServer, hub: str = "plain", protocol: str = "json", **more: Any) -> RawWebSocket:
        """Without negotiation, handshake done."""
        opened = cls(server, f"/{hub}", **more)
        assert opened.status == 101, opened.refusal
        opened.send(HANDSHAKE[protocol])
        assert opened.receive() == (2 if protocol == "messagepack" else 1, b"{}" + RS)
        return opened

    def send(self, payload: bytes, *, opcode: int = 1, fin: bool = True) -> None:
        self.write(frame(payload, opcode=opcode, fin=fin))

    def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, second = self.read_exactly(2)
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self.read_exactly(2), "big")
        elif length == 127:
            length = int.from_bytes(self.read_exactly(8), "big")
        return first & 0x0F, self.read_exactly(length)

    def receive_to_end(self) -> tuple[bytes, int | None]:
        """All data until the server's close frame, and its code; answers the close."""
        data = b""
        while True:
            try:
                opcode, payload = self.receive()
            except (EOFError, ConnectionError):
                return data, None
            if opcode == 8:
                self.write_all_it_takes(frame(payload, opcode=8))
                return data, int.from_bytes(payload[:2], "big") if payload else None
            if opcode in (1, 2):
                data += payload

    def invoke(self, target: str, *arguments: Any) -> dict[str, Any]:
        """Over JSON: the completion of a call; everything else that comes before it is dropped."""
        call = {"type": 1, "invocationId": "call", "target": target, "arguments": arguments}
        self.send(json.dumps(call).encode() + RS)
        while True:
            for record in self.receive()[1].split(RS)[:-1]:
                message: dict[str, Any] = json.loads(record)
                if message.get("invocationId") == "call":
                    return message


class EventStream(RawSocket):
    """The GET of Server-Sent Events on an id, and the POST requests beside it."""

    def __init__(self, server: HubServer, hub: str = "plain", *, handshake: bytes | None = HANDSHAKE["json"]) -> None:
        super().__init__(server.port)
        self._server = server
        self.token = new_token(server, hub)
        self.target = f"/{hub}?id={self.token}"
        self.write(f"GET {self.target} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
        self.head = self.read_until(b"\r\n\r\n")
        self.greeting = self.read_chunk()
        if handshake is not None:
            assert self.post(handshake).status == 200

    def read_chunk(self) -> bytes:
        size = int(self.read_until(b"\r\n"), 16)
        return self.read_exactly(size + 2)[:-2]

    def read_event(self) -> bytes:
        """The data of the next event; empty when the stream has ended."""
        return self.read_chunk().removeprefix(b"data: ").removesuffix(b"\r\n\r\n")

    def post(self, data: bytes) -> Answer:
        return request(self._server, "POST", self.target, data)


class Polls:
    """Long polling on an id: the first poll is done, and the handshake."""

    def __init__(self, server: HubServer, hub: str = "plain", *, handshake: bytes | None = HANDSHAKE["json"]) -> None:
        self._server = server
        self.token = new_token(server, hub)
        self.target = f"/{hub}?id={self.token}"
        self.first = self.poll()
        if handshake is not None:
            assert self.post(handshake).status == 200
            assert self.poll().body == b"{}" + RS

    def poll(self) -> Answer:
        return request(self._server, "GET", self.target)

    def post(self, data: bytes) -> Answer:
        return request(self._server, "POST", self.target, data)

    def delete(self) -> Answer:
        return request(self._server, "DELETE", self.target)

    def start_poll(self) -> RawSocket:
        """A poll that waits; its answer is read with `read_answer`."""
        waiting = RawSocket(self._server.port)
        waiting.write(f"GET {self.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return waiting


def read_answer(waiting: RawSocket) -> Answer:
    lines = waiting.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return Answer(int(lines[0].split()[1]), fields, waiting.read_exactly(int(fields.get("content-length", "0"))))


class Canary:
    """A connection that keeps calling while others misbehave, and notices everything. A context manager."""

    def __init__(self, server: HubServer) -> None:
        self._socket = RawWebSocket.open(server)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sing)
        self._failure: BaseException | None = None
        self.answers = 0
        self.longest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.__exit__()
        if self._failure is not None:
            raise AssertionError("another connection was disturbed") from self._failure
        assert self.answers > 0

    def _sing(self) -> None:
        try:
            who = self._socket.invoke("WhoAmI")["result"]
            while True:
                word = os.urandom(6).hex()
                began = time.perf_counter()
                assert self._socket.invoke("Echo", word)["result"] == word
                self.longest = max(self.longest, time.perf_counter() - began)
                self.answers += 1
                if self._stopping.wait(0.01):
                    break
            assert self._socket.invoke("WhoAmI")["result"] == who
        except BaseException as error:  # noqa: BLE001  it is raised in the test
            self._failure = error
