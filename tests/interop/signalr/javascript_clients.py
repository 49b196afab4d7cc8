"""The generations of `@microsoft/signalr`, and the ways in which each can be connected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hub_processes import HubServer
from line_clients import LineClient, Run

JAVASCRIPT_VERSIONS = (3, 6, 8, 10)
WAYS = (("ws", "json"), ("ws", "messagepack"), ("sse", "json"), ("poll", "json"), ("poll", "messagepack"))
EVERY_WAY = [(version, *way) for version in JAVASCRIPT_VERSIONS for way in WAYS]


def name_of_way(param: tuple[int, str, str]) -> str:
    version, transport, protocol = param
    return f"js{version}-{transport}-{protocol}"


@dataclass(frozen=True)
class Way:
    """One client on one transport with one protocol, to one server."""

    version: int
    transport: str
    protocol: str
    client: LineClient
    server: HubServer

    def start(self, do: str, hub: str = "plain", *, port: int | None = None, query: str = "", **plan: Any) -> Run:
        return self.client.start(
            do,
            url=self.server.url(hub, port=port) + query,
            **{"transport": self.transport, "protocol": self.protocol, **plan},
        )

    def run(self, do: str, hub: str = "plain", **plan: Any) -> Any:
        return self.start(do, hub, **plan).result()
