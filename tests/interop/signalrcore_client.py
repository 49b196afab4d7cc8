"""Acts as an integrator's program would, with the unmodified `signalrcore`, and prints what it sees as JSON lines.

Understands the same plans as `node/client.mjs`, so that one set of tests judges both clients:

    python signalrcore_client.py '{"do": "voice", "url": "http://127.0.0.1:8647", "agent": "agt_support", "wavs": []}'
"""

from __future__ import annotations

import base64
import json
import logging
import os
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
import wave
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from signalrcore.hub_connection_builder import HubConnectionBuilder

FRAME_BYTES = 640  # 20 ms of PCM s16le mono at 16 kHz
FRAME_SECONDS = 0.02
EVENTS = {
    "voice": (
        "Transcription",
        "TranscriptionOf",
        "SessionStarted",
        "SessionEnded",
        "TransferInitiated",
        "Error",
        "Reconnected",
    ),
    "chat": (
        "MessageReceived",
        "TypingIndicator",
        "ConversationEnded",
        "SessionStarted",
        "SessionEnded",
        "Error",
        "Reconnected",
    ),
}
_printing = threading.Lock()


def emit(event: str, data: object = None) -> None:
    with _printing:
        print(json.dumps({"event": event, "data": data}), flush=True)


def login(plan: dict[str, Any]) -> str:
    if "token" in plan:
        return str(plan["token"])
    body = {"email": plan.get("email", "dev@example.test"), "password": plan.get("password", "dev")}
    request = urllib.request.Request(
        f"{plan['url']}/api/v1/auth/login", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as response:
            status, answer = response.status, json.load(response)
    except urllib.error.HTTPError as error:
        status, answer = error.code, json.load(error)
    emit("login", {"status": status, "body": list(answer)})
    return str(answer.get("accessToken"))


class Line:
    """One hub connection, the events it has seen, and a way to wait for the next one of a kind."""

    def __init__(self, plan: dict[str, Any], hub: str, token: str) -> None:
        self.url = f"{plan['url']}/hubs/{hub}?{urlencode(plan.get('query', {'agentId': plan.get('agent')}))}"
        options: dict[str, Any] = {}
        if plan.get("tokenInUrl"):
            self.url += f"&access_token={token}"
        else:
            options["access_token_factory"] = lambda: token
        if plan.get("skipNegotiation"):
            # Without a negotiation this client needs the address of the socket itself.
            self.url = self.url.replace("http", "ws", 1)
            options["skip_negotiation"] = True
        builder = HubConnectionBuilder().with_url(self.url, options=options).configure_logging(logging.CRITICAL)
        if plan.get("reconnect"):
            builder.with_automatic_reconnect({"type": "interval", "intervals": [0.1, 0.2, 0.4, 0.8]})
        self.connection = builder.build()
        self.audio_bytes = 0
        self.audio_chunks: Counter[int] = Counter()
        self._seen: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        for target in EVENTS[hub]:
            self.connection.on(target, lambda arguments, target=target: self._note(target, arguments[0]))
        self.connection.on("AudioReceived", self._take_audio)
        self.connection.on_open(lambda: self._note("opened", None))
        self.connection.on_close(lambda: self._note("closed", None))
        self.connection.on_reconnect(lambda: self._note("reconnected", None))
        self.connection.on_error(lambda completion: self._answers.put({"error": completion.error}))

    def start(self, *, timeout: float | None = None) -> None:
        """Connect; this client may send only after its `on_open`."""
        self.connection.start()
        self.next("opened", timeout=timeout)

    def _note(self, event: str, data: Any) -> None:
        if event == "SessionStarted":
            # What a program has to do to get its session back: the library asks for the first URL again otherwise.
            self.connection.transport.url = f"{self.url}&sessionId={data['sessionId']}"
        if event != "opened":
            emit(event, data)
        self._seen.put((event, data))
        if event == "SessionEnded" or (event == "Error" and not data["recoverable"]):
            # As the documentation shows. This client needs it: it comes back after a Close that forbids just that.
            self.connection.stop()

    def _take_audio(self, arguments: list[str]) -> None:
        size = len(base64.b64decode(arguments[0], validate=True))
        self.audio_bytes += size
        self.audio_chunks[size] += 1

    def next(self, event: str, fits: Callable[[Any], bool] = lambda data: True, *, timeout: float | None = None) -> Any:
        """The next event of this kind for which `fits` holds; events in between are passed over."""
        while True:
            seen, data = self._seen.get(timeout=timeout)
            if seen == event and fits(data):
                return data
            if seen == "closed" and timeout is not None:
                raise queue.Empty

    def invoke(self, method: str, *arguments: Any, timeout: float | None = None) -> dict[str, Any]:
        """Call a hub method and wait for its completion."""
        self.connection.send(
            method, list(arguments), lambda completion: self._answers.put({"result": completion.result})
        )
        answer: dict[str, Any] = self._answers.get(timeout=timeout)
        return answer


class Microphone:
    """Keeps the line busy as a telephone does: a frame every 20 ms on an absolute schedule, speech or silence."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._frames: deque[bytes] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def play(self, path: str) -> None:
        with wave.open(path) as recording:
            pcm = recording.readframes(recording.getnframes())
        self._frames.extend(
            pcm[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for at in range(0, len(pcm), FRAME_BYTES)
        )

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        number = 0
        while not self._stopped.wait(max(0.0, began + number * FRAME_SECONDS - time.monotonic())):
            transport = self._line.connection.transport
            if transport.is_connected():
                frame = self._frames.popleft() if self._frames else bytes(FRAME_BYTES)
                # The socket may go away under the call, as any of several errors; the connection's callbacks tell.
                with suppress(Exception):
                    self._line.connection.send("SendAudioAsync", [base64.b64encode(frame).decode()])
            number += 1


def is_final(data: dict[str, Any]) -> bool:
    return bool(data["isFinal"])


def voice(plan: dict[str, Any]) -> None:
    """Call, hear the greeting, say each WAV file and wait for the answer, press the keys, hang up."""
    line = Line(plan, "voice", login(plan))
    line.start()
    line.next("SessionStarted")
    microphone = Microphone(line)
    line.next("TranscriptionOf", is_final)
    for path in plan.get("wavs", []):
        microphone.play(path)
        line.next("Transcription", is_final)
        line.next("TranscriptionOf", is_final)
        if plan.get("loseSocketAfter") == path:
            emit("cut me off")
            line.next("Reconnected")
    for digit in plan.get("dtmf", ""):
        line.connection.send("SendDtmfAsync", [digit])
    if not plan.get("agentEnds"):
        line.connection.send("EndSessionAsync", ["user_ended"])
    line.next("SessionEnded")
    line.next("closed")
    microphone.stop()
    emit("audio", {"bytes": line.audio_bytes, "chunks": line.audio_chunks})


def chat(plan: dict[str, Any]) -> None:
    """Chat: wait for the greeting, send each message and wait for the reply, end."""
    line = Line(plan, "chat", login(plan))
    line.start()
    line.next("SessionStarted")
    line.next("MessageReceived", is_final)
    for content in plan.get("messages", []):
        line.invoke("TypingAsync")
        line.invoke("SendMessageAsync", {"content": content, "metadata": {}})
        line.next("MessageReceived", is_final)
        if plan.get("loseSocketAfter") == content:
            emit("cut me off")
            line.next("Reconnected")
    if not plan.get("agentEnds"):
        line.connection.send("EndSessionAsync", [])
    line.next("SessionEnded")
    line.next("closed")


def probe(plan: dict[str, Any]) -> None:
    """Connect and tell how that went, until the server closes."""
    line = Line(plan, plan.get("hub", "voice"), login(plan))
    try:
        line.start()
    except Exception as error:  # noqa: BLE001  the client has no common root for its errors
        emit("refused", f"{type(error).__name__}: {error}")
        return
    emit("connected")
    line.next("closed")


def watch(plan: dict[str, Any]) -> None:
    """Chat as far as that goes, never waiting longer than `patience` ms, and tell in which state that left it."""
    line = Line(plan, "chat", login(plan))
    patience = plan["patience"] / 1000
    started = "connected"
    try:
        line.start(timeout=patience)
    except Exception as error:  # noqa: BLE001  the client has no common root for its errors
        started = f"{type(error).__name__}: {error}"
    emit("connected" if started == "connected" else "refused", started)
    for content in plan["messages"] if started == "connected" else []:
        with suppress(queue.Empty):
            line.next("MessageReceived", is_final, timeout=patience)
        if not line.connection.transport.is_connected():
            break
        try:
            emit("answer", line.invoke("SendMessageAsync", {"content": content, "metadata": {}}, timeout=patience))
        except queue.Empty:
            emit("answer", "no answer")
    with suppress(queue.Empty):
        if line.connection.transport.is_connected():
            line.next("MessageReceived", is_final, timeout=patience)
    emit("state", str(line.connection.transport.state.name))
    emit("done")
    # The threads of this client do not end with a server that is silent.
    os._exit(0)


def invoke(plan: dict[str, Any]) -> None:
    """Call hub methods by name and tell what each one answers."""
    hub = plan.get("hub", "voice")
    line = Line(plan, hub, login(plan))
    line.start()
    line.next("SessionStarted")
    for method, *arguments in plan["calls"]:
        emit("answer", {"method": method, **line.invoke(method, *arguments)})
    line.connection.send("EndSessionAsync", ["user_ended"] if hub == "voice" else [])
    line.next("closed")


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    {"voice": voice, "chat": chat, "probe": probe, "watch": watch, "invoke": invoke}[plan["do"]](plan)
    emit("done")
