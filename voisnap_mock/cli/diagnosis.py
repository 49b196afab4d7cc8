"""`doctor`: what works on this machine. Every finding comes from really doing the thing."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from voisnap_mock import __version__
from voisnap_mock.agents.script import Voice
from voisnap_mock.audio import tts
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, CALLER_RATE, seconds
from voisnap_mock.audio.installed_models import newest_model
from voisnap_mock.audio.known_recordings import IndexNews, RecordingIndex, RecordingsEar
from voisnap_mock.audio.marks_ear import MarksEar
from voisnap_mock.audio.stt import Listener
from voisnap_mock.audio.vosk_ear import VoskEar, vosk_problem
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, BUILT_IN_WORDS, VoskModel, check_model, choose_model
from voisnap_mock.cache import MODELS, UTTERANCES, cache_folder
from voisnap_mock.cli.console import Console, Span, open_console, print_json, working
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.service import DEFAULT_URL, ask
from voisnap_mock.cli.sound import Headset
from voisnap_mock.clock import Clock, SystemClock
from voisnap_mock.config import DEFAULT_AGENTS_FILE, DEFAULT_HOST, DEFAULT_PORT, AgentsSource
from voisnap_mock.engine.events import Speech, Word
from voisnap_mock.errors import ConfigError, ModelError, SpeechError
from voisnap_mock.recordings.utterances import Utterances

SAMPLE = "I want to speak to a person about my order"


class State(StrEnum):
    """How a finding is to be taken."""

    FINE = "fine"
    OPTIONAL = "optional"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        area: what it belongs to: `machine`, `speaking`, `hearing`, `serving`.
        subject: what was tried.
        result: what came of it.
        remedy: what to do; empty when nothing needs doing.
    """

    area: str
    subject: str
    state: State
    result: str
    remedy: str = ""


_MARKS = {
    State.FINE: Span("✓", "green"),
    State.OPTIONAL: Span("-", "yellow"),
    State.WRONG: Span("✗", "bold red"),
}


def doctor(vosk_model: Path | None, *, as_json: bool) -> None:
    """Try everything and print what was found.

    Raises:
        CheckFailed: if something that calls need does not work.
    """
    console = open_console()
    findings: list[Finding] = []
    for finding in _findings(vosk_model, SystemClock(), console):
        if not as_json:
            if not findings or findings[-1].area != finding.area:
                console.line()
                console.line(Span(finding.area.capitalize(), "bold"))
            _print(console, finding)
        findings.append(finding)
    wrong = [finding.subject for finding in findings if finding.state is State.WRONG]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console.line()
    if wrong:
        raise CheckFailed(f"{len(wrong)} of {len(findings)} checks failed: {', '.join(wrong)}")
    if not as_json:
        console.line(Span("Calls and chats work on this machine.", "bold green"))


def _print(console: Console, finding: Finding) -> None:
    console.line("  ", _MARKS[finding.state], f" {finding.subject:<17}", finding.result)
    if finding.remedy:
        console.line(" " * 21, Span(f"→ {finding.remedy}", "yellow"))


def _findings(vosk_model: Path | None, clock: Clock, console: Console) -> Iterator[Finding]:
    yield from _machine()
    with working(console, "speaking a sentence"):
        speaking, sample = _speaking(clock)
    yield speaking
    yield Finding("speaking", "tones", State.FINE, "always there: one tone for each word, where nothing else speaks")
    for ear in (_marks_ear, _recordings_ear, _built_in_ear, _configured_ear(vosk_model), _activity_ear):
        with working(console, "listening to it"):
            findings = list(ear(sample, clock))
        yield from findings
    yield _headset()
    yield from _serving()


# --- machine ------------------------------------------------------------------------------------------------------


def _machine() -> Iterator[Finding]:
    yield Finding("machine", "voisnap-mock", State.FINE, __version__)
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("machine", "Python", State.FINE, f"{platform.python_version()} on {system}, {sys.executable}")
    if sys.platform != "win32":
        yield _extra("machine", "uvloop", "fast", "a faster event loop")
    yield _extra("machine", "aiortc", "webrtc", "calls over WebRTC")


def _extra(area: str, package: str, extra: str, purpose: str) -> Finding:
    """A package that is there only with an extra."""
    try:
        return Finding(area, package, State.FINE, f"{version(package)}, {purpose}")
    except PackageNotFoundError:
        remedy = f"only if you want it: pip install 'voisnap-mock[{extra}]'"
        return Finding(area, package, State.OPTIONAL, f"not installed: {purpose}", remedy)


