"""The STUN responder, asked by another implementation of STUN."""

from __future__ import annotations

import asyncio

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.webrtc.stun import StunResponder, binding_answer


def request() -> stun.Message:
    return stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)


@pytest.mark.parametrize("host", ["127.0.0.1", "2001:db8::7"])
def test_an_answer_names_the_address_of_who_asked(host: str) -> None:
    asked = request()
    answer = binding_answer(bytes(asked), host, 50_000)
    assert answer is not None
    read = stun.parse_message(answer)
    assert (read.message_class, read.transaction_id) == (stun.Class.RESPONSE, asked.transaction_id)
    assert read.attributes["XOR-MAPPED-ADDRESS"] == (host, 50_000)


@given(st.binary(max_size=64))
def test_anything_else_is_not_answered(noise: bytes) -> None:
    assert binding_answer(noise, "127.0.0.1", 1) is None


async def test_it_answers_on_its_port() -> None:
    responder = await StunResponder.open("127.0.0.1")
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Asking(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            answered.set_result(data)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Asking, remote_addr=("127.0.0.1", responder.port)
    )
    transport.sendto(b"what is this")
    transport.sendto(bytes(request()))
    read = stun.parse_message(await asyncio.wait_for(answered, 5))
    assert read.attributes["XOR-MAPPED-ADDRESS"] == transport.get_extra_info("sockname")
    transport.close()
    responder.close()
