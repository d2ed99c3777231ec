"""Headers compared with kio's."""
# mypy: disable-error-code="arg-type"

import pytest
from kio.schema.request_header.v1.header import RequestHeader as HeaderV1
from kio.schema.request_header.v2.header import RequestHeader as HeaderV2
from kio.static.primitive import i16, i32

from hub.protocol import ApiKey, MalformedMessage, RequestType, request_frame, response_body_at, response_tags

from .kio_values import written


@pytest.mark.parametrize(("version", "header"), [(5, HeaderV2), (2, HeaderV1)], ids=["flexible", "plain"])
def test_a_frame_is_length_header_and_body(version: int, header: type[HeaderV1] | type[HeaderV2]) -> None:
    expected = header(request_api_key=i16(26), request_api_version=i16(version), correlation_id=i32(77), client_id="hub-engine-1")
    frame = request_frame(RequestType(ApiKey.END_TXN, version), 77, b"hub-engine-1", b"body")
    assert frame == (len(frame) - 4).to_bytes(4, "big") + written(expected) + b"body"


@pytest.mark.parametrize(
    ("kind", "tags", "at"),
    [
        (RequestType(ApiKey.END_TXN, 5), b"\0", 5),
        (RequestType(ApiKey.END_TXN, 2), b"", 4),
        (RequestType(ApiKey.API_VERSIONS, 3), b"", 4),
    ],
    ids=["flexible", "plain", "ApiVersions"],
)
def test_the_body_of_an_answer_follows_its_tags(kind: RequestType, tags: bytes, at: int) -> None:
    assert response_tags(kind.key, kind.flexible) == tags
    assert response_body_at(kind, b"\0\0\0\7" + tags + b"body") == at


def test_an_answer_that_ends_in_its_header_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        response_body_at(RequestType(ApiKey.END_TXN, 5), b"\0\0\0\7")


def test_tags_that_are_not_known_are_skipped() -> None:
    assert response_body_at(RequestType(ApiKey.END_TXN, 5), b"\0\0\0\7" + b"\1\x09\3abc" + b"body") == 10