# --- speaking and hearing -----------------------------------------------------------------------------------------


def _speaking(clock: Clock) -> tuple[Finding, Speech]:
    """Speak the sample; its audio is empty when that cannot be done."""
    began = clock.monotonic()
    try:
        sample = tts.say_words(SAMPLE, Voice())
    except SpeechError as error:
        remedy = "pip install --force-reinstall voisnap-mock; on Alpine: apk add espeak-ng; else agents speak in tones"
        return Finding("speaking", "espeak", State.WRONG, str(error), remedy), Speech(b"")
    took = clock.monotonic() - began
    length = seconds(sample.pcm, CALLER_RATE)
    result = f"{_package_version('pyttsx3')} spoke {length:.1f} s in {took:.1f} s, cold start included"
    return Finding("speaking", "espeak", State.FINE, result), sample


def _marks_ear(sample: Speech, clock: Clock) -> Iterator[Finding]:
    """Mark the sample and read it; in silence when there is no voice, for marks need none."""
    from voisnap_mock.audio.marks import Speaker, mark

    words = sample.words or [Word(SAMPLE, 0.0, 3.0)]
    pcm = mark(sample.pcm, words, sample_rate=CALLER_RATE, utterance=1, speaker=Speaker.CALLER)
    yield _heard(MarksEar().open(), "marked speech", pcm, clock, more="what `say` and `call --say` speak")


