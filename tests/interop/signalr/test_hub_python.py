"""`signalrcore` and `pysignalr`, as they are, against both kinds of server."""

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hub_processes import HERE, HubServer
from hub_server import TOKEN
from javascript_clients import WAYS
from line_clients import LineClient, Run
from proxy import Proxy

pytestmark = pytest.mark.interop


_names = itertools.count(1)


def fresh(word: str) -> str:
    """A name that no other test uses."""
    return f"{word}-python-{next(_names)}"


class Caller:
    """A Python client on one transport with one protocol, to one server."""

    def __init__(self, client: LineClient, server: HubServer, transport: str, protocol: str) -> None:
        self.client = client
        self.server = server
        self.transport = transport
        self.protocol = protocol

    def start(self, do: str, hub: str = "plain", *, port: int | None = None, query: str = "", **plan: Any) -> Run:
        url = self.server.url(hub, port=port) + query
        return self.client.start(do, url=url, transport=self.transport, protocol=self.protocol, **plan)

    def run(self, do: str, hub: str = "plain", **plan: Any) -> Any:
        return self.start(do, hub, **plan).result()


@pytest.fixture(scope="session")
def signalrcore_process() -> Iterator[LineClient]:
    with LineClient([sys.executable, HERE / "signalrcore_hubs.py"], "signalrcore") as client:
        yield client


SIGNALRCORE_WAYS = [way for way in WAYS if way != ("poll", "messagepack")]


def signalrcore_on(*ways: str) -> pytest.MarkDecorator:
    """A test for some of its ways only; why, is said in `signalrcore_hubs.py`."""
    params = [way for way in SIGNALRCORE_WAYS if "-".join(way) in ways]
    return pytest.mark.parametrize("signalrcore", params, indirect=True, ids="-".join)


@pytest.fixture(params=SIGNALRCORE_WAYS, ids="-".join)
def signalrcore(request: pytest.FixtureRequest, hubs: HubServer, signalrcore_process: LineClient) -> Caller:
    return Caller(signalrcore_process, hubs, *request.param)


MISSING = "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist."


class TestSignalrcore:
    def test_calls_and_errors(self, signalrcore: Caller) -> None:
        calls = [["Add", 2, 3], ["Echo", {"text": "hé"}], ["Nothing"], ["Refuse", "no"], ["NoSuchMethod"], ["Add", 1]]

        result = signalrcore.run("calls", calls=calls)

        assert result["answers"] == [
            {"result": 5},
            {"result": {"text": "hé"}},
            {"result": None},
            {"error": "An unexpected error occurred invoking 'Refuse' on the server. HubException: no"},
            {"error": MISSING},
            {"error": "Failed to invoke 'Add' due to an error on the server."},
        ]
        assert len(result["id"]) == 22

    def test_bytes(self, signalrcore: Caller) -> None:
        data = bytes(range(256)) * 20

        result = signalrcore.run("bytes", bytes=base64.b64encode(data).decode())

        assert base64.b64decode(result["echoed"]) == data
        assert result["isBinary"] == (signalrcore.protocol == "messagepack")

    def test_events(self, signalrcore: Caller) -> None:
        assert signalrcore.run("events", value=[1, "two"]) == [[1, "two"], "AAH+/w==", None]

    @signalrcore_on("ws-json", "ws-messagepack", "sse-json")
    def test_streams_from_the_server(self, signalrcore: Caller) -> None:
        gates = [fresh("gate"), fresh("gate")]
        run = signalrcore.start("streams", streams=[[gates[0], 5, False], [gates[1], 2, True]])
        for gate in gates:
            run.wait_for("subscribed")
            signalrcore.server.control("open", gate=gate)

        counted, failed = run.result()

        assert counted == {"items": [0, 1, 2, 3, 4]}
        text = "An error occurred on the server while streaming results. HubException: no more numbers"
        assert failed == {"items": [0, 1], "error": text}

    @signalrcore_on("ws-json", "sse-json", "poll-json")
    def test_streams_to_the_server(self, signalrcore: Caller) -> None:
        assert signalrcore.run("uploads", numbers=list(range(20))) == 190

    def test_a_close(self, signalrcore: Caller) -> None:
        result = signalrcore.run("bye", error="out of minutes", allowReconnect=False)

        assert result == {"answer": {"result": "bye"}, "closed": "closed"}

    def test_records_that_come_together(self, signalrcore: Caller) -> None:
        assert signalrcore.run("glued") == [*range(10), ["result", 10]]

    @signalrcore_on("ws-json", "ws-messagepack", "sse-json")
    def test_a_killed_connection_is_made_anew(self, signalrcore: Caller) -> None:
        with Proxy(signalrcore.server.port) as proxy:
            run = signalrcore.start("lost", port=proxy.port, reconnect=True)
            run.wait_for("cut me off")
            proxy.cut(with_reset=False)
            result = run.result()

        assert result["before"] != result["after"]

    def test_a_token_in_the_address(self, signalrcore: Caller) -> None:
        assert signalrcore.run("starts", "guarded") == {"error": "HTTPError"}
        assert signalrcore.run("starts", "guarded", query=f"?access_token={TOKEN}") == {"result": "ada"}

    @signalrcore_on("ws-json", "ws-messagepack", "sse-json")
    def test_a_token_in_the_header(self, signalrcore: Caller) -> None:
        assert signalrcore.run("starts", "guarded", token=TOKEN) == {"result": "ada"}


