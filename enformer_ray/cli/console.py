"""The console that commands print on, and how they write times."""

from __future__ import annotations

import sys

from rich.console import Console

console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 160)
"""Standard output; wide where nobody looks at it."""


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
