"""The catalogue: every input record accounted for, every unique normalised variant once, in genome order.

Records stream through normalisation into a scratch database; DuckDB sorts and de-duplicates there within a fixed
memory, so the size of a catalogue is bounded by disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enformer_ray.config import DEFAULT_STRIDE, CatalogueConfig, Placement
from enformer_ray.genome import ReferenceGenome
from enformer_ray.variants.account import Counts, check_contigs, check_not_empty
from enformer_ray.variants.records import OTHER, load_records
from enformer_ray.variants.row_digest import RowDigest
from enformer_ray.variants.unknown import UnknownBases

_MEMORY = "2GB"
_MOST_THREADS = 8  # each thread of a sort wants its share of the memory
_BATCH_ROWS = 131_072

_VARIANTS = pa.schema(
    {
        "variant": pa.int64(),
        "variant_id": pa.string(),
        "chromosome": pa.string(),
        "position": pa.int32(),
        "reference_allele": pa.string(),
        "alternate_allele": pa.string(),
        "unknown_bases": pa.int32(),
    }
)
_INPUTS = pa.schema(
    {
        "input": pa.int64(),
        "file": pa.string(),
        "record": pa.int64(),
        "source_id": pa.string(),
        "original_chromosome": pa.string(),
        "original_position": pa.int64(),
        "original_reference_allele": pa.string(),
        "original_alternate_allele": pa.string(),
        "status": pa.string(),
        "reason": pa.string(),
        "variant": pa.int64(),
    }
)
_UNIQUE = """
    SELECT position, reference_allele, alternate_allele, min(input) AS first_input
    FROM records WHERE contig = ? AND reason IS NULL
    GROUP BY ALL ORDER BY position, reference_allele, alternate_allele
"""
_RESOLVED = """
    SELECT records.* EXCLUDE (contig, reason, position, reference_allele, alternate_allele), variant,
        CASE WHEN variant IS NULL THEN 'rejected' WHEN input = first_input THEN 'planned' ELSE 'duplicate' END
            AS status,
        CASE WHEN variant IS NULL THEN coalesce(reason, 'too_many_unknown_bases') END AS reason
    FROM records LEFT JOIN numbered USING (position, reference_allele, alternate_allele)
    WHERE contig = ? ORDER BY input
