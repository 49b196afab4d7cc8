"""Every point with every action that it allows, through a client of the service: both ends' view.

A new row in the table of points, or a new action in one, fails here until it has its case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from visiting import LOUD, PATIENCE, Visit, Visitor

from voisnap_mock.clock import SystemClock
from voisnap_mock.config import Settings, parse_agents
from voisnap_mock.faults.reading import KEYS
from voisnap_mock.faults.rules import POINTS, Action, Cut, Drop, Frames, Framing
from voisnap_mock.journal import JournalEntry
from voisnap_mock.server import MockServer
from voisnap_mock.signalr import HandshakeError, NegotiationError

AGENTS = """
agents:
  agt_chat:
    greeting: Hello.
    voice: {engine: tone}
    timing: {chat_chunk: 5ms}
    replies: [{else: Well then.}]
  agt_voice:
    greeting: Hello.
    voice: {engine: tone, rate: 400}
    hears: activity
    timing: {end_of_turn: 200ms, first_audio: 100ms}
    replies: [{hear: [please], say: Pleasure.}, {else: Well then.}]
"""
NAMES = {
    "http.<METHOD> <path>": "http.GET /api/v1/agents",
    "method.<Name>": "method.SendMessageAsync",
    "event.<Name>": "event.MessageReceived",
}
LATE = 0.25


def whats(name: str, kind: type[Action]) -> list[str]:
    """The ways in which an action can be asked for at a row."""
    if kind is Drop:
        return [f"drop: {how}" for how in Cut]
    if kind is Frames:
        return [f"frames: {how}" for how in Framing if how != Framing.MISSING_COMPLETION or name == "method.<Name>"]
    return [KEYS[kind]]


WANTED = [(point.name, what) for point in POINTS for kind in point.actions for what in whats(point.name, kind)]

DO: dict[str, dict[str, Any]] = {
    "error": {"error": "STT_PROVIDER_TIMEOUT", "recoverable": False},
    "http": {"http": 503, "retry_after": "2s"},
    "slow": {"slow": f"{LATE * 1000:.0f}ms"},
    "silence": {"silence": True},
    "impair": {"impair": {"loss": 1.0}},
    "replace": {"replace": "please"},
}


def do_of(what: str) -> dict[str, Any]:
    key, _, how = what.partition(": ")
    return {key: how} if how else DO[what]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    file = parse_agents(AGENTS, source="test agents")
    with MockServer(file, settings=Settings(port=0, idle_grace=0.005), clock="virtual") as server:
        assert httpx.get(f"{server.base_url}/livez", trust_env=False, timeout=10).status_code == 200
        yield server


@pytest.fixture
async def visit(server: MockServer) -> AsyncIterator[Visit]:
    visit = Visit.to(server)
    yield visit
    await visit.leave()


# --- What the clients do ----------------------------------------------------------------------------------------


async def chat(visit: Visit, **options: Any) -> Visitor:
    """Chat, as far as that goes: the greeting, two messages, the end."""
    visitor = visit.visitor("chat", agentId="agt_chat", options=options)
    if await visitor.start() and await visitor.sees("SessionStarted"):
        await visitor.sees("MessageReceived", isFinal=True)
        await visitor.call("SendMessageAsync", {"content": "one"})
        await visitor.call("TypingAsync")
        await visitor.sees("MessageReceived", isFinal=True, times=2)
        await visitor.call("SendMessageAsync", {"content": "two"})
        await visitor.sees("MessageReceived", isFinal=True, times=3)
        await visitor.call("EndSessionAsync")
        await visitor.sees("SessionEnded")
    return visitor


async def call(visit: Visit) -> Visitor:
    """Call: hear the greeting, speak, hear the answer, hang up."""
    visitor = visit.visitor("voice", agentId="agt_voice")
    if await visitor.start() and await visitor.sees("SessionStarted"):
        await visitor.sees("TranscriptionOf", isFinal=True)
        await visitor.send_audio(LOUD + bytes(32_000))
        await visitor.sees("TranscriptionOf", isFinal=True, text="Well then.")
        await visitor.call("EndSessionAsync", "user_ended")
        await visitor.sees("SessionEnded")
    return visitor


async def resume(visit: Visit) -> Visitor:
    """Chat, leave without a word, and come back."""
    first = visit.visitor("chat", agentId="agt_chat")
    assert await first.start()
    assert await first.sees("MessageReceived", isFinal=True)
    await first.client.stop()
    session = first.of("SessionStarted")[0]["sessionId"]
    visitor = visit.visitor("chat", sessionId=session)
    if await visitor.start() and await visitor.sees("Reconnected"):
        await visitor.call("EndSessionAsync")
        await visitor.sees("SessionEnded")
    return visitor


DRIVES: dict[str, Callable[[Visit], Awaitable[Visitor]]] = {
    "negotiate": chat,
    "handshake": chat,
    "connect": chat,
    "start": chat,
    "llm": chat,
    "method.<Name>": chat,
    "event.<Name>": chat,
    "end": chat,
    "stt": call,
    "tts": call,
    "audio.in": call,
    "audio.out": call,
    "reconnect": resume,
}


def last_t(visit: Visit, kind: str) -> float:
    """Call time of the last entry of a kind."""
    t = visit.entries(kind)[-1].t
    assert t is not None
    return t


# --- What is to be seen -----------------------------------------------------------------------------------------

Expect = Callable[[Visit, Visitor], object]
EXPECT: dict[tuple[str, str], Expect] = {}


def expect(row: str, *names: str) -> Callable[[Expect], Expect]:
    def register(seen: Expect) -> Expect:
        EXPECT.update(dict.fromkeys([(row, name) for name in names], seen))
        return seen

    return register


def failed_in_session(visit: Visit, visitor: Visitor) -> None:
    """Error, SessionEnded with reason error, Close: in this order, and so does the journal have it."""
    (error,) = visitor.of("Error")
    assert (error["code"], error["recoverable"]) == ("STT_PROVIDER_TIMEOUT", False)
    assert "the fault" in error["message"]
    (ended,) = visitor.of("SessionEnded")
    assert ended["reason"] == "error"
    assert visitor.names().index("Error") < visitor.names().index("SessionEnded")
    assert visit.entries("session.ended")[0].details["reason"] == "error"


for _row in ("start", "stt", "llm", "tts", "audio.in", "audio.out", "method.<Name>", "event.<Name>"):
    EXPECT[_row, "error"] = failed_in_session


@expect("negotiate", "http")
def _(visit: Visit, visitor: Visitor) -> None:
    assert isinstance(visitor.refused, NegotiationError)
    assert visitor.refused.status == 503
    assert b"the fault" in visitor.refused.body
    assert visit.entries("connection.opened") == []


@expect("negotiate", "slow")
@expect("handshake", "slow")
def _(visit: Visit, visitor: Visitor) -> None:
    assert LATE <= visitor.took < LATE + PATIENCE
    assert visitor.finals() == ["Hello.", "Well then.", "Well then."]


@expect("handshake", "frames: fragment", "frames: coalesce")
@expect("event.<Name>", "frames: fragment", "frames: coalesce")
@expect("method.<Name>", "frames: fragment", "frames: coalesce")
def _(visit: Visit, visitor: Visitor) -> None:
    """A client of the protocol notices nothing."""
    assert visitor.finals() == ["Hello.", "Well then.", "Well then."]
    assert [outcome for _, outcome in visitor.answers] == ["ok"] * 4


@expect("handshake", "frames: corrupt", "frames: swallow", "frames: reorder")
def _(visit: Visit, visitor: Visitor) -> None:
    """Something else comes where the answer should be."""
    assert isinstance(visitor.refused, HandshakeError)
    assert visitor.events == []


@expect("handshake", "frames: duplicate")
def _(visit: Visit, visitor: Visitor) -> None:
    """The second answer comes where a message should be."""
    assert visitor.refused is None
    assert visitor.events == []
    assert not visitor.client.is_open


@expect("handshake", "frames: late_ping")
@expect("event.<Name>", "frames: late_ping")
@expect("method.<Name>", "frames: late_ping")
def _(visit: Visit, visitor: Visitor) -> None:
    """What is said is said; only a longer silence would tell (see the tests of the wire)."""
    assert visitor.finals() == ["Hello.", "Well then.", "Well then."]


@expect("connect", "error")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.names() == ["Error"]
    assert visitor.of("Error")[0]["code"] == "STT_PROVIDER_TIMEOUT"
    (refused,) = visit.entries("connection.turned_away")
    assert refused.details["code"] == "STT_PROVIDER_TIMEOUT"
    assert visit.entries("session.opened") == []


@expect("connect", "slow")
def _(visit: Visit, visitor: Visitor) -> None:
    (fired,), (opened,) = visit.entries("fault.fired"), visit.entries("session.opened")
    assert opened.at - fired.at >= LATE
    assert visitor.finals()[0] == "Hello."


@expect("llm", "silence")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.finals() == ["Hello."]


@expect("llm", "replace")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.finals() == ["Hello.", "please", "please"]


@expect("stt", "replace")
def _(visit: Visit, visitor: Visitor) -> None:
    assert [heard["text"] for heard in visitor.of("Transcription") if heard["isFinal"]] == ["please"]
    assert {"text": "Pleasure.", "isFinal": True} in visitor.of("TranscriptionOf")


@expect("stt", "silence")
@expect("audio.in", "silence", "impair")
def _(visit: Visit, visitor: Visitor) -> None:
    assert not any(heard["isFinal"] for heard in visitor.of("Transcription"))
    assert not visit.entries("agent.transcript") or "Well then." not in str(visitor.of("TranscriptionOf"))


@expect("tts", "replace")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.of("AudioReceived")


@expect("tts", "silence")
@expect("audio.out", "silence")
def _(visit: Visit, visitor: Visitor) -> None:
    frames = visitor.of("AudioReceived")
    assert frames
    assert set("".join(frames)) <= set("A="), "frames of zeros"


@expect("audio.out", "impair")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.of("AudioReceived") == []
    assert {"text": "Well then.", "isFinal": True} in visitor.of("TranscriptionOf")


@expect("method.<Name>", "slow")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.answers[0] == ("SendMessageAsync", "ok")
    (first, *_), (message, *_) = visit.entries("fault.fired"), visit.entries("caller.message")
    assert message.t is not None
    assert first.t is not None
    assert message.t - first.t == pytest.approx(LATE)


@expect("method.<Name>", "frames: corrupt")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.answers[0] == ("SendMessageAsync", "lost")
    assert len(visit.entries("caller.message")) == 1


@expect("method.<Name>", "frames: duplicate")
def _(visit: Visit, visitor: Visitor) -> None:
    assert [entry.details["text"] for entry in visit.entries("caller.message")] == ["one", "one", "two", "two"]
    assert [outcome for _, outcome in visitor.answers] == ["ok"] * 4


@expect("method.<Name>", "frames: swallow")
def _(visit: Visit, visitor: Visitor) -> None:
    assert [outcome for _, outcome in visitor.answers] == ["no answer", "ok", "no answer", "ok"]
    assert visit.entries("caller.message") == []


@expect("method.<Name>", "frames: missing_completion")
def _(visit: Visit, visitor: Visitor) -> None:
    assert [outcome for _, outcome in visitor.answers] == ["no answer", "ok", "no answer", "ok"]
    assert [entry.details["text"] for entry in visit.entries("caller.message")] == ["one", "two"]
    assert visitor.finals() == ["Hello.", "Well then.", "Well then."]


@expect("method.<Name>", "frames: reorder")
def _(visit: Visit, visitor: Visitor) -> None:
    """The first call waits for the next one, which its caller only makes when it has given up."""
    assert visitor.answers[0] == ("SendMessageAsync", "no answer")
    calls = [entry.details["target"] for entry in visit.entries("method")]
    assert calls[:2] == ["TypingAsync", "SendMessageAsync"]
    assert visit.entries("caller.message")[0].details["text"] == "one"


@expect("event.<Name>", "slow")
def _(visit: Visit, visitor: Visitor) -> None:
    """What is not late passes it; only the end waits."""
    assert visitor.names().index("TypingIndicator") < visitor.names().index("MessageReceived")
    first_false = next(n for n, (name, data) in enumerate(visitor.events) if data == {"isTyping": False})
    assert first_false < visitor.names().index("MessageReceived")
    assert visitor.finals() == ["Hello.", "Well then.", "Well then."]
    assert visitor.names()[-1] == "SessionEnded"


@expect("event.<Name>", "frames: corrupt")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.of("MessageReceived") == []
    assert "SessionStarted" in visitor.names()


@expect("event.<Name>", "frames: duplicate")
def _(visit: Visit, visitor: Visitor) -> None:
    messages = visitor.of("MessageReceived")
    assert messages[::2] == messages[1::2]
    assert visitor.finals()[:2] == ["Hello.", "Hello."]


@expect("event.<Name>", "frames: swallow")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.of("MessageReceived") == []
    assert len(visit.entries("caller.message")) == 2


@expect("event.<Name>", "frames: reorder")
def _(visit: Visit, visitor: Visitor) -> None:
    names = visitor.names()
    assert "MessageReceived" in names
    assert visitor.events[names.index("MessageReceived") - 1][0] != "SessionStarted"


@expect("event.<Name>", "replace")
def _(visit: Visit, visitor: Visitor) -> None:
    assert set(visitor.of("MessageReceived")) == {"please"}


@expect("end", "silence")
def _(visit: Visit, visitor: Visitor) -> None:
    assert "SessionEnded" not in visitor.names()
    assert visit.entries("session.ended")


@expect("reconnect", "error")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.names() == ["Error"]
    assert visitor.of("Error")[0]["code"] == "STT_PROVIDER_TIMEOUT"
    (session,) = visit.tenant.sessions.sessions
    assert session.status == "waiting", "it may still be resumed by another try"


@expect("reconnect", "slow")
def _(visit: Visit, visitor: Visitor) -> None:
    (fired,), (resumed,) = visit.entries("fault.fired"), visit.entries("session.resumed")
    assert resumed.at - fired.at >= LATE
    assert visitor.names() == ["Reconnected", "ConversationEnded", "SessionEnded"]


# --- The tests --------------------------------------------------------------------------------------------------

SLOW_INSIDE = {
    "start": "session.started",
    "llm": "agent.message",
    "end": "session.ended",
    "stt": "caller.transcript",
    "tts": "agent.transcript",
    "audio.in": "caller.transcript",
    "audio.out": "session.ended",
}
"""What in the journal is later, by the row at which it is held back."""

SEVERED = {
    "reset": ("reset", "the server reset the transport"),
    "close": ("closed", "the server closed the transport"),
    "close_no_reconnect": ("ended", "closed in order"),
    "stall": ("silent", None),
    "half_open": ("silent", "the server has lost the transport"),
}
"""What the client sees, and what the server notes."""

OF_HTTP = ("login", "http.<METHOD> <path>")
OF_WEBRTC = ("sdp", "ice")
HERE = [(row, what) for row, what in WANTED if row not in OF_HTTP + OF_WEBRTC]


@pytest.mark.parametrize(("row", "what"), [pair for pair in HERE if not pair[1].startswith("drop")])
async def test_what_is_done_at_a_point_is_seen_by_the_client_and_noted_by_the_server(
    visit: Visit, row: str, what: str
) -> None:
    if what == "slow" and row in SLOW_INSIDE:
        await DRIVES[row](visit)
        in_time = last_t(visit, SLOW_INSIDE[row])
    point = NAMES.get(row, row)
    visit.arm({"id": "it", "at": point, "do": do_of(what)})
    visitor = await DRIVES[row](visit)
    assert set(visit.fired()) == {point}
    if what == "slow" and row in SLOW_INSIDE:
        assert last_t(visit, SLOW_INSIDE[row]) >= in_time + LATE - 0.03
    else:
        EXPECT[row, what](visit, visitor)


@pytest.mark.parametrize("how", Cut)
@pytest.mark.parametrize("row", [row for row in DRIVES if row not in ("negotiate", "handshake")])
async def test_a_connection_is_lost_at_a_point_in_every_way(visit: Visit, row: str, how: str) -> None:
    point = NAMES.get(row, row)
    visit.arm({"id": "it", "at": point, "do": {"drop": how}, "times": 1})
    visit.server_timeout = PATIENCE
    visitor = await DRIVES[row](visit)
    seen, noted = SEVERED[how]
    if (row, how) == ("end", "stall"):
        noted = "closed in order"  # which is all that the server knows
    assert await visitor.outcome() == seen
    assert visit.fired() == [point]
    if noted is not None:
        await visit.until(lambda: noted in visit.ends())
    else:
        # The server knows nothing of it yet.
        assert len(visit.ends()) == len(visit.entries("connection.opened")) - 1


@pytest.mark.parametrize("how", Cut)
@pytest.mark.parametrize("row", ["negotiate", "handshake"])
async def test_a_connection_that_is_being_made_is_lost_in_every_way(visit: Visit, row: str, how: str) -> None:
    visit.arm({"id": "it", "at": row, "do": {"drop": how}})
    visitor = await chat(visit)
    assert visit.fired() == [row]
    assert visitor.events == []
    assert visit.entries("connection.opened") == []
    if (row, how) == ("handshake", "close_no_reconnect"):
        assert await visitor.outcome() == "ended", "the handshake is answered, and then comes the Close"
    else:
        assert visitor.refused is not None
        silent = isinstance(visitor.refused, TimeoutError) or "canceled" in str(visitor.refused)
        assert silent is (how in ("stall", "half_open"))


# --- WebRTC -----------------------------------------------------------------------------------------------------

CANDIDATE = {"candidate": "candidate:1 1 udp 2130706431 127.0.0.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}


@pytest.fixture(scope="module")
def offer(server: MockServer) -> dict[str, str]:
    """The offer of a browser that will never be reached. The server has answered it before, and loaded all it needs."""
    from aiortc import RTCConfiguration, RTCPeerConnection

    async def make() -> dict[str, str]:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("audio")
        await peer.setLocalDescription(await peer.createOffer())
        offer = {"sdp": peer.localDescription.sdp, "type": "offer"}
        await peer.close()
        visit = Visit.to(server)
        visitor = await connected(visit)
        await visitor.call("SendOfferAsync", offer, patience=20)
        await visit.leave()
        return offer

    return asyncio.run(make())


async def connected(visit: Visit) -> Visitor:
    async with httpx.AsyncClient(base_url=visit.server.base_url, trust_env=False, timeout=20) as http:
        answer = await http.post(
            "/api/v1/webrtc/sessions",
            json={"agentId": "agt_voice"},
            headers={"Authorization": f"Bearer {visit.token}"},
        )
    visitor = visit.visitor("webrtc", sessionToken=answer.json()["sessionToken"])
    await visitor.start()
    return visitor


async def dial(visit: Visit, offer: dict[str, str]) -> Visitor:
    """Offer, take the answer with its candidates, send a candidate, hang up."""
    visitor = await connected(visit)
    if visitor.refused is None:
        await visitor.call("SendOfferAsync", offer)
        await visitor.sees("SdpAnswerReceived")
        await visitor.sees("IceCandidateReceived")
        await visitor.call("SendIceCandidateAsync", CANDIDATE)
        await visitor.call("EndSessionAsync", "user_ended")
        await visitor.sees("SessionEnded")
    return visitor


@expect("sdp", "error")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.names() == ["SessionStarted", "Error", "SessionEnded"]
    assert visitor.of("SessionEnded")[0]["reason"] == "error"


@expect("sdp", "slow")
def _(visit: Visit, visitor: Visitor) -> None:
    """The candidates, which are not late, pass it."""
    names = visitor.names()
    assert names.index("IceCandidateReceived") < names.index("SdpAnswerReceived")
    assert ("SendOfferAsync", "ok") in visitor.answers


@expect("sdp", "silence")
def _(visit: Visit, visitor: Visitor) -> None:
    assert "SdpAnswerReceived" not in visitor.names()
    assert visitor.answers[0] == ("SendOfferAsync", "ok")


@expect("sdp", "replace")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.of("SdpAnswerReceived") == [{"sdp": "please", "type": "answer"}]


@expect("ice", "slow", "frames: fragment", "frames: coalesce", "frames: late_ping")
def _(visit: Visit, visitor: Visitor) -> None:
    assert all(found["candidate"].startswith("candidate:") for found in visitor.of("IceCandidateReceived"))
    assert visitor.of("IceCandidateReceived")
    assert [entry.details["candidate"] for entry in methods(visit, "SendIceCandidateAsync")] == [CANDIDATE["candidate"]]


@expect("ice", "frames: reorder")
def _(visit: Visit, visitor: Visitor) -> None:
    """The client's comes after its next call, which is the end; ours come after each other."""
    assert visitor.of("IceCandidateReceived")
    assert ("SendIceCandidateAsync", "no answer") in visitor.answers
    calls = [entry.details["target"] for entry in visit.entries("method")]
    assert calls[:2] == ["SendOfferAsync", "EndSessionAsync"]


