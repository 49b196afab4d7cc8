"""The public face holds what it lists, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import voisnap_mock


@pytest.mark.parametrize("name", voisnap_mock.__all__)
def test_every_listed_name_is_there(name: str) -> None:
    assert getattr(voisnap_mock, name).__name__ == name
    assert name in dir(voisnap_mock)


def test_the_list_is_the_table() -> None:
    assert sorted(voisnap_mock._HOMES) == voisnap_mock.__all__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = voisnap_mock.Nonsense


def loaded_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(answer.stdout.split())


def test_importing_the_package_loads_nothing_of_it() -> None:
    assert {name for name in loaded_by("import voisnap_mock") if name.startswith("voisnap_mock.")} == set()


def test_a_server_is_up_without_what_only_a_call_or_a_request_needs() -> None:
    """These cost most of a second together; they are loaded behind the first READY."""
    loaded = loaded_by(
        "from voisnap_mock.app import App\nfrom voisnap_mock.config import Settings\nApp(Settings(port=0))"
    )
    heavy = {"numpy", "vosk", "soxr", "fastapi", "pydantic", "jwt", "cryptography", "watchfiles", "rich", "typer"}
    assert not loaded & heavy
