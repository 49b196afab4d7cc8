"""The register of emulated behaviour and the code say the same, and whoever reads the README reads it too."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from controlled import serve
from processes import run

from voisnap_mock.agents.script import Fidelity
from voisnap_mock.fidelity import AREAS, assumptions_table, behaviours, report

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "voisnap_mock"

# What says where it comes from and is nothing that the service does.
NOT_THE_SERVICE = {
    "audio.fingerprint": "how known recordings are found",
    "audio.frames": "the format of files",
    "audio.tiny_model": "the formats of Vosk",
    "caller": "a client",
}
GROUNDS = ("documented", "observed", "assumed")


def sources(module: str, text: str) -> Iterator[tuple[str, str]]:
    """Every docstring with `Source:`, of a module, class, function, or of a value that it follows: (place, source)."""

    def look(
        node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
    ) -> Iterator[tuple[str, str]]:
        yield name, ast.get_docstring(node) or ""
        before: ast.stmt | None = None
        for child in node.body:
            inner = f"{name}.{{}}" if ":" in name else f"{name}:{{}}"
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from look(child, inner.format(child.name))
            elif (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
                and isinstance(before, ast.Assign | ast.AnnAssign)
            ):
                target = before.targets[0] if isinstance(before, ast.Assign) else before.target
                yield inner.format(ast.unparse(target)), child.value.value
            before = child

    for place, docstring in look(ast.parse(text), module):
        # In backticks it is only talked about.
        found = re.search(r"(?<!`)\bSource:(.*?)(?:\n\n|\Z)", docstring, re.DOTALL)
        if found is not None:
            yield place, found[1]


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not any(name == other or name.startswith(f"{other}.") for other in NOT_THE_SERVICE):
            yield name, path.read_text(encoding="utf-8")


IN_CODE = {
    place: {ground for ground in GROUNDS if ground.capitalize() in source}
    for module, text in modules()
    for place, source in sources(module, text)
}
REGISTERED: dict[str, set[str]] = defaultdict(set)
for _, _behaviour in behaviours():
    for _place in _behaviour.places:
        REGISTERED[_place].add(_behaviour.ground)


# --- code and register ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", sorted(IN_CODE))
def test_what_a_docstring_says_of_its_source_is_registered_with_the_same_word(place: str) -> None:
    said = IN_CODE[place]
    assert said, f"{place}: its Source says none of Documented, Observed, Assumed"
    assert REGISTERED[place] == said, (
        f"{place} says {sorted(said)}, voisnap_mock/fidelity.py has {sorted(REGISTERED[place]) or 'nothing'}: "
        "give each of them a Behaviour there that names this place"
    )


def test_every_place_in_the_register_is_there() -> None:
    assert [place for place in REGISTERED if place not in IN_CODE] == []


def test_no_source_hides_in_a_comment_where_nobody_looks() -> None:
    hidden = [module for module, text in modules() if re.search(r"#.*\bSource:", text)]
    assert hidden == []


def test_a_docstring_of_any_kind_is_found() -> None:
    text = (
        '"""M.\n\nSource: Observed.\n"""\nclass A:\n  x = 1\n  """X. Source: Assumed."""\n  def f(self):\n    "No."\n'
    )
    assert list(sources("m", text)) == [("m", " Observed."), ("m:A.x", " Assumed.")]


def test_every_behaviour_is_told_whole_and_once() -> None:
    subjects = [behaviour.subject for _, behaviour in behaviours()]
    assert len(set(subjects)) == len(subjects)
    for _, behaviour in behaviours():
        assert behaviour.does and behaviour.basis and behaviour.places, behaviour.subject  # noqa: PT018
        assert "|" not in behaviour.subject + behaviour.does + behaviour.switch
        assert len(set(behaviour.places)) == len(behaviour.places), behaviour.subject


# --- switches ---------------------------------------------------------------------------------------------------

# Where each position of each switch of `fidelity:` is shown.
POSITIONS = {
    "auth_failure": {
        "http_401": "tests/cloud/test_voice_hub.py::test_a_bad_token_is_a_401_that_names_the_check",
        "error_event": "tests/cloud/test_voice_hub.py::test_a_failed_login_can_be_an_event_instead",
    },
    "on_token_expiry": {
        "ignore": "tests/cloud/test_voice_hub.py::test_a_token_that_expires_in_mid_session_changes_nothing",
        "error": "tests/cloud/test_voice_hub.py::test_a_token_that_expires_in_mid_session_can_end_it",
    },
    "chat_chunks": {
        "cumulative": "tests/cloud/test_chat_hub.py::test_a_reply_grows_in_chunks_of_one_message",
        "delta": "tests/cloud/test_chat_hub.py::test_chunks_can_be_off_or_deltas",
        "off": "tests/cloud/test_chat_hub.py::test_chunks_can_be_off_or_deltas",
    },
    "mock_in_metadata": {
        "allow": "tests/faults/test_mock_in_metadata.py::test_a_fault_in_the_metadata_strikes_its_own_connection",
        "forbid": "tests/faults/test_mock_in_metadata.py::test_a_tenant_can_forbid_faults_in_metadata",
    },
    "resume_window": {
        "30s": "tests/cloud/test_voice_hub.py::test_a_session_is_resumed_after_its_socket_was_killed",
        "100ms": "tests/cloud/test_voice_hub.py::test_a_session_that_nobody_resumes_ends_when_its_window_closes",
    },
}


@pytest.mark.parametrize("switch", [field.name for field in fields(Fidelity)])
def test_every_switch_is_registered_and_each_of_its_positions_shown_by_a_test(switch: str) -> None:
    assert [b.subject for _, b in behaviours() if f"fidelity.{switch}" in b.switch], f"no behaviour names {switch}"
    kind = get_type_hints(Fidelity)[switch]
    if get_origin(kind) is Literal:
        assert set(POSITIONS[switch]) == set(get_args(kind))
    for test in POSITIONS[switch].values():
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


# --- for people and programs ------------------------------------------------------------------------------------


def test_the_readme_has_the_table_of_all_that_is_assumed() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## What is assumed") :].partition("\n## ")[0]
    assert assumptions_table() in section, f"put this table into the README:\n{assumptions_table()}"


def test_the_command_lists_it_for_people_and_for_programs() -> None:
    shown = run("fidelity").stdout
    for area in AREAS:
        assert f"\n{area}\n" in f"\n{shown}"
    assert "assumed    chat chunks: hold the text so far" in shown
    assert "change: fidelity.chat_chunks: delta or off" in shown
    assert "`" not in shown
    data = json.loads(run("fidelity", "--json").stdout)["data"]
    assert data == report()
    assert {each["ground"] for each in data} == set(GROUNDS)


async def test_the_control_api_has_it_too() -> None:
    async with serve() as (_, control):
        assert (await control.get("fidelity")).json() == {"data": report()}
