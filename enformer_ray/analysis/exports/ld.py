"""Export of annotations for LDSC, SLDP and PolyFun: a file a chromosome, on the SNPs of a panel if one is given."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enformer_ray.analysis.exports.annotation_columns import BASE, Moments, QuantileBins, with_base
from enformer_ray.analysis.exports.source import KEYS, ExportSource, ExportSummary
from enformer_ray.analysis.exports.text import bgzip_writer, header, lines
from enformer_ray.analysis.options import AnnotationOptions
from enformer_ray.dataset.rows import batch_rows
from enformer_ray.errors import AnalysisError, ConfigError
from enformer_ray.files import Outputs
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import text_lines

CHROMOSOME_SIGN = "@"
"""Stands for the chromosome in the name of .bim files, as in PLINK."""

_CHROMOSOMES = (*map(str, range(1, 27)), "X", "Y", "XY", "MT")
_NUMBERED = {"23": "X", "24": "Y", "25": "X", "XY": "X", "26": "MT"}  # PLINK's codes; 25 and XY are pseudo-autosomal
_CELLS = ("CHR", "SNP", "CM", "BP", "A1", "A2")
_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "chromosome": pa.string(),
        "CHR": pa.string(),
        "SNP": pa.string(),
        "CM": pa.string(),
        "BP": pa.int64(),
        "A1": pa.string(),
        "A2": pa.string(),
    }
)

# A variant that normalisation changed is also found by the alleles of its file. Of several matches of a SNP the first
# variant whose alternate allele is A1 is taken, else the first one.
_MATCHED = """
    WITH scored AS (FROM read_parquet($keys)), alleles AS (
        SELECT chromosome, position, reference_allele AS ref, alternate_allele AS alt, variant FROM scored
        UNION ALL
        SELECT scored.chromosome, original_position, upper(original_reference_allele),
               upper(original_alternate_allele), variant
        FROM records JOIN scored USING (variant)
        WHERE records.lifted IS NULL AND harmonisation IS NULL AND status <> 'rejected'
              AND (original_position <> scored.position OR upper(original_reference_allele) <> reference_allele
                   OR upper(original_alternate_allele) <> alternate_allele)
    ), oriented AS (
        SELECT chromosome, position AS "BP", alt AS u1, ref AS u2, variant, 1 AS sign FROM alleles
        UNION ALL
        SELECT chromosome, position, ref, alt, variant, -1 FROM alleles
    ), matched AS (
        SELECT row, min_by({'variant': variant, 'sign': sign}, (-sign, variant)) AS hit
        FROM read_parquet($bim) AS bim
        JOIN oriented ON bim.chromosome = oriented.chromosome AND bim."BP" = oriented."BP"
                         AND upper("A1") = u1 AND upper("A2") = u2
        GROUP BY row
    )
    SELECT "CHR", "SNP", "CM", "BP", "A1", "A2", coalesce(hit.variant, -1) AS variant, coalesce(hit.sign, 1) AS sign
    FROM read_parquet($bim) LEFT JOIN matched USING (row) ORDER BY row
