"""A TCP proxy that can swallow and cut: the tunnel, the dead battery, the pulled cable of a test."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Self


class _Pair:
    """A client's connection and the one that continues it to the server."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._near = near
        self._far = far
        self._is_reset = False
        self._swallows: tuple[socket.socket, ...] = ()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def swallow(self, *, only_answers: bool) -> None:
        self._swallows = (self._far,) if only_answers else (self._near, self._far)

    def cut(self, *, with_reset: bool) -> None:
        self._is_reset = with_reset
        for end in (self._near, self._far):
            with suppress(OSError):
                if with_reset:
                    # Nothing is said now; the reset follows when the socket is closed with this linger.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)
                else:
                    end.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        back = threading.Thread(target=self._forward, args=(self._far, self._near))
        back.start()
        self._forward(self._near, self._far)
        back.join()
        self._near.close()
        self._far.close()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if source not in self._swallows:
                    sink.sendall(piece)
        if not self._is_reset:
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forwards from a port of its own to `target_port`, both on this machine. A context manager."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread in accept() does not notice that its socket is closed under it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self.cut(with_reset=False)

    def swallow(self, *, only_answers: bool) -> None:
        """From now on nothing, or nothing from the server, passes the connections that exist; neither side can tell."""
        for pair in list(self._pairs):
            pair.swallow(only_answers=only_answers)

    def cut(self, *, with_reset: bool) -> int:
        """End all connections, with a TCP reset or in the ordinary way; returns how many there ever were."""
        # Those that exist now: a client may be back before the last one is cut.
        pairs = list(self._pairs)
        for pair in pairs:
            pair.cut(with_reset=with_reset)
        return len(pairs)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._pairs.append(_Pair(near, socket.create_connection(self._target)))
