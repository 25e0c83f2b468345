"""The command line, as the tests from end to end run it."""

from __future__ import annotations

from tests.end_to_end.conftest import command

__all__ = ["command"]
