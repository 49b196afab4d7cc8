"""Microphone and loudspeaker of this machine, by the extra `mic`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from voisnap_mock.audio.frames import AGENT_RATE, CALLER_FRAME_BYTES, CALLER_RATE
from voisnap_mock.errors import ConfigError


class Headset:
    """The default microphone at 16 kHz and the default loudspeaker at 24 kHz, both mono; a context manager.

    The sound library calls back on threads of its own; `connect` brings the caller's audio to the loop.

    Raises:
        ConfigError: on entering, if the extra is not installed or there is no sound device.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._lock = threading.Lock()
        self._streams: list[Any] = []
        self._speak: Callable[[bytes], None] = lambda pcm: None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        try:
            import sounddevice
        except ImportError as error:
            raise ConfigError(
                "--mic needs the sounddevice package: pip install 'voisnap-mock[mic]', or use --say or --wav"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"--mic: the PortAudio library cannot be loaded ({error}); on Debian: apt-get install libportaudio2"
            ) from error
        try:
            self._streams.append(
                sounddevice.RawInputStream(
                    samplerate=CALLER_RATE,
                    blocksize=CALLER_FRAME_BYTES // 2,
                    channels=1,
                    dtype="int16",
                    callback=self._record,
                )
            )
            self._streams.append(
                sounddevice.RawOutputStream(samplerate=AGENT_RATE, channels=1, dtype="int16", callback=self._fill)
            )
            for stream in self._streams:
                stream.start()
        except sounddevice.PortAudioError as error:
            self._close()
            raise ConfigError(f"--mic: no usable microphone and loudspeaker: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def connect(self, speak: Callable[[bytes], None]) -> None:
        """From now on hand the microphone's audio to `speak`, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._speak = speak

    def play(self, pcm: bytes) -> None:
        """Play agent audio behind what is still waiting."""
        with self._lock:
            self._waiting += pcm

    def _record(self, indata: Any, frames: int, time: object, status: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._speak, bytes(indata))

    def _fill(self, outdata: Any, frames: int, time: object, status: object) -> None:
        size = len(outdata)
        with self._lock:
            piece = bytes(self._waiting[:size])
            del self._waiting[:size]
        outdata[:] = piece.ljust(size, b"\0")

    def _close(self) -> None:
        self._loop = None
        for stream in self._streams:
            stream.close()
        self._streams = []
