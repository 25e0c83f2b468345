"""The terminal: the console, and the texts and tables that are printed on it, in which no character acts on it.

Nothing else is printed by any command. Names come from files of anybody: contigs, identifiers, descriptions of tracks,
names of files, what other libraries say about them.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, BinaryIO

from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text as RichText

from enformer_ray.shown import shown, visible

console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 160)
"""Standard output; 160 characters wide if it is not a terminal, so that tables in logs are not cut."""


class Text(RichText):
    """A text as it is: brackets are no markup, what would act on a terminal is escaped, credentials are left out."""

    def __init__(self, text: str = "", style: str = "", **more: Any) -> None:
        super().__init__(shown(text), style, **more)


class Table(RichTable):
    """A table without lines, whose headers and cells are `Text` where they are given as text."""

    def __init__(self, *headers: str) -> None:
        super().__init__(*headers, box=None, pad_edge=False)

    def add_column(self, header: RenderableType = "", *arguments: Any, **more: Any) -> None:
        """Add a column."""
        super().add_column(_as_it_is(header), *arguments, **more)

    def add_row(self, *cells: RenderableType | None, **more: Any) -> None:
        """Add a row."""
        super().add_row(*map(_as_it_is, cells), **more)


def _as_it_is(cell: Any) -> Any:
    return Text(cell) if isinstance(cell, str) else cell


def print_line(text: str) -> None:
    """Print one line as it is."""
    console.print(Text(text))


def print_error(error: Exception) -> None:
    """Print an error as one paragraph on standard error."""
    message = Text("error: ", "bold red").append_text(Text(str(error)))
    try:
        Console(stderr=True, soft_wrap=True, highlight=False).print(message)
    except MemoryError:  # not even that is left
        os.write(2, b"error: the program got no more memory. Free some, or raise the limit that it runs under.\n")


def write_foreign(text: str) -> None:
    """Write a piece of text of another program, such as the log of a job, whose lines may be cut anywhere."""
    sys.stdout.write(visible(text.replace("\r\n", "\n")))
    sys.stdout.flush()


def standard_output() -> BinaryIO:
    """Standard output for data, which goes to files and programs as it is, and to a terminal visibly."""
    return _Visible(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer


class _Visible(io.RawIOBase, BinaryIO):
    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._target.write(visible(bytes(data).decode("utf-8", "backslashreplace")).encode())
        return len(data)
