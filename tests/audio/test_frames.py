import math
import struct
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.frames import (
    AGENT_RATE,
    CALLER_RATE,
    Framer,
    read_wav,
    resample,
    seconds,
    wav_seconds,
    write_wav,
)
from voisnap_mock.errors import SpeechError

PCM, FLOAT, ALAW, MULAW = 1, 3, 6, 7


def tone(rate: int, hertz: float = 440.0, duration: float = 0.5, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * math.pi * hertz * np.arange(int(rate * duration)) / rate)


def pcm_of(samples: np.ndarray) -> bytes:
    return np.rint(samples * 32767).astype("<i2").tobytes()


def wav(
    body: bytes,
    *,
    code: int = PCM,
    bits: int = 16,
    channels: int = 1,
    rate: int = 8000,
    extensible: bool = False,
    before_data: bytes = b"",
    data_size: int | None = None,
) -> bytes:
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 0xFFFE if extensible else code, channels, rate, rate * block, block, bits)
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 0, code) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + before_data
    chunks += b"data" + struct.pack("<I", len(body) if data_size is None else data_size) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def rms(pcm: bytes) -> float:
    return float(np.sqrt(np.square(np.frombuffer(pcm, "<i2").astype(float)).mean()))


# --- Framer ---------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_any_chunking_gives_the_same_frames_and_loses_nothing(chunks: list[bytes], size: int) -> None:
    framer = Framer(size)
    frames = [frame for chunk in chunks for frame in framer.push(chunk)]
    assert all(len(frame) == size for frame in frames)
    assert len(framer.rest) < size
    assert b"".join(frames) + framer.rest == b"".join(chunks)


def test_flushing_fills_the_last_frame_with_silence() -> None:
    framer = Framer(4)
    assert framer.push(b"abcde") == [b"abcd"]
    assert framer.flush() == b"e\0\0\0"
    assert framer.flush() is None


# --- Resampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_rate", [8000, 16000, 22050, 44100, 48000])
def test_resampling_keeps_duration_level_and_pitch(from_rate: int) -> None:
    before = pcm_of(tone(from_rate, duration=1.0))
    after = resample(before, from_rate, AGENT_RATE)
    assert abs(len(after) // 2 - AGENT_RATE) <= 1
    assert rms(after) == pytest.approx(rms(before), rel=0.01)
    spectrum = np.abs(np.fft.rfft(np.frombuffer(after, "<i2").astype(float)))
    assert abs(int(np.argmax(spectrum)) - 440) <= 1


def test_digital_silence_stays_exactly_silent() -> None:
    assert not any(resample(bytes(2 * 22050), 22050, AGENT_RATE))


def test_resampling_clips_instead_of_wrapping() -> None:
    square = np.where(np.arange(22050) // 50 % 2, 32767, -32768).astype("<i2").tobytes()
    after = np.frombuffer(resample(square, 22050, AGENT_RATE), "<i2").astype(int)
    # A wrapped sample would stand alone among neighbours of the other sign.
    middle = after[1000:-1000].reshape(-1)
    assert after.max() == 32767
    assert after.min() == -32768
    assert (np.abs(np.diff(middle)) > 60000).mean() < 0.01


def test_resampling_nothing_or_to_the_same_rate_is_nothing_to_do() -> None:
    assert resample(b"", 8000, 16000) == b""
    assert resample(b"ab", 8000, 8000) == b"ab"


# --- WAV ------------------------------------------------------------------------------------------------------


def as_24_bit(samples: np.ndarray) -> bytes:
    return b"".join(int(value * 8388607).to_bytes(3, "little", signed=True) for value in samples)


SAMPLES = tone(8000, duration=0.1)
READABLE = {
    "8 bits": wav(np.rint(SAMPLES * 127 + 128).astype(np.uint8).tobytes(), bits=8),
    "16 bits": wav(pcm_of(SAMPLES)),
    "24 bits": wav(as_24_bit(SAMPLES), bits=24),
    "32 bits": wav(np.rint(SAMPLES * 2147483647).astype("<i4").tobytes(), bits=32),
    "float 32": wav(SAMPLES.astype("<f4").tobytes(), code=FLOAT, bits=32),
    "float 64": wav(SAMPLES.astype("<f8").tobytes(), code=FLOAT, bits=64),
    "extensible 16 bits": wav(pcm_of(SAMPLES), extensible=True),
    "extensible float": wav(SAMPLES.astype("<f4").tobytes(), code=FLOAT, bits=32, extensible=True),
    "stereo": wav(np.repeat(np.frombuffer(pcm_of(SAMPLES), "<i2"), 2).tobytes(), channels=2),
    "six channels of floats": wav(np.repeat(SAMPLES, 6).astype("<f4").tobytes(), code=FLOAT, bits=32, channels=6),
    "a chunk of odd length before the data": wav(
        pcm_of(SAMPLES), before_data=b"LIST" + struct.pack("<I", 3) + b"abc\0"
    ),
    "written to a pipe, size unknown": wav(pcm_of(SAMPLES), data_size=0xFFFF_FFFF),
}


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE)
def test_every_usual_format_is_read_as_the_same_sound(data: bytes) -> None:
    pcm, rate = read_wav(data)
    assert rate == 8000
    difference = np.frombuffer(pcm, "<i2").astype(float) - SAMPLES * 32767
    assert len(pcm) // 2 == len(SAMPLES)
    assert np.abs(difference).max() <= (260 if data is READABLE["8 bits"] else 2)


@pytest.mark.parametrize(
    ("code", "byte", "sample"),
    [
        (MULAW, 0x00, -32124),
        (MULAW, 0x80, 32124),
        (MULAW, 0xFF, 0),
        (MULAW, 0x7F, 0),
        (MULAW, 0xF0, 120),
        (ALAW, 0xD5, 8),
        (ALAW, 0x55, -8),
        (ALAW, 0xAA, 32256),
        (ALAW, 0x2A, -32256),
        (ALAW, 0xC5, 264),
    ],
)
def test_telephone_formats_are_expanded_as_g711_says(code: int, byte: int, sample: int) -> None:
    pcm, _ = read_wav(wav(bytes([byte]), code=code, bits=8))
    assert struct.unpack("<h", pcm)[0] == sample


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE)
def test_the_headers_alone_tell_how_long_it_is(data: bytes) -> None:
    assert wav_seconds(BytesIO(data), len(data)) == pytest.approx(0.1)
    assert wav_seconds(BytesIO(data[:-400]), len(data) - 400) < 0.1


