"""What the author of a hub writes against: Hub, hub methods, and the context of a connection.

    class Echo(Hub):
        @hub_method(name="Say")
        async def say(self, connection: HubContext, text: str) -> int:
            connection.send("Said", text)
            return len(text)

A hub method's first parameter is the connection; every other one takes an argument and is bound by its annotation.
It may be `async def` or plain `def`. Methods of one connection run one at a time, in the order of arrival.

An async generator is a streaming method: what it yields becomes stream items. A parameter annotated `AsyncIterator[T]`
takes a stream that the client uploads.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

from voisnap_mock.signalr.binder import Signature
from voisnap_mock.signalr.clients import HubClients
from voisnap_mock.signalr.interceptors import Interceptor
from voisnap_mock.signalr.transports import Parameters, Severance, Transport

_Method = TypeVar("_Method", bound=Callable[..., Any])
_MARK = "__hub_method__"


class ConnectionRequest:
    """The HTTP request that a connection came with.

    Attributes:
        path: without the query.
        query: parameters, matched without regard to case, as ASP.NET Core does.
        headers: likewise.
        client: host and port of the caller, if known.
        method: `GET` for an upgrade.
    """

    __slots__ = ("_headers", "_query", "_query_string", "_raw_headers", "client", "method", "path")

    def __init__(
        self,
        path: str,
        query: bytes | str = b"",
        headers: Iterable[tuple[str, str]] = (),
        client: tuple[str, int] | None = None,
        method: str = "GET",
    ) -> None:
        self.path = path
        self.client = client
        self.method = method
        self._query_string = query
        self._raw_headers = headers
        self._headers: Parameters | None = None
        self._query: Parameters | None = None

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> ConnectionRequest:
        """Read an ASGI scope of type `http` or `websocket`."""
        client = scope.get("client")
        return cls(
            scope["path"],
            scope.get("query_string", b""),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
            (client[0], client[1]) if client else None,
            scope.get("method", "GET"),
        )

    @property
    def query(self) -> Parameters:
        if self._query is None:
            self._query = Parameters.from_query(self._query_string)
        return self._query

    @property
    def headers(self) -> Parameters:
        if self._headers is None:
            self._headers = Parameters(self._raw_headers)
        return self._headers

    def __repr__(self) -> str:
        # Neither query nor headers: both may hold tokens.
        return f"<ConnectionRequest {self.method} {self.path}>"


class _Owner(Protocol):
    """What a context needs from the connection that it fronts."""

    def send_event(self, target: str, arguments: tuple[object, ...]) -> None: ...

    def close(self, *, error: str | None, allow_reconnect: bool) -> None: ...

    def abort(self) -> None: ...

    def sever(self, how: Severance) -> None: ...

    def tap(self, interceptor: Interceptor) -> None: ...

    def stop_pings(self) -> None: ...

    async def ask(self, target: str, arguments: tuple[object, ...], kind: Any) -> Any: ...

    @property
    def clients(self) -> HubClients: ...

    @property
    def is_over(self) -> bool: ...

    @property
    def transport(self) -> Transport: ...

    @property
    def protocol_name(self) -> str: ...


class HubContext:
    """One connection, as hub methods and other server code see it.

    Attributes:
        connection_id: public; other clients may be shown it.
        user: whatever the authenticator returned.
        request: the HTTP request that opened the transport.
        negotiated: what the authenticator returned at negotiate; None when there was none.
        items: the hub's own notes on this connection.
    """

    __slots__ = ("__weakref__", "_owner", "connection_id", "items", "negotiated", "request", "user")

    def __init__(self, connection_id: str, user: object, request: ConnectionRequest, owner: _Owner) -> None:
        self.connection_id = connection_id
        self.user = user
        self.request = request
        self.negotiated: object = None
        self.items: dict[str, object] = {}
        self._owner = owner

    def send(self, target: str, *arguments: object) -> None:
        """Call a method of the client, without waiting for anything.

        The message is queued and written with everything else that is queued by then. After the connection has ended,
        or after `close`, it is dropped.

        Raises:
            LocalProtocolError: an argument cannot be serialised.
        """
        self._owner.send_event(target, arguments)

    async def invoke(self, target: str, *arguments: object, expect: Any = object) -> Any:
        """Call a method of the client and wait for what it returns.

        Args:
            expect: the type of the result; by default a plain decoded value.

        Raises:
            HubError: the client answered with an error, or with another type.
            ConnectionClosed: the connection ended before the answer.
        """
        return await self._owner.ask(target, arguments, expect)

    @property
    def transport(self) -> Transport:
        """What carries the connection; it cannot change."""
        return self._owner.transport

    @property
    def protocol(self) -> str:
        """The hub protocol that the client chose, `json` or `messagepack`; empty before the handshake."""
        return self._owner.protocol_name

    @property
    def clients(self) -> HubClients:
        """All connections of this hub, this one included, and their groups."""
        return self._owner.clients

    def join(self, group: str) -> None:
        """Add this connection to a group, which exists as long as it has members."""
        self._owner.clients.join(self.connection_id, group)

    def leave(self, group: str) -> None:
        self._owner.clients.leave(self.connection_id, group)

    def close(self, *, error: str | None = None, allow_reconnect: bool = False) -> None:
        """End the connection in order.

        The invocation that is running completes, everything queued is sent, then a Close message, then the transport
        is closed (WebSockets: code 1000). Invocations that wait their turn are not run any more.

        Args:
            error: shown to the client's user.
            allow_reconnect: whether a client with automatic reconnect should come back.
        """
        self._owner.close(error=error, allow_reconnect=allow_reconnect)

    def abort(self) -> None:
        """End the connection now: running methods are cancelled, their callers get no answer.

        What was sent before is still written, and a Close message that forbids automatic reconnect.

        Source: Documented, `HubCallerContext.Abort`; the Close message Observed on version 5 and later.
        """
        self._owner.abort()

    def sever(self, how: Severance) -> None:
        """Lose the connection on purpose, as networks, proxies and dying servers do; see `Severance`.

        Running methods are cancelled as for any lost connection. What was sent before is still written, except at the
        reset of a long poll. A client that agreed on stateful reconnect may come back after a reset, or from a socket
        that is half open or stalls.
        """
        self._owner.sever(how)

    def tap(self, interceptor: Interceptor) -> None:
        """Let `interceptor` stand at this connection's seams from now on, behind those that stand there already."""
        self._owner.tap(interceptor)

    def stop_pings(self) -> None:
        """Send no keep-alive pings any more."""
        self._owner.stop_pings()

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended; what is sent now is dropped."""
        return self._owner.is_over

    def __repr__(self) -> str:
        return f"<HubContext {self.connection_id}>"


class Hub:
    """The server's side of a hub; subclass it, one instance serves all connections of an endpoint."""

    async def on_connected(self, connection: HubContext) -> None:
        """Called when the handshake is done; the connection's first hub method waits for it.

        An exception ends the connection with a Close that forbids reconnecting.
        """

    async def on_disconnected(self, connection: HubContext, error: Exception | None) -> None:
        """Called once when the connection has ended, `error` being None for an end in order."""


