"""WebRtcHub: signalling over SignalR, voice over WebRTC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from voisnap_mock.agents.script import EndReason
from voisnap_mock.clock import Clock, Timer
from voisnap_mock.cloud.session_hub import HubOutlet, SessionHub, Visit, outlet_of, visit_of
from voisnap_mock.cloud.tenants import Agent, Tenant
from voisnap_mock.cloud.webrtc_sessions import WebRtcVisit
from voisnap_mock.cloud.wire import (
    ArgumentError,
    CandidateArgument,
    SessionDescription,
    answer_event,
    candidate_event,
    client_end_reason,
    offered,
    offered_candidate,
)
from voisnap_mock.engine.events import (
    AgentTranscript,
    AudioArrived,
    AudioReady,
    DigitPressed,
    HangupRequested,
    LineOpened,
    SessionEvent,
    Started,
)
from voisnap_mock.engine.runner import Channel, Session
from voisnap_mock.signalr import HubContext, HubException, hub_method
from voisnap_mock.webrtc.peer import Listener, Peer
from voisnap_mock.webrtc.sdp import MOST_CANDIDATES, Answer, IceCandidate, Offer, SdpRefused

OFFER_PATIENCE = 60.0
"""Seconds for the first offer to come: a person may first have to allow the microphone."""
CONNECT_PATIENCE = 15.0
"""Seconds from the first offer to a line that is open."""
_NO_WAY = (
    "is the far end on this machine, without a network? Chromium then needs --allow-loopback-in-peer-connection, "
    "Firefox has no way at all"
)

NewPeer = Callable[[Listener, Tenant], Peer]
"""Makes our end of a call with a client of that tenant."""


class WebRtcCall(HubOutlet):
    """One call: events go to its hub connection, audio goes to its peer, and what the peer hears to the session.

    It is connecting until the peer says that the line is open; until then the agent holds its tongue. A call that does
    not get that far in time, or loses its peer, ends as `disconnected`.

    Attributes:
        candidates: how many the client has sent.
    """

    __slots__ = ("_early", "_mids", "_new_peer", "_patience", "_peer", "_record", "_start", "_tried", "candidates")

    def __init__(
        self,
        connection: HubContext,
        clock: Clock,
        channel: Channel,
        *,
        new_peer: Callable[[Listener], Peer],
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        super().__init__(connection, clock, channel)
        self._new_peer = new_peer
        self._start = start
        self._peer: Peer | None = None
        self._mids: tuple[str, ...] = ()
        self._early: list[IceCandidate] = []
        self._tried: set[IceCandidate] = set()
        self._record: Session | None = None
        self.candidates = 0
        self._patience: Timer | None = None

    def attach(self, session: Session) -> None:
        super().attach(session)
        self._record = session
        self._expect(OFFER_PATIENCE, f"no offer came within {OFFER_PATIENCE:g} s")

    # --- what the client sends ----------------------------------------------------------------------------------

    async def take_offer(self, offer: Offer) -> Answer:
        """Answer the client's offer, and go on with the candidates that came before it.

        Raises:
            SdpRefused: it cannot be answered; the client may send another one.
        """
        is_first = self._peer is None
        # Ours from the beginning: should the client go while this is answered, the peer is closed with the call.
        peer = self._peer = self._peer or self._new_peer(self)
        try:
            answer = await peer.answer(offer)
        except SdpRefused:
            if is_first:
                self._peer = None
                await peer.close()
            raise
        if self._peer is None:
            # The call ended meanwhile.
            return answer
        if is_first:
            self._expect(
                CONNECT_PATIENCE, f"the line did not open within {CONNECT_PATIENCE:g} s of the offer; {_NO_WAY}"
            )
        self._mids = offer.mids
        early, self._early = self._early, []
        for candidate in (*offer.candidates, *early):
            if self._knows_section(candidate):
                await self._try(peer, candidate)
        return answer

    async def take_candidate(self, candidate: IceCandidate) -> None:
        """Try to reach the client there, too. Before the offer it waits.

        Raises:
            ArgumentError: there are too many, or the offer has no such section.
        """
        self.candidates += 1
        if self.candidates > MOST_CANDIDATES:
            raise ArgumentError(
                f"Argument 1 'candidate': number {self.candidates} of this call, {MOST_CANDIDATES} are the most"
            )
        if self._peer is None:
            self._early.append(candidate)
            return
        if not self._knows_section(candidate):
            raise ArgumentError(
                f"Argument 1 'candidate': sdpMid {candidate.mid!r}, sdpMLineIndex {candidate.line} name no section of "
                f"the offer; its sections are {', '.join(map(repr, self._mids))}"
            )
        await self._try(self._peer, candidate)

    async def _try(self, peer: Peer, candidate: IceCandidate) -> None:
        """Each once, since a later offer names all that were before; and not more than any client has."""
        if candidate in self._tried or len(self._tried) > MOST_CANDIDATES:
            return
        self._tried.add(candidate)
        if len(self._tried) <= MOST_CANDIDATES:
            await peer.add_candidate(candidate)
        else:
            self.note("webrtc.candidate_refused", candidate=candidate.text, message=f"{MOST_CANDIDATES} are the most")

    def _knows_section(self, candidate: IceCandidate) -> bool:
        if candidate.mid is not None:
            return candidate.mid in self._mids
        return candidate.line is not None and 0 <= candidate.line < len(self._mids)

    # --- what the session says ----------------------------------------------------------------------------------

    def deliver(self, event: SessionEvent) -> None:
        if type(event) is AudioReady:
            if self._peer is not None:
                self._peer.play(event.pcm)
            return
        if isinstance(event, AgentTranscript) and event.interrupted and self._peer is not None:
            self._peer.hush()
        super().deliver(event)

    def finish(self) -> None:
        super().finish()
        if self._has_ended:
            self._hang_up()

    def lose(self) -> None:
        super().lose()
        self._hang_up()

    def _hang_up(self) -> None:
        self._stop_waiting()
        peer, self._peer = self._peer, None
        if peer is not None:
            self._start(peer.close())

    # --- what the peer tells ------------------------------------------------------------------------------------

    def connected(self) -> None:
        self._stop_waiting()
        self.receive(LineOpened())

    def heard(self, pcm: bytes) -> None:
        self.receive(AudioArrived(pcm))

    def pressed(self, key: str) -> None:
        self.note("webrtc.key", digit=key)
        self.receive(DigitPressed(key))

    def lost(self, why: str) -> None:
        self.note("webrtc.lost", message=why)
        self.receive(HangupRequested(EndReason.DISCONNECTED))

    def note(self, kind: str, **details: Any) -> None:
        # The session may be over or gone by the time that its media is closed; its record is not.
        if self._record is not None:
            self._record.note(kind, **details)

    def _expect(self, seconds: float, otherwise: str) -> None:
        self._stop_waiting()
        self._patience = self._clock.call_at(self._clock.monotonic() + seconds, lambda: self.lost(otherwise))

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()


class WebRtcHub(SessionHub):
    """`/hubs/webrtc`.

    Source: Documented, WebRTC page: the flow, the methods with their arguments, and the names `SdpAnswerReceived` and
    `IceCandidateReceived`. Assumed: the shapes of both, as a browser's API wants them, and that the events of VoiceHub
    about session, transcription, transfer and errors come here too; the page shows no other way to learn of them.
    """

    channel: ClassVar[Channel] = "webrtc"
    started: ClassVar[Started] = Started(waits_for_line=True)

    def __init__(self, clock: Clock, new_peer: NewPeer) -> None:
        super().__init__(clock)
        self._new_peer = new_peer
        self._tasks: set[asyncio.Task[None]] = set()

    def open_session(self, tenant: Tenant, agent: Agent, visit: Visit, outlet: HubOutlet) -> Session:
        session = tenant.sessions.open_call(
            agent.script, tenant_id=tenant.id, outlet=outlet, variables=visit.variables, channel="webrtc"
        )
        if isinstance(visit, WebRtcVisit):
            session.note("webrtc.session", sessionId=visit.webrtc_session)
        return session

    def make_outlet(self, connection: HubContext) -> HubOutlet:
        def new_peer(listener: Listener) -> Peer:
            admission = visit_of(connection).admission
            assert admission is not None
            return self._new_peer(listener, admission.tenant)

        return WebRtcCall(connection, self.clock, self.channel, new_peer=new_peer, start=self._start)

    async def settle(self) -> None:
        """Return when the media of all calls that are over has been closed."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    @hub_method(name="SendOfferAsync")
    async def send_offer(self, connection: HubContext, offer: SessionDescription) -> None:
        """Answered by `SdpAnswerReceived` and an `IceCandidateReceived` for each candidate of the answer.

        Source: Assumed that the candidates are in the answer too, for clients that ignore the events.
        """
        call = _call_of(connection)
        checked = self.check(connection, offered, offer)
        self.note_method(
            connection, "SendOfferAsync", codecs=checked.codecs, candidates=len(checked.candidates), mids=checked.mids
        )
        if call.session is None or call.session.is_over:
            return
        began = self.clock.monotonic()
        try:
            answer = await call.take_offer(checked)
        except SdpRefused as error:
            raise self.refusal(connection, ArgumentError(f"Argument 1 'offer': {error}")) from error
        call.note(
            "webrtc.answer",
            codec=answer.codec,
            candidates=[candidate.text for candidate in answer.candidates],
            took=round(self.clock.monotonic() - began, 4),
        )
        connection.send(*answer_event(answer))
        for candidate in answer.candidates:
            connection.send(*candidate_event(candidate))

    @hub_method(name="SendIceCandidateAsync")
    async def send_ice_candidate(self, connection: HubContext, candidate: CandidateArgument | None = None) -> None:
        """Null, an empty `candidate` and none at all say that no more will come, as browsers differ in it."""
        call = _call_of(connection)
        checked = self.check(connection, offered_candidate, candidate)
        # One too many is worth a remark in the journal, the thousands after it are not.
        is_flood = call.candidates > MOST_CANDIDATES
        if not is_flood:
            self.note_method(connection, "SendIceCandidateAsync", candidate=checked.text if checked else None)
        if checked is None or call.session is None or call.session.is_over:
            return
        try:
            await call.take_candidate(checked)
        except ArgumentError as error:
            raise HubException(str(error)) if is_flood else self.refusal(connection, error) from error

    @hub_method(name="EndSessionAsync")
    def end_session(self, connection: HubContext, reason: str) -> None:
        self.note_method(connection, "EndSessionAsync", reason=reason)
        outlet_of(connection).receive(HangupRequested(self.check(connection, client_end_reason, reason)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _call_of(connection: HubContext) -> WebRtcCall:
    outlet = outlet_of(connection)
    assert isinstance(outlet, WebRtcCall)
    return outlet
