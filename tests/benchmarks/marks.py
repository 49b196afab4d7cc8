"""`python tests/benchmarks/marks.py [--quick]`: what marked speech costs, and what of it survives which line.

Milliseconds of CPU are per second of audio, of one core. The last word's latency is from the end of its sound until
the decoder tells it, with 20 ms frames.
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "audio"))
from lines import LINES, OPUS_LINES, has_opus
from speech_samples import SENTENCES, Samples, Say, Spoken, noise, quantize, say_all

from voisnap_mock.audio.marks import MarkDecoder, Speaker, decode, mark

RATE = 16_000


def marked(spoken: Spoken, number: int) -> bytes:
    return mark(spoken.pcm.tobytes(), spoken.words, sample_rate=RATE, utterance=number, speaker=Speaker.CALLER)


def through_float(pcm: Samples) -> Samples:
    return np.trunc(pcm / np.float32(32768) * np.float32(32767)).astype(np.int16)


def silenced(pcm: Samples) -> Samples:
    whole = pcm[: len(pcm) // 320 * 320].reshape(-1, 320).copy()
    whole[np.random.default_rng(len(pcm)).random(len(whole)) < 0.05] = 0
    return whole.reshape(-1)


def doubled(pcm: Samples) -> Samples:
    whole = pcm[: len(pcm) // 320 * 320].reshape(-1, 320)
    twice = np.random.default_rng(len(pcm)).random(len(whole)) < 0.05
    return np.repeat(whole, 1 + twice, axis=0).reshape(-1)


def swapped(pcm: Samples) -> Samples:
    whole = pcm[: len(pcm) // 320 * 320].reshape(-1, 320).copy()
    rng = random.Random(len(pcm))
    for at in range(len(whole) - 1):
        if rng.random() < 0.05:
            whole[[at, at + 1]] = whole[[at + 1, at]]
    return whole.reshape(-1)


FRAME_LINES: dict[str, Callable[[Samples], Samples]] = {
    "int16 -> float32 -> int16, truncating": through_float,
    "5 % of frames silenced": silenced,
    "5 % of frames doubled": doubled,
    "5 % of frames swapped": swapped,
}


def cost(pieces: list[bytes], chunk_bytes: int) -> float:
    began = process_time()
    for pcm in pieces:
        decoder = MarkDecoder(RATE)
        for at in range(0, len(pcm), chunk_bytes):
            decoder.push(pcm[at : at + chunk_bytes])
        decoder.finish()
    return (process_time() - began) * 1000 / (sum(map(len, pieces)) / 2 / RATE)


def latencies(pcm: bytes) -> list[float]:
    decoder = MarkDecoder(RATE)
    found = []
    for at in range(0, len(pcm), 640):
        found += [(at + 640) / 2 / RATE - word.end for word in decoder.push(pcm[at : at + 640])]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of it, only to show that it runs")
    count = 4 if parser.parse_args().quick else len(SENTENCES)
    voices = [*say_all(*(Say(text) for text in SENTENCES[:count])), *say_all(Say("Привет, как дела сегодня?", "ru"))]

    began = process_time()
    audio = [marked(spoken, number) for number, spoken in enumerate(voices)]
    seconds = sum(map(len, audio)) / 2 / RATE
    print(f"marking: {(process_time() - began) * 1000 / seconds:.2f} ms/s")
    for samples in (1, 16, 320, 1_600, 16_000):
        with_marks, without = cost(audio, 2 * samples), cost([spoken.pcm.tobytes() for spoken in voices], 2 * samples)
        print(f"decoding by {samples:>6} samples: {with_marks:.2f} ms/s marked, {without:.2f} ms/s unmarked")
    waits = [
        wait for number, pcm in enumerate(audio) for wait in latencies(bytes(2 * number * 37) + pcm + bytes(3_200))
    ]
    print(f"latency of a word: {1000 * sum(waits) / len(waits):.0f} ms, at most {1000 * max(waits):.0f} ms")
    moved = np.concatenate(
        [np.frombuffer(pcm, "<i2")[: len(s.pcm)].astype(float) - s.pcm for pcm, s in zip(audio, voices, strict=True)]
    )
    print(f"noise where marked: {20 * np.log10(np.sqrt((moved[moved != 0] ** 2).mean()) / 32768):.0f} dBFS")

    print(f"{'line':<40} words heard wrong twice")
    for name, line in (FRAME_LINES | LINES | (OPUS_LINES if has_opus() else {})).items():
        if "late" in name:
            continue
        total = heard = wrong = twice = 0
        for number, (spoken, pcm) in enumerate(zip(voices, audio, strict=True)):
            lead = np.zeros(number * 97 % 640, np.int16)
            arrived = line(np.concatenate((lead, np.frombuffer(pcm, "<i2"), np.zeros(1_600, np.int16))))
            texts = [text for word in spoken.words for text in word.text.split()]
            found = [word for each in decode(arrived.tobytes(), RATE).utterances for word in each.words]
            total += len(texts)
            heard += len({word.index for word in found})
            wrong += sum(word.text != texts[word.index] for word in found)
            twice += len(found) - len({word.index for word in found})
        print(f"{name:<40} {total:5} {heard:5} {wrong:5} {twice:5}")

    rng = np.random.default_rng(1)
    unmarked = [np.concatenate([spoken.pcm for spoken in voices]), noise(60, -20), noise(60, -60)]
    unmarked += [quantize(rng.integers(-32768, 32768, 60 * RATE)), *(line(unmarked[0]) for line in LINES.values())]
    found = sum(len(decode(pcm.tobytes(), RATE).spans) for pcm in unmarked)
    print(f"marks found in {sum(map(len, unmarked)) / RATE / 60:.0f} min of unmarked audio: {found}")


if __name__ == "__main__":
    main()
