"""The Python side of a line client: plans in on standard input, what they see out; see `line_clients.py`."""

from __future__ import annotations

import json
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

_printing = threading.Lock()


class PlanRun:
    """One plan that is being carried out."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self._going: queue.Queue[Any] = queue.Queue()

    def emit(self, event: str, data: object = None) -> None:
        line = json.dumps({"run": self.plan["run"], "event": event, "data": data})
        with _printing:
            print(line, flush=True)

    def go(self, value: object) -> None:
        self._going.put(value)

    def told(self) -> Any:
        """Wait until the test lets this run go on."""
        return self._going.get()


def serve(plans: Mapping[str, Callable[[PlanRun], object]]) -> None:
    """Carry out every plan that comes, each in a thread of its own, until standard input ends."""
    runs: dict[int, PlanRun] = {}

    def carry_out(run: PlanRun) -> None:
        try:
            run.emit("done", plans[run.plan["do"]](run))
        except BaseException:  # noqa: BLE001  the clients have no common root for their errors
            run.emit("failed", traceback.format_exc())

    for line in sys.stdin:
        message = json.loads(line)
        if "go" in message:
            runs[message["run"]].go(message["go"])
        else:
            run = runs[message["run"]] = PlanRun(message)
            threading.Thread(target=carry_out, args=(run,), daemon=True).start()
