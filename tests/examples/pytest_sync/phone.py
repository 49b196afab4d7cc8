"""The program under test: a small telephone, with the SignalR client `signalrcore`."""

import base64
import threading
import wave

from signalrcore.hub_connection_builder import HubConnectionBuilder

FRAME = 640  # 20 ms of PCM: 16 kHz, 16 bit, mono


class Phone:
    """A call that is on. `heard` is what the agent has said, `ended` why the call is over, `errors` what went wrong."""

    def __init__(self, base_url, token, agent):
        url = f"{base_url}/hubs/voice?agentId={agent}&access_token={token}"
        self.heard, self.errors, self.ended = [], [], None
        self._open, self._over = threading.Event(), threading.Event()
        self._hub = HubConnectionBuilder().with_url(url).build()
        self._hub.on_open(self._open.set)
        self._hub.on("TranscriptionOf", lambda arguments: self._hear(**arguments[0]))
        self._hub.on("Error", lambda arguments: self.errors.append(arguments[0]["code"]))
        self._hub.on("SessionEnded", lambda arguments: self._end(arguments[0]["reason"]))
        self._hub.start()
        if not self._open.wait(10):
            raise ConnectionError(f"{base_url} does not answer")

    def play(self, path):
        """Say what is in a WAV file, and then nothing for a second."""
        with wave.open(str(path)) as file:
            pcm = file.readframes(file.getnframes()) + bytes(50 * FRAME)
        for at in range(0, len(pcm), FRAME):
            self._hub.send("SendAudioAsync", [base64.b64encode(pcm[at : at + FRAME].ljust(FRAME, b"\0")).decode()])

    def press(self, key):
        self._hub.send("SendDtmfAsync", [key])

    def hang_up(self):
        self._hub.send("EndSessionAsync", ["user_ended"])
        self._over.wait(10)

    def _hear(self, text, isFinal):
        if isFinal:
            self.heard.append(text)

    def _end(self, reason):
        self.ended = reason
        self._hub.stop()
        self._over.set()
