"""What the scores of a run are called and defined by, as job files, scorers and finished runs have it in common."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ValidationInfo

from enformer_ray.errors import shortened

Statistic = Literal["sad", "log2_ratio", "log_sad", "sax", "d2", "centre_log2_ratio", "ref", "alt", "centre"]

OLDER_NAMES = {"centre": "centre_log2_ratio"}
"""Names that statistics had, and what they are called now.

A job may still say them. In a run that was planned under such a name, files and tables keep it.
"""

AS_PLANNED = {"statistics": "as planned"}
"""Context in which a plan's job is read, so that names are those of its files."""

CENTRED_WINDOW = 2
"""Number of the definition of `centred` around a variant; it stands in the identity of such scores, and of no others.

2 begins at p - L/2 + 1, with p the 0-based first base. Scores without a number are of 1, which began at p - L/2.
"""

CENTRED_WINDOW_PART = "centred_window"
"""Its name among the parts of a fingerprint."""

EARLIER_WINDOW = "the earlier window of `centred`, one base to the left"

ShiftCount = Literal[1, 2, 4, 8, 16, 32, 64]

SHIFT_COUNTS: tuple[ShiftCount, ...] = (1, 2, 4, 8, 16, 32, 64)

MAX_OFFSET = 1024
"""Farthest, bp, that an explicit offset may move a window; its phases against the 128-bp grid repeat long before."""

MAX_OFFSETS = 64

_WHOLE = re.compile("[-+]?[0-9]{1,9}")
_OFFSETS = f"list of offsets, bp, such as 0,1,-1 (at most {MAX_OFFSETS}, from -{MAX_OFFSET:,} to {MAX_OFFSET:,})"


def current_name(statistic: str) -> str:
    """What a statistic is called now."""
    return OLDER_NAMES.get(statistic, statistic)


def other_names(statistic: str) -> list[str]:
    """Its older or its current name, whichever this is not; none if it has always had this one."""
    alike = {older for older in (*OLDER_NAMES, *OLDER_NAMES.values()) if current_name(older) == current_name(statistic)}
    return sorted(alike - {statistic})


def choices(kind: Any) -> list[Any]:
    """Values of a Literal, without the older names of some."""
    return [choice for choice in get_args(kind) if choice not in OLDER_NAMES]


def name_among(statistic: str, names: Collection[str]) -> str | None:
    """The older or the current name of a statistic, whichever is among these; None if neither is."""
    if statistic in names:
        return statistic
    return next((name for name in names if current_name(name) == current_name(statistic)), None)


def has_earlier_window(parts: Mapping[str, Any]) -> bool:
    """Whether scores (parts of their fingerprint) were made in `EARLIER_WINDOW`.

    Around transcription starts `centred` is what it always was, and has no number.
    """
    return parts.get("placement") == "centred" and "genes" not in parts and CENTRED_WINDOW_PART not in parts


def is_compared(part: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are compared in a part as in others; of windows without number `window_difference` says.

    Of another placement only the number is missing, which is no difference of its own.
    """
    return part != CENTRED_WINDOW_PART or (part in one and part in other)


def window_difference(one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    """A line that says which of two runs of one placement has `EARLIER_WINDOW`, if one of them has; else none."""
    earlier = has_earlier_window(one), has_earlier_window(other)
    if earlier[0] == earlier[1] or one.get("placement") != other.get("placement"):
        return []
    return [f"placement: {names[earlier[1]]} has {EARLIER_WINDOW}"]


def read_shifts(value: object) -> int | tuple[int, ...]:
    """Check `--shifts`: a count of windows, or explicit offsets as a list or as text with commas.

    Returns:
        The count, or the offsets, ascending: their order changes no score.

    Raises:
        ValueError: it is neither; an offset is no whole number, too large or given twice, or there are too many.
    """
    if isinstance(value, str):
        value = _numbers(value)
    if not isinstance(value, list | tuple):
        if value in SHIFT_COUNTS and isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueError(f"must be one of {', '.join(map(str, SHIFT_COUNTS))}, or a {_OFFSETS}; it is {_short(value)}")
    for offset in value:
        if not isinstance(offset, int) or isinstance(offset, bool) or abs(offset) > MAX_OFFSET:
            raise ValueError(f"must be a {_OFFSETS}; it has {_short(offset)}")
    if not 0 < len(value) <= MAX_OFFSETS:
        raise ValueError(f"must be a {_OFFSETS}; it has {len(value)}")
    repeated = next((offset for offset in value if value.count(offset) > 1), None)
    if repeated is not None:
        raise ValueError(f"the offset {repeated} is named twice")
    return tuple(sorted(value))


def _numbers(text: str) -> object:
    """What a text with or without commas says; a piece that is no whole number stays text, and is refused.

    A comma makes a list, also behind a single number, as in Python.
    """
    pieces = [piece.strip() for piece in text.removesuffix(",").split(",")]
    read = [int(piece) if _WHOLE.fullmatch(piece) else piece for piece in pieces]
    return read if "," in text else read[0]


def _short(value: object) -> str:
    return shortened(repr(value))


def _current_names(value: Any, info: ValidationInfo) -> Any:
    if info.context == AS_PLANNED or not isinstance(value, list | tuple):
        return value
    return [current_name(name) if isinstance(name, str) else name for name in value]


Statistics = Annotated[tuple[Statistic, ...], BeforeValidator(_current_names)]

Shifts = Annotated[ShiftCount | tuple[int, ...], BeforeValidator(read_shifts)]
