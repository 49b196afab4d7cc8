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

from voisnap_mock import __version__
from voisnap_mock.agents.script import Voice
from voisnap_mock.audio import tts
from voisnap_mock.audio.frames import CALLER_FRAME_BYTES, CALLER_RATE, seconds
from voisnap_mock.audio.vosk_ear import VoskEar, vosk_problem
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, BUILT_IN_WORDS, VoskModel, check_model, choose_model
from voisnap_mock.cli.console import Console, Span, open_console, print_json, working
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.service import DEFAULT_URL, ask
from voisnap_mock.cli.sound import Headset
from voisnap_mock.clock import Clock, SystemClock
from voisnap_mock.config import DEFAULT_AGENTS_FILE, DEFAULT_HOST, DEFAULT_PORT, AgentsSource
from voisnap_mock.errors import ConfigError, ModelError, SpeechError

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
    for ear in (_built_in_ear, _configured_ear(vosk_model), _activity_ear):
        with working(console, "listening to it"):
            finding = ear(sample, clock)
        if finding is not None:
            yield finding
    yield _headset()
    yield from _serving()


# --- machine ------------------------------------------------------------------------------------------------------


def _machine() -> Iterator[Finding]:
    yield Finding("machine", "voisnap-mock", State.FINE, __version__)
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("machine", "Python", State.FINE, f"{platform.python_version()} on {system}, {sys.executable}")
    if sys.platform != "win32":
        yield _extra("machine", "uvloop", "fast", "a faster event loop")


def _extra(area: str, package: str, extra: str, purpose: str) -> Finding:
    """A package that is there only with an extra."""
    try:
        return Finding(area, package, State.FINE, f"{version(package)}, {purpose}")
    except PackageNotFoundError:
        remedy = f"only if you want it: pip install 'voisnap-mock[{extra}]'"
        return Finding(area, package, State.OPTIONAL, f"not installed: {purpose}", remedy)


# --- speaking and hearing -----------------------------------------------------------------------------------------


def _speaking(clock: Clock) -> tuple[Finding, bytes]:
    """Speak the sample; its audio is empty when that cannot be done."""
    began = clock.monotonic()
    try:
        pcm = tts.say(SAMPLE, Voice())
    except SpeechError as error:
        remedy = "pip install --force-reinstall voisnap-mock; on Alpine: apk add espeak-ng; else agents speak in tones"
        return Finding("speaking", "espeak", State.WRONG, str(error), remedy), b""
    took = clock.monotonic() - began
    result = (
        f"{_package_version('pyttsx3')} spoke {seconds(pcm, CALLER_RATE):.1f} s in {took:.1f} s, cold start included"
    )
    return Finding("speaking", "espeak", State.FINE, result), pcm


def _built_in_ear(sample: bytes, clock: Clock) -> Finding | None:
    return _vosk(VoskModel(BUILT_IN_FOLDER), "Vosk, built in", sample, clock)


def _configured_ear(vosk_model: Path | None) -> Callable[[bytes, Clock], Finding | None]:
    flag = str(vosk_model) if vosk_model is not None else None
    model = choose_model(flag=flag, environment=os.environ)

    def listen(sample: bytes, clock: Clock) -> Finding | None:
        if model.is_built_in:
            return Finding("hearing", "Vosk, your model", State.OPTIONAL, "none given", _MODEL_REMEDY)
        try:
            check_model(model.folder, origin=model.origin)
        except ModelError as error:
            return Finding("hearing", "Vosk, your model", State.WRONG, str(error))
        return _vosk(model, "Vosk, your model", sample, clock)

    return listen


_MODEL_REMEDY = f"for people, or words beyond the built-in {BUILT_IN_WORDS}: --vosk-model FOLDER or VOSK_MODEL_PATH"


def _vosk(model: VoskModel, subject: str, sample: bytes, clock: Clock) -> Finding:
    """Let the model hear the sample."""
    problem = vosk_problem()
    if problem is not None:
        remedy = "callers are then heard as [speech 1.4s]; use a Python that vosk has wheels for"
        return Finding("hearing", subject, State.WRONG, problem, remedy)
    if not sample:
        return Finding("hearing", subject, State.OPTIONAL, "not tried: there is no speech to listen to")
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


def _activity_ear(sample: bytes, clock: Clock) -> Finding | None:
    from voisnap_mock.audio.endpointing import Endpointer, SpeechBegan, SpeechEnded

    if not sample:
        return Finding("hearing", "voice activity", State.OPTIONAL, "not tried: there is no speech to listen to")
    padded = bytes(CALLER_RATE) + sample + bytes(2 * CALLER_RATE)
    endpointer = Endpointer(end_of_turn=0.7, max_utterance=30.0)
    activity = [
        event
        for at in range(0, len(padded) - CALLER_FRAME_BYTES + 1, CALLER_FRAME_BYTES)
        for event in endpointer.feed(padded[at : at + CALLER_FRAME_BYTES])
    ]
    match activity:
        case [SpeechBegan(), SpeechEnded(began, ended)]:
            return Finding("hearing", "voice activity", State.FINE, f"found the {ended - began:.1f} s of speech")
        case _:
            return Finding("hearing", "voice activity", State.WRONG, f"found {activity}", "please report this")


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
