"""Sessions that run: the drivers round the pure machines of `engine.call` and `engine.chat`."""

from __future__ import annotations

from voisnap_mock.engine.runner.session import Channel, Outlet, Session, Status
from voisnap_mock.engine.runner.table import ClockMode, Resumption, SessionTable

__all__ = ["Channel", "ClockMode", "Outlet", "Resumption", "Session", "SessionTable", "Status"]
