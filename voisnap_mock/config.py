"""Settings, merged once from flags, environment, file and defaults; and the agents file they lead to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from voisnap_mock.agents import reading
from voisnap_mock.agents.builtin import builtin_agents
from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.agents.shape import duration
from voisnap_mock.audio.voices import what_is_wrong_with
from voisnap_mock.errors import AgentsFileError, ConfigError, Problem
from voisnap_mock.faults.reading import SECTIONS, faults_of, pushed_events, read_faults, with_faults
from voisnap_mock.faults.token import is_token
from voisnap_mock.recordings.prompts import Recordings
from voisnap_mock.recordings.utterances import Utterances

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8647
DEFAULT_AGENTS_FILE = "agents.yaml"
RECORDINGS = "recordings"
UTTERANCES = "utterances"
ENVIRONMENT_PREFIX = "VOISNAP_MOCK_"

CallClock = Literal["real", "4x", "virtual"]
_CALL_CLOCKS: tuple[CallClock, ...] = ("real", "4x", "virtual")
LogLevel = Literal["debug", "info", "warning", "error"]
Choice = TypeVar("Choice", bound=str)
_SWITCHES = ("1", "true", "yes", "on", "0", "false", "no", "off")
_LOG_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """How one server is set up.

    Attributes:
        agents: the agents file; None is the built-in agents.
        host: the address to bind.
        port: 0 takes a free one.
        port_file: gets the port number and a line break once the server is ready.
        seed: of ids and choices; None is the agents file's own.
        vosk_model: folder of the Vosk model for agents that name none themselves.
        clock: what moves call time: the wall clock, four times as fast, or the caller's audio.
        idle_grace: seconds of real time that a virtual clock waits for an idle caller; None is the agent's own.
        faults: the file of more faults, or a token that replays those of another run.
        record: the folder that gets a folder for each call; None records nothing.
        no_ui: do without the sample page.
        log: how much is logged.
        control_token: what the control API wants as Bearer; None is nothing.
        origins: for settings that were given, by what: `--port`, `VOISNAP_MOCK_PORT`.
    """

    agents: Path | None = None
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    port_file: Path | None = None
    seed: int | None = None
    vosk_model: Path | None = None
    clock: CallClock = "real"
    idle_grace: float | None = None
    faults: Path | str | None = None
    record: Path | None = None
    no_ui: bool = False
    log: LogLevel = "warning"
    control_token: str | None = field(default=None, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def origin(self, name: str) -> str:
        """What gave the setting its value, for an error message."""
        return self.origins.get(name, f"default of --{name.replace('_', '-')}")


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Merge flags over environment over defaults.

    Args:
        flags: by the names of `Settings`; None is "not given". Values may still be texts.
        environment: where `VOISNAP_MOCK_<FLAG>` is looked up, and `VOSK_MODEL_PATH` for the model.
        folder: the working directory, for a default agents file and relative paths; the process's own if None.

    Raises:
        ConfigError: naming the flag or variable, its value and what was expected.
    """
    environment = environment or {}
    folder = folder or Path.cwd()
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    unknown = given.keys() - _PARSERS.keys()
    if unknown:
        raise ConfigError(f"unknown settings: {', '.join(sorted(unknown))}; known are {', '.join(_PARSERS)}")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, parse in _PARSERS.items():
        if name in given:
            origin, value = _flag(name), given[name]
        elif found := _from_environment(name, environment):
            origin, value = found
        else:
            continue
        values[name] = parse(origin, value, folder)
        origins[name] = origin
    if "agents" not in values and (folder / DEFAULT_AGENTS_FILE).is_file():
        values["agents"] = folder / DEFAULT_AGENTS_FILE
        origins["agents"] = f"{DEFAULT_AGENTS_FILE} of the working directory"
    return Settings(**values, origins=origins)


def _flag(name: str) -> str:
    # `serve` takes it as an argument, `exec` as an option.
    return "the command line" if name == "agents" else f"--{name.replace('_', '-')}"


