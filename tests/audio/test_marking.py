"""Who marks and who reads: a caller's utterance, an agent's voice in parts, what a client played."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import numpy as np
import pytest
from speech_samples import silence

from voisnap_mock import decode_speech
from voisnap_mock.agents.script import Voice
from voisnap_mock.audio.frames import AGENT_FRAME_BYTES, write_wav
from voisnap_mock.audio.marking import AgentMarker, caller_speech
from voisnap_mock.audio.tts import LocalSynthesizer, say
from voisnap_mock.engine.events import Speech
from voisnap_mock.errors import SpeechError

REPLY = "Hi, this is Acme. How can I help you today? Your number is 4179; isn't it?"


async def speak(text: str, voice: Voice) -> list[Speech]:
    synthesizer = LocalSynthesizer()
    await synthesizer.start()
    try:
        return [speech async for speech in synthesizer.speak(text, voice)]
    finally:
        await synthesizer.close()


def marked_reply(text: str = REPLY, *, voice: Voice | None = None, reply: int = 1) -> list[Speech]:
    marker = AgentMarker(text, reply=reply, item=0)
    return [marker.mark(speech) for speech in asyncio.run(speak(text, voice or Voice(engine="tone")))]


# --- The caller -----------------------------------------------------------------------------------------------------


def test_an_utterance_carries_its_text_exactly_and_is_the_same_every_time() -> None:
    pcm = caller_speech("It's Mr. O'Brien - 42 Main St., OK?")
    decoded = decode_speech(pcm, 16_000)
    assert decoded.text == "It's Mr. O'Brien - 42 Main St., OK?"
    assert [utterance.coverage for utterance in decoded.utterances] == [1.0]
    assert caller_speech("It's Mr. O'Brien - 42 Main St., OK?") == pcm


def test_it_sounds_like_the_unmarked_one() -> None:
    pcm, plain = caller_speech("I want a refund"), say("I want a refund")
    assert len(pcm) == len(plain)
    moved = np.frombuffer(pcm, "<i2").astype(int) - np.frombuffer(plain, "<i2")
    assert np.abs(moved).max() <= 16


def test_where_there_is_no_voice_tones_carry_the_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pyttsx3").mkdir()
    (tmp_path / "pyttsx3" / "__init__.py").write_text("raise ImportError('gone')")
    monkeypatch.syspath_prepend(tmp_path)
    pcm = caller_speech("I want a refund.")
    assert "tones are used instead" in caplog.text
    assert decode_speech(pcm, 16_000).text == "I want a refund."
    assert len(pcm) > 32_000


def test_what_cannot_be_spoken_is_refused() -> None:
    with pytest.raises(SpeechError, match="nothing to say"):
        caller_speech("  ")


# --- The agent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["pyttsx3", "tone"])
def test_a_reply_in_parts_is_one_utterance(engine: str) -> None:
    parts = marked_reply(voice=Voice(engine=engine))  # type: ignore[arg-type]
    assert len(parts) > 2
    assert all(len(part.pcm) % AGENT_FRAME_BYTES == 0 for part in parts)
    (utterance,) = decode_speech(b"".join(part.pcm for part in parts)).utterances
    assert utterance.text == REPLY
    assert utterance.speaker == "agent"
    assert utterance.missing == ()


def test_a_part_that_was_lost_is_missed_to_the_word() -> None:
    parts = marked_reply()
    del parts[1]
    (utterance,) = decode_speech(b"".join(part.pcm for part in parts)).utterances
    (gap,) = utterance.missing
    assert [*REPLY.split()[: gap.start], *REPLY.split()[gap.stop :]] == utterance.text.split()


def test_a_reply_that_was_broken_off_tells_how_far_it_came() -> None:
    pcm = b"".join(part.pcm for part in marked_reply())
    (utterance,) = decode_speech(pcm[: len(pcm) // 3 // 2 * 2]).utterances
    assert REPLY.startswith(utterance.text)
    assert utterance.missing == (range(len(utterance.words), utterance.total),)


def test_replies_of_the_same_text_are_two() -> None:
    pcm = b"".join(part.pcm for reply in (1, 2) for part in marked_reply(reply=reply))
    assert [utterance.text for utterance in decode_speech(pcm).utterances] == [REPLY, REPLY]


def test_a_recording_without_word_times_is_marked_all_over() -> None:
    marker = AgentMarker("Thank you for calling.  Goodbye.", reply=1, item=0)
    hum = np.rint(3000 * np.sin(np.arange(36_000) / 30)).astype("<i2").tobytes()
    (utterance,) = decode_speech(marker.mark(Speech(hum + b"\x01\x00")).pcm).utterances
    assert utterance.text == "Thank you for calling. Goodbye."
    assert utterance.words[0].begin == 0.0
    assert utterance.words[-1].end == pytest.approx(1.5, abs=0.05)


def test_speech_without_words_stays_as_it_is() -> None:
    assert AgentMarker("", reply=1, item=0).mark(Speech(bytes(1920))) == Speech(bytes(1920))
    assert AgentMarker("Hello.", reply=1, item=0).mark(Speech(b"")) == Speech(b"")


# --- What a client played -------------------------------------------------------------------------------------------


def test_a_wav_file_is_read_channel_by_channel_whatever_its_format() -> None:
    agent = np.frombuffer(b"".join(part.pcm for part in marked_reply()), "<i2")
    both = np.zeros((len(agent), 2), "<i2")
    both[:, 1] = agent
    body = both.tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 2, 24_000, 96_000, 4, 16, b"data", len(body)
    )
    assert decode_speech(header + body).text == REPLY
    assert decode_speech(write_wav(agent.tobytes(), 24_000)).text == REPLY
    floats = (agent / np.float32(32768)).astype("<f4").tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 3, 1, 24_000, 96_000, 4, 32, b"data", len(floats)
    )
    assert decode_speech(header + floats).text == REPLY


def test_unmarked_audio_tells_nothing() -> None:
    assert decode_speech(silence(2.0).tobytes()).text == ""
    assert decode_speech(b"").utterances == ()


def test_half_a_sample_and_half_a_file_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        decode_speech(b"abc")
    with pytest.raises(SpeechError, match="cut off"):
        decode_speech(write_wav(bytes(3200), 24_000)[:1000])
