"""What is printed: rich tables on a terminal, plain aligned columns in a pipe, one JSON document for programs.

Everything that a person reads passes `clean` here, so no command can forget it.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dragon.text import clean, width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

GAP = "  "
"""Between plain columns: two blanks tell columns apart where a cell holds single ones."""

LONGEST_CELL = 96
"""Characters of one cell: a peer with thirty labels must not push everybody else's line off the screen."""

LONGEST_SENTENCE = 400
"""Characters of a cell that says what is wrong: that must not be cut."""


PATIENCE = 1.0
"""Seconds without a word after which a person wonders whether anything goes on (Nielsen's limit for an unbroken thought)."""

FOLDED = 20
"""Columns that the last cell of a table must have left on a terminal to be folded; with fewer it is a ribbon of syllables."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table; `style` is how a terminal shows it."""

    text: str
    style: str = ""
    longest: int = LONGEST_CELL

    @property
    def shown(self) -> str:
        return clean(self.text, self.longest)


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str
    """What is said instead of a table without rows."""


def print_json(document: Any) -> None:
    """Print one document. Non-ASCII is escaped: safe on every terminal and in every locale, the same to every parser."""
    print(json.dumps(document, indent=2))


def print_line(text: str) -> None:
    print(clean(text, 2000))


def note(text: str) -> None:
    """Tell a person, and only a person, something besides the answer."""
    if sys.stdout.isatty():
        print(clean(text, 2000), file=sys.stderr)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Tell a person `text` when what is done here takes longer than one waits without a word."""
    if not sys.stdout.isatty():
        yield
        return
    timer = threading.Timer(PATIENCE, note, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def print_table(table: Table) -> None:
    if not sys.stdout.isatty():
        sys.stdout.write("".join(f"{line}\n" for line in plain(table)))
        return
    console = _console()
    console.print(_rich(table, console.width))


def watch(documents: Iterable[Any], as_json: bool, render: Callable[[Any], Table]) -> None:
    """Show each of `documents` as it comes: a line of JSON, a plain table, or on a terminal one table that is kept fresh."""
    if as_json:
        for document in documents:
            print(json.dumps(document), flush=True)
    elif sys.stdout.isatty():
        _watch_terminal(iter(documents), render)
    else:
        for number, document in enumerate(documents):
            lines = plain(render(document))
            sys.stdout.write("".join(f"{line}\n" for line in ([""] if number else []) + lines))
            sys.stdout.flush()


def plain(table: Table) -> list[str]:
    """Return the lines of `table` as aligned text without any control character."""
    if not table.rows:
        return [table.empty]
    heading = [[column.upper() for column in table.columns]] if any(table.columns) else []
    rows = heading + [[cell.shown for cell in row] for row in table.rows]
    widths = [max(width(row[index]) for row in rows) for index in range(len(table.columns))]
    return [GAP.join(text + " " * (widths[i] - width(text)) for i, text in enumerate(row)).rstrip() for row in rows]


def _watch_terminal(documents: Iterator[Any], render: Callable[[Any], Table]) -> None:
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False, vertical_overflow="visible") as live:
        for document in documents:
            live.update(_rich(render(document), live.console.width), refresh=True)


def _console() -> Console:
    from rich.console import Console  # honours NO_COLOR and TERM=dumb

    return Console(highlight=False, emoji=False, markup=False)


def _rich(table: Table, columns: int) -> RichTable | str:
    """Return `table` for a terminal of `columns`: as it is, with a folded last cell, or else one row under the other."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    if not table.rows:
        return table.empty
    headed = any(table.columns)
    if headed and not _fits(table, columns):
        return _stacked(table)
    shown = RichTable(
        box=box.SIMPLE_HEAD if headed else None, padding=(0, 1 if headed else 2, 0, 0), pad_edge=False, show_header=headed
    )
    for column in table.columns:
        shown.add_column(column, overflow="fold", no_wrap=headed and column != table.columns[-1])
    for row in table.rows:
        shown.add_row(*(Text(cell.shown, style=cell.style) for cell in row))
    return shown


def _fits(table: Table, columns: int) -> bool:
    widths = [max(width(cell.shown) for cell in cells) for cells in zip(*table.rows, strict=True)]
    widths = [max(found, width(column)) for found, column in zip(widths, table.columns, strict=True)]
    return sum(widths[:-1]) + min(widths[-1], FOLDED) + len(GAP) * len(widths) <= columns


def _stacked(table: Table) -> RichTable:
    """Return every row as lines of `column  value`, without those that say nothing, and a blank line after each row."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for number, row in enumerate(table.rows):
        if number:
            shown.add_row("", "")
        for column, cell in zip(table.columns, row, strict=True):
            text = Text(cell.shown, style=cell.style)
            if text and column:
                shown.add_row(column, text)
            elif text:  # a mark, such as ok: the row's heading
                shown.add_row(text, "")
    return shown
