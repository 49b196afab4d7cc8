"""Garbage on live connections: answered as ASP.NET Core does, paid by the one who sends it, noticed by nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hub_processes import HubServer
from proxy import Proxy
from raw_wire import (
    CLOSED_WITH_ERROR,
    HANDSHAKE,
    RS,
    Canary,
    EventStream,
    Polls,
    RawSocket,
    RawWebSocket,
    frame,
    negotiate,
    new_token,
    request,
)

pytestmark = pytest.mark.interop

MEGABYTE = 1_000_000
GROWTH = 24 * MEGABYTE
"""More than an allocator keeps for later, and much less than what any of these tests sends."""
PATIENCE = 3.0
"""Seconds; the longest that a bystander's call may take on a machine that does other things too."""
CLOSED = (CLOSED_WITH_ERROR, 1000)


@pytest.fixture(autouse=True)
def nobody_notices(hubs: HubServer) -> Iterator[None]:
    """A connection that keeps calling gets all its answers, and the server does not grow."""
    before = hubs.state()["memory"]
    with Canary(hubs) as canary:
        yield
    assert canary.longest < PATIENCE
    assert hubs.state()["memory"] - before < GROWTH


def varint(length: int) -> bytes:
    data = bytearray()
    while length >= 0x80:
        data.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*data, length])


def packed(body: bytes) -> bytes:
    return varint(len(body)) + body


# --- handshakes


FAILED = "An unexpected error occurred during connection handshake."
CANCELED = "Handshake was canceled."


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b'{"protocol":"xml","version":1}', "The protocol 'xml' is not supported."),
        (b'{"protocol":"json","version":99}', "The server does not support version 99 of the 'json' protocol."),
        (b"garbage", FAILED),
        (b"", FAILED),
        (b"[]", FAILED),
        (b"{}", FAILED),
        (b'{"protocol":"json"}', FAILED),
        (b'{"version":1}', FAILED),
        (b'{"protocol":1,"version":1}', FAILED),
        (b'{"protocol":"json","version":"1"}', FAILED),
        (b'{"type":1,"target":"Add","arguments":[1,2]}', FAILED),
        (b"\xff\xfe", FAILED),
        (b"[" * 20_000, FAILED),
        (b'{"protocol":"json","version":1' + b" " * 40_000 + b"}", CANCELED),
        (b'{"protocol":"json","version":' + b"1" * 5_000 + b"}", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_handshakes_that_fail(hubs: HubServer, sent: bytes, error: str | None) -> None:
    with RawWebSocket(hubs, "/plain") as socket:
        socket.send(sent + RS, opcode=2)
        data, code = socket.receive_to_end()

    assert code == 1000
    assert data.endswith(RS)
    answer = json.loads(data[:-1])
    assert list(answer) == ["error"]
    assert error is None or answer == {"error": error}


def test_a_handshake_that_never_comes(hubs: HubServer) -> None:
    for begin in (b"", b'{"protocol":'):
        with RawWebSocket(hubs, "/quick") as socket:
            socket.send(begin)
            assert socket.receive_to_end() == (b'{"error":"%s"}\x1e' % CANCELED.encode(), 1000)


@pytest.mark.parametrize("protocol", ["json", "JSON", "messagepack", "MessagePack"])
def test_versions_that_are_accepted(hubs: HubServer, protocol: str) -> None:
    for version in (0, 1, 2):
        with RawWebSocket(hubs, "/plain") as socket:
            socket.send(b'{"more":[1],"version":%d,"protocol":"%s"}\x1e' % (version, protocol.encode()))
            assert socket.receive() == (1 if protocol.lower() == "json" else 2, b"{}" + RS)


def test_messagepack_cannot_pass_an_event_stream(hubs: HubServer) -> None:
    with EventStream(hubs, handshake=HANDSHAKE["messagepack"]) as stream:
        assert json.loads(stream.read_event()[:-1]) == {
            "error": "Cannot use the 'messagepack' protocol on the current transport. "
            "The transport does not support 'Binary' transfer format."
        }
        assert stream.read_event() == b""


# --- messages that end the connection, and messages that do not


FATAL_JSON = [
    b"garbage",
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"type":"1"}',
    b'{"type":1.5}',
    b'{"type":99999999999}',
    b'{"type":1,"target":"Add"}',
    b'{"type":4,"invocationId":"1","target":"Count"}',
    b'{"type":4,"target":"Count","arguments":[1]}',
    b'{"type":1,"target":"Add","arguments":{}}',
    b'{"type":1,"target":"Add","arguments":"[1,2]"}',
    b'{"type":1,"target":1,"arguments":[]}',
    b'{"type":1,"invocationId":1,"target":"Add","arguments":[1,2]}',
    b'{"type":1,"target":"Sum","arguments":[],"streamIds":[1]}',
    b'{"type":1,"target":"Sum","arguments":[],"streamIds":"1"}',
    b'{"type":2,"invocationId":"1"}',
    b'{"type":3}',
    b'{"type":3,"invocationId":"1","result":1,"error":"x"}',
    b'{"type":3,"invocationId":"1","error":1}',
    b'{"type":5}',
    b'{"type":8}',
    b'{"type":8,"sequenceId":"1"}',
    b'{"type":6}garbage',
    b'{"type":6',
    b'\xff{"type":6}',
    b'{"type":1,"target":"Echo","arguments":[' + b"[" * 10_000 + b"]" * 10_000 + b"]}",
    b'{"protocol":"json","version":1}',
]


