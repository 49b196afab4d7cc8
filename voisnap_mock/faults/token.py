"""A run's faults as one word that can be given back: `faults1.<seed>.<rules, packed>`."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from typing import Any

PREFIX = "faults1."
_TOKEN = re.compile(r"\s*faults1\.([0-9]{1,40})\.([A-Za-z0-9_-]+)\s*")
_MOST_BYTES = 8 * 2**20


def text_to_token(written: Any, seed: int) -> str:
    """Pack decoded JSON of `faults.writing` and the seed of the draws."""
    packed = zlib.compress(json.dumps(written, separators=(",", ":"), sort_keys=True).encode(), 9)
    return f"faults1.{seed}.{base64.urlsafe_b64encode(packed).rstrip(b'=').decode()}"


def is_token(text: str) -> bool:
    """Whether the text is meant to be one, whole or damaged."""
    return text.lstrip().startswith(PREFIX)


def token_to_text(text: str | bytes) -> tuple[int | None, str | bytes]:
    """Seed and rules of a token; any other text comes back as it is, without a seed.

    Raises:
        ValueError: it begins as a token and is damaged.
    """
    if isinstance(text, bytes) and text.lstrip().startswith(PREFIX.encode()):
        text = text.decode("ascii", "replace")
    if isinstance(text, bytes) or not is_token(text):
        return None, text
    found = _TOKEN.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        packed = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(packed, _MOST_BYTES)
        if not unpacker.eof:
            raise ValueError
        return int(found[1]), unpacked.decode()
    except (ValueError, zlib.error, binascii.Error):
        raise ValueError("this token is damaged: copy it whole, from faults1. to its end") from None
