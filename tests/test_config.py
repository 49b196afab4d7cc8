"""Settings come from flags, then the environment, then defaults; every error names where the value came from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from watchfiles import awatch

from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.audio.frames import write_wav
from voisnap_mock.config import AgentsSource, Settings, load_settings
from voisnap_mock.errors import AgentsFileError, ConfigError

AGENTS = "version: 1\nagents:\n  agt_a:\n    greeting: {wav: prompts/hello.wav, text: Hello}\n"
WAV = write_wav(bytes(640), 16_000)


def test_with_nothing_given_the_defaults_count(tmp_path: Path) -> None:
    settings = load_settings({}, environment={}, folder=tmp_path)
    assert settings == Settings()
    assert (settings.host, settings.port, settings.agents) == ("127.0.0.1", 8647, None)


def test_a_flag_goes_over_the_environment_and_that_over_the_default(tmp_path: Path) -> None:
    environment = {"VOISNAP_MOCK_PORT": "1234", "VOISNAP_MOCK_HOST": "0.0.0.0", "VOISNAP_MOCK_SEED": "7"}
    settings = load_settings({"port": 99, "seed": None}, environment=environment, folder=tmp_path)
    assert (settings.port, settings.host, settings.seed, settings.log) == (99, "0.0.0.0", 7, "warning")
    assert settings.origin("port") == "--port"
    assert settings.origin("host") == "VOISNAP_MOCK_HOST"
    assert settings.origin("log") == "default of --log"


def test_a_variable_set_to_nothing_is_not_set(tmp_path: Path) -> None:
    assert load_settings({}, environment={"VOISNAP_MOCK_PORT": ""}, folder=tmp_path).port == 8647


def test_the_vosk_model_has_a_second_variable(tmp_path: Path) -> None:
    both = {"VOSK_MODEL_PATH": "/b", "VOISNAP_MOCK_VOSK_MODEL": "/a"}
    assert load_settings({}, environment=both, folder=tmp_path).vosk_model == Path("/a")
    settings = load_settings({}, environment={"VOSK_MODEL_PATH": "/b"}, folder=tmp_path)
    assert settings.vosk_model == Path("/b")
    assert settings.origin("vosk_model") == "VOSK_MODEL_PATH"


def test_the_agents_file_of_the_working_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text(AGENTS, encoding="utf-8")
    settings = load_settings({}, environment={}, folder=tmp_path)
    assert settings.agents == tmp_path / "agents.yaml"
    assert load_settings({"agents": "other.yaml"}, environment={}, folder=tmp_path).agents == tmp_path / "other.yaml"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "http", "'http' is not a whole number, expected a port from 1 to 65535"),
        ("port", "65536", "65536 is out of range, expected a port"),
        ("port", "-1", "-1 is out of range"),
        ("seed", "x", "'x' is not a whole number, expected a seed"),
        ("host", "a b", "'a b' is not a host"),
        ("host", "http://x", "'http://x' is not a host"),
        ("clock", "fast", "'fast' is not a clock, expected one of real, 4x, virtual"),
        ("no_ui", "maybe", "'maybe' is not a switch, expected one of 1, true, yes, on, 0, false, no, off"),
        ("idle_grace", "soon", "'soon' cannot be used, expected a time with its unit"),
        ("idle_grace", "-1s", "'-1s' cannot be used, expected a time with its unit"),
        ("log", "loud", "'loud' is not a log level, expected one of debug, info, warning, error"),
    ],
)
def test_a_wrong_value_is_named_with_its_origin(tmp_path: Path, name: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError) as by_flag:
        load_settings({name: value}, environment={}, folder=tmp_path)
    assert str(by_flag.value).startswith(f"--{name.replace('_', '-')}: {expected}")
    with pytest.raises(ConfigError) as by_variable:
        load_settings({}, environment={f"VOISNAP_MOCK_{name.upper()}": value}, folder=tmp_path)
    assert str(by_variable.value).startswith(f"VOISNAP_MOCK_{name.upper()}: {expected}")


@pytest.mark.parametrize(("value", "seconds"), [("200ms", 0.2), ("1m", 60.0), (0.5, 0.5), (0, 0.0)])
def test_the_grace_of_an_idle_caller_is_a_time(tmp_path: Path, value: object, seconds: float) -> None:
    assert load_settings({"idle_grace": value}, environment={}, folder=tmp_path).idle_grace == seconds


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown settings: colour; known are agents, host"):
        load_settings({"colour": "red"}, environment={}, folder=tmp_path)


# --- agents files ----------------------------------------------------------------------------------------------------


def test_without_a_file_the_built_in_agents_are_there() -> None:
    assert {"agt_echo", "agt_support", "agt_silent"} <= AgentsSource(None).load().agents.keys()


def test_a_file_that_is_not_there_is_named_with_what_named_it(tmp_path: Path) -> None:
    source = AgentsSource(tmp_path / "gone.yaml", origin="VOISNAP_MOCK_AGENTS")
    with pytest.raises(
        ConfigError, match=r"gone\.yaml \(from VOISNAP_MOCK_AGENTS\): no such file; `voisnap-mock init`"
    ):
        source.load()


def test_a_folder_is_no_agents_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        AgentsSource(tmp_path).load()


def test_a_prompt_that_is_not_there_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS, encoding="utf-8")
    with pytest.raises(AgentsFileError) as refused:
        AgentsSource(path).load()
    assert f"{path}:4:15: " in str(refused.value)
    assert "prompts/hello.wav" in str(refused.value)


def test_a_prompt_that_is_there_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS, encoding="utf-8")
    (tmp_path / "recordings" / "prompts").mkdir(parents=True)
    (tmp_path / "recordings" / "prompts" / "hello.wav").write_bytes(WAV)
    assert isinstance(AgentsSource(path).load(), AgentsFile)


def rewritten(path: Path, text: str) -> None:
    """As editors do it: a new file takes the place of the old one."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


