"""The media side of a WebRTC call as its hub sees it, and where the real one comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from voisnap_mock.clock import Clock
from voisnap_mock.errors import ExtraMissing
from voisnap_mock.webrtc.sdp import Answer, IceCandidate, Offer


class Listener(Protocol):
    """What a peer tells; called on the server's loop, never after `Peer.close` has returned."""

    def connected(self) -> None:
        """The line is open: both sides can be heard from now on. Once."""
        ...

    def heard(self, pcm: bytes) -> None:
        """Caller audio, in order and without gaps: PCM s16le mono at 16 kHz, any number of whole samples."""
        ...

    def pressed(self, key: str) -> None:
        """The caller pressed one of `0-9 * #`."""
        ...

    def lost(self, why: str) -> None:
        """The far end is gone, or cannot be reached; nothing will come any more."""
        ...

    def note(self, kind: str, **details: Any) -> None:
        """Something for whoever looks into the call afterwards."""
        ...


class Peer(Protocol):
    """Our end of one WebRTC connection."""

    async def answer(self, offer: Offer) -> Answer:
        """Answer the first offer or a later one; the candidates it had are added by `add_candidate`.

        Raises:
            SdpRefused: it cannot be answered; what was agreed before still holds.
        """
        ...

    async def add_candidate(self, candidate: IceCandidate) -> None:
        """The far end may be reached there. Never waits for the network.

        That no more will come is not told: a far end whose addresses are all hidden, or none of use, is found by the
        checks that it sends, and would be given up before the first of them is here.
        """
        ...

    def play(self, pcm: bytes) -> None:
        """Queue 20 ms of agent audio, 960 bytes: PCM s16le mono at 24 kHz."""
        ...

    def hush(self) -> None:
        """Drop what is queued."""
        ...

    async def close(self) -> None:
        """End it; as often as one likes. Takes two seconds at most."""
        ...


class PeerMaker(Protocol):
    """Makes the peer of a call."""

    def __call__(self, listener: Listener, clock: Clock, *, hosts: Sequence[str], announced: Sequence[str]) -> Peer:
        """Args: hosts: addresses to be reached at, all of the machine's if empty; announced: what to call them."""
        ...


def load_peers() -> PeerMaker:
    """Load aiortc, which takes some 0.3 s the first time.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        from voisnap_mock.webrtc.aiortc_peer import AiortcPeer
    except ImportError as error:
        raise ExtraMissing(
            f"WebRTC needs aiortc, which cannot be loaded ({error}): pip install 'voisnap-mock[webrtc]'"
        ) from error
    return AiortcPeer
