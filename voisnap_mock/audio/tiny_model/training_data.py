"""What the network learns from: frames of features, each with the sound that was being made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voisnap_mock.audio.frames import CALLER_RATE
from voisnap_mock.audio.tiny_model.corpus import Engine
from voisnap_mock.audio.tiny_model.features import STEP, WIDTH, WINDOW
from voisnap_mock.audio.tiny_model.jobs import do
from voisnap_mock.audio.tiny_model.phones import SILENCE, Phones, sound_of

NO_LABEL = 255

_PER_JOB = 250
_JOB_TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Utterances.

    Attributes:
        features: the frames of all, one utterance after the other: (frames, WIDTH), 32-bit floats.
        labels: the number of the output that should fire at each frame, `NO_LABEL` where that is not known.
        counts: the frames of each utterance.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    counts: tuple[int, ...]

    @property
    def hours(self) -> float:
        return len(self.labels) * STEP / CALLER_RATE / 3600


def frame_labels(sounds: Sequence[tuple[str, float]], frames: int) -> npt.NDArray[np.uint8]:
    """The label of each frame: what sounds at its middle. `sounds` are names and when they begin, in seconds."""
    outputs = Phones().outputs
    begins, numbers = [0.0], [outputs[SILENCE]]
    for name, begin in sounds:
        try:
            sound = sound_of(name)
        except KeyError:
            numbers.append(NO_LABEL)
        else:
            # A link has no sound of its own: the one before goes on.
            if sound is None:
                continue
            numbers.append(outputs[sound])
        begins.append(begin)
    middles = (np.arange(frames) * STEP + WINDOW / 2) / CALLER_RATE
    return np.array(numbers, np.uint8)[np.searchsorted(begins, middles, side="right") - 1]


def speak(
    wanted: Sequence[tuple[Engine, int]], *, seed: int, processes: int, on_progress: Callable[[int, int], None]
) -> TrainingData:
    """Have utterances spoken: for each engine how many. `on_progress` hears how many of all are done.

    Which process speaks what does not depend on their number.

    Raises:
        JobFailed: a process did not do it.
    """
    jobs = [
        {"job": "utterances", "engine": engine, "seed": seed, "first": first, "count": min(_PER_JOB, total - first)}
        for engine, total in wanted
        for first in range(0, total, _PER_JOB)
    ]
    total, done = sum(count for _, count in wanted), 0
    features, labels, counts = [], [], []
    with ThreadPoolExecutor(processes) as pool:
        for job, (answer, data) in zip(jobs, pool.map(lambda job: do(job, timeout=_JOB_TIMEOUT), jobs), strict=True):
            frames = sum(answer["frames"])
            features.append(np.frombuffer(data, np.float32, frames * WIDTH).reshape(frames, WIDTH))
            labels.append(np.frombuffer(data, np.uint8, frames, offset=features[-1].nbytes))
            counts += answer["frames"]
            done += int(str(job["count"]))
            on_progress(done, total)
    return TrainingData(np.concatenate(features), np.concatenate(labels), tuple(counts))
