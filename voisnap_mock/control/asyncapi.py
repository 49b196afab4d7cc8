"""The hubs as an AsyncAPI 3 document, made from their method tables and from the events as they are really sent.

Nothing is described twice: arguments are the types of the hub methods, payloads are those of `cloud.wire`, whose
members are read off one event of each kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from voisnap_mock.agents.script import EndReason
from voisnap_mock.cloud.wire import answer_event, candidate_event, hub_events
from voisnap_mock.coverage import EVENTS, HUBS
from voisnap_mock.engine.events import (
    AgentMessage,
    AgentTranscript,
    AgentTyping,
    AudioReady,
    CallerTranscript,
    SessionEnded,
    SessionEvent,
    SessionFailed,
    SessionResumed,
    SessionStarted,
    TransferStarted,
)
from voisnap_mock.engine.runner import Channel
from voisnap_mock.signalr.hub import HubMethod
from voisnap_mock.webrtc.sdp import Answer, IceCandidate

Schema = dict[str, Any]

QUERY: Mapping[Channel, tuple[str, ...]] = {
    "voice": ("access_token", "agentId", "sessionId", "metadata"),
    "chat": ("access_token", "agentId", "sessionId", "metadata", "language", "userName"),
    "webrtc": ("access_token", "sessionToken"),
}

EVENT_SAMPLES: tuple[SessionEvent, ...] = (
    SessionStarted("Support"),
    SessionResumed("The session goes on."),
    CallerTranscript("I want a refund", is_final=True, confidence=0.5, ear="vosk", begin=1.0, end=2.0),
    AgentTranscript("Hello.", is_final=True, begin=0.0, end=1.0),
    AudioReady(bytes(960)),
    AgentTyping(is_typing=True),
    AgentMessage("msg_01HX", "Hello.", is_chunk=False, is_final=True),
    TransferStarted("+15550100", "warm", "Asked for a person"),
    SessionFailed("LLM_PROVIDER_ERROR", "It failed.", recoverable=True),
    SessionEnded(EndReason.USER_ENDED, 1.5),
)
"""One of each kind that a client is told of."""


def asyncapi_document(
    hubs: Mapping[Channel, tuple[str, Iterable[HubMethod]]], *, base_url: str, version: str
) -> Schema:
    """The document.

    Args:
        hubs: path and methods of each.
        base_url: of the server, `http://127.0.0.1:8647`.
    """
    channels: dict[str, Schema] = {}
    operations: dict[str, Schema] = {}
    for channel, (path, methods) in hubs.items():
        hub = HUBS[channel]
        events = _events(channel)
        messages = {
            method.name: _invocation(method.name, _arguments(method), required=method.signature.required)
            for method in methods
        }
        received = list(messages)
        messages |= {name: _invocation(name, [events[name]], required=1) for name in EVENTS[channel]}
        channels[channel] = {
            "address": path,
            "title": hub,
            "description": "SignalR: JSON or MessagePack over WebSockets, server-sent events or long polling.",
            "messages": messages,
            "bindings": {"ws": {"query": _query(channel)}},
        }
        for name in messages:
            is_method = name in received
            operations[f"{hub}.{name}"] = {
                "action": "receive" if is_method else "send",
                "channel": {"$ref": f"#/channels/{channel}"},
                "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"}],
            }
    scheme, _, host = base_url.partition("://")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "voisnap-mock: hubs",
            "version": version,
            "description": "What clients call on the hubs and what they are told, as SignalR hub messages in JSON.",
        },
        "defaultContentType": "application/json",
        "servers": {"mock": {"host": host, "protocol": "wss" if scheme == "https" else "ws"}},
        "channels": channels,
        "operations": operations,
    }


def _invocation(target: str, arguments: list[Schema], *, required: int) -> Schema:
    """A hub method or hub event as the hub message that carries it."""
    return {
        "name": target,
        "payload": {
            "type": "object",
            "required": ["type", "target", "arguments"],
            "properties": {
                "type": {"const": 1},
                "target": {"const": target},
                "invocationId": {"type": "string"},
                "arguments": {
                    "type": "array",
                    "minItems": required,
                    "maxItems": len(arguments),
                    **({"items": arguments} if arguments else {}),
                },
            },
        },
    }


def _arguments(method: HubMethod) -> list[Schema]:
    """The arguments of a method, by the types that bind them; JSON Schema in the form of draft 7."""
    schemas = []
    for name, kind in zip(method.signature.names, method.signature.kinds, strict=True):
        (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/definitions/{name}")
        schemas.append(_inlined(schema, parts) | {"title": name})
    return schemas


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    """Without references: the types of arguments are small and never hold themselves."""
    match schema:
        case {"$ref": str(reference)}:
            return _inlined(parts[reference.rpartition("/")[2]], parts)
        case dict():
            return {name: _inlined(value, parts) for name, value in schema.items()}
        case list():
            return [_inlined(item, parts) for item in schema]
        case _:
            return schema


def _events(channel: Channel) -> dict[str, Schema]:
    """The payload of each hub event."""
    told = [
        event
        for sample in EVENT_SAMPLES
        for event in hub_events(sample, session_id="conv_01HX", wall=0.0, channel=channel)
    ]
    told += [answer_event(Answer("v=0")), candidate_event(IceCandidate("candidate:1", "0", 0))]
    return {target: _shape(payload) for target, *(payload,) in told}


def _shape(value: object) -> Schema:
    """The schema of a value like this one."""
    match value:
        case bytes():
            return {"type": "string", "contentEncoding": "base64"}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case dict():
            return {
                "type": "object",
                "required": list(value),
                "properties": {name: _shape(member) for name, member in value.items()},
            }
        case _:
            return {"type": "string"}


def _query(channel: Channel) -> Schema:
    return {"type": "object", "properties": {name: {"type": "string"} for name in QUERY[channel]}}
