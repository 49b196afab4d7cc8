"""`chat`: the reference chat client on the terminal."""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, assert_never

from voisnap_mock.caller import CallRefused, ChatUser
from voisnap_mock.cli.console import Console, Span, open_console
from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.interrupts import Interruption
from voisnap_mock.cli.service import access_token, find_login, find_server
from voisnap_mock.cli.transcript import Transcript
from voisnap_mock.cli.values import Drop, Say
from voisnap_mock.clock import SystemClock


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """What the user is to do.

    Attributes:
        steps: in this order; when empty, the lines of standard input are written.
        patience: seconds to wait for an answer before going on.
    """

    steps: Sequence[Say | Drop] = ()
    language: str | None = None
    user_name: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None
    patience: float = 6.0


def chat(
    agent: str,
    plan: ChatPlan,
    *,
    url: str | None,
    email: str | None,
    password: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Chat with `agent` and print the transcript.

    Raises:
        CheckFailed: if the server refuses the chat, ends it with an error, or ends it before all was written.
    """
    server = find_server(url)
    own_token = access_token(server, find_login(token=token, email=email, password=password))
    console = open_console()
    transcript = Transcript(console, as_json=as_json)
    transcript.title(f"Chatting with {agent}", f"on {server}")
    try:
        asyncio.run(_chat(server, own_token, agent, plan, transcript, console))
    except CallRefused as error:
        raise CheckFailed(f"the chat failed: {error}") from error


async def _chat(server: str, token: str, agent: str, plan: ChatPlan, transcript: Transcript, console: Console) -> None:
    with Interruption() as interruption:
        async with ChatUser(
            server,
            agent,
            access_token=token,
            clock=SystemClock(),
            metadata=plan.metadata,
            session_id=plan.session_id,
            language=plan.language,
            user_name=plan.user_name,
            patience=plan.patience,
            on_event=transcript.learn,
        ) as user:
            work = _follow(plan.steps, user, transcript) if plan.steps else _converse(user, transcript, console)
            left = await interruption.cuts_short(work) or 0
            if not user.is_over:
                await user.hang_up()
    if user.failed is not None:
        raise CheckFailed(f"the chat failed: {user.failed.code}: {user.failed.message}")
    if user.ended is None:
        raise CheckFailed("the connection was lost before the chat had ended")
    if left:
        raise CheckFailed(
            f"the chat ended ({user.ended.reason}) before {left} of {len(plan.steps)} steps could be done"
        )


async def _follow(steps: Sequence[Say | Drop], user: ChatUser, transcript: Transcript) -> int:
    """Do the steps, each message at the user's turn; returns how many are left."""
    for number, step in enumerate(steps):
        is_on = await user.wait_until(step.at) if isinstance(step, Drop) else await user.floor()
        if not is_on:
            return len(steps) - number
        match step:
            case Say(text):
                transcript.note(user.now(), "you", text)
                await user.write(text)
            case Drop(away=away):
                transcript.note(user.now(), "drop", f"away for {away:g} s", seconds=away)
                await user.lose_connection(away)
            case _:
                assert_never(step)
    await user.floor()
    return 0


async def _converse(user: ChatUser, transcript: Transcript, console: Console) -> int:
    """Send what is typed or piped, line by line, until the input or the chat ends."""
    is_typed = console.is_terminal and sys.stdin.isatty()
    if is_typed:
        console.line(Span("Type a message and press Enter; Ctrl-D ends the chat.", "dim"))
    async with aclosing(_input_lines()) as lines:
        while await user.floor():
            if is_typed:
                console.live(Span(f"{'':10}{'you':<9}", "bold yellow"))
            line = await _next_line(lines, user)
            if line is None:
                break
            if line.strip():
                if not is_typed:
                    transcript.note(user.now(), "you", line)
                await user.write(line)
    return 0


async def _next_line(lines: AsyncIterator[str], user: ChatUser) -> str | None:
    """The next line of input; None at its end or when the chat is over."""
    async with asyncio.TaskGroup() as tasks:
        line = tasks.create_task(_line_or_end(lines))
        end = tasks.create_task(user.wait_for_end())
        await asyncio.wait({line, end}, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        line.cancel()
    return None if line.cancelled() else line.result()


async def _line_or_end(lines: AsyncIterator[str]) -> str | None:
    return await anext(lines, None)


async def _input_lines() -> AsyncGenerator[str, None]:
    """The lines of standard input, without their ends.

    Read on a thread that nobody waits for: a read from a terminal cannot be broken off. It reads the descriptor, not
    `sys.stdin`, whose lock would be held when the interpreter ends.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        while True:
            piece = os.read(sys.stdin.fileno(), 4096)
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:
                return
            if not piece:
                return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while piece := await pieces.get():
        *lines, rest = (rest + decoder.decode(piece)).split("\n")
        for line in lines:
            yield line.rstrip("\r")
    if rest:
        yield rest
