"""Nothing that acts on a terminal is printed, whatever names hold; what is for programs stays as it is."""

from __future__ import annotations

import ast
import io
import logging
import sys
from pathlib import Path

import pytest
from rich.console import Console

import enformer_ray.cli
from enformer_ray.cli import printing, terminal
from enformer_ray.cli.main import main
from enformer_ray.cli.terminal import Table, Text
from enformer_ray.errors import InputFileError
from enformer_ray.runtime.process import log_no_more, log_to_stderr

EVIL = "\x1b]0;pwn\x07\x1b[31mred[/]\r\x9b2J\u202e[link=http://x]a"
SEEN = r"\x1b]0;pwn\x07\x1b[31mred[/]\r\x9b2J\u202e[link=http://x]a"


def acts(text: str) -> bool:
    return any(not c.isprintable() and c not in "\n\t" for c in text)


def printed(what: object) -> str:
    out = io.StringIO()
    Console(file=out, width=400, soft_wrap=True, highlight=False).print(what)
    return out.getvalue()


def test_texts_cells_and_headers_are_escaped() -> None:
    table = Table("plain", EVIL)
    table.add_column(EVIL, justify="right")
    table.add_row(EVIL, Text(EVIL), "s3://key:geheim@bucket")
    for found in (printed(table), printed(Text(EVIL))):
        assert not acts(found)
        assert SEEN in found
    assert "s3://***@bucket" in printed(table)


def test_colours_are_those_of_this_program_alone() -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=400).print(Text("error: ", "bold red").append_text(Text(EVIL)))
    assert out.getvalue().count("\x1b[1;31m") == 1
    assert SEEN in out.getvalue()


def test_errors_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_error(InputFileError(f"{EVIL}, line 1: s3://key:geheim@bucket"))
    terminal.print_line(EVIL)
    terminal.write_foreign(f"{EVIL}\r\n\tx")
    seen = capsys.readouterr()
    assert not acts(seen.out + seen.err)
    assert SEEN in seen.out
    assert SEEN in seen.err
    assert "geheim" not in seen.err


@pytest.mark.parametrize("words", [["status", "x", EVIL], [EVIL], ["paths", f"--{EVIL}"], ["show", "x", "--top", EVIL]])
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "https://user:geheim@host/x"])
    assert stop.value.code == 2
    seen = capsys.readouterr().err
    assert not acts(seen)
    assert "geheim" not in seen


def test_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("warning")
    try:
        logging.getLogger("enformer_ray.test").warning("%s is held by %s", "s3://key:geheim@b/run", EVIL)
    finally:
        log_no_more()
    seen = capsys.readouterr().err
    assert not acts(seen)
    assert "s3://***@b/run" in seen


class Terminal(io.TextIOWrapper):
    """A standard output that says that it is a terminal, or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def content(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, SEEN), (False, EVIL)])
def test_data_are_escaped_on_a_terminal_alone(
    is_terminal: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from enformer_ray.cli.dataset import target_of

    out = Terminal(is_terminal)
    monkeypatch.setattr(sys, "stdout", out)
    printing.print_paths([f"/run/{EVIL}"])
    assert out.content() == f"/run/{expected}\n"
    with target_of(None) as target:
        target.write(f"{EVIL}\n".encode())
    assert out.content() == f"/run/{expected}\n{expected}\n"


def test_no_command_prints_in_another_way() -> None:
    """Rich's own texts and tables, and `print`, would let through what names hold."""
    for path in Path(enformer_ray.cli.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and path.name != "terminal.py":
                assert node.module not in ("rich.text", "rich.table", "rich"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert ast.unparse(node) == "print(__version__)", path
            if isinstance(node, ast.Attribute) and node.attr == "write" and path.name != "terminal.py":
                assert ast.unparse(node) != "sys.stdout.write", path
