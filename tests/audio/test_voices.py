from pathlib import Path

import pytest

from voisnap_mock.audio.voices import espeak_voice, languages, variants, what_is_wrong_with
from voisnap_mock.config import AgentsSource
from voisnap_mock.errors import AgentsFileError, ConfigError


@pytest.mark.parametrize(
    ("name", "voice"),
    [
        ("en-us", "en-us"),
        ("en_US", "en-us"),
        ("default", "en-us"),
        ("en-gb", "en"),
        ("EN-UK", "en"),
        ("fr-fr", "fr"),
        ("zh", "cmn"),
        ("zh-CN", "cmn"),
        ("zh-HK", "yue"),
        ("pt-br", "pt-br"),
        ("pt-PT", "pt"),
        ("de-at", "de"),
        ("es-MX", "es-419"),
        ("no", "nb"),
        ("en-gb-x-rp", "en-gb-x-rp"),
        ("en-us+f3", "en-us+f3"),
        ("en-gb+F3", "en+f3"),
        ("en-us+annie", "en-us+Annie"),
        (" de ", "de"),
    ],
)
def test_names_people_write_become_names_espeak_knows(name: str, voice: str) -> None:
    assert espeak_voice(name) == voice


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("en-uss", "there is no voice 'en-uss': similar ones are en-us"),
        ("klingon", "there is no voice 'klingon'"),
        ("", "there is no voice ''"),
        ("+f3", "there is no voice '+f3'"),
        ("fo", "there is no voice 'fo'"),
        ("en-us+f9", "voice 'en-us+f9' has an unknown variant: similar ones are f5"),
        ("en-us+", "unknown variant"),
        ("en-us+ani", "anika"),
    ],
)
def test_a_wrong_name_is_told_with_similar_ones(name: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        espeak_voice(name)
    assert says in str(caught.value)
    assert "`voisnap-mock doctor` lists all" in str(caught.value)


def test_the_usual_languages_and_variants_are_there() -> None:
    assert {"en-us", "en", "de", "fr", "es", "it", "ru", "cmn", "ja", "ar"} <= languages()
    assert variants()["annie"] == "Annie"


def test_what_is_wrong_is_told_without_raising() -> None:
    assert what_is_wrong_with("en-us") is what_is_wrong_with("en-gb+f3") is None
    assert "there is no voice 'en-uss'" in (what_is_wrong_with("en-uss") or "")


def test_an_agents_file_with_a_wrong_voice_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    agents = [
        ("good", "auto", "en-gb"),
        ("tone", "tone", "any"),
        ("bad", "auto", "en-uss"),
        ("worse", "pyttsx3", "en+f9"),
    ]
    lines = ["version: 1", "agents:"]
    for name, engine, voice in agents:
        lines += [f"  agt_{name}:", "    greeting: Hi", f"    voice: {{engine: {engine}, name: {voice}}}"]
    file.write_text("\n".join(lines))
    with pytest.raises(AgentsFileError) as caught:
        AgentsSource(file).load()
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(11, 12), (14, 12)]
    assert "there is no voice 'en-uss': similar ones are en-us" in str(caught.value)
