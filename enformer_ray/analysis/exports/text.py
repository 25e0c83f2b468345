"""Rows as lines of text, many at a time, in files that bgzip packs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pysam

from enformer_ray.analysis.exports.source import ExportSource, ExportSummary
from enformer_ray.analysis.outputs import Outputs
from enformer_ray.errors import ConfigError, DiskError
from enformer_ray.readers.bcf import quiet_htslib

LONGEST_TBI = 2**29
"""Positions that a .tbi index reaches (SAM specification, "The tabix index file format"); .csi reaches further."""


class Writer(Protocol):
    """What lines are written to."""

    def write(self, data: bytes, /) -> object:
        """Write them."""
        ...


@contextmanager
def bgzip_writer(path: Path) -> Iterator[Writer]:
    """A bgzip file, which gzip unpacks as well.

    Raises:
        DiskError: it cannot be written.
    """
    with quiet_htslib():
        file = pysam.BGZFile(str(path), "wb", None)
        try:
            yield _Checked(file, path)
        except BaseException:
            with suppress(OSError):  # closing reports the same fault once more
                file.close()
            raise
        try:
            file.close()
        except OSError:
            raise _full(path) from None


class _Checked:
    """htslib tells of a full disk by a number or an error without a name."""

    def __init__(self, file: pysam.BGZFile, path: Path) -> None:
        self._file, self._path = file, path

    def write(self, data: bytes, /) -> object:
        try:
            written = self._file.write(data)
        except OSError:
            raise _full(self._path) from None
        if written is not None and written < 0:
            raise _full(self._path)
        return written


def _full(path: Path) -> DiskError:
    return DiskError(
        f"{path.name} cannot be written in {path.parent.parent}: the disk is full, or gone. Free space, and run the "
        "same command again."
    )


def lines(columns: Sequence[pa.Array], missing: str, separator: str = "\t") -> bytes:
    """A line of each row.

    Args:
        columns: of one length; numbers are written with as few digits as tell them from others of their type.
        missing: stands for null and NaN.
        separator: between cells.
    """
    if not len(columns[0]):
        return b""
    cells = [text(column, missing) for column in columns]
    rows = pc.binary_join_element_wise(*cells, separator)
    return "\n".join(rows.to_pylist()).encode() + b"\n"


def text(column: pa.Array, missing: str) -> pa.Array:
    """Cells as text."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return pc.fill_null(column.cast(pa.string()), missing)


def header(names: Iterable[str], separator: str = "\t") -> bytes:
    """The line of column names."""
    return separator.join(names).encode() + b"\n"


def index(path: Path, longest: int, chromosome: int, start: int) -> Path:
    """Index a bgzip file that is sorted by contig and position.

    Args:
        path: the file.
        longest: highest position in it.
        chromosome: column of the contig, from 0.
        start: column of the 1-based position.

    Returns:
        The index: `.tbi`, or `.csi` where positions are too high for that.
    """
    target = path.with_name(path.name + (".csi" if longest >= LONGEST_TBI else ".tbi"))
    pysam.tabix_index(
        str(path),
        force=True,
        seq_col=chromosome,
        start_col=start,
        end_col=start,
        meta_char="#",
        csi=target.suffix == ".csi",
        index=str(target),
    )
    return target


_FIRST = ("chromosome", "position", "reference_allele", "alternate_allele", "variant_id", "name", "indel_convention")
_MISSING = "NA"


def export_tsv(source: ExportSource, output: Path, force: bool = False) -> ExportSummary:
    """Write all variants with their scores (of the alternate against the reference allele), sorted, and the index.

    Args:
        source: what is exported.
        output: a path that ends in .gz or .bgz.
        force: write over files that are there.

    Raises:
        ConfigError: the path ends otherwise.
        OutputExistsError: the table or its index is there.
    """
    if output.suffix not in {".gz", ".bgz"}:
        raise ConfigError(f"--output {output}: the table is packed with bgzip; give a name that ends in .tsv.gz.")
    summary = ExportSummary()
    longest = 0
    with Outputs(output, force) as outputs:
        outputs.existing(".tbi")
        path = outputs.path()
        with bgzip_writer(path) as file:
            names = [*_FIRST, *source.columns]
            file.write(header(["#" + names[0], *names[1:]]))
            for batch in source.batches(more=["indel_convention"]):
                file.write(lines([batch.column(name) for name in names], _MISSING))
                summary.count(batch, source.columns)
                longest = max(longest, pc.max(batch.column("position")).as_py())
        outputs.path(".csi" if longest >= LONGEST_TBI else ".tbi")
        index(path, longest, chromosome=0, start=1)
    summary.files += outputs.written
    return summary
