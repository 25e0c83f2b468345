"""Sources of variants that a job names: files, globs, standard input, and regions to saturate.

`saturate:chr8:1000-1200` (1-based, both ends included) or `saturate:enhancers.bed` (0-based, half-open) means synthetic
variants: every substitution of every base, and on request every deletion of one base. Their records are written into
the catalogue's scratch folder and read from there like a file: the same regions of the same FASTA give the same records
in the same order.
"""

from __future__ import annotations

import glob
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.errors import SelectionError, VariantFileError
from enformer_ray.genome.coordinates import MAX_POSITION, Codes, parse_region
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.bed import bed_lines
from enformer_ray.readers.schema import RECORD_SCHEMA, UNKNOWN_BASE, batch_from_columns

SATURATE = "saturate:"
"""Prefix of a source of synthetic variants in a job's `variants`."""

STANDARD_INPUT = "-"

_BASES = pa.array(list("ACGTN"))
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [4, 4, 4]], dtype=np.int64)
_UNKNOWN = 4
_BATCH_BASES = 16_384


class Stretch(NamedTuple):
    """Bases `start`..`end` (0-based half-open) of a contig of the reference, and their name in a BED file."""

    chromosome: str
    start: int
    end: int
    name: str | None = None


def find_sources(patterns: Sequence[str | Path], scratch: Path, stdin: BinaryIO | None = None) -> dict[str, Path]:
    """Files in the order in which they are read: name -> path.

    Args:
        patterns: paths, globs such as `data/*.vcf.gz` (sorted), `-` for standard input, or what `is_saturation`.
        scratch: an existing folder; standard input is copied to it, since files are read twice, and synthetic variants
            are to be written to it by `write_saturation`.
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
        repeated = sorted(found.keys() & matches.keys())
        if repeated:
            raise VariantFileError(f"{', '.join(repeated[:3])} is named twice among the variant files; name it once.")
        found |= matches
        if pattern == STANDARD_INPUT:
            with matches[pattern].open("wb") as target:
                shutil.copyfileobj(stdin or sys.stdin.buffer, target, 1 << 20)
    return found


def is_saturation(source: str) -> bool:
    """Whether an entry of a job's variants is a region or BED file to saturate, and no variant file."""
    return source.startswith(SATURATE)


def bed_of(source: str) -> str | None:
    """The BED file of a source that `is_saturation`; None where it is a region."""
    target = source.removeprefix(SATURATE)
    return target if target.lower().endswith((".bed", ".bed.gz")) or Path(target).is_file() else None


def named_file(source: str) -> str | None:
    """The file or glob that an entry of a job's `variants` names; None for a region that is saturated."""
    return bed_of(source) if is_saturation(source) else source


def with_file(source: str, file: str) -> str:
    """The same entry with another file in the place of that of `named_file`."""
    return (SATURATE if is_saturation(source) else "") + file


def stretches(source: str, reference: ReferenceGenome) -> list[Stretch]:
    """The stretches of a source that `is_saturation`, in the order of its BED file.

    Raises:
        SelectionError: the source is neither a region nor a BED file, the BED file cannot be read as one, or a stretch
            is empty or not inside its contig.
        UnknownContigError: the reference has no such contig.
    """
    bed = bed_of(source)
    if bed is not None:
        return list(_read_bed(Path(bed), reference))
    text = source.removeprefix(SATURATE)
    region = parse_region(text, reference.lengths)
    contig = reference.resolve(region.chromosome)
    end = reference.lengths[contig] if region.end == MAX_POSITION else region.end
    return [_inside(Stretch(contig, region.start - 1, end), reference, f"the region {text!r}")]


def write_saturation(source: str, reference: ReferenceGenome, deletions: bool, path: Path) -> None:
    """Write the synthetic variants of a source as an Arrow file of `RECORD_SCHEMA`; raises what `stretches` does.

    Base by base the three substitutions, alternates in the order A, C, G, T, then the deletion if they are requested. A
    base that is unknown in the FASTA (N, IUPAC codes) is one record without an alternate, with a `problem`.
    """
    records = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, RECORD_SCHEMA) as writer:
        for stretch in stretches(source, reference):
            for start in range(stretch.start, stretch.end, _BATCH_BASES):
                piece = stretch._replace(start=start, end=min(start + _BATCH_BASES, stretch.end))
                batch = _records(piece, reference, deletions, records)
                writer.write_batch(batch)
                records += len(batch)


