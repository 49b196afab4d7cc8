"""Every row of the tables of requests and answers, over the wire."""

from __future__ import annotations

import json
import re

import pytest
from hub_processes import HubServer
from hub_server import TOKEN
from raw_wire import (
    HANDSHAKE,
    RS,
    EventStream,
    Polls,
    RawSocket,
    RawWebSocket,
    negotiate,
    new_token,
    read_answer,
    request,
)

pytestmark = pytest.mark.interop

ID = r"[A-Za-z0-9_-]{22}"
TRANSPORTS = (
    '"availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]},'
    '{"transport":"ServerSentEvents","transferFormats":["Text"]},'
    '{"transport":"LongPolling","transferFormats":["Text","Binary"]}]}'
)
SSE = {"Accept": "text/event-stream"}
PING = b'{"type":6}' + RS


class TestNegotiate:
    @pytest.mark.parametrize("version", ["negotiateVersion=1", "NegotiateVersion=1", "negotiateVersion=7"])
    def test_version_one(self, hubs: HubServer, version: str) -> None:
        answer = request(hubs, "POST", f"/plain/negotiate?{version}&flavour=lemon", b"\xff nonsense")

        assert answer.status == 200
        assert answer.content_type == "application/json"
        begin = rf'{{"negotiateVersion":1,"connectionId":"({ID})","connectionToken":"({ID})",'
        found = re.fullmatch(begin + re.escape(TRANSPORTS), answer.body.decode())
        assert found is not None, answer.body
        assert found[1] != found[2]

    @pytest.mark.parametrize("version", ["", "negotiateVersion=0"])
    def test_version_zero(self, hubs: HubServer, version: str) -> None:
        body = request(hubs, "POST", f"/plain/negotiate?{version}").body.decode()

        assert re.fullmatch(rf'{{"negotiateVersion":0,"connectionId":"{ID}",' + re.escape(TRANSPORTS), body), body

    @pytest.mark.parametrize(
        ("version", "error"),
        [
            ("one", "The client requested a non-integer protocol version."),
            ("", "The client requested a non-integer protocol version."),
            ("99999999999", "The client requested a non-integer protocol version."),
            ("1.5", "The client requested a non-integer protocol version."),
            ("-1", "The client requested version '-1', but the server does not support this version."),
        ],
    )
    def test_other_versions(self, hubs: HubServer, version: str, error: str) -> None:
        answer = request(hubs, "POST", f"/plain/negotiate?negotiateVersion={version}")

        assert (answer.status, json.loads(answer.body)) == (200, {"error": error})

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
    def test_other_methods(self, hubs: HubServer, method: str) -> None:
        answer = request(hubs, method, "/plain/negotiate?negotiateVersion=1")

        assert (answer.status, answer.body, answer.content_type) == (405, b"", "text/plain")

    def test_stateful_reconnect_only_when_both_want_it(self, hubs: HubServer) -> None:
        asked = "negotiateVersion=1&useStatefulReconnect=true"

        assert negotiate(hubs, "plain", asked)["useStatefulReconnect"] is True
        assert "useStatefulReconnect" not in negotiate(hubs, "plain")
        assert "useStatefulReconnect" not in negotiate(hubs, "polls", asked)

    def test_only_what_is_switched_on_is_offered(self, hubs: HubServer) -> None:
        offered = negotiate(hubs, "polls")["availableTransports"]

        assert offered == [{"transport": "LongPolling", "transferFormats": ["Text", "Binary"]}]


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "target", "headers", "status", "body"),
        [
            ("GET", "/plain", {}, 400, "Connection ID required"),
            ("GET", "/plain", SSE, 400, "Connection ID required"),
            ("POST", "/plain", {}, 400, "Connection ID required"),
            ("DELETE", "/plain", {}, 400, "Connection ID required"),
            ("GET", "/plain?id=nobody", {}, 404, "No Connection with that ID"),
            ("GET", "/plain?id=nobody", SSE, 404, "No Connection with that ID"),
            ("POST", "/plain?id=nobody", {}, 404, "No Connection with that ID"),
            ("DELETE", "/plain?id=nobody", {}, 404, "No Connection with that ID"),
            ("GET", "/plain?id=", {}, 400, "Connection ID required"),
            ("POST", "/plain?id=", {}, 400, "Connection ID required"),
            ("PUT", "/plain?id=nobody", {}, 405, ""),
            ("PATCH", "/plain", {}, 405, ""),
            ("HEAD", "/plain?id=nobody", {}, 405, ""),
            ("POST", "/guarded/negotiate", {}, 401, ""),
            ("GET", "/guarded?id=x", {}, 401, ""),
            ("POST", "/guarded?id=x", {}, 401, ""),
            ("DELETE", "/guarded?id=x", {}, 401, ""),
        ],
    )
    def test_requests(
        self, hubs: HubServer, method: str, target: str, headers: dict[str, str], status: int, body: str
    ) -> None:
        answer = request(hubs, method, target, headers=headers | {"Origin": "http://there.example"})

        assert (answer.status, answer.body.decode()) == (status, body)
        assert answer.content_type == "text/plain"
        # Also refusals must be readable for a browser's script.
        assert answer.headers["access-control-allow-origin"] == "http://there.example"
        assert answer.headers["access-control-allow-credentials"] == "true"

    @pytest.mark.parametrize(
        ("target", "status", "body"),
        [
            ("/plain?id=nobody", 404, "No Connection with that ID"),
            ("/polls", 404, "WebSockets transport not supported by this end point type"),
            ("/guarded", 401, ""),
            ("/guarded?access_token=wrong", 401, ""),
        ],
    )
    def test_upgrades(self, hubs: HubServer, target: str, status: int, body: str) -> None:
        with RawWebSocket(hubs, target) as refused:
            assert (refused.status, refused.refusal.body.decode()) == (status, body)
            assert refused.refusal.content_type == "text/plain"

    def test_transports_that_are_switched_off(self, hubs: HubServer) -> None:
        """An id that nobody has is the more urgent problem."""
        target = f"/sockets?id={new_token(hubs, 'sockets')}"
        for headers, name in [(SSE, "ServerSentEvents"), ({}, "LongPolling")]:
            answer = request(hubs, "GET", target, headers=headers)
            assert answer.status == 404
            assert answer.body.decode() == f"{name} transport not supported by this end point type"
            assert request(hubs, "GET", "/sockets?id=x", headers=headers).body == b"No Connection with that ID"
        with RawWebSocket(hubs, f"/polls?id={new_token(hubs, 'polls')}") as refused:
            assert refused.refusal.body == b"WebSockets transport not supported by this end point type"

    def test_polls_are_never_cached(self, hubs: HubServer) -> None:
        for target in ("/plain", "/plain?id=x", f"/sockets?id={new_token(hubs, 'sockets')}"):
            assert request(hubs, "GET", target).headers["cache-control"] == "no-cache, no-store"

    def test_an_empty_id_is_none(self, hubs: HubServer) -> None:
        with RawWebSocket(hubs, "/plain?id=") as direct:
            assert direct.status == 101

    def test_a_public_id_is_no_token(self, hubs: HubServer) -> None:
        public = negotiate(hubs)["connectionId"]

        assert request(hubs, "GET", f"/plain?id={public}").status == 404
        with RawWebSocket(hubs, f"/plain?id={public}") as refused:
            assert refused.status == 404

    def test_a_token_is_looked_for_in_the_header_first(self, hubs: HubServer) -> None:
        good = {"Authorization": f"Bearer {TOKEN}"}
        bad = {"Authorization": "Bearer guess"}

        assert request(hubs, "POST", "/guarded/negotiate", headers=good).status == 200
        assert request(hubs, "POST", f"/guarded/negotiate?access_token={TOKEN}").status == 200
        assert request(hubs, "POST", f"/guarded/negotiate?access_token={TOKEN}", headers=bad).status == 401
        with RawWebSocket(hubs, f"/guarded?access_token={TOKEN}") as accepted:
            assert accepted.status == 101

    def test_a_preflight_needs_no_token(self, hubs: HubServer) -> None:
        wishes = {
            "Origin": "http://there.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-requested-with,x-signalr-user-agent",
        }
        answer = request(hubs, "OPTIONS", "/guarded/negotiate", headers=wishes)

        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "http://there.example"
        assert answer.headers["access-control-allow-headers"] == "x-requested-with,x-signalr-user-agent"
        assert "POST" in answer.headers["access-control-allow-methods"]


