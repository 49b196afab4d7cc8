"""The least a Python server can do for a call: what every figure of the load benchmarks is compared with.

A bare `asyncio.Protocol` that upgrades any path to a WebSocket, answers the SignalR handshake, decodes the audio of
each `SendAudioAsync`, sends its Completion, and sends every connection one `AudioReceived` of 960 bytes each 20 ms.
No HTTP framework, no authentication, no call, no limits: only the bytes that no server can avoid.

Run as `python floor.py PORT`; with `echo` behind it each `SendAudioAsync` is answered by one `AudioReceived`, in the
same write as its Completion, and none comes by itself.
"""

import asyncio
import base64
import hashlib
import os
import re
import sys
from time import perf_counter  # uvloop's own clock counts whole milliseconds

import msgspec
from websockets.speedups import apply_mask

SLOTS = 10
SLOT_SECONDS = 0.02 / SLOTS
AUDIO = os.urandom(960 * 50)
ECHOES = sys.argv[2:] == ["echo"]
KEY = re.compile(rb"^sec-websocket-key:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


class Invocation(msgspec.Struct):
    """Just enough of a hub message: the audio is decoded from base64 in the same pass."""

    type: int
    invocationId: str = ""
    arguments: tuple[bytes, ...] = ()


decode = msgspec.json.Decoder(Invocation).decode


def ws_text(payload: bytes) -> bytes:
    size = len(payload)
    head = b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big"))
    return head + payload


def audio_frame(at: int) -> bytes:
    audio = base64.b64encode(AUDIO[at : at + 960])
    return ws_text(b'{"type":1,"target":"AudioReceived","arguments":["%s"]}\x1e' % audio)


class Connection(asyncio.Protocol):
    """One client. `slots` holds the connections that are played to, spread over a 20 ms round."""

    slots: tuple[set["Connection"], ...] = tuple(set() for _ in range(SLOTS))
    opened = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.pending = b""
        self.handle = self.upgrade
        self.slot: set[Connection] = set()
        self.greeted = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.slot.discard(self)

    def data_received(self, data: bytes) -> None:
        self.pending += data
        self.handle()

    def upgrade(self) -> None:
        head, separator, rest = self.pending.partition(b"\r\n\r\n")
        if not separator:
            return
        accept = hashlib.sha1(KEY.search(head)[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        self.pending, self.handle = rest, self.exchange

    def exchange(self) -> None:
        data, at, answer = self.pending, 0, []
        while len(data) >= at + 6:
            size, body = data[at + 1] & 0x7F, at + 2
            if size == 126:
                size, body = int.from_bytes(data[body : body + 2], "big"), body + 2
            if len(data) < body + 4 + size:
                break
            if data[at] & 0x0F == 8:
                self.transport.close()
                return
            payload = apply_mask(data[body + 4 : body + 4 + size], data[body : body + 4])
            at = body + 4 + size
            answer += [self.answer(record) for record in payload.split(b"\x1e") if record]
        self.pending = data[at:]
        if answer:
            self.transport.write(b"".join(answer))

    def answer(self, record: bytes) -> bytes:
        if not self.greeted:
            self.greeted = True
            self.slot = Connection.slots[Connection.opened % SLOTS]
            Connection.opened += 1
            if not ECHOES:
                self.slot.add(self)
            return ws_text(b"{}\x1e")
        message = decode(record)
        if message.type != 1:
            return b""
        completion = ws_text(b'{"type":3,"invocationId":"%s","result":null}\x1e' % message.invocationId.encode())
        return audio_frame(0) + completion if ECHOES else completion


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=2048)
    began, tick = perf_counter(), 0
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        while began + tick * SLOT_SECONDS <= perf_counter():
            at = tick % 50 * 960
            for connection in Connection.slots[tick % SLOTS]:
                connection.transport.write(audio_frame(at))
            tick += 1
        await asyncio.sleep(began + tick * SLOT_SECONDS - perf_counter())


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    run(main(int(sys.argv[1])))