def test_the_headers_of_a_file_that_is_none_are_refused() -> None:
    for data in (b"", b"RIFF", b"nonsense" * 100, write_wav(b"", 8000)[:36], b"RIFF\0\0\0\0WAVE" + bytes(80_000)):
        with pytest.raises(SpeechError):
            wav_seconds(BytesIO(data), len(data))


def test_channels_are_averaged() -> None:
    pcm, _ = read_wav(wav(struct.pack("<4h", 1000, 3000, -1000, -3000), channels=2))
    assert struct.unpack("<2h", pcm) == (2000, -2000)


def test_floats_out_of_range_are_clipped_and_no_number_is_silence() -> None:
    pcm, _ = read_wav(wav(struct.pack("<4f", 2.0, -2.0, math.nan, math.inf), code=FLOAT, bits=32))
    assert struct.unpack("<4h", pcm) == (32767, -32768, 0, 32767)


def test_a_half_sample_at_the_end_is_dropped() -> None:
    pcm, _ = read_wav(wav(b"\1\0\2\0\3"))
    assert pcm == b"\1\0\2\0"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends inside the RIFF header: it has 0 bytes"),
        (b"RIFF", "it has 4 bytes"),
        (b"ID3\x04" + bytes(40), "not a WAV file: it starts with b'ID3"),
        (b"RF64" + bytes(40), "RF64, expected RIFF"),
        (wav(b"")[:19], "no fmt chunk"),
        (wav(b"")[:30], "fmt chunk is cut off: 10 bytes of at least 16"),
        (wav(b"")[:36], "no data chunk"),
        (wav(b""), "no samples"),
        (wav(b"\1"), "no samples"),
        (wav(b"\1\0", data_size=100), "its data chunk says 100 bytes, 2 follow"),
        (wav(b"\1\0", code=0x55), "MP3 (0x0055) is not read here: expected PCM of 8, 16, 24 or 32 bits"),
        (wav(b"\1\0", code=0x4242), "unknown (0x4242)"),
        (wav(b"\1\0", bits=12), "samples of 12 bits"),
        (wav(b"\1\0", channels=0), "0 channels"),
        (wav(b"\1\0", rate=0), "0 samples per second, expected 1000 to 768000"),
        (wav(b"\1\0", extensible=True)[:50], "extensible fmt chunk is cut off"),
        (wav(b"\1\0", extensible=True).replace(b"\x00\xaa\x00\x38", b"\x01\xaa\x00\x38"), "sub-format"),
        (b"RIFF\0\0\0\0WAVEdata\2\0\0\0\1\0", "data chunk comes before the fmt chunk"),
    ],
)
def test_what_cannot_be_read_is_told_in_words(data: bytes, says: str) -> None:
    with pytest.raises(SpeechError) as caught:
        read_wav(data)
    assert says in str(caught.value)


@given(st.binary(max_size=200), st.integers(0, 60), st.binary(max_size=4))
def test_no_damage_does_more_than_raise_a_speech_error(body: bytes, at: int, patch: bytes) -> None:
    data = bytearray(wav(body))
    data[at : at + len(patch)] = patch
    try:
        pcm, rate = read_wav(bytes(data))
    except SpeechError:
        return
    assert len(pcm) % 2 == 0
    assert rate > 0


@given(st.binary(min_size=2).map(lambda data: data[: len(data) // 2 * 2]), st.sampled_from([8000, 16000, 24000]))
def test_what_is_written_is_read_again(pcm: bytes, rate: int) -> None:
    assert read_wav(write_wav(pcm, rate)) == (pcm, rate)


def test_seconds_counts_samples() -> None:
    assert seconds(bytes(640), CALLER_RATE) == 0.02


def test_importing_the_module_loads_neither_numpy_nor_soxr() -> None:
    code = "import sys, voisnap_mock.audio.frames; print(sorted({'numpy', 'soxr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
