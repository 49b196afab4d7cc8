"""The independent clients: where they live and how they are started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from processes import ClientProgram

HERE = Path(__file__).parent
NODE = HERE / "node"

Client = Callable[..., ClientProgram]
"""Starts a client with a plan: `client("voice", agent="agt_desk")`; the plans are explained in `node/client.mjs`."""


def node(script: str) -> tuple[str, str]:
    """The command that runs a script of the Node project."""
    assert (NODE / "node_modules").exists(), "the Node clients are not installed: run `python3 tests` once"
    return "node", str(NODE / script)