def _recordings_ear(sample: Speech, clock: Clock) -> Iterator[Finding]:
    """Know the sample again at half its volume; then look at the files that servers started here would know."""
    import numpy as np

    if sample.pcm:
        quieter = (np.frombuffer(sample.pcm, "<i2") // 2).astype("<i2").tobytes()
        with TemporaryDirectory() as folder:
            Utterances(Path(folder)).keep(SAMPLE, sample.pcm)
            index = RecordingIndex([Utterances(Path(folder))], clock=clock)
            more = "played at half its volume"
            yield _heard(RecordingsEar(index).open(), "known recordings", quieter, clock, more=more)
    else:
        yield Finding("hearing", "known recordings", State.OPTIONAL, _NOT_TRIED)
    here, said = AgentsSource(Path(DEFAULT_AGENTS_FILE)).utterances, Utterances(cache_folder() / UTTERANCES)
    news: list[IndexNews] = []
    RecordingIndex([here], quiet=[said], clock=clock, on_news=news.append).refresh()
    problems = [problem for each in news for problem in each.problems]
    result = f"{len(here.scan())} in {here.folder}, {len(said.scan())} that `say` spoke"
    yield Finding("hearing", "recordings here", State.WRONG if problems else State.FINE, result, "; ".join(problems))


def _built_in_ear(sample: Speech, clock: Clock) -> Iterator[Finding]:
    yield _vosk(VoskModel(BUILT_IN_FOLDER), "Vosk, built in", sample.pcm, clock)


def _configured_ear(vosk_model: Path | None) -> Callable[[Speech, Clock], Iterator[Finding]]:
    flag = str(vosk_model) if vosk_model is not None else None
    model = choose_model(flag=flag, environment=os.environ, installed=newest_model(cache_folder() / MODELS))

    def listen(sample: Speech, clock: Clock) -> Iterator[Finding]:
        if model.is_built_in:
            yield Finding("hearing", "Vosk, your model", State.OPTIONAL, "none given, none installed", _MODEL_REMEDY)
            return
        try:
            check_model(model.folder, origin=model.origin)
        except ModelError as error:
            yield Finding("hearing", "Vosk, your model", State.WRONG, str(error))
        else:
            yield _vosk(model, "Vosk, your model", sample.pcm, clock)

    return listen


_NOT_TRIED = "not tried: there is no speech to listen to"
_MODEL_REMEDY = f"for people, or words beyond the built-in {BUILT_IN_WORDS}: `models install`, --vosk-model FOLDER"


def _heard(listener: Listener, subject: str, pcm: bytes, clock: Clock, *, more: str) -> Finding:
    """Let an ear that must understand the sample hear it."""
    began = clock.monotonic()
    listener.accept(pcm)
    heard = listener.finish(seconds(pcm, CALLER_RATE))
    took = clock.monotonic() - began
    if heard is not None and heard.text == SAMPLE:
        result = f"heard every word in {took:.2f} s, {more}: {heard.text!r}"
        return Finding("hearing", subject, State.FINE, result)
    text = heard.text if heard is not None else ""
    return Finding("hearing", subject, State.WRONG, f"heard {text!r} for {SAMPLE!r}", "please report this")


def _vosk(model: VoskModel, subject: str, sample: bytes, clock: Clock) -> Finding:
    """Let the model hear the sample."""
    problem = vosk_problem()
    if problem is not None:
        remedy = "callers are then heard as [speech 1.4s]; use a Python that vosk has wheels for"
        return Finding("hearing", subject, State.WRONG, problem, remedy)
    if not sample:
        return Finding("hearing", subject, State.OPTIONAL, _NOT_TRIED)
    began = clock.monotonic()
    try:
        listener = VoskEar(model).open()
        listener.accept(sample)
        heard = listener.finish(seconds(sample, CALLER_RATE))
    except ModelError as error:
        return Finding("hearing", subject, State.WRONG, str(error))
    took = clock.monotonic() - began
    text = heard.text if heard is not None else ""
    if text.casefold() == SAMPLE.casefold():
        return Finding("hearing", subject, State.FINE, f"heard every word in {took:.1f} s: {text!r}")
    if model.is_built_in:
        return Finding("hearing", subject, State.WRONG, f"heard {text!r} for {SAMPLE!r}", "please report this")
    # A model of another language is no mistake.
    return Finding("hearing", subject, State.FINE, f"loads, and heard {text!r} for {SAMPLE!r} in {took:.1f} s")


def _activity_ear(sample: Speech, clock: Clock) -> Iterator[Finding]:
    from voisnap_mock.audio.endpointing import Endpointer, SpeechBegan, SpeechEnded

    if not sample.pcm:
        yield Finding("hearing", "voice activity", State.OPTIONAL, _NOT_TRIED)
        return
    padded = bytes(CALLER_RATE) + sample.pcm + bytes(2 * CALLER_RATE)
    endpointer = Endpointer(end_of_turn=0.7, max_utterance=30.0)
    activity = [
        event
        for at in range(0, len(padded) - CALLER_FRAME_BYTES + 1, CALLER_FRAME_BYTES)
        for event in endpointer.feed(padded[at : at + CALLER_FRAME_BYTES])
    ]
    match activity:
        case [SpeechBegan(), SpeechEnded(began, ended)]:
            yield Finding("hearing", "voice activity", State.FINE, f"found the {ended - began:.1f} s of speech")
        case _:
            yield Finding("hearing", "voice activity", State.WRONG, f"found {activity}", "please report this")


def _headset() -> Finding:
    subject = "microphone"
    if find_spec("sounddevice") is None:
        remedy = "only if you want to call by `call --mic`: pip install 'voisnap-mock[mic]'"
        return Finding("hearing", subject, State.OPTIONAL, "sounddevice is not installed", remedy)
    try:
        with Headset():
            return Finding("hearing", subject, State.FINE, "opened, and the loudspeaker too")
    except ConfigError as error:
        return Finding("hearing", subject, State.OPTIONAL, str(error))


# --- serving ------------------------------------------------------------------------------------------------------


def _serving() -> Iterator[Finding]:
    yield _port()
    path = Path(DEFAULT_AGENTS_FILE)
    if not path.exists():
        remedy = "write one with `voisnap-mock init`"
        yield Finding("serving", path.name, State.OPTIONAL, "none here: the built-in agents are served", remedy)
        return
    try:
        file = AgentsSource(path).load()
    except ConfigError as error:
        first, *more = str(error).splitlines()
        others = f" (and {len(more)} more)" if more else ""
        yield Finding("serving", path.name, State.WRONG, f"{first}{others}", "`voisnap-mock validate` lists them all")
    else:
        yield Finding("serving", path.name, State.FINE, f"{len(file.agents)} agents, no problems")


def _port() -> Finding:
    subject = f"port {DEFAULT_PORT}"
    with socket.socket() as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((DEFAULT_HOST, DEFAULT_PORT))
        except OSError:
            pass
        else:
            return Finding("serving", subject, State.FINE, "free")
    try:
        is_mock = ask("GET", f"{DEFAULT_URL}/readyz", timeout=2.0).status in (200, 503)
    except OSError:
        is_mock = False
    if is_mock:
        return Finding("serving", subject, State.FINE, "a voisnap-mock answers there")
    return Finding("serving", subject, State.OPTIONAL, "taken by another program", "serve with --port 0, or stop it")


def _package_version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name
