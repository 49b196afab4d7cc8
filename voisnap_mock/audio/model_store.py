"""Vosk models that the user installed: fetched, checked, unpacked, tried, and only then put in place.

    models/
      NAME/                   a model that works; `voisnap-mock.json` in it says where it came from
      .downloads/             what has come so far of a download; the next attempt goes on from there
      .unpacking-XXXX/        an installation under way, taken away whatever becomes of it

Nothing is ever fetched by itself: `install` is called by a command that a person gave.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from voisnap_mock.audio.installed_models import NAME, NOTE, InstalledModel, installed_models, newest_model
from voisnap_mock.audio.model_download import Progress, download
from voisnap_mock.audio.vosk_model import VoskModel, check_model, model_folder, what_is_missing
from voisnap_mock.errors import ModelError

SITE = "https://alphacephei.com/vosk/models/"
"""Where the models that Vosk's project publishes lie; a bare name is looked for there, as NAME.zip."""

_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz)|gz|bz2|xz)$", re.IGNORECASE)
_MOST_FILES = 10_000
_MOST_BYTES = 40 * 1024**3
_PIECE = 1 << 20
_SPARE = 16 << 20


class ModelStore:
    """The models in one folder, which need not exist.

    Args:
        free_bytes: how much room there is where a folder lies.
        site: what a bare name is looked for under.
        check: raises ModelError for a model that does not work.
    """

    def __init__(
        self,
        folder: Path,
        *,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
        site: str = SITE,
        check: Callable[[Path], None] = check_model,
    ) -> None:
        self.folder = folder
        self._free_bytes = free_bytes
        self._site = site
        self._check = check

    def models(self) -> tuple[InstalledModel, ...]:
        """What is installed, the newest first: that one is used by `hears: auto`."""
        return installed_models(self.folder)

    def current(self) -> VoskModel | None:
        """The newest one, as `choose_model` wants it."""
        return newest_model(self.folder)

    def install(
        self, source: str, *, now: float, sha256: str | None = None, on_progress: Progress = lambda *_: None
    ) -> InstalledModel:
        """Put the model of an archive in place; one of the same name is replaced. Blocks.

        Args:
            source: a zip or tar archive on this machine, its URL, or the name of a model on Vosk's site.
            now: seconds since 1970, for the note.
            sha256: what the archive's checksum must be.

        Raises:
            ModelError: it cannot be fetched, is not what was expected, or does not work here. Nothing has changed then;
                a download that broke off goes on where it was when asked for again.
        """
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        url = self._url(source)
        archive = download(url, self.folder / ".downloads", free=self._free, on_progress=on_progress) if url else None
        path = archive if archive is not None else _local(source)
        found = _checksum(path, on_progress)
        if sha256 is not None and found != sha256.lower():
            if archive is not None:
                _forget(archive)
            raise ModelError(
                f"{source}: its SHA-256 is {found}, expected {sha256.lower()}: it is damaged, or another file than was"
                f" meant; nothing was installed"
            )
        with self._workplace() as workplace:
            unpacked = workplace / "unpacked"
            _unpack(path, unpacked, source=source, free=self._free, on_progress=on_progress)
            root = model_folder(unpacked)
            if root is None:
                raise ModelError(f"{source}: holds no Vosk model: {what_is_missing(unpacked)} missing")
            on_progress("trying it", 0, None)
            try:
                self._check(root)
            except ModelError as error:
                raise ModelError(str(error).replace(str(root), source)) from error
            name = root.name if root != unpacked else _name_of(url or str(path))
            if not NAME.fullmatch(name):
                raise ModelError(f"{source}: the folder in it is called {name!r}, which is no name for a model")
            model = InstalledModel(name, self.folder / name, url or str(path.resolve()), found, now)
            with _told(self.folder):
                note = {key: value for key, value in asdict(model).items() if key not in ("name", "folder")}
                (root / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
                _put_in_place(root, model.folder, workplace / "old")
        if archive is not None:
            _forget(archive)
        return model

    def _url(self, source: str) -> str | None:
        """Where to fetch it from; None for a file of this machine."""
        kind = source.partition("://")[0].lower() if "://" in source else ""
        if kind in ("http", "https"):
            return source
        if kind:
            raise ModelError(f"{source}: {kind}:// is not fetched here, give an http:// or https:// URL, or a file")
        is_name = NAME.fullmatch(source) and not _ARCHIVE.search(source) and not Path(source).exists()
        return f"{self._site}{source}.zip" if is_name else None

    def _free(self, need: int, what: str) -> None:
        """Make sure that there is room. Raises ModelError."""
        free = self._free_bytes(self.folder)
        if need + _SPARE > free:
            raise ModelError(
                f"{self.folder}: no room for {what}: it takes {_megabytes(need)}, {_megabytes(free)} are free;"
                f" VOISNAP_MOCK_CACHE names another folder"
            )

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """A folder in the store, so that to move something into place is to rename it."""
        with _told(self.folder):
            workplace = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=self.folder))
        try:
            yield workplace
        finally:
            shutil.rmtree(workplace, ignore_errors=True)


