"""Both hub protocols against the wire vectors, and against what peers should not send."""

import contextlib
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import (
    JSON_MALFORMED,
    JSON_READINGS,
    MSGPACK_MALFORMED,
    MSGPACK_READINGS,
    VECTORS,
    Malformed,
    Reading,
    Vector,
)

from voisnap_mock.signalr.binder import Signature
from voisnap_mock.signalr.errors import LocalProtocolError, RemoteProtocolError
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.messages import (
    VOID,
    BindingFailure,
    CancelInvocation,
    Close,
    Completion,
    HandshakeRequest,
    HandshakeResponse,
    HubMessage,
    Invocation,
    Ping,
    StreamInvocation,
    StreamItem,
)
from voisnap_mock.signalr.protocols import (
    AnyTypes,
    HubProtocol,
    JsonHubProtocol,
    parse_handshake_request,
    parse_handshake_response,
    serialize_handshake_request,
    serialize_handshake_response,
)


def framed(protocol: HubProtocol, record: bytes) -> bytes:
    if protocol.name == "json":
        return record + b"\x1e"
    assert len(record) < 0x80
    return bytes([len(record)]) + record


def record_of(vector: Vector, protocol: HubProtocol) -> bytes:
    return vector.json.encode() if protocol.name == "json" else bytes.fromhex(vector.msgpack)


def read_all(protocol: HubProtocol, data: bytes) -> tuple[list[HubMessage | None], bytes]:
    messages, position = [], 0
    while (frame := protocol.next_record(data, position, None)) is not None:
        record, position = frame
        messages.append(protocol.parse(record, AnyTypes()))
        if position >= len(data):
            break
    return messages, data[position:]


@pytest.fixture(params=[JsonHubProtocol, MessagePackHubProtocol], ids=["json", "messagepack"])
def protocol(request: pytest.FixtureRequest) -> HubProtocol:
    return request.param()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
class TestVectors:
    def test_serialize(self, protocol: HubProtocol, vector: Vector) -> None:
        assert protocol.serialize(vector.message) == framed(protocol, record_of(vector, protocol))

    def test_parse(self, protocol: HubProtocol, vector: Vector) -> None:
        assert read_all(protocol, framed(protocol, record_of(vector, protocol))) == ([vector.message], b"")

    def test_an_incomplete_record_is_waited_for(self, protocol: HubProtocol, vector: Vector) -> None:
        whole = framed(protocol, record_of(vector, protocol))
        for cut in range(len(whole)):
            assert protocol.next_record(whole[:cut], 0, None) is None

    def test_a_tail_is_left(self, protocol: HubProtocol, vector: Vector) -> None:
        whole = framed(protocol, record_of(vector, protocol))
        assert read_all(protocol, whole + whole[:-1]) == ([vector.message], whole[:-1])


@pytest.mark.parametrize("reading", JSON_READINGS, ids=lambda reading: reading.name)
def test_json_reads_what_others_write(reading: Reading) -> None:
    message = JsonHubProtocol().parse(reading.record, AnyTypes())
    if reading.name.startswith("deep"):
        assert isinstance(message, Invocation)
    else:
        assert message == reading.message


@pytest.mark.parametrize("reading", MSGPACK_READINGS, ids=lambda reading: reading.name)
def test_messagepack_reads_what_others_write(reading: Reading) -> None:
    assert MessagePackHubProtocol().parse(reading.record, AnyTypes()) == reading.message


@pytest.mark.parametrize("row", JSON_MALFORMED, ids=lambda row: row.name)
def test_json_refuses(row: Malformed) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        JsonHubProtocol().parse(row.record, AnyTypes())
    assert caught.value.detail == row.error


@pytest.mark.parametrize("row", MSGPACK_MALFORMED, ids=lambda row: row.name)
def test_messagepack_refuses(row: Malformed) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        MessagePackHubProtocol().parse(row.record, AnyTypes())
    assert row.error in caught.value.detail


