"""`python tests/benchmarks/fingerprint.py [--quick]`: how often known recordings are heard right, and what it costs.

200 files: 30 sentences by five voices, and 50 short phrases. 100 of them are played through each line, then 300
sentences that no file holds. Right means the right text. Opus needs the system's libopus and is left out without it.
"""

import os

# One thread, as a server with several calls wants it; must be set before numpy is there.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import random
import sys
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "audio"))
from lines import LINES, OPUS_LINES, has_opus
from speech_samples import Say, Spoken, say_all

from voisnap_mock.audio.fingerprint import KnownRecordings, Match, Recording, RecordingMatcher

Samples = np.ndarray
VOICES = ("en-us", "en-us+f3", "en-gb-x-rp+m2", "en-us+m4", "en-us+f5")
PHRASES = """
    yes, no, stop, cancel, goodbye, thank you, hello there, help me, one moment, never mind, speak to an agent,
    opening hours, check my order, billing, technical support, repeat that, go back, main menu, that is correct,
    not at all, start over, good morning, how much, wait a minute, on friday, tomorrow, my account, new customer,
    lost card, call me back, forty two, nineteen, eight eight three, zero five, delivery, refund, exchange, gift card,
    store locator, password, language, operator, complaint, reservation, flight status, weather, balance,
    transfer money, pay my bill, hang up
"""
WORDS = """
    account address agent airport answer apple arrive balance bank because before berlin bicycle blue book broken
    building business cancel card change cheap children city clean close coffee cold company computer correct
    country customer dark date delivery dinner doctor door early eight evening every expensive fast father
    finger finish flight flower forget friday friend garden gentle give glass gold green guitar happy heavy help
    hotel house hundred imagine important invoice island january journey kitchen language large later laundry learn
    leave letter light little machine manager market message minute monday money morning mother mountain music
    number office often open orange order paper parcel password pay people phone picture pizza please police
    pretty problem question quick quiet rain ready receive refund remember repeat reserve restaurant return river
    saturday school second send seven shoes silver simple sister slow snow special spring station street strong
    summer sunday switch table telephone thousand ticket together tomorrow train travel tuesday twenty umbrella
    under update village visit voice wait warm water weather wednesday weekend window winter wonderful work yellow
"""
JOINTS = "the my a and to is was for with not your our in on at it we they she can will"


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of four to ten words that share words but no run of them."""
    rng = random.Random(seed)
    words, joints = WORDS.split(), JOINTS.split()
    return [
        " ".join(rng.choice(joints if rng.random() < 0.4 else words) for _ in range(rng.randint(4, 10)))
        for _ in range(count)
    ]


def one_word_other(text: str, seed: int) -> str:
    rng = random.Random(seed)
    words = text.split()
    words[rng.randrange(len(words))] = rng.choice(WORDS.split())
    return " ".join(words)


def around(pcm: Samples, lead: int) -> Samples:
    """As an endpointer passes it on: a little before, the end of turn after."""
    return np.concatenate((np.zeros(8_000 - 1_600 + lead, np.int16), pcm, np.zeros(11_200, np.int16)))


def hear(known: KnownRecordings, pcm: Samples) -> tuple[Match, ...]:
    matcher = RecordingMatcher(known)
    data = pcm.tobytes()
    for at in range(0, len(data), 640):
        matcher.push(data[at : at + 640])
    return matcher.finish()


def trimmed(spoken: Spoken) -> Samples:
    return spoken.pcm[round(spoken.begin * 16_000) : round(spoken.end * 16_000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it, only to show that it runs")
    quick = parser.parse_args().quick
    texts = sentences(30, seed=1)
    phrases = " ".join(PHRASES.split()).split(", ")
    orders = [Say(text, voice) for text in texts for voice in VOICES] + [Say(text) for text in phrases]
    files = say_all(*orders)
    unknown = say_all(*(Say(text, VOICES[n % 5]) for n, text in enumerate(sentences(30 if quick else 300, seed=2))))

    began = process_time()
    recordings = [Recording(f"{n}.wav", spoken.text, spoken.pcm.tobytes()) for n, spoken in enumerate(files)]
    known = KnownRecordings.of(recordings)
    length = sum(len(spoken.pcm) for spoken in files) / 16_000
    print(
        f"index of {len(known)} files, {length:.0f} s, {known.segments} segments:"
        f" {(process_time() - began) * 1000:.0f} ms, {known.nbytes / 1e6:.1f} MB"
    )
    for problem in known.problems:
        print("  ", problem)

    rng = random.Random(3)
    played = rng.sample(files, 10 if quick else 100)
    print(f"{'line':<27} right missed wrong  lowest score  end error (median, 95 %)")
    cost, seconds = 0.0, 0.0
    lines = LINES | (OPUS_LINES if has_opus() else {})
    for name, line in lines.items():
        right = missed = wrong = 0
        scores, errors, bad = [], [], []
        for spoken in played:
            lead = rng.randrange(640)
            voice = trimmed(spoken)
            whole = around(voice, lead)
            sent = line(whole)
            # A channel only ever takes away before the end of the voice; the silence after it stays.
            truth = (8_000 - 1_600 + lead + len(voice) - (len(whole) - len(sent))) / 16_000
            began = process_time()
            heard = hear(known, sent)
            cost += process_time() - began
            seconds += len(sent) / 16_000
            text = " | ".join(match.text for match in heard)
            if text == spoken.text:
                right += 1
                scores.append(heard[-1].score)
                errors.append(abs(heard[-1].end - truth) * 1000)
            else:
                missed += not heard
                wrong += bool(heard)
                bad.append(f"{spoken.text!r} -> {text!r}")
        errors.sort()
        print(
            f"{name:<27} {right:5} {missed:6} {wrong:5}  {min(scores, default=0):12.2f}"
            f"  {median(errors):6.0f} ms {errors[int(len(errors) * 0.95)]:6.0f} ms  {'; '.join(bad[:6])}"
        )
    print(f"matching: {cost / seconds * 1000:.1f} ms of CPU per second of audio")
    variants = [(spoken.text, one_word_other(spoken.text, n)) for n, spoken in enumerate(files[:150])]
    said = say_all(*(Say(text, VOICES[n % 5]) for n, (_, text) in enumerate(variants)))
    taken = sum(bool(hear(known, around(trimmed(spoken), 0))) for spoken in said)
    print(f"known sentences with one other word taken for the known one: {taken} of {len(variants)}")
    false = []
    for spoken in unknown:
        heard = hear(known, around(trimmed(spoken), 0))
        if heard:
            false.append(f"{spoken.text!r} -> {[match.text for match in heard]}")
    print(f"unknown sentences taken for known ones: {len(false)} of {len(unknown)} {false}")


if __name__ == "__main__":
    main()
