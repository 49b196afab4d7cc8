"""A file over HTTP that goes on where it broke off."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from voisnap_mock.errors import ModelError

_PIECE = 1 << 18
_SILENT_FOR = 30.0
_ATTEMPTS = 3


class Progress(Protocol):
    """Told what is being done, and how much of how much is done; None when that is not known."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is there of a file, and what tells whether the server still has the same one."""

    size: int
    validator: str


def download(url: str, folder: Path, *, free: Callable[[int, str], None], on_progress: Progress) -> Path:
    """Fetch `url` into a file of `folder`; what is there of an earlier attempt is not fetched again.

    Args:
        free: asked whether there is room for so many bytes; raises when there is not.

    Raises:
        ModelError: it cannot be fetched, or not to its end; what has come so far is kept.
    """
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:20]}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            if _fetch(url, path, free=free, on_progress=on_progress):
                return path
    except HTTPError as error:
        with error:
            raise ModelError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ModelError(f"{url}: cannot be fetched: {_said(reason)}{_kept(path)}") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "the disk is full" if full else "cannot be written"
        raise ModelError(f"{error.filename or folder}: {why}: {error.strerror}") from error
    raise ModelError(f"{url}: the server keeps sending something else than it announced; try again later")


def _fetch(url: str, path: Path, *, free: Callable[[int, str], None], on_progress: Progress) -> bool:
    """One attempt; False when it has to begin anew."""
    begun = _begun(path)
    headers = {"User-Agent": "voisnap-mock", "Accept-Encoding": "identity"}
    if begun is not None:
        headers |= {"Range": f"bytes={begun.size}-", "If-Range": begun.validator}
    try:
        answer = urlopen(Request(url, headers=headers), timeout=_SILENT_FOR)
    except HTTPError as error:
        if error.code != 416 or begun is None:
            raise
        error.close()
        # There is nothing beyond what is here: all of it, or a file that has become shorter.
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(begun.size):
            return True
        path.unlink()
        return False
    with answer:
        at = begun.size if begun is not None and answer.status == 206 else 0
        if at and not re.match(rf"bytes {at}-", answer.headers.get("Content-Range", "")):
            path.unlink()
            return False
        length = answer.headers.get("Content-Length", "")
        total = at + int(length) if length.isdecimal() else None
        if total is not None:
            free(total - at, url)
        if not at:
            _note(path, answer.headers)
        with path.open("ab" if at else "wb") as file:
            on_progress("downloading", at, total)
            while piece := answer.read(_PIECE):
                file.write(piece)
                at += len(piece)
                on_progress("downloading", at, total)
        if total is not None and at < total:
            raise ModelError(f"{url}: the connection ended after {at} of {total} bytes{_kept(path)}")
    return True


def _begun(path: Path) -> _Begun | None:
    """What can be gone on with: without a validator nobody knows whether it is still the same file."""
    try:
        size = path.stat().st_size
        validator = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["validator"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return _Begun(size, validator) if size and isinstance(validator, str) and validator else None


def _note(path: Path, headers: Mapping[str, str]) -> None:
    etag = headers.get("ETag", "")
    # A weak validator does not vouch for single bytes.
    validator = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
    path.with_suffix(".json").write_text(json.dumps({"validator": validator}), encoding="utf-8")


def _kept(path: Path) -> str:
    with suppress(OSError):
        if _begun(path) is not None:
            return f". {path.stat().st_size} bytes are kept: the same command goes on from there"
    return ""


def _said(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__
