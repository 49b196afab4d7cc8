"""Ears: what turns a caller's utterance into a transcript, and in which order they are asked.

An ear opens a listener for each utterance; a listener takes the audio as it comes and says at the end what it
understood, or None: then the next ear of the chain is asked. With `hears: auto` the chain is

    marks -> recordings -> vosk -> activity

from what is exact to what always answers. A new ear is a class with `name` and `open`, and a line in
`Ears.hearing_for`.

Everything here blocks and is made for worker threads. Importing this module loads neither Vosk nor numpy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, assert_never

from voisnap_mock.agents.script import AgentScript
from voisnap_mock.audio.built_in_ear import BuiltInEar, Vocabulary
from voisnap_mock.audio.frames import CALLER_RATE, SAMPLE_BYTES
from voisnap_mock.audio.known_recordings import RecordingIndex, RecordingsEar
from voisnap_mock.audio.marks_ear import MarksEar
from voisnap_mock.audio.vosk_ear import VoskEar, vosk_problem
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, VoskModel, check_model, choose_model, has_static_graph
from voisnap_mock.engine.events import Transcript
from voisnap_mock.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from voisnap_mock.audio.tiny_model.extension import Extended

_log = logging.getLogger("voisnap_mock.audio")

_WORDS_PER_SECOND = 2.5


class Listener(Protocol):
    """An ear on one utterance. Audio is PCM s16le mono at 16 kHz, in pieces of any size, in order.

    `expected` is what a strict script expects to hear next, `speech_seconds` how much of the audio was speech.
    """

    @property
    def is_sure(self) -> bool:
        """It will answer, and better than any ear that comes after it."""
        ...

    def accept(self, pcm: bytes) -> None: ...

    def partial(self, expected: str | None = None) -> Transcript | None:
        """What is understood so far; None when that is nothing."""
        ...

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        """The last word; None when nothing was understood. Comes once, after the last `accept`."""
        ...


class Ear(Protocol):
    """A way to understand callers."""

    @property
    def name(self) -> str: ...

    def open(self) -> Listener:
        """Begin an utterance.

        Raises:
            ModelError: what the ear needs cannot be loaded.
        """
        ...


class ScriptEar:
    """Hears what the script expects next, whatever the caller says.

    Partials show the expected text word by word, at 2.5 words per second of audio.

    Source: Assumed; the documentation shows that partials grow, not how fast.
    """

    name = "script"

    def open(self) -> Listener:
        return _ScriptListener()


class _ScriptListener:
    is_sure = False

    def __init__(self) -> None:
        self._bytes = 0

    def accept(self, pcm: bytes) -> None:
        self._bytes += len(pcm)

    def partial(self, expected: str | None = None) -> Transcript | None:
        shown = int(self._bytes / SAMPLE_BYTES / CALLER_RATE * _WORDS_PER_SECOND)
        words = (expected or "").split()[:shown]
        return Transcript(" ".join(words), 1.0, ScriptEar.name) if words else None

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        return Transcript(expected, 1.0, ScriptEar.name) if expected else None


class ActivityEar:
    """Hears that somebody spoke, and for how long: `[speech 1.4s]`. Never at a loss."""

    name = "activity"

    def open(self) -> Listener:
        return _ActivityListener()


class _ActivityListener:
    is_sure = False

    def accept(self, pcm: bytes) -> None:
        pass

    def partial(self, expected: str | None = None) -> Transcript | None:
        return None

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript | None:
        return Transcript(f"[speech {max(speech_seconds, 0.0):.1f}s]", 0.0, ActivityEar.name)


class Hearing:
    """How one agent hears: its ears, in the order in which they are asked. Any number of calls may share it.

    Args:
        complained_about: what the log says already; shared by those who would say the same.

    Raises:
        ValueError: without an ear.
    """

    def __init__(self, ears: Sequence[Ear], *, complained_about: set[str] | None = None) -> None:
        if not ears:
            raise ValueError("an agent needs at least one ear")
        self._ears = tuple(ears)
        self._complained_about = set() if complained_about is None else complained_about

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the ears, best first."""
        return tuple(ear.name for ear in self._ears)

    def open(self) -> Listening:
        """Begin an utterance. The first one may load a model.

        Raises:
            ModelError: no ear can be used.
        """
        listeners: list[tuple[str, Listener]] = []
        problems = []
        for ear in self._ears:
            try:
                listeners.append((ear.name, ear.open()))
            except ModelError as error:
                if ear is self._ears[-1] and not listeners:
                    raise
                problems.append(EarProblem(ear.name, str(error)))
                if str(error) not in self._complained_about:
                    self._complained_about.add(str(error))
                    _log.warning("not heard by %s: %s", ear.name, error)
        return Listening(listeners, problems, asked_first=self._ears[0].name)