def _from_environment(name: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """A variable that is set to nothing counts as not set."""
    variables = [ENVIRONMENT_PREFIX + name.upper()]
    if name == "vosk_model":
        variables.append("VOSK_MODEL_PATH")
    return next(((variable, environment[variable]) for variable in variables if environment.get(variable)), None)


def _path(origin: str, value: object, folder: Path) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ConfigError(f"{origin}: {value!r} is not a path")
    return folder / Path(value).expanduser()


def _faults(origin: str, value: object, folder: Path) -> Path | str:
    if isinstance(value, str) and is_token(value):
        return value
    return _path(origin, value, folder)


def _whole_number(origin: str, value: object, expected: str) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        return int(value)
    except ValueError:
        raise ConfigError(f"{origin}: {value!r} is not a whole number, expected {expected}") from None


def _port(origin: str, value: object, folder: Path) -> int:
    expected = "a port from 1 to 65535, or 0 for a free one"
    port = _whole_number(origin, value, expected)
    if not 0 <= port <= 65535:
        raise ConfigError(f"{origin}: {port} is out of range, expected {expected}")
    return port


def _seed(origin: str, value: object, folder: Path) -> int:
    return _whole_number(origin, value, "a seed such as 42")


def _host(origin: str, value: object, folder: Path) -> str:
    text = str(value).strip()
    if not text or any(character in text for character in " /"):
        raise ConfigError(f"{origin}: {value!r} is not a host, expected a name or an address such as {DEFAULT_HOST}")
    return text.removeprefix("[").removesuffix("]")


def _clock(origin: str, value: object, folder: Path) -> CallClock:
    return _one_of(origin, value, "clock", _CALL_CLOCKS)


def _idle_grace(origin: str, value: object, folder: Path) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    try:
        return duration(str(value).strip())
    except ValueError as error:
        raise ConfigError(f"{origin}: {value!r} cannot be used, {error}") from None


def _switch(origin: str, value: object, folder: Path) -> bool:
    if isinstance(value, bool):
        return value
    return _one_of(origin, value, "switch", _SWITCHES) in ("1", "true", "yes", "on")


def _log(origin: str, value: object, folder: Path) -> LogLevel:
    return _one_of(origin, value, "log level", _LOG_LEVELS)


def _control_token(origin: str, value: object, folder: Path) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"{origin}: a token of printable ASCII characters without spaces is expected")
    return value


def _one_of(origin: str, value: object, what: str, choices: tuple[Choice, ...]) -> Choice:
    for choice in choices:
        if str(value).lower() == choice:
            return choice
    raise ConfigError(f"{origin}: {value!r} is not a {what}, expected one of {', '.join(map(str, choices))}")


_PARSERS: Mapping[str, Callable[[str, object, Path], object]] = {
    "agents": _path,
    "host": _host,
    "port": _port,
    "port_file": _path,
    "seed": _seed,
    "vosk_model": _path,
    "clock": _clock,
    "idle_grace": _idle_grace,
    "faults": _faults,
    "record": _path,
    "no_ui": _switch,
    "log": _log,
    "control_token": _control_token,
}
assert _PARSERS.keys() == {setting.name for setting in fields(Settings)} - {"origins"}


# --- clients ------------------------------------------------------------------------------------------------------


def client_variables(base_url: str, *, api_key: str, email: str, password: str, access_token: str) -> dict[str, str]:
    """The environment variables that point a client at a server, by name."""
    return {
        "VOISNAP_EMULATOR_HOST": urlsplit(base_url).netloc,
        "VOISNAP_BASE_URL": base_url,
        "VOISNAP_API_KEY": api_key,
        "VOISNAP_EMAIL": email,
        "VOISNAP_PASSWORD": password,
        "VOISNAP_ACCESS_TOKEN": access_token,
    }


# --- agents ------------------------------------------------------------------------------------------------------


def parse_agents(text: str | bytes, *, source: str) -> AgentsFile:
    """Read an agents file, with all that it may say; `source` is its name for messages.

    Whether the prompts it names exist is not looked at.

    Raises:
        AgentsFileError: with every problem that was found, each with line and column.
    """
    return reading.parse_agents(text, source=source, sections=SECTIONS)