def _local(source: str) -> Path:
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            raise ModelError(f"{path}: is a folder; use it as it is with --vosk-model {path}, or install its archive")
        with path.open("rb"):
            return path
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _name_of(source: str) -> str:
    """What a model without a folder of its own is called: its archive's name."""
    path = unquote(urlsplit(source).path) if "://" in source else Path(source).name
    return _ARCHIVE.sub("", _ARCHIVE.sub("", PurePosixPath(path).name))


def _checksum(path: Path, on_progress: Progress) -> str:
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                done += len(piece)
                on_progress("checking", done, total)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _forget(archive: Path) -> None:
    for path in (archive, archive.with_suffix(".json")):
        with suppress(OSError):
            path.unlink()


def _put_in_place(model: Path, target: Path, old: Path) -> None:
    """Rename it to where it belongs; what is there becomes `old`."""
    if not target.exists():
        model.replace(target)
        return
    target.replace(old)
    try:
        model.replace(target)
    except OSError:
        old.replace(target)
        raise


# --- Archives -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def _unpack(
    archive: Path, folder: Path, *, source: str, free: Callable[[int, str], None], on_progress: Progress
) -> None:
    """Write every file of the archive below `folder`, and nothing anywhere else.

    Raises:
        ModelError: it is no archive, damaged, too large for the disk, or names places outside of `folder`.
    """
    try:
        folder.mkdir()
        with _opened(archive, source) as (members, total):
            if total is not None:
                free(total, source)
            done = files = 0
            for member in members:
                files, done = files + 1, done + member.size
                if files > _MOST_FILES or done > _MOST_BYTES:
                    raise ModelError(f"{source}: has more than {_MOST_FILES} files or {_megabytes(_MOST_BYTES)}")
                target = folder.joinpath(*_parts(member.name, source))
                free(member.size, source)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file, member.open() as content:
                    shutil.copyfileobj(content, file, _PIECE)
                    written = file.tell()
                if written != member.size:
                    raise ModelError(
                        f"{source}: is damaged: {member.name} has {written} bytes, it should have {member.size}"
                    )
                on_progress("unpacking", done, total)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise ModelError(
                f"{source}: is damaged: it holds a file of the same name twice ({error.filename})"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ModelError(f"{folder}: the disk is full: {error.strerror}; nothing was installed") from error
        raise ModelError(f"{source}: cannot be unpacked: {error.strerror or error}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError) as error:
        raise ModelError(f"{source}: is damaged, or no archive that is read here: {error}") from error


@contextmanager
def _opened(archive: Path, source: str) -> Iterator[tuple[Iterator[_Member], int | None]]:
    """The files in it, and how many bytes they will take, if it says so."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            files = [entry for entry in opened.infolist() if not entry.is_dir()]
            yield _of_zip(opened, files, source), sum(entry.file_size for entry in files)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as unpacked:
            yield _of_tar(unpacked, source), None
    else:
        with archive.open("rb") as file:
            head = file.read(16)
        raise ModelError(f"{source}: is neither a zip nor a tar archive: it starts with {head!r}")


def _of_zip(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo], source: str) -> Iterator[_Member]:
    for entry in files:
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise _suspicious(source, entry.filename, "is a link")
        if entry.flag_bits & 1:
            raise ModelError(f"{source}: is encrypted; unpack it yourself and use --vosk-model FOLDER")
        yield _Member(entry.filename, entry.file_size, lambda entry=entry: archive.open(entry))  # type: ignore[misc]


def _of_tar(archive: tarfile.TarFile, source: str) -> Iterator[_Member]:
    for entry in archive:
        if entry.isdir():
            continue
        if not entry.isreg():
            raise _suspicious(source, entry.name, "is a link" if entry.issym() or entry.islnk() else "is no file")
        content = archive.extractfile(entry)
        assert content is not None
        yield _Member(entry.name, entry.size, lambda content=content: content)  # type: ignore[misc]
    # At a header that makes no sense tarfile stops as if the archive ended there.
    rest = archive.fileobj
    assert rest is not None
    rest.seek(archive.offset)
    if rest.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"nonsense at place {archive.offset}")
    while rest.read(_PIECE):
        pass


def _parts(name: str, source: str) -> tuple[str, ...]:
    """The path of a member, if it leads nowhere else than below the folder that is unpacked into."""
    path = PurePosixPath(name)
    parts = tuple(part for part in path.parts if part != ".")
    if path.is_absolute() or ".." in parts or "\\" in name or ":" in name or "\0" in name or not parts:
        raise _suspicious(source, name, "leads out of the model's folder")
    return parts


def _suspicious(source: str, name: str, why: str) -> ModelError:
    return ModelError(f"{source}: {name!r} in it {why}: no model needs that, nothing was installed")


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise ModelError(
            f"{where}: cannot be written: {error.strerror}; VOISNAP_MOCK_CACHE names another folder"
        ) from error


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 10**7 else f"{count / 1e6:.1f} MB"
