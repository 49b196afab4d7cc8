"""A transport as a live connection sees it, and how it may be lost."""

from __future__ import annotations

from typing import Protocol

from voisnap_mock.signalr.errors import SignalRError


class SlowClient(SignalRError):
    """The client does not read what it is sent."""


class TransportLost(SignalRError):
    """The transport ended without a word, or with an error code."""


class Wire(Protocol):
    """A transport as a live connection sees it. It takes bytes with `LiveConnection.take` when it can write."""

    def wake(self) -> None:
        """There may be something to take, or the connection has ended. Called often: must be cheap."""
        ...

    def abort(self) -> None:
        """End the transport at once."""
        ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def reset(self) -> None:
        """End the transport with a TCP reset, where it has a socket to reset; what is queued is written before."""
        ...

    def stall(self) -> None:
        """Read and write nothing more, and leave the transport open."""
        ...

    def abandon(self) -> None:
        """Write nothing more; read and forget what comes until the client goes."""
        ...
