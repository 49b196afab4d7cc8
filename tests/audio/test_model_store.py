"""Models are installed from archives: whole, checked, and nowhere else than they belong."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from voisnap_mock.audio.model_store import ModelStore
from voisnap_mock.audio.vosk_ear import VoskEar
from voisnap_mock.audio.vosk_model import BUILT_IN_FOLDER, VoskModel, choose_model
from voisnap_mock.errors import ModelError

NOW = 1_750_000_000.0


def model_files() -> dict[str, bytes]:
    """What looks like a model; it is tried where a test says so."""
    rng = random.Random(1)
    names = ("am/final.mdl", "conf/mfcc.conf", "conf/model.conf", "graph/Gr.fst", "graph/HCLr.fst", "graph/words.txt")
    return {name: rng.randbytes(60_000) for name in (*names, "graph/disambig_tid.int")}


def built_in_files() -> dict[str, bytes]:
    """A model that works: the only one there can be in a test."""
    return {
        str(path.relative_to(BUILT_IN_FOLDER)): path.read_bytes()
        for path in sorted(BUILT_IN_FOLDER.rglob("*"))
        if path.is_file()
    }


def zipped(files: dict[str, bytes] | None = None, *, prefix: str = "vosk-model-tiny-1/") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in (model_files() if files is None else files).items():
            archive.writestr(prefix + name, content)
    return data.getvalue()


def tarred(mode: str = "w:gz", *, prefix: str = "vosk-model-tiny-1/", **links: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, **({"compresslevel": 1} if mode == "w:gz" else {})) as archive:
        for name, content in model_files().items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(prefix + name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return data.getvalue()


GOOD = zipped()


def takes_all(folder: Path) -> None:
    """A trial that every model passes: the real one takes a process and half a second."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "cache" / "models", check=takes_all)


def written(tmp_path: Path, data: bytes, name: str = "model.zip") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def left_over(store: ModelStore) -> list[str]:
    """What lies in the store besides models."""
    return [str(path.relative_to(store.folder)) for path in store.folder.rglob(".*")] if store.folder.exists() else []


# --- From this machine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "form"), [("model.zip", "zip"), ("model.tar.gz", "w:gz"), ("model.tar", "w"), ("model", "zip")]
)
def test_a_model_is_installed_from_an_archive_and_used(store: ModelStore, tmp_path: Path, name: str, form: str) -> None:
    data = GOOD if form == "zip" else tarred(form)
    told: list[tuple[str, int, int | None]] = []
    source = written(tmp_path, data, name)
    model = store.install(source, now=NOW, on_progress=lambda *news: told.append(news))
    assert (model.name, model.source, model.sha256) == ("vosk-model-tiny-1", source, hashlib.sha256(data).hexdigest())
    assert store.models() == (model,)
    assert store.current() == VoskModel(model.folder, "models install")
    assert choose_model(installed=store.current()).folder == model.folder
    assert choose_model(flag="/m", installed=store.current()).folder == Path("/m")
    assert (model.folder / "am" / "final.mdl").read_bytes() == model_files()["am/final.mdl"]
    assert model.size > 100_000
    assert left_over(store) == []
    assert list(dict.fromkeys(what for what, _, _ in told)) == ["checking", "unpacking", "trying it"]


@pytest.mark.parametrize("prefix", ["", "deep/folder/"])
def test_a_model_without_a_folder_of_its_own_is_called_like_its_archive(
    store: ModelStore, tmp_path: Path, prefix: str
) -> None:
    model = store.install(written(tmp_path, zipped(prefix=prefix), "my-model.zip"), now=NOW)
    assert model.name == ("folder" if prefix else "my-model")


def test_a_model_that_works_is_installed_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    model = store.install(written(tmp_path, zipped(built_in_files())), now=NOW)
    assert (model.folder / "am" / "final.mdl").read_bytes() == built_in_files()["am/final.mdl"]
    assert VoskEar(VoskModel(model.folder)).open().finish(0.0) is None
    broken = zipped({**built_in_files(), "am/final.mdl": b"nonsense" * 100}, prefix="broken/")
    with pytest.raises(ModelError, match=r"broken\.zip is no usable Vosk model: a file is damaged or does not fit"):
        store.install(written(tmp_path, broken, "broken.zip"), now=NOW)
    assert store.models() == (model,)
    assert left_over(store) == []


