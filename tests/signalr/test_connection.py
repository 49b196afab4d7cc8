"""HubConnection: the state table, and two connections joined by a link without a network."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.signalr.connection import ConnectionFailed, ConnectionLimits, HubConnection, HubEvent, Role, State
from voisnap_mock.signalr.errors import LocalProtocolError, RemoteProtocolError
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.messages import (
    Ack,
    BindingFailure,
    CancelInvocation,
    Close,
    Completion,
    HandshakeRequest,
    HandshakeResponse,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)
from voisnap_mock.signalr.protocols import HubProtocol, JsonHubProtocol, TransferFormat

JSON = JsonHubProtocol()
MSGPACK = MessagePackHubProtocol()
REQUEST = b'{"protocol":"json","version":1}\x1e'
PING = b'{"type":6}\x1e'


def new_server(now: float = 0.0, *, stateful: bool = False, **limits: object) -> HubConnection:
    return HubConnection(
        Role.SERVER,
        (JSON, MSGPACK),
        now=now,
        limits=ConnectionLimits(**limits),  # type: ignore[arg-type]
        stateful=stateful,
    )


def open_server(**limits: object) -> HubConnection:
    server = new_server(**limits)
    server.receive_bytes(REQUEST, 0.0)
    assert server.bytes_to_send() == b"{}\x1e"
    return server


def sent(connection: HubConnection) -> bytes:
    """Everything a driver would write now."""
    whole = b""
    while data := connection.bytes_to_send():
        whole += data
    return whole


class Pair:
    """A client and a server joined by a link that loses nothing."""

    def __init__(self, protocol: HubProtocol, *, stateful: bool = False) -> None:
        self.now = 0.0
        self.client = HubConnection(
            Role.CLIENT,
            [protocol],
            now=0.0,
            limits=ConnectionLimits(max_message_bytes=None),
            stateful=stateful,
            version=2 if stateful else 1,
        )
        self.server = new_server(stateful=stateful)
        self.other = {Role.CLIENT: self.server, Role.SERVER: self.client}
        self.carry(self.client)
        self.carry(self.server)

    def carry(self, sender: HubConnection) -> list[HubEvent]:
        events: list[HubEvent] = []
        while data := sender.bytes_to_send():
            events += self.other[sender.role].receive_bytes(data, self.now)
        return events


@pytest.fixture(params=[JSON, MSGPACK], ids=["json", "messagepack"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


@pytest.fixture(params=["client sends", "server sends"])
def sender(request: pytest.FixtureRequest, pair: Pair) -> HubConnection:
    return pair.client if request.param == "client sends" else pair.server


MESSAGES: tuple[HubMessage, ...] = (
    Invocation("m", (1, "x")),
    Invocation("m", (), "1"),
    StreamInvocation("m", (), "2"),
    StreamItem("2", 5),
    Completion("1", None),
    Completion("2"),
    Completion("3", error="no"),
    CancelInvocation("2"),
    Ping(),
)


class TestPair:
    def test_both_are_open_after_the_handshake(self, pair: Pair) -> None:
        assert pair.client.state is pair.server.state is State.OPEN
        assert pair.client.protocol is pair.server.protocol

    @pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
    def test_a_message_arrives(self, pair: Pair, sender: HubConnection, message: HubMessage) -> None:
        sender.send(message, 0.0)
        assert pair.carry(sender) == [message]

    def test_messages_keep_their_order(self, pair: Pair, sender: HubConnection) -> None:
        for message in MESSAGES:
            sender.send(message, 0.0)
        assert pair.carry(sender) == list(MESSAGES)

    def test_queued_messages_are_one_write(self, sender: HubConnection) -> None:
        for message in MESSAGES:
            sender.send(message, 0.0)
        assert sender.unsent_bytes == len(sender.bytes_to_send())
        assert sender.bytes_to_send() == b""
        assert sender.unsent_bytes == 0

    def test_close_ends_both(self, pair: Pair, sender: HubConnection) -> None:
        sender.send(Invocation("last"), 0.0)
        sender.send(Close("bye", True), 0.0)
        assert sender.state is State.CLOSED
        assert pair.carry(sender) == [Invocation("last"), Close("bye", True)]
        assert pair.other[sender.role].state is State.CLOSED

    def test_nothing_is_read_after_close(self, pair: Pair, sender: HubConnection) -> None:
        assert sender.protocol is not None
        data = b"".join(map(sender.protocol.serialize, (Ping(), Close(), Invocation("late"))))
        receiver = pair.other[sender.role]
        assert receiver.receive_bytes(data, 0.0) == [Ping(), Close()]
        assert receiver.receive_bytes(data, 0.0) == []

    def test_a_payload_that_cannot_be_written_changes_nothing(self, pair: Pair, sender: HubConnection) -> None:
        with pytest.raises(LocalProtocolError):
            sender.send(Invocation("m", (object(),)), 0.0)
        sender.send(Ping(), 0.0)
        assert pair.carry(sender) == [Ping()]

    def test_pings_keep_an_idle_connection_alive(self, pair: Pair) -> None:
        for second in range(1, 200):
            pair.now = float(second)
            for side in (pair.client, pair.server):
                assert side.handle_deadline(pair.now) == []
                assert pair.carry(side) in ([], [Ping()])
        assert pair.client.state is pair.server.state is State.OPEN


class TestServerHandshake:
    @pytest.mark.parametrize("name", ["json", "JSON", "Json"])
    @pytest.mark.parametrize("version", [-1, 0, 1, 2])
    def test_versions_and_names(self, name: str, version: int) -> None:
        server = new_server()
        data = f'{{"protocol":"{name}","version":{version}}}\x1e'.encode()
        assert server.receive_bytes(data, 0.0) == [HandshakeRequest(name, version)]
        assert sent(server) == b"{}\x1e"
        assert server.state is State.OPEN
        assert server.version == version

    def test_messages_may_follow_at_once(self) -> None:
        server = new_server()
        assert server.receive_bytes(REQUEST + PING, 0.0) == [HandshakeRequest("json", 1), Ping()]

    def test_the_response_is_a_write_of_its_own(self) -> None:
        server = new_server()
        server.receive_bytes(REQUEST, 0.0)
        server.send(Ping(), 0.0)
        assert server.bytes_to_send() == b"{}\x1e"
        assert server.bytes_to_send() == PING

    @pytest.mark.parametrize(
        ("data", "answer"),
        [
            (b'{"protocol":"x","version":1}\x1e', "The protocol 'x' is not supported."),
            (
                b'{"protocol":"json","version":99}\x1e',
                "The server does not support version 99 of the 'json' protocol.",
            ),
            (
                b"garbage\x1e",
                "An unexpected error occurred during connection handshake. InvalidDataException: Error reading JSON.",
            ),
            (
                b"\x1e",
                "An unexpected error occurred during connection handshake. InvalidDataException: Error reading JSON.",
            ),
            (
                b'{"type":1,"target":"m","arguments":[]}\x1e',
                (
                    "An unexpected error occurred during connection handshake. "
                    "InvalidDataException: Missing required property 'protocol'."
                ),
            ),
            (b"x" * 32_769, "Handshake was canceled."),
            (b"x" * 40_000 + b"\x1e", "Handshake was canceled."),
        ],
    )
    def test_refusals(self, data: bytes, answer: str) -> None:
        server = new_server()
        (event,) = server.receive_bytes(data, 0.0)
        assert isinstance(event, ConnectionFailed)
        assert sent(server) == b'{"error":"' + answer.encode() + b'"}\x1e'
        assert server.state is State.CLOSED

    def test_without_detailed_errors(self) -> None:
        server = new_server(detailed_errors=False)
        server.receive_bytes(b"garbage\x1e", 0.0)
        assert sent(server) == b'{"error":"An unexpected error occurred during connection handshake."}\x1e'

    def test_binary_on_a_transport_for_text(self) -> None:
        server = HubConnection(Role.SERVER, (JSON, MSGPACK), now=0.0, transfer_formats=frozenset({TransferFormat.TEXT}))
        server.receive_bytes(b'{"protocol":"messagepack","version":1}\x1e', 0.0)
        assert sent(server) == (
            b'{"error":"Cannot use the \'messagepack\' protocol on the current transport. '
            b"The transport does not support 'Binary' transfer format.\"}\x1e"
        )

    def test_fifteen_seconds(self) -> None:
        server = new_server(now=100.0)
        assert server.next_deadline() == 115.0
        server.receive_bytes(REQUEST[:-1], 110.0)
        assert server.handle_deadline(114.9) == []
        (event,) = server.handle_deadline(115.0)
        assert isinstance(event, ConnectionFailed)
        assert sent(server) == b'{"error":"Handshake was canceled."}\x1e'
        assert server.next_deadline() is None

    def test_nothing_can_be_sent_before_it(self) -> None:
        server = new_server()
        with pytest.raises(LocalProtocolError, match="Ping cannot be sent while HANDSHAKE"):
            server.send(Ping(), 0.0)
        assert sent(server) == b""


class TestClientHandshake:
    def new(self, *, version: int = 1) -> HubConnection:
        return HubConnection(
            Role.CLIENT, [JSON], now=0.0, limits=ConnectionLimits(max_message_bytes=None), version=version
        )

    def test_the_request_is_sent_at_once(self) -> None:
        assert sent(self.new(version=2)) == b'{"protocol":"json","version":2}\x1e'

    def test_the_response_opens(self) -> None:
        client = self.new()
        assert client.receive_bytes(b"{}\x1e" + PING, 0.0) == [HandshakeResponse(), Ping()]
        assert client.state is State.OPEN

    @pytest.mark.parametrize("data", [b'{"error":"no"}\x1e', b"garbage\x1e", PING])
    def test_refusals(self, data: bytes) -> None:
        client = self.new()
        (event,) = client.receive_bytes(data, 0.0)
        assert isinstance(event, ConnectionFailed)
        assert client.state is State.CLOSED

    def test_fifteen_seconds(self) -> None:
        client = self.new()
        (event,) = client.handle_deadline(15.0)
        assert isinstance(event, ConnectionFailed)


class TestOpenServer:
    @pytest.mark.parametrize(
        ("data", "detail"),
        [
            (b"garbage\x1e", "Error reading JSON."),
            (b"\x1e", "Error reading JSON."),
            (REQUEST, "Missing required property 'type'."),
            (
                b'{"type":1,"invocationId":5,"target":"m","arguments":[]}\x1e',
                "Expected 'invocationId' to be of type String.",
            ),
            (
                b"x" * 32_769,
                (
                    "The maximum message size of 32768B was exceeded. "
                    "The message size can be configured in AddHubOptions."
                ),
            ),
            (
                b'{"type":6,"x":"' + b"x" * 32_768 + b'"}\x1e',
                (
                    "The maximum message size of 32768B was exceeded. "
                    "The message size can be configured in AddHubOptions."
                ),
            ),
        ],
    )
    def test_a_broken_message_ends_it(self, data: bytes, detail: str) -> None:
        server = open_server()
        before, (event,) = server.receive_bytes(PING, 0.0), server.receive_bytes(data + PING, 0.0)
        assert before == [Ping()]
        assert isinstance(event, ConnectionFailed)
        assert event.error.detail == detail
        assert sent(server) == (
            b'{"type":7,"error":"Connection closed with an error. InvalidDataException: '
            + detail.encode()
            + b'","allowReconnect":true}\x1e'
        )
        assert server.state is State.CLOSED

    def test_answers_to_what_came_before_the_failure_come_before_the_close(self) -> None:
        server = open_server()
        server.receive_bytes(b'{"type":1,"invocationId":"1","target":"m","arguments":[]}\x1egarbage\x1e', 0.0)
        assert server.state is State.FAILED
        assert server.receive_bytes(PING, 0.0) == []
        assert server.next_deadline() is None
        server.send(Completion("1", 5), 0.0)
        assert server.bytes_to_send().startswith(b'{"type":3,"invocationId":"1","result":5}\x1e{"type":7,"error":')
        assert server.state is State.CLOSED
        assert server.unsent_bytes == 0

    def test_what_came_before_is_returned(self) -> None:
        events = open_server().receive_bytes(PING + b"garbage\x1e" + PING, 0.0)
        assert events[0] == Ping()
        assert len(events) == 2

    def test_without_detailed_errors(self) -> None:
        server = open_server(detailed_errors=False)
        server.receive_bytes(b"garbage\x1e", 0.0)
        assert sent(server) == b'{"type":7,"error":"Connection closed with an error.","allowReconnect":true}\x1e'

    def test_a_message_of_exactly_the_limit(self) -> None:
        filler = b"x" * (32_768 - len(b'{"type":6,"x":""}\x1e'))
        data = b'{"type":6,"x":"' + filler + b'"}\x1e'
        assert len(data) == 32_768
        assert open_server().receive_bytes(data, 0.0) == [Ping()]

    def test_many_small_messages_in_one_big_piece(self) -> None:
        assert open_server().receive_bytes(PING * 10_000, 0.0) == [Ping()] * 10_000

    def test_arguments_that_do_not_fit_do_not_end_it(self) -> None:
        server = open_server()
        (event,) = server.receive_bytes(b'{"type":1,"invocationId":"1","arguments":[]}\x1e', 0.0)
        assert isinstance(event, BindingFailure)
        assert server.state is State.OPEN

    def test_lost_transport(self) -> None:
        server = open_server()
        server.lose_transport()
        with pytest.raises(LocalProtocolError):
            server.send(Ping(), 0.0)
        assert server.receive_bytes(PING, 0.0) == []

    def test_dropping_what_is_unsent(self) -> None:
        server = open_server()
        server.send(Invocation("m"), 0.0)
        assert server.drop_unsent() > 0
        server.send(Close(), 0.0)
        assert sent(server) == b'{"type":7}\x1e'


class TestTimes:
    def test_a_ping_after_fifteen_seconds_without_a_send(self) -> None:
        server = open_server()
        server.send(Invocation("m"), 10.0)
        sent(server)
        assert server.next_deadline() == 25.0
        server.handle_deadline(24.9)
        assert sent(server) == b""
        server.handle_deadline(25.0)
        assert sent(server) == PING
        assert server.next_deadline() == 40.0

    def test_a_client_that_never_pings_is_never_timed_out(self) -> None:
        server = open_server(keep_alive=None)
        server.receive_bytes(b'{"type":1,"target":"m","arguments":[]}\x1e', 1.0)
        assert server.next_deadline() is None

    def test_thirty_seconds_of_silence_after_the_first_ping(self) -> None:
        server = open_server(keep_alive=None)
        server.receive_bytes(PING, 1.0)
        server.receive_bytes(b'{"type":1,', 10.0)
        assert server.next_deadline() == 40.0
        assert server.handle_deadline(39.9) == []
        (event,) = server.handle_deadline(40.0)
        assert isinstance(event, ConnectionFailed)
        assert b'"error":"Connection closed with an error. OperationCanceledException: Client hasn' in (
            data := sent(server)
        )
        assert data.endswith(b'"allowReconnect":true}\x1e')

    def test_the_timeout_stands_still_while_an_invocation_runs(self) -> None:
        server = open_server(keep_alive=None)
        server.receive_bytes(PING, 1.0)
        server.hold_timeout()
        assert server.next_deadline() is None
        server.resume_timeout(100.0)
        assert server.next_deadline() == 130.0

    def test_a_client_gives_up_on_a_silent_server(self) -> None:
        pair = Pair(JSON)
        pair.client.receive_bytes(PING, 1.0)
        assert pair.client.handle_deadline(20.0) == []
        (event,) = pair.client.handle_deadline(31.0)
        assert isinstance(event, ConnectionFailed)
        assert "Server timeout (30 s) elapsed" in str(event.error)


# --- Stateful reconnect


@pytest.fixture(params=[JSON, MSGPACK], ids=["json", "messagepack"])
def stateful(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param, stateful=True)


class TestStatefulReconnect:
    @pytest.fixture(params=["client sends", "server sends"])
    def sides(self, request: pytest.FixtureRequest, stateful: Pair) -> tuple[HubConnection, HubConnection]:
        if request.param == "client sends":
            return stateful.client, stateful.server
        return stateful.server, stateful.client

    def lose(self, pair: Pair) -> None:
        pair.client.suspend()
        pair.server.suspend()

    def resume(self, pair: Pair) -> tuple[list[HubEvent], list[HubEvent]]:
        """What the server and the client receive on the new transport."""
        pair.client.resume(pair.now)
        pair.server.resume(pair.now)
        return pair.carry(pair.client), pair.carry(pair.server)

    def test_it_needs_handshake_version_two(self) -> None:
        server = new_server(stateful=True)
        server.receive_bytes(REQUEST, 0.0)
        assert not server.can_resume
        with pytest.raises(LocalProtocolError, match="cannot be resumed"):
            server.suspend()

    def test_an_ack_one_second_after_the_first_message(
        self, stateful: Pair, sides: tuple[HubConnection, HubConnection]
    ) -> None:
        sender, receiver = sides
        for _ in range(3):
            sender.send(Invocation("m"), 0.0)
        sender.send(Ping(), 0.0)
        stateful.carry(sender)
        assert receiver.next_deadline() == 1.0
        receiver.handle_deadline(1.0)
        assert stateful.carry(receiver) == [Ack(3)]
        assert receiver.next_deadline() == 16.0

    def test_messages_lost_with_the_transport_are_repeated(
        self, stateful: Pair, sides: tuple[HubConnection, HubConnection]
    ) -> None:
        sender, receiver = sides
        sender.send(Invocation("arrived"), 0.0)
        stateful.carry(sender)
        sender.send(Invocation("lost"), 0.0)
        sent(sender)
        self.lose(stateful)
        sender.send(Invocation("meanwhile"), 0.0)
        assert sender.bytes_to_send() == b""
        received = dict(zip((Role.SERVER, Role.CLIENT), self.resume(stateful), strict=True))
        assert received[receiver.role] == [Sequence(1), Invocation("lost"), Invocation("meanwhile")]
        assert received[sender.role] == [Sequence(1)]

    def test_acknowledged_messages_are_not_repeated(
        self, stateful: Pair, sides: tuple[HubConnection, HubConnection]
    ) -> None:
        sender, receiver = sides
        for number in range(5):
            sender.send(Invocation("m", (number,)), 0.0)
        stateful.carry(sender)
        receiver.handle_deadline(1.0)
        stateful.carry(receiver)
        self.lose(stateful)
        received = dict(zip((Role.SERVER, Role.CLIENT), self.resume(stateful), strict=True))
        assert received[receiver.role] == [Sequence(6)]

    def test_it_survives_being_lost_again_and_again(
        self, stateful: Pair, sides: tuple[HubConnection, HubConnection]
    ) -> None:
        sender, receiver = sides
        received: list[HubEvent] = []
        for number in range(20):
            sender.send(Invocation("m", (number,)), 0.0)
            if number % 3 == 0:
                sent(sender)  # swallowed
                self.lose(stateful)
                both = dict(zip((Role.SERVER, Role.CLIENT), self.resume(stateful), strict=True))
                received += both[receiver.role]
            else:
                received += stateful.carry(sender)
        arguments = [event.arguments[0] for event in received if isinstance(event, Invocation)]
        assert arguments == list(range(20))

    def test_a_full_buffer_holds_messages_back(
        self, stateful: Pair, sides: tuple[HubConnection, HubConnection]
    ) -> None:
        sender, receiver = sides
        for _ in range(10):
            sender.send(Invocation("m", ("x" * 20_000,)), 0.0)
        assert len(stateful.carry(sender)) == 5
        assert sender.unsent_bytes > 80_000
        receiver.handle_deadline(1.0)
        stateful.carry(receiver)
        assert len(stateful.carry(sender)) == 5
        assert sender.unsent_bytes == 0

    @pytest.mark.parametrize("number", [0, -1, 3])
    def test_a_sequence_that_cannot_be(self, number: int) -> None:
        pair = Pair(JSON, stateful=True)
        pair.client.send(Invocation("m"), 0.0)
        pair.carry(pair.client)
        (event,) = pair.server.receive_bytes(JSON.serialize(Sequence(number)), 0.0)
        assert isinstance(event, ConnectionFailed)
        assert not pair.server.can_resume

    @pytest.mark.parametrize("number", [0, -5, 1, 7])
    def test_an_ack_of_what_was_never_sent_does_no_harm(self, number: int) -> None:
        pair = Pair(JSON, stateful=True)
        assert pair.server.receive_bytes(JSON.serialize(Ack(number)), 0.0) == [Ack(number)]
        pair.server.send(Invocation("m"), 0.0)
        assert pair.carry(pair.server) == [Invocation("m")]

    def test_close_ends_it_for_good(self, stateful: Pair, sides: tuple[HubConnection, HubConnection]) -> None:
        sender, receiver = sides
        sender.send(Close(), 0.0)
        stateful.carry(sender)
        assert not sender.can_resume
        assert not receiver.can_resume

    def test_no_deadline_runs_without_a_transport(self, stateful: Pair) -> None:
        self.lose(stateful)
        assert stateful.server.next_deadline() is None
        assert stateful.server.handle_deadline(1000.0) == []
        assert stateful.server.receive_bytes(PING, 0.0) == []


# --- Properties


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        yield data[start:end]


CONVERSATIONS = [
    REQUEST + b"".join(map(JSON.serialize, (*MESSAGES, Close()))),
    b'{"protocol":"messagepack","version":1}\x1e' + b"".join(map(MSGPACK.serialize, (*MESSAGES, Close()))),
    REQUEST
    + "".join(f'{{"type":1,"target":"é{n}","arguments":["ü"]}}\x1e' for n in range(5)).encode()
    + b"garbage\x1e",
]


@given(st.sampled_from(CONVERSATIONS), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_messages(data: bytes, cuts: list[int]) -> None:
    whole, split = new_server(), new_server()
    events: list[HubEvent] = []
    for piece in pieces(data, cuts):
        events += split.receive_bytes(piece, 0.0)
    expected = whole.receive_bytes(data, 0.0)
    assert [type(event) for event in events] == [type(event) for event in expected]
    assert [e for e in events if not isinstance(e, ConnectionFailed)] == [
        e for e in expected if not isinstance(e, ConnectionFailed)
    ]
    assert sent(split) == sent(whole)


@pytest.mark.parametrize("data", CONVERSATIONS)
def test_byte_by_byte(data: bytes) -> None:
    whole, split = new_server(), new_server()
    events = [event for byte in data for event in split.receive_bytes(bytes([byte]), 0.0)]
    assert [type(event) for event in events] == [type(event) for event in whole.receive_bytes(data, 0.0)]
    assert sent(split) == sent(whole)
    assert split.state is whole.state is State.CLOSED


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans(), st.sampled_from(["json", "messagepack"]))
def test_no_bytes_raise_anything(chunks: list[bytes], shake_hands: bool, name: str) -> None:
    server = new_server()
    if shake_hands:
        server.receive_bytes(f'{{"protocol":"{name}","version":1}}\x1e'.encode(), 0.0)
    for chunk in chunks:
        for event in server.receive_bytes(chunk, 0.0):
            if isinstance(event, ConnectionFailed):
                assert isinstance(event.error, RemoteProtocolError)
                assert server.state in (State.FAILED, State.CLOSED)
    sent(server)