"""


@dataclass(frozen=True)
class Catalogue:
    """A catalogue on disk.

    Attributes:
        inputs: chromosome -> Parquet file of its input records in the order of reading: input (int64, dense), file,
            record, source_id, original_chromosome, original_position (1-based), original_reference_allele,
            original_alternate_allele, status (planned, duplicate or rejected), reason (null unless rejected), variant
            (null when rejected). Records on contigs that the FASTA does not have are under "other".
        variants: chromosome -> Parquet file of its unique variants, sorted by position and alleles: variant (int64,
            dense over the catalogue), variant_id, chromosome, position (1-based int32), reference_allele,
            alternate_allele, unknown_bases (int32, in the window at shift 0).
        counts: input records by status and reason; the reason is None unless rejected.
        digest: hex sha256 over the rows of all files but the `file` column: what was read and what became of it.
        chromosomes: those with variants, in the order of the FASTA.
        planned: unique variants.
        total: input records, one for each alternate allele.
    """

    inputs: dict[str, Path]
    variants: dict[str, Path]
    counts: Counts
    digest: str
    chromosomes: list[str]
    planned: int
    total: int


def build_catalogue(
    paths: Sequence[Path],
    reference: ReferenceGenome,
    config: CatalogueConfig,
    window_length: int,
    placement: Placement,
    scratch: Path,
    stride: int = DEFAULT_STRIDE,
) -> Catalogue:
    """Read variant files into a catalogue.

    Args:
        paths: variant files, in the order in which their records are numbered.
        reference: the FASTA that the variants refer to.
        config: how files are read and what is rejected.
        window_length: of the network's input, bp.
        placement: of the windows in which unknown bases are counted.
        scratch: an existing folder; the catalogue's files are written to it.
        stride: of the placement `shared`, bins.

    Raises:
        VariantFileError: a file cannot be read.
        AssemblyMismatchError: too many reference alleles of a file differ from the FASTA.
        UnknownContigError: hardly any record lies on a contig of the FASTA.
        EmptyCatalogueError: there is no record, or none that can be scored.
    """
    with TemporaryDirectory(dir=scratch) as folder, _open_database(Path(folder)) as database:
        tallies = load_records(database, paths, reference, config)
        total = sum(tally.accepted + tally.rejected.total() for tally in tallies)
        check_contigs(tallies, total, reference)
        window = (window_length, placement, stride)
        builder = _Builder(database, reference, config.max_unknown, window, scratch)
        found = {contig for (contig,) in database.execute("SELECT DISTINCT contig FROM records").fetchall()}
        for contig in dict.fromkeys([*reference.chromosomes, OTHER]):
            if contig in found:
                builder.add(contig)
    check_not_empty(builder.counts, builder.planned, paths)
    return Catalogue(
        inputs=builder.inputs,
        variants=builder.variants,
        counts=builder.counts,
        digest=builder.digest.hexdigest(),
        chromosomes=list(builder.variants),
        planned=builder.planned,
        total=total,
    )


class _Builder:
    """Writes the files of one contig after the other, and numbers the variants through all of them."""

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        reference: ReferenceGenome,
        max_unknown: int | None,
        window: tuple[int, Placement, int],
        scratch: Path,
    ) -> None:
        self.inputs: dict[str, Path] = {}
        self.variants: dict[str, Path] = {}
        self.counts: Counts = {}
        self.digest = RowDigest()
        self.planned = 0
        self._database, self._reference, self._scratch = database, reference, scratch
        self._max_unknown, self._window = max_unknown, window

    def add(self, contig: str) -> None:
        """Number and write the variants of a contig, then its input records."""
        # Contig names may hold characters that no file name may; the number of the contig names the files.
        name = f"{len(self.inputs):05d}.parquet"
        before = self.planned
        self._write_variants(contig, self._scratch / f"variants-{name}")
        if self.planned > before:
            self.variants[contig] = self._scratch / f"variants-{name}"
        else:
            (self._scratch / f"variants-{name}").unlink()
        self.inputs[contig] = self._scratch / f"inputs-{name}"
        self._write_inputs(contig, self.inputs[contig])

    def _write_variants(self, contig: str, path: Path) -> None:
        """Write a contig's unique variants, and keep their numbers in the table `numbered` for its input records."""
        self._database.execute(
            "CREATE OR REPLACE TABLE numbered (position INTEGER, reference_allele VARCHAR, alternate_allele VARCHAR, "
            "first_input BIGINT, variant BIGINT)"
        )
        unknown: UnknownBases | None = None
        with self._database.cursor() as insert, pq.ParquetWriter(path, _VARIANTS, compression="zstd") as writer:
            for unique in self._batches(_UNIQUE, contig):
                unknown = unknown or UnknownBases(self._reference, contig, *self._window)
                unknown_bases = unknown.in_windows(unique["position"].to_numpy().astype(np.int64))
                known = pa.array(unknown_bases <= (self._max_unknown if self._max_unknown is not None else np.inf))
                kept = self._numbered(
                    contig, unique.append_column("unknown_bases", pa.array(unknown_bases)).filter(known)
                )
                insert.register("batch", kept)
                insert.execute(
                    "INSERT INTO numbered SELECT position, reference_allele, alternate_allele, first_input, variant "
                    "FROM batch"
                )
                batch = kept.select(_VARIANTS.names).cast(_VARIANTS)
                self.digest.update(f"variants {contig}", batch)
                writer.write_batch(batch)

    def _numbered(self, contig: str, kept: pa.RecordBatch) -> pa.RecordBatch:
        """Add variant, variant_id and chromosome to a batch of unique variants."""
        chromosome = pa.repeat(pa.scalar(contig), len(kept))
        variant_id = pc.binary_join_element_wise(
            chromosome, kept["position"].cast(pa.string()), kept["reference_allele"], kept["alternate_allele"], "_"
        )
        variant = np.arange(self.planned, self.planned + len(kept), dtype=np.int64)
        self.planned += len(kept)
        for name, column in (("variant", pa.array(variant)), ("variant_id", variant_id), ("chromosome", chromosome)):
            kept = kept.append_column(name, column)
        return kept

    def _write_inputs(self, contig: str, path: Path) -> None:
        with pq.ParquetWriter(path, _INPUTS, compression="zstd") as writer:
            for resolved in self._batches(_RESOLVED, contig):
                batch = resolved.select(_INPUTS.names).cast(_INPUTS)
                self.digest.update(f"inputs {contig}", batch, without=("file",))
                writer.write_batch(batch)
                ends = pa.table({"status": batch["status"], "reason": batch["reason"]})
                for row in ends.group_by(["status", "reason"]).aggregate([([], "count_all")]).to_pylist():
                    key = row["status"], row["reason"]
                    self.counts[key] = self.counts.get(key, 0) + row["count_all"]

    def _batches(self, query: str, contig: str) -> Iterator[pa.RecordBatch]:
        # A cursor of its own, so that other statements may run while its rows are streamed; `execute` would hold them
        # all in memory, `sql` does not.
        with self._database.cursor() as cursor:
            yield from cursor.sql(query, params=[contig]).to_arrow_reader(_BATCH_ROWS)


def _open_database(folder: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        str(folder / "records.duckdb"),
        config={
            "memory_limit": _MEMORY,
            "threads": str(min(_MOST_THREADS, os.cpu_count() or 1)),
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": "false",  # nothing is ever downloaded from here
        },
    )
