"""Limits of the size of functions, files and classes; every exception is listed here with its reason."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for top in ("hub", "schemas", "subscribers") for path in (ROOT / top).rglob("*.py"))
BODY_MEDIAN_MAX = 5
BODY_P90_MAX = 16
FILE_LINES_MAX = 400
METHODS_MAX = 20
ATTRIBUTES_MAX = 15

_PROTOCOL = "one handler per request of the Kafka protocol"
_SETTINGS = "a table of settings: an attribute is a setting"
_WIRE = "the fields of one record on the log: its size is that of the contract"

#: Files over the limit, and why.
LONG_FILES: dict[str, str] = {}

#: Classes over a limit, and why.
LARGE_CLASSES = {
    "hub/broker/admin.py:AdminApi": _PROTOCOL,
    "hub/broker/flushing.py:Flusher": "one cycle of write, sync and checkpoint: each step looks whether another is under way",
    "hub/broker/groups.py:GroupCoordinator": _PROTOCOL,
    "hub/broker/local.py:LocalBroker": "the front door of the broker for its own process: one short method per operation",
    "hub/broker/log.py:PartitionLog": "the indexes of one partition move together with every append",
    "hub/broker/segments.py:SegmentStore": "one table of segments, which a checkpoint writes as a whole",
    "hub/broker/settings.py:BrokerSettings": _SETTINGS,
    "hub/broker/topics.py:Topics": "the catalogue: one short method per thing that is kept or asked of a topic",
    "hub/broker/transactions.py:TransactionCoordinator": _PROTOCOL,
    "hub/client/hub.py:Hub": "the front door of clients: one short method per operation",
    "hub/core/changes.py:Changes": "the result of one batch: a list or table per kind of record that is written",
    "hub/core/rows/ended.py:EndedRow": _WIRE,
    "hub/core/rows/task.py:TaskRow": _WIRE,
    "hub/core/state/partition.py:PartitionState": "one more than the limit: all that a partition has in memory",
    "hub/delivery/feed.py:Feed": "callbacks of the client, reading and committing share one assignment; any of them may end it",
    "hub/delivery/status.py:SubscriberStatus": "a line of `hub status`: an attribute is a figure of it",
    "hub/engine/loop.py:PartitionLoop": "puts the parts of a partition together: an attribute is a part or a setting of it",
    "hub/settings/settings.py:Settings": _SETTINGS,
    "hub/verify/checker.py:Checker": "an entry per topic that is read, a table per rule that compares topics",
    "hub/verify/facts.py:Fact": _WIRE,
    "hub/verify/fold.py:LiveTask": "what the checker's own fold knows of a task: as many fields as the log tells",
    "hub/verify/partition_book.py:PartitionBook": "one pass over a partition: what each invariant needs of the records before",
    "hub/verify/report.py:VerificationReport": "the report of `hub verify`: an attribute is a figure of it",
    "schemas/commands.py:ExecuteAttempt": _WIRE,
    "schemas/envelope.py:Event": _WIRE,
    "schemas/events/base.py:Ended": _WIRE,
    "schemas/events/task.py:TaskCreated": _WIRE,
}

type_of_function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class ClassSize:
    """What a class defines itself: methods (properties too) and the attributes of its instances."""

    methods: int
    attributes: int

    @property
    def is_large(self) -> bool:
        return self.methods > METHODS_MAX or self.attributes > ATTRIBUTES_MAX


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, type_of_function)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement to the last; a docstring is not one. A function of a docstring alone has none."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def class_size(node: ast.ClassDef) -> ClassSize:
    methods = [one for one in node.body if isinstance(one, type_of_function)]
    declared = {
        one.target.id
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and "ClassVar" not in ast.unparse(one.annotation)
    }
    assigned = {
        one.attr
        for method in methods
        for one in ast.walk(method)
        if isinstance(one, ast.Attribute)
        and isinstance(one.ctx, ast.Store)
        and isinstance(one.value, ast.Name)
        and one.value.id == "self"
    }
    return ClassSize(len({one.name for one in methods}), len(declared | assigned))


def classes() -> dict[str, ClassSize]:
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[f"{path.relative_to(ROOT)}:{node.name}"] = class_size(node)
    return found


def quantile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def test_functions_are_short() -> None:
    lines = [body_lines(one) for path in SOURCES for one in functions(ast.parse(path.read_text()))]
    assert quantile(lines, 0.5) <= BODY_MEDIAN_MAX
    assert quantile(lines, 0.9) <= BODY_P90_MAX


def test_files_are_short_or_have_a_reason() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    long = {name: count for name, count in lengths.items() if count > FILE_LINES_MAX}
    assert not long.keys() - LONG_FILES.keys(), f"files of more than {FILE_LINES_MAX} lines: {long}"
    stale = LONG_FILES.keys() - long.keys()
    assert not stale, f"within the limit, or gone: take them out of the table: {sorted(stale)}"


def test_classes_are_small_or_have_a_reason() -> None:
    large = {name: size for name, size in classes().items() if size.is_large}
    unexplained = {name: size for name, size in large.items() if name not in LARGE_CLASSES}
    assert not unexplained, f"classes of more than {METHODS_MAX} methods or {ATTRIBUTES_MAX} attributes: {unexplained}"
    stale = LARGE_CLASSES.keys() - large.keys()
    assert not stale, f"within the limits, or gone: take them out of the table: {sorted(stale)}"


def only_function(source: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    (one,) = functions(ast.parse(source))
    return one


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f(): return 1", 1),
        ("def f():\n    '''One.\n\n    Two.'''\n    a = 1\n\n    return a", 3),
        ("def f():\n    '''Nothing else.'''", 0),
        ("async def f(\n    a,\n    b,\n):\n    if a:\n        return b", 2),
        ("@decorated(\n    1\n)\ndef f():\n    return (\n        1\n    )", 3),
    ],
)
def test_body_lines_leave_out_signature_decorators_and_docstring(source: str, lines: int) -> None:
    assert body_lines(only_function(source)) == lines


def test_a_class_is_measured_by_what_its_instances_have() -> None:
    source = """
class C:
    limit: ClassVar[int] = 3
    name: str
    constant = 1
    def __init__(self, a):
        self.a, self.b = a, 0
        self.b += 1
        other.c = self.d
        self.e.f = 1
    @property
    def p(self): return self.a
    @p.setter
    def p(self, value): self.a = value
    async def q(self): self.g: int = 1
"""
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    assert class_size(node) == ClassSize(methods=3, attributes=4)  # name, a, b, g


@pytest.mark.parametrize(("size", "large"), [(ClassSize(20, 15), False), (ClassSize(21, 0), True), (ClassSize(0, 16), True)])
def test_the_limits_of_a_class(size: ClassSize, large: bool) -> None:
    assert size.is_large == large


def test_quantiles_are_of_the_sorted_values() -> None:
    values = [1] * 90 + [40] * 10
    assert (quantile(values, 0.5), quantile(values, 0.9), quantile([1, 1, *values], 0.9)) == (1, 40, 1)
    assert quantile([7, 3, 5], 0.5) == 5
