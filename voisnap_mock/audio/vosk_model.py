"""Folders of Vosk models: which one is meant, and whether it can be used. Decoding is in `audio.vosk_ear`.

A model is native data for a native library: a broken one may end the process that loads it. So a model that somebody
configured is tried in a child process first, and only one that passed is loaded here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from voisnap_mock.errors import ModelError

BUILT_IN_FOLDER = Path(__file__).parent / "models" / "tiny-en"
BUILT_IN_WORDS = 1143
TRIAL_SECONDS = 60.0

# What Vosk looks for, by layout; each entry is a list of choices, each choice the files it needs.
_GRAPHS = (("HCLG.fst",), ("HCLr.fst", "Gr.fst", "disambig_tid.int"))
_FOLDERS_LAYOUT: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("am/final.mdl",),),
    (("conf/model.conf",),),
    (("conf/mfcc.conf",), ("conf/fbank.conf",)),
    tuple(tuple(f"graph/{name}" for name in choice) for choice in _GRAPHS),
)
_FLAT_LAYOUT: tuple[tuple[tuple[str, ...], ...], ...] = ((("final.mdl",),), (("mfcc.conf",),), _GRAPHS)

_TRIAL = "import json, sys; job = json.load(sys.stdin); sys.path[:] = job['path']; \
from voisnap_mock.audio.vosk_ear import trial; trial(job['folder'])"


@dataclass(frozen=True, slots=True)
class VoskModel:
    """The model to hear with.

    Attributes:
        origin: who asked for it, as people write it: `--vosk-model`; empty for the built-in one.
    """

    folder: Path
    origin: str = ""

    @property
    def is_built_in(self) -> bool:
        return self.folder == BUILT_IN_FOLDER

    def describe(self, *, more_words: int = 0) -> str:
        """For people: `Vosk (built-in tiny model: synthesised English only, 1143 words and 2 of your agents)`."""
        if self.is_built_in:
            more = f" and {more_words} of your agents" if more_words else ""
            return f"Vosk (built-in tiny model: synthesised English only, {BUILT_IN_WORDS} words{more})"
        return f"Vosk (model {self.folder}, {self.origin})"


def choose_model(
    *,
    flag: str | None = None,
    flag_origin: str = "--vosk-model",
    environment: Mapping[str, str] | None = None,
    agent: str | None = None,
    agents_folder: Path | None = None,
    agent_id: str = "",
    installed: VoskModel | None = None,
) -> VoskModel:
    """Say which model counts: the agent's own, else the flag's, the environment's, the installed or the built-in one.

    The agent's comes first so that agents of several languages can be served side by side. An empty
    `VOSK_MODEL_PATH` counts as not set. Nothing is read from disk.

    Args:
        flag: `--vosk-model`, or the setting made of flags and environment; None when not given.
        flag_origin: where that setting came from, as people write it.
        environment: where `VOSK_MODEL_PATH` is looked up.
        agent: `vosk_model` of the agent's script, relative to `agents_folder`.
        installed: what `models install` put in place, if anything.

    Raises:
        ModelError: the flag or the agent's path is an empty text.
    """
    if agent is not None:
        origin = f"vosk_model of {agent_id}" if agent_id else "vosk_model"
        return VoskModel((agents_folder or Path()) / _folder(agent, origin), origin)
    if flag is not None:
        return VoskModel(_folder(flag, flag_origin), flag_origin)
    if from_environment := (environment or {}).get("VOSK_MODEL_PATH"):
        return VoskModel(_folder(from_environment, "VOSK_MODEL_PATH"), "VOSK_MODEL_PATH")
    return installed or VoskModel(BUILT_IN_FOLDER)


def check_model(path: str | Path, *, origin: str = "", timeout: float = TRIAL_SECONDS) -> None:
    """Make sure that the model in folder `path` can be loaded and heard with, without putting this process at risk.

    First the files are looked at, then a child process loads the model, makes a recogniser and lets it hear 1 s of
    silence. Blocks for some 0.2 s with a small model, never longer than `timeout` seconds.

    Raises:
        ModelError: it cannot; the text names the path, what is wrong and what to do.
    """
    folder = _folder(str(path), origin)
    name = f"{folder} ({origin})" if origin else str(folder)
    problem = _problem_with_files(folder)
    if problem is None:
        problem = _problem_in_trial(folder, timeout=timeout)
    if problem is not None:
        raise ModelError(f"{name} is no usable Vosk model: {problem}. {_REMEDY}")


def has_static_graph(folder: Path) -> bool:
    """Whether the model's graph is one piece, which no grammar can narrow: Vosk then ignores the grammar."""
    return (folder / "graph" / "HCLG.fst").exists() or (folder / "HCLG.fst").exists()


