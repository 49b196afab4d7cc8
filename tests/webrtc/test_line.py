"""The line over RTP, without any: order, gaps, timing and keys, as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.webrtc.line import AgentLine, CallerLine, KeyReader, PacketOrder, Schedule

FRAME = bytes(960)


def order_of(*arrivals: int, first: int = 0) -> tuple[list[int], PacketOrder[int]]:
    """Push packets 20 ms apart; what came out, in order."""
    order: PacketOrder[int] = PacketOrder()
    out = []
    for place, number in enumerate(arrivals):
        out += order.push((first + number) & 0xFFFF, number, place * 0.02)
    return out, order


@pytest.mark.parametrize(
    ("arrivals", "out", "lost", "late"),
    [
        ((0, 1, 2, 3), [0, 1, 2, 3], 0, 0),
        ((0, 2, 1, 3), [0, 1, 2, 3], 0, 0),
        ((0, 2, 3, 1, 4), [0, 1, 2, 3, 4], 0, 0),
        ((0, 2, 3, 4, 5), [0, 2, 3, 4, 5], 1, 0),
        ((0, 2, 3, 4, 1, 5), [0, 2, 3, 4, 5], 1, 1),
        ((0, 1, 1, 2), [0, 1, 2], 0, 1),
        ((0, 4, 5, 6, 7), [0, 4, 5, 6, 7], 3, 0),
        ((0, 2, 4, 6, 7), [0, 2, 4], 2, 0),
        ((0, 2, 2, 1), [0, 1, 2], 0, 1),
        ((0, 5000, 5001), [0, 5000, 5001], 0, 0),
        ((0, 2, 5000, 5001), [0, 2, 5000, 5001], 0, 0),
    ],
)
@pytest.mark.parametrize("first", [0, 65_533, 1_000])
def test_packets_come_out_in_order_and_a_loss_is_not_waited_for_for_long(
    arrivals: tuple[int, ...], out: list[int], lost: int, late: int, first: int
) -> None:
    got, order = order_of(*arrivals, first=first)
    assert (got, order.lost, order.late) == (out, lost, late)


def test_the_packets_behind_a_loss_come_out_in_time_though_none_follows() -> None:
    order: PacketOrder[str] = PacketOrder()
    assert order.push(1, "a", 0.0) == ["a"]
    assert order.deadline is None
    assert order.push(3, "c", 0.02) == []
    assert order.deadline == pytest.approx(0.08)
    assert order.flush(0.07) == []
    assert order.flush(0.08) == ["c"]
    assert (order.lost, order.deadline) == (1, None)


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_whatever_happens_to_packets_none_comes_out_twice_or_before_its_turn(
    arrivals: list[int], dropped: set[int]
) -> None:
    order: PacketOrder[int] = PacketOrder()
    out = order.push(0xFFFE, -1, 0.0)
    for place, number in enumerate(arrivals):
        if number not in dropped:
            out += order.push((0xFFFF + number) & 0xFFFF, number, place * 0.02)
    out += order.flush(10.0) + order.flush(20.0) + order.flush(30.0)
    assert out == sorted(set(out))
    assert len(out) + order.late == 7 - len(dropped)


# --- the caller -----------------------------------------------------------------------------------------------------


def milliseconds(pcm: bytes) -> float:
    return len(pcm) / 32


def test_a_lost_packet_leaves_silence_of_its_length() -> None:
    line = CallerLine(0.0)
    assert line.heard(5.00, 0.02, 0.00) == b""
    assert line.heard(5.02, 0.02, 0.02) == b""
    assert milliseconds(line.heard(5.08, 0.02, 0.08)) == 40
    assert line.heard(5.10, 0.02, 0.10) == b""


def test_a_caller_who_sends_nothing_is_silent_at_the_pace_of_time() -> None:
    line = CallerLine(0.0)
    line.heard(0.0, 0.02, 1.0)
    assert line.silence_due(1.25) == b"", "that much is jitter"
    assert milliseconds(line.silence_due(1.30)) == 300
    assert milliseconds(line.silence_due(1.40)) == 100
    assert line.silence_due(1.41) == b""
    assert milliseconds(line.silence_due(2.50)) == 1100


def test_silence_that_was_filled_in_is_not_filled_in_again_by_the_senders_clock() -> None:
    line = CallerLine(0.0)
    line.heard(0.0, 0.02, 0.0)
    filled = milliseconds(line.silence_due(2.0))
    assert filled == 2000
    assert milliseconds(line.heard(2.1, 0.02, 2.1)) == 80, "the rest of the gap"
    line.silence_due(4.1)
    assert line.heard(2.12, 0.02, 4.2) == b"", "a clock that stood still meanwhile"


def test_a_senders_clock_that_jumps_is_no_gap() -> None:
    line = CallerLine(0.0)
    line.heard(0.0, 0.02, 0.0)
    assert line.heard(90_000.0, 0.02, 0.02) == b""
    assert line.heard(3.0, 0.02, 0.04) == b""


def test_before_the_first_word_the_caller_is_silent_too() -> None:
    line = CallerLine(10.0)
    assert milliseconds(line.silence_due(10.5)) == 500


# --- the agent ------------------------------------------------------------------------------------------------------


def frame(number: int) -> bytes:
    return number.to_bytes(2, "little") * 480


def test_a_reply_begins_a_frame_late_and_has_no_hole_when_a_frame_is_late() -> None:
    line = AgentLine()
    assert line.take() == FRAME
    line.put(frame(1))
    assert line.take() == FRAME, "one frame in hand"
    line.put(frame(2))
    assert line.take() == frame(1)
    assert line.take() == frame(2), "the next one was late, and nobody heard it"
    line.put(frame(3))
    line.put(frame(4))
    assert [line.take() for _ in range(3)] == [frame(3), frame(4), FRAME]


def test_a_word_of_one_frame_is_said() -> None:
    line = AgentLine()
    line.put(frame(1))
    assert [line.take() for _ in range(3)] == [FRAME, frame(1), FRAME]


def test_what_is_queued_is_dropped_when_the_caller_interrupts() -> None:
    line = AgentLine()
    for number in range(1, 5):
        line.put(frame(number))
    assert line.take() == frame(1)
    line.clear()
    assert line.take() == FRAME


def test_a_queue_that_nobody_takes_from_keeps_the_latest_second() -> None:
    line = AgentLine()
    for number in range(1, 101):
        line.put(frame(number))
    assert line.take() == frame(51)


def test_frames_are_due_on_an_absolute_schedule() -> None:
    schedule = Schedule()
    due = []
    now = 100.0
    for late in (0.0, 0.004, 0.019, 0.0, 0.0):
        at = schedule.due(now)
        due.append(round(at - 100.0, 6))
        now = max(now, at) + late
        schedule.sent(now)
    assert due == [0.0, 0.02, 0.04, 0.06, 0.08]
    assert schedule.late_ms[0] == 3
    assert (schedule.lateness_ms(0.5), schedule.lateness_ms(0.99)) == (1, 19 if schedule.late_ms[18] else 20)


def test_after_a_stall_frames_do_not_burst() -> None:
    schedule = Schedule()
    schedule.due(0.0)
    schedule.sent(0.0)
    assert schedule.due(0.1) == pytest.approx(0.02), "a little late is caught up with"
    schedule.sent(0.1)
    assert schedule.due(1.0) == 1.0
    schedule.sent(1.0)
    assert schedule.due(1.0) == pytest.approx(1.02)


# --- keys -----------------------------------------------------------------------------------------------------------


def event(key: str, *, end: bool = False, duration: int = 160) -> bytes:
    return bytes(["0123456789*#".index(key), 0x80 if end else 0]) + duration.to_bytes(2, "big")


def keys_of(*packets: tuple[bytes, int]) -> str:
    reader = KeyReader()
    return "".join(reader.read(payload, timestamp) for payload, timestamp in packets)


def test_a_key_counts_once_though_its_end_comes_three_times() -> None:
    assert keys_of((event("5"), 100), *[(event("5", end=True), 100)] * 3) == "5"


def test_the_same_key_twice_counts_twice() -> None:
    assert keys_of((event("5", end=True), 100), (event("5"), 900), (event("5", end=True), 900)) == "55"


def test_a_key_whose_end_was_lost_counts_when_the_next_one_begins() -> None:
    assert keys_of((event("1"), 100), (event("2"), 900), (event("2", end=True), 900)) == "12"


def test_every_key_of_a_telephone_is_known_and_nothing_else() -> None:
    packets = [(event(key, end=True), number * 1000) for number, key in enumerate("0123456789*#")]
    strangers = [(bytes([code, 0x80, 0, 160]), 50_000 + code) for code in (12, 15, 16, 255)]
    assert keys_of(*packets, *strangers, (b"", 1), (b"\x01\x80", 2)) == "0123456789*#"