def test_a_missing_target_fails_the_invocation_only() -> None:
    message = JsonHubProtocol().parse(b'{"type":1,"invocationId":"1","arguments":[]}', AnyTypes())
    assert message == BindingFailure("", "InvalidDataException: Missing required property 'target'.", "1")


class OneMethod:
    """Knows `m(audio: bytes)`."""

    def signature(self, target: str) -> Signature | None:
        return Signature(("audio",), (bytes,)) if target == "m" else None


TYPED = (
    ("bytes", Invocation("m", (b"hi",)), Invocation("m", (b"hi",))),
    ("base64", Invocation("m", ("aGk=",)), Invocation("m", (b"hi",))),
    ("an unknown method", Invocation("n", ("aGk=",)), Invocation("n", ("aGk=",))),
    ("a stream invocation", StreamInvocation("m", ("aGk=",), "1"), StreamInvocation("m", (b"hi",), "1")),
)


@pytest.mark.parametrize(("sent", "read"), [row[1:] for row in TYPED], ids=[row[0] for row in TYPED])
def test_arguments_get_their_types(protocol: HubProtocol, sent: HubMessage, read: HubMessage) -> None:
    frame = protocol.next_record(protocol.serialize(sent), 0, None)
    assert frame is not None
    assert protocol.parse(frame[0], OneMethod()) == read


@pytest.mark.parametrize(
    ("sent", "failed"),
    [
        (Invocation("m", (5,), "1"), ("m", "1", False)),
        (Invocation("m", ("!!",)), ("m", None, False)),
        (Invocation("m", (), "1"), ("m", "1", False)),
        (StreamInvocation("m", (None,), "1"), ("m", "1", True)),
    ],
)
def test_arguments_that_do_not_fit(
    protocol: HubProtocol, sent: HubMessage, failed: tuple[str, str | None, bool]
) -> None:
    frame = protocol.next_record(protocol.serialize(sent), 0, None)
    assert frame is not None
    message = protocol.parse(frame[0], OneMethod())
    assert isinstance(message, BindingFailure)
    assert (message.target, message.invocation_id, message.streaming) == failed


def test_arguments_that_are_not_utf8_fail_the_invocation_only() -> None:
    json = JsonHubProtocol().parse(b'{"type":1,"target":"m","arguments":["\xff"]}', AnyTypes())
    msgpack = MessagePackHubProtocol().parse(bytes.fromhex("9601 80 c0 a16d 91a1ff 90"), AnyTypes())
    for message in (json, msgpack):
        assert isinstance(message, BindingFailure)
        assert "UTF-8" in message.detail or "codec" in message.detail


@pytest.mark.parametrize("unfit", [object(), "\ud800", {1, 2, object()}])
def test_what_cannot_be_written_is_our_own_error(protocol: HubProtocol, unfit: object) -> None:
    with pytest.raises(LocalProtocolError, match="cannot be written"):
        protocol.serialize(Invocation("m", (unfit,)))


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("ffffffff08", "over 2GB"),
        ("ffffffffff01", "over 2GB"),
        ("ffffffff07", "maximum message size"),
        ("818002", "size"),
    ],
)
def test_messagepack_refuses_lengths_before_the_bytes_are_there(prefix: str, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        MessagePackHubProtocol().next_record(bytes.fromhex(prefix), 0, 32_768)


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 70_000])
def test_messagepack_lengths(size: int) -> None:
    protocol = MessagePackHubProtocol()
    data = protocol.serialize(Invocation("m", (bytes(size),)))
    frame = protocol.next_record(data, 0, None)
    assert frame is not None
    assert frame[1] == len(data)
    assert protocol.parse(frame[0], AnyTypes()) == Invocation("m", (bytes(size),))


