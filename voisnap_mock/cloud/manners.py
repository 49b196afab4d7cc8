"""How clients behave, where the service would take it and still not like it: each remark is a rule and a sentence.

rule                     said when a client
-----------------------  ------------------------------------------------------------------------------------------
`pace`                   sends audio faster than it is spoken
`riff_header`            sends the header of a WAV file as audio
`chunk_size`             sends audio in other pieces than 20 ms
`after_end`              calls methods after the session has ended
`no_end_session`         goes away in order, and has not called `EndSessionAsync`
`ignored_unrecoverable`  comes again at once after an error that said `recoverable: false`
`hammering`              comes again and again without a pause
`polling`                carries voice by long polling
`token_in_path`          puts a credential where proxies and logs see it
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

Remark = tuple[str, str]
"""A rule, and what to tell the client's author."""

ADVISED_BYTES = 640
AHEAD_BYTES = 2 * 32_000
MOST_LATE = 3
"""Pieces of audio after the end that may have been on their way."""

AGAIN_WITHIN = 10.0
HAMMERING = 5
HAMMERING_WITHIN = 5.0
_MOST_KEYS = 1_000


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


class Attempts:
    """Remembers for a while who came when; the last 1,000 of them.

    Source: Assumed: five times within five seconds is more than any back-off does.
    """

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def came(self, key: str, now: float) -> list[float]:
        """Note an attempt at `now`; returns how many seconds ago the ones before were, the newest first."""
        times = self._times.setdefault(key, deque(maxlen=HAMMERING))
        self._times.move_to_end(key)
        if len(self._times) > _MOST_KEYS:
            self._times.popitem(last=False)
        ago = [now - before for before in reversed(times)]
        times.append(now)
        return ago

    def hammering(self, key: str, now: float, what: str) -> Remark | None:
        """A remark when `key` came too often in too short a time; once for each burst."""
        ago = self.came(key, now)
        if len(ago) < HAMMERING - 1 or ago[HAMMERING - 2] > HAMMERING_WITHIN:
            return None
        if len(ago) == HAMMERING and ago[-1] - ago[0] <= HAMMERING_WITHIN:
            return None  # The attempt before was one too many already.
        return "hammering", (
            f"{what} {HAMMERING} times within {ago[HAMMERING - 2]:.1f} s: wait between two attempts, longer each time"
        )

    def ignored(self, code: str, key: str, now: float) -> Remark | None:
        """A remark when a client was told `code`, whose error forbids to retry, and came again."""
        ago = self.came(key, now)
        if not ago or ago[0] > AGAIN_WITHIN:
            return None
        return "ignored_unrecoverable", (
            f"came again {ago[0]:.1f} s after {code}, whose error said recoverable: false: trying again cannot help"
        )


def after_end(target: str) -> Remark:
    """A method was called on a session that is over.

    Source: Assumed; the mock answers such calls and ignores them.
    """
    return "after_end", f"{target} was called after SessionEnded: the session is over, nothing listens any more"


NO_END_SESSION: Remark = (
    "no_end_session",
    "the client closed its connection without EndSessionAsync: its session waits until the resume window is over",
)
POLLING: Remark = (
    "polling",
    "voice came by long polling, a request for each piece of audio: use WebSockets",
)


def token_in_path(what: str) -> Remark:
    """A credential stood in the path of a URL."""
    return "token_in_path", f"a credential is in the path of {what}: use the Authorization header, on hubs access_token"
