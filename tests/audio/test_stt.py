"""Ears: real Vosk with the built-in model on synthesised speech, models that are broken, and the chain."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from speech_samples import SENTENCES, Samples, Say, Spoken, frames, hum, key_presses, mix, noise, say, say_all, silence

from voisnap_mock.agents.script import AgentScript, Hear, Hears, Rule
from voisnap_mock.audio.endpointing import Endpointer, SpeechBegan
from voisnap_mock.audio.stt import (
    BUILT_IN_FOLDER,
    ActivityEar,
    Ears,
    Hearing,
    Listener,
    ScriptEar,
    VoskEar,
    VoskModel,
    check_model,
    choose_model,
)
from voisnap_mock.audio.vosk_model import BUILT_IN_WORDS
from voisnap_mock.engine.events import Transcript
from voisnap_mock.errors import ConfigError, ModelError

FIXED = SENTENCES[:8]


@cache
def caller(text: str) -> Spoken:
    """A caller saying one of `SENTENCES`."""
    return dict(zip(SENTENCES, say_all(*map(Say, SENTENCES)), strict=True))[text]


def on_the_line(*parts: Samples) -> bytes:
    return np.concatenate([silence(0.3), *parts, silence(0.5)]).tobytes()


@pytest.fixture(scope="module")
def ear() -> VoskEar:
    return VoskEar(choose_model())


def hear(ear: VoskEar, pcm: bytes, *, chunk: int = 3200) -> Transcript | None:
    listener = ear.open()
    for at in range(0, len(pcm), chunk):
        listener.accept(pcm[at : at + chunk])
    return listener.finish(1.0)


def text_of(transcript: Transcript | None) -> str:
    return "" if transcript is None else transcript.text


# --- Vosk hears -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", FIXED)
def test_understands(ear: VoskEar, text: str) -> None:
    heard = hear(ear, on_the_line(caller(text).pcm))
    assert heard is not None
    assert (heard.text, heard.ear) == (text, "vosk")
    assert 0.9 < heard.confidence <= 1.0


def word_errors(said: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for at, word in enumerate(said, 1):
        diagonal, row[0] = row[0], at
        for to, other in enumerate(heard, 1):
            diagonal, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, diagonal + (word != other))
    return row[-1]


def test_gets_nearly_every_word_that_its_vocabulary_holds(ear: VoskEar) -> None:
    errors = sum(
        word_errors(text.split(), text_of(hear(ear, on_the_line(caller(text).pcm))).split()) for text in SENTENCES
    )
    assert errors / sum(len(text.split()) for text in SENTENCES) <= 0.03


def test_partials_grow_to_the_final_text(ear: VoskEar) -> None:
    pcm = on_the_line(caller(FIXED[0]).pcm)
    listener = ear.open()
    counts = []
    for at in range(0, len(pcm), 9600):
        listener.accept(pcm[at : at + 9600])
        partial = listener.partial()
        counts.append(len(text_of(partial).split()))
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert len(set(counts)) >= 5
    assert partial is not None
    assert (partial.text, partial.ear) == (FIXED[0], "vosk")


def test_words_are_timed_from_the_start_of_the_utterance_each_time(ear: VoskEar) -> None:
    spoken = caller(FIXED[0])
    for _ in range(2):
        heard = hear(ear, on_the_line(spoken.pcm))
        assert heard is not None
        assert [word.text for word in heard.words] == FIXED[0].split()
        for word, truth in zip(heard.words, spoken.words, strict=True):
            assert word.begin - 0.3 == pytest.approx(truth.begin, abs=0.1)
            assert word.end - 0.3 == pytest.approx(truth.end, abs=0.12)


def test_a_long_pause_does_not_cut_an_utterance(ear: VoskEar) -> None:
    one, other = caller(FIXED[1]), caller(FIXED[2])
    heard = hear(ear, on_the_line(one.pcm, silence(1.5), other.pcm))
    assert heard is not None
    assert heard.text == f"{FIXED[1]} {FIXED[2]}"
    begins = [word.begin for word in heard.words]
    assert begins == sorted(begins)
    assert begins[-1] > 1.8 + len(one.pcm) / 16_000


@pytest.mark.parametrize("chunk", [640, 2000, 32_000])
def test_how_the_audio_is_cut_does_not_matter(ear: VoskEar, chunk: int) -> None:
    pcm = on_the_line(caller(FIXED[3]).pcm)
    assert text_of(hear(ear, pcm, chunk=chunk)) == FIXED[3]


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(silence(0), id="no audio at all"),
        pytest.param(silence(3), id="silence"),
        pytest.param(noise(3, -30), id="noise"),
        pytest.param(say("elephant").pcm, id="an unknown word"),
    ],
)
def test_hears_no_words_in(ear: VoskEar, sound: Samples) -> None:
    assert hear(ear, on_the_line(sound)) is None


def test_an_unknown_word_among_known_ones_is_marked(ear: VoskEar) -> None:
    heard = hear(ear, on_the_line(say("please transfer me to the zebra").pcm))
    assert text_of(heard) == "please transfer me to the [unk]"


def test_confidence_stays_within_0_and_1_when_it_is_hard(ear: VoskEar) -> None:
    confidences = []
    for at, text in enumerate(FIXED):
        spoken = caller(text).pcm
        heard = hear(ear, on_the_line(mix(spoken, noise(len(spoken) / 16_000, -25, seed=at))))
        confidences += [] if heard is None else [heard.confidence]
    assert all(0.0 <= confidence <= 1.0 for confidence in confidences)
    assert min(confidences) < 0.95


def test_four_threads_hear_at_once_what_one_hears() -> None:
    # A new ear: the threads meet while the model is being loaded.
    ear = VoskEar(choose_model())
    calls = [on_the_line(caller(text).pcm) for text in FIXED] * 2
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda pcm: text_of(hear(ear, pcm)), calls))
    assert heard == list(FIXED) * 2


def test_utterances_under_way_do_not_disturb_each_other(ear: VoskEar) -> None:
    one, other = (frames(np.concatenate([caller(text).pcm, silence(0.5)])) for text in FIXED[:2])
    first, second = ear.open(), ear.open()
    for mine, yours in zip(one, other, strict=False):
        first.accept(mine)
        second.accept(yours)
    for frame in one[len(other) :]:
        first.accept(frame)
    assert [text_of(first.finish(1.0)), text_of(second.finish(1.0))] == list(FIXED[:2])


def test_a_grammar_admits_its_phrases_only() -> None:
    ear = VoskEar(choose_model(), grammar=["Refund", "goodbye"])
    assert text_of(hear(ear, on_the_line(say("refund").pcm))) == "refund"
    assert hear(ear, on_the_line(say("tomorrow").pcm)) is None


@pytest.mark.parametrize("grammar", [[], [""], ["refund", "  "], ["re\0fund"], ["\ud83d"]])
def test_a_grammar_that_would_crash_the_library_is_refused(grammar: list[str]) -> None:
    with pytest.raises(ModelError, match="grammar"):
        VoskEar(choose_model(), grammar=grammar)


def test_a_grammar_may_hold_anything_else() -> None:
    ear = VoskEar(choose_model(), grammar=['"] ', "[unk]", "größer", "\U0001f600", "\n{}\t x"])
    assert hear(ear, on_the_line(silence(1))) is None


# --- Models ---------------------------------------------------------------------------------------------------------


Damage = Callable[[Path], None]


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def truncate(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100_000])


def overwrite(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content) and None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(BUILT_IN_FOLDER, folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (remove("am/final.mdl"), "am/final.mdl is missing"),
        (remove("conf/mfcc.conf"), "conf/mfcc.conf or conf/fbank.conf is missing"),
        (remove("graph/disambig_tid.int"), "graph/disambig_tid.int is missing"),
        (remove("graph/words.txt"), "words.txt"),
        (overwrite("am/final.mdl", ""), "am/final.mdl is empty"),
        (overwrite("am/final.mdl", "not a model"), "a file is damaged or does not fit"),
        (truncate("am/final.mdl"), "a file is damaged or does not fit: Failed to read"),
        (truncate("graph/HCLr.fst"), "HCLr.fst"),
        (overwrite("conf/model.conf", "--no-such-option=1\n"), "Invalid option --no-such-option=1"),
        (overwrite("conf/mfcc.conf", "--num-ceps=5\n"), "got 5 but network expects 40"),
        (overwrite("conf/model.conf", "--frames-per-chunk=0\n"), "the library crashed on it"),
    ],
)
def test_a_broken_model_is_named_with_what_is_wrong(model: Path, damage: Damage, complaint: str) -> None:
    damage(model)
    with pytest.raises(ModelError) as raised:
        check_model(model, origin="--vosk-model")
    message = str(raised.value)
    assert complaint in message
    assert message.startswith(f"{model} (--vosk-model) is no usable Vosk model: ")
    assert "Give the folder of a freshly unpacked Vosk model" in message


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("", "the path of the Vosk model is empty"),
        ("  ", "the path of the Vosk model is empty"),
        ("/nowhere/to/be/found", "there is no such folder"),
        (__file__, "it is a file, not a folder"),
        ("with\0nul", "NUL"),
        ("/not/\udcff/utf-8", "a path that is UTF-8"),
        ("~nobody-of-this-name/model", "no such user"),
    ],
)
def test_a_path_that_leads_to_no_model_says_so(path: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        check_model(path)


def test_an_archive_is_to_be_unpacked_first(tmp_path: Path) -> None:
    archive = tmp_path / "vosk-model.zip"
    archive.write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="it is an archive; unpack it first"):
        check_model(archive)


def test_the_folder_above_a_model_is_told_from_it(model: Path) -> None:
    with pytest.raises(ModelError, match=f"is {model} meant"):
        check_model(model.parent)


def test_an_older_flat_model_lacks_other_files(tmp_path: Path) -> None:
    (tmp_path / "final.mdl").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"mfcc\.conf and HCLG\.fst or HCLr\.fst are missing"):
        check_model(tmp_path)


def test_an_older_flat_model_can_be_used(model: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in model.rglob("*.*"):
        if file.name != "model.conf":
            shutil.copy(file, flat / file.name)
    check_model(flat)


def test_a_good_model_passes_wherever_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "mödel with spaces 'and quotes'"
    shutil.copytree(BUILT_IN_FOLDER, folder)
    check_model(folder)
    assert text_of(hear(VoskEar(VoskModel(folder, "test")), on_the_line(caller(FIXED[0]).pcm))) == FIXED[0]


def test_a_check_ends_in_bounded_time() -> None:
    with pytest.raises(ModelError, match=r"loading it took longer than 0\.001 s"):
        check_model(BUILT_IN_FOLDER, timeout=0.001)


def test_a_model_that_vanished_after_the_check_is_an_error_not_a_crash(model: Path) -> None:
    check_model(model)
    shutil.rmtree(model)
    with pytest.raises(ModelError, match="Vosk cannot load this model"):
        VoskEar(VoskModel(model, "--vosk-model")).open()


def test_the_built_in_model_knows_as_many_words_as_it_claims() -> None:
    lines = (BUILT_IN_FOLDER / "graph" / "words.txt").read_text().splitlines()
    words = [word for word, _ in map(str.split, lines) if word[0] not in "<#["]
    assert len(words) == BUILT_IN_WORDS
    assert set(" ".join(SENTENCES).split()) <= set(words)


def test_nothing_heavy_is_imported_and_nothing_printed() -> None:
    program = (
        "import sys, voisnap_mock.audio.stt as stt, voisnap_mock.audio.endpointing\n"
        "ears = stt.Ears(); print(ears.describe())\n"
        "assert not {'numpy', 'vosk', 'requests', 'asyncio'} & sys.modules.keys(), sys.modules.keys()\n"
        "ears.warm_up(); listener = stt.VoskEar(stt.choose_model()).open(); listener.accept(bytes(32000))\n"
        "assert listener.finish(1.0) is None\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "marked speech, else Vosk (built-in tiny model: synthesised English only, 1143 words), else voice activity\n"
    )


# --- Which model counts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "environment", "agent", "folder", "origin"),
    [
        ("/flag", {"VOSK_MODEL_PATH": "/env"}, "/agent", "/agent", "vosk_model of agt_a"),
        ("/flag", {"VOSK_MODEL_PATH": "/env"}, None, "/flag", "--vosk-model"),
        (None, {"VOSK_MODEL_PATH": "/env"}, None, "/env", "VOSK_MODEL_PATH"),
        (None, {"VOSK_MODEL_PATH": ""}, "/agent", "/agent", "vosk_model of agt_a"),
        (None, {}, "models/de", "/agents/models/de", "vosk_model of agt_a"),
        ("models/de", {}, None, "models/de", "--vosk-model"),
        (None, {}, None, str(BUILT_IN_FOLDER), ""),
    ],
)
def test_the_agents_own_model_counts_before_the_flag_before_the_environment(
    flag: str | None, environment: dict[str, str], agent: str | None, folder: str, origin: str
) -> None:
    chosen = choose_model(
        flag=flag, environment=environment, agent=agent, agents_folder=Path("/agents"), agent_id="agt_a"
    )
    assert chosen == VoskModel(Path(folder), origin)


def test_the_chosen_model_is_described_honestly() -> None:
    assert choose_model().describe() == "Vosk (built-in tiny model: synthesised English only, 1143 words)"
    assert choose_model(flag="/m").describe() == "Vosk (model /m, --vosk-model)"


# --- The chain ------------------------------------------------------------------------------------------------------


def agent(hears: Hears = "auto", *, vosk_model: str | None = None, strict: bool = False) -> AgentScript:
    script = (Rule(triggers=(Hear(phrases=("yes please",)),)),) if strict else None
    return AgentScript("agt_a", "A", hears=hears, vosk_model=vosk_model, script=script)


def answer(hearing: Hearing, pcm: bytes, expected: str | None = None) -> Transcript:
    listening = hearing.open()
    listening.accept(pcm)
    return listening.finish(1.4, expected)


def test_auto_asks_vosk_and_falls_back_on_voice_activity() -> None:
    hearing = Ears().hearing_for(agent())
    assert hearing.names == ("marks", "vosk", "activity")
    assert answer(hearing, on_the_line(caller(FIXED[0]).pcm)).text == FIXED[0]
    assert answer(hearing, on_the_line(say("elephant").pcm)) == Transcript("[speech 1.4s]", 0.0, "activity")


def test_a_pinned_vosk_that_understands_nothing_says_nothing() -> None:
    hearing = Ears().hearing_for(agent("vosk"))
    assert answer(hearing, on_the_line(silence(1))) == Transcript("", 0.0, "vosk")


def test_the_script_ear_hears_what_the_script_expects() -> None:
    hearing = Ears().hearing_for(agent("script", strict=True))
    assert answer(hearing, bytes(32_000), "yes please") == Transcript("yes please", 1.0, "script")
    assert answer(hearing, bytes(32_000), None) == Transcript("", 0.0, "script")


def test_partials_of_the_script_ear_grow_with_the_audio() -> None:
    listening = Hearing([ScriptEar()]).open()
    texts = []
    for _ in range(5):
        listening.accept(bytes(12_800))
        texts.append(text_of(listening.partial("one two three")))
    assert texts == ["one", "one two", "one two three", "one two three", "one two three"]
    assert listening.partial(None) is None


def test_voice_activity_says_how_long_it_was() -> None:
    listening = Hearing([ActivityEar()]).open()
    listening.accept(bytes(3200))
    assert listening.partial() is None
    assert listening.finish(0.26).text == "[speech 0.3s]"


@pytest.mark.parametrize("hears", ["auto", "vosk"])
def test_a_whole_line_is_heard_in_turns_and_only_where_somebody_speaks(hears: Hears) -> None:
    parts = [hum(3, -35), key_presses(5), *(caller(text).pcm for text in FIXED[:3])]
    spaced = [part for sound in parts for part in (sound, silence(1))]
    hearing = Ears().hearing_for(agent(hears))
    endpointer = Endpointer(end_of_turn=0.7, max_utterance=30.0)
    heard, listening = [], None
    for frame in frames(np.concatenate([*spaced, silence(1)])):
        activities = endpointer.feed(frame)
        if listening is not None:
            listening.accept(frame)
        for activity in activities:
            if isinstance(activity, SpeechBegan):
                listening = hearing.open()
                listening.accept(endpointer.pre_roll)
            elif listening is not None:
                heard.append(listening.finish(activity.ended - activity.began).text)
                listening = None
    assert heard == list(FIXED[:3])


class FailingEar:
    """An ear that fails when opened, or later when it hears audio."""

    name = "failing"

    def __init__(self, *, when: str) -> None:
        self._when = when

    def open(self) -> Listener:
        if self._when == "open":
            raise ModelError("the model is gone")
        return self

    def accept(self, pcm: bytes) -> None:
        raise ModelError("the model cannot hear this")

    def partial(self, expected: str | None = None) -> Transcript | None:
        return Transcript("nonsense")

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        return Transcript("nonsense")


@pytest.mark.parametrize("when", ["open", "accept"])
def test_an_ear_that_fails_is_replaced_by_the_next_with_a_warning(when: str, caplog: pytest.LogCaptureFixture) -> None:
    hearing = Hearing([FailingEar(when=when), ActivityEar()])
    with caplog.at_level(logging.WARNING):
        assert answer(hearing, bytes(640)).ear == "activity"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the model" in caplog.text


def test_an_ear_that_cannot_be_opened_is_complained_about_once(caplog: pytest.LogCaptureFixture) -> None:
    hearing = Hearing([FailingEar(when="open"), ActivityEar()])
    for _ in range(3):
        hearing.open()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("when", ["open", "accept"])
def test_when_the_only_ear_fails_so_does_the_hearing(when: str) -> None:
    with pytest.raises(ModelError, match="the model"):
        answer(Hearing([FailingEar(when=when)]), bytes(640))


def test_an_agent_without_ears_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least one ear"):
        Hearing([])


# --- At start-up ----------------------------------------------------------------------------------------------------


def test_a_configured_model_that_is_broken_stops_the_start(model: Path) -> None:
    (model / "conf" / "model.conf").unlink()
    with pytest.raises(ModelError, match=r"\(--vosk-model\).*conf/model\.conf is missing"):
        Ears(vosk_model=str(model)).check([])
    with pytest.raises(ModelError, match="VOSK_MODEL_PATH"):
        Ears(environment={"VOSK_MODEL_PATH": str(model)}).check([])
    with pytest.raises(ModelError, match="vosk_model of agt_a"):
        Ears(agents_folder=model.parent).check([agent(vosk_model="model")])


def test_a_configured_model_that_is_good_is_used(model: Path) -> None:
    ears = Ears(agents_folder=model.parent)
    script = agent(vosk_model="model")
    ears.check([script, script, agent("activity")])
    assert answer(ears.hearing_for(script), on_the_line(caller(FIXED[0]).pcm)).text == FIXED[0]


def test_a_grammar_needs_a_model_that_can_be_narrowed(model: Path) -> None:
    script = replace(agent(vosk_model="model", strict=True), grammar="script")
    ears = Ears(agents_folder=model.parent)
    ears.check([script])
    (model / "graph" / "HCLG.fst").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"agt_a: grammar: script cannot be used with the model .*HCLG\.fst"):
        ears.check([script])


def test_an_empty_flag_is_refused_at_once() -> None:
    with pytest.raises(ModelError, match=r"the path of the Vosk model \(--vosk-model\) is empty"):
        Ears(vosk_model="")


def test_known_recordings_need_a_folder() -> None:
    with pytest.raises(ConfigError, match="agt_a: hears: recordings needs a recordings folder"):
        Ears().check([agent("recordings")])


def test_the_script_ear_needs_a_strict_script() -> None:
    with pytest.raises(ConfigError, match="agt_a: hears: script needs a strict `script:`"):
        Ears().check([agent("script")])


def test_without_vosk_auto_knows_activity_only_and_a_pinned_vosk_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vosk", None)
    ears = Ears()
    ears.check([agent()])
    ears.warm_up()
    assert ears.hearing_for(agent()).names == ("marks", "activity")
    assert ears.describe() == "marked speech, else voice activity"
    assert "the package vosk is not installed" in str(ears.warning)
    with pytest.raises(ConfigError, match="hears: vosk cannot be used here: the package vosk is not installed"):
        ears.check([agent("vosk")])


def test_with_vosk_there_is_nothing_to_warn_of() -> None:
    assert Ears().warning is None
