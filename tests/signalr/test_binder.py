"""Arguments and annotations: what fits, and what is said when it does not."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from voisnap_mock.signalr.binder import BINDING_FAILED, Signature, convert
from voisnap_mock.signalr.errors import BindingError
from voisnap_mock.signalr.payloads import arguments_to_wire, camel_case, describe, to_wire


@dataclass(frozen=True)
class Place:
    city_name: str
    zip_code: int | None = None


@dataclass(frozen=True)
class Person:
    first_name: str
    home: Place
    others: list[Place] | None = None


class Frame(msgspec.Struct, frozen=True):
    sample_rate: int
    pcm_data: bytes = b""


class Renamed(msgspec.Struct, frozen=True, rename={"kind": "@type"}):
    kind: str


def read(signature: Signature, protocol: str, arguments: list[Any]) -> tuple[object, ...]:
    if protocol == "json":
        return signature.read_json(msgspec.json.encode(arguments))
    return signature.read_msgpack(msgspec.msgpack.encode(arguments))


def one(kind: Any) -> Signature:
    return Signature(("value",), (kind,))


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
@pytest.mark.parametrize(
    ("kind", "sent", "bound"),
    [
        (str, "é", "é"),
        (int, 5, 5),
        (float, 1.5, 1.5),
        (float, 1, 1.0),
        (bool, True, True),
        (bytes, "aGk=", b"hi"),
        (bytes, "", b""),
        (str | None, None, None),
        (dict, {"a": [1]}, {"a": [1]}),
        (list, [1, "x"], [1, "x"]),
        (list[int], [1, 2], [1, 2]),
        (object, {"a": None}, {"a": None}),
        (Any, "x", "x"),
        (Place, {"cityName": "Ulm"}, Place("Ulm")),
        (Place, {"CITYNAME": "Ulm", "zipcode": 5, "more": 1}, Place("Ulm", 5)),
        (Place, {"city_name": "Ulm"}, Place("Ulm")),
        (Place | None, None, None),
        (Place | None, {"CityName": "Ulm"}, Place("Ulm")),
        (list[Place], [{"cityName": "A"}, {"CITYNAME": "B"}], [Place("A"), Place("B")]),
        (dict[str, Place], {"x": {"CityName": "A"}}, {"x": Place("A")}),
        (tuple[int, Place], [1, {"CityName": "A"}], (1, Place("A"))),
        (
            Person,
            {"FirstName": "Ada", "home": {"cityname": "Ulm"}, "others": [{"cityName": "X"}]},
            Person("Ada", Place("Ulm"), [Place("X")]),
        ),
        (Frame, {"sampleRate": 16000, "pcmData": "aGk="}, Frame(16000, b"hi")),
        (Renamed, {"@TYPE": "x"}, Renamed("x")),
    ],
)
def test_values_that_fit(protocol: str, kind: Any, sent: object, bound: object) -> None:
    assert read(one(kind), protocol, [sent]) == (bound,)


def test_messagepack_bytes() -> None:
    assert read(one(bytes), "messagepack", [b"hi"]) == (b"hi",)
    assert read(one(Frame), "messagepack", [{"sampleRate": 1, "pcmData": b"hi"}]) == (Frame(1, b"hi"),)


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
@pytest.mark.parametrize(
    ("kind", "sent", "tail"),
    [
        (str, 5, "Argument 1 'value': expected a string, got the number 5."),
        (str, None, "Argument 1 'value': expected a string, got null."),
        (int, "5", "Argument 1 'value': expected a whole number, got the string \"5\"."),
        (int, 1.5, "Argument 1 'value': expected a whole number, got the number 1.5."),
        (bool, 1, "Argument 1 'value': expected true or false, got the number 1."),
        (float, "x", "Argument 1 'value': expected a number, got the string \"x\"."),
        (bytes, [1], "Argument 1 'value': expected bytes (a base64 string in JSON), got an array of 1."),
        (bytes, {"0": 1}, "Argument 1 'value': expected bytes (a base64 string in JSON), got an object with 0."),
        (
            bytes,
            "a!",
            "Argument 1 'value': expected bytes (a base64 string in JSON), got the string \"a!\" (invalid base64).",
        ),
        (dict, [], "Argument 1 'value': expected an object, got an array of 0."),
        (list, {}, "Argument 1 'value': expected an array, got an empty object."),
        (
            Place,
            {"cityName": 5},
            (
                "Argument 1 'value': expected an object with cityName, zipCode, got an object with cityName "
                "(Expected `str`, got `int` at $.city_name)."
            ),
        ),
        (list[int], ["x"], "expected list[int], got an array of 1 (Expected `int`, got `str` at $[0])."),
    ],
)
def test_values_that_do_not_fit(protocol: str, kind: Any, sent: object, tail: str) -> None:
    with pytest.raises(BindingError) as caught:
        read(one(kind), protocol, [sent])
    assert caught.value.detail.startswith(BINDING_FAILED)
    assert tail in caught.value.detail


class TestNumberOfArguments:
    signature = Signature(("text", "volume"), (str, float))

    @pytest.mark.parametrize("protocol", ["json", "messagepack"])
    @pytest.mark.parametrize("arguments", [[], ["a"], ["a", 1.0, 2]])
    def test_too_few_or_too_many(self, protocol: str, arguments: list[Any]) -> None:
        with pytest.raises(BindingError) as caught:
            read(self.signature, protocol, arguments)
        assert caught.value.detail == (
            f"InvalidDataException: Invocation provides {len(arguments)} argument(s) but target expects 2. "
            "The method takes (text: a string, volume: a number)."
        )

    def test_defaults_may_be_left_out(self) -> None:
        signature = Signature(("text", "volume"), (str, float), required=1)
        assert read(signature, "json", ["a"]) == ("a",)
        assert read(signature, "json", ["a", 1]) == ("a", 1.0)
        with pytest.raises(BindingError):
            read(signature, "json", [])

    def test_none_at_all(self) -> None:
        assert Signature((), ()).read_json(b"[]") == ()


def test_an_undecodable_type_is_told_when_the_signature_is_made() -> None:
    with pytest.raises(TypeError):
        one(int | float | str | bytes | list[int] | dict[str, int] | Place | Person)


def test_converting_a_single_value() -> None:
    assert convert("aGk=", bytes, "The item") == b"hi"
    with pytest.raises(BindingError, match="The item: expected a whole number, got null"):
        convert(None, int, "The item")


class TestOnTheWire:
    @pytest.mark.parametrize(
        ("name", "wire"),
        [("session_id", "sessionId"), ("SessionId", "sessionId"), ("id", "id"), ("a_b_c", "aBC"), ("", "")],
    )
    def test_camel_case(self, name: str, wire: str) -> None:
        assert camel_case(name) == wire

    def test_dataclasses_and_structs_become_objects(self) -> None:
        person = Person("Ada", Place("Ulm", 5))
        assert to_wire({"who": [person]}) == {
            "who": [{"firstName": "Ada", "home": {"cityName": "Ulm", "zipCode": 5}, "others": None}]
        }
        assert to_wire(Frame(1, b"x")) == {"sampleRate": 1, "pcmData": b"x"}
        assert to_wire(Renamed("x")) == {"@type": "x"}

    def test_scalars_pass_without_a_copy(self) -> None:
        arguments = ("x", b"y", 1, 1.5, True, None)
        assert arguments_to_wire(arguments) is arguments

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (b"abc", "3 bytes"),
            ("x" * 50, "a string of 50 characters"),
            (object(), "a value of type object"),
            (True, "the boolean true"),
        ],
    )
    def test_descriptions_are_short(self, value: object, text: str) -> None:
        assert text in describe(value)
        assert len(describe(value)) < 100
