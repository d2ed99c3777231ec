"""Tables: fitted to the width of a terminal; otherwise plain columns without truncation.

A table that is too wide is fitted in this order: the free text of the last column is wrapped, or printed below its row if there
is little space beside it; then the gaps between columns are reduced, and columns are shortened in their middle, in the order
given by the command.
"""

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from .render import STATE_STYLES, cell_text, make_console, on_terminal, terminal_width

GAP = 2
INDENT = 4
TEXT_LEAST = 26
"""Minimum width of wrapped text beside its row; with less it is printed below."""
COLUMN_LEAST = 8
"""Minimum width of a shortened column."""


class Line(NamedTuple):
    """One line of a table: its cells, padded to the widths of their columns, or text below a row (a single cell)."""

    cells: list[str]
    gap: int = GAP
    below: bool = False

    def __str__(self) -> str:
        return (" " * INDENT if self.below else "") + (" " * self.gap).join(self.cells).rstrip()


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    state_column: str | None = None,
    text: bool = False,
    shorten: Sequence[str] = (),
) -> None:
    """Print a table with the header `columns`. On a terminal: `state_column` is coloured by state; `text`: the last column is
    free text, which is wrapped; `shorten`: the columns that may be shortened, in this order."""
    texts = [[cell_text(cell) for cell in row] for row in rows]
    if not on_terminal():
        for line in fit(columns, texts, None):
            print(line)
        return
    _print_styled(fit(columns, texts, terminal_width(), text=text, shorten=shorten), columns, state_column)


def _print_styled(lines: Iterator[Line], columns: Sequence[str], state_column: str | None) -> None:
    from rich.text import Text

    coloured = columns.index(state_column) if state_column is not None else -1
    console = make_console()
    for number, line in enumerate(lines):
        shown = Text(str(line), "bold" if number == 0 else "dim" if line.below else "")
        if number and not line.below and 0 <= coloured < len(line.cells):
            start = sum(len(cell) + line.gap for cell in line.cells[:coloured])
            state = line.cells[coloured]
            shown.stylize(STATE_STYLES.get(state.strip(), ""), start, start + len(state))
        console.print(shown, soft_wrap=True)


def fit(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, *, text: bool = False, shorten: Sequence[str] = ()
) -> Iterator[Line]:
    """The lines of a table of at most `width` columns (None: unlimited), the header first."""
    table = [list(columns), *rows]
    widths = [max(_columns_of(row[index]) for row in table) for index in range(len(columns))]
    if width is None or _total(widths) <= width:
        return _side_by_side(table, widths)
    beside = width - _total([*widths[:-1], 0])
    if text and beside >= TEXT_LEAST:
        return _with_wrapped_text(table, [*widths[:-1], beside])
    if text:
        return _with_text_below(table, *_shortened(columns[:-1], widths[:-1], width, shorten), width)
    return _side_by_side(table, *_shortened(columns, widths, width, shorten))


def _total(widths: Sequence[int], gap: int = GAP) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _shortened(columns: Sequence[str], widths: Sequence[int], width: int, shorten: Sequence[str]) -> tuple[list[int], int]:
    """The widths of the columns after shortening those in `shorten`, in this order, and the gap between them."""
    found, gap = list(widths), GAP if _total(widths) <= width else 1
    for name in shorten:
        index = columns.index(name)
        least = max(COLUMN_LEAST, len(name))
        found[index] -= max(0, min(_total(found, gap) - width, found[index] - least))
    return found, gap


def _side_by_side(table: Iterable[Sequence[str]], widths: list[int], gap: int = GAP) -> Iterator[Line]:
    return (Line(_padded(row, widths), gap) for row in table)


def _with_wrapped_text(table: Sequence[Sequence[str]], widths: list[int]) -> Iterator[Line]:
    for row in table:
        first, *more = wrap(row[-1], widths[-1]) or [""]
        yield Line(_padded([*row[:-1], first], widths))
        for piece in more:
            yield Line(_padded([*[""] * (len(row) - 1), piece], widths))


def _with_text_below(table: Sequence[Sequence[str]], widths: list[int], gap: int, width: int) -> Iterator[Line]:
    head, *rows = table
    yield Line(_padded(head[:-1], widths), gap)
    for row in rows:
        yield Line(_padded(row[:-1], widths), gap)
        for piece in wrap(row[-1], max(TEXT_LEAST, width - INDENT)):
            yield Line([piece], below=True)


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [_cell(cell, width) for cell, width in zip(cells, widths, strict=False)]


def _cell(text: str, width: int) -> str:
    """`text` padded to `width`; a longer text is shortened in its middle, so that ids with a common prefix remain distinct."""
    length = _columns_of(text)
    if length <= width:
        return text + " " * (width - length)
    from rich.cells import set_cell_size

    tail = (width - 1) // 3
    end = text[-tail:] if tail and text.isascii() else ""
    return f"{set_cell_size(text, width - 1 - len(end))}…{end}"


def _columns_of(text: str) -> int:
    """The number of terminal columns of a text."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