class TestHandshake:
    def test_request(self) -> None:
        assert serialize_handshake_request(HandshakeRequest("json", 1)) == b'{"protocol":"json","version":1}\x1e'
        assert parse_handshake_request(b'{"version":0,"x":[],"protocol":"JSON"}') == HandshakeRequest("JSON", 0)

    def test_response(self) -> None:
        assert serialize_handshake_response(HandshakeResponse()) == b"{}\x1e"
        assert serialize_handshake_response(HandshakeResponse("no")) == b'{"error":"no"}\x1e'
        assert parse_handshake_response(b"{}") == HandshakeResponse()
        assert parse_handshake_response(b'{"error":"no"}') == HandshakeResponse("no")

    @pytest.mark.parametrize(
        ("record", "error"),
        [
            (b"", "Error reading JSON."),
            (b"\xff\xfe", "Error reading JSON."),
            (b"[]", "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
            (b"{}", "Missing required property 'protocol'."),
            (b'{"protocol":"json"}', "Missing required property 'version'."),
            (b'{"protocol":5,"version":1}', "Expected 'protocol' to be of type String."),
            (b'{"protocol":"json","version":"1"}', "Expected 'version' to be of type Number."),
            (b'{"protocol":"json","version":1.5}', "Expected 'version' to be of type Number."),
            (b'{"protocol":"json","version":true}', "Expected 'version' to be of type Number."),
            (b'{"type":1,"target":"m","arguments":[]}', "Missing required property 'protocol'."),
        ],
    )
    def test_bad_requests(self, record: bytes, error: str) -> None:
        with pytest.raises(RemoteProtocolError) as caught:
            parse_handshake_request(record)
        assert caught.value.detail == error

    @pytest.mark.parametrize("record", [b"", b"[]", b'{"type":6}', b'{"error":5}'])
    def test_bad_responses(self, record: bytes) -> None:
        with pytest.raises(RemoteProtocolError):
            parse_handshake_response(record)


# --- Properties

_text = st.text(st.characters(codec="utf-8"), max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_arguments = st.lists(_values, max_size=3).map(tuple)
_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
_headers = st.dictionaries(_text, _text, max_size=2)
messages = st.one_of(
    st.builds(Invocation, _text, _arguments, st.none() | _ids, st.lists(_ids, max_size=2).map(tuple), _headers),
    st.builds(StreamInvocation, _text, _arguments, _ids, st.lists(_ids, max_size=2).map(tuple), _headers),
    st.builds(StreamItem, _ids, _values, _headers),
    st.builds(Completion, _ids, st.just(VOID) | _values, st.none(), _headers),
    st.builds(Completion, _ids, st.just(VOID), _text, _headers),
    st.builds(CancelInvocation, _ids, _headers),
    st.just(Ping()),
    st.builds(Close, st.none() | _text, st.booleans()),
)


@dataclass
class Both:
    """Shared instances, because hypothesis runs a function many times."""

    json = JsonHubProtocol()
    messagepack = MessagePackHubProtocol()


@given(st.lists(messages, max_size=4))
def test_what_is_written_is_read(sent: list[HubMessage]) -> None:
    for protocol in (Both.json, Both.messagepack):
        assert read_all(protocol, b"".join(map(protocol.serialize, sent))) == (sent, b"")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_protocol_error(data: bytes) -> None:
    for protocol in (Both.json, Both.messagepack):
        try:
            read_all(protocol, data)
            protocol.parse(data, OneMethod())
        except RemoteProtocolError:
            pass


@given(_values, st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
def test_no_members_raise_anything_but_a_protocol_error(value: object, kind: int) -> None:
    members = ("invocationId", "target", "arguments", "item", "result", "error", "allowReconnect", "sequenceId")
    for member in members:
        whole = {"type": kind, "invocationId": "1", "target": "m", "arguments": [], member: value}
        with contextlib.suppress(RemoteProtocolError):
            Both.json.parse(msgspec.json.encode(whole), OneMethod())
    for place in range(1, 6):
        array = [kind, {}, "1", "m", [], []]
        array[place] = value
        with contextlib.suppress(RemoteProtocolError):
            Both.messagepack.parse(msgspec.msgpack.encode(array), OneMethod())
