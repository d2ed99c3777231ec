"""Tables fit the terminal; where there is none, nothing of them is cut off."""

import pytest

from hub.cli.tables import fit, print_table
from tests.cli.terminal import on_terminal

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TASKS = ("ID", "NAME", "STATE", "TOOK", "REMARK")
ROWS = [
    [ID, "reserve-stock-in-the-north", "failed", "1.2 s", "ConnectionError: the bank is busy, as it is at the end of each month"],
    ["short", "ship", "completed", "12 ms", ""],
]


def lines(width: int | None, **options: bool | tuple[str, ...]) -> list[str]:
    return [str(line) for line in fit(TASKS, ROWS, width, **options)]  # type: ignore[arg-type]


def test_without_a_terminal_a_table_has_no_decoration_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "STATE"), [("a" * 300, "failed"), ("b", None)], state_column="STATE", text=True, shorten=("NAME",))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["NAME", "STATE"], ["a" * 300, "failed"], ["b"]]


def test_what_others_wrote_cannot_move_the_cursor_or_break_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "REMARK"), [("a", "boom\n\x1b[31mred\u202e Grüße")])
    assert capsys.readouterr().out.splitlines()[1] == "a   boom\\n\\x1b[31mred\\u202e Grüße"


def test_a_table_that_fits_is_left_as_it_is() -> None:
    assert lines(160, text=True, shorten=("NAME", "ID")) == lines(None)
    assert {line.index(word) for line, word in zip(lines(None), ("STATE", "failed", "completed"), strict=True)} == {66}


def test_the_text_is_wrapped_beside_its_row_where_there_is_room() -> None:
    shown = lines(130, text=True)
    assert max(map(len, shown)) <= 130
    assert len(shown) == 4
    assert " ".join(" ".join(line[shown[0].index("REMARK") :] for line in shown[1:3]).split()) == ROWS[0][-1]


def test_with_little_room_the_text_stands_below_and_columns_are_shortened_in_their_order() -> None:
    shown = lines(72, text=True, shorten=("NAME", "ID"))
    assert max(map(len, shown)) <= 72
    assert [len(line) - len(line.lstrip()) for line in shown] == [0, 0, 4, 0]
    assert shown[2].strip() == ROWS[0][-1]
    assert ID in shown[1], "the name gave enough"
    assert "reserve" in shown[1]
    assert "…" in shown[1]


def test_columns_move_closer_before_one_is_shortened() -> None:
    shown = lines(80, text=True, shorten=("NAME", "ID"))
    assert max(map(len, shown)) <= 80
    assert shown[1].startswith(f"{ID} reserve-stock-in-the-north ")


def test_an_id_is_shortened_last_and_in_its_middle() -> None:
    shown = lines(50, text=True, shorten=("NAME", "ID"))
    assert max(map(len, shown)) <= 50
    begin, _, end = shown[1].split()[0].partition("…")
    assert ID.startswith(begin)
    assert ID.endswith(end)
    assert len(end) > 3


def test_wide_characters_take_two_columns() -> None:
    shown = [str(line) for line in fit(("NAME", "STATE"), [["日本語" * 5, "ready"], ["a", "ready"]], 20, shorten=("NAME",))]
    assert shown[1] == "日本語日本語 … ready", "half a character is none"
    assert shown[2].index("ready") == 15


@pytest.mark.parametrize(
    ("command", "columns"),
    [
        (("events", "list"), 80),
        (("events", "list"), 0),
        (("config",), 80),
        (("schema", "list"), 80),
        (("schema", "show", "reports/task.created"), 80),
        (("verify", "--explain"), 80),
        (("task", "create", "--help"), 80),
        (("task", "create", "--help"), 0),
    ],
)
def test_what_a_command_prints_fits_a_terminal_of_80_columns(command: tuple[str, ...], columns: int) -> None:
    shown = on_terminal(columns, *command)
    assert len(shown) > 5
    assert [line for line in shown if len(line) > 80] == []
