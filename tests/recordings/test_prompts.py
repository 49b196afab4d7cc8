import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from voisnap_mock.audio.frames import seconds, write_wav
from voisnap_mock.errors import SpeechError
from voisnap_mock.recordings.prompts import Recordings


def tone(rate: int, duration: float, *, silence: float = 0.0) -> bytes:
    sound = np.rint(8000 * np.sin(2 * np.pi * 440 * np.arange(round(rate * duration)) / rate)).astype("<i2").tobytes()
    quiet = bytes(2 * round(rate * silence))
    return quiet + sound + quiet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "hello.wav").write_bytes(write_wav(tone(8000, 1.0, silence=0.5), 8000))
    return folder


@pytest.mark.parametrize("rate", [8000, 11025, 24000, 48000])
def test_a_prompt_of_any_rate_becomes_agent_audio_of_the_same_length(folder: Path, rate: int) -> None:
    (folder / "prompts" / "x.wav").write_bytes(write_wav(tone(rate, 1.5), rate))
    speech = Recordings(folder).prompt("prompts/x.wav")
    assert seconds(speech.pcm, 24000) == pytest.approx(1.5, abs=0.001)
    assert speech.words == ()


def test_words_lie_in_order_within_the_part_that_is_not_silent(folder: Path) -> None:
    words = Recordings(folder).prompt("prompts/hello.wav", "Welcome to a  company").words
    assert [word.text for word in words] == ["Welcome", "to", "a", "company"]
    assert words[0].begin == pytest.approx(0.5, abs=0.03)
    assert words[-1].end == pytest.approx(1.5, abs=0.03)
    assert all(before.end == after.begin for before, after in pairwise(words))
    assert words[0].end - words[0].begin > words[2].end - words[2].begin


def test_words_of_a_silent_prompt_are_spread_over_all_of_it(folder: Path) -> None:
    (folder / "silent.wav").write_bytes(write_wav(bytes(48000), 24000))
    words = Recordings(folder).prompt("silent.wav", "so quiet").words
    assert (words[0].begin, words[-1].end) == (0.0, 1.0)


def test_a_prompt_is_read_again_only_when_the_file_changed(folder: Path) -> None:
    recordings = Recordings(folder)
    path = folder / "prompts" / "hello.wav"
    first = recordings.prompt("prompts/hello.wav")
    assert recordings.prompt("prompts/hello.wav").pcm is first.pcm
    path.write_bytes(write_wav(tone(8000, 0.3), 8000))
    os.utime(path, ns=(1, 1))
    assert seconds(recordings.prompt("prompts/hello.wav").pcm, 24000) == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize(
    "wav",
    [
        "../secret.wav",
        "prompts/../../secret.wav",
        "/etc/passwd",
        "C:\\secret.wav",
        "C:secret.wav",
        "a\\b.wav",
        "a\0.wav",
    ],
)
def test_a_path_that_leads_out_of_the_folder_is_refused(folder: Path, wav: str) -> None:
    (folder.parent / "secret.wav").write_bytes(write_wav(tone(8000, 0.1), 8000))
    with pytest.raises(SpeechError, match=r"is not a path below .*expected one like 'prompts/hello\.wav'"):
        Recordings(folder).prompt(wav)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(folder: Path) -> None:
    secret = folder.parent / "secret.wav"
    secret.write_bytes(write_wav(tone(8000, 0.1), 8000))
    (folder / "prompts" / "out.wav").symlink_to(secret)
    (folder / "up").symlink_to(folder.parent)
    (folder / "prompts" / "same.wav").symlink_to("hello.wav")
    recordings = Recordings(folder)
    for wav in ("prompts/out.wav", "up/secret.wav"):
        with pytest.raises(SpeechError, match="is a link that leads out of"):
            recordings.prompt(wav)
    assert recordings.prompt("prompts/same.wav") == recordings.prompt("prompts/hello.wav")


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert Recordings(tmp_path / "link").prompt("prompts/hello.wav").pcm


def test_a_missing_prompt_names_the_ones_that_are_there(folder: Path) -> None:
    with pytest.raises(
        SpeechError, match=r"'prompts/helo\.wav' is not in .*No such file.*the WAV files there are hello"
    ):
        Recordings(folder).prompt("prompts/helo.wav")


def test_a_folder_that_does_not_exist_is_an_error_only_when_asked(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path / "nowhere")
    with pytest.raises(SpeechError, match="nowhere: No such file"):
        recordings.prompt("prompts/hello.wav")


def test_what_is_no_file_or_no_wav_file_is_told(folder: Path) -> None:
    (folder / "song.wav").write_bytes(b"ID3" + bytes(100))
    os.mkfifo(folder / "pipe.wav")
    (folder / "loop.wav").symlink_to("loop.wav")
    recordings = Recordings(folder)
    for wav, says in {
        "song.wav": "not a WAV file",
        "pipe.wav": "is not a file",
        "prompts": "is not a file",
        "loop.wav": "is not in",
        "x" * 300: "File name too long",
    }.items():
        with pytest.raises(SpeechError, match=says):
            recordings.prompt(wav)


def test_missing_gives_the_reason_for_each_prompt_once(folder: Path) -> None:
    (folder / "song.wav").write_bytes(b"ID3" + bytes(100))
    missing = Recordings(folder).missing(["prompts/hello.wav", "a.wav", "a.wav", "song.wav", "../b.wav"])
    assert list(missing) == ["a.wav", "song.wav", "../b.wav"]
    assert "No such file" in missing["a.wav"]
    assert "not a WAV file" in missing["song.wav"]
