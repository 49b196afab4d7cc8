"""The headset, with a sound library of our own: no test machine has a microphone."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from voisnap_mock.cli.sound import Headset
from voisnap_mock.errors import ConfigError


class PortAudioError(Exception):
    pass


class Stream:
    made: list[Stream]

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.is_running = False
        self.made.append(self)

    def start(self) -> None:
        self.is_running = True

    def close(self) -> None:
        self.is_running = False

    def call(self, data: bytearray) -> None:
        """As the library does it: on a thread of its own."""
        thread = threading.Thread(target=self.options["callback"], args=(data, len(data) // 2, None, None))
        thread.start()
        thread.join()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """The streams that were opened, in order: microphone, loudspeaker."""
    made: list[Stream] = []
    kind = type("FakeStream", (Stream,), {"made": made})
    library = SimpleNamespace(RawInputStream=kind, RawOutputStream=kind, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    return made


async def test_the_microphone_is_heard_in_caller_frames_on_the_loop(streams: list[Stream]) -> None:
    heard: list[bytes] = []
    arrived = asyncio.Event()

    def speak(pcm: bytes) -> None:
        heard.append(pcm)
        arrived.set()

    with Headset() as headset:
        microphone = streams[0]
        assert (microphone.options["samplerate"], microphone.options["blocksize"]) == (16000, 320)
        headset.connect(speak)
        microphone.call(bytearray(b"\1\2" * 320))
        await arrived.wait()

    assert heard == [b"\1\2" * 320]
    assert not any(stream.is_running for stream in streams)


def test_the_loudspeaker_plays_what_came_and_silence_after_it(streams: list[Stream]) -> None:
    with Headset() as headset:
        assert streams[1].options["samplerate"] == 24000
        headset.play(b"\1\0\2\0\3\0")
        first, second = bytearray(4), bytearray(4)
        streams[1].call(first)
        streams[1].call(second)

    assert (bytes(first), bytes(second)) == (b"\1\0\2\0", b"\3\0\0\0")


def test_a_machine_without_sound_is_named(streams: list[Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: Any) -> Stream:
        raise PortAudioError("no default device")

    monkeypatch.setattr(sys.modules["sounddevice"], "RawOutputStream", fail)

    with pytest.raises(ConfigError, match="no usable microphone and loudspeaker: no default device"), Headset():
        pass


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    with pytest.raises(ConfigError, match=r"pip install 'voisnap-mock\[mic\]'"), Headset():
        pass
