"""Does to a hub what programs with the unmodified `signalrcore` do; `python signalrcore_hubs.py`, see `plan_lines.py`.

What this client cannot do is not asked of it: uploads have no result, and over MessagePack they are malformed; over
long polling it hands out one record of each answer, and no MessagePack at all; after a TCP reset it does not come back.
"""

from __future__ import annotations

import base64
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from plan_lines import PlanRun, serve
from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.subject import Subject
from signalrcore.types import HttpTransportType, HubProtocolEncoding

TRANSPORTS = {
    "ws": HttpTransportType.web_sockets,
    "sse": HttpTransportType.server_sent_events,
    "poll": HttpTransportType.long_polling,
}


class Connection:
    """A hub connection whose callbacks are waited for."""

    def __init__(self, plan: dict[str, Any]) -> None:
        options: dict[str, Any] = {"transport": TRANSPORTS[plan["transport"]]}
        url = plan["url"]
        if "token" in plan:
            options["access_token_factory"] = lambda: plan["token"]
        if plan.get("skipNegotiation"):
            url = url.replace("http", "ws", 1)
            options["skip_negotiation"] = True
        binary = plan["protocol"] == "messagepack"
        builder = HubConnectionBuilder().with_url(url, options=options).configure_logging(logging.CRITICAL + 1)
        builder = builder.with_hub_protocol(HubProtocolEncoding.binary if binary else HubProtocolEncoding.text)
        if plan.get("reconnect"):
            builder = builder.with_automatic_reconnect({"type": "interval", "intervals": [0.1, 0.2, 0.4, 0.8]})
        self.hub = builder.build()
        self._opened: queue.Queue[str] = queue.Queue()
        self._errors: queue.Queue[dict[str, Any]] = queue.Queue()
        self.closed: queue.Queue[str] = queue.Queue()
        self.hub.on_open(lambda: self._opened.put("open"))
        self.hub.on_reconnect(lambda: self._opened.put("reconnected"))
        self.hub.on_close(lambda: self.closed.put("closed"))
        self.hub.on_error(lambda completion: self._errors.put({"error": completion.error}))

    def start(self) -> Connection:
        self.hub.start()
        self.opened()
        return self

    def leave(self) -> None:
        # It waits in vain for its own reader, until the server's next ping.
        threading.Thread(target=self.hub.stop, daemon=True).start()

    def opened(self) -> str:
        return self._opened.get(timeout=10)

    def on(self, target: str) -> queue.Queue[list[Any]]:
        """The arguments of each call of `target`."""
        calls: queue.Queue[list[Any]] = queue.Queue()
        self.hub.on(target, calls.put)
        return calls

    def invoke(self, method: str, *arguments: Any) -> dict[str, Any]:
        """Call a method and wait; errors come to all callers alike, so there is only one call at a time."""
        self.hub.invoke(method, list(arguments), lambda completion: self._errors.put({"result": completion.result}))
        return self._errors.get(timeout=10)

    def drain(self, run: PlanRun, method: str, *arguments: Any) -> dict[str, Any]:
        """Everything that a stream brings; the test lets it begin, because one can subscribe only after the call."""
        items: list[Any] = []
        self.hub.stream(method, list(arguments)).subscribe(
            {
                "next": items.append,
                "complete": lambda _: self._errors.put({}),
                "error": lambda _: self._errors.put({"error": "cancelled"}),
            }
        )
        run.emit("subscribed")
        return {"items": items} | self._errors.get(timeout=10)


def calls(run: PlanRun) -> object:
    connection = Connection(run.plan).start()
    answers = [connection.invoke(method, *arguments) for method, *arguments in run.plan["calls"]]
    who = connection.invoke("WhoAmI").get("result")
    connection.leave()
    return {"answers": answers, "id": who}


def exchange_bytes(run: PlanRun) -> object:
    connection = Connection(run.plan).start()
    text = run.plan["bytes"]
    echoed = connection.invoke("EchoBytes", base64.b64decode(text) if run.plan["protocol"] == "messagepack" else text)
    connection.leave()
    result = echoed["result"]
    is_binary = isinstance(result, bytes)
    return {"isBinary": is_binary, "echoed": base64.b64encode(result).decode() if is_binary else result}


def events(run: PlanRun) -> object:
    connection = Connection(run.plan)
    announced = connection.on("Announced")
    connection.start()
    connection.hub.send("Announce", [run.plan["value"]])
    value, data, nothing = announced.get(timeout=10)
    connection.leave()
    return [value, base64.b64encode(data).decode() if isinstance(data, bytes) else data, nothing]


def glued(run: PlanRun) -> object:
    """Ten events and a completion, which the server may well put in one answer."""
    connection = Connection(run.plan)
    records: queue.Queue[Any] = queue.Queue()
    connection.hub.on("Flooded", lambda arguments: records.put(arguments[0]))
    connection.start()
    connection.hub.invoke("Flood", [10, 1], lambda completion: records.put(["result", completion.result]))
    seen: list[Any] = []
    while len(seen) < 11:
        try:
            seen.append(records.get(timeout=0.1))
        except queue.Empty:
            # Of every poll's answer this client hands out one record only: another answer brings the next one.
            connection.hub.send("Nothing", [])
    connection.leave()
    return seen


def streams(run: PlanRun) -> object:
    connection = Connection(run.plan).start()
    result = [connection.drain(run, "Gated", *arguments) for arguments in run.plan["streams"]]
    connection.leave()
    return result


def uploads(run: PlanRun) -> object:
    connection = Connection(run.plan)
    summed = connection.on("Summed")
    connection.start()
    subject = Subject()
    connection.hub.send("SumAndTell", subject)
    for number in run.plan["numbers"]:
        subject.next(number)
    subject.complete()
    (total,) = summed.get(timeout=10)
    connection.leave()
    return total


def bye(run: PlanRun) -> object:
    connection = Connection(run.plan).start()
    answer = connection.invoke("Bye", run.plan.get("error"), run.plan["allowReconnect"])
    return {"answer": answer, "closed": connection.closed.get(timeout=10)}


def lost(run: PlanRun) -> object:
    connection = Connection(run.plan).start()
    before = connection.invoke("WhoAmI")["result"]
    run.emit("cut me off")
    connection.opened()
    after = connection.invoke("WhoAmI")["result"]
    connection.leave()
    return {"before": before, "after": after}


def starts(run: PlanRun) -> object:
    connection = Connection(run.plan)
    try:
        connection.start()
    except Exception as error:  # noqa: BLE001  the client has no common root for its errors
        return {"error": type(error).__name__}
    answer = connection.invoke("User")
    connection.leave()
    return answer


PLANS: dict[str, Callable[[PlanRun], object]] = {
    "calls": calls,
    "bytes": exchange_bytes,
    "events": events,
    "glued": glued,
    "streams": streams,
    "uploads": uploads,
    "bye": bye,
    "lost": lost,
    "starts": starts,
}

if __name__ == "__main__":
    serve(PLANS)
