"""Faults as clients see them that were not made for this: what they survive, and how they word what they do not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from clients import HERE, node
from processes import ClientProgram, ServerProgram

PATIENT, IMPATIENT = 20_000, 2_000
"""Milliseconds that a client waits for what comes, and for what may not come."""
HARMLESS = ("fragment", "coalesce", "duplicate", "reorder")

JAVASCRIPT, PYTHON = "@microsoft/signalr", "signalrcore"
COMMANDS = {
    JAVASCRIPT: lambda: node("client.mjs"),
    PYTHON: lambda: (sys.executable, str(HERE / "signalrcore_client.py")),
}

TALK = ["Hello.", "Which day was it?", "Refunded."]
MESSAGE, CALL, TYPING = "event.MessageReceived", "method.SendMessageAsync", "event.TypingIndicator"


@dataclass(frozen=True)
class Story:
    """What a client has printed, and what the server noted."""

    events: list[tuple[str, Any]]
    fired: list[str]

    @property
    def finals(self) -> list[str]:
        return [data["content"] for event, data in self.events if event == "MessageReceived" and data["isFinal"]]

    @property
    def answers(self) -> list[Any]:
        return [data for event, data in self.events if event == "answer"]

    def of(self, event: str) -> list[Any]:
        return [data for name, data in self.events if name == event]

    @property
    def state(self) -> str:
        return str(self.of("state")[0]).lower()


Expect = Callable[[Story], object]


def unharmed(story: Story) -> None:
    assert story.finals == TALK
    assert story.answers == [{"result": None}] * 2
    assert story.state == "connected"


def gives_up(*, finals: list[str], because: str = "") -> Expect:
    """The client ends its connection; the JavaScript client says why."""

    def expect(story: Story) -> None:
        assert story.finals == finals
        assert story.state == "disconnected"
        assert because in str(story.of("closed")[0])

    return expect


def refused(because: str) -> Expect:
    def expect(story: Story) -> None:
        assert because in story.of("refused")[0]
        assert story.finals == []
        assert story.state == "disconnected"

    return expect


def says(*finals: str, answers: tuple[Any, ...] = ({"result": None},) * 2) -> Expect:
    def expect(story: Story) -> None:
        assert story.finals == list(finals)
        assert story.answers == list(answers)
        assert story.state == "connected"

    return expect


def doubled(story: Story) -> None:
    """The client takes it for two of them."""
    assert story.finals[:3] == ["Hello.", "Which day was it?", "Which day was it?"]
    assert story.answers == [{"result": None}] * 2
    assert story.state == "connected"


def late(story: Story) -> None:
    """The last chunk comes after the end of the typing that announces it."""
    unharmed(story)
    seen = [
        data["content"] if event == "MessageReceived" else data["isTyping"]
        for event, data in story.events
        if event == "TypingIndicator" or (event == "MessageReceived" and data["isFinal"])
    ]
    reply = seen.index(TALK[1])
    assert seen[reply - 1] is False


def notices_nothing(story: Story) -> None:
    """This client has no time-out for the server."""
    assert story.state == "connected"
    assert story.answers == ["no answer"] * len(story.answers)


# What each of the two makes of it: JavaScript, then Python.
JSON_ERROR, TIMEOUT = "SyntaxError", "Server timeout elapsed without receiving a message"
CASES: dict[tuple[str, str], tuple[Expect, Expect]] = {
    (MESSAGE, "frames: fragment"): (unharmed, unharmed),
    (MESSAGE, "frames: coalesce"): (unharmed, unharmed),
    (MESSAGE, "frames: corrupt"): (gives_up(finals=TALK[:1], because=JSON_ERROR), gives_up(finals=TALK[:1])),
    (MESSAGE, "frames: duplicate"): (doubled, doubled),
    (MESSAGE, "frames: swallow"): (says(TALK[0], TALK[2]), says(TALK[0], TALK[2])),
    (MESSAGE, "frames: reorder"): (late, late),
    (MESSAGE, "frames: late_ping"): (gives_up(finals=TALK, because=TIMEOUT), unharmed),
    ("handshake", "frames: fragment"): (unharmed, unharmed),
    ("handshake", "frames: coalesce"): (unharmed, unharmed),
    ("handshake", "frames: corrupt"): (refused("Error parsing handshake response"), refused("Empty")),
    ("handshake", "frames: duplicate"): (refused("Invalid payload"), unharmed),
    ("handshake", "frames: swallow"): (refused("Expected a handshake response"), unharmed),
    ("handshake", "frames: reorder"): (refused("Expected a handshake response"), unharmed),
    (CALL, "frames: corrupt"): (
        gives_up(finals=TALK[:1], because=JSON_ERROR),
        gives_up(finals=TALK[:1]),
    ),
    (CALL, "frames: duplicate"): (doubled, doubled),
    (CALL, "frames: swallow"): (
        says("Hello.", "Sorry?", answers=("no answer", {"result": None})),
        says("Hello.", "Sorry?", answers=("no answer", {"result": None})),
    ),
    (CALL, "frames: missing_completion"): (
        says(*TALK, answers=("no answer", {"result": None})),
        says(*TALK, answers=("no answer", {"result": None})),
    ),
    (TYPING, "drop: reset"): (gives_up(finals=TALK[:1], because="1006"), gives_up(finals=TALK[:1])),
    (TYPING, "drop: close"): (gives_up(finals=TALK[:1]), gives_up(finals=TALK[:1])),
    (TYPING, "drop: close_no_reconnect"): (gives_up(finals=TALK[:1]), gives_up(finals=TALK[:1])),
    (TYPING, "drop: stall"): (gives_up(finals=TALK[:1], because=TIMEOUT), notices_nothing),
    (TYPING, "drop: half_open"): (gives_up(finals=TALK[:1], because=TIMEOUT), notices_nothing),
}
NAMES = [(client, at, what) for client in COMMANDS for at, what in CASES]


def rule_of(client: str, at: str, what: str) -> dict[str, Any]:
    """In the first turn of the chat, as far as there are turns."""
    key, _, how = what.partition(": ")
    rule: dict[str, Any] = {"id": f"{client} {at} {what}", "at": at, "do": {key: how}}
    match at:
        case "handshake":
            return rule
        case "method.SendMessageAsync":
            return {**rule, "times": 1}
        case _:
            return {**rule, "when": {"turn": 1}}


@pytest.fixture(scope="module")
def stories(server: ServerProgram) -> dict[tuple[str, str, str], Story]:
    """All cases, several at a time: each has a connection of its own, which brings its fault with it."""

    def tell(name: tuple[str, str, str]) -> list[tuple[str, Any]]:
        client, at, what = name
        plan = {
            "do": "watch",
            "url": server.url,
            "query": {"agentId": "agt_desk", "metadata": json.dumps({"$mock": rule_of(client, at, what)})},
            "messages": ["A refund!", "On Sunday."],
            "patience": PATIENT if what.endswith(HARMLESS) else IMPATIENT,
            "serverTimeout": 1_000 if what in ("drop: stall", "drop: half_open", "frames: late_ping") else None,
        }
        with ClientProgram([*COMMANDS[client](), json.dumps(plan)]) as program:
            return program.run()

    with ThreadPoolExecutor(4) as crew:
        told = dict(zip(NAMES, crew.map(tell, NAMES), strict=True))
    entries = httpx.get(f"{server.url}/__voisnap/journal?kind=fault.fired", trust_env=False).json()["data"]
    return {
        name: Story(events, [entry["point"] for entry in entries if entry["fault"] == " ".join(name)])
        for name, events in told.items()
    }


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_what_a_client_makes_of_a_fault(name: tuple[str, str, str], stories: dict[tuple[str, str, str], Story]) -> None:
    client, at, what = name
    story = stories[name]
    CASES[at, what][list(COMMANDS).index(client)](story)
    assert set(story.fired) == {at}


# After a reset, signalrcore comes back only when its next ping is due, and fails: 15 s.
@pytest.mark.parametrize(("client", "how"), [(JAVASCRIPT, "close"), (JAVASCRIPT, "reset"), (PYTHON, "close")])
def test_a_lost_connection_is_made_again_and_the_chat_goes_on(server: ServerProgram, client: str, how: str) -> None:
    rule = {"at": MESSAGE, "when": {"turn": 1}, "do": {"drop": how}, "times": 1}
    query = {"agentId": "agt_desk", "metadata": json.dumps({"$mock": rule})}
    plan = {"do": "chat", "url": server.url, "query": query, "messages": ["A refund!", "On Sunday."], "reconnect": True}

    with ClientProgram([*COMMANDS[client](), json.dumps(plan)]) as program:
        story = Story(program.run(), [])

    assert story.of("Reconnected")[0]["sessionId"] == story.of("SessionStarted")[0]["sessionId"]
    assert story.finals == TALK
