"""VoiceHub: raw PCM both ways, over SignalR."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from voisnap_mock.cloud.session_hub import HubOutlet, SessionHub, Visit, outlet_of
from voisnap_mock.cloud.tenants import Agent, Tenant
from voisnap_mock.cloud.wire import client_end_reason, one_digit, whole_samples
from voisnap_mock.engine.events import AudioArrived, DigitPressed, HangupRequested, ReconnectionRequested
from voisnap_mock.engine.runner import Channel, Session
from voisnap_mock.signalr import HubContext, hub_method

ADVISED_BYTES = 640
AHEAD_BYTES = 2 * 32_000


class Manners:
    """Watches how a client sends its audio, and remarks on each habit once.

    Source: Documented that 20 ms chunks are advised and that audio is raw PCM (VoiceHub page). Assumed that audio is
    meant to come at its own pace: two seconds ahead of it count as too fast.

    Args:
        began: when the first audio came, in seconds of call time.
        any_pace: the call goes by the audio's own time, so that no pace is wrong.
    """

    __slots__ = ("_began", "_bytes", "_look_at", "_said")

    def __init__(self, began: float, *, any_pace: bool = False) -> None:
        self._began = began
        self._bytes = 0
        self._look_at: float = AHEAD_BYTES
        self._said: set[str] = {"pace"} if any_pace else set()

    @property
    def all_said(self) -> bool:
        return len(self._said) == 3

    def remark_on(self, audio: bytes, now: Callable[[], float]) -> tuple[str, str] | None:
        """A rule and what to tell the client's author about this piece; None when there is nothing new to say.

        The time is asked for only when the audio can have become too much.
        """
        first = not self._bytes
        self._bytes += len(audio)
        if first and audio[:4] == b"RIFF" and audio[8:12] == b"WAVE":
            return self._say(
                "riff_header",
                "the audio of this connection begins with the header of a WAV file: send the samples alone, "
                "the service takes raw PCM and hears the header as noise",
            )
        if len(audio) != ADVISED_BYTES and "chunk_size" not in self._said:
            return self._say(
                "chunk_size",
                f"{len(audio)} bytes of audio came at once; 640 bytes (20 ms) are advised: "
                "smaller pieces cost more, larger ones come later",
            )
        if self._bytes <= self._look_at or "pace" in self._said:
            return None
        self._look_at = AHEAD_BYTES + (now() - self._began) * 32_000
        if self._bytes <= self._look_at:
            return None
        return self._say(
            "pace",
            "audio comes faster than it is spoken, by now more than 2 s ahead: 32,000 bytes a second are real time",
        )

    def _say(self, rule: str, message: str) -> tuple[str, str]:
        self._said.add(rule)
        return rule, message


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
        if session is None or session.is_over:
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
