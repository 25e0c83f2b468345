"""Which files a job's `variants` mean: paths, globs, standard input, and regions that are saturated."""

from __future__ import annotations

import glob
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from enformer_ray.catalogue.saturation import SATURATE, bed_of, is_saturation
from enformer_ray.errors import VariantFileError

STANDARD_INPUT = "-"


def named_file(source: str) -> str | None:
    """The file or glob that an entry of a job's `variants` names; None for a region that is saturated."""
    return bed_of(source) if is_saturation(source) else source


def absolute_source(source: str) -> str:
    """The same entry for a process that runs in another folder."""
    file = named_file(source)
    if file is None or source == STANDARD_INPUT:
        return source
    return (SATURATE if is_saturation(source) else "") + str(Path(file).expanduser().absolute())


def find_sources(patterns: Sequence[str | Path], scratch: Path, stdin: BinaryIO | None = None) -> dict[str, Path]:
    """Files in the order in which they are read: name -> where it is.

    Args:
        patterns: paths, globs such as `data/*.vcf.gz` (sorted), `-` for standard input, or what `is_saturation`.
        scratch: an existing folder; standard input is copied to it, since files are read twice, and synthetic variants
            are to be written to it by whoever has the reference.
        stdin: standard input; the process's own by default.

    Raises:
        VariantFileError: nothing matches a glob, or a file is named twice.
    """
    found: dict[str, Path] = {}
    for pattern in map(str, patterns):
        if pattern == STANDARD_INPUT:
            matches = {pattern: scratch / "standard-input"}
        elif is_saturation(pattern):
            matches = {pattern: scratch / f"saturation-{len(found)}"}
        elif glob.has_magic(pattern) and not Path(pattern).exists():
            matches = {path: Path(path) for path in sorted(glob.glob(pattern, recursive=True))}  # noqa: PTH207 (absolute ones, too)
        else:
            matches = {pattern: Path(pattern)}
        if not matches:
            raise VariantFileError(
                f"no file matches {pattern!r}. Check the pattern; quotes around it keep a shell from expanding it."
            )
        twice = sorted(found.keys() & matches.keys())
        if twice:
            raise VariantFileError(f"{', '.join(twice[:3])} is named twice among the variant files; name it once.")
        found |= matches
        if pattern == STANDARD_INPUT:
            with matches[pattern].open("wb") as target:
                shutil.copyfileobj(stdin or sys.stdin.buffer, target, 1 << 20)
    return found
