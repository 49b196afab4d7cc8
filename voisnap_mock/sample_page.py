"""The sample page at `/`: a few static files, to talk to the agents and to begin a client with."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from fastapi import APIRouter, Response

FOLDER = Path(__file__).parent / "sample"

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    # Everything comes from this server: the page works without a network, and nothing of a call can go elsewhere.
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src data:; media-src 'self' blob:",
    "Cache-Control": "no-cache",
}


def build_sample_page() -> APIRouter:
    """The routes; they need no login, the page itself logs in."""
    router = APIRouter()
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            router.add_api_route("/" if path.name == "index.html" else f"/sample/{path.name}", _serve(path))
    router.add_api_route("/sample/readme", _show_readme)
    return router


def _serve(path: Path) -> Callable[[], Response]:
    # Not async: files are read in a worker thread.
    def serve() -> Response:
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)

    return serve


def _show_readme() -> Response:
    try:
        # The body of the package's metadata is its README.
        text = metadata("voisnap-mock").json.get("description", "")
    except PackageNotFoundError:
        text = "The package is not installed, so its README is only beside its source.\n"
    return Response(text, media_type="text/plain")
