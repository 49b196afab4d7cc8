"""The command line: `voisnap-mock`."""

from __future__ import annotations

from voisnap_mock.cli.entry import main

__all__ = ["main"]