@pytest.mark.parametrize("record", FATAL_JSON, ids=lambda record: repr(record)[:50])
def test_malformed_json_ends_the_connection(hubs: HubServer, record: bytes) -> None:
    with RawWebSocket.open(hubs) as socket:
        late = b'{"type":1,"invocationId":"late","target":"Nothing","arguments":[]}' + RS
        socket.send(record + RS + late, opcode=2)

        assert socket.receive_to_end() == CLOSED


TWO_STREAMS = (
    "An unexpected error occurred invoking 'Sum' on the server. "
    "HubException: Client sent 2 stream(s), Hub method expects 1."
)


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ('"type":1,"invocationId":"1","arguments":[]', "Failed to invoke '' due to an error on the server."),
        (
            '"type":1,"invocationId":"1","target":null,"arguments":[]',
            "Failed to invoke '' due to an error on the server.",
        ),
        (
            '"type":1,"invocationId":"1","target":"Add","arguments":[[],{}]',
            "Failed to invoke 'Add' due to an error on the server.",
        ),
        (
            '"type":1,"invocationId":"1","target":"Length","arguments":["%%%"]',
            "Failed to invoke 'Length' due to an error on the server.",
        ),
        (
            '"type":1,"invocationId":"1","target":"Add","arguments":[1e400,2]',
            "Failed to invoke 'Add' due to an error on the server.",
        ),
        ('"type":1,"invocationId":"1","target":"Sum","arguments":[],"streamIds":["a","b"]', TWO_STREAMS),
    ],
)
def test_calls_that_fail_leave_the_connection_open(hubs: HubServer, record: str, error: str) -> None:
    with RawWebSocket.open(hubs) as socket:
        socket.send(b"{%s}\x1e" % record.encode())
        _, answer = socket.receive()
        assert json.loads(answer[:-1]) == {"type": 3, "invocationId": "1", "error": error}
        assert socket.invoke("Add", 1, 2)["result"] == 3


@pytest.mark.parametrize(
    "record",
    [
        b'{"type":10,"new":true}',
        b'{"type":0}',
        b'{"type":-1}',
        b'{"type":5,"invocationId":"nobody"}',
        b'{"type":2,"invocationId":"nobody","item":1}',
        b'{"type":3,"invocationId":"nobody","result":1}',
        b'{"type":8,"sequenceId":5}',
        b'{"type":9,"sequenceId":5}',
        b'{"type":1,"target":"NoSuchMethod","arguments":[]}',
        b'{"type":1,"target":"Fail","arguments":[],"invocationId":""}',
        b'{"arguments":[1],"more":{"x":[]},"headers":{"a":"b"},"target":"Echo","type":1}',
    ],
    ids=repr,
)
def test_messages_that_are_ignored(hubs: HubServer, record: bytes) -> None:
    with RawWebSocket.open(hubs) as socket:
        socket.send(record + RS)
        socket.send(b'{"type":1,"invocationId":"1","target":"Nothing","arguments":[]}' + RS)
        assert socket.receive() == (1, b'{"type":3,"invocationId":"1","result":null}' + RS)


