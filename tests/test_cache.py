"""The user's cache folder is where the user says, else where the system keeps caches."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from voisnap_mock.cache import cache_folder


def test_the_variable_counts_first(tmp_path: Path) -> None:
    assert cache_folder({"VOISNAP_MOCK_CACHE": str(tmp_path), "XDG_CACHE_HOME": "/elsewhere"}) == tmp_path


def test_a_tilde_in_the_variable_is_the_home_folder() -> None:
    assert cache_folder({"VOISNAP_MOCK_CACHE": "~/mock"}) == Path.home() / "mock"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="their caches have other places")
@pytest.mark.parametrize("variable", [{}, {"VOISNAP_MOCK_CACHE": ""}, {"XDG_CACHE_HOME": "not/absolute"}])
def test_without_it_the_cache_lies_where_the_system_keeps_caches(variable: dict[str, str]) -> None:
    assert cache_folder(variable) == Path.home() / ".cache" / "voisnap-mock"
    assert cache_folder({"XDG_CACHE_HOME": "/var/mine"}) == Path("/var/mine/voisnap-mock")
