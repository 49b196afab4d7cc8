"""The sample page at `/`: a few static files, to talk to the agents and to begin a client with."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from fastapi import APIRouter, Request, Response

FOLDER = Path(__file__).parent / "sample"

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HOST = re.compile(r"[\w.:\[\]-]+", re.ASCII)


def build_sample_page() -> APIRouter:
    """The routes; they need no login, the page itself logs in."""
    router = APIRouter()
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            router.add_api_route("/" if path.name == "index.html" else f"/sample/{path.name}", _serve(path))
    router.add_api_route("/sample/readme", _show_readme)
    return router


def _serve(path: Path) -> Callable[[Request], Response]:
    # Not async: files are read in a worker thread.
    def serve(request: Request) -> Response:
        headers = {"Content-Security-Policy": policy_for(request.headers.get("Host", "")), "Cache-Control": "no-cache"}
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)

    return serve


def policy_for(host: str) -> str:
    """What the page may load and reach: this server alone. It works without a network, and nothing is sent elsewhere.

    Args:
        host: as the browser knows the server; not every browser takes 'self' to include its WebSockets.
    """
    hubs = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return f"default-src 'self'; connect-src 'self'{hubs}; img-src data:; media-src 'self' blob:; base-uri 'none'"


def _show_readme() -> Response:
    try:
        # The body of the package's metadata is its README.
        text = metadata("voisnap-mock").json.get("description", "")
    except PackageNotFoundError:
        text = "The package is not installed, so its README is only beside its source.\n"
    return Response(text, media_type="text/plain")
