"""The two graphs that Vosk joins for every recogniser: frames to words, and words to sentences.

`HCLr.fst` reads transition ids, one per three frames, and writes words: a loop through the pronunciations of all
words, with silence between them if need be. `Gr.fst` reads words and says how likely they follow each other. Nothing
is minimised: up to a few thousand words the plain graphs are as quick to search, and a word is added without tools.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from voisnap_mock.audio.tiny_model.fst import EPSILON, Transducer
from voisnap_mock.audio.tiny_model.lexicon import BEGIN, END, Bigrams, Lexicon
from voisnap_mock.audio.tiny_model.phones import SILENCE, UNKNOWN, Phones, entering, staying

UNKNOWN_WORD = "[unk]"

# Measured on held-back voices: dearer and unknown words turn into known ones, cheaper and known ones get lost.
_UNKNOWN_COST = 2.0
_UNKNOWN_SHARE = 0.02
_SILENCE_COST = math.log(2)
# Pronunciations compete in the acoustic score already; their counts are a hint, not a probability.
_PRONUNCIATION_SCALE = 0.5
# The share of unigrams that every word gets alike, heard before or not.
_UNIFORM_SHARE = 0.3
_DISCOUNT = 0.5
_LEAST_BACK_OFF, _MOST_BACK_OFF = 0.15, 0.6


def graph_files(lexicon: Lexicon, bigrams: Bigrams, phones: Phones) -> dict[str, bytes]:
    """The folder `graph/`: for each name below it the content.

    Bigrams of words that the lexicon lacks are left out.
    """
    numbers = word_numbers(lexicon)
    texts = {
        "words.txt": "".join(f"{word} {number}\n" for word, number in numbers.items()),
        "phones.txt": phones.symbols(),
        "phones/word_boundary.int": phones.word_boundaries(),
        # Vosk wants one label that no graph reads.
        "disambig_tid.int": f"{phones.transitions + 1}\n",
    }
    return {
        **{name: text.encode() for name, text in texts.items()},
        "HCLr.fst": word_loop(lexicon, numbers, phones).serialize(sort="output"),
        "Gr.fst": bigram_model(bigrams, numbers).serialize(sort="input"),
    }


def word_numbers(lexicon: Lexicon) -> dict[str, int]:
    """The labels of words, and of the symbols that Kaldi reserves, in the order of `words.txt`."""
    return {word: at for at, word in enumerate(["<eps>", UNKNOWN_WORD, *sorted(lexicon), "#0", BEGIN, END])}


def word_loop(lexicon: Lexicon, numbers: dict[str, int], phones: Phones) -> Transducer:
    """Frames to words. A word is written with its first frame."""
    fst = Transducer()
    fst.start = fst.add_state()
    loop = fst.add_state()
    fst.set_final(loop, 0.0)
    silence_begins = fst.add_state()

    def then_silence_or_not(state: int) -> None:
        fst.add_arc(state, reads=EPSILON, writes=EPSILON, cost=_SILENCE_COST, to=loop)
        fst.add_arc(state, reads=EPSILON, writes=EPSILON, cost=_SILENCE_COST, to=silence_begins)

    def pass_phone(state: int, phone: int, *, writes: int = EPSILON, cost: float = 0.0) -> int:
        following = fst.add_state()
        fst.add_arc(state, reads=entering(phone), writes=writes, cost=cost, to=following)
        fst.add_arc(following, reads=staying(phone), writes=EPSILON, cost=0.0, to=following)
        return following

    then_silence_or_not(fst.start)
    silence = pass_phone(silence_begins, phones.number(SILENCE))
    fst.add_arc(silence, reads=EPSILON, writes=EPSILON, cost=0.0, to=loop)
    for word in sorted(lexicon):
        for sounds, weight in lexicon[word]:
            state, writes, cost = loop, numbers[word], -_PRONUNCIATION_SCALE * math.log(weight)
            for phone in phones.of_word(sounds):
                state = pass_phone(state, phone, writes=writes, cost=cost)
                writes, cost = EPSILON, 0.0
            then_silence_or_not(state)
    # Three frames are the least an unknown word lasts; the network has one output for all of them.
    state, writes, cost = loop, numbers[UNKNOWN_WORD], _UNKNOWN_COST
    for phone in phones.of_word([UNKNOWN] * 3):
        state = pass_phone(state, phone, writes=writes, cost=cost)
        writes, cost = EPSILON, 0.0
    then_silence_or_not(state)
    return fst


def bigram_model(bigrams: Bigrams, numbers: dict[str, int]) -> Transducer:
    """Words to sentences: a bigram that backs off to unigrams, in which every word has a share.

    A pair that was counted has its own way besides the one over the back-off; the search takes the cheaper.
    """
    words = [word for word in numbers if word not in ("<eps>", UNKNOWN_WORD, "#0", BEGIN, END)]
    followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (first, second), count in bigrams.items():
        if first in numbers and second in numbers:
            followers[first][second] += count
    unigrams = _unigrams(followers, words)

    fst = Transducer()
    fst.start = fst.add_state()
    backed_off = fst.add_state()
    fst.set_final(backed_off, -math.log(unigrams[END]))
    after = {word: fst.add_state() if followers[word] else backed_off for word in [*words, UNKNOWN_WORD]}
    for word, state in after.items():
        label = numbers[word]
        fst.add_arc(backed_off, reads=label, writes=label, cost=-math.log(unigrams[word]), to=state)
    for first in [BEGIN, *words]:
        counted = followers[first]
        state = fst.start if first == BEGIN else after[first]
        if state == backed_off:
            continue
        total = counted.total()
        back_off = min(max(_DISCOUNT * len(counted) / total, _LEAST_BACK_OFF), _MOST_BACK_OFF) if total else 1.0
        for second in sorted(counted):
            share = (1 - back_off) * counted[second] / total + back_off * unigrams[second]
            if second == END:
                fst.set_final(state, -math.log(share))
            else:
                label = numbers[second]
                fst.add_arc(state, reads=label, writes=label, cost=-math.log(share), to=after[second])
        fst.add_arc(state, reads=EPSILON, writes=EPSILON, cost=-math.log(back_off), to=backed_off)
    return fst


def _unigrams(followers: defaultdict[str, Counter[str]], words: list[str]) -> dict[str, float]:
    """The share of every word, of the unknown one, and of the end; together 1."""
    counts: Counter[str] = Counter()
    for counted in followers.values():
        counts.update(counted)
    # One in seven stands for sentences of six words, where nothing was counted.
    ends = counts[END] / counts.total() if counts.total() else 1 / 7
    heard = max(counts.total() - counts[END], 1)
    rest = 1 - ends - _UNKNOWN_SHARE
    shares = {
        word: rest * ((1 - _UNIFORM_SHARE) * counts[word] / heard + _UNIFORM_SHARE / len(words)) for word in words
    }
    return {**shares, UNKNOWN_WORD: _UNKNOWN_SHARE, END: ends or 1 / 7}