@overload
def hub_method(function: _Method, /) -> _Method: ...
@overload
def hub_method(*, name: str | None = None) -> Callable[[_Method], _Method]: ...
def hub_method(
    function: _Method | None = None, /, *, name: str | None = None
) -> _Method | Callable[[_Method], _Method]:
    """Let clients call this method, by `name` or by its own.

    Source: Observed, targets are matched without regard to case.
    """

    def mark(method: _Method) -> _Method:
        setattr(method, _MARK, name or method.__name__)
        return method

    return mark if function is None else mark(function)


@dataclass(frozen=True, slots=True)
class HubMethod:
    """One callable method of a hub instance.

    Attributes:
        name: as it was declared.
        call: the bound method.
        signature: the arguments after the connection, streams left out.
        is_async: whether calling it makes a coroutine.
        is_stream: whether calling it makes an async generator.
        uploads: place among the arguments, and type of the items, of each stream that the client sends.
    """

    name: str
    call: Callable[..., Any]
    signature: Signature
    is_async: bool
    is_stream: bool = False
    uploads: tuple[tuple[int, Any], ...] = ()

    def arguments(self, bound: tuple[object, ...], uploads: Sequence[object]) -> list[object]:
        """All arguments in their places."""
        whole = list(bound)
        for (place, _), upload in zip(self.uploads, uploads, strict=True):
            whole.insert(place, upload)
        return whole


