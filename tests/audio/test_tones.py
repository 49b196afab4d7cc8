import array

import pytest

from voisnap_mock.audio.frames import seconds
from voisnap_mock.audio.tones import speak_tones


def peak(pcm: bytes) -> int:
    return max(map(abs, array.array("h", pcm)), default=0)


def test_there_is_one_tone_per_word_and_silence_between_them() -> None:
    speech = speak_tones(["Hello,", "how", "are", "you?"], rate=175, volume=1.0)
    assert [word.text for word in speech.words] == ["Hello,", "how", "are", "you?"]
    at = 0.0
    for word in speech.words:
        assert peak(speech.pcm[round(at * 24000) * 2 : round(word.begin * 24000) * 2]) == 0
        assert peak(speech.pcm[round(word.begin * 24000) * 2 : round(word.end * 24000) * 2]) > 7000
        at = word.end
    assert len(speech.pcm) % 960 == 0


def test_they_last_about_as_long_as_speech_would() -> None:
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    length = {rate: seconds(speak_tones(words, rate=rate, volume=1.0).pcm, 24000) for rate in (80, 175, 450)}
    assert length[175] == pytest.approx(len(words) * 60 / 175, rel=0.3)
    assert length[80] > length[175] > length[450] > 0.5


def test_volume_counts_and_a_word_always_sounds_the_same() -> None:
    loud, quiet = (speak_tones(["hello"], rate=175, volume=volume).pcm for volume in (1.0, 0.25))
    assert peak(quiet) == pytest.approx(peak(loud) / 4, rel=0.01)
    assert speak_tones(["hello"], rate=175, volume=1.0).pcm == loud


def test_no_words_are_no_sound() -> None:
    assert speak_tones([], rate=175, volume=1.0).pcm == b""
