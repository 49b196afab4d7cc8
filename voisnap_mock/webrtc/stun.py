"""A STUN responder: tells whoever asks from which address it was asked (RFC 8489, the Binding method alone).

Nobody needs it for a call; it is there for clients whose code expects a STUN server that answers, since a server that
does not answer stalls some of them for half a minute.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct

_MAGIC = 0x2112A442
_BINDING_REQUEST, _BINDING_SUCCESS = 0x0001, 0x0101
_XOR_MAPPED_ADDRESS = 0x0020
_HEADER = struct.Struct("!HHI12s")


def binding_answer(request: bytes, host: str, port: int) -> bytes | None:
    """The answer to a Binding request that came from `host` and `port`; None for anything else."""
    if len(request) < _HEADER.size:
        return None
    kind, length, magic, transaction = _HEADER.unpack_from(request)
    if kind != _BINDING_REQUEST or magic != _MAGIC or len(request) != _HEADER.size + length:
        return None
    address = ipaddress.ip_address(host)
    mask = struct.pack("!I", magic) + transaction
    masked = bytes(one ^ other for one, other in zip(address.packed, mask, strict=False))
    family = 1 if address.version == 4 else 2
    value = struct.pack("!BBH", 0, family, port ^ (magic >> 16)) + masked
    attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(_BINDING_SUCCESS, len(attribute), magic, transaction) + attribute


class StunResponder(asyncio.DatagramProtocol):
    """Answers on one UDP port until it is closed.

    Attributes:
        port: where.
    """

    def __init__(self) -> None:
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(cls, host: str) -> StunResponder:
        """Answer on a free port of `host`. Raises OSError."""
        _, responder = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=(host, 0))
        return responder

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = binding_answer(data, addr[0], addr[1])
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