"""

_PLACE = ("CHR", "BP", "SNP", "CM", "A1", "A2")
"""Columns of an annotation before those of the tracks."""

_BIM_ROWS = 65_536
_LDSC_COLUMNS = ("CHR", "BP", "SNP", "CM")
_SLDP_COLUMNS = ("CHR", "BP", "SNP", "A1", "A2")


def export_ldsc(
    source: ExportSource,
    output: Path,
    options: AnnotationOptions | None = None,
    thin: bool = False,
    force: bool = False,
    base: bool = True,
    quantile_bins: int | None = None,
) -> ExportSummary:
    """Write CHR, BP, SNP, CM, `base` and a column a track, separated by tabs; and `PREFIX.sd.tsv`.

    `ldsc.py --l2` wants the SNPs of its .bim in the order of its .bim: give it (`options.bim`). `PREFIX.sd.tsv` has the
    mean and the standard deviation (of numpy.std) of each column over the SNPs of all files, for tau*.

    Args:
        source: the scores.
        output: prefix of the files' paths.
        options: contents of the annotation.
        thin: leave out the first four columns, for `ldsc.py --thin-annot`.
        force: overwrite existing files.
        base: write the column of ones.
        quantile_bins: number of quantile bins, of which columns take the place of those of the tracks.
    """
    options, summary = options or AnnotationOptions(), ExportSummary()
    with ExitStack() as stack:
        outputs = stack.enter_context(Outputs(output, force))
        outputs.existing(".sd.tsv")  # before all SNPs are written, not after
        # Closed with the rest, for the sake of their temporary folders, when an error keeps this frame alive.
        parts, columns = stack.enter_context(closing(_annotated(source, options, summary))), source.columns
        bins: QuantileBins | None = None
        if quantile_bins is not None:
            folder = stack.enter_context(TemporaryDirectory(prefix="enformer-ray-annotation-"))
            bins = QuantileBins(columns, quantile_bins, Path(folder))
            parts, columns = stack.enter_context(closing(bins.of(parts))), bins.names
        columns = [BASE, *columns] if base else columns
        moments = Moments(columns)
        names = [*(() if thin else _LDSC_COLUMNS), *columns]
        for chromosome, batches in parts:
            with bgzip_writer(outputs.path(f".{chromosome}.annot.gz")) as file:
                file.write(header(names))
                for batch in map(with_base, batches):
                    moments.add(batch)
                    file.write(lines([batch.column(name) for name in names], missing="NA"))
        outputs.path(".sd.tsv").write_bytes(moments.table())
    summary.files += outputs.written
    if bins is not None and bins.empty:
        summary.notes.append(
            f"{len(bins.empty):,} bins hold no SNPs, since many have one score ({', '.join(bins.empty[:3])}). Take "
            "fewer --quantile-bins, or leave these columns out."
        )
    return summary


def export_sldp(
    source: ExportSource,
    output: Path,
    options: AnnotationOptions | None = None,
    thin: bool = False,
    force: bool = False,
) -> ExportSummary:
    """Write CHR, BP, SNP, A1, A2 and a column a track: the score of A1 against A2.

    Args:
        source: the scores; a statistic that has a sign.
        output: prefix of the files' paths.
        options: contents of the annotation; values are always signed.
        thin: leave out the first five columns; SLDP then takes rows and signs to be those of the panel's .bim.
        force: overwrite existing files.
    """
    signed, summary = replace(options or AnnotationOptions(), signed=True), ExportSummary()
    names = [*(() if thin else _SLDP_COLUMNS), *source.columns]
    with Outputs(output, force) as outputs:
        for chromosome, batches in _annotated(source, signed, summary):
            with bgzip_writer(outputs.path(f".{chromosome}.sannot.gz")) as file:
                file.write(header(names))
                for batch in batches:
                    file.write(lines([batch.column(name) for name in names], missing="NA"))
    summary.files += outputs.written
    return summary


def export_polyfun(
    source: ExportSource, output: Path, options: AnnotationOptions | None = None, force: bool = False
) -> ExportSummary:
    """Write CHR, BP, SNP, A1, A2 and a float column a track; and `PREFIX.1.l2.M`, the sums of the columns.

    Args:
        source: the scores.
        output: prefix of the files' paths.
        options: contents of the annotation.
        force: overwrite existing files.
    """
    summary = ExportSummary()
    with Outputs(output, force) as outputs:
        for chromosome, batches in _annotated(source, options or AnnotationOptions(), summary):
            sums = np.zeros(len(source.columns))
            number = pa.int64() if chromosome.isdecimal() else pa.string()
            fields = {"CHR": number, "BP": pa.int64(), "SNP": pa.string(), "A1": pa.string(), "A2": pa.string()}
            schema = pa.schema([*fields.items(), *((name, pa.float32()) for name in source.columns)])
            path = outputs.path(f".{chromosome}.annot.parquet")
            with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["CHR"]) as writer:
                for batch in batches:
                    writer.write_batch(batch.select(schema.names).cast(schema))
                    sums += [np.sum(batch.column(n).to_numpy(), dtype=np.float64) for n in source.columns]
            outputs.path(f".{chromosome}.l2.M").write_text("\t".join(f"{s:.10g}" for s in sums) + "\n")
    summary.files += outputs.written
    return summary


def _annotated(
    source: ExportSource, options: AnnotationOptions, summary: ExportSummary
) -> Generator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Chromosome and batches of its SNPs: _PLACE, then a column a track without nulls; counts go into `summary`.

    A1 is the alternate allele, or the A1 of the .bim.
    """
    if options.signed and not source.signed:
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
                raise AnalysisError(f"--bim {options.bim} goes back to chromosome {chromosome}; sort it by chromosome.")
            seen.add(chromosome)
            yield chromosome, (_without_nulls(piece, source, options, summary) for piece in pieces)
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
        yield pa.record_batch([*place, *scores], names=[*_PLACE, *source.columns])


