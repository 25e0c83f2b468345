"""Several runs as one dataset: that they fit, and which variants a later one has again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.errors import RunsDifferError

_OF_THE_INPUT = ("catalogue", "reference", "previous")
_OF_THE_HARDWARE = ("device", "batch_size", "threads", "compile")
"""They change no more than rounding."""

_NAMES = 5


def check_together(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs whose scores do not belong into one table.

    Raises:
        RunsDifferError: statistics, tracks, or anything else that makes a score differs between two of them. Variants,
            the digest of the reference (which is over the chromosomes that have variants) and hardware may.
    """
    first = runs[0]
    for run in runs[1:]:
        differences = _statistics(first, run) or _tracks(first, run) or _parts(first, run)
        if differences:
            raise RunsDifferError(
                f"{first.store.uri} and {run.store.uri} do not make one dataset: {'; '.join(differences)}. Open them "
                "one by one, or score the variants of one of them again with the options of the other."
            )


def _statistics(one: FinishedRun, other: FinishedRun) -> list[str]:
    first, second = set(one.manifest.statistics), set(other.manifest.statistics)
    return [] if first == second else [_only("statistics", sorted(first - second), sorted(second - first))]


def _tracks(one: FinishedRun, other: FinishedRun) -> list[str]:
    if one.track_table.equals(other.track_table):
        return []
    first, second = (dict.fromkeys(run.track_table.column("column").to_pylist()) for run in (one, other))
    if first != second:
        return [_only("tracks", [name for name in first if name not in second], [n for n in second if n not in first])]
    rows = zip(one.track_table.to_pylist(), other.track_table.to_pylist(), strict=True)
    a, b = next((a, b) for a, b in rows if a != b)
    name = next(name for name in a if a[name] != b[name])
    return [f"the {name} of {a['column']} is {a[name]!r} in the first and {b[name]!r} in the second"]


def _parts(one: FinishedRun, other: FinishedRun) -> list[str]:
    return [
        f"{name}: {_short(one.parts.get(name))} in the first, {_short(other.parts.get(name))} in the second"
        for name in {**one.parts, **other.parts}
        if name not in (*_OF_THE_INPUT, *_OF_THE_HARDWARE, "tracks", "statistics")
        and one.parts.get(name) != other.parts.get(name)
    ]


def _only(what: str, first: list[str], second: list[str]) -> str:
    sides = (("first", first), ("second", second))
    return f"{what} differ: " + ", ".join(
        f"only the {side} has {', '.join(names[:_NAMES])}{', ...' if len(names) > _NAMES else ''}"
        for side, names in sides
        if names
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