async def test_edits_are_noticed_whether_the_file_is_written_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS, encoding="utf-8")
    changed = asyncio.Event()
    watching = asyncio.create_task(AgentsSource(path).watch(changed.set))
    try:
        await asyncio.wait_for(changed.wait(), 10)
        for edit in (lambda: path.write_text(AGENTS + "# x\n"), lambda: rewritten(path, AGENTS)):
            changed.clear()
            edit()
            await asyncio.wait_for(changed.wait(), 10)
    finally:
        watching.cancel()


async def test_a_new_recording_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS, encoding="utf-8")
    (tmp_path / "recordings" / "prompts").mkdir(parents=True)
    changed = asyncio.Event()
    watching = asyncio.create_task(AgentsSource(path).watch(changed.set))
    try:
        await asyncio.wait_for(changed.wait(), 10)
        changed.clear()
        (tmp_path / "recordings" / "prompts" / "hello.wav").write_bytes(WAV)
        await asyncio.wait_for(changed.wait(), 10)
    finally:
        watching.cancel()


async def test_calls_that_are_recorded_beside_the_agents_are_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(AGENTS, encoding="utf-8")
    calls, prompts = tmp_path / "recordings" / "calls", tmp_path / "recordings" / "prompts"
    for folder in (calls, prompts):
        folder.mkdir(parents=True)
    told: asyncio.Queue[None] = asyncio.Queue()
    watching = asyncio.create_task(AgentsSource(path, recorded=calls).watch(lambda: told.put_nowait(None)))
    try:
        await asyncio.wait_for(told.get(), 10)
        # Somebody else who watches says when there was something to be seen; the second time, the first is long told.
        beside = awatch(tmp_path / "recordings", debounce=200, step=100, stop_event=(done := asyncio.Event()))
        for content in (WAV, WAV + WAV):
            seen = asyncio.create_task(anext(beside))
            await asyncio.sleep(0)
            (calls / "in.wav").write_bytes(content)
            await asyncio.wait_for(seen, 10)
        assert told.empty()
        (prompts / "hello.wav").write_bytes(WAV)
        await asyncio.wait_for(told.get(), 10)
        done.set()
    finally:
        watching.cancel()


async def test_the_built_in_agents_are_not_watched() -> None:
    await asyncio.wait_for(AgentsSource(None).watch(lambda: pytest.fail("nothing can change")), 1)
