"""What is read of offers, answers and candidates, and what is refused, with the reason."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.webrtc.sdp import MOST_CANDIDATES, SdpRefused, read_answer, read_candidate, read_offer

FINGERPRINT = "sha-256 " + ":".join(["AB"] * 32)
HEAD = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0"]
AUDIO = [
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0 8 13 110 126",
    "c=IN IP4 0.0.0.0",
    "a=ice-ufrag:abcd",
    "a=ice-pwd:efghijklmnopqrstuvwxyz",
    f"a=fingerprint:{FINGERPRINT}",
    "a=setup:actpass",
    "a=mid:0",
    "a=sendrecv",
    "a=rtcp-mux",
    "a=rtpmap:111 opus/48000/2",
    "a=rtpmap:63 red/48000/2",
    "a=rtpmap:110 telephone-event/48000",
    "a=rtpmap:126 telephone-event/8000",
]
HOST = "candidate:1 1 udp 2122260223 127.0.0.1 50000 typ host generation 0"
HIDDEN = "candidate:2 1 udp 2122260223 0b1f-11.local 50001 typ host"


def offer(*more: str, without: str = "", head: list[str] = HEAD, audio: list[str] = AUDIO) -> str:
    lines = [*head, *audio, *more]
    return "".join(f"{line}\r\n" for line in lines if not (without and without in line))


def test_an_offer_is_read_and_its_candidates_are_taken_out() -> None:
    read = read_offer(offer(f"a={HOST}", f"a={HIDDEN}", "a=end-of-candidates"))
    assert read.mids == ("0",)
    assert read.codecs == ("opus", "PCMU", "PCMA")
    assert read.bundle == ("0",)
    assert read.digits == {110, 126}
    assert "candidate" not in read.sdp
    first, second = read.candidates
    assert (first.text, first.mid, first.line, first.host) == (HOST, "0", 0, "127.0.0.1")
    assert second.host == "0b1f-11.local"


def test_line_ends_may_be_those_of_unix() -> None:
    assert read_offer(offer().replace("\r\n", "\n")).mids == ("0",)


def test_credentials_may_stand_in_the_head() -> None:
    moved = ["a=ice-ufrag:abcd", "a=ice-pwd:efghijklmnopqrstuvwxyz", f"a=fingerprint:{FINGERPRINT}"]
    assert read_offer(offer(head=[*HEAD, *moved], audio=[line for line in AUDIO if line not in moved])).codecs


def test_video_may_be_offered_too() -> None:
    video = [line.replace("audio", "video").replace("mid:0", "mid:1") for line in AUDIO]
    assert read_offer(offer(*video)).mids == ("0", "1")


@pytest.mark.parametrize(
    ("sdp", "says"),
    [
        ("", "begins with '', expected a session description"),
        ("garbage", "begins with 'garbage'"),
        ("\0" * 1000, "expected a session description"),
        ("v=0\r\n", "no audio section in use (its sections: none)"),
        (offer(without="a=fingerprint"), "the audio section has no a=fingerprint"),
        (offer(without="a=ice-ufrag"), "no a=ice-ufrag"),
        (offer(without="a=ice-pwd"), "no a=ice-pwd"),
        (offer(without="a=rtcp-mux"), "no a=rtcp-mux"),
        (offer().replace(FINGERPRINT, "sha-256 nonsense"), "a=fingerprint is 'sha-256 nonsense'"),
        (offer().replace("m=audio", "m=video"), "(its sections: video)"),
        (offer().replace("m=audio 9", "m=audio 0"), "no audio section in use"),
        (offer().replace("opus", "speex").replace(" 0 8 ", " "), "offers the codecs speex, red, telephone-event"),
        (offer(*[f"a={HOST}"] * (MOST_CANDIDATES + 1)), "more than 100 candidates"),
        (offer("a=candidate:nonsense"), "candidate is 'candidate:nonsense'"),
    ],
)
def test_an_offer_that_cannot_be_answered_says_why(sdp: str, says: str) -> None:
    with pytest.raises(SdpRefused, match=re.escape(says)):
        read_offer(sdp)


@pytest.mark.parametrize(
    "text",
    [
        HOST,
        f"a={HOST}",
        HOST.removeprefix("candidate:"),
        "candidate:842163049 1 udp 1677729535 203.0.113.5 60000 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag x",
        "candidate:0 1 TCP 2105524479 192.0.2.7 9 typ host tcptype active",
        "candidate:0 2 UDP 1 2001:db8::1 4000 typ relay raddr :: rport 9",
        HIDDEN,
    ],
)
def test_candidates_of_browsers_are_read(text: str) -> None:
    assert read_candidate(text, "0", None).text.startswith("candidate:")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "candidate is 'nonsense', expected 'candidate:<foundation>"),
        ("candidate:1 1 udp 1 127.0.0.1 99999 typ host", "port 99999"),
        ("candidate:1 1 udp 1 example.com 5000 typ host", "names 'example.com'"),
        ("candidate:1 1 udp 1 999.1.1.1 5000 typ host", "names '999.1.1.1'"),
        ("candidate:1 1 smoke 1 127.0.0.1 5000 typ host", "expected 'candidate:"),
        ("candidate:1 1 udp 1 127.0.0.1 5000 typ wish", "expected 'candidate:"),
        ("candidate:" + "1 " * 5000, "expected 'candidate:"),
    ],
)
def test_a_candidate_that_is_none_says_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(SdpRefused, match=re.escape(says)):
        read_candidate(text, "0", None)


@given(st.text(max_size=200), st.integers(0, len(AUDIO) - 1))
def test_no_text_does_anything_but_be_refused(noise: str, at: int) -> None:
    for text in (noise, f"v=0\r\n{noise}", offer(audio=[*AUDIO[:at], noise, *AUDIO[at + 1 :]])):
        with suppress(SdpRefused):
            read_offer(text)


def test_an_answer_lists_each_candidate_once_though_its_sections_share_them() -> None:
    video = [line.replace("audio", "video").replace("mid:0", "mid:1") for line in AUDIO]
    answer = read_answer(offer(f"a={HOST}", *video, f"a={HOST}"))
    assert [(candidate.text, candidate.mid, candidate.line) for candidate in answer.candidates] == [(HOST, "0", 0)]
    assert answer.codec == "opus"


def test_an_answer_may_announce_other_addresses() -> None:
    answer = read_answer(offer(f"a={HOST}"), ["203.0.113.5", "192.0.2.7"])
    assert [candidate.host for candidate in answer.candidates] == ["203.0.113.5", "192.0.2.7"]
    assert "a=candidate:1 1 udp 2122260223 203.0.113.5 50000 typ host" in answer.sdp
    assert "127.0.0.1 50000" not in answer.sdp


def test_codecs_are_described_in_the_callers_order_old_ones_too_and_keys_last() -> None:
    turned = offer().replace("SAVPF 111 63 0 8 13 110 126", "SAVPF 126 8 111 110 0")
    described = [line.split(":")[1] for line in read_offer(turned).sdp.splitlines() if line.startswith("a=rtpmap")]
    assert described == [
        "8 PCMA/8000",
        "111 opus/48000/2",
        "0 PCMU/8000",
        "63 red/48000/2",
        "126 telephone-event/8000",
        "110 telephone-event/48000",
    ]
