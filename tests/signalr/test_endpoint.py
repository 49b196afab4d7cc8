"""An endpoint seen from ASGI: negotiate, WebSockets, what is said when, and how connections end."""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar

import pytest
from asgi import Socket
from hubs import HANDSHAKE, Desk, Office, call, parsed, records

from voisnap_mock.signalr import ConnectionLimits, HubException, HubOptions, NoticeKind, Transport
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.messages import Completion, Invocation

ID = re.compile(r"^[A-Za-z0-9_-]{22}$")


class TestNegotiate:
    async def test_version_one(self, desk: Desk) -> None:
        answer = await desk.fetch("POST", "/hub/negotiate?negotiateVersion=1")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert ID.match(body["connectionId"])
        assert ID.match(body["connectionToken"])
        assert body["connectionId"] != body["connectionToken"]
        assert [offer["transport"] for offer in body["availableTransports"]] == list(Transport)

    async def test_version_zero(self, desk: Desk) -> None:
        body = (await desk.fetch("POST", "/hub/negotiate")).json()
        assert body["negotiateVersion"] == 0
        assert "connectionToken" not in body
        socket = await desk.socket(f"/hub?id={body['connectionId']}").accepted()
        socket.close()

    @pytest.mark.parametrize("version", ["x", "-1"])
    async def test_bad_versions_are_answered_with_an_error(self, desk: Desk, version: str) -> None:
        answer = await desk.fetch("POST", f"/hub/negotiate?negotiateVersion={version}")
        assert answer.status == 200
        assert set(answer.json()) == {"error"}

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    async def test_other_methods(self, desk: Desk, method: str) -> None:
        answer = await desk.fetch(method, "/hub/negotiate")
        assert (answer.status, answer.body, answer.headers["content-type"]) == (405, b"", "text/plain")

    async def test_a_body_is_of_no_interest(self, desk: Desk) -> None:
        assert (await desk.fetch("POST", "/hub/negotiate?negotiateVersion=1", body=b"\xff{]")).status == 200

    async def test_the_public_id_does_not_open_the_connection(self, desk: Desk) -> None:
        body = (await desk.fetch("POST", "/hub/negotiate?negotiateVersion=1")).json()
        assert (await desk.socket(f"/hub?id={body['connectionId']}").denied()).status == 404

    async def test_a_trailing_slash(self, desk: Desk) -> None:
        assert (await desk.fetch("POST", "/hub/negotiate/")).status == 200

    async def test_unused_connections_are_forgotten_after_15_seconds(self, desk: Desk) -> None:
        first = await desk.negotiate()
        await desk.clock.advance(10.0)
        second = await desk.negotiate()
        await desk.clock.advance(5.0)
        assert (await desk.socket(f"/hub?id={first}").denied()).status == 404
        assert "1 negotiated" in repr(desk.endpoint)
        (await desk.socket(f"/hub?id={second}").accepted()).close()

    async def test_thousands_of_abandoned_ones_leave_nothing(self, desk: Desk) -> None:
        for _ in range(2000):
            await desk.negotiate()
        await desk.clock.advance(15.0)
        assert "0 negotiated" in repr(desk.endpoint)

    async def test_only_the_offered_transports_work(self) -> None:
        desk = Desk(options=HubOptions(transports=(Transport.LONG_POLLING,)))
        offers = (await desk.fetch("POST", "/hub/negotiate")).json()["availableTransports"]
        assert [offer["transport"] for offer in offers] == ["LongPolling"]
        token = await desk.negotiate()
        denied = await desk.socket(f"/hub?id={token}").denied()
        assert (denied.status, denied.body) == (404, b"WebSockets transport not supported by this end point type")
        await desk.endpoint.close()


class TestCors:
    ORIGIN: ClassVar = {"origin": "http://page.test"}

    async def test_preflight_needs_no_token(self, desk: Desk) -> None:
        headers = self.ORIGIN | {"access-control-request-headers": "x-requested-with"}
        answer = await desk.fetch("OPTIONS", "/hub/negotiate?access_token=bad", headers=headers)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "http://page.test"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-headers"] == "x-requested-with"

    @pytest.mark.parametrize(
        ("method", "url", "status"),
        [
            ("POST", "/hub/negotiate", 200),
            ("POST", "/hub/negotiate?access_token=bad", 401),
            ("GET", "/hub/negotiate", 405),
            ("GET", "/hub", 400),
            ("POST", "/hub?id=x", 404),
            ("DELETE", "/hub?id=x", 404),
        ],
    )
    async def test_every_answer_carries_it(self, desk: Desk, method: str, url: str, status: int) -> None:
        answer = await desk.fetch(method, url, headers=self.ORIGIN)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "http://page.test"
        assert answer.headers["access-control-allow-credentials"] == "true"

    async def test_nothing_without_an_origin(self, desk: Desk) -> None:
        assert not any("access-control" in name for name in (await desk.fetch("POST", "/hub/negotiate")).headers)


