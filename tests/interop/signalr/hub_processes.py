"""The server of `hub_server.py` in a process of its own, and the tests' way into it."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from processes import Program

HERE = Path(__file__).parent


class HubServer(Program):
    """Ready when made. A context manager.

    Attributes:
        kind: `product` or `asgi`, see `hub_server.py`.
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, kind: str) -> None:
        super().__init__([sys.executable, HERE / "hub_server.py", kind])
        self.kind = kind
        line = self.read_line()
        if line is None:
            self.__exit__()
            raise AssertionError(f"the hub server did not start\n{self.report()}")
        self.port = int(line)

    def url(self, hub: str, *, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.port}/{hub}"

    def control(self, order: str, **query: str) -> Any:
        """Ask the server about itself; see `hub_server.Application`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/control/{order}?{urlencode(query)}")
            return json.load(connection.getresponse())
        finally:
            connection.close()

    def end_of(self, connection_id: str, hub: str = "plain") -> str:
        """What the hub was told when this connection ended, once it was told; empty for an end in order."""
        return str(self.control("ended", hub=hub, id=connection_id))

    def state(self, hub: str = "plain") -> dict[str, Any]:
        state: dict[str, Any] = self.control("state", hub=hub)
        return state
