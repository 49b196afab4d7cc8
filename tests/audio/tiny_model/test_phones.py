"""Sounds and their numbers."""

from __future__ import annotations

import pytest

from voisnap_mock.audio.tiny_model.phones import SOUNDS, UNKNOWN, Phones, entering, sound_of, sounds_of, staying


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("k", "k"),
        ("'eI", "eI"),
        (",u:", "u:"),
        ("a#", "@"),
        ("r-", "r"),
        ("O2", "0"),
        ("!w", "w"),
        ("_:", "SIL"),
        ("_", "SIL"),
        (";", None),
        ("-", None),
        ("", None),
    ],
)
def test_espeaks_names_become_sounds_of_the_model(name: str, sound: str | None) -> None:
    assert sound_of(name) == sound


def test_every_sound_is_its_own() -> None:
    assert [sound_of(sound) for sound in SOUNDS] == list(SOUNDS)
    assert len(set(SOUNDS)) == len(SOUNDS)


def test_a_foreign_sound_is_none_of_ours() -> None:
    with pytest.raises(KeyError):
        sound_of("y~")
    assert sounds_of(["k", "y~"]) is None


def test_a_word_is_its_sounds_without_pauses_and_links() -> None:
    assert sounds_of(["D", "I2", ";", "_:"]) == ("D", "I")
    assert sounds_of(["_:"]) is None


def test_phones_are_numbered_from_1_without_gaps_and_share_their_output_in_all_places() -> None:
    phones = Phones()
    pdfs = phones.pdf_of_phone
    assert sorted(pdfs) == list(range(1, len(pdfs) + 1))
    assert pdfs[phones.number("SIL")] == 0
    for sound, output in phones.outputs.items():
        if sound != "SIL":
            assert {pdfs[phones.number(sound, place)] for place in "BIES"} == {output}
    assert {pdfs[phones.number(UNKNOWN, place)] for place in "BIES"} == {len(phones.outputs)}
    assert sorted(set(pdfs.values())) == list(range(len(SOUNDS) + 2))


@pytest.mark.parametrize(("sounds", "places"), [("k", "S"), ("k a", "BE"), ("k a t", "BIE"), ("s t a r", "BIIE")])
def test_a_phone_tells_its_place_in_the_word(sounds: str, places: str) -> None:
    phones = Phones(("k", "a", "t", "s", "r"))
    expected = [phones.number(sound, place) for sound, place in zip(sounds.split(), places, strict=True)]
    assert list(phones.of_word(sounds.split())) == expected


def test_transitions_are_two_a_phone() -> None:
    phones = Phones()
    numbers = sorted(phones.pdf_of_phone)
    ids = [transition for phone in numbers for transition in (staying(phone), entering(phone))]
    assert ids == list(range(1, phones.transitions + 1))


def test_the_files_name_every_phone() -> None:
    phones = Phones(("k", "a"))
    assert phones.symbols().splitlines()[:4] == ["<eps> 0", "SIL 1", "k_B 2", "k_I 3"]
    boundaries = phones.word_boundaries().splitlines()
    assert boundaries[:5] == ["1 nonword", "2 begin", "3 internal", "4 end", "5 singleton"]
    assert len(boundaries) == len(phones.symbols().splitlines()) - 1
