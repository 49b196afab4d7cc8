"""Does to a hub what programs with the unmodified `pysignalr` do; `python pysignalr_hubs.py`, see `plan_lines.py`.

This client knows WebSockets only. Whatever ended a connection, it asks for the same one again, gets 404, and then
negotiates for a new one, even after a Close that forbids it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

from plan_lines import PlanRun, serve
from pysignalr.client import SignalRClient
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol

Plan = Callable[[PlanRun, "Connection"], Awaitable[object]]


class Connection:
    """A client whose callbacks are awaited."""

    def __init__(self, plan: dict[str, Any]) -> None:
        headers = {"Authorization": f"Bearer {plan['token']}"} if "token" in plan else None
        protocol = MessagepackProtocol() if plan["protocol"] == "messagepack" else JSONProtocol()
        self.client = SignalRClient(
            plan["url"], protocol=protocol, headers=headers, retry_count=3, retry_sleep=plan.get("retrySleep", 60.0)
        )
        self.opened = asyncio.Event()
        self.client.on_open(self._open)
        self.client.on_error(self._ignore)

    async def _open(self) -> None:
        self.opened.set()

    async def _ignore(self, message: object) -> None:
        """The same error comes to the invocation, too."""

    def on(self, target: str) -> asyncio.Queue[list[Any]]:
        """The arguments of each call of `target`."""
        calls: asyncio.Queue[list[Any]] = asyncio.Queue()

        async def take(arguments: list[Any]) -> None:
            calls.put_nowait(arguments)

        self.client.on(target, take)
        return calls

    async def invoke(self, method: str, *arguments: Any) -> dict[str, Any]:
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        async def answer(message: Any) -> None:
            answered.set_result({"error": message.error} if message.error else {"result": message.result})

        await self.client.send(method, list(arguments), answer)
        return await asyncio.wait_for(answered, 10)

    async def drain(self, method: str, *arguments: Any) -> dict[str, Any]:
        items: list[Any] = []
        ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        async def take(item: Any) -> None:
            items.append(item)

        async def complete(_: Any) -> None:
            ended.set_result({})

        async def fail(message: Any) -> None:
            ended.set_result({"error": message.error})

        await self.client.stream(method, list(arguments), take, complete, fail)
        return {"items": items} | await asyncio.wait_for(ended, 10)


async def calls(run: PlanRun, connection: Connection) -> object:
    answers = [await connection.invoke(method, *arguments) for method, *arguments in run.plan["calls"]]
    return {"answers": answers, "id": (await connection.invoke("WhoAmI"))["result"]}


async def exchange_bytes(run: PlanRun, connection: Connection) -> object:
    text = run.plan["bytes"]
    sent = base64.b64decode(text) if run.plan["protocol"] == "messagepack" else text
    result = (await connection.invoke("EchoBytes", sent))["result"]
    is_binary = isinstance(result, bytes)
    return {"isBinary": is_binary, "echoed": base64.b64encode(result).decode() if is_binary else result}


async def events(run: PlanRun, connection: Connection) -> object:
    announced = connection.on("Announced")
    await connection.client.send("Announce", [run.plan["value"]])
    value, data, nothing = await asyncio.wait_for(announced.get(), 10)
    return [value, base64.b64encode(data).decode() if isinstance(data, bytes) else data, nothing]


async def streams(run: PlanRun, connection: Connection) -> object:
    return [
        await connection.drain("Count", 5),
        await connection.drain("CountThenFail", 2),
        await connection.drain("NoSuchMethod"),
    ]


async def uploads(run: PlanRun, connection: Connection) -> object:
    summed = connection.on("Summed")
    async with connection.client.client_stream("SumAndTell") as stream:
        for number in run.plan["numbers"]:
            await stream.send(number)
    (total,) = await asyncio.wait_for(summed.get(), 10)
    return total


async def client_results(run: PlanRun, connection: Connection) -> object:
    async def answer(arguments: list[Any]) -> str:
        return f"{arguments[0]}!"

    connection.client.on("Answer", answer)
    return await connection.invoke("AskBack", "hello")


async def bye(run: PlanRun, connection: Connection) -> object:
    return await connection.invoke("Bye", run.plan.get("error"), run.plan["allowReconnect"])


async def lost(run: PlanRun, connection: Connection) -> object:
    """The connection is ended by the server or cut by the test, and another one is made."""
    before = (await connection.invoke("WhoAmI"))["result"]
    connection.opened.clear()
    if run.plan.get("bye"):
        await connection.client.send("Bye", [None, False])
    run.emit("cut me off")
    await asyncio.wait_for(connection.opened.wait(), 10)
    return {"before": before, "after": (await connection.invoke("WhoAmI"))["result"]}


async def user(run: PlanRun, connection: Connection) -> object:
    return await connection.invoke("User")


PLANS: dict[str, Plan] = {
    "calls": calls,
    "bytes": exchange_bytes,
    "events": events,
    "streams": streams,
    "uploads": uploads,
    "clientResults": client_results,
    "bye": bye,
    "lost": lost,
    "starts": user,
}


def carry_out(plan: Plan) -> Callable[[PlanRun], object]:
    """Run a plan on a connection of its own; with `untilEnd` in the plan, also say how the client ended."""

    async def connected(run: PlanRun) -> object:
        connection = Connection(run.plan)
        running = asyncio.create_task(connection.client.run())
        opening = asyncio.create_task(connection.opened.wait())
        await asyncio.wait((running, opening), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            opening.cancel()
            return {"ended": describe(running.exception())}
        answer = await plan(run, connection)
        if run.plan.get("untilEnd"):
            await asyncio.wait((running,), timeout=10)
            return {"answer": answer, "ended": describe(running.exception())}
        running.cancel()
        await asyncio.wait((running,))
        return answer

    return lambda run: asyncio.run(connected(run))


def describe(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    serve({name: carry_out(plan) for name, plan in PLANS.items()})
