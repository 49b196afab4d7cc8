"""Arguments and the types a hub method declares: decoded in one pass when they fit, explained when they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from voisnap_mock.signalr.errors import BindingError
from voisnap_mock.signalr.payloads import describe, fit, has_members, members_of

BINDING_FAILED = (
    "InvalidDataException: Error binding arguments. Make sure that the types of the provided values match the types "
    "of the hub method being invoked."
)

_WORDS: dict[object, str] = {
    str: "a string",
    bytes: "bytes (a base64 string in JSON)",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "an array",
    Any: "any value",
}


class Signature:
    """The arguments of one hub method.

    Args:
        names: of the parameters that arguments fill, in order.
        kinds: their types; `object` takes anything.
        required: how many have no default.
    """

    __slots__ = ("_json", "_msgpack", "_needs_fitting", "kinds", "names", "required")

    def __init__(self, names: tuple[str, ...], kinds: tuple[Any, ...], *, required: int | None = None) -> None:
        self.names = names
        self.kinds = tuple(Any if kind is object else kind for kind in kinds)
        self.required = len(names) if required is None else required
        self._needs_fitting = any(has_members(kind) for kind in self.kinds)
        whole: Any = tuple.__class_getitem__(self.kinds)
        self._json: Callable[[bytes | msgspec.Raw], tuple[object, ...]] = msgspec.json.Decoder(whole).decode
        self._msgpack: Callable[[bytes | msgspec.Raw], tuple[object, ...]] = msgspec.msgpack.Decoder(whole).decode

    def read_json(self, raw: bytes | msgspec.Raw) -> tuple[object, ...]:
        """Decode a JSON array of arguments; base64 becomes bytes in the same pass.

        Raises:
            BindingError: the arguments do not fit.
            msgspec.DecodeError: the JSON itself is malformed.
        """
        if not self._needs_fitting:
            try:
                return self._json(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        try:
            values = msgspec.json.decode(raw)
        except UnicodeDecodeError as error:
            raise BindingError(f"{BINDING_FAILED} The arguments are not valid UTF-8: {error.reason}.") from error
        except msgspec.DecodeError as error:
            if "out of range" not in str(error):
                raise
            raise BindingError(f"{BINDING_FAILED} {error}.") from error
        return self.read_values(values)

    def read_msgpack(self, raw: bytes | msgspec.Raw) -> tuple[object, ...]:
        """The same for MessagePack, where bytes may also come as a base64 string."""
        if not self._needs_fitting:
            try:
                return self._msgpack(raw)
            except (msgspec.ValidationError, UnicodeDecodeError):
                pass
        try:
            values = msgspec.msgpack.decode(raw)
        except UnicodeDecodeError as error:
            raise BindingError(f"{BINDING_FAILED} The arguments are not valid UTF-8: {error.reason}.") from error
        return self.read_values(values)

    def read_values(self, values: object) -> tuple[object, ...]:
        """Bind decoded values one by one.

        Raises:
            BindingError: naming the argument, what came and what was expected.

        Source: Observed, the texts of ASP.NET Core; the tail is ours.
        """
        if not isinstance(values, list):
            raise BindingError(f"{BINDING_FAILED} Expected an array of arguments, got {describe(values)}.")
        if not self.required <= len(values) <= len(self.kinds):
            expected = ", ".join(f"{name}: {_word(kind)}" for name, kind in zip(self.names, self.kinds, strict=True))
            raise BindingError(
                f"InvalidDataException: Invocation provides {len(values)} argument(s) but target expects "
                f"{len(self.kinds)}. The method takes ({expected})."
            )
        return tuple(
            convert(value, kind, f"Argument {number} '{name}'")
            for number, (value, name, kind) in enumerate(zip(values, self.names, self.kinds, strict=False), start=1)
        )


def convert(value: object, kind: Any, what: str) -> object:
    """Turn a decoded value into `kind`.

    Raises:
        BindingError: with `what` naming the value.
    """
    try:
        return msgspec.convert(fit(value, kind), kind)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        where = str(error).partition(" - at ")
        inner = f" ({where[0]} at {where[2].strip('`')})" if where[2] and where[2] != "`$`" else ""
        if "base64" in where[0]:
            inner = " (invalid base64)"
        elif not inner and where[0].startswith("Object missing"):
            inner = f" ({where[0][0].lower()}{where[0][1:]})"
        raise BindingError(f"{BINDING_FAILED} {what}: expected {_word(kind)}, got {describe(value)}{inner}.") from error


def _word(kind: Any) -> str:
    if (word := _WORDS.get(kind)) is not None:
        return word
    if isinstance(kind, type) and (members := members_of(kind)) is not None:
        return f"an object with {', '.join(members)}"
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
