"""The records of an input file in its order, each with the scores of its alternate alleles."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pysam

from enformer_ray.analysis.exports.source import ExportSource, ExportSummary
from enformer_ray.catalogue.sources import STANDARD_INPUT
from enformer_ray.dataset.rows import batch_rows
from enformer_ray.errors import ConfigError, DiskError, ExportError
from enformer_ray.files import Outputs
from enformer_ray.readers.bcf import quiet_htslib

MAX_TBI_POSITION = 2**29
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
    target = path.with_name(path.name + (".csi" if longest >= MAX_TBI_POSITION else ".tbi"))
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
        outputs.path(".csi" if longest >= MAX_TBI_POSITION else ".tbi")
        index(path, longest, chromosome=0, start=1)
    summary.files += outputs.written
    return summary


MISSING = "."

_ALLELES = """
    SELECT record, original_chromosome, original_position, original_reference_allele, original_alternate_allele,
           coalesce(variant, -1) AS variant
    FROM records WHERE file = $file ORDER BY input
"""


class RecordScores(NamedTuple):
    """What a run knows of a record.

    Attributes:
        record: number in its file, from 1.
        chromosome: as in the file.
        position: as in the file; None where it could not be read.
        reference: as in the file.
        alternates: as in the file; empty where there is none.
        scores: for each track, as text, the score of each alternate allele or `.`; None when there is no score at all.
    """

    record: int
    chromosome: str | None
    position: int | None
    reference: str | None
    alternates: tuple[str, ...]
    scores: list[list[str]] | None


def find_input(source: ExportSource, given: Path | None) -> tuple[str, Path]:
    """The input file of a run that is meant: what the run calls it, and where it is.

    Args:
        source: an open dataset.
        given: path of one of the inputs, or of where it is now; None is right when there was only one.

    Raises:
        ExportError: it is not clear which is meant, or it is not there.
    """
    files = [row[0] for row in source.database.sql("SELECT DISTINCT file FROM records ORDER BY file").fetchall()]
    same = [name for name in files if given is not None and name == str(given)]
    same = same or [name for name in files if given is not None and Path(name).name == given.name]
    if not same and len(files) == 1:
        same = files
    if len(same) != 1:
        some = ", ".join(files[:5]) + (" and more" if len(files) > 5 else "")
        raise ExportError(f"{source.store.uri} was made of several files ({some}); --input names the one to annotate.")
    path = given or Path(same[0])
    if same[0] == STANDARD_INPUT and given is None:
        raise ExportError(f"{source.store.uri} was made of standard input; --input names the file that went into it.")
    if not path.is_file():
        raise ExportError(f"{path}, which {source.store.uri} was made of, is not there; --input names where it is now.")
    return same[0], path


def record_scores(source: ExportSource, file: str) -> Iterator[RecordScores]:
    """The records of a VCF or BCF, in order, a block in memory at a time.

    Args:
        source: an open dataset.
        file: what the run calls it.
    """
    reader = source.database.sql(_ALLELES, params={"file": file}).to_arrow_reader(batch_rows(len(source.columns)))
    rest: list[RecordScores] = []
    for batch in reader:
        blocks = itertools.chain(rest, _of_batch(source, batch))
        rest = []
        for found in blocks:  # alleles of the last record may go on in the next batch
            if rest and rest[0].record != found.record:
                yield rest.pop()
            rest = [_joined(rest[0], found)] if rest else [found]
    yield from rest


def _of_batch(source: ExportSource, batch: pa.RecordBatch) -> Iterator[RecordScores]:
    variant = batch.column("variant").to_numpy()
    found = source.rows.take(variant, source.columns)
    texts = [text(found.column(name).combine_chunks(), MISSING).to_pylist() for name in source.columns]
    places = [batch.column(i).to_pylist() for i in range(5)]
    record = batch.column("record").to_numpy()
    starts = np.flatnonzero(np.append(True, record[1:] != record[:-1])).tolist()
    for start, end in zip(starts, [*starts[1:], len(record)], strict=True):
        alternates = tuple(a for a in places[4][start:end] if a is not None)
        scores = [column[start:end] for column in texts]
        some = any(value != MISSING for value in scores[0])  # a score is missing on all tracks or on none
        number, chromosome, position, reference = (places[i][start] for i in range(4))
        yield RecordScores(number, chromosome, position, reference, alternates, scores if some else None)


def _joined(left: RecordScores, right: RecordScores) -> RecordScores:
    alternates = left.alternates + right.alternates
    if left.scores is None and right.scores is None:
        return left._replace(alternates=alternates)
    tracks = len(left.scores or right.scores or [])
    sides = [one.scores or [[MISSING] * len(one.alternates)] * tracks for one in (left, right)]
    return left._replace(alternates=alternates, scores=[a + b for a, b in zip(*sides, strict=True)])


_NAME = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")  # VCF 4.3, section 1.6.1, "INFO"


class InfoField(NamedTuple):
    """A field and its line in the header."""

    name: str
    declaration: str


@dataclass
class VcfCounts:
    """What was written, and whether it is in the order that an index needs.

    Attributes:
        records: number of records.
        scored: those with a score.
        longest: highest position.
        sorted: by contig and position.
    """

    records: int = 0
    scored: int = 0
    longest: int = 0
    sorted: bool = True
    _seen: set[str] = field(default_factory=set)
    _last: tuple[str | None, int] = (None, 0)

    def add(self, chromosome: str | None, position: int, scored: bool) -> None:
        """Count a record."""
        self.records += 1
        self.scored += scored
        self.longest = max(self.longest, position)
        if chromosome != self._last[0]:
            self.sorted &= chromosome is not None and chromosome not in self._seen
            self._seen.add(str(chromosome))
        else:
            self.sorted &= position >= self._last[1]
        self._last = (chromosome, position)


def info_fields(source: ExportSource, prefix: str) -> list[InfoField]:
    """A field for each track: `<prefix>_<statistic>_<column>`.

    Raises:
        ConfigError: the prefix makes no name of an INFO field.
    """
    if not _NAME.fullmatch(prefix):
        raise ConfigError(f"--prefix {prefix}: give letters, digits, _ and ., a letter or _ first, as VCF wants them.")
    what = "of ALT against REF" if source.signed else "of ALT"
    fields = []
    for track in source.tracks:
        name = f"{prefix}_{source.statistic}_{track.column}"
        said = f"Enformer {source.statistic} {what}, {track.label} ({track.identifier or track.column})"
        said = " ".join(said.split()).replace("\\", "\\\\").replace('"', '\\"')
        fields.append(InfoField(name, f'##INFO=<ID={name},Number=A,Type=Float,Description="{said}">'))
    return fields


def differs(known: RecordScores, chromosome: str, position: int, reference: str, alternates: tuple[str, ...]) -> bool:
    """Whether a record of a file is another one than the run has read at its place."""
    there = (chromosome, position, reference, alternates)
    return there != (known.chromosome, known.position, known.reference, known.alternates)