class TestOneIdTwoTransports:
    def test_of_a_live_websocket(self, hubs: HubServer) -> None:
        target = f"/plain?id={new_token(hubs)}"
        with RawWebSocket(hubs, target) as first, RawWebSocket(hubs, target) as second:
            assert first.status == 101
            assert (second.status, second.refusal.body) == (409, b"")
            self._refused(hubs, target, own=None)
            post = request(hubs, "POST", target, PING)
            assert (post.status, post.body) == (405, b"POST requests are not allowed for WebSocket connections.")
            first.send(HANDSHAKE["json"])
            assert first.receive() == (1, b"{}" + RS)

    def test_of_a_live_event_stream(self, hubs: HubServer) -> None:
        with EventStream(hubs) as stream:
            again = request(hubs, "GET", stream.target, headers=SSE)
            assert (again.status, again.body) == (409, b"")
            with RawWebSocket(hubs, stream.target) as refused:
                assert (refused.status, refused.refusal.body) == (400, b"Cannot change transports mid-connection")
            self._refused(hubs, stream.target, own="sse")
            assert stream.read_event() == b"{}" + RS

    def test_of_long_polling(self, hubs: HubServer) -> None:
        polls = Polls(hubs)
        with RawWebSocket(hubs, polls.target) as refused:
            assert (refused.status, refused.refusal.body) == (400, b"Cannot change transports mid-connection")
        stream = request(hubs, "GET", polls.target, headers=SSE)
        assert (stream.status, stream.body) == (400, b"Cannot change transports mid-connection")
        assert polls.post(b'{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}' + RS).status == 200
        assert polls.poll().body == b'{"type":3,"invocationId":"1","result":3}' + RS

    def _refused(self, hubs: HubServer, target: str, *, own: str | None) -> None:
        """Polls, streams and DELETE of a connection that has another transport."""
        poll = request(hubs, "GET", target)
        assert (poll.status, poll.body) == (400, b"Cannot change transports mid-connection")
        if own != "sse":
            stream = request(hubs, "GET", target, headers=SSE)
            assert (stream.status, stream.body) == (400, b"Cannot change transports mid-connection")
        delete = request(hubs, "DELETE", target)
        assert (delete.status, delete.body) == (
            400,
            b"Cannot terminate this connection using the DELETE endpoint.",
        )