# Bodies after `[1, {}, "1", "Echo", `: what the arguments begin with.
BOMBS = {
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "text of 4 billion": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 billion": b"\xc6\xff\xff\xff\xff",
    "extension of 4 billion": b"\xc9\xff\xff\xff\xff\x01",
    "array of 4 billion in an array": b"\x91\xdd\xff\xff\xff\xff",
    "map of 268 million in an array": b"\x91\xdf\x0f\xff\xff\xff",
    "arrays 10,000 deep": b"\x91" * 10_000 + b"\xc0",
    "maps 10,000 deep": b"\x91" + b"\x81\xa1a" * 10_000 + b"\xc0",
    "unfinished arrays 30,000 deep": b"\x91" * 30_000,
}
FATAL_MESSAGEPACK = {name: packed(b"\x96\x01\x80\xa11\xa4Echo" + bomb + b"\x90") for name, bomb in BOMBS.items()} | {
    "items 10,000 deep": packed(b"\x94\x02\x80\xa11" + b"\x91" * 10_000 + b"\xc0"),
    "headers of 4 billion": packed(b"\x96\x01\xdf\xff\xff\xff\xff"),
    "streams of 4 billion": packed(b"\x96\x01\x80\xa11\xa4Echo\x90\xdd\xff\xff\xff\xff"),
    "no array": packed(b"\x80"),
    "empty": b"\x00",
    "empty array": packed(b"\x90"),
    "type is text": packed(b"\x91\xa16"),
    "headers are nil": packed(b"\x96\x01\xc0\xa11\xa4Echo\x90\x90"),
    "id is a number": packed(b"\x96\x01\x80\x01\xa4Echo\x90\x90"),
    "too short": packed(b"\x93\x01\x80\xa11"),
    "bad result kind": packed(b"\x95\x03\x80\xa11\x09\xc0"),
    "a reserved byte": packed(b"\xc1"),
    "length of 2 GB": b"\xff\xff\xff\xff\x07",
    "length of 32 GB": b"\xff\xff\xff\xff\x7f",
    "length that does not end": b"\xff" * 10,
    "length over the limit": varint(40_000),
}


@pytest.mark.parametrize("data", FATAL_MESSAGEPACK.values(), ids=FATAL_MESSAGEPACK.keys())
def test_malformed_messagepack_ends_the_connection(hubs: HubServer, data: bytes) -> None:
    with RawWebSocket.open(hubs, protocol="messagepack") as socket:
        socket.send(data, opcode=2)
        answer, code = socket.receive_to_end()

    assert code == 1000
    assert answer == packed(b"\x93\x07\xd9\x20Connection closed with an error.\xc3")


def test_messagepack_calls_that_fail_leave_the_connection_open(hubs: HubServer) -> None:
    with RawWebSocket.open(hubs, protocol="messagepack") as socket:
        for arguments in (b"\x91\xa3two", b"\x80", b"\xc0", b"\x92\x01\xa12"):
            socket.send(packed(b"\x96\x01\x80\xa11\xa3Add" + arguments + b"\x90"), opcode=2)
            _, answer = socket.receive()
            assert b"Failed to invoke 'Add' due to an error on the server." in answer
        # Five items are what old clients send, and a type of a later protocol is ignored.
        socket.send(packed(b"\x92\x2a\x01") + packed(b"\x95\x01\x80\xa12\xa3Add\x92\x01\x02"), opcode=2)
        assert socket.receive() == (2, packed(b"\x95\x03\x80\xa12\x03\x03"))


# --- frames


