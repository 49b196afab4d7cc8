"""Damaged messages: the same damage for the same seed, and never one that still can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.faults.damage import damage
from voisnap_mock.signalr import JsonHubProtocol, MessagePackHubProtocol, RemoteProtocolError
from voisnap_mock.signalr.messages import Completion, Invocation
from voisnap_mock.signalr.protocols import AnyTypes, HubProtocol

MESSAGES = [
    Invocation("Transcription", ({"text": "Grüße, 你好", "isFinal": True},)),
    Invocation("AudioReceived", (b"\0\1" * 480,)),
    Completion("7", None),
]


@pytest.mark.parametrize("protocol", [JsonHubProtocol(), MessagePackHubProtocol()], ids=lambda each: each.name)
@given(message=st.sampled_from(MESSAGES), seed=st.integers(0, 2**64 - 1))
def test_a_damaged_message_is_cut_out_as_before_and_cannot_be_parsed(
    protocol: HubProtocol, message: Invocation | Completion, seed: int
) -> None:
    whole = protocol.serialize(message)
    damaged = damage(whole, seed, is_binary=protocol.name == "messagepack")
    assert damaged == damage(whole, seed, is_binary=protocol.name == "messagepack")
    assert len(damaged) == len(whole)
    if protocol.name == "json":
        damaged.decode()
    cut = protocol.next_record(damaged, 0, None)
    assert cut is not None
    assert cut[1] == len(whole)
    with pytest.raises(RemoteProtocolError):
        protocol.parse(cut[0], AnyTypes())


def test_the_answer_to_a_handshake_can_be_damaged() -> None:
    assert damage(b"{}\x1e", 5, is_binary=False) == b"n}\x1e"
