"""What the machines of a session need from their neighbours, as small as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from voisnap_mock.agents.dialogue import Turn
    from voisnap_mock.audio.endpointing import Activity
    from voisnap_mock.engine.events import Deadline, SessionEffect


class Endpointer(Protocol):
    """Finds the caller's speech; `audio.endpointing.Endpointer` is the real one. All values are seconds."""

    def feed(self, frame: bytes) -> Sequence[Activity]:
        """Take the next 20 ms of caller audio, 640 bytes, and say what they made certain."""
        ...

    @property
    def position(self) -> float:
        """Caller audio fed so far."""
        ...

    @property
    def speech_seconds(self) -> float:
        """From the onset of the open utterance to its latest speech; 0.0 when none is open."""
        ...

    @property
    def pre_roll(self) -> bytes:
        """After `SpeechBegan`: the audio an ear must hear first, up to the frame just fed, included."""
        ...


class Dialogue(Protocol):
    """What the agent answers; `agents.dialogue.Dialogue` is the real one."""

    @property
    def inter_digit_timeout(self) -> float:
        """Seconds to wait for the next key of a sequence."""
        ...

    @property
    def pending_digits(self) -> str:
        """Keys that wait for more of a sequence."""
        ...

    def greet(self) -> Turn: ...

    def hear(self, text: str, *, message_metadata: Mapping[str, object] | None = None) -> Turn: ...

    def press(self, digit: str) -> Turn | None:
        """None: a longer sequence may follow (then there are `pending_digits`), or no rule knows the keys."""
        ...

    def digits_timed_out(self) -> Turn | None: ...

    def next_silence(self) -> float | None:
        """Seconds of the next `silence` rule that has not fired in this silence."""
        ...

    def fall_silent(self, seconds: float) -> Turn | None: ...

    def fall_back(self) -> Turn | None:
        """What the agent says when the caller could not be understood; None when it has nothing to say."""
        ...

    def spoke(self) -> None:
        """The caller made a sound: the next silence is a new one."""
        ...

    def expected_text(self) -> str | None:
        """What a strict script expects to hear next."""
        ...

    def unused_turns(self) -> tuple[str, ...]:
        """The steps of a strict script that were not reached."""
        ...


class Machine(Protocol):
    """A `Call` or a `Chat`: whatever a session runs.

    Attributes:
        dialogue: whoever is asked what the agent does; may be changed under way.
    """

    dialogue: Dialogue

    @property
    def is_over(self) -> bool: ...

    @property
    def turns(self) -> int: ...

    def receive(self, given: Any, now: float) -> list[SessionEffect]: ...

    def advance(self, now: float) -> list[SessionEffect]: ...

    def next_deadline(self) -> Deadline | None: ...
