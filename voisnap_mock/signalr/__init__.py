"""SignalR as ASP.NET Core speaks it: a hub server on ASGI, a client, and the sans-IO core under both."""

from voisnap_mock.signalr.client import RECONNECT_DELAYS, HubClient
from voisnap_mock.signalr.clients import HubClients
from voisnap_mock.signalr.connection import ConnectionLimits, HubConnection, Role
from voisnap_mock.signalr.endpoint import HubEndpoint
from voisnap_mock.signalr.errors import (
    ConnectionClosed,
    ConnectionDenied,
    HandshakeError,
    HubError,
    HubException,
    LocalProtocolError,
    NegotiationError,
    RemoteProtocolError,
    RequestSevered,
    SignalRError,
)
from voisnap_mock.signalr.hub import ConnectionRequest, Hub, HubContext, hub_method
from voisnap_mock.signalr.interceptors import Crossing, Fragmented, Interceptor, Rewritten, Seam
from voisnap_mock.signalr.messagepack import MessagePackHubProtocol
from voisnap_mock.signalr.options import HubOptions, Notice, NoticeKind
from voisnap_mock.signalr.protocols import JsonHubProtocol
from voisnap_mock.signalr.transports import Parameters, Severance, Transport

__all__ = [
    "RECONNECT_DELAYS",
    "ConnectionClosed",
    "ConnectionDenied",
    "ConnectionLimits",
    "ConnectionRequest",
    "Crossing",
    "Fragmented",
    "HandshakeError",
    "Hub",
    "HubClient",
    "HubClients",
    "HubConnection",
    "HubContext",
    "HubEndpoint",
    "HubError",
    "HubException",
    "HubOptions",
    "Interceptor",
    "JsonHubProtocol",
    "LocalProtocolError",
    "MessagePackHubProtocol",
    "NegotiationError",
    "Notice",
    "NoticeKind",
    "Parameters",
    "RemoteProtocolError",
    "RequestSevered",
    "Rewritten",
    "Role",
    "Seam",
    "Severance",
    "SignalRError",
    "Transport",
    "hub_method",
]