class MethodTable:
    """The methods of one hub instance, by target.

    Raises:
        TypeError: a method's parameters cannot be bound, or two methods share a name.
    """

    def __init__(self, hub: Hub) -> None:
        self._methods: dict[str, HubMethod] = {}
        for attribute in dir(type(hub)):
            function = inspect.getattr_static(type(hub), attribute, None)
            name = getattr(function, _MARK, None)
            if function is None or name is None:
                continue
            if name.lower() in self._methods:
                raise TypeError(f"{type(hub).__name__}: two hub methods are called {name!r} (case does not matter)")
            self._methods[name.lower()] = _method(name, function, getattr(hub, attribute))

    def find(self, target: str) -> HubMethod | None:
        """Source: Observed, matching without regard to case."""
        return self._methods.get(target) or self._find(target)

    def _find(self, target: str) -> HubMethod | None:
        method = self._methods.get(target.lower())
        if method is not None and target == method.name:
            # The spelling that clients use is found without lower() from now on.
            self._methods[target] = method
        return method

    def all(self) -> tuple[HubMethod, ...]:
        """Each of them once, by name."""
        return tuple(
            sorted({id(method): method for method in self._methods.values()}.values(), key=lambda each: each.name)
        )

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({method.name for method in self._methods.values()}))

    def signature(self, target: str) -> Signature | None:
        method = self._methods.get(target) or self._find(target)
        return None if method is None else method.signature


def _method(name: str, function: Callable[..., Any], bound: Callable[..., Any]) -> HubMethod:
    where = f"hub method {function.__qualname__}"
    parameters = list(inspect.signature(function).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"{where}: parameter {parameter.name!r} must be positional; arguments come by position")
    if not parameters:
        raise TypeError(f"{where}: the first parameter after self is the connection (HubContext)")
    hints = _hints(function)
    declared = parameters[1:]
    for parameter in declared:
        if parameter.name not in hints:
            raise TypeError(f"{where}: parameter {parameter.name!r} needs an annotation; `object` takes anything")
    uploads = tuple(
        (place, item)
        for place, parameter in enumerate(declared)
        if (item := _upload_item(hints[parameter.name])) is not None
    )
    places = {place for place, _ in uploads}
    arguments = [parameter for place, parameter in enumerate(declared) if place not in places]
    try:
        signature = Signature(
            tuple(parameter.name for parameter in arguments),
            tuple(hints[parameter.name] for parameter in arguments),
            required=sum(parameter.default is parameter.empty for parameter in arguments),
        )
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error
    is_stream = inspect.isasyncgenfunction(function)
    return HubMethod(name, bound, signature, inspect.iscoroutinefunction(function), is_stream, uploads)


def _upload_item(hint: Any) -> Any:
    """The type of the items of a parameter that takes a stream; None for any other parameter."""
    if typing.get_origin(hint) in (AsyncIterator, AsyncIterable):
        return typing.get_args(hint)[0]
    return object if hint in (AsyncIterator, AsyncIterable) else None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the arguments; the first parameter's may be unknown at run time (`TYPE_CHECKING`)."""
    module = inspect.getmodule(function)
    names = {"HubContext": HubContext} | (vars(module) if module else {})
    try:
        return typing.get_type_hints(function, names, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"hub method {function.__qualname__}: annotation names {error.name!r}, which is not known at run time"
        ) from error
