"""Sessions that run: the drivers round the pure machines of `engine.call` and `engine.chat`."""

from __future__ import annotations

from voisnap_mock.engine.runner.session import Channel, Outlet, Session, Status
from voisnap_mock.engine.runner.table import Resumption, SessionTable

__all__ = ["Channel", "Outlet", "Resumption", "Session", "SessionTable", "Status"]