class TestUpgrade:
    async def test_without_an_id_a_connection_is_made_on_the_spot(self, desk: Desk) -> None:
        await desk.open("/hub?agentId=a")
        (context,) = desk.hub.contexts
        assert ID.match(context.connection_id)
        assert context.request.query.get("agentid") == "a"
        assert context.user == "ada"

    async def test_with_an_id(self, desk: Desk) -> None:
        answer = (await desk.fetch("POST", "/hub/negotiate?negotiateVersion=1")).json()
        await desk.open(f"/hub?id={answer['connectionToken']}")
        assert desk.hub.contexts[0].connection_id == answer["connectionId"]

    @pytest.mark.parametrize(
        ("url", "status", "body"),
        [
            ("/hub?id=unknown", 404, b"No Connection with that ID"),
            ("/hub?access_token=bad", 401, b'{"title":"bad token"}'),
            ("/other", 404, b"No Connection with that ID"),
        ],
    )
    async def test_denials(self, desk: Desk, url: str, status: int, body: bytes) -> None:
        answer = await desk.socket(url).denied()
        assert (answer.status, answer.body) == (status, body)

    async def test_a_denial_is_the_authenticators(self, desk: Desk) -> None:
        answer = await desk.socket("/hub?access_token=bad").denied()
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "x"
        assert desk.kinds() == [NoticeKind.DENIED]

    async def test_a_server_without_the_extension_can_only_say_403(self, desk: Desk) -> None:
        socket = desk.socket("/hub?access_token=bad", can_deny=False)
        assert await socket.closed() == (1008, "")

    async def test_a_second_socket_for_one_id(self, desk: Desk) -> None:
        token = await desk.negotiate()
        await desk.open(f"/hub?id={token}")
        assert (await desk.socket(f"/hub?id={token}").denied()).status == 409

    async def test_an_id_of_another_transport(self, desk: Desk) -> None:
        token = await desk.negotiate()
        assert (await desk.fetch("GET", f"/hub?id={token}")).status == 200
        denied = await desk.socket(f"/hub?id={token}").denied()
        assert (denied.status, denied.body) == (400, b"Cannot change transports mid-connection")

    async def test_posts_to_a_websocket(self, desk: Desk) -> None:
        token = await desk.negotiate()
        await desk.open(f"/hub?id={token}")
        answer = await desk.fetch("POST", f"/hub?id={token}", body=b"x")
        assert (answer.status, answer.body) == (405, b"POST requests are not allowed for WebSocket connections.")
        assert (await desk.fetch("DELETE", f"/hub?id={token}")).status == 400

    async def test_an_authenticator_may_be_async(self) -> None:
        desk = Desk(is_async=True)
        await desk.open()
        assert (await desk.socket("/hub?access_token=bad").denied()).status == 401
        assert (await desk.fetch("POST", "/hub/negotiate?access_token=bad")).status == 401
        await desk.endpoint.close()

    async def test_what_it_handles(self, desk: Desk) -> None:
        def handles(kind: str, path: str) -> bool:
            return desk.endpoint.handles({"type": kind, "path": path})

        assert handles("http", "/hub")
        assert handles("websocket", "/hub/")
        assert handles("http", "/hub/negotiate")
        assert not handles("http", "/hubs")
        assert not handles("http", "/hub/other")
        assert not handles("lifespan", "/hub")
        assert desk.endpoint.handles({"type": "http", "path": "/root/hub", "root_path": "/root"})

    async def test_other_kinds_of_scopes_are_a_mistake(self, desk: Desk) -> None:
        with pytest.raises(ValueError, match="not lifespan"):
            await desk.endpoint({"type": "lifespan", "path": "/"}, None, None)  # type: ignore[arg-type]


class TestHandshake:
    async def test_nothing_is_sent_before_it(self, desk: Desk) -> None:
        socket = await desk.socket().accepted()
        await desk.settle()
        assert not socket.has_message
        assert desk.hub.contexts == []

    async def test_the_first_message_of_the_hub_comes_in_a_frame_of_its_own(self, desk: Desk) -> None:
        desk.hub.greet = True
        socket = await desk.socket().accepted()
        socket.send(HANDSHAKE)
        assert await socket.receive() == "{}\x1e"
        assert parsed(await socket.receive())[0]["target"] == "Welcome"

    async def test_it_may_come_in_pieces_and_in_binary_frames(self, desk: Desk) -> None:
        socket = await desk.socket().accepted()
        for byte in (HANDSHAKE + call("Say", "é")).encode():
            socket.send(bytes([byte]))
        assert await socket.receive() == "{}\x1e"
        assert parsed(await socket.receive())[0]["arguments"] == ["é"]

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            ('{"protocol":"x","version":1}\x1e', "The protocol 'x' is not supported."),
            ("garbage\x1e", "An unexpected error occurred during connection handshake."),
            (call("Say", "x"), "An unexpected error occurred during connection handshake."),
            ("x" * 40_000, "Handshake was canceled."),
        ],
    )
    async def test_a_refusal_ends_the_socket_in_order(self, desk: Desk, data: str, error: str) -> None:
        socket = await desk.socket().accepted()
        socket.send(data)
        assert parsed(await socket.receive())[0]["error"].startswith(error)
        assert await socket.closed() == (1000, "")
        assert desk.kinds() == [NoticeKind.HANDSHAKE_FAILED]
        assert desk.endpoint.connection_count == 0

    async def test_fifteen_seconds(self, desk: Desk) -> None:
        socket = await desk.socket().accepted()
        await desk.clock.advance(15.0)
        assert parsed(await socket.receive()) == [{"error": "Handshake was canceled."}]
        assert await socket.closed() == (1000, "")

    async def test_messagepack_is_answered_in_binary_frames(self, desk: Desk) -> None:
        socket = await desk.socket().accepted()
        socket.send('{"protocol":"messagepack","version":1}\x1e')
        assert await socket.receive() == b"{}\x1e"
        protocol = MessagePackHubProtocol()
        socket.send(protocol.serialize(Invocation("Audio", (b"hi",), "1")))
        assert await socket.receive() == b"".join(
            map(protocol.serialize, (Invocation("AudioReceived", (b"hi",)), Completion("1", None)))
        )

    async def test_the_hub_is_told_after_it(self, desk: Desk) -> None:
        await desk.open()
        assert len(desk.hub.contexts) == 1
        assert desk.endpoint.connection_count == 1
        assert desk.kinds() == [NoticeKind.CONNECTED]


