"""The register of emulated behaviour: its switches work, and whoever reads the README or asks the server has it too.

That the code says the same is seen to by `test_architecture.py`.
"""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from controlled import serve
from processes import run

from voisnap_mock.agents.script import Fidelity
from voisnap_mock.fidelity import AREAS, Ground, assumptions_table, behaviours, report

ROOT = Path(__file__).parent.parent


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
    assert {each["ground"] for each in data} == set(get_args(Ground))


async def test_the_control_api_has_it_too() -> None:
    async with serve() as (_, control):
        assert (await control.get("fidelity")).json() == {"data": report()}
