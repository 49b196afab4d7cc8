"""Which Vosk models this user has installed; how they come there is in `audio.model_store`.

Every start of a server asks this, so only what is cheap to import is imported.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voisnap_mock.audio.vosk_model import VoskModel

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
NOTE = "voisnap-mock.json"
"""The file in a model's folder that says where it came from."""


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model in the store.

    Attributes:
        source: the file or URL it came from.
        sha256: of that archive.
        installed_at: seconds since 1970.
    """

    name: str
    folder: Path
    source: str = ""
    sha256: str = ""
    installed_at: float = 0.0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def installed_models(folder: Path) -> tuple[InstalledModel, ...]:
    """The models in `folder`, which need not exist; the newest first."""
    found: list[InstalledModel] = []
    with suppress(OSError):
        found += [_noted(path) for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return tuple(sorted(found, key=lambda model: (-model.installed_at, model.name)))


def newest_model(folder: Path) -> VoskModel | None:
    """The one that `hears: auto` uses, as `choose_model` wants it."""
    newest = next(iter(installed_models(folder)), None)
    return None if newest is None else VoskModel(newest.folder, "models install")


def _noted(folder: Path) -> InstalledModel:
    """A model and its note; one that was put there by hand has none."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        return InstalledModel(
            folder.name, folder, str(note["source"]), str(note["sha256"]), float(note["installed_at"])
        )
    except (OSError, ValueError, LookupError, TypeError):
        return InstalledModel(folder.name, folder)