class TestInvocations:
    async def ask(self, desk: Desk, data: str) -> list[Any]:
        socket = await desk.open()
        socket.send(data)
        return parsed(await socket.receive())

    async def test_events_and_the_completion_share_a_frame(self, desk: Desk) -> None:
        assert await self.ask(desk, call("say", "hi")) == [
            {"type": 1, "target": "Said", "arguments": ["hi"]},
            {"type": 3, "invocationId": "1", "result": 2},
        ]

    async def test_a_void_method_completes_with_null(self, desk: Desk) -> None:
        assert (await self.ask(desk, call("Audio", "aGk=")))[1] == {"type": 3, "invocationId": "1", "result": None}

    async def test_bytes_are_base64(self, desk: Desk) -> None:
        assert (await self.ask(desk, call("Audio", "aGk=")))[0]["arguments"] == ["aGk="]

    BINDING = (
        " InvalidDataException: Error binding arguments. Make sure that the types of the provided values match the "
        "types of the hub method being invoked."
    )

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (
                call("Nope"),
                "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist.",
            ),
            (
                call("OnConnectedAsync"),
                (
                    "Failed to invoke 'OnConnectedAsync' due to an error on the server. "
                    "HubException: Method does not exist."
                ),
            ),
            (
                call("TWO", "x"),
                (
                    "Failed to invoke 'TWO' due to an error on the server. InvalidDataException: Invocation provides 1 "
                    "argument(s) but target expects 2. The method takes (first: a string, second: a whole number)."
                ),
            ),
            (
                call("Two", "x", "y"),
                (
                    f"Failed to invoke 'Two' due to an error on the server.{BINDING} Argument 2 'second': expected a "
                    'whole number, got the string "y".'
                ),
            ),
            (
                '{"type":1,"invocationId":"1","target":"Two","arguments":["x",1e400]}\x1e',
                f"Failed to invoke 'Two' due to an error on the server.{BINDING} Number out of range - at `$[1]`.",
            ),
            (
                call("Audio", "a!"),
                (
                    f"Failed to invoke 'Audio' due to an error on the server.{BINDING} Argument 1 'audio': expected "
                    'bytes (a base64 string in JSON), got the string "a!" (invalid base64).'
                ),
            ),
            (call("Fail"), "An unexpected error occurred invoking 'Fail' on the server. ValueError: broken"),
            (call("Refuse"), "An unexpected error occurred invoking 'Refuse' on the server. HubException: not today"),
            (
                call("Strange"),
                (
                    "An unexpected error occurred invoking 'Strange' on the server. LocalProtocolError: Completion "
                    "cannot be written as JSON: Encoding objects of type object is unsupported"
                ),
            ),
            (
                records({"type": 1, "invocationId": "1", "arguments": []}),
                (
                    "Failed to invoke '' due to an error on the server. "
                    "InvalidDataException: Missing required property 'target'."
                ),
            ),
            (
                call("Count", 1),
                "The client attempted to invoke the streaming 'Count' method with a non-streaming invocation.",
            ),
            (
                call("Say", "x", type=4),
                "The client attempted to invoke the non-streaming 'Say' method with a streaming invocation.",
            ),
            (
                call("Sum", 1),
                (
                    "An unexpected error occurred invoking 'Sum' on the server. "
                    "HubException: Client sent 0 stream(s), Hub method expects 1."
                ),
            ),
            (
                call("Say", "x", streamIds=["2"]),
                (
                    "An unexpected error occurred invoking 'Say' on the server. "
                    "HubException: Client sent 1 stream(s), Hub method expects 0."
                ),
            ),
        ],
    )
    async def test_errors(self, desk: Desk, data: str, error: str) -> None:
        socket = await desk.open()
        socket.send(data)
        assert parsed(await socket.receive()) == [{"type": 3, "invocationId": "1", "error": error}]
        socket.send(call("Say", "still here"))
        assert parsed(await socket.receive())[1]["result"] == 10

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (call("Two", "x"), "Failed to invoke 'Two' due to an error on the server."),
            (call("Audio", "!"), "Failed to invoke 'Audio' due to an error on the server."),
            (call("Fail"), "An unexpected error occurred invoking 'Fail' on the server."),
            (call("Refuse"), "An unexpected error occurred invoking 'Refuse' on the server. HubException: not today"),
            (
                call("Nope"),
                "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist.",
            ),
        ],
    )
    async def test_errors_without_detail(self, data: str, error: str) -> None:
        desk = Desk(options=HubOptions(limits=ConnectionLimits(detailed_errors=False)))
        assert (await self.ask(desk, data))[0]["error"] == error
        await desk.endpoint.close()

    @pytest.mark.parametrize("target", ["Nope", "Fail", "Two", "Count", "Say"])
    async def test_without_an_id_nothing_is_ever_answered(self, desk: Desk, target: str) -> None:
        socket = await desk.open()
        socket.send(call(target, id=None) + call("Two", "x", 2))
        assert parsed(await socket.receive()) == [{"type": 3, "invocationId": "1", "result": "xx"}]

    async def test_failures_are_told_to_the_owner(self, desk: Desk) -> None:
        await self.ask(desk, call("Nope") + call("Fail") + call("Refuse"))
        assert desk.kinds()[1:] == [NoticeKind.INVOCATION_REFUSED, NoticeKind.METHOD_FAILED]
        assert isinstance(desk.notices[-1].error, ValueError)

    async def test_one_at_a_time_in_order_of_arrival(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Wait", "a", id="1") + call("Say", "b", id="2") + call("Wait", "c", id="3"))
        socket.send(call("Say", "d", id="4"))
        await desk.settle()
        assert desk.hub.log == ["wait a"]
        desk.hub.gate.set()
        await desk.settle()
        assert desk.hub.log == ["wait a", "waited a", "say b", "wait c", "waited c", "say d"]
        received: list[Any] = []
        while len([message for message in received if message["type"] == 3]) < 4:
            received += parsed(await socket.receive())
        assert [message["invocationId"] for message in received if message["type"] == 3] == ["1", "2", "3", "4"]

    async def test_a_thousand_that_wait_are_no_problem(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Wait", "a", id=None) + call("Say", "b", id=None) * 300)
        await desk.settle()
        desk.hub.gate.set()
        await desk.settle()
        assert len(desk.hub.log) == 302

    async def test_more_at_a_time_when_the_options_say_so(self) -> None:
        desk = Desk(options=HubOptions(max_parallel_invocations=2))
        socket = await desk.open()
        socket.send("".join(call("Wait", name, id=name) for name in "abc"))
        await desk.settle()
        assert desk.hub.log == ["wait a", "wait b"]
        desk.hub.gate.set()
        await desk.settle()
        assert sorted(desk.hub.log) == ["wait a", "wait b", "wait c", "waited a", "waited b", "waited c"]
        await desk.endpoint.close()

    async def test_on_connected_comes_first(self, desk: Desk) -> None:
        desk.hub.connect_waits = True
        socket = await desk.open()
        socket.send(call("Say", "x"))
        await desk.settle()
        assert desk.hub.log == []
        desk.hub.gate.set()
        assert parsed(await socket.receive())[1]["result"] == 1

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (ValueError("no"), "Connection closed with an error. ValueError: no"),
            (HubException("no"), "Connection closed with an error. HubException: no"),
        ],
    )
    async def test_on_connected_that_fails_forbids_to_reconnect(self, desk: Desk, error: Exception, text: str) -> None:
        desk.hub.connect_error = error
        socket = await desk.open()
        assert parsed(await socket.receive()) == [{"type": 7, "error": text}]
        assert await socket.closed() == (1000, "")
        assert desk.hub.gone[0][1] is error

    async def test_client_results(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Ask", "why") + call("Say", "waits"))
        (question,) = parsed(await socket.receive())
        assert (question["target"], question["arguments"]) == ("Question", ["why"])
        socket.send(records({"type": 3, "invocationId": question["invocationId"], "result": "because"}))
        assert parsed(await socket.receive())[0] == {
            "type": 3,
            "invocationId": "1",
            "result": "client said because",
        }

    @pytest.mark.parametrize(
        ("answer", "error"),
        [({"error": "no idea"}, "HubError: no idea"), ({"result": 5}, "expected a string, got the number 5.")],
    )
    async def test_client_results_that_fail(self, desk: Desk, answer: Any, error: str) -> None:
        socket = await desk.open()
        socket.send(call("Ask", "why"))
        (question,) = parsed(await socket.receive())
        socket.send(records({"type": 3, "invocationId": question["invocationId"]} | answer))
        assert error in parsed(await socket.receive())[0]["error"]

    async def test_on_connected_may_turn_a_client_away(self, desk: Desk) -> None:
        desk.hub.turn_away = True
        socket = await desk.socket().accepted()
        socket.send(HANDSHAKE + call("Say", "never run"))
        assert await socket.receive() == "{}\x1e"
        assert parsed(await socket.receive()) == [
            {"type": 1, "target": "Error", "arguments": [{"code": "AGENT_NOT_FOUND"}]},
            {"type": 7},
        ]
        assert await socket.closed() == (1000, "")
        assert desk.hub.log == []


class TestStreams:
    async def test_items_and_a_completion_without_result(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Count", 3, type=4))
        received: list[Any] = []
        while len(received) < 4:
            received += parsed(await socket.receive())
        assert received == [
            {"type": 2, "invocationId": "1", "item": 0},
            {"type": 2, "invocationId": "1", "item": 1},
            {"type": 2, "invocationId": "1", "item": 2},
            {"type": 3, "invocationId": "1"},
        ]

    async def test_cancelling_ends_it_without_an_error(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Endless", type=4))
        assert parsed(await socket.receive())[0]["item"] == 1
        socket.send(records({"type": 5, "invocationId": "1"}, {"type": 5, "invocationId": "unknown"}))
        assert parsed(await socket.receive()) == [{"type": 3, "invocationId": "1"}]
        assert desk.hub.log == ["endless ended"]

    async def test_an_exception(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Endless", type=4))
        await socket.receive()
        desk.hub.gate.set()
        assert parsed(await socket.receive())[0]["error"] == (
            "An error occurred on the server while streaming results. ValueError: broken stream"
        )

    async def test_an_id_that_is_in_use(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Endless", type=4))
        await socket.receive()
        socket.send(call("Count", 1, type=4))
        assert parsed(await socket.receive())[0]["error"] == "Invocation ID '1' is already in use."

    async def test_streams_do_not_hold_up_invocations(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Endless", type=4) + call("Say", "x", id="2"))
        received: list[Any] = []
        while len(received) < 3:
            received += parsed(await socket.receive())
        assert {"type": 3, "invocationId": "2", "result": 1} in received

    async def test_they_end_with_the_connection(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Endless", type=4))
        await socket.receive()
        socket.close()
        await desk.settle()
        assert desk.hub.log == ["endless ended"]

    async def test_a_fast_stream_waits_for_a_slow_client(self) -> None:
        desk = Desk()
        socket = await desk.open()
        socket.writable.clear()
        socket.send(call("Count", 100_000, type=4))
        await asyncio.sleep(0.05)
        socket.lose()
        await desk.settle()
        assert desk.hub.log == ["count ended"]
        assert NoticeKind.SLOW_CLIENT not in desk.kinds()
        await desk.endpoint.close()

    async def test_an_upload(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Sum", 100, streamIds=["s"]))
        for number in range(3):
            socket.send(records({"type": 2, "invocationId": "s", "item": number}))
        socket.send(records({"type": 3, "invocationId": "s"}))
        assert parsed(await socket.receive()) == [{"type": 3, "invocationId": "1", "result": 103}]

    async def test_an_upload_that_the_client_breaks_off(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Sum", 100, streamIds=["s"]) + records({"type": 3, "invocationId": "s", "error": "oops"}))
        assert parsed(await socket.receive())[0]["error"].endswith("HubException: oops")

    async def test_an_item_of_a_wrong_type(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Sum", 0, streamIds=["s"]) + records({"type": 2, "invocationId": "s", "item": "x"}))
        assert "The stream item: expected a whole number" in parsed(await socket.receive())[0]["error"]

    async def test_items_of_no_stream_are_ignored(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(records({"type": 2, "invocationId": "s", "item": 1}, {"type": 3, "invocationId": "s"}))
        socket.send(call("Say", "x"))
        assert parsed(await socket.receive())[1]["result"] == 1

    async def test_a_stream_id_that_is_in_use(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Sum", 0, streamIds=["s"], id="1") + call("Sum", 0, streamIds=["s"], id="2"))
        assert "Stream ID 's' is already in use." in parsed(await socket.receive())[0]["error"]


class TestEnds:
    async def test_close_comes_after_events_and_the_running_methods_completion(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Bye") + call("Say", "not run any more"))
        assert parsed(await socket.receive()) == [
            {"type": 1, "target": "Farewell", "arguments": []},
            {"type": 3, "invocationId": "1", "result": "done"},
            {"type": 7},
        ]
        assert await socket.closed() == (1000, "")
        assert desk.hub.log == []
        assert [error for _, error in desk.hub.gone] == [None]
        assert desk.endpoint.connection_count == 0

    async def test_close_that_invites_back(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Later"))
        assert parsed(await socket.receive())[1] == {"type": 7, "error": "restarting", "allowReconnect": True}

    async def test_close_from_outside_waits_for_the_running_method(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Wait", "x"))
        await desk.settle()
        desk.hub.contexts[0].close()
        assert desk.hub.contexts[0].is_over
        await desk.settle()
        assert not socket.has_message
        desk.hub.gate.set()
        assert parsed(await socket.receive()) == [{"type": 3, "invocationId": "1", "result": "x"}, {"type": 7}]

    async def test_but_not_for_ever(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Wait", "x"))
        await desk.settle()
        desk.hub.contexts[0].close()
        await desk.clock.advance(5.0)
        assert parsed(await socket.receive()) == [{"type": 7}]
        await socket.closed()
        assert desk.hub.log == ["wait x", "cancelled x"]

    async def test_abort_does_not_answer_and_forbids_to_reconnect(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Cut"))
        assert parsed(await socket.receive()) == [{"type": 7}]
        assert await socket.closed() == (1000, "")
        assert [error for _, error in desk.hub.gone] == [None]

    async def test_abort_does_not_wait_for_a_running_method(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Wait", "x"))
        await desk.settle()
        desk.hub.contexts[0].close()
        desk.hub.contexts[0].abort()
        assert parsed(await socket.receive()) == [{"type": 7}]
        await socket.closed()
        assert desk.hub.log == ["wait x", "cancelled x"]

    @pytest.mark.parametrize(("code", "in_order"), [(1000, True), (1001, True), (1006, False), (1011, False)])
    async def test_the_client_leaves(self, desk: Desk, code: int, in_order: bool) -> None:
        socket = await desk.open()
        socket.close(code)
        await socket.finished()
        await desk.settle()
        ((_, error),) = desk.hub.gone
        assert (error is None) == in_order
        assert desk.endpoint.connection_count == 0

    async def test_a_close_message_of_the_client(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(records({"type": 7}) + call("Say", "not read"))
        assert await socket.closed() == (1000, "")
        assert desk.hub.log == []
        assert desk.hub.gone[0][1] is None

    async def test_a_running_method_is_cancelled_when_the_client_leaves(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Wait", "x"))
        await desk.settle()
        socket.lose()
        await socket.finished()
        await desk.settle()
        assert desk.hub.log == ["wait x", "cancelled x"]
        assert len(desk.hub.gone) == 1

    async def test_sending_afterwards_does_nothing(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.close()
        await socket.finished()
        desk.hub.contexts[0].send("Late", 1)
        desk.hub.contexts[0].close()
        desk.hub.contexts[0].abort()
        await desk.settle()
        assert len(desk.hub.gone) == 1

    @pytest.mark.parametrize(
        ("data", "detail"),
        [
            ("garbage\x1e", "Error reading JSON."),
            ("x" * 40_000, "The maximum message size of 32768B was exceeded."),
            (HANDSHAKE, "Missing required property 'type'."),
        ],
    )
    async def test_a_broken_message_ends_the_connection(self, desk: Desk, data: str, detail: str) -> None:
        socket = await desk.open()
        socket.send(call("Say", "before") + data)
        *before, close = parsed(await socket.receive())
        assert len(before) == 2
        assert close["type"] == 7
        assert close["allowReconnect"] is True
        assert close["error"].startswith("Connection closed with an error. InvalidDataException: ")
        assert detail in close["error"]
        assert await socket.closed() == (1000, "")
        assert NoticeKind.PROTOCOL_ERROR in desk.kinds()

    async def test_two_megabytes_without_a_separator(self, desk: Desk) -> None:
        socket = await desk.open()
        for _ in range(64):
            socket.send("x" * 32_768)
        assert parsed(await socket.receive())[0]["type"] == 7
        await socket.closed()

    async def test_the_endpoints_close_invites_everybody_back(self, desk: Desk) -> None:
        sockets = [await desk.open() for _ in range(3)]
        unopened = await desk.socket().accepted()
        await desk.endpoint.close()
        for socket in sockets:
            assert parsed(await socket.receive()) == [{"type": 7, "allowReconnect": True}]
            assert await socket.closed() == (1000, "")
        assert await unopened.closed() == (1000, "")
        assert len(desk.hub.gone) == 3

    async def test_a_closed_endpoint_takes_nobody(self, desk: Desk) -> None:
        await desk.endpoint.close()
        assert (await desk.socket().denied()).status == 404
        assert (await desk.fetch("POST", "/hub/negotiate")).status == 404


class TestTime:
    async def test_a_ping_every_fifteen_seconds(self, desk: Desk) -> None:
        socket = await desk.open()
        for _ in range(3):
            await desk.clock.advance(14.9)
            assert not socket.has_message
            await desk.clock.advance(0.1)
            assert await socket.receive() == '{"type":6}\x1e'

    async def test_a_send_puts_the_ping_off(self, desk: Desk) -> None:
        socket = await desk.open()
        await desk.clock.advance(10.0)
        socket.send(call("Two", "x", 1))
        await socket.receive()
        await desk.clock.advance(14.0)
        assert not socket.has_message

    async def test_pings_are_not_answered(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(records({"type": 6}))
        await desk.settle()
        assert not socket.has_message

    async def test_a_client_that_pinged_and_fell_silent(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(records({"type": 6}))
        await desk.settle()
        await desk.clock.advance(30.0)
        received = parsed(await socket.receive())
        received += parsed(await socket.receive())
        assert received[-1]["type"] == 7
        assert received[-1]["allowReconnect"] is True
        assert "ClientTimeoutInterval" in received[-1]["error"]

    async def test_silence_does_not_count_while_a_method_runs(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(records({"type": 6}) + call("Wait", "x"))
        await desk.settle()
        await desk.clock.advance(100.0)
        desk.hub.gate.set()
        await desk.settle()
        await desk.clock.advance(29.0)
        assert desk.endpoint.connection_count == 1
        await desk.clock.advance(1.5)
        assert desk.endpoint.connection_count == 0
        await socket.finished()


class TestSlowClients:
    async def test_a_client_that_never_reads_is_closed_and_reported(self) -> None:
        desk = Desk(options=HubOptions(max_unsent_bytes=100_000))
        socket, other = await desk.open(), await desk.open()
        socket.writable.clear()
        socket.send(call("Flood", 200, 1000))
        await desk.settle()
        assert NoticeKind.SLOW_CLIENT in desk.kinds()
        (_, error), *_ = desk.hub.gone
        assert "bytes wait to be read" in str(error)
        other.send(call("Say", "x"))
        assert parsed(await other.receive())[1]["result"] == 1
        socket.writable.set()
        last = [await socket.next() for _ in range(2)]
        assert '{"type":7,"error":"Connection closed with an error. The client reads too slowly' in last[-2]["text"]
        assert last[-1]["type"] == "websocket.close"
        await desk.endpoint.close()

    async def test_what_it_had_not_read_is_dropped_and_it_is_cut_after_five_seconds(self) -> None:
        desk = Desk(options=HubOptions(max_unsent_bytes=100_000))
        socket = await desk.open()
        socket.writable.clear()
        socket.send(call("Flood", 200, 1000))
        await desk.settle()
        await desk.clock.advance(5.0)
        await socket.finished()
        assert desk.endpoint.connection_count == 0
        await desk.endpoint.close()

    async def test_a_write_that_blocks_for_ten_seconds(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.writable.clear()
        socket.send(call("Say", "x"))
        await desk.settle()
        await desk.clock.advance(10.0)
        assert NoticeKind.SLOW_CLIENT in desk.kinds()
        await desk.clock.advance(5.0)
        await socket.finished()

    async def test_a_client_that_calls_faster_than_methods_run_is_not_read(self, desk: Desk) -> None:
        socket = await desk.open()
        socket.send(call("Wait", "x", id=None))
        for _ in range(100):
            socket.send(call("Say", "y" * 10_000, id=None))
        await desk.settle()
        desk.hub.gate.set()
        await desk.settle()
        for _ in range(50):
            await desk.settle()
        assert len(desk.hub.log) == 102


class TestStatefulReconnect:
    async def open(self, desk: Desk) -> tuple[str, Socket]:
        token = await desk.negotiate("negotiateVersion=1&useStatefulReconnect=true")
        socket = await desk.socket(f"/hub?id={token}").accepted()
        socket.send('{"protocol":"json","version":2}\x1e')
        assert await socket.receive() == "{}\x1e"
        return token, socket

    async def test_it_is_agreed_at_negotiate(self, desk: Desk) -> None:
        url = "/hub/negotiate?negotiateVersion=1"
        assert (await desk.fetch("POST", f"{url}&useStatefulReconnect=true")).json()["useStatefulReconnect"] is True
        assert "useStatefulReconnect" not in (await desk.fetch("POST", url)).json()
        other = Desk(options=HubOptions(stateful_reconnect=False))
        assert "useStatefulReconnect" not in (await other.fetch("POST", f"{url}&useStatefulReconnect=true")).json()

    async def test_a_lost_socket_is_replaced_and_what_was_lost_is_repeated(self, desk: Desk) -> None:
        token, socket = await self.open(desk)
        socket.lose()
        await socket.finished()
        assert desk.hub.gone == []
        desk.hub.contexts[0].send("Meanwhile", 1)
        again = await desk.socket(f"/hub?id={token}").accepted()
        assert parsed(await again.receive()) == [
            {"type": 9, "sequenceId": 1},
            {"type": 1, "target": "Meanwhile", "arguments": [1]},
        ]
        again.send(records({"type": 9, "sequenceId": 1}) + call("Say", "x"))
        assert parsed(await again.receive())[1]["result"] == 1
        assert len(desk.hub.contexts) == 1

    async def test_a_socket_that_only_looks_alive_is_taken_over(self, desk: Desk) -> None:
        token, socket = await self.open(desk)
        again = await desk.socket(f"/hub?id={token}").accepted()
        assert parsed(await again.receive()) == [{"type": 9, "sequenceId": 1}]
        await socket.finished()
        again.send(records({"type": 9, "sequenceId": 1}) + call("Say", "x"))
        assert parsed(await again.receive())[1]["result"] == 1
        assert desk.hub.gone == []

    async def test_repeated_messages_are_processed_once(self, desk: Desk) -> None:
        token, socket = await self.open(desk)
        socket.send(call("Say", "once"))
        await socket.receive()
        socket.lose()
        await socket.finished()
        again = await desk.socket(f"/hub?id={token}").accepted()
        await again.receive()
        again.send(records({"type": 9, "sequenceId": 1}) + call("Say", "once") + call("Say", "twice", id="2"))
        received = parsed(await again.receive())
        assert [message.get("invocationId") for message in received] == [None, "2"]
        assert desk.hub.log == ["say once", "say twice"]

    async def test_an_ack_within_a_second(self, desk: Desk) -> None:
        _, socket = await self.open(desk)
        socket.send(call("Two", "x", 1))
        await socket.receive()
        await desk.clock.advance(1.0)
        assert parsed(await socket.receive()) == [{"type": 8, "sequenceId": 1}]

    async def test_more_than_the_buffer_holds_waits_for_an_ack(self, desk: Desk) -> None:
        _, socket = await self.open(desk)
        for number in range(4):
            desk.hub.contexts[0].send("Filled", number, "x" * 60_000)
        assert [message["arguments"][0] for message in parsed(await socket.receive())] == [0, 1]
        socket.send(records({"type": 8, "sequenceId": 2}))
        assert [message["arguments"][0] for message in parsed(await socket.receive())] == [2, 3]

    async def test_nobody_comes_back_within_15_seconds(self, desk: Desk) -> None:
        token, socket = await self.open(desk)
        socket.lose()
        await socket.finished()
        await desk.clock.advance(15.0)
        assert "has not come back" in str(desk.hub.gone[0][1])
        assert (await desk.socket(f"/hub?id={token}").denied()).status == 404

    @pytest.mark.parametrize("code", [1000, 1001, 1011])
    async def test_a_close_frame_ends_it_for_good(self, desk: Desk, code: int) -> None:
        token, socket = await self.open(desk)
        socket.close(code)
        await socket.finished()
        assert len(desk.hub.gone) == 1
        assert (await desk.socket(f"/hub?id={token}").denied()).status == 404

    async def test_the_servers_close_ends_it_for_good(self, desk: Desk) -> None:
        token, socket = await self.open(desk)
        socket.send(call("Bye"))
        assert parsed(await socket.receive())[-1] == {"type": 7}
        await socket.closed()
        assert (await desk.socket(f"/hub?id={token}").denied()).status == 404

    async def test_version_one_of_the_handshake_switches_it_off(self, desk: Desk) -> None:
        token = await desk.negotiate("negotiateVersion=1&useStatefulReconnect=true")
        socket = await desk.open(f"/hub?id={token}")
        assert (await desk.socket(f"/hub?id={token}").denied()).status == 409
        socket.lose()
        await socket.finished()
        assert len(desk.hub.gone) == 1


class TestClientsAndGroups:
    async def test_sending_to_many(self, desk: Desk) -> None:
        sockets = [await desk.open() for _ in range(3)]
        first, second, third = desk.hub.contexts
        first.join("room")
        second.join("room")
        clients = desk.endpoint.clients
        clients.all.send("Msg", "all")
        clients.group("room").send("Msg", "room")
        clients.group("room", exclude=[first.connection_id]).send("Msg", "others")
        clients.client(third.connection_id).send("Msg", "third")
        clients.all_except([first.connection_id]).send("Msg", "not first")
        clients.group("nobody").send("Msg", "nothing")
        got = [[message["arguments"][0] for message in parsed(await socket.receive())] for socket in sockets]
        assert got == [["all", "room"], ["all", "room", "others", "not first"], ["all", "third", "not first"]]

    async def test_leaving(self, desk: Desk) -> None:
        sockets = [await desk.open() for _ in range(2)]
        first, second = desk.hub.contexts
        first.join("room")
        second.join("room")
        first.leave("room")
        first.clients.group("room").send("Msg", 1)
        assert parsed(await sockets[1].receive())[0]["arguments"] == [1]
        assert not sockets[0].has_message
        sockets[1].close()
        await sockets[1].finished()
        first.clients.group("room").send("Msg", 2)
        second.join("room")
        assert len(first.clients) == 1
        await desk.settle()
        assert not sockets[0].has_message


class TestInterceptors:
    class Tap:
        """Records every crossing, and lets `change` decide what goes on."""

        def __init__(self) -> None:
            self.seen: list[tuple[str, Any]] = []
            self.held: list[Any] = []
            self.rule: Any = lambda crossing: [crossing.value]

        def cross(self, crossing: Any, forward: Any) -> None:
            self.seen.append((str(crossing.seam), crossing.value))
            verdict = self.rule(crossing)
            if verdict is None:
                self.held.append(lambda: forward(crossing.value))
                return
            for value in verdict:
                forward(value)

    @pytest.fixture
    def tap(self) -> TestInterceptors.Tap:
        return self.Tap()

    @pytest.fixture
    def tapped(self, tap: TestInterceptors.Tap) -> Desk:
        return Desk(interceptors=(tap,))

    async def test_everything_crosses(self, tap: TestInterceptors.Tap, tapped: Desk) -> None:
        token = await tapped.negotiate()
        socket = await tapped.open(f"/hub?id={token}")
        socket.send(call("Say", "x"))
        await socket.receive()
        assert [seam for seam, _ in tap.seen] == [
            "hub.negotiate",
            "hub.bytes.in",
            "hub.handshake",
            "hub.bytes.out",
            "hub.bytes.in",
            "hub.message.in",
            "hub.message.out",
            "hub.message.out",
            "hub.bytes.out",
        ]
        await tapped.endpoint.close()

    async def test_a_message_is_dropped_doubled_and_changed(self, tap: TestInterceptors.Tap, tapped: Desk) -> None:
        def rule(crossing: Any) -> list[Any]:
            if crossing.seam == "hub.message.out" and getattr(crossing.value, "target", "") == "Said":
                return {"drop": [], "twice": [crossing.value] * 2}.get(crossing.value.arguments[0], [crossing.value])
            return [crossing.value]

        tap.rule = rule
        socket = await tapped.open()
        socket.send(call("Say", "drop"))
        assert len(parsed(await socket.receive())) == 1
        socket.send(call("Say", "twice"))
        assert len(parsed(await socket.receive())) == 3
        await tapped.endpoint.close()

    async def test_bytes_are_held_back(self, tap: TestInterceptors.Tap, tapped: Desk) -> None:
        socket = await tapped.open()
        tap.rule = lambda crossing: None if crossing.seam == "hub.bytes.out" else [crossing.value]
        socket.send(call("Two", "x", 1))
        await tapped.settle()
        assert not socket.has_message
        tap.held.pop()()
        assert parsed(await socket.receive())[0]["result"] == "x"
        await tapped.endpoint.close()

    async def test_a_handshake_is_held_back(self, tap: TestInterceptors.Tap, tapped: Desk) -> None:
        tap.rule = lambda crossing: None if crossing.seam == "hub.handshake" else [crossing.value]
        socket = await tapped.socket().accepted()
        socket.send(HANDSHAKE + call("Two", "x", 1))
        await tapped.settle()
        assert not socket.has_message
        assert tapped.hub.contexts == []
        tap.held.pop()()
        assert await socket.receive() == "{}\x1e"
        assert parsed(await socket.receive())[0]["result"] == "x"
        await tapped.endpoint.close()

    async def test_a_message_that_is_late_after_the_end_does_no_harm(
        self, tap: TestInterceptors.Tap, tapped: Desk
    ) -> None:
        socket = await tapped.open()
        tap.rule = lambda crossing: None if "message" in crossing.seam else [crossing.value]
        socket.send(call("Say", "x"))
        await tapped.settle()
        socket.close()
        await socket.finished()
        tap.held.pop()()
        assert tapped.hub.log == []
        await tapped.endpoint.close()


async def test_the_hub_may_be_called_after_a_callback_failed(desk: Desk) -> None:
    class Broken(Office):
        async def on_disconnected(self, connection: Any, error: Exception | None) -> None:
            raise ValueError("in callback")

    broken = Desk(hub=Broken())
    socket = await broken.open()
    socket.close()
    await socket.finished()
    await broken.settle()
    assert broken.kinds()[-1] is NoticeKind.CALLBACK_FAILED
    await broken.endpoint.close()
