"""Bodies that hold a file: agents or faults, as JSON or YAML. What is wrong in one is told by line and column."""

import json
import re
from typing import Any

import msgspec

from voisnap_mock.cloud.problems import RequestRefused
from voisnap_mock.control.scope import invalid
from voisnap_mock.errors import TextError

_TWO_ESCAPES = re.compile(rb"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})")


def file_body(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """How a route declares such a body."""
    content = {"application/json": {"schema": schema}, "application/yaml": {"schema": {"type": "string"}}}
    return {"requestBody": {"description": description, "required": True, "content": content}}


def readable(body: bytes) -> bytes:
    """JSON may write a letter beyond the first 65,536 as two escapes; YAML, as which it is read here, may not."""
    return _TWO_ESCAPES.sub(lambda found: found[1] + str(json.loads(b'"' + found[2] + b'"')).encode(), body)


def part_of(body: bytes, member: str, value: object) -> tuple[str | bytes, str]:
    """The file that is the value of a member of a JSON body, and its name for messages.

    A text is counted by its own lines. Of anything else the place in the body is told: all before it is blanked.
    """
    if isinstance(value, str):
        return value, member
    raw = bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])[member])
    return readable(re.sub(rb"[^\n]", b" ", body[: body.index(raw)]) + raw), "body"


def told(member: str, error: TextError) -> RequestRefused:
    """422 with every problem."""
    return invalid(member, *str(error).splitlines())
