"""Models that this tool makes, as Vosk itself loads and hears with them; and how well the shipped one does."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest

from voisnap_mock.audio.tiny_model.__main__ import main
from voisnap_mock.audio.tiny_model.building import SIZES, Built, Size, build, model_files
from voisnap_mock.audio.tiny_model.folders import checksum, read_files, with_words, words_of, write_files
from voisnap_mock.audio.tiny_model.lexicon import Pronunciation, count_bigrams
from voisnap_mock.audio.tiny_model.measuring import (
    COMMANDS,
    SENTENCES,
    Order,
    held_back_sets,
    measure,
    speak_orders,
    word_errors,
)
from voisnap_mock.audio.tiny_model.network import Network
from voisnap_mock.audio.tiny_model.phones import Phones
from voisnap_mock.audio.tiny_model.pronouncing import pronounce
from voisnap_mock.audio.tiny_model.sentences import sentence, vocabulary
from voisnap_mock.audio.vosk_ear import VoskEar
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, VoskModel, check_model
from voisnap_mock.errors import ModelError

# --- Building -------------------------------------------------------------------------------------------------------


Told = dict[str, list[float]]


@cache
def built() -> tuple[Built, Told]:
    """A model from a few minutes of speech, which knows silence from sound and little more; and what the build told."""
    told: Told = {}
    tiny = Size(espeak=60, flite=0, hidden=16, epochs=20, chunks=8)
    made = build(
        tiny,
        seed=1,
        processes=2,
        on_progress=lambda doing, done: told.setdefault(doing.partition(",")[0], []).append(done),
    )
    return made, told


def test_a_model_that_was_built_can_be_heard_with(tmp_path: Path) -> None:
    write_files(tmp_path / "model", built()[0].files)
    check_model(tmp_path / "model")
    order = Order("please cancel my order", "en-us")
    ear = VoskEar(VoskModel(tmp_path / "model", "test"))
    assert measure(ear, [order], speak_orders([order])).words == 4
    listener = ear.open()
    listener.accept(bytes(64_000))
    assert listener.finish(0.0) is None


def test_a_build_tells_what_it_has_made() -> None:
    made, _ = built()
    assert (made.words, made.missing) == (len(vocabulary()), ())
    assert 0.02 < made.hours < 0.2
    assert 0.2 < made.accuracy < 1.0
    assert "espeak-ng" in made.engine
    assert made.checksum == checksum(made.files)


def test_progress_goes_from_nothing_to_all_in_every_stage() -> None:
    _, told = built()
    assert list(told) == ["pronouncing", "speaking", "learning"]
    assert all(done == sorted(done) and done[-1] == 1.0 for done in told.values())


def test_the_same_seed_builds_the_same_files() -> None:
    tiny = Size(espeak=20, flite=0, hidden=8, epochs=1, chunks=8)
    one, same = (build(tiny, seed=1, processes=processes, on_progress=lambda doing, done: None) for processes in (1, 2))
    assert one.files == same.files


def test_larger_sizes_learn_more() -> None:
    sizes = [SIZES[name] for name in ("quick", "middle", "full")]
    assert sizes == sorted(sizes, key=lambda size: (size.espeak, size.hidden))


def test_no_sentence_that_is_measured_with_has_been_learnt() -> None:
    rng = Random(11)
    assert not {sentence(rng) for _ in range(40_000)} & set(SENTENCES)
    assert {word for text in (*SENTENCES, *COMMANDS) for word in text.split()} <= set(vocabulary())


# --- Words ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch() -> dict[str, bytes]:
    """A model of two words and a network that has learnt nothing."""
    phones = Phones()
    rng = np.random.default_rng(1)
    widths = [(280, 8), (24, 8), (24, 8), (24, 8), (8, len(phones.outputs))]
    network = Network(
        mean=np.zeros(40, np.float32),
        deviation=np.ones(40, np.float32),
        weights=tuple(rng.standard_normal(shape, np.float32) for shape in widths),
        biases=tuple(np.zeros(shape[1], np.float32) for shape in widths),
        priors=np.full(len(phones.outputs), 1 / len(phones.outputs), np.float32),
    )
    lexicon = {"yes": (Pronunciation(("j", "E", "s"), 1.0),), "no": (Pronunciation(("n", "oU"), 1.0),)}
    return model_files(network, lexicon, count_bigrams(["yes", "no no"]), phones)


def test_words_are_added_to_a_model(scratch: dict[str, bytes], tmp_path: Path) -> None:
    lexicon, _ = pronounce(["kangaroo", "café"], sentences=["one kangaroo"])
    extended = with_words(scratch, lexicon, ["one kangaroo"])
    assert words_of(extended) == {"yes", "no", "kangaroo", "café"}
    assert lexicon["kangaroo"][0].sounds == ("k", "a", "N", "g", "@", "r", "u:")
    write_files(tmp_path, extended)
    check_model(tmp_path)
    assert read_files(tmp_path) == extended


def test_adding_words_twice_changes_nothing(scratch: dict[str, bytes]) -> None:
    lexicon, _ = pronounce(["kangaroo"])
    once = with_words(scratch, lexicon, ())
    assert with_words(once, lexicon, ()) == once


def test_words_that_cannot_be_pronounced_are_left_out() -> None:
    lexicon, _ = pronounce(["kangaroo", "日本", "привет", "\U0001f600"])
    assert list(lexicon) == ["kangaroo"]


def test_a_word_is_pronounced_as_in_a_sentence_too() -> None:
    lexicon, _ = pronounce(["the"], sentences=["the end", "the apple"])
    assert {said.sounds for said in lexicon["the"]} >= {("D", "@"), ("D", "I")}


def test_a_model_of_another_make_cannot_be_extended(scratch: dict[str, bytes]) -> None:
    with pytest.raises(ModelError, match=r"lexicon\.txt"):
        with_words({name: data for name, data in scratch.items() if name != "lexicon.txt"}, {}, ())
    with pytest.raises(ModelError, match="damaged: line 1"):
        with_words({**scratch, "lexicon.txt": b"\n"}, {}, ())


def test_a_checksum_sees_names_and_contents() -> None:
    assert checksum({"a": b"1", "b": b"2"}) == checksum({"b": b"2", "a": b"1"})
    assert len({checksum(files) for files in ({"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b""})}) == 4


# --- The command ----------------------------------------------------------------------------------------------------


def test_the_command_adds_words(scratch: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path, scratch)
    assert main(["words", str(tmp_path), "Kangaroo"]) == 0
    assert "kangaroo: k a N g @ r u:\n" in capsys.readouterr().out
    assert "kangaroo" in words_of(read_files(tmp_path))
    assert main(["words", str(tmp_path), "日本"]) == 1
    assert "日本: cannot be pronounced, left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["words", "/nowhere/to/be/found", "kangaroo"], "/nowhere/to/be/found is not a folder"),
        (["build", str(Path(__file__).parent)], "is there already"),
        (["measure", "/nowhere/to/be/found"], "there is no such folder"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert complaint in capsys.readouterr().err


# --- The model that is shipped --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("en-us", 0.06),
        ("en", 0.06),
        ("held-back voices", 0.15),
        ("digits, held-back voices", 0.08),
        ("single words, en-us", 0.0),
    ],
)
def test_the_shipped_model_understands_what_it_has_never_met(name: str, most: float) -> None:
    orders = held_back_sets()[name]
    # Every third of the larger sets: the command `measure` takes the time for all.
    orders = orders[::3] if len(orders) > 20 else orders
    score = measure(VoskEar(VoskModel(BUILT_IN_FOLDER)), orders, speak_orders(orders))
    assert score.error_rate <= most, score.mistaken


def test_the_shipped_model_is_small() -> None:
    assert sum(map(len, read_files(BUILT_IN_FOLDER).values())) < 1_500_000


def test_the_shipped_model_can_be_extended() -> None:
    files = read_files(BUILT_IN_FOLDER)
    assert words_of(files) == set(vocabulary())
    assert with_words(files, {}, ()) == files


def test_word_errors_are_the_least_number_of_changes() -> None:
    assert word_errors(["a", "b", "c"], ["a", "b", "c"]) == 0
    assert word_errors(["a", "b", "c"], ["a", "x", "c", "d"]) == 2
    assert word_errors(["a", "b", "c"], []) == 3
