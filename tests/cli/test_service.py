from __future__ import annotations

import pytest

from voisnap_mock.cli.service import Login, find_login, find_server
from voisnap_mock.errors import ConfigError


def test_the_server_is_the_first_that_is_named() -> None:
    environment = {"VOISNAP_MOCK_URL": "http://mock:1", "VOISNAP_BASE_URL": "http://base:2"}

    assert find_server("http://flag:3", environment) == "http://flag:3"
    assert find_server(None, environment) == "http://mock:1"
    assert find_server(None, {"VOISNAP_BASE_URL": "http://base:2"}) == "http://base:2"
    assert find_server(None, {}) == "http://127.0.0.1:8647"
    assert find_server(None, {"VOISNAP_MOCK_URL": ""}) == "http://127.0.0.1:8647"


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("ws://localhost:9000", "http://localhost:9000"),
        ("wss://localhost/", "https://localhost"),
        ("http://localhost:9000/api/v1", "http://localhost:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_an_address_in_another_form_is_understood(given: str, server: str) -> None:
    assert find_server(given, {}) == server


@pytest.mark.parametrize("given", ["ftp://localhost", "http://", "http://localhost:port", "http://localhost:99999"])
def test_an_address_of_no_server_is_named_with_its_source(given: str) -> None:
    with pytest.raises(ConfigError, match=r"VOISNAP_BASE_URL '.*' is not the URL of a server"):
        find_server(None, {"VOISNAP_BASE_URL": given})


def test_a_login_is_taken_from_flags_then_from_the_environment() -> None:
    environment = {"VOISNAP_ACCESS_TOKEN": "t", "VOISNAP_EMAIL": "e@x", "VOISNAP_PASSWORD": "p"}

    assert find_login(token="flag", email=None, password=None, environment=environment).token == "flag"
    assert find_login(token=None, email=None, password=None, environment=environment).token == "t"
    named = find_login(token=None, email="me@x", password=None, environment=environment)
    assert named == Login(None, "me@x", "p")
    assert find_login(token=None, email=None, password=None, environment={}) == Login(None, "dev@example.test", "dev")


def test_a_login_never_shows_its_secrets() -> None:
    assert "hidden" not in repr(Login(token="hidden", password="hidden"))
