"""Kaldi's objects as bytes. That Vosk itself reads them is shown in `test_building`."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.tiny_model import kaldi


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (kaldi.token("<Nnet3>"), "3c4e6e6574333e20"),
        (kaldi.integer(-2), "04feffffff"),
        (kaldi.real(1.5), "040000c03f"),
        (kaldi.double(1.5), "08000000000000f83f"),
        (kaldi.integers([1, 258]), "04020000000100000002010000"),
        (kaldi.vector(np.array([1.5])), "46562004010000000000c03f"),
        (kaldi.vector(np.zeros(0)), "4656200400000000"),
        (kaldi.matrix(np.array([[1.5, 0.0]])), "464d20040100000004020000000000c03f00000000"),
        (kaldi.byte_matrix(np.array([[-1.0], [1.0]])), "434d3320000080bf00000040020000000100000000ff"),
    ],
)
def test_an_object_is_these_bytes(written: bytes, expected: str) -> None:
    assert written.hex() == expected


matrices = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=4)


@given(matrices)
def test_weights_in_bytes_are_off_by_half_a_step_at_most(rows: list[list[float]]) -> None:
    values = np.array(rows)
    written = kaldi.byte_matrix(values)
    least, extent, height, width = struct.unpack_from("<ffii", written, 4)
    steps = np.frombuffer(written, np.uint8, offset=20).reshape(height, width)
    assert np.abs(least + steps * (extent / 255) - values).max() <= extent / 255 / 2 + 1e-4


def test_a_transition_model_lists_phones_by_number() -> None:
    written = kaldi.transition_model({1: 0, 2: 1, 3: 1})
    triples = written[written.index(b"<Triples> ") :]
    expected = kaldi.integer(3) + b"".join(map(kaldi.integer, [1, 0, 0, 2, 0, 1, 3, 0, 1])) + b"</Triples>"
    assert triples.removeprefix(b"<Triples> ").startswith(expected)


def test_an_acoustic_model_says_how_its_layers_are_joined() -> None:
    affine = kaldi.Affine(np.eye(2), np.zeros(2))
    written = kaldi.acoustic_model(
        pdf_of_phone={1: 0, 2: 1},
        width=2,
        components=[
            kaldi.Component("one", affine, "Append(Offset(input, -1), input)"),
            kaldi.Component("two", kaldi.Nonlinear("LogSoftmax", 2), "one"),
        ],
        output="two",
        priors=np.array([0.5, 0.5]),
    )
    assert written.startswith(b"\0B<TransitionModel> ")
    config = written[written.index(b"<Nnet3> ") : written.index(b"<NumComponents>")].decode()
    assert config.splitlines()[1:] == [
        "input-node name=input dim=2",
        "component-node name=one component=one input=Append(Offset(input, -1), input)",
        "component-node name=two component=two input=one",
        "output-node name=output input=two objective=linear",
        "",
    ]
    assert written.endswith(b"<Priors> " + kaldi.vector(np.array([0.5, 0.5])))