def agents_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of an agents file."""
    return reading.agents_schema(SECTIONS)


def check_agents(file: AgentsFile, prompts: Recordings) -> None:
    """Look that every recording and voice that an agents file names is there.

    Raises:
        AgentsFileError: one is not; every problem with line and column.
    """
    missing = prompts.missing(prompt.wav for prompt in file.prompts())
    problems = [
        Problem(prompt.line, prompt.column, missing[prompt.wav]) for prompt in file.prompts() if prompt.wav in missing
    ]
    problems += [
        Problem(agent.voice.line, agent.voice.column, wrong)
        for agent in file.agents.values()
        if agent.voice.engine in ("auto", "pyttsx3") and (wrong := what_is_wrong_with(agent.voice.name))
    ]
    if problems:
        raise AgentsFileError(file.source, problems)


async def _watch_folder(
    folder: Path, counts: Callable[[Path], bool], on_change: Callable[[], None], *, recursive: bool
) -> None:
    """Call `on_change` for each change of a path that counts, until cancelled."""
    from watchfiles import awatch

    async for changes in awatch(folder, watch_filter=None, recursive=recursive, debounce=200, step=100):
        if any(counts(Path(changed)) for _, changed in changes):
            on_change()


class FaultsSource:
    """Where faults come from besides the agents file: a file that may change, or a token.

    Attributes:
        path: the file, None when there is none.
    """

    def __init__(self, given: Path | str | None, *, origin: str = "") -> None:
        self.path = given if isinstance(given, Path) else None
        self._token = given if isinstance(given, str) else None
        self._origin = origin

    def join(self, file: AgentsFile) -> AgentsFile:
        """The agents file with these faults, as they are now.

        Raises:
            ConfigError: the file cannot be read.
            FaultsError: it is wrong, or at odds with the agents file.
        """
        text: str | bytes | None = self._token
        source = str(self.path or self._origin)
        if self.path is not None:
            try:
                text = self.path.read_bytes()
            except OSError as error:
                reason = (
                    f"cannot be read (from {self._origin}): {error.strerror}; expected a file or a token, faults1...."
                )
                raise ConfigError(f"faults file {self.path} {reason}") from error
        if text is None:
            return file
        ids = [rule.id for rule in faults_of(file).rules if rule.id]
        events = pushed_events(file.agents.values())
        return with_faults(file, read_faults(text, source=source, ids=ids, events=events), source=source)

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` whenever the file may have changed; returns at once when there is none."""
        if self.path is not None:
            name = self.path.name
            await _watch_folder(self.path.parent, lambda changed: changed.name == name, on_change, recursive=False)


class AgentsSource:
    """Where a server's agents come from: a file that may change, or the built-in ones.

    Attributes:
        path: the file, None for the built-in agents.
        recordings: the prompts beside it.
        utterances: the known caller recordings there.

    Args:
        origin: what named the file.
        recorded: the folder that calls are recorded in; what happens there is no edit, wherever it lies.
    """

    def __init__(self, path: Path | None, *, origin: str = "", recorded: Path | None = None) -> None:
        self.path = path
        self._recorded = None if recorded is None else recorded.resolve()
        self._folder = (path.parent if path is not None else Path.cwd()) / RECORDINGS
        self.recordings = Recordings(self._folder)
        self.utterances = Utterances(self._folder / UTTERANCES)
        self._origin = origin

    def load(self) -> AgentsFile:
        """Read the file as it is now, and look that every recording and voice it names is there.

        Raises:
            ConfigError: the file cannot be read; naming it, and what named it.
            AgentsFileError: it is wrong; every problem with line and column.
        """
        if self.path is None:
            return builtin_agents()
        came_from = f" (from {self._origin})" if self._origin else ""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(
                f"agents file {self.path}{came_from}: no such file; `voisnap-mock init` writes one to begin with"
            ) from None
        except OSError as error:
            raise ConfigError(f"agents file {self.path}{came_from} cannot be read: {error.strerror}") from error
        file = parse_agents(text, source=str(self.path))
        check_agents(file, self.recordings)
        return file

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` whenever the file or a recording may have changed, and once when watching has begun.

        Runs until cancelled; returns at once for the built-in agents.
        """
        if self.path is None:
            return
        async with asyncio.TaskGroup() as group:
            # The folder is watched, not the file: editors put a new file in the old one's place.
            group.create_task(self._watch(self.path.parent, (self.path.name, RECORDINGS), on_change, recursive=False))
            if self._folder.is_dir():
                group.create_task(self._watch(self._folder, (), on_change, recursive=True))
            # Both watch from their first step on, so an edit since the file was read is seen here or there.
            await asyncio.sleep(0)
            on_change()

    async def _watch(
        self, folder: Path, names: tuple[str, ...], on_change: Callable[[], None], *, recursive: bool
    ) -> None:
        await _watch_folder(folder, lambda changed: self._counts(changed, names), on_change, recursive=recursive)

    def _counts(self, changed: Path, names: tuple[str, ...]) -> bool:
        if self._recorded is not None and changed.resolve().is_relative_to(self._recorded):
            return False
        return not names or changed.name in names
