"""Detects duplicate submissions."""

from collections.abc import Mapping

import msgspec

from schemas import Submission, TaskSpec, payload_hash, step_id

from ..rejection import Rejection, TaskRejection
from ..state import PartitionState
from .outcomes import Duplicate

_decoder, _sorted = msgspec.json.Decoder(), msgspec.json.Encoder(order="sorted")


def fingerprint_of(submission: Submission) -> str:
    """Hash of name, version, arguments and steps, which is equal for duplicates. Raises DecodeError, UnicodeDecodeError or
    RecursionError if the arguments are not valid JSON."""
    canonical = _canonical(submission.args)
    if submission.tasks is not None:
        canonical += _canonical(msgspec.json.encode(submission.tasks))
    return payload_hash(submission.name, submission.version, canonical)


def _canonical(value: bytes | msgspec.Raw) -> bytes:
    return _sorted.encode(_decoder.decode(value))


def find_known(state: PartitionState, submission: Submission, task: str, fingerprint: str) -> Duplicate | TaskRejection | None:
    """The task of which the submission is a duplicate, or why its id cannot be reused; None if it is new."""
    if submission.root_id is not None and submission.tasks is not None:
        return _known_steps(state, submission.root_id, submission.tasks, fingerprint)
    live = state.tasks.get(task)
    ended = state.ended.get(task) if live is None else None
    known = live.row if live is not None else ended
    if known is None:
        return None
    if known.payload_hash != fingerprint:
        if submission.idempotency_key is not None:
            reason = f"idempotency_key: {submission.idempotency_key!r} was used with another name or other arguments"
            return Rejection("idempotency_conflict", reason)
        return Rejection("id_conflict", f"id: {task!r} belongs to a task with another name or other arguments")
    return Duplicate(task, live, ended)


def _known_steps(state: PartitionState, root_id: str, steps: Mapping[str, TaskSpec], fingerprint: str) -> Duplicate | None:
    """Detect duplicates of several steps: they are added in one transaction, so if the first one has this fingerprint, all
    were added."""
    root = state.tasks.get(root_id)
    first = state.tasks.get(step_id(root_id, next(iter(steps)))) if steps else None
    if root is None or first is None or first.row.payload_hash != fingerprint:
        return None
    return Duplicate(root_id, root, None)
