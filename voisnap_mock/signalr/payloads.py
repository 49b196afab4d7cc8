"""The conventions of payloads: names of members, bytes, and how a value is described to people.

Members are camelCase on output and matched without regard to case on input. Bytes are base64 in JSON and `bin` in
MessagePack, which msgspec does by itself.

Source: Documented, the defaults of ASP.NET Core's JsonHubProtocol; Deviation: MessagePack uses the same names.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

import msgspec

SCALARS = frozenset({str, bytes, int, float, bool, type(None)})


def camel_case(name: str) -> str:
    """`session_id` and `SessionId` -> `sessionId`."""
    head, *rest = name.split("_")
    joined = head + "".join(part[:1].upper() + part[1:] for part in rest)
    return joined[:1].lower() + joined[1:]


def members_of(kind: type) -> dict[str, tuple[str, Any]] | None:
    """Wire name -> (attribute, type) of a dataclass or Struct; None for any other type.

    A Struct's explicit rename is kept.
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {
            (f.encode_name if f.encode_name != f.name else camel_case(f.name)): (f.name, f.type)
            for f in msgspec.structs.fields(kind)
        }
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        return {camel_case(f.name): (f.name, hints[f.name]) for f in dataclasses.fields(kind)}
    return None


def _hints(kind: type) -> dict[str, Any]:
    from typing import get_type_hints

    return get_type_hints(kind, include_extras=True)


def to_wire(value: object) -> object:
    """`value` with every dataclass and Struct in it turned into a dict with camelCase names."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, Mapping):
        return {key: to_wire(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_wire(item) for item in value]
    members = members_of(type(value))
    if members is None:
        return value
    return {name: to_wire(getattr(value, attribute)) for name, (attribute, _) in members.items()}


def arguments_to_wire(arguments: Sequence[object]) -> Sequence[object]:
    """The same for a list of arguments; scalars pass without a copy."""
    for argument in arguments:
        if type(argument) not in SCALARS:
            return [to_wire(argument) for argument in arguments]
    return arguments


def has_members(kind: object) -> bool:
    """Whether values of this type, or inside it, have members whose names must be fitted."""
    if isinstance(kind, type) and members_of(kind) is not None:
        return True
    return any(has_members(inner) for inner in get_args(kind))


def fit(value: object, kind: object) -> object:
    """Rename the members of decoded objects so that `kind` finds them, whatever their case.

    `value` is what a decoder made of JSON or MessagePack: dicts, lists and scalars. Members that `kind` does not have
    are left out, as ASP.NET Core ignores them.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        fitting = [inner for inner in get_args(kind) if has_members(inner)]
        return fit(value, fitting[0]) if len(fitting) == 1 and value is not None else value
    if origin is not None:
        inner = get_args(kind)
        if isinstance(value, list) and inner:
            each = inner if origin is tuple and Ellipsis not in inner else inner[:1] * len(value)
            return [fit(item, to) for item, to in zip(value, each, strict=False)] + value[len(each) :]
        if isinstance(value, dict) and len(inner) == 2:
            return {key: fit(item, inner[1]) for key, item in value.items()}
        return value
    members = members_of(kind) if isinstance(kind, type) else None
    if members is None or not isinstance(value, dict):
        return value
    by_name = {name.lower(): (name, attribute, to) for name, (attribute, to) in members.items()}
    by_name |= {attribute.lower(): (name, attribute, to) for name, (attribute, to) in members.items()}
    fitted: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(key, str) and (found := by_name.get(key.lower())):
            name, attribute, to = found
            fitted[name if _keeps_rename(kind, attribute) else attribute] = fit(item, to)
    return fitted


def _keeps_rename(kind: object, attribute: str) -> bool:
    return (
        isinstance(kind, type)
        and issubclass(kind, msgspec.Struct)
        and any(f.name == attribute and f.encode_name != f.name for f in msgspec.structs.fields(kind))
    )


def describe(value: object) -> str:
    """What `value` is, for an error message, cut short."""
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {str(value)[:40]}"
        case str():
            return (
                f'the string "{value}"' if len(value) <= 40 else f'a string of {len(value)} characters "{value[:40]}…"'
            )
        case bytes() | bytearray() | memoryview():
            return f"{len(value)} bytes"
        case list() | tuple():
            return f"an array of {len(value)}"
        case dict():
            names = ", ".join(str(key)[:30] for key in list(value)[:5])
            return f"an object with {names}" if names else "an empty object"
        case _:
            return f"a value of type {type(value).__name__}"