def test_characters_that_are_split_over_frames(hubs: HubServer) -> None:
    """In binary frames anything may be cut anywhere, and in the fragments of a text frame."""
    record = '{"type":1,"invocationId":"1","target":"Echo","arguments":["naïve 雪 😀"]}'.encode() + RS
    answer = json.dumps(
        {"type": 3, "invocationId": "1", "result": "naïve 雪 😀"}, ensure_ascii=False, separators=(",", ":")
    )
    with RawWebSocket.open(hubs) as socket:
        for cut in range(1, len(record)):
            socket.write(frame(record[:cut], opcode=2) + frame(record[cut:], opcode=2))
            socket.write(frame(record[:cut], fin=False) + frame(record[cut:], opcode=0))
        answers = b""
        while answers.count(RS) < 2 * (len(record) - 1):
            answers += socket.receive()[1]
    assert set(answers.split(RS)[:-1]) == {answer.encode()}


BAD_TEXT = b'{"type":1,"invocationId":"1","target":"Echo","arguments":["\xe9\x9b\xff\xc3"]}' + RS


def test_bytes_that_are_no_characters_fail_the_call(hubs: HubServer) -> None:
    """In a binary frame, wherever it is cut; nobody looks at its bytes before the call is bound."""
    with RawWebSocket.open(hubs) as socket:
        for cut in range(1, len(BAD_TEXT)):
            socket.write(frame(BAD_TEXT[:cut], opcode=2) + frame(BAD_TEXT[cut:], opcode=2))
        answers = b""
        while answers.count(RS) < len(BAD_TEXT) - 1:
            answers += socket.receive()[1]
        assert socket.invoke("Add", 1, 2)["result"] == 3
    assert {json.loads(answer)["error"] for answer in answers.split(RS)[:-1]} == {
        "Failed to invoke 'Echo' due to an error on the server."
    }


def test_a_text_frame_of_bytes_that_are_no_characters_breaks_the_websocket(hubs: HubServer) -> None:
    for data in (BAD_TEXT, BAD_TEXT[:60]):
        with RawWebSocket.open(hubs) as socket:
            socket.send(data)
            assert socket.receive_to_end() == (b"", 1007)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"{}", mask=None), 1002),
        (frame(b"", opcode=3), 1002),
        (frame(b"", opcode=11), 1002),
        (b"\xf1" + frame(b"")[1:], 1002),
        (frame(b"x" * 126, opcode=9), 1002),
        (frame(b"", opcode=9, fin=False), 1002),
        (frame(b"", opcode=0), 1002),
        (frame(b"a", fin=False) + frame(b"b"), 1002),
        (frame(b"\x03", opcode=8), 1002),
        (frame(b"\x00\x01", opcode=8), 1002),
    ],
    ids=[
        "not masked",
        "reserved data opcode",
        "reserved control opcode",
        "reserved bits",
        "long ping",
        "fragmented ping",
        "nothing to continue",
        "two beginnings",
        "close with one byte",
        "close with a bad code",
    ],
)
def test_frames_that_break_the_websocket(hubs: HubServer, data: bytes, code: int) -> None:
    with RawWebSocket.open(hubs) as socket:
        socket.write(data)

        assert socket.receive_to_end() == (b"", code)


def test_empty_frames_and_fragments_are_nothing_special(hubs: HubServer) -> None:
    with RawWebSocket.open(hubs) as socket:
        record = b'{"type":1,"invocationId":"1","target":"Nothing","arguments":[]}' + RS
        pieces = [frame(record[:1], fin=False)] + [frame(record[i : i + 1], opcode=0, fin=False) for i in range(1, 40)]
        socket.write(frame(b"") * 1000 + b"".join(pieces) + frame(b"", opcode=9) + frame(record[40:], opcode=0))
        seen = [socket.receive(), socket.receive()]
        assert sorted(seen) == [(1, b'{"type":3,"invocationId":"1","result":null}' + RS), (10, b"")]


# --- sizes