@dataclass(frozen=True, slots=True)
class EarProblem:
    """An ear of the chain could not be used; the others were asked."""

    ear: str
    message: str


class Listening:
    """One utterance, heard by a chain of ears. Used by one thread at a time.

    Attributes:
        problems: the ears that could not be used.
    """

    def __init__(
        self, listeners: Sequence[tuple[str, Listener]], problems: Sequence[EarProblem], *, asked_first: str
    ) -> None:
        self._listeners = list(listeners)
        self._asked_first = asked_first
        self.problems = list(problems)

    def accept(self, pcm: bytes) -> None:
        """Hear the next piece of audio. An ear that fails is asked no more, nor those after one that is sure.

        Raises:
            ModelError: the last ear failed.
        """
        for name, listener in tuple(self._listeners):
            try:
                listener.accept(pcm)
            except ModelError as error:
                if len(self._listeners) == 1:
                    raise
                self._listeners.remove((name, listener))
                self.problems.append(EarProblem(name, str(error)))
                _log.warning("%s", error)
            else:
                if listener.is_sure and len(self._listeners) > 1:
                    del self._listeners[self._listeners.index((name, listener)) + 1 :]
                    return

    def partial(self, expected: str | None = None) -> Transcript | None:
        """What the best ear that has understood something understands so far."""
        heard = (listener.partial(expected) for _, listener in self._listeners)
        return next((transcript for transcript in heard if transcript is not None), None)

    def finish(self, speech_seconds: float, expected: str | None = None) -> Transcript:
        """The last word; its `ear` says who answered.

        When no ear understood anything, which only an agent with a pinned ear can come to, the text is empty.
        """
        heard = (listener.finish(speech_seconds, expected) for _, listener in self._listeners)
        answer = next((transcript for transcript in heard if transcript is not None), None)
        return answer if answer is not None else Transcript("", 0.0, self._asked_first)


