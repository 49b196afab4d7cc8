"""The user's cache folder: what is made once on this machine and may be thrown away at any time.

utterances/   what `say` spoke, each with its text: every server knows them again by their sound
models/       Vosk models that `models install` put there
vocabulary/   the built-in model with the words that agents listen for
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "VOISNAP_MOCK_CACHE"
UTTERANCES = "utterances"
MODELS = "models"
VOCABULARY = "vocabulary"


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where this user's cache is, or would be: nothing is read or made.

    `VOISNAP_MOCK_CACHE`, else what the system has for caches: `$XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches` on
    macOS, `%LOCALAPPDATA%` on Windows, each with a folder `voisnap-mock`.
    """
    environment = os.environ if environment is None else environment
    if given := environment.get(VARIABLE):
        return Path(given).expanduser()
    if sys.platform == "win32":
        home = environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(home) / "voisnap-mock" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "voisnap-mock"
    home = environment.get("XDG_CACHE_HOME", "")
    # The standard says that a path that is not absolute counts as not set.
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "voisnap-mock"
