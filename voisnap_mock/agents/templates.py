"""Templates in texts: `{{ name }}`, where a name may be dotted. Nothing is computed, nothing is called."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from voisnap_mock.agents.nodes import quoted

# No brace inside: a text full of open ones must not be searched again from each of them.
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_NAME = re.compile(r"\s*([^\W\d]\w*(?:\.[\w-]+)*)\s*")


class TemplateError(ValueError):
    """What stands between the braces is not a name; the text says what it is."""


def names_in(text: str) -> Iterator[str]:
    """The names that the templates of `text` use.

    Raises:
        TemplateError: for braces that hold no name, or are not closed.
    """
    if "{{" not in text:
        return
    for template in _TEMPLATE.finditer(text):
        name = _NAME.fullmatch(template[1])
        if name is None:
            raise TemplateError(f'expected a name between "{{{{" and "}}}}", found {quoted(template[1].strip())}')
        yield name[1]
    if "{{" in _TEMPLATE.sub("", text):
        raise TemplateError('"{{" without "}}"')


def render(text: str, value_of: Callable[[str], object]) -> str:
    """Put values in the places of names. `text` has passed `names_in`."""
    if "{{" not in text:
        return text
    return _TEMPLATE.sub(lambda template: shown(value_of(template[1].strip())), text)


def render_all(value: Any, value_of: Callable[[str], object]) -> Any:
    """`render` every text inside decoded JSON; keys stay as they are."""
    match value:
        case str():
            return render(value, value_of)
        case list():
            return [render_all(item, value_of) for item in value]
        case dict():
            return {key: render_all(item, value_of) for key, item in value.items()}
        case _:
            return value


def shown(value: object) -> str:
    """A value as it is spoken or written: texts as they are, nothing for null, the rest as JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def look_up(tree: object, path: Sequence[str]) -> object:
    """Follow keys (and, in lists, positions from 0) into decoded JSON; None when the path leads nowhere."""
    for step in path:
        match tree:
            case Mapping():
                tree = tree.get(step)
            case list() if step.isascii() and step.isdigit() and int(step) < len(tree):
                tree = tree[int(step)]
            case _:
                return None
    return tree
