"""SNPs of a reference panel (PLINK .bim files), and which scored variant each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.analysis.exports.source import KEYS, ExportSource
from enformer_ray.errors import ExportError
from enformer_ray.genome.region import canonical_name
from enformer_ray.readers.text import open_text

CHROMOSOME_SIGN = "@"
"""Stands for the chromosome in the name of .bim files, as in PLINK."""

_CHROMOSOMES = (*map(str, range(1, 27)), "X", "Y", "XY", "MT")
_NUMBERED = {"23": "X", "24": "Y", "25": "X", "XY": "X", "26": "MT"}
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
_BLOCK = 65_536
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


def find_bims(pattern: str) -> list[Path]:
    """One .bim, or those of all chromosomes when there is an `@` in the name.

    Raises:
        ExportError: there is none.
    """
    if CHROMOSOME_SIGN not in pattern or Path(pattern).exists():
        found = [Path(pattern)]
    else:
        found = [Path(pattern.replace(CHROMOSOME_SIGN, name)) for name in _CHROMOSOMES]
        found = [path for path in found if path.exists()]
    if not found or not found[0].is_file():
        raise ExportError(
            f"--bim {pattern}: there is no such file. Name one .bim, or those of all chromosomes with "
            f"{CHROMOSOME_SIGN} in place of the number: panel.@.bim."
        )
    return found


def matched_rows(source: ExportSource, bims: list[Path], folder: Path, size: int) -> Iterator[pa.RecordBatch]:
    """The rows of .bim files in their order, each with the variant that it is.

    A row is a variant at the same place with the same two alleles, in either order: as they are normalised, or as a
    variant file that says which allele is the reference had them.

    Args:
        source: an open dataset.
        bims: the files.
        folder: for files to work with.
        size: rows of a batch at most.

    Returns:
        CHR, SNP, CM, BP, A1, A2 as in the file; variant (-1: not in the dataset); sign (1: A1 is the alternate allele,
        -1: A2 is).

    Raises:
        ExportError: a line is none of a .bim.
    """
    _write_bims(bims, folder / "bim.parquet")
    _write_keys(source, folder / "keys.parquet")
    files = {"bim": str(folder / "bim.parquet"), "keys": str(folder / "keys.parquet")}
    yield from source.database.sql(_MATCHED, params=files).to_arrow_reader(size)


def _write_bims(bims: list[Path], path: Path) -> None:
    row = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for bim in bims:
            for columns in _blocks(bim):
                rows = range(row, row + len(columns[0]))
                row = rows.stop
                chromosomes = [_canonical(name) for name in columns[0]]
                arrays = [rows, chromosomes, *columns]
                writer.write_batch(
                    pa.record_batch([pa.array(a, f.type) for a, f in zip(arrays, _SCHEMA, strict=True)], schema=_SCHEMA)
                )
    if not row:
        raise ExportError(f"{bims[0]} holds no lines; --bim wants the .bim of a reference panel.")


def _blocks(bim: Path) -> Iterator[list[list[object]]]:
    with open_text(bim) as text:
        for block in text:
            rows = []
            for number, line in block.lines():
                cells = line.split()
                if not cells:
                    continue
                if len(cells) != len(_CELLS) or not cells[3].isdecimal():
                    raise ExportError(
                        f"{bim}, line {number}: not a line of a .bim, which has a chromosome, an identifier, a place "
                        "in centimorgans, a position and two alleles."
                    )
                rows.append([*cells[:3], int(cells[3]), *cells[4:]])
            if rows:
                yield [list(column) for column in zip(*rows, strict=True)]


def _canonical(chromosome: object) -> str:
    name = canonical_name(str(chromosome))
    return _NUMBERED.get(name, name)


def _write_keys(source: ExportSource, path: Path) -> None:
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
