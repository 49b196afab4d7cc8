"""What a hub's author may write, and what is refused when the endpoint is made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from voisnap_mock.signalr.hub import ConnectionRequest, Hub, HubContext, MethodTable, hub_method

if TYPE_CHECKING:
    from decimal import Decimal


class Everything(Hub):
    """Every shape of hub method."""

    @hub_method(name="SayAsync")
    async def say(self, connection: HubContext, text: str, volume: float = 1.0) -> str:
        return text

    @hub_method
    def plain(self, connection: HubContext) -> None: ...

    @hub_method
    async def count(self, connection: HubContext, up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            yield number

    @hub_method
    async def add(
        self, connection: HubContext, first: AsyncIterator[int], scale: int, second: AsyncIterator[bytes]
    ) -> int:
        return scale

    async def not_a_hub_method(self, connection: HubContext) -> None: ...


@pytest.fixture
def methods() -> MethodTable:
    return MethodTable(Everything())


def test_only_marked_methods_can_be_called(methods: MethodTable) -> None:
    assert methods.names() == ("SayAsync", "add", "count", "plain")
    for name in ("not_a_hub_method", "on_connected", "OnConnectedAsync", "say", "__init__", ""):
        assert methods.find(name) is None


@pytest.mark.parametrize("target", ["SayAsync", "sayasync", "SAYASYNC", "sayAsync"])
def test_targets_have_no_case(methods: MethodTable, target: str) -> None:
    for _ in range(2):
        method = methods.find(target)
        assert method is not None
        assert method.name == "SayAsync"
        assert methods.signature(target) is method.signature


def test_defaults_make_arguments_optional(methods: MethodTable) -> None:
    signature = methods.signature("SayAsync")
    assert signature is not None
    assert signature.names == ("text", "volume")
    assert signature.required == 1


def test_kinds_of_methods(methods: MethodTable) -> None:
    shapes = {}
    for name in methods.names():
        method = methods.find(name)
        assert method is not None
        shapes[name] = (method.is_async, method.is_stream)
    assert shapes == {
        "SayAsync": (True, False),
        "add": (True, False),
        "count": (False, True),
        "plain": (False, False),
    }


def test_uploads_are_put_in_their_places(methods: MethodTable) -> None:
    add = methods.find("add")
    assert add is not None
    assert add.uploads == ((0, int), (2, bytes))
    assert add.signature.names == ("scale",)
    assert add.arguments((7,), ["one", "two"]) == ["one", 7, "two"]


def hub_with(**members: Any) -> Hub:
    return type("Wrong", (Hub,), members)()  # type: ignore[no-any-return]


class TestRefused:
    def test_an_argument_without_annotation(self) -> None:
        @hub_method
        def wrong(self: Hub, connection: HubContext, text) -> None: ...  # type: ignore[no-untyped-def]

        with pytest.raises(TypeError, match="parameter 'text' needs an annotation"):
            MethodTable(hub_with(wrong=wrong))

    def test_a_method_without_the_connection(self) -> None:
        @hub_method
        def wrong(self: Hub) -> None: ...

        with pytest.raises(TypeError, match="the first parameter after self is the connection"):
            MethodTable(hub_with(wrong=wrong))

    def test_keyword_only_arguments(self) -> None:
        @hub_method
        def wrong(self: Hub, connection: HubContext, *, text: str) -> None: ...

        with pytest.raises(TypeError, match="'text' must be positional"):
            MethodTable(hub_with(wrong=wrong))

    def test_a_type_that_cannot_be_decoded(self) -> None:
        @hub_method
        def wrong(
            self: Hub, connection: HubContext, text: str | bytes | int | list[int] | dict[int, set[str]]
        ) -> None: ...

        with pytest.raises(TypeError, match="hub method"):
            MethodTable(hub_with(wrong=wrong))

    def test_a_name_that_is_unknown_at_run_time(self) -> None:
        @hub_method
        def wrong(self: Hub, connection: HubContext, price: Decimal) -> None: ...

        with pytest.raises(TypeError, match="annotation names 'Decimal'"):
            MethodTable(hub_with(wrong=wrong))

    def test_two_methods_of_one_name(self) -> None:
        @hub_method(name="Say")
        def one(self: Hub, connection: HubContext) -> None: ...

        @hub_method(name="say")
        def two(self: Hub, connection: HubContext) -> None: ...

        with pytest.raises(TypeError, match="case does not matter"):
            MethodTable(hub_with(one=one, two=two))


class TestRequest:
    def test_from_an_asgi_scope(self) -> None:
        request = ConnectionRequest.from_scope(
            {
                "path": "/hub",
                "query_string": b"agentId=a&ACCESS_TOKEN=t",
                "headers": [(b"authorization", b"Bearer x")],
                "client": ("192.0.2.1", 5),
            }
        )
        assert request.path == "/hub"
        assert request.method == "GET"
        assert request.client == ("192.0.2.1", 5)
        assert request.query.get("access_token") == "t"
        assert request.headers.get("Authorization") == "Bearer x"

    def test_a_repr_shows_no_secret(self) -> None:
        assert "secret" not in repr(ConnectionRequest("/hub", "access_token=secret", [("authorization", "secret")]))
