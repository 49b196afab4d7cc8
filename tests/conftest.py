"""What every test has: a cache folder of the run's own, so that nothing this user ever said or installed counts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from voisnap_mock.cache import VARIABLE

# Suites of other people: `test_examples.py` runs them.
collect_ignore_glob = ["examples/*"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before
