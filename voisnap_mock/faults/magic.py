"""Agents that are always there, each with its fault: whoever can choose an agent can choose a failure.

They are in no list of agents, and calls reach them unless the agents file has an agent of that id, or `magic: false`.

Source: Assumed throughout.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from voisnap_mock.agents.script import AgentScript, Otherwise, Rule, Say
from voisnap_mock.faults.rules import CODES, Cut, Drop, Fail, FaultRule, Impair, Silence, Slow, When

PREFIX = "agt_mock_"

_SLOW, _SILENT, _DROP, _BAD_LINE = (f"{PREFIX}{name}" for name in ("slow", "silent", "drop_3s", "bad_line"))


def _agent_of(code: str) -> str:
    return PREFIX + code.lower()


def _agent(agent_id: str) -> AgentScript:
    greeting = () if agent_id == _SILENT else (Say("Hi, this agent is here to fail."),)
    answers = ((Say("I heard you."),), (Say("I heard you again."),))
    return AgentScript(agent_id, agent_id, greeting=greeting, replies=(Rule((Otherwise(),), answers),))


AGENTS: Mapping[str, AgentScript] = {
    agent_id: _agent(agent_id) for agent_id in (*map(_agent_of, CODES), _SLOW, _SILENT, _DROP, _BAD_LINE)
}
"""The agents by id."""

# Where clients meet a code; all others turn the connection away. A chat has no ear: there the first message fails.
_PLACES: Mapping[str, tuple[tuple[str, When], ...]] = {
    "STT_PROVIDER_TIMEOUT": (("stt", When(turn=1)), ("llm", When(turn=1, channel="chat"))),
    "LLM_PROVIDER_ERROR": (("llm", When(turn=1)),),
    "RECONNECT_FAILED": (("reconnect", When()),),
}
_CONNECT = (("connect", When()),)


def _at_their_places(code: str) -> tuple[FaultRule, ...]:
    agent = _agent_of(code)
    return tuple(
        FaultRule(f"{agent} {point}", (point,), Fail(code), When(agent=agent, turn=when.turn, channel=when.channel))
        for point, when in _PLACES.get(code, _CONNECT)
    )


_RULES = (
    *(rule for code in CODES for rule in _at_their_places(code)),
    FaultRule(_SLOW, ("llm",), Slow(3.0), When(agent=_SLOW)),
    FaultRule(_SILENT, ("llm",), Silence(), When(agent=_SILENT)),
    FaultRule(_DROP, ("start",), Drop(Cut.RESET), When(agent=_DROP), after=3.0),
    FaultRule(_BAD_LINE, ("audio.in", "audio.out"), Impair(loss=0.05, burst=3, jitter=0.06), When(agent=_BAD_LINE)),
)


def rules_without(agents: Container[str]) -> tuple[FaultRule, ...]:
    """The rules of those agents whose ids the agents file has not taken."""
    return tuple(rule for rule in _RULES if rule.when.agent not in agents)
