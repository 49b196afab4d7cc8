"""`@microsoft/signalr` 3.1, 6, 8 and 10 on every transport with both protocols, against both kinds of server."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hub_processes import HubServer
from hub_server import TOKEN
from javascript_clients import EVERY_WAY, JAVASCRIPT_VERSIONS, WAYS, Way, name_of_way
from line_clients import LineClient
from proxy import Proxy

pytestmark = pytest.mark.interop

_names = itertools.count(1)


def fresh(word: str) -> str:
    """A name that no other test uses."""
    return f"{word}-{next(_names)}"


def refused(target: str, tail: str = "") -> str:
    return f"Failed to invoke '{target}' due to an error on the server.{tail}"


def failed(target: str, tail: str = "") -> str:
    return f"An unexpected error occurred invoking '{target}' on the server.{tail}"


# --- calls and events


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    1.5,
    "",
    "naïve 雪 \U0001f600 ' \" \\ <&> \u2028",
    [],
    [1, [2, [3, None]]],
    {},
    {"one": {"two": ["three"]}, "camelCase": False},
]


def test_values_come_back_as_they_went(way: Way) -> None:
    result = way.run("calls", calls=[["Echo", value] for value in VALUES])

    assert [answer["result"] for answer in result["answers"]] == VALUES


def test_methods_are_called_with_their_types(way: Way) -> None:
    point = {"xAxis": 1, "label": "A"}
    calls = [["Add", 2, 3], ["aDD", 2, 3], ["Nothing"], ["Move", point], ["move", {"XAXIS": 1}, 4], ["WhoAmI"]]

    result = way.run("calls", calls=calls)

    assert [answer["result"] for answer in result["answers"]] == [
        5,
        5,
        None,
        {"xAxis": 2, "label": "A"},
        {"xAxis": 5, "label": "here"},
        result["id"],
    ]


def test_bytes_are_base64_in_json_and_binary_in_messagepack(way: Way) -> None:
    data = bytes(range(256)) * 40

    result = way.run("bytes", bytes=base64.b64encode(data).decode())

    assert base64.b64decode(result["echoed"]) == data
    assert result["length"] == len(data)
    assert result["isBinary"] == (way.protocol == "messagepack")


def test_the_server_calls_the_client_and_a_call_without_id_is_never_answered(way: Way) -> None:
    result = way.run("events", value={"text": "hé"})

    assert result["args"] == [{"text": "hé"}, "AAH+/w==", None]
    assert result["after"] == 3


def test_groups(way: Way) -> None:
    group = fresh("group")

    heard = way.run("groups", group=group)

    assert heard == {"one": [], "two": [[group, "first"], [group, "second"]], "three": [[group, "first"]]}


# --- errors


def test_errors_have_the_texts_of_aspnet_core(way: Way) -> None:
    calls: list[tuple[list[Any], str]] = [
        (["NoSuchMethod"], refused("NoSuchMethod", " HubException: Method does not exist.")),
        (["on_connected"], refused("on_connected", " HubException: Method does not exist.")),
        (["OnConnectedAsync"], refused("OnConnectedAsync", " HubException: Method does not exist.")),
        (["Add", 1], refused("Add")),
        (["add", 1, 2, 3], refused("add")),
        (["Add", "one", 2], refused("Add")),
        (["Fail"], failed("Fail")),
        (["Refuse", "not today"], failed("Refuse", " HubException: not today")),
    ]

    result = way.run("calls", calls=[call for call, _ in calls])

    assert [answer["error"] for answer in result["answers"]] == [text for _, text in calls]


def test_errors_are_explained_when_details_are_on(way: Way) -> None:
    calls = [["Add", 1], ["Add", "one", 2], ["Length", "not base64"], ["Fail"], ["Refuse", "no"], ["Add", 1, 2]]

    result = way.run("calls", hub="detailed", calls=calls)

    count, kind, encoding, raised, refusal, fine = result["answers"]
    assert count["error"].startswith(
        refused("Add", " InvalidDataException: Invocation provides 1 argument(s) but target expects 2.")
    )
    binding = " InvalidDataException: Error binding arguments. Make sure that the types of the provided values match "
    assert kind["error"].startswith(refused("Add", binding))
    assert encoding["error"].startswith(refused("Length", binding))
    assert raised["error"] == failed("Fail", " ValueError: the disk is full")
    assert refusal["error"] == failed("Refuse", " HubException: no")
    assert fine == {"result": 3}


# --- streams


def test_streams_from_the_server(way: Way) -> None:
    run = way.start("streams")
    run.wait_for("cancelled")
    assert way.server.control("stream_cancelled", hub="plain") > 0
    run.go()
    result = run.result()

    assert result["counted"] == {"items": [0, 1, 2, 3, 4]}
    assert result["failed"] == {"items": [0, 1], "error": "An error occurred on the server while streaming results."}
    assert result["missing"]["error"] == refused("NoSuchMethod", " HubException: Method does not exist.")
    assert result["plain"]["error"] == (
        "The client attempted to invoke the non-streaming 'Add' method with a streaming invocation."
    )
    assert result["notStreamed"]["error"] == (
        "The client attempted to invoke the streaming 'Count' method with a non-streaming invocation."
    )
    assert result["some"] == [0, 1, 2]
    assert result["after"] == 3


def test_streams_to_the_server(way: Way) -> None:
    numbers = list(range(40))

    result = way.run("uploads", numbers=numbers)

    assert result["total"] == sum(numbers)
    assert result["both"] == {"items": [2 * number + 1 for number in numbers]}
    assert "error" in result["failed"]
    assert result["none"]["error"] == failed("Sum", " HubException: Client sent 0 stream(s), Hub method expects 1.")


@pytest.mark.parametrize("way", [param for param in EVERY_WAY if param[0] >= 7], indirect=True, ids=name_of_way)
def test_the_server_asks_the_client(way: Way) -> None:
    result = way.run("clientResults", hub="detailed")

    assert result["answered"] == {"result": "you said hello!"}
    assert "no idea" in result["failed"]["error"]
    assert "Client didn't provide a result." in result["silent"]["error"]


# --- ends


def test_the_client_stops_while_a_call_runs(way: Way) -> None:
    result = way.run("stops", hub="parallel", gate=fresh("never"), beside=["Add", 1, 2])

    assert result["closed"] is None
    assert "error" in result["call"]
    assert way.server.end_of(result["id"], "parallel") == ""


def test_a_close_that_forbids_it_is_not_followed_by_a_reconnect(way: Way) -> None:
    result = way.run("bye", allowReconnect=False, reconnect=[0, 0, 0])

    assert result["answer"] == {"result": "bye"}
    assert result["seen"] == [["closed", None]]
    assert way.server.end_of(result["before"]) == ""


def test_a_close_with_an_error_is_shown_to_the_user(way: Way) -> None:
    result = way.run("bye", error="out of minutes", allowReconnect=False)

    assert result["answer"] == {"result": "bye"}
    assert result["seen"] == [["closed", "Server returned an error on close: out of minutes"]]


def test_a_close_that_allows_it_is_followed_by_a_reconnect(way: Way) -> None:
    result = way.run("bye", allowReconnect=True, reconnect=[0, 0, 0])

    assert result["answer"] == {"result": "bye"}
    assert [event for event, _ in result["seen"]] == ["reconnecting", "reconnected"]
    assert result["isNew"]
    assert result["after"] == 3


def test_a_hub_that_aborts_leaves_its_client_no_doubt(way: Way) -> None:
    result = way.run("abort", reconnect=[0, 0, 0])

    assert "error" in result["call"]
    assert result["seen"] == [["closed", None]]
    assert way.server.end_of(result["id"]) == ""


def test_a_hub_whose_on_connected_fails_says_so_and_forbids_to_come_back(way: Way) -> None:
    gate = fresh("gate")
    run = way.start("starts", hub="fickle", query=f"?gate={gate}", waitForClose=True, reconnect=[0, 0, 0])
    assert run.wait_for("started") == {"result": "Connected"}
    way.server.control("open", hub="fickle", gate=gate)
    result = run.result()

    assert result["closed"] == (
        "Server returned an error on close: Connection closed with an error. HubException: closed today"
    )


def test_messages_up_to_the_limit_pass_and_a_longer_one_ends_the_connection(way: Way) -> None:
    result = way.run("big", count=20, size=50_000, fits=16_000, tooBig=40_000)

    assert result["flooded"] == 20
    assert result["received"] == [[number, 50_000] for number in range(20)]
    assert result["echoed"] == 16_000
    assert "error" in result["tooBig"]
    assert result["closed"] == "Server returned an error on close: Connection closed with an error."


# --- time, and wires that break


@pytest.mark.parametrize(("transport", "protocol"), WAYS)
def test_idle_connections_live_on_pings(
    transport: str, protocol: str, hubs: HubServer, javascript: Callable[[int], LineClient]
) -> None:
    """The server's time-out here is 0.4 s, and so is the client's."""
    ways = [Way(version, transport, protocol, javascript(version), hubs) for version in JAVASCRIPT_VERSIONS]
    runs = [way.start("idles", hub="quick", idle=900, keepAlive=100, serverTimeout=400) for way in ways]
    results = [run.result() for run in runs]

    assert [result["how"] for result in results] == ["still here"] * len(ways)
    assert [result["answer"] for result in results] == [{"result": result["before"]} for result in results]


def test_a_killed_connection_is_made_anew(way: Way) -> None:
    with Proxy(way.server.port) as proxy:
        run = way.start("lost", hub="parallel", port=proxy.port, gate=fresh("never"), reconnect=[0, 50, 100, 200])
        run.wait_for("cut me off")
        proxy.cut(with_reset=True)
        result = run.result()

    assert result["seen"][-1] == "reconnected"
    assert "error" in result["broken"]
    assert result["id"] != result["before"]
    assert result["after"] == 3


# --- the start


def test_a_token_is_required_and_accepted(way: Way) -> None:
    without = way.run("starts", hub="guarded")
    wrong = way.run("starts", hub="guarded", token="guess")
    in_header = way.run("starts", hub="guarded", token=TOKEN)
    in_query = way.run("starts", hub="guarded", query=f"?access_token={TOKEN}&Flavour=lemon")

    assert "Unauthorized" in without["started"]["error"]
    assert "Unauthorized" in wrong["started"]["error"]
    assert in_header["user"] == {"result": "ada"}
    assert in_query["user"] == {"result": "ada"}
    assert in_query["query"] == {"result": "lemon"}