@expect("ice", "frames: duplicate")
def _(visit: Visit, visitor: Visitor) -> None:
    found = visitor.of("IceCandidateReceived")
    assert found[::2] == found[1::2]
    assert len(methods(visit, "SendIceCandidateAsync")) == 2


@expect("ice", "frames: swallow")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.of("IceCandidateReceived") == []
    assert methods(visit, "SendIceCandidateAsync") == []
    assert ("SendIceCandidateAsync", "no answer") in visitor.answers


@expect("ice", "frames: corrupt")
def _(visit: Visit, visitor: Visitor) -> None:
    assert visitor.of("IceCandidateReceived") == []
    assert visitor.of("SdpAnswerReceived")
    assert ("SendIceCandidateAsync", "lost") in visitor.answers


@expect("ice", "replace")
def _(visit: Visit, visitor: Visitor) -> None:
    assert {found["candidate"] for found in visitor.of("IceCandidateReceived")} == {"please"}
    refused = " ".join(entry.details["message"] for entry in visit.entries("method.refused"))
    assert "please" in refused


def methods(visit: Visit, target: str) -> list[JournalEntry]:
    return [entry for entry in visit.entries("method") if entry.details["target"] == target]


@pytest.mark.parametrize(("row", "what"), [pair for pair in WANTED if pair[0] in OF_WEBRTC])
async def test_signalling(visit: Visit, offer: dict[str, str], row: str, what: str) -> None:
    visit.arm({"id": "it", "at": row, "do": do_of(what)})
    if what.startswith("drop"):
        visit.server_timeout = PATIENCE
    visitor = await dial(visit, offer)
    assert set(visit.fired()) == {row}
    if what.startswith("drop"):
        seen, noted = SEVERED[what.removeprefix("drop: ")]
        assert await visitor.outcome() == seen
        if noted is not None:
            await visit.until(lambda: noted in visit.ends())
    else:
        EXPECT[row, what](visit, visitor)


