"""What workers have registered, and what operators say about it."""

from collections.abc import Iterable

from schemas import Definition, TaskReply, check_id, definition_id
from schemas import events as e
from schemas import reports as r

from ..bounds import DEFINITIONS_KNOWN_MAX, DEFINITIONS_MAX, ID_BYTES, PRIORITY_MAX, TEXT_MAX
from ..changes import Changes
from ..emitted import Reply
from ..envelope import Envelope, InvalidReport
from ..rejection import Rejection, TaskRejection
from ..tasks.retry import problem_of_options


def check_definitions(report: r.WorkerReport) -> str | None:
    """Why the definitions of a report cannot be taken, naming the field; None where they can."""
    definitions = report.definitions or ()
    if len(definitions) > DEFINITIONS_MAX:
        return f"definitions: more than {DEFINITIONS_MAX:,}"
    for index, one in enumerate(definitions):
        if (problem := problem_of_definition(one)) is not None:
            return f"definitions[{index}].{problem}"
    if len({one.id for one in definitions}) < len(definitions):
        return "definitions: one is named twice"
    return None


def problem_of_definition(definition: Definition) -> str | None:
    """Why a definition cannot be, naming its field; None when it can."""
    for field in ("name", "version", "namespace", "queue"):
        value = getattr(definition, field)
        if value is not None and (problem := check_id(value, field)) is not None:
            return problem
    if definition.priority is not None and not -PRIORITY_MAX <= definition.priority <= PRIORITY_MAX:
        return f"priority: must be between {-PRIORITY_MAX:,} and {PRIORITY_MAX:,}"
    return problem_of_options(definition)


def news_of(changes: Changes, report: r.WorkerReport, *, replace: bool) -> list[Definition]:
    """What a report of a worker says of definitions that this partition does not know, or, with `replace`, knows otherwise.
    Raises InvalidReport where it would know too many."""
    known = changes.state.definitions
    news = []
    added = 0
    for definition in report.definitions or ():
        before = known.get(definition.id)
        added += before is None
        if before is None or (replace and before.definition != definition):
            news.append(definition)
    if len(known) + added > DEFINITIONS_KNOWN_MAX:
        raise InvalidReport(f"definitions: this partition would know more than {DEFINITIONS_KNOWN_MAX:,}")
    return news


def learn(changes: Changes, news: Iterable[Definition], incarnation: str) -> None:
    """Take in what a worker has registered."""
    for definition in news:
        changes.apply_to_definition(definition.id, e.DefinitionRegistered(definition=definition, worker=incarnation))


def on_deprecate(changes: Changes, envelope: Envelope, report: r.DefinitionDeprecate) -> None:
    """An operator says that a version is no longer to be used. It holds on this partition."""
    if (rejection := _why_not(changes, report)) is not None:
        changes.reject(rejection.code, rejection.reason, report=envelope.type, task=None, reply=envelope.reply)
        return
    data = e.DefinitionDeprecated(
        name=report.name, version=report.version, namespace=report.namespace, reason=report.reason, by=report.by
    )
    changes.apply_to_definition(definition_id(report.namespace, report.name, report.version), data)
    if envelope.reply is not None:
        changes.replies.append(Reply(*envelope.reply, TaskReply(kind="accepted", task="", partition=changes.partition)))


def _why_not(changes: Changes, report: r.DefinitionDeprecate) -> TaskRejection | None:
    for field in ("name", "version", "namespace"):
        value = getattr(report, field)
        if value is not None and (problem := check_id(value, field)) is not None:
            return Rejection("malformed", problem)
    if len(report.reason) > TEXT_MAX:
        return Rejection("invalid_input", f"reason: longer than {TEXT_MAX} characters")
    if report.by is not None and len(report.by.encode()) > ID_BYTES:
        return Rejection("invalid_input", f"by: longer than {ID_BYTES} bytes")
    identifier = definition_id(report.namespace, report.name, report.version)
    known = changes.state.definitions.get(identifier)
    if known is None:
        return Rejection("unknown_version", f"version: there is no definition {identifier} on this partition")
    if known.deprecated:
        return Rejection("already_deprecated", f"version: {identifier} is deprecated already")
    return None
