"""The rules of the transports, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.signalr.transports import (
    ALREADY_CONNECTED,
    CANNOT_DELETE,
    ID_REQUIRED,
    NO_SUCH_CONNECTION,
    OTHER_TRANSPORT,
    POST_NOT_ALLOWED,
    HttpAnswer,
    Life,
    NegotiateRefused,
    NegotiateRequest,
    Parameters,
    SseReader,
    Transport,
    cors_headers,
    negotiate_answer,
    negotiate_error,
    place_delete,
    place_get,
    place_post,
    preflight_answer,
    read_negotiate,
    sse_event,
    transport_off,
)

WS, SSE, LP = Transport.WEB_SOCKETS, Transport.SERVER_SENT_EVENTS, Transport.LONG_POLLING
NO_ID = "no id"


@pytest.mark.parametrize(
    ("asked", "life", "current", "answer"),
    [
        (WS, NO_ID, None, None),
        (SSE, NO_ID, None, ID_REQUIRED),
        (LP, NO_ID, None, ID_REQUIRED),
        (WS, None, None, NO_SUCH_CONNECTION),
        (SSE, None, None, NO_SUCH_CONNECTION),
        (LP, None, None, NO_SUCH_CONNECTION),
        (WS, Life.NEGOTIATED, None, None),
        (SSE, Life.NEGOTIATED, None, None),
        (LP, Life.NEGOTIATED, None, None),
        (WS, Life.LIVE, WS, ALREADY_CONNECTED),
        (WS, Life.RESUMABLE, WS, None),
        (WS, Life.OVER, WS, NO_SUCH_CONNECTION),
        (WS, Life.LIVE, SSE, OTHER_TRANSPORT),
        (WS, Life.LIVE, LP, OTHER_TRANSPORT),
        (SSE, Life.LIVE, SSE, ALREADY_CONNECTED),
        (SSE, Life.LIVE, LP, OTHER_TRANSPORT),
        (SSE, Life.LIVE, WS, OTHER_TRANSPORT),
        (SSE, Life.RESUMABLE, WS, OTHER_TRANSPORT),
        (SSE, Life.OVER, SSE, NO_SUCH_CONNECTION),
        (LP, Life.LIVE, LP, None),
        (LP, Life.OVER, LP, None),
        (LP, Life.LIVE, WS, OTHER_TRANSPORT),
        (LP, Life.LIVE, SSE, OTHER_TRANSPORT),
    ],
)
def test_what_a_get_may_attach_to(
    asked: Transport, life: Life | str | None, current: Transport | None, answer: HttpAnswer | None
) -> None:
    known = life if isinstance(life, Life) else None
    assert place_get(asked, known, current, has_id=life != NO_ID) == answer


@pytest.mark.parametrize(
    ("life", "current", "answer"),
    [
        (NO_ID, None, ID_REQUIRED),
        (None, None, NO_SUCH_CONNECTION),
        (Life.NEGOTIATED, None, None),
        (Life.LIVE, LP, None),
        (Life.LIVE, SSE, None),
        (Life.LIVE, WS, POST_NOT_ALLOWED),
        (Life.RESUMABLE, WS, POST_NOT_ALLOWED),
        (Life.OVER, LP, NO_SUCH_CONNECTION),
        (Life.OVER, SSE, None),
    ],
)
def test_what_a_post_may_reach(life: Life | str | None, current: Transport | None, answer: HttpAnswer | None) -> None:
    known = life if isinstance(life, Life) else None
    assert place_post(known, current, has_id=life != NO_ID) == answer


@pytest.mark.parametrize(
    ("life", "current", "answer"),
    [
        (NO_ID, None, ID_REQUIRED),
        (None, None, NO_SUCH_CONNECTION),
        (Life.NEGOTIATED, None, CANNOT_DELETE),
        (Life.LIVE, LP, None),
        (Life.OVER, LP, None),
        (Life.LIVE, SSE, CANNOT_DELETE),
        (Life.LIVE, WS, CANNOT_DELETE),
    ],
)
def test_what_a_delete_may_end(life: Life | str | None, current: Transport | None, answer: HttpAnswer | None) -> None:
    known = life if isinstance(life, Life) else None
    assert place_delete(known, current, has_id=life != NO_ID) == answer


def test_the_bodies_of_errors() -> None:
    assert (ID_REQUIRED.status, ID_REQUIRED.body) == (400, b"Connection ID required")
    assert (NO_SUCH_CONNECTION.status, NO_SUCH_CONNECTION.body) == (404, b"No Connection with that ID")
    assert (OTHER_TRANSPORT.status, OTHER_TRANSPORT.body) == (400, b"Cannot change transports mid-connection")
    assert (ALREADY_CONNECTED.status, ALREADY_CONNECTED.body) == (409, b"")
    assert POST_NOT_ALLOWED.body == b"POST requests are not allowed for WebSocket connections."
    assert CANNOT_DELETE.body == b"Cannot terminate this connection using the DELETE endpoint."
    assert transport_off(LP) == HttpAnswer(404, b"LongPolling transport not supported by this end point type")


@pytest.mark.parametrize(
    ("query", "meaning"),
    [
        ("", NegotiateRequest(0)),
        ("negotiateVersion=0", NegotiateRequest(0)),
        ("negotiateVersion=1", NegotiateRequest(1)),
        ("NEGOTIATEVERSION=1", NegotiateRequest(1)),
        ("agentId=x&negotiateVersion=7", NegotiateRequest(1)),
        ("negotiateVersion=1&useStatefulReconnect=true", NegotiateRequest(1, True)),
        ("negotiateVersion=1&useStatefulReconnect=false", NegotiateRequest(1)),
        ("negotiateVersion=%20%2B1%20", NegotiateRequest(1)),
        *(
            (f"negotiateVersion={text}", NegotiateRefused("The client requested a non-integer protocol version."))
            for text in ("x", "", "1.5", "1_0", "99999999999", "9" * 6000)
        ),
        (
            "negotiateVersion=-1",
            NegotiateRefused("The client requested version '-1', but the server does not support this version."),
        ),
    ],
)
def test_what_a_negotiate_asks_for(query: str, meaning: NegotiateRequest | NegotiateRefused) -> None:
    assert read_negotiate(Parameters.from_query(query)) == meaning


def test_the_answer_to_negotiate_version_one() -> None:
    answer = negotiate_answer(
        NegotiateRequest(1), connection_id="public", connection_token="secret", transports=Transport
    )
    assert answer.content_type == "application/json"
    assert answer.body == (
        b'{"negotiateVersion":1,"connectionId":"public","connectionToken":"secret","availableTransports":['
        b'{"transport":"WebSockets","transferFormats":["Text","Binary"]},'
        b'{"transport":"ServerSentEvents","transferFormats":["Text"]},'
        b'{"transport":"LongPolling","transferFormats":["Text","Binary"]}]}'
    )


def test_the_answer_to_negotiate_version_zero_has_no_token() -> None:
    answer = negotiate_answer(NegotiateRequest(0), connection_id="a", connection_token="a", transports=(LP,))
    assert answer.body == (
        b'{"negotiateVersion":0,"connectionId":"a","availableTransports":'
        b'[{"transport":"LongPolling","transferFormats":["Text","Binary"]}]}'
    )


def test_stateful_reconnect_is_only_mentioned_when_agreed() -> None:
    answer = negotiate_answer(
        NegotiateRequest(1, True), connection_id="a", connection_token="b", transports=(), stateful_reconnect=True
    )
    assert b'"useStatefulReconnect":true' in answer.body


def test_a_refused_negotiate_is_status_200() -> None:
    assert negotiate_error(NegotiateRefused("no")) == HttpAnswer(200, b'{"error":"no"}', "application/json")


class TestCors:
    def test_the_origin_is_echoed(self) -> None:
        assert cors_headers("http://a.test") == {
            "Access-Control-Allow-Origin": "http://a.test",
            "Access-Control-Allow-Credentials": "true",
            "Vary": "Origin",
        }

    def test_without_an_origin_there_is_nothing(self) -> None:
        assert cors_headers(None) == {}

    def test_preflight(self) -> None:
        answer = preflight_answer("http://a.test", "x-requested-with,x-signalr-user-agent")
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Headers"] == "x-requested-with,x-signalr-user-agent"
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, DELETE"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"

    def test_preflight_without_wishes(self) -> None:
        assert "x-signalr-user-agent" in preflight_answer("http://a.test", None).headers["Access-Control-Allow-Headers"]


class TestParameters:
    def test_names_have_no_case_and_the_first_value_counts(self) -> None:
        query = Parameters.from_query(b"ID=1&id=2&x=&y=%C3%A9+z")
        assert query.get("Id") == "1"
        assert query.get_all("id") == ["1", "2"]
        assert query.get("x") == ""
        assert query.get("Y") == "é z"
        assert query.get("no") is None
        assert query.get("no", "else") == "else"
        assert "id" in query
        assert "no" not in query
        assert 5 not in query

    def test_a_repr_shows_no_values(self) -> None:
        assert "secret" not in repr(Parameters.from_query("access_token=secret"))

    def test_thousands_of_parameters_are_not_read(self) -> None:
        assert Parameters.from_query("a=1&" * 5000).items() == ()


class TestServerSentEvents:
    def test_an_event(self) -> None:
        assert sse_event(b'{"type":6}\x1e') == b'data: {"type":6}\x1e\r\n\r\n'

    def test_a_line_break_becomes_a_line(self) -> None:
        assert sse_event(b"a\nb\r\nc") == b"data: a\r\ndata: b\r\ndata: c\r\n\r\n"

    def test_comments_and_other_fields_are_skipped(self) -> None:
        assert SseReader().feed(b":\r\n\r\nevent: x\r\nid: 1\r\ndata:a\r\ndata: b\n\n") == [b"a\nb"]

    @given(st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b and b"\r" not in b), max_size=4), st.data())
    def test_any_split_gives_the_same_events(self, payloads: list[bytes], data: st.DataObject) -> None:
        stream = b":\r\n" + b"".join(map(sse_event, payloads))
        cut = data.draw(st.integers(0, len(stream)))
        reader = SseReader()
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == payloads
