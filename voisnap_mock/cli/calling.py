"""`call`: the reference caller on the terminal."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from voisnap_mock.audio.frames import AGENT_RATE, CALLER_RATE, read_wav, resample
from voisnap_mock.caller import CallerEvent, CallRefused, Sounded, VoiceCaller
from voisnap_mock.cli.console import Span, open_console
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.interrupts import Interruption
from voisnap_mock.cli.saying import caller_speech
from voisnap_mock.cli.service import access_token, find_login, find_server
from voisnap_mock.cli.sound import Headset
from voisnap_mock.cli.transcript import Transcript
from voisnap_mock.cli.values import Drop, Interrupt, Play, Press, Say, Step
from voisnap_mock.clock import SystemClock
from voisnap_mock.errors import ConfigError, SpeechError
from voisnap_mock.tracks import Recording


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What the caller is to do.

    Attributes:
        patience: seconds to wait for an answer before going on.
    """

    steps: Sequence[Step]
    with_microphone: bool = False
    out: Path | None = None
    voice: str = "en-us"
    rate: int = 175
    metadata: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None
    patience: float = 6.0


def call(
    agent: str,
    plan: CallPlan,
    *,
    url: str | None,
    email: str | None,
    password: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Call `agent` and print the transcript.

    Raises:
        CheckFailed: if the server refuses the call, ends it with an error, or ends it before all steps were done.
        ConfigError: if a WAV file cannot be played, or the microphone extra is missing.
    """
    server = find_server(url)
    audio: dict[Step, bytes] = {
        step: _caller_audio(step, plan) for step in plan.steps if not isinstance(step, Press | Drop)
    }
    own_token = access_token(server, find_login(token=token, email=email, password=password))
    console = open_console()
    transcript = Transcript(console, as_json=as_json)
    hint = "" if plan.steps else "; Ctrl-C hangs up"
    transcript.title(f"Calling {agent}", f"on {server}{hint}")
    try:
        recording = asyncio.run(_call(server, own_token, agent, plan, audio, transcript))
    except CallRefused as error:
        raise CheckFailed(f"the call failed: {error}") from error
    if plan.out is not None:
        _write_stereo(plan.out, recording)
        if not as_json:
            console.line(Span(f"Recorded in {plan.out}: caller left, agent right.", "dim"))


async def _call(
    server: str, token: str, agent: str, plan: CallPlan, audio: dict[Step, bytes], transcript: Transcript
) -> Recording:
    with Interruption() as interruption, Headset() if plan.with_microphone else nullcontext() as headset:

        def learn(event: CallerEvent, at: float) -> None:
            if headset is not None and isinstance(event, Sounded):
                headset.play(event.pcm)
            transcript.learn(event, at)

        async with VoiceCaller(
            server,
            agent,
            access_token=token,
            clock=SystemClock(),
            metadata=plan.metadata,
            session_id=plan.session_id,
            patience=plan.patience,
            on_event=learn,
        ) as caller:
            if headset is not None:
                headset.connect(caller.speak)
            done = await interruption.cuts_short(_follow(plan, caller, audio, transcript))
            if not caller.is_over:
                await caller.hang_up()
    _check_outcome(caller, plan.steps, len(plan.steps) if done is None else done)
    return caller.recording


async def _follow(plan: CallPlan, caller: VoiceCaller, audio: dict[Step, bytes], transcript: Transcript) -> int:
    """Do the steps, each at the caller's turn; returns how many were done."""
    if not plan.steps:
        await caller.wait_for_end()
        return 0
    for number, step in enumerate(plan.steps):
        # Keys may follow each other at once, and a menu wants them to.
        follows_key = isinstance(step, Press) and number > 0 and isinstance(plan.steps[number - 1], Press)
        if isinstance(step, Drop):
            # In mid-speech too: the rest of it follows on the new connection.
            if not await caller.wait_until(step.at):
                return number
        elif isinstance(step, Interrupt):
            if not await caller.spoken() or not await caller.wait_until(step.at):
                return number
        elif not follows_key and not await caller.floor():
            return number
        match step:
            case Say(text) | Interrupt(text=text):
                transcript.note(caller.now(), "say", text)
                caller.speak(audio[step])
            case Play(path):
                transcript.note(caller.now(), "play", str(path), seconds=round(len(audio[step]) / 2 / CALLER_RATE, 3))
                caller.speak(audio[step])
            case Press(digits):
                transcript.note(caller.now(), "press", digits)
                for digit in digits:
                    if not caller.is_over:
                        await caller.press(digit)
            case Drop(away=away):
                transcript.note(caller.now(), "drop", f"away for {away:g} s", seconds=away)
                await caller.lose_connection(away)
            case _:
                assert_never(step)
    if plan.with_microphone:
        await caller.wait_for_end()
    else:
        await caller.floor()
    return len(plan.steps)


def _check_outcome(caller: VoiceCaller, steps: Sequence[Step], done: int) -> None:
    if caller.failed is not None:
        raise CheckFailed(f"the call failed: {caller.failed.code}: {caller.failed.message}")
    if caller.ended is None:
        raise CheckFailed("the connection was lost before the call had ended")
    if done < len(steps):
        left = len(steps) - done
        raise CheckFailed(f"the call ended ({caller.ended.reason}) before {left} of {len(steps)} steps could be done")


def _caller_audio(step: Say | Play | Interrupt, plan: CallPlan) -> bytes:
    """Made before the call: the caller must not hesitate, however long it takes to speak or to read."""
    if not isinstance(step, Play):
        return caller_speech(step.text, voice=plan.voice, rate=plan.rate)
    try:
        pcm, rate = read_wav(step.path.read_bytes())
    except (OSError, SpeechError) as error:
        raise ConfigError(f"{step.path}: cannot be played: {error}") from error
    return pcm if rate == CALLER_RATE else resample(pcm, rate, CALLER_RATE)


def _write_stereo(path: Path, recording: Recording) -> None:
    try:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(AGENT_RATE)
            file.writeframes(recording.stereo())
    except OSError as error:
        raise CheckFailed(f"{path}: cannot be written: {error.strerror}") from error
