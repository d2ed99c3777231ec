"""Requests and responses as values: what is accepted, and the status of what is not."""

from contextlib import suppress
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.runtime.health.http import RefusedRequest, Request, Response, parse_request, parse_response

HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("head", "request_"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", Request("GET", "/livez")),
        (b"HEAD /metrics HTTP/1.0\r\n\r\n", Request("HEAD", "/metrics")),
        (b"GET /metrics?name=a&b HTTP/1.1\r\nhost:a\r\n\r\n", Request("GET", "/metrics")),
        (b"GET http://hub:9464/readyz HTTP/1.1\r\nHost: hub:9464\r\n\r\n", Request("GET", "/readyz")),
        (b"GET http://hub:9464 HTTP/1.1\r\nHost: hub:9464\r\n\r\n", Request("GET", "/")),
        (
            b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\nX-Any: \xff\r\nACCEPT: */* \r\n\r\n",
            Request("GET", "/metrics", "text/plain,*/*"),
        ),
    ],
)
def test_a_request_is_its_method_path_and_accepted_types(head: bytes, request_: Request) -> None:
    assert parse_request(head) == request_


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET  /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01 TLS\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n" + 2 * HOST + b"\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n folded\r\n" + HOST + b"\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nnothing\r\n" + HOST + b"\r\n", 400),
        (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"POST /livez HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"get /livez HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ],
)
def test_what_is_not_a_request_for_a_page_has_a_status(head: bytes, status: int) -> None:
    with pytest.raises(RefusedRequest) as refused:
        parse_request(head)
    assert refused.value.response.status == status


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with suppress(RefusedRequest):
        assert parse_request(data + b"\r\n\r\n").path.startswith("/")


def test_a_method_that_is_not_allowed_is_told_which_are() -> None:
    with pytest.raises(RefusedRequest) as refused:
        parse_request(b"DELETE / HTTP/1.0\r\n\r\n")
    assert b"\r\nAllow: GET, HEAD\r\n" in refused.value.response.encode()


def test_a_response_ends_its_connection_and_has_a_length_also_without_its_body() -> None:
    response = Response(HTTPStatus.NOT_FOUND, body="nicht dä\n".encode())
    whole, head = response.encode(), response.encode(head_only=True)
    assert whole == head + "nicht dä\n".encode()
    assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"\r\nContent-Length: 10\r\n" in head
    assert b"\r\nConnection: close\r\n" in head
    assert head.endswith(b"\r\n\r\n")
    assert parse_response(whole) == (404, "nicht dä\n".encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"220 smtp.example.org\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
    ],
)
def test_a_response_that_is_cut_off_or_of_another_protocol_is_invalid(data: bytes) -> None:
    with pytest.raises(ValueError, match="response"):
        parse_response(data)
