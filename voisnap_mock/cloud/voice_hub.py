"""VoiceHub: raw PCM both ways, over SignalR."""

from __future__ import annotations

from typing import ClassVar, Literal

from voisnap_mock.cloud.session_hub import HubOutlet, SessionHub, Visit, outlet_of
from voisnap_mock.cloud.tenants import Agent, Tenant
from voisnap_mock.cloud.wire import client_end_reason, one_digit, whole_samples
from voisnap_mock.engine.events import AudioArrived, DigitPressed, HangupRequested, ReconnectionRequested
from voisnap_mock.engine.runner import Session
from voisnap_mock.signalr import HubContext, hub_method


class VoiceHub(SessionHub):
    """`/hubs/voice`.

    Source: Documented, VoiceHub page: methods, arguments and events.
    """

    channel: ClassVar[Literal["voice"]] = "voice"

    def open_session(self, tenant: Tenant, agent: Agent, visit: Visit, outlet: HubOutlet) -> Session:
        return tenant.sessions.open_call(
            agent.script, tenant_id=tenant.id, outlet=outlet, variables=visit.variables, channel="voice"
        )

    @hub_method(name="SendAudioAsync")
    def send_audio(self, connection: HubContext, audio: bytes) -> None:
        """Caller audio: PCM s16le mono at 16 kHz, any number of whole samples."""
        outlet = outlet_of(connection)
        if len(audio) & 1:
            self.check(connection, whole_samples, audio)
        if not outlet.has_heard:
            outlet.has_heard = True
            if audio[:4] == b"RIFF" and audio[8:12] == b"WAVE":
                self.note_lint(
                    connection,
                    "riff_header",
                    "the first audio of this connection begins with the header of a WAV file: "
                    "send the samples alone, the service takes raw PCM and plays the header as noise",
                )
        if outlet.session is not None:
            outlet.session.receive(AudioArrived(audio))

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
