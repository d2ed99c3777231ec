"""The mutations of a module: a shifted or negated comparison, + for -, `and` for `or`, a removed `not` or call, a negated truth
value. Pure."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}
"""Comparisons with a clock: it never shows exactly a given instant, so `<=` for `<` would be an equivalent program."""
CLOCKS = frozenset({"_now", "now", "clock", "_clock", "monotonic", "perf_counter", "time"})
"""Functions and methods that read a clock."""
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}
LOGIC: dict[type[ast.boolop], type[ast.boolop]] = {ast.And: ast.Or, ast.Or: ast.And}

#: A call of one of these changes nothing that a promise speaks of.
UNPROMISED = frozenset({"log", "logger", "warnings"})


class Mutant(NamedTuple):
    """A changed module: the lines of the changed node, its statement before and after the change, and the whole source."""

    lines: range
    before: str
    after: str
    source: str


def count_sites(source: str) -> int:
    """In how many places this module can be changed."""
    return sum(1 for _ in _sites(ast.parse(source)))


def mutate(source: str, index: int) -> Mutant:
    """The module with its `index`-th place changed. Raises IndexError where there are fewer."""
    tree = ast.parse(source)
    sites = list(_sites(tree))
    node, statement = sites[index]
    before = ast.unparse(statement)
    lines = _lines_of(node if isinstance(node, ast.expr) else statement)
    changed = _change(tree, node, statement)
    return Mutant(lines, before, "" if changed is None else ast.unparse(changed), ast.unparse(ast.fix_missing_locations(tree)))


def _lines_of(node: ast.expr | ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _sites(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.stmt]]:
    """Every node that can be changed, with the innermost statement around it, in the order of the source."""
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.stmt) or isinstance(statement, ast.Assert | ast.ClassDef):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and not _is_unpromised(statement.value):
            yield statement, statement
        for node in _own_expressions(statement):
            if _is_changeable(node):
                yield node, statement


def _own_expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """Expressions of a statement that are not inside another statement, a decorator or an annotation."""
    skipped = {"decorator_list", "annotation", "returns", "args"} if not isinstance(statement, ast.Expr) else set()
    waiting: list[ast.AST] = [
        child
        for name, field in ast.iter_fields(statement)
        if name not in skipped
        for child in (field if isinstance(field, list) else [field])
        if isinstance(child, ast.expr)
    ]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Call) and _is_unpromised(node):
            continue
        yield node
        waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr | ast.comprehension))


def _is_unpromised(call: ast.Call) -> bool:
    target = call.func
    return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id in UNPROMISED


def _is_changeable(node: ast.AST) -> bool:
    match node:
        case ast.Compare(ops=[operator]):
            return type(operator) in COMPARISONS
        case ast.BinOp(op=operator, left=left, right=right):
            texts = (ast.JoinedStr, ast.List, ast.Tuple)
            if any(isinstance(side, texts) or _is_text(side) for side in (left, right)):
                return False  # cannot be subtracted: every test would find it
            return type(operator) in ARITHMETIC
        case ast.BoolOp():
            return True
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Constant(value=bool()):
            return True
    return False


def _reads_clock(node: ast.AST) -> bool:
    calls = (inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call))
    return any((call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")) in CLOCKS for call in calls)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _change(tree: ast.Module, node: ast.AST, statement: ast.stmt) -> ast.stmt | None:
    """Change the tree; the statement as it is then, None where it is left out."""
    match node:
        case ast.Compare():
            operators = COMPARISONS | TURNED if _reads_clock(node) else COMPARISONS
            node.ops = [operators[type(node.ops[0])]()]
        case ast.BinOp():
            node.op = ARITHMETIC[type(node.op)]()
        case ast.BoolOp():
            node.op = LOGIC[type(node.op)]()
        case ast.Constant():
            node.value = not node.value
        case ast.UnaryOp():
            _replace(tree, node, node.operand)
        case _:
            _replace(tree, statement, ast.Pass())
            return None
    return statement


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, field in ast.iter_fields(parent):
            if field is old:
                setattr(parent, name, new)
                return
            if isinstance(field, list) and any(one is old for one in field):
                setattr(parent, name, [new if one is old else one for one in field])
                return
    raise AssertionError("the node is of another tree")
