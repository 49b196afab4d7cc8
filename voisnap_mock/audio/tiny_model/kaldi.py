"""Kaldi's binary objects, as far as a small neural model needs them: the bytes of `final.mdl`.

Source: Documented by the sources of Kaldi (`base/io-funcs`, `matrix/compressed-matrix`, `hmm/transition-model`,
`nnet3/nnet-nnet`, `nnet3/am-nnet-simple`); that Vosk reads it is shown by a test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

# What marks a stream of Kaldi objects as binary.
_BINARY = b"\0B"
# The chance to stay in a phone for another frame. Both ways out cost the same, so it never decides anything.
_STAY = 0.5


@dataclass(frozen=True, slots=True)
class Affine:
    """A layer `y = weights @ x + bias`.

    Attributes:
        weights: (outputs, inputs).
        in_bytes: store each weight in one byte, on a scale of 256 steps between the least and the greatest.
    """

    weights: Floats
    bias: Floats
    in_bytes: bool = False


@dataclass(frozen=True, slots=True)
class Nonlinear:
    """A layer without weights: `RectifiedLinear` or `LogSoftmax`."""

    kind: str
    width: int


@dataclass(frozen=True, slots=True)
class Component:
    """A layer and what it sees, in nnet3's words: the name of another one, `Append(Offset(a, -3), a)` ..."""

    name: str
    layer: Affine | Nonlinear
    sees: str


def acoustic_model(
    *, pdf_of_phone: Mapping[int, int], width: int, components: Sequence[Component], output: str, priors: Floats
) -> bytes:
    """The content of `final.mdl`.

    Args:
        pdf_of_phone: for each phone, numbered from 1 without gaps, the output that scores it.
        width: numbers in a frame of features, which components see as `input`.
        components: in the order in which they are computed.
        output: what is read off at the end, in nnet3's words.
        priors: for each output how common it is, by which its score is divided; no logarithms.
    """
    config = [f"input-node name=input dim={width}"]
    config += [f"component-node name={c.name} component={c.name} input={c.sees}" for c in components]
    config += [f"output-node name=output input={output} objective=linear"]
    return b"".join(
        (
            _BINARY,
            transition_model(pdf_of_phone),
            token("<Nnet3>"),
            # An empty line ends the configuration.
            "\n".join(["", *config, "", ""]).encode(),
            token("<NumComponents>"),
            integer(len(components)),
            *map(_component, components),
            token("</Nnet3>"),
            # Computed anew by whoever loads the model.
            token("<LeftContext>") + integer(0) + token("<RightContext>") + integer(0),
            token("<Priors>") + vector(priors),
        )
    )


def transition_model(pdf_of_phone: Mapping[int, int]) -> bytes:
    """Phones of one state each, which lasts at least one frame.

    Transition ids, as graphs name them, then are 2k-1 for staying in phone k and 2k for leaving it.
    """
    phones = sorted(pdf_of_phone)
    assert phones == list(range(1, len(phones) + 1)), "phones are numbered from 1 without gaps"
    topology = (
        integers(phones)
        + integers([-1, *(0 for _ in phones)])  # Entry of each phone, from phone 0, which is none.
        + integer(1)  # One entry, of two states:
        + integer(2)
        + (integer(0) + integer(2) + integer(0) + real(_STAY) + integer(1) + real(1 - _STAY))
        + (integer(-1) + integer(0))  # the second one is the end.
    )
    triples = b"".join(integer(phone) + integer(0) + integer(pdf_of_phone[phone]) for phone in phones)
    # Number 0 is no transition.
    logarithms = [0.0, *chain.from_iterable((np.log(_STAY), np.log(1 - _STAY)) for _ in phones)]
    return b"".join(
        (
            token("<TransitionModel>"),
            token("<Topology>") + topology + token("</Topology>"),
            token("<Triples>") + integer(len(phones)) + triples + token("</Triples>"),
            token("<LogProbs>") + vector(np.array(logarithms)) + token("</LogProbs>"),
            token("</TransitionModel>"),
        )
    )


def _component(component: Component) -> bytes:
    named = token("<ComponentName>") + token(component.name)
    match component.layer:
        case Affine(weights, bias, in_bytes):
            parameters = (
                token("<LinearParams>")
                + (byte_matrix(weights) if in_bytes else matrix(weights))
                + token("<BiasParams>")
                + vector(bias)
            )
            return named + token("<FixedAffineComponent>") + parameters + token("</FixedAffineComponent>")
        case Nonlinear(kind, width):
            nothing = vector(np.zeros(0))
            statistics = (
                (token("<ValueAvg>") + nothing + token("<DerivAvg>") + nothing + token("<Count>") + double(0.0))
                + (token("<OderivRms>") + nothing + token("<OderivCount>") + double(0.0))
                + (token("<NumDimsSelfRepaired>") + double(0.0) + token("<NumDimsProcessed>") + double(0.0))
            )
            name = f"{kind}Component>"
            return named + token(f"<{name}") + token("<Dim>") + integer(width) + statistics + token(f"</{name}")


# --- Objects ------------------------------------------------------------------------------------------------------


def token(text: str) -> bytes:
    """A word; a space ends it."""
    return text.encode() + b" "


def integer(value: int) -> bytes:
    """A 32-bit integer behind its size."""
    return struct.pack("<bi", 4, value)


def real(value: float) -> bytes:
    """A 32-bit float behind its size."""
    return struct.pack("<bf", 4, value)


def double(value: float) -> bytes:
    """A 64-bit float behind its size."""
    return struct.pack("<bd", 8, value)


def integers(values: Iterable[int]) -> bytes:
    """A vector of 32-bit integers: the size of each, their number, and the bare values."""
    array = np.fromiter(values, "<i4")
    return struct.pack("<bi", 4, len(array)) + array.tobytes()


def vector(values: Floats) -> bytes:
    """A vector of 32-bit floats."""
    array = np.asarray(values, "<f4")
    return token("FV") + integer(len(array)) + array.tobytes()


def matrix(values: Floats) -> bytes:
    """A matrix of 32-bit floats, row by row."""
    array = np.asarray(values, "<f4", order="C")
    return token("FM") + integer(array.shape[0]) + integer(array.shape[1]) + array.tobytes()


def byte_matrix(values: Floats) -> bytes:
    """A matrix in one byte per value: `least + byte * range / 255`. Kaldi reads it wherever it reads a matrix."""
    least = float(values.min())
    extent = float(values.max()) - least
    steps: npt.NDArray[np.uint8] = np.rint((values - least) / (extent or 1.0) * 255).astype(np.uint8)
    return token("CM3") + struct.pack("<ffii", least, extent, *values.shape) + steps.tobytes(order="C")