class TestEventStream:
    def test_the_answer(self, hubs: HubServer) -> None:
        with EventStream(hubs, handshake=None) as stream:
            head = stream.head.decode().lower()
            assert head.startswith("http/1.1 200 ")
            assert "content-type: text/event-stream\r\n" in head
            assert "cache-control: no-cache\r\n" in head
            assert "content-encoding: identity\r\n" in head
            assert stream.greeting == b":\r\n"
            posted = stream.post(HANDSHAKE["json"])
            assert (posted.status, posted.body, posted.content_type) == (200, b"", "text/plain")
            assert stream.read_chunk() == b"data: {}\x1e\r\n\r\n"
            stream.post(b'{"type":1,"invocationId":"1","target":"Echo","arguments":["a\\nb"]}' + RS)
            assert stream.read_event() == b'{"type":3,"invocationId":"1","result":"a\\nb"}' + RS

    def test_the_server_ends_it(self, hubs: HubServer) -> None:
        with EventStream(hubs) as stream:
            assert stream.read_event() == b"{}" + RS
            stream.post(b'{"type":1,"target":"Bye","arguments":[null,false]}' + RS)
            assert stream.read_event() == b'{"type":7}' + RS
            assert stream.read_event() == b""
            late = stream.post(PING)
            assert (late.status, late.body) == (404, b"No Connection with that ID")

    def test_the_client_drops_it(self, hubs: HubServer) -> None:
        with EventStream(hubs) as stream:
            assert stream.read_event() == b"{}" + RS
            stream.post(b'{"type":1,"invocationId":"1","target":"WhoAmI","arguments":[]}' + RS)
            who = json.loads(stream.read_event()[:-1])["result"]
        assert hubs.end_of(who) == ""
        assert stream.post(PING).status == 404


