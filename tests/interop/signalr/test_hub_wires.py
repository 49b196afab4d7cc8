"""What JavaScript clients do when the wire is not what they hoped for: resumed, refused, switched and shut down."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hub_processes import HubServer
from javascript_clients import EVERY_WAY, JAVASCRIPT_VERSIONS, Way, name_of_way
from line_clients import LineClient
from proxy import Proxy

pytestmark = pytest.mark.interop

ROUNDS = 4
CALLS = 30


def ways(transport: str, *, since: int = 3) -> pytest.MarkDecorator:
    """Every version and protocol on one transport."""
    params = [param for param in EVERY_WAY if param[1] == transport and param[0] >= since]
    return pytest.mark.parametrize("way", params, indirect=True, ids=name_of_way)


# --- stateful reconnect


@ways("ws", since=8)
def test_resumed_connections_neither_lose_nor_double_anything(way: Way) -> None:
    with Proxy(way.server.port) as proxy:
        run = way.start("resumes", port=proxy.port, stateful=True, rounds=ROUNDS, calls=CALLS)
        for number in range(ROUNDS):
            run.wait_for("swallow")
            proxy.swallow(only_answers=number % 2 == 0)
            run.go()
            run.wait_for("cut me off")
            proxy.cut(with_reset=True)
            run.go()
        result = run.result()
        # The client does not wait until its last words have passed the proxy.
        end = way.server.end_of(result["after"])

    everything = list(range(result["sent"]))
    assert result["sent"] == ROUNDS * CALLS * 3
    assert result["seen"] == []
    assert result["before"] == result["after"]
    assert result["noted"] == everything
    assert result["heard"] == everything
    assert result["answers"] == everything
    assert end == ""


def test_resumable_connections_carry_more_than_their_buffers_hold(
    hubs: HubServer, javascript: Callable[[int], LineClient]
) -> None:
    """100 kB wait for an acknowledgement at most; the rest waits for that, and comes."""
    params = [param for param in EVERY_WAY if param[1] == "ws" and param[0] >= 8]
    runs = [
        Way(*param, javascript(param[0]), hubs).start("floods", stateful=True, count=7, size=30_000) for param in params
    ]

    for run in runs:
        result = run.result()
        assert result["flooded"] == result["echoed"] == 7
        assert result["received"] == [[number, 30_000] for number in range(7)]


@ways("ws", since=8)
def test_a_client_that_may_not_resume_is_not_told_that_it_could(way: Way) -> None:
    """Clients that did not ask refuse a server that offers it, and the other way round they do without."""
    plain = way.run("calls", calls=[["Add", 1, 2]])
    refused = way.run("calls", hub="polls", transport="poll", stateful=True, calls=[["Add", 1, 2]])

    assert plain["answers"] == refused["answers"] == [{"result": 3}]


# --- the start


@ways("ws")
def test_without_negotiation(way: Way) -> None:
    result = way.run("calls", skipNegotiation=True, calls=[["Add", 1, 2], ["WhoAmI"]])

    assert result["answers"][0] == {"result": 3}
    assert len(result["answers"][1]["result"]) == 22


@ways("ws")
def test_the_next_transport_is_tried_when_one_is_switched_off(way: Way) -> None:
    """`polls` offers long polling only; a client that may use anything takes that."""
    free = way.run("calls", hub="polls", transport=None, calls=[["Add", 1, 2]])
    bound = way.run("starts", hub="polls")

    assert free["answers"] == [{"result": 3}]
    assert "'LongPolling' is disabled by the client" in bound["started"]["error"]


@pytest.mark.parametrize("version", JAVASCRIPT_VERSIONS)
def test_a_hundred_connections_at_once(version: int, hubs: HubServer, javascript: Callable[[int], LineClient]) -> None:
    kinds = itertools.cycle(param[1:] for param in EVERY_WAY if param[0] == version)
    runs = [
        Way(version, *next(kinds), javascript(version), hubs).start(
            "calls", calls=[["Echo", number], ["Add", 1, number]]
        )
        for number in range(100)
    ]

    answers = [[answer["result"] for answer in run.result()["answers"]] for run in runs]

    assert answers == [[number, number + 1] for number in range(100)]


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_a_client_that_wants_more_pings_than_there_are_gives_up(
    transport: str, hubs: HubServer, javascript: Callable[[int], LineClient]
) -> None:
    """The server is silent for 15 s, these clients wait for 0.2 s; the hub hears of an end in order."""
    ways = [Way(version, transport, "json", javascript(version), hubs) for version in JAVASCRIPT_VERSIONS]
    runs = [way.start("idles", idle=5000, serverTimeout=200) for way in ways]
    results = [run.result() for run in runs]

    text = "Server timeout elapsed without receiving a message from the server."
    assert [result["how"] for result in results] == [text] * len(ways)
    assert [hubs.end_of(result["before"]) for result in results] == [""] * len(ways)


# --- the end of the server


@pytest.mark.parametrize("kind", ["product", "asgi"])
def test_a_server_that_stops_invites_everybody_back(kind: str, javascript: Callable[[int], LineClient]) -> None:
    with HubServer(kind) as server:
        all_ways = [Way(*param, javascript(param[0]), server) for param in EVERY_WAY]
        runs = [(way, way.start("shutdown", reconnect=[60_000])) for way in all_ways]
        for _, run in runs:
            run.wait_for("connected")
        server.control("shutdown")
        for way, run in runs:
            # The text tells how far the client had come when the process was gone.
            ((event, _),) = run.result()["seen"]
            assert event == "reconnecting", way
        assert server.wait() == 0
        assert server.errors == ""
