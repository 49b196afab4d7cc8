"""Agents' words, understood by real Vosk with the built-in model."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from speech_samples import Samples, Say, say_all, silence

from voisnap_mock.agents.script import AgentScript, Hear, Hears, Rule
from voisnap_mock.audio.built_in_ear import BuiltInEar, Vocabulary
from voisnap_mock.audio.stt import Ears
from voisnap_mock.audio.tiny_model.extension import Extended
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, VoskModel
from voisnap_mock.engine.events import Transcript

SAID = ("kangaroo", "please transfer me to the archbishop", "i want to cancel my kangaroo", "i want to cancel my order")


def agent(
    *phrases: str, pattern: str | None = None, hears: Hears = "auto", vosk_model: str | None = None
) -> AgentScript:
    patterns = () if pattern is None else (re.compile(pattern),)
    rule = Rule(triggers=(Hear(phrases=phrases, patterns=patterns),))
    return AgentScript("agt_a", "A", replies=(rule,), hears=hears, vosk_model=vosk_model)


ZOO = agent("kangaroo", "the Archbishop")


def spoken(voice: str = "en-us") -> dict[str, bytes]:
    return {said.text: on_the_line(said.pcm) for said in say_all(*(Say(text, voice) for text in SAID))}


def on_the_line(pcm: Samples) -> bytes:
    return np.concatenate([silence(0.3), pcm, silence(0.5)]).tobytes()


def hear(ear: BuiltInEar, pcm: bytes) -> str:
    listener = ear.open()
    listener.accept(pcm)
    transcript = listener.finish(1.0)
    return "" if transcript is None else transcript.text


@pytest.fixture
def learnt() -> list[Extended]:
    return []


@pytest.fixture
def vocabulary(tmp_path: Path, learnt: list[Extended]) -> Vocabulary:
    return Vocabulary(on_learnt=learnt.append, cache=tmp_path / "cache")


@pytest.mark.parametrize("voice", ["en-us", "en", "en-us+f4"])
def test_the_words_of_agents_are_understood(vocabulary: Vocabulary, voice: str) -> None:
    ear = BuiltInEar(vocabulary)
    pcm = spoken(voice)
    assert "kangaroo" not in hear(ear, pcm["kangaroo"])
    vocabulary.want([ZOO])
    assert [hear(ear, pcm[text]) for text in SAID] == list(SAID)


def test_only_missing_words_are_learnt_and_only_when_somebody_listens(
    vocabulary: Vocabulary, learnt: list[Extended]
) -> None:
    vocabulary.want([agent("refund", "That's all", "whats the balance", "code 4179")])
    assert vocabulary.lacking == ()
    assert vocabulary.model() == BUILT_IN_FOLDER
    vocabulary.want([ZOO, agent(pattern=r"\b(zebra|giraffe)\b")])
    assert vocabulary.lacking == ("archbishop", "giraffe", "kangaroo", "zebra")
    assert learnt == []
    folder = vocabulary.model()
    assert folder != BUILT_IN_FOLDER
    assert [(words.added, words.folder) for words in learnt] == [(vocabulary.lacking, folder)]
    assert vocabulary.model() == folder
    assert len(learnt) == 1


def test_words_of_agents_that_are_gone_are_forgotten(vocabulary: Vocabulary) -> None:
    ear = BuiltInEar(vocabulary)
    pcm = spoken()["kangaroo"]
    vocabulary.want([ZOO])
    assert hear(ear, pcm) == "kangaroo"
    vocabulary.want([agent("archbishop")])
    assert hear(ear, pcm) != "kangaroo"


def test_who_comes_while_words_are_learnt_waits_for_them(vocabulary: Vocabulary, learnt: list[Extended]) -> None:
    vocabulary.want([ZOO])
    ear = BuiltInEar(vocabulary)
    pcm = spoken()["kangaroo"]
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda _: hear(ear, pcm), range(4)))
    assert heard == ["kangaroo"] * 4
    assert len(learnt) == 1


def test_an_utterance_under_way_keeps_its_words(vocabulary: Vocabulary) -> None:
    ear = BuiltInEar(vocabulary)
    vocabulary.want([ZOO])
    listener = ear.open()
    vocabulary.want([])
    assert hear(ear, spoken()["kangaroo"]) != "kangaroo"
    listener.accept(spoken()["kangaroo"])
    transcript = listener.finish(1.0)
    assert transcript is not None
    assert transcript.text == "kangaroo"


def test_a_grammar_may_hold_the_words(vocabulary: Vocabulary) -> None:
    vocabulary.want([ZOO])
    ear = BuiltInEar(vocabulary, grammar=("kangaroo", "the archbishop"))
    assert hear(ear, spoken()["kangaroo"]) == "kangaroo"


def test_a_cache_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, learnt: list[Extended]) -> None:
    (tmp_path / "cache").write_text("not a folder")
    vocabulary = Vocabulary(on_learnt=learnt.append, cache=tmp_path / "cache")
    vocabulary.want([ZOO])
    assert hear(BuiltInEar(vocabulary), spoken()["kangaroo"]) == "kangaroo"
    folder = learnt[0].folder
    assert folder.exists()
    del vocabulary
    assert not folder.exists()


def test_a_model_that_vanishes_or_is_damaged_after_it_was_made_costs_the_words_only(
    vocabulary: Vocabulary, caplog: pytest.LogCaptureFixture
) -> None:
    vocabulary.want([ZOO])
    shutil.rmtree(vocabulary.model())
    pcm = spoken()
    ear = BuiltInEar(vocabulary)
    assert hear(ear, pcm["i want to cancel my order"]) == "i want to cancel my order"
    assert hear(ear, pcm["kangaroo"]) != "kangaroo"
    assert len(caplog.messages) == 1


# --- The ears of a server -------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VOISNAP_MOCK_CACHE", str(tmp_path / "own cache"))
    return tmp_path / "own cache"


def answer(ears: Ears, script: AgentScript, pcm: bytes) -> Transcript:
    listening = ears.hearing_for(script).open()
    listening.accept(pcm)
    return listening.finish(1.0)


def test_a_call_opened_before_the_words_were_known_understands_them(own_cache: Path) -> None:
    ears = Ears()
    hearing = ears.hearing_for(ZOO)
    ears.serve([ZOO])
    assert "and 2 of your agents" in ears.describe()
    ears.warm_up()
    listening = hearing.open()
    listening.accept(spoken()["kangaroo"])
    assert listening.finish(1.0).text == "kangaroo"
    assert len(list((own_cache / "vocabulary").iterdir())) == 1


def test_agents_with_a_model_or_an_ear_of_their_own_teach_nothing(own_cache: Path) -> None:
    ears = Ears()
    ears.serve([agent("kangaroo", vosk_model="/models/de"), agent("archbishop", hears="activity")])
    assert "of your agents" not in ears.describe()
    ears = Ears(vosk_model="/models/en")
    ears.serve([ZOO])
    ears = Ears(installed=VoskModel(Path("/models/en"), "models install"))
    ears.serve([ZOO])
    assert not own_cache.exists()


def test_listening_for_known_words_imports_nothing_that_learns() -> None:
    program = (
        "import sys, voisnap_mock.audio.stt as stt; from voisnap_mock.agents.builtin import builtin_agents\n"
        "ears = stt.Ears(); ears.serve(builtin_agents().agents.values())\n"
        "assert not {'numpy', 'vosk', 'asyncio', 'subprocess', 'tempfile'} & sys.modules.keys(), sys.modules.keys()\n"
        "assert 'of your agents' not in ears.describe()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
