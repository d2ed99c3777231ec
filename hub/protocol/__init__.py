"""Kafka's protocol as data: messages by API family, a generic codec, and the error codes. See README.md."""

from .apis import APIS, ApiKey, RequestType
from .codec import decode_request, decode_response, encode_request, encode_response
from .errors import ErrorCode, MalformedMessage, name_of
from .headers import request_frame, response_body_at, response_tags
from .primitives import skip_tags
from .reading import Message
from .values import TopicPartition

__all__ = [
    "APIS",
    "ApiKey",
    "ErrorCode",
    "MalformedMessage",
    "Message",
    "RequestType",
    "TopicPartition",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "name_of",
    "request_frame",
    "response_body_at",
    "response_tags",
    "skip_tags",
]