# --- HTTP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "what"), [pair for pair in WANTED if pair[0] in OF_HTTP])
async def test_requests(visit: Visit, row: str, what: str) -> None:
    point = NAMES.get(row, row)
    visit.arm({"id": "it", "at": point, "do": do_of(what), "times": 1})
    clock = SystemClock()

    async def ask(http: httpx.AsyncClient) -> httpx.Response:
        if row == "login":
            body = {"email": visit.enrolment.user.email, "password": visit.enrolment.user.password}
            return await http.post("/api/v1/auth/login", json=body)
        return await http.get("/api/v1/agents", headers={"Authorization": f"Bearer {visit.token}"})

    async with httpx.AsyncClient(base_url=visit.server.base_url, trust_env=False, timeout=PATIENCE) as http:
        began = clock.monotonic()
        match what.partition(": ")[::2]:
            case "http", _:
                answer = await ask(http)
                assert answer.status_code == 503
                assert answer.headers["Retry-After"] == "2"
                assert answer.headers["X-Voisnap-Mock-Reason"] == "fault it"
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert answer.json()["status"] == 503
            case "slow", _:
                assert (await ask(http)).status_code == 200
                assert clock.monotonic() - began >= LATE
            case "drop", "reset":
                with pytest.raises(httpx.ReadError):
                    await ask(http)
            case "drop", "close" | "close_no_reconnect":
                with pytest.raises(httpx.RemoteProtocolError):
                    await ask(http)
            case "drop", "stall" | "half_open":
                with pytest.raises(httpx.ReadTimeout):
                    await ask(http)
        assert visit.fired() == [point]
        assert (await ask(http)).status_code == 200, "once it has fired, all is as before"


def test_every_row_of_the_table_has_its_case() -> None:
    done = set(EXPECT) | {(row, "slow") for row in SLOW_INSIDE}
    done |= {(row, f"drop: {how}") for row in DRIVES for how in Cut}
    done |= {("sdp", f"drop: {how}") for how in Cut}
    done |= {(row, what) for row, what in WANTED if row in OF_HTTP}
    assert set(WANTED) - done == set()
    assert done - set(WANTED) == set()