class Ears:
    """The ears of a server: makes each agent's `Hearing` and shares what is costly between them.

    Args:
        vosk_model: the setting, None when not given.
        vosk_model_origin: where it came from, as people write it.
        environment: where `VOSK_MODEL_PATH` is looked up.
        agents_folder: what a `vosk_model` in the agents file is relative to.
        installed: the model that `models install` put in place, if any.
        recordings: what is known by its sound.
        on_learnt: told which words of the agents the built-in model has learnt, in the thread that saw to it.

    Raises:
        ModelError: `vosk_model` is an empty text.
    """

    def __init__(
        self,
        *,
        vosk_model: str | None = None,
        vosk_model_origin: str = "--vosk-model",
        environment: Mapping[str, str] | None = None,
        agents_folder: Path | None = None,
        installed: VoskModel | None = None,
        recordings: RecordingIndex | None = None,
        on_learnt: Callable[[Extended], None] | None = None,
    ) -> None:
        self._flag = vosk_model
        self._flag_origin = vosk_model_origin
        self._environment = environment or {}
        self._agents_folder = agents_folder
        self._vosk_problem = vosk_problem()
        self._installed = installed
        self._recordings = recordings
        self._vosk_ears: dict[tuple[Path, tuple[str, ...]], VoskEar | BuiltInEar] = {}
        self._vocabulary = Vocabulary(on_learnt=on_learnt)
        self._checked: set[Path] = set()
        self._complained_about: set[str] = set()
        self._model_for(None)

    def hearing_for(self, script: AgentScript) -> Hearing:
        """The ears of this agent. Cheap: nothing is loaded before the first utterance.

        Raises:
            ConfigError: the agent asks for an ear that is not there.
            ModelError: its model has no path.
        """
        match script.hears:
            case "auto":
                ears: list[Ear] = [MarksEar()]
                if self._recordings is not None:
                    ears.append(RecordingsEar(self._recordings))
                if self._vosk_problem is None:
                    ears.append(self._vosk_ear(script))
                return Hearing([*ears, ActivityEar()], complained_about=self._complained_about)
            case "marks":
                return Hearing([MarksEar()])
            case "recordings":
                if self._recordings is None:
                    raise ConfigError(f"{script.id}: hears: recordings needs a recordings folder, none is known here")
                return Hearing([RecordingsEar(self._recordings)])
            case "vosk":
                if self._vosk_problem is not None:
                    raise ConfigError(
                        f"{script.id}: hears: vosk cannot be used here: {self._vosk_problem}. "
                        "Use hears: auto, which then answers with voice activity, or hears: script"
                    )
                return Hearing([self._vosk_ear(script)])
            case "script":
                if script.script is None:
                    raise ConfigError(
                        f"{script.id}: hears: script needs a strict `script:`, this agent has none; use hears: auto"
                    )
                return Hearing([ScriptEar()])
            case "activity":
                return Hearing([ActivityEar()])
            case _:
                assert_never(script.hears)

    def check(self, scripts: Iterable[AgentScript]) -> None:
        """Make sure at start-up that every agent can hear as configured. Blocks some 0.3 s for each configured model.

        The built-in model is not tried: the project's tests do that.

        Raises:
            ConfigError: an agent asks for an ear that is not there.
            ModelError: a configured model cannot be used.
        """
        models = [self._model_for(None)]
        for script in scripts:
            self.hearing_for(script)
            if script.hears in ("auto", "vosk"):
                model = self._model_for(script)
                models.append(model)
                if script.grammar == "script" and has_static_graph(model.folder):
                    raise ConfigError(
                        f"{script.id}: grammar: script cannot be used with the model {model.folder}: its HCLG.fst is"
                        " one piece that no grammar can narrow. Use a model with HCLr.fst and Gr.fst, or grammar: open"
                    )
        if self._vosk_problem is not None:
            return
        for model in models:
            if not model.is_built_in and model.folder not in self._checked:
                check_model(model.folder, origin=model.origin)
                self._checked.add(model.folder)

    def serve(self, scripts: Iterable[AgentScript]) -> None:
        """Listen for these agents from now on, calls under way included: the built-in model learns their words.

        Cheap: words are learnt by `warm_up`, or else when the next utterance begins.
        """
        if self._vosk_problem is None:
            self._vocabulary.want(
                script for script in scripts if script.hears in ("auto", "vosk") and self._model_for(script).is_built_in
            )

    def warm_up(self) -> None:
        """Load Vosk and the model that agents without one of their own use, so that the first caller need not wait.

        Raises:
            ModelError: it cannot be loaded.
        """
        import voisnap_mock.audio.marks  # noqa: F401

        if self._vosk_problem is None:
            self._shared_ear(self._model_for(None)).warm_up()

    def describe(self) -> str:
        """How speech is heard with `hears: auto`, for the start-up print: each ear in its turn, and its limits."""
        ears = ["marked speech"]
        known = self._recordings.count if self._recordings is not None else 0
        if known:
            ears.append(f"{known} known recording{'s' if known > 1 else ''}")
        if self._vosk_problem is None:
            ears.append(self._model_for(None).describe(more_words=len(self._vocabulary.lacking)))
        return ", else ".join([*ears, "voice activity"])

    @property
    def warning(self) -> str | None:
        """What people should know before they wonder: recognition is not there at all; None when it is."""
        if self._vosk_problem is None:
            return None
        return f"unmarked, unknown speech is not understood, transcripts say [speech 1.4s]: {self._vosk_problem}"

    def _vosk_ear(self, script: AgentScript) -> VoskEar | BuiltInEar:
        if script.grammar == "open":
            return self._shared_ear(self._model_for(script))
        from voisnap_mock.agents.grammar import grammar_of

        return self._shared_ear(self._model_for(script), grammar_of(script))

    def _shared_ear(self, model: VoskModel, grammar: tuple[str, ...] = ()) -> VoskEar | BuiltInEar:
        ear = (
            BuiltInEar(self._vocabulary, grammar=grammar or None)
            if model.is_built_in
            else VoskEar(model, grammar=grammar or None)
        )
        return self._vosk_ears.setdefault((model.folder, grammar), ear)

    def _model_for(self, script: AgentScript | None) -> VoskModel:
        return choose_model(
            flag=self._flag,
            flag_origin=self._flag_origin,
            environment=self._environment,
            agent=script.vosk_model if script is not None else None,
            agents_folder=self._agents_folder,
            installed=self._installed,
            agent_id=script.id if script is not None else "",
        )


__all__ = [
    "BUILT_IN_FOLDER",
    "ActivityEar",
    "Ear",
    "EarProblem",
    "Ears",
    "Hearing",
    "Listener",
    "Listening",
    "MarksEar",
    "RecordingsEar",
    "ScriptEar",
    "VoskEar",
    "VoskModel",
    "check_model",
    "choose_model",
]