def model_folder(folder: Path) -> Path | None:
    """The folder of a model in `folder`: itself, or one at most two levels below; None when there is none."""
    candidates = [folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]
    return next((each for each in candidates if each.is_dir() and not any(_missing(each))), None)


def what_is_missing(folder: Path) -> str:
    """Of a folder that looks most like a model and is none: which files are missing."""
    candidates = [folder, *sorted(folder.glob("*/"))]
    nearest = min(candidates, key=lambda each: len(list(_missing(each))))
    return _listed(list(_missing(nearest)))


_REMEDY = (
    "Give the folder of a freshly unpacked Vosk model (it holds am/, conf/ and graph/, or final.mdl and mfcc.conf), "
    "or none to hear with the built-in model"
)


def _folder(path: str, origin: str) -> Path:
    if not path.strip():
        raise ModelError(f"the path of the Vosk model{f' ({origin})' if origin else ''} is empty. {_REMEDY}")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ModelError(f"{path}: no such user. {_REMEDY}") from None


def _problem_with_files(folder: Path) -> str | None:
    if "\0" in str(folder):
        return "a path cannot hold a NUL character"
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder)):
        return "Vosk takes only a path that is UTF-8"
    try:
        if not folder.exists():
            return "there is no such folder"
        if not folder.is_dir():
            is_archive = folder.suffix in (".zip", ".gz", ".tgz", ".xz")
            return "it is an archive; unpack it first" if is_archive else "it is a file, not a folder"
        missing = list(_missing(folder))
        if missing:
            inner = [child for child in sorted(folder.iterdir()) if child.is_dir() and not any(_missing(child))]
            hint = f" (is {inner[0]} meant?)" if inner else ""
            return f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing{hint}"
        empty = [name for name in _present(folder) if (folder / name).stat().st_size == 0]
        if empty:
            return f"{_listed(empty)} {'is' if len(empty) == 1 else 'are'} empty"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None


def _layout(folder: Path) -> tuple[tuple[tuple[str, ...], ...], ...]:
    is_flat = (folder / "final.mdl").exists() or (folder / "mfcc.conf").exists()
    return _FLAT_LAYOUT if is_flat and not (folder / "am").is_dir() else _FOLDERS_LAYOUT


def _missing(folder: Path) -> Iterator[str]:
    """The files without which Vosk cannot use the folder; of several choices, those of the one begun."""
    for choices in _layout(folder):
        lacking = {choice: [name for name in choice if not (folder / name).is_file()] for choice in choices}
        begun = [choice for choice in choices if len(lacking[choice]) < len(choice)]
        if begun:
            yield from min((lacking[choice] for choice in begun), key=len)
        else:
            yield " or ".join(choice[0] for choice in choices)


def _present(folder: Path) -> Iterator[str]:
    for choices in _layout(folder):
        for choice in choices:
            yield from (name for name in choice if (folder / name).is_file())


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _problem_in_trial(folder: Path, *, timeout: float) -> str | None:
    # Imported here: the start of the server has no use for it.
    import subprocess

    job = json.dumps({"path": sys.path, "folder": str(folder)})
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", _TRIAL],
            input=job.encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"loading it took longer than {timeout:g} s"
    except OSError as error:
        return f"the process that tries it could not be started ({error})"
    if child.returncode == 0:
        return None
    said = _reason(child.stderr.decode("utf-8", "replace"))
    if child.returncode < 0 or child.returncode > 1:
        return f"the library crashed on it (exit code {child.returncode}){f': {said}' if said else ''}"
    return f"a file is damaged or does not fit: {said or 'Vosk gives no reason'}"


def _reason(stderr: str) -> str:
    """What the library and the trial complained about, without the library's own source positions."""
    complaints = [line for line in stderr.splitlines() if line.startswith(("ERROR", "ASSERTION_FAILED", "trial: "))]
    # The trial's own last words repeat what the library has said in more detail.
    complaints = [line for line in complaints if not line.startswith("trial: ")] or complaints
    texts = [re.sub(r"^(ERROR|ASSERTION_FAILED|trial)\s*(\([^ ]*\(\)[^ ]*\))?:?\s*", "", line) for line in complaints]
    return "; ".join(dict.fromkeys(text.rstrip(".") for text in texts if text))[:400]
