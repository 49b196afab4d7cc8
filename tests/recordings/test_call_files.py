"""The files of a recorded call."""

from __future__ import annotations

import json

from voisnap_mock.journal import JournalEntry
from voisnap_mock.recordings.call_files import Utterance, event_line, json_line, utterance_in, vtt


def test_a_transcript_is_webvtt_with_a_voice_for_each_cue_in_the_order_in_which_they_begin() -> None:
    said = [
        Utterance("caller", "wait", 2.0, 2.5),
        Utterance("agent", "Hello there.", 0.0, 3_725.25),
    ]
    assert vtt(said) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 01:02:05.250\n<v agent>Hello there.\n\n"
        "00:00:02.000 --> 00:00:02.500\n<v caller>wait\n\n"
    )


def test_no_text_breaks_out_of_its_cue() -> None:
    cue = vtt([Utterance("agent", "a < b\n\n00:00:01.000 --> 00:00:02.000\n</v><v caller>& c", 0.0, 1.0)])
    assert cue.count("-->") == 1
    assert cue.endswith("<v agent>a &lt; b 00:00:01.000 --&gt; 00:00:02.000 &lt;/v&gt;&lt;v caller&gt;&amp; c\n\n")


def test_a_message_of_a_chat_is_shown_for_a_second() -> None:
    said = utterance_in({"kind": "caller.message", "t": 1.5, "text": "hi"})
    assert said == Utterance("caller", "hi", 1.5, 1.5)
    assert "00:00:01.500 --> 00:00:02.500\n<v caller>hi" in vtt([said])


def test_only_what_is_final_was_said() -> None:
    partial = {"kind": "caller.transcript", "t": 1.0, "text": "I", "is_final": False, "begin": 0.5, "end": 1.0}
    assert utterance_in(partial) is None
    assert utterance_in({"kind": "agent.message", "t": 1.0, "text": "I", "is_final": False}) is None
    assert utterance_in({"kind": "session.started", "t": 0.0}) is None
    heard = utterance_in(partial | {"is_final": True, "confidence": 0.9, "ear": "vosk"})
    assert heard is not None
    assert heard.as_object() == {
        "who": "caller", "text": "I", "begin": 0.5, "end": 1.0, "confidence": 0.9, "ear": "vosk"
    }  # fmt: skip
    broken_off = utterance_in(
        {"kind": "agent.transcript", "text": "No", "is_final": True, "begin": 0.0, "end": 1.0, "interrupted": True}
    )
    assert broken_off is not None
    assert broken_off.as_object()["interrupted"] is True


def test_a_line_is_a_journal_entry_counted_within_its_call() -> None:
    entry = JournalEntry(812, 1_750_000_000.123456, "method", "ten_dev", "conv_1", 1.5, {"target": "X", "kind": "no"})
    line = event_line(entry, 3, with_real_time=True)
    assert line == {
        "seq": 3,
        "at": 1_750_000_000.123,
        "t": 1.5,
        "tenantId": "ten_dev",
        "callId": "conv_1",
        "kind": "method",
        "target": "X",
    }
    assert event_line(entry, 3, with_real_time=False)["at"] is None
    assert json.loads(json_line(line)) == line
