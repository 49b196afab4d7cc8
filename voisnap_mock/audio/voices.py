"""Which voices there are, told from the voice files, so that a wrong name is found without starting the engine.

The engine itself is no judge: it refuses `en-gb`, takes any variant it does not know in silence, and accepts
languages whose dictionary is missing.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

from voisnap_mock.errors import ConfigError

# What people write, and what espeak calls it.
_ALIASES = {
    "default": "en-us",
    "en-gb": "en",
    "en-uk": "en",
    "zh": "cmn",
    "zh-yue": "yue",
    "zh-hk": "yue",
    "no": "nb",
    "es-mx": "es-419",
    "es-us": "es-419",
}
# Listed by espeak-ng 1.52, but their dictionaries are not in its data.
_WITHOUT_DICTIONARY = frozenset({"fo", "kaa", "xex"})
_REGION = re.compile(r"-(?:[a-z]{2}|\d{3})$")


def voice_data() -> Path | None:
    """The folder of espeak's data that came by pip; None when espeakng-loader is not installed."""
    spec = importlib.util.find_spec("espeakng_loader")
    if spec is None or spec.origin is None:
        return None
    data = Path(spec.origin).parent / "espeak-ng-data"
    return data if data.is_dir() else None


@lru_cache(maxsize=1)
def languages() -> frozenset[str]:
    """Voices without a variant, in lower case; empty when there are no voice files to read them from."""
    data = voice_data()
    if data is None:
        return frozenset()
    files = (path for path in (data / "lang").rglob("*") if path.is_file())
    return frozenset(path.name.lower() for path in files) - _WITHOUT_DICTIONARY


@lru_cache(maxsize=1)
def variants() -> dict[str, str]:
    """What may follow the `+`: names in lower case, each with espeak's own spelling."""
    data = voice_data()
    if data is None:
        return {}
    return {path.name.lower(): path.name for path in sorted((data / "voices" / "!v").iterdir()) if path.is_file()}


@lru_cache(maxsize=256)
def espeak_voice(name: str) -> str:
    """The name by which espeak knows the voice `name`.

    Case and `_` for `-` do not matter; a region that espeak has no voice for (`de-at`) means the language (`de`). Where
    espeak's voice files cannot be read, any language is taken: the engine then decides.

    Raises:
        ConfigError: if there is no such voice; the text lists those with similar names.
    """
    wanted, plus, variant = name.strip().partition("+")
    language = wanted.lower().replace("_", "-")
    language = _ALIASES.get(language, language)
    known = languages()
    if known and language not in known:
        base = _REGION.sub("", language)
        base = _ALIASES.get(base, base)
        if base == language or base not in known:
            raise ConfigError(f"there is no voice {name!r}: {_near(language, sorted(known | _ALIASES.keys()))}")
        language = base
    if not plus:
        return language
    spelling = variants()
    if spelling and variant.lower() not in spelling:
        raise ConfigError(f"voice {name!r} has an unknown variant: {_near(variant, list(spelling.values()))}")
    return f"{language}+{spelling.get(variant.lower(), variant)}"


def _near(wrong: str, names: list[str]) -> str:
    by_key = {name.lower(): name for name in names}
    close = [by_key[key] for key in difflib.get_close_matches(wrong.lower(), by_key, n=5, cutoff=0.5)]
    same_start = [name for name in names if wrong and name.lower().startswith(wrong[:2].lower()) and name not in close]
    listed = ", ".join((close + same_start)[:6]) or ", ".join(names[:6]) + ", ..."
    return f"similar ones are {listed}; `voisnap-mock doctor` lists all"


def what_is_wrong_with(name: str) -> str | None:
    """The text of the error that `espeak_voice` raises for `name`; None when there is such a voice."""
    # Most agents have this one, and a server starts faster without looking at files.
    if name == "en-us":
        return None
    try:
        espeak_voice(name)
    except ConfigError as error:
        return str(error)
    return None
