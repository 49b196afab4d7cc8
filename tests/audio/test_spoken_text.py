import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.spoken_text import LONGEST_PIECE, pieces, spoken, spread, tokens


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("<speak>Hi <break time='1s'/>there</speak>", "Hi there"),
        ('<prosody rate="slow">So</prosody><!-- no\ncomment --> so', "So so"),
        ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
        ("a < b and c > d", "a < b and c > d"),
        ("3<4, x>y", "3<4, x>y"),
        ("one\n\n two\tthree ", "one two three"),
        ("nul\0 \x01 5V bell\x07", "nul 5V bell"),
        ("half \ud83d a smile", "half a smile"),
        ("Ünïcödé 😀 你好", "Ünïcödé 😀 你好"),
        ("<b></b>", ""),
    ],
)
def test_only_what_can_be_read_aloud_is_left(text: str, heard: str) -> None:
    assert spoken(text) == heard


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello! Thanks for calling. How can I help?", ["Hello!", "Thanks for calling.", "How can I help?"]),
        ("It costs 3.14 euros.", ["It costs 3.14 euros."]),
        ("Dr. Smith and J. Doe live at 5 Main St. in Acme.", ["Dr. Smith and J. Doe live at 5 Main St. in Acme."]),
        ("We ship e.g. books. And more.", ["We ship e.g. books.", "And more."]),
        ('He said "stop!" Then left.', ['He said "stop!"', "Then left."]),
        ("Wait... what?!", ["Wait... what?!"]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("no end", ["no end"]),
        ("...", ["..."]),
        ("", []),
        (" \0 ", []),
    ],
)
def test_text_is_taken_sentence_by_sentence(text: str, sentences: list[str]) -> None:
    assert pieces(text) == sentences


def test_a_long_sentence_is_cut_at_a_pause_else_at_a_space_else_anywhere() -> None:
    with_pauses = "a few words, " * 40
    assert all(piece.endswith(",") for piece in pieces(with_pauses))
    assert all(len(piece) > LONGEST_PIECE // 3 for piece in pieces("word " * 200)[:-1])
    assert [len(piece) for piece in pieces("x" * 600)] == [LONGEST_PIECE, LONGEST_PIECE, 600 - 2 * LONGEST_PIECE]


@given(st.text(alphabet=st.sampled_from("ab .,!?。\n\0<>\ud800é😀"), max_size=800))
def test_nothing_that_can_be_spoken_is_lost_and_no_piece_is_too_long(text: str) -> None:
    got = pieces(text)
    assert "".join("".join(got).split()) == "".join(spoken(text).split())
    assert all(0 < len(piece) <= LONGEST_PIECE and piece == piece.strip() for piece in got)
    for piece in got:
        piece.encode()
        assert [piece[begin:end] for begin, end in tokens(piece)] == piece.split()


def test_time_is_shared_by_length() -> None:
    assert spread(["a", "bcd"], 1.0, 4.0) == [(1.0, 2.0), (2.0, 4.0)]
    assert spread([], 0.0, 1.0) == []