class TestLongPolling:
    def test_the_answers(self, hubs: HubServer) -> None:
        polls = Polls(hubs, handshake=None)

        assert (polls.first.status, polls.first.body) == (200, b"")
        assert polls.first.content_type == "application/octet-stream"
        posted = polls.post(HANDSHAKE["json"])
        assert (posted.status, posted.body, posted.content_type) == (200, b"", "text/plain")
        polls.post(b'{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}' + RS)
        data = polls.poll()
        assert data.content_type == "application/octet-stream"
        assert data.headers["content-length"] == str(len(data.body))
        assert data.headers["cache-control"] == "no-cache, no-store"
        assert data.headers["pragma"] == "no-cache"
        assert data.headers["expires"] == "Thu, 01 Jan 1970 00:00:00 GMT"
        # What comes with the handshake's answer is lost on some clients; it comes with the next poll.
        assert data.body == b"{}" + RS
        assert polls.poll().body == b'{"type":3,"invocationId":"1","result":3}' + RS

    def test_a_newer_poll_ends_an_older_one_with_204(self, hubs: HubServer) -> None:
        polls = Polls(hubs)
        with polls.start_poll() as older, polls.start_poll() as newer:
            assert read_answer(older).status == 204
            polls.post(b'{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}' + RS)
            assert read_answer(newer).body == b'{"type":3,"invocationId":"1","result":3}' + RS

    def test_nothing_to_say(self, hubs: HubServer) -> None:
        polls = Polls(hubs, "quick")
        empty = polls.poll()

        assert (empty.status, empty.body, empty.content_type) == (200, b"", "text/plain")
        assert empty.headers["content-length"] == "0"

    def test_delete(self, hubs: HubServer) -> None:
        polls = Polls(hubs)
        polls.post(b'{"type":1,"invocationId":"1","target":"WhoAmI","arguments":[]}' + RS)
        who = json.loads(polls.poll().body[:-1])["result"]
        with polls.start_poll() as waiting:
            deleted = polls.delete()
            assert (deleted.status, deleted.body) == (202, b"")
            last = read_answer(waiting)
            assert (last.status, last.body) in [(204, b""), (200, b'{"type":7}' + RS)]
        assert hubs.end_of(who) == ""
        assert polls.post(PING).status == 404
        assert polls.delete().status == 404
        assert polls.poll().status == 404

    def test_the_last_poll_takes_the_close(self, hubs: HubServer) -> None:
        polls = Polls(hubs)
        polls.post(b'{"type":1,"target":"Bye","arguments":["enough",false]}' + RS)

        assert polls.post(PING).status == 404
        assert polls.poll().body == b'{"type":7,"error":"enough"}' + RS
        assert polls.poll().status in (204, 404)
        assert polls.poll().status == 404

    def test_a_client_that_polls_no_more_is_dropped(self, hubs: HubServer) -> None:
        polls = Polls(hubs, "quick")
        polls.post(b'{"type":1,"invocationId":"1","target":"WhoAmI","arguments":[]}' + RS)
        who = json.loads(polls.poll().body[:-1])["result"]

        assert "has not come back" in hubs.end_of(who, "quick")
        assert polls.poll().status == 404
        assert polls.post(PING).status == 404

    def test_messages_in_a_post_and_posts_without_any(self, hubs: HubServer) -> None:
        polls = Polls(hubs)
        call = b'{"type":1,"invocationId":"%d","target":"Echo","arguments":[%d]}' + RS
        assert polls.post(b"").status == 200
        assert polls.post(call % (1, 1) + call % (2, 2) + PING).status == 200

        assert polls.poll().body.count(RS) == 2

    def test_half_a_request_waits_and_harms_nobody(self, hubs: HubServer) -> None:
        """A POST whose body stops in the middle keeps later ones waiting, and gives way when it is dropped."""
        polls = Polls(hubs)
        with RawSocket(hubs.port) as half:
            half.write(f"POST {polls.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode() + PING)
            with RawSocket(hubs.port) as other:
                other.write(f"POST {polls.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n".encode() + PING)
                half.__exit__()
                assert read_answer(other).status == 200
        assert polls.delete().status == 202
