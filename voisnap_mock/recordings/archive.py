"""The calls of a tenant that can still be listened to: all of them for a while, and those with `--record` for good.

Owns what a running session is tapped into. Audio is kept in memory, within a bound for each tenant: the oldest goes
first and the journal says so. With a recorder the same pieces go to the disk too.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from voisnap_mock.audio.frames import FRAME_SECONDS, SAMPLE_BYTES, WAV_HEADER_BYTES, wav_header
from voisnap_mock.clock import iso_timestamp
from voisnap_mock.errors import VoisnapMockError
from voisnap_mock.journal import Journal, JournalEntry, JournalFilter
from voisnap_mock.recordings.call_files import (
    CALL,
    EVENTS,
    RATES,
    TRANSCRIPT,
    WAVS,
    Side,
    Utterance,
    call_text,
    event_line,
    json_line,
    utterance_in,
    vtt,
)
from voisnap_mock.recordings.recorder import CallFolder, Recorder
from voisnap_mock.recordings.track import Track

if TYPE_CHECKING:
    from voisnap_mock.agents.script import AgentScript
    from voisnap_mock.engine.runner import ClockMode

MOST_AUDIO_BYTES = 64 * 1024 * 1024
"""Audio kept in memory for each tenant: a quarter of an hour in which both sides speak; silence takes nothing."""

_MOST_CALLS = 1_000
# How late a frame may come, in call time, and still follow: more than playout allows before it leaves a gap.
_SLACK: Mapping[ClockMode, float] = {"real": 0.1, "4x": 0.4, "virtual": 0.0}
# A piece in memory costs so much besides its samples.
_PIECE_BYTES = 200


class NoSuchCall(VoisnapMockError):
    """There is no such call, or nothing is known of it any more; the text says which."""


class NoAudio(VoisnapMockError):
    """The call has no audio, or it is kept no more; the text says which, and what to do."""


class Tapped(Protocol):
    """What the archive asks a session."""

    @property
    def id(self) -> str: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def script(self) -> AgentScript: ...
    @property
    def channel(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def started_at(self) -> float | None: ...
    @property
    def duration(self) -> float | None: ...
    @property
    def reason(self) -> str | None: ...


class TappedCall:
    """A call in the archive. Listens in on its session; all methods belong to the server's loop.

    Attributes:
        mode: how its time passes: `real`, `4x` or `virtual`.
        with_real_time: its record tells when things happened; on a virtual clock it does not.
        pieces: the audio of each side that is in memory, with its place in samples.
        bytes: what they take.
        is_cut: the audio had to go from memory, and what comes is not kept there either.
        last_seq: the journal's last entry of the call; None while it goes on.
    """

    def __init__(self, archive: CallArchive, session: Tapped, *, mode: ClockMode, folder: CallFolder | None) -> None:
        self.id = session.id
        self.mode = mode
        self.with_real_time = _with_real_time(mode)
        self.has_audio = session.channel != "chat"
        self.folder = folder
        self.is_cut = False
        self.bytes = 0
        self.pieces: dict[Side, list[tuple[int, bytes]]] = {side: [] for side in WAVS}
        self.tracks: dict[Side, Track] = {
            side: Track(rate, slack=_SLACK[mode], keep=partial(archive.keep, self, side))
            for side, rate in RATES.items()
        }
        self.last_seq: int | None = None
        self._archive = archive
        self._session: Tapped | None = session
        self._facts: dict[str, Any] = {}
        self._hear = self.tracks["in"].lay
        self._say = self.tracks["out"].lay

    def heard(self, pcm: bytes, t: float) -> None:
        """20 ms of the caller have come, which end at `t`."""
        self._hear(pcm, t - FRAME_SECONDS)

    def said(self, pcm: bytes, t: float) -> None:
        """20 ms of the agent have been sent, which are to be played from `t` on."""
        self._say(pcm, t)

    def close(self) -> None:
        """The session is over, and has written its last entry into the journal."""
        session = self._session
        if session is None:
            return
        self._facts, self._session = self._facts_of(session), None
        for side, track in self.tracks.items():
            track.flush()
            # Both sides are as long as the call, so that they can be laid beside each other.
            track.length = max(track.length, round((session.duration or 0.0) * RATES[side]))
        self._archive.close(self)

    @property
    def facts(self) -> dict[str, Any]:
        """Whose call it is and how it stands, as the control API shows it."""
        return self._facts if self._session is None else self._facts_of(self._session)

    @property
    def recorded_facts(self) -> dict[str, Any]:
        """The same for `call.json`: on a virtual clock nothing of real time is in it."""
        return self.facts if self.with_real_time else self.facts | {"startedAt": None}

    def _facts_of(self, session: Tapped) -> dict[str, Any]:
        return {
            "id": session.id,
            "agentId": session.script.id,
            "tenantId": session.tenant_id,
            "channel": session.channel,
            "status": session.status,
            "clock": self.mode,
            "startedAt": None if session.started_at is None else iso_timestamp(session.started_at),
            "durationSeconds": None if session.duration is None else round(session.duration, 3),
            "reason": None if session.reason is None else str(session.reason),
        }


class CallArchive:
    """The calls of one tenant. Belongs to the server's loop.

    Args:
        journal: where the events of the calls are.
        recorder: writes the calls to the disk too.
        most_bytes: of audio that is kept in memory.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        recorder: Recorder | None = None,
        most_bytes: int = MOST_AUDIO_BYTES,
    ) -> None:
        self._journal = journal
        self._recorder = recorder
        self._most_bytes = most_bytes
        self._calls: OrderedDict[str, TappedCall] = OrderedDict()
        self._audible: OrderedDict[str, TappedCall] = OrderedDict()
        self._bytes = 0
        self._recording: dict[str, CallFolder] = {}
        if recorder is not None:
            journal.follow(self._record)

    # --- for sessions -----------------------------------------------------------------------------------------------

    def open(self, session: Tapped, mode: ClockMode) -> TappedCall:
        """Tap a session whose time passes so, before anything of it is in the journal."""
        folder: CallFolder | None = None
        if self._recorder is not None:
            folder = self._recorder.open(
                session.id, with_real_time=_with_real_time(mode), note=partial(self._note_failure, session.id)
            )
            self._recording[session.id] = folder
        call = TappedCall(self, session, mode=mode, folder=folder)
        self._calls[call.id] = call
        if folder is not None:
            folder.begin(call.recorded_facts, has_audio=call.has_audio)
        if len(self._calls) > _MOST_CALLS:
            self._forget_oldest()
        return call

    def keep(self, call: TappedCall, side: Side, place: int, pcm: bytes) -> None:
        """A piece of a call's audio; beyond the bound that of the oldest call goes, first of those that are over."""
        if call.folder is not None:
            call.folder.add_audio(side, place, pcm)
        if call.is_cut:
            return
        call.pieces[side].append((place, pcm))
        self._audible[call.id] = call
        self._take(call, len(pcm) + _PIECE_BYTES)
        while self._bytes > self._most_bytes:
            audible = self._audible.values()
            oldest = next((each for each in audible if each.last_seq is not None), next(iter(audible)))
            self._drop(oldest)
            # The call is only named: whether there is room is no event of it.
            self._journal.append(
                "audio.dropped", tenant_id=oldest.facts["tenantId"], callId=oldest.id, kept_bytes=self._most_bytes
            )

    def close(self, call: TappedCall) -> None:
        """A call is over."""
        call.last_seq = self._journal.last_seq
        self._recording.pop(call.id, None)
        if call.folder is not None:
            lengths = {side: track.length for side, track in call.tracks.items()} if call.has_audio else {}
            call.folder.end(call.recorded_facts, lengths)

    # --- for those who want to know ---------------------------------------------------------------------------------

    @property
    def calls(self) -> tuple[dict[str, Any], ...]:
        """What is known of each call, oldest first: `{id, agentId, tenantId, channel, status, clock, startedAt, ...}`.

        Also those that are over; of more than 1,000 the oldest are forgotten.
        """
        return tuple(call.facts for call in self._calls.values())

    def facts(self, call_id: str) -> dict[str, Any]:
        """What is known of one call. Raises NoSuchCall."""
        return self._find(call_id).facts

    def entries(self, call_id: str) -> tuple[JournalEntry, ...]:
        """What the journal has of the call until its end, as far as it still has it. Raises NoSuchCall."""
        call = self._find(call_id)
        entries = self._journal.entries(JournalFilter(call=call.id))
        return tuple(entry for entry in entries if call.last_seq is None or entry.seq <= call.last_seq)

    def transcript(self, call_id: str) -> tuple[Utterance, ...]:
        """Who has said what, in the order in which it was said to its end. Raises NoSuchCall."""
        said = (utterance_in(entry.as_object()) for entry in self.entries(call_id))
        return tuple(each for each in said if each is not None)

    def wav(self, call_id: str, side: Side) -> bytes:
        """A side of the call as a WAV file, up to now: `in` is the caller at 16 kHz, `out` the agent at 24 kHz.

        Raises:
            NoSuchCall: it is not known.
            NoAudio: it is a chat, or its audio had to go.
        """
        call = self._find(call_id)
        if not call.has_audio:
            raise NoAudio(f"call {call_id!r} is a chat, which has no audio")
        if not call.is_cut:
            return _wav(call, side)
        if call.folder is not None and not call.folder.has_failed:
            with suppress(OSError):
                return (call.folder.path / WAVS[side]).read_bytes()
        raise NoAudio(
            f"the audio of call {call_id!r} is not kept any more: {self._most_bytes >> 20} MB of a tenant's calls are; "
            "serve with --record DIR to keep all of it"
        )

    def folder_files(self, call_id: str) -> Mapping[str, bytes]:
        """The files of the call's record by name, as `--record` would write them now.

        Audio that is not kept any more is left out.

        Raises:
            NoSuchCall: it is not known.
        """
        call = self._find(call_id)
        lines = [
            event_line(entry, number, with_real_time=call.with_real_time)
            for number, entry in enumerate(self.entries(call_id), start=1)
        ]
        said = (utterance_in(line) for line in lines)
        files = {
            CALL: call_text(call.recorded_facts).encode(),
            EVENTS: "".join(map(json_line, lines)).encode(),
            TRANSCRIPT: vtt(each for each in said if each is not None).encode(),
        }
        for side, name in WAVS.items():
            try:
                files[name] = self.wav(call_id, side)
            except NoAudio:
                continue
        return files

    # --- inside -----------------------------------------------------------------------------------------------------

    def _find(self, call_id: str) -> TappedCall:
        call = self._calls.get(call_id)
        if call is None:
            raise NoSuchCall(f"call {call_id[:80]!r} is not known; the last {_MOST_CALLS:,} calls of a tenant are")
        return call

    def _forget_oldest(self) -> None:
        """Of those that are over; their audio goes with them."""
        oldest = next((call for call in self._calls.values() if call.last_seq is not None), None)
        if oldest is None:
            return
        del self._calls[oldest.id]
        self._drop(oldest)

    def _take(self, call: TappedCall, size: int) -> None:
        call.bytes += size
        self._bytes += size

    def _drop(self, call: TappedCall) -> None:
        """Let the audio of a call go from memory."""
        call.is_cut = True
        for pieces in call.pieces.values():
            pieces.clear()
        self._take(call, -call.bytes)
        self._audible.pop(call.id, None)

    def _record(self, entry: JournalEntry) -> None:
        folder = self._recording.get(entry.call_id or "")
        if folder is not None:
            folder.add_entry(entry)

    def _note_failure(self, call_id: str, message: str) -> None:
        call = self._calls.get(call_id)
        tenant_id = None if call is None else call.facts["tenantId"]
        self._journal.append("recording.failed", tenant_id=tenant_id, call_id=call_id, message=message)


def _with_real_time(mode: ClockMode) -> bool:
    return mode != "virtual"


def zip_of(files: Mapping[str, bytes], folder: str) -> bytes:
    """The files as a zip, below one folder; the same files give the same zip. May be called in any thread."""
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in files.items():
            # The earliest date that a zip can hold.
            entry = zipfile.ZipInfo(f"{folder}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return packed.getvalue()


def _wav(call: TappedCall, side: Side) -> bytes:
    track = call.tracks[side]
    track.flush()
    length = track.length * SAMPLE_BYTES
    whole = bytearray(WAV_HEADER_BYTES + length)
    whole[:WAV_HEADER_BYTES] = wav_header(length, RATES[side])
    for place, pcm in call.pieces[side]:
        at = WAV_HEADER_BYTES + place * SAMPLE_BYTES
        whole[at : at + len(pcm)] = pcm
    return bytes(whole)
