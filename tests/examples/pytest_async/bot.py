"""The program under test: a bot that asks an agent by chat, with the SignalR client `pysignalr`."""

import asyncio

from pysignalr.client import SignalRClient


async def ask(base_url, token, agent, questions):
    """The agent's answers to `questions`, its greeting first."""
    url = f"{base_url}/hubs/chat?agentId={agent}&access_token={token}"
    client = SignalRClient(url)
    said = asyncio.Queue()

    async def hear(arguments):
        if arguments[0]["isFinal"]:
            said.put_nowait(arguments[0]["content"])

    client.on("MessageReceived", hear)
    running = asyncio.create_task(client.run())
    answers = [await said.get()]
    for question in questions:
        await client.send("SendMessageAsync", [{"content": question, "metadata": {}}])
        answers.append(await said.get())
    await client.send("EndSessionAsync", [])
    running.cancel()
    return answers
