"""The agents that a server has when nobody gives it a file."""

from __future__ import annotations

from functools import cache
from pkgutil import get_data

from voisnap_mock.agents.reading import parse_agents
from voisnap_mock.agents.script import AgentsFile


@cache
def builtin_agents() -> AgentsFile:
    """`agt_support`, a small support flow; `agt_echo`, who repeats what it hears; `agt_silent`, who only listens."""
    text = get_data(__package__, "builtin.yaml")
    assert text is not None, "the file is part of the package"
    return parse_agents(text, source="built-in agents")