def test_two_megabytes_without_a_separator(hubs: HubServer) -> None:
    for opcode in (1, 2):
        with RawWebSocket.open(hubs) as socket:
            socket.write_all_it_takes(frame(b"x" * (2 * MEGABYTE), opcode=opcode))
            assert socket.receive_to_end() == CLOSED
    with RawWebSocket.open(hubs) as socket:
        piece = frame(b"x" * 1000)
        socket.write_all_it_takes(piece * 2000)
        assert socket.receive_to_end() == CLOSED


def test_two_megabytes_without_a_separator_in_a_post(hubs: HubServer) -> None:
    polls = Polls(hubs)
    with RawSocket(hubs.port) as post:
        post.write(f"POST {polls.target} HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * MEGABYTE}\r\n\r\n".encode())
        post.write_all_it_takes(b"x" * (2 * MEGABYTE))
        assert polls.poll().body == CLOSED_WITH_ERROR
    with EventStream(hubs) as stream:
        assert stream.read_event() == b"{}" + RS
        with RawSocket(hubs.port) as post:
            post.write(f"POST {stream.target} HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * MEGABYTE}\r\n\r\n".encode())
            post.write_all_it_takes(b"x" * (2 * MEGABYTE))
            assert stream.read_event() == CLOSED_WITH_ERROR
            assert stream.read_event() == b""


def test_two_megabytes_before_the_handshake(hubs: HubServer) -> None:
    with RawWebSocket(hubs, "/plain") as socket:
        socket.write_all_it_takes(frame(b"x" * (2 * MEGABYTE)))
        assert socket.receive_to_end() == (b'{"error":"Handshake was canceled."}' + RS, 1000)
    # Without a transport to carry it away it is not taken at all.
    target = f"/plain?id={new_token(hubs)}"
    with RawSocket(hubs.port) as post:
        post.write(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * MEGABYTE}\r\n\r\n".encode())
        post.write_all_it_takes(b"x" * (2 * MEGABYTE))


def test_frames_that_promise_much(hubs: HubServer) -> None:
    """Of 8 exabytes only the first 32 kB are ever waited for."""
    for first in (0x81, 0x01, 0x82):
        with RawWebSocket.open(hubs) as socket:
            socket.write(bytes([first, 0xFF]) + b"\x7f" + b"\xff" * 7 + b"\0\0\0\0")
            socket.write_all_it_takes(b"x" * 100_000)
            data, code = socket.receive_to_end()
            assert (data, code) in [CLOSED, (b"", 1009)]


def test_a_big_frame_of_small_messages_is_welcome(hubs: HubServer) -> None:
    call = b'{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}' + RS
    with RawWebSocket.open(hubs) as socket:
        socket.send(call * 5000)
        answers = 0
        while answers < 5000:
            answers += socket.receive()[1].count(RS)
        assert socket.invoke("Add", 1, 2)["result"] == 3


def test_slow_readers_are_cut_off(hubs: HubServer) -> None:
    """Who asks for much and reads nothing is told so and loses the connection; nothing is kept for him."""
    flood = b'{"type":1,"target":"Flood","arguments":[100,20000]}' + RS
    lazy = [RawWebSocket.open(hubs, "quick") for _ in range(5)]
    try:
        for socket in lazy:
            socket.write_all_it_takes(frame(flood) * 20)
        for socket in lazy:
            data, code = socket.receive_to_end()
            assert len(data) < 10 * MEGABYTE
            assert code in (1000, None)
    finally:
        for socket in lazy:
            socket.__exit__()


# --- half-open sockets, and ids that were used


def test_half_open_sockets_are_dropped(hubs: HubServer) -> None:
    """The wire is dead and neither side was told: a client that had pinged is given up after its time-out."""
    with Proxy(hubs.port) as proxy:
        sockets = [RawWebSocket.open(hubs, "quick", port=proxy.port) for _ in range(20)]
        names = []
        for socket in sockets:
            socket.send(b'{"type":6}' + RS)
            names.append(socket.invoke("WhoAmI")["result"])
        proxy.swallow(only_answers=False)

        for name in names:
            assert "ClientTimeoutInterval" in hubs.end_of(name, "quick")
        for socket in sockets:
            socket.__exit__()


