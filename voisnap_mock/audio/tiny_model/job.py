"""A process that reads texts for the tiny model and ends: `python -m voisnap_mock.audio.tiny_model.job`.

A process for each job, since espeak must not run in the server, and what it says depends a little on what it said
before: a job that begins afresh gives the same samples every time, whatever else runs.

One message comes in and one goes out, in the format of `audio.espeak_worker`. Jobs are

- `{"job": "phonemes", "texts": [text, ...], "voices": [voice, ...]}`, answered by `{"engine", "spoken"}`: for each
  voice and in it each text the spoken words, each a list of phonemes;
- `{"job": "utterances", "engine", "seed", "first", "count"}`, answered by `{"frames": [count, ...]}`, the number of
  frames of each utterance, with the features of all as 32-bit floats and then their labels, a byte per frame;
- `{"job": "say", "utterances": [[engine, text, voice, rate, pitch], ...]}`, answered by `{"bytes": [size, ...]}` with
  the 16 kHz PCM of all, one after the other.

An answer `{"problem"}` says why there is none.
"""

from __future__ import annotations

import os
import sys
from random import Random
from typing import Any, BinaryIO, cast

from voisnap_mock.audio.espeak_worker import EngineMissing, Message, receive, send
from voisnap_mock.audio.frames import CALLER_RATE


def _phonemes(job: Message) -> tuple[Message, bytes]:
    from voisnap_mock.audio.tiny_model.synthesis import Reader

    reader = Reader()
    spoken = [[reader.phonemes(text, voice) for text in job["texts"]] for voice in job["voices"]]
    return {"engine": reader.name, "spoken": spoken}, b""


def _utterances(job: Message) -> tuple[Message, bytes]:
    import numpy as np

    from voisnap_mock.audio.tiny_model.corpus import utterances
    from voisnap_mock.audio.tiny_model.features import cepstra
    from voisnap_mock.audio.tiny_model.synthesis import Reader
    from voisnap_mock.audio.tiny_model.training_data import frame_labels

    reader = Reader()
    features, labels = [], []
    for utterance in utterances(job["engine"], job["seed"], job["first"], job["count"]):
        learnt = _learnt(reader, utterance)
        if learnt is None:
            continue
        audio, sounds = learnt
        frames = cepstra(audio)
        features.append(frames)
        labels.append(frame_labels(sounds, len(frames)))
    counts = [len(each) for each in labels]
    if not counts:
        return {"frames": []}, b""
    return {"frames": counts}, np.concatenate(features).tobytes() + np.concatenate(labels).tobytes()


def _learnt(reader: Any, utterance: Any) -> tuple[Any, list[tuple[str, float]]] | None:
    """An utterance as it arrives at the ear, and when its phonemes begin; None when it teaches nothing."""
    import numpy as np
    import soxr

    from voisnap_mock.audio.tiny_model import flite
    from voisnap_mock.audio.tiny_model.degradations import degraded

    text, voice = utterance.text, utterance.voice
    if utterance.engine == "flite":
        phonemes = [name for word in reader.phonemes(text, "en-us") for name in word]
        stretch = utterance.rate / 100
        spoken = flite.say(text, voice, stretch=stretch, pitch=utterance.pitch, phonemes=phonemes)
    else:
        spoken = reader.say(
            text,
            voice,
            rate=utterance.rate,
            pitch=utterance.pitch,
            pitch_range=utterance.pitch_range,
            seed=utterance.seed,
        )
    if spoken is None or not spoken.sounds:
        return None
    audio = soxr.resample(spoken.samples.astype(np.float32), spoken.sample_rate, CALLER_RATE * utterance.tempo)
    heard, before = degraded(audio, Random(utterance.seed))
    return heard, [(name, before + begin * utterance.tempo) for name, begin in spoken.sounds]


def _say(job: Message) -> tuple[Message, bytes]:
    from voisnap_mock.audio.frames import resample
    from voisnap_mock.audio.tiny_model import flite
    from voisnap_mock.audio.tiny_model.synthesis import Reader

    reader = Reader()
    said = []
    for engine, text, voice, rate, pitch in job["utterances"]:
        if engine == "flite":
            recorded = flite.record(text, voice)
            if recorded is None:
                raise ValueError(f"flite cannot say {text!r} with voice {voice!r}")
            said.append(resample(recorded.pcm, recorded.sample_rate, CALLER_RATE))
        else:
            spoken = reader.say(text, voice, rate=rate, pitch=pitch, pitch_range=50)
            said.append(resample(spoken.samples.tobytes(), spoken.sample_rate, CALLER_RATE))
    return {"bytes": [len(pcm) for pcm in said]}, b"".join(said)


_JOBS = {"phonemes": _phonemes, "utterances": _utterances, "say": _say}


def main() -> int:
    """Do the job of standard input."""
    job = receive(sys.stdin.buffer)
    answers = cast(BinaryIO, os.fdopen(os.dup(1), "wb"))
    # Libraries print where they like; only the answer may go out.
    os.dup2(2, 1)
    if job is None:
        return 1
    try:
        answer, data = _JOBS[job[0]["job"]](job[0])
    except (EngineMissing, ValueError) as error:
        answer, data = {"problem": str(error)}, b""
    send(answers, answer, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
