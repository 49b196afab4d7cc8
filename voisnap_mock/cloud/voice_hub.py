"""VoiceHub: raw PCM both ways, over SignalR."""

from __future__ import annotations

from typing import ClassVar

from voisnap_mock.cloud.manners import MOST_LATE, Manners, after_end
from voisnap_mock.cloud.session_hub import HubOutlet, SessionHub, Visit, outlet_of
from voisnap_mock.cloud.tenants import Agent, Tenant
from voisnap_mock.cloud.wire import client_end_reason, one_digit, whole_samples
from voisnap_mock.engine.events import AudioArrived, DigitPressed, HangupRequested, ReconnectionRequested
from voisnap_mock.engine.runner import Channel, Session
from voisnap_mock.signalr import HubContext, hub_method


class VoiceHub(SessionHub):
    """`/hubs/voice`.

    Source: Documented, VoiceHub page: methods, arguments and events.
    """

    channel: ClassVar[Channel] = "voice"

    def open_session(self, tenant: Tenant, agent: Agent, visit: Visit, outlet: HubOutlet) -> Session:
        return tenant.sessions.open_call(
            agent.script, tenant_id=tenant.id, outlet=outlet, variables=visit.variables, channel="voice"
        )

    @hub_method(name="SendAudioAsync")
    def send_audio(self, connection: HubContext, audio: bytes) -> None:
        """Caller audio: PCM s16le mono at 16 kHz, any number of whole samples."""
        if not audio:
            return
        if len(audio) & 1:
            self.check(connection, whole_samples, audio)
        session = outlet_of(connection).session
        if session is None:
            return
        if session.is_over:
            self._note_late(connection, session)
            return
        if not session.is_held:
            self._watch_manners(connection, session, audio)
        session.receive(AudioArrived(audio))

    def _watch_manners(self, connection: HubContext, session: Session, audio: bytes) -> None:
        manners = connection.items.get("manners")
        if not isinstance(manners, Manners):
            manners = connection.items["manners"] = Manners(session.t, any_pace=session.is_repeatable)
        if not manners.all_said and (remark := manners.remark_on(audio, lambda: session.t)) is not None:
            self.note_lint(connection, *remark)

    def _note_late(self, connection: HubContext, session: Session) -> None:
        """What was on its way when the session ended is nobody's fault; where time is audio, nobody can tell."""
        late = connection.items.get("late", 0)
        assert isinstance(late, int)
        connection.items["late"] = late + 1
        if late == MOST_LATE and not session.is_repeatable:
            self.note_lint(connection, *after_end("SendAudioAsync"))

    @hub_method(name="SendDtmfAsync")
    def send_dtmf(self, connection: HubContext, digit: str) -> None:
        self.note_method(connection, "SendDtmfAsync", digit=digit)
        outlet_of(connection).receive(DigitPressed(self.check(connection, one_digit, digit)))

    @hub_method(name="EndSessionAsync")
    def end_session(self, connection: HubContext, reason: str) -> None:
        self.note_method(connection, "EndSessionAsync", reason=reason)
        outlet_of(connection).receive(HangupRequested(self.check(connection, client_end_reason, reason)))

    @hub_method(name="RequestReconnectionAsync")
    def request_reconnection(self, connection: HubContext) -> None:
        """Source: Documented that it asks for a graceful reconnection; Assumed that `Reconnected` is the answer."""
        self.note_method(connection, "RequestReconnectionAsync")
        outlet_of(connection).receive(ReconnectionRequested())
