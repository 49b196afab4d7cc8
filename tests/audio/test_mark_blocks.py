"""The block of a mark: what is written into samples is read from them, and hardly anything else is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.mark_blocks import (
    BLOCK_SAMPLES,
    Block,
    carried_bits,
    embed,
    parse_block,
    serialize_block,
    sync_positions,
)

HELLO = Block(is_agent=False, utterance=5, index=0, total=1, number=0, count=2, fragment=0, fragments=1, text=b"hello")


def written(block: Block, host: int = 0) -> np.ndarray:
    samples = np.full(BLOCK_SAMPLES, host, np.int16)
    embed(samples, serialize_block(block))
    return samples


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    total = draw(st.integers(1, 65_535))
    count = draw(st.integers(1, 1023))
    number = draw(st.integers(0, count - 1))
    fragments = draw(st.integers(1, 16))
    return Block(
        is_agent=draw(st.booleans()),
        utterance=draw(st.integers(0, (1 << 24) - 1)),
        index=draw(st.integers(0, total - 1)),
        total=total,
        number=number,
        count=count,
        fragment=number % fragments,
        fragments=fragments,
        text=draw(st.binary(max_size=22)),
    )


@given(blocks(), st.integers(-32_768, 32_767))
def test_every_block_is_read_as_it_was_written(block: Block, host: int) -> None:
    assert parse_block(carried_bits(written(block, host))) == block


@pytest.mark.parametrize("error", [-7, 7])
@pytest.mark.parametrize("host", [-32_768, -1, 0, 32_767])
def test_an_error_of_seven_is_tolerated_up_to_full_scale(host: int, error: int) -> None:
    samples = np.clip(written(HELLO, host).astype(np.int32) + error, -32_768, 32_767).astype(np.int16)
    assert parse_block(carried_bits(samples)) == HELLO


@given(st.integers(16, BLOCK_SAMPLES - 1))
def test_one_wrong_bit_anywhere_behind_the_sync_spoils_the_block(place: int) -> None:
    samples = written(HELLO)
    samples[place] ^= 16
    assert parse_block(carried_bits(samples)) is None


@pytest.mark.parametrize("lead", [0, 1, 7, 319, 1000])
def test_the_sync_is_found_at_any_sample(lead: int) -> None:
    samples = np.concatenate((np.zeros(lead, np.int16), written(HELLO)))
    count = len(samples)
    found = sync_positions(carried_bits(samples), count)
    assert found >> (count - 1 - lead) & 1
    assert parse_block(carried_bits(samples)) == HELLO


def test_a_field_that_does_not_fit_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="utterance"):
        serialize_block(Block(False, 1 << 24, 0, 1, 0, 1, 0, 1, b""))
