"""Annotations of SNPs, chromosome by chromosome, as LDSC, PolyFun and SLDP read them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.analysis.exports.bim import find_bims, matched_rows
from enformer_ray.analysis.exports.source import ExportSource, Names
from enformer_ray.analysis.exports.summary import ExportSummary
from enformer_ray.dataset.rows import batch_rows
from enformer_ray.errors import ConfigError, ExportError

Value = Literal["absolute", "signed"]

PLACE = ("CHR", "BP", "SNP", "CM", "A1", "A2")
"""Columns of a batch before those of the tracks."""


@dataclass(frozen=True)
class AnnotationOptions:
    """What an annotation holds.

    Attributes:
        bim: reference panel whose SNPs and order are kept; None: the variants of the dataset.
        value: absolute scores, or signed ones: of A1 against A2.
        missing: value of SNPs without a score.
        names: what SNPs are called that are not those of a .bim.
    """

    bim: str | None = None
    value: Value = "absolute"
    missing: float = 0.0
    names: Names = "source"


def annotated(
    source: ExportSource, options: AnnotationOptions, summary: ExportSummary
) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Chromosome and batches of its SNPs: PLACE, then a column a track without nulls.

    A1 is the alternate allele, or the A1 of the .bim.

    Args:
        source: what is exported.
        options: how.
        summary: counts are added to it.

    Raises:
        ConfigError: signed values of a statistic that has no sign.
        ExportError: the .bim cannot be read, or goes back to a chromosome.
    """
    if options.value == "signed" and not source.signed:
        raise ConfigError(
            f"--statistic {source.statistic} has no sign that depends on the order of the alleles, so it makes no "
            "signed annotation; take sad, log2_ratio, log_sad, sax or centre."
        )
    seen: set[str] = set()
    with TemporaryDirectory(prefix="enformer-ray-annotation-") as folder:
        batches = _of_dataset(source, options) if options.bim is None else _of_panel(source, options, Path(folder))
        split = (piece for batch in batches for piece in _by_chromosome(batch))
        for chromosome, pieces in itertools.groupby(split, key=lambda piece: piece.column("CHR")[0].as_py()):
            if chromosome in seen:
                raise ExportError(f"--bim {options.bim} goes back to chromosome {chromosome}; sort it by chromosome.")
            seen.add(chromosome)
            yield chromosome, (_finished(piece, source, options, summary) for piece in pieces)
    if options.bim is not None and summary.rows:
        summary.notes.append(
            f"{summary.scored:,} of {summary.rows:,} SNPs of the panel have a score; the others have "
            f"{options.missing:g}."
        )


def _of_dataset(source: ExportSource, options: AnnotationOptions) -> Iterator[pa.RecordBatch]:
    for batch in source.batches(names=options.names):
        place = [batch.column("chromosome"), batch.column("position"), batch.column("name")]
        place += [pa.array(["0"] * len(batch)), batch.column("alternate_allele"), batch.column("reference_allele")]
        scores = [batch.column(name) for name in source.columns]
        yield pa.record_batch([*place, *scores], names=[*PLACE, *source.columns])


def _of_panel(source: ExportSource, options: AnnotationOptions, folder: Path) -> Iterator[pa.RecordBatch]:
    bims = find_bims(str(options.bim))
    for batch in matched_rows(source, bims, folder, batch_rows(len(source.columns))):
        found = source.rows.take(batch.column("variant").to_numpy(), source.columns)
        scores = [found.column(name).combine_chunks() for name in source.columns]
        if source.signed:
            sign = batch.column("sign").cast(pa.float32())
            scores = [pc.multiply(column, sign) for column in scores]
        yield pa.record_batch([*(batch.column(name) for name in PLACE), *scores], names=[*PLACE, *source.columns])


def _by_chromosome(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    runs = pc.run_end_encode(batch.column("CHR"))
    start = 0
    for end in runs.run_ends.to_pylist():
        yield batch.slice(start, end - start)
        start = end


def _finished(
    batch: pa.RecordBatch, source: ExportSource, options: AnnotationOptions, summary: ExportSummary
) -> pa.RecordBatch:
    summary.count(batch, source.columns)
    scores = [batch.column(name) for name in source.columns]
    if options.value == "absolute":
        scores = [pc.abs(column) for column in scores]
    missing = pa.scalar(options.missing, pa.float32())
    scores = [pc.if_else(pc.fill_null(pc.is_nan(column), True), missing, column) for column in scores]
    return pa.record_batch([*(batch.column(n) for n in PLACE), *scores], names=[*PLACE, *source.columns])
