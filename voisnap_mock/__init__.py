"""An offline stand-in for the Voisnap voice-agent API.

from voisnap_mock import MockServer

with MockServer("agents.yaml") as server:
    my_client.connect(server.base_url)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voisnap_mock.agents.script import AgentsFile
    from voisnap_mock.audio.marking import decode_speech
    from voisnap_mock.caller import CallRefused
    from voisnap_mock.clock import ManualClock
    from voisnap_mock.config import Settings, load_settings, parse_agents
    from voisnap_mock.errors import (
        AgentsFileError,
        ConfigError,
        ExpectationFailed,
        FaultsError,
        MisuseError,
        ModelError,
        PortTaken,
        VoisnapMockError,
    )
    from voisnap_mock.journal import JournalEntry, JournalFilter
    from voisnap_mock.server import MockServer
    from voisnap_mock.testing.handset import NothingHeard
    from voisnap_mock.testing.mock import CallLeftOpen, Mock
    from voisnap_mock.testing.mock_calls import AsyncMockCall, MockCall

__version__ = "0.1.0"

__all__ = [
    "AgentsFile",
    "AgentsFileError",
    "AsyncMockCall",
    "CallLeftOpen",
    "CallRefused",
    "ConfigError",
    "ExpectationFailed",
    "FaultsError",
    "JournalEntry",
    "JournalFilter",
    "ManualClock",
    "MisuseError",
    "Mock",
    "MockCall",
    "MockServer",
    "ModelError",
    "NothingHeard",
    "PortTaken",
    "Settings",
    "VoisnapMockError",
    "decode_speech",
    "load_settings",
    "parse_agents",
]

# Names are loaded when they are asked for: importing one module of the package must not load the server.
_HOMES = {
    "AgentsFile": "agents.script",
    "AgentsFileError": "errors",
    "AsyncMockCall": "testing.mock_calls",
    "CallLeftOpen": "testing.mock",
    "CallRefused": "caller",
    "ConfigError": "errors",
    "ExpectationFailed": "errors",
    "FaultsError": "errors",
    "JournalEntry": "journal",
    "JournalFilter": "journal",
    "ManualClock": "clock",
    "MisuseError": "errors",
    "Mock": "testing.mock",
    "MockCall": "testing.mock_calls",
    "MockServer": "server",
    "ModelError": "errors",
    "NothingHeard": "testing.handset",
    "PortTaken": "errors",
    "Settings": "config",
    "VoisnapMockError": "errors",
    "decode_speech": "audio.marking",
    "load_settings": "config",
    "parse_agents": "config",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'voisnap_mock' has no attribute {name!r}")
    return getattr(import_module(f"voisnap_mock.{home}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