def test_the_newest_model_counts_and_one_of_the_same_name_is_replaced(store: ModelStore, tmp_path: Path) -> None:
    source = written(tmp_path, GOOD)
    store.install(source, now=NOW)
    other = store.install(written(tmp_path, zipped(prefix="other/"), "other.zip"), now=NOW + 1)
    assert store.current() == VoskModel(other.folder, "models install")
    (store.folder / "vosk-model-tiny-1" / "rubbish").write_text("x")
    again = store.install(source, now=NOW + 2)
    assert [model.name for model in store.models()] == ["vosk-model-tiny-1", "other"]
    assert not (again.folder / "rubbish").exists()
    assert left_over(store) == []


def test_a_model_put_there_by_hand_counts_too(store: ModelStore) -> None:
    shutil.copytree(BUILT_IN_FOLDER, store.folder / "mine")
    (store.folder / "no folder").write_text("x")
    (model,) = store.models()
    assert (model.name, model.installed_at) == ("mine", 0.0)


def test_an_empty_store_has_no_model(store: ModelStore) -> None:
    assert store.models() == ()
    assert store.current() is None


def test_a_checksum_is_kept_to(store: ModelStore, tmp_path: Path) -> None:
    source = written(tmp_path, GOOD)
    with pytest.raises(ModelError, match=rf"its SHA-256 is {hashlib.sha256(GOOD).hexdigest()}, expected 00"):
        store.install(source, now=NOW, sha256="00" * 32)
    assert store.models() == ()
    assert store.install(source, now=NOW, sha256=hashlib.sha256(GOOD).hexdigest().upper()).name == "vosk-model-tiny-1"


# --- What is wrong with archives ------------------------------------------------------------------------------------


def without(*names: str) -> bytes:
    return zipped({name: content for name, content in model_files().items() if name not in names})


