"""Wire vectors of the hub protocols: name, message, JSON text, MessagePack hex.

From HubProtocol.md of ASP.NET Core where it gives bytes, else written by hand after its tables.
"""

from dataclasses import dataclass

from voisnap_mock.signalr.messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)


@dataclass(frozen=True, slots=True)
class Vector:
    """One message and what it looks like on the wire, without the record's frame."""

    name: str
    message: HubMessage
    json: str
    msgpack: str


VECTORS = (
    Vector(
        "invocation",
        Invocation("method", (42,), "xyz"),
        '{"type":1,"invocationId":"xyz","target":"method","arguments":[42]}',
        "9601 80 a378797a a66d6574686f64 912a 90",
    ),
    Vector(
        "non-blocking invocation",
        Invocation("m"),
        '{"type":1,"target":"m","arguments":[]}',
        "9601 80 c0 a16d 90 90",
    ),
    Vector(
        "invocation with many kinds of arguments",
        Invocation("m", ("é\x1e", None, True, 1.5, {"a": [1]})),
        '{"type":1,"target":"m","arguments":["é\\u001e",null,true,1.5,{"a":[1]}]}',
        "9601 80 c0 a16d 95 a3c3a91e c0 c3 cb3ff8000000000000 81a1619101 90",
    ),
    Vector(
        "invocation with upload streams",
        Invocation("m", (), "1", ("2", "3")),
        '{"type":1,"invocationId":"1","target":"m","arguments":[],"streamIds":["2","3"]}',
        "9601 80 a131 a16d 90 92a132a133",
    ),
    Vector(
        "invocation with headers",
        Invocation("m", (), "1", (), {"Foo": "Bar"}),
        '{"type":1,"headers":{"Foo":"Bar"},"invocationId":"1","target":"m","arguments":[]}',
        "9601 81a3466f6fa3426172 a131 a16d 90 90",
    ),
    Vector(
        "stream invocation",
        StreamInvocation("method", (42,), "xyz"),
        '{"type":4,"invocationId":"xyz","target":"method","arguments":[42]}',
        "9604 80 a378797a a66d6574686f64 912a 90",
    ),
    Vector(
        "stream item",
        StreamItem("xyz", 42),
        '{"type":2,"invocationId":"xyz","item":42}',
        "9402 80 a378797a 2a",
    ),
    Vector(
        "stream item null",
        StreamItem("xyz", None),
        '{"type":2,"invocationId":"xyz","item":null}',
        "9402 80 a378797a c0",
    ),
    Vector(
        "completion with error",
        Completion("xyz", error="Error"),
        '{"type":3,"invocationId":"xyz","error":"Error"}',
        "9503 80 a378797a 01 a54572726f72",
    ),
    Vector(
        "void completion",
        Completion("xyz"),
        '{"type":3,"invocationId":"xyz"}',
        "9403 80 a378797a 02",
    ),
    Vector(
        "completion with result",
        Completion("xyz", 42),
        '{"type":3,"invocationId":"xyz","result":42}',
        "9503 80 a378797a 03 2a",
    ),
    Vector(
        "completion with null",
        Completion("xyz", None),
        '{"type":3,"invocationId":"xyz","result":null}',
        "9503 80 a378797a 03 c0",
    ),
    Vector(
        "completion with headers",
        Completion("xyz", None, None, {"a": "b"}),
        '{"type":3,"headers":{"a":"b"},"invocationId":"xyz","result":null}',
        "9503 81a161a162 a378797a 03 c0",
    ),
    Vector(
        "cancel invocation",
        CancelInvocation("xyz"),
        '{"type":5,"invocationId":"xyz"}',
        "9305 80 a378797a",
    ),
    Vector("ping", Ping(), '{"type":6}', "9106"),
    Vector("close", Close(), '{"type":7}', "9307 c0 c2"),
    Vector("close with error", Close("Error"), '{"type":7,"error":"Error"}', "9307 a54572726f72 c2"),
    Vector(
        "close that allows to reconnect",
        Close("Error", True),
        '{"type":7,"error":"Error","allowReconnect":true}',
        "9307 a54572726f72 c3",
    ),
    Vector("ack", Ack(36), '{"type":8,"sequenceId":36}', "9208 24"),
    Vector("sequence", Sequence(300), '{"type":9,"sequenceId":300}', "9209 cd012c"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A record that peers write in another way than we do, and what it means."""

    name: str
    record: bytes
    message: HubMessage | None


JSON_READINGS = (
    Reading("members in another order", b'{"arguments":[1],"target":"m","type":1}', Invocation("m", (1,))),
    Reading("blanks", b' { "type" : 6 } ', Ping()),
    Reading("unknown members", b'{"type":6,"what":[1,{"x":2}]}', Ping()),
    Reading("null as invocation id", b'{"type":1,"invocationId":null,"target":"m","arguments":[]}', Invocation("m")),
    Reading("empty invocation id", b'{"type":1,"invocationId":"","target":"m","arguments":[]}', Invocation("m")),
    Reading("headers that are no headers", b'{"type":1,"headers":5,"target":"m","arguments":[]}', Invocation("m")),
    Reading("headers with a number", b'{"type":1,"headers":{"a":1},"target":"m","arguments":[]}', Invocation("m")),
    Reading("stream ids null", b'{"type":1,"streamIds":null,"target":"m","arguments":[]}', Invocation("m")),
    Reading("an escaped separator", b'{"type":1,"target":"m","arguments":["\\u001e"]}', Invocation("m", ("\x1e",))),
    Reading("an unknown type", b'{"type":10,"x":1}', None),
    Reading("a negative type", b'{"type":-1}', None),
    Reading("an error null", b'{"type":3,"invocationId":"1","error":null,"result":1}', Completion("1", 1)),
    Reading("close with error null", b'{"type":7,"error":null,"allowReconnect":null}', Close()),
    Reading("deep, but not too deep", b'{"type":1,"target":"m","arguments":' + b"[" * 62 + b"]" * 62 + b"}", None),
    Reading(
        "brackets in strings",
        b'{"type":1,"target":"m","arguments":["' + b"[" * 100 + b'\\"{"]}',
        Invocation("m", ("[" * 100 + '"{',)),
    ),
)

MSGPACK_READINGS = (
    Reading("five items", bytes.fromhex("9501 80 c0 a16d 9101"), Invocation("m", (1,))),
    Reading("more items than known", bytes.fromhex("9701 80 c0 a16d 90 90 c0"), Invocation("m")),
    Reading("stream ids nil", bytes.fromhex("9601 80 c0 a16d 90 c0"), Invocation("m")),
    Reading("str8", bytes.fromhex("9601 80 c0 d9016d 90 90"), Invocation("m")),
    Reading("an empty invocation id", bytes.fromhex("9601 80 a0 a16d 90 90"), Invocation("m")),
    Reading("ack as uint8", bytes.fromhex("9208 cc24"), Ack(36)),
    Reading("ack as uint64", bytes.fromhex("9208 cf0000000000000024"), Ack(36)),
    Reading("type as uint8", bytes.fromhex("91 cc06"), Ping()),
    Reading("array16", bytes.fromhex("dc0001 06"), Ping()),
    Reading("close without allowReconnect", bytes.fromhex("9207 c0"), Close()),
    Reading("a ping with more", bytes.fromhex("9206 c0"), Ping()),
    Reading("an unknown type", bytes.fromhex("9263 01"), None),
    Reading("an unknown type alone", bytes.fromhex("9100"), None),
)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that is no message, and the error it is."""

    name: str
    record: bytes
    error: str


JSON_MALFORMED = (
    Malformed("nothing", b"", "Error reading JSON."),
    Malformed("not JSON", b"{type:1}", "Error reading JSON."),
    Malformed("cut off", b'{"type":1', "Error reading JSON."),
    Malformed("two objects", b'{"type":6}{"type":6}', "Error reading JSON."),
    Malformed("too deep", b'{"type":1,"target":"m","arguments":' + b"[" * 64 + b"]" * 64 + b"}", "Error reading JSON."),
    Malformed("a bomb of depth", b'{"type":1,"target":"m","arguments":' + b"[" * 10_000, "Error reading JSON."),
    Malformed("not UTF-8 in the target", b'{"type":1,"target":"\xff","arguments":[]}', "Error reading JSON."),
    Malformed("a bad escape", b'{"type":1,"target":"m","arguments":["\\q"]}', "Error reading JSON."),
    Malformed("an array", b"[1]", "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
    Malformed("a string", b'"hi"', "Unexpected JSON Token Type 'String'. Expected a JSON Object."),
    Malformed("a number", b"5", "Unexpected JSON Token Type 'Number'. Expected a JSON Object."),
    Malformed("null", b"null", "Unexpected JSON Token Type 'Null'. Expected a JSON Object."),
    Malformed("true", b"true", "Unexpected JSON Token Type 'True'. Expected a JSON Object."),
    Malformed("no type", b"{}", "Missing required property 'type'."),
    Malformed("a type as string", b'{"type":"1"}', "Expected 'type' to be of type Number."),
    Malformed("a type that is a fraction", b'{"type":1.5}', "Expected 'type' to be of type Number."),
    Malformed("a type that is true", b'{"type":true}', "Expected 'type' to be of type Number."),
    Malformed("a type null", b'{"type":null}', "Expected 'type' to be of type Number."),
    Malformed("a huge type", b'{"type":99999999999}', "Expected 'type' to be of type Number."),
    Malformed(
        "a number as invocation id",
        b'{"type":1,"invocationId":5,"target":"m","arguments":[]}',
        "Expected 'invocationId' to be of type String.",
    ),
    Malformed("a number as target", b'{"type":1,"target":5,"arguments":[]}', "Expected 'target' to be of type String."),
    Malformed("no arguments", b'{"type":1,"target":"m"}', "Missing required property 'arguments'."),
    Malformed(
        "arguments null", b'{"type":1,"target":"m","arguments":null}', "Expected 'arguments' to be of type Array."
    ),
    Malformed(
        "arguments an object", b'{"type":1,"target":"m","arguments":{}}', "Expected 'arguments' to be of type Array."
    ),
    Malformed(
        "stream ids numbers",
        b'{"type":1,"target":"m","arguments":[],"streamIds":[1]}',
        "Expected 'streamIds' to be an array of String.",
    ),
    Malformed(
        "a stream invocation without id",
        b'{"type":4,"target":"m","arguments":[]}',
        "Missing required property 'invocationId'.",
    ),
    Malformed(
        "result and error",
        b'{"type":3,"invocationId":"1","result":1,"error":"x"}',
        "The 'error' and 'result' properties are mutually exclusive.",
    ),
    Malformed("a completion without id", b'{"type":3,"result":1}', "Missing required property 'invocationId'."),
    Malformed("an item without id", b'{"type":2,"item":1}', "Missing required property 'invocationId'."),
    Malformed("an item without item", b'{"type":2,"invocationId":"1"}', "Missing required property 'item'."),
    Malformed("a cancellation without id", b'{"type":5}', "Missing required property 'invocationId'."),
    Malformed("a number as error", b'{"type":7,"error":5}', "Expected 'error' to be of type String."),
    Malformed(
        "a string as allowReconnect",
        b'{"type":7,"allowReconnect":"x"}',
        "Expected 'allowReconnect' to be of type Boolean.",
    ),
    Malformed("an ack without number", b'{"type":8}', "Missing required property 'sequenceId'."),
    Malformed("an ack of a string", b'{"type":8,"sequenceId":"1"}', "Expected 'sequenceId' to be of type Number."),
)

MSGPACK_MALFORMED = (
    Malformed("nothing", b"", "Error reading MessagePack: Input data was truncated."),
    Malformed("an empty array", b"\x90", "Reading 'messageType' as Int32 failed."),
    Malformed("a map", b"\x80", "Error reading MessagePack: Expected `array`, got `object`."),
    Malformed("a type as string", b"\x91\xa16", "Error reading MessagePack: Expected `int`, got `str`."),
    Malformed("a bomb of depth", b"\x91" * 10_000, "Error reading MessagePack: maximum recursion depth exceeded"),
    Malformed("a bomb of length", b"\xdd\xff\xff\xff\xff\x01", "Error reading MessagePack: Input data was truncated."),
    Malformed(
        "a huge declared string",
        bytes.fromhex("9601 80 c0 dbffffffff61"),
        "Error reading MessagePack: Input data was truncated.",
    ),
    Malformed("headers nil", bytes.fromhex("9601 c0 c0 a16d 90 90"), "Expected `object`, got `None`"),
    Malformed("headers with a number", bytes.fromhex("9601 81a16101 c0 a16d 90 90"), "Expected `str`, got `int`"),
    Malformed("a number as id", bytes.fromhex("9601 80 01 a16d 90 90"), "Expected `str | null`, got `int`"),
    Malformed("no arguments", bytes.fromhex("9401 80 c0 a16d"), "Expected `array` of at least length 5, got 4"),
    Malformed("not UTF-8", bytes.fromhex("9305 80 a1ff"), "codec can't decode"),
    Malformed("trailing bytes", bytes.fromhex("9106 00"), "trailing characters"),
    Malformed("a reserved byte", b"\x91\xc1", "invalid opcode"),
    Malformed("an unknown kind of result", bytes.fromhex("9403 80 a131 04"), "Invalid invocation result kind."),
    Malformed("a result that is missing", bytes.fromhex("9403 80 a131 03"), "has neither result nor error"),
    Malformed("an error that is a number", bytes.fromhex("9503 80 a131 01 05"), "Reading 'error' as String failed."),
    Malformed("a stream invocation without id", bytes.fromhex("9604 80 a0 a16d 90 90"), "Missing required property"),
)
