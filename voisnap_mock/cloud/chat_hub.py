"""ChatHub: turns of text, over SignalR."""

from __future__ import annotations

from typing import ClassVar

from voisnap_mock.agents.script import EndReason
from voisnap_mock.cloud.session_hub import HubOutlet, SessionHub, Visit, outlet_of
from voisnap_mock.cloud.tenants import Agent, Tenant
from voisnap_mock.cloud.wire import ChatMessage, said_in
from voisnap_mock.engine.events import (
    CancelRequested,
    HangupRequested,
    ReconnectionRequested,
    TextArrived,
    UserTyping,
)
from voisnap_mock.engine.runner import Channel, Session
from voisnap_mock.signalr import HubContext, hub_method


class ChatHub(SessionHub):
    """`/hubs/chat`.

    Source: Documented, ChatHub page: methods and arguments. Assumed: `RequestReconnectionAsync` is here too, as the
    same resume parameters are.
    """

    channel: ClassVar[Channel] = "chat"

    def open_session(self, tenant: Tenant, agent: Agent, visit: Visit, outlet: HubOutlet) -> Session:
        return tenant.sessions.open_chat(agent.script, tenant_id=tenant.id, outlet=outlet, variables=visit.variables)

    @hub_method(name="SendMessageAsync")
    def send_message(self, connection: HubContext, message: ChatMessage) -> None:
        content, metadata = self.check(connection, said_in, message), message.metadata or {}
        self.note_method(connection, "SendMessageAsync", text=content, metadata=metadata)
        outlet_of(connection).receive(TextArrived(content, metadata))

    @hub_method(name="TypingAsync")
    def typing(self, connection: HubContext) -> None:
        self.note_method(connection, "TypingAsync")
        outlet_of(connection).receive(UserTyping())

    @hub_method(name="CancelAsync")
    def cancel(self, connection: HubContext) -> None:
        self.note_method(connection, "CancelAsync")
        outlet_of(connection).receive(CancelRequested())

    @hub_method(name="EndSessionAsync")
    def end_session(self, connection: HubContext) -> None:
        self.note_method(connection, "EndSessionAsync")
        outlet_of(connection).receive(HangupRequested(EndReason.USER_ENDED))

    @hub_method(name="RequestReconnectionAsync")
    def request_reconnection(self, connection: HubContext) -> None:
        self.note_method(connection, "RequestReconnectionAsync")
        outlet_of(connection).receive(ReconnectionRequested())
