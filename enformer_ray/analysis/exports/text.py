"""Writes text files of exports (lines, bgzip, tabix indices), and the table of all scores, `export tsv`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pysam

from enformer_ray.analysis.exports.source import ExportSource, ExportSummary, as_text, renamed
from enformer_ray.analysis.options import ContigNaming
from enformer_ray.errors import ConfigError, DiskError
from enformer_ray.files import Outputs
from enformer_ray.readers.bcf import quiet_htslib

MAX_TBI_POSITION = 2**29
"""Positions beyond a .tbi index (SAM specification, "The tabix index file format"); a .csi covers them."""

BGZIP_SUFFIXES = frozenset({".gz", ".bgz"})

_KEYS = ("chromosome", "position", "reference_allele", "alternate_allele", "variant_id", "name", "indel_convention")
_MISSING = "NA"


def export_tsv(
    source: ExportSource, output: Path, contig_names: ContigNaming = "fasta", force: bool = False
) -> ExportSummary:
    """Write all variants with their scores (of the alternate against the reference allele), sorted, and the index.

    Args:
        source: the scores.
        output: a path that ends in .gz or .bgz.
        contig_names: in the column `chromosome`; identifiers are those of the dataset either way.
        force: overwrite existing files.

    Raises:
        ConfigError: the path has another ending.
        OutputExistsError: the table or its index exists.
    """
    if output.suffix not in BGZIP_SUFFIXES:
        raise ConfigError(f"--output {output}: the table is packed with bgzip; give a name that ends in .tsv.gz.")
    summary = ExportSummary()
    contigs = source.fasta_contigs() if contig_names == "fasta" else {}
    max_position = 0
    with Outputs(output, force) as outputs:
        outputs.existing(".tbi")  # before all scores are written, not after
        path = outputs.path()
        with bgzip_writer(path) as file:
            file.write(header(["#" + _KEYS[0], *_KEYS[1:], *source.value_columns]))
            for batch in source.batches(["indel_convention"]):
                keys = [renamed(batch.column(_KEYS[0]), contigs), *(batch.column(name) for name in _KEYS[1:])]
                file.write(lines([*keys, *source.values_of(batch)], _MISSING))
                summary.count(batch, source.columns)
                max_position = max(max_position, pc.max(batch.column("position")).as_py())
        write_index(outputs, path, max_position)
    summary.files += outputs.written
    if contig_names == "fasta" and not source.records_contigs:
        summary.notes.append(
            f"{source.store.uri} does not record how its FASTA spells contigs, since an older program made it: they "
            "are named as its input records name them."
        )
    return summary


class Writer(Protocol):
    """A file, or what writes into one."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""
        ...


def open_output(path: Path) -> AbstractContextManager[Writer]:
    """A new file: bgzip or plain, as its name says."""
    return bgzip_writer(path) if path.suffix in BGZIP_SUFFIXES else path.open("wb")


@contextmanager
def bgzip_writer(path: Path) -> Iterator[Writer]:
    """A new bgzip file, which gzip unpacks, too."""
    with quiet_htslib():
        file = pysam.BGZFile(str(path), "wb", None)
        try:
            yield _CheckedFile(file, path)
        except BaseException:
            with suppress(OSError):  # closing reports the same error again
                file.close()
            raise
        try:
            file.close()
        except OSError:
            raise _disk_error(path) from None


class _CheckedFile:
    """Raises `DiskError` for a full disk, which htslib reports as a negative count or an error without a file name."""

    def __init__(self, file: pysam.BGZFile, path: Path) -> None:
        self._file, self._path = file, path

    def write(self, data: bytes, /) -> object:
        try:
            written = self._file.write(data)
        except OSError:
            raise _disk_error(self._path) from None
        if written is not None and written < 0:
            raise _disk_error(self._path)
        return written


def _disk_error(path: Path) -> DiskError:
    return DiskError(
        f"{path.name} cannot be written in {path.parent.parent}: the disk is full, or gone. Free space, and run the "
        "same command again."
    )


def lines(columns: Sequence[pa.Array], missing: str, separator: str = "\t") -> bytes:
    """Lines of columns of one length; null and NaN are written as `missing`."""
    if not len(columns[0]):
        return b""
    cells = [as_text(column, missing) for column in columns]
    rows = pc.binary_join_element_wise(*cells, separator)
    return "\n".join(rows.to_pylist()).encode() + b"\n"


def header(names: Iterable[str], separator: str = "\t") -> bytes:
    """The line of column names."""
    return separator.join(names).encode() + b"\n"


def write_index(outputs: Outputs, path: Path, max_position: int) -> None:
    """Index a bgzip file sorted by contig and position, its first two columns: `.tbi`, or `.csi` for longer contigs."""
    target = outputs.path(".csi" if max_position >= MAX_TBI_POSITION else ".tbi")
    pysam.tabix_index(
        str(path),
        force=True,
        seq_col=0,
        start_col=1,
        end_col=1,
        meta_char="#",
        csi=target.suffix == ".csi",
        index=str(target),
    )