def _of_panel(source: ExportSource, options: AnnotationOptions, folder: Path) -> Iterator[pa.RecordBatch]:
    bims = _find_bims(str(options.bim))
    for batch in _matched_rows(source, bims, folder, batch_rows(len(source.columns))):
        found = source.rows.take(batch.column("variant").to_numpy(), source.columns)
        scores = [found.column(name).combine_chunks() for name in source.columns]
        if source.signed:
            sign = batch.column("sign").cast(pa.float32())
            scores = [pc.multiply(column, sign) for column in scores]
        yield pa.record_batch([*(batch.column(name) for name in _PLACE), *scores], names=[*_PLACE, *source.columns])


def _by_chromosome(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    runs = pc.run_end_encode(batch.column("CHR"))
    start = 0
    for end in runs.run_ends.to_pylist():
        yield batch.slice(start, end - start)
        start = end


def _without_nulls(
    batch: pa.RecordBatch, source: ExportSource, options: AnnotationOptions, summary: ExportSummary
) -> pa.RecordBatch:
    summary.count(batch, source.columns)
    scores = [batch.column(name) for name in source.columns]
    if not options.signed:
        scores = [pc.abs(column) for column in scores]
    missing = pa.scalar(options.missing, pa.float32())
    scores = [pc.if_else(pc.fill_null(pc.is_nan(column), True), missing, column) for column in scores]
    return pa.record_batch([*(batch.column(n) for n in _PLACE), *scores], names=[*_PLACE, *source.columns])


def _find_bims(pattern: str) -> list[Path]:
    """One .bim, or those of all chromosomes when the name has an `@`."""
    if CHROMOSOME_SIGN not in pattern or Path(pattern).exists():
        found = [Path(pattern)]
    else:
        found = [Path(pattern.replace(CHROMOSOME_SIGN, name)) for name in _CHROMOSOMES]
        found = [path for path in found if path.exists()]
    if not found or not found[0].is_file():
        raise AnalysisError(
            f"--bim {pattern}: there is no such file. Name one .bim, or those of all chromosomes with "
            f"{CHROMOSOME_SIGN} in place of the number: panel.@.bim."
        )
    return found


def _matched_rows(source: ExportSource, bims: list[Path], folder: Path, size: int) -> Iterator[pa.RecordBatch]:
    """The rows of .bim files in their order, each with the variant that it is.

    A row is a variant at the same position with the same two alleles, in either order: as they are normalised, or as
    they were in a variant file that says which allele is the reference.

    Args:
        source: an open dataset.
        bims: the files.
        folder: for temporary files.
        size: rows of a batch at most.

    Returns:
        CHR, SNP, CM, BP, A1, A2 as in the file; variant (-1: not in the dataset); sign (1: A1 is the alternate allele,
        -1: A2 is).
    """
    _write_bims(bims, folder / "bim.parquet")
    _write_keys(source, folder / "keys.parquet")
    files = {"bim": str(folder / "bim.parquet"), "keys": str(folder / "keys.parquet")}
    yield from source.database.sql(_MATCHED, params=files).to_arrow_reader(size)


def _write_bims(bims: list[Path], path: Path) -> None:
    """All lines of the files, numbered, as Parquet that DuckDB can join."""
    row = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for bim in bims:
            snps = _read_bim(bim)
            while batch := list(itertools.islice(snps, _BIM_ROWS)):
                columns = [list(column) for column in zip(*batch, strict=True)]
                rows = range(row, row + len(batch))
                row = rows.stop
                arrays = [rows, [_canonical(name) for name in columns[0]], *columns]
                writer.write_batch(
                    pa.record_batch([pa.array(a, f.type) for a, f in zip(arrays, _SCHEMA, strict=True)], schema=_SCHEMA)
                )
    if not row:
        raise AnalysisError(f"{bims[0]} holds no lines; --bim wants the .bim of a reference panel.")


def _read_bim(bim: Path) -> Iterator[list[object]]:
    for number, line in text_lines(bim):
        cells = line.split()
        if len(cells) != len(_CELLS) or not cells[3].isdecimal():
            raise AnalysisError(
                f"{bim}, line {number}: not a line of a .bim, which has a chromosome, an identifier, a place "
                "in centimorgans, a position and two alleles."
            )
        yield [*cells[:3], int(cells[3]), *cells[4:]]


def _canonical(chromosome: object) -> str:
    name = canonical_name(str(chromosome))
    return _NUMBERED.get(name, name)


def _write_keys(source: ExportSource, path: Path) -> None:
    """Keys of all variants with their numbers, for the join with the panel."""
    first = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in source.rows.batches(KEYS[1:]):
            numbered = batch.append_column("variant", pa.array(range(first, first + len(batch)), pa.int64()))
            writer = writer or pq.ParquetWriter(path, numbered.schema, compression="zstd")
            writer.write_batch(numbered)
            first += len(batch)
    finally:
        if writer is not None:
            writer.close()
