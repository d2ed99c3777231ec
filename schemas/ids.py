"""Identifiers that are derived, not drawn: the same inputs give the same id on every machine and after every restart.

A derived id is a UUID of version 8 (RFC 9562 §5.8: vendor-specific) whose bits are a 16-byte BLAKE2b digest of the parts,
each preceded by its length, so that ("a", "bc") and ("ab", "c") differ. `id_vectors.json`, beside this file, has the algorithm in
full and test vectors for other languages. Drawn ids (UUIDv7) need a clock and are made at the edge, by the client.
"""

from hashlib import blake2b, sha256

ID_BYTES_MAX = 255

#: Characters of a refused value that a message quotes.
QUOTED_MAX = 64


def derived_id(purpose: str, *parts: str) -> str:
    """The UUIDv8 text of `parts` under `purpose` (a word that keeps different kinds of derivation apart)."""
    digest = blake2b(digest_size=16, person=purpose.encode()[:16])
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    bits = bytearray(digest.digest())
    bits[6] = (bits[6] & 0x0F) | 0x80
    bits[8] = (bits[8] & 0x3F) | 0x80
    text = bits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def task_id_of_cloudevent(source: str, event_id: str) -> str:
    """The id of a task whose submission names none: a CloudEvent sent twice creates one task."""
    return derived_id("cloudevent", source, event_id)


def task_id_of_key(scope: str, idempotency_key: str) -> str:
    """The id of a task submitted with an idempotency key; `scope` is the namespace (a root) or the root's id (a step)."""
    return derived_id("idempotency", scope, idempotency_key)


def step_id(root_id: str, key: str) -> str:
    """The id of the step `key` of the graph whose root is `root_id`."""
    return derived_id("step", root_id, key)


def payload_hash(name: str, version: str | None, canonical_args: bytes) -> str:
    """What "the same payload" means: name, version and the arguments in sorted-key JSON (32 hex digits)."""
    digest = blake2b(digest_size=16)
    for part in (name.encode(), (version or "").encode(), canonical_args):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.hexdigest()


def check_id(value: str, field: str) -> str | None:
    """Why `value` cannot be an id, as a sentence naming `field`; None when it can."""
    if not value:
        return f"{field} must not be empty"
    if len(value.encode()) > ID_BYTES_MAX:
        return f"{field} is longer than {ID_BYTES_MAX} bytes: {quoted_with_hash(value.encode())}"
    if not value.isprintable() and any(character < " " or character == "\x7f" for character in value):
        return f"{field} has a control character"
    return None


def quoted_with_hash(raw: bytes) -> str:
    """A refused value as a message shows it: its first characters, escaped, its size and its hash."""
    beginning = ascii(raw[:QUOTED_MAX].decode(errors="replace"))
    return f"{beginning}{'...' if len(raw) > QUOTED_MAX else ''} ({len(raw)} bytes, SHA-256 {sha256(raw).hexdigest()})"
