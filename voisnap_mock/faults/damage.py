"""Bytes of a hub message that were damaged on their way. Pure and seeded."""

from __future__ import annotations

from voisnap_mock.faults.draws import mix

_TURN = 0x15
_OTHERS = 3


def damage(data: bytes, seed: int, *, is_binary: bool) -> bytes:
    """One framed message with some of its bytes changed, the first one among them, so that no client can read it.

    Length and frame stay as they are, and text stays text: it is the message that is broken, not the transport.
    """
    damaged = bytearray(data)
    begin = 0
    if is_binary:
        # The length before the message.
        while damaged[begin] & 0x80:
            begin += 1
        begin += 1
    end = len(damaged) if is_binary else len(damaged) - 1
    places = {begin, *(begin + mix(seed, number) % (end - begin) for number in range(_OTHERS))}
    for place in places:
        if is_binary or place == begin or (damaged[place] < 0x80 and chr(damaged[place]).isalnum()):
            damaged[place] ^= _TURN
    return bytes(damaged)
