"""The tool that makes the built-in model: `python -m voisnap_mock.audio.tiny_model build OUT`.

Three commands: `build` makes a model from nothing but local synthesis, `words` adds words to one, `measure` says how
many words one gets wrong. The same size and seed give the same files, to the byte, on the same machine with the same
versions of Python, numpy, soxr and espeak-ng (and flite, if it is there); elsewhere a model just as good.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from voisnap_mock.audio.tiny_model.building import SIZES, build
from voisnap_mock.audio.tiny_model.flite import has_flite
from voisnap_mock.audio.tiny_model.folders import checksum, read_files, with_words, write_files
from voisnap_mock.audio.tiny_model.jobs import JobFailed
from voisnap_mock.audio.tiny_model.measuring import held_back_sets, measure, speak_orders
from voisnap_mock.audio.tiny_model.pronouncing import pronounce
from voisnap_mock.audio.tiny_model.wanted import words_in
from voisnap_mock.audio.vosk_ear import VoskEar
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, VoskModel, check_model
from voisnap_mock.cli.console import Console, open_console, print_error
from voisnap_mock.clock import SystemClock
from voisnap_mock.errors import VoisnapMockError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options, open_console())
    except (VoisnapMockError, JobFailed) as error:
        print_error(str(error))
    except OSError as error:
        print_error(f"{error.filename or ''}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    else:
        return status
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m voisnap_mock.audio.tiny_model", description="Makes the small built-in Vosk model."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    building = commands.add_parser("build", help="make a model from local synthesis alone")
    building.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    building.add_argument("--size", choices=tuple(SIZES), default="middle", help="default: middle, about a minute")
    building.add_argument("--seed", type=int, default=1, help="default: 1")
    building.add_argument("--processes", type=int, default=2, help="that speak at the same time; default: 2")
    building.set_defaults(run=_build)
    adding = commands.add_parser("words", help="add words to a model that this tool has made")
    adding.add_argument("model", type=Path, metavar="MODEL", help="its folder")
    adding.add_argument("words", nargs="+", metavar="WORD")
    adding.set_defaults(run=_words)
    measuring = commands.add_parser("measure", help="how many words a model gets wrong")
    measuring.add_argument("model", type=Path, nargs="?", default=BUILT_IN_FOLDER, metavar="MODEL")
    measuring.add_argument("--verbose", action="store_true", help="show what was misheard")
    measuring.set_defaults(run=_measure)
    return parser


def _build(options: argparse.Namespace, console: Console) -> int:
    out: Path = options.out
    if out.exists():
        print_error(f"{out} is there already; name a folder that is not, or remove it")
        return 1
    size = SIZES[options.size]
    if size.flite and not has_flite():
        console.line("flite is not installed: the model will understand espeak's voices only")
    clock = SystemClock()
    began = clock.monotonic()
    shown = ""

    def show(doing: str, done: float) -> None:
        nonlocal shown
        console.live(f"{clock.monotonic() - began:5.0f} s  {doing}: {done:.0%}")
        # A pipe sees each stage once.
        stage = doing.partition(",")[0]
        if stage != shown and not console.is_terminal:
            console.line(f"{stage} ...")
        shown = stage

    built = build(size, seed=options.seed, processes=max(1, options.processes), on_progress=show)
    write_files(out, built.files)
    console.live()
    total = sum(map(len, built.files.values()))
    console.line(f"{out}: {built.words} words, {total:,} bytes, made in {clock.monotonic() - began:.0f} s")
    console.line(
        f"learnt from {built.hours:.1f} h of speech ({built.engine}), {built.accuracy:.1%} of its sounds right"
    )
    if built.missing:
        console.line(f"not pronounced: {', '.join(built.missing)}")
    console.line(f"sha256 {built.checksum}")
    return 0


def _words(options: argparse.Namespace, console: Console) -> int:
    files = read_files(options.model)
    words = sorted({word for text in options.words for word in words_in(text)})
    lexicon, engine = pronounce(words)
    extended = with_words(files, lexicon, ())
    write_files(options.model, extended)
    for word in words:
        spoken = [" ".join(pronunciation.sounds) for pronunciation in lexicon.get(word, ())]
        console.line(f"{word}: {', '.join(spoken) or 'cannot be pronounced, left out'}")
    console.line(f"{options.model}: {len(lexicon)} words added as {engine} says them, sha256 {checksum(extended)}")
    return 0 if len(lexicon) == len(words) else 1


def _measure(options: argparse.Namespace, console: Console) -> int:
    if options.model != BUILT_IN_FOLDER:
        check_model(options.model, origin="MODEL")
    ear = VoskEar(VoskModel(options.model, "MODEL"))
    for name, orders in held_back_sets().items():
        console.live(f"{name} ...")
        score = measure(ear, orders, speak_orders(orders))
        wrong = f"{len(score.mistaken)} of {score.utterances} utterances"
        console.line(f"{name:<32} {score.error_rate:6.1%} of {score.words} words wrong, {wrong}")
        if options.verbose:
            console.table([(f"said {said!r}", f"heard {heard!r}") for said, heard in score.mistaken])
    return 0


if __name__ == "__main__":
    sys.exit(main())
