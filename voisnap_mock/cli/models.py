"""`models`: the Vosk models of this user."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime

from voisnap_mock.audio.model_store import ModelStore
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, BUILT_IN_WORDS, VoskModel, choose_model
from voisnap_mock.cache import MODELS, cache_folder
from voisnap_mock.cli.console import Span, bar, open_console, print_json
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.clock import SystemClock
from voisnap_mock.errors import ModelError

BUILT_IN = "built-in"
_VARIABLE = "VOISNAP_MOCK_VOSK_MODEL"


def store() -> ModelStore:
    """Where this user's models are."""
    return ModelStore(cache_folder() / MODELS)


def install(source: str, *, sha256: str | None) -> None:
    """Install a model and say what it is used for.

    Raises:
        CheckFailed: it could not be installed; nothing has changed then.
    """
    console = open_console()
    clock = SystemClock()
    shown_at = clock.monotonic()

    def show(what: str, done: int, total: int | None) -> None:
        nonlocal shown_at
        # Ten times a second is enough for people, and the terminal is slower than the disk.
        if clock.monotonic() - shown_at >= 0.1 or done == 0:
            shown_at = clock.monotonic()
            console.live(*bar(what, done, total, unit="MB", per_unit=1_000_000))

    try:
        model = store().install(source, now=clock.wall(), sha256=sha256, on_progress=show)
    except ModelError as error:
        raise CheckFailed(str(error)) from error
    finally:
        console.live()
    console.line(Span("Installed ", "green"), f"{model.name} in {model.folder}")
    console.line(f"SHA-256 {model.sha256}")
    chosen = _chosen()
    if chosen.folder == model.folder:
        console.line("Agents with `hears: auto` use it from the next start of a server on.")
    else:
        console.line(f"It is not used as long as {chosen.origin} names {chosen.folder}.")


def show(*, as_json: bool) -> None:
    """List the installed models and the built-in one."""
    chosen = _chosen().folder
    models = store().models()
    if as_json:
        found = [asdict(model) | {"folder": str(model.folder), "used": model.folder == chosen} for model in models]
        print_json([*found, {"name": BUILT_IN, "folder": str(BUILT_IN_FOLDER), "used": chosen == BUILT_IN_FOLDER}])
        return
    console = open_console()
    rows = [
        (
            _used(model.folder == chosen),
            Span(model.name, "cyan"),
            f"{model.size / 1e6:.1f} MB",
            datetime.fromtimestamp(model.installed_at, UTC).strftime("%Y-%m-%d") if model.installed_at else "",
            Span(model.source, "dim"),
        )
        for model in models
    ]
    about = f"synthesised English, {BUILT_IN_WORDS} words"
    console.table([*rows, (_used(chosen == BUILT_IN_FOLDER), Span(BUILT_IN, "cyan"), "", "", Span(about, "dim"))])
    console.line(Span(f"* is what agents with `hears: auto` use{_because()}.", "dim"))


def path(name: str | None) -> None:
    """Print the folder of a model: of `name`, or of the one that `hears: auto` uses.

    Raises:
        CheckFailed: there is none of that name.
    """
    known = {model.name: model.folder for model in store().models()} | {BUILT_IN: BUILT_IN_FOLDER}
    if name is None:
        folder = _chosen().folder
    elif name in known:
        folder = known[name]
    else:
        raise CheckFailed(f"there is no model {name!r}; there are {', '.join(known)}")
    open_console().line(str(folder))


def _chosen() -> VoskModel:
    """What a server started here without a flag would use for agents that name no model."""
    return choose_model(
        flag=os.environ.get(_VARIABLE) or None,
        flag_origin=_VARIABLE,
        environment=os.environ,
        installed=store().current(),
    )


def _because() -> str:
    chosen = _chosen()
    return f": {chosen.folder}, because {chosen.origin} names it" if chosen.origin.isupper() else ""


def _used(is_used: bool) -> Span:
    return Span("*" if is_used else " ", "green")
