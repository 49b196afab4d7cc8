"""A time-delay neural network and its training, in numpy.

It reads features at 100 frames a second and scores the sounds at every third frame. Each hidden layer sees three
outputs of the one before, 30 ms apart; the first sees seven neighbouring frames. All together it sees 120 ms to each
side: so much speech has to have followed before a sound is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voisnap_mock.audio.tiny_model.features import WIDTH
from voisnap_mock.audio.tiny_model.training_data import NO_LABEL, TrainingData

Floats = npt.NDArray[np.float32]

STRIDE = 3
"""Frames from score to score. Vosk's word times count on it."""
HIDDEN_LAYERS = 4
FIRST_OFFSETS = tuple(range(-3, 4))
"""The frames that the first layer sees."""
OFFSETS = (-STRIDE, 0, STRIDE)
"""The frames whose outputs every later hidden layer sees."""

_MARGIN = STRIDE * (HIDDEN_LAYERS - 1)
_PADDING = _MARGIN + FIRST_OFFSETS[-1]

_CHUNK = 50
_LEARNING_RATE, _LAST_LEARNING_RATE = 2e-3, 1e-6
_WARM_UP_STEPS = 100
_MOMENTUM, _SPREAD_MOMENTUM, _LEAST_SPREAD = 0.9, 0.999, 1e-8
# Every chunk comes through a microphone of its own: a constant offset of its features, up to so many deviations.
# Voices and lines that were never heard are understood much better for it.
_CHANNEL = 0.8


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network.

    Attributes:
        mean, deviation: of the features; the first layer sees them normalised.
        weights: for each layer (inputs, outputs), the last one without a non-linearity.
        biases: for each layer (outputs,).
        priors: for each output how often it was right.
    """

    mean: Floats
    deviation: Floats
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    priors: Floats


@dataclass(frozen=True, slots=True)
class Progress:
    """How training stands.

    Attributes:
        epoch: from 1.
        done: the part of all training that is over, 0 to 1.
        accuracy: the part of frames whose sound was right, since the epoch began.
    """

    epoch: int
    epochs: int
    done: float
    accuracy: float


def train(
    data: TrainingData,
    *,
    outputs: int,
    hidden: int,
    epochs: int,
    seed: int,
    on_progress: Callable[[Progress], None],
    chunks: int = 64,
) -> Network:
    """Train a network of `hidden` units a layer until it has seen all data `epochs` times.

    Each step looks at `chunks` pieces of 1.5 s: with fewer there are more steps.
    """
    rng = np.random.default_rng(seed)
    mean, deviation = data.features.mean(axis=0, dtype=np.float64), data.features.std(axis=0, dtype=np.float64)
    frames, labels = _padded(data, mean.astype(np.float32), deviation.astype(np.float32))
    weights, biases = _begin(outputs, hidden, rng)
    parameters = [*weights, *biases]
    momenta = [np.zeros_like(each) for each in parameters]
    spreads = [np.zeros_like(each) for each in parameters]

    inner = STRIDE * np.arange(-(HIDDEN_LAYERS - 1), _CHUNK + HIDDEN_LAYERS - 1)
    last_begin = len(labels) - STRIDE * _CHUNK - _PADDING
    steps_per_epoch = max(1, round(len(labels) / (STRIDE * chunks * _CHUNK)))
    steps = steps_per_epoch * epochs
    right = counted = 0
    for step in range(1, steps + 1):
        begins = rng.integers(_PADDING, last_begin, chunks)
        seen = frames[(begins[:, None] + inner)[:, :, None] + np.array(FIRST_OFFSETS)]
        channel = rng.standard_normal((chunks, 1, 1, WIDTH), np.float32) * rng.random((chunks, 1, 1, 1), np.float32)
        seen += np.float32(_CHANNEL) * channel
        wanted = labels[begins[:, None] + STRIDE * np.arange(_CHUNK)].reshape(-1)

        scores, kept = forward(weights, biases, seen.reshape(*seen.shape[:2], -1))
        gradients = backward(weights, scores, wanted, kept)

        rate = _LAST_LEARNING_RATE + _LEARNING_RATE * min(1.0, step / _WARM_UP_STEPS) * _cosine(step / steps)
        for at, gradient in enumerate(gradients):
            momenta[at] += (1 - _MOMENTUM) * (gradient - momenta[at])
            spreads[at] += (1 - _SPREAD_MOMENTUM) * (gradient**2 - spreads[at])
            slope = momenta[at] / np.float32(1 - _MOMENTUM**step)
            steepness = np.sqrt(spreads[at] / np.float32(1 - _SPREAD_MOMENTUM**step)) + np.float32(_LEAST_SPREAD)
            parameters[at] -= np.float32(rate) * slope / steepness

        known = wanted != NO_LABEL
        right += int((scores[known].argmax(axis=1) == wanted[known]).sum())
        counted += int(known.sum())
        on_progress(Progress((step - 1) // steps_per_epoch + 1, epochs, step / steps, right / max(counted, 1)))
        if step % steps_per_epoch == 0:
            right = counted = 0
    occurrences = np.bincount(data.labels[data.labels != NO_LABEL], minlength=outputs)
    # A sound that never occurred gets the prior of one that occurred once.
    priors = np.maximum(occurrences, 1) / occurrences.sum()
    return Network(
        mean.astype(np.float32),
        deviation.astype(np.float32),
        tuple(weights),
        tuple(biases),
        priors.astype(np.float32),
    )


def forward(
    weights: Sequence[Floats], biases: Sequence[Floats], seen: Floats
) -> tuple[Floats, list[tuple[Floats, Floats]]]:
    """The logarithms of the sounds' likelihoods, and what `backward` needs: each layer's input and output.

    Args:
        seen: (chunks, steps, inputs of the first layer), a step every `STRIDE` frames.

    Returns:
        The logarithms are (chunks * steps', outputs), where each hidden layer but the first has cost two steps.
    """
    kept = []
    values = seen
    for layer in range(HIDDEN_LAYERS):
        if layer:
            values = np.concatenate([values[:, :-2], values[:, 1:-1], values[:, 2:]], axis=2)
        summed = values.reshape(-1, values.shape[2]) @ weights[layer] + biases[layer]
        result = np.maximum(summed, 0, out=summed).reshape(*values.shape[:2], -1)
        kept.append((values, result))
        values = result
    scores = values.reshape(-1, values.shape[2]) @ weights[-1] + biases[-1]
    scores -= scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores, kept


def backward(
    weights: Sequence[Floats],
    scores: Floats,
    wanted: npt.NDArray[np.uint8],
    kept: Sequence[tuple[Floats, Floats]],
) -> list[Floats]:
    """The gradients of the mean cross-entropy: of all weights, then of all biases."""
    known = wanted != NO_LABEL
    error = np.exp(scores)
    error[np.flatnonzero(known), wanted[known]] -= 1
    error *= known[:, None] / np.float32(max(1, known.sum()))
    last = kept[-1][1]
    of_weights: list[Floats] = [last.reshape(-1, last.shape[2]).T @ error]
    of_biases: list[Floats] = [error.sum(axis=0)]
    flowing: Floats = (error @ weights[-1].T).reshape(last.shape)
    for layer in reversed(range(HIDDEN_LAYERS)):
        values, result = kept[layer]
        flowing = (flowing * (result > 0)).reshape(-1, result.shape[2])
        of_weights.insert(0, values.reshape(-1, values.shape[2]).T @ flowing)
        of_biases.insert(0, flowing.sum(axis=0))
        if layer:
            spread = (flowing @ weights[layer].T).reshape(values.shape)
            before = kept[layer - 1][1]
            steps, width = values.shape[1], before.shape[2]
            flowing = np.zeros_like(before)
            for tap in range(len(OFFSETS)):
                flowing[:, tap : tap + steps] += spread[:, :, tap * width : (tap + 1) * width]
    return of_weights + of_biases


def _begin(outputs: int, hidden: int, rng: np.random.Generator) -> tuple[list[Floats], list[Floats]]:
    inputs = [WIDTH * len(FIRST_OFFSETS), *[hidden * len(OFFSETS)] * (HIDDEN_LAYERS - 1)]
    weights = [rng.standard_normal((width, hidden), np.float32) * np.float32(np.sqrt(2 / width)) for width in inputs]
    weights += [rng.standard_normal((hidden, outputs), np.float32) * np.float32(0.05)]
    return weights, [np.zeros(each.shape[1], np.float32) for each in weights]


def _padded(data: TrainingData, mean: Floats, deviation: Floats) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """All utterances in a row, normalised, each with its outermost frames repeated at its ends, as Vosk does it."""
    size = len(data.labels) + 2 * _PADDING * len(data.counts) + STRIDE * _CHUNK
    frames = np.zeros((size, WIDTH), np.float32)
    labels = np.full(size, NO_LABEL, np.uint8)
    at = begin = 0
    for count in data.counts:
        utterance = (data.features[begin : begin + count] - mean) / deviation
        frames[at : at + count + 2 * _PADDING] = np.pad(utterance, ((_PADDING, _PADDING), (0, 0)), mode="edge")
        labels[at + _PADDING : at + _PADDING + count] = data.labels[begin : begin + count]
        at += count + 2 * _PADDING
        begin += count
    return frames, labels


def _cosine(done: float) -> float:
    return float(0.5 + 0.5 * np.cos(np.pi * done))
