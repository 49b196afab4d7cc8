"""One spoken reply under way: its actions in order, its audio at its pace, and the ledger of what was really heard."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import assert_never

from voisnap_mock.agents.script import Action, CallTool, FailWith, Pause, PushEvent, Say, Voice
from voisnap_mock.audio.frames import AGENT_RATE, FRAME_SECONDS, SAMPLE_BYTES
from voisnap_mock.audio.playout import Playout
from voisnap_mock.engine.events import (
    AbandonSynthesis,
    AgentTranscript,
    AudioReady,
    Emit,
    EventPushed,
    Note,
    SessionEffect,
    SessionFailed,
    Speech,
    Synthesize,
)
from voisnap_mock.engine.patience import DIGITS

_TOKEN = re.compile(r"\S+")
# So many sayings are asked for before they are needed: the one that plays and the one after it.
_AHEAD = 2


@dataclass(slots=True)
class _Saying:
    """A `Say` of the reply.

    Attributes:
        item: its place among the actions.
        said_before: the text of the sayings before it.
        waiting: audio that came before its turn to play.
        samples: audio that has come so far.
        words: for each word, in samples from the saying's begin: where it ends, and the text up to there.
        searched: how far `text` has been matched with words.
        began: samples of the reply that were played before it; None until it plays.
    """

    item: int
    text: str
    wav: str | None
    said_before: str
    waiting: list[bytes] = field(default_factory=list)
    samples: int = 0
    words: list[tuple[int, str]] = field(default_factory=list)
    searched: int = 0
    next_word: int = 0
    began: int | None = None
    is_requested: bool = False
    is_complete: bool = False
    is_over: bool = False

    def add(self, speech: Speech, *, is_last: bool) -> None:
        """Note the words of the next piece."""
        for word in speech.words:
            self.words.append((self.samples + round(word.end * AGENT_RATE), self._text_through(word.text)))
        self.samples += len(speech.pcm) // SAMPLE_BYTES
        self.is_complete = is_last
        if is_last and not self.words:
            self._spread_words()

    def _text_through(self, word: str) -> str:
        """The text up to the end of `word`, with the punctuation that clings to it."""
        token = _TOKEN.search(self.text, self.searched)
        if token is None:
            return self.text
        end = token.end()
        if word.casefold() not in token.group().casefold():
            # A voice may name words as it speaks them, "five" for "5": then one word stands for one token. But it may
            # also have passed over tokens that it does not speak, such as a lone dash.
            later = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)\S*", re.IGNORECASE).search(self.text, end, end + 40)
            end = later.end() if later is not None else end
        self.searched = end
        return self.text[:end]

    def _spread_words(self) -> None:
        """Give words to audio that came without: in proportion to their letters.

        Source: Assumed; it only decides how much of a recording counts as heard when the caller interrupts it.
        """
        if not self.text:
            return
        for token in _TOKEN.finditer(self.text):
            self.words.append((self.samples * token.end() // len(self.text), self.text[: token.end()]))


class Reply:
    """Plays the actions of one turn, one after the other, as call time goes by.

    `start`, `advance` and the others return what is to be done; ask `next_deadline` when to `advance` again. The first
    audio is not due before `audio_from`; what comes before it (pauses, tools, making the speech) runs meanwhile.

    Attributes:
        number: marks its synthesis; speech for another number is none of its business.
        began_at: call time of its first action.
        is_over: all is said and done, and played to its end.
    """

    def __init__(
        self,
        number: int,
        actions: tuple[Action, ...],
        *,
        voice: Voice,
        now: float,
        audio_from: float,
        catch_up: float,
    ) -> None:
        self.number = number
        self.began_at = now
        self.is_over = False
        self._actions = actions
        self._voice = voice
        self._audio_from = audio_from
        self._playout = Playout(catch_up=catch_up)
        self._cursor = 0
        self._free_at = now
        self._audio_began: float | None = None
        self._shown = ""
        self._sayings: dict[int, _Saying] = {}
        self._playing: _Saying | None = None
        said = ""
        for item, action in enumerate(actions):
            if isinstance(action, Say) and (action.text.strip() or action.wav is not None):
                self._sayings[item] = _Saying(item, action.text.strip(), action.wav, said)
                said = _joined(said, action.text.strip())
        self._text = said

    def start(self) -> list[SessionEffect]:
        """Ask for the first speech and do what can be done at once."""
        return self._ask_ahead() + self._go_on(self.began_at)

    def advance(self, now: float) -> list[SessionEffect]:
        """Do the one thing that is due at `now`."""
        if self._playing is None or self._playout.next_deadline() is None:
            return self._go_on(now)
        effects: list[SessionEffect] = []
        self._play_frame(self._playing, now, effects)
        return effects

    def next_deadline(self) -> float | None:
        """When something is due; None while the speech that comes next is still being made."""
        if self.is_over:
            return None
        saying = self._playing
        if saying is None:
            return self._free_at
        due = self._playout.next_deadline()
        if due is None and saying.is_complete:
            return max(self._free_at, self._playout.next_due)
        return due

    def put_off(self, now: float) -> bool:
        """Let the playout leave a gap if the driver came too late; says whether that moved the deadline."""
        return self._playout.put_off(now)

    def synthesized(self, item: int, speech: Speech, now: float, *, is_last: bool) -> list[SessionEffect]:
        """Take the next piece of speech for `item`."""
        saying = self._sayings.get(item)
        if saying is None or saying.is_complete:
            return []
        saying.add(speech, is_last=is_last)
        if saying.began is None:
            saying.waiting.append(speech.pcm)
            return []
        self._playout.push(speech.pcm, now)
        if is_last:
            self._playout.finish(now)
        return []

    def stop(self, now: float) -> list[SessionEffect]:
        """Break off: nothing more is played, and the final transcript holds only the words that were.

        Source: Assumed; the documentation has no event for an interruption, so the transcript is all that tells a
        client what the caller really heard.
        """
        effects: list[SessionEffect] = []
        if any(saying.is_requested and not saying.is_complete for saying in self._sayings.values()):
            effects.append(AbandonSynthesis(self.number))
        sent = self._playout.position / AGENT_RATE
        dropped = self._playout.cut()
        heard = self._shown
        if heard and self._audio_began is not None:
            effects.append(Emit(AgentTranscript(heard, True, self._audio_began, now, interrupted=True)))
        unheard = self._text.removeprefix(heard).strip()
        note = {"reply": self.number, "heard": heard, "unheard": unheard, "played": round(sent, 3)}
        effects.append(Note("reply.interrupted", note | {"dropped": round(dropped, 3)}))
        self.is_over = True
        return effects

    def _go_on(self, now: float) -> list[SessionEffect]:
        effects: list[SessionEffect] = []
        while self._cursor < len(self._actions) and not self.is_over:
            action = self._actions[self._cursor]
            if self._sayings.get(self._cursor) is not None:
                if not self._play(self._sayings[self._cursor], now, effects):
                    return effects
            elif self._free_at > now:
                return effects
            else:
                self._act(action, effects)
            self._cursor += 1
        if not self.is_over and self._free_at <= now:
            self.is_over = True
            if self._text and self._audio_began is not None:
                effects.append(Emit(AgentTranscript(self._text, True, self._audio_began, self._free_at)))
        return effects

    def _act(self, action: Action, effects: list[SessionEffect]) -> None:
        match action:
            case Pause(seconds=seconds):
                self._wait(seconds)
            case PushEvent(name=name, payload=payload):
                effects.append(Emit(EventPushed(name, (payload,))))
            case CallTool(name=name, result=result, took=took):
                effects.append(Note("tool.called", {"name": name, "result": result, "took": took}))
                self._wait(took)
            case FailWith(code=code, message=message, recoverable=recoverable):
                effects.append(Emit(SessionFailed(code, message, recoverable)))
            case Say():
                pass
            case _:
                assert_never(action)

    def _wait(self, seconds: float) -> None:
        self._free_at = round(self._free_at + seconds, DIGITS)

    def _play(self, saying: _Saying, now: float, effects: list[SessionEffect]) -> bool:
        """Play what is due of a saying; True when it has been played to its end."""
        playout = self._playout
        if saying.began is None:
            if self._free_at > now:
                return False
            saying.began = playout.position
            self._playing = saying
            playout.begin(max(self._free_at, self._audio_from))
            for pcm in saying.waiting:
                playout.push(pcm, now)
            saying.waiting.clear()
            if saying.is_complete:
                playout.finish(now)
        while (due := playout.next_deadline()) is not None and due <= now:
            self._play_frame(saying, now, effects)
        end = playout.next_due
        if not saying.is_complete or playout.next_deadline() is not None or end > now:
            return False
        self._free_at = max(self._free_at, end)
        self._shown = _joined(saying.said_before, saying.text)
        saying.is_over = True
        self._playing = None
        effects += self._ask_ahead()
        return True

    def _play_frame(self, saying: _Saying, now: float, effects: list[SessionEffect]) -> None:
        due = self._playout.next_due
        frame = self._playout.take(now)
        assert frame is not None
        if self._audio_began is None:
            self._audio_began = due
        effects.append(Emit(AudioReady(frame)))
        assert saying.began is not None
        if saying.next_word < len(saying.words) and saying.words[saying.next_word][0] <= (
            self._playout.position - saying.began
        ):
            self._show_words(saying, due + FRAME_SECONDS, effects)

    def _show_words(self, saying: _Saying, now: float, effects: list[SessionEffect]) -> None:
        """Show the text so far once another word has been played."""
        assert saying.began is not None
        played = self._playout.position - saying.began
        while saying.next_word < len(saying.words) and saying.words[saying.next_word][0] <= played:
            saying.next_word += 1
        text = _joined(saying.said_before, saying.words[saying.next_word - 1][1])
        if len(text) <= len(self._shown):
            return
        self._shown = text
        assert self._audio_began is not None
        effects.append(Emit(AgentTranscript(text, False, self._audio_began, round(now, DIGITS))))

    def _ask_ahead(self) -> list[SessionEffect]:
        unplayed = [saying for saying in self._sayings.values() if not saying.is_over]
        effects: list[SessionEffect] = []
        for saying in unplayed[:_AHEAD]:
            if not saying.is_requested:
                saying.is_requested = True
                effects.append(Synthesize(self.number, saying.item, saying.text, self._voice, saying.wav))
        return effects


def _joined(before: str, text: str) -> str:
    return f"{before} {text}" if before and text else before or text
