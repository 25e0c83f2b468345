"""Text as it may be shown and kept: names from files without control characters, URIs without their credentials."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

_KEPT = "\n\t"
"""Characters that are not printable and shown nevertheless: paragraphs and tables are made of them."""

HIDDEN = "***"
"""What stands in the place of a credential."""

# A path of pathlib has one slash where a URI has two; `saturate:/me@home/a.bed` is none. The key of a bucket may hold
# slashes, and a password any character that should have been escaped; digits alone behind the colon are a port.
_USER = re.compile(
    r"(?P<before>\b(?:[a-z][a-z0-9+.-]*://|(?:s3a?|gs|https?|s?ftps?|ray|az|abfss?|wasbs?|hdfs):/))"
    r"(?:[^/?#\s]*@|[^/?#\s@:]+:(?!\d*(?:/|$))[^\s@]*@)",
    re.I,
)
_PARAMETER = re.compile(
    r"(?P<before>[?&;#](?:[\w.-]*(?:key|token|secret|password|passwd|pwd|signature|credential)(?:_?id)?|sig|aws_\w+)=)"
    r"""[^&;#\s"'<>]+""",
    re.I,
)

_CREDENTIALS = {
    "a user name or password in a URI": _USER,
    "a key, token or signature in a URI": _PARAMETER,
    "an AWS access key": re.compile(r"(?P<before>\b)(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a Hugging Face token": re.compile(r"(?P<before>\b)hf_[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(r"(?P<before>\b)(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    "a private key": re.compile(
        r"(?P<before>)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
    ),
}


def visible(text: str) -> str:
    r"""A text without characters that act on a terminal: each is replaced by its escape, such as `\x1b`.

    What stays is what `str.isprintable` says, with line feeds and tabs: names in files from elsewhere may hold escape
    sequences, marks that turn the direction of writing, or bytes that are no character.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _KEPT else c.encode("unicode_escape").decode() for c in text)


def redacted(text: str) -> str:
    """A text in which credentials are replaced by `***`: in URIs those of a user, a signature or a token."""
    for pattern in _CREDENTIALS.values():
        text = pattern.sub(lambda found: found["before"] + HIDDEN + "@" * found[0].endswith("@"), text)
    return text


def shown(text: str) -> str:
    """A text `visible` and `redacted`, as every message and every cell of a table is."""
    return visible(redacted(text))


def credentials_in(text: str) -> list[str]:
    """What kinds of credentials a text seems to hold, for a message; never the credentials."""
    return [name for name, pattern in _CREDENTIALS.items() if pattern.search(text)]


def texts_in(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each text in nested values as of a job file, with its dotted key."""
    if isinstance(value, str | PathLike):
        yield key, str(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from texts_in(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for item in value:
            yield from texts_in(item, key)
