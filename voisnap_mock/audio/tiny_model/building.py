"""A whole model: speech is synthesised, a network learns from it, and the folder that Vosk loads is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import numpy as np

from voisnap_mock.audio.tiny_model.corpus import Engine
from voisnap_mock.audio.tiny_model.features import MFCC_CONF, WIDTH
from voisnap_mock.audio.tiny_model.flite import has_flite
from voisnap_mock.audio.tiny_model.folders import checksum, language_files
from voisnap_mock.audio.tiny_model.kaldi import Affine, Component, Nonlinear, acoustic_model
from voisnap_mock.audio.tiny_model.lexicon import Bigrams, Lexicon, count_bigrams
from voisnap_mock.audio.tiny_model.network import FIRST_OFFSETS, OFFSETS, STRIDE, Network, Progress, train
from voisnap_mock.audio.tiny_model.phones import Phones
from voisnap_mock.audio.tiny_model.pronouncing import pronounce
from voisnap_mock.audio.tiny_model.sentences import sentence, vocabulary
from voisnap_mock.audio.tiny_model.training_data import speak

MODEL_CONF = f"""\
--min-active=200
--max-active=3000
--beam=13.0
--lattice-beam=6.0
--acoustic-scale=0.5
--frame-subsampling-factor={STRIDE}
--frames-per-chunk=12
--determinize-max-delay=15
--determinize-min-chunk-size=5
--endpoint.silence-phones=1
--endpoint.rule2.min-trailing-silence=0.5
--endpoint.rule3.min-trailing-silence=0.75
--endpoint.rule4.min-trailing-silence=1.0
"""
"""The content of `conf/model.conf`. Small chunks make partial texts quick, and cost little with so small a network."""

_LANGUAGE_SENTENCES = 30_000
_SPOKEN_SENTENCES = 1_500
# The score of "anything but silence" for unknown words. Lower and words sound unknown, higher and none does.
_FILLER = 1.0
_FILLER_SLOPE = 8.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much a build takes.

    Attributes:
        espeak, flite: utterances to learn from. Flite's are left out where it is not installed.
        hidden: units in each hidden layer.
        epochs: how often everything is learnt from.
        chunks: as for `train`.
    """

    espeak: int
    flite: int
    hidden: int
    epochs: int
    chunks: int = 64


SIZES: Mapping[str, Size] = {
    "quick": Size(espeak=3_000, flite=0, hidden=96, epochs=8),
    "middle": Size(espeak=6_000, flite=0, hidden=128, epochs=8),
    "full": Size(espeak=12_000, flite=5_000, hidden=256, epochs=6),
}


@dataclass(frozen=True, slots=True)
class Built:
    """What a build has made.

    Attributes:
        files: for each path below the model's folder the content.
        missing: words that could not be pronounced.
        accuracy: the part of frames whose sound was right at the end.
    """

    files: Mapping[str, bytes]
    words: int
    missing: tuple[str, ...]
    hours: float
    accuracy: float
    engine: str

    @property
    def checksum(self) -> str:
        return checksum(self.files)


def build(size: Size, *, seed: int, processes: int, on_progress: Callable[[str, float], None]) -> Built:
    """Make a model. `on_progress` hears what is being done and the part of it that is done, 0 to 1.

    Raises:
        JobFailed: espeak cannot be used here.
    """
    wanted: list[tuple[Engine, int]] = [("espeak", size.espeak)]
    if size.flite and has_flite():
        wanted.append(("flite", size.flite))
    phones = Phones()
    # First, since it is quick and shows whether espeak works.
    on_progress("pronouncing", 0.0)
    lexicon, engine = base_lexicon(seed)
    on_progress("pronouncing", 1.0)
    data = speak(
        wanted,
        seed=seed,
        processes=processes,
        on_progress=lambda done, total: on_progress("speaking", done / total),
    )
    accuracy = 0.0

    def training(progress: Progress) -> None:
        nonlocal accuracy
        accuracy = progress.accuracy
        on_progress(f"learning, {progress.accuracy:.0%} of sounds right", progress.done)

    network = train(
        data,
        outputs=len(phones.outputs),
        hidden=size.hidden,
        epochs=size.epochs,
        seed=seed,
        chunks=size.chunks,
        on_progress=training,
    )
    rng = Random(f"{seed} language")
    bigrams = count_bigrams(sentence(rng) for _ in range(_LANGUAGE_SENTENCES))
    return Built(
        files=model_files(network, lexicon, bigrams, phones),
        words=len(lexicon),
        missing=tuple(word for word in vocabulary() if word not in lexicon),
        hours=data.hours,
        accuracy=accuracy,
        engine=engine,
    )


def base_lexicon(seed: int) -> tuple[Lexicon, str]:
    """The pronunciations of the whole vocabulary, and the synthesiser's name.

    Raises:
        JobFailed: espeak cannot be used here.
    """
    rng = Random(f"{seed} pronunciation")
    return pronounce(vocabulary(), sentences=[sentence(rng) for _ in range(_SPOKEN_SENTENCES)])


def model_files(network: Network, lexicon: Lexicon, bigrams: Bigrams, phones: Phones) -> dict[str, bytes]:
    """The folder of a model: for each path below it the content."""
    return {
        "am/final.mdl": final_mdl(network, phones),
        "conf/mfcc.conf": MFCC_CONF.encode(),
        "conf/model.conf": MODEL_CONF.encode(),
        **language_files(lexicon, bigrams, phones),
    }


def final_mdl(network: Network, phones: Phones) -> bytes:
    """The acoustic model: the network, and one output more, for unknown words.

    That output is a constant score wherever there is no silence: better than sounds that fit badly, worse than those
    that fit well. A loop of all sounds would do it too, but swallows everything and makes Vosk slow.
    """
    # Normalisation stays apart: in the first layer's weights it would ask too much of one byte each.
    components = [
        Component("normal", Affine(np.diag(1 / network.deviation), -network.mean / network.deviation), "input")
    ]
    source = "normal"
    last = len(network.weights) - 1
    for number, (weights, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        offsets = FIRST_OFFSETS if number == 0 else OFFSETS if number < last else (0,)
        affine = Component(f"layer{number}", Affine(weights.T, bias, in_bytes=True), _spliced(source, offsets))
        components.append(affine)
        source = affine.name
        if number < last:
            source = f"active{number}"
            components.append(Component(source, Nonlinear("RectifiedLinear", len(bias)), affine.name))
    width = len(phones.outputs)
    pick_silence = np.eye(1, width)
    components += [
        Component("sounds", Nonlinear("LogSoftmax", width), source),
        Component("silence", Affine(pick_silence, np.ones(1)), "sounds"),
        Component("is_silent", Nonlinear("RectifiedLinear", 1), "silence"),
        Component("unknown", Affine(np.full((1, 1), -_FILLER_SLOPE), np.zeros(1)), "is_silent"),
    ]
    return acoustic_model(
        pdf_of_phone=phones.pdf_of_phone,
        width=WIDTH,
        components=components,
        output="Append(sounds, unknown)",
        priors=np.append(network.priors, np.exp(-_FILLER)),
    )


def _spliced(source: str, offsets: tuple[int, ...]) -> str:
    if offsets == (0,):
        return source
    seen = (source if offset == 0 else f"Offset({source}, {offset})" for offset in offsets)
    return f"Append({', '.join(seen)})"
