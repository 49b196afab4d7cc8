"""The mock's own routes: health at the root, everything else below `/__voisnap/`."""

from collections.abc import Callable
from typing import Any, Protocol

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from voisnap_mock.cloud.rest import CONTROL_PREFIX


class Health(Protocol):
    """What the health routes ask."""

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What must still happen before calls can be taken; empty when ready."""
        ...


def build_control(health: Health, info: Callable[[], dict[str, Any]]) -> APIRouter:
    """The routes. `info` is asked on every request."""
    router = APIRouter()

    @router.get("/livez")
    async def livez() -> Response:
        return JSONResponse({"status": "alive"})

    @router.get("/readyz")
    async def readyz() -> Response:
        waiting_for = health.waiting_for
        if waiting_for:
            return JSONResponse({"status": "not ready", "waiting_for": list(waiting_for)}, 503)
        return JSONResponse({"status": "ready", "waiting_for": []})

    @router.get(f"{CONTROL_PREFIX}/info")
    async def show_info() -> Response:
        return JSONResponse(info())

    return router
