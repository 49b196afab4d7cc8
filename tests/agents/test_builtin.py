"""The built-in agents and the example file: sound, spoken and understood with what the package brings."""

import re
import wave
from pathlib import Path

import jsonschema
import pytest
import yaml

from voisnap_mock.agents.builtin import builtin_agents
from voisnap_mock.agents.dialogue import Dialogue
from voisnap_mock.agents.reading import agents_schema, parse_agents
from voisnap_mock.agents.script import AgentsFile, EndReason, Hear, Rule, Say, Transfer

ROOT = Path(__file__).parent.parent.parent
WORDS = ROOT / "voisnap_mock" / "audio" / "models" / "tiny-en" / "graph" / "words.txt"


def example() -> AgentsFile:
    return parse_agents((ROOT / "agents.yaml").read_bytes(), source="agents.yaml")


def rules(file: AgentsFile) -> list[Rule]:
    return [
        rule
        for agent in file.agents.values()
        for rule in (
            *agent.replies,
            *(rule for state in agent.states.values() for rule in state),
            *(agent.script or ()),
        )
    ]


FILES = pytest.mark.parametrize("file", [builtin_agents(), example()], ids=["built-in", "example"])


@FILES
def test_the_small_speech_model_knows_every_word_to_listen_for(file: AgentsFile) -> None:
    known = {line.split()[0] for line in WORDS.read_text(encoding="utf-8").splitlines()}
    phrases = [
        phrase
        for rule in rules(file)
        for trigger in rule.triggers
        if isinstance(trigger, Hear)
        for phrase in (*trigger.phrases, *(re.sub(r"\(\?P<.*?\)|\\.|/", " ", p.pattern) for p in trigger.patterns))
    ]
    assert phrases
    assert {word for phrase in phrases for word in re.findall("[a-z']+", phrase.casefold())} <= known


@pytest.mark.parametrize("path", ["agents.yaml", "voisnap_mock/agents/builtin.yaml"])
def test_the_files_keep_to_the_schema(path: str) -> None:
    document = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(agents_schema()).validate(document)


def test_every_prompt_of_the_example_is_there_and_small() -> None:
    prompts = {prompt.wav for prompt in example().prompts()}
    assert prompts == {"prompts/hello.wav", "prompts/goodbye.wav"}
    for prompt in prompts:
        path = ROOT / "recordings" / prompt
        assert path.stat().st_size <= 100_000
        with wave.open(str(path)) as recording:
            assert (recording.getnchannels(), recording.getsampwidth()) == (1, 2)


def texts(dialogue: Dialogue, said: str) -> list[str]:
    return [action.text for action in dialogue.hear(said).actions if isinstance(action, Say)]


@FILES
def test_support_refunds_an_order(file: AgentsFile) -> None:
    talk = Dialogue(file.agents["agt_support"])
    assert talk.greet().actions == (Say("Hi, this is Acme. How can I help?"),)
    assert texts(talk, "i want a refund") == ["Sure. What is the order number?"]
    assert "digits" in texts(talk, "i do not know")[0]
    assert texts(talk, "four one seven nine")[0].startswith("Order 4 1 7 9 is refunded.")
    assert texts(talk, "My name is Ada")[0].startswith("Nice to meet you, Ada.")
    assert talk.hear("goodbye").end is EndReason.AGENT_ENDED


@FILES
def test_support_hands_over_to_a_person(file: AgentsFile) -> None:
    for turn in (
        Dialogue(file.agents["agt_support"]).hear("an operator please"),
        Dialogue(file.agents["agt_support"]).press("0"),
    ):
        assert turn is not None
        assert isinstance(turn.transfer, Transfer)
        assert turn.transfer.to == "+15550100"


def test_echo_repeats_what_it_hears() -> None:
    talk = Dialogue(builtin_agents().agents["agt_echo"])
    assert talk.greet().actions == ()
    assert texts(talk, "Four LITTLE words,\nsaid here") == ["Four LITTLE words,\nsaid here"]


def test_silent_never_says_a_word() -> None:
    talk = Dialogue(builtin_agents().agents["agt_silent"])
    assert (talk.greet().actions, talk.hear("hello").actions, talk.press("1")) == ((), (), None)
    assert (talk.next_silence(), talk.fall_silent(99.0)) == (None, None)


def test_the_built_in_agents_are_three() -> None:
    assert sorted(builtin_agents().agents) == ["agt_echo", "agt_silent", "agt_support"]


def test_the_example_menu_takes_keys() -> None:
    talk = Dialogue(example().agents["agt_menu"], variables={"metadata": {"customer": "Ada"}})
    one = talk.press("1")
    assert one is not None
    assert one.actions[0].payload == {"page": "hours", "caller": "Ada"}  # type: ignore[union-attr]
    talk.press("2")
    assert [talk.press(key) for key in "2580"] == [None, None, None, None]
    last = talk.press("#")
    assert last is not None
    assert last.end is EndReason.AGENT_ENDED


def test_the_example_script_is_strict() -> None:
    talk = Dialogue(example().agents["agt_strict"])
    talk.greet()
    assert talk.hear("maybe").end is EndReason.ERROR
    assert texts(talk, "yes") == ["Confirmed. Press one if you need a message."]
    last = talk.press("1")
    assert last is not None
    assert last.end is EndReason.TRANSFER_COMPLETE


def test_the_example_hotel_knows_its_guests() -> None:
    hotel = example().agents["agt_hotel"]
    gold = {"metadata": {"customer": {"plan": "gold"}}}
    assert "Suite" in texts(Dialogue(hotel, variables=gold), "a room")[0]
    assert "Personen" in texts(Dialogue(hotel), "a room")[0]
    assert texts(Dialogue(hotel, variables={"language": "de-AT"}), "thank you") == ["Gern geschehen."]
