"""The network learns, and its gradients are the slopes of its loss."""

from __future__ import annotations

import numpy as np
import pytest

from voisnap_mock.audio.tiny_model.features import WIDTH
from voisnap_mock.audio.tiny_model.network import (
    FIRST_OFFSETS,
    HIDDEN_LAYERS,
    OFFSETS,
    Progress,
    backward,
    forward,
    train,
)
from voisnap_mock.audio.tiny_model.training_data import NO_LABEL, TrainingData

OUTPUTS, HIDDEN = 5, 4


def layers(rng: np.random.Generator, inputs: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    widths = [inputs * len(FIRST_OFFSETS), *[HIDDEN * len(OFFSETS)] * (HIDDEN_LAYERS - 1)]
    weights = [rng.standard_normal((width, HIDDEN)) for width in widths] + [rng.standard_normal((HIDDEN, OUTPUTS))]
    return weights, [rng.standard_normal(each.shape[1]) for each in weights]


def loss(weights: list[np.ndarray], biases: list[np.ndarray], seen: np.ndarray, wanted: np.ndarray) -> float:
    scores, _ = forward(weights, biases, seen)
    known = wanted != NO_LABEL
    return -float(scores[known, wanted[known]].mean())


def test_gradients_are_the_slopes_of_the_loss() -> None:
    rng = np.random.default_rng(3)
    weights, biases = layers(rng, inputs=2)
    # Steps of context on both sides of two chunks of three steps.
    seen = rng.standard_normal((2, 3 + 2 * (HIDDEN_LAYERS - 1), 2 * len(FIRST_OFFSETS)))
    wanted = np.array([0, 1, NO_LABEL, 4, 3, 2], np.uint8)
    scores, kept = forward(weights, biases, seen)
    assert scores.shape == (6, OUTPUTS)
    assert np.exp(scores).sum(axis=1) == pytest.approx(1.0)
    gradients = backward(weights, scores, wanted, kept)
    for parameter, gradient in zip([*weights, *biases], gradients, strict=True):
        assert gradient.shape == parameter.shape
        flat = parameter.reshape(-1)
        for at in rng.integers(0, flat.size, 4):
            slopes = []
            for step in (1e-5, -1e-5):
                flat[at] += step
                slopes.append(loss(weights, biases, seen, wanted))
                flat[at] -= step
            assert (slopes[0] - slopes[1]) / 2e-5 == pytest.approx(gradient.reshape(-1)[at], abs=1e-5)


def data(utterances: int = 12) -> TrainingData:
    """Three sounds that differ in one feature each, 20 frames at a time."""
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.integers(0, 3, utterances * 10), 20).astype(np.uint8)
    features = rng.standard_normal((len(labels), WIDTH), np.float32)
    features[np.arange(len(labels)), labels] += 6.0
    labels[::50] = NO_LABEL
    return TrainingData(features, labels, (200,) * utterances)


def test_it_learns_what_can_be_learnt_and_tells_how_it_is_getting_on() -> None:
    told: list[Progress] = []
    train(data(60), outputs=4, hidden=12, epochs=15, seed=1, chunks=8, on_progress=told.append)
    assert told[-1].done == 1.0
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert (told[0].epoch, told[-1].epoch) == (1, 15)
    assert told[-1].accuracy > 0.9


def test_the_same_seed_learns_the_same_another_one_does_not() -> None:
    networks = [train(data(), outputs=4, hidden=6, epochs=2, seed=seed, on_progress=print) for seed in (1, 1, 2)]
    one, same, other = (network.weights[0].tobytes() for network in networks)
    assert one == same != other


def test_an_output_that_never_fires_has_a_prior_all_the_same() -> None:
    network = train(data(), outputs=4, hidden=6, epochs=1, seed=1, on_progress=lambda progress: None)
    assert network.priors.shape == (4,)
    assert (network.priors > 0).all()
    assert network.priors[:3].sum() == pytest.approx(1.0)