def test_sockets_that_vanish(hubs: HubServer) -> None:
    with Proxy(hubs.port) as proxy:
        sockets = [RawWebSocket.open(hubs, port=proxy.port) for _ in range(20)]
        names = [socket.invoke("WhoAmI")["result"] for socket in sockets]
        proxy.cut(with_reset=True)
        for name in names:
            assert hubs.end_of(name).startswith("TransportLost")
        for socket in sockets:
            socket.__exit__()


def test_connections_that_never_say_anything(hubs: HubServer) -> None:
    """Half a request, half an upgrade, half a frame, half a handshake."""
    beginnings = [
        b"",
        b"GET /pl",
        b"GET /plain HTTP/1.1\r\nUpgrade: websocket\r\n",
        b"POST /plain/negotiate HTTP/1.1\r\n",
    ]
    silent = []
    for beginning in beginnings * 25:
        silent.append(RawSocket(hubs.port))
        silent[-1].write(beginning)
    for _ in range(25):
        half = RawWebSocket(hubs, "/plain")
        half.write(frame(HANDSHAKE["json"])[:9])
        silent.append(half)
    for socket in silent:
        socket.__exit__()


def test_two_sockets_for_one_id(hubs: HubServer) -> None:
    token = negotiate(hubs, query="negotiateVersion=1&useStatefulReconnect=true")["connectionToken"]
    version_two = b'{"protocol":"json","version":2}' + RS
    with RawWebSocket(hubs, f"/plain?id={token}") as first:
        first.send(version_two)
        assert first.receive() == (1, b"{}" + RS)
        who = first.invoke("WhoAmI")["result"]
        # Both sides agreed to resume, so the newer one takes over, and the older one hears no more.
        with RawWebSocket(hubs, f"/plain?id={token}") as second:
            assert second.status == 101
            assert b'{"type":9,"sequenceId":' in second.receive()[1]
            assert first.is_at_end() or first.receive_to_end()
            second.send(b'{"type":9,"sequenceId":2}' + RS)
            assert second.invoke("WhoAmI")["result"] == who
            second.send(b'{"type":9,"sequenceId":99}' + RS)
            assert b'"type":7' in second.receive_to_end()[0]
    with RawWebSocket(hubs, f"/plain?id={token}") as late:
        assert late.status == 404


def test_posts_after_the_end(hubs: HubServer) -> None:
    polls = Polls(hubs)
    polls.post(b"garbage" + RS)
    for _ in range(3):
        answer = polls.post(b'{"type":6}' + RS)
        assert (answer.status, answer.body) == (404, b"No Connection with that ID")
    assert polls.poll().body == CLOSED_WITH_ERROR
    assert polls.poll().status in (204, 404)


# --- many


def test_thousands_of_abandoned_negotiations(hubs: HubServer) -> None:
    """Promised, never used, forgotten after their time."""
    ask = b"POST /quick/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with RawSocket(hubs.port) as line:
        for _ in range(100):
            line.write(ask * 50)
            for _ in range(50):
                line.read_until(b"]}]}")

    hubs.control("forgotten", hub="quick")


def test_thousands_of_connections_one_after_the_other(hubs: HubServer) -> None:
    for _ in range(300):
        with RawWebSocket(hubs, "/plain") as socket:
            socket.write(frame(HANDSHAKE["json"] + b'{"type":1,"target":"Nothing","arguments":[]}' + RS))


def test_requests_that_are_no_requests(hubs: HubServer) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x1e" * 1000, b"GET / HTTP/9.9\r\n\r\n"):
        with RawSocket(hubs.port) as socket:
            socket.write_all_it_takes(garbage + b"\r\n\r\n")
            assert socket.is_at_end() or socket.read_until(b"\r\n").startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
    many = "&".join(f"k{number}=v" for number in range(1500))
    assert request(hubs, "POST", f"/plain/negotiate?{many}&negotiateVersion=1").status == 200
    assert request(hubs, "GET", "/plain?id=%00%ff%fe").status == 404
    with RawWebSocket(hubs, "/plain?id=%00%ff") as refused:
        assert refused.status == 404