def _records(stretch: Stretch, reference: ReferenceGenome, deletions: bool, written: int) -> pa.RecordBatch:
    """Records of a stretch, numbered after those that are written: of four rows for each base, those that exist."""
    codes = reference.codes(stretch.chromosome, stretch.start, stretch.end).astype(np.int64)
    rows = len(codes)
    exists = np.tile([True, True, True, deletions], (rows, 1))
    exists[codes == _UNKNOWN] = [True, False, False, False]
    positions = np.repeat(np.arange(stretch.start, stretch.end) + 1, 4).reshape(rows, 4)
    positions[:, 3] -= positions[:, 3] > 1  # the anchor of a deletion: the previous base, or the next one at base 0
    alternates = np.hstack([_OTHERS[codes], _anchors(stretch, reference)[:, None]])
    anchored_left = positions[:, 3] < positions[:, 0]
    left = np.where(anchored_left, alternates[:, 3], codes)
    right = np.where(anchored_left, codes, alternates[:, 3])
    singles = _BASES.take(pa.array(np.repeat(codes, 4)))
    pairs = pc.binary_join_element_wise(
        _BASES.take(pa.array(np.repeat(left, 4))), _BASES.take(pa.array(np.repeat(right, 4))), ""
    )
    is_deletion = pa.array(np.tile([False, False, False, True], rows))
    unknown = pa.array(np.repeat(codes == _UNKNOWN, 4))
    kept = pa.array(exists.ravel())
    columns = {
        "source_id": pa.array([stretch.name] * (4 * rows), pa.string()),
        "chromosome": pa.array([stretch.chromosome] * (4 * rows), pa.string()),
        "position": pa.array(positions.ravel()),
        "reference_allele": pc.if_else(is_deletion, pairs, singles),
        "alternate_allele": pc.if_else(unknown, None, _BASES.take(pa.array(alternates.ravel()))),
        "problem": pc.if_else(unknown, UNKNOWN_BASE, None),
    }
    columns = {name: column.filter(kept) for name, column in columns.items()}
    columns["record"] = pa.array(np.arange(written + 1, written + 1 + int(exists.sum())))
    return batch_from_columns(columns)


def _anchors(stretch: Stretch, reference: ReferenceGenome) -> NDArray[np.int64]:
    """The base that each deletion leaves as its alternate allele: the previous one, or the next one at base 0."""
    codes: Codes = reference.codes(stretch.chromosome, stretch.start - 1, stretch.end - 1)
    anchors: NDArray[np.int64] = codes.astype(np.int64)
    if stretch.start == 0:
        anchors[0] = reference.codes(stretch.chromosome, 1, 2)[0]
    return anchors


def _read_bed(path: Path, reference: ReferenceGenome) -> Iterator[Stretch]:
    if not path.is_file():
        raise SelectionError(f"the BED file {path} does not exist; check the path.")
    found = False
    for line in bed_lines(path, "a BED file of regions to saturate", SelectionError):
        found = True
        stretch = Stretch(reference.resolve(line.chromosome), line.start, line.end, line.name)
        yield _inside(stretch, reference, line.where)
    if not found:
        raise SelectionError(f"the BED file {path} has no line with a region; check that it was written to its end.")


def _inside(stretch: Stretch, reference: ReferenceGenome, where: str) -> Stretch:
    length = reference.lengths[stretch.chromosome]
    if not 0 <= stretch.start < stretch.end <= length:
        raise SelectionError(
            f"{where}: the bases {stretch.start + 1:,} to {stretch.end:,} (1-based) are not a stretch of "
            f"{stretch.chromosome}, which has {length:,} bases in {reference.path}. Regions are 1-based with both ends "
            "included; in a BED file the start is 0-based and the end one behind the last base."
        )
    return stretch