@pytest.fixture(scope="session")
def pysignalr_process() -> Iterator[LineClient]:
    with LineClient([sys.executable, HERE / "pysignalr_hubs.py"], "pysignalr") as client:
        yield client


@pytest.fixture(params=["json", "messagepack"])
def pysignalr(request: pytest.FixtureRequest, hubs: HubServer, pysignalr_process: LineClient) -> Caller:
    return Caller(pysignalr_process, hubs, "ws", request.param)


class TestPysignalr:
    def test_calls_and_errors(self, pysignalr: Caller) -> None:
        calls = [["Add", 2, 3], ["Echo", {"text": "hé"}], ["Nothing"], ["Refuse", "no"], ["NoSuchMethod"], ["Add", 1]]

        result = pysignalr.run("calls", calls=calls)

        assert result["answers"] == [
            {"result": 5},
            {"result": {"text": "hé"}},
            {"result": None},
            {"error": "An unexpected error occurred invoking 'Refuse' on the server. HubException: no"},
            {"error": MISSING},
            {"error": "Failed to invoke 'Add' due to an error on the server."},
        ]
        assert len(result["id"]) == 22

    def test_bytes(self, pysignalr: Caller) -> None:
        data = bytes(range(256)) * 20

        result = pysignalr.run("bytes", bytes=base64.b64encode(data).decode())

        assert base64.b64decode(result["echoed"]) == data
        assert result["isBinary"] == (pysignalr.protocol == "messagepack")

    def test_events(self, pysignalr: Caller) -> None:
        assert pysignalr.run("events", value=[1, "two"]) == [[1, "two"], "AAH+/w==", None]

    def test_streams(self, pysignalr: Caller) -> None:
        counted, failed, missing = pysignalr.run("streams")

        assert counted == {"items": [0, 1, 2, 3, 4]}
        assert failed == {"items": [0, 1], "error": "An error occurred on the server while streaming results."}
        assert missing == {"items": [], "error": MISSING}
        assert pysignalr.run("uploads", numbers=list(range(20))) == 190

    def test_the_server_asks_the_client(self, pysignalr: Caller) -> None:
        assert pysignalr.run("clientResults") == {"result": "you said hello!"}

    def test_a_close_with_an_error(self, pysignalr: Caller) -> None:
        result = pysignalr.run("bye", error="out of minutes", allowReconnect=False, untilEnd=True)

        assert result == {"answer": {"result": "bye"}, "ended": "ServerError: out of minutes"}

    def test_a_killed_connection_is_made_anew(self, pysignalr: Caller) -> None:
        """It first asks for the old id, and must be told with 404 that there is no such connection any more."""
        with Proxy(pysignalr.server.port) as proxy:
            run = pysignalr.start("lost", port=proxy.port, retrySleep=0.01)
            run.wait_for("cut me off")
            proxy.cut(with_reset=True)
            result = run.result()

        assert result["before"] != result["after"]

    def test_it_comes_back_after_any_close(self, pysignalr: Caller) -> None:
        run = pysignalr.start("lost", bye=True, retrySleep=0.01)
        run.wait_for("cut me off")
        result = run.result()

        assert result["before"] != result["after"]

    def test_a_token(self, pysignalr: Caller) -> None:
        assert pysignalr.run("starts", "guarded")["ended"].startswith("AuthorizationError")
        assert pysignalr.run("starts", "guarded", query=f"?access_token={TOKEN}") == {"result": "ada"}
        assert pysignalr.run("starts", "guarded", token=TOKEN) == {"result": "ada"}
