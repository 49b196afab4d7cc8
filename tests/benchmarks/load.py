"""Places many paced calls on a hub and says how well they were served.

Every call sends one `SendAudioAsync` of 640 bytes each 20 ms, on an absolute schedule, and takes what comes: the
Completion gives a round trip, each `AudioReceived` a lateness against the call's own 20 ms grid. One process holds
about 400 calls on one core before it becomes the limit itself; `own_lag_ms` says whether it was.

Run as `python load.py URL CALLS SECONDS`; prints one JSON object.
"""

import asyncio
import base64
import json
import sys
from time import perf_counter  # uvloop's own clock counts whole milliseconds
from urllib.parse import urlsplit

import numpy as np

FRAME = 0.02
SLOTS = 10
IDS = 1000
QUIET = np.random.default_rng(1).integers(-4, 5, 320, dtype=np.int16).tobytes()


def masked_text(payload: bytes) -> bytes:
    """A client's text frame. The mask is zero: allowed, and the payload stays as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + payload


AUDIO_FRAMES = [
    masked_text(
        b'{"type":1,"invocationId":"%d","target":"SendAudioAsync","arguments":["%s"]}\x1e'
        % (number, base64.b64encode(QUIET))
    )
    for number in range(IDS)
]


class Call(asyncio.Protocol):
    """One call: `ready` is done when the SignalR handshake is answered."""

    def __init__(self, host: str, target: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.request = (
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.pending = b""
        self.upgraded = False
        self.sent = 0
        self.sent_at = [0.0] * IDS
        self.round_trips: list[float] = []
        self.audio_at: list[float] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("refused before the handshake"))

    def speak(self) -> None:
        number = self.sent % IDS
        self.sent_at[number] = perf_counter()
        self.transport.write(AUDIO_FRAMES[number])
        self.sent += 1

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        data = self.pending + data
        at = 0
        if not self.upgraded:
            head, separator, data = data.partition(b"\r\n\r\n")
            if not separator:
                self.pending = head
                return
            if b" 101 " not in head:
                self.ready.set_exception(ConnectionError(head.split(b"\r\n")[0].decode()))
                return
            self.upgraded = True
            self.transport.write(masked_text(b'{"protocol":"json","version":1}\x1e'))
        while len(data) >= at + 2:
            size, body = data[at + 1], at + 2
            if size == 126:
                size, body = int.from_bytes(data[body : body + 2], "big"), body + 2
            elif size == 127:
                size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
            if len(data) < body + size:
                break
            for record in data[body : body + size].split(b"\x1e"):
                self.take(record, now)
            at = body + size
        self.pending = data[at:]

    def take(self, record: bytes, now: float) -> None:
        if record == b"{}":
            self.ready.set_result(None)
        elif b'"AudioReceived"' in record:
            self.audio_at.append(now)
        elif record.startswith(b'{"type":3'):
            number = int(record.split(b'"invocationId":"', 1)[1].split(b'"', 1)[0])
            self.round_trips.append(now - self.sent_at[number])


def lateness(arrivals: list[float]) -> list[float]:
    """How late each message came against the 20 ms grid that its talk spurt's earliest message anchors."""
    late: list[float] = []
    times = np.array(arrivals)
    if len(times) == 0:
        return late
    for spurt in np.split(times, np.flatnonzero(np.diff(times) > 0.2) + 1):
        offsets = spurt - np.arange(len(spurt)) * FRAME
        late += list(offsets - offsets.min())
    return late


def milliseconds(values: list[float], percentile: float) -> float | None:
    return round(float(np.percentile(values, percentile)) * 1000, 2) if len(values) else None


async def place_calls(url: str, calls: int, seconds: float) -> dict[str, object]:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    placed: list[Call] = []
    gate = asyncio.Semaphore(32)

    async def connect() -> Call:
        async with gate:
            _, call = await loop.create_connection(
                lambda: Call(parts.netloc, f"{parts.path}?{parts.query}"), parts.hostname, parts.port
            )
            await call.ready
            return call

    placed = list(await asyncio.gather(*(connect() for _ in range(calls))))
    print("connected", file=sys.stderr, flush=True)
    began, tick, lags = perf_counter() + 0.05, 0, []
    settle = began + 1.0
    measured = False
    while (now := perf_counter()) < settle + seconds:
        if not measured and now >= settle:
            measured = True
            for call in placed:
                call.round_trips.clear()
                call.audio_at.clear()
            lags.clear()
            sent_before = sum(call.sent for call in placed)
            print("measuring", file=sys.stderr, flush=True)
        while began + tick * FRAME / SLOTS <= perf_counter():
            lags.append(perf_counter() - (began + tick * FRAME / SLOTS))
            for call in placed[tick % SLOTS :: SLOTS]:
                if not call.lost:
                    call.speak()
            tick += 1
        await asyncio.sleep(max(0.0, began + tick * FRAME / SLOTS - perf_counter()))
    print("measured", file=sys.stderr, flush=True)
    round_trips = [value for call in placed for value in call.round_trips]
    late = [value for call in placed for value in lateness(call.audio_at)]
    result = {
        "calls": calls,
        "held": sum(not call.lost for call in placed),
        "sent": sum(call.sent for call in placed) - sent_before,
        "completions": len(round_trips),
        "audio": sum(len(call.audio_at) for call in placed),
        "round_trip_ms_p50": milliseconds(round_trips, 50),
        "round_trip_ms_p99": milliseconds(round_trips, 99),
        "audio_late_ms_p99": milliseconds(late, 99),
        "own_lag_ms_p99": milliseconds(lags, 99),
    }
    for call in placed:
        call.transport.abort()
    return result


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    print(json.dumps(run(place_calls(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
