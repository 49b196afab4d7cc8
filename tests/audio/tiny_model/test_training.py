"""What is learnt from: utterances, what happens to them on the line, features and labels."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from voisnap_mock.audio.tiny_model import flite
from voisnap_mock.audio.tiny_model.corpus import HELD_BACK_VARIANTS, VARIANTS, Engine, prose, utterances
from voisnap_mock.audio.tiny_model.degradations import degraded
from voisnap_mock.audio.tiny_model.features import STEP, WIDTH, cepstra
from voisnap_mock.audio.tiny_model.jobs import JobFailed, do
from voisnap_mock.audio.tiny_model.phones import Phones
from voisnap_mock.audio.tiny_model.sentences import sentence, vocabulary
from voisnap_mock.audio.tiny_model.training_data import NO_LABEL, frame_labels, speak
from voisnap_mock.audio.voices import espeak_voice, variants

# --- Sentences and utterances ---------------------------------------------------------------------------------------


def test_sentences_are_made_of_the_vocabulary() -> None:
    rng = Random(5)
    said = {word for _ in range(3000) for word in sentence(rng).split()}
    assert said <= set(vocabulary())
    assert len(said) > 600


def test_the_same_seed_says_the_same() -> None:
    assert [sentence(Random(5)) for _ in range(5)] == [sentence(Random(5)) for _ in range(5)]


@pytest.mark.parametrize("engine", ["espeak", "flite"])
def test_an_utterance_depends_on_its_number_only(engine: Engine) -> None:
    assert utterances(engine, 1, 10, 5) == utterances(engine, 1, 0, 20)[10:15]
    assert utterances(engine, 1, 0, 5) != utterances(engine, 2, 0, 5)


def test_voices_that_are_held_back_are_never_learnt_from() -> None:
    used = {utterance.voice.partition("+")[2] for utterance in utterances("espeak", 1, 0, 4000)} - {""}
    assert used == set(VARIANTS)
    assert used.isdisjoint(HELD_BACK_VARIANTS)
    assert set(VARIANTS) | set(HELD_BACK_VARIANTS) <= set(variants().values())


def test_all_voices_exist() -> None:
    for utterance in utterances("espeak", 1, 0, 300):
        assert espeak_voice(utterance.voice)


def test_prose_is_ordinary_words() -> None:
    assert len(prose()) > 2000
    assert all(word == word.lower() for text in prose()[:100] for word in text.split())


# --- The line -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_degraded_utterance_is_in_place_and_within_range(seed: int) -> None:
    speech = np.zeros(16_000, np.int16)
    speech[8_000] = 20_000
    heard, before = degraded(speech, Random(seed))
    assert len(heard) >= 16_000 + before * 16_000
    assert np.abs(heard).max() <= 32_768
    assert (heard == np.rint(heard)).all()
    # Rooms and filters smear a click, they do not move it.
    assert np.abs(heard).argmax() == pytest.approx(before * 16_000 + 8_000, abs=40)


def test_the_same_seed_degrades_the_same_way() -> None:
    speech = np.random.default_rng(1).standard_normal(8000) * 1000
    one, same, other = (degraded(speech, Random(seed))[0] for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes() != other.tobytes()


# --- Features and labels --------------------------------------------------------------------------------------------


def test_features_come_every_10_ms() -> None:
    assert cepstra(np.zeros(16_000)).shape == (98, WIDTH)
    assert cepstra(np.zeros(399)).shape == (0, WIDTH)
    assert cepstra(np.zeros(400)).shape == (1, WIDTH)


def test_digital_silence_is_a_constant() -> None:
    frames = cepstra(np.zeros(4000))
    assert np.isfinite(frames).all()
    # The matrix product may round rows differently, by where they lie in memory.
    np.testing.assert_allclose(frames, np.broadcast_to(frames[0], frames.shape), rtol=0, atol=1e-3)


def test_louder_is_more_of_the_first_number_alone() -> None:
    noise = np.random.default_rng(1).standard_normal(8000) * 1000
    difference = cepstra(noise * 2) - cepstra(noise)
    assert difference[:, 0] == pytest.approx(np.log(4) * np.sqrt(WIDTH), abs=1e-2)
    assert np.abs(difference[:, 1:]).max() < 1e-2


def test_a_frame_is_labelled_with_what_sounds_at_its_middle() -> None:
    outputs = Phones().outputs
    # Frame 0 has its middle at 12.5 ms, frame 1 at 22.5 ms.
    labels = frame_labels([("'k", 0.0125), (";", 0.02), ("a", 0.03), ("y~", 0.05), ("_:", 0.06)], 7)
    assert labels.tolist() == [*[outputs["k"]] * 2, *[outputs["a"]] * 2, NO_LABEL, 0, 0]
    assert frame_labels([("k", 0.5)], 3).tolist() == [0, 0, 0]


# --- Processes ------------------------------------------------------------------------------------------------------


def test_speech_does_not_depend_on_the_number_of_processes() -> None:
    wanted = [("espeak", 6)]
    seen: list[tuple[int, int]] = []
    one = speak(wanted, seed=1, processes=1, on_progress=lambda *done: seen.append(done))
    two = speak(wanted, seed=1, processes=2, on_progress=lambda *done: None)
    assert seen == [(6, 6)]
    assert sum(one.counts) == len(one.labels) == len(one.features)
    assert one.features.tobytes() == two.features.tobytes()
    assert one.labels.tobytes() == two.labels.tobytes()
    assert one.hours == pytest.approx(len(one.labels) * STEP / 16_000 / 3600)
    # Speech makes more than silence, and all of it is known.
    assert len(set(one.labels.tolist())) > 20
    assert NO_LABEL not in one.labels


def test_a_job_that_cannot_be_done_says_why() -> None:
    with pytest.raises(JobFailed, match="no voice 'tlh'"):
        do({"job": "phonemes", "texts": ["hello"], "voices": ["tlh"]}, timeout=20)
    with pytest.raises(JobFailed, match="exit code 1: KeyError"):
        do({"job": "dance"}, timeout=20)
    with pytest.raises(JobFailed, match=r"longer than 0\.001 s"):
        do({"job": "phonemes", "texts": ["hello"], "voices": ["en"]}, timeout=0.001)


# --- Flite ----------------------------------------------------------------------------------------------------------


def test_sounds_of_two_synthesisers_are_matched() -> None:
    spoken = [("hh", 0.1, 0.2), ("ax", 0.2, 0.3), ("l", 0.3, 0.4), ("ow", 0.4, 0.5)]
    assert flite.aligned(["h", "@", "l", "oU"], spoken) == [0.1, 0.2, 0.3, 0.4]
    # One of ours that flite does not say begins between its neighbours.
    assert flite.aligned(["h", "@", "l", "j", "oU"], spoken) == pytest.approx([0.1, 0.2, 0.3, 0.35, 0.4])
    assert flite.aligned(["h", "@", "oU"], spoken) == [0.1, 0.2, 0.4]


def test_another_reading_is_not_matched() -> None:
    spoken = [("s", 0.0, 0.1), ("k", 0.1, 0.2), ("uw", 0.2, 0.3)]
    assert flite.aligned(["a", "m", "E", "r"], spoken) is None


@pytest.mark.skipif(not flite.has_flite(), reason="flite is not installed")
def test_flite_speaks_with_espeaks_sounds() -> None:
    data = speak([("flite", 3)], seed=1, processes=1, on_progress=lambda *done: None)
    assert len(data.counts) == 3
    assert len(set(data.labels.tolist())) > 8
