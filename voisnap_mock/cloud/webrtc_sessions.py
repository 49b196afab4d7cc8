"""WebRTC sessions before there is a call: made over REST, opened by a hub connection that brings the session token."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from voisnap_mock.agents.script import IceServer
from voisnap_mock.clock import Clock
from voisnap_mock.cloud.door import Door
from voisnap_mock.cloud.problems import ProblemDetails, RequestRefused
from voisnap_mock.cloud.session_hub import HubDoor, Visit
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.cloud.tokens import Check, TokenRefused
from voisnap_mock.cloud.wire import webrtc_session_object
from voisnap_mock.errors import ExtraMissing
from voisnap_mock.ids import IdSource
from voisnap_mock.signalr import ConnectionRequest
from voisnap_mock.webrtc.peer import PeerMaker, load_peers
from voisnap_mock.webrtc.stun import StunResponder

MOST_METADATA_BYTES = 32_768
"""As JSON. What a session is made with is kept until its token expires; a URL, the other hubs' way, holds no more."""


class WebRtcSessions:
    """Makes WebRTC sessions, and has the media library loaded when the first one is made.

    Args:
        load: loads it; called in a worker thread.
        host: the address that the server listens on.
    """

    def __init__(
        self,
        door: Door,
        clock: Clock,
        ids: IdSource,
        *,
        load: Callable[[], PeerMaker] = load_peers,
        host: str = "127.0.0.1",
    ) -> None:
        self._door = door
        self._clock = clock
        self._ids = ids
        self._load = load
        self._host = host
        self._make_peer: PeerMaker | None = None
        self._stun: StunResponder | None = None
        self._opening = asyncio.Lock()

    @property
    def make_peer(self) -> PeerMaker:
        """What makes the peers of calls. There is no call without a session, so it is loaded."""
        assert self._make_peer is not None
        return self._make_peer

    async def create(
        self, tenant: Tenant, agent_id: str, metadata: Mapping[str, Any], *, asked_at: str
    ) -> dict[str, Any]:
        """Make a session with an agent that exists; the answer of `POST /api/v1/webrtc/sessions`.

        Args:
            asked_at: the name of this server in the request, under which the client finds it.

        Raises:
            RequestRefused: 501, the extra `webrtc` is not installed; 422, the metadata are too large or no text.

        Source: Documented, names and shapes (WebRTC page). Assumed: no ICE servers unless the agents file has some.
        """
        wrong = _wrong_with(metadata)
        if wrong is not None:
            raise RequestRefused(ProblemDetails(422, f"metadata: {wrong}", errors={"metadata": [wrong]}))
        if self._make_peer is None:
            try:
                self._make_peer = await asyncio.to_thread(self._load)
            except ExtraMissing as error:
                raise RequestRefused(
                    ProblemDetails(501, str(error), reason="the extra webrtc is not installed")
                ) from error
        grant = self._door.tokens.grant_session(
            self._ids.new("wrtc_"),
            tenant_id=tenant.id,
            agent_id=agent_id,
            metadata=metadata,
            now=self._clock.wall(),
        )
        tenant.journal.append(
            "webrtc.session_created", tenant_id=tenant.id, sessionId=grant.session_id, agent=agent_id, metadata=metadata
        )
        servers = tenant.file.webrtc.ice_servers
        if tenant.file.webrtc.stun:
            servers = (await self._stun_server(asked_at), *servers)
        return webrtc_session_object(grant.session_id, grant.token, grant.expires_at, servers)

    async def _stun_server(self, asked_at: str) -> IceServer:
        async with self._opening:
            if self._stun is None:
                self._stun = await StunResponder.open(self._host)
        name = f"[{asked_at}]" if ":" in asked_at else asked_at
        return IceServer((f"stun:{name}:{self._stun.port}",))

    def close(self) -> None:
        """Answer no STUN any more."""
        if self._stun is not None:
            self._stun.close()


def _wrong_with(metadata: Mapping[str, Any]) -> str | None:
    try:
        size = len(msgspec.json.encode(metadata))
    except (UnicodeError, RecursionError) as error:
        return f"expected JSON that can be written again, but {type(error).__name__}: {error}"
    if size > MOST_METADATA_BYTES:
        return f"{size:,} bytes of JSON came, {MOST_METADATA_BYTES:,} are the most"
    return None


@dataclass(frozen=True, slots=True)
class WebRtcVisit(Visit):
    """A visit whose session token says what the query of another hub says.

    Attributes:
        webrtc_session: the `wrtc_` id.
    """

    webrtc_session: str = ""


class WebRtcDoor(HubDoor):
    """Lets in who brings an access token and, of the same tenant, a session token that nobody has used.

    Source: Documented, both in the query (WebRTC page). Assumed: the token is used up by the connection, not by
    negotiating; a connection that polls stays good for it.
    """

    def __init__(self, door: Door, clock: Clock, new_trace_id: Callable[[], str]) -> None:
        super().__init__(door, new_trace_id, clock)
        self._tokens = door.tokens
        self._direct = itertools.count(1)

    def admit(self, request: ConnectionRequest) -> Visit:
        admission = self.check_access(request)
        token = request.query.get("sessionToken")
        if not token:
            raise TokenRefused(
                Check.SESSION_TOKEN,
                "the query parameter sessionToken is missing: POST /api/v1/webrtc/sessions gives one",
            )
        used_by: str | None = None
        if not request.path.rstrip("/").endswith("/negotiate"):
            # Without an id the client has not negotiated: such a connection has this one request.
            used_by = request.query.get("id") or f"direct {next(self._direct)}"
        grant = self._tokens.check_session(
            token, tenant_id=admission.tenant.id, used_by=used_by, now=self._clock.wall()
        )
        return WebRtcVisit(
            admission, grant.agent_id, variables={"metadata": grant.metadata}, webrtc_session=grant.session_id
        )
