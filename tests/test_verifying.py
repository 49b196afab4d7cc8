"""What should have happened, and why it did not: each failure says what came nearest."""

from __future__ import annotations

import pytest

from voisnap_mock.clock import ManualClock
from voisnap_mock.journal import Journal, JournalEntry
from voisnap_mock.verifying import Expected, verify


def a_call() -> tuple[JournalEntry, ...]:
    """Someone asks for a refund, presses a key, and hangs up."""
    book = Journal(ManualClock(wall=1_750_000_000.0))
    book.append("http.request", target="POST /api/v1/auth/login", status=200)
    for t, kind, details in (
        (0.0, "session.started", {"target": "SessionStarted"}),
        (2.5, "agent.transcript", {"target": "TranscriptionOf", "text": "Hi, this is Acme."}),
        (4.0, "caller.transcript", {"target": "Transcription", "text": "I want a refund"}),
        (7.0, "agent.transcript", {"target": "TranscriptionOf", "text": "Sure. What is the order number?"}),
        (8.0, "method", {"target": "SendDtmfAsync", "digit": "0"}),
        (9.0, "session.ended", {"target": "SessionEnded", "reason": "user_ended"}),
    ):
        book.append(kind, call_id="conv_1", t=t, **details)
    return book.entries()


@pytest.mark.parametrize(
    ("expected", "ordered"),
    [
        ([], True),
        ([Expected(target="Transcription", text="REFUND"), Expected(target="TranscriptionOf", text="order")], True),
        ([Expected(target="TranscriptionOf", text="order"), Expected(target="Transcription", text="refund")], False),
        ([Expected(kind="agent.*", count=2)], True),
        ([Expected(kind="agent.*", count=2)], False),
        ([Expected(kind="session.failed", count=0)], True),
        ([Expected(target="TranscriptionOf", count=1), Expected(target="Transcription")], True),
        ([Expected(target="Transcription"), Expected(target="TranscriptionOf", count=1)], True),
        ([Expected(target="SendDtmfAsync"), Expected(target="TranscriptionOf", count=0)], True),
        ([Expected(target="TranscriptionOf"), Expected(target="TranscriptionOf", within=4.5)], True),
        ([Expected(target="POST /api/v1/auth/login"), Expected(kind="session.started", within=0.0)], True),
    ],
    ids=str,
)
def test_what_happened_is_found(expected: list[Expected], ordered: bool) -> None:
    assert verify(a_call(), expected, ordered=ordered) == ()


@pytest.mark.parametrize(
    ("expected", "ordered", "index", "says", "nearest"),
    [
        (
            [Expected(target="TranscriptionOf", text="order numbre")],
            True,
            0,
            (
                'event 1 (TranscriptionOf "order numbre") did not happen; nearest is agent.transcript TranscriptionOf '
                'at 7.000 s (seq 5), whose text is "Sure. What is the order number?"'
            ),
            5,
        ),
        (
            [Expected(kind="session.ended"), Expected(target="Transcription", text="refund")],
            True,
            1,
            (
                'event 2 (Transcription "refund") did not happen after event 1 (session.ended), session.ended '
                "SessionEnded at 9.000 s (seq 7); it happened before: caller.transcript "
                "Transcription at 4.000 s (seq 4)"
            ),
            4,
        ),
        (
            [Expected(target="Transcriptio")],
            False,
            0,
            (
                "event 1 (Transcriptio) did not happen; no target of that name is among the 7 entries; did you mean "
                '"Transcription"?'
            ),
            None,
        ),
        (
            [Expected(kind="sesion.ended")],
            False,
            0,
            (
                "event 1 (sesion.ended) did not happen; no kind of that name is among the 7 entries; did you mean "
                '"session.ended"?'
            ),
            None,
        ),
        (
            [Expected(target="TranscriptionOf", text="refund")],
            False,
            0,
            (
                'event 1 (TranscriptionOf "refund") did not happen; nearest is agent.transcript TranscriptionOf at '
                '7.000 s (seq 5), whose text is "Sure. What is the order number?"'
            ),
            5,
        ),
        (
            [Expected(kind="session.ended", text="refund")],
            False,
            0,
            (
                'event 1 (session.ended "refund") did not happen; nearest is caller.transcript Transcription at 4.000 '
                "s (seq 4), which says it but is no session.ended"
            ),
            4,
        ),
        (
            [Expected(kind="caller.transcript", target="SendDtmfAsync")],
            False,
            0,
            (
                "event 1 (caller.transcript SendDtmfAsync) did not happen; nearest is method SendDtmfAsync at 8.000 s "
                "(seq 6), which is no caller.transcript"
            ),
            6,
        ),
        (
            [Expected(text="I wanted a refund")],
            False,
            0,
            (
                'event 1 (anything "I wanted a refund") did not happen; nearest is caller.transcript Transcription at '
                '4.000 s (seq 4), whose text is "I want a refund"'
            ),
            4,
        ),
        (
            [Expected(text="pizza")],
            False,
            0,
            'event 1 (anything "pizza") did not happen; none of the 7 entries says it',
            None,
        ),
        (
            [Expected(kind="agent.transcript", count=3)],
            True,
            0,
            (
                "event 1 (agent.transcript) happened 2 times, expected 3 times; the last time was agent.transcript "
                "TranscriptionOf at 7.000 s (seq 5)"
            ),
            5,
        ),
        (
            [Expected(target="TranscriptionOf", count=1)],
            False,
            0,
            (
                "event 1 (TranscriptionOf) happened 2 times, expected once; one too many is agent.transcript "
                "TranscriptionOf at 7.000 s (seq 5)"
            ),
            5,
        ),
        (
            [Expected(target="TranscriptionOf", count=0), Expected(target="Transcription")],
            True,
            0,
            "event 1 (TranscriptionOf) happened once before event 2 (Transcription), expected never; one too many is",
            3,
        ),
        (
            [Expected(target="Transcription"), Expected(kind="agent.transcript", within=2.5)],
            True,
            1,
            (
                "event 2 (agent.transcript) happened 3.000 s of call time after event 1 (Transcription), expected "
                "within 2.5 s: agent.transcript TranscriptionOf at 7.000 s (seq 5)"
            ),
            5,
        ),
    ],
)
def test_what_did_not_happen_is_told_with_what_came_nearest(
    expected: list[Expected], ordered: bool, index: int, says: str, nearest: int | None
) -> None:
    (failure,) = verify(a_call(), expected, ordered=ordered)
    assert failure.index == index
    assert failure.message.startswith(says), failure.message
    assert (failure.nearest.seq if failure.nearest is not None else None) == nearest


def test_every_failure_is_told_in_the_order_of_the_list() -> None:
    failures = verify(a_call(), [Expected(kind="agent.*", count=1), Expected(kind="nothing"), Expected(text="pizza")])
    assert [failure.index for failure in failures] == [0, 1, 2]


def test_an_empty_journal_is_said_to_be_empty() -> None:
    (failure,) = verify((), [Expected(kind="session.started")])
    assert failure.message == "event 1 (session.started) did not happen; there are no entries at all"