def with_link() -> bytes:
    data = io.BytesIO(GOOD)
    with zipfile.ZipFile(data, "a") as archive:
        entry = zipfile.ZipInfo("vosk-model-tiny-1/link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return data.getvalue()


def with_member(name: str) -> bytes:
    data = io.BytesIO(GOOD)
    with zipfile.ZipFile(data, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(name, b"evil")
    return data.getvalue()


def bitten(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(byte ^ 0x55 for byte in data[at : at + 40]) + data[at + 40 :]


def encrypted() -> bytes:
    """The flag alone: that is what readers go by."""
    data = bytearray(GOOD)
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    return bytes(data)


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", r"neither a zip nor a tar archive: it starts with b''"),
    "a web page": (
        lambda: b"<!DOCTYPE html><html>404</html>",
        r"neither a zip nor a tar archive: it starts with b'<!DOCTYPE html><",
    ),
    "a zip cut off": (lambda: GOOD[: len(GOOD) // 2], r"neither a zip nor a tar archive"),
    "a tar cut off": (lambda: tarred()[:200_000], r"is damaged, or no archive"),
    "a damaged zip": (lambda: bitten(GOOD, 50_000), r"is damaged"),
    "a damaged tar": (lambda: bitten(tarred(), 50_000), r"is damaged|cannot be unpacked"),
    "gzip that is no tar": (lambda: gzip.compress(b"hello" * 1000), r"neither a zip nor a tar archive"),
    "no model in it": (lambda: zipped({"README": b"hello"}), r"holds no Vosk model: .*am/final.mdl.* missing"),
    "a file missing": (lambda: without("graph/Gr.fst"), r"holds no Vosk model: graph/Gr.fst missing"),
    "a name that is none": (lambda: zipped(prefix="my model!/"), r"the folder in it is called 'my model!'"),
    "zip slip, up": (lambda: with_member("../../evil"), r"'../../evil' in it leads out of the model's folder"),
    "zip slip, deep": (lambda: with_member("vosk-model-tiny-1/a/../../../evil"), r"leads out of the model's folder"),
    "zip slip, absolute": (lambda: with_member("/tmp/evil"), r"'/tmp/evil' in it leads out"),
    "zip slip, drive": (lambda: with_member("C:evil"), r"'C:evil' in it leads out"),
    "zip slip, backslash": (lambda: with_member("..\\evil"), r"leads out"),
    "a link in a zip": (with_link, r"'vosk-model-tiny-1/link' in it is a link"),
    "a link in a tar": (lambda: tarred(evil="/etc"), r"'vosk-model-tiny-1/evil' in it is a link"),
    "a file twice": (lambda: with_member("vosk-model-tiny-1/am/final.mdl"), r"holds a file of the same name twice"),
    "a file that is a folder too": (lambda: with_member("vosk-model-tiny-1/am/final.mdl/x"), r"of the same name twice"),
    "encrypted": (encrypted, r"is encrypted"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_archive_that_is_wrong_changes_nothing(store: ModelStore, tmp_path: Path, case: str) -> None:
    make, says = WRONG[case]
    data = make()
    before = store.install(written(tmp_path, GOOD, "before.zip"), now=NOW) if case == "a damaged zip" else None
    with pytest.raises(ModelError, match=says):
        store.install(written(tmp_path, data), now=NOW)
    assert store.models() == (() if before is None else (before,))
    assert left_over(store) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {"cache", "model.zip"} | ({"before.zip"} if before else set())
    )
    assert not Path("/tmp/evil").exists()


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models", free_bytes=lambda folder: 20_000_000, check=takes_all)
    with pytest.raises(ModelError, match=r"no room for .*model\.zip: it takes [\d.]+ MB, 20 MB are free"):
        store.install(written(tmp_path, zipped({**model_files(), "big": bytes(10_000_000)})), now=NOW)
    assert left_over(store) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_meanwhile_is_told(store: ModelStore, site: Site) -> None:
    url = site.offers("/model.zip", GOOD)
    part = store.folder / ".downloads" / f"{hashlib.sha256(url.encode()).hexdigest()[:20]}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(ModelError, match="the disk is full: No space left on device"):
        store.install(url, now=NOW)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ModelError, match=r"cannot be written: .*VOISNAP_MOCK_CACHE names another folder"):
        ModelStore(tmp_path / "file" / "models").install(written(tmp_path, GOOD), now=NOW)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("no/such/file.zip", "cannot be read: No such file"),
        ("ftp://example.test/model.zip", "ftp:// is not fetched here"),
        ("file:///etc/passwd", "file:// is not fetched here"),
        (str(BUILT_IN_FOLDER), "is a folder; use it as it is with --vosk-model"),
    ],
)
def test_what_cannot_be_a_source_is_told(store: ModelStore, source: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        store.install(source, now=NOW)


# --- From the network -----------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A web server of our own; `seen` are the ranges asked for, `breaks_after` cuts the next answers short."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    seen: list[str | None] = field(default_factory=list)
    breaks_after: list[int] = field(default_factory=list)
    etag: str = '"one"'
    knows_ranges: bool = True

    def offers(self, path: str, data: bytes) -> str:
        self.files[path] = data
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    known = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = known.files.get(self.path)
            asked = self.headers.get("Range")
            known.seen.append(asked)
            if data is None:
                self.send_error(404)
                return
            begin = 0
            if asked is not None and known.knows_ranges and self.headers.get("If-Range") == known.etag:
                begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(data) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - begin))
            if known.etag:
                self.send_header("ETag", known.etag)
            self.end_headers()
            end = known.breaks_after.pop(0) if known.breaks_after else len(data)
            self.wfile.write(data[begin:end])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_url_is_fetched_with_progress(store: ModelStore, site: Site) -> None:
    told: list[tuple[str, int, int | None]] = []
    url = site.offers("/models/tiny.zip?x=1", GOOD)
    model = store.install(url, now=NOW, on_progress=lambda *news: told.append(news))
    assert model.source == url
    downloading = [(done, total) for what, done, total in told if what == "downloading"]
    assert downloading[0] == (0, len(GOOD))
    assert downloading[-1] == (len(GOOD), len(GOOD))
    assert list((store.folder / ".downloads").iterdir()) == []


def test_a_name_is_looked_for_on_the_site(tmp_path: Path, site: Site) -> None:
    site.offers("/vosk-model-tiny-1.zip", GOOD)
    store = ModelStore(tmp_path, site=f"{site.url}/", check=takes_all)
    assert store.install("vosk-model-tiny-1", now=NOW).name == "vosk-model-tiny-1"
    with pytest.raises(ModelError, match=r"/vosk-model-none\.zip: the server answered 404 Not Found"):
        store.install("vosk-model-none", now=NOW)


def test_a_download_that_broke_off_goes_on_where_it_was(store: ModelStore, site: Site) -> None:
    url = site.offers("/tiny.zip", GOOD)
    site.breaks_after = [100_000, 250_000]
    for kept in (100_000, 250_000):
        with pytest.raises(ModelError, match=rf"{kept} .*bytes are kept: the same command goes on from there"):
            store.install(url, now=NOW)
    assert store.install(url, now=NOW).sha256 == hashlib.sha256(GOOD).hexdigest()
    assert site.seen == [None, "bytes=100000-", "bytes=250000-"]


def changed(site: Site) -> None:
    site.etag = '"two"'


def no_ranges(site: Site) -> None:
    site.knows_ranges = False


@pytest.mark.parametrize("change", [changed, no_ranges])
def test_a_file_that_has_changed_meanwhile_is_fetched_anew(
    store: ModelStore, site: Site, change: Callable[[Site], None]
) -> None:
    url = site.offers("/tiny.zip", zipped(prefix="older-one/"))
    site.breaks_after = [100_000]
    with pytest.raises(ModelError, match="100000"):
        store.install(url, now=NOW)
    site.offers("/tiny.zip", GOOD)
    change(site)
    assert store.install(url, now=NOW).name == "vosk-model-tiny-1"


def test_without_a_validator_nothing_is_gone_on_with(store: ModelStore, site: Site) -> None:
    url = site.offers("/tiny.zip", GOOD)
    site.etag, site.breaks_after = "", [100_000]
    with pytest.raises(ModelError, match=r"after 100000 of \d+ bytes$"):
        store.install(url, now=NOW)
    assert store.install(url, now=NOW).name == "vosk-model-tiny-1"
    assert site.seen == [None, None]


def test_a_download_that_was_complete_is_not_fetched_again(store: ModelStore, site: Site) -> None:
    url = site.offers("/tiny.zip", GOOD)

    def refuse(folder: Path) -> None:
        raise ModelError("not today")

    with pytest.raises(ModelError, match="not today"):
        ModelStore(store.folder, check=refuse).install(url, now=NOW)
    assert store.install(url, now=NOW).name == "vosk-model-tiny-1"
    assert site.seen == [None, f"bytes={len(GOOD)}-"]


def test_a_download_of_the_wrong_checksum_is_thrown_away(store: ModelStore, site: Site) -> None:
    url = site.offers("/tiny.zip", GOOD)
    with pytest.raises(ModelError, match="its SHA-256 is"):
        store.install(url, now=NOW, sha256="00" * 32)
    assert list((store.folder / ".downloads").iterdir()) == []


def test_a_server_that_is_not_there_is_told(store: ModelStore) -> None:
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/x\.zip: cannot be fetched: Connection refused$"):
        store.install("http://127.0.0.1:9/x.zip", now=NOW)


def test_an_interrupted_installation_leaves_nothing_behind(store: ModelStore, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int | None) -> None:
        if what == "unpacking":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.install(written(tmp_path, GOOD), now=NOW, on_progress=interrupt)
    assert left_over(store) == []


def test_the_note_says_where_it_came_from(store: ModelStore, tmp_path: Path) -> None:
    model = store.install(written(tmp_path, GOOD), now=NOW)
    note = json.loads((model.folder / "voisnap-mock.json").read_text())
    assert note == {"source": os.fspath(tmp_path / "model.zip"), "sha256": model.sha256, "installed_at": NOW}
